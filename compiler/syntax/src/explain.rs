//! What to say about a piece that cannot be read.
//!
//! First come the situations that people get into, each with its own sentence; what is left becomes "expected …,
//! found …" with at most three nouns. The name of a grammar rule never reaches a message.

use std::ops::Range;

use flow_diag::{Code, Diagnostic, Span, suggest};

use crate::grammar::{Error, ErrorVariant, InputLocation, Rule};
use crate::lex::{Token, TokenKind};
use crate::nouns::{NOUNS_MAX, Noun, nouns};
use crate::recover::{Kind, Recovery};
use crate::source::Source;
use crate::words::{ITEM_WORDS, TEST_WORDS, is_reserved, nearest_item_word};

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
    if let Some(diagnostic) = foreign(&view) {
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
        situation(&view, failure).unwrap_or_else(|| (expected(&view, failure), Repair::None));
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
    too_complicated(&view, &failure).unwrap_or_else(|| expected(&view, &failure))
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

/// Text of other languages (F0030..F0032).
fn foreign(view: &View<'_>) -> Option<Diagnostic> {
    let first = view.text(0);
    if matches!(first, "input" | "filter" | "output") && view.text(1) == "{" {
        return Some(
            Diagnostic::new(
                Code::F0030,
                view.span(0),
                format!("`{first} {{ … }}` is a Logstash section, not Flow"),
            )
            .label("Logstash syntax")
            .help("convert the whole file: flowc import pipeline.conf > pipeline.flow"),
        );
    }
    // agent.sources.r1.type = netcat
    if view.is_word(0) && view.text(1) == "." {
        let mut k = 1;
        while matches!(view.text(k), "." | "-")
            && matches!(view.kind(k + 1), Some(TokenKind::Word | TokenKind::Number))
        {
            k += 2;
        }
        if view.text(k) == "=" {
            let span = view.span(0).to(view.span(k - 1));
            return Some(
                Diagnostic::new(Code::F0031, span, "this is a Flume property, not Flow")
                    .label("Flume syntax")
                    .help("convert the whole file: flowc import flume.conf > flume.flow"),
            );
        }
    }
    let language = other_language(view)?;
    Some(
        Diagnostic::new(Code::F0032, view.span(0), format!("this looks like {language}, not Flow"))
            .label(format!("{language} syntax"))
            .help("convert a Vector configuration: flowc import vector.yaml > vector.flow"),
    )
}

fn other_language(view: &View<'_>) -> Option<&'static str> {
    let line_ends_after = |k: usize| match (view.token(k), view.tokens.get(k + 1)) {
        (_, None) => true,
        (Some(token), Some(&next)) => {
            view.source.text[token.end..view.source.tokens[next].start].contains('\n')
        }
        (None, _) => false,
    };
    match view.text(0) {
        "-" if view.text(1) != ">" => Some("YAML"),
        "--->" | "-->" | "---" => Some("YAML"),
        // [sources.web]
        "[" => {
            let mut k = 1;
            while view.text(k) == "[" {
                k += 1;
            }
            if !view.is_word(k) {
                return None;
            }
            while view.text(k + 1) == "." && view.is_word(k + 2) {
                k += 2;
            }
            let close = k + 1;
            (view.text(close) == "]" && (line_ends_after(close) || view.text(close + 1) == "]"))
                .then_some("TOML")
        }
        word if view.is_word(0) && !is_reserved(word) => match view.text(1) {
            ":" => Some("YAML"),
            // name = "text", but not `web = tail "x"`, where only the declaration word is missing
            "=" if !view.is_word(2) || matches!(view.text(2), "true" | "false") => Some("TOML"),
            _ => None,
        },
        _ => None,
    }
}

/// The situations people get into.
fn situation(view: &View<'_>, failure: &Failure<'_>) -> Option<(Diagnostic, Repair)> {
    dangling_arrow(view)
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
fn too_complicated(view: &View<'_>, failure: &Failure<'_>) -> Option<Diagnostic> {
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
