//! The ways through a text: the fast one for text without mistakes, the piecewise one for the rest.

use std::collections::{HashMap, HashSet};

use flow_diag::{Code, Diagnostic, FileId, Label, Severity};

use crate::Parsed;
use crate::ast::{Expr, File};
use crate::brackets::{self, Brackets, NESTING_MAX, Partner};
use crate::build::{Builder, unclosed_regex, unclosed_string};
use crate::explain::expected_in;
use crate::grammar::{self, ErrorVariant, Rule, children};
use crate::lex::{TokenKind, is_bidi, is_invisible};
use crate::recover::Recovery;
use crate::source::Source;

/// Longest text that is read; positions are 32 bits wide.
pub(crate) const TEXT_MAX: usize = 256 << 20;

/// Longest text that is given to the grammar as a whole, within the limit on its steps; a longer one is read
/// statement by statement.
const WHOLE_MAX: usize = 256 << 10;

/// Diagnostics of one file that are shown; a last line says how many more there are.
const DIAGNOSTICS_MAX: usize = 50;

/// Stack for reading one text. Text within the bounds on depth needs a fraction of it, but more than the two
/// megabytes of an ordinary thread.
const STACK_BYTES: usize = 64 << 20;

/// Texts that are read at the same time, each on a thread of its own.
const AT_ONCE_MAX: usize = 8;

pub(crate) fn parse_file(file: FileId, text: &str) -> Parsed<File> {
    with_stack(|| read_text(file, text))
}

pub(crate) fn parse_files(texts: &[(FileId, &str)]) -> Vec<Parsed<File>> {
    let mut parsed = Vec::with_capacity(texts.len());
    for texts in texts.chunks(AT_ONCE_MAX) {
        std::thread::scope(|scope| {
            let threads: Vec<_> = texts
                .iter()
                .map(|&(file, text)| thread_builder().spawn_scoped(scope, move || read_text(file, text)))
                .collect();
            for (thread, &(file, text)) in threads.into_iter().zip(texts) {
                parsed.push(match thread {
                    Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                    Err(_) => read_text(file, text),
                });
            }
        });
    }
    parsed
}

fn read_text(file: FileId, text: &str) -> Parsed<File> {
    if text.len() > TEXT_MAX {
        let span = flow_diag::Span::new(file, 0, 0);
        let diagnostic = Diagnostic::new(Code::F0001, span, "this file is too large to be read")
            .help(format!("the limit is {} MiB", TEXT_MAX >> 20));
        return Parsed { value: File::empty(file), diagnostics: vec![diagnostic] };
    }
    read_file(file, text)
}

pub(crate) fn parse_expr(file: FileId, text: &str) -> Parsed<Option<Expr>> {
    if text.len() > TEXT_MAX {
        return Parsed { value: None, diagnostics: Vec::new() };
    }
    with_stack(|| read_expr(file, text))
}

/// Runs `work` on a thread with enough stack; where threads cannot be had, on this one.
fn with_stack<T: Send>(work: impl Fn() -> T + Sync) -> T {
    std::thread::scope(|scope| match thread_builder().spawn_scoped(scope, &work) {
        Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
        Err(_) => work(),
    })
}

fn thread_builder() -> std::thread::Builder {
    std::thread::Builder::new().name("read".into()).stack_size(STACK_BYTES)
}

fn read_file(file: FileId, text: &str) -> Parsed<File> {
    let source = Source::new(file, text);
    let brackets = brackets::pair(&source);
    let mut value = File::empty(file);
    value.allows = source.allows();
    let mut diagnostics = of_scanner(&source);
    if brackets.deepest <= NESTING_MAX
        && text.len() <= WHOLE_MAX
        && let Ok(node) = grammar::parse(Rule::file, text)
    {
        let mut builder = Builder::new(&source);
        value.items = builder.items_of_file(&node);
        diagnostics.extend(builder.diagnostics);
        return Parsed { value, diagnostics: finish(diagnostics) };
    }
    let mut recovery = Recovery::new(&source, &brackets);
    value.items = recovery.items();
    let foreign = recovery.foreign;
    let mut told = recovery.builder.diagnostics;
    value.poisoned = recovery.poisoned;
    if !foreign {
        let mut of_brackets = brackets.diagnostics.clone();
        without_opener(&source, &brackets, &mut told, &mut of_brackets);
        diagnostics.extend(of_brackets);
    }
    diagnostics.extend(told);
    if !diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error) {
        // the whole could not be read although each piece could: never stay silent about it, except when it is only
        // too much at once
        let error = (text.len() <= WHOLE_MAX).then(|| grammar::parse(Rule::file, text).err()).flatten();
        let error = error.filter(|error| matches!(error.variant, ErrorVariant::ParsingError { .. }));
        diagnostics.extend(error.map(|error| expected_in(&source, &error)));
    }
    Parsed { value, diagnostics: finish(diagnostics) }
}

/// A `}` at the start of a line that closes nothing shows that the lines between it and the last one that is not
/// further right are the inside of a block whose `{` is missing: what was said about them is a consequence.
fn without_opener(
    source: &Source<'_>,
    brackets: &Brackets,
    told: &mut Vec<Diagnostic>,
    of_brackets: &mut Vec<Diagnostic>,
) {
    let place = |diagnostic: &Diagnostic| diagnostic.primary.span.start as usize;
    let mut places: Vec<usize> = told.iter().chain(of_brackets.iter()).map(place).collect();
    places.sort_unstable();
    // the insides, in order and apart from each other, and for each stray bracket the head of its block
    let mut insides: Vec<(usize, usize)> = Vec::new();
    let mut heads: HashMap<usize, (usize, usize)> = HashMap::new();
    let mut after = 0;
    for (index, token) in source.tokens.iter().enumerate() {
        let first_on_line = index == 0 || source.tokens[index - 1].kind == TokenKind::Newline;
        let stray = brackets.partners[index] == Partner::Stray;
        if token.kind != TokenKind::Close(b'}') || !stray || !first_on_line {
            continue;
        }
        if let Some((head, inside)) = source.block_head(after, token.start) {
            insides.push((inside, token.start));
            heads.insert(token.start, (head, inside));
        }
        after = token.end;
    }
    told.retain(|diagnostic| {
        let next = insides.partition_point(|(start, _)| *start <= place(diagnostic));
        next.checked_sub(1).is_none_or(|k| insides[k].1 <= place(diagnostic))
    });
    let first_at = |position: usize| places.get(places.partition_point(|at| *at < position)).copied();
    // when the head has its own message, the stray bracket is a consequence, too
    of_brackets.retain(|diagnostic| {
        let head = heads.get(&place(diagnostic));
        head.is_none_or(|(head, inside)| first_at(*head).is_none_or(|at| at >= *inside))
    });
    for stray in of_brackets.iter_mut() {
        let Some(&(head, inside)) = heads.get(&place(stray)) else { continue };
        let end = head + source.text[head..inside].trim_end().len();
        let label = "a `{` is probably missing here".to_owned();
        stray.secondary.push(Label { span: source.span(end, end), text: label });
    }
}

fn read_expr(file: FileId, text: &str) -> Parsed<Option<Expr>> {
    let source = Source::new(file, text);
    let brackets = brackets::pair(&source);
    let mut diagnostics = of_scanner(&source);
    diagnostics.extend(brackets.diagnostics.iter().cloned());
    if let Some(deep) = too_deep(&source, &brackets) {
        diagnostics.push(deep);
        return Parsed { value: None, diagnostics: finish(diagnostics) };
    }
    let mut builder = Builder::new(&source);
    let value = match grammar::parse(Rule::one_expr, text) {
        Ok(node) => {
            children(&node).find(|child| child.as_rule() == Rule::expr).map(|expr| builder.expr(&expr))
        }
        Err(error) => {
            if diagnostics.is_empty() {
                diagnostics.push(expected_in(&source, &error));
            }
            None
        }
    };
    diagnostics.extend(builder.diagnostics);
    Parsed { value, diagnostics: finish(diagnostics) }
}

fn too_deep(source: &Source<'_>, brackets: &Brackets) -> Option<Diagnostic> {
    let index = brackets.depths.iter().position(|depth| *depth as usize > NESTING_MAX)?;
    let span = source.token_span(source.tokens[index]);
    Some(Diagnostic::new(Code::F0023, span, format!("nesting deeper than {NESTING_MAX}")))
}

/// What the scanner alone can tell: unclosed strings and characters that nobody sees.
fn of_scanner(source: &Source<'_>) -> Vec<Diagnostic> {
    let mut out = Vec::new();
    let mut gap = 0;
    for (index, token) in source.tokens.iter().enumerate() {
        invisible(source, gap, token.start, is_invisible, &mut out);
        gap = token.end;
        match token.kind {
            TokenKind::UnclosedString => out.push(unclosed_string(source.span(token.start, token.start + 1))),
            // `/var/log/x`: the first part has its message
            TokenKind::UnclosedRegex
                if index.checked_sub(1).is_some_and(|before| {
                    let before = &source.tokens[before];
                    before.kind == TokenKind::Regex && before.end == token.start
                }) => {}
            TokenKind::UnclosedRegex => {
                out.push(unclosed_regex(source.span(token.start, token.start + 1), token.text(source.text)));
            }
            TokenKind::UnclosedBlock => out.push(unclosed_string(source.span(token.start, token.start + 3))),
            TokenKind::String | TokenKind::RawString | TokenKind::Regex | TokenKind::Comment => {
                invisible(source, token.start, token.end, is_bidi, &mut out);
            }
            _ => {}
        }
    }
    invisible(source, gap, source.text.len(), is_invisible, &mut out);
    out
}

/// F0025 for each run of such characters; a byte order mark at the start of a file is no mistake.
fn invisible(
    source: &Source<'_>,
    start: usize,
    end: usize,
    which: fn(char) -> bool,
    out: &mut Vec<Diagnostic>,
) {
    let text = &source.text[start..end];
    if text.is_ascii() {
        return;
    }
    let mut run: Option<(usize, usize, char)> = None;
    let mut runs = Vec::new();
    for (at, c) in text.char_indices() {
        let at = start + at;
        if !which(c) || (at == 0 && c == '\u{FEFF}') {
            continue;
        }
        match &mut run {
            Some((_, end, _)) if *end == at => *end = at + c.len_utf8(),
            _ => runs.extend(run.replace((at, at + c.len_utf8(), c))),
        }
    }
    runs.extend(run);
    for (start, end, c) in runs {
        let span = source.span(start, end);
        let (what, instead) = match c {
            '\u{A0}' => ("no-break space", " "),
            _ if is_bidi(c) => ("mark that turns the direction of writing", ""),
            _ => ("zero width character", ""),
        };
        out.push(
            Diagnostic::new(Code::F0025, span, format!("invisible character: {what} U+{:04X}", c as u32))
                .label("nobody can see this")
                .help("type a plain space, or remove it")
                .fix(span, instead),
        );
    }
}

/// In order of place, each (code, span) once, no more than the bound.
fn finish(mut diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
    diagnostics.sort_by_key(|diagnostic| (diagnostic.primary.span, diagnostic.severity, diagnostic.code));
    let mut seen = HashSet::new();
    diagnostics.retain(|diagnostic| seen.insert((diagnostic.code, diagnostic.primary.span)));
    if diagnostics.len() > DIAGNOSTICS_MAX {
        let more = diagnostics.len() - DIAGNOSTICS_MAX;
        let span = diagnostics[DIAGNOSTICS_MAX].primary.span;
        // an error among those cut off must stay one
        let worst = diagnostics[DIAGNOSTICS_MAX..].iter().map(|diagnostic| diagnostic.severity).min();
        diagnostics.truncate(DIAGNOSTICS_MAX);
        let mut last = Diagnostic::new(Code::F0001, span, format!("{more} more in this file are not shown"))
            .label("the next one")
            .help("mend the first ones; they often cause the others");
        last.severity = worst.unwrap_or(Severity::Error);
        diagnostics.push(last);
    }
    diagnostics
}
