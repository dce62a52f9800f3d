//! What a source has handed over and no channel has yet: a bounded number of batches in their order. Workers run the
//! program over several of them at once; what comes out enters the channels in the order in which the source gave
//! the batches. It must not know what a source or a program is made of.
//!
//! # When it is used
//!
//! A batch that finds the window empty is run on the task of its source when the source had been waiting for input,
//! or when the program needs so little that handing over would cost as much. So a flow with little to do has no
//! hops between threads, and one whose source is faster than its program uses the other cores.
//!
//! # Faults
//!
//! A batch that cannot be delivered is lost to its source, and so are those behind it that somebody repeats:
//! otherwise they would overtake it. Those that nobody repeats go on. The source hears of the fault with its next
//! batch, or at its end.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context as TaskContext, Waker};
use std::time::Duration;

use flow_plan::Batch;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

use super::executors::Ran;
use super::guard::guarded;
use super::pipe::{Patience, Pipe, PipeError};
use crate::status::Phase;

/// Batches of one source in the window, for each of its workers: one that runs, one that waits to run, one that
/// waits for those before it. At the bound the source waits.
pub const WINDOW_BATCHES_PER_WORKER: usize = 3;

/// Memory held by the batches of one window, in bytes. At the bound the source waits; a larger batch never enters,
/// it runs on the task of its source.
pub const WINDOW_BYTES_MAX: u64 = 8 << 20;

/// The same for all windows of a run together. At the bound a source waits for its own batches; one that has none
/// here goes on without its window.
pub const WINDOWS_BYTES_MAX: u64 = 16 << 20;

/// Memory that all windows of a run hold, in bytes.
#[derive(Default)]
pub(super) struct Crew(AtomicU64);

/// A part of it.
struct Share {
    crew: Arc<Crew>,
    bytes: u64,
}

pub(super) struct Limits {
    workers_max: usize,
    overlap_from: Duration,
    crew: Arc<Crew>,
}

pub(super) struct Window(Arc<Shared>);

struct Shared {
    pipe: Arc<Pipe>,
    phase: watch::Receiver<Phase>,
    limits: Limits,
    state: Mutex<State>,
    /// A batch has left, or nothing will move any more.
    moved: Notify,
}

#[derive(Default)]
struct State {
    /// In the order of the source.
    entries: VecDeque<Entry>,
    /// Number of the first entry: how many have left.
    first: u64,
    /// How many of the entries were given to workers.
    started: usize,
    workers: usize,
    /// Somebody is putting the first entry into its channels.
    delivering: bool,
    /// What the source has not heard of yet.
    error: Option<PipeError>,
    /// Entries with lower numbers were given before the source heard of the last error.
    given_up: u64,
    /// The source is gone for good.
    closed: bool,
    /// The task that waits for room, when there is one.
    delivery: Option<AbortHandle>,
}

struct Entry {
    share: Share,
    /// Somebody would bring the batch again.
    repeatable: bool,
    stage: Stage,
}

enum Stage {
    Waiting(Batch),
    Running,
    Ran(Result<Ran, PipeError>),
    /// Behind one that was lost.
    GivenUp,
    Delivering,
}

/// What becomes of a batch that is given to the window.
pub(super) enum Given {
    Taken,
    /// To be run by the caller.
    Back(Batch),
}

impl Limits {
    pub fn new(workers_max: usize, overlap_from: Duration, crew: Arc<Crew>) -> Limits {
        Limits { workers_max, overlap_from, crew }
    }
}

impl Window {
    pub fn new(pipe: Arc<Pipe>, phase: watch::Receiver<Phase>, limits: Limits) -> Window {
        let (state, moved) = (Mutex::default(), Notify::new());
        Window(Arc::new(Shared { pipe, phase, limits, state, moved }))
    }

    /// Takes a batch as soon as there is room, or gives it back when it is better run at once. `pressed`: the source
    /// had more input waiting. Callers one at a time. When the wait is given up the batch is lost.
    pub async fn give(&self, mut batch: Batch, pressed: bool) -> Result<Given, PipeError> {
        let shared = &self.0;
        loop {
            // Made before looking, so that no move between looking and waiting is missed.
            let mut moved = pin!(shared.moved.notified());
            moved.as_mut().enable();
            {
                let mut state = shared.lock();
                state.told()?;
                if state.entries.is_empty() && !(pressed && shared.is_worth_it()) {
                    return Ok(Given::Back(batch));
                }
                batch = match shared.enter(&mut state, batch) {
                    Ok(()) => return Ok(Given::Taken),
                    Err(batch) if state.entries.is_empty() => return Ok(Given::Back(batch)),
                    Err(batch) => batch,
                };
            }
            moved.await;
        }
    }

    /// Waits until the window is empty, and gives the error that the source has not heard of.
    pub async fn empty(&self) -> Result<(), PipeError> {
        loop {
            let mut moved = pin!(self.0.moved.notified());
            moved.as_mut().enable();
            {
                let mut state = self.0.lock();
                if state.entries.is_empty() {
                    return state.told();
                }
            }
            moved.await;
        }
    }

    /// Nothing is run or delivered any more; what is here is lost.
    pub fn abandon(&self) {
        let (entries, delivery) = {
            let mut state = self.0.lock();
            state.closed = true;
            state.first += state.entries.len() as u64;
            state.started = 0;
            (std::mem::take(&mut state.entries), state.delivery.take())
        };
        if let Some(delivery) = delivery {
            delivery.abort();
        }
        self.0.moved.notify_waiters();
        // Outside of the lock: whoever hears of the loss may do anything.
        drop(entries);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // It is whole between statements.
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn is_worth_it(&self) -> bool {
        self.limits.workers_max > 1 && self.pipe.executors.cost() >= self.limits.overlap_from
    }

    fn workers_max(&self) -> usize {
        if self.pipe.executors.keeps_state() { 1 } else { self.limits.workers_max.max(1) }
    }

    fn enter(self: &Arc<Self>, state: &mut State, batch: Batch) -> Result<(), Batch> {
        let bytes = batch.columns.arena.len() as u64;
        let held: u64 = state.entries.iter().map(|entry| entry.share.bytes).sum();
        let workers_max = self.workers_max();
        if state.entries.len() >= workers_max * WINDOW_BATCHES_PER_WORKER || held + bytes > WINDOW_BYTES_MAX {
            return Err(batch);
        }
        let Some(share) = self.limits.crew.share(bytes) else { return Err(batch) };
        let repeatable = batch.ack.is_open();
        state.entries.push_back(Entry { share, repeatable, stage: Stage::Waiting(batch) });
        if state.workers < workers_max {
            state.workers += 1;
            let shared = self.clone();
            // It ends by itself as soon as nothing waits.
            drop(tokio::task::spawn_blocking(move || shared.work()));
        }
        Ok(())
    }

    /// Runs batches until none waits. On a thread of its own: a task that is made by another one would wait for
    /// that one's thread.
    fn work(self: &Arc<Self>) {
        loop {
            let next = {
                let mut state = self.lock();
                let next = state.start();
                state.workers -= usize::from(next.is_none());
                next
            };
            let Some((number, batch)) = next else { return };
            if let Some(batch) = batch {
                let ran = self.pipe.run(batch);
                self.lock().ran(number, ran);
            }
            self.deliver();
        }
    }

    /// Puts into the channels what is ready, in order, unless somebody else is at it: then they go on with it. What
    /// has to wait for room does so as a task.
    fn deliver(self: &Arc<Self>) {
        let mut delivering = Box::pin(self.clone().deliver_all());
        // The wake-up is not missed: as a task it is polled again.
        let mut context = TaskContext::from_waker(Waker::noop());
        if delivering.as_mut().poll(&mut context).is_pending() {
            let mut state = self.lock();
            if !state.closed {
                state.delivery = Some(tokio::spawn(delivering).abort_handle());
                return;
            }
            drop(state);
            // Outside of the lock: whoever hears of the loss may do anything.
            drop(delivering);
        }
    }

    async fn deliver_all(self: Arc<Self>) {
        loop {
            let Some(ran) = self.lock().begin_delivery() else { return };
            let delivered = match ran {
                None => Ok(()),
                Some(Err(error)) => Err(error),
                Some(Ok(ran)) => guarded(self.put(ran))
                    .await
                    .unwrap_or_else(|panic| Err(PipeError::Fault(panic)))
                    .inspect_err(|_| self.pipe.reset()),
            };
            let left = self.lock().end_delivery(delivered);
            self.moved.notify_waiters();
            drop(left);
        }
    }

    async fn put(&self, ran: Ran) -> Result<(), PipeError> {
        let outputs = self.pipe.keep(ran)?;
        let mut patience = Patience::of_source(&self.phase);
        self.pipe.deliver(outputs, &mut patience).await?;
        Ok(())
    }
}

impl State {
    /// The error that the source has not heard of; what it gave before is given up with it.
    fn told(&mut self) -> Result<(), PipeError> {
        if let Some(error) = self.error.take() {
            self.given_up = self.first + self.entries.len() as u64;
            return Err(error);
        }
        if self.closed { Err(PipeError::Stopped) } else { Ok(()) }
    }

    fn gives_up(&self, number: u64, repeatable: bool) -> bool {
        repeatable && (self.error.is_some() || number < self.given_up)
    }

    /// The next entry for a worker; without its batch when that is given up.
    fn start(&mut self) -> Option<(u64, Option<Batch>)> {
        let number = self.first + self.started as u64;
        let gives_up = self.entries.get(self.started).map(|entry| self.gives_up(number, entry.repeatable))?;
        let entry = self.entries.get_mut(self.started)?;
        self.started += 1;
        let stage = if gives_up { Stage::GivenUp } else { Stage::Running };
        match std::mem::replace(&mut entry.stage, stage) {
            Stage::Waiting(batch) if !gives_up => Some((number, Some(batch))),
            _ => Some((number, None)),
        }
    }

    fn ran(&mut self, number: u64, ran: Result<Ran, PipeError>) {
        // Abandoned meanwhile: the entry is gone.
        let index = number.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        if let Some(entry) = index.and_then(|index| self.entries.get_mut(index)) {
            entry.stage = Stage::Ran(ran);
        }
    }

    /// What the first entry has for the channels, if it is ready and nobody is at it; nothing when it is given up.
    fn begin_delivery(&mut self) -> Option<Option<Result<Ran, PipeError>>> {
        if self.delivering {
            return None;
        }
        let gives_up = self.entries.front().map(|entry| self.gives_up(self.first, entry.repeatable))?;
        let entry = self.entries.front_mut()?;
        let ran = match std::mem::replace(&mut entry.stage, Stage::Delivering) {
            Stage::Ran(ran) => Some(ran).filter(|_| !gives_up),
            Stage::GivenUp => None,
            earlier => {
                entry.stage = earlier;
                return None;
            }
        };
        self.delivering = true;
        Some(ran)
    }

    fn end_delivery(&mut self, delivered: Result<(), PipeError>) -> Option<Entry> {
        self.delivering = false;
        if let Err(error) = delivered {
            self.error.get_or_insert(error);
        }
        if self.closed {
            return None;
        }
        self.first += 1;
        self.started = self.started.saturating_sub(1);
        self.entries.pop_front()
    }
}

impl Crew {
    /// A share of that size, if there is room.
    fn share(self: &Arc<Self>, bytes: u64) -> Option<Share> {
        let more = |held: u64| held.checked_add(bytes).filter(|held| *held <= WINDOWS_BYTES_MAX);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Share { crew: self.clone(), bytes })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.crew.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
