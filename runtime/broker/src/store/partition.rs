//! One partition: its log with what the broker adds to it, which is the checks before an append, the state of its
//! producers, the offsets up to which readers may see, and waking those who wait.
//!
//! It must not know the wire, sessions of readers, or other partitions.

mod upkeep;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use flow_log::batch::{self, Header};
use flow_log::{Append, Committer, Log, LogError, Slice, Storage};

use super::clock::now_ms;
use super::configs::TopicSettings;
use super::producers::{Aborted, Guard, Marker, Origin, Placed, ProducerView, Producers, Verdict};
use super::snapshots;
use super::validate::{self, AppendError};
use super::wake::Waiters;

/// The leader epoch of a partition whose log knows none yet. With one broker there is no other leader to tell apart.
const FIRST_LEADER_EPOCH: i32 = 0;

/// A partition of a topic.
pub(crate) struct Partition {
    pub(crate) topic: Arc<str>,
    pub(crate) index: i32,
    pub(super) dir: PathBuf,
    storage: Arc<dyn Storage>,
    log: Arc<Log>,
    committer: Arc<Committer>,
    settings: RwLock<Arc<TopicSettings>>,
    /// Held over a whole append, so that what is checked, written and remembered is one step.
    producers: Mutex<Producers>,
    leader_epoch: i32,
    /// Readers see everything below: with one replica, everything appended.
    high_watermark: AtomicI64,
    /// Readers of committed records see everything below. Never more than the high watermark.
    last_stable_offset: AtomicI64,
    waiters: Waiters,
    gone: AtomicBool,
    /// Held while files beside the log are written by their names.
    beside: Mutex<()>,
    /// The broker stops: nothing is appended any more.
    closing: AtomicBool,
    /// There is something that a clean end would spare the next start.
    touched: AtomicBool,
    /// When it was compacted last; when it was opened before that.
    compacted_ms: AtomicI64,
    /// Bytes that a start after a crash would have to check, about.
    unchecked_bytes: AtomicU64,
    unsynced_since_ms: AtomicI64,
}

/// Where a batch was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Appended {
    pub(crate) base_offset: i64,
    /// The offset after it: what [`Partition::committed`] waits for.
    pub(crate) next_offset: i64,
    /// The append's time where the topic says that this is the time of records; else -1.
    pub(crate) log_append_time_ms: i64,
    pub(crate) log_start_offset: i64,
}

/// Up to where a reader sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Everything.
    Uncommitted,
    /// Up to the first open transaction; what aborted ones wrote is listed.
    Committed,
}

/// What was found for a reader.
pub(crate) struct Fetched {
    pub(crate) slice: Slice,
    pub(crate) high_watermark: i64,
    pub(crate) last_stable_offset: i64,
    pub(crate) log_start_offset: i64,
    /// Only for readers of committed records.
    pub(crate) aborted: Vec<Aborted>,
}

/// The offsets of a partition at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Offsets {
    pub(crate) log_start: i64,
    pub(crate) last_stable: i64,
    pub(crate) high_watermark: i64,
}

/// What a partition is opened with.
pub(crate) struct Opening {
    pub(crate) topic: Arc<str>,
    pub(crate) index: i32,
    pub(crate) dir: PathBuf,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) committer: Arc<Committer>,
    pub(crate) settings: Arc<TopicSettings>,
}

impl Partition {
    /// Opens the log and rebuilds the state of its producers from the newest usable snapshot and the batches after it.
    pub(crate) fn open(opening: Opening) -> Result<Partition, LogError> {
        let Opening { topic, index, dir, storage, committer, settings } = opening;
        let (log, recovery) = Log::open(Arc::clone(&storage), &dir, settings.log_config())?;
        tracing::debug!(topic = &*topic, partition = index, ?recovery, "opened");
        let mut producers = snapshots::load(&*storage, &dir, &log, now_ms());
        replay(&log, &mut producers)?;
        let (start, end) = (log.start_offset(), log.end_offset());
        producers.advance_start(start);
        let last_stable = producers.last_stable_offset(end, start);
        let leader_epoch = log.latest_epoch().max(FIRST_LEADER_EPOCH);
        Ok(Partition {
            topic,
            index,
            dir,
            storage,
            log: Arc::new(log),
            committer,
            settings: RwLock::new(settings),
            producers: Mutex::new(producers),
            leader_epoch,
            high_watermark: AtomicI64::new(end),
            last_stable_offset: AtomicI64::new(last_stable),
            waiters: Waiters::default(),
            gone: AtomicBool::new(false),
            beside: Mutex::new(()),
            closing: AtomicBool::new(false),
            touched: AtomicBool::new(recovery.checked_bytes > 0 || (!recovery.clean && end > start)),
            compacted_ms: AtomicI64::new(now_ms()),
            unchecked_bytes: AtomicU64::new(0),
            unsynced_since_ms: AtomicI64::new(i64::MAX),
        })
    }

    /// Appends one batch (of a coordinator: any number of them, all or the first ones).
    ///
    /// # Errors
    ///
    /// A batch that breaks a rule of the format, of the topic or of its producer; a disk that is full or failing.
    pub(crate) fn append(&self, batches: &[u8], origin: Origin) -> Result<Appended, AppendError> {
        self.append_guarded(batches, origin, None)
    }

    /// [`Partition::append`] of a transaction's first batch, with the coordinator's leave ([`Partition::verification`]).
    pub(crate) fn append_guarded(
        &self,
        batches: &[u8],
        origin: Origin,
        guard: Option<Guard>,
    ) -> Result<Appended, AppendError> {
        if origin != Origin::Coordinator {
            let header = validate::check_single(batches)?;
            return self.append_checked(&header, batches, origin, guard);
        }
        let mut first: Option<Appended> = None;
        for batch in batch::batches(batches) {
            let (header, bytes) = batch.map_err(AppendError::Corrupt)?;
            let appended = self.append_checked(&header, bytes, origin, guard)?;
            let base_offset = first.map_or(appended.base_offset, |first| first.base_offset);
            first = Some(Appended { base_offset, ..appended });
        }
        first.ok_or_else(|| AppendError::Invalid("there is no batch to append".into()))
    }

    /// Appends one batch whose header and checksum are known to be right.
    pub(crate) fn append_checked(
        &self,
        header: &Header,
        batch: &[u8],
        origin: Origin,
        guard: Option<Guard>,
    ) -> Result<Appended, AppendError> {
        let now_ms = now_ms();
        let settings = self.settings();
        let kept = validate::check_batch(header, batch, origin, &settings, now_ms)?;
        let marker = if header.is_control() { Marker::read(batch) } else { None };
        let log_append_time_ms = settings.log_append_time.then_some(now_ms);
        let appended;
        {
            let mut producers = self.producers();
            if self.gone.load(Ordering::Acquire) {
                return Err(AppendError::Gone);
            }
            if self.closing.load(Ordering::Acquire) {
                return Err(LogError::Closed.into());
            }
            match producers.check(header, origin, marker, guard) {
                Verdict::Append => {}
                Verdict::Duplicate(seen) => {
                    return Ok(Appended {
                        base_offset: seen.base_offset,
                        next_offset: seen.last_offset + 1,
                        log_append_time_ms: if settings.log_append_time { seen.timestamp } else { -1 },
                        log_start_offset: self.log.start_offset(),
                    });
                }
                Verdict::Refuse(error) => return Err(error.into()),
            }
            let how = Append { leader_epoch: self.leader_epoch, log_append_time_ms, assign_offsets: true };
            appended = self.log.append(&kept, how, now_ms)?;
            let timestamp = log_append_time_ms.unwrap_or(header.max_timestamp);
            producers.apply(header, Placed { base_offset: appended.base_offset, timestamp, now_ms }, marker);
            let last_stable = producers.last_stable_offset(appended.next_offset, self.log.start_offset());
            self.last_stable_offset.store(last_stable, Ordering::Release);
            self.high_watermark.store(appended.next_offset, Ordering::Release);
        }
        self.unchecked_bytes.fetch_add(kept.len() as u64, Ordering::Relaxed);
        self.touched.store(true, Ordering::Relaxed);
        if marker.is_some() {
            // Readers of committed records may see much more now than the few bytes of a marker.
            self.waiters.wake_all();
        } else {
            self.waiters.appended(kept.len());
        }
        self.flush_if_due(&settings, now_ms);
        Ok(Appended {
            base_offset: appended.base_offset,
            next_offset: appended.next_offset,
            log_append_time_ms: log_append_time_ms.unwrap_or(-1),
            log_start_offset: self.log.start_offset(),
        })
    }

    /// The question to put to the transaction coordinator before the batch with this header is appended; none when it is
    /// not a transaction's first batch here.
    pub(crate) fn verification(&self, header: &Header) -> Option<Guard> {
        if !header.is_transactional() {
            return None;
        }
        self.producers().start_verification(header, now_ms())
    }

    /// Whether a coordinator's batch with this header would be taken from its producer.
    pub(crate) fn check_producer(&self, header: &Header, guard: Option<Guard>) -> Result<(), AppendError> {
        match self.producers().check(header, Origin::Coordinator, None, guard) {
            Verdict::Append | Verdict::Duplicate(_) => Ok(()),
            Verdict::Refuse(error) => Err(error.into()),
        }
    }

    /// Waits until everything below `offset` is on the disk.
    pub(crate) async fn committed(&self, offset: i64) -> Result<(), AppendError> {
        match self.start_commit(offset) {
            None => Ok(()),
            Some(done) => done.await,
        }
    }

    /// Asks for everything below `offset` to be put on the disk, now; gives what to wait for, or nothing when it is
    /// there already.
    pub(crate) fn start_commit(&self, offset: i64) -> Option<Commit> {
        if self.log.synced_offset() >= offset {
            return None;
        }
        let (send, receive) = tokio::sync::oneshot::channel();
        self.committer.when_synced(
            &self.log,
            offset,
            Box::new(move |result| {
                // Nobody may wait any more, for example because a connection ended.
                let _ = send.send(result);
            }),
        );
        Some(Commit(receive))
    }

    /// Calls `done` when everything below `offset` is on the disk, or cannot be put there.
    pub(crate) fn when_committed(&self, offset: i64, done: Box<dyn FnOnce(Result<(), LogError>) + Send>) {
        if self.log.synced_offset() >= offset {
            return done(Ok(()));
        }
        self.committer.when_synced(&self.log, offset, done);
    }

    /// Finds batches from the one that holds `from` on: at most `bytes_max` bytes, but the first batch whole when
    /// `first_whole` is set.
    ///
    /// # Errors
    ///
    /// [`LogError::OutOfRange`] for an offset that was deleted or is not there yet.
    pub(crate) fn read(
        &self,
        from: i64,
        bytes_max: usize,
        isolation: Isolation,
        first_whole: bool,
    ) -> Result<Fetched, LogError> {
        let offsets = self.offsets();
        if from < offsets.log_start || from > offsets.high_watermark {
            return Err(LogError::OutOfRange { start: offsets.log_start, end: offsets.high_watermark });
        }
        let before = self.readable(isolation, &offsets);
        // A reader of committed records may stand beyond what is decided: there is nothing for it yet.
        let slice = self.log.read(from.min(before), bytes_max, before, first_whole)?;
        let aborted = match isolation {
            Isolation::Committed if !slice.is_empty() => {
                let to = slice.next_offset_hint().min(before);
                self.producers().aborted(from, to)
            }
            _ => Vec::new(),
        };
        Ok(Fetched {
            slice,
            high_watermark: offsets.high_watermark,
            last_stable_offset: offsets.last_stable,
            log_start_offset: offsets.log_start,
            aborted,
        })
    }

    /// The offsets now.
    pub(crate) fn offsets(&self) -> Offsets {
        // The last stable offset first: it never passes the high watermark, which only grows.
        let last_stable = self.last_stable_offset.load(Ordering::Acquire);
        let high_watermark = self.high_watermark.load(Ordering::Acquire);
        Offsets { log_start: self.log.start_offset(), last_stable, high_watermark }
    }

    /// The offset up to which a reader sees.
    pub(crate) fn end_for(&self, isolation: Isolation) -> i64 {
        self.readable(isolation, &self.offsets())
    }

    fn readable(&self, isolation: Isolation, offsets: &Offsets) -> i64 {
        match isolation {
            Isolation::Uncommitted => offsets.high_watermark,
            Isolation::Committed => offsets.last_stable,
        }
    }

    pub(crate) fn leader_epoch(&self) -> i32 {
        self.leader_epoch
    }

    /// Those who wait for records of this partition.
    pub(crate) fn waiters(&self) -> &Waiters {
        &self.waiters
    }

    pub(crate) fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// Bytes in all its segments.
    pub(crate) fn bytes(&self) -> u64 {
        self.log.bytes()
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// What holds for it now.
    pub(crate) fn settings(&self) -> Arc<TopicSettings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn set_settings(&self, settings: Arc<TopicSettings>) {
        self.log.set_config(settings.log_config());
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = settings;
    }

    /// The producers known here (`DescribeProducers`).
    pub(crate) fn producer_views(&self) -> Vec<ProducerView> {
        self.producers().views().collect()
    }

    /// Whether a transaction of this producer is open here.
    pub(crate) fn has_open_transaction(&self, producer_id: i64) -> bool {
        self.producers().is_ongoing(producer_id)
    }

    /// Drops everything below `offset` for readers (`DeleteRecords`). Gives the new start.
    ///
    /// # Errors
    ///
    /// [`LogError::OutOfRange`] beyond what readers see.
    pub(crate) fn delete_before(&self, offset: i64) -> Result<i64, LogError> {
        let offsets = self.offsets();
        if offset < 0 || offset > offsets.high_watermark {
            return Err(LogError::OutOfRange { start: offsets.log_start, end: offsets.high_watermark });
        }
        self.log.advance_start(offset)?;
        self.touched.store(true, Ordering::Relaxed);
        self.start_moved();
        Ok(self.log.start_offset())
    }

    /// Takes in that the log begins later than before.
    pub(super) fn start_moved(&self) {
        let mut producers = self.producers();
        let (start, end) = (self.log.start_offset(), self.high_watermark.load(Ordering::Acquire));
        producers.advance_start(start);
        let last_stable = producers.last_stable_offset(end, start);
        self.last_stable_offset.store(last_stable, Ordering::Release);
        drop(producers);
        self.waiters.wake_all();
    }

    /// From now on nothing is appended, those who wait are told, and no file in its directory is touched by its name: the
    /// next topic of this name will have a directory of this name.
    pub(super) fn set_gone(&self) {
        let producers = self.producers();
        self.gone.store(true, Ordering::Release);
        drop(producers);
        self.waiters.wake_all();
        drop(self.beside());
        self.log.abandon();
    }

    fn producers(&self) -> MutexGuard<'_, Producers> {
        self.producers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The wait for the disk that [`Partition::start_commit`] began.
pub(crate) struct Commit(tokio::sync::oneshot::Receiver<Result<(), LogError>>);

impl Future for Commit {
    type Output = Result<(), AppendError>;

    fn poll(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Self::Output> {
        std::pin::Pin::new(&mut self.0).poll(context).map(|answer| match answer {
            Ok(result) => result.map_err(AppendError::Log),
            // The committer is gone: the broker is stopping.
            Err(_) => Err(AppendError::Log(LogError::Closed)),
        })
    }
}

/// Bytes of the log that are read at once when the state of producers is rebuilt.
const REPLAY_BYTES: usize = 1 << 20;

/// Takes in what the log has after the snapshot. It was read a moment ago, to be checked, so it is read in large pieces
/// from memory rather than header by header.
fn replay(log: &Log, producers: &mut Producers) -> Result<(), LogError> {
    let now_ms = now_ms();
    let end = log.end_offset();
    let mut from = producers.end_offset().max(log.start_offset());
    let mut buffer = Vec::new();
    while from < end {
        let slice = log.read(from, REPLAY_BYTES, end, true)?;
        buffer.resize(slice.len(), 0);
        slice.read_into(&mut buffer)?;
        for found in batch::batches(&buffer) {
            let (header, bytes) = found?;
            if header.last_offset() < from {
                continue;
            }
            let marker = if header.is_control() { Marker::read(bytes) } else { None };
            producers.replay(&header, marker, now_ms);
        }
        let next = slice.next_offset_hint();
        if next <= from {
            break;
        }
        from = next;
    }
    Ok(())
}
