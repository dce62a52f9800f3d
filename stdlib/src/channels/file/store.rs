//! The directories of a file channel as one store: puts go to them in turn, reads put them in order again by their
//! sequence numbers. A directory that fails takes no more; what it holds is still read.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use async_trait::async_trait;
use flow_agent::Fault;
use flow_log::{Committer, DirLock, Storage};
use flow_plan::{Ack, Batch};

use super::keeper::Keeper;
use super::lane::{AppendError, Held, Lane, Piece};
use super::{Settings, Sync};
use crate::channels::kept::store::{Found, Loaded, Place, Refused, Store, Stored};
use crate::channels::kept::{Room, blocking};

/// The store of a file channel.
pub struct FileStore {
    lanes: Arc<Lanes>,
    /// Ends before the logs are closed.
    keeper: Option<Keeper>,
    /// Given back last.
    locks: Vec<DirLock>,
}

/// What the store and its keeper both see.
pub struct Lanes {
    pub lanes: Vec<Lane>,
    pub sync: Sync,
    pub room: Room,
    slots: Arc<Vec<String>>,
    committer: Arc<Committer>,
    /// The directory whose turn it is.
    turn: AtomicUsize,
    /// The number of the next event.
    sequence: AtomicU64,
}

impl FileStore {
    /// Opens the directories; the caller holds their locks.
    pub fn open(
        storage: &Arc<dyn Storage>,
        dirs: &[PathBuf],
        settings: &Settings,
        slots: Arc<Vec<String>>,
        room: Room,
    ) -> Result<(FileStore, Found), Fault> {
        let mut lanes = Vec::with_capacity(dirs.len());
        let mut helds: Vec<Held> = Vec::with_capacity(dirs.len());
        for dir in dirs {
            let (lane, held) = Lane::open(storage, dir, settings, &slots)?;
            lanes.push(lane);
            helds.push(held);
        }
        let found = Found {
            next: helds.iter().map(|held| held.next).collect(),
            ends: helds.iter().map(|held| held.end).collect(),
            events: helds.iter().map(|held| u64::try_from(held.end - held.next).unwrap_or(0)).sum(),
            bytes: helds.iter().map(|held| held.bytes).sum(),
            oldest_ms: helds.iter().filter_map(|held| held.oldest_ms).min(),
        };
        let sequence = helds.iter().map(|held| held.sequence).max().unwrap_or(0);
        let lanes = Arc::new(Lanes {
            lanes,
            sync: settings.sync,
            room,
            slots,
            committer: committer(),
            turn: AtomicUsize::new(0),
            sequence: AtomicU64::new(sequence),
        });
        let keeper = Keeper::start(lanes.clone(), settings.checkpoint)?;
        Ok((FileStore { lanes, keeper: Some(keeper), locks: Vec::new() }, found))
    }

    /// Holds the locks of the directories as long as it lives.
    pub fn with_locks(mut self, locks: Vec<DirLock>) -> FileStore {
        self.locks = locks;
        self
    }
}

/// The threads that sync the logs of all channels of the process. They end with the last channel.
fn committer() -> Arc<Committer> {
    static SHARED: Mutex<Weak<Committer>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    shared.upgrade().unwrap_or_else(|| {
        let committer = Arc::new(Committer::new());
        *shared = Arc::downgrade(&committer);
        committer
    })
}

#[async_trait]
impl Store for FileStore {
    fn append(&self, batch: &Batch, added_ms: i64) -> Result<Stored, Refused> {
        let all = &self.lanes;
        let sequence = all.sequence.load(Ordering::Relaxed);
        let turn = all.turn.fetch_add(1, Ordering::Relaxed);
        let mut full = false;
        let mut fault = None;
        for attempt in 0..all.lanes.len() {
            let number = (turn + attempt) % all.lanes.len();
            match all.lanes[number].append(batch, &all.slots, added_ms, sequence) {
                Ok((appended, bytes)) => {
                    all.sequence.store(sequence + batch.len() as u64, Ordering::Relaxed);
                    let (start, end) = (appended.base_offset, appended.next_offset);
                    return Ok(Stored { place: Place { lane: number as u32, start, end }, bytes });
                }
                Err(AppendError::Full) => full = true,
                Err(AppendError::Fault(failed)) => fault = Some(failed),
            }
        }
        match fault {
            // Another directory may have room again.
            Some(fault) if !full => Err(Refused::Fault(fault)),
            _ => Err(Refused::Full),
        }
    }

    fn when_safe(&self, stored: Stored, ack: Ack) {
        if let Some(lane) = self.lanes.lanes.get(stored.place.lane as usize) {
            lane.when_safe(self.lanes.sync, &self.lanes.committer, stored.place.end, ack);
        }
    }

    async fn load(&self, next: &[i64], ends: &[i64], bytes_max: u64) -> Result<Vec<Loaded>, Fault> {
        blocking(|| self.lanes.load(next, ends, bytes_max))
    }

    async fn forget(&self, places: &[Place]) -> Result<(), Fault> {
        // A few dozen bytes into the page cache: not worth another thread.
        let mut result = Ok(());
        for (number, lane) in self.lanes.lanes.iter().enumerate() {
            let mut of_lane = places.iter().filter(|place| place.lane as usize == number).peekable();
            if of_lane.peek().is_none() {
                continue;
            }
            let before = lane.offset();
            of_lane.for_each(|place| lane.forget(place.start, place.end));
            if lane.offset() != before {
                result = result.and(lane.write_cursor());
            }
        }
        if self.lanes.lanes.iter().any(Lane::is_full)
            && let Some(keeper) = &self.keeper
        {
            // What was read may be what keeps the disk full.
            keeper.hurry();
        }
        result
    }

    fn checkpoint(&self) {
        for lane in &self.lanes.lanes {
            lane.sync();
            lane.checkpoint();
        }
    }

    fn bytes_free(&self) -> u64 {
        self.lanes.lanes.iter().map(Lane::bytes_free).fold(0, u64::saturating_add)
    }
}

impl Lanes {
    /// A piece of every directory, put in order. What cannot be put in order yet (a directory has more behind its
    /// piece) is read again next time.
    fn load(&self, next: &[i64], ends: &[i64], bytes_max: u64) -> Result<Vec<Loaded>, Fault> {
        let share = usize::try_from(bytes_max).unwrap_or(usize::MAX) / self.lanes.len().max(1);
        let mut pieces = Vec::with_capacity(self.lanes.len());
        for (lane, (&from, &end)) in self.lanes.iter().zip(next.iter().zip(ends)) {
            let piece = match lane.read(from, end, share, &self.slots) {
                Ok(piece) => piece,
                Err(error) => {
                    if error.is_damage() {
                        lane.leave_out(from);
                    }
                    return Err(lane.read_fault(from, &error));
                }
            };
            pieces.push(piece);
        }
        for (lane, (piece, (&from, &end))) in self.lanes.iter().zip(pieces.iter().zip(next.iter().zip(ends)))
        {
            if piece.batches.is_empty() && piece.next >= end {
                // A hole up to the end: what is not there need not be waited for.
                lane.forget(from, end);
            }
        }
        let mut expected = next.to_vec();
        let ended: Vec<bool> = pieces.iter().zip(ends).map(|(piece, end)| piece.next >= *end).collect();
        let mut heads: Vec<_> =
            pieces.into_iter().map(|Piece { batches, .. }| batches.into_iter().peekable()).collect();
        let mut loaded = Vec::new();
        loop {
            let mut first: Option<(u64, usize)> = None;
            for (number, head) in heads.iter_mut().enumerate() {
                match head.peek() {
                    Some((_, batch)) => {
                        first =
                            Some(first.map_or((batch.sequence, number), |known| {
                                known.min((batch.sequence, number))
                            }));
                    }
                    None if ended[number] => {}
                    None => return Ok(loaded),
                }
            }
            let Some((_, number)) = first else { return Ok(loaded) };
            let Some((bytes, decoded)) = heads[number].next() else { return Ok(loaded) };
            let hole = (expected[number], decoded.base);
            self.lanes[number].forget(hole.0, hole.1);
            if let Some(one) = placed(number, bytes, decoded, &mut expected[number]) {
                loaded.push(one);
            }
        }
    }
}

/// A batch that was read, without the events in front of `expected`, which moves behind it.
fn placed(lane: usize, bytes: u64, decoded: super::decode::Decoded, expected: &mut i64) -> Option<Loaded> {
    let mut batch = decoded.batch;
    let events = batch.len();
    let end = decoded.base + events as i64;
    let known = usize::try_from((*expected - decoded.base).clamp(0, events as i64)).unwrap_or(0);
    if known > 0 {
        batch = batch.split_off(known);
    }
    let start = decoded.base + known as i64;
    let gone = u64::try_from(start - *expected).unwrap_or(0);
    *expected = (*expected).max(end);
    if batch.is_empty() {
        return None;
    }
    let bytes = bytes * batch.len() as u64 / events.max(1) as u64;
    let place = Place { lane: lane as u32, start, end };
    Some(Loaded { place, bytes, added_ms: decoded.added_ms, batch, gone })
}

impl Drop for FileStore {
    fn drop(&mut self) {
        self.keeper = None;
        for lane in &self.lanes.lanes {
            lane.sync();
            lane.checkpoint();
            lane.close();
        }
    }
}
