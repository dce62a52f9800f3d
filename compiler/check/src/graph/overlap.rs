//! Which values patterns have in common: literals and ranges by comparing, regexes by walking two automata at the
//! same time. Bounded by steps, not by time, so that the same file always gets the same answer; beyond the bound
//! nothing is claimed.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet, VecDeque};

use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::util::{primitives::StateID, start, syntax};
use regex_automata::{Anchored, MatchKind};

use crate::model::{Literal, PatternKindModel};

/// Memory of one automaton, in bytes; a larger one is not compared.
const AUTOMATON_BYTES_MAX: usize = 4 << 20;

/// Steps of all walks of one route together.
const STEPS_MAX: usize = 1_000_000;

/// Ranges with more numbers than this are compared with a regex by their ends alone.
const RANGE_TRIED_MAX: i64 = 10_000;

/// How two sets of values lie to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Relation {
    Same,
    /// The first holds all of the second, and more.
    Covers,
    /// The second holds all of the first, and more.
    Inside,
    /// Some values are in both, with an example.
    Overlap(String),
    Apart,
    /// Not known: too large, or not of one sort.
    Unknown,
}

/// Compares patterns, and remembers their automata.
#[derive(Default)]
pub(crate) struct Comparer {
    automata: HashMap<(String, String), Option<dense::DFA<Vec<u32>>>>,
    steps: usize,
}

impl Comparer {
    pub fn compare(&mut self, one: &PatternKindModel, two: &PatternKindModel) -> Relation {
        use PatternKindModel::{Null, Regex};
        match (one, two) {
            (Null, Null) => Relation::Same,
            (Null, _) | (_, Null) => Relation::Apart,
            (Regex { pattern, flags }, Regex { pattern: other, flags: other_flags }) => {
                if (pattern, flags) == (other, other_flags) {
                    return Relation::Same;
                }
                self.compare_regexes((pattern, flags), (other, other_flags))
            }
            (Regex { pattern, flags }, other) => self.compare_regex(pattern, flags, other),
            (other, Regex { pattern, flags }) => reverse(self.compare_regex(pattern, flags, other)),
            (one, two) => match (ends(one), ends(two)) {
                (Some(one), Some(two)) => compare_ranges(one, two),
                _ => Relation::Unknown,
            },
        }
    }

    /// Whether a regex is found in a text; `None` when that is not known.
    fn found(&mut self, pattern: &str, flags: &str, text: &str) -> Option<bool> {
        self.steps += text.len() + 1;
        let automaton = self.automaton(pattern, flags)?;
        let mut state = automaton.start_state(&start::Config::new().anchored(Anchored::No)).ok()?;
        for &byte in text.as_bytes() {
            state = automaton.next_state(state, byte);
            if automaton.is_match_state(state) {
                return Some(true);
            }
            if automaton.is_quit_state(state) {
                return None;
            }
        }
        Some(automaton.is_match_state(automaton.next_eoi_state(state)))
    }

    fn compare_regex(&mut self, pattern: &str, flags: &str, other: &PatternKindModel) -> Relation {
        let Some((low, high)) = ends(other) else { return Relation::Unknown };
        let mut relation = Relation::Apart;
        match (low, high) {
            (Literal::String(low), Literal::String(high)) if low == high => {
                match self.found(pattern, flags, low) {
                    Some(true) => relation = Relation::Covers,
                    Some(false) => {}
                    None => relation = Relation::Unknown,
                }
            }
            (Literal::Int(low), Literal::Int(high)) if low <= high => {
                let whole = high.checked_sub(*low).is_some_and(|width| width < RANGE_TRIED_MAX);
                let tried: Vec<i64> = if whole { (*low..=*high).collect() } else { vec![*low, *high] };
                let mut hit = None;
                let mut missed = false;
                for number in tried {
                    match self.found(pattern, flags, &number.to_string()) {
                        Some(true) => hit = hit.or(Some(number)),
                        Some(false) => missed = true,
                        None => return Relation::Unknown,
                    }
                }
                relation = match hit {
                    Some(_) if whole && !missed => Relation::Covers,
                    Some(number) => Relation::Overlap(number.to_string()),
                    None if whole => Relation::Apart,
                    None => Relation::Unknown,
                };
            }
            _ => relation = Relation::Unknown,
        }
        relation
    }

    fn compare_regexes(&mut self, one: (&str, &str), two: (&str, &str)) -> Relation {
        if self.automaton(one.0, one.1).is_none() || self.automaton(two.0, two.1).is_none() {
            return Relation::Unknown;
        }
        let automaton = |key: (&str, &str)| {
            self.automata.get(&(key.0.to_owned(), key.1.to_owned())).and_then(Option::as_ref)
        };
        let (Some(first), Some(second)) = (automaton(one), automaton(two)) else { return Relation::Unknown };
        let (relation, steps) = walk(first, second, STEPS_MAX.saturating_sub(self.steps));
        self.steps += steps;
        relation
    }

    fn automaton(&mut self, pattern: &str, flags: &str) -> Option<&dense::DFA<Vec<u32>>> {
        let key = (pattern.to_owned(), flags.to_owned());
        self.automata.entry(key).or_insert_with(|| build(pattern, flags)).as_ref()
    }
}

fn build(pattern: &str, flags: &str) -> Option<dense::DFA<Vec<u32>>> {
    let syntax = syntax::Config::new()
        .case_insensitive(flags.contains('i'))
        .multi_line(flags.contains('m'))
        .dot_matches_new_line(flags.contains('s'))
        .ignore_whitespace(flags.contains('x'));
    let config = dense::Config::new()
        .start_kind(StartKind::Unanchored)
        .match_kind(MatchKind::LeftmostFirst)
        .dfa_size_limit(Some(AUTOMATON_BYTES_MAX))
        .determinize_size_limit(Some(AUTOMATON_BYTES_MAX));
    dense::Builder::new().configure(config).syntax(syntax).build(pattern).ok()
}

/// One automaton on its way: `None` when it has found a match, which nothing takes back.
type At = Option<StateID>;

/// Walks both automata over all texts, shortest first; gives the relation and the steps that it took.
fn walk(one: &dense::DFA<Vec<u32>>, two: &dense::DFA<Vec<u32>>, steps_max: usize) -> (Relation, usize) {
    let config = start::Config::new().anchored(Anchored::No);
    let (Ok(first), Ok(second)) = (one.start_state(&config), two.start_state(&config)) else {
        return (Relation::Unknown, 0);
    };
    let bytes = representatives(one, two);
    let begin: (At, At, u8) = (Some(first), Some(second), 0);
    let mut seen: HashSet<u64> = HashSet::from([word(begin)]);
    // Each with the byte that led to it and where it came from, for the example.
    let mut queue: Vec<((At, At, u8), u8, usize)> = vec![(begin, 0, 0)];
    let mut next = 0;
    let mut steps = 0;
    let (mut both, mut only_one, mut only_two) = (None, false, false);
    while let Some(&((first, second, utf8), _, _)) = queue.get(next) {
        if utf8 == 0 {
            let ended = |automaton: &dense::DFA<Vec<u32>>, at: At| {
                at.is_none_or(|state| automaton.is_match_state(automaton.next_eoi_state(state)))
            };
            match (ended(one, first), ended(two, second)) {
                (true, true) => both = both.or(Some(next)),
                (true, false) => only_one = true,
                (false, true) => only_two = true,
                (false, false) => {}
            }
            if both.is_some() && only_one && only_two {
                break;
            }
        }
        for &byte in &bytes {
            steps += 1;
            let Some(utf8) = utf8_next(utf8, byte) else { continue };
            let (Some(first), Some(second)) = (step(one, first, byte), step(two, second, byte)) else {
                return (Relation::Unknown, steps);
            };
            let dead = |automaton: &dense::DFA<Vec<u32>>, at: At| {
                at.is_some_and(|state| automaton.is_dead_state(state))
            };
            if dead(one, first) && dead(two, second) {
                continue;
            }
            if seen.insert(word((first, second, utf8))) {
                queue.push(((first, second, utf8), byte, next));
            }
        }
        if steps > steps_max {
            return (Relation::Unknown, steps);
        }
        next += 1;
    }
    let relation = match (both, only_one, only_two) {
        (None, _, _) => Relation::Apart,
        (Some(_), false, false) => Relation::Same,
        (Some(_), true, false) => Relation::Covers,
        (Some(_), false, true) => Relation::Inside,
        (Some(end), true, true) => Relation::Overlap(text_to(&queue, end)),
    };
    (relation, steps)
}

/// A place of both walks in one word; 0 in place of a state says that a match was found.
fn word((first, second, utf8): (At, At, u8)) -> u64 {
    let number = |at: At| at.map_or(0, |state| u64::from(state.as_u32()) + 1);
    // Automata are far smaller than 2^30 words, see AUTOMATON_BYTES_MAX.
    number(first) << 34 | number(second) << 4 | u64::from(utf8)
}

fn step(automaton: &dense::DFA<Vec<u32>>, at: At, byte: u8) -> Option<At> {
    let Some(state) = at else { return Some(None) };
    let state = automaton.next_state(state, byte);
    if automaton.is_quit_state(state) {
        return None;
    }
    Some((!automaton.is_match_state(state)).then_some(state))
}

fn text_to(queue: &[((At, At, u8), u8, usize)], end: usize) -> String {
    let mut bytes = VecDeque::new();
    let mut at = end;
    while at != 0 {
        let Some((_, byte, from)) = queue.get(at) else { break };
        bytes.push_front(*byte);
        at = *from;
    }
    String::from_utf8_lossy(bytes.make_contiguous()).into_owned()
}

/// One byte for each pair of classes that the automata tell apart, readable ones where there is a choice; the
/// classes of UTF-8 are told apart, too.
fn representatives(one: &dense::DFA<Vec<u32>>, two: &dense::DFA<Vec<u32>>) -> Vec<u8> {
    let readable = (b'0'..=b'9').chain(b'a'..=b'z').chain(b'A'..=b'Z').chain(b'!'..=b'~').chain(b' '..=b' ');
    let (first, second) = (one.byte_classes(), two.byte_classes());
    let mut seen = HashSet::new();
    readable
        .chain(0..=255)
        .filter(|&byte| seen.insert((first.get(byte), second.get(byte), utf8_class(byte))))
        .collect()
}

/// Bytes of one class lead to the same state from every state of UTF-8.
fn utf8_class(byte: u8) -> u8 {
    const CLASSES: [u8; 13] = [0x80, 0x90, 0xa0, 0xc0, 0xc2, 0xe0, 0xe1, 0xed, 0xee, 0xf0, 0xf1, 0xf4, 0xf5];
    CLASSES.iter().take_while(|first| byte >= **first).count() as u8
}

/// Texts are UTF-8: the state after one more byte; 0 is between two characters. (Unicode standard, table 3-7.)
fn utf8_next(state: u8, byte: u8) -> Option<u8> {
    match (state, byte) {
        (0, 0x00..=0x7f) => Some(0),
        (0, 0xc2..=0xdf) => Some(1),
        (0, 0xe0) => Some(2),
        (0, 0xe1..=0xec | 0xee..=0xef) => Some(3),
        (0, 0xed) => Some(4),
        (0, 0xf0) => Some(5),
        (0, 0xf1..=0xf3) => Some(6),
        (0, 0xf4) => Some(7),
        (1, 0x80..=0xbf) => Some(0),
        (2, 0xa0..=0xbf) | (3, 0x80..=0xbf) | (4, 0x80..=0x9f) => Some(1),
        (5, 0x90..=0xbf) | (6, 0x80..=0xbf) | (7, 0x80..=0x8f) => Some(3),
        _ => None,
    }
}

fn reverse(relation: Relation) -> Relation {
    match relation {
        Relation::Covers => Relation::Inside,
        Relation::Inside => Relation::Covers,
        other => other,
    }
}

/// A literal is a range of one; a regex or null is none.
pub(crate) fn ends(pattern: &PatternKindModel) -> Option<(&Literal, &Literal)> {
    match pattern {
        PatternKindModel::Literal(value) => Some((value, value)),
        PatternKindModel::Range(low, high) => Some((low, high)),
        PatternKindModel::Regex { .. } | PatternKindModel::Null => None,
    }
}

fn compare_ranges(one: (&Literal, &Literal), two: (&Literal, &Literal)) -> Relation {
    let (Some(low), Some(high)) = (order(one.0, two.0), order(one.1, two.1)) else {
        return Relation::Unknown;
    };
    // A range that ends before it begins holds nothing; that is told elsewhere.
    let empty = |(low, high): (&Literal, &Literal)| order(low, high) == Some(Ordering::Greater);
    if empty(one)
        || empty(two)
        || order(one.1, two.0) == Some(Ordering::Less)
        || order(two.1, one.0) == Some(Ordering::Less)
    {
        return Relation::Apart;
    }
    match (low, high) {
        (Ordering::Equal, Ordering::Equal) => Relation::Same,
        (Ordering::Less | Ordering::Equal, Ordering::Greater | Ordering::Equal) => Relation::Covers,
        (Ordering::Greater | Ordering::Equal, Ordering::Less | Ordering::Equal) => Relation::Inside,
        (Ordering::Less, Ordering::Less) => Relation::Overlap(literal_text(two.0)),
        (Ordering::Greater, Ordering::Greater) => Relation::Overlap(literal_text(one.0)),
    }
}

/// `None` for values of different sorts.
pub(crate) fn order(one: &Literal, two: &Literal) -> Option<Ordering> {
    match (one, two) {
        (Literal::Int(one), Literal::Int(two))
        | (Literal::Duration(one), Literal::Duration(two))
        | (Literal::Time(one), Literal::Time(two)) => Some(one.cmp(two)),
        (Literal::Size(one), Literal::Size(two)) => Some(one.cmp(two)),
        (Literal::Float(one), Literal::Float(two)) => one.partial_cmp(two),
        (Literal::Int(one), Literal::Float(two)) => (*one as f64).partial_cmp(two),
        (Literal::Float(one), Literal::Int(two)) => one.partial_cmp(&(*two as f64)),
        (Literal::String(one), Literal::String(two)) => Some(one.cmp(two)),
        (Literal::Bool(one), Literal::Bool(two)) => Some(one.cmp(two)),
        (Literal::Null, Literal::Null) => Some(Ordering::Equal),
        _ => None,
    }
}

pub(crate) fn literal_text(value: &Literal) -> String {
    match value {
        Literal::Null => "null".to_owned(),
        Literal::Bool(value) => value.to_string(),
        Literal::Int(value) | Literal::Time(value) => value.to_string(),
        Literal::Float(value) => value.to_string(),
        Literal::Duration(value) => format!("{}ms", value / 1_000_000),
        Literal::Size(value) => format!("{value}B"),
        Literal::String(value) => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regex(pattern: &str) -> PatternKindModel {
        PatternKindModel::Regex { pattern: pattern.to_owned(), flags: String::new() }
    }

    fn compare(one: &PatternKindModel, two: &PatternKindModel) -> Relation {
        Comparer::default().compare(one, two)
    }

    fn regexes(one: &str, two: &str) -> Relation {
        compare(&regex(one), &regex(two))
    }

    #[test]
    fn bytes_of_one_class_are_one_to_utf8() {
        let leads = |byte: u8| -> Vec<Option<u8>> { (0..8).map(|state| utf8_next(state, byte)).collect() };
        for one in 0..=255u8 {
            for two in 0..=255u8 {
                assert!(
                    utf8_class(one) != utf8_class(two) || leads(one) == leads(two),
                    "{one:x} and {two:x}"
                );
            }
        }
    }

    #[test]
    fn regexes_are_found_anywhere_in_a_text() {
        assert_eq!(regexes("^5", "^50"), Relation::Covers);
        assert_eq!(regexes("^50", "^5"), Relation::Inside);
        assert_eq!(regexes("^a", "^b"), Relation::Apart);
        assert_eq!(regexes("^[ab]$", "^(a|b)$"), Relation::Same);
        assert_eq!(regexes("", "x"), Relation::Covers);
        assert_eq!(regexes("^api", "v1$"), Relation::Overlap("apiv1".into()));
        assert_eq!(regexes("a", "b"), Relation::Overlap("ab".into()));
        assert_eq!(regexes("^é$", "^[à-ü]$"), Relation::Inside);
    }

    #[test]
    fn a_negated_class_is_compared_over_characters_not_bytes() {
        assert_eq!(regexes("^[^a]$", "^.$"), Relation::Overlap("0".into()));
        assert_eq!(regexes("(?s)^[^a]$", "(?s)^.$"), Relation::Inside);
    }

    #[test]
    fn what_is_too_large_is_not_known() {
        assert_eq!(regexes("(a|b)*a(a|b){18}", "x{2000}"), Relation::Unknown);
        assert_eq!(regexes(r"\bä", "x"), Relation::Unknown);
    }

    #[test]
    fn numbers_and_texts_against_regexes() {
        let text = |text: &str| PatternKindModel::Literal(Literal::String(text.to_owned()));
        let range = |low, high| PatternKindModel::Range(Literal::Int(low), Literal::Int(high));
        assert_eq!(compare(&regex("^5"), &text("503")), Relation::Covers);
        assert_eq!(compare(&text("403"), &regex("^5")), Relation::Apart);
        assert_eq!(compare(&regex("^5"), &range(500, 599)), Relation::Covers);
        assert_eq!(compare(&range(490, 510), &regex("^5")), Relation::Overlap("500".into()));
        assert_eq!(compare(&range(100, 199), &regex("^5")), Relation::Apart);
        assert_eq!(compare(&range(0, 1_000_000), &regex("^5")), Relation::Unknown);
    }

    #[test]
    fn ranges() {
        let range = |low, high| PatternKindModel::Range(Literal::Int(low), Literal::Int(high));
        assert_eq!(compare(&range(1, 5), &range(1, 5)), Relation::Same);
        assert_eq!(compare(&range(1, 9), &range(2, 5)), Relation::Covers);
        assert_eq!(compare(&range(2, 5), &range(2, 9)), Relation::Inside);
        assert_eq!(compare(&range(1, 5), &range(5, 9)), Relation::Overlap("5".into()));
        assert_eq!(compare(&range(1, 4), &range(5, 9)), Relation::Apart);
        assert_eq!(compare(&range(9, 1), &range(5, 9)), Relation::Apart);
        let null = PatternKindModel::Null;
        assert_eq!(compare(&null, &null), Relation::Same);
        assert_eq!(compare(&null, &range(1, 2)), Relation::Apart);
    }
}
