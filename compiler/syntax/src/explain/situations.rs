//! The situations that people get into, each with its own sentence.

use flow_diag::{Code, Diagnostic, suggest};

use super::{Failure, Repair, View};
use crate::grammar::ErrorVariant;
use crate::lex::TokenKind;
use crate::nouns::nouns;
use crate::recover::Kind;
use crate::words::{ITEM_WORDS, TEST_WORDS, is_reserved, nearest_item_word};

/// The situations people get into.
pub(super) fn situation(view: &View<'_>, failure: &Failure<'_>) -> Option<(Diagnostic, Repair)> {
    dangling_arrow(view)
        .or_else(|| super::habits::habit(view, failure).map(|diagnostic| (diagnostic, Repair::None)))
        .or_else(|| else_at_line_start(view))
        .or_else(|| case_without_test(view, failure).map(|diagnostic| (diagnostic, Repair::None)))
        .or_else(|| unknown_word(view, failure).map(|diagnostic| (diagnostic, Repair::None)))
        .or_else(|| setting_without_colon(view, failure).map(|diagnostic| (diagnostic, Repair::None)))
        .or_else(|| missing_equals(view, failure).map(|diagnostic| (diagnostic, Repair::None)))
        .or_else(|| dash(view).map(|diagnostic| (diagnostic, Repair::None)))
        .or_else(|| missing_word(view, failure).map(|diagnostic| (diagnostic, Repair::None)))
        .or_else(|| two_statements(view, failure))
        .or_else(|| reserved_name(view, failure).map(|diagnostic| (diagnostic, Repair::None)))
        .or_else(|| too_complicated(view, failure).map(|diagnostic| (diagnostic, Repair::None)))
        .or_else(|| nothing_between(view).map(|diagnostic| (diagnostic, Repair::None)))
}

/// `a -> ` and `a -> -> b` (F0004)
fn dangling_arrow(view: &View<'_>) -> Option<(Diagnostic, Repair)> {
    let at = view.at;
    let ends = at >= view.tokens.len() || matches!(view.kind(at), Some(TokenKind::Close(_)));
    if view.before() != "->" || !(ends || matches!(view.text(at), "->" | ",")) {
        return None;
    }
    let arrow = view.span(at - 1);
    let diagnostic = Diagnostic::new(Code::F0004, arrow, "this arrow points at nothing")
        .label("expected a channel, topic, sink, group or interceptor after it")
        .help("name where the data goes, or end the chain before the arrow");
    Some((diagnostic, Repair::Blank(arrow.range())))
}

/// F0013
fn else_at_line_start(view: &View<'_>) -> Option<(Diagnostic, Repair)> {
    if view.text(0) != "else" || view.at > 0 {
        return None;
    }
    let diagnostic = Diagnostic::new(Code::F0013, view.span(0), "`else` cannot start a line")
        .label("belongs to the line above")
        .help("put `else` at the end of the previous line: `json(body) else drop`, `} else {`");
    Some((diagnostic, Repair::None))
}

/// `warn -> buf` in a route (F0010)
fn case_without_test(view: &View<'_>, failure: &Failure<'_>) -> Option<Diagnostic> {
    let in_cases = matches!(failure.kind, Kind::Arm | Kind::MatchArm);
    let word = view.text(0);
    if !in_cases || view.at > 0 || !view.is_word(0) || matches!(word, "else" | "when") {
        return None;
    }
    let span = view.span(0);
    if matches!(word, "_" | "default" | "otherwise") {
        let diagnostic = Diagnostic::new(Code::F0010, span, format!("`{word}` is written `else`"))
            .label("the rest is `else`")
            .help("`else -> …`");
        return Some(if view.text(1) == "->" { diagnostic.fix(span, "else") } else { diagnostic });
    }
    if word == "case" {
        return Some(
            Diagnostic::new(Code::F0010, span, "cases have no word before them")
                .label("remove this")
                .help("`\"value\" -> …`, `when condition -> …`, `else -> …`"),
        );
    }
    let diagnostic =
        Diagnostic::new(Code::F0010, span, format!("a case cannot start with the name `{word}`"))
            .label("expected a literal, a range, a regex, `when` or `else`")
            .help(format!(
                "text is quoted: \"{word}\" -> …; a condition starts with `when`; the rest is `else`"
            ));
    // `info | debug -> …`: each of the names is quoted
    let mut names = vec![0];
    let mut k = 1;
    while view.text(k) == "|" && view.is_word(k + 1) {
        names.push(k + 1);
        k += 2;
    }
    if view.text(k) != "->" {
        return Some(diagnostic);
    }
    Some(
        names
            .into_iter()
            .fold(diagnostic, |diagnostic, k| diagnostic.fix(view.span(k), format!("\"{}\"", view.text(k)))),
    )
}

/// A statement begins with a word that is nearly one of the language (F0002).
fn unknown_word(view: &View<'_>, failure: &Failure<'_>) -> Option<Diagnostic> {
    let word = view.text(0);
    if !view.is_word(0) || is_reserved(word) {
        return None;
    }
    match failure.kind {
        Kind::Test if !TEST_WORDS.contains(&word) => {
            let span = view.span(0);
            let diagnostic = Diagnostic::new(Code::F0002, span, format!("unknown word `{word}`"));
            Some(match suggest(word, TEST_WORDS) {
                Some(meant) => diagnostic.label(format!("did you mean `{meant}`?")).fix(span, meant),
                None => diagnostic
                    .label("not a statement of a test")
                    .help("tests consist of `send`, `expect`, `stop`, `advance`, `set`, …"),
            })
        }
        Kind::Item => {
            let meant = nearest_item_word(word);
            let declares = view.is_word(1) && !is_reserved(view.text(1))
                || matches!(meant, Some("test" | "import")) && view.kind(1) == Some(TokenKind::String)
                || meant == Some("runtime") && view.text(1) == "{";
            let has_shape = matches!(view.text(2), "=" | "{" | "(" | "at" | "on");
            if !declares || word == "extern" || (meant.is_none() && !has_shape) {
                return None;
            }
            Some(crate::build::unknown_declaration(view.span(0), word, meant))
        }
        _ => None,
    }
}

/// `{ compress zstd }`, `{ path => "/x" }` (F0006)
fn setting_without_colon(view: &View<'_>, failure: &Failure<'_>) -> Option<Diagnostic> {
    if failure.kind != Kind::Entry || view.at != 1 || !view.is_word(0) {
        return None;
    }
    let (span, key) = (view.span(1), view.span(0));
    if view.text(1) == "=>" {
        let diagnostic = Diagnostic::new(Code::F0006, span, "settings use `:`").label("write `:`");
        return Some(diagnostic.fix(key.at_end().to(span), ":"));
    }
    view.is_word(1).then(|| {
        Diagnostic::new(Code::F0006, span, "missing `:` in a setting")
            .label("expected `:` before this")
            .help("settings are written `key: value`")
            .fix(key.at_end(), ":")
    })
}

/// `type Order { … }`, `interceptor scrub timestamp -> host` (F0011)
fn missing_equals(view: &View<'_>, failure: &Failure<'_>) -> Option<Diagnostic> {
    const WORDS: [&str; 11] = [
        "type",
        "interceptor",
        "secret",
        "source",
        "channel",
        "sink",
        "group",
        "consumer",
        "cluster",
        "ensemble",
        "use",
    ];
    let word = view.text(0);
    let value = view.is_word(2) && !is_reserved(view.text(2)) || word == "type" && view.text(2) == "{";
    if failure.kind != Kind::Item || view.at != 2 || !WORDS.contains(&word) || !view.is_word(1) || !value {
        return None;
    }
    let span = view.span(2);
    Some(
        Diagnostic::new(Code::F0011, span, "missing `=` after the name")
            .label("expected `=` before this")
            .help(format!("declarations are `{word} name = …`"))
            .fix(span.at_start(), "= "),
    )
}

/// `inbox.my-part`: a name behind a dot (F0008)
fn dash(view: &View<'_>) -> Option<Diagnostic> {
    let at = view.at;
    let before = at.checked_sub(1)?;
    let (name, dash, rest) = (view.token(before)?, view.token(at)?, view.token(at + 1)?);
    let joined = name.end == dash.start && dash.end == rest.start;
    if view.text(at) != "-" || !joined || !view.is_word(before) || !view.is_word(at + 1) {
        return None;
    }
    let span = view.span(at).to(view.span(at + 1));
    let fixed = format!("_{}", view.text(at + 1));
    Some(
        Diagnostic::new(Code::F0008, span, "names cannot contain `-`")
            .help(format!("use `_`: `{}{fixed}`", view.text(before)))
            .fix(span, fixed),
    )
}

/// `web = tail "x"`, `edge at "h" { … }`, `web source = …`: the word that declares is missing or stands second.
fn missing_word(view: &View<'_>, failure: &Failure<'_>) -> Option<Diagnostic> {
    let name = view.text(0);
    let whole_block = matches!(view.text(1), "{" | "at") && view.at >= view.tokens.len();
    if failure.kind != Kind::Item || !view.is_word(0) || is_reserved(name) || view.at > 2 && !whole_block {
        return None;
    }
    let second = view.text(1);
    if ITEM_WORDS.contains(&second) && view.at == 1 {
        return Some(
            Diagnostic::new(Code::F0001, view.span(1), format!("`{second}` comes before the name"))
                .label("a declaration begins with this word")
                .help(format!("write `{second} {name} …`")),
        );
    }
    let alone =
        second == "{" && view.at >= 2 || matches!(second, "=" | "at") || second == "(" && view.text(2) == ")";
    alone.then(|| {
        Diagnostic::new(Code::F0001, view.span(0), format!("nothing says what `{name}` is"))
            .label("expected a word such as `source` or `agent` before this")
            .help("declarations are written `source name = kind …`")
    })
}

/// `sink a = b sink c = d` on one line (F0022)
fn two_statements(view: &View<'_>, failure: &Failure<'_>) -> Option<(Diagnostic, Repair)> {
    const STATEMENT_WORDS: [&str; 9] =
        ["let", "if", "for", "match", "drop", "pass", "emit", "return", "remove"];
    let at = view.at;
    let word = view.text(at);
    if at == 0 || !view.is_word(at) {
        return None;
    }
    let after_value = matches!(
        view.kind(at - 1),
        Some(
            TokenKind::Word | TokenKind::String | TokenKind::RawString | TokenKind::Number | TokenKind::Regex
        ) | Some(TokenKind::Close(_))
    ) && !is_reserved(view.before());
    let begins = match failure.kind {
        Kind::Item => {
            ITEM_WORDS.contains(&word)
                && matches!(
                    view.kind(at + 1),
                    Some(TokenKind::Word | TokenKind::String | TokenKind::Open(b'{'))
                )
        }
        Kind::Stmt => STATEMENT_WORDS.contains(&word) || assigns(view, at),
        Kind::Test => TEST_WORDS.contains(&word) && view.is_word(at + 1),
        _ => false,
    };
    // what stands before must be complete, or the second word is only in the wrong place
    let wanted = nouns(failure.error);
    if !after_value || !begins || !wanted.iter().all(|noun| noun.continues()) {
        return None;
    }
    // `header.a b = 1` is rather one statement with a mistake
    if failure.kind == Kind::Stmt
        && !STATEMENT_WORDS.contains(&word)
        && !view.tokens[..at]
            .iter()
            .any(|&index| matches!(view.source.tokens[index].text(view.source.text), "=" | "+=" | "-="))
    {
        return None;
    }
    let span = view.span(at);
    let diagnostic = Diagnostic::new(Code::F0022, span, "two statements on one line")
        .label("the second one starts here")
        .help("put it on its own line")
        .fix(span.at_start(), "\n");
    Some((diagnostic, Repair::Split(view.tokens[at])))
}

/// Whether `a.b.c =` starts at the token.
fn assigns(view: &View<'_>, at: usize) -> bool {
    let mut k = at + 1;
    while view.text(k) == "." && view.is_word(k + 1) {
        k += 2;
    }
    matches!(view.text(k), "=" | "+=" | "-=")
}

/// `source in = …` (F0007)
fn reserved_name(view: &View<'_>, failure: &Failure<'_>) -> Option<Diagnostic> {
    // `in -> console`: as the name that a chain begins with
    let begins = failure.kind == Kind::Item && view.text(1) == "->" && view.at <= 1;
    let at = if begins { 0 } else { view.at };
    let word = view.text(at);
    if !view.is_word(at) || !is_reserved(word) {
        return None;
    }
    let names = ["->", "as", "on", ",", "[", "(", ":"];
    let before = view.before();
    let declared = ITEM_WORDS.contains(&before) || matches!(before, "let" | "for" | "extern");
    let wanted = nouns(failure.error);
    let name_fits = wanted.is_empty() || wanted.iter().any(|noun| noun.is_name());
    if !(begins || declared || names.contains(&before) && name_fits) {
        return None;
    }
    let span = view.span(at);
    Some(
        Diagnostic::new(
            Code::F0007,
            span,
            format!("`{word}` is a word of the language and cannot be a name here"),
        )
        .label("a name is expected")
        .help(format!("choose another name: `{word}_1`, `my_{word}`")),
    )
}

/// The limits of the grammar (F0023)
pub(super) fn too_complicated(view: &View<'_>, failure: &Failure<'_>) -> Option<Diagnostic> {
    let ErrorVariant::CustomError { .. } = failure.error.variant else { return None };
    Some(
        Diagnostic::new(Code::F0023, view.span(0), "this statement nests too deep to be read")
            .help("split it into several statements or functions"),
    )
}

/// A comma or an operator without anything before it.
fn nothing_between(view: &View<'_>) -> Option<Diagnostic> {
    if view.at > 0 || view.text(0) != "->" {
        return None;
    }
    Some(
        Diagnostic::new(Code::F0001, view.span(0), "this arrow starts from nothing")
            .label("expected a source, channel or topic before it")
            .help("chains are written `source -> sink`"),
    )
}
