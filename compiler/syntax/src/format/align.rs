//! Columns: what stands in one column on neighbouring lines.

use super::blanks;
use crate::lex::{Token, TokenKind};
use crate::words::is_reserved;

/// What is brought into one column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    /// The name behind the word of a declaration.
    Name,
    /// The `=` of a declaration.
    Equals,
    /// The `=` of an assignment.
    Assign,
    /// The value of a setting.
    Value,
    /// The first arrow of a case.
    Case,
    /// The first arrow of a chain.
    Chain,
}

const COLUMNS: [Column; 6] =
    [Column::Name, Column::Equals, Column::Assign, Column::Value, Column::Case, Column::Chain];

impl Column {
    /// Lines whose lengths differ by more than this are not brought into one column.
    fn reach(self) -> usize {
        match self {
            Column::Name | Column::Equals | Column::Value => usize::MAX,
            Column::Assign => 16,
            // so that `else` stands with the conditions above it
            Column::Case => 40,
            Column::Chain => 8,
        }
    }
}

/// Comments further apart than this do not share a column.
const COMMENT_REACH: usize = 72;

/// A line of the result.
pub(super) struct Line {
    indent: usize,
    blank_before: bool,
    code: String,
    /// Byte positions in `code` before which blanks may be put.
    columns: Vec<(Column, usize)>,
    pub comment: Option<String>,
    /// The line ends with an opening bracket or leaves one open.
    pub opens: bool,
}

impl Line {
    pub fn new(indent: usize, blank_before: bool) -> Line {
        Line { indent, blank_before, code: String::new(), columns: Vec::new(), comment: None, opens: false }
    }

    fn width(&self) -> usize {
        self.indent + last_line(&self.code).chars().count()
    }
}

fn last_line(code: &str) -> &str {
    code.rsplit('\n').next().unwrap_or("")
}

const DECLARATION_WORDS: [&str; 10] =
    ["source", "channel", "sink", "group", "consumer", "cluster", "ensemble", "use", "secret", "topic"];

/// Writes the tokens of a line with the blanks between them, and finds its columns.
pub(super) fn write(
    text: &str,
    tokens: &[(Token, bool)],
    bracket: Option<u8>,
    continues: bool,
    line: &mut Line,
) {
    // where each token starts in the code
    let mut starts = Vec::with_capacity(tokens.len());
    for (k, &(token, _)) in tokens.iter().enumerate() {
        if k > 0 && blanks::between(text, tokens, k) {
            line.code.push(' ');
        }
        starts.push(line.code.len());
        line.code.push_str(if token.text(text) == ";" { "," } else { token.text(text) });
    }
    if !continues && !line.code.contains('\n') {
        line.columns = columns(text, tokens, &starts, bracket);
    }
}

fn columns(
    text: &str,
    tokens: &[(Token, bool)],
    starts: &[usize],
    bracket: Option<u8>,
) -> Vec<(Column, usize)> {
    let word = |k: usize| tokens.get(k).map_or("", |(token, _)| token.text(text));
    let kind = |k: usize| tokens.get(k).map(|(token, _)| token.kind);
    let in_braces = matches!(bracket, None | Some(b'{'));
    let Some(first) = kind(0).filter(|_| in_braces) else { return Vec::new() };
    if DECLARATION_WORDS.contains(&word(0)) && kind(1) == Some(TokenKind::Word) {
        let mut columns = vec![(Column::Name, starts[1])];
        if word(2) == "=" {
            columns.push((Column::Equals, starts[2]));
        }
        return columns;
    }
    if bracket == Some(b'{')
        && let Some(value) = value_of_setting(text, tokens)
    {
        return vec![(Column::Value, starts[value])];
    }
    let Some(mark) = first_mark(text, tokens) else { return Vec::new() };
    let column = match (word(mark), first) {
        ("=", TokenKind::Word) if bracket == Some(b'{') && !is_reserved(word(0)) => Column::Assign,
        ("->", TokenKind::Word) if matches!(word(0), "else" | "when" | "null" | "true" | "false") => {
            Column::Case
        }
        ("->", TokenKind::Word) if !is_reserved(word(0)) && is_plain(text, &tokens[..mark]) => Column::Chain,
        (
            "->",
            TokenKind::Number | TokenKind::String | TokenKind::RawString | TokenKind::Regex | TokenKind::Mark,
        ) => Column::Case,
        _ => return Vec::new(),
    };
    vec![(column, starts[mark])]
}

/// Only names: `buf`, `paris.buf`, `orders as billing`.
fn is_plain(text: &str, head: &[(Token, bool)]) -> bool {
    head.iter().all(|(token, _)| token.kind == TokenKind::Word || token.text(text) == ".")
}

/// The token with the value, when the line is one setting.
fn value_of_setting(text: &str, tokens: &[(Token, bool)]) -> Option<usize> {
    let mut k = 1;
    if matches!(tokens.first()?.0.kind, TokenKind::Word) {
        while tokens.get(k).is_some_and(|(token, _)| token.text(text) == ".") {
            k += 2;
        }
    } else if !matches!(tokens.first()?.0.kind, TokenKind::String | TokenKind::RawString)
        && tokens.first()?.0.text(text) != "..."
    {
        return None;
    }
    if tokens.get(k)?.0.text(text) != ":" || k + 1 >= tokens.len() {
        return None;
    }
    let mut depth = 0usize;
    for (token, tight) in &tokens[k + 1..] {
        match token.kind {
            TokenKind::Open(_) => depth += 1,
            TokenKind::Close(_) => depth = depth.saturating_sub(1),
            _ if *tight && token.text(text) == "<" => depth += 1,
            _ if *tight => depth = depth.saturating_sub(1),
            // several settings on one line
            _ if depth == 0 && matches!(token.text(text), "," | ";") => return None,
            _ => {}
        }
    }
    Some(k + 1)
}

/// The first `=` or `->` that is not in brackets.
fn first_mark(text: &str, tokens: &[(Token, bool)]) -> Option<usize> {
    let mut depth = 0usize;
    for (k, (token, _)) in tokens.iter().enumerate() {
        match token.kind {
            TokenKind::Open(b'{') if depth == 0 => return None,
            TokenKind::Open(_) => depth += 1,
            TokenKind::Close(_) => depth = depth.checked_sub(1)?,
            TokenKind::Mark if depth == 0 && matches!(token.text(text), "=" | "->") => {
                return (k > 0).then_some(k);
            }
            _ => {}
        }
    }
    None
}

/// The text of all lines, with their columns.
pub(super) fn join(mut lines: Vec<Line>) -> String {
    for column in COLUMNS {
        align(&mut lines, column);
    }
    let comments = comment_columns(&lines);
    let mut out = String::new();
    for (line, comment_at) in lines.iter().zip(comments) {
        if line.blank_before {
            out.push('\n');
        }
        out.extend(std::iter::repeat_n(' ', line.indent));
        out.push_str(&line.code);
        if let Some(comment) = &line.comment {
            if !line.code.is_empty() {
                out.extend(std::iter::repeat_n(' ', comment_at.saturating_sub(line.width()).max(2)));
            }
            out.push_str(comment);
        }
        out.truncate(out.trim_end_matches([' ', '\t']).len());
        out.push('\n');
    }
    out
}

fn align(lines: &mut [Line], column: Column) {
    let at = |line: &Line| line.columns.iter().find(|(which, _)| *which == column).map(|(_, at)| *at);
    let width = |line: &Line, at: usize| line.code[..at].chars().count();
    let mut start = 0;
    while start < lines.len() {
        let Some(first) = at(&lines[start]) else {
            start += 1;
            continue;
        };
        let (mut least, mut most) = (width(&lines[start], first), width(&lines[start], first));
        let mut end = start + 1;
        while let Some(line) = lines.get(end)
            && !line.blank_before
            && line.indent == lines[start].indent
            && !lines[end - 1].opens
            && let Some(position) = at(line)
        {
            let width = width(line, position);
            if most.max(width) - least.min(width) > column.reach() {
                break;
            }
            (least, most) = (least.min(width), most.max(width));
            end += 1;
        }
        for line in &mut lines[start..end] {
            let Some(position) = at(line) else { continue };
            let missing = most - width(line, position);
            line.code.insert_str(position, &" ".repeat(missing));
            for (_, other) in line.columns.iter_mut().filter(|(_, other)| *other >= position) {
                *other += missing;
            }
        }
        start = end;
    }
}

/// Where the comment of each line starts.
fn comment_columns(lines: &[Line]) -> Vec<usize> {
    let mut columns = vec![0; lines.len()];
    let trails = |line: &Line| line.comment.is_some() && !line.code.is_empty();
    let mut start = 0;
    while start < lines.len() {
        if !trails(&lines[start]) {
            start += 1;
            continue;
        }
        let (mut least, mut most) = (lines[start].width(), lines[start].width());
        let mut end = start + 1;
        while let Some(line) = lines.get(end)
            && !line.blank_before
            && trails(line)
            && most.max(line.width()) - least.min(line.width()) <= COMMENT_REACH
        {
            (least, most) = (least.min(line.width()), most.max(line.width()));
            end += 1;
        }
        columns[start..end].fill(most + 2);
        start = end;
    }
    columns
}
