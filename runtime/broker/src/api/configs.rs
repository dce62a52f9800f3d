//! `DescribeConfigs`, `AlterConfigs`, `IncrementalAlterConfigs`.
