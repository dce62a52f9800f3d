//! Searching a stretch of text for places where a needle may stand. Three ways: three bytes of each of a few needles
//! compared with whole registers, tables of half bytes for eight buckets of needles (Teddy, from Hyperscan: Wang et
//! al., NSDI 2019), and, where there are no such registers, memmem or byte by byte. Places that are reported need
//! not be right; places left out never are.

use memchr::memmem::Finder;

use super::super::isa::{Isa, Kind};
use super::frequency::{expected, shares};
use super::needles::{Needle, rarest_window};
use crate::automaton::ByteSet;

#[cfg(target_arch = "x86_64")]
mod avx2;

/// Buckets of needles that are told apart.
pub(super) const BUCKETS: usize = 8;

/// Bytes of a needle that Teddy looks at, at most.
pub(super) const WIDTH_MAX: usize = 4;

/// Needles that are searched for by single bytes, at most.
const SPOTTED_MAX: usize = 3;

/// Bytes of each of them that are compared.
const SPOTS: usize = 3;

/// How far into a needle such bytes stand, at most: a load from there must end in the padding.
const SPOT_OFFSET_MAX: usize = 31;

/// More hits per byte are worth looking at another byte of the needles.
const HITS_MAX: f64 = 1.0 / 4096.0;

/// Takes the places found, ascending.
pub(super) trait Sink {
    /// Bit b of `buckets`: a needle of bucket b may be at `at`. Gives the place to go on from, more than `at`.
    fn hit(&mut self, at: usize, buckets: u8) -> usize;
}

/// Finds where needles may stand.
#[derive(Clone, Debug)]
pub(super) struct Scanner {
    teddy: Teddy,
    spots: Option<Vec<[Spot; SPOTS]>>,
    /// When there are spots and all needles are literals.
    finders: Vec<Finder<'static>>,
    /// By bucket: its needles, and how many bytes before the place of a hit they begin.
    pub buckets: Vec<Vec<(usize, usize)>>,
    /// Hits expected per byte of text.
    pub expected: f64,
}

/// Tables of the bytes that the windows of each bucket allow: bit b of an entry is bucket b.
#[derive(Clone, Debug)]
struct Teddy {
    /// By byte of the window (1 to [`WIDTH_MAX`] of them) and byte of text.
    bytes: Vec<[u8; 256]>,
    /// By byte of the window and low half of a byte of text.
    low: Vec<[u8; 16]>,
    /// By byte of the window and high half of a byte of text.
    high: Vec<[u8; 16]>,
}

/// At `offset` of the needle stands a byte that is `value` once its bits `fold` are set.
#[derive(Clone, Copy, Debug)]
struct Spot {
    offset: usize,
    fold: u8,
    value: u8,
}

impl Scanner {
    /// For at least one needle, none of them empty.
    pub fn new(needles: &[Needle]) -> Scanner {
        let (teddy, buckets, expected) = Teddy::new(needles);
        match spots_of(needles) {
            Some((spots, hits)) if hits <= expected.max(HITS_MAX) => {
                let finder = |needle: &Needle| Some(Finder::new(needle.literal.as_deref()?).into_owned());
                Scanner {
                    teddy,
                    spots: Some(spots),
                    finders: needles.iter().map(finder).collect::<Option<_>>().unwrap_or_default(),
                    buckets: (0..needles.len()).map(|needle| vec![(needle, 0)]).collect(),
                    expected: hits,
                }
            }
            _ => Scanner { teddy, spots: None, finders: Vec::new(), buckets, expected },
        }
    }

    /// Reports the places in `start..end`; `padded` goes on for 64 bytes after `end`.
    pub fn scan(&self, padded: &[u8], start: usize, end: usize, isa: Isa, sink: &mut impl Sink) {
        assert!(end + flow_plan::batch::ARENA_PADDING <= padded.len());
        match (isa.kind(), &self.spots) {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: this `Isa` exists only where AVX2 was detected; the padding was asserted above, offsets and
            // widths are bounded where they are made.
            (Kind::Avx2, Some(spots)) => unsafe { avx2::scan_spots(spots, padded, start, end, sink) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            (Kind::Avx2, None) => unsafe { avx2::scan_teddy(&self.teddy, padded, start, end, sink) },
            (Kind::Portable, Some(_)) if !self.finders.is_empty() => {
                scan_literals(&self.finders, padded, start, end, sink);
            }
            (Kind::Portable, Some(spots)) => scan_spots(spots, padded, start, end, sink),
            (Kind::Portable, None) => self.teddy.scan(padded, start, end, sink),
        }
    }
}

/// The spots of each needle and the hits expected; `None` when there are too many needles or their bytes have too
/// many choices.
fn spots_of(needles: &[Needle]) -> Option<(Vec<[Spot; SPOTS]>, f64)> {
    if needles.len() > SPOTTED_MAX {
        return None;
    }
    let mut hits = 0.0;
    let mut all = Vec::with_capacity(needles.len());
    for needle in needles {
        let shares = shares(&needle.run);
        let spots = needle.run.iter().enumerate().take(SPOT_OFFSET_MAX + 1);
        let mut spots: Vec<Spot> = spots.filter_map(|(offset, set)| spot_of(offset, *set)).collect();
        spots.sort_by(|a, b| shares[a.offset].total_cmp(&shares[b.offset]));
        spots.truncate(SPOTS);
        hits += expected(spots.iter().map(|spot| shares[spot.offset]));
        let first = *spots.first()?;
        all.push(std::array::from_fn(|at| spots.get(at).copied().unwrap_or(first)));
    }
    Some((all, hits))
}

/// One byte, or the two cases of a letter.
fn spot_of(offset: usize, set: ByteSet) -> Option<Spot> {
    let mut bytes = set.iter();
    match (bytes.next()?, bytes.next(), bytes.next()) {
        (value, None, _) => Some(Spot { offset, fold: 0, value }),
        (first, Some(value), None) => {
            let fold = first ^ value;
            (fold.count_ones() == 1).then_some(Spot { offset, fold, value })
        }
        _ => None,
    }
}

/// Searches for each literal on its own and merges the places.
fn scan_literals(finders: &[Finder], padded: &[u8], start: usize, end: usize, sink: &mut impl Sink) {
    // A literal that goes on behind the end stands in no row.
    let find = |finder: &Finder, from: usize| finder.find(&padded[from..end]).map_or(end, |at| from + at);
    let mut places = [end; SPOTTED_MAX];
    for (place, finder) in places.iter_mut().zip(finders) {
        *place = find(finder, start);
    }
    loop {
        let at = places.iter().copied().min().unwrap_or(end);
        if at >= end {
            return;
        }
        let here = places.iter().enumerate().filter(|(_, place)| **place == at);
        let next = sink.hit(at, here.fold(0, |buckets, (needle, _)| buckets | 1 << needle)).min(end);
        for (place, finder) in places.iter_mut().zip(finders) {
            if *place < next {
                *place = find(finder, next);
            }
        }
    }
}

fn scan_spots(spots: &[[Spot; SPOTS]], padded: &[u8], start: usize, end: usize, sink: &mut impl Sink) {
    let mut at = start;
    while at < end {
        let fits = |spot: &Spot| padded[at + spot.offset] | spot.fold == spot.value;
        let needles = spots.iter().enumerate().filter(|(_, spots)| spots.iter().all(fits));
        let buckets = needles.fold(0, |buckets, (needle, _)| buckets | 1 << needle);
        at = if buckets == 0 { at + 1 } else { sink.hit(at, buckets) };
    }
}

impl Teddy {
    /// The tables, the buckets and the hits expected.
    fn new(needles: &[Needle]) -> (Teddy, Vec<Vec<(usize, usize)>>, f64) {
        let windows = |width| needles.iter().filter_map(move |needle| rarest_window(&needle.run, width));
        let hits = |width| windows(width).map(|window| window.expected).sum::<f64>();
        let longest = needles.iter().map(|needle| needle.run.len()).max().unwrap_or(1).clamp(1, WIDTH_MAX);
        let width = (1..longest).find(|&width| hits(width) <= HITS_MAX).unwrap_or(longest);
        let expected_hits = hits(width);

        // The sets of a bucket are the unions of those of its needles: each needle goes where that adds least.
        let mut buckets: Vec<Vec<(usize, usize)>> = Vec::new();
        let mut sets: Vec<Vec<ByteSet>> = Vec::new();
        for (number, (needle, window)) in needles.iter().zip(windows(width)).enumerate() {
            let mut own = needle.run[window.offset..window.offset + window.len].to_vec();
            // A shorter needle may be followed by anything.
            own.resize(width, ByteSet::ALL);
            let joined = |bucket: &[ByteSet]| -> Vec<ByteSet> {
                bucket.iter().zip(&own).map(|(a, b)| a.union(*b)).collect()
            };
            let rate = |sets: &[ByteSet]| expected(shares(sets));
            let place = if buckets.len() < BUCKETS {
                buckets.push(Vec::new());
                sets.push(own);
                buckets.len() - 1
            } else {
                let cost = |bucket: &Vec<ByteSet>| rate(&joined(bucket)) - rate(bucket);
                let costs = sets.iter().map(cost).enumerate();
                let place = costs.min_by(|a, b| a.1.total_cmp(&b.1)).map_or(0, |(place, _)| place);
                sets[place] = joined(&sets[place]);
                place
            };
            buckets[place].push((number, window.offset));
        }

        let mut teddy =
            Teddy { bytes: vec![[0; 256]; width], low: vec![[0; 16]; width], high: vec![[0; 16]; width] };
        for (bucket, sets) in sets.iter().enumerate() {
            for (position, set) in sets.iter().enumerate() {
                for byte in set.iter() {
                    teddy.bytes[position][usize::from(byte)] |= 1 << bucket;
                    teddy.low[position][usize::from(byte & 15)] |= 1 << bucket;
                    teddy.high[position][usize::from(byte >> 4)] |= 1 << bucket;
                }
            }
        }
        (teddy, buckets, expected_hits)
    }

    fn scan(&self, padded: &[u8], start: usize, end: usize, sink: &mut impl Sink) {
        let mut at = start;
        while at < end {
            let mut buckets = u8::MAX;
            for (table, byte) in self.bytes.iter().zip(&padded[at..]) {
                buckets &= table[usize::from(*byte)];
                if buckets == 0 {
                    break;
                }
            }
            at = if buckets == 0 { at + 1 } else { sink.hit(at, buckets) };
        }
    }
}
