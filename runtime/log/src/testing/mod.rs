//! A disk in memory that breaks on purpose: it writes short, runs full, fails to sync, flips bits, and forgets at a crash
//! whatever was not synced, in any combination of pages and names.
//!
//! Everything it does follows from its seed. It must not know logs.

pub mod inputs;
mod rng;
mod state;

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use rng::Rng;

use self::state::State;
use crate::storage::{File, Storage};

/// The disk; clones are the same disk.
#[derive(Clone)]
pub struct SimStorage {
    state: Arc<Mutex<State>>,
}

/// A handle on a file of the disk; useless after a crash.
struct SimFile {
    state: Arc<Mutex<State>>,
    inode: usize,
    generation: u64,
}

impl SimStorage {
    pub fn new(seed: u64) -> SimStorage {
        SimStorage { state: Arc::new(Mutex::new(State::new(seed))) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The power goes: of what was not synced, a random part of the pages and names remains. Handles die, and every
    /// fault that was ordered is off.
    pub fn crash(&self) {
        self.lock().crash();
    }

    /// The process ends: nothing is lost. Handles die, and every fault that was ordered is off.
    pub fn kill(&self) {
        self.lock().kill();
    }

    /// After so many more changes of any kind everything fails, until [`SimStorage::crash`] or [`SimStorage::kill`].
    pub fn fail_after(&self, changes: u64) {
        self.lock().changes_left = Some(changes);
    }

    /// The sync after so many others fails, and forgets a random part of what it should have made last, as Linux does.
    pub fn fail_sync_after(&self, syncs: u64) {
        self.lock().syncs_left = Some(syncs);
    }

    /// How many bytes more the disk has room for; `None` is no limit.
    pub fn set_space(&self, bytes: Option<u64>) {
        self.lock().space_left = bytes;
    }

    /// Writes do now and then only a part of what they were given.
    pub fn write_short(&self, on: bool) {
        self.lock().short_writes = on;
    }

    /// Flips a bit, on the disk and in memory.
    pub fn flip_bit(&self, path: &Path, bit: u64) -> bool {
        self.lock().flip_bit(path, bit)
    }

    /// A file's bytes, `None` if there is none.
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        self.lock().content(path)
    }

    /// Puts a whole file there, synced.
    pub fn set_content(&self, path: &Path, bytes: &[u8]) {
        self.lock().set_content(path, bytes);
    }

    /// Every file's path, in order.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.lock().paths()
    }
}

impl Storage for SimStorage {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let (inode, generation) = self.lock().open(path)?;
        Ok(Arc::new(SimFile { state: self.state.clone(), inode, generation }))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let (inode, generation) = self.lock().create(path)?;
        Ok(Arc::new(SimFile { state: self.state.clone(), inode, generation }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.lock().rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.lock().remove(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.lock().list(dir)
    }

    fn create_dir(&self, _dir: &Path) -> io::Result<()> {
        self.lock().alive()
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.lock().sync_dir(dir)
    }

    fn free_bytes(&self, _dir: &Path) -> io::Result<u64> {
        Ok(self.lock().space_left.unwrap_or(u64::MAX))
    }
}

impl SimFile {
    fn lock(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.generation != self.generation {
            return Err(io::Error::other("the handle is from before a crash"));
        }
        Ok(state)
    }
}

impl File for SimFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.lock()?.read_at(self.inode, buffer, position)
    }

    fn write_at(&self, pieces: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        self.lock()?.write_at(self.inode, pieces, position)
    }

    fn sync(&self) -> io::Result<()> {
        self.lock()?.sync(self.inode)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.lock()?.set_len(self.inode, bytes)
    }

    fn len(&self) -> io::Result<u64> {
        self.lock()?.len(self.inode)
    }
}
