//! One partition's log: segments, appended at the end, read anywhere, synced for many at once.
//!
//! Every call is synchronous and safe from any thread. It must not know who reads or why, nor the clock: callers say
//! what time it is.

mod append;
mod checkpoint;
mod compact;
mod config;
mod epochs;
mod index;
mod read;
mod recover;
mod retain;
mod scan;
mod segment;
#[cfg(test)]
mod simulation;
mod sync;
mod time;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

pub use append::{Append, Appended};
pub use checkpoint::FORMAT_VERSION;
pub use compact::{CompactOptions, Compacted, Dirty};
pub use config::LogConfig;
pub use read::{Headers, Slice};
pub use recover::{Cut, Damage, Recovery};
pub use retain::Deleted;

use self::append::Pending;
use self::epochs::Epochs;
use self::segment::Segment;
use self::sync::Syncing;
use crate::error::LogError;
use crate::storage::Storage;

/// The log of one partition, in a directory of its own.
///
/// Locks, in the order in which they are taken: maintenance, writer, epochs or segments, one segment's state.
pub struct Log {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
    /// One at a time: deleting, truncating, compacting, checkpoints.
    maintenance: Mutex<Maintenance>,
    writer: Mutex<Writer>,
    /// In order of their bases, never empty; the last is appended to.
    segments: RwLock<Arc<Vec<Arc<Segment>>>>,
    epochs: Mutex<Epochs>,
    syncing: Syncing,
    start: AtomicI64,
    end: AtomicI64,
    /// Names in the directory have changed since it was synced.
    dir_changed: AtomicBool,
    /// Held while a checkpoint is written.
    checkpoint_file: Mutex<CheckpointFile>,
    /// Why writes stopped.
    poison: OnceLock<Arc<str>>,
    closed: AtomicBool,
    /// The directory is somebody else's now.
    abandoned: AtomicBool,
}

/// How sure it is that there is a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CheckpointFile {
    Missing,
    /// It is there, but its name may be lost by a crash.
    Named,
    Lasts,
}

/// What appending changes.
pub(crate) struct Writer {
    config: LogConfig,
    active: Arc<Segment>,
    end: i64,
    latest_epoch: i32,
    /// When the active segment got its first batch.
    first_append_ms: Option<i64>,
    /// Room for one append's headers, kept to save the allocation.
    pending: Vec<Pending>,
}

/// What checkpoints remember.
pub(crate) struct Maintenance {
    /// The base of the segment where the last checkpoint is, and its position there.
    segment: i64,
    position: u64,
    /// The log's start as a checkpoint has it, or is about to.
    start: i64,
    /// Everything below was compacted.
    cleaned: i64,
    /// What the epochs' file says.
    epochs_written: Option<Epochs>,
}

impl Log {
    /// Opens the log in `dir`, which is made if it is missing, and repairs what a crash left behind.
    pub fn open(
        storage: Arc<dyn Storage>,
        dir: &Path,
        config: LogConfig,
    ) -> Result<(Log, Recovery), LogError> {
        recover::open(storage, dir, config.bounded())
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The first offset that may be read.
    pub fn start_offset(&self) -> i64 {
        self.start.load(Ordering::Acquire)
    }

    /// The offset that the next record gets.
    pub fn end_offset(&self) -> i64 {
        self.end.load(Ordering::Acquire)
    }

    /// Everything below is on disk.
    pub fn synced_offset(&self) -> i64 {
        self.syncing.synced()
    }

    /// Size of all segments.
    pub fn bytes(&self) -> u64 {
        self.view().iter().map(|segment| segment.size()).sum()
    }

    /// How many segments there are.
    pub fn segments(&self) -> usize {
        self.view().len()
    }

    /// The first offsets of the segments, oldest first.
    pub fn segment_bases(&self) -> Vec<i64> {
        self.view().iter().map(|segment| segment.base).collect()
    }

    /// Whether writes have stopped for good because the disk failed.
    pub fn is_poisoned(&self) -> bool {
        self.poison.get().is_some()
    }

    /// Takes new settings; they hold from the next append or deletion on.
    pub fn set_config(&self, config: LogConfig) {
        self.lock_writer().config = config.bounded();
    }

    pub fn config(&self) -> LogConfig {
        self.lock_writer().config
    }

    /// The latest leader epoch that wrote, −1 if none has.
    pub fn latest_epoch(&self) -> i32 {
        lock(&self.epochs).latest().unwrap_or(-1)
    }

    /// The largest epoch not above `epoch` and the offset where it ended (the log's end for the latest), as Kafka
    /// answers OffsetForLeaderEpoch; (−1, −1) if unknown.
    pub fn epoch_end(&self, epoch: i32) -> (i32, i64) {
        lock(&self.epochs).end_of(epoch, self.end_offset())
    }

    /// Every leader epoch that wrote what the log holds, with its first offset.
    pub fn epochs(&self) -> Vec<(i32, i64)> {
        lock(&self.epochs).entries().to_vec()
    }

    pub(crate) fn view(&self) -> Arc<Vec<Arc<Segment>>> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_view(&self, segments: Vec<Arc<Segment>>) {
        debug_assert!(segments.windows(2).all(|pair| pair[0].base < pair[1].base));
        *self.segments.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(segments);
    }

    pub(crate) fn lock_writer(&self) -> MutexGuard<'_, Writer> {
        lock(&self.writer)
    }

    pub(crate) fn lock_maintenance(&self) -> MutexGuard<'_, Maintenance> {
        lock(&self.maintenance)
    }

    /// Fails if writes have stopped.
    pub(crate) fn check_writable(&self) -> Result<(), LogError> {
        if let Some(reason) = self.poison.get() {
            return Err(LogError::Poisoned(reason.clone()));
        }
        if self.closed.load(Ordering::Acquire) {
            return Err(LogError::Closed);
        }
        Ok(())
    }

    /// Stops writes, and gives the error that says so.
    pub(crate) fn poison(&self, reason: &LogError) -> LogError {
        let reason = self.poison.get_or_init(|| {
            tracing::error!(dir = %self.dir.display(), %reason, "the log takes no more writes");
            recover::mark_poisoned(self.storage.as_ref(), &self.dir);
            reason.to_string().into()
        });
        LogError::Poisoned(reason.clone())
    }
}

/// A panic while a lock was held is a bug elsewhere; what the lock guards is kept consistent step by step.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
