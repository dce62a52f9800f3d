//! Texts made to be slow or deep: the steps of the grammar are counted, not the time.
//!
//! The limit on steps belongs to the process, so this is the only test of its binary.

use std::num::NonZeroUsize;

use flow_diag::{Code, FileId};
use flow_syntax::{format, parse_file};

/// Steps of the grammar per byte that any text may take, in one parse; a quadratic one would take thousands.
const CALLS_PER_BYTE: usize = 3_000;

fn texts(n: usize) -> Vec<(&'static str, String)> {
    let nest =
        |open: &str, middle: &str, close: &str| format!("{}{middle}{}", open.repeat(n), close.repeat(n));
    vec![
        ("parens", format!("param a = {}", nest("(", "1", ")"))),
        ("parens, error", format!("param a = {}", nest("(", "1 1", ")"))),
        ("lists, error", format!("param a = {}", nest("[", "1 1", "]"))),
        ("maps, error", format!("param a = {}", nest("{a:", "1 1", "}"))),
        ("calls, error", format!("param a = {}", nest("f(", "1 1", ")"))),
        ("if statements, error", format!("interceptor a {{\n{}\n}}", nest("if a {\n", "b = = 1\n", "}\n"))),
        ("if expressions, error", format!("param a = {}", nest("if a { ", "1 1", " } else { 1 }"))),
        ("agents, error", nest("agent a {\n", "a b\n", "}\n")),
        ("routes, error", format!("a -> {}", nest("route { else -> ", "b = c", " }"))),
        ("fans, error", format!("a -> {}", nest("[", "b = c", "]"))),
        ("interpolations, error", format!("param a = {}", nest("\"${", "1 1", "}\""))),
        ("types, error", format!("param a: {}", nest("list<", "int int", ">"))),
        ("matches, error", format!("interceptor a {{\n{}\n}}", nest("match a { else -> ", "b = = 1", " }"))),
        ("lambdas", format!("param a = {}1", "x => ".repeat(n))),
        ("else chain", format!("interceptor a {{ {} {{ }} }}", "if a { } else ".repeat(n))),
        ("fail chain", format!("interceptor a {{ let x = a {} }}", "else fail a ".repeat(n))),
        ("operators", format!("param a = 1{}", " + 1".repeat(n))),
        ("signs", format!("param a = {}1", "- ".repeat(n))),
        ("members", format!("param a = b{}", ".c".repeat(n))),
        ("never closed", "agent a {\n".repeat(n)),
        ("closed only", "}\n".repeat(n)),
        ("slashes", format!("a {}", "/[".repeat(n))),
        ("quotes", "\" ' ".repeat(n)),
        ("comments", format!("{}a -> b", "# c\n".repeat(n))),
        ("blank lines", format!("a{}-> b", "\n".repeat(n))),
        ("broken lines", "source = \n".repeat(n)),
        ("dollars", format!("param a = \"{}\"", "$a".repeat(n))),
    ]
}

#[test]
fn no_text_is_slow_or_too_deep() {
    // the crate sets its own limit once, at the first parse
    parse_file(FileId(0), "a -> b");
    for n in [20, 150, 1_000] {
        for (name, text) in texts(n) {
            let calls = 200_000 + CALLS_PER_BYTE * text.len();
            pest::set_call_limit(NonZeroUsize::new(calls));
            let parsed = parse_file(FileId(0), &text);
            assert!(parsed.diagnostics.len() <= 51, "{name} x{n}");
            let deep = parsed.diagnostics.iter().any(|diagnostic| diagnostic.code == Code::F0023);
            assert!(!deep || n > 150, "{name} x{n}: the limit on steps was reached");
            if name.ends_with("error") {
                assert!(!parsed.diagnostics.is_empty(), "{name} x{n}");
            }
            format(&text);
        }
    }
    for bracket in ["(", "[", "{a:", "f(", "a -> [", "\"${", "agent a {\n", "if a {\n", "}\n"] {
        let count = if bracket.ends_with('\n') { 10_000 } else { 200_000 };
        let parsed = parse_file(FileId(0), &format!("param a = {}1", bracket.repeat(count)));
        assert!(!parsed.diagnostics.is_empty() && parsed.diagnostics.len() <= 51, "{bracket}");
    }
    let closed = format!("param a = {}1{}\nsink b = console", "(".repeat(200_000), ")".repeat(200_000));
    let parsed = parse_file(FileId(0), &closed);
    assert_eq!(parsed.diagnostics.iter().map(|d| d.code).collect::<Vec<_>>(), [Code::F0023]);
    assert_eq!(parsed.value.items.len(), 1);
}
