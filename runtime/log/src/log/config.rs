//! The settings of a log.

/// Sizes and times; the defaults are Kafka's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogConfig {
    /// A segment is closed when a batch would make it larger (one append always fits into an empty segment).
    pub segment_bytes: u64,
    /// A segment is closed this long after its first batch; `None` is never.
    pub segment_ms: Option<i64>,
    /// Bytes between entries of the indexes.
    pub index_interval_bytes: u64,
    /// Segments whose newest record is older are deleted by [`super::Log::delete_old`]; `None` is never.
    pub retention_ms: Option<i64>,
    /// The oldest segments are deleted while the others still have this size; `None` is never.
    pub retention_bytes: Option<u64>,
    /// The largest batch that is appended.
    pub max_batch_bytes: usize,
    /// Bytes synced after which a checkpoint is written, so that a restart checks no more than about this much.
    pub checkpoint_bytes: u64,
}

/// Positions in an index are 32-bit, and Kafka reads them as signed.
pub(crate) const SEGMENT_BYTES_MAX: u64 = i32::MAX as u64;

impl Default for LogConfig {
    fn default() -> Self {
        LogConfig {
            segment_bytes: 1 << 30,
            segment_ms: Some(7 * 24 * 3600 * 1000),
            index_interval_bytes: 4096,
            retention_ms: Some(7 * 24 * 3600 * 1000),
            retention_bytes: None,
            max_batch_bytes: 1024 * 1024 + 12,
            checkpoint_bytes: 64 << 20,
        }
    }
}

impl LogConfig {
    /// With every value inside of what the format can hold.
    pub(crate) fn bounded(mut self) -> LogConfig {
        self.segment_bytes = self.segment_bytes.clamp(1, SEGMENT_BYTES_MAX);
        self.max_batch_bytes = self.max_batch_bytes.min(SEGMENT_BYTES_MAX as usize);
        self
    }
}
