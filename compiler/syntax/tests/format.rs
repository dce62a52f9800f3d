//! The formatter: cases with the wanted text, and what must hold for any text.

mod common;

use common::flow_files;
use flow_diag::{FileId, expect};
use flow_syntax::{format, parse_file, same_meaning};

/// Each case is a file `name.flow` with its formatted text in `name.formatted`.
#[test]
fn every_case_is_formatted_as_it_says() {
    let cases = flow_files("tests/format");
    assert!(cases.len() >= 8, "only {} cases found", cases.len());
    for (path, text) in cases {
        let formatted = format(&text).unwrap_or_else(|| panic!("{} has errors", path.display()));
        let wanted = path.with_extension("formatted");
        if expect::updating() {
            std::fs::write(&wanted, &formatted).expect("the case can be written");
            continue;
        }
        let expected = std::fs::read_to_string(&wanted).unwrap_or_default();
        assert_eq!(formatted, expected, "{}; FLOW_UPDATE=1 rewrites it", path.display());
    }
}

/// Examples and the library: formatting keeps the meaning and the comments, and a second time changes nothing.
#[test]
fn formatting_keeps_meaning_and_comments() {
    for folder in ["tests/flows", "tests/format", "stdlib", "examples"] {
        for (path, text) in flow_files(folder) {
            let Some(formatted) = format(&text) else { panic!("{} has errors", path.display()) };
            let (before, after) = (parse_file(FileId(0), &text), parse_file(FileId(0), &formatted));
            assert!(same_meaning(&before.value, &after.value), "{}", path.display());
            assert_eq!(comments(&text), comments(&formatted), "{}", path.display());
            assert_eq!(format(&formatted).as_deref(), Some(formatted.as_str()), "{}", path.display());
        }
    }
}

#[test]
fn text_with_errors_is_not_formatted() {
    assert_eq!(format("source web tail"), None);
}

fn comments(text: &str) -> Vec<&str> {
    let tokens = flow_syntax::lex::tokens(text).into_iter();
    tokens
        .filter(|token| token.kind == flow_syntax::lex::TokenKind::Comment)
        .map(|token| token.text(text).trim_end())
        .collect()
}
