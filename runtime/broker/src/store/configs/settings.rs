//! The settings of a topic as numbers and enums, ready for the path of an append.

use flow_log::LogConfig;
use flow_log::batch::Compression;

/// What happens to old records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cleanup {
    /// Segments are dropped by age and size.
    pub delete: bool,
    /// Only the last record of each key is kept.
    pub compact: bool,
}

/// What holds for a topic. Times in milliseconds; no value means no bound.
#[derive(Debug, Clone, PartialEq)]
pub struct TopicSettings {
    pub cleanup: Cleanup,
    /// None: batches stay in the codec of their producer.
    pub compression: Option<Compression>,
    pub compression_gzip_level: i32,
    pub compression_zstd_level: i32,
    pub delete_retention_ms: i64,
    pub flush_messages: Option<i64>,
    pub flush_ms: Option<i64>,
    pub index_interval_bytes: u64,
    pub max_compaction_lag_ms: Option<i64>,
    pub max_message_bytes: usize,
    pub timestamp_after_max_ms: i64,
    pub timestamp_before_max_ms: i64,
    /// The time of a record is that of its append.
    pub log_append_time: bool,
    pub min_cleanable_dirty_ratio: f64,
    pub min_compaction_lag_ms: i64,
    pub min_insync_replicas: i32,
    pub retention_bytes: Option<u64>,
    pub retention_ms: Option<i64>,
    pub segment_bytes: u64,
    pub segment_ms: i64,
}

impl TopicSettings {
    /// What the log is to do.
    pub(crate) fn log_config(&self) -> LogConfig {
        LogConfig {
            segment_bytes: self.segment_bytes,
            // What is appended to is never compacted, so it must end before its records are overdue.
            segment_ms: Some(match self.max_compaction_lag_ms {
                Some(lag_ms) if self.cleanup.compact => self.segment_ms.min(lag_ms),
                _ => self.segment_ms,
            }),
            index_interval_bytes: self.index_interval_bytes,
            retention_ms: self.retention_ms.filter(|_| self.cleanup.delete),
            retention_bytes: self.retention_bytes.filter(|_| self.cleanup.delete),
            // Produced batches are checked against the topic's bound before; coordinators have none.
            max_batch_bytes: i32::MAX as usize,
            ..LogConfig::default()
        }
    }

    /// Reads the settings through `value_of`, which gives the text that holds for a name. Values were checked when they
    /// were given; one that is unreadable all the same counts as its default.
    pub(super) fn parse(value_of: impl Fn(&str) -> Option<String>) -> TopicSettings {
        let number = |name: &str, otherwise: i64| {
            value_of(name).and_then(|value| value.trim().parse::<i64>().ok()).unwrap_or(otherwise)
        };
        let bounded = |name: &str| Some(number(name, i64::MAX)).filter(|&n| (0..i64::MAX).contains(&n));
        let policy = value_of("cleanup.policy").unwrap_or_default();
        let compact = super::list(&policy).any(|name| name == "compact");
        let difference = number("message.timestamp.difference.max.ms", i64::MAX);
        TopicSettings {
            cleanup: Cleanup {
                compact,
                delete: !compact || super::list(&policy).any(|name| name == "delete"),
            },
            compression: match value_of("compression.type").as_deref() {
                Some("uncompressed") => Some(Compression::None),
                Some("gzip") => Some(Compression::Gzip),
                Some("snappy") => Some(Compression::Snappy),
                Some("lz4") => Some(Compression::Lz4),
                Some("zstd") => Some(Compression::Zstd),
                _ => None,
            },
            compression_gzip_level: number("compression.gzip.level", -1) as i32,
            compression_zstd_level: number("compression.zstd.level", 3) as i32,
            delete_retention_ms: number("delete.retention.ms", 86_400_000),
            flush_messages: bounded("flush.messages"),
            flush_ms: bounded("flush.ms"),
            index_interval_bytes: number("index.interval.bytes", 4096).max(0) as u64,
            max_compaction_lag_ms: bounded("max.compaction.lag.ms"),
            max_message_bytes: number("max.message.bytes", 1_048_588).max(0) as usize,
            timestamp_after_max_ms: number("message.timestamp.after.max.ms", i64::MAX).min(difference),
            timestamp_before_max_ms: number("message.timestamp.before.max.ms", i64::MAX).min(difference),
            log_append_time: value_of("message.timestamp.type").as_deref() == Some("LogAppendTime"),
            min_cleanable_dirty_ratio: value_of("min.cleanable.dirty.ratio")
                .and_then(|value| value.trim().parse().ok())
                .unwrap_or(0.5),
            min_compaction_lag_ms: number("min.compaction.lag.ms", 0),
            min_insync_replicas: number("min.insync.replicas", 1) as i32,
            retention_bytes: bounded("retention.bytes").map(|bytes| bytes as u64),
            retention_ms: bounded("retention.ms"),
            segment_bytes: number("segment.bytes", 1 << 30).max(14) as u64,
            segment_ms: number("segment.ms", 604_800_000),
        }
    }
}
