//! Habits from other languages, each answered with what is written here instead.

use flow_diag::{Code, Diagnostic};

use super::{Failure, View};
use crate::lex::TokenKind;
use crate::recover::Kind;
use crate::words::is_reserved;

/// A statement written as other languages write it.
pub(super) fn habit(view: &View<'_>, failure: &Failure<'_>) -> Option<Diagnostic> {
    comment(view)
        .or_else(|| in_interpolation(view, failure))
        .or_else(|| first_word(view, failure))
        .or_else(|| operator(view, failure))
        .or_else(|| list_without_brackets(view, failure))
        .or_else(|| unit_apart(view))
        .or_else(|| colon(view, failure))
        .or_else(|| secret_in_the_file(view, failure))
}

/// `// text`, `/* text */`, `-- text`
fn comment(view: &View<'_>) -> Option<Diagnostic> {
    let token = view.token(0)?;
    let rest = &view.source.text[token.start..];
    let mark = ["//", "/*", "--"].into_iter().find(|mark| rest.starts_with(mark))?;
    if rest.starts_with("-->") || rest.starts_with("---") {
        return None;
    }
    Some(
        Diagnostic::new(Code::F0001, view.span(0), "comments begin with `#`")
            .label(format!("`{mark}` begins nothing"))
            .help("write `# …`; `## …` above a declaration documents it"),
    )
}

/// `var x = 1`, `while …`, `elif …`
fn first_word(view: &View<'_>, failure: &Failure<'_>) -> Option<Diagnostic> {
    let word = view.text(0);
    if !view.is_word(0) || failure.kind != Kind::Stmt {
        return None;
    }
    let span = view.span(0);
    let about = |title: &str, help: &str| {
        Some(Diagnostic::new(Code::F0001, span, title).label("not a word of the language").help(help))
    };
    match word {
        "var" | "const" | "val" | "my" | "local" | "auto" if view.is_word(1) && view.text(2) == "=" => {
            about(&format!("`{word}` is written `let`"), "`let name = value`; it can be assigned again")
                .map(|diagnostic| diagnostic.fix(span, "let"))
        }
        "while" | "loop" | "until" | "foreach" => about(
            &format!("there is no `{word}`: every loop has an end"),
            "`for item in list { … }`, `for n in 1..10 { … }`",
        ),
        "elif" | "elsif" | "elseif" => {
            about(&format!("`{word}` is written `else if`"), "`} else if condition { … }`")
        }
        "switch" => about("`switch` is written `match`", "`match value { \"a\" -> … else -> … }`"),
        "try" | "catch" => {
            about(&format!("there is no `{word}`"), "say what happens at the place: `json(body) else drop`")
        }
        _ => None,
    }
}

/// `=` for `==`, `=~` for `~`, `a ? b : c`, `x++`, `>` and `|` for the arrow.
fn operator(view: &View<'_>, failure: &Failure<'_>) -> Option<Diagnostic> {
    let at = view.at;
    let joined = |k: usize| match (view.token(k), view.token(k + 1)) {
        (Some(one), Some(next)) => one.end == next.start,
        _ => false,
    };
    let (span, text) = (view.span(at), view.text(at));
    let in_condition = matches!(view.text(0), "if" | "when" | "for" | "else");
    match text {
        "=" if in_condition && view.text(at + 1) == "~" && joined(at) => Some(
            Diagnostic::new(Code::F0017, span.to(view.span(at + 1)), "`=~` is written `~`")
                .fix(span.to(view.span(at + 1)), "~"),
        ),
        "=" if in_condition && at > 1 => Some(
            Diagnostic::new(Code::F0017, span, "`=` is written `==` in a condition")
                .label("`=` assigns")
                .fix(span, "=="),
        ),
        "?" if matches!(failure.kind, Kind::Stmt | Kind::Entry) => Some(
            Diagnostic::new(Code::F0001, span, "`c ? a : b` is written with `if`")
                .label("not an operator")
                .help("`if c { a } else { b }`; `??` gives a value in place of null"),
        ),
        "+" | "-" if failure.kind == Kind::Stmt && at > 0 && view.before() == text && joined(at - 1) => Some(
            Diagnostic::new(Code::F0001, view.span(at - 1).to(span), format!("there is no `{text}{text}`"))
                .label("not an operator")
                .help(format!("`{} {text}= 1`", view.text(0))),
        ),
        ">" | "|" | ">>" if failure.kind == Kind::Item && at > 0 && !is_declaration(view) => Some(
            Diagnostic::new(Code::F0009, span, format!("`{text}` is not the flow arrow"))
                .label("write `->`")
                .fix(span, "->"),
        ),
        "is" if in_condition => Some(
            Diagnostic::new(Code::F0017, span, "`is` is written `==`")
                .label("not an operator")
                .fix(span, "=="),
        ),
        _ if view.kind(at) == Some(TokenKind::String)
            && at > 0
            && matches!(view.before(), "f" | "r" | "b")
            && joined(at - 1) =>
        {
            let prefix = view.span(at - 1);
            Some(
                Diagnostic::new(Code::F0001, prefix, "strings need no letter before them")
                    .label("remove this")
                    .help("`\"… ${value} …\"`; `'…'` takes everything as it stands")
                    .fix(prefix, ""),
            )
        }
        _ => None,
    }
}

fn is_declaration(view: &View<'_>) -> bool {
    is_reserved(view.text(0))
}

/// `tail "/a", "/b"`, `a, b -> c`, `(a, b) -> c`
fn list_without_brackets(view: &View<'_>, failure: &Failure<'_>) -> Option<Diagnostic> {
    if failure.kind != Kind::Item {
        return None;
    }
    let about = |k: usize| {
        Diagnostic::new(Code::F0001, view.span(k), "several things stand in `[ ]`")
            .label("a list is meant here")
    };
    if view.at == 0 && view.text(0) == "(" {
        return Some(about(0).help("`[a, b] -> c`"));
    }
    if view.text(view.at) != "," || view.at == 0 {
        return None;
    }
    match view.text(0) {
        "source" | "sink" | "channel" | "group" => Some(about(view.at).help("`kind [\"a\", \"b\"] { … }`")),
        word if !is_reserved(word) => Some(about(view.at).help("`[a, b] -> c`")),
        _ => None,
    }
}

/// A mistake inside of `"… ${…} …"`: the grammar stopped within the string.
fn in_interpolation(view: &View<'_>, failure: &Failure<'_>) -> Option<Diagnostic> {
    let token = view.token(view.at).filter(|token| token.kind == TokenKind::String)?;
    let (at, text) = (failure.at, view.source.text);
    if at <= token.start || at >= token.end {
        return None;
    }
    let opened = text[token.start..at].rfind("${")?;
    if text[token.start + opened..at].contains('}') {
        return None;
    }
    let rest = &text[at..token.end];
    let word = rest.starts_with(|c: char| c.is_alphanumeric() || c == '_');
    let same =
        |c: char| (c.is_alphanumeric() || c == '_') == word && !c.is_whitespace() && c != '}' && c != '"';
    let length = rest.find(|c| !same(c)).unwrap_or(rest.len());
    let length = length.max(rest.chars().next().map_or(0, char::len_utf8));
    let found = &rest[..length];
    Some(
        Diagnostic::new(
            Code::F0001,
            view.source.span(at, at + length),
            format!("`{found}` does not fit in `${{…}}`"),
        )
        .label("here")
        .help(
            "between `${` and `}` stands one expression, perhaps with a format for times: `${time:%Y-%m-%d}`",
        ),
    )
}

/// `5 s`
fn unit_apart(view: &View<'_>) -> Option<Diagnostic> {
    const UNITS: [&str; 18] = [
        "ns", "us", "ms", "s", "min", "h", "d", "w", "sec", "m", "B", "KB", "MB", "GB", "TB", "KiB", "MiB",
        "GiB",
    ];
    let number = view.at.checked_sub(1)?;
    if view.kind(number) != Some(TokenKind::Number) || !UNITS.contains(&view.text(view.at)) {
        return None;
    }
    let span = view.span(number).to(view.span(view.at));
    let joined = format!("{}{}", view.text(number), view.text(view.at));
    Some(
        Diagnostic::new(Code::F0005, span, "a unit stands right behind its number")
            .label(format!("write `{joined}`"))
            .fix(span, joined),
    )
}

/// `source web: tail "x"`, `fn f(x: int): int`, `if x: drop`
fn colon(view: &View<'_>, failure: &Failure<'_>) -> Option<Diagnostic> {
    if view.text(view.at) != ":" {
        return None;
    }
    let span = view.span(view.at);
    match (failure.kind, view.text(0)) {
        (Kind::Item, word) if view.at == 2 && is_reserved(word) => Some(
            Diagnostic::new(Code::F0011, span, "declarations use `=`")
                .label("write `=`")
                .help(format!("`{word} name = …`"))
                .fix(span, " ="),
        ),
        (Kind::Item, "fn") => Some(
            Diagnostic::new(Code::F0001, span, "the type of a result stands behind `->`")
                .label("write `->`")
                .help("`fn name(arg: type) -> type { … }`")
                .fix(span, " ->"),
        ),
        (Kind::Stmt, "if" | "for" | "else") => Some(
            Diagnostic::new(Code::F0001, span, "what belongs to a condition stands in `{ }`")
                .label("expected `{`")
                .help("`if condition { drop }`"),
        ),
        _ => None,
    }
}

/// `secret pw = "hunter2"`
fn secret_in_the_file(view: &View<'_>, failure: &Failure<'_>) -> Option<Diagnostic> {
    let text = matches!(view.kind(view.at), Some(TokenKind::String | TokenKind::RawString));
    if failure.kind != Kind::Item || view.text(0) != "secret" || view.at != 3 || !text {
        return None;
    }
    let name = view.text(1);
    Some(
        Diagnostic::new(Code::F0001, view.span(3), "a secret does not stand in the file")
            .label("everyone who can read the file reads it")
            .help(format!(
                "`secret {name} = env \"{}\"`, or `= file \"/run/secrets/{name}\"`",
                name.to_uppercase()
            )),
    )
}
