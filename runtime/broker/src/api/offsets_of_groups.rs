//! `OffsetCommit`, `OffsetFetch`, `OffsetDelete`.
