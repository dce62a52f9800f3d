//! Puts one file of the journal in order: cut to what is committed, ended, renamed. The same for a file that was
//! filled, for one whose write failed, and for one that a crash left.

use std::path::{Path, PathBuf};

use super::Sync;
use super::codec::{Codec, Compressed, decode_lossy};
use super::journal::{ANNOUNCED, Committed, Entry, Record};
use super::storage::{Identity, Open};
use super::writer::{WriteError, Writer, is_gone};

/// The end of a file that is searched for a newline at first, in bytes; then twice as much, and so on.
const TAIL_BYTES: u64 = 64 << 10;

/// The largest compressed file that is decoded to save what is left of it, in bytes.
const SALVAGE_BYTES_MAX: u64 = 256 << 20;

/// Names tried for a finished file whose name is taken.
const NAMES_MAX: u32 = 100_000;

impl Writer {
    /// Finishes a file that is not open any more. Can be repeated after an error at any step.
    pub(super) fn settle(&mut self, id: u64) -> Result<(), WriteError> {
        let Some(entry) = self.journal.as_ref().and_then(|journal| journal.open().get(&id)).cloned() else {
            return Ok(());
        };
        let path = PathBuf::from(&entry.path);
        let identity = match self.storage.identity(&path) {
            Ok(identity) => identity,
            // It has its name already, or somebody took it away.
            Err(error) if is_gone(&error) => return self.append(vec![Record::Done(id)], false),
            Err(error) => return Err(WriteError::file("read", &path, error)),
        };
        if entry.inode == ANNOUNCED {
            // It was made and not noted: nothing can have been written to it.
            if identity.len == 0 {
                match self.storage.remove(&path) {
                    Err(error) if !is_gone(&error) => return Err(WriteError::file("remove", &path, error)),
                    _ => {}
                }
            }
            return self.append(vec![Record::Done(id)], false);
        }
        if identity.device != entry.device || identity.inode != entry.inode {
            tracing::warn!(path = %path.display(), "another file has taken the place of this one: it is left alone");
            return self.append(vec![Record::Done(id)], false);
        }
        let mut state = entry.state;
        if identity.len != state.len || state.stream.open {
            state = self.cut(&entry, identity)?;
            self.append(vec![Record::Commit(id, state)], self.options.sync == Sync::Batch)?;
        }
        if state.len == 0 && entry.created {
            match self.storage.remove(&path) {
                Err(error) if !is_gone(&error) => return Err(WriteError::file("remove", &path, error)),
                _ => {}
            }
        } else if let Some(final_path) = &entry.final_path {
            self.rename(&path, final_path)?;
        }
        self.append(vec![Record::Done(id)], false)
    }

    /// Cuts a file to its committed content and ends its stream.
    fn cut(&mut self, entry: &Entry, identity: Identity) -> Result<Committed, WriteError> {
        let path = Path::new(&entry.path);
        let fault = |error| WriteError::file("repair", path, error);
        let mut file = self.storage.open(path, Open::Existing, self.options.mode).map_err(fault)?;
        let (keep, end) = if identity.len >= entry.state.len {
            (entry.state.len, entry.state.stream.end(entry.compressed))
        } else {
            // The machine lost what the operating system had promised.
            tracing::warn!(
                path = %path.display(),
                lost_bytes = entry.state.len - identity.len,
                "the disk has less of the file than was written"
            );
            match entry.compressed {
                Compressed::None => (self.last_line_end(path, identity.len).map_err(fault)?, Vec::new()),
                _ if identity.len > SALVAGE_BYTES_MAX => (identity.len, Vec::new()),
                compressed => (0, self.salvage(path, compressed).map_err(fault)?),
            }
        };
        file.set_len(keep).map_err(fault)?;
        if !end.is_empty() {
            file.write_all(&end).map_err(fault)?;
        }
        if self.options.sync != Sync::Never {
            file.sync().map_err(fault)?;
        }
        Ok(Committed { len: keep + end.len() as u64, ..Committed::default() })
    }

    /// The length of a file up to its last newline.
    fn last_line_end(&self, path: &Path, len: u64) -> std::io::Result<u64> {
        let mut tail_bytes = TAIL_BYTES;
        loop {
            let from = len.saturating_sub(tail_bytes);
            let tail = self.storage.read(path, from)?;
            match tail.iter().rposition(|&byte| byte == b'\n') {
                Some(newline) => return Ok(from + newline as u64 + 1),
                None if from == 0 => return Ok(0),
                None => tail_bytes *= 2,
            }
        }
    }

    /// The complete lines of a cut compressed file, compressed again.
    fn salvage(&self, path: &Path, compressed: Compressed) -> std::io::Result<Vec<u8>> {
        let text = decode_lossy(compressed, &self.storage.read(path, 0)?);
        let lines = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1);
        let mut out = Vec::new();
        if lines > 0 {
            let mut codec = Codec::new(compressed, self.options.level);
            codec.compress(&text[..lines], &mut out)?;
            codec.finish(&mut out)?;
        }
        Ok(out)
    }

    /// Gives a file its final name, or that with a number when it is taken.
    fn rename(&self, path: &Path, final_path: &str) -> Result<(), WriteError> {
        let mut to = PathBuf::from(final_path);
        for count in 1..NAMES_MAX {
            match self.storage.identity(&to) {
                Ok(_) => to = PathBuf::from(super::path::numbered(final_path, count)),
                Err(_) => break,
            }
        }
        self.storage.rename(path, &to).map_err(|error| WriteError::file("rename", path, error))?;
        if self.options.sync != Sync::Never
            && let Some(directory) = to.parent()
        {
            self.storage.sync_dir(directory).map_err(|error| WriteError::file("sync", directory, error))?;
        }
        Ok(())
    }
}
