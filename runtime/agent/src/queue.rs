//! A transactional queue in memory, bounded in events and in bytes: the core of the memory channel and of whatever
//! else keeps events between two parts of a process. It keeps acknowledgements with the events and resolves them
//! when a transaction commits; it must not know settings, files or the network.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use flow_plan::Batch;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::traits::{Channel, ChannelError, ChannelStatus, Rejected, Transaction};

/// The bounds of a [`MemoryQueue`]. Zero counts as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLimits {
    /// Events kept, waiting and taken together. At the bound `put` waits.
    pub events_max: u64,
    /// Bytes of memory held by the events. At the bound `put` waits.
    pub bytes_max: u64,
    /// Events that one transaction gives at most, whatever `take` asks for.
    pub take_events_max: u64,
    /// Bytes that one transaction gives at most; the first event is given whatever its size.
    pub take_bytes_max: u64,
}

impl Default for QueueLimits {
    /// 10,000 events, 128 MiB; a transaction of at most 10,000 events or 16 MiB.
    fn default() -> QueueLimits {
        QueueLimits {
            events_max: 10_000,
            bytes_max: 128 << 20,
            take_events_max: 10_000,
            take_bytes_max: 16 << 20,
        }
    }
}

/// The queue. Cheap to clone; the clones are one queue.
///
/// * `put` waits in the order of arrival: one that does not fit holds those behind it, so that a large batch is
///   never starved by small ones. Each caller waits with one batch, so the waiting line is bounded by their number.
/// * A batch larger than the whole queue is taken when the queue is empty.
/// * Taken events count towards the bounds until they are committed.
/// * The bytes of a batch are its bodies, or its share of the arena that it holds in memory when that is more (a
///   filter that keeps one row of a thousand keeps the arena of the thousand): the bound is one of memory.
#[derive(Clone)]
pub struct MemoryQueue {
    shared: Arc<Shared>,
}

struct Shared {
    limits: QueueLimits,
    state: Mutex<State>,
    /// Something can be taken, or never will be.
    readable: Notify,
    /// What [`Channel::filled`] waits for may have come.
    filled: Notify,
}

#[derive(Default)]
struct State {
    /// Ready to be taken, by ascending position.
    ready: VecDeque<Entry>,
    /// Puts that wait for room, first come first served.
    waiting: VecDeque<Waiting>,
    /// Position and time of the first event of each open transaction.
    open: Vec<(u64, Instant)>,
    /// Kept here: ready and taken.
    events: u64,
    bytes: u64,
    /// Events accepted since the start: the position of the next one.
    next_position: u64,
    next_ticket: u64,
    /// How many events [`Channel::filled`] waits for; zero when nobody asks.
    wanted: u64,
    closed: bool,
    /// Nobody will take any more: what is given back is dropped.
    abandoned: bool,
}

struct Entry {
    batch: Batch,
    bytes: u64,
    /// How many events came before: keeps the order when transactions are given back.
    position: u64,
    since: Instant,
}

struct Waiting {
    ticket: u64,
    batch: Batch,
    bytes: u64,
    accepted: oneshot::Sender<()>,
}

impl MemoryQueue {
    pub fn new(limits: QueueLimits) -> MemoryQueue {
        let limits = QueueLimits {
            events_max: limits.events_max.max(1),
            bytes_max: limits.bytes_max.max(1),
            take_events_max: limits.take_events_max.max(1),
            take_bytes_max: limits.take_bytes_max.max(1),
        };
        MemoryQueue {
            shared: Arc::new(Shared {
                limits,
                state: Mutex::new(State::default()),
                readable: Notify::new(),
                filled: Notify::new(),
            }),
        }
    }

    pub fn limits(&self) -> QueueLimits {
        self.shared.limits
    }
}

#[async_trait]
impl Channel for MemoryQueue {
    async fn put(&self, batch: Batch) -> Result<(), ChannelError> {
        if batch.is_empty() {
            batch.ack.done();
            return Ok(());
        }
        let bytes = bytes_held(&batch);
        let (ticket, accepted) = {
            let mut state = self.shared.lock();
            if state.closed {
                return Err(ChannelError::Closed);
            }
            if state.waiting.is_empty() && self.shared.fits(&state, batch.len() as u64, bytes) {
                state.admit(batch, bytes);
                self.shared.admitted(state);
                return Ok(());
            }
            let (sender, accepted) = oneshot::channel();
            let ticket = state.next_ticket;
            state.next_ticket += 1;
            state.waiting.push_back(Waiting { ticket, batch, bytes, accepted: sender });
            if state.wanted > 0 {
                self.shared.filled.notify_one();
            }
            (ticket, accepted)
        };
        let _leave = LeaveLine { shared: &self.shared, ticket };
        accepted.await.map_err(|_| ChannelError::Closed)
    }

    fn try_put(&self, batch: Batch) -> Result<(), Rejected> {
        if batch.is_empty() {
            batch.ack.done();
            return Ok(());
        }
        let bytes = bytes_held(&batch);
        let mut state = self.shared.lock();
        if state.closed {
            return Err(Rejected { batch, closed: true });
        }
        if !state.waiting.is_empty() || !self.shared.fits(&state, batch.len() as u64, bytes) {
            return Err(Rejected { batch, closed: false });
        }
        state.admit(batch, bytes);
        self.shared.admitted(state);
        Ok(())
    }

    async fn filled(&self, events: u64) {
        loop {
            let filled = self.shared.filled.notified();
            {
                let mut state = self.shared.lock();
                if state.events >= events || !state.waiting.is_empty() || state.closed {
                    state.wanted = 0;
                    return;
                }
                state.wanted = events;
            }
            filled.await;
        }
    }

    async fn take(&self, events_max: usize) -> Result<Option<Box<dyn Transaction>>, ChannelError> {
        let events_max = (events_max as u64).clamp(1, self.shared.limits.take_events_max);
        loop {
            // Made before looking, so that a put between looking and waiting is heard.
            let readable = self.shared.readable.notified();
            {
                let mut state = self.shared.lock();
                if !state.ready.is_empty() {
                    let transaction = self.shared.begin(&mut state, events_max);
                    if !state.ready.is_empty() {
                        self.shared.readable.notify_one();
                    }
                    return Ok(Some(Box::new(transaction)));
                }
                // An open transaction may still be given back.
                if state.closed && state.open.is_empty() {
                    self.shared.readable.notify_one();
                    return Ok(None);
                }
            }
            readable.await;
        }
    }

    fn close(&self) {
        let waiting = {
            let mut state = self.shared.lock();
            state.closed = true;
            std::mem::take(&mut state.waiting)
        };
        // Their senders hear `Closed`, their sources that the events are lost.
        drop(waiting);
        self.shared.readable.notify_one();
        self.shared.filled.notify_one();
    }

    fn abandon(&self) {
        self.close();
        let ready = {
            let mut state = self.shared.lock();
            state.abandoned = true;
            let ready = std::mem::take(&mut state.ready);
            for entry in &ready {
                state.release(entry.batch.len() as u64, entry.bytes);
            }
            ready
        };
        drop(ready);
        self.shared.readable.notify_one();
    }

    fn status(&self) -> ChannelStatus {
        let state = self.shared.lock();
        let first = state.ready.front().map(|entry| entry.since);
        let oldest = state.open.iter().map(|(_, since)| *since).chain(first).min();
        ChannelStatus {
            events: state.events,
            bytes: state.bytes,
            events_max: self.shared.limits.events_max,
            bytes_max: self.shared.limits.bytes_max,
            oldest_ms: oldest.map_or(0, |since| since.elapsed().as_millis() as u64),
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is whole between statements: no user code runs under the lock.
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Something was let in.
    fn admitted(&self, state: MutexGuard<'_, State>) {
        let filled = state.wanted > 0 && state.events >= state.wanted;
        drop(state);
        self.readable.notify_one();
        if filled {
            self.filled.notify_one();
        }
    }

    fn fits(&self, state: &State, events: u64, bytes: u64) -> bool {
        let room = state.events.saturating_add(events) <= self.limits.events_max
            && state.bytes.saturating_add(bytes) <= self.limits.bytes_max;
        room || state.events == 0
    }

    /// Lets in those at the head of the line that fit now.
    fn admit_waiting(&self, state: &mut State) {
        let mut admitted = false;
        while let Some(first) = state.waiting.front() {
            if !self.fits(state, first.batch.len() as u64, first.bytes) {
                break;
            }
            if let Some(waiting) = state.waiting.pop_front() {
                state.admit(waiting.batch, waiting.bytes);
                // A caller that has just given up hears nothing; its events are here with their acknowledgement.
                let _ = waiting.accepted.send(());
                admitted = true;
            }
        }
        if admitted {
            self.readable.notify_one();
        }
    }

    /// Moves events from the front into a transaction, splitting the last batch when it does not fit whole.
    fn begin(self: &Arc<Self>, state: &mut State, events_max: u64) -> QueueTransaction {
        let mut batches = Vec::new();
        let mut parts = Vec::new();
        let (mut events, mut bytes) = (0u64, 0u64);
        while let Some(entry) = state.ready.front_mut() {
            let count = entry.batch.len() as u64;
            let mut fit = count.min(events_max - events);
            if bytes + entry.bytes > self.limits.take_bytes_max {
                // Events of a batch count as equally large: close enough for a bound on a transaction.
                let room = self.limits.take_bytes_max.saturating_sub(bytes);
                fit = fit.min((u128::from(room) * u128::from(count) / u128::from(entry.bytes.max(1))) as u64);
            }
            if fit == 0 && !batches.is_empty() {
                break;
            }
            let fit = fit.max(1);
            let taken = if fit >= count {
                state.ready.pop_front()
            } else {
                let rest = entry.batch.split_off(fit as usize);
                let first = std::mem::replace(&mut entry.batch, rest);
                let first_bytes = (u128::from(entry.bytes) * u128::from(fit) / u128::from(count)) as u64;
                let taken =
                    Entry { batch: first, bytes: first_bytes, position: entry.position, since: entry.since };
                entry.bytes -= first_bytes;
                entry.position += fit;
                Some(taken)
            };
            let Some(taken) = taken else { break };
            events += fit;
            bytes += taken.bytes;
            batches.push(taken.batch);
            parts.push(Part { bytes: taken.bytes, position: taken.position, since: taken.since });
            if events >= events_max || bytes >= self.limits.take_bytes_max {
                break;
            }
        }
        if let Some(first) = parts.first() {
            state.open.push((first.position, first.since));
        }
        QueueTransaction { shared: self.clone(), batches, parts }
    }
}

impl State {
    fn admit(&mut self, batch: Batch, bytes: u64) {
        let events = batch.len() as u64;
        self.events += events;
        self.bytes += bytes;
        let entry = Entry { batch, bytes, position: self.next_position, since: Instant::now() };
        self.next_position += events;
        self.ready.push_back(entry);
    }

    fn release(&mut self, events: u64, bytes: u64) {
        debug_assert!(self.events >= events && self.bytes >= bytes);
        self.events = self.events.saturating_sub(events);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    fn end_transaction(&mut self, position: u64) {
        if let Some(index) = self.open.iter().position(|(open, _)| *open == position) {
            self.open.swap_remove(index);
        }
    }
}

/// Leaves the waiting line when a put is given up.
struct LeaveLine<'a> {
    shared: &'a Shared,
    ticket: u64,
}

impl Drop for LeaveLine<'_> {
    fn drop(&mut self) {
        let left = {
            let mut state = self.shared.lock();
            let index = state.waiting.iter().position(|waiting| waiting.ticket == self.ticket);
            let left = index.and_then(|index| state.waiting.remove(index));
            if left.is_some() {
                // It may have been the one that held the others.
                self.shared.admit_waiting(&mut state);
            }
            left
        };
        drop(left);
    }
}

struct Part {
    bytes: u64,
    position: u64,
    since: Instant,
}

struct QueueTransaction {
    shared: Arc<Shared>,
    batches: Vec<Batch>,
    parts: Vec<Part>,
}

#[async_trait]
impl Transaction for QueueTransaction {
    fn batches(&self) -> &[Batch] {
        &self.batches
    }

    async fn commit(mut self: Box<Self>) -> Result<(), ChannelError> {
        let batches = std::mem::take(&mut self.batches);
        let parts = std::mem::take(&mut self.parts);
        {
            let mut state = self.shared.lock();
            for (batch, part) in batches.iter().zip(&parts) {
                state.release(batch.len() as u64, part.bytes);
            }
            if let Some(first) = parts.first() {
                state.end_transaction(first.position);
            }
            self.shared.admit_waiting(&mut state);
        }
        self.shared.readable.notify_one();
        // Outside the lock: whoever hears of it may do anything.
        for batch in batches {
            batch.ack.done();
        }
        Ok(())
    }
}

impl Drop for QueueTransaction {
    fn drop(&mut self) {
        if self.parts.is_empty() {
            return;
        }
        let shared = self.shared.clone();
        let mut state = shared.lock();
        state.end_transaction(self.parts[0].position);
        if state.abandoned {
            for (batch, part) in self.batches.iter().zip(&self.parts) {
                state.release(batch.len() as u64, part.bytes);
            }
            // The batches are dropped with the transaction, outside the lock.
            return;
        }
        let parts = self.parts.drain(..);
        for (batch, part) in self.batches.drain(..).zip(parts).rev() {
            let entry = Entry { batch, bytes: part.bytes, position: part.position, since: part.since };
            let index = state.ready.partition_point(|known| known.position < entry.position);
            state.ready.insert(index, entry);
        }
        drop(state);
        shared.readable.notify_one();
    }
}

/// Memory that a batch keeps: its bodies, or its share of the arena among those that hold it now.
fn bytes_held(batch: &Batch) -> u64 {
    let holders = Arc::strong_count(&batch.columns).max(1) as u64;
    batch.body_bytes().max(batch.columns.arena.len() as u64 / holders)
}
