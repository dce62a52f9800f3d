//! A channel over a store: who may put, who waits for room, what is taken next, in which order it comes back. What
//! was just put is also kept in memory, within a bound, so that a reader that keeps up never reads the store; or in
//! memory alone as long as that has room (`spill`). It must not know how a store keeps anything.
//!
//! # Order
//!
//! Events wait in a line of extents: batches in memory, and stretches of the store that are read when their turn has
//! come. Memory that becomes free is used by what is put next, behind the stretches, so the line is always in the
//! order of the puts. What was read or given back stands before all of them.

pub mod pledges;
mod state;
pub mod store;
#[cfg(test)]
mod tests;
mod transaction;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use flow_agent::{Channel, ChannelError, ChannelStatus, Fault, Rejected, Transaction};
use flow_plan::{Ack, Batch};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{Mutex as Turn, Notify};

use state::{Entry, Extent, State};
use store::{Found, Refused, Store};
use transaction::QueueTransaction;

/// Memory for events that are in the store as well, in bytes, of one channel.
pub const COPIES_BYTES_MAX: u64 = 16 << 20;

/// Batches in memory, of one channel: small ones cost more than their bytes.
pub const BATCHES_MAX: usize = 8_192;

/// About how much is read from the store at once, in bytes.
pub const LOAD_BYTES: u64 = 2 << 20;

/// Bytes that one transaction gives at most; the first event is given whatever its size.
pub const TAKE_BYTES_MAX: u64 = 16 << 20;

/// The bounds of a [`Queue`].
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Events in the store, waiting and taken together. At the bound `put` waits.
    pub events_max: u64,
    /// Bytes in the store.
    pub bytes_max: u64,
    /// Events that one transaction gives at most.
    pub take_events_max: u64,
    pub memory: Memory,
}

/// What memory is for.
#[derive(Clone, Copy, Debug)]
pub enum Memory {
    /// Copies of what the store has, in bytes at most.
    Copies { bytes_max: u64 },
    /// The first place for events; what does not fit goes to the store.
    First { events_max: u64, bytes_max: u64 },
}

/// Wakes a queue whose store had no room.
pub type Room = Arc<Notify>;

/// The channel. Dropping the last one leaves everything in the store.
pub struct Queue<S: Store> {
    shared: Arc<Shared<S>>,
}

struct Shared<S> {
    store: S,
    limits: Limits,
    state: Mutex<State>,
    /// Held by the put whose turn it is, while it waits for room and writes: puts enter in the order of arrival.
    turn: Turn<()>,
    /// Held while the store is read.
    loading: Turn<()>,
    /// There may be room.
    room: Room,
    /// Something can be taken, or never will be.
    readable: Notify,
    filled: Notify,
    /// Puts that had to wait.
    waiting: AtomicUsize,
}

/// What `take` does next.
enum Next {
    Give(Vec<Entry>),
    Load,
    Wait,
    End,
}

impl<S: Store> Queue<S> {
    /// A queue over a store and what that was found to hold. `room` is the one that the store wakes.
    pub fn new(store: S, found: Found, limits: Limits, room: Room) -> Queue<S> {
        let shared = Shared {
            store,
            limits,
            state: Mutex::new(State::of(found)),
            turn: Turn::new(()),
            loading: Turn::new(()),
            room,
            readable: Notify::new(),
            filled: Notify::new(),
            waiting: AtomicUsize::new(0),
        };
        Queue { shared: Arc::new(shared) }
    }
}

#[async_trait]
impl<S: Store> Channel for Queue<S> {
    async fn put(&self, mut batch: Batch) -> Result<(), ChannelError> {
        if batch.is_empty() {
            batch.ack.done();
            return Ok(());
        }
        let shared = &self.shared;
        let mut waiter = None;
        let _turn = match shared.turn.try_lock() {
            Ok(turn) => turn,
            Err(_) => {
                waiter = Some(shared.wait());
                shared.turn.lock().await
            }
        };
        loop {
            match shared.admit(batch) {
                Ok(()) => return Ok(()),
                Err(Denied::Closed(_)) => return Err(ChannelError::Closed),
                Err(Denied::Fault(_, fault)) => return Err(ChannelError::Fault(fault)),
                Err(Denied::Full(back)) => batch = back,
            }
            if waiter.is_none() {
                waiter = Some(shared.wait());
            }
            // One that comes between looking and waiting is kept by the notify: only the put whose turn it is waits.
            shared.room.notified().await;
        }
    }

    fn try_put(&self, batch: Batch) -> Result<(), Rejected> {
        if batch.is_empty() {
            batch.ack.done();
            return Ok(());
        }
        let Ok(_turn) = self.shared.turn.try_lock() else {
            let closed = self.shared.lock().closed;
            return Err(Rejected { batch, closed });
        };
        match self.shared.admit(batch) {
            Ok(()) => Ok(()),
            Err(Denied::Closed(batch)) => Err(Rejected { batch, closed: true }),
            Err(Denied::Full(batch)) => Err(Rejected { batch, closed: false }),
            // The store has told what is wrong with it.
            Err(Denied::Fault(batch, _)) => Err(Rejected { batch, closed: false }),
        }
    }

    async fn filled(&self, events: u64) {
        let shared = &self.shared;
        loop {
            let filled = shared.filled.notified();
            {
                let mut state = shared.lock();
                let enough = state.events() >= events || state.closed;
                if enough || shared.waiting.load(Ordering::Relaxed) > 0 {
                    state.wanted = 0;
                    return;
                }
                state.wanted = events;
            }
            filled.await;
        }
    }

    async fn take(&self, events_max: usize) -> Result<Option<Box<dyn Transaction>>, ChannelError> {
        let shared = &self.shared;
        let events_max = (events_max as u64).clamp(1, shared.limits.take_events_max.max(1));
        loop {
            // Made before looking, so that a put between looking and waiting is heard.
            let readable = shared.readable.notified();
            let (next, more) = {
                let mut state = shared.lock();
                (state.next(events_max), state.is_readable())
            };
            match next {
                Next::Give(entries) => {
                    if more {
                        shared.readable.notify_one();
                    }
                    return Ok(Some(Box::new(QueueTransaction::new(shared.clone(), entries))));
                }
                Next::Load => shared.load().await?,
                Next::End => {
                    shared.readable.notify_one();
                    return Ok(None);
                }
                Next::Wait => readable.await,
            }
        }
    }

    fn close(&self) {
        self.shared.lock().closed = true;
        self.shared.wake_all();
    }

    fn abandon(&self) {
        let dropped = {
            let mut state = self.shared.lock();
            state.closed = true;
            state.abandoned = true;
            state.drop_volatile()
        };
        // Outside of the lock: whoever hears of the loss may do anything.
        drop(dropped);
        self.shared.wake_all();
        blocking(|| self.shared.store.checkpoint());
    }

    fn status(&self) -> ChannelStatus {
        let limits = &self.shared.limits;
        let free = self.shared.store.bytes_free();
        let state = self.shared.lock();
        let (mut events_max, mut bytes) = (limits.events_max, state.stored_bytes);
        let mut bytes_max = limits.bytes_max.min(state.stored_bytes.saturating_add(free));
        if let Memory::First { events_max: events, bytes_max: size } = limits.memory {
            events_max = events_max.saturating_add(events);
            bytes = bytes.saturating_add(state.memory_bytes);
            bytes_max = bytes_max.saturating_add(size);
        }
        let oldest = state.oldest_ms();
        ChannelStatus {
            events: state.events(),
            bytes,
            events_max,
            bytes_max,
            oldest_ms: oldest.map_or(0, |since| u64::try_from(now_ms() - since).unwrap_or(0)),
        }
    }
}

/// A batch that was not let in.
enum Denied {
    Closed(Batch),
    Full(Batch),
    Fault(Batch, Fault),
}

impl<S: Store> Shared<S> {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is whole between statements: no user code runs under the lock.
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Takes the batch if there is room. The caller has the turn.
    fn admit(&self, mut batch: Batch) -> Result<(), Denied> {
        let (events, body_bytes) = (batch.len() as u64, batch.body_bytes());
        let added_ms = now_ms();
        {
            let mut state = self.lock();
            if state.closed {
                return Err(Denied::Closed(batch));
            }
            if self.fits_memory_first(&state, &batch) {
                let memory = bytes_held(&batch);
                state.push_volatile(batch, memory, added_ms);
                self.admitted(state);
                return Ok(());
            }
            let room = state.stored_events.saturating_add(events) <= self.limits.events_max
                && state.stored_bytes.saturating_add(body_bytes) <= self.limits.bytes_max;
            if !room && state.stored_events > 0 {
                return Err(Denied::Full(batch));
            }
            state.begin_append(events, body_bytes);
        }
        let appended = blocking(|| self.store.append(&batch, added_ms));
        let mut state = self.lock();
        match appended {
            Ok(stored) => {
                let ack = std::mem::replace(&mut batch.ack, Ack::none());
                let memory = bytes_held(&batch);
                let copy = match self.limits.memory {
                    Memory::Copies { bytes_max } => {
                        let room = state.memory_bytes.saturating_add(memory) <= bytes_max;
                        (room && state.memory_batches < BATCHES_MAX).then_some((batch, memory))
                    }
                    Memory::First { .. } => None,
                };
                state.end_append(events, body_bytes, stored, copy, added_ms);
                self.admitted(state);
                self.store.when_safe(stored, ack);
                Ok(())
            }
            Err(refused) => {
                state.undo_append(events, body_bytes);
                let closed = state.closed;
                drop(state);
                if closed {
                    self.readable.notify_one();
                }
                match refused {
                    Refused::Full => Err(Denied::Full(batch)),
                    Refused::Fault(fault) => Err(Denied::Fault(batch, fault)),
                }
            }
        }
    }

    fn fits_memory_first(&self, state: &State, batch: &Batch) -> bool {
        match self.limits.memory {
            Memory::Copies { .. } => false,
            Memory::First { events_max, bytes_max } => {
                state.memory_events.saturating_add(batch.len() as u64) <= events_max
                    && state.memory_bytes.saturating_add(bytes_held(batch)) <= bytes_max
                    && state.memory_batches < BATCHES_MAX
            }
        }
    }

    /// Something was let in.
    fn admitted(&self, state: MutexGuard<'_, State>) {
        let filled = state.wanted > 0 && state.events() >= state.wanted;
        drop(state);
        self.readable.notify_one();
        if filled {
            self.filled.notify_one();
        }
    }

    /// Reads the stretch of the store at the head of the line.
    async fn load(&self) -> Result<(), ChannelError> {
        let _loading = self.loading.lock().await;
        let wanted = {
            let state = self.lock();
            match state.extents.front() {
                Some(Extent::Stored { ends, .. }) if state.ready.is_empty() => {
                    Some((state.next.clone(), ends.clone()))
                }
                // Another reader has done it.
                _ => None,
            }
        };
        let Some((next, ends)) = wanted else { return Ok(()) };
        let loaded = self.store.load(&next, &ends, LOAD_BYTES).await.map_err(ChannelError::Fault)?;
        let gone = self.lock().accept(loaded);
        if gone > 0 {
            tracing::warn!("{gone} events that the channel had kept are not there any more");
            self.room.notify_one();
        }
        Ok(())
    }

    fn wait(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        if self.lock().wanted > 0 {
            self.filled.notify_one();
        }
        Waiting(&self.waiting)
    }

    fn wake_all(&self) {
        self.room.notify_one();
        self.readable.notify_one();
        self.filled.notify_one();
    }
}

/// A put that waits; gone also when the wait is given up.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Runs what may block on the disk: a worker of the multi-thread runtime hands its other tasks over first.
pub fn blocking<T>(work: impl FnOnce() -> T) -> T {
    let multi_thread = Handle::try_current()
        .is_ok_and(|handle| matches!(handle.runtime_flavor(), RuntimeFlavor::MultiThread));
    if multi_thread { tokio::task::block_in_place(work) } else { work() }
}

/// Milliseconds since 1970.
pub fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Memory that a batch keeps: its bodies, or its share of the arena among those that hold it now.
fn bytes_held(batch: &Batch) -> u64 {
    let holders = Arc::strong_count(&batch.columns).max(1) as u64;
    batch.body_bytes().max(batch.columns.arena.len() as u64 / holders)
}
