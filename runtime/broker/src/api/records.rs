//! `DeleteRecords`.
