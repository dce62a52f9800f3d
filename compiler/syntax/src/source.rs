//! One text with its tokens: spans without blanks, documentation comments, allow comments.

use flow_diag::{FileId, Span};

use crate::ast::{Allow, Name};
use crate::lex::{self, Token, TokenKind};

/// A text, cut into tokens once and asked many times.
pub(crate) struct Source<'t> {
    pub file: FileId,
    pub text: &'t str,
    pub tokens: Vec<Token>,
}

impl<'t> Source<'t> {
    pub fn new(file: FileId, text: &'t str) -> Source<'t> {
        Source { file, text, tokens: lex::tokens(text) }
    }

    pub fn span(&self, start: usize, end: usize) -> Span {
        let start = start.min(self.text.len());
        Span::new(self.file, start, end.clamp(start, self.text.len()))
    }

    pub fn token_span(&self, token: Token) -> Span {
        self.span(token.start, token.end)
    }

    /// The span with the blanks, line ends and comments at its end cut off.
    pub fn trimmed(&self, start: usize, end: usize) -> Span {
        let mut index = self.tokens.partition_point(|token| token.start < end);
        while index > 0 && self.tokens[index - 1].is_trivia() {
            index -= 1;
        }
        let last = if index > 0 { self.tokens[index - 1].end } else { start };
        self.span(start, end.min(last).max(start))
    }

    /// The index of the first token that starts at or after `position`.
    pub fn token_at(&self, position: usize) -> usize {
        self.tokens.partition_point(|token| token.start < position)
    }

    /// What a `;` before `position` should be: nothing at the end of a line, a comma between settings, else a line
    /// end.
    pub fn instead_of_semicolon(&self, position: usize) -> &'static str {
        let index = self.token_at(position);
        match self.tokens.get(index) {
            None => "",
            Some(next) if next.is_trivia() || matches!(next.kind, TokenKind::Close(_)) => "",
            Some(_) if self.tokens.get(index + 1).is_some_and(|colon| colon.text(self.text) == ":") => ",",
            Some(_) => "\n",
        }
    }

    /// The `##` lines right above what starts at `start`, without the marks.
    pub fn doc_above(&self, start: usize) -> Option<String> {
        let mut lines = Vec::new();
        let mut index = self.token_at(start);
        // …, comment, newline, | declaration
        while index >= 1 && self.tokens[index - 1].kind == TokenKind::Newline {
            let Some(before) = index.checked_sub(2) else { break };
            let comment = self.tokens[before];
            if comment.kind != TokenKind::Comment || !self.first_on_line(before) {
                break;
            }
            if let Some(line) = doc_line(comment.text(self.text)) {
                lines.push(line);
            }
            index = before;
        }
        lines.reverse();
        (!lines.is_empty()).then(|| lines.join("\n"))
    }

    /// The `##` comment after what ends at `end`, on the same line.
    pub fn doc_after(&self, end: usize) -> Option<String> {
        let mut index = self.token_at(end);
        if self.tokens.get(index).is_some_and(|token| token.text(self.text) == ",") {
            index += 1;
        }
        let comment = self.tokens.get(index).filter(|token| token.kind == TokenKind::Comment)?;
        doc_line(comment.text(self.text)).map(str::to_owned)
    }

    fn first_on_line(&self, index: usize) -> bool {
        index == 0 || self.tokens[index - 1].kind == TokenKind::Newline
    }

    /// The last line before `end` that is no further right than the line of `end`, and the start of the line
    /// after it; nothing when there is no line between them or it begins before `after`.
    pub fn block_head(&self, after: usize, end: usize) -> Option<(usize, usize)> {
        let indent = |line: &str| line.len() - line.trim_start_matches([' ', '\t']).len();
        let start = self.text[..end].rfind('\n').map_or(0, |k| k + 1);
        let column = end - start;
        let mut line_start = start;
        while line_start > after {
            let previous = self.text[..line_start - 1].rfind('\n').map_or(0, |k| k + 1);
            let line = &self.text[previous..line_start];
            let content = line.trim();
            if !content.is_empty() && !content.starts_with('#') && indent(line) <= column {
                return (line_start < start && previous >= after).then_some((previous, line_start));
            }
            line_start = previous;
        }
        None
    }

    /// All `# flowc: allow CODE "reason"` comments.
    pub fn allows(&self) -> Vec<Allow> {
        let mut allows = Vec::new();
        for (index, token) in self.tokens.iter().enumerate() {
            if token.kind == TokenKind::Comment && self.first_on_line(index) {
                allows.extend(self.allow(index, *token));
            }
        }
        allows
    }

    fn allow(&self, index: usize, comment: Token) -> Option<Allow> {
        let text = comment.text(self.text);
        let rest = text.trim_start_matches('#').trim_start().strip_prefix("flowc:")?.trim_start();
        let rest = rest.strip_prefix("allow")?;
        if !rest.starts_with([' ', '\t']) {
            return None;
        }
        let rest = rest.trim_start();
        let code = &rest[..rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len())];
        let at = comment.start + (text.len() - rest.len());
        let reason = rest[code.len()..].trim();
        let reason =
            reason.strip_prefix('"').and_then(|r| r.strip_suffix('"')).filter(|r| !r.trim().is_empty());
        Some(Allow {
            code: Name { text: code.to_owned(), span: self.span(at, at + code.len()) },
            reason: reason.map(str::to_owned),
            span: self.token_span(comment),
            covers: self.statement_after(index),
        })
    }

    /// From the line after the token at `index` to the end of the statement there.
    fn statement_after(&self, index: usize) -> Span {
        let rest = &self.tokens[index + 1..];
        let Some(first) = rest.iter().position(|token| !token.is_trivia()) else {
            return self.span(self.text.len(), self.text.len());
        };
        let start = self.text[..rest[first].start].rfind('\n').map_or(0, |k| k + 1);
        let mut depth = 0usize;
        let mut end = rest[first].end;
        for (k, token) in rest.iter().enumerate().skip(first) {
            match token.kind {
                TokenKind::Open(_) => depth += 1,
                TokenKind::Close(_) if depth == 0 => break,
                TokenKind::Close(_) => depth -= 1,
                TokenKind::Newline if depth == 0 && !continues(rest, k, self.text) => break,
                _ => {}
            }
            if !token.is_trivia() {
                end = token.end;
            }
        }
        self.span(start, end)
    }
}

/// Whether the first token after the line end at `index` that is not blank or comment is `->`.
pub(crate) fn continues(tokens: &[Token], index: usize, text: &str) -> bool {
    tokens[index..].iter().find(|token| !token.is_trivia()).is_some_and(|token| token.text(text) == "->")
}

fn doc_line(comment: &str) -> Option<&str> {
    let line = comment.strip_prefix("##")?;
    Some(line.strip_prefix(' ').unwrap_or(line).trim_end())
}
