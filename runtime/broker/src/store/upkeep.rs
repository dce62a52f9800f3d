//! What the store does by itself: syncing by time, checkpoints, retention, compaction, forgetting idle producers,
//! removing deleted topics. One thread does all of it, one thing after the other, so that it never takes more than one
//! core or one disk queue from those who append and read.
//!
//! [`Upkeep::pass`] is told the time, so that tests need no waiting.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use flow_log::LogError;
use flow_log::log::CompactOptions;

use super::catalog::Catalog;
use super::clock::now_ms;
use super::partition::Partition;

/// How long it rests between two passes.
const PASS_MS: u64 = 500;

/// A partition gets a checkpoint when a start after a crash would have to check this much of it.
const UNCHECKED_BYTES_MAX: u64 = 64 << 20;

/// All get one when it is this much for all of them together.
const UNCHECKED_TOTAL_BYTES_MAX: u64 = 256 << 20;

/// Partitions with less than this are left out then.
const UNCHECKED_BYTES_MIN: u64 = 1 << 20;

/// How often idle producers are looked for, in milliseconds.
const EXPIRY_MS: i64 = 600_000;

/// When each kind of work was done last, in milliseconds since 1970.
pub(super) struct Upkeep {
    checkpoints_ms: i64,
    retention_ms: i64,
    compaction_ms: i64,
    expiry_ms: i64,
}

impl Upkeep {
    pub(super) fn new(now_ms: i64) -> Upkeep {
        Upkeep { checkpoints_ms: now_ms, retention_ms: now_ms, compaction_ms: now_ms, expiry_ms: now_ms }
    }

    /// Does what is due.
    pub(super) fn pass(&mut self, catalog: &Catalog, now_ms: i64, stopping: &dyn Fn() -> bool) {
        let settings = catalog.broker_settings();
        let due = |last_ms: &mut i64, interval_ms: i64| {
            let due = now_ms.saturating_sub(*last_ms) >= interval_ms;
            if due {
                *last_ms = now_ms;
            }
            due
        };
        let interval = |name: &str, otherwise: i64| settings.broker_number(name, otherwise).max(0);
        let checkpoints =
            due(&mut self.checkpoints_ms, interval("log.flush.offset.checkpoint.interval.ms", 60_000));
        let retention = due(&mut self.retention_ms, interval("log.retention.check.interval.ms", 300_000));
        let compaction = due(&mut self.compaction_ms, interval("log.cleaner.backoff.ms", 15_000))
            && settings.broker_switch("log.cleaner.enable");
        let expiry = due(&mut self.expiry_ms, EXPIRY_MS);
        let idle_ms = interval("producer.id.expiration.ms", 86_400_000);
        catalog.remove_doomed();
        let partitions = catalog.partitions();
        let total: u64 = partitions.iter().map(|partition| partition.unchecked_bytes()).sum();
        let bytes_least = match (checkpoints, total >= UNCHECKED_TOTAL_BYTES_MAX) {
            (true, _) => 1,
            (false, true) => UNCHECKED_BYTES_MIN,
            (false, false) => UNCHECKED_BYTES_MAX,
        };
        for partition in partitions {
            if stopping() {
                return;
            }
            if partition.is_gone() {
                continue;
            }
            partition.flush_old(now_ms);
            if expiry {
                partition.expire_producers(now_ms, idle_ms);
            }
            if partition.unchecked_bytes() >= bytes_least {
                report(&partition, "note a checkpoint of", partition.checkpoint());
            }
            if retention {
                report(&partition, "delete old records of", delete_old(&partition, now_ms));
            }
            if compaction {
                report(&partition, "compact", compact(&partition, now_ms));
            }
        }
    }
}

/// Drops segments that are too old or too many. A compacted topic loses nothing this way.
pub(super) fn delete_old(partition: &Partition, now_ms: i64) -> Result<(), LogError> {
    let deleted = partition.log().delete_old(now_ms)?;
    if deleted.segments > 0 {
        tracing::info!(
            topic = &*partition.topic,
            partition = partition.index,
            segments = deleted.segments,
            bytes = deleted.bytes,
            start = partition.log().start_offset(),
            "old records deleted"
        );
        partition.start_moved();
    }
    Ok(())
}

/// Compacts a partition of a compacted topic when it is worth it: when enough of it is not compacted yet, or has not been
/// for too long.
pub(super) fn compact(partition: &Partition, now_ms: i64) -> Result<(), LogError> {
    let settings = partition.settings();
    if !settings.cleanup.compact {
        return Ok(());
    }
    let before = partition.offsets().last_stable;
    let dirty = partition.log().dirty(before);
    let waited_ms = now_ms.saturating_sub(partition.compacted_ms().load(Ordering::Relaxed));
    let overdue = settings.max_compaction_lag_ms.is_some_and(|lag_ms| waited_ms >= lag_ms);
    if dirty.dirty_bytes == 0 || (dirty.ratio() < settings.min_cleanable_dirty_ratio && !overdue) {
        return Ok(());
    }
    let producers = partition.producers_now();
    let compacted = partition.log().compact(CompactOptions {
        now_ms,
        min_lag_ms: settings.min_compaction_lag_ms,
        delete_retention_ms: settings.delete_retention_ms,
        before,
        is_aborted: &|producer_id, offset| producers.is_aborted(producer_id, offset),
    })?;
    partition.compacted_ms().store(now_ms, Ordering::Relaxed);
    tracing::debug!(topic = &*partition.topic, partition = partition.index, ?compacted, "compacted");
    Ok(())
}

/// A disk that fails or is full is told, and tried again the next time.
fn report(partition: &Partition, doing: &str, result: Result<(), LogError>) {
    match result {
        Ok(()) => {}
        Err(_) if partition.is_gone() => {}
        Err(error) => {
            tracing::error!(
                topic = &*partition.topic,
                partition = partition.index,
                "cannot {doing} the log: {error}"
            );
        }
    }
}

/// The thread. Ends when it is dropped.
pub(super) struct UpkeepThread {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl UpkeepThread {
    pub(super) fn start(catalog: Arc<Catalog>) -> std::io::Result<UpkeepThread> {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let theirs = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("broker-upkeep".into()).spawn(move || {
            let (stopped, changed) = &*theirs;
            let stopping = || *stopped.lock().unwrap_or_else(PoisonError::into_inner);
            let mut upkeep = Upkeep::new(now_ms());
            loop {
                let guard = stopped.lock().unwrap_or_else(PoisonError::into_inner);
                let (guard, _) = changed
                    .wait_timeout_while(guard, Duration::from_millis(PASS_MS), |stopped| !*stopped)
                    .unwrap_or_else(PoisonError::into_inner);
                if *guard {
                    return;
                }
                drop(guard);
                upkeep.pass(&catalog, now_ms(), &stopping);
            }
        })?;
        Ok(UpkeepThread { stop, thread: Some(thread) })
    }
}

impl Drop for UpkeepThread {
    fn drop(&mut self) {
        *self.stop.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stop.1.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic there was reported by the panic itself.
            let _ = thread.join();
        }
    }
}
