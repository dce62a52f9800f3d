//! Cutting what is broken: a torn tail goes, everything else is kept beside the log.

use std::io::IoSlice;
use std::path::{Path, PathBuf};

use super::super::segment::{Segment, path_of};
use super::{Cut, Damage, Opening};
use crate::batch::{self, BatchError, HEADER_BYTES, Header};
use crate::error::LogError;
use crate::storage::{File, read_exact, write_all};

/// Bytes that are searched or copied at once.
const CHUNK_BYTES: u64 = 1 << 20;
/// Broken parts that are kept under one name; the last is overwritten.
const KEPT_MAX: usize = 100;
/// Places after a broken batch that look like a batch and are checked for being one.
const CANDIDATES_MAX: usize = 4096;

impl Opening {
    /// Ends the log at `position` of `segment`. If good batches follow, or other segments do, it is no torn tail: all of
    /// it is kept under names that end in `.corrupt`.
    pub(super) fn cut(
        &mut self,
        segment: &Segment,
        position: u64,
        size: u64,
        broken: &BatchError,
        later: &[i64],
    ) -> Result<(), LogError> {
        let file = segment.file.as_ref();
        let next_offset = segment.read_state().next_offset;
        let torn = later.is_empty()
            && !batch_follows(file, position, size, next_offset)
                .map_err(|error| LogError::io("read", &segment.path, error))?;
        if torn {
            let cut = Cut { file: segment.path.clone(), position, bytes: size - position };
            tracing::warn!(file = %cut.file.display(), position, bytes = cut.bytes, "cut a torn tail");
            self.report.cut = Some(cut);
        } else {
            let kept = self.free_name(segment.path.with_extension(format!("log.{position}.corrupt")));
            self.copy(file, position, size, &kept)?;
            self.damaged(&segment.path, position, broken.to_string(), kept);
            self.set_aside_all(later, "the segment before it is corrupt")?;
        }
        self.unsynced = true;
        file.set_len(position).map_err(|error| LogError::io("cut", &segment.path, error))
    }

    fn damaged(&mut self, file: &Path, position: u64, what: String, kept: PathBuf) {
        tracing::error!(file = %file.display(), position, %what, kept = %kept.display(), "the log is corrupt");
        self.report.damage.push(Damage { file: file.to_owned(), position, what, kept: Some(kept) });
    }

    fn copy(&self, file: &dyn File, mut position: u64, end: u64, to: &Path) -> Result<(), LogError> {
        let copied = self.storage.create(to).and_then(|copy| {
            let mut at = 0;
            let mut chunk = Vec::new();
            while position < end {
                chunk.resize((end - position).min(CHUNK_BYTES) as usize, 0);
                read_exact(file, &mut chunk, position)?;
                write_all(copy.as_ref(), &mut [IoSlice::new(&chunk)], at)?;
                position += chunk.len() as u64;
                at += chunk.len() as u64;
            }
            copy.sync()?;
            self.storage.sync_dir(&self.dir)
        });
        copied.map_err(|error| LogError::io("write", to, error))
    }

    /// Takes later segments out of the log: what they hold cannot follow what is there. The newest first, so that a crash
    /// meanwhile leaves no gap.
    pub(super) fn set_aside_all(&mut self, bases: &[i64], what: &str) -> Result<(), LogError> {
        for base in bases.iter().rev() {
            for extension in ["index", "timeindex"] {
                self.remove(&path_of(&self.dir, *base, extension))?;
            }
            let path = path_of(&self.dir, *base, "log");
            let file = self.storage.open(&path).map_err(|error| LogError::io("open", &path, error))?;
            if file.is_empty().map_err(|error| LogError::io("read", &path, error))? {
                self.remove(&path)?;
            } else {
                let kept = self.free_name(path.with_extension("log.corrupt"));
                self.storage.rename(&path, &kept).map_err(|error| LogError::io("rename", &path, error))?;
                self.damaged(&path, 0, what.to_owned(), kept);
            }
            self.sync_dir()?;
        }
        self.unsynced = true;
        Ok(())
    }

    /// The path itself, or with a number if something was kept under it before.
    fn free_name(&self, path: PathBuf) -> PathBuf {
        let taken = |path: &Path| self.storage.open(path).is_ok();
        if !taken(&path) {
            return path;
        }
        let numbered = (2..KEPT_MAX).map(|number| PathBuf::from(format!("{}.{number}", path.display())));
        numbered.into_iter().find(|path| !taken(path)).unwrap_or(path)
    }
}

/// Whether a good batch stands anywhere after `position`, at an offset that could follow.
fn batch_follows(file: &dyn File, position: u64, size: u64, next_offset: i64) -> std::io::Result<bool> {
    let mut candidates = 0;
    let mut start = position + 1;
    let mut window = Vec::new();
    while start + HEADER_BYTES as u64 <= size {
        window.resize((size - start).min(CHUNK_BYTES) as usize, 0);
        read_exact(file, &mut window, start)?;
        let places = window.len() - HEADER_BYTES + 1;
        for at in 0..places {
            // The magic first: it rules nearly all places out.
            if window[at + 16] != 2 {
                continue;
            }
            let Ok(header) = Header::parse(&window[at..]) else { continue };
            let place = start + at as u64;
            let near = next_offset..=next_offset.saturating_add(i64::from(i32::MAX));
            if header.size() as u64 > size - place || !near.contains(&header.base_offset) {
                continue;
            }
            candidates += 1;
            if candidates > CANDIDATES_MAX {
                // So much that looks like batches is not what a crash leaves.
                return Ok(true);
            }
            let mut bytes = vec![0; header.size()];
            read_exact(file, &mut bytes, place)?;
            if batch::check_stored(&bytes).is_ok() {
                return Ok(true);
            }
        }
        start += places as u64;
    }
    Ok(false)
}
