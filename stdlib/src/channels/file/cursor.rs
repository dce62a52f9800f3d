//! How far a directory was read: the offset of its first event that is not safe elsewhere. Two slots of one file are
//! written in turn, each with a checksum, so that a crash in the middle of a write leaves the other.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

use flow_log::{File, Storage};

/// File of the position, in its directory.
const FILE: &str = "cursor";

/// Begins a slot: name and version.
const MAGIC: &[u8; 8] = b"flowcur1";

/// Magic, generation, offset, CRC-32C of these.
const SLOT_BYTES: usize = 8 + 8 + 8 + 4;

/// Slots lie in pages of their own: a torn page hurts one of them.
const SLOT_DISTANCE: u64 = 4096;

/// The position of one directory, in memory and on disk.
pub struct Cursor {
    file: Arc<dyn File>,
    generation: u64,
    /// Everything before it is safe elsewhere.
    offset: i64,
    /// Pieces behind the offset that are safe elsewhere as well: start and end. At most one for each batch of an
    /// open transaction.
    ahead: BTreeMap<i64, i64>,
    /// Not written yet.
    moved: bool,
    /// Not synced yet.
    dirty: bool,
}

impl Cursor {
    /// Reads the position and brings it between `start` and `end`, where the log is. What it says then is on disk
    /// before anything is appended: a log that has lost its end in a crash would otherwise grow into what an old
    /// position calls read.
    pub fn open(storage: &dyn Storage, dir: &Path, start: i64, end: i64) -> io::Result<Cursor> {
        let path = dir.join(FILE);
        let (file, fresh) = match storage.open(&path) {
            Ok(file) => (file, false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => (storage.create(&path)?, true),
            Err(error) => return Err(error),
        };
        let slots = [read_slot(file.as_ref(), 0)?, read_slot(file.as_ref(), SLOT_DISTANCE)?];
        let latest = slots.into_iter().flatten().max();
        let (generation, found) = latest.unwrap_or((0, start));
        let mut cursor = Cursor {
            file,
            generation,
            offset: found.clamp(start, end),
            ahead: BTreeMap::new(),
            moved: false,
            dirty: false,
        };
        if fresh || latest.is_none() || cursor.offset != found {
            // Both slots: the one that may be read after the next crash must not say more either.
            cursor.write()?;
            cursor.write()?;
            cursor.sync()?;
            if fresh {
                storage.sync_dir(dir)?;
            }
        }
        Ok(cursor)
    }

    pub fn offset(&self) -> i64 {
        self.offset
    }

    /// Events that are safe elsewhere; the position moves when there are none before them that are not.
    pub fn forget(&mut self, start: i64, end: i64) {
        if end <= self.offset || start >= end {
            return;
        }
        let known = self.ahead.entry(start).or_insert(end);
        *known = (*known).max(end);
        while let Some(first) = self.ahead.first_entry() {
            if *first.key() > self.offset {
                break;
            }
            self.offset = self.offset.max(first.remove());
            self.moved = true;
        }
    }

    /// Writes the position where a crash of the process does not lose it.
    pub fn write(&mut self) -> io::Result<()> {
        let generation = self.generation + 1;
        let mut slot = [0; SLOT_BYTES];
        slot[..8].copy_from_slice(MAGIC);
        slot[8..16].copy_from_slice(&generation.to_be_bytes());
        slot[16..24].copy_from_slice(&self.offset.to_be_bytes());
        let crc = crc32c::crc32c(&slot[..24]);
        slot[24..].copy_from_slice(&crc.to_be_bytes());
        let position = (generation % 2) * SLOT_DISTANCE;
        let mut written = 0;
        while written < SLOT_BYTES {
            match self.file.write_at(&[IoSlice::new(&slot[written..])], position + written as u64) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.generation = generation;
        self.moved = false;
        self.dirty = true;
        Ok(())
    }

    /// Makes what was written last, also when the machine crashes.
    pub fn sync(&mut self) -> io::Result<()> {
        if self.moved {
            self.write()?;
        }
        if self.dirty {
            self.file.sync()?;
            self.dirty = false;
        }
        Ok(())
    }
}

/// Generation and offset of a slot, when it is whole.
fn read_slot(file: &dyn File, position: u64) -> io::Result<Option<(u64, i64)>> {
    let mut slot = [0; SLOT_BYTES];
    let mut filled = 0;
    while filled < SLOT_BYTES {
        match file.read_at(&mut slot[filled..], position + filled as u64) {
            Ok(0) => return Ok(None),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let number = |bytes: &[u8]| bytes.iter().fold(0u64, |number, byte| number << 8 | u64::from(*byte));
    let whole = slot[..8] == *MAGIC && number(&slot[24..]) == u64::from(crc32c::crc32c(&slot[..24]));
    Ok(whole.then(|| (number(&slot[8..16]), number(&slot[16..24]) as i64)))
}
