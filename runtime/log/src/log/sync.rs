//! Making the log last: one `fdatasync` for all that wait, and checkpoints now and then.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

use super::checkpoint::{self, Checkpoint};
use super::segment::Segment;
use super::{CheckpointFile, Log, Maintenance, epochs, lock};
use crate::error::LogError;

/// Up to where the log is on disk, and who is at work on more.
pub(crate) struct Syncing {
    state: Mutex<State>,
    done: Condvar,
    synced: AtomicI64,
}

struct State {
    /// Someone syncs or truncates.
    held: bool,
    point: Point,
}

/// A place in the log: the end of what is synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Point {
    pub offset: i64,
    /// Base of the segment, and the position in its file.
    pub segment: i64,
    pub position: u64,
}

/// The right to sync or truncate; given back when dropped.
pub(crate) struct Hold<'a>(&'a Syncing);

impl Syncing {
    pub fn new(point: Point) -> Syncing {
        Syncing {
            state: Mutex::new(State { held: false, point }),
            done: Condvar::new(),
            synced: AtomicI64::new(point.offset),
        }
    }

    pub fn synced(&self) -> i64 {
        self.synced.load(Ordering::Acquire)
    }

    pub fn point(&self) -> Point {
        lock(&self.state).point
    }

    pub fn set(&self, point: Point) {
        lock(&self.state).point = point;
        self.synced.store(point.offset, Ordering::Release);
    }

    /// Waits until `enough` or until nobody else is at work; gives the right to work in the latter case.
    pub fn hold(&self, enough: impl Fn() -> bool) -> Option<Hold<'_>> {
        let mut state = lock(&self.state);
        loop {
            if enough() {
                return None;
            }
            if !state.held {
                state.held = true;
                return Some(Hold(self));
            }
            state = self.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        lock(&self.0.state).held = false;
        self.0.done.notify_all();
    }
}

impl Log {
    /// Makes everything last that was appended before the call, and gives the offset up to which the log now lasts.
    /// Callers at the same time share one `fdatasync`, and appends go on meanwhile. A failure stops writes for good.
    pub fn sync(&self) -> Result<i64, LogError> {
        let synced = self.sync_data()?;
        self.checkpoint_if_due();
        Ok(synced)
    }

    /// As [`Log::sync`] without the checkpoint that may be due.
    pub(crate) fn sync_data(&self) -> Result<i64, LogError> {
        let target = self.end_offset();
        let hold = self.syncing.hold(|| self.synced_offset() >= target || self.is_poisoned());
        if hold.is_none() {
            // Someone else did it, or failed to.
            return match self.poison.get() {
                Some(reason) if self.synced_offset() < target => Err(LogError::Poisoned(reason.clone())),
                _ => Ok(self.synced_offset()),
            };
        }
        let point = self.sync_files().map_err(|error| self.poison(&error))?;
        self.syncing.set(point);
        Ok(point.offset)
    }

    fn sync_files(&self) -> Result<Point, LogError> {
        let from = self.syncing.point().segment;
        let writer = self.lock_writer();
        let point = Point { offset: writer.end, segment: writer.active.base, position: writer.active.size() };
        drop(writer);
        for segment in self.view().iter().filter(|one| (from..=point.segment).contains(&one.base)) {
            segment.file.sync().map_err(|error| LogError::io("sync", &segment.path, error))?;
        }
        self.sync_names()?;
        Ok(point)
    }

    /// Makes the names in the directory last, if they changed.
    pub(crate) fn sync_names(&self) -> Result<(), LogError> {
        if self.dir_changed.swap(false, Ordering::AcqRel)
            && let Err(error) = self.storage.sync_dir(&self.dir)
        {
            self.dir_changed.store(true, Ordering::Release);
            return Err(LogError::io("sync", &self.dir, error));
        }
        Ok(())
    }

    pub(crate) fn sync_dir(&self) -> Result<(), LogError> {
        let synced = self.storage.sync_dir(&self.dir);
        synced.map_err(|error| self.poison(&LogError::io("sync", &self.dir, error)))
    }

    /// Writes a checkpoint if enough was synced since the last.
    pub(crate) fn checkpoint_if_due(&self) {
        if self.is_poisoned() || self.abandoned.load(Ordering::Acquire) {
            return;
        }
        let point = self.syncing.point();
        // Whoever maintains the log writes a checkpoint anyway.
        let Ok(mut maintenance) = self.maintenance.try_lock() else { return };
        let due = maintenance.segment != point.segment
            || point.position.saturating_sub(maintenance.position) >= self.config().checkpoint_bytes;
        if due && let Err(error) = self.write_checkpoint(&mut maintenance, false) {
            // Costs time after a crash, no events.
            tracing::warn!(dir = %self.dir.display(), %error, "no checkpoint could be written");
        }
    }

    /// Syncs, and writes down that everything so far need not be checked by the next recovery.
    pub fn checkpoint(&self) -> Result<(), LogError> {
        self.sync()?;
        self.write_checkpoint(&mut self.lock_maintenance(), false)
    }

    /// Syncs and leaves a mark that the log was closed in order. Appends fail from now on; reads go on.
    pub fn close(&self) -> Result<(), LogError> {
        let writer = self.lock_writer();
        self.closed.store(true, Ordering::Release);
        drop(writer);
        self.sync()?;
        self.write_checkpoint(&mut self.lock_maintenance(), true)?;
        self.sync_dir()
    }

    /// Lets go of the directory, which is about to be moved away or removed: when this returns, no file is touched by its
    /// name any more, because another log may live under that name soon. Open files can still be read and synced.
    pub fn abandon(&self) {
        let writer = self.lock_writer();
        self.closed.store(true, Ordering::Release);
        self.abandoned.store(true, Ordering::Release);
        drop(writer);
        // Whoever maintains the log at this moment comes to its end first.
        drop(self.lock_maintenance());
    }

    /// Writes the checkpoint of what is synced. The indexes it counts on are made to last before it.
    pub(crate) fn write_checkpoint(
        &self,
        maintenance: &mut Maintenance,
        clean: bool,
    ) -> Result<(), LogError> {
        if let Some(reason) = self.poison.get() {
            return Err(LogError::Poisoned(reason.clone()));
        }
        if self.abandoned.load(Ordering::Acquire) {
            return Err(LogError::Closed);
        }
        let point = self.syncing.point();
        let mut checkpoint = Checkpoint {
            start: maintenance.start,
            offset: point.offset,
            segment: point.segment,
            position: point.position,
            offset_entries: 0,
            time_entries: 0,
            cleaned: maintenance.cleaned,
            clean,
        };
        let fresh = maintenance.segment.min(point.segment)..=point.segment;
        for segment in self.view().iter().filter(|one| fresh.contains(&one.base)) {
            let mut state = segment.write_state();
            state.flush_indexes()?;
            if segment.base == point.segment {
                checkpoint.offset_entries = state.offsets.stored();
                checkpoint.time_entries = state.times.stored();
            }
            drop(state);
            for extension in ["index", "timeindex"] {
                let path = segment.path.with_extension(extension);
                let file = match self.storage.open(&path) {
                    // Someone removed it: the next recovery makes it again.
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                    opened => opened.map_err(|error| LogError::io("open", &path, error))?,
                };
                file.sync().map_err(|error| self.poison(&LogError::io("sync", &path, error)))?;
            }
        }
        self.write_epochs(maintenance)?;
        self.put_checkpoint(&checkpoint)?;
        maintenance.segment = point.segment;
        maintenance.position = point.position;
        Ok(())
    }

    pub(crate) fn put_checkpoint(&self, checkpoint: &Checkpoint) -> Result<(), LogError> {
        let mut file = lock(&self.checkpoint_file);
        checkpoint.write(self.storage.as_ref(), &self.dir)?;
        if *file == CheckpointFile::Missing {
            *file = CheckpointFile::Named;
        }
        Ok(())
    }

    /// Sees to it that there is a checkpoint before there are two segments: without one, recovery could not tell a lost
    /// segment from one that a compaction shortened.
    pub(crate) fn ensure_checkpoint(&self, first: &Segment) -> Result<(), LogError> {
        let mut file = lock(&self.checkpoint_file);
        if *file == CheckpointFile::Lasts {
            return Ok(());
        }
        let start = self.start_offset();
        let checkpoint = Checkpoint {
            start,
            offset: first.base,
            segment: first.base,
            position: 0,
            offset_entries: 0,
            time_entries: 0,
            cleaned: start,
            clean: false,
        };
        if *file == CheckpointFile::Missing {
            checkpoint.write(self.storage.as_ref(), &self.dir)?;
        }
        self.sync_dir()?;
        *file = CheckpointFile::Lasts;
        Ok(())
    }

    /// Writes the epochs' file if they changed since. It must last before a checkpoint says that it need not be rebuilt.
    pub(crate) fn write_epochs(&self, maintenance: &mut Maintenance) -> Result<(), LogError> {
        let epochs = lock(&self.epochs).clone();
        if maintenance.epochs_written.as_ref() == Some(&epochs) {
            return Ok(());
        }
        checkpoint::replace(self.storage.as_ref(), &self.dir, epochs::FILE, epochs.encode().as_bytes())?;
        self.sync_dir()?;
        maintenance.epochs_written = Some(epochs);
        Ok(())
    }
}
