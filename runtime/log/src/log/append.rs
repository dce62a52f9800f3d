//! Appending: headers are patched on the stack, payloads go from the caller's bytes to the file in one vectored write.

use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::config::SEGMENT_BYTES_MAX;
use super::segment::{Segment, path_of};
use super::{Log, Writer, lock};
use crate::batch::{self, BatchError, CRC_START, HEADER_BYTES, Header, LOG_APPEND_TIME};
use crate::error::LogError;
use crate::storage::write_all;

/// How batches are appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Append {
    /// Written into every batch whose offset is assigned; −1 without a cluster.
    pub leader_epoch: i32,
    /// Stamps every batch with this time (milliseconds since 1970) instead of the producer's.
    pub log_append_time_ms: Option<i64>,
    /// Numbers the records from the log's end on. Otherwise the batches keep their offsets (which must follow the log's
    /// end in rising order) and their leader epochs, as a follower needs it.
    pub assign_offsets: bool,
}

/// What came of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Offset of the first record.
    pub base_offset: i64,
    /// The offset after the last record.
    pub next_offset: i64,
    /// The time that the batches were stamped with.
    pub log_append_time_ms: Option<i64>,
    /// Largest timestamp of the batches.
    pub max_timestamp: i64,
    /// The log's start.
    pub start_offset: i64,
    /// A new segment was begun.
    pub rolled: bool,
}

/// One batch on its way to the file.
pub(crate) struct Pending {
    header: Header,
    /// Where it starts in the caller's bytes.
    at: usize,
    head: [u8; HEADER_BYTES],
    /// How many bytes of `head` replace the caller's.
    patched: usize,
}

/// Batches of one vectored write; more batches are several writes.
const BATCHES_PER_WRITE: usize = 32;
/// Batches in one append.
pub const BATCHES_MAX: usize = 1 << 16;
/// Entries for which the room is kept from append to append.
const PENDING_KEPT: usize = 64;

/// Index entries that are kept in memory before they are written out.
const RECENT_ENTRIES_MAX: usize = 1024;

/// Bytes in front of what the CRC covers that every leader sets: base offset, length, epoch.
const PLACE_BYTES: usize = 16;

impl Log {
    /// Appends whole batches that were checked before ([`batch::check`]): sets base offsets and leader epochs (and, with
    /// log append time, timestamps and checksums), writes all of them with one vectored write. On an error the log is as
    /// before. `now_ms` is milliseconds since 1970.
    pub fn append(&self, batches: &[u8], how: Append, now_ms: i64) -> Result<Appended, LogError> {
        self.check_writable()?;
        let mut writer = self.lock_writer();
        // Poisoned or closed while waiting for the lock.
        self.check_writable()?;
        let mut pending = std::mem::take(&mut writer.pending);
        pending.clear();
        let result = writer
            .prepare(batches, how, &mut pending)
            .and_then(|next_offset| self.write(&mut writer, batches, &pending, how, now_ms, next_offset));
        pending.truncate(PENDING_KEPT);
        pending.shrink_to(PENDING_KEPT);
        writer.pending = pending;
        result
    }

    fn write(
        &self,
        writer: &mut Writer,
        batches: &[u8],
        pending: &[Pending],
        how: Append,
        now_ms: i64,
        next_offset: i64,
    ) -> Result<Appended, LogError> {
        let (Some(first), Some(last)) = (pending.first(), pending.last()) else {
            return Err(LogError::Batch(BatchError::Short { needed: HEADER_BYTES, have: 0 }));
        };
        let base_offset = first.header.base_offset;
        let size = writer.active.size();
        // A segment's offsets are kept as 32-bit distances from its base.
        let far = last.header.last_offset() - writer.active.base > i64::from(i32::MAX);
        let rolled = size > 0 && (far || writer.should_roll(size, batches.len() as u64, now_ms));
        if rolled {
            // At the end, not at the batch's offset: recovery tells by it that no segment is missing.
            self.roll(writer, writer.end)?;
        } else if far && writer.end == writer.active.base {
            // Nothing was ever appended: a follower may start anywhere.
            self.roll(writer, base_offset)?;
        }
        let active = writer.active.clone();
        let position = active.size();
        if position + batches.len() as u64 > SEGMENT_BYTES_MAX
            || last.header.last_offset() - active.base > i64::from(i32::MAX)
        {
            return Err(LogError::TooLarge { bytes: batches.len(), bytes_max: SEGMENT_BYTES_MAX as usize });
        }
        if let Err(error) = write_pending(&active, position, batches, pending) {
            return Err(self.take_back(&active, position, error));
        }
        writer.first_append_ms.get_or_insert(now_ms);
        self.note_epochs(writer, pending);
        let mut max_timestamp = -1;
        let mut state = active.write_state();
        let mut at = position;
        for one in pending {
            state.note(active.base, at, &one.header, writer.config.index_interval_bytes);
            max_timestamp = max_timestamp.max(one.header.max_timestamp);
            at += one.header.size() as u64;
        }
        if state.recent_entries() >= RECENT_ENTRIES_MAX
            && let Err(error) = state.flush_indexes()
        {
            // They are written again with the next ones, and nothing depends on them.
            tracing::debug!(file = %active.path.display(), %error, "the indexes could not be written");
        }
        drop(state);
        writer.end = next_offset;
        self.end.store(next_offset, Ordering::Release);
        Ok(Appended {
            base_offset,
            next_offset,
            log_append_time_ms: how.log_append_time_ms,
            max_timestamp,
            start_offset: self.start_offset(),
            rolled,
        })
    }

    /// Cuts off what a failed write left. If that fails too, nobody knows what the file holds, and writes stop.
    fn take_back(&self, active: &Segment, position: u64, error: std::io::Error) -> LogError {
        let error = LogError::io("append to", &active.path, error);
        match active.file.set_len(position) {
            Ok(()) => error,
            Err(second) => self.poison(&LogError::io("cut", &active.path, second)),
        }
    }

    fn note_epochs(&self, writer: &mut Writer, pending: &[Pending]) {
        for one in pending {
            if one.header.leader_epoch > writer.latest_epoch {
                writer.latest_epoch = one.header.leader_epoch;
                lock(&self.epochs).note(one.header.leader_epoch, one.header.base_offset);
            }
        }
    }

    /// Ends the active segment and begins one at `base`.
    pub(crate) fn roll(&self, writer: &mut Writer, base: i64) -> Result<(), LogError> {
        self.ensure_checkpoint(&self.view()[0])?;
        let sealed = &writer.active;
        let replaces_empty = sealed.size() == 0;
        if !replaces_empty {
            let mut state = sealed.write_state();
            state.note_time(sealed.base);
            state.flush_indexes()?;
        }
        let path = path_of(&self.dir, base, "log");
        let file = self.storage.create(&path).map_err(|error| LogError::io("create", &path, error))?;
        self.dir_changed.store(true, Ordering::Release);
        let mut segments = self.view().to_vec();
        if replaces_empty && sealed.base < base {
            // An empty file is dropped by the next recovery, so failing to remove it now is harmless.
            let _ = self.storage.remove(&sealed.path);
            segments.pop();
        }
        writer.active = Arc::new(Segment::new(&self.storage, &self.dir, base, file));
        writer.first_append_ms = None;
        segments.push(writer.active.clone());
        self.set_view(segments);
        Ok(())
    }
}

impl Writer {
    /// Parses and patches every batch; gives the offset after the last.
    fn prepare(&self, bytes: &[u8], how: Append, pending: &mut Vec<Pending>) -> Result<i64, LogError> {
        let mut end = self.end;
        let mut at = 0;
        for found in batch::batches(bytes) {
            let (mut header, batch) = found?;
            if batch.len() > self.config.max_batch_bytes {
                let bytes_max = self.config.max_batch_bytes;
                return Err(LogError::TooLarge { bytes: batch.len(), bytes_max });
            }
            if pending.len() == BATCHES_MAX {
                return Err(LogError::TooLarge { bytes: bytes.len(), bytes_max: at });
            }
            let mut head = [0; HEADER_BYTES];
            let mut patched = 0;
            if how.assign_offsets {
                header.base_offset = end;
                header.leader_epoch = how.leader_epoch;
                patched = PLACE_BYTES;
            } else if header.base_offset < end {
                return Err(LogError::OutOfOrder { offset: header.base_offset, end });
            }
            if let Some(time_ms) = how.log_append_time_ms {
                header.attributes |= LOG_APPEND_TIME;
                header.max_timestamp = time_ms;
                patched = HEADER_BYTES;
            }
            if header.last_offset() == i64::MAX {
                return Err(LogError::OutOfOrder { offset: header.base_offset, end });
            }
            if patched > 0 {
                header.encode(&mut head);
            }
            if patched == HEADER_BYTES {
                let crc = crc32c::crc32c(&head[CRC_START..]);
                header.crc = crc32c::crc32c_append(crc, &batch[HEADER_BYTES..]);
                head[17..CRC_START].copy_from_slice(&header.crc.to_be_bytes());
            }
            pending.push(Pending { header, at, head, patched });
            end = header.next_offset();
            at += batch.len();
        }
        Ok(end)
    }

    fn should_roll(&self, size: u64, bytes: u64, now_ms: i64) -> bool {
        let old = match (self.config.segment_ms, self.first_append_ms) {
            (Some(limit_ms), Some(first_ms)) => now_ms.saturating_sub(first_ms) >= limit_ms,
            _ => false,
        };
        old || size + bytes > self.config.segment_bytes
    }
}

fn write_pending(
    active: &Segment,
    mut position: u64,
    batches: &[u8],
    pending: &[Pending],
) -> std::io::Result<()> {
    for group in pending.chunks(BATCHES_PER_WRITE) {
        let mut pieces = [IoSlice::new(&[]); 2 * BATCHES_PER_WRITE];
        let mut bytes = 0;
        for (index, one) in group.iter().enumerate() {
            let size = one.header.size();
            pieces[2 * index] = IoSlice::new(&one.head[..one.patched]);
            pieces[2 * index + 1] = IoSlice::new(&batches[one.at + one.patched..one.at + size]);
            bytes += size as u64;
        }
        write_all(active.file.as_ref(), &mut pieces[..2 * group.len()], position)?;
        position += bytes;
    }
    Ok(())
}
