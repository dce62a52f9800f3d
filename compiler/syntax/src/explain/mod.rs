//! What to say about a piece that cannot be read.
//!
//! First come the situations that people get into, each with its own sentence; what is left becomes "expected …,
//! found …" with at most three nouns. The name of a grammar rule never reaches a message.

mod foreign;
mod habits;
mod situations;

use std::ops::Range;

use flow_diag::{Code, Diagnostic, Span};

use crate::grammar::{Error, InputLocation, Rule};
use crate::lex::{Token, TokenKind};
use crate::nouns::{NOUNS_MAX, Noun, nouns};
use crate::recover::{Kind, Recovery};
use crate::source::Source;

/// A piece that could not be read: tokens `lo..hi`, and where the grammar stopped.
pub(crate) struct Failure<'e> {
    pub kind: Kind,
    pub lo: usize,
    pub hi: usize,
    pub at: usize,
    pub error: &'e Error<Rule>,
}

/// What may be tried after the mistake was told.
pub(crate) enum Repair {
    None,
    /// Read the piece without these bytes.
    Blank(Range<usize>),
    /// Two pieces: the second begins with this token.
    Split(usize),
}

/// Whether the piece is text of another language; says so.
pub(crate) fn is_foreign(recovery: &mut Recovery<'_>, failure: &Failure<'_>) -> bool {
    if failure.kind != Kind::Item {
        return false;
    }
    let view = View::new(recovery.source, failure);
    if let Some(diagnostic) = foreign::foreign(&view) {
        // a section or a line has its own message; a whole other format is said once
        if diagnostic.code != Code::F0032 {
            recovery.builder.diagnostics.push(diagnostic);
        } else if !recovery.foreign_told {
            recovery.builder.diagnostics.push(diagnostic);
            recovery.foreign_told = true;
            recovery.foreign = !recovery.any_read;
        }
        return true;
    }
    recovery.foreign
}

/// Says what is wrong with the piece.
pub(crate) fn explain(recovery: &mut Recovery<'_>, failure: &Failure<'_>) -> Repair {
    let view = View::new(recovery.source, failure);
    let (diagnostic, repair) =
        situations::situation(&view, failure).unwrap_or_else(|| (expected(&view, failure), Repair::None));
    recovery.builder.diagnostics.push(diagnostic);
    repair
}

/// What is wrong where the grammar stopped, for a text that is one piece.
pub(crate) fn expected_in(source: &Source<'_>, error: &Error<Rule>) -> Diagnostic {
    let at = match error.location {
        InputLocation::Pos(at) | InputLocation::Span((at, _)) => at,
    };
    let failure = Failure { kind: Kind::Stmt, lo: 0, hi: source.tokens.len(), at, error };
    let view = View::new(source, &failure);
    situations::too_complicated(&view, &failure).unwrap_or_else(|| expected(&view, &failure))
}

/// F0012
pub(crate) fn semicolon(source: &Source<'_>, span: Span) -> Diagnostic {
    Diagnostic::new(Code::F0012, span, "`;` is not needed")
        .label("a newline ends a statement")
        .help("`flowc fmt` removes it")
        .fix(span, source.instead_of_semicolon(span.end as usize))
}

/// The tokens of the piece without line ends and comments.
struct View<'a> {
    source: &'a Source<'a>,
    /// Indices into the tokens of the text.
    tokens: Vec<usize>,
    /// The index into `tokens` of the one where the grammar stopped; their number at the end of the piece.
    at: usize,
}

impl<'a> View<'a> {
    fn new(source: &'a Source<'a>, failure: &Failure<'_>) -> View<'a> {
        let tokens: Vec<usize> =
            (failure.lo..failure.hi).filter(|&index| !source.tokens[index].is_trivia()).collect();
        let at = tokens.partition_point(|&index| source.tokens[index].end <= failure.at);
        View { source, tokens, at }
    }

    fn token(&self, k: usize) -> Option<Token> {
        self.tokens.get(k).map(|&index| self.source.tokens[index])
    }

    fn text(&self, k: usize) -> &'a str {
        self.token(k).map_or("", |token| token.text(self.source.text))
    }

    fn kind(&self, k: usize) -> Option<TokenKind> {
        self.token(k).map(|token| token.kind)
    }

    fn is_word(&self, k: usize) -> bool {
        self.kind(k) == Some(TokenKind::Word)
    }

    fn span(&self, k: usize) -> Span {
        match self.token(k) {
            Some(token) => self.source.token_span(token),
            None => {
                let end = self.tokens.last().map_or(0, |&index| self.source.tokens[index].end);
                self.source.span(end, end)
            }
        }
    }

    fn before(&self) -> &'a str {
        self.at.checked_sub(1).map_or("", |k| self.text(k))
    }
}

/// The general case: F0001 and F0005.
fn expected(view: &View<'_>, failure: &Failure<'_>) -> Diagnostic {
    let at = view.at;
    let wanted = nouns(failure.error);
    let list = join(&wanted);
    if at >= view.tokens.len() {
        let span = view.span(at);
        let diagnostic = Diagnostic::new(Code::F0001, span, "this statement is not finished");
        return match wanted.is_empty() {
            true => diagnostic.label("something is missing here"),
            false => diagnostic.label(format!("expected {list}")),
        };
    }
    let span = view.span(at);
    let found = shown(view.text(at));
    // the grammar could have stopped before this: what stands here is too much
    let complete = !wanted.is_empty() && wanted.iter().all(|noun| noun.continues());
    let side_by_side = matches!(
        view.kind(at),
        Some(
            TokenKind::Word
                | TokenKind::Number
                | TokenKind::String
                | TokenKind::RawString
                | TokenKind::Open(_)
        )
    );
    if failure.kind == Kind::Test || complete && side_by_side && failure.kind != Kind::Stmt {
        let diagnostic = Diagnostic::new(Code::F0005, span, format!("unexpected `{found}`"));
        return if complete {
            diagnostic
                .label("the statement should have ended before this")
                .help("one statement per line; join steps with `->`, settings with `,`")
        } else {
            diagnostic.label(format!("expected {list}"))
        };
    }
    let title = if wanted.is_empty() {
        format!("`{found}` does not fit here")
    } else {
        format!("expected {list}, found `{found}`")
    };
    let diagnostic = Diagnostic::new(Code::F0001, span, title).label("here");
    match hint(view, failure) {
        Some(help) => diagnostic.help(help),
        None => diagnostic,
    }
}

/// Help for a few common forms.
fn hint(view: &View<'_>, failure: &Failure<'_>) -> Option<&'static str> {
    match (failure.kind, view.text(0)) {
        (Kind::Item, "param") => Some("parameters are written `param name: type = default where condition`"),
        (Kind::Item, "fn") => Some("functions are written `fn name(arg: type) -> type { … }`"),
        (Kind::Item, "type") => Some("types are written `type Name = { field: type }`"),
        (Kind::Item, "topic") => Some("topics are written `topic name on cluster { … }`"),
        (Kind::Item, "agent") => Some("agents are written `agent name at \"host\" { … }`"),
        (Kind::Item, "source" | "channel" | "sink" | "group" | "cluster" | "ensemble" | "consumer") => {
            Some("declarations are written `word name = kind argument { key: value }`")
        }
        (Kind::Entry, _) => Some("settings are written `key: value`"),
        (Kind::Arm, _) => {
            Some("cases are written `pattern -> step`, `when condition -> step`, `else -> step`")
        }
        _ => None,
    }
}

fn join(wanted: &[Noun]) -> String {
    let mut texts: Vec<&str> = Vec::new();
    for noun in wanted {
        if !texts.contains(&noun.text()) {
            texts.push(noun.text());
        }
    }
    texts.truncate(NOUNS_MAX);
    match texts.split_last() {
        None => String::new(),
        Some((last, [])) => (*last).to_owned(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
    }
}

/// A token as a message shows it: one line, not long.
fn shown(text: &str) -> String {
    const SHOWN_MAX: usize = 24;
    let line = text.lines().next().unwrap_or("");
    if line.chars().count() <= SHOWN_MAX && line.len() == text.len() {
        return line.to_owned();
    }
    let mut short: String = line.chars().take(SHOWN_MAX).collect();
    short.push('…');
    short
}
