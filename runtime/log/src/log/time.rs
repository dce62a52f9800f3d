//! Finding records by their time.

use super::Log;
use super::segment::Segment;
use crate::batch::{Header, Records};
use crate::error::LogError;
use crate::storage::read_exact;

/// Largest batch, decompressed, that is searched for a record.
const BATCH_BYTES_MAX: usize = 256 << 20;

impl Log {
    /// The first record at or after the log's start whose timestamp is at least `timestamp`: its offset and its
    /// timestamp. `None` if all are older.
    pub fn offset_at_time(&self, timestamp: i64) -> Result<Option<(i64, i64)>, LogError> {
        let (start, end) = (self.start_offset(), self.end_offset());
        for segment in self.view().iter() {
            let state = segment.read_state();
            let (size, newest) = (state.size, state.max_timestamp);
            let entry = state
                .times
                .last_where(|entry| entry.timestamp < timestamp)
                .map_err(|error| LogError::io("read", state.times.path(), error))?;
            drop(state);
            if size == 0 || newest < timestamp {
                continue;
            }
            // All up to the entry's offset are older.
            let from = entry.map_or(segment.base, |entry| segment.base + i64::from(entry.offset)).max(start);
            let Some(position) = segment.locate(from, size)? else { continue };
            for found in segment.scan(position, size) {
                let (position, header) = found?;
                if header.base_offset >= end {
                    return Ok(None);
                }
                if header.max_timestamp < timestamp || header.last_offset() < start {
                    continue;
                }
                let wanted = |offset: i64, found: i64| found >= timestamp && offset >= start;
                if let Some(found) = record(segment, position, &header, wanted)? {
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }

    /// The offset and the timestamp of the first record that has the largest timestamp. `None` without records.
    pub fn max_timestamp(&self) -> Option<(i64, i64)> {
        let start = self.start_offset();
        let mut best: Option<(i64, i64, std::sync::Arc<Segment>)> = None;
        for segment in self.view().iter() {
            let state = segment.read_state();
            let (newest, offset) = (state.max_timestamp, state.max_timestamp_offset);
            let better = best.as_ref().is_none_or(|(_, known, _)| newest > *known);
            if state.size > 0 && better && offset >= start {
                drop(state);
                best = Some((offset, newest, segment.clone()));
            }
        }
        let (offset, newest, segment) = best?;
        let size = segment.size();
        let exact = segment.locate(offset, size).ok().flatten().and_then(|position| {
            let (position, header) = segment.scan(position, size).next()?.ok()?;
            record(&segment, position, &header, |_, found| found >= newest).ok()?
        });
        Some(exact.unwrap_or((offset, newest)))
    }
}

/// The first record of a batch that is `wanted` by its offset and timestamp.
fn record(
    segment: &Segment,
    position: u64,
    header: &Header,
    wanted: impl Fn(i64, i64) -> bool,
) -> Result<Option<(i64, i64)>, LogError> {
    let mut batch = vec![0; header.size()];
    read_exact(segment.file.as_ref(), &mut batch, position)
        .map_err(|error| LogError::io("read", &segment.path, error))?;
    let broken = |error| LogError::corrupt(&segment.path, position, error);
    let records = Records::read(&batch, BATCH_BYTES_MAX).map_err(broken)?;
    for found in records.iter() {
        let found = found.map_err(broken)?;
        if wanted(found.offset, found.timestamp) {
            return Ok(Some((found.offset, found.timestamp)));
        }
    }
    Ok(None)
}
