//! What is left of work that a crash interrupted: removed, or brought to its end.

use std::path::Path;

use super::super::compact::Swap;
use super::super::segment::{base_of, path_of};
use super::Opening;
use crate::error::LogError;

impl Opening {
    /// Removes what is left of interrupted work; gives the bases of the segments in order.
    pub(super) fn tidy(&mut self, names: &[String]) -> Result<Vec<i64>, LogError> {
        for name in names.iter().filter(|name| name.ends_with(".tmp") || name.ends_with(".cleaned")) {
            let path = self.dir.join(name);
            self.storage.remove(&path).map_err(|error| LogError::io("remove", &path, error))?;
        }
        let mut bases: Vec<i64> = names.iter().filter_map(|name| base_of(name, "log")).collect();
        bases.sort_unstable();
        self.complete_swaps(names, &mut bases)?;
        // Deleting them was interrupted: their records lie before the log's start.
        if let Some(start) = self.checkpoint.map(|checkpoint| checkpoint.start) {
            let keep = bases.partition_point(|base| *base <= start).max(1) - 1;
            for base in bases.drain(..keep) {
                self.remove_segment(base)?;
            }
        }
        // Indexes without a segment.
        for extension in ["index", "timeindex"] {
            for base in names.iter().filter_map(|name| base_of(name, extension)) {
                if bases.binary_search(&base).is_err() {
                    self.remove(&path_of(&self.dir, base, extension))?;
                }
            }
        }
        Ok(bases)
    }

    /// Finishes compactions that had passed the point of no return.
    fn complete_swaps(&mut self, names: &[String], bases: &mut Vec<i64>) -> Result<(), LogError> {
        for swap in names.iter().filter_map(|name| Swap::parse(name)) {
            let from = swap.path(&self.dir);
            let file = self.storage.open(&from).map_err(|error| LogError::io("open", &from, error))?;
            let empty = file.is_empty().map_err(|error| LogError::io("read", &from, error))?;
            for base in bases.extract_if(.., |base| (swap.base..swap.upper).contains(base)) {
                for extension in ["index", "timeindex"] {
                    self.remove(&path_of(&self.dir, base, extension))?;
                }
                if base != swap.base || empty {
                    self.remove(&path_of(&self.dir, base, "log"))?;
                }
            }
            self.sync_dir()?;
            if empty {
                self.remove(&from)?;
                continue;
            }
            let to = path_of(&self.dir, swap.base, "log");
            self.storage.rename(&from, &to).map_err(|error| LogError::io("rename", &from, error))?;
            self.sync_dir()?;
            let at = bases.partition_point(|base| *base < swap.base);
            bases.insert(at, swap.base);
        }
        Ok(())
    }

    pub(super) fn sync_dir(&self) -> Result<(), LogError> {
        self.storage.sync_dir(&self.dir).map_err(|error| LogError::io("sync", &self.dir, error))
    }

    pub(super) fn remove_segment(&self, base: i64) -> Result<(), LogError> {
        ["index", "timeindex", "log"]
            .iter()
            .try_for_each(|extension| self.remove(&path_of(&self.dir, base, extension)))
    }

    pub(super) fn remove(&self, path: &Path) -> Result<(), LogError> {
        match self.storage.remove(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(LogError::io("remove", path, error))
            }
            _ => Ok(()),
        }
    }
}
