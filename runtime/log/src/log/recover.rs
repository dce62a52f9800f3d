//! Opening a log: what the checkpoint vouches for is taken as it is, everything after it is checked batch by batch.
//!
//! A tail that a crash tore is cut off. Anything else that is broken is kept beside the log and reported: a log is never
//! silently shorter.

mod aside;
mod load;
mod tidy;

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64};
use std::sync::{Arc, Mutex, OnceLock, RwLock};

use super::checkpoint::{self, Checkpoint, Found};
use super::epochs::{self, Epochs};
use super::scan::check_batches;
use super::segment::{Segment, path_of};
use super::sync::{Point, Syncing};
use super::{CheckpointFile, Log, LogConfig, Maintenance, Writer};
use crate::error::LogError;
use crate::storage::{Storage, read_exact, write_all};

/// What opening a log found and did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recovery {
    /// The log was closed in order, and is as it was then.
    pub clean: bool,
    /// What had to be checked: everything since the last checkpoint.
    pub checked_bytes: u64,
    pub checked_batches: u64,
    /// What a crash had torn, and is cut off.
    pub cut: Option<Cut>,
    /// What is broken otherwise.
    pub damage: Vec<Damage>,
    /// Indexes that were missing or wrong, and are made again.
    pub rebuilt: Vec<PathBuf>,
    /// The offset of the last checkpoint: batches from here on may be unknown to whatever the owner saved before it.
    pub replay_from: i64,
}

/// The torn end of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    pub file: PathBuf,
    /// Where the file now ends, and how many bytes followed.
    pub position: u64,
    pub bytes: u64,
}

/// A part of the log that is not what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    pub file: PathBuf,
    pub position: u64,
    pub what: String,
    /// Where the bytes from there on were moved to. `None` if they stay where they are, and reading them fails.
    pub kept: Option<PathBuf>,
}

/// Tails of at most this many bytes are checked again by the next recovery rather than written down as checked.
const CHECKPOINT_WORTH_BYTES: u64 = 1 << 20;

/// Its presence says that a sync failed: the system may hold pages for written that never reached the disk.
const POISONED_FILE: &str = "flow-log-poisoned";
/// Bytes that are written again at once.
const REWRITE_BYTES: u64 = 1 << 20;

/// Leaves word for the next process. If that fails too, only a crash of the machine makes a difference.
pub(super) fn mark_poisoned(storage: &dyn Storage, dir: &Path) {
    let path = dir.join(POISONED_FILE);
    if let Err(error) = storage.create(&path) {
        tracing::warn!(file = %path.display(), %error, "could not be made");
    }
}

/// A log that is being opened.
struct Opening {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
    config: LogConfig,
    checkpoint: Option<Checkpoint>,
    segments: Vec<Arc<Segment>>,
    epochs: Epochs,
    /// Where the next batch may be, at the least.
    next_offset: i64,
    /// Files from which something was checked or cut must be synced before their content is given to anybody.
    unsynced: bool,
    /// The process before could not sync.
    poisoned: bool,
    report: Recovery,
}

pub(super) fn open(
    storage: Arc<dyn Storage>,
    dir: &Path,
    config: LogConfig,
) -> Result<(Log, Recovery), LogError> {
    storage.create_dir(dir).map_err(|error| LogError::io("create", dir, error))?;
    let names = storage.list(dir).map_err(|error| LogError::io("list", dir, error))?;
    let mut report = Recovery::default();
    let checkpoint = match Checkpoint::read(storage.as_ref(), dir)? {
        Found::Good(checkpoint) => Some(checkpoint),
        Found::Missing => None,
        Found::Broken => {
            report.rebuilt.push(dir.join(checkpoint::FILE));
            None
        }
    };
    let mut opening = Opening {
        storage,
        dir: dir.to_owned(),
        config,
        checkpoint,
        segments: Vec::new(),
        epochs: Epochs::default(),
        next_offset: 0,
        unsynced: false,
        poisoned: names.iter().any(|name| name == POISONED_FILE),
        report,
    };
    let bases = opening.tidy(&names)?;
    opening.read_epochs(&names)?;
    opening.load(&bases)?;
    opening.finish()
}

impl Opening {
    fn read_epochs(&mut self, names: &[String]) -> Result<(), LogError> {
        if !names.iter().any(|name| name == epochs::FILE) {
            return Ok(());
        }
        let path = self.dir.join(epochs::FILE);
        let text = checkpoint::read_text(self.storage.as_ref(), &path, epochs::BYTES_MAX)
            .map_err(|error| LogError::io("read", &path, error))?;
        match text.as_deref().and_then(Epochs::decode) {
            Some(epochs) => self.epochs = epochs,
            // Every batch says its epoch, so all of them are looked at.
            None => {
                self.report.rebuilt.push(path);
                self.checkpoint = None;
            }
        }
        Ok(())
    }

    fn load(&mut self, bases: &[i64]) -> Result<(), LogError> {
        // Epochs that were noted after the checkpoint are noted again from the batches, if those are still there.
        let vouched = self.checkpoint.map_or(0, |checkpoint| checkpoint.offset);
        self.epochs.cut_end(vouched);
        // Segments above the checkpoint's follow each other without a gap; below it a compaction may have made gaps.
        let vouched = self.checkpoint.map_or(i64::MAX, |checkpoint| checkpoint.segment);
        let mut expected = None;
        for (index, base) in bases.iter().enumerate() {
            let path = path_of(&self.dir, *base, "log");
            let file = self.storage.open(&path).map_err(|error| LogError::io("open", &path, error))?;
            let size = file.len().map_err(|error| LogError::io("read", &path, error))?;
            let last = index + 1 == bases.len();
            if *base > vouched && expected.is_some_and(|expected| expected != *base) {
                let what = format!("offsets {} to {base} are missing", expected.unwrap_or(0));
                self.set_aside_all(&bases[index..], &what)?;
                break;
            }
            if size == 0 && !last {
                self.remove_segment(*base)?;
                expected = expected.or((*base >= vouched).then_some(*base));
                continue;
            }
            let segment = Arc::new(Segment::new(&self.storage, &self.dir, *base, file));
            self.segments.push(segment.clone());
            if self.checkpoint.is_some() && *base < vouched && !last {
                self.load_sealed(&segment, size, bases[index + 1])?;
                continue;
            }
            let trusted = self.trusted(*base, size);
            if !self.load_and_check(&segment, size, trusted, &bases[index + 1..])? {
                break;
            }
            expected = Some(self.next_offset);
        }
        self.check_presence(bases)
    }

    /// How many bytes of a segment the checkpoint vouches for; none if the file has fewer.
    fn trusted(&mut self, base: i64, size: u64) -> u64 {
        let Some(checkpoint) = self.checkpoint else { return 0 };
        if base != checkpoint.segment {
            return 0;
        }
        if size >= checkpoint.position {
            return checkpoint.position;
        }
        self.report.damage.push(Damage {
            file: path_of(&self.dir, base, "log"),
            position: size,
            what: format!("the file is {size} bytes long, but {} were on disk", checkpoint.position),
            kept: None,
        });
        0
    }

    /// Whether the segment of the checkpoint is there at all.
    fn check_presence(&mut self, bases: &[i64]) -> Result<(), LogError> {
        let Some(checkpoint) = self.checkpoint else { return Ok(()) };
        // Once all of it lies before the log's start, it is deleted.
        let wanted = checkpoint.offset > checkpoint.segment.max(checkpoint.start);
        if wanted && !bases.contains(&checkpoint.segment) {
            self.report.damage.push(Damage {
                file: path_of(&self.dir, checkpoint.segment, "log"),
                position: 0,
                what: "the file is missing".to_owned(),
                kept: None,
            });
        }
        Ok(())
    }

    /// Checks a segment from `trusted` on. False if it was cut, so that nothing may follow.
    fn load_and_check(
        &mut self,
        segment: &Segment,
        size: u64,
        trusted: u64,
        later: &[i64],
    ) -> Result<bool, LogError> {
        let checkpoint = self.checkpoint.filter(|found| trusted > 0 && found.segment == segment.base);
        self.load_trusted(segment, trusted, checkpoint.as_ref())?;
        let mut state = segment.write_state();
        let floor = match checkpoint {
            Some(checkpoint) => checkpoint.offset,
            None => segment.base.max(self.next_offset),
        };
        let (epochs, interval) = (&mut self.epochs, self.config.index_interval_bytes);
        let far = segment.base.saturating_add(i64::from(i32::MAX));
        let checked =
            check_batches(segment.file.as_ref(), &segment.path, trusted, size, floor..far, |at, header| {
                epochs.note(header.leader_epoch, header.base_offset);
                state.note(segment.base, at, header, interval);
            })?;
        state.size = checked.position;
        if !later.is_empty() {
            state.note_time(segment.base);
        }
        state.next_offset = state.next_offset.max(floor);
        self.next_offset = state.next_offset;
        drop(state);
        self.report.checked_bytes += size - trusted;
        self.report.checked_batches += checked.batches;
        self.unsynced |= size > trusted;
        if self.poisoned {
            write_again(segment, trusted, checked.position)?;
            self.unsynced = true;
        }
        let Some(broken) = checked.broken else { return Ok(true) };
        self.cut(segment, checked.position, size, &broken, later)?;
        Ok(false)
    }

    fn finish(mut self) -> Result<(Log, Recovery), LogError> {
        let storage = self.storage.clone();
        let start = self.checkpoint.map(|checkpoint| checkpoint.start);
        let vouched = self.checkpoint.map_or(0, |checkpoint| checkpoint.offset);
        // Offsets that were once given are not given again, even if the file that held them is gone.
        let mut end = self.next_offset.max(start.unwrap_or(0));
        if self.report.damage.iter().any(|damage| damage.kept.is_none()) {
            end = end.max(vouched);
        }
        let mut created = false;
        let far = self.segments.last().is_none_or(|last| {
            let state = last.read_state();
            state.size == 0 && last.base != end || end - last.base > i64::from(i32::MAX)
        });
        if far {
            if let Some(last) = self.segments.pop_if(|last| last.size() == 0) {
                self.remove_segment(last.base)?;
            }
            let path = path_of(&self.dir, end, "log");
            let file = storage.create(&path).map_err(|error| LogError::io("create", &path, error))?;
            self.segments.push(Arc::new(Segment::new(&self.storage, &self.dir, end, file)));
            created = true;
        }
        let Some(active) = self.segments.last().cloned() else { return Err(LogError::Closed) };
        active.write_state().next_offset = end;
        let start = start.unwrap_or(self.segments[0].base).min(end);
        self.epochs.cut_start(start);
        let first_batch = active.scan(0, active.size()).next().transpose().ok().flatten();
        let first_append_ms =
            first_batch.map(|(_, header)| header.max_timestamp).filter(|time_ms| *time_ms >= 0);
        let vouched_at = self.checkpoint.map(|checkpoint| (checkpoint.segment, checkpoint.position));
        let (segment, position) = vouched_at.unwrap_or((self.segments[0].base, 0));
        let point = Point { offset: end, segment: active.base, position: active.size() };
        self.report.clean =
            self.checkpoint.is_some_and(|found| found.clean && found.offset == end) && !self.unsynced;
        self.report.replay_from = vouched.clamp(start, end);
        let cleaned = self.checkpoint.map_or(start, |checkpoint| checkpoint.cleaned.min(end));
        let first_unsynced = self.checkpoint.map_or(i64::MIN, |checkpoint| checkpoint.segment);
        let log = Log {
            storage,
            dir: self.dir,
            maintenance: Mutex::new(Maintenance { segment, position, start, cleaned, epochs_written: None }),
            writer: Mutex::new(Writer {
                config: self.config,
                active,
                end,
                latest_epoch: self.epochs.latest().unwrap_or(-1),
                first_append_ms,
                pending: Vec::new(),
            }),
            segments: RwLock::new(Arc::new(self.segments)),
            epochs: Mutex::new(self.epochs),
            syncing: Syncing::new(point),
            start: AtomicI64::new(start),
            end: AtomicI64::new(end),
            // Names that an earlier process made may not last yet.
            dir_changed: AtomicBool::new(created || !self.report.clean),
            checkpoint_file: Mutex::new(match self.checkpoint {
                Some(_) => CheckpointFile::Named,
                None => CheckpointFile::Missing,
            }),
            poison: OnceLock::new(),
            closed: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
        };
        if self.unsynced {
            let fresh = |segment: &&Arc<Segment>| segment.base >= first_unsynced;
            for segment in log.view().iter().filter(fresh) {
                let synced = segment.file.sync();
                synced.map_err(|error| log.poison(&LogError::io("sync", &segment.path, error)))?;
            }
            log.sync_dir()?;
        }
        if self.poisoned {
            log.remove(&log.dir.join(POISONED_FILE))?;
            log.sync_dir()?;
        }
        let repaired = self.report.cut.is_some()
            || !self.report.damage.is_empty()
            || !self.report.rebuilt.is_empty()
            || self.report.checked_bytes >= CHECKPOINT_WORTH_BYTES;
        if repaired {
            log.write_checkpoint(&mut log.lock_maintenance(), false)?;
        }
        Ok((log, self.report))
    }
}

/// Writes what is there over itself, so that the system takes it for unwritten and the next sync means something.
fn write_again(segment: &Segment, mut position: u64, end: u64) -> Result<(), LogError> {
    let mut chunk = Vec::new();
    while position < end {
        chunk.resize((end - position).min(REWRITE_BYTES) as usize, 0);
        let file = segment.file.as_ref();
        read_exact(file, &mut chunk, position)
            .and_then(|()| write_all(file, &mut [IoSlice::new(&chunk)], position))
            .map_err(|error| LogError::io("write", &segment.path, error))?;
        position += chunk.len() as u64;
    }
    Ok(())
}
