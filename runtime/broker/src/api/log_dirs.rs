//! `DescribeLogDirs`.
