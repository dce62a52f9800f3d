//! What a server must never forget beside its log: its vote, how far its log was given up, how often it was started. One
//! small file, replaced as a whole, so that a crash leaves the old or the new one.

use std::io;
use std::io::IoSlice;
use std::path::{Path, PathBuf};

use flow_log::Storage;
use serde::{Deserialize, Serialize};

use super::types::{LogId, Vote, log_id};

/// Newest version of the file that this program reads and the one that it writes.
pub(crate) const VERSION: u32 = 1;
const MAGIC: &[u8; 4] = b"FCHS";
const NAME: &str = "vote";
/// Magic, version, length of the text, its CRC-32C.
const HEAD_BYTES: usize = 16;
/// Most that the text may have.
const TEXT_BYTES_MAX: usize = 64 * 1024;

/// The contents of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hard {
    /// Term, server, and whether a quorum has granted it.
    pub vote: Option<(u64, u64, bool)>,
    /// Term and index of the last entry that was given up at the front of the log.
    pub purged: Option<(u64, u64)>,
    /// Term and index of an entry that was committed, if not the last.
    pub committed: Option<(u64, u64)>,
    /// Number of this process among all that worked in the directory: larger than that of any before.
    pub incarnation: u64,
    /// Which ensemble the directory belongs to, and as which server.
    pub cluster: String,
    pub server: u32,
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HardError {
    #[error("cannot use `{}`: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error("`{}` is corrupt: {what}", path.display())]
    Corrupt { path: PathBuf, what: String },
    #[error("`{}` has format version {found}, and this program reads versions up to {VERSION}", path.display())]
    Newer { path: PathBuf, found: u32 },
}

impl Hard {
    pub(crate) fn vote(&self) -> Option<Vote> {
        let (term, server, committed) = self.vote?;
        Some(if committed { Vote::new_committed(term, server) } else { Vote::new(term, server) })
    }

    pub(crate) fn set_vote(&mut self, vote: &Vote) {
        self.vote = Some((vote.leader_id.term, vote.leader_id.voted_for, vote.committed));
    }

    pub(crate) fn purged(&self) -> Option<LogId> {
        self.purged.map(|(term, index)| log_id(term, index))
    }

    /// Reads the file in `dir`; `None` if there is none.
    pub(crate) fn load(storage: &dyn Storage, dir: &Path) -> Result<Option<Hard>, HardError> {
        let path = dir.join(NAME);
        let bytes = match read_file(storage, &path, HEAD_BYTES + TEXT_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(HardError::Io { path, error }),
        };
        let corrupt = |what: &str| HardError::Corrupt { path: path.clone(), what: what.to_owned() };
        let number = |at: usize| {
            bytes.get(at..at + 4).and_then(|four| four.first_chunk()).map(|four| u32::from_be_bytes(*four))
        };
        let (Some(version), Some(length), Some(crc)) = (number(4), number(8), number(12)) else {
            return Err(corrupt("it is too short"));
        };
        if !bytes.starts_with(MAGIC) {
            return Err(corrupt("it does not begin as such a file does"));
        }
        if version > VERSION {
            return Err(HardError::Newer { path, found: version });
        }
        if version == 0 {
            return Err(corrupt("its version is 0"));
        }
        let text = &bytes[HEAD_BYTES..];
        if text.len() != length as usize || crc32c::crc32c(text) != crc {
            return Err(corrupt("its checksum does not fit"));
        }
        serde_json::from_slice(text).map(Some).map_err(|error| corrupt(&error.to_string()))
    }

    /// Replaces the file. It lasts when the call returns.
    pub(crate) fn save(&self, storage: &dyn Storage, dir: &Path) -> io::Result<()> {
        let text = serde_json::to_vec(self)?;
        let mut bytes = Vec::with_capacity(HEAD_BYTES + text.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_be_bytes());
        bytes.extend_from_slice(&(text.len() as u32).to_be_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(&text).to_be_bytes());
        bytes.extend_from_slice(&text);
        let fresh = dir.join(format!("{NAME}.new"));
        let file = storage.create(&fresh)?;
        write_whole(file.as_ref(), &bytes, 0)?;
        file.sync()?;
        storage.rename(&fresh, &dir.join(NAME))?;
        storage.sync_dir(dir)
    }
}

/// Reads a whole file of at most `bytes_max` bytes.
pub(crate) fn read_file(storage: &dyn Storage, path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
    let file = storage.open(path)?;
    let length = usize::try_from(file.len()?).unwrap_or(usize::MAX);
    if length > bytes_max {
        return Err(io::Error::other(format!("it has {length} bytes, more than {bytes_max}")));
    }
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while filled < length {
        match file.read_at(&mut bytes[filled..], filled as u64)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => filled += count,
        }
    }
    Ok(bytes)
}

/// Writes all bytes at a position.
pub(crate) fn write_whole(file: &dyn flow_log::File, mut bytes: &[u8], mut position: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write_at(&[IoSlice::new(bytes)], position) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                bytes = &bytes[count..];
                position += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use flow_log::testing::SimStorage;

    use super::*;

    #[test]
    fn it_comes_back_and_nothing_false_is_taken_for_it() {
        let storage = SimStorage::new(1);
        let dir = Path::new("/s");
        assert_eq!(Hard::load(&storage, dir).unwrap(), None);
        let mut hard = Hard { incarnation: 4, cluster: "c".into(), server: 2, ..Hard::default() };
        hard.set_vote(&Vote::new_committed(7, 3));
        hard.purged = Some((6, 99));
        hard.save(&storage, dir).unwrap();
        storage.crash();
        assert_eq!(Hard::load(&storage, dir).unwrap(), Some(hard.clone()));
        assert_eq!(hard.vote(), Some(Vote::new_committed(7, 3)));
        let path = dir.join(NAME);
        let good = storage.content(&path).unwrap();
        for bit in 0..good.len() as u64 * 8 {
            storage.set_content(&path, &good);
            storage.flip_bit(&path, bit);
            assert!(Hard::load(&storage, dir).is_err(), "bit {bit}");
        }
        for length in 0..good.len() {
            storage.set_content(&path, &good[..length]);
            assert!(Hard::load(&storage, dir).is_err(), "length {length}");
        }
        let mut newer = good.clone();
        newer[7] = 9;
        storage.set_content(&path, &newer);
        assert!(matches!(Hard::load(&storage, dir), Err(HardError::Newer { found: 9, .. })));
    }

    #[test]
    fn a_crash_leaves_the_old_or_the_new_one() {
        for changes in 0..6 {
            let storage = SimStorage::new(changes);
            let dir = Path::new("/s");
            let old = Hard { incarnation: 1, ..Hard::default() };
            let new = Hard { incarnation: 2, ..Hard::default() };
            old.save(&storage, dir).unwrap();
            storage.fail_after(changes);
            let saved = new.save(&storage, dir);
            storage.crash();
            let found = Hard::load(&storage, dir).unwrap().unwrap();
            match saved {
                Ok(()) => assert_eq!(found, new),
                Err(_) => assert!(found == old || found == new),
            }
        }
    }
}
