//! The two searches with 32-byte registers. Every load begins before `end` or at most [`SPOT_OFFSET_MAX`] bytes
//! behind its byte, so it ends in the 64 bytes of padding.

use std::arch::x86_64::*;

use super::super::super::bitmaps::both;
use super::{SPOT_OFFSET_MAX, SPOTS, Sink, Spot, Teddy, WIDTH_MAX};

/// Bytes of a register.
const STEP: usize = 32;

/// Loads 32 bytes.
///
/// # Safety
/// `at + 32 <= padded.len()`.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn load(padded: &[u8], at: usize) -> __m256i {
    debug_assert!(at + STEP <= padded.len());
    // SAFETY: the caller keeps the load inside of the slice; it needs no alignment.
    unsafe { _mm256_loadu_si256(padded.as_ptr().add(at).cast()) }
}

/// Hands the places of a block that begins at `from` to the sink; gives the place to go on from.
#[inline]
fn report(
    mut mask: u64,
    from: usize,
    end: usize,
    step: usize,
    sink: &mut impl Sink,
    buckets: impl Fn(usize) -> u8,
) -> usize {
    while mask != 0 {
        let bit = mask.trailing_zeros() as usize;
        if from + bit >= end {
            return end;
        }
        let next = sink.hit(from + bit, buckets(bit)).min(end);
        if next >= from + step {
            return next;
        }
        mask &= u64::MAX << (next - from);
    }
    // Not beyond the end by more than a step: no sum of it overflows.
    from + step
}

/// # Safety
/// `end + 64 <= padded.len()`, and offsets of spots are at most [`SPOT_OFFSET_MAX`].
#[target_feature(enable = "avx2")]
pub(super) unsafe fn scan_spots(
    spots: &[[Spot; SPOTS]],
    padded: &[u8],
    start: usize,
    end: usize,
    sink: &mut impl Sink,
) {
    const { assert!(SPOT_OFFSET_MAX + STEP < flow_plan::batch::ARENA_PADDING) };
    let folds = spots.iter().flatten().any(|spot| spot.fold != 0);
    // SAFETY: what the caller keeps is what they ask for.
    unsafe {
        match (spots, folds) {
            ([a], false) => spots_of::<1, false>([a], padded, start, end, sink),
            ([a], true) => spots_of::<1, true>([a], padded, start, end, sink),
            ([a, b], false) => spots_of::<2, false>([a, b], padded, start, end, sink),
            ([a, b], true) => spots_of::<2, true>([a, b], padded, start, end, sink),
            ([a, b, c], false) => spots_of::<3, false>([a, b, c], padded, start, end, sink),
            ([a, b, c], true) => spots_of::<3, true>([a, b, c], padded, start, end, sink),
            _ => super::scan_spots(spots, padded, start, end, sink),
        }
    }
}

/// # Safety
/// As [`scan_spots`].
#[target_feature(enable = "avx2")]
unsafe fn spots_of<const N: usize, const FOLD: bool>(
    needles: [&[Spot; SPOTS]; N],
    padded: &[u8],
    start: usize,
    end: usize,
    sink: &mut impl Sink,
) {
    let mut values = [[_mm256_setzero_si256(); SPOTS]; N];
    let mut folds = [[_mm256_setzero_si256(); SPOTS]; N];
    for k in 0..N {
        for s in 0..SPOTS {
            values[k][s] = _mm256_set1_epi8(needles[k][s].value as i8);
            folds[k][s] = _mm256_set1_epi8(needles[k][s].fold as i8);
        }
    }
    let block = |at: usize| {
        let mut found = [_mm256_setzero_si256(); N];
        for k in 0..N {
            for s in 0..SPOTS {
                // SAFETY: `at < end`, offset and step together are less than the padding behind `end`.
                let mut bytes = unsafe { load(padded, at + needles[k][s].offset) };
                if FOLD {
                    bytes = _mm256_or_si256(bytes, folds[k][s]);
                }
                let equal = _mm256_cmpeq_epi8(bytes, values[k][s]);
                found[k] = if s == 0 { equal } else { _mm256_and_si256(found[k], equal) };
            }
        }
        found
    };
    let any =
        |found: &[__m256i; N]| found[1..].iter().fold(found[0], |any, found| _mm256_or_si256(any, *found));
    let bits = |found: __m256i| u64::from(_mm256_movemask_epi8(found) as u32);
    let mut at = start;
    while at + 2 * STEP <= end {
        let (first, second) = (block(at), block(at + STEP));
        let (one, two) = (any(&first), any(&second));
        let both = _mm256_or_si256(one, two);
        if _mm256_testz_si256(both, both) != 0 {
            at += 2 * STEP;
            continue;
        }
        let masks: [u64; N] = std::array::from_fn(|k| bits(first[k]) | bits(second[k]) << STEP);
        at = report(masks.iter().fold(0, |all, mask| all | mask), at, end, 2 * STEP, sink, |bit| {
            masks.iter().enumerate().fold(0, |buckets, (k, mask)| buckets | ((mask >> bit & 1) as u8) << k)
        });
    }
    while at < end {
        let masks = block(at).map(bits);
        at = report(masks.iter().fold(0, |all, mask| all | mask), at, end, STEP, sink, |bit| {
            masks.iter().enumerate().fold(0, |buckets, (k, mask)| buckets | ((mask >> bit & 1) as u8) << k)
        });
    }
}

/// # Safety
/// `end + 64 <= padded.len()`.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn scan_teddy(
    teddy: &Teddy,
    padded: &[u8],
    start: usize,
    end: usize,
    sink: &mut impl Sink,
) {
    const { assert!(WIDTH_MAX + STEP < flow_plan::batch::ARENA_PADDING) };
    // SAFETY: what the caller keeps is what they ask for.
    unsafe {
        match teddy.low.len() {
            1 => teddy_of::<1>(teddy, padded, start, end, sink),
            2 => teddy_of::<2>(teddy, padded, start, end, sink),
            3 => teddy_of::<3>(teddy, padded, start, end, sink),
            4 => teddy_of::<4>(teddy, padded, start, end, sink),
            _ => teddy.scan(padded, start, end, sink),
        }
    }
}

/// # Safety
/// As [`scan_teddy`].
#[target_feature(enable = "avx2")]
unsafe fn teddy_of<const WIDTH: usize>(
    teddy: &Teddy,
    padded: &[u8],
    start: usize,
    end: usize,
    sink: &mut impl Sink,
) {
    let mut low = [_mm256_setzero_si256(); WIDTH];
    let mut high = [_mm256_setzero_si256(); WIDTH];
    for position in 0..WIDTH {
        low[position] = both(&teddy.low[position]);
        high[position] = both(&teddy.high[position]);
    }
    let half = _mm256_set1_epi8(0x0f);
    let zero = _mm256_setzero_si256();
    let block = |at: usize| {
        let mut found = zero;
        for position in 0..WIDTH {
            // SAFETY: `at < end`, position and step together are less than the padding behind `end`.
            let bytes = unsafe { load(padded, at + position) };
            let lows = _mm256_shuffle_epi8(low[position], _mm256_and_si256(bytes, half));
            let highs =
                _mm256_shuffle_epi8(high[position], _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), half));
            let fits = _mm256_and_si256(lows, highs);
            found = if position == 0 { fits } else { _mm256_and_si256(found, fits) };
        }
        found
    };
    let bits = |found: __m256i| u64::from(!_mm256_movemask_epi8(_mm256_cmpeq_epi8(found, zero)) as u32);
    let mut at = start;
    while at < end {
        let found = block(at);
        if _mm256_testz_si256(found, found) != 0 {
            at += STEP;
            continue;
        }
        let mut buckets = [0u8; STEP];
        // SAFETY: the array has the 32 bytes that are stored; the store needs no alignment.
        unsafe { _mm256_storeu_si256(buckets.as_mut_ptr().cast(), found) };
        at = report(bits(found), at, end, STEP, sink, |bit| buckets[bit]);
    }
}
