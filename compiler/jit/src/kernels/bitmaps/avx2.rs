//! Byte classes by table: the low half of a byte chooses a byte of a 16-byte table, whose bits say which high halves
//! complete it (Mula, "SIMD-ized check which bytes are in a set"). The high halves are looked up once for all classes.

use std::arch::x86_64::*;

use crate::automaton::ByteSet;

/// Classes sorted by how they are tested, with the number of their bitmap.
#[derive(Clone, Debug)]
pub(super) struct Classes {
    /// All bytes beyond ASCII are in them, or none is.
    plain: Vec<(usize, Plain)>,
    general: Vec<(usize, General)>,
}

#[derive(Clone, Copy, Debug)]
struct Plain {
    /// Entry `l`, bit `h`: byte `h << 4 | l` is in the class, for h from 0 to 7.
    table: [u8; 16],
    /// All ones when the table is that of the complement.
    flip: u64,
}

#[derive(Clone, Copy, Debug)]
struct General {
    ascii: [u8; 16],
    /// Entry `l`, bit `h - 8`: byte `h << 4 | l` is in the class, for h from 8 to 15.
    beyond: [u8; 16],
}

/// Classes that are tested in one loop: their tables fit in the 16 registers.
const PLAIN_MAX: usize = 4;
const GENERAL_MAX: usize = 2;

fn table(set: ByteSet, high: u8) -> [u8; 16] {
    std::array::from_fn(|low| {
        (0..8u8).filter(|h| set.has((high + h) << 4 | low as u8)).fold(0, |bits, h| bits | 1 << h)
    })
}

impl Classes {
    pub fn new(classes: &[ByteSet]) -> Classes {
        let (mut plain, mut general) = (Vec::new(), Vec::new());
        let beyond = ByteSet::range(0x80, 0xff);
        for (k, &class) in classes.iter().enumerate() {
            if class.intersection(beyond).is_empty() {
                plain.push((k, Plain { table: table(class, 0), flip: 0 }));
            } else if class.intersection(beyond) == beyond {
                plain.push((k, Plain { table: table(class.complement(), 0), flip: u64::MAX }));
            } else {
                general.push((k, General { ascii: table(class, 0), beyond: table(class, 8) }));
            }
        }
        Classes { plain, general }
    }

    /// Writes the word of each block of 64 bytes for class k to `words[k * stride..]`.
    #[target_feature(enable = "avx2")]
    pub fn run(&self, chunk: &[u8], words: &mut [u64], stride: usize) {
        let (blocks, _) = chunk.as_chunks::<64>();
        for group in self.plain.chunks(PLAIN_MAX) {
            match group {
                [a] => plain([a], blocks, words, stride),
                [a, b] => plain([a, b], blocks, words, stride),
                [a, b, c] => plain([a, b, c], blocks, words, stride),
                [a, b, c, d] => plain([a, b, c, d], blocks, words, stride),
                _ => {}
            }
        }
        for group in self.general.chunks(GENERAL_MAX) {
            match group {
                [a] => general([a], blocks, words, stride),
                [a, b] => general([a, b], blocks, words, stride),
                _ => {}
            }
        }
    }
}

#[target_feature(enable = "avx2")]
#[inline]
fn load(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: the reference covers the 32 bytes; the load needs no alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

/// The table in both halves of a register.
#[target_feature(enable = "avx2")]
#[inline]
pub(in crate::kernels) fn both(table: &[u8; 16]) -> __m256i {
    // SAFETY: the reference covers the 16 bytes; the load needs no alignment.
    _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(table.as_ptr().cast()) })
}

/// By byte: the bit of its high half, counted from 8 again beyond ASCII.
#[target_feature(enable = "avx2")]
#[inline]
fn high_bits(bytes: __m256i) -> __m256i {
    let bits = both(&std::array::from_fn(|high| 1 << (high % 8)));
    let high = _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), _mm256_set1_epi8(0x0f));
    _mm256_shuffle_epi8(bits, high)
}

/// One bit per byte: whether `found` has the bit that stands alone in `wanted`.
#[target_feature(enable = "avx2")]
#[inline]
fn mask(found: __m256i, wanted: __m256i) -> u64 {
    let hit = _mm256_cmpeq_epi8(_mm256_and_si256(found, wanted), wanted);
    u64::from(_mm256_movemask_epi8(hit) as u32)
}

#[target_feature(enable = "avx2")]
fn plain<const N: usize>(
    classes: [&(usize, Plain); N],
    blocks: &[[u8; 64]],
    words: &mut [u64],
    stride: usize,
) {
    let mut tables = [_mm256_setzero_si256(); N];
    for (register, (_, class)) in tables.iter_mut().zip(classes) {
        *register = both(&class.table);
    }
    let outs = rows_of(classes.map(|class| class.0), words, stride, blocks.len());
    for (at, block) in blocks.iter().enumerate() {
        let (halves, _) = block.as_chunks::<32>();
        let (low, high) = (load(&halves[0]), load(&halves[1]));
        let (low_bits, high_bits) = (high_bits(low), high_bits(high));
        for k in 0..N {
            // A byte beyond ASCII looks up zero: it is never in the table.
            let low = mask(_mm256_shuffle_epi8(tables[k], low), low_bits);
            let high = mask(_mm256_shuffle_epi8(tables[k], high), high_bits);
            outs[k][at] = (low | high << 32) ^ classes[k].1.flip;
        }
    }
}

#[target_feature(enable = "avx2")]
fn general<const N: usize>(
    classes: [&(usize, General); N],
    blocks: &[[u8; 64]],
    words: &mut [u64],
    stride: usize,
) {
    let mut tables = [[_mm256_setzero_si256(); 2]; N];
    for (registers, (_, class)) in tables.iter_mut().zip(classes) {
        *registers = [both(&class.ascii), both(&class.beyond)];
    }
    let top = _mm256_set1_epi8(i8::MIN);
    let outs = rows_of(classes.map(|class| class.0), words, stride, blocks.len());
    for (at, block) in blocks.iter().enumerate() {
        let (halves, _) = block.as_chunks::<32>();
        let bytes = [load(&halves[0]), load(&halves[1])];
        for k in 0..N {
            let mut masks = [0; 2];
            for (mask_of, &bytes) in masks.iter_mut().zip(&bytes) {
                // One of the two looks up zero, for it sees the top bit.
                let ascii = _mm256_shuffle_epi8(tables[k][0], bytes);
                let beyond = _mm256_shuffle_epi8(tables[k][1], _mm256_xor_si256(bytes, top));
                *mask_of = mask(_mm256_or_si256(ascii, beyond), high_bits(bytes));
            }
            outs[k][at] = masks[0] | masks[1] << 32;
        }
    }
}

/// The words of some classes, which ascend, as slices of the same length.
fn rows_of<const N: usize>(
    classes: [usize; N],
    mut words: &mut [u64],
    stride: usize,
    len: usize,
) -> [&mut [u64]; N] {
    let mut first = 0;
    classes.map(|class| {
        let rest = std::mem::take(&mut words).split_at_mut((class - first) * stride).1;
        let (row, rest) = rest.split_at_mut(stride.min(rest.len()));
        (words, first) = (rest, class + 1);
        &mut row[..len]
    })
}
