use flow_plan::eval::build_regex;
use flow_plan::settings::RegexSetting;
use proptest::prelude::*;
use regex::bytes::Regex;

use super::*;
use crate::testing::{reference_slots, regex_cases, variations};

const COMBINED: &str = r#"^(?<ip>\S+) (?<ident>\S+) (?<user>\S+) \[(?<when>[^\]]+)\] "(?<method>[A-Z]+) (?<path>\S+) (?<protocol>[^"]*)" (?<status>\d{3}) (?<bytes>\d+|-) "(?<referrer>[^"]*)""#;

fn setting(pattern: &str, flags: &str) -> RegexSetting {
    RegexSetting { pattern: pattern.into(), flags: flags.into() }
}

fn options(quit_beyond_ascii: bool, wanted: &[bool]) -> Options {
    Options { states_max: 2_000, wanted: wanted.to_vec(), quit_beyond_ascii }
}

/// Everything that is built of some patterns, and what it is compared with.
struct Subject {
    regexes: Vec<Regex>,
    bools: Vec<(usize, Automaton)>,
    captures: Vec<(usize, Automaton)>,
    sets: Vec<Automaton>,
    refused: usize,
}

#[derive(Default, Debug)]
struct Tally {
    compared: usize,
    quits: usize,
    /// Quits on texts that are all ASCII: there must not be any.
    needless: usize,
}

impl Subject {
    fn new(patterns: &[RegexSetting]) -> Subject {
        let mut subject = Subject {
            regexes: patterns.iter().map(|pattern| build_regex(pattern).unwrap()).collect(),
            bools: vec![],
            captures: vec![],
            sets: vec![],
            refused: 0,
        };
        for quit in [true, false] {
            for (number, pattern) in patterns.iter().enumerate() {
                match Automaton::new(&[pattern], Kind::Bool, &options(quit, &[])) {
                    Ok(automaton) => subject.bools.push((number, automaton)),
                    Err(_) => subject.refused += 1,
                }
                let groups = subject.regexes[number].captures_len();
                // All slots; then those of every other group.
                let some: Vec<bool> = (0..groups * 2).map(|slot| slot / 2 % 2 == 1).collect();
                for wanted in [vec![], some] {
                    match Automaton::new(&[pattern], Kind::Captures, &options(quit, &wanted)) {
                        Ok(automaton) => subject.captures.push((number, automaton)),
                        Err(_) => subject.refused += 1,
                    }
                }
            }
            let all: Vec<&RegexSetting> = patterns.iter().collect();
            match Automaton::new(&all, Kind::Set, &options(quit, &[])) {
                Ok(automaton) => subject.sets.push(automaton),
                Err(_) => subject.refused += 1,
            }
        }
        for automaton in subject.all() {
            check_form(automaton);
        }
        subject
    }

    fn all(&self) -> impl Iterator<Item = &Automaton> {
        let one = self.bools.iter().chain(&self.captures).map(|(_, automaton)| automaton);
        one.chain(&self.sets)
    }

    fn check(&self, text: &[u8], tally: &mut Tally) -> Result<(), String> {
        let slots: Vec<Option<Vec<u32>>> =
            self.regexes.iter().map(|regex| reference_slots(regex, text)).collect();
        let mut count = |answer: Answer| {
            tally.compared += 1;
            tally.quits += usize::from(answer == Answer::Quit);
            tally.needless += usize::from(answer == Answer::Quit && text.is_ascii());
            answer != Answer::Quit
        };
        let text_shown = text.escape_ascii();
        for (number, automaton) in &self.bools {
            let answer = automaton.find(text, &mut []);
            let expected = if slots[*number].is_some() { Answer::Match } else { Answer::Miss };
            if count(answer) && answer != expected {
                return Err(format!("{answer:?} instead of {expected:?} on \"{text_shown}\""));
            }
        }
        for (number, automaton) in &self.captures {
            const UNTOUCHED: u32 = 0xdead_beef;
            let mut found = vec![UNTOUCHED; automaton.slots];
            let answer = automaton.find(text, &mut found);
            if !count(answer) {
                continue;
            }
            let equal = match (&slots[*number], answer) {
                (None, Answer::Miss) => true,
                (Some(expected), Answer::Match) => found
                    .iter()
                    .zip(expected)
                    .all(|(found, expected)| *found == UNTOUCHED || found == expected),
                _ => false,
            };
            if !equal {
                let expected = &slots[*number];
                return Err(format!("{answer:?} {found:?} instead of {expected:?} on \"{text_shown}\""));
            }
        }
        for automaton in &self.sets {
            let mut found = vec![u32::MAX; self.regexes.len().div_ceil(32)];
            let answer = automaton.find(text, &mut found);
            if !count(answer) {
                continue;
            }
            let mut expected = vec![0; found.len()];
            for (number, _) in slots.iter().enumerate().filter(|(_, slots)| slots.is_some()) {
                expected[number / 32] |= 1 << (number % 32);
            }
            if found != expected || (answer == Answer::Match) != slots.iter().any(Option::is_some) {
                return Err(format!("set {answer:?} {found:?} instead of {expected:?} on \"{text_shown}\""));
            }
        }
        Ok(())
    }
}

/// What the code generator relies on.
fn check_form(automaton: &Automaton) {
    for row in &automaton.states {
        assert!(row.iter().all(|&transition| (transition as usize) < automaton.transitions.len()));
        let end = &automaton.transitions[row[END] as usize];
        assert!(end.target >= QUIT && end.assign.is_empty(), "nothing goes on behind the end");
    }
    assert!((automaton.start as usize) < automaton.states.len());
    for (number, transition) in automaton.transitions.iter().enumerate() {
        assert!(!automaton.transitions[..number].contains(transition), "a transition stands there twice");
        assert!(transition.target >= QUIT || (transition.target as usize) < automaton.states.len());
        if transition.target == QUIT {
            assert!(automaton.quits && transition.accept.is_none());
        }
        if transition.target >= QUIT {
            assert!(transition.assign.is_empty());
        }
        let below = |source: &Source| match source {
            Source::Position => true,
            Source::Register(register) => usize::from(*register) < automaton.registers,
        };
        let mut written = vec![false; automaton.registers];
        for (register, source) in &transition.assign {
            assert!(below(source));
            assert!(
                !std::mem::replace(&mut written[usize::from(*register)], true),
                "a register written twice"
            );
        }
        if let Some(accept) = &transition.accept {
            assert!(accept.patterns.is_sorted() && !accept.patterns.is_empty());
            assert!(accept.slots.iter().all(|(slot, source)| {
                usize::from(*slot) < automaton.slots && source.as_ref().is_none_or(below)
            }));
            assert!(automaton.kind != Kind::Bool || transition.target == DEAD);
            assert!(automaton.kind != Kind::Captures || transition.target == DEAD || automaton.accepts_early);
        }
    }
}

#[test]
fn the_regex_crates_own_cases_have_the_same_answers() {
    let mut tally = Tally::default();
    let mut refused = 0;
    let mut built = 0;
    for case in regex_cases() {
        let subject = Subject::new(&case.patterns);
        refused += subject.refused;
        built += subject.all().count();
        for text in variations(&case.text) {
            if let Err(difference) = subject.check(&text, &mut tally) {
                panic!("{}: {:?}: {difference}", case.name, case.patterns);
            }
        }
    }
    eprintln!("{built} automata, {refused} refused; {tally:?}");
    assert_eq!(tally.needless, 0);
    assert!(refused * 20 < built, "{refused} of {built} refused");
    assert!(tally.quits * 5 < tally.compared);
}

fn build(pattern: &str, kind: Kind, quit_beyond_ascii: bool) -> Automaton {
    Automaton::new(&[&setting(pattern, "")], kind, &options(quit_beyond_ascii, &[])).unwrap()
}

#[test]
fn only_classes_that_take_much_utf8_quit() {
    for exact in ["[^\"]*$", r"^\S+$", r"^\s*é", "^.é*x", "(?i)kube-probe", r"(?-u)\w", r"(?-u:\b)x"] {
        assert!(!build(exact, Kind::Bool, true).quits, "{exact}");
    }
    let quits = |pattern: &str, text: &str| {
        let automaton = build(pattern, Kind::Captures, true);
        automaton.find(text.as_bytes(), &mut [NONE; 8]) == Answer::Quit
    };
    assert!(quits(r"^\w+$", "aé"));
    // The class is not tried there, or no character of it begins like that.
    assert!(!quits(r"^\w+=.*$", "a=é"));
    assert!(!quits(r"a\d", "aé a1"));
    assert!(quits(r"a\d", "a\u{661} a1"));
    // A better match is certain already.
    assert!(!quits(r"x|\w+", "xé"));
    assert!(quits(r"\w+|x", "xé"));
}

#[test]
fn a_unicode_word_boundary_quits_where_it_matters_alone() {
    let find = |pattern: &str, text: &str| build(pattern, Kind::Bool, true).find(text.as_bytes(), &mut []);
    assert_eq!(find(r"\bfoo", "é bar foo"), Answer::Match);
    assert_eq!(find(r"\bfoo", "ébar"), Answer::Miss);
    assert_eq!(find(r"\bfoo", "éfoo"), Answer::Quit);
    assert_eq!(find(r"foo\b", "fooé"), Answer::Quit);
    assert_eq!(find(r"(?-u:foo\b)", "fooé"), Answer::Match);
    // Half a boundary looks to one side.
    assert_eq!(find(r"foo\b{start-half}", "fooé"), Answer::Miss);
    assert_eq!(find(r"foo\b{end-half}", "fooé"), Answer::Quit);
}

#[test]
fn slots_that_nobody_reads_cost_nothing() {
    let groups = 11;
    let mut wanted = vec![false; groups * 2];
    let count = |wanted: &[bool]| {
        let automaton =
            Automaton::new(&[&setting(COMBINED, "")], Kind::Captures, &options(true, wanted)).unwrap();
        let assigned: usize = automaton.transitions.iter().map(|transition| transition.assign.len()).sum();
        (automaton.registers, assigned)
    };
    assert_eq!(count(&wanted), (0, 0));
    wanted[2] = true;
    wanted[3] = true;
    // The first group begins at the start, whatever stands there.
    assert_eq!(count(&wanted).0, 2);
    assert!(count(&[]).0 <= 20);
    // Only what is wanted is written.
    let automaton = Automaton::new(
        &[&setting("(a)(b)", "")],
        Kind::Captures,
        &options(true, &[false, false, false, false, true, true]),
    );
    let mut slots = [7; 6];
    assert_eq!(automaton.unwrap().find(b"xab", &mut slots), Answer::Match);
    assert_eq!(slots, [7, 7, 7, 7, 2, 3]);
}

#[test]
fn an_automaton_is_as_small_as_it_can_be() {
    // One state for each letter that may be expected next, and nothing for what is certain.
    assert_eq!(build("(?-u)abc|xbc", Kind::Bool, true).states.len(), 3);
    assert_eq!(build("", Kind::Bool, true).states.len(), 1);
    let skips = build("^(?-u)([^\"]*)\"", Kind::Captures, true);
    let all_but_quotes = ByteSet::byte(b'"').complement();
    assert_eq!(skips.states.len(), 3);
    let loops: Vec<ByteSet> = (0..3).map(|state| skips.self_loop(state)).collect();
    assert!(loops.contains(&all_but_quotes), "{loops:?}");
    let (classes, count) = skips.equivalence();
    assert_eq!((count, classes[0], classes[usize::from(b'"')], classes[END]), (3, 0, 1, 2));
    let edges = skips.edges(skips.start);
    assert_eq!(edges.iter().map(|(_, bytes)| bytes.len()).sum::<usize>(), 256);
}

#[test]
fn what_would_be_too_large_is_refused() {
    let refusal = |pattern: &str, kind: Kind| {
        let options = Options { states_max: 500, wanted: vec![], quit_beyond_ascii: true };
        Automaton::new(&[&setting(pattern, "")], kind, &options).unwrap_err()
    };
    let large = Refusal::Unsupported("a regex this large");
    for kind in [Kind::Bool, Kind::Set, Kind::Captures] {
        assert_eq!(refusal(r"(\w{100}){100}", kind), large);
        assert_eq!(refusal(&"a".repeat(1 << 20), kind), large);
        assert_eq!(refusal(r"(a|b)*a(a|b){18}", kind), Refusal::States(500));
        assert!(matches!(refusal("(", kind), Refusal::Syntax(_)));
    }
    assert!(matches!(refusal(&"(a)".repeat(100), Kind::Captures), Refusal::Registers(_)));
    assert!(matches!(
        refusal(&"()".repeat(30_000), Kind::Captures),
        Refusal::Registers(_) | Refusal::Unsupported(_)
    ));
    // Many threads, each at another place, on every byte.
    assert!(matches!(refusal(r"\w{1000}", Kind::Captures), Refusal::Registers(_)));
    let long = Options { states_max: 4_000, ..options(true, &[]) };
    let long = Automaton::new(&[&setting(r"\w{1000}", "")], Kind::Bool, &long);
    assert!(matches!(long, Err(Refusal::Unsupported(_))));
    let two = [&setting("a", ""), &setting("b", "")];
    assert!(matches!(
        Automaton::new(&two, Kind::Captures, &options(true, &[])),
        Err(Refusal::Unsupported(_))
    ));
    let unknown = Automaton::new(&[&setting("a", "g")], Kind::Bool, &options(true, &[]));
    assert!(matches!(unknown, Err(Refusal::Syntax(_))));
}

#[test]
fn a_set_of_nothing_matches_nothing() {
    for kind in [Kind::Bool, Kind::Set] {
        let automaton = Automaton::new(&[], kind, &options(true, &[])).unwrap();
        assert_eq!(automaton.find(b"a", &mut []), Answer::Miss);
    }
}

#[test]
fn a_set_may_have_many_patterns() {
    let patterns: Vec<RegexSetting> =
        (0..100).map(|number| setting(&format!("^/{}/{number}(?:/|$)", number % 3), "")).collect();
    let automaton =
        Automaton::new(&patterns.iter().collect::<Vec<_>>(), Kind::Set, &options(true, &[])).unwrap();
    let mut found = [u32::MAX; 4];
    assert_eq!(automaton.find(b"/0/99/x", &mut found), Answer::Match);
    assert_eq!(found, [0, 0, 0, 1 << 3]);
    assert_eq!(automaton.find(b"/0/98", &mut found), Answer::Miss);
    assert_eq!(found, [0; 4]);
}

const KNOWN: [&str; 30] = [
    COMBINED,
    r"kube-probe|GET /health",
    r"^(.*GET /health.*|.*kube-probe.*)$",
    r"(?<a>a+)(?<b>b*)|(?<c>\w)",
    r"^(?<k>\w+)=(?<v>.*)$",
    r"(?<x>é|\b1)?",
    r"(?-u)(?<raw>[\xf0-\xff]+)",
    r"^$",
    r"(a|ab)(c|bcd)(d*)",
    r"x(?<late>\S+)$",
    r"\b(\w+)\b",
    r"(?-u:\b)a|b(?-u:\B)",
    r"\ba\B|\B1\b",
    r"\b{start}(x)\b{end}|\b{start-half}c\b{end-half}",
    r"(?R)^(a*)$|(b)\r?$",
    r"(?m)^(.*?)=(.*)$",
    r"((a*)*b?)*c",
    r"(?:(a)|(b)|(=))*",
    r"(a??)(a*?)(b{2,3}?)1",
    r"[^=\s]+=[^ ]*|\pL+",
    r"(?s)(.)(.)?$",
    r"(?i)(k|ss|é)+",
    r"(\d{1,3})(?:\.(\d{1,3})){3}",
    r"[[:^alpha:]]\P{Greek}",
    r"(|a)+(b|)",
    r"(a|b)*?(a)(b|1)*$",
    r"[a&&b]|x[^\x00-\x{10FFFF}]|c",
    r"^(\s*)(\S.*?)(\s*)$",
    r"(?u:é)\B|(?-u:é)\b",
    r"(a*)(ab)*(b*)",
];

fn patterns() -> impl Strategy<Value = RegexSetting> {
    let atom = prop_oneof![
        prop::sample::select(vec![
            "a",
            "b",
            "ab",
            "é",
            "1",
            "=",
            ".",
            r"\w",
            r"\d",
            r"\s",
            r"\S",
            r"\W",
            "[^ab]",
            "[a-cé]",
            "^",
            "$",
            r"\b",
            r"\B",
            r"(?-u:\b)",
            "(?m:^)",
            "(?m:$)",
            "(?R:$)",
            r"(?-u:\B)",
            r"(?-u:\W)",
            r"(?-u:\xc3)",
            r"\b{start}",
            r"\b{end-half}",
            "[^=]*",
            r"\z",
            r"\A",
            "(?s:.)",
            "[é-ü]",
            r"\pL",
            "x*",
        ])
        .prop_map(str::to_string),
    ];
    let tree = atom.prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..4).prop_map(|parts| parts.concat()),
            prop::collection::vec(inner.clone(), 2..4).prop_map(|parts| format!("(?:{})", parts.join("|"))),
            inner.clone().prop_map(|inner| format!("({inner})")),
            (inner, prop::sample::select(vec!["*", "+", "?", "*?", "+?", "??", "{2}", "{0,2}", "{1,2}?"]))
                .prop_map(|(inner, times)| format!("(?:{inner}){times}")),
        ]
    });
    let pattern = prop_oneof![
        1 => prop::sample::select(&KNOWN).prop_map(str::to_string),
        4 => tree,
        1 => "[abx.*+?()|\\[\\]^$]{0,8}",
    ];
    let flags =
        prop_oneof![4 => Just(""), 1 => Just("i"), 1 => Just("ms"), 1 => Just("x"), 1 => Just("imsxu")];
    (pattern, flags).prop_map(|(pattern, flags)| setting(&pattern, flags))
}

fn texts() -> impl Strategy<Value = Vec<u8>> {
    let line =
        br#"203.0.113.9 - frank [23/Nov/2026:10:00:00 +0000] "GET /a HTTP/1.1" 200 12 "-" "x""#.to_vec();
    let broken =
        (Just(line.clone()), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(mut line, at, byte)| {
            let at = at.index(line.len());
            line[at] = byte;
            line
        });
    prop_oneof![
        1 => Just(line),
        1 => broken,
        4 => "[ab=c\\n x1]{0,12}".prop_map(String::into_bytes),
        4 => "[ab=c\\r\\n x1é\u{a0}ſ𝛃]{0,12}".prop_map(String::into_bytes),
        2 => prop::collection::vec(prop::sample::select(&b"ab=1 \n\xc3\xa9\xe2\x80\xa8\xf0\x9f\xff"[..]), 0..12),
        1 => prop::collection::vec(any::<u8>(), 0..24),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn random_patterns_have_the_answers_of_the_regex_crate(
        patterns in prop::collection::vec(patterns(), 1..4),
        texts in prop::collection::vec(texts(), 1..8),
    ) {
        let patterns: Vec<RegexSetting> =
            patterns.into_iter().filter(|pattern| build_regex(pattern).is_ok()).collect();
        let subject = Subject::new(&patterns);
        let mut tally = Tally::default();
        for text in &texts {
            if let Err(difference) = subject.check(text, &mut tally) {
                prop_assert!(false, "{:?}: {}", patterns, difference);
            }
        }
        prop_assert_eq!(tally.needless, 0);
    }
}
