//! A lock file that keeps a second process out of a directory.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// The lock file's name.
const FILE: &str = ".lock";
/// Most that is read of a lock file: a process id.
const TEXT_BYTES_MAX: u64 = 32;

/// Held as long as it lives; the system drops it with the process, however that ends.
#[derive(Debug)]
pub struct DirLock {
    _file: fs::File,
}

#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process, or another place in this one, works in the directory.
    #[error("`{}` is in use{}", dir.display(), process.map_or(String::new(), |id| format!(" by process {id}")))]
    Held { dir: PathBuf, process: Option<u32> },
    #[error("cannot lock `{}`: {error}", dir.display())]
    Io { dir: PathBuf, error: io::Error },
}

impl DirLock {
    /// Locks a directory, which is made if it is missing. Does not wait.
    pub fn take(dir: &Path) -> Result<DirLock, LockError> {
        let failed = |error| LockError::Io { dir: dir.to_owned(), error };
        fs::create_dir_all(dir).map_err(failed)?;
        let mut file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(dir.join(FILE))
            .map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut text = String::new();
                let _ = (&mut file).take(TEXT_BYTES_MAX).read_to_string(&mut text);
                return Err(LockError::Held { dir: dir.to_owned(), process: text.trim().parse().ok() });
            }
            Err(error) => return Err(failed(error.into())),
        }
        // Only for the message of whoever comes second: failing to write it (a full disk) is no reason to stop.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(DirLock { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_taker_is_told_who_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("new");
        let first = DirLock::take(&dir).unwrap();
        match DirLock::take(&dir) {
            Err(LockError::Held { process, .. }) => assert_eq!(process, Some(std::process::id())),
            other => panic!("{other:?}"),
        }
        drop(first);
        DirLock::take(&dir).unwrap();
    }
}
