//! Which rows of a batch may match at all: a search for bytes that every match contains, over the whole batch at
//! once. Rows without them need no automaton; a pattern that is nothing but such bytes needs none ever.

use flow_plan::Range;
use flow_plan::batch::ARENA_PADDING;
use flow_plan::settings::RegexSetting;

use super::isa::Isa;
use super::rows::RowBits;
use needles::{Needle, needles_of};
use scan::{Scanner, Sink};

mod frequency;
mod needles;
mod scan;

/// Needles of all patterns together.
const NEEDLES_MAX: usize = 64;

/// Patterns that are told apart: their bits stand in one word per row.
pub const PATTERNS_MAX: usize = 64;

/// Bytes of a row, for the guess whether a search pays.
const ROW_BYTES: f64 = 256.0;

/// With more hits expected in a row, most rows would be looked at twice.
const HITS_PER_ROW_MAX: f64 = 0.5;

/// Bytes between two bodies that are searched in vain rather than starting anew.
const GAP_MAX: usize = 256;

/// A search for what every match of some patterns contains.
#[derive(Clone, Debug)]
pub struct Prefilter {
    needles: Vec<Needle>,
    scanner: Scanner,
    /// By pattern, one bit each: what is found of it is a match.
    exact: u64,
    patterns: usize,
    isa: Isa,
}

impl Prefilter {
    /// A search that finds all rows in which some of the patterns match. `None` when a pattern has matches that
    /// contain nothing in particular (the empty text is one), when there are too many needles or patterns, when a
    /// pattern is no valid regex, or when nearly every row would be found.
    pub fn new(patterns: &[&RegexSetting]) -> Option<Prefilter> {
        Prefilter::with_isa(patterns, Isa::detect())
    }

    /// A search for patterns each of which [`Prefilter::new`] takes, however often one of them is found: most rows
    /// have something of some of them, and little of it is looked at twice.
    pub fn joint(patterns: &[&RegexSetting]) -> Option<Prefilter> {
        Prefilter::build(patterns, Isa::detect())
    }

    /// For a choice of instructions.
    pub fn with_isa(patterns: &[&RegexSetting], isa: Isa) -> Option<Prefilter> {
        let prefilter = Prefilter::build(patterns, isa)?;
        // Exact needles are worth finding however common they are: nothing comes after.
        let common = prefilter.scanner.expected * ROW_BYTES > HITS_PER_ROW_MAX;
        (prefilter.is_exact() || !common).then_some(prefilter)
    }

    fn build(patterns: &[&RegexSetting], isa: Isa) -> Option<Prefilter> {
        if patterns.is_empty() || patterns.len() > PATTERNS_MAX {
            return None;
        }
        let (mut needles, mut exact) = (Vec::new(), 0);
        for (number, pattern) in patterns.iter().enumerate() {
            let found = needles_of(pattern, number, scan::WIDTH_MAX)?;
            needles.extend(found.needles);
            exact |= u64::from(found.exact) << number;
            if needles.len() > NEEDLES_MAX {
                return None;
            }
        }
        let scanner = Scanner::new(&needles);
        Some(Prefilter { needles, scanner, exact, patterns: patterns.len(), isa })
    }

    /// The rows found are those that match, not only those that may.
    pub fn is_exact(&self) -> bool {
        self.exact.count_ones() as usize == self.patterns
    }

    /// As [`Prefilter::is_exact`], for one of the patterns.
    pub fn is_exact_for(&self, pattern: usize) -> bool {
        pattern < PATTERNS_MAX && self.exact >> pattern & 1 == 1
    }

    /// Hits expected per byte of text, from how common bytes are: a guess for choosing between ways to search.
    pub fn expected_hits(&self) -> f64 {
        self.scanner.expected
    }

    /// Marks the positions in `rows` whose bodies may match some pattern (which do match one, when
    /// [`Prefilter::is_exact`]). `padded` are the bytes of the arena with its padding. Bodies may lie anywhere; one
    /// that is absent or not inside of the arena is not marked, for it stands for the empty text.
    pub fn candidates(&self, padded: &[u8], bodies: &[Range], rows: &[u32], hits: &mut RowBits) {
        hits.reset(rows.len());
        self.search(padded, bodies, rows, 1, |position, _| {
            hits.set(position);
            1
        });
    }

    /// For each position in `rows`, the patterns that may match its body (that do, when [`Prefilter::is_exact`]):
    /// bit p for pattern p. `found` is written whole, one word per position.
    pub fn patterns(&self, padded: &[u8], bodies: &[Range], rows: &[u32], found: &mut Vec<u64>) {
        found.clear();
        found.resize(rows.len(), 0);
        let all = u64::MAX >> (64 - self.patterns);
        self.search(padded, bodies, rows, all, |position, pattern| {
            found[position] |= 1 << pattern;
            found[position]
        });
    }

    /// Calls `mark` with position and pattern for each needle found, until it gives `all` for the row.
    fn search(
        &self,
        padded: &[u8],
        bodies: &[Range],
        rows: &[u32],
        all: u64,
        mark: impl FnMut(usize, usize) -> u64,
    ) {
        let len = padded.len().saturating_sub(ARENA_PADDING);
        let text = Text { bytes: &padded[..len], bodies, rows };
        let mut marks = Marks { prefilter: self, text, all, mark, position: 0, body: (0, 0), last: 0 };
        let mut position = 0;
        while position < rows.len() {
            // A stretch of bodies that ascend without large gaps is searched as one.
            let (start, mut end) = text.body(position);
            let first = position;
            position += 1;
            if start == end {
                continue;
            }
            while position < rows.len() {
                let (next, next_end) = text.body(position);
                if next_end > next && !(end..=end.saturating_add(GAP_MAX)).contains(&next) {
                    break;
                }
                if next_end > next {
                    end = next_end;
                }
                position += 1;
            }
            (marks.position, marks.body, marks.last) = (first, text.body(first), position);
            self.scanner.scan(padded, start, end, self.isa, &mut marks);
        }
    }
}

/// The bodies of the rows alive.
#[derive(Clone, Copy)]
struct Text<'a> {
    bytes: &'a [u8],
    bodies: &'a [Range],
    rows: &'a [u32],
}

impl Text<'_> {
    /// Where the body begins and ends; empty for one that is not there.
    #[inline]
    fn body(&self, position: usize) -> (usize, usize) {
        match self.bodies.get(self.rows[position] as usize) {
            Some(body) if !body.is_absent() && body.range().end <= self.bytes.len() => {
                (body.start as usize, body.range().end)
            }
            _ => (0, 0),
        }
    }
}

/// Finds the row of each hit and looks at it closely.
struct Marks<'a, F> {
    prefilter: &'a Prefilter,
    text: Text<'a>,
    all: u64,
    mark: F,
    /// The row that the last hit was in or before.
    position: usize,
    body: (usize, usize),
    /// Behind the last row of the stretch.
    last: usize,
}

impl<F: FnMut(usize, usize) -> u64> Sink for Marks<'_, F> {
    fn hit(&mut self, at: usize, buckets: u8) -> usize {
        // An empty body holds nothing, wherever it says it stands: it must not be waited for.
        while self.body.1 <= at || self.body.0 == self.body.1 {
            self.position += 1;
            if self.position >= self.last {
                return usize::MAX;
            }
            self.body = self.text.body(self.position);
        }
        let (start, end) = self.body;
        if at < start {
            return start;
        }
        let mut buckets = buckets;
        while buckets != 0 {
            let bucket = buckets.trailing_zeros() as usize;
            buckets &= buckets - 1;
            for &(needle, before) in &self.prefilter.scanner.buckets[bucket] {
                let needle = &self.prefilter.needles[needle];
                let fits = at - start >= before && needle.fits(&self.text.bytes[at - before..end]);
                if fits && (self.mark)(self.position, needle.pattern) == self.all {
                    return end;
                }
            }
        }
        at + 1
    }
}

#[cfg(test)]
mod tests;
