//! Bitmaps of byte classes: for each class one bit per byte of the text, made in one pass over the data. Generated
//! code finds the next byte of a class in them with a shift and a count of zeros.

use std::ops::Range;
use std::ptr;

use flow_plan::batch::ARENA_PADDING;

use super::isa::{Isa, Kind};
use crate::automaton::ByteSet;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
pub(super) use avx2::both;

/// Classes that one pass makes bitmaps of, at most: a class costs a bit per byte and its share of the registers.
pub const CLASSES_MAX: usize = 8;

/// Words behind each bitmap that may be read: 8 bytes from any bit on.
const WORDS_AFTER: usize = 2;

/// Bytes that are classified for all classes before the next ones are looked at: they stay in the first cache.
const CHUNK_BYTES: usize = 8 << 10;

/// Bitmaps over a piece of an arena, read by generated code.
///
/// Layout (C): at byte `8 * k` stands `bits[k]`, the address of the bitmap of class `k`, then `start` and `end`.
/// The address is shifted so that offsets from the base of the arena can be used as they are:
/// for `start <= p < end`, byte `p` of the arena is in class `k` if and only if bit `p % 8` of the byte at
/// `bits[k] + p / 8` is set. So the 8 bytes (little-endian) at `bits[k] + p / 8`, shifted right by `p % 8`, hold the
/// answers for `p` and at least the 56 bytes after it; such a load is allowed for every `start <= p <= end`. Bits
/// for bytes before `start` and for those at or beyond `end` mean nothing.
///
/// Addresses of classes that were not asked for are null. The struct must outlive the calls that read it; making
/// other bitmaps in it moves them.
#[repr(C)]
#[derive(Debug)]
pub struct Bitmaps {
    bits: [*const u8; CLASSES_MAX],
    start: u64,
    end: u64,
    /// What `bits` points into: the bitmaps one after the other.
    words: Vec<u64>,
}

// SAFETY: the pointers lead into `words`, which the struct owns and nobody else writes to; reading through `&Bitmaps`
// from several threads is reading of shared memory that does not change.
unsafe impl Send for Bitmaps {}
// SAFETY: see above.
unsafe impl Sync for Bitmaps {}

impl Default for Bitmaps {
    fn default() -> Bitmaps {
        Bitmaps { bits: [ptr::null(); CLASSES_MAX], start: 0, end: 0, words: Vec::new() }
    }
}

impl Bitmaps {
    /// Where the address of a class stands in the struct, in bytes.
    pub const fn offset_of_class(class: usize) -> usize {
        assert!(class < CLASSES_MAX);
        std::mem::offset_of!(Bitmaps, bits) + class * size_of::<*const u8>()
    }

    /// Which bytes of the arena they cover.
    pub fn covered(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    /// Whether byte `at` of the arena is in the class; `None` where there is no answer.
    pub fn has(&self, class: usize, at: usize) -> Option<bool> {
        let stride = self.stride();
        let exists = self.bits.get(class).is_some_and(|address| !address.is_null());
        if !exists || !self.covered().contains(&at) {
            return None;
        }
        let bit = at - self.start as usize / 64 * 64;
        Some(self.words[class * stride + bit / 64] >> (bit % 64) & 1 != 0)
    }

    /// The bitmap of a class; bit `b` of word `w` is byte `start / 64 * 64 + w * 64 + b` of the arena. Empty when
    /// there is no such class.
    pub fn words(&self, class: usize) -> &[u64] {
        match self.bits.get(class) {
            Some(address) if !address.is_null() => {
                &self.words[class * self.stride()..][..words_of(self.covered())]
            }
            _ => &[],
        }
    }

    /// Words of each bitmap.
    fn stride(&self) -> usize {
        words_of(self.covered()) + WORDS_AFTER
    }

    /// Makes room for so many classes over these bytes.
    fn prepare(&mut self, classes: usize, range: Range<usize>) {
        (self.start, self.end) = (range.start as u64, range.end as u64);
        // What an earlier batch left in the words is written over, or means nothing.
        self.words.resize(self.words.len().max(self.stride() * classes), 0);
    }

    /// Points to the bitmaps, now that they are written.
    fn point(&mut self, classes: usize) {
        let stride = self.stride();
        self.bits = [ptr::null(); CLASSES_MAX];
        let first_byte = self.start as usize / 64 * 8;
        for (class, bits) in self.bits.iter_mut().enumerate().take(classes) {
            // An address before the allocation is not read: `first_byte` or more is added before each load.
            *bits = self.words[class * stride..].as_ptr().cast::<u8>().wrapping_sub(first_byte);
        }
    }
}

/// Words that hold a bit for each byte, when words begin at multiples of 64 bytes.
fn words_of(range: Range<usize>) -> usize {
    range.end.div_ceil(64) - range.start / 64
}

/// Byte classes, prepared for classification.
#[derive(Clone, Debug)]
pub struct Classifier {
    classes: usize,
    /// Bit k of entry `b`: byte `b` is in class k.
    table: Box<[u8; 256]>,
    #[cfg(target_arch = "x86_64")]
    avx2: avx2::Classes,
}

impl Classifier {
    /// `None` for more than [`CLASSES_MAX`] classes.
    pub fn new(classes: &[ByteSet]) -> Option<Classifier> {
        if classes.len() > CLASSES_MAX {
            return None;
        }
        let mut table = Box::new([0; 256]);
        for (k, class) in classes.iter().enumerate() {
            class.iter().for_each(|byte| table[usize::from(byte)] |= 1 << k);
        }
        Some(Classifier {
            classes: classes.len(),
            table,
            #[cfg(target_arch = "x86_64")]
            avx2: avx2::Classes::new(classes),
        })
    }

    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Makes the bitmaps of `padded[range]`; `padded` ends with [`ARENA_PADDING`] bytes that are not text, and a
    /// range that reaches into them is cut. The memory of `out` is used again: once it has grown to the size of the
    /// batches, nothing is allocated.
    pub fn classify(&self, padded: &[u8], range: Range<usize>, isa: Isa, out: &mut Bitmaps) {
        let len = padded.len().saturating_sub(ARENA_PADDING);
        let end = range.end.min(len);
        let range = range.start.min(end)..end;
        out.prepare(self.classes, range.clone());
        let stride = out.stride();
        let first = range.start / 64 * 64;
        // Whole words: up to 63 bytes beyond the end, which are padding.
        let text = &padded[first..range.end.next_multiple_of(64).max(first)];
        for (at, chunk) in text.chunks(CHUNK_BYTES).enumerate() {
            let word = at * (CHUNK_BYTES / 64);
            match isa.kind() {
                Kind::Portable => self.portable(chunk, &mut out.words[word..], stride),
                #[cfg(target_arch = "x86_64")]
                // SAFETY: this `Isa` exists only where AVX2 was detected.
                Kind::Avx2 => unsafe { self.avx2.run(chunk, &mut out.words[word..], stride) },
            }
        }
        out.point(self.classes);
    }

    /// Looks eight bytes up, then turns the square of bits around: the classes of a byte become the bytes of a class.
    fn portable(&self, chunk: &[u8], words: &mut [u64], stride: usize) {
        let (blocks, _) = chunk.as_chunks::<64>();
        for (at, block) in blocks.iter().enumerate() {
            let mut result = [0u64; CLASSES_MAX];
            let (eights, _) = block.as_chunks::<8>();
            for (shift, eight) in eights.iter().enumerate() {
                let classes = u64::from_le_bytes(eight.map(|byte| self.table[usize::from(byte)]));
                for (word, byte) in result.iter_mut().zip(transpose(classes).to_le_bytes()) {
                    *word |= u64::from(byte) << (shift * 8);
                }
            }
            for (class, word) in result.iter().enumerate().take(self.classes) {
                words[class * stride + at] = *word;
            }
        }
    }
}

/// Transposes 8 by 8 bits: bit `c` of byte `r` becomes bit `r` of byte `c` (Warren, Hacker's Delight, 7-3).
fn transpose(mut x: u64) -> u64 {
    for (shift, mask) in
        [(7, 0x00AA_00AA_00AA_00AA), (14, 0x0000_CCCC_0000_CCCC), (28, 0x0000_0000_F0F0_F0F0)]
    {
        let swapped = (x ^ (x >> shift)) & mask;
        x ^= swapped ^ (swapped << shift);
    }
    x
}

#[cfg(test)]
mod tests;
