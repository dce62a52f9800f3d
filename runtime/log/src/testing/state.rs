//! What the simulated disk holds: as the process sees it, and as it would be after the power went.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};

use super::Rng;

/// What is kept or lost as one: smaller than a real page, so that small files tear as well.
const PAGE_BYTES: usize = 128;

pub(super) struct State {
    rng: Rng,
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    /// Changes of names that were not synced.
    pending: Vec<Change>,
    pub generation: u64,
    pub changes_left: Option<u64>,
    pub syncs_left: Option<u64>,
    pub space_left: Option<u64>,
    pub short_writes: bool,
}

#[derive(Default, Clone)]
struct Inode {
    current: Vec<u8>,
    durable: Vec<u8>,
    /// Pages that the next sync writes.
    dirty: BTreeSet<usize>,
}

enum Change {
    Link(PathBuf, usize),
    Rename(PathBuf, PathBuf, usize),
    Unlink(PathBuf),
}

impl Change {
    fn dir(&self) -> Option<&Path> {
        match self {
            Change::Link(path, _) | Change::Rename(_, path, _) | Change::Unlink(path) => path.parent(),
        }
    }

    fn apply(self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Change::Link(path, inode) => {
                names.insert(path, inode);
            }
            Change::Rename(from, to, inode) => {
                names.remove(&from);
                names.insert(to, inode);
            }
            Change::Unlink(path) => {
                names.remove(&path);
            }
        }
    }
}

impl State {
    pub fn new(seed: u64) -> State {
        State {
            rng: Rng::new(seed),
            inodes: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending: Vec::new(),
            generation: 0,
            changes_left: None,
            syncs_left: None,
            space_left: None,
            short_writes: false,
        }
    }

    pub fn kill(&mut self) {
        self.generation += 1;
        self.changes_left = None;
        self.syncs_left = None;
        self.space_left = None;
    }

    pub fn crash(&mut self) {
        self.kill();
        for change in std::mem::take(&mut self.pending) {
            if self.rng.once_in(2) {
                change.apply(&mut self.durable_names);
            }
        }
        self.names = self.durable_names.clone();
        for inode in &mut self.inodes {
            inode.crash(&mut self.rng);
        }
    }

    /// Fails if the time for that has come.
    pub fn alive(&self) -> io::Result<()> {
        match self.changes_left {
            Some(0) => Err(io::Error::other("the disk is gone")),
            _ => Ok(()),
        }
    }

    fn change(&mut self) -> io::Result<()> {
        self.alive()?;
        self.changes_left = self.changes_left.map(|left| left - 1);
        Ok(())
    }

    /// True if this sync is to fail.
    fn count_sync(&mut self) -> bool {
        match self.syncs_left {
            Some(0) => {
                self.syncs_left = None;
                true
            }
            left => {
                self.syncs_left = left.map(|left| left - 1);
                false
            }
        }
    }

    fn inode(&self, path: &Path) -> io::Result<usize> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub fn open(&mut self, path: &Path) -> io::Result<(usize, u64)> {
        self.alive()?;
        Ok((self.inode(path)?, self.generation))
    }

    pub fn create(&mut self, path: &Path) -> io::Result<(usize, u64)> {
        self.change()?;
        if let Ok(inode) = self.inode(path) {
            self.resize(inode, 0);
            return Ok((inode, self.generation));
        }
        if self.space_left == Some(0) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let inode = self.inodes.len();
        self.inodes.push(Inode::default());
        self.names.insert(path.to_owned(), inode);
        self.pending.push(Change::Link(path.to_owned(), inode));
        Ok((inode, self.generation))
    }

    pub fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.change()?;
        let inode = self.inode(from)?;
        self.names.remove(from);
        self.names.insert(to.to_owned(), inode);
        self.pending.push(Change::Rename(from.to_owned(), to.to_owned(), inode));
        Ok(())
    }

    pub fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.alive()?;
        let inode = self.inode(path)?;
        self.change()?;
        self.names.remove(path);
        self.pending.push(Change::Unlink(path.to_owned()));
        let freed = self.inodes[inode].current.len() as u64;
        self.space_left = self.space_left.map(|left| left + freed);
        Ok(())
    }

    pub fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.alive()?;
        let inside = self.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    pub fn sync_dir(&mut self, dir: &Path) -> io::Result<()> {
        self.change()?;
        if self.count_sync() {
            return Err(io::Error::other("the sync of the directory failed"));
        }
        let (synced, pending) =
            std::mem::take(&mut self.pending).into_iter().partition(|change| change.dir() == Some(dir));
        self.pending = pending;
        let synced: Vec<Change> = synced;
        synced.into_iter().for_each(|change| change.apply(&mut self.durable_names));
        Ok(())
    }

    pub fn read_at(&self, inode: usize, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.alive()?;
        let current = &self.inodes[inode].current;
        let rest = current.get(position as usize..).unwrap_or(&[]);
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    pub fn write_at(&mut self, inode: usize, pieces: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        self.change()?;
        let bytes: Vec<u8> = pieces.iter().flat_map(|piece| piece.iter().copied()).collect();
        let mut count = bytes.len();
        if self.short_writes && count > 1 && self.rng.once_in(4) {
            count = 1 + self.rng.below(count as u64 - 1) as usize;
        }
        let position = position as usize;
        let have = self.inodes[inode].current.len();
        let grows = (position + count).saturating_sub(have) as u64;
        if let Some(left) = self.space_left
            && grows > left
        {
            count = (count as u64 - (grows - left)) as usize;
            if count == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        let grows = (position + count).saturating_sub(have) as u64;
        self.space_left = self.space_left.map(|left| left - grows);
        let inode = &mut self.inodes[inode];
        if inode.current.len() < position + count {
            inode.current.resize(position + count, 0);
        }
        inode.current[position..position + count].copy_from_slice(&bytes[..count]);
        inode.touch(position.min(have), position + count);
        Ok(count)
    }

    pub fn sync(&mut self, inode: usize) -> io::Result<()> {
        self.change()?;
        if self.count_sync() {
            // The pages are marked as clean, and nobody will write them again.
            let rng = &mut self.rng;
            self.inodes[inode].dirty.retain(|_| rng.once_in(2));
            return Err(io::Error::other("the sync failed"));
        }
        self.inodes[inode].sync();
        Ok(())
    }

    fn resize(&mut self, inode: usize, bytes: usize) {
        let inode = &mut self.inodes[inode];
        let have = inode.current.len();
        inode.current.resize(bytes, 0);
        inode.touch(have.min(bytes), have.max(bytes));
        let freed = have.saturating_sub(bytes) as u64;
        self.space_left = self.space_left.map(|left| left + freed);
    }

    pub fn set_len(&mut self, inode: usize, bytes: u64) -> io::Result<()> {
        self.change()?;
        self.resize(inode, bytes as usize);
        Ok(())
    }

    pub fn len(&self, inode: usize) -> io::Result<u64> {
        self.alive()?;
        Ok(self.inodes[inode].current.len() as u64)
    }

    pub fn flip_bit(&mut self, path: &Path, bit: u64) -> bool {
        let Ok(inode) = self.inode(path) else { return false };
        let inode = &mut self.inodes[inode];
        let (byte, mask) = ((bit / 8) as usize, 1 << (bit % 8));
        let Some(found) = inode.current.get_mut(byte) else { return false };
        *found ^= mask;
        if let Some(durable) = inode.durable.get_mut(byte) {
            *durable ^= mask;
        }
        true
    }

    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        Some(self.inodes[self.inode(path).ok()?].current.clone())
    }

    pub fn set_content(&mut self, path: &Path, bytes: &[u8]) {
        let inode = Inode { current: bytes.to_vec(), durable: bytes.to_vec(), dirty: BTreeSet::new() };
        self.inodes.push(inode);
        self.names.insert(path.to_owned(), self.inodes.len() - 1);
        self.durable_names.insert(path.to_owned(), self.inodes.len() - 1);
    }

    pub fn paths(&self) -> Vec<PathBuf> {
        self.names.keys().cloned().collect()
    }
}

impl Inode {
    /// Marks the pages from one byte to before another.
    fn touch(&mut self, from: usize, to: usize) {
        if from < to {
            self.dirty.extend(from / PAGE_BYTES..=(to - 1) / PAGE_BYTES);
        }
    }

    fn take_page(&mut self, page: usize) {
        let from = page * PAGE_BYTES;
        let to = (from + PAGE_BYTES).min(self.current.len()).min(self.durable.len());
        if from < to {
            self.durable[from..to].copy_from_slice(&self.current[from..to]);
        }
    }

    fn sync(&mut self) {
        self.durable.resize(self.current.len(), 0);
        for page in std::mem::take(&mut self.dirty) {
            self.take_page(page);
        }
    }

    fn crash(&mut self, rng: &mut Rng) {
        let (least, most) = {
            let lengths = (self.durable.len(), self.current.len());
            (lengths.0.min(lengths.1), lengths.0.max(lengths.1))
        };
        // The length is a thing of its own: the old, the new, or one on the way.
        let length = match rng.below(3) {
            _ if self.dirty.is_empty() => self.durable.len(),
            0 => self.durable.len(),
            1 => self.current.len(),
            _ => least + rng.below((most - least) as u64 + 1) as usize,
        };
        let shrunk = self.current.len();
        self.durable.resize(length, 0);
        for page in std::mem::take(&mut self.dirty) {
            if page * PAGE_BYTES < shrunk && rng.once_in(2) {
                self.take_page(page);
            }
        }
        self.current = self.durable.clone();
    }
}
