//! The small door between the log and the disk, so that tests can put a breaking disk behind it.
//!
//! Durability is as POSIX has it: bytes last after [`File::sync`], names after [`Storage::sync_dir`].

mod disk;

use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;

pub use disk::Disk;

/// Files by path.
pub trait Storage: Send + Sync {
    /// Opens an existing file to read and write.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Makes an empty file to read and write; one that exists is emptied.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Replaces `to` in one step.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// The names of the files in a directory, in no order; names that are not UTF-8 are left out.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Makes a directory and its parents; one that exists is fine.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// The names of the directories in a directory, in no order. None where directories are only parts of names.
    fn list_dirs(&self, _dir: &Path) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }
    /// Removes a directory with its files.
    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        self.list(dir)?.iter().try_for_each(|name| self.remove(&dir.join(name)))
    }
    /// Makes the names in a directory last.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Bytes that can still be written.
    fn free_bytes(&self, dir: &Path) -> io::Result<u64>;
}

/// An open file. Every call names its position, so one handle serves readers and the writer alike.
pub trait File: Send + Sync {
    /// Reads up to `buffer.len()` bytes; 0 at the end of the file.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize>;
    /// Writes some of the pieces, one after the other, and says how many bytes.
    fn write_at(&self, pieces: &[IoSlice<'_>], position: u64) -> io::Result<usize>;
    /// Makes what was written last, as `fdatasync` does.
    fn sync(&self) -> io::Result<()>;
    fn set_len(&self, bytes: u64) -> io::Result<()>;
    fn len(&self) -> io::Result<u64>;
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// The descriptor for `sendfile`, where there is one.
    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// Fills `buffer`, else `UnexpectedEof`.
pub(crate) fn read_exact(file: &dyn File, mut buffer: &mut [u8], mut position: u64) -> io::Result<()> {
    while !buffer.is_empty() {
        match file.read_at(buffer, position) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                buffer = &mut buffer[count..];
                position += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Fills as much of `buffer` as the file has, and says how much.
pub(crate) fn read_up_to(file: &dyn File, buffer: &mut [u8], position: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], position + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Writes all pieces; on an error some of them may have been written.
pub(crate) fn write_all(
    file: &dyn File,
    mut pieces: &mut [IoSlice<'_>],
    mut position: u64,
) -> io::Result<()> {
    IoSlice::advance_slices(&mut pieces, 0);
    while !pieces.is_empty() {
        match file.write_at(pieces, position) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                IoSlice::advance_slices(&mut pieces, count);
                position += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
