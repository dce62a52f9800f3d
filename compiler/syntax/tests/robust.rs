//! Nothing that anybody writes may end in a panic, and what is broken must be said.

mod common;

use common::{Random, flow_files};
use flow_diag::{Diagnostic, FileId, Severity};
use flow_syntax::lex::{Token, tokens};
use flow_syntax::{format, parse_expr, parse_file, same_meaning};
use proptest::prelude::*;

/// Spans lie in the text and on character boundaries, in order of place, each (code, place) once.
fn check_diagnostics(text: &str, diagnostics: &[Diagnostic]) {
    assert!(diagnostics.len() <= 51, "{} diagnostics", diagnostics.len());
    for pair in diagnostics.windows(2) {
        assert!(pair[0].primary.span.start <= pair[1].primary.span.start);
        assert!((pair[0].code, pair[0].primary.span) != (pair[1].code, pair[1].primary.span));
    }
    for diagnostic in diagnostics {
        let labels = diagnostic.secondary.iter().chain([&diagnostic.primary]);
        for span in labels.map(|label| label.span).chain(diagnostic.fix.iter().map(|edit| edit.span)) {
            assert!(text.get(span.range()).is_some(), "{span:?} of {diagnostic:?}");
        }
        assert!(!diagnostic.title.is_empty() && !diagnostic.title.contains("kw_"), "{diagnostic:?}");
    }
}

fn check(text: &str) {
    let parsed = parse_file(FileId(0), text);
    check_diagnostics(text, &parsed.diagnostics);
    check_diagnostics(text, &parse_expr(FileId(0), text).diagnostics);
    flow_syntax::split::split(text);
    let failed = parsed.diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error);
    match format(text) {
        None => assert!(failed),
        Some(formatted) => {
            let again = parse_file(FileId(0), &formatted);
            assert!(same_meaning(&parsed.value, &again.value), "{text}\n---\n{formatted}");
            assert_eq!(format(&formatted).as_deref(), Some(formatted.as_str()), "from\n{text}");
        }
    }
}

const WORDS: [&str; 64] = [
    "source",
    "a",
    "=",
    "tail",
    "\"/x\"",
    "{",
    "}",
    "->",
    "\n",
    "route",
    "else",
    "when",
    "(",
    ")",
    "[",
    "]",
    ",",
    ":",
    "?",
    "1",
    "5min",
    "0.5",
    "..",
    "/x/",
    "'raw'",
    "\"${",
    "}\"",
    "\"\"\"",
    "#c",
    "##d",
    "\n",
    "interceptor",
    "f",
    "let",
    "if",
    "for",
    "in",
    "match",
    "drop",
    "fail",
    "=>",
    "==",
    "-",
    "and",
    "not",
    "~",
    "header",
    ".",
    "test",
    "send",
    "expect",
    "agent",
    "at",
    "topic",
    "on",
    "extern",
    "fn",
    "list",
    "<",
    ">",
    "one_of",
    "type",
    ";",
    "\u{a0}",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_read_without_panic(text in ".{0,200}") {
        check(&text);
    }

    #[test]
    fn any_row_of_tokens_is_read_without_panic(picks in prop::collection::vec(0..WORDS.len(), 0..60)) {
        let text: Vec<&str> = picks.iter().map(|pick| WORDS[*pick]).collect();
        check(&text.join(" "));
        check(&text.concat());
    }
}

/// Bytes and tokens of the examples changed at random, several at a time.
#[test]
fn any_change_of_an_example_is_read_without_panic() {
    let examples = flow_files("tests/flows");
    let mut random = Random::new(7);
    for _ in 0..150 {
        let (_, text) = &examples[random.below(examples.len())];
        let mut text = text.clone();
        for _ in 0..=random.below(4) {
            change(&mut text, &mut random);
        }
        check(&text);
    }
}

fn change(text: &mut String, random: &mut Random) {
    const CHARS: [char; 32] = [
        '{', '}', '[', ']', '(', ')', '"', '\'', '/', '\\', '\n', ' ', '\t', '#', '$', '.', ',', ':', ';',
        '=', '-', '>', '<', '~', '?', '!', '@', '%', '5', 'm', 'é', '\u{a0}',
    ];
    let all: Vec<Token> = tokens(text);
    if all.is_empty() {
        return;
    }
    let token = all[random.below(all.len())];
    match random.below(4) {
        0 => text.replace_range(token.start..token.end, ""),
        1 => text.replace_range(token.start..token.end, WORDS[random.below(WORDS.len())]),
        2 => {
            let mut at = random.below(text.len());
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            text.insert(at, CHARS[random.below(CHARS.len())]);
        }
        _ => {
            let mut at = random.below(text.len());
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            text.truncate(at);
        }
    }
}
