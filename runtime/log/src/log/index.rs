//! The sparse indexes beside a segment, in Kafka's file format: offset to position (8 bytes an entry) and timestamp to
//! offset (12 bytes). They only save reading; everything in them can be had from the segment.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::storage::{File, Storage, read_exact, write_all};

/// An entry of an index; entries are in order of their key.
pub(crate) trait Entry: Copy + std::fmt::Debug + PartialEq {
    const BYTES: usize;
    fn encode(&self, out: &mut Vec<u8>);
    /// From exactly [`Entry::BYTES`] bytes.
    fn decode(bytes: &[u8]) -> Self;
    fn key(&self) -> i64;
}

/// The last offset of a batch (relative to the segment's base) and where in the file the batch begins.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct OffsetEntry {
    pub offset: u32,
    pub position: u32,
}

/// The largest timestamp so far and the offset (relative) where it was met.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct TimeEntry {
    pub timestamp: i64,
    pub offset: u32,
}

impl Entry for OffsetEntry {
    const BYTES: usize = 8;

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.offset.to_be_bytes());
        out.extend_from_slice(&self.position.to_be_bytes());
    }

    fn decode(bytes: &[u8]) -> OffsetEntry {
        let (offset, position) = bytes.split_at(4);
        OffsetEntry { offset: u32::from_be_bytes(four(offset)), position: u32::from_be_bytes(four(position)) }
    }

    fn key(&self) -> i64 {
        i64::from(self.offset)
    }
}

impl Entry for TimeEntry {
    const BYTES: usize = 12;

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.timestamp.to_be_bytes());
        out.extend_from_slice(&self.offset.to_be_bytes());
    }

    fn decode(bytes: &[u8]) -> TimeEntry {
        let mut timestamp = [0; 8];
        timestamp.copy_from_slice(&bytes[..8]);
        TimeEntry { timestamp: i64::from_be_bytes(timestamp), offset: u32::from_be_bytes(four(&bytes[8..])) }
    }

    fn key(&self) -> i64 {
        self.timestamp
    }
}

fn four(bytes: &[u8]) -> [u8; 4] {
    let mut out = [0; 4];
    out.copy_from_slice(&bytes[..4]);
    out
}

/// Entries read at once by a search in the file.
const BLOCK_ENTRIES: u64 = 128;

/// One index file: its older entries on disk, its recent ones in memory until the next [`Index::flush`].
pub(crate) struct Index<E> {
    path: PathBuf,
    file: Option<Arc<dyn File>>,
    /// Entries in the file.
    stored: u64,
    recent: Vec<E>,
    last: Option<E>,
}

impl<E: Entry> Index<E> {
    /// An index without entries; the file is made with the first flush.
    pub fn empty(path: PathBuf) -> Index<E> {
        Index { path, file: None, stored: 0, recent: Vec::new(), last: None }
    }

    /// Opens the file. `entries` is how many it is known to have (a file with fewer is no index any more, and more
    /// are cut off); `None` takes all, and refuses a file whose length is odd.
    pub fn open(storage: &dyn Storage, path: PathBuf, entries: Option<u64>) -> io::Result<Index<E>> {
        let file = storage.open(&path)?;
        let bytes = file.len()?;
        let whole = bytes / E::BYTES as u64;
        let stored = match entries {
            Some(entries) if entries > whole => return Err(io::ErrorKind::UnexpectedEof.into()),
            Some(entries) => {
                // What follows may be older than what will be written there, and must not come to stand behind it.
                if bytes > entries * E::BYTES as u64 {
                    file.set_len(entries * E::BYTES as u64)?;
                }
                entries
            }
            None if bytes % E::BYTES as u64 != 0 => return Err(io::ErrorKind::InvalidData.into()),
            None => whole,
        };
        let mut index = Index { path, file: Some(file), stored, recent: Vec::new(), last: None };
        if stored > 0 {
            index.last = Some(index.stored_at(stored - 1)?);
        }
        Ok(index)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn file(&self) -> Option<&Arc<dyn File>> {
        self.file.as_ref()
    }

    pub fn last(&self) -> Option<E> {
        self.last
    }

    pub fn len(&self) -> u64 {
        self.stored + self.recent.len() as u64
    }

    /// Entries in the file.
    pub fn stored(&self) -> u64 {
        self.stored
    }

    pub fn push(&mut self, entry: E) {
        self.last = Some(entry);
        self.recent.push(entry);
    }

    /// The entry at a place in the order.
    pub fn get(&self, index: u64) -> io::Result<Option<E>> {
        if index < self.stored {
            return self.stored_at(index).map(Some);
        }
        Ok(self.recent.get((index - self.stored) as usize).copied())
    }

    /// The last entry for which `before` holds; it must hold for a first part of the entries and for none after.
    pub fn last_where(&self, before: impl Fn(&E) -> bool) -> io::Result<Option<E>> {
        let count = self.count_where(before)?;
        if count == 0 { Ok(None) } else { self.get(count - 1) }
    }

    /// How many entries at the front `before` holds for.
    pub fn count_where(&self, before: impl Fn(&E) -> bool) -> io::Result<u64> {
        if self.recent.first().is_some_and(&before) {
            return Ok(self.stored + self.recent.partition_point(&before) as u64);
        }
        let Some(file) = &self.file else { return Ok(0) };
        let (mut low, mut high) = (0, self.stored);
        let mut buffer = [0; BLOCK_ENTRIES as usize * 12];
        while low < high {
            if high - low <= BLOCK_ENTRIES {
                let bytes = &mut buffer[..(high - low) as usize * E::BYTES];
                read_exact(file.as_ref(), bytes, low * E::BYTES as u64)?;
                let held = bytes.chunks_exact(E::BYTES).take_while(|bytes| before(&E::decode(bytes))).count();
                return Ok(low + held as u64);
            }
            let middle = low + (high - low) / 2;
            if before(&self.stored_at(middle)?) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    fn stored_at(&self, index: u64) -> io::Result<E> {
        let file = self.file.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let mut bytes = [0; 12];
        read_exact(file.as_ref(), &mut bytes[..E::BYTES], index * E::BYTES as u64)?;
        Ok(E::decode(&bytes[..E::BYTES]))
    }

    /// Keeps the first `count` entries.
    pub fn truncate(&mut self, count: u64) -> io::Result<()> {
        if count >= self.len() {
            return Ok(());
        }
        self.recent.truncate(count.saturating_sub(self.stored) as usize);
        if count < self.stored {
            if let Some(file) = &self.file {
                file.set_len(count * E::BYTES as u64)?;
            }
            self.stored = count;
        }
        self.last = if count == 0 { None } else { self.get(count - 1)? };
        Ok(())
    }

    /// Writes an index that was made anew in one step: whatever happens, there is all of it or none. For a segment that
    /// is trusted already; the others' indexes are only trusted after the next checkpoint.
    pub fn store(&mut self, storage: &dyn Storage) -> io::Result<()> {
        let fresh = PathBuf::from(format!("{}.tmp", self.path.display()));
        let path = std::mem::replace(&mut self.path, fresh);
        self.stored = 0;
        self.file = None;
        let written = self.flush(storage);
        let fresh = std::mem::replace(&mut self.path, path);
        written?;
        if let Some(file) = &self.file {
            file.sync()?;
        }
        storage.rename(&fresh, &self.path)
    }

    /// Writes the recent entries into the file, which is made if it is missing. After an error they are kept, and the
    /// next flush writes them again over what came of this one.
    pub fn flush(&mut self, storage: &dyn Storage) -> io::Result<()> {
        let file = match &self.file {
            Some(file) => file,
            None => self.file.insert(storage.create(&self.path)?),
        };
        if self.recent.is_empty() {
            return Ok(());
        }
        let mut bytes = Vec::with_capacity(self.recent.len() * E::BYTES);
        self.recent.iter().for_each(|entry| entry.encode(&mut bytes));
        let position = self.stored * E::BYTES as u64;
        write_all(file.as_ref(), &mut [IoSlice::new(&bytes)], position)?;
        self.stored += self.recent.len() as u64;
        self.recent = Vec::new();
        Ok(())
    }
}
