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

/// One index file: its older entries on disk, its recent ones in memory until the next [`Index::flush`]. The file is only
/// open while it is used: a log may have thousands of them.
pub(crate) struct Index<E> {
    storage: Arc<dyn Storage>,
    path: PathBuf,
    /// Entries in the file.
    stored: u64,
    recent: Vec<E>,
    last: Option<E>,
}

impl<E: Entry> Index<E> {
    /// An index without entries; the file is made, or emptied, with the first flush.
    pub fn empty(storage: Arc<dyn Storage>, path: PathBuf) -> Index<E> {
        Index { storage, path, stored: 0, recent: Vec::new(), last: None }
    }

    /// Opens the file. `entries` is how many it is known to have (a file with fewer is no index any more, and more
    /// are cut off); `None` takes all, and refuses a file whose length is odd.
    pub fn open(storage: Arc<dyn Storage>, path: PathBuf, entries: Option<u64>) -> io::Result<Index<E>> {
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
        let mut index = Index { storage, path, stored, recent: Vec::new(), last: None };
        if stored > 0 {
            index.last = Some(entry_at(file.as_ref(), stored - 1)?);
        }
        Ok(index)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn last(&self) -> Option<E> {
        self.last
    }

    /// Entries in the file.
    pub fn stored(&self) -> u64 {
        self.stored
    }

    /// Entries that are not in the file yet.
    pub fn recent(&self) -> usize {
        self.recent.len()
    }

    pub fn push(&mut self, entry: E) {
        self.last = Some(entry);
        self.recent.push(entry);
    }

    /// Forgets all entries, because the file will be another segment's or none: whoever still reads the old segment does
    /// without.
    pub fn forget(&mut self) {
        self.stored = 0;
        self.recent = Vec::new();
        self.last = None;
    }

    /// The last entry for which `before` holds; it must hold for a first part of the entries and for none after.
    pub fn last_where(&self, before: impl Fn(&E) -> bool) -> io::Result<Option<E>> {
        if self.recent.first().is_some_and(&before) {
            return Ok(Some(self.recent[self.recent.partition_point(&before) - 1]));
        }
        Ok(self.search(before)?.1)
    }

    /// Keeps the entries at the front for which `keep` holds.
    pub fn truncate(&mut self, keep: impl Fn(&E) -> bool) -> io::Result<()> {
        if self.last.as_ref().is_none_or(&keep) {
            return Ok(());
        }
        self.recent.truncate(self.recent.partition_point(&keep));
        self.last = self.recent.last().copied();
        if self.recent.is_empty() {
            (self.stored, self.last) = self.search(keep)?;
            self.storage.open(&self.path)?.set_len(self.stored * E::BYTES as u64)?;
        }
        Ok(())
    }

    /// How many entries of the file `before` holds for, and the last of them. Without the file, none.
    fn search(&self, before: impl Fn(&E) -> bool) -> io::Result<(u64, Option<E>)> {
        if self.stored == 0 {
            return Ok((0, None));
        }
        let file = match self.storage.open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((0, None)),
            opened => opened?,
        };
        let (mut low, mut high) = (0, self.stored);
        let mut last = None;
        let mut buffer = [0; BLOCK_ENTRIES as usize * 12];
        while high - low > BLOCK_ENTRIES {
            let middle = low + (high - low) / 2;
            let entry = entry_at(file.as_ref(), middle)?;
            if before(&entry) {
                last = Some(entry);
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let bytes = &mut buffer[..(high - low) as usize * E::BYTES];
        read_exact(file.as_ref(), bytes, low * E::BYTES as u64)?;
        for entry in bytes.chunks_exact(E::BYTES).map(E::decode).take_while(before) {
            last = Some(entry);
            low += 1;
        }
        Ok((low, last))
    }

    /// Writes an index that was made anew in one step: whatever happens, there is all of it or none. For a segment that
    /// is trusted already; the others' indexes are only trusted after the next checkpoint.
    pub fn store(&mut self) -> io::Result<()> {
        let fresh = PathBuf::from(format!("{}.tmp", self.path.display()));
        let file = self.storage.create(&fresh)?;
        write_all(file.as_ref(), &mut [IoSlice::new(&encoded(&self.recent))], 0)?;
        file.sync()?;
        self.storage.rename(&fresh, &self.path)?;
        self.stored = self.recent.len() as u64;
        self.recent = Vec::new();
        Ok(())
    }

    /// Writes the recent entries into the file, which is made if it is missing. After an error they are kept, and the
    /// next flush writes them again over what came of this one.
    pub fn flush(&mut self) -> io::Result<()> {
        let file = match self.stored {
            0 => self.storage.create(&self.path)?,
            _ if self.recent.is_empty() => return Ok(()),
            _ => match self.storage.open(&self.path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    // Someone removed it: the next recovery sees that entries are missing.
                    self.stored = 0;
                    self.storage.create(&self.path)?
                }
                opened => opened?,
            },
        };
        write_all(file.as_ref(), &mut [IoSlice::new(&encoded(&self.recent))], self.stored * E::BYTES as u64)?;
        self.stored += self.recent.len() as u64;
        self.recent.clear();
        Ok(())
    }
}

fn encoded<E: Entry>(entries: &[E]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(entries.len() * E::BYTES);
    entries.iter().for_each(|entry| entry.encode(&mut bytes));
    bytes
}

fn entry_at<E: Entry>(file: &dyn File, index: u64) -> io::Result<E> {
    let mut bytes = [0; 12];
    read_exact(file, &mut bytes[..E::BYTES], index * E::BYTES as u64)?;
    Ok(E::decode(&bytes[..E::BYTES]))
}
