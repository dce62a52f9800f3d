//! The thread that owns the connection: it takes all jobs that wait, writes and deletes in one transaction, reads
//! behind it. What finds a full disk waits here and is tried again.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use flow_agent::Fault;
use flow_plan::Batch;
use rusqlite::{Connection, Error, TransactionBehavior};
use tokio::sync::oneshot;

use super::rows;
use crate::channels::kept::Room;
use crate::channels::kept::pledges::Pledges;
use crate::channels::kept::store::Loaded;
use crate::sqlite::{fault_of, is_full};

/// Jobs that share a transaction.
const JOBS_MAX: usize = 1_000;

/// How often a full disk is looked at again.
const FULL_WAIT: Duration = Duration::from_millis(500);

pub enum Job {
    Put {
        first: i64,
        batch: Batch,
        added_ms: i64,
        bytes: u64,
    },
    /// Rows `from..end` each.
    Forget {
        ranges: Vec<(i64, i64)>,
        answer: oneshot::Sender<Result<(), Fault>>,
    },
    Load {
        from: i64,
        end: i64,
        bytes_max: u64,
        answer: oneshot::Sender<Result<Vec<Loaded>, Fault>>,
    },
}

/// What the thread and the channel both see.
pub struct Shared {
    pub pledges: Pledges,
    room: Room,
    /// Bytes given to the thread that are not written yet.
    pending: AtomicU64,
    /// What the next put is told.
    fault: Mutex<Option<Fault>>,
}

impl Shared {
    pub fn new(room: Room) -> Shared {
        Shared { pledges: Pledges::default(), room, pending: AtomicU64::new(0), fault: Mutex::default() }
    }

    /// Counts bytes on their way to the thread, if there is room; one put always has room.
    pub fn reserve(&self, bytes: u64, bytes_max: u64) -> bool {
        let more = |pending: u64| {
            let sum = pending.saturating_add(bytes);
            (pending == 0 || sum <= bytes_max).then_some(sum)
        };
        self.pending.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
    }

    pub fn take_fault(&self) -> Option<Fault> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn written(&self, bytes: u64) {
        let less = |pending: u64| Some(pending.saturating_sub(bytes));
        let _ = self.pending.fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
        self.room.notify_one();
    }
}

pub struct Worker {
    connection: Connection,
    path: PathBuf,
    table: String,
    slots: Arc<Vec<String>>,
    shared: Arc<Shared>,
    /// Rows that are safe elsewhere and could not be deleted yet.
    owed: Vec<(i64, i64)>,
    /// The full disk was told.
    told_full: bool,
}

/// Who waits for rows.
type Loads = oneshot::Sender<Result<Vec<Loaded>, Fault>>;

/// Jobs of one round.
#[derive(Default)]
struct Round {
    puts: Vec<(i64, Batch, i64, u64)>,
    forgets: Vec<oneshot::Sender<Result<(), Fault>>>,
    loads: Vec<(i64, i64, u64, Loads)>,
}

impl Worker {
    pub fn new(
        connection: Connection,
        path: &Path,
        table: &str,
        slots: Arc<Vec<String>>,
        shared: Arc<Shared>,
    ) -> Worker {
        Worker {
            connection,
            path: path.to_owned(),
            table: table.to_owned(),
            slots,
            shared,
            owed: Vec::new(),
            told_full: false,
        }
    }

    /// Works until the channel is gone and everything it gave is written, as far as that can be.
    pub fn run(mut self, jobs: &Receiver<Job>) {
        let mut round = Round::default();
        loop {
            let stuck = !round.puts.is_empty();
            let first = if stuck { jobs.recv_timeout(FULL_WAIT) } else { jobs.recv().map_err(Into::into) };
            let ended = match first {
                Ok(job) => {
                    self.sort(&mut round, job);
                    false
                }
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => true,
            };
            for job in jobs.try_iter().take(JOBS_MAX) {
                self.sort(&mut round, job);
            }
            self.write(&mut round);
            self.read(&mut round);
            if ended {
                return;
            }
        }
    }

    fn sort(&mut self, round: &mut Round, job: Job) {
        match job {
            Job::Put { first, batch, added_ms, bytes } => round.puts.push((first, batch, added_ms, bytes)),
            Job::Forget { ranges, answer } => {
                self.owed.extend(ranges);
                round.forgets.push(answer);
            }
            Job::Load { from, end, bytes_max, answer } => round.loads.push((from, end, bytes_max, answer)),
        }
    }

    /// Puts and commits in one transaction. A full disk leaves the puts in the round.
    fn write(&mut self, round: &mut Round) {
        if round.puts.is_empty() && self.owed.is_empty() {
            return;
        }
        match self.transact(&round.puts) {
            Ok(()) => {
                self.owed.clear();
                self.told_full = false;
                self.end_puts(round, |pledges, end| pledges.keep(end));
                for answer in round.forgets.drain(..) {
                    // Whoever asked may have given up.
                    let _ = answer.send(Ok(()));
                }
            }
            Err(error) => {
                let fault = fault_of(&self.path, "write to", &error);
                for answer in round.forgets.drain(..) {
                    // The rows are deleted with the next transaction.
                    let _ = answer.send(Err(fault.clone()));
                }
                if is_full(&error) {
                    if !std::mem::replace(&mut self.told_full, true) {
                        tracing::warn!(code = fault.code.unwrap_or_default(), "{fault}");
                    }
                    return;
                }
                *self.shared.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
                self.end_puts(round, |pledges, end| pledges.lose(end));
            }
        }
    }

    fn end_puts(&self, round: &mut Round, resolve: impl Fn(&Pledges, i64)) {
        let ends = round.puts.iter().map(|(first, batch, ..)| first + batch.len() as i64);
        if let Some(end) = ends.max() {
            resolve(&self.shared.pledges, end);
        }
        let bytes = round.puts.drain(..).map(|(.., bytes)| bytes).sum();
        self.shared.written(bytes);
    }

    fn transact(&mut self, puts: &[(i64, Batch, i64, u64)]) -> Result<(), Error> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for (first, batch, added_ms, _) in puts {
            rows::insert(&transaction, &self.table, &self.slots, (*first, batch, *added_ms))?;
        }
        rows::delete(&transaction, &self.table, &self.owed)?;
        transaction.commit()
    }

    fn read(&mut self, round: &mut Round) {
        // Rows that could not be written yet are not there yet: whoever wants them waits.
        let stuck = round.puts.iter().map(|(first, ..)| *first).min().unwrap_or(i64::MAX);
        let loads = std::mem::take(&mut round.loads);
        for (from, end, bytes_max, answer) in loads {
            if from >= stuck {
                round.loads.push((from, end, bytes_max, answer));
                continue;
            }
            let what = (from, end.min(stuck), bytes_max);
            let loaded = rows::load(&self.connection, &self.table, &self.slots, what)
                .map_err(|error| fault_of(&self.path, "read", &error));
            let _ = answer.send(loaded);
        }
    }
}
