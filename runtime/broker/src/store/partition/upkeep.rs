//! What the store does with a partition by itself: checkpoints, a clean end, syncing by time and count.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError};

use flow_log::LogError;

use super::Partition;
use crate::store::configs::TopicSettings;
use crate::store::producers::Producers;
use crate::store::snapshots;

impl Partition {
    /// Bytes appended since the last checkpoint.
    pub(in crate::store) fn unchecked_bytes(&self) -> u64 {
        self.unchecked_bytes.load(Ordering::Relaxed)
    }

    /// Puts everything on the disk and notes that a start has to check nothing below.
    pub(in crate::store) fn checkpoint(&self) -> Result<(), LogError> {
        let bytes = self.unchecked_bytes.load(Ordering::Relaxed);
        let state = self.producers().clone();
        self.log.sync()?;
        self.save_snapshot(&state)?;
        self.log.checkpoint()?;
        self.unchecked_bytes.fetch_sub(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// A checkpoint after which nothing is appended: the next start reads no batch at all. Costs nothing where nothing
    /// happened since the last one.
    pub(in crate::store) fn close(&self) -> Result<(), LogError> {
        let state = {
            let producers = self.producers();
            self.closing.store(true, Ordering::Release);
            producers.clone()
        };
        if !self.touched.load(Ordering::Acquire) {
            return Ok(());
        }
        self.log.sync()?;
        self.save_snapshot(&state)?;
        self.log.close()
    }

    fn save_snapshot(&self, state: &Producers) -> Result<(), LogError> {
        let _beside = self.beside();
        if self.is_gone() {
            return Err(LogError::Closed);
        }
        snapshots::save(&*self.storage, &self.dir, &self.log, state)
    }

    pub(super) fn beside(&self) -> MutexGuard<'_, ()> {
        self.beside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets producers that have been silent for `idle_ms`.
    pub(in crate::store) fn expire_producers(&self, now_ms: i64, idle_ms: i64) {
        self.producers().expire(now_ms, idle_ms);
    }

    /// When it was compacted last, in milliseconds since 1970.
    pub(in crate::store) fn compacted_ms(&self) -> &AtomicI64 {
        &self.compacted_ms
    }

    /// What compaction must know of the producers, as it is now.
    pub(in crate::store) fn producers_now(&self) -> Producers {
        self.producers().clone()
    }

    /// Syncs without waiting when records have been unsynced for longer than `flush.ms` allows.
    pub(in crate::store) fn flush_old(&self, now_ms: i64) {
        let Some(flush_ms) = self.settings().flush_ms else { return };
        if now_ms.saturating_sub(self.unsynced_since_ms.load(Ordering::Relaxed)) >= flush_ms {
            self.unsynced_since_ms.store(i64::MAX, Ordering::Relaxed);
            self.flush();
        }
    }

    pub(super) fn flush_if_due(&self, settings: &TopicSettings, now_ms: i64) {
        if settings.flush_ms.is_some() {
            self.unsynced_since_ms.fetch_min(now_ms, Ordering::Relaxed);
        }
        if let Some(records) = settings.flush_messages
            && self.log.end_offset() - self.log.synced_offset() >= records
        {
            self.flush();
        }
    }

    fn flush(&self) {
        let end = self.log.end_offset();
        if self.log.synced_offset() < end {
            let (topic, partition) = (Arc::clone(&self.topic), self.index);
            self.committer.when_synced(
                &self.log,
                end,
                Box::new(move |result| {
                    if let Err(error) = result {
                        tracing::error!(topic = &*topic, partition, "cannot sync the log: {error}");
                    }
                }),
            );
        }
    }
}
