use proptest::prelude::*;
use regex::bytes::{Regex, RegexBuilder};

use super::*;
use crate::guard::Guarded;

fn setting(pattern: &str, flags: &str) -> RegexSetting {
    RegexSetting { pattern: pattern.into(), flags: flags.into() }
}

fn reference(setting: &RegexSetting) -> Option<Regex> {
    let has = |flag| setting.flags.contains(flag);
    RegexBuilder::new(&setting.pattern)
        .case_insensitive(has('i'))
        .multi_line(has('m'))
        .dot_matches_new_line(has('s'))
        .ignore_whitespace(has('x'))
        .build()
        .ok()
}

fn isas() -> [Isa; 2] {
    [Isa::PORTABLE, Isa::detect()]
}

/// The patterns of access logs, and some that are hard on windows.
const PATTERNS: [(&str, &str); 26] = [
    (r"GET /health|kube-probe", ""),
    (r"^(.*GET /health.*|.*kube-probe.*)$", ""),
    (
        r#"^(\S+) (\S+) (\S+) \[([^\]]+)\] "(\S+) ([^"]*) HTTP/[\d.]+" (\d{3}) (\d+|-) "([^"]*)" "([^"]*)"$"#,
        "",
    ),
    (r#"" 5\d\d "#, ""),
    (r"(?i:bot|crawler|spider)", ""),
    (r#""(?:GET|POST) /api/v[12]/"#, ""),
    (r#"" 4\d\d "#, ""),
    (r"/static/|/assets/|\.(?:css|js|png|jpg)[? ]", ""),
    (r"/login|/logout|/oauth/", ""),
    (r"^10\.\d+\.\d+\.\d+ ", ""),
    (r#""https?://(?:www\.)?example\.(?:com|org)/"#, ""),
    ("aa", ""),
    ("abab|baba", ""),
    ("x", ""),
    ("Kelvin sign", "i"),
    ("ſtop", "i"),
    ("é|è|ab", ""),
    (r"(?-u)\xff[\x80-\x90]", ""),
    ("a.b", "s"),
    ("a b  # both", "x"),
    ("^b$", "m"),
    ("(?:ab|cd){2,3}e", ""),
    ("[^a]x{3}", ""),
    ("a{2}b{0,3}c+", ""),
    ("abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", ""),
    (r"\bab\b|\Bba\B", ""),
];

fn pattern() -> impl Strategy<Value = RegexSetting> {
    let atom = prop_oneof![
        4 => prop::sample::select(vec!["a", "b", "ab", "x", "k", "é", "GET", " "]).prop_map(String::from),
        1 => prop::sample::select(vec!["[ab]", "[^a]", r"\d", r"\w", ".", "[é-ü]", "^", "$", r"\b", r"(?-u:\xff)"])
            .prop_map(String::from),
    ];
    let text = atom.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            3 => prop::collection::vec(inner.clone(), 1..4).prop_map(|parts| parts.concat()),
            2 => prop::collection::vec(inner.clone(), 1..4).prop_map(|parts| format!("(?:{})", parts.join("|"))),
            1 => (inner, prop::sample::select(vec!["?", "*", "+", "{2}", "{1,2}", "{2,}", "+?", "{0}"]))
                .prop_map(|(part, times)| format!("(?:{part}){times}")),
        ]
    });
    let flags = prop::sample::select(vec!["", "", "i", "s", "m", "im"]);
    prop_oneof![
        3 => (text, flags).prop_map(|(text, flags)| setting(&text, flags)),
        1 => prop::sample::select(PATTERNS.to_vec()).prop_map(|(text, flags)| setting(text, flags)),
    ]
}

/// Text in which the patterns above match now and then.
fn arena() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => prop::sample::select(vec![
            "a", "b", "ab", "x", "k", "é", "GET", " ", "GET /health", "kube-probe", "\n", "Bot", "spiDer", "\" 503 ",
            "\u{212a}elvin sign", "ſTOP", "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        ])
        .prop_map(|piece| piece.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 1..4),
        1 => prop::collection::vec(Just(b'-'), 1..40),
        // More than the gap that is searched in vain.
        1 => Just(vec![b'a'; GAP_MAX + 44]),
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

/// Bodies anywhere: ascending, overlapping, backwards, absent, empty, outside of the arena; rows of all kinds.
fn layout() -> impl Strategy<Value = (bool, Vec<(u16, u16)>, Vec<prop::sample::Index>)> {
    let body = prop_oneof![
        6 => (any::<u16>(), 0u16..80),
        1 => (any::<u16>(), any::<u16>()),
        1 => Just((u16::MAX, 0)),
    ];
    (
        any::<bool>(),
        prop::collection::vec(body, 0..12),
        prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    )
}

/// Makes the layout one of this text: in order when asked for, wild otherwise.
fn place(text: &[u8], layout: &(bool, Vec<(u16, u16)>, Vec<prop::sample::Index>)) -> (Vec<Range>, Vec<u32>) {
    let (ordered, bodies, picks) = layout;
    if *ordered {
        let mut start = 0;
        let lens = bodies.iter().map(|(gap, len)| (usize::from(*gap % 4), usize::from(*len)));
        let mut placed = Vec::new();
        for (gap, len) in lens {
            let first = (start + gap).min(text.len());
            start = (first + len).min(text.len());
            placed.push(Range::new(first, start - first));
        }
        placed.push(Range::new(start, text.len() - start));
        let rows = (0..placed.len() as u32).filter(|row| row % 5 != 3).collect();
        return (placed, rows);
    }
    let placed: Vec<Range> = bodies
        .iter()
        .map(|(start, len)| match start {
            &u16::MAX => Range::ABSENT,
            start => Range::new(usize::from(*start) % (text.len() + 2), usize::from(*len)),
        })
        .collect();
    // One row more than there are bodies: numbers that mean nothing must not harm.
    let rows = picks.iter().map(|pick| pick.index(placed.len() + 1) as u32).collect();
    (placed, rows)
}

fn body<'a>(text: &'a [u8], bodies: &[Range], row: u32) -> &'a [u8] {
    let body = bodies.get(row as usize).filter(|body| !body.is_absent());
    body.and_then(|body| text.get(body.range())).unwrap_or(&[])
}

/// No match is missed, exact answers are exact, and all searches agree with themselves one pattern at a time.
fn check(text: &[u8], bodies: &[Range], rows: &[u32], settings: &[RegexSetting]) {
    let Some(regexes) = settings.iter().map(reference).collect::<Option<Vec<Regex>>>() else { return };
    let settings: Vec<&RegexSetting> = settings.iter().collect();
    let (mut hits, mut found) = (RowBits::default(), Vec::new());
    for isa in isas() {
        let Some(prefilter) = Prefilter::with_isa(&settings, isa) else { return };
        for guarded in [Guarded::at_end(text), Guarded::at_start(text)] {
            prefilter.candidates(guarded.padded(), bodies, rows, &mut hits);
            prefilter.patterns(guarded.padded(), bodies, rows, &mut found);
            assert_eq!((hits.len(), found.len()), (rows.len(), rows.len()));
            for (position, &row) in rows.iter().enumerate() {
                let body = body(text, bodies, row);
                let matches = regexes.iter().enumerate().filter(|(_, regex)| regex.is_match(body));
                let matches = matches.fold(0u64, |bits, (pattern, _)| bits | 1 << pattern);
                let place = format!("{isa:?} {settings:?} {:?}", body.escape_ascii().to_string());
                assert_eq!(found[position] & matches, matches, "missed by patterns: {place}");
                assert_eq!(
                    hits.get(position),
                    found[position] != 0,
                    "candidates and patterns differ: {place}"
                );
                if prefilter.is_exact() {
                    assert_eq!(found[position], matches, "not exact: {place}");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn no_match_is_missed(text in arena(), layout in layout(), settings in prop::collection::vec(pattern(), 1..4)) {
        let (bodies, rows) = place(&text, &layout);
        check(&text, &bodies, &rows, &settings);
    }

    #[test]
    fn many_literals_share_buckets(
        words in prop::collection::btree_set("[abk]{1,6}", 1..50),
        text in arena(),
        noise in "[abk\n]{0,200}",
        layout in layout(),
    ) {
        let text = [text, noise.into_bytes()].concat();
        let (bodies, rows) = place(&text, &layout);
        let words: Vec<RegexSetting> = words.iter().map(|word| setting(word, "")).collect();
        let pattern: Vec<&str> = words.iter().map(|word| word.pattern.as_str()).collect();
        check(&text, &bodies, &rows, &[setting(&pattern.join("|"), "")]);
        check(&text, &bodies, &rows, &words);
    }
}

#[test]
fn a_match_is_found_wherever_it_stands() {
    // At every place of rows of every length around the widths of the registers, for each way to search.
    for pattern in ["needle|kube-probe", "needle", "qq", "x[qz]y", "(?i)bot|crawler|spider|nEEdle", "q"] {
        let setting = setting(pattern, "");
        let needle: &[u8] = match pattern {
            "qq" => b"qq",
            "q" => b"q",
            "x[qz]y" => b"xzy",
            _ => b"needle",
        };
        for len in [needle.len(), 31, 32, 33, 63, 64, 65, 95, 96, 97, 130] {
            let mut hits = RowBits::default();
            for isa in isas() {
                let prefilter = Prefilter::with_isa(&[&setting], isa).unwrap();
                for at in 0..=len.saturating_sub(needle.len()) {
                    let mut text = vec![b'-'; len.max(needle.len())];
                    text[at..at + needle.len()].copy_from_slice(needle);
                    let guarded = Guarded::at_end(&text);
                    let cut = len / 2;
                    let bodies = [Range::new(0, text.len()), Range::new(0, cut), Range::new(cut, len - cut)];
                    prefilter.candidates(guarded.padded(), &bodies, &[0], &mut hits);
                    assert!(hits.get(0), "{pattern} at {at} of {len}");
                    prefilter.candidates(guarded.padded(), &bodies, &[1, 2], &mut hits);
                    assert_eq!(hits.get(0), at + needle.len() <= cut, "{pattern} at {at} of {len}");
                    assert_eq!(hits.get(1), at >= cut, "{pattern} at {at} of {len}");
                }
            }
        }
    }
}

#[test]
fn hits_across_the_borders_of_rows_hide_nothing() {
    // The text between two rows must not be taken for a match, nor make the search step over one behind it.
    let text = b"xaaab aaab baaba";
    let bodies = [Range::new(0, 2), Range::new(2, 1), Range::new(3, 4), Range::new(7, 2), Range::new(10, 6)];
    for pattern in ["aa", "aab|ba", "ab aa", "b", "(?i)AAB|q|r|s"] {
        check(text, &bodies, &[0, 1, 2, 3, 4], &[setting(pattern, "")]);
        check(text, &bodies, &[4, 2, 2, 0, 3, 1], &[setting(pattern, "")]);
    }
}

#[test]
fn what_would_not_pay_is_refused() {
    let new = |pattern: &str| Prefilter::new(&[&setting(pattern, "")]).map(|prefilter| prefilter.is_exact());
    for pattern in ["", "a*", r"\d{3}-?", r"^\w\w", r"^e", r"\S+ \S+", "x?|y", "(", r"^(\S+) (\S+)"] {
        assert_eq!(new(pattern), None, "{pattern}");
    }
    assert_eq!(new("GET /health|kube-probe"), Some(true));
    assert_eq!(new("^(.*GET /health.*|.*kube-probe.*)$"), Some(false));
    assert_eq!(new(r#"" 5[0-9][0-9] "#), Some(true));
    // Digits of other scripts are digits, too.
    assert_eq!(new(r#"" 5\d\d "#), Some(false));
    let words: Vec<String> = (0..NEEDLES_MAX + 1).map(|word| format!("word{word}x")).collect();
    assert_eq!(new(&words.join("|")), None);
    let many: Vec<RegexSetting> = words.iter().map(|word| setting(word, "")).collect();
    assert!(Prefilter::new(&many.iter().collect::<Vec<_>>()).is_none());
    assert!(Prefilter::new(&many[1..].iter().collect::<Vec<_>>()).is_some());
    assert!(Prefilter::new(&[]).is_none());
    assert!(Prefilter::new(&[&setting("GET /health", ""), &setting(".*", "")]).is_none());
}

#[test]
fn arenas_without_padding_hold_nothing() {
    let prefilter = Prefilter::new(&[&setting("needle", "")]).unwrap();
    let mut hits = RowBits::default();
    prefilter.candidates(b"needle", &[Range::new(0, 6)], &[0, 1, u32::MAX], &mut hits);
    assert_eq!((hits.len(), hits.count()), (3, 0));
}

/// An empty body that stood behind the next one in the arena was waited for, and the next one was missed.
#[test]
fn an_empty_body_hides_no_other() {
    let text = b"--- a -----------";
    let bodies = [Range::new(0, 3), Range::new(16, 0), Range::new(4, 1)];
    check(text, &bodies, &[0, 1, 2], &[setting("a", "")]);
}
