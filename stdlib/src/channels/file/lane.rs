//! One directory of a file channel: its log, its position, and whether it takes more. It must not know of the other
//! directories, nor of order between them.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flow_agent::Fault;
use flow_log::{Append, Appended, Committer, FileError, Log, LogConfig, LogError, Storage};
use flow_plan::Ack;

use super::cursor::Cursor;
use super::decode::{DecodeError, Decoded, decode};
use super::encode::Encoder;
use super::format;
use super::seal::Seal;
use super::{Settings, Sync};
use crate::channels::kept::pledges::Pledges;
use crate::sinks::io_text;

/// The log of a directory, in it.
const LOG_DIR: &str = "log";

/// A directory of the channel.
pub struct Lane {
    dir: PathBuf,
    storage: Arc<dyn Storage>,
    log: Arc<Log>,
    encoder: Mutex<Encoder>,
    /// To read with.
    seal: Option<Seal>,
    cursor: Mutex<Cursor>,
    /// Acknowledgements that wait for the next sync of `interval`.
    pub pledges: Pledges,
    min_free: u64,
    /// Bytes free at the last look, less what was written since.
    free: AtomicI64,
    /// There is no room: told, and looked at again now and then.
    full: AtomicBool,
    /// The log that takes no more was told.
    told_poisoned: AtomicBool,
    /// The first position behind a damaged piece that was told and is left out.
    skip_to: AtomicU64,
}

/// What a directory was found to hold.
pub struct Held {
    pub next: i64,
    pub end: i64,
    pub bytes: u64,
    /// When the first event was put.
    pub oldest_ms: Option<i64>,
    /// One past the sequence number of the last event in the log.
    pub sequence: u64,
}

/// A piece of the log as it was read.
pub struct Piece {
    pub batches: Vec<(u64, Decoded)>,
    /// Where the next piece begins.
    pub next: i64,
}

impl Lane {
    pub fn open(
        storage: &Arc<dyn Storage>,
        dir: &Path,
        settings: &Settings,
        slots: &[String],
    ) -> Result<(Lane, Held), Fault> {
        storage.create_dir(dir).map_err(|error| format::fault("use", dir, &error))?;
        let seal = format::open(storage.as_ref(), dir, settings.secret.as_deref())?;
        // One for the writer, one for the readers: they are not held by the same lock.
        let writing = if seal.is_some() {
            format::open(storage.as_ref(), dir, settings.secret.as_deref())?
        } else {
            None
        };
        let config = LogConfig {
            segment_bytes: settings.segment,
            segment_ms: None,
            retention_ms: None,
            retention_bytes: None,
            max_batch_bytes: usize::MAX,
            ..LogConfig::default()
        };
        let (log, recovery) = Log::open(storage.clone(), &dir.join(LOG_DIR), config)
            .map_err(|error| log_fault(dir, &error).setting("dirs"))?;
        for damage in &recovery.damage {
            let kept = match &damage.kept {
                Some(kept) => format!("what follows was moved to `{}`", kept.display()),
                None => "it is left out".to_owned(),
            };
            tracing::error!(
                "`{}` is damaged at byte {}: {}; {kept}",
                damage.file.display(),
                damage.position,
                damage.what
            );
        }
        let (start, end) = (log.start_offset(), log.end_offset());
        let cursor = Cursor::open(storage.as_ref(), dir, start, end)
            .map_err(|error| format::fault("use the position in", dir, &error))?;
        let lane = Lane {
            dir: dir.to_owned(),
            storage: storage.clone(),
            log: Arc::new(log),
            encoder: Mutex::new(Encoder::new(settings.compress, writing)),
            seal,
            cursor: Mutex::new(cursor),
            pledges: Pledges::default(),
            min_free: settings.min_free,
            free: AtomicI64::new(0),
            full: AtomicBool::new(false),
            told_poisoned: AtomicBool::new(false),
            skip_to: AtomicU64::new(0),
        };
        lane.look_for_room();
        let held = lane.held(slots);
        Ok((lane, held))
    }

    fn held(&self, slots: &[String]) -> Held {
        let (start, end) = (self.log.start_offset(), self.log.end_offset());
        let next = self.offset();
        // Exact would mean to walk over everything that waits; as long as events are alike it is.
        let part = u128::from(self.log.bytes()) * (end - next) as u128 / ((end - start).max(1)) as u128;
        let at =
            |offset| self.read(offset, end, 1, slots).ok().and_then(|piece| piece.batches.into_iter().next());
        let oldest_ms = if next < end { at(next).map(|(_, first)| first.added_ms) } else { None };
        let last = if start < end { at(end - 1).or_else(|| self.last_batch(slots)) } else { None };
        let sequence = last.map_or(0, |(_, last)| last.sequence + last.batch.len() as u64);
        Held { next, end, bytes: part as u64, oldest_ms, sequence }
    }

    /// The last batch of the newest segment that has one: where the log ends with a hole.
    fn last_batch(&self, slots: &[String]) -> Option<(u64, Decoded)> {
        self.log.segment_bases().into_iter().rev().find_map(|base| {
            let mut headers = self.log.headers(base);
            let mut last = None;
            while let Some(Ok(_)) = headers.next() {
                last = headers.batch().ok();
            }
            let last = last?;
            decode(&last, slots, self.seal.as_ref()).ok().map(|decoded| (last.len() as u64, decoded))
        })
    }

    /// Encodes and appends. Nothing of the batch is in the log when it fails.
    pub fn append(
        &self,
        batch: &flow_plan::Batch,
        slots: &[String],
        added_ms: i64,
        sequence: u64,
    ) -> Result<(Appended, u64), AppendError> {
        let mut encoder = self.encoder.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = encoder.encode(batch, slots, added_ms, sequence).map_err(AppendError::Fault)?;
        let free = self.free.load(Ordering::Relaxed) - bytes.len() as i64;
        if free < i64::try_from(self.min_free).unwrap_or(i64::MAX) && !self.look_for_room() {
            self.tell_full(None);
            return Err(AppendError::Full);
        }
        let how = Append { leader_epoch: 0, log_append_time_ms: None, assign_offsets: true };
        match self.log.append(bytes, how, added_ms) {
            Ok(appended) => {
                self.free.fetch_sub(bytes.len() as i64, Ordering::Relaxed);
                self.full.store(false, Ordering::Relaxed);
                Ok((appended, bytes.len() as u64))
            }
            Err(LogError::Full(error)) => {
                self.tell_full(Some(&error));
                Err(AppendError::Full)
            }
            Err(error) => {
                let fault = log_fault(&self.dir, &error);
                if self.log.is_poisoned() && !self.told_poisoned.swap(true, Ordering::Relaxed) {
                    tracing::error!(code = fault.code.unwrap_or_default(), "{fault}");
                }
                Err(AppendError::Fault(fault))
            }
        }
    }

    /// Marks the acknowledgement done when everything below `end` is as safe as asked for.
    pub fn when_safe(&self, sync: Sync, committer: &Committer, end: i64, ack: Ack) {
        match sync {
            Sync::Never => ack.done(),
            // A source that does not wait for an answer still wants its events on the disk.
            Sync::Commit => committer.when_synced(
                &self.log,
                end,
                Box::new(move |synced| {
                    if synced.is_ok() {
                        ack.done();
                    }
                }),
            ),
            Sync::Interval(_) => self.pledges.add(end, ack),
        }
    }

    /// Asks the disk to keep everything, and tells those who wait for that.
    pub fn sync(&self) {
        let end = self.log.end_offset();
        if self.log.synced_offset() >= end && self.pledges.is_empty() {
            return;
        }
        match self.log.sync() {
            Ok(synced) => self.pledges.keep(synced),
            Err(error) => {
                self.pledges.keep(self.log.synced_offset());
                self.pledges.lose(end);
                if !self.told_poisoned.swap(true, Ordering::Relaxed) {
                    let fault = log_fault(&self.dir, &error);
                    tracing::error!(code = fault.code.unwrap_or_default(), "{fault}");
                }
            }
        }
    }

    /// Whole batches from the one that holds `from`, none with an event at or after `before`; one at least when there
    /// is one, whatever its size. With the bytes that each has in the log.
    pub fn read(
        &self,
        from: i64,
        before: i64,
        bytes_max: usize,
        slots: &[String],
    ) -> Result<Piece, LaneError> {
        let from = from.max(self.log.start_offset()).max(self.skip_to.load(Ordering::Relaxed) as i64);
        if from >= before.min(self.log.end_offset()) {
            return Ok(Piece { batches: Vec::new(), next: before });
        }
        let slice = self.log.read(from, bytes_max, before, true)?;
        if slice.is_empty() {
            // A hole up to the end: nothing comes any more.
            return Ok(Piece { batches: Vec::new(), next: before });
        }
        let bytes = slice.bytes()?;
        let mut batches = Vec::new();
        // The first one may begin before what was asked for.
        let mut least = 0;
        for found in flow_log::batch::batches(&bytes) {
            let (header, batch) =
                found.map_err(|error| LaneError::Decode(DecodeError::Corrupt(error.to_string())))?;
            let decoded = decode(batch, slots, self.seal.as_ref())
                .and_then(|decoded| {
                    least = check_offsets(&decoded, least, self.log.end_offset())?;
                    Ok(decoded)
                })
                .map_err(LaneError::Decode);
            match decoded {
                Ok(decoded) => batches.push((header.size() as u64, decoded)),
                // What stands before it is given first.
                Err(_) if !batches.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        let next = batches.last().map_or(slice.next_offset_hint().max(from), |(_, last)| {
            last.base + last.batch.columns.bodies.len() as i64
        });
        Ok(Piece { batches, next })
    }

    /// Reading meets damage at `from`: the segment that holds it is copied aside, and reading goes on behind it.
    /// Without room for the copy it stays where it is.
    pub fn leave_out(&self, from: i64) {
        let from = from.max(self.log.start_offset());
        let bases = self.log.segment_bases();
        let index = bases.partition_point(|base| *base <= from);
        let next = bases.get(index).copied().unwrap_or_else(|| self.log.end_offset());
        let Some(base) = index.checked_sub(1).and_then(|index| bases.get(index)) else { return };
        let damaged = self.dir.join(LOG_DIR).join(format!("{base:020}.log"));
        match copy(self.storage.as_ref(), &damaged, &self.aside(*base)) {
            Ok(()) => self.skip_to.store(u64::try_from(next).unwrap_or(0), Ordering::Relaxed),
            Err(error) => {
                let fault = format::fault("keep a copy of damaged events in", &self.dir, &error);
                tracing::warn!(code = fault.code.unwrap_or_default(), "{fault}");
            }
        }
    }

    fn aside(&self, base: i64) -> PathBuf {
        self.dir.join(format!("damaged-{base:020}.log"))
    }

    /// The fault of a read, with what to do.
    pub fn read_fault(&self, from: i64, error: &LaneError) -> Fault {
        let shown = self.dir.display();
        match error {
            LaneError::Log(error) => log_fault(&self.dir, error),
            LaneError::Decode(DecodeError::Corrupt(what)) => Fault::new(format!(
                "the log in `{shown}` is damaged at event {from}: {what}"
            ))
            .help(
                "the rest of this segment is left out, its file stays where it is until it would be deleted",
            ),
            LaneError::Decode(DecodeError::NoKey) => {
                Fault::new(format!("the events in `{shown}` are encrypted, and there is no `key`"))
            }
            LaneError::Decode(DecodeError::WrongKey) => {
                Fault::new(format!("a batch in `{shown}` at event {from} cannot be opened with the `key`"))
            }
            LaneError::Decode(DecodeError::Newer) => {
                Fault::new(format!("a batch in `{shown}` at event {from} was written by a newer flowc"))
                    .code("F0813")
            }
        }
    }

    fn cursor(&self) -> MutexGuard<'_, Cursor> {
        // Whole between statements.
        self.cursor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first event that is not safe elsewhere.
    pub fn offset(&self) -> i64 {
        self.cursor().offset()
    }

    /// Notes events that are safe elsewhere; [`Lane::write_cursor`] writes it down.
    pub fn forget(&self, start: i64, end: i64) {
        self.cursor().forget(start, end);
    }

    pub fn write_cursor(&self) -> Result<(), Fault> {
        self.cursor().write().map_err(|error| {
            Fault::new(format!("cannot write the position in `{}`: {}", self.dir.display(), io_text(&error)))
                .code("F0806")
                .help("events that were delivered come again after a restart")
        })
    }

    /// A whole segment was read.
    pub fn has_spent_segment(&self) -> bool {
        let offset = self.offset();
        self.log.segment_bases().get(1).is_some_and(|second| *second <= offset)
    }

    /// Makes the position last and deletes what lies before it.
    pub fn checkpoint(&self) {
        let synced = self.cursor().sync();
        let offset = self.offset();
        let advanced = match synced {
            Ok(()) if self.log.is_poisoned() => return,
            Ok(()) if offset > self.log.start_offset() => self.log.advance_start(offset),
            Ok(()) => Ok(()),
            Err(error) => {
                let fault = format::fault("sync the position in", &self.dir, &error);
                tracing::warn!(code = fault.code.unwrap_or_default(), "{fault}");
                return;
            }
        };
        if let Err(error) = advanced {
            let fault = log_fault(&self.dir, &error);
            tracing::warn!(code = fault.code.unwrap_or_default(), "{fault}");
        }
    }

    /// Looks how much is free. True: there is room.
    pub fn look_for_room(&self) -> bool {
        // Who cannot tell does not stop anybody: the write will.
        let free = self.storage.free_bytes(&self.dir).unwrap_or(u64::MAX);
        self.free.store(i64::try_from(free).unwrap_or(i64::MAX), Ordering::Relaxed);
        free >= self.min_free
    }

    pub fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// Bytes that may still be written, as of the last look.
    pub fn bytes_free(&self) -> u64 {
        u64::try_from(self.free.load(Ordering::Relaxed)).unwrap_or(0).saturating_sub(self.min_free)
    }

    fn tell_full(&self, error: Option<&FileError>) {
        if self.full.swap(true, Ordering::Relaxed) {
            return;
        }
        let shown = self.dir.display();
        match error {
            Some(error) => {
                tracing::warn!(code = "F0806", "{error}; the channel is full until there is space");
            }
            None => tracing::warn!(
                code = "F0806",
                "the disk of `{shown}` has less than `min_free` ({} bytes); the channel is full until there is space",
                self.min_free
            ),
        }
    }

    /// The last words: position and log, so that the next start has nothing to check.
    pub fn close(&self) {
        if let Err(error) = self.cursor().sync() {
            tracing::warn!("cannot sync the position in `{}`: {}", self.dir.display(), io_text(&error));
        }
        if !self.log.is_poisoned()
            && let Err(error) = self.log.close()
        {
            tracing::warn!("{error}");
        }
    }
}

/// Bytes that are copied at once.
const COPY_BYTES: usize = 1 << 20;

/// Copies a file, and makes the copy last.
fn copy(storage: &dyn Storage, from: &Path, to: &Path) -> io::Result<()> {
    let source = storage.open(from)?;
    let target = storage.create(to)?;
    let mut buffer = vec![0; COPY_BYTES];
    let mut position = 0;
    loop {
        let count = match source.read_at(&mut buffer, position) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let mut written = 0;
        while written < count {
            match target.write_at(&[IoSlice::new(&buffer[written..count])], position + written as u64) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(more) => written += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        position += count as u64;
    }
    target.sync()?;
    storage.sync_dir(to.parent().unwrap_or(Path::new(".")))
}

/// The offset behind a batch that lies between `least` and the end of the log. No checksum covers where a batch says
/// that it begins.
fn check_offsets(decoded: &Decoded, least: i64, end: i64) -> Result<i64, DecodeError> {
    let base = decoded.base;
    i64::try_from(decoded.batch.len())
        .ok()
        .and_then(|events| base.checked_add(events))
        .filter(|behind| base >= least && *behind <= end)
        .ok_or_else(|| DecodeError::Corrupt(format!("a batch says that it begins at offset {base}")))
}

/// Why a batch was not appended.
pub enum AppendError {
    Full,
    Fault(Fault),
}

/// Why a piece could not be read.
pub enum LaneError {
    Log(LogError),
    Decode(DecodeError),
}

impl From<LogError> for LaneError {
    fn from(error: LogError) -> LaneError {
        LaneError::Log(error)
    }
}

impl LaneError {
    /// Trying again cannot help: what is on the disk is wrong.
    pub fn is_damage(&self) -> bool {
        matches!(self, LaneError::Log(LogError::Corrupt { .. }) | LaneError::Decode(DecodeError::Corrupt(_)))
    }
}

/// What a log says, in the words of the catalogue.
fn log_fault(dir: &Path, error: &LogError) -> Fault {
    let shown = dir.display();
    match error {
        LogError::Full(error) => Fault::new(error.to_string()).code("F0806").help("free some space"),
        LogError::Poisoned(_) => Fault::new(format!("`{shown}`: {error}"))
            .code("F0806")
            .help("what is there can still be read; check the disk and start again"),
        LogError::Io(error) => format::fault(error.doing, &error.file, &error.error),
        LogError::Newer { .. } => Fault::new(format!("state in `{shown}` was written by a newer flowc"))
            .code("F0813")
            .help("run the newer flowc, or choose another directory"),
        other => Fault::new(other.to_string()),
    }
}
