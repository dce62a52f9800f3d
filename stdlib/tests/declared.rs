//! What is declared in `*.flow` and what is registered in Rust are the same names. The declarations are only
//! scanned for their first lines here: this crate knows no parser.

use std::collections::BTreeSet;

use flow_stdlib::{DECLARATIONS, registry};

/// Names of `extern WORD NAME` in all declarations: those that this build has, and those that it has not.
fn declared(word: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let mut here = BTreeSet::new();
    let mut absent = BTreeSet::new();
    for (_, text) in DECLARATIONS {
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            let Some(rest) = line.strip_prefix("extern ").and_then(|rest| rest.strip_prefix(word)) else {
                continue;
            };
            let Some(rest) = rest.strip_prefix(' ') else { continue };
            let name: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            let mut clauses = rest.to_owned();
            // The body of a kind ends with a brace in the first column; its clauses stand behind it.
            if rest.trim_end().ends_with('{') {
                clauses = lines.by_ref().find(|line| line.starts_with('}')).unwrap_or_default().to_owned();
            }
            let is_absent = clauses
                .rsplit_once(" can ")
                .is_some_and(|(_, words)| words.split([',', ' ']).any(|word| word == "absent"));
            if is_absent {
                absent.insert(name)
            } else {
                here.insert(name)
            };
        }
    }
    (here, absent)
}

fn assert_agrees(word: &str, registered: impl Iterator<Item = &'static str>) {
    let registered: BTreeSet<String> = registered.map(str::to_owned).collect();
    let (here, absent) = declared(word);
    assert!(!here.is_empty(), "no `extern {word}` was found");
    let undeclared: Vec<_> = registered.difference(&here).collect();
    assert!(undeclared.is_empty(), "registered, but not declared as `extern {word}`: {undeclared:?}");
    let missing: Vec<_> = here.difference(&registered).collect();
    assert!(missing.is_empty(), "declared as `extern {word}`, but not registered: {missing:?}");
    let both: Vec<_> = here.intersection(&absent).collect();
    assert!(both.is_empty(), "declared as `extern {word}` both with and without `absent`: {both:?}");
}

#[test]
fn functions_are_declared_and_implemented() {
    assert_agrees("fn", registry().functions.names());
}

#[test]
fn interceptors_are_declared_and_implemented() {
    assert_agrees("interceptor", registry().interceptors.names());
}

#[test]
fn every_declaration_is_documented() {
    for (file, text) in DECLARATIONS {
        let mut before = "";
        for line in text.lines() {
            assert!(
                !line.starts_with("extern ") || before.starts_with("##"),
                "{file}: no doc above `{line}`"
            );
            before = line;
        }
    }
}
