//! Telling callers when what they appended is on disk, without a thread of theirs waiting: all that come while a log is
//! being synced share the next sync.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::error::LogError;
use crate::log::Log;

/// Logs that are synced at the same time; the file system gathers what they write.
const THREADS: usize = 4;
/// Callers that may wait; further ones get [`LogError::Busy`].
pub const WAITERS_MAX: usize = 1 << 20;

/// What is called once the disk has it, or never will.
pub type Done = Box<dyn FnOnce(Result<(), LogError>) + Send>;

/// A few threads that sync logs. Dropping it waits until all that waited were told.
pub struct Committer {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    queue: Mutex<Queue>,
    work: Condvar,
}

#[derive(Default)]
struct Queue {
    /// By the address of the log.
    logs: HashMap<usize, Waiting>,
    /// Logs that have callers waiting and are not being synced.
    ready: VecDeque<usize>,
    waiters: usize,
    stopping: bool,
}

struct Waiting {
    log: Arc<Log>,
    waiters: Vec<(i64, Done)>,
    /// A thread is at work on it.
    syncing: bool,
}

impl Default for Committer {
    fn default() -> Self {
        Committer::new()
    }
}

impl Committer {
    /// Starts the threads. Where the system gives none, callers sync themselves.
    pub fn new() -> Committer {
        let shared = Arc::new(Shared { queue: Mutex::new(Queue::default()), work: Condvar::new() });
        let threads = (0..THREADS)
            .filter_map(|_| {
                let shared = shared.clone();
                std::thread::Builder::new().name("log-sync".to_owned()).spawn(move || shared.run()).ok()
            })
            .collect();
        Committer { shared, threads }
    }

    /// Calls `done` when everything below `offset` (at most the log's end) is on disk, or with the error that prevents
    /// it: at once if it is there already, else from another thread. `done` must be quick.
    pub fn when_synced(&self, log: &Arc<Log>, offset: i64, done: Done) {
        if log.synced_offset() >= offset {
            return done(Ok(()));
        }
        if self.threads.is_empty() {
            return tell(log, log.sync(), vec![(offset, done)]);
        }
        let mut queue = self.shared.lock();
        if queue.waiters >= WAITERS_MAX {
            drop(queue);
            return done(Err(LogError::Busy));
        }
        queue.waiters += 1;
        let key = Arc::as_ptr(log) as usize;
        let waiting = queue.logs.entry(key).or_insert_with(|| Waiting {
            log: log.clone(),
            waiters: Vec::new(),
            syncing: false,
        });
        waiting.waiters.push((offset, done));
        if waiting.waiters.len() == 1 && !waiting.syncing {
            queue.ready.push_back(key);
            drop(queue);
            self.shared.work.notify_one();
        }
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.shared.lock().stopping = true;
        self.shared.work.notify_all();
        for thread in self.threads.drain(..) {
            // The last handle may be dropped by a `done`, on the thread itself.
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut queue = self.lock();
        loop {
            let Some(key) = queue.ready.pop_front() else {
                if queue.stopping {
                    return;
                }
                queue = self.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let Some(waiting) = queue.logs.get_mut(&key) else { continue };
            let log = waiting.log.clone();
            let waiters = std::mem::take(&mut waiting.waiters);
            waiting.syncing = true;
            queue.waiters -= waiters.len();
            drop(queue);
            // A `done` that panics is its owner's bug, and must not keep the others from being told.
            let told = catch_unwind(AssertUnwindSafe(|| tell(&log, log.sync_data(), waiters)));
            if told.is_err() {
                tracing::error!(dir = %log.dir().display(), "a call back after a sync panicked");
            }
            // Nobody waits for this any more.
            log.checkpoint_if_due();
            queue = self.lock();
            if let Some(waiting) = queue.logs.get_mut(&key) {
                waiting.syncing = false;
                if waiting.waiters.is_empty() {
                    queue.logs.remove(&key);
                } else {
                    // Came during the sync, so too late for it. This thread or a free one goes on with it.
                    queue.ready.push_back(key);
                    self.work.notify_one();
                }
            }
        }
    }
}

fn tell(log: &Log, synced: Result<i64, LogError>, waiters: Vec<(i64, Done)>) {
    for (offset, done) in waiters {
        done(match &synced {
            Ok(synced) if *synced >= offset => Ok(()),
            // Cut off by a truncation, or never there.
            Ok(synced) => Err(LogError::OutOfRange { start: log.start_offset(), end: *synced }),
            Err(_) if log.synced_offset() >= offset => Ok(()),
            Err(error) => Err(error.clone()),
        });
    }
}
