//! One segment: a file of batches, its two indexes, and what is known of it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::index::{Entry, Index, OffsetEntry, TimeEntry};
use super::scan::Scan;
use crate::batch::Header;
use crate::error::LogError;
use crate::storage::{File, Storage};

/// How many positions a segment remembers where readers stopped.
const HINTS: usize = 8;

pub(crate) struct Segment {
    /// The smallest offset that it may hold; also its file's name.
    pub base: i64,
    pub path: PathBuf,
    pub file: Arc<dyn File>,
    state: RwLock<State>,
    /// Offsets that readers will ask for next, and where they are.
    hints: Mutex<Hints>,
}

#[derive(Default)]
struct Hints {
    places: [(i64, u64); HINTS],
    next: usize,
}

/// What changes while batches are appended; consistent under one lock.
pub(crate) struct State {
    /// Bytes of whole batches in the file.
    pub size: u64,
    /// The offset after the last batch, the base if there is none.
    pub next_offset: i64,
    pub offsets: Index<OffsetEntry>,
    pub times: Index<TimeEntry>,
    /// Largest timestamp (−1 without batches) and the last offset of the first batch that has it.
    pub max_timestamp: i64,
    pub max_timestamp_offset: i64,
    /// Bytes appended since the last entry of the index.
    since_entry: u64,
}

/// The file names of a segment.
pub(crate) fn path_of(dir: &Path, base: i64, extension: &str) -> PathBuf {
    dir.join(format!("{base:020}.{extension}"))
}

/// The base offset of a file's name with one of the segment extensions.
pub(crate) fn base_of(name: &str, extension: &str) -> Option<i64> {
    let digits = name.strip_suffix(extension)?.strip_suffix('.')?;
    if digits.len() != 20 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

impl Segment {
    /// A segment around an open file of which nothing is known yet.
    pub fn new(storage: &Arc<dyn Storage>, dir: &Path, base: i64, file: Arc<dyn File>) -> Segment {
        Segment {
            base,
            path: path_of(dir, base, "log"),
            file,
            state: RwLock::new(State::empty(storage, dir, base)),
            hints: Mutex::new(Hints::default()),
        }
    }

    pub fn read_state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn write_state(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn size(&self) -> u64 {
        self.read_state().size
    }

    /// Remembers that the batch with or after `offset` begins at `position`.
    pub fn hint(&self, offset: i64, position: u64) {
        let mut hints = self.hints.lock().unwrap_or_else(PoisonError::into_inner);
        if hints.places.contains(&(offset, position)) {
            return;
        }
        let next = hints.next;
        hints.places[next] = (offset, position);
        hints.next = (next + 1) % HINTS;
    }

    /// Where the batch that holds `offset`, or the first one after it, begins; `None` if there is none below `size`.
    pub fn locate(&self, offset: i64, size: u64) -> Result<Option<u64>, LogError> {
        if offset <= self.base {
            return Ok((size > 0).then_some(0));
        }
        let known = self.hints.lock().unwrap_or_else(PoisonError::into_inner).places;
        if let Some((_, position)) = known.iter().find(|(known, position)| *known == offset && *position > 0)
        {
            return Ok((*position < size).then_some(*position));
        }
        let (_, scan) = self.scan_from(size, |entry| self.base + i64::from(entry.offset) <= offset)?;
        for found in scan {
            let (position, header) = found?;
            if header.last_offset() >= offset {
                return Ok(Some(position));
            }
        }
        Ok(None)
    }

    /// The headers from the batch of the last index entry on for which `before` holds, up to `limit`, and where that is.
    /// An entry that is not the one of its batch shows that the index is wrong: then it is not used any more.
    pub fn scan_from(
        &self,
        limit: u64,
        before: impl Fn(&OffsetEntry) -> bool,
    ) -> Result<(u64, Scan<'_>), LogError> {
        let state = self.read_state();
        let found = state
            .offsets
            .last_where(before)
            .map_err(|error| LogError::io("read", state.offsets.path(), error))?;
        drop(state);
        if let Some(entry) = found {
            let position = u64::from(entry.position);
            let mut scan = self.scan(position, limit);
            match scan.next() {
                Some(Ok((_, header))) if header.last_offset() == self.base + i64::from(entry.offset) => {
                    scan.go_back(position);
                    return Ok((position, scan));
                }
                Some(Err(error @ LogError::Io(_))) => return Err(error),
                _ => {}
            }
            tracing::warn!(file = %self.path.display(), position, "the index is wrong and not used any more");
            self.write_state().forget_indexes();
        }
        Ok((0, self.scan(0, limit)))
    }

    /// The headers from the batch at `position` up to `limit`.
    pub fn scan(&self, position: u64, limit: u64) -> Scan<'_> {
        Scan::new(self.file.as_ref(), &self.path, position, limit)
    }
}

impl State {
    /// That of a segment without batches, its indexes not yet in any file.
    pub fn empty(storage: &Arc<dyn Storage>, dir: &Path, base: i64) -> State {
        State {
            size: 0,
            next_offset: base,
            offsets: Index::empty(storage.clone(), path_of(dir, base, "index")),
            times: Index::empty(storage.clone(), path_of(dir, base, "timeindex")),
            max_timestamp: -1,
            max_timestamp_offset: base,
            since_entry: 0,
        }
    }

    /// Takes note of a batch that stands at the end of the file.
    pub fn note(&mut self, base: i64, position: u64, header: &Header, index_interval_bytes: u64) {
        let last_offset = header.last_offset();
        if header.max_timestamp > self.max_timestamp {
            self.max_timestamp = header.max_timestamp;
            self.max_timestamp_offset = last_offset;
        }
        if self.since_entry > index_interval_bytes {
            // The roll keeps both below their types' bounds.
            self.offsets.push(OffsetEntry { offset: (last_offset - base) as u32, position: position as u32 });
            self.note_time(base);
            self.since_entry = 0;
        }
        self.since_entry += header.size() as u64;
        self.size = position + header.size() as u64;
        self.next_offset = header.next_offset();
    }

    /// How many bytes came since the last entry of the index.
    pub fn set_since_entry(&mut self, bytes: u64) {
        self.since_entry = bytes;
    }

    /// Puts the largest timestamp so far into the time index, if it is larger than what stands there.
    pub fn note_time(&mut self, base: i64) {
        if self.size == 0 && self.max_timestamp < 0 {
            return;
        }
        let known = self.times.last().map_or(-1, |entry| entry.key());
        if self.max_timestamp > known {
            let offset = (self.max_timestamp_offset - base) as u32;
            self.times.push(TimeEntry { timestamp: self.max_timestamp, offset });
        }
    }

    /// Entries that are not in the index files yet.
    pub fn recent_entries(&self) -> usize {
        self.offsets.recent().max(self.times.recent())
    }

    /// Forgets both indexes: see [`Index::forget`].
    pub fn forget_indexes(&mut self) {
        self.offsets.forget();
        self.times.forget();
    }

    /// Writes both indexes of a trusted segment, which were made anew, in one step each.
    pub fn store_indexes(&mut self) -> Result<(), LogError> {
        let State { offsets, times, .. } = self;
        offsets.store().map_err(|error| LogError::io("write", offsets.path(), error))?;
        times.store().map_err(|error| LogError::io("write", times.path(), error))
    }

    /// Writes out what is new in both indexes.
    pub fn flush_indexes(&mut self) -> Result<(), LogError> {
        let State { offsets, times, .. } = self;
        offsets.flush().map_err(|error| LogError::io("write", offsets.path(), error))?;
        times.flush().map_err(|error| LogError::io("write", times.path(), error))
    }
}
