//! Giving up parts of the log: old segments at its front, records after a point at its end.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::checkpoint::Checkpoint;
use super::segment::Segment;
use super::sync::Point;
use super::{Log, Maintenance, lock};
use crate::error::LogError;

/// What [`Log::delete_old`] removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Deleted {
    pub segments: usize,
    pub bytes: u64,
    /// The log's start afterwards.
    pub start_offset: i64,
}

impl Log {
    /// Moves the log's start to `offset` (never back) and removes the segments that lie wholly before it. The new start
    /// lasts when the call returns.
    pub fn advance_start(&self, offset: i64) -> Result<(), LogError> {
        self.check_writable()?;
        let mut maintenance = self.lock_maintenance();
        // Abandoned while waiting for the lock.
        self.check_writable()?;
        let (start, end) = (self.start_offset(), self.end_offset());
        if offset > end {
            return Err(LogError::OutOfRange { start, end });
        }
        if offset > start {
            self.move_start(&mut maintenance, offset)?;
        }
        Ok(())
    }

    /// Removes the oldest segments as [`super::LogConfig::retention_ms`] and `retention_bytes` say. The active segment
    /// is ended first if it is to go as well.
    pub fn delete_old(&self, now_ms: i64) -> Result<Deleted, LogError> {
        self.check_writable()?;
        let mut maintenance = self.lock_maintenance();
        // Abandoned while waiting for the lock.
        self.check_writable()?;
        let config = self.config();
        let mut segments = self.view();
        let mut excess = match config.retention_bytes {
            Some(keep) => self.bytes().saturating_sub(keep),
            None => 0,
        };
        let mut count = 0;
        for segment in segments.iter() {
            let state = segment.read_state();
            let (size, newest_ms) = (state.size, state.max_timestamp);
            drop(state);
            let expired = size > 0
                && newest_ms >= 0
                && config.retention_ms.is_some_and(|keep_ms| now_ms.saturating_sub(newest_ms) > keep_ms);
            let spare = size > 0 && excess >= size;
            if !expired && !spare {
                break;
            }
            excess = excess.saturating_sub(size);
            count += 1;
        }
        if count == 0 {
            return Ok(Deleted { start_offset: self.start_offset(), ..Deleted::default() });
        }
        if count == segments.len() {
            let mut writer = self.lock_writer();
            // Appended to meanwhile: it is not that old.
            if writer.active.base != segments[count - 1].base
                || writer.active.size() != segments[count - 1].size()
            {
                count -= 1;
            } else {
                let end = writer.end;
                self.roll(&mut writer, end)?;
            }
            drop(writer);
            segments = self.view();
        }
        let bytes = segments[..count].iter().map(|segment| segment.size()).sum();
        let start = segments[count].base.max(self.start_offset());
        self.move_start(&mut maintenance, start)?;
        Ok(Deleted { segments: count, bytes, start_offset: start })
    }

    fn move_start(&self, maintenance: &mut Maintenance, start: i64) -> Result<(), LogError> {
        // A checkpoint must not lie before the start.
        self.sync()?;
        let before = std::mem::replace(&mut maintenance.start, start);
        if let Err(error) = self.write_checkpoint(maintenance, false) {
            maintenance.start = before;
            return Err(error);
        }
        self.sync_dir()?;
        self.start.store(start, Ordering::Release);
        // Only now: the epochs' file must not forget what a log that still begins earlier holds.
        lock(&self.epochs).cut_start(start);
        // From here on a crash leaves segments that the next recovery removes.
        let writer = self.lock_writer();
        let segments = self.view();
        let keep = segments.partition_point(|segment| segment.base <= start).max(1) - 1;
        self.set_view(segments[keep..].to_vec());
        drop(writer);
        segments[..keep].iter().try_for_each(|segment| self.remove_files(segment))
    }

    /// Removes a segment's files.
    fn remove_files(&self, segment: &Segment) -> Result<(), LogError> {
        segment.write_state().forget_indexes();
        self.remove_indexes(segment)?;
        self.remove(&segment.path)
    }

    pub(crate) fn remove_indexes(&self, segment: &Segment) -> Result<(), LogError> {
        self.remove(&segment.path.with_extension("index"))?;
        self.remove(&segment.path.with_extension("timeindex"))
    }

    /// Removes a file; that there is none is fine.
    pub(crate) fn remove(&self, path: &Path) -> Result<(), LogError> {
        match self.storage.remove(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(LogError::io("remove", path, error))
            }
            _ => Ok(()),
        }
    }

    /// Cuts the log back so that it ends at `offset` (at the start of the batch that holds it), as a follower does whose
    /// leader never had the rest. Lasts when the call returns. An offset at or after the end changes nothing.
    pub fn truncate(&self, offset: i64) -> Result<(), LogError> {
        self.check_writable()?;
        let mut maintenance = self.lock_maintenance();
        // Abandoned while waiting for the lock.
        self.check_writable()?;
        let _hold = self.syncing.hold(|| false);
        let mut writer = self.lock_writer();
        let (start, end) = (self.start_offset(), writer.end);
        if offset < start {
            return Err(LogError::OutOfRange { start, end });
        }
        if offset >= end {
            return Ok(());
        }
        let segments = self.view();
        let mut kept = segments.partition_point(|segment| segment.base <= offset).max(1);
        // Nothing of the segment at or after the offset: it ends where it ends.
        let segment = segments[kept - 1].clone();
        let size = segment.size();
        let position = segment.locate(offset, size)?.unwrap_or(size);
        let mut end = offset;
        if let Some(found) = segment.scan(position, size).next() {
            // But not before the log's start, which may lie within a batch.
            end = end.min(found?.1.base_offset).max(start);
        }
        if position == 0 && kept > 1 {
            kept -= 1;
        }
        let last = segments[kept - 1].clone();
        let position = if Arc::ptr_eq(&last, &segment) { position } else { last.size() };
        let shorter = self.shortened(&last, position, end, writer.config.index_interval_bytes)?;

        // A checkpoint beyond the new end would call the cut a loss.
        let point = Point { offset: end, segment: last.base, position };
        let old = self.syncing.point();
        // At the same offset the old place may be in a segment that goes.
        let synced = if old.offset >= end { point } else { old };
        let checkpoint = Checkpoint {
            start,
            offset: synced.offset,
            segment: synced.segment,
            position: synced.position,
            offset_entries: 0,
            time_entries: 0,
            cleaned: maintenance.cleaned.min(end),
            clean: false,
        };
        self.write_epochs(&mut maintenance)?;
        self.put_checkpoint(&checkpoint)?;
        self.sync_dir()?;

        let mut view = segments[..kept - 1].to_vec();
        let active = Arc::new(shorter);
        view.push(active.clone());
        self.set_view(view);
        writer.active = active.clone();
        writer.end = end;
        writer.first_append_ms = None;
        self.end.store(end, Ordering::Release);
        self.syncing.set(synced);
        maintenance.segment = synced.segment;
        maintenance.position = synced.position;
        maintenance.cleaned = maintenance.cleaned.min(end);
        let mut epochs = lock(&self.epochs);
        epochs.cut_end(end);
        writer.latest_epoch = epochs.latest().unwrap_or(-1);
        drop(epochs);
        // Its index files are the new one's from now on.
        last.write_state().forget_indexes();
        // The newest first, each for good before the next: whenever it stops, what is left is a log without a gap.
        let removed = segments[kept..].iter().rev().try_for_each(|segment| {
            self.remove_files(segment)?;
            self.sync_dir()
        });
        let done = removed.and_then(|()| {
            let cut = active.file.set_len(position).and_then(|()| active.file.sync());
            cut.map_err(|error| LogError::io("cut", &active.path, error))
        });
        done.map_err(|error| self.poison(&error))
    }

    /// A segment like `segment` that ends at `position`.
    fn shortened(
        &self,
        segment: &Segment,
        position: u64,
        end: i64,
        index_interval_bytes: u64,
    ) -> Result<Segment, LogError> {
        let shorter = Segment::new(&self.storage, &self.dir, segment.base, segment.file.clone());
        let mut state = shorter.write_state();
        // The old one's readers keep their index; this one is built anew, which costs one walk over the headers.
        for found in segment.scan(0, position) {
            let (at, header) = found?;
            state.note(segment.base, at, &header, index_interval_bytes);
        }
        state.next_offset = end;
        drop(state);
        Ok(shorter)
    }
}
