//! The small door to the file system through which the `files` sink does everything, so that tests can let any
//! step fail. It knows paths and bytes, no events.

use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, Read, Result, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// How a file is opened for writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// It must not be there yet.
    New,
    /// Made when it is not there; writes go to its end.
    Append,
    /// It must be there; writes go to its end.
    Existing,
}

/// Which file a path names at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Identity {
    pub device: u64,
    pub inode: u64,
    /// Bytes.
    pub len: u64,
}

impl Identity {
    pub fn same_file(&self, other: &Identity) -> bool {
        self.device == other.device && self.inode == other.inode
    }
}

/// A file system.
pub trait Storage: Send {
    /// Opens a file that nobody else writes: [`ErrorKind::WouldBlock`] when another one has it open.
    fn open(&self, path: &Path, how: Open, mode: u32) -> Result<Box<dyn StorageFile>>;
    fn identity(&self, path: &Path) -> Result<Identity>;
    /// The content from a byte on.
    fn read(&self, path: &Path, from: u64) -> Result<Vec<u8>>;
    fn rename(&self, from: &Path, to: &Path) -> Result<()>;
    fn remove(&self, path: &Path) -> Result<()>;
    fn create_dirs(&self, path: &Path) -> Result<()>;
    /// Makes the names in a directory survive a loss of power.
    fn sync_dir(&self, path: &Path) -> Result<()>;
}

/// A file open for writing.
pub trait StorageFile: Send {
    fn write_all(&mut self, bytes: &[u8]) -> Result<()>;
    fn set_len(&mut self, bytes: u64) -> Result<()>;
    fn sync(&mut self) -> Result<()>;
    fn identity(&self) -> Result<Identity>;
}

/// The file system of the machine.
pub struct Disk;

impl Storage for Disk {
    fn open(&self, path: &Path, how: Open, mode: u32) -> Result<Box<dyn StorageFile>> {
        let mut options = OpenOptions::new();
        options.append(true).mode(mode);
        match how {
            Open::New => options.create_new(true),
            Open::Append => options.create(true),
            Open::Existing => &mut options,
        };
        let file = options.open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Err(Error::from(ErrorKind::WouldBlock)),
            // A file system without locks: then nobody else can be noticed.
            Err(std::fs::TryLockError::Error(_)) => {}
        }
        Ok(Box::new(DiskFile { file }))
    }

    fn identity(&self, path: &Path) -> Result<Identity> {
        std::fs::metadata(path).map(|metadata| identity(&metadata))
    }

    fn read(&self, path: &Path, from: u64) -> Result<Vec<u8>> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> Result<()> {
        std::fs::remove_file(path)
    }

    fn create_dirs(&self, path: &Path) -> Result<()> {
        std::fs::create_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> Result<()> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        File::open(path)?.sync_all()
    }
}

struct DiskFile {
    file: File,
}

impl Drop for DiskFile {
    fn drop(&mut self) {
        // Closing does not free the lock while a process that is just being started shares the descriptor. Where
        // unlocking fails, closing has to do.
        let _ = self.file.unlock();
    }
}

impl StorageFile for DiskFile {
    fn write_all(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes)
    }

    fn set_len(&mut self, bytes: u64) -> Result<()> {
        self.file.set_len(bytes)
    }

    fn sync(&mut self) -> Result<()> {
        self.file.sync_data()
    }

    fn identity(&self) -> Result<Identity> {
        self.file.metadata().map(|metadata| identity(&metadata))
    }
}

fn identity(metadata: &std::fs::Metadata) -> Identity {
    Identity { device: metadata.dev(), inode: metadata.ino(), len: metadata.len() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process that was just being started (by a source `exec`, say) shared the descriptor for a moment, and with
    /// it the lock: a file that was closed could not be opened again. Closing frees the lock whoever shares it.
    #[test]
    fn a_closed_file_is_free_even_while_its_descriptor_is_shared() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let file = File::create(&path).unwrap();
        let shared = file.try_clone().unwrap();
        file.try_lock().unwrap();
        assert!(Disk.open(&path, Open::Existing, 0o644).is_err(), "it is locked");
        drop(DiskFile { file });
        assert!(Disk.open(&path, Open::Existing, 0o644).is_ok());
        drop(shared);
    }
}
