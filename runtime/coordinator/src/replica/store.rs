//! The replicated log on disk: one record batch per entry in a `flow_log::Log`, the entry's index as its offset and its
//! term as the leader epoch, so that a batch's header says which entry it is. It must not know what entries mean.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flow_log::batch::{Builder, BuilderOptions, HEADER_BYTES, Header, Records, batches, check_stored};
use flow_log::{Append, Log, LogConfig, LogError, Storage};
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::codec::{decode_payload, encode_payload};
use super::flush::Flusher;
use super::hard::{Hard, HardError, read_file};
use super::types::{LogId, RaftEntry, Types, Vote, log_id};

/// The log's directory within that of the server.
const LOG_DIR: &str = "log";
/// A file of the log; what a snapshot covers goes file by file.
const SEGMENT_BYTES: u64 = 32 << 20;
/// Largest entry that the log takes. What is proposed is bounded far below.
const ENTRY_BYTES_MAX: usize = 128 << 20;
/// Bytes synced after which a restart need not check them.
const CHECKPOINT_BYTES: u64 = 16 << 20;
/// Newest entries kept in memory, for applying and for followers that are not behind.
const TAIL_BYTES_MAX: usize = 16 << 20;
/// As many entries at most.
const TAIL_ENTRIES_MAX: usize = 1 << 14;
/// What one read for a follower gives at most (one entry at least).
const READ_BYTES_MAX: usize = 1 << 20;
/// What one read from the disk asks for.
const DISK_READ_BYTES: usize = 4 << 20;

/// Why the log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(transparent)]
    Hard(#[from] HardError),
    #[error("cannot open the log in `{}`: {error}", dir.display())]
    Log { dir: PathBuf, error: LogError },
    /// Entries that were promised to the others may be in the damaged part.
    #[error("the log in `{}` is damaged: {what}", dir.display())]
    Damaged { dir: PathBuf, what: String },
}

/// The log and the vote of one server. Clones share them.
#[derive(Clone)]
pub(crate) struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
    log: Arc<Log>,
    flusher: Arc<dyn Flusher>,
    /// Blocking work goes to threads; in a simulation it is done in place.
    threads: bool,
    hard: Mutex<Hard>,
    tail: Mutex<Tail>,
    /// Appends that were not called back yet.
    unflushed: AtomicUsize,
    drained: Notify,
    syncs: Syncs,
}

/// How long the disk took from an append to its call back, in microseconds.
#[derive(Debug, Default)]
pub(crate) struct Syncs {
    pub count: AtomicU64,
    pub total_us: AtomicU64,
    pub max_us: AtomicU64,
}

/// The newest entries, in order, without a gap.
#[derive(Default)]
struct Tail {
    entries: VecDeque<(RaftEntry, usize)>,
    bytes: usize,
    /// The last entry of the log, whether it is here or not; what was given up if there is none.
    last: Option<LogId>,
}

impl Tail {
    fn first(&self) -> Option<u64> {
        self.entries.front().map(|(entry, _)| entry.log_id.index)
    }

    fn push(&mut self, entry: RaftEntry, bytes: usize) {
        self.last = Some(entry.log_id);
        self.bytes += bytes;
        self.entries.push_back((entry, bytes));
        while self.entries.len() > TAIL_ENTRIES_MAX || (self.bytes > TAIL_BYTES_MAX && self.entries.len() > 1)
        {
            let Some((_, bytes)) = self.entries.pop_front() else { return };
            self.bytes -= bytes;
        }
    }

    /// Drops entries from `end` on; `last` is the last one left.
    fn cut_end(&mut self, end: u64, last: Option<LogId>) {
        while self.entries.back().is_some_and(|(entry, _)| entry.log_id.index >= end) {
            if let Some((_, bytes)) = self.entries.pop_back() {
                self.bytes -= bytes;
            }
        }
        if self.last.is_some_and(|known| known.index >= end) {
            self.last = last;
        }
    }

    /// Drops entries up to one.
    fn cut_front(&mut self, upto: LogId) {
        while self.first().is_some_and(|first| first <= upto.index) {
            if let Some((_, bytes)) = self.entries.pop_front() {
                self.bytes -= bytes;
            }
        }
        if self.last.is_none_or(|last| last.index < upto.index) {
            self.last = Some(upto);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store {
    /// Opens or makes the log in `dir`. Counts the start in the vote file, which is synced when the call returns.
    pub(crate) fn open(
        storage: Arc<dyn Storage>,
        dir: &Path,
        flusher: Arc<dyn Flusher>,
        threads: bool,
        hard: Hard,
    ) -> Result<Store, StoreError> {
        let log_dir = dir.join(LOG_DIR);
        let failed = |error| StoreError::Log { dir: log_dir.clone(), error };
        let config = LogConfig {
            segment_bytes: SEGMENT_BYTES,
            segment_ms: None,
            retention_ms: None,
            retention_bytes: None,
            max_batch_bytes: ENTRY_BYTES_MAX,
            checkpoint_bytes: CHECKPOINT_BYTES,
            ..LogConfig::default()
        };
        let (log, recovery) = Log::open(storage.clone(), &log_dir, config).map_err(failed)?;
        if let Some(damage) = recovery.damage.iter().find(|damage| damage.kept.is_none()) {
            let what = format!("`{}` at byte {}: {}", damage.file.display(), damage.position, damage.what);
            return Err(StoreError::Damaged { dir: log_dir, what });
        }
        check_torn(storage.as_ref(), &log_dir, &log)?;
        // A crash may have come between the note that entries were given up and their removal.
        if let Some(purged) = hard.purged() {
            give_up(&log, purged).map_err(failed)?;
        }
        let mut tail = Tail { last: hard.purged(), ..Tail::default() };
        if log.end_offset() > log.start_offset() {
            let last = log.headers(log.end_offset() - 1).next().transpose().map_err(failed)?;
            if let Some(header) = last {
                tail.last = Some(log_id(header.leader_epoch.max(0) as u64, header.base_offset.max(0) as u64));
            }
        }
        // What a crash left unsynced is read by others from now on.
        log.sync().map_err(failed)?;
        if let Some((_, index)) = hard.committed
            && tail.last.is_none_or(|last| last.index < index)
        {
            let what = format!("entry {index} was committed, and is missing");
            return Err(StoreError::Damaged { dir: log_dir, what });
        }
        hard.save(storage.as_ref(), dir).map_err(|error| HardError::Io { path: dir.to_owned(), error })?;
        let inner = Inner {
            storage,
            dir: dir.to_owned(),
            log: Arc::new(log),
            flusher,
            threads,
            hard: Mutex::new(hard),
            tail: Mutex::new(tail),
            unflushed: AtomicUsize::new(0),
            drained: Notify::new(),
            syncs: Syncs::default(),
        };
        Ok(Store { inner: Arc::new(inner) })
    }

    /// Nothing was ever written.
    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.inner.tail).last.is_none() && lock(&self.inner.hard).vote.is_none()
    }

    /// Index of the first entry that is there.
    pub(crate) fn first_index(&self) -> u64 {
        self.inner.log.start_offset().max(0) as u64
    }

    pub(crate) fn last_log_id(&self) -> Option<LogId> {
        lock(&self.inner.tail).last
    }

    /// Size on disk.
    pub(crate) fn bytes(&self) -> u64 {
        self.inner.log.bytes()
    }

    pub(crate) fn syncs(&self) -> &Syncs {
        &self.inner.syncs
    }

    /// Appends entries and returns before they are synced.
    pub(crate) fn append_entries(
        &self,
        entries: impl IntoIterator<Item = RaftEntry>,
        done: impl FnOnce(io::Result<()>) + Send + 'static,
    ) -> io::Result<()> {
        let inner = &self.inner;
        let synced = inner.log.synced_offset();
        let mut bytes = Vec::new();
        let mut fresh = Vec::new();
        for entry in entries {
            let before = bytes.len();
            encode_batch(&entry, synced, &mut bytes)?;
            fresh.push((entry, bytes.len() - before));
        }
        if fresh.is_empty() {
            done(Ok(()));
            return Ok(());
        }
        let how = Append { leader_epoch: -1, log_append_time_ms: None, assign_offsets: false };
        let mut tail = lock(&inner.tail);
        let next = tail.last.map_or(0, |last| last.index + 1);
        let first = fresh[0].0.log_id.index;
        if first != next && tail.last.is_some() {
            return Err(io::Error::other(format!("entry {first} does not follow {next}")));
        }
        let appended = inner.log.append(&bytes, how, 0).map_err(to_io)?;
        if first != next {
            inner.log.advance_start(first as i64).map_err(to_io)?;
        }
        for (entry, bytes) in fresh {
            tail.push(entry, bytes);
        }
        drop(tail);
        inner.unflushed.fetch_add(1, Ordering::AcqRel);
        let (begun, shared) = (Instant::now(), inner.clone());
        let done = Box::new(move |synced: Result<(), LogError>| {
            shared.syncs.note(begun);
            done(synced.map_err(to_io));
            if shared.unflushed.fetch_sub(1, Ordering::AcqRel) == 1 {
                shared.drained.notify_waiters();
            }
        });
        inner.flusher.when_synced(&inner.log, appended.next_offset, done);
        Ok(())
    }

    /// Waits until everything appended was called back, so that what follows is ordered behind it.
    async fn drain(&self) {
        loop {
            let drained = self.inner.drained.notified();
            if self.inner.unflushed.load(Ordering::Acquire) == 0 {
                return;
            }
            drained.await;
        }
    }

    /// Does work that waits for the disk.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        if !self.inner.threads {
            return work(&self.inner);
        }
        let inner = self.inner.clone();
        tokio::task::spawn_blocking(move || work(&inner)).await.map_err(io::Error::other)?
    }

    /// Entries of a range, as far as they are there, up to about `bytes_max` bytes but at least one.
    fn read(&self, from: u64, to: u64, bytes_max: usize) -> io::Result<Vec<RaftEntry>> {
        let mut found = Vec::new();
        let mut bytes = 0;
        let mut from = from.max(self.first_index());
        loop {
            let tail = lock(&self.inner.tail);
            let end = tail.last.map_or(0, |last| last.index + 1).min(to);
            if from >= end {
                return Ok(found);
            }
            let first = tail.first().unwrap_or(u64::MAX);
            if from >= first {
                let cached = tail.entries.range((from - first) as usize..(end - first) as usize);
                for (entry, size) in cached {
                    bytes += size;
                    if bytes > bytes_max && !found.is_empty() {
                        return Ok(found);
                    }
                    found.push(entry.clone());
                }
                return Ok(found);
            }
            drop(tail);
            let before = from;
            self.read_disk(&mut from, end.min(first), bytes_max, &mut bytes, &mut found)?;
            if bytes >= bytes_max {
                return Ok(found);
            }
            if from == before {
                return Err(io::Error::other(format!("entry {from} is not in the log")));
            }
        }
    }

    fn read_disk(
        &self,
        from: &mut u64,
        to: u64,
        bytes_max: usize,
        bytes: &mut usize,
        found: &mut Vec<RaftEntry>,
    ) -> io::Result<()> {
        let want = DISK_READ_BYTES.min(bytes_max.saturating_sub(*bytes).max(1));
        let slice = self.inner.log.read(*from as i64, want, to as i64, true).map_err(to_io)?;
        let read = slice.bytes().map_err(to_io)?;
        for batch in batches(&read) {
            let (header, batch) = batch.map_err(io::Error::other)?;
            if header.base_offset != *from as i64 {
                return Err(io::Error::other(format!(
                    "entry {from} is missing: {} follows",
                    header.base_offset
                )));
            }
            found.push(decode_batch(batch)?);
            *bytes += batch.len();
            *from += 1;
        }
        Ok(())
    }

    fn update_hard(&self, change: impl FnOnce(&mut Hard)) -> Hard {
        let mut hard = lock(&self.inner.hard);
        change(&mut hard);
        hard.clone()
    }

    async fn save_hard(&self, change: impl FnOnce(&mut Hard)) -> io::Result<()> {
        let hard = self.update_hard(change);
        self.blocking(move |inner| hard.save(inner.storage.as_ref(), &inner.dir)).await
    }

    /// Leaves everything as a start finds it soonest.
    pub(crate) async fn close(&self) -> io::Result<()> {
        self.drain().await;
        self.save_hard(|_| ()).await?;
        self.blocking(|inner| inner.log.close().map_err(to_io)).await
    }
}

impl Syncs {
    fn note(&self, begun: Instant) {
        let took_us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.count.fetch_add(1, Ordering::Relaxed);
        self.total_us.fetch_add(took_us, Ordering::Relaxed);
        self.max_us.fetch_max(took_us, Ordering::Relaxed);
    }
}

/// Makes the log begin after an entry, even if it ends before it (as after a snapshot that leaps ahead).
fn give_up(log: &Log, upto: LogId) -> Result<(), LogError> {
    let start = upto.index as i64 + 1;
    if start > log.end_offset() {
        // A log's start lies within it, so a stand-in for the entry goes in first.
        let stand_in = RaftEntry { log_id: upto, payload: openraft::EntryPayload::Blank };
        let mut bytes = Vec::new();
        encode_batch(&stand_in, log.synced_offset(), &mut bytes)
            .map_err(|_| LogError::OutOfRange { start, end: log.end_offset() })?;
        log.append(&bytes, Append { leader_epoch: -1, log_append_time_ms: None, assign_offsets: false }, 0)?;
        log.sync()?;
    }
    log.advance_start(start)
}

/// Looks at what a recovery moved aside. A crash may leave later bytes on the disk and not earlier ones, which is as good
/// as a torn end, as long as nothing that was synced is gone. Every entry says what was synced before it: if one that was
/// moved aside says that more was than is left, this server has lost what it promised to keep.
fn check_torn(storage: &dyn Storage, dir: &Path, log: &Log) -> Result<(), StoreError> {
    let failed = |path: PathBuf, error| StoreError::Hard(HardError::Io { path, error });
    let names = storage.list(dir).map_err(|error| failed(dir.to_owned(), error))?;
    for name in names.iter().filter(|name| name.ends_with(".corrupt")) {
        let path = dir.join(name);
        let bytes = read_file(storage, &path, 2 * SEGMENT_BYTES as usize + ENTRY_BYTES_MAX);
        let bytes = bytes.map_err(|error| failed(path.clone(), error))?;
        let base: i64 = name.split('.').next().and_then(|base| base.parse().ok()).unwrap_or_default();
        let first = base.max(log.start_offset());
        for (next, header) in (first..).zip(log.headers(first)) {
            let header = header.map_err(|error| StoreError::Log { dir: dir.to_owned(), error })?;
            if header.base_offset != next {
                let what =
                    format!("entry {next} is missing; what was in its place is in `{}`", path.display());
                return Err(StoreError::Damaged { dir: dir.to_owned(), what });
            }
        }
        let synced = synced_claim(&bytes);
        if synced > log.end_offset() {
            let end = log.end_offset();
            let what =
                format!("entries {end} to {synced} were synced, and are broken in `{}`", path.display());
            return Err(StoreError::Damaged { dir: dir.to_owned(), what });
        }
        tracing::warn!(file = %path.display(), "the end of the log was torn by a crash before it was synced");
        storage.remove(&path).map_err(|error| failed(path, error))?;
    }
    Ok(())
}

/// The most that whole batches anywhere in these bytes say was synced.
fn synced_claim(bytes: &[u8]) -> i64 {
    let mut claim = 0;
    let mut at = 0;
    while let Some(rest) = bytes.get(at..).filter(|rest| rest.len() >= HEADER_BYTES) {
        let whole = Header::parse(rest).ok().and_then(|header| rest.get(..header.size()));
        match whole.and_then(|batch| check_stored(batch).ok()) {
            Some(header) => {
                claim = claim.max(header.producer_id);
                at += header.size();
            }
            None => at += 1,
        }
    }
    claim
}

fn to_io(error: LogError) -> io::Error {
    match &error {
        LogError::Full(_) => io::Error::new(io::ErrorKind::StorageFull, error),
        _ => io::Error::other(error),
    }
}

/// Where a batch says its base offset and leader epoch; neither is covered by its checksum.
const BASE_OFFSET: std::ops::Range<usize> = 0..8;
const LEADER_EPOCH: std::ops::Range<usize> = 12..16;

/// Encodes an entry. The producer id says what was synced when it was appended: see [`check_torn`].
fn encode_batch(entry: &RaftEntry, synced: i64, out: &mut Vec<u8>) -> io::Result<()> {
    let term = entry.log_id.committed_leader_id().term;
    let epoch = i32::try_from(term).map_err(|_| io::Error::other(format!("term {term} is too large")))?;
    let offset = i64::try_from(entry.log_id.index).map_err(io::Error::other)?;
    let mut value = Vec::new();
    encode_payload(&entry.payload, &mut value)?;
    let mut builder = Builder::new(BuilderOptions { producer_id: synced, ..BuilderOptions::default() });
    builder.push(0, None, Some(&value), std::iter::empty());
    let mut batch = builder.finish();
    batch[BASE_OFFSET].copy_from_slice(&offset.to_be_bytes());
    batch[LEADER_EPOCH].copy_from_slice(&epoch.to_be_bytes());
    out.extend_from_slice(&batch);
    Ok(())
}

fn decode_batch(batch: &[u8]) -> io::Result<RaftEntry> {
    let records = Records::read(batch, ENTRY_BYTES_MAX).map_err(io::Error::other)?;
    let header = *records.header();
    let record = records.iter().next();
    let record =
        record.ok_or_else(|| io::Error::other("an entry without a record"))?.map_err(io::Error::other)?;
    let payload = decode_payload(record.value.unwrap_or_default()).map_err(io::Error::other)?;
    let term = u64::try_from(header.leader_epoch).map_err(io::Error::other)?;
    let index = u64::try_from(header.base_offset).map_err(io::Error::other)?;
    Ok(RaftEntry { log_id: log_id(term, index), payload })
}

impl RaftLogReader<Types> for Store {
    async fn try_get_log_entries<B: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: B,
    ) -> io::Result<Vec<RaftEntry>> {
        let from = match range.start_bound() {
            Bound::Included(from) => *from,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(last) => last.saturating_add(1),
            Bound::Excluded(to) => *to,
            Bound::Unbounded => u64::MAX,
        };
        self.read(from, to, usize::MAX)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<RaftEntry>> {
        self.read(start, end, READ_BYTES_MAX)
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(lock(&self.inner.hard).vote())
    }
}

impl RaftLogStorage<Types> for Store {
    type LogReader = Store;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        Ok(LogState { last_purged_log_id: lock(&self.inner.hard).purged(), last_log_id: self.last_log_id() })
    }

    async fn get_log_reader(&mut self) -> Store {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        // What was appended before lasts before the vote does.
        self.drain().await;
        self.save_hard(|hard| hard.set_vote(vote)).await
    }

    /// Kept in memory, and written with the next vote: a server that restarts learns from a leader what is committed
    /// before it serves, so an older value costs nothing but time.
    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        self.update_hard(|hard| {
            hard.committed = committed.map(|id| (id.committed_leader_id().term, id.index));
        });
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(lock(&self.inner.hard).committed.map(|(term, index)| log_id(term, index)))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = RaftEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        self.append_entries(entries, |synced| callback.io_completed(synced))
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> io::Result<()> {
        // No call back of an append may find its entries gone.
        self.drain().await;
        let end = last_log_id.map_or(0, |last| last.index + 1);
        lock(&self.inner.tail).cut_end(end, last_log_id);
        self.blocking(move |inner| inner.log.truncate(end as i64).map_err(to_io)).await
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        self.drain().await;
        // The note first: what is given up without it would be missed.
        self.save_hard(|hard| {
            hard.purged = Some((upto.committed_leader_id().term, upto.index)).max(hard.purged);
        })
        .await?;
        lock(&self.inner.tail).cut_front(upto);
        self.blocking(move |inner| give_up(&inner.log, upto).map_err(to_io)).await
    }
}
