//! `Metadata`, `DescribeCluster`, `DescribeTopicPartitions`.
