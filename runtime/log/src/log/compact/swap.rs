//! The file of a compaction on its way into the log.

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::super::Log;
use super::super::segment::{Segment, path_of};
use crate::batch::Header;
use crate::error::LogError;
use crate::storage::write_all;

/// Bytes that are gathered for one write.
const WRITE_BYTES: usize = 1 << 20;

/// What a `.swap` file replaces: it is named after it, so that a recovery knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Swap {
    /// The segments with a base from here on …
    pub base: i64,
    /// … and below this.
    pub upper: i64,
}

impl Swap {
    pub fn path(&self, dir: &Path) -> PathBuf {
        dir.join(format!("{:020}-{:020}.swap", self.base, self.upper))
    }

    pub fn parse(name: &str) -> Option<Swap> {
        let (base, upper) = name.strip_suffix(".swap")?.split_once('-')?;
        let digits = |text: &str| text.len() == 20 && text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(base) || !digits(upper) {
            return None;
        }
        let swap = Swap { base: base.parse().ok()?, upper: upper.parse().ok()? };
        (swap.base < swap.upper).then_some(swap)
    }
}

/// A segment that is being written.
pub(super) struct Output<'a> {
    log: &'a Log,
    swap: Swap,
    path: PathBuf,
    segment: Segment,
    index_interval_bytes: u64,
    /// Batches that are noted but not yet written, and where they go.
    buffer: Vec<u8>,
    written: u64,
}

impl<'a> Output<'a> {
    pub fn create(log: &'a Log, base: i64, upper: i64) -> Result<Output<'a>, LogError> {
        let path = path_of(&log.dir, base, "log.cleaned");
        let file = log.storage.create(&path).map_err(|error| LogError::io("create", &path, error))?;
        Ok(Output {
            log,
            swap: Swap { base, upper },
            path,
            segment: Segment::new(&log.storage, &log.dir, base, file),
            index_interval_bytes: log.config().index_interval_bytes,
            buffer: Vec::with_capacity(WRITE_BYTES),
            written: 0,
        })
    }

    pub fn bytes(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    pub fn push(&mut self, batch: &[u8]) -> Result<(), LogError> {
        let header = Header::parse(batch)?;
        let position = self.bytes();
        self.segment.write_state().note(self.swap.base, position, &header, self.index_interval_bytes);
        self.buffer.extend_from_slice(batch);
        if self.buffer.len() >= WRITE_BYTES { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<(), LogError> {
        let pieces = &mut [IoSlice::new(&self.buffer)];
        write_all(self.segment.file.as_ref(), pieces, self.written)
            .map_err(|error| LogError::io("write", &self.path, error))?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Gives it up.
    pub fn discard(self) -> Result<(), LogError> {
        // Dropped.
        Ok(())
    }

    /// Puts it in the place of the segments it was made of.
    pub fn swap_in(mut self, group: &[Arc<Segment>]) -> Result<(), LogError> {
        self.write()?;
        let (log, storage) = (self.log, self.log.storage.as_ref());
        self.segment.file.sync().map_err(|error| LogError::io("sync", &self.path, error))?;
        let mut state = self.segment.write_state();
        state.next_offset = self.swap.upper;
        state.note_time(self.swap.base);
        drop(state);
        let swap = self.swap.path(&log.dir);
        // The names must last in this order; the directory is synced between the steps that depend on each other.
        log.sync_dir()?;
        storage.rename(&self.path, &swap).map_err(|error| LogError::io("rename", &self.path, error))?;
        // From here on only forward: whatever fails now, memory would no longer be what the disk has.
        let path = std::mem::take(&mut self.path);
        let done = log.sync_dir().and_then(|()| {
            for segment in group {
                segment.write_state().forget_indexes();
                log.remove_indexes(segment)?;
            }
            // Nothing may be left: then there is no segment either, since an empty file would look like one.
            let (to, replaced) = match self.written {
                0 => (None, group),
                _ => (Some(path_of(&log.dir, self.swap.base, "log")), &group[1..]),
            };
            for segment in replaced {
                log.remove(&segment.path)?;
            }
            log.sync_dir()?;
            match to {
                None => log.remove(&swap)?,
                Some(to) => {
                    storage.rename(&swap, &to).map_err(|error| LogError::io("rename", &path, error))?;
                }
            }
            log.sync_dir()
        });
        done.map_err(|error| log.poison(&error))?;
        let segment = Arc::new(std::mem::replace(
            &mut self.segment,
            Segment::new(&log.storage, &log.dir, self.swap.base, group[0].file.clone()),
        ));
        // An index is only a help: one that cannot be written stays in memory, and the next recovery makes it again.
        let stored = segment.write_state().store_indexes();
        if let Err(error) = stored {
            tracing::warn!(file = %segment.path.display(), %error, "the indexes could not be written");
        }
        let writer = log.lock_writer();
        let replaced = self.swap.base..self.swap.upper;
        let mut segments = log.view().to_vec();
        let at = segments.partition_point(|one| one.base < replaced.start);
        segments.retain(|one| !replaced.contains(&one.base));
        if segment.size() > 0 {
            segments.insert(at, segment);
        }
        log.set_view(segments);
        log.dir_changed.store(true, Ordering::Release);
        drop(writer);
        Ok(())
    }
}

impl Drop for Output<'_> {
    fn drop(&mut self) {
        // Left as it is only if the program ends here; recovery removes it then.
        if !self.path.as_os_str().is_empty() {
            let _ = self.log.storage.remove(&self.path);
        }
    }
}
