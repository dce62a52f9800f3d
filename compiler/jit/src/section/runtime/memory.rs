//! Memory that the run time uses again, row after row and batch after batch.

use flow_plan::batch::ARENA_PADDING;
use flow_plan::eval::JsonTape;
use flow_plan::{Range, Value};

/// Working memory that is used again.
#[derive(Default)]
#[allow(clippy::vec_box, reason = "generated code points to the values")]
pub struct Memory {
    pub texts: Texts,
    /// Lists, maps and the like of the row at hand.
    pub(super) values: Vec<Box<Value<'static>>>,
    pub(super) arms: Vec<u32>,
    pub(super) scratch: Vec<u8>,
    /// Where texts read as JSON have their values, by place in the section.
    pub(super) tapes: Vec<JsonTape>,
    /// By slot, see [`Frame::columns`].
    pub columns: Vec<*mut Range>,
    pub absent: Vec<Range>,
    pub hit_pointers: Vec<*const u64>,
    pub joint: Vec<u64>,
    pub constants: Vec<Range>,
    pub taken: Vec<u64>,
    pub dropped: Vec<u64>,
}

// SAFETY: the pointers are set at the beginning of each run and mean nothing between runs.
unsafe impl Send for Memory {}

/// Texts that are made for a row. They do not move until they are forgotten, and can be read beyond their end as
/// those of an arena.
#[derive(Default)]
pub struct Texts {
    chunks: Vec<Box<[u8]>>,
    /// Used bytes of the last chunk.
    used: usize,
}

/// The usual size of a chunk, in bytes; a longer text has one of its own.
const CHUNK_BYTES: usize = 64 << 10;

impl Texts {
    pub(super) fn clear(&mut self) {
        self.chunks.truncate(1);
        if self.chunks.first().is_some_and(|chunk| chunk.len() > CHUNK_BYTES) {
            self.chunks.clear();
        }
        self.used = 0;
    }

    /// Room for a text, to be filled.
    fn room(&mut self, len: usize) -> &mut [u8] {
        let needed = len + ARENA_PADDING;
        if self.chunks.last().is_none_or(|chunk| chunk.len() - self.used < needed) {
            self.chunks.push(vec![0; needed.max(CHUNK_BYTES)].into_boxed_slice());
            self.used = 0;
        }
        let start = self.used;
        // The padding of one text may be the beginning of the next.
        self.used += len;
        let last = self.chunks.len() - 1;
        &mut self.chunks[last][start..start + len]
    }

    pub(super) fn keep(&mut self, text: &[u8]) -> (*const u8, usize) {
        let room = self.room(text.len());
        room.copy_from_slice(text);
        (room.as_ptr(), room.len())
    }
}

impl Memory {
    pub(super) fn tape(&mut self, number: usize) -> &mut JsonTape {
        if self.tapes.len() <= number {
            self.tapes.resize_with(number + 1, JsonTape::new);
        }
        &mut self.tapes[number]
    }

    /// Forgets what was made for the row before.
    pub(super) fn next_row(&mut self) {
        self.texts.clear();
        self.values.clear();
    }
}
