//! Which file is which: device and inode, and the first bytes, because an inode number is used again soon after
//! its file is deleted.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// How many of the first bytes are remembered.
pub const FINGERPRINT_BYTES: usize = 1024;

/// Names a file as long as it exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Inode {
    pub device: u64,
    pub inode: u64,
}

impl Inode {
    pub fn of(meta: &Metadata) -> Inode {
        Inode { device: meta.dev(), inode: meta.ino() }
    }
}

/// The first bytes of a file: how many were there, and their hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    pub length: u32,
    pub hash: u64,
}

impl Fingerprint {
    pub fn of(file: &File) -> io::Result<Fingerprint> {
        let bytes = read_at(file, 0, FINGERPRINT_BYTES)?;
        Ok(Fingerprint { length: bytes.len() as u32, hash: hash(&bytes) })
    }

    /// Whether the file still begins as it did. A file that has grown gets its longer fingerprint.
    pub fn verify(&mut self, file: &File) -> io::Result<bool> {
        let bytes = read_at(file, 0, FINGERPRINT_BYTES)?;
        let Some(known) = bytes.get(..self.length as usize) else { return Ok(false) };
        if hash(known) != self.hash {
            return Ok(false);
        }
        if bytes.len() > self.length as usize {
            *self = Fingerprint { length: bytes.len() as u32, hash: hash(&bytes) };
        }
        Ok(true)
    }
}

fn hash(bytes: &[u8]) -> u64 {
    if bytes.is_empty() {
        return 0;
    }
    let digest = Sha256::digest(bytes);
    u64::from_le_bytes(digest[..8].try_into().unwrap_or_default())
}

/// Up to `len` bytes from a position; fewer only at the end of the file.
pub fn read_at(file: &File, position: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    let filled = fill_at(file, position, &mut bytes, 0)?;
    bytes.truncate(filled);
    Ok(bytes)
}

/// Reads the bytes of the file that belong into `bytes`, whose first byte is the one at `position`, from
/// `bytes[filled]` on. Gives how many are there now: fewer than fit only at the end of the file.
pub fn fill_at(file: &File, position: u64, bytes: &mut [u8], mut filled: usize) -> io::Result<usize> {
    while filled < bytes.len() {
        match rustix::io::pread(file, &mut bytes[filled..], position + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(filled)
}
