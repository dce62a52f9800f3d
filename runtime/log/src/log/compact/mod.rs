//! Compaction: of every key only the last record stays (KIP-58, KIP-534). Offsets, and the order of what stays, never
//! change.
//!
//! Closed segments are written anew beside the old ones (`.cleaned`), made to last, and then put in their place through
//! one rename to `.swap`: a crash before it leaves the old log, one after it is completed by the next recovery.

mod filter;
mod keys;
mod swap;
#[cfg(test)]
mod tests;

pub(crate) use swap::Swap;

use std::sync::Arc;

use self::filter::{Filter, Kept};
use self::keys::Keys;
use self::swap::Output;
use super::Log;
use super::scan::{Found, WholeBatches};
use super::segment::Segment;
use crate::error::LogError;

/// Keys that are remembered at once, about 26 MiB: with more of them a compaction goes over the log several times.
const KEYS_MAX: usize = 900_000;

/// How a log is compacted.
pub struct CompactOptions<'a> {
    /// Milliseconds since 1970.
    pub now_ms: i64,
    /// Segments with a record younger than this stay as they are, and all after them.
    pub min_lag_ms: i64,
    /// How long a tombstone or marker stays after the first compaction that could have removed it.
    pub delete_retention_ms: i64,
    /// Only segments that lie wholly before are touched: the last stable offset.
    pub before: i64,
    /// Whether the transaction in which a producer (first) wrote an offset (second) was aborted.
    pub is_aborted: &'a dyn Fn(i64, i64) -> bool,
}

/// What a compaction did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Compacted {
    /// Segments that were written anew or merged.
    pub segments: usize,
    pub bytes_before: u64,
    pub bytes_after: u64,
    pub records_before: u64,
    pub records_after: u64,
    /// How often the log was gone over.
    pub passes: usize,
}

/// What a compaction could look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Dirty {
    /// Bytes of closed segments that were compacted before, and of those that were not.
    pub clean_bytes: u64,
    pub dirty_bytes: u64,
}

impl Dirty {
    /// Kafka's `min.cleanable.dirty.ratio` is compared with this: 0 to 1.
    pub fn ratio(&self) -> f64 {
        let bytes = self.clean_bytes + self.dirty_bytes;
        if bytes == 0 { 0.0 } else { self.dirty_bytes as f64 / bytes as f64 }
    }
}

impl Log {
    /// How much of what lies before `before` was compacted already.
    pub fn dirty(&self, before: i64) -> Dirty {
        let cleaned = self.lock_maintenance().cleaned;
        let segments = self.view();
        let mut dirty = Dirty::default();
        for pair in segments.windows(2).filter(|pair| pair[1].base <= before) {
            let size = pair[0].size();
            if pair[1].base <= cleaned { dirty.clean_bytes += size } else { dirty.dirty_bytes += size }
        }
        dirty
    }

    /// Rewrites the closed segments so that only the last record of every key stays: without records of aborted
    /// transactions, and without tombstones and transaction markers whose time is over. Records without a key go. The
    /// last batch of every producer stays, if need be without records, so that its sequence is known. Appends and reads
    /// go on meanwhile. On an error (a full disk, say) the log holds what it held.
    pub fn compact(&self, options: CompactOptions<'_>) -> Result<Compacted, LogError> {
        self.compact_with(&options, KEYS_MAX)
    }

    /// As [`Log::compact`] with a bound for the keys that are remembered at once.
    pub(crate) fn compact_with(
        &self,
        options: &CompactOptions<'_>,
        keys_max: usize,
    ) -> Result<Compacted, LogError> {
        self.check_writable()?;
        let mut maintenance = self.lock_maintenance();
        // Only what a checkpoint vouches for is rewritten: recovery may then take gaps after it for losses.
        self.sync()?;
        self.write_checkpoint(&mut maintenance, false)?;
        let mut done = Compacted::default();
        let mut first = true;
        loop {
            let limit = self.compaction_limit(options, maintenance.segment);
            if limit <= maintenance.cleaned && !first {
                break;
            }
            first = false;
            let keys = self.remember_keys(maintenance.cleaned, limit, options, keys_max)?;
            let upto = keys.upto;
            self.rewrite(&keys, limit, options, &mut done)?;
            done.passes += 1;
            maintenance.cleaned = maintenance.cleaned.max(upto);
            self.write_checkpoint(&mut maintenance, false)?;
        }
        Ok(done)
    }

    /// The base of the first segment that may not be rewritten; the checkpoint is in the segment `vouched`.
    fn compaction_limit(&self, options: &CompactOptions<'_>, vouched: i64) -> i64 {
        let segments = self.view();
        let mut limit = segments[0].base;
        for pair in segments.windows(2) {
            let young = pair[0].read_state().max_timestamp.saturating_add(options.min_lag_ms.max(0));
            if pair[1].base > options.before.min(vouched)
                || (options.min_lag_ms > 0 && young > options.now_ms)
            {
                break;
            }
            limit = pair[1].base;
        }
        limit
    }

    /// Reads what was not compacted before, and remembers the last offset of every key, as far as there is room.
    fn remember_keys(
        &self,
        from: i64,
        limit: i64,
        options: &CompactOptions<'_>,
        keys_max: usize,
    ) -> Result<Keys, LogError> {
        let mut keys = Keys::new(keys_max, from.max(self.start_offset()));
        let segments = self.view();
        for pair in segments.windows(2) {
            if pair[1].base <= keys.upto || pair[0].base >= limit {
                continue;
            }
            let segment = &pair[0];
            let size = segment.size();
            let position = segment.locate(keys.upto, size)?.unwrap_or(size);
            let mut whole = WholeBatches::new(segment.file.as_ref(), &segment.path, position, size);
            loop {
                // Whoever closes the log need not wait until all of it is done.
                self.check_writable()?;
                match whole.next()? {
                    Found::End => break,
                    Found::Broken(position, error) => {
                        return Err(LogError::corrupt(&segment.path, position, error));
                    }
                    Found::Batch(position, header, batch) => {
                        let aborted = header.is_transactional()
                            && (options.is_aborted)(header.producer_id, header.base_offset);
                        let skipped = header.is_control() || aborted;
                        let room = skipped
                            || keys
                                .remember(batch)
                                .map_err(|error| LogError::corrupt(&segment.path, position, error))?;
                        // One batch always has room, else nothing would ever come to an end.
                        if !room {
                            return Ok(keys);
                        }
                        keys.upto = header.next_offset();
                    }
                }
            }
            keys.upto = pair[1].base;
        }
        keys.upto = keys.upto.max(limit);
        Ok(keys)
    }

    /// Writes every segment before `keys.upto` anew, several small ones into one.
    fn rewrite(
        &self,
        keys: &Keys,
        limit: i64,
        options: &CompactOptions<'_>,
        done: &mut Compacted,
    ) -> Result<(), LogError> {
        let config = self.config();
        let segments = self.view();
        let closed =
            segments[..segments.len() - 1].iter().filter(|one| one.base < keys.upto.min(limit)).count();
        let mut filter = Filter::new(keys, options, self.last_batches()?);
        let mut at = 0;
        while at < closed {
            let group = group(&segments[at..closed], config.segment_bytes);
            let upper = segments[at + group.len()].base;
            at += group.len();
            self.rewrite_group(group, upper, &mut filter, done)?;
        }
        Ok(())
    }

    fn rewrite_group(
        &self,
        group: &[Arc<Segment>],
        upper: i64,
        filter: &mut Filter<'_>,
        done: &mut Compacted,
    ) -> Result<(), LogError> {
        let mut output = Output::create(self, group[0].base, upper)?;
        let mut changed = group.len() > 1;
        let mut bytes_before = 0;
        for segment in group {
            let size = segment.size();
            bytes_before += size;
            let mut whole = WholeBatches::new(segment.file.as_ref(), &segment.path, 0, size);
            loop {
                // Whoever closes the log need not wait until all of it is done.
                self.check_writable()?;
                match whole.next()? {
                    Found::End => break,
                    Found::Broken(position, error) => {
                        return Err(LogError::corrupt(&segment.path, position, error));
                    }
                    Found::Batch(position, header, batch) => {
                        let kept = filter
                            .apply(&header, batch, done)
                            .map_err(|error| LogError::corrupt(&segment.path, position, error))?;
                        changed |= !matches!(kept, Kept::AsItIs);
                        match kept {
                            Kept::AsItIs => output.push(batch)?,
                            Kept::Changed(batch) => output.push(&batch)?,
                            Kept::Nothing => {}
                        }
                    }
                }
            }
        }
        if !changed {
            return output.discard();
        }
        done.segments += group.len();
        done.bytes_before += bytes_before;
        done.bytes_after += output.bytes();
        output.swap_in(group)
    }
}

/// The first segments that fit into one: by size, and by the distance of their offsets.
fn group(segments: &[Arc<Segment>], bytes_max: u64) -> &[Arc<Segment>] {
    let mut bytes = 0;
    let count = segments
        .iter()
        .take_while(|segment| {
            let state = segment.read_state();
            bytes += state.size;
            bytes <= bytes_max && state.next_offset - segments[0].base <= i64::from(i32::MAX)
        })
        .count();
    &segments[..count.max(1)]
}
