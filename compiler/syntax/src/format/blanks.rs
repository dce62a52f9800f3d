//! The blank between two tokens of a line.

use crate::lex::{Token, TokenKind};

/// Words that take arguments of types in `< >`.
const GENERIC_WORDS: [&str; 7] = ["list", "map", "secret", "expr", "ref", "range", "one_of"];

/// Words after which a `(` or a `-` begins a value instead of following one.
const OPERATOR_WORDS: [&str; 19] = [
    "and", "or", "not", "in", "when", "else", "return", "if", "match", "emit", "fail", "at", "route", "all",
    "where", "for", "let", "remove", "within",
];

/// Which `<` and `>` are brackets of types.
pub(super) fn type_brackets(text: &str, tokens: &[Token]) -> Vec<bool> {
    let mut tight = vec![false; tokens.len()];
    let mut open: Vec<usize> = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        match token.text(text) {
            "<" if index > 0 && is_generic(text, tokens, index - 1) => open.push(index),
            ">" => {
                if let Some(opener) = open.pop() {
                    tight[opener] = true;
                    tight[index] = true;
                }
            }
            "->" | "==" | "and" | "or" | "if" => open.clear(),
            _ => {}
        }
    }
    tight
}

fn is_generic(text: &str, tokens: &[Token], word: usize) -> bool {
    let before = word.checked_sub(1).map_or("", |before| tokens[before].text(text));
    tokens[word].kind == TokenKind::Word
        && GENERIC_WORDS.contains(&tokens[word].text(text))
        && matches!(before, ":" | "->" | "<" | "," | "(" | "=" | "\n" | "\r\n")
}

/// Whether a blank stands before the token at `k`, which is not the first; the flags tell brackets of types.
pub(super) fn between(text: &str, tokens: &[(Token, bool)], k: usize) -> bool {
    let ((left, left_tight), (right, right_tight)) = (tokens[k - 1], tokens[k]);
    let before = k.checked_sub(2).map(|k| tokens[k].0);
    let (a, b) = (left.text(text), right.text(text));
    if right_tight {
        return false;
    }
    if left_tight && a == "<" {
        return false;
    }
    if b == "?" || b == "," || b == ":" || b == ";" {
        return false;
    }
    if matches!(a, "." | "..") || matches!(b, "." | "..") {
        return false;
    }
    if is_prefix(text, tokens, k - 1) {
        return false;
    }
    match (left.kind, right.kind) {
        (TokenKind::Open(b'{'), TokenKind::Close(b'}')) => false,
        (TokenKind::Open(b'{'), _) | (_, TokenKind::Close(b'}')) => true,
        (TokenKind::Open(_), _) | (_, TokenKind::Close(_)) => false,
        (TokenKind::Word, TokenKind::Open(b'(')) => {
            // a function or a member may be called like such a word
            let named = before.is_some_and(|before| matches!(before.text(text), "fn" | "."));
            OPERATOR_WORDS.contains(&a) && !named
        }
        (TokenKind::Close(_), TokenKind::Open(b'(')) => false,
        // an index or a list as argument: as it was written
        (TokenKind::Word | TokenKind::Close(_), TokenKind::Open(b'[')) => left.end < right.start,
        _ => true,
    }
}

/// Whether the token at `k` is a sign before a value: `-1`, not `a - 1`.
fn is_prefix(text: &str, tokens: &[(Token, bool)], k: usize) -> bool {
    let word = |k: usize| tokens.get(k).map_or("", |(token, _)| token.text(text));
    if word(k) != "-" {
        return false;
    }
    let Some((before, tight)) = k.checked_sub(1).map(|k| tokens[k]) else { return true };
    match before.kind {
        // `int -5..5`: a range of a type
        TokenKind::Word if k >= 2 && word(k - 2) == ":" && word(k + 2) == ".." => true,
        TokenKind::Word => OPERATOR_WORDS.contains(&before.text(text)),
        TokenKind::Mark => !tight && (before.text(text) != "?" || word(k + 2) == ".."),
        TokenKind::Open(_) => true,
        _ => false,
    }
}
