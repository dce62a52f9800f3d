//! What every match of a regex contains: runs of byte sets that stand next to each other, one for each way through
//! the alternations. Read off the syntax tree; whatever is too large or too loose is left out, which only weakens
//! the need.

use flow_plan::settings::RegexSetting;
use regex_syntax::hir::{Class, Hir, HirKind, Repetition};

use super::frequency::{expected, shares};
use crate::automaton::{ByteSet, parse};

/// Ways through the alternations of one regex.
const WAYS_MAX: usize = 64;

/// Byte sets of one way, all its runs together.
const WAY_BYTES_MAX: usize = 256;

/// Sets of a needle that is no literal: each is a step of the comparison at a hit.
const CHOICES_MAX: usize = 32;

/// How often a repeated part is written out.
const REPEAT_MAX: u32 = 8;

/// A run of bytes that a match contains.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Needle {
    pub run: Vec<ByteSet>,
    /// The run without choice, when each set has one byte.
    pub literal: Option<Box<[u8]>>,
    /// The number of the pattern that needs it.
    pub pattern: usize,
}

impl Needle {
    fn new(run: Vec<ByteSet>, pattern: usize) -> Needle {
        let literal = run.iter().map(|set| if set.len() == 1 { set.iter().next() } else { None }).collect();
        Needle { run, literal, pattern }
    }

    /// Whether the text begins with the run.
    pub fn fits(&self, text: &[u8]) -> bool {
        match &self.literal {
            Some(literal) => text.starts_with(literal),
            None => {
                text.len() >= self.run.len() && self.run.iter().zip(text).all(|(set, byte)| set.has(*byte))
            }
        }
    }
}

/// The needles of one pattern: each match contains one of them.
pub(super) struct Needles {
    pub needles: Vec<Needle>,
    /// Whoever contains one of them is a match.
    pub exact: bool,
}

/// The needles of a pattern; `None` when there are matches that need nothing, or the regex cannot be read.
pub(super) fn needles_of(setting: &RegexSetting, pattern: usize, width: usize) -> Option<Needles> {
    let hir = parse(setting).ok()?;
    let ways = ways_of(&hir);
    let mut exact = ways.iter().all(|way| way.exact);
    let mut needles: Vec<Needle> = Vec::new();
    for way in ways {
        let rarest = |run: &Vec<ByteSet>| rarest_window(run, width).map_or(1.0, |window| window.expected);
        let run = way.runs.into_iter().filter(|run| !run.is_empty());
        let run = run.min_by(|a, b| rarest(a).total_cmp(&rarest(b)))?;
        let mut needle = Needle::new(run, pattern);
        if needle.literal.is_none() && needle.run.len() > CHOICES_MAX {
            let window = rarest_window(&needle.run, CHOICES_MAX)?;
            needle.run = needle.run.split_off(window.offset);
            needle.run.truncate(window.len);
            exact = false;
        }
        if !needles.contains(&needle) {
            needles.push(needle);
        }
    }
    Some(Needles { needles, exact })
}

/// A piece of a run to search for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub offset: usize,
    pub len: usize,
    /// Hits per byte of text.
    pub expected: f64,
}

/// The piece of at most `width` sets that text has least often; `None` for an empty run.
pub(super) fn rarest_window(run: &[ByteSet], width: usize) -> Option<Window> {
    let len = width.min(run.len());
    let shares = shares(run);
    let windows = shares.windows(len.max(1)).enumerate();
    let windows =
        windows.map(|(offset, shares)| Window { offset, len, expected: expected(shares.iter().copied()) });
    windows.min_by(|a, b| a.expected.total_cmp(&b.expected))
}

/// One way through the alternations. The runs come in this order in a match, the last byte of one and the first of
/// the next being the same, adjacent, or with anything between them.
#[derive(Clone, Debug)]
struct Way {
    /// At least one; empty ones say nothing.
    runs: Vec<Vec<ByteSet>>,
    /// The way matches exactly what its only run fits.
    exact: bool,
    bytes: usize,
}

impl Way {
    fn of(run: Vec<ByteSet>) -> Way {
        Way { bytes: run.len(), runs: vec![run], exact: true }
    }

    /// Needs nothing of what it stands for, and keeps neighbours apart.
    fn anything() -> Way {
        Way { runs: vec![Vec::new(), Vec::new()], exact: false, bytes: 0 }
    }

    /// Nothing is added to it any more.
    fn is_full(&self) -> bool {
        self.bytes >= WAY_BYTES_MAX
    }

    fn append(&mut self, next: &Way) {
        self.exact &= next.exact;
        for (at, run) in next.runs.iter().enumerate() {
            if at > 0 && self.runs.last().is_some_and(|last| !last.is_empty()) {
                self.runs.push(Vec::new());
            }
            let room = WAY_BYTES_MAX - self.bytes;
            if let Some(last) = self.runs.last_mut() {
                last.extend(run.iter().take(room));
            }
            self.bytes += run.len().min(room);
            if run.len() > room {
                self.exact = false;
                return;
            }
        }
    }
}

/// The ways of `next` after each of `ways`; where that would be too many, `next` is not needed.
fn append(ways: &mut Vec<Way>, next: Vec<Way>) {
    if ways.iter().all(Way::is_full) {
        ways.iter_mut().for_each(|way| way.exact = false);
        return;
    }
    if ways.len() * next.len() > WAYS_MAX {
        let anything = Way::anything();
        ways.iter_mut().for_each(|way| way.append(&anything));
    } else if let [next] = next.as_slice() {
        ways.iter_mut().for_each(|way| way.append(next));
    } else {
        let pairs = ways.iter().flat_map(|way| next.iter().map(move |next| (way, next)));
        *ways = pairs
            .map(|(way, next)| {
                let mut way = way.clone();
                way.append(next);
                way
            })
            .collect();
    }
}

/// All ways through a regex; a match takes one of them. Never empty. Its depth is that of the syntax tree, which
/// the parser bounds.
fn ways_of(hir: &Hir) -> Vec<Way> {
    match hir.kind() {
        HirKind::Empty => vec![Way::of(Vec::new())],
        // Nothing is read, so neighbours stay together, but not every place will do.
        HirKind::Look(_) => vec![Way { exact: false, ..Way::of(Vec::new()) }],
        HirKind::Literal(literal) => {
            let mut way = Way::of(Vec::new());
            way.append(&Way::of(literal.0.iter().map(|byte| ByteSet::byte(*byte)).collect()));
            vec![way]
        }
        HirKind::Class(class) => vec![class_way(class)],
        HirKind::Capture(capture) => ways_of(&capture.sub),
        HirKind::Repetition(repetition) => repetition_ways(repetition),
        HirKind::Concat(parts) => {
            let mut ways = vec![Way::of(Vec::new())];
            for part in parts {
                append(&mut ways, ways_of(part));
            }
            ways
        }
        HirKind::Alternation(parts) => {
            let mut ways = Vec::new();
            for part in parts {
                ways.extend(ways_of(part));
                if ways.len() > WAYS_MAX {
                    return vec![Way::anything()];
                }
            }
            ways
        }
    }
}

fn class_way(class: &Class) -> Way {
    let ranges = match class {
        Class::Bytes(class) => {
            let bytes = class.iter().flat_map(|range| range.start()..=range.end());
            return Way::of(vec![bytes.collect()]);
        }
        Class::Unicode(class) => class.ranges(),
    };
    // A character beyond ASCII has several bytes: what can stand first ends a run, what can stand last begins one.
    let (mut first, mut last, mut beyond) = (ByteSet::EMPTY, ByteSet::EMPTY, false);
    for range in ranges {
        if range.start().is_ascii() {
            let ascii = ByteSet::range(range.start() as u8, range.end().min('\x7f') as u8);
            (first, last) = (first.union(ascii), last.union(ascii));
        }
        if !range.end().is_ascii() {
            beyond = true;
            let leads = ByteSet::range(lead(range.start().max('\u{80}')), lead(range.end()));
            first = first.union(leads);
            last = last.union(ByteSet::range(0x80, 0xbf));
        }
    }
    if beyond {
        Way { runs: vec![vec![first], vec![last]], exact: false, bytes: 2 }
    } else {
        Way::of(vec![first])
    }
}

/// The first byte of the character in UTF-8; greater characters never have a smaller one.
fn lead(character: char) -> u8 {
    character.encode_utf8(&mut [0; 4]).as_bytes()[0]
}

fn repetition_ways(repetition: &Repetition) -> Vec<Way> {
    let Repetition { min, max, .. } = *repetition;
    if max == Some(0) {
        return vec![Way::of(Vec::new())];
    }
    if min == 0 && max != Some(1) {
        return vec![Way::anything()];
    }
    let once = ways_of(&repetition.sub);
    if min == 0 {
        let mut ways = once;
        ways.push(Way::of(Vec::new()));
        return if ways.len() > WAYS_MAX { vec![Way::anything()] } else { ways };
    }
    let mut ways = once.clone();
    for _ in 1..min.min(REPEAT_MAX) {
        append(&mut ways, once.clone());
    }
    if max != Some(min) || min > REPEAT_MAX {
        append(&mut ways, vec![Way::anything()]);
        // What follows stands behind the last time.
        append(&mut ways, once);
    }
    ways
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needles(pattern: &str, flags: &str) -> Option<(Vec<String>, bool)> {
        let setting = RegexSetting { pattern: pattern.into(), flags: flags.into() };
        let found = needles_of(&setting, 0, 4)?;
        let runs = found.needles.iter().map(|needle| {
            let sets = needle.run.iter().map(|set| match set.len() {
                1 => set.iter().next().unwrap().escape_ascii().to_string(),
                _ => format!("{set:?}"),
            });
            sets.collect::<String>()
        });
        Some((runs.collect(), found.exact))
    }

    #[track_caller]
    fn expect(pattern: &str, flags: &str, runs: &[&str], exact: bool) {
        assert_eq!(needles(pattern, flags), Some((runs.iter().map(|run| run.to_string()).collect(), exact)));
    }

    #[test]
    fn alternations_of_literals_are_exact() {
        expect("GET /health|kube-probe", "", &["GET /health", "kube-probe"], true);
        expect("(ax|b)(?:cd|e)", "", &["axcd", "axe", "bcd", "be"], true);
        expect("(?i)bot", "", &["[Bb][Oo][Tt]"], true);
        expect("ab{2}c?", "", &["abbc", "abb"], true);
        expect(r"(?-u)x\d{3}", "", &["x[0-9][0-9][0-9]"], true);
    }

    #[test]
    fn what_is_not_bytes_alone_is_needed_but_not_exact() {
        expect("^(.*GET /health.*|.*kube-probe.*)$", "", &["GET /health", "kube-probe"], false);
        expect("^GET", "", &["GET"], false);
        expect(r"\bGET /\b", "", &["GET /"], false);
        expect("GET +/x", "", &["GET "], false);
        expect("(?i)task", "", &[r"[Tt][Aa][Ss\xc5]"], false);
        expect("aé|[éè]q", "", &[r"a\xc3\xa9", r"[\x80-\xbf]q"], false);
        expect("(?:ab)+z", "", &["abz"], false);
        expect("y{9}", "", &["yyyyyyyy"], false);
    }

    #[test]
    fn flags_are_followed() {
        expect("a b # c", "x", &["ab"], true);
        expect("get", "i", &["[Gg][Ee][Tt]"], true);
        expect("^get$", "m", &["get"], false);
        assert_eq!(needles("get", "q"), None);
    }

    #[test]
    fn matches_that_need_nothing_have_no_needles() {
        for pattern in ["", "a*", "a|", "(?:ab)?", "^$", r"\b", "x|.*", "a{0,5}", "("] {
            assert_eq!(needles(pattern, ""), None, "{pattern}");
        }
    }

    #[test]
    fn large_patterns_stay_small() {
        let words: Vec<String> = (0..1000).map(|word| format!("word{word}")).collect();
        assert_eq!(needles(&words.join("|"), ""), None);
        expect(&format!("({})ZZZZ", words.join("|")), "", &["ZZZZ"], false);
        let many = "(a|b)".repeat(300);
        let (runs, exact) = needles(&many, "").unwrap();
        assert!(runs.len() <= WAYS_MAX && !exact);
        let (runs, exact) = needles(&"long".repeat(10_000), "").unwrap();
        assert_eq!((runs[0].len(), exact), (WAY_BYTES_MAX, false));
        let (runs, exact) = needles("(?:(?:a{50}){50}){50}", "").unwrap();
        assert!(runs[0].len() <= WAY_BYTES_MAX && !exact);
    }
}
