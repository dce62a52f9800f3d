use flow_plan::settings::RegexSetting;
use proptest::prelude::*;

use super::*;
use crate::automaton::{self, Accept, Answer, END, Transition};
use crate::guard::Guarded;
use crate::kernels::{Classifier, Isa};
use crate::testing::{reference_slots, regex_cases, variations};

const LINE: &str = r#"203.0.113.9 - frank [23/Nov/2026:10:00:00 +0000] "GET /a?q=1 HTTP/1.1" 200 12 "-" "Mozilla/5.0 (X11)""#;
const TEN_GROUPS: &str =
    r#"^(\S+) (\S+) (\S+) \[([^\]]+)\] "(\S+) ([^"]*) HTTP/[\d.]+" (\d{3}) (\d+|-) "([^"]*)" "([^"]*)"$"#;

const KNOWN: [&str; 24] = [
    TEN_GROUPS,
    "GET /health|kube-probe",
    r"^(.*GET /health.*|.*kube-probe.*)$",
    "(?i:bot|crawler|spider)",
    "abac|dog|xyz",
    "aab|ba",
    r"foo=(\w+)",
    r"(a|b)*c?",
    r"(?s)(.*)x(.*)",
    r"(\d+)-(\d+)",
    r"^$",
    "",
    r"\n|\x00",
    r"[^\n]*\n(.*)",
    r"(a+)(b*)|(c)",
    r"\b(\w+)\b.*=",
    r"(?-u)[^\x00-\x7f]+",
    r"é+|[à-ü]x",
    r"(?m)^(\S+)=(.*)$",
    r"^[a-z0-9_.-]{1,16}@[a-z0-9.-]+$",
    r"(x*)(y|$)",
    r"[acegikmoqsuwy]+z|[bdfhjlnprtvx]+!",
    r"\d\d:\d\d:\d\d|2026-\d\d-\d\d",
    r"(?s)^.{3,40}end",
];

fn every_option() -> Vec<(bool, Options)> {
    let with = |loops, probes| Options { loops, probes, ..Options::default() };
    vec![
        (false, with(Loops::Bytewise, false)),
        (false, with(Loops::Bytewise, true)),
        (false, with(Loops::Vectors, false)),
        (false, with(Loops::Vectors, true)),
        (true, Options { loop_bytes_min: 1, ..with(Loops::Vectors, true) }),
        (false, with(Loops::Bitmaps, false)),
        (false, Options { loop_bytes_min: 2, ..with(Loops::Bitmaps, true) }),
    ]
}

/// An automaton and the code made of it.
struct Subject {
    automaton: Automaton,
    matchers: Vec<Matcher>,
}

impl Subject {
    fn new(automaton: Automaton, options: &[(bool, Options)]) -> Subject {
        let compile = |(baseline, options): &(bool, Options)| {
            let settings = Settings { verify: true, baseline: *baseline, ..Settings::default() };
            Matcher::new(&automaton, &settings, options).unwrap()
        };
        Subject { matchers: options.iter().map(compile).collect(), automaton }
    }

    /// Compares the code with the automaton followed step by step, the text being placed at the end and at the
    /// start of memory that must not be left, and among bytes that look like more of it.
    fn check(&self, text: &[u8]) -> Result<Answer, String> {
        let words = self.matchers[0].slots();
        let mut expected = vec![0xdead_beef; words];
        let answer = self.automaton.find(text, &mut expected);
        let (at_end, at_start) = (Guarded::at_end(text), Guarded::at_start(text));
        let before = text.len() % 19 + 1;
        let around =
            [&text.repeat(1 + 19 / text.len().max(1)), text, &text.repeat(1 + 64 / text.len().max(1))];
        let around = [around.concat(), vec![b'a'; ARENA_PADDING + 19]].concat();
        let inside = match text.len() {
            0 => before..before,
            len => len * (1 + 19 / len)..len * (2 + 19 / len),
        };
        let whole = 0..text.len();
        for (number, matcher) in self.matchers.iter().enumerate() {
            for (padded, range) in [
                (at_end.padded(), whole.clone()),
                (at_start.padded(), whole.clone()),
                (&around, inside.clone()),
            ] {
                self.compare(matcher, padded, range, answer, &expected)
                    .map_err(|error| format!("option {number}: \"{}\": {error}", text.escape_ascii()))?;
            }
        }
        Ok(answer)
    }

    fn compare(
        &self,
        matcher: &Matcher,
        padded: &[u8],
        text: Range<usize>,
        answer: Answer,
        expected: &[u32],
    ) -> Result<(), String> {
        let mut bitmaps = Bitmaps::default();
        if !matcher.classes().is_empty() {
            let classifier = Classifier::new(matcher.classes()).ok_or("too many classes")?;
            classifier.classify(padded, 0..padded.len(), Isa::PORTABLE, &mut bitmaps);
            if bitmaps.covered().is_empty() {
                return Ok(());
            }
        }
        let mut slots = vec![0xdead_beef; matcher.slots()];
        let outcome = matcher.search(padded, text.clone(), &mut slots, Some(&bitmaps));
        let wanted = match answer {
            Answer::Miss => Outcome::NoMatch,
            Answer::Match => Outcome::Match,
            Answer::Quit => Outcome::Quit,
        };
        if outcome != wanted {
            return Err(format!("{outcome:?} instead of {wanted:?}"));
        }
        let from_start = |slot: &u32| match *slot {
            u32::MAX | 0xdead_beef => *slot,
            slot => slot.wrapping_sub(text.start as u32),
        };
        let found: Vec<u32> = match self.automaton.kind {
            Kind::Captures => slots.iter().map(from_start).collect(),
            _ => slots,
        };
        let same = match (self.automaton.kind, outcome) {
            (Kind::Captures, Outcome::Match) | (Kind::Set, Outcome::Match | Outcome::NoMatch) => {
                found == expected
            }
            _ => true,
        };
        if same { Ok(()) } else { Err(format!("{found:?} instead of {expected:?}")) }
    }
}

fn setting(pattern: &str) -> RegexSetting {
    RegexSetting { pattern: pattern.into(), flags: String::new() }
}

fn build(patterns: &[&RegexSetting], kind: Kind, quit_beyond_ascii: bool) -> Option<Automaton> {
    let options = automaton::Options { states_max: 500, wanted: Vec::new(), quit_beyond_ascii };
    Automaton::new(patterns, kind, &options).ok()
}

/// One automaton of each kind.
fn automata(patterns: &[RegexSetting], quit_beyond_ascii: bool) -> Vec<Automaton> {
    let all: Vec<&RegexSetting> = patterns.iter().collect();
    let one = patterns.first().map(std::slice::from_ref).unwrap_or_default();
    let one: Vec<&RegexSetting> = one.iter().collect();
    let kinds = [(&one, Kind::Bool), (&one, Kind::Captures), (&all, Kind::Set)];
    kinds.into_iter().filter_map(|(patterns, kind)| build(patterns, kind, quit_beyond_ascii)).collect()
}

#[test]
fn the_regex_crates_own_cases_have_the_same_answers() {
    let options = every_option();
    let mut checked = 0;
    for (number, case) in regex_cases().iter().enumerate() {
        for (kind, automaton) in automata(&case.patterns, number % 4 != 0).into_iter().enumerate() {
            // Two of them for each automaton: all take minutes.
            let some: Vec<_> =
                [number + kind, number / 7 + 3].map(|at| options[at % options.len()].clone()).into();
            let subject = Subject::new(automaton, &some);
            for text in variations(&case.text) {
                if let Err(difference) = subject.check(&text) {
                    panic!("{} ({:?}), {kind}: {difference}", case.name, case.patterns);
                }
                checked += 1;
            }
        }
    }
    assert!(checked > 20_000, "{checked}");
}

fn texts_of_lines() -> Vec<Vec<u8>> {
    let mut texts = variations(LINE.as_bytes());
    let all: Vec<u8> = (0..=255).collect();
    texts.extend([Vec::new(), b"\0".to_vec(), b"\n".to_vec(), all.clone(), all.repeat(3)]);
    for text in [
        "x GET /health",
        "GET /healt",
        "GET GET /health y",
        "kube-prob kube-probe",
        "k",
        "ku",
        "aababac",
        "abac",
    ] {
        texts.push(text.into());
        texts.push([LINE, text].concat().into());
        texts.push([text, LINE].concat().into());
    }
    for text in
        ["foo=bar foo=", "a12-34-56b", "k=v\nkk=vv", "aaabbbccc", "10:11:12", "2026-11-2", "bcdeghz", "x!"]
    {
        texts.push(text.into());
        texts.push(text.repeat(9).into());
    }
    texts
}

#[test]
fn known_patterns_have_the_same_answers_with_all_options() {
    let texts = texts_of_lines();
    for pattern in KNOWN {
        for quit in [true, false] {
            for automaton in automata(&[setting(pattern)], quit) {
                let subject = Subject::new(automaton, &every_option());
                for text in &texts {
                    if let Err(difference) = subject.check(text) {
                        panic!("`{pattern}`: {difference}");
                    }
                }
            }
        }
    }
}

#[test]
fn answers_are_those_of_the_regex_crate() {
    for pattern in KNOWN {
        let regex = regex::bytes::Regex::new(pattern).unwrap();
        let Some(automaton) = build(&[&setting(pattern)], Kind::Captures, true) else { continue };
        let matcher = Matcher::new(&automaton, &Settings::default(), &Options::default()).unwrap();
        for text in texts_of_lines() {
            let padded = [&text[..], &[0; ARENA_PADDING]].concat();
            let mut slots = vec![0; matcher.slots()];
            let expected = reference_slots(&regex, &text);
            match matcher.search(&padded, 0..text.len(), &mut slots, None) {
                Outcome::Quit => assert!(!text.is_ascii(), "{pattern}"),
                Outcome::Match => assert_eq!(Some(slots), expected, "{pattern} on {}", text.escape_ascii()),
                Outcome::NoMatch => assert_eq!(expected, None, "{pattern} on {}", text.escape_ascii()),
            }
        }
    }
}

#[test]
fn a_literal_is_found_at_every_alignment() {
    for pattern in ["GET /health|kube-probe", r"^(.*GET /health.*|.*kube-probe.*)$", r"x(\d+)y"] {
        for automaton in automata(&[setting(pattern)], true) {
            let subject = Subject::new(automaton, &every_option());
            for before in 0..70 {
                for literal in ["GET /health", "kube-probe", "x123y", "GET /healtx", "kube-prob", ""] {
                    let text = ["-".repeat(before), literal.into(), "k".repeat(before % 3)].concat();
                    if let Err(difference) = subject.check(text.as_bytes()) {
                        panic!("`{pattern}`: {difference}");
                    }
                }
            }
        }
    }
}

#[test]
fn ten_mebibytes_are_one_text() {
    const BYTES: usize = 10 << 20;
    let mut text = vec![b'a'; BYTES];
    text[BYTES - 20..BYTES - 9].copy_from_slice(b"GET /health");
    let padded = [&text[..], &[b'a'; ARENA_PADDING]].concat();
    for pattern in ["GET /health", r"(\w+) (/\w+)", r"a$", r"^[^b]*$", "b"] {
        let regex = regex::bytes::Regex::new(pattern).unwrap();
        let expected = reference_slots(&regex, &text);
        let automaton = build(&[&setting(pattern)], Kind::Captures, true).unwrap();
        for (_, options) in every_option() {
            let matcher = Matcher::new(&automaton, &Settings::default(), &options).unwrap();
            let mut bitmaps = Bitmaps::default();
            if !matcher.classes().is_empty() {
                let classifier = Classifier::new(matcher.classes()).unwrap();
                classifier.classify(&padded, 0..BYTES, Isa::PORTABLE, &mut bitmaps);
            }
            let mut slots = vec![0; matcher.slots()];
            let outcome = matcher.search(&padded, 0..BYTES, &mut slots, Some(&bitmaps));
            let found = (outcome == Outcome::Match).then_some(slots);
            assert_eq!(found, expected, "{pattern}");
        }
    }
}

#[test]
fn what_is_too_large_or_broken_is_refused() {
    let automaton = build(&[&setting(TEN_GROUPS)], Kind::Captures, true).unwrap();
    let settings = Settings::default();
    let refused =
        |automaton: &Automaton, options: &Options| Matcher::new(automaton, &settings, options).unwrap_err();
    let few = Options { states_max: 3, ..Options::default() };
    assert_eq!(refused(&automaton, &few), CodeError::TooLarge("states", 3));
    let few = Options { instructions_max: 50, ..Options::default() };
    assert_eq!(refused(&automaton, &few), CodeError::TooLarge("instructions", 50));

    let breaks: [fn(&mut Automaton); 5] = [
        |automaton| automaton.start = automaton.states.len() as u32,
        |automaton| automaton.states[0][END] = u32::MAX,
        |automaton| automaton.registers = 0,
        |automaton| automaton.slots = 1,
        |automaton| automaton.states.truncate(1),
    ];
    for break_it in breaks {
        let mut broken = automaton.clone();
        break_it(&mut broken);
        assert!(matches!(refused(&broken, &Options::default()), CodeError::Refused(..)));
    }
}

#[test]
fn a_refused_matcher_leaves_no_classes_behind() {
    let automaton = build(&[&setting(TEN_GROUPS)], Kind::Captures, true).unwrap();
    let mut code = CodeBuilder::new(&Settings::default()).unwrap();
    let mut classes = vec![ByteSet::byte(b'x')];
    let options = Options { loops: Loops::Bitmaps, instructions_max: 400, ..Options::default() };
    assert!(define_matcher(&mut code, "large", &automaton, &options, &mut classes).is_err());
    assert_eq!(classes, [ByteSet::byte(b'x')]);
    let options = Options { loops: Loops::Bitmaps, ..Options::default() };
    define_matcher(&mut code, "fits", &automaton, &options, &mut classes).unwrap();
    assert!(classes.len() > 1);
    assert!(code.finish().is_ok());
}

/// Stays in itself on everything, remembering the last position, and swaps two registers on `s`.
#[test]
fn assignments_happen_all_at_once() {
    let go = |assign: Vec<(u16, Source)>| Transition { target: 0, assign, accept: None };
    let slots = (0..2).map(|slot| (slot, Some(Source::Register(slot)))).collect();
    let accept = Accept { patterns: vec![0], slots };
    let automaton = |accepts_early| Automaton {
        kind: Kind::Captures,
        patterns: 1,
        slots: 2,
        registers: 2,
        transitions: vec![
            go(vec![(0, Source::Register(1)), (1, Source::Register(0))]),
            go(vec![(1, Source::Position)]),
            Transition { target: DEAD, assign: vec![], accept: Some(accept.clone()) },
            Transition { target: 0, assign: vec![], accept: Some(accept.clone()) },
            Transition { target: QUIT, assign: vec![], accept: None },
        ],
        states: vec![Box::new(std::array::from_fn(|column| match column {
            0x73 => 0,
            0x71 => 4,
            0x61 if accepts_early => 3,
            END => 2,
            _ => 1,
        }))],
        start: 0,
        accepts_early,
        quits: true,
    };
    for early in [false, true] {
        let subject = Subject::new(automaton(early), &every_option());
        for text in ["", "s", "x", "xs", "xsx", "xssxxxxs", "xaxsa", "xxxxxxxxxxxxxxxxxxxxxxxxsx", "sq"] {
            subject.check(text.as_bytes()).unwrap();
        }
    }
}

fn patterns() -> impl Strategy<Value = String> {
    let atoms = vec![
        "a", "b", "ab", "abac", "1", "=", ".", r"\w", r"\d", r"\s", r"\S", "[^ab]", "[a-c]", "^", "$", r"\b",
        "[^=]*", "(?s:.)", "x*", "GET", r"\d{3}", " ", "é", "(?i:ab)",
    ];
    let atom = prop::sample::select(atoms).prop_map(str::to_string);
    atom.prop_recursive(4, 20, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..5).prop_map(|parts| parts.concat()),
            prop::collection::vec(inner.clone(), 2..4).prop_map(|parts| format!("(?:{})", parts.join("|"))),
            inner.clone().prop_map(|inner| format!("({inner})")),
            (inner, prop::sample::select(vec!["*", "+", "?", "*?", "+?", "{2}", "{0,2}"]))
                .prop_map(|(inner, times)| format!("(?:{inner}){times}")),
        ]
    })
}

fn texts() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => "[ab=c\\n x1]{0,40}".prop_map(String::into_bytes),
        2 => "(abac|GET|123|é|a| ){0,12}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..40),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn random_patterns_have_the_same_answers(
        patterns in prop::collection::vec(patterns(), 1..4),
        texts in prop::collection::vec(texts(), 1..10),
        quit in any::<bool>(),
    ) {
        let patterns: Vec<RegexSetting> = patterns.iter().map(|pattern| setting(pattern)).collect();
        for automaton in automata(&patterns, quit) {
            let subject = Subject::new(automaton, &every_option());
            for text in &texts {
                if let Err(difference) = subject.check(text) {
                    prop_assert!(false, "{:?}: {}", patterns, difference);
                }
            }
        }
    }
}
