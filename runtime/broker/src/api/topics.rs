//! `CreateTopics`, `DeleteTopics`, `CreatePartitions`.
