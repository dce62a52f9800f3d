//! The line of events of a [`super::Queue`], in plain data: what stands where, what is counted. It neither waits nor
//! writes.

use std::collections::VecDeque;

use flow_plan::Batch;

use super::store::{Found, Loaded, Place, Stored};
use super::{Next, TAKE_BYTES_MAX};

/// Everything that the lock of a queue protects.
#[derive(Default)]
pub struct State {
    /// Read from the store or given back, before everything else, ascending.
    pub ready: VecDeque<Entry>,
    pub extents: VecDeque<Extent>,
    /// By lane: where reading of the store goes on.
    pub next: Vec<i64>,
    /// By lane: one past the last event written.
    ends: Vec<i64>,
    /// Number and time of the first event of each open transaction.
    open: Vec<(u64, i64)>,
    /// In the store: waiting, taken and being written.
    pub stored_events: u64,
    pub stored_bytes: u64,
    /// In memory, copies and others, waiting and taken.
    pub memory_events: u64,
    pub memory_bytes: u64,
    pub memory_batches: usize,
    /// In memory alone.
    volatile_events: u64,
    next_number: u64,
    /// A put is writing.
    appending: bool,
    /// How many events [`flow_agent::Channel::filled`] waits for; zero when nobody asks.
    pub wanted: u64,
    pub closed: bool,
    /// Nobody will take any more.
    pub abandoned: bool,
}

/// A batch that stands in the line.
#[derive(Debug)]
pub struct Entry {
    pub batch: Batch,
    /// Numbers events in the order of the puts since the start: keeps the order when transactions are given back.
    pub number: u64,
    /// Nowhere: in memory alone.
    pub place: Option<Place>,
    /// Of the store.
    pub bytes: u64,
    /// Bytes of memory that are counted for it, if any are.
    pub memory: Option<u64>,
    pub added_ms: i64,
}

/// A piece of the line.
pub enum Extent {
    Memory(Entry),
    /// Events to be read from the store.
    Stored {
        number: u64,
        events: u64,
        /// By lane: one past the last.
        ends: Vec<i64>,
        /// When the first was put.
        added_ms: i64,
    },
}

impl State {
    pub fn of(found: Found) -> State {
        let mut state = State {
            next: found.next,
            ends: found.ends.clone(),
            stored_events: found.events,
            stored_bytes: found.bytes,
            next_number: found.events,
            ..State::default()
        };
        if found.events > 0 {
            let added_ms = found.oldest_ms.unwrap_or_else(super::now_ms);
            state.extents.push_back(Extent::Stored {
                number: 0,
                events: found.events,
                ends: found.ends,
                added_ms,
            });
        }
        state
    }

    /// Events held, wherever they are.
    pub fn events(&self) -> u64 {
        self.stored_events + self.volatile_events
    }

    pub fn oldest_ms(&self) -> Option<i64> {
        let waiting = match (self.ready.front(), self.extents.front()) {
            (Some(entry), _) | (None, Some(Extent::Memory(entry))) => Some(entry.added_ms),
            (None, Some(Extent::Stored { added_ms, .. })) => Some(*added_ms),
            (None, None) => None,
        };
        self.open.iter().map(|(_, since)| *since).chain(waiting).min()
    }

    pub fn push_volatile(&mut self, batch: Batch, memory: u64, added_ms: i64) {
        let events = batch.len() as u64;
        let number = self.number(events);
        self.volatile_events += events;
        self.count_memory(events, memory);
        let entry = Entry { batch, number, place: None, bytes: 0, memory: Some(memory), added_ms };
        self.extents.push_back(Extent::Memory(entry));
    }

    /// Counts what is about to be written, so that nobody else uses its room.
    pub fn begin_append(&mut self, events: u64, bytes: u64) {
        self.appending = true;
        self.stored_events += events;
        self.stored_bytes += bytes;
    }

    pub fn undo_append(&mut self, events: u64, bytes: u64) {
        self.appending = false;
        self.release_stored(events, bytes);
    }

    /// What was written takes its place in the line: in memory too, or as a stretch of the store.
    pub fn end_append(
        &mut self,
        events: u64,
        bytes: u64,
        stored: Stored,
        copy: Option<(Batch, u64)>,
        added_ms: i64,
    ) {
        self.appending = false;
        self.stored_bytes = self.stored_bytes.saturating_sub(bytes).saturating_add(stored.bytes);
        let number = self.number(events);
        let lane = stored.place.lane as usize;
        if let Some(end) = self.ends.get_mut(lane) {
            *end = stored.place.end;
        }
        if let Some((batch, memory)) = copy {
            self.count_memory(events, memory);
            let place = Some(stored.place);
            let entry = Entry { batch, number, place, bytes: stored.bytes, memory: Some(memory), added_ms };
            self.extents.push_back(Extent::Memory(entry));
            return;
        }
        if let Some(Extent::Stored { events: known, ends, .. }) = self.extents.back_mut() {
            *known += events;
            if let Some(end) = ends.get_mut(lane) {
                *end = stored.place.end;
            }
            return;
        }
        self.extents.push_back(Extent::Stored { number, events, ends: self.ends.clone(), added_ms });
    }

    /// Takes what was read from the store for the stretch at the head of the line. Gives how many events of it are
    /// gone.
    pub fn accept(&mut self, loaded: Vec<Loaded>) -> u64 {
        let Some(Extent::Stored { mut number, mut events, ends, mut added_ms }) = self.extents.pop_front()
        else {
            return 0;
        };
        let mut gone = 0;
        let nothing = loaded.is_empty();
        for one in loaded {
            let count = one.batch.len() as u64;
            let missing = one.gone.min(events);
            gone += missing;
            events = events.saturating_sub(missing + count);
            number += missing;
            if let Some(next) = self.next.get_mut(one.place.lane as usize) {
                *next = one.place.end;
            }
            added_ms = one.added_ms;
            let (place, bytes) = (Some(one.place), one.bytes);
            self.ready.push_back(Entry { batch: one.batch, number, place, bytes, memory: None, added_ms });
            number += count;
        }
        let read_all = self.next.iter().zip(&ends).all(|(next, end)| next >= end);
        if nothing || read_all {
            // What should be there and is not.
            gone += events;
            for (next, end) in self.next.iter_mut().zip(&ends) {
                *next = (*next).max(*end);
            }
        } else {
            self.extents.push_front(Extent::Stored { number, events, ends, added_ms });
        }
        self.release_stored(gone, 0);
        gone
    }

    /// What a reader gets, or has to do.
    pub fn next(&mut self, events_max: u64) -> Next {
        if self.abandoned {
            return Next::End;
        }
        match (self.ready.front(), self.extents.front()) {
            (Some(_), _) | (None, Some(Extent::Memory(_))) => Next::Give(self.begin(events_max)),
            (None, Some(Extent::Stored { .. })) => Next::Load,
            // An open transaction may still be given back.
            (None, None) if self.closed && self.open.is_empty() && !self.appending => Next::End,
            (None, None) => Next::Wait,
        }
    }

    /// Something can be taken without a wait.
    pub fn is_readable(&self) -> bool {
        !self.ready.is_empty() || !self.extents.is_empty()
    }

    /// Moves entries from the front into a transaction, splitting the last one when it does not fit whole.
    fn begin(&mut self, events_max: u64) -> Vec<Entry> {
        let mut taken: Vec<Entry> = Vec::new();
        let (mut events, mut bytes) = (0, 0);
        while events < events_max && bytes < TAKE_BYTES_MAX {
            let Some(mut entry) = self.pop() else { break };
            let count = entry.batch.len() as u64;
            let size = entry.batch.body_bytes();
            let mut fit = count.min(events_max - events);
            if bytes + size > TAKE_BYTES_MAX {
                // Events of a batch count as equally large: close enough for a bound on a transaction.
                fit = fit.min(part_of(TAKE_BYTES_MAX - bytes, count, size));
            }
            if fit == 0 && !taken.is_empty() {
                self.ready.push_front(entry);
                break;
            }
            let fit = fit.max(1);
            if fit < count {
                let rest = entry.split_off(fit);
                self.memory_batches += usize::from(rest.memory.is_some());
                self.ready.push_front(rest);
            }
            events += fit;
            bytes += entry.batch.body_bytes();
            taken.push(entry);
        }
        if let Some(first) = taken.first() {
            self.open.push((first.number, first.added_ms));
        }
        taken
    }

    /// The first entry of the line, unless a stretch of the store stands there.
    fn pop(&mut self) -> Option<Entry> {
        if let Some(entry) = self.ready.pop_front() {
            return Some(entry);
        }
        if !matches!(self.extents.front(), Some(Extent::Memory(_))) {
            return None;
        }
        let Some(Extent::Memory(entry)) = self.extents.pop_front() else { return None };
        if let Some(place) = &entry.place
            && let Some(next) = self.next.get_mut(place.lane as usize)
        {
            // It need not be read any more.
            *next = (*next).max(place.end);
        }
        Some(entry)
    }

    /// Ends a transaction whose events are safe elsewhere.
    pub fn commit(&mut self, entries: &[Entry]) {
        self.end_transaction(entries);
        for entry in entries {
            self.release(entry);
        }
    }

    /// Ends a transaction whose events come again. Gives what nobody will take any more.
    pub fn give_back(&mut self, entries: Vec<Entry>) -> Vec<Entry> {
        self.end_transaction(&entries);
        let mut dropped = Vec::new();
        for entry in entries.into_iter().rev() {
            if self.abandoned && entry.place.is_none() {
                self.release(&entry);
                dropped.push(entry);
                continue;
            }
            let index = self.ready.partition_point(|known| known.number < entry.number);
            self.ready.insert(index, entry);
        }
        dropped
    }

    /// What is in memory alone leaves the line.
    pub fn drop_volatile(&mut self) -> Vec<Entry> {
        let mut dropped = Vec::new();
        for entry in std::mem::take(&mut self.ready) {
            if entry.place.is_none() { dropped.push(entry) } else { self.ready.push_back(entry) }
        }
        for extent in std::mem::take(&mut self.extents) {
            match extent {
                Extent::Memory(entry) if entry.place.is_none() => dropped.push(entry),
                extent => self.extents.push_back(extent),
            }
        }
        for entry in &dropped {
            self.release(entry);
        }
        dropped
    }

    fn end_transaction(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        if let Some(index) = self.open.iter().position(|(number, _)| *number == first.number) {
            self.open.swap_remove(index);
        }
    }

    fn release(&mut self, entry: &Entry) {
        let events = entry.batch.len() as u64;
        if let Some(memory) = entry.memory {
            self.memory_events = self.memory_events.saturating_sub(events);
            self.memory_bytes = self.memory_bytes.saturating_sub(memory);
            self.memory_batches = self.memory_batches.saturating_sub(1);
        }
        match entry.place {
            Some(_) => self.release_stored(events, entry.bytes),
            None => self.volatile_events = self.volatile_events.saturating_sub(events),
        }
    }

    fn release_stored(&mut self, events: u64, bytes: u64) {
        self.stored_events = self.stored_events.saturating_sub(events);
        self.stored_bytes = self.stored_bytes.saturating_sub(bytes);
        if self.stored_events == 0 {
            // Bytes found at the start are an estimate.
            self.stored_bytes = 0;
        }
    }

    fn count_memory(&mut self, events: u64, bytes: u64) {
        self.memory_events += events;
        self.memory_bytes += bytes;
        self.memory_batches += 1;
    }

    fn number(&mut self, events: u64) -> u64 {
        let number = self.next_number;
        self.next_number += events;
        number
    }
}

impl Entry {
    /// Keeps the first `count` events here and gives back the rest.
    fn split_off(&mut self, count: u64) -> Entry {
        let all = self.batch.len() as u64;
        let batch = self.batch.split_off(usize::try_from(count).unwrap_or(usize::MAX));
        let bytes = part_of(self.bytes, count, all);
        let memory = self.memory.map(|memory| part_of(memory, count, all));
        let rest = Entry {
            batch,
            number: self.number + count,
            place: self.place.map(|place| Place { start: place.start + count as i64, ..place }),
            bytes: self.bytes - bytes,
            memory: self.memory.zip(memory).map(|(all, first)| all - first),
            added_ms: self.added_ms,
        };
        self.place = self.place.map(|place| Place { end: place.start + count as i64, ..place });
        self.bytes = bytes;
        self.memory = memory;
        rest
    }
}

/// `whole * part / all`.
fn part_of(whole: u64, part: u64, all: u64) -> u64 {
    (u128::from(whole) * u128::from(part) / u128::from(all.max(1))) as u64
}
