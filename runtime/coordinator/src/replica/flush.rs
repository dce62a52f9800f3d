//! How what was appended gets to the disk: by threads that sync for many at once, or in a simulation by a task. It knows
//! nothing of what the log holds.

use std::sync::Arc;

use flow_log::commit::Done;
use flow_log::{Committer, Log};

/// Calls back when what was appended lasts.
pub(crate) trait Flusher: Send + Sync {
    /// Calls `done` once everything below `offset` is on disk, or with the error that prevents it. In any order.
    fn when_synced(&self, log: &Arc<Log>, offset: i64, done: Done);
}

impl Flusher for Committer {
    fn when_synced(&self, log: &Arc<Log>, offset: i64, done: Done) {
        Committer::when_synced(self, log, offset, done);
    }
}

/// Syncs from a task of the runtime it is called in, so that a simulation without threads decides when.
pub(crate) struct TaskFlusher;

impl Flusher for TaskFlusher {
    fn when_synced(&self, log: &Arc<Log>, offset: i64, done: Done) {
        let log = log.clone();
        tokio::spawn(async move {
            // What is appended before this task has its turn shares the sync.
            let synced = if log.synced_offset() >= offset { Ok(log.synced_offset()) } else { log.sync() };
            done(synced.map(|_| ()));
        });
    }
}
