//! The part of a segment that the checkpoint vouches for: its indexes are used if they fit, else made again.

use super::super::checkpoint::Checkpoint;
use super::super::index::Index;
use super::super::segment::{Segment, State, path_of};
use super::{Damage, Opening};
use crate::error::LogError;

/// Index entries may be this many times further apart than is set before the index counts as lost.
const SPARSE_MAX: u64 = 16;

impl Opening {
    /// Takes a whole segment below the checkpoint as it is. `next_base` is where the next one begins.
    pub(super) fn load_sealed(
        &mut self,
        segment: &Segment,
        size: u64,
        next_base: i64,
    ) -> Result<(), LogError> {
        if let Ok((offsets, times)) = self.open_indexes(segment, None) {
            let inside = |offset: u32| segment.base + i64::from(offset) < next_base;
            let last = (offsets.last(), times.last());
            let known = last.0.map_or(0, |entry| u64::from(entry.position));
            let fit = last.0.is_none_or(|entry| inside(entry.offset))
                && last.1.is_none_or(|entry| inside(entry.offset));
            let newest = last.1.map_or(-1, |entry| entry.timestamp);
            if fit
                && known < size
                && self.reaches(segment, known, size)?.is_some_and(|(found, _)| found <= newest)
            {
                let mut state = segment.write_state();
                (state.offsets, state.times) = (offsets, times);
                state.max_timestamp = newest;
                state.max_timestamp_offset =
                    last.1.map_or(segment.base, |entry| segment.base + i64::from(entry.offset));
                state.size = size;
                state.next_offset = next_base;
                self.next_offset = next_base;
                return Ok(());
            }
        }
        self.rebuild(segment, size)?;
        let mut state = segment.write_state();
        state.note_time(segment.base);
        state.store_indexes()?;
        state.size = size;
        state.next_offset = next_base;
        self.next_offset = next_base;
        Ok(())
    }

    /// Takes the first `trusted` bytes of the checkpoint's segment.
    pub(super) fn load_trusted(
        &mut self,
        segment: &Segment,
        trusted: u64,
        checkpoint: Option<&Checkpoint>,
    ) -> Result<(), LogError> {
        let Some(checkpoint) = checkpoint else {
            // All of it is checked, and the indexes are made on the way; old files are overwritten.
            return Ok(());
        };
        let entries = (checkpoint.offset_entries, checkpoint.time_entries);
        if let Ok((offsets, times)) = self.open_indexes(segment, Some(entries)) {
            let mut state = segment.write_state();
            (state.offsets, state.times) = (offsets, times);
            let below = |offset: u32| segment.base + i64::from(offset) < checkpoint.offset;
            // Entries for batches after the checkpoint come again when those are checked.
            let cut = state
                .offsets
                .truncate(|one| u64::from(one.position) < trusted && below(one.offset))
                .and_then(|()| state.times.truncate(|one| below(one.offset)));
            let known = state.offsets.last().map_or(0, |entry| u64::from(entry.position));
            if cut.is_ok()
                && let Some(tail) = self.reaches(segment, known, trusted)?
            {
                // Everything up to the last offset entry is no newer than the last time entry.
                let entry =
                    state.times.last().map(|one| (one.timestamp, segment.base + i64::from(one.offset)));
                let newest = entry.filter(|(timestamp, _)| *timestamp >= tail.0).unwrap_or(tail);
                (state.max_timestamp, state.max_timestamp_offset) = newest;
                state.size = trusted;
                state.next_offset = checkpoint.offset;
                state.set_since_entry(trusted - known);
                return Ok(());
            }
        }
        self.rebuild(segment, trusted)?;
        segment.write_state().next_offset = checkpoint.offset;
        Ok(())
    }

    /// Whether an index whose last entry is for the batch at `known` may be whole: no further entry is due up to `size`.
    /// Gives the largest timestamp of the batches from there on and the last offset of the first batch with it; `None` if
    /// entries are missing.
    fn reaches(&self, segment: &Segment, known: u64, size: u64) -> Result<Option<(i64, i64)>, LogError> {
        let due = SPARSE_MAX.saturating_mul(self.config.index_interval_bytes);
        let mut newest = (-1, segment.base);
        for found in segment.scan(known, size) {
            match found {
                Ok((at, header)) if at - known <= due => {
                    if header.max_timestamp > newest.0 {
                        newest = (header.max_timestamp, header.last_offset());
                    }
                }
                Ok(_) | Err(LogError::Corrupt { .. }) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok(Some(newest))
    }

    #[allow(clippy::type_complexity)]
    fn open_indexes(
        &self,
        segment: &Segment,
        entries: Option<(u64, u64)>,
    ) -> std::io::Result<(Index<super::super::index::OffsetEntry>, Index<super::super::index::TimeEntry>)>
    {
        let storage = &self.storage;
        let offsets = path_of(&self.dir, segment.base, "index");
        let times = path_of(&self.dir, segment.base, "timeindex");
        Ok((
            Index::open(storage.clone(), offsets, entries.map(|(offsets, _)| offsets))?,
            Index::open(storage.clone(), times, entries.map(|(_, times)| times))?,
        ))
    }

    /// Makes the indexes again from the headers of the first `size` bytes.
    fn rebuild(&mut self, segment: &Segment, size: u64) -> Result<(), LogError> {
        let mut state = segment.write_state();
        *state = State::empty(&self.storage, &self.dir, segment.base);
        for found in segment.scan(0, size) {
            match found {
                Ok((at, header)) => state.note(segment.base, at, &header, self.config.index_interval_bytes),
                Err(LogError::Corrupt { file, position, what }) => {
                    let what = what.to_string();
                    self.report.damage.push(Damage { file, position, what, kept: None });
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        state.size = size;
        self.report.rebuilt.push(path_of(&self.dir, segment.base, "index"));
        Ok(())
    }
}
