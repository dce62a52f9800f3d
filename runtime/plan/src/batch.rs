//! Events travel in column-shaped batches: one arena of bytes, ranges into it, one column per header slot, and a
//! selection of the rows that are still alive.
//!
//! The columns are shared between the copies that a route or a fan-out makes; whoever changes a shared batch
//! pays for its own copy.

use std::sync::{Arc, Mutex, MutexGuard};

use crate::ack::Ack;

/// Bytes that may be read past the end of any range, always zero: generated code and SIMD kernels load whole
/// words (an invariant of [`Arena`]).
pub const ARENA_PADDING: usize = 64;

/// The largest arena, in bytes without padding. Ranges are 32 bits wide; a batch that would grow beyond this
/// refuses the value instead.
pub const ARENA_BYTES_MAX: usize = u32::MAX as usize - 4096;

/// The number of a header name in [`crate::Plan::slots`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Slot(pub u32);

/// A piece of the arena, or nothing. Its layout is part of the contract with machine code.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Range {
    pub start: u32,
    pub len: u32,
}

impl Range {
    /// The header is not there.
    pub const ABSENT: Range = Range { start: u32::MAX, len: 0 };

    pub fn new(start: usize, len: usize) -> Range {
        debug_assert!(start + len <= ARENA_BYTES_MAX);
        Range { start: start as u32, len: len as u32 }
    }

    pub fn is_absent(self) -> bool {
        self.start == u32::MAX
    }

    pub fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.start as usize + self.len as usize
    }
}

impl std::fmt::Debug for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.is_absent() { f.write_str("absent") } else { write!(f, "{}+{}", self.start, self.len) }
    }
}

/// Bytes that only grow, followed by [`ARENA_PADDING`] zero bytes.
#[derive(Clone)]
pub struct Arena {
    bytes: Vec<u8>,
}

/// The arena is at [`ARENA_BYTES_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArenaFull;

impl Default for Arena {
    fn default() -> Arena {
        Arena::with_capacity(0)
    }
}

/// Buffers of dropped arenas, for the next read: a buffer that comes and goes for each batch costs page faults
/// and, passed between threads, memory that the allocator keeps in each of them.
static SPARE: Mutex<Spare> = Mutex::new(Spare { buffers: Vec::new(), bytes: 0 });

struct Spare {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
}

/// All spare buffers together, in bytes.
const SPARE_BYTES_MAX: usize = 8 << 20;

/// The size of a buffer worth keeping, in bytes.
const SPARE_BUFFER: std::ops::RangeInclusive<usize> = 64 << 10..=2 << 20;

fn spare() -> MutexGuard<'static, Spare> {
    // It is whole between statements.
    SPARE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Drop for Arena {
    fn drop(&mut self) {
        let size = self.bytes.capacity();
        if !SPARE_BUFFER.contains(&size) {
            return;
        }
        let mut spare = spare();
        if spare.bytes + size <= SPARE_BYTES_MAX {
            spare.bytes += size;
            spare.buffers.push(std::mem::take(&mut self.bytes));
        }
    }
}

impl Arena {
    /// A buffer to read `len` bytes into, with room for `extra` more and the padding, to be given to
    /// [`Arena::from_vec`]. What is in it has no meaning: it may be what another batch left.
    pub fn buffer(len: usize, extra: usize) -> Vec<u8> {
        let size = len.saturating_add(extra).saturating_add(ARENA_PADDING);
        let fits = size..=size.saturating_mul(2);
        let found = {
            let mut spare = spare();
            let index = spare.buffers.iter().rposition(|buffer| fits.contains(&buffer.capacity()));
            index.map(|index| {
                let buffer = spare.buffers.swap_remove(index);
                spare.bytes -= buffer.capacity();
                buffer
            })
        };
        let mut buffer = found.unwrap_or_else(|| Vec::with_capacity(size));
        // Nothing or little to fill in: a spare buffer is about as long as the last one was.
        buffer.resize(len, 0);
        buffer
    }

    pub fn with_capacity(bytes: usize) -> Arena {
        let mut vec = Vec::with_capacity(bytes + ARENA_PADDING);
        vec.resize(ARENA_PADDING, 0);
        Arena { bytes: vec }
    }

    /// Takes bytes that a source has read, adding the padding.
    pub fn from_vec(mut bytes: Vec<u8>) -> Result<Arena, ArenaFull> {
        if bytes.len() > ARENA_BYTES_MAX {
            return Err(ArenaFull);
        }
        bytes.resize(bytes.len() + ARENA_PADDING, 0);
        Ok(Arena { bytes })
    }

    /// Length without padding.
    pub fn len(&self) -> usize {
        self.bytes.len() - ARENA_PADDING
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The content without padding.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len()]
    }

    /// The content with its padding.
    pub fn padded(&self) -> &[u8] {
        &self.bytes
    }

    pub fn get(&self, range: Range) -> Option<&[u8]> {
        if range.is_absent() { None } else { self.bytes().get(range.range()) }
    }

    /// Makes room for `extra` more bytes. When that means moving, the old arena is given back: what points into it
    /// can still be read there.
    pub fn make_room(&mut self, extra: usize) -> Option<Arena> {
        let needed = self.bytes.len().saturating_add(extra);
        if needed <= self.bytes.capacity() {
            return None;
        }
        let mut bytes = Vec::with_capacity(needed.max(self.bytes.len().saturating_mul(2)));
        bytes.extend_from_slice(&self.bytes);
        Some(std::mem::replace(self, Arena { bytes }))
    }

    pub fn push(&mut self, value: &[u8]) -> Result<Range, ArenaFull> {
        let start = self.len();
        if value.len() > ARENA_BYTES_MAX - start {
            return Err(ArenaFull);
        }
        self.bytes.truncate(start);
        self.bytes.extend_from_slice(value);
        self.bytes.resize(start + value.len() + ARENA_PADDING, 0);
        Ok(Range::new(start, value.len()))
    }
}

/// Headers of one row whose names no program mentions: they ride along.
pub type SideHeaders = Vec<(Arc<str>, Range)>;

/// The columns of a batch. All vectors that are not empty have one entry per row.
#[derive(Clone, Default)]
pub struct Columns {
    pub arena: Arena,
    pub bodies: Vec<Range>,
    /// Milliseconds since 1970 UTC.
    pub times: Vec<i64>,
    /// By slot; an empty column means absent in every row. May be shorter than the plan's list of slots.
    pub headers: Vec<Vec<Range>>,
    /// Empty when no row has any.
    pub side: Vec<SideHeaders>,
    /// Name of the source.
    pub source: Arc<str>,
    /// `event.id` of row r is `first_id + r`, unless `ids` says otherwise.
    pub first_id: u64,
    /// `event.id` by row, once rows were put between others; empty before. An emitted event has the id of the
    /// one it came from.
    pub ids: Vec<u64>,
}

/// Rows of shared columns, with a share of the acknowledgement of the source.
#[derive(Default)]
pub struct Batch {
    pub columns: Arc<Columns>,
    /// The rows alive, ascending.
    pub rows: Vec<u32>,
    pub ack: Ack,
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Batch({} of {} rows, {:?})", self.rows.len(), self.columns.bodies.len(), self.ack)
    }
}

impl Batch {
    /// A batch of all rows of the columns.
    pub fn new(columns: Columns) -> Batch {
        debug_assert_eq!(columns.bodies.len(), columns.times.len());
        let rows = (0..columns.bodies.len() as u32).collect();
        Batch { columns: Arc::new(columns), rows, ack: Ack::none() }
    }

    /// Number of rows alive.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Body bytes of the rows alive.
    pub fn body_bytes(&self) -> u64 {
        let bodies = &self.columns.bodies;
        if self.rows.len() == bodies.len() {
            return bodies.iter().map(|body| u64::from(body.len)).sum();
        }
        self.rows.iter().map(|&row| u64::from(bodies[row as usize].len)).sum()
    }

    pub fn body(&self, row: u32) -> &[u8] {
        self.columns.arena.get(self.columns.bodies[row as usize]).unwrap_or(&[])
    }

    pub fn time_ms(&self, row: u32) -> i64 {
        self.columns.times[row as usize]
    }

    pub fn header(&self, row: u32, slot: Slot) -> Option<&[u8]> {
        let column = self.columns.headers.get(slot.0 as usize)?;
        self.columns.arena.get(*column.get(row as usize)?)
    }

    /// All headers of a row as (name, value), slots first.
    pub fn headers<'a>(
        &'a self,
        row: u32,
        slots: &'a [String],
    ) -> impl Iterator<Item = (&'a str, &'a [u8])> + 'a {
        let by_slot = slots
            .iter()
            .enumerate()
            .filter_map(move |(slot, name)| Some((name.as_str(), self.header(row, Slot(slot as u32))?)));
        let side = self.columns.side.get(row as usize).map(Vec::as_slice).unwrap_or(&[]);
        by_slot.chain(
            side.iter().filter_map(|(name, range)| Some((name.as_ref(), self.columns.arena.get(*range)?))),
        )
    }

    /// The columns for writing: copied first when others share them.
    pub fn columns_mut(&mut self) -> &mut Columns {
        Arc::make_mut(&mut self.columns)
    }

    /// Some of the rows as a batch of its own, with its own share of the acknowledgement.
    pub fn select(&self, rows: Vec<u32>) -> Batch {
        Batch { columns: self.columns.clone(), rows, ack: self.ack.split() }
    }

    /// Keeps the first `count` rows here and gives back the rest.
    pub fn split_off(&mut self, count: usize) -> Batch {
        let rest = self.rows.split_off(count.min(self.rows.len()));
        Batch { columns: self.columns.clone(), rows: rest, ack: self.ack.split() }
    }
}

impl Columns {
    /// `event.id` of a row.
    pub fn event_id(&self, row: u32) -> u64 {
        self.ids.get(row as usize).copied().unwrap_or_else(|| self.first_id.wrapping_add(u64::from(row)))
    }

    /// Appends a row and gives its number.
    pub fn push(&mut self, body: &[u8], time_ms: i64) -> Result<u32, ArenaFull> {
        let range = self.arena.push(body)?;
        self.push_range(range, time_ms);
        Ok(self.bodies.len() as u32 - 1)
    }

    /// Appends a row whose body is already in the arena.
    pub fn push_range(&mut self, body: Range, time_ms: i64) {
        self.bodies.push(body);
        self.times.push(time_ms);
        if !self.ids.is_empty() {
            self.ids.push(self.first_id.wrapping_add(self.bodies.len() as u64 - 1));
        }
        let rows = self.bodies.len();
        for column in self.headers.iter_mut().filter(|column| !column.is_empty()) {
            column.resize(rows, Range::ABSENT);
        }
        if !self.side.is_empty() {
            self.side.resize_with(rows, Vec::new);
        }
    }

    /// The column of a slot for writing, made when it was absent.
    pub fn column_mut(&mut self, slot: Slot) -> &mut Vec<Range> {
        let index = slot.0 as usize;
        if self.headers.len() <= index {
            self.headers.resize_with(index + 1, Vec::new);
        }
        let column = &mut self.headers[index];
        if column.is_empty() {
            column.resize(self.bodies.len(), Range::ABSENT);
        }
        column
    }

    /// Sets a header by slot to a piece of the arena ([`Range::ABSENT`] removes it).
    pub fn set_header(&mut self, row: u32, slot: Slot, value: Range) {
        self.column_mut(slot)[row as usize] = value;
    }

    /// Sets a header by name, in its slot when the plan has one.
    pub fn set_header_named(
        &mut self,
        row: u32,
        name: &str,
        value: &[u8],
        slots: &[String],
    ) -> Result<(), ArenaFull> {
        let range = self.arena.push(value)?;
        match slots.iter().position(|slot| slot == name) {
            Some(slot) => self.set_header(row, Slot(slot as u32), range),
            None => {
                if self.side.is_empty() {
                    self.side.resize_with(self.bodies.len(), Vec::new);
                }
                let side = &mut self.side[row as usize];
                match side.iter_mut().find(|(known, _)| known.as_ref() == name) {
                    Some((_, known)) => *known = range,
                    None => side.push((Arc::from(name), range)),
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_have_their_length_and_room_whatever_they_held() {
        for round in 0..20 {
            let mut held = Vec::new();
            for size in [0, 10, 70_000, 100_000, 70_000, 1 << 20, 5 << 20] {
                let mut buffer = Arena::buffer(size, 100);
                assert_eq!(buffer.len(), size);
                assert!(buffer.capacity() >= size + 100 + ARENA_PADDING);
                buffer.fill(round);
                let arena = Arena::from_vec(buffer).unwrap();
                assert_eq!(arena.len(), size);
                assert!(arena.padded()[size..].iter().all(|byte| *byte == 0));
                held.push(arena);
            }
        }
        let spare = spare();
        assert!(spare.bytes <= SPARE_BYTES_MAX);
        assert_eq!(spare.bytes, spare.buffers.iter().map(Vec::capacity).sum::<usize>());
        assert!(spare.buffers.iter().all(|buffer| SPARE_BUFFER.contains(&buffer.capacity())));
    }
}
