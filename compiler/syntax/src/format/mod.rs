//! The one style of Flow text.
//!
//! It works on tokens, not on the tree, so that comments stay where they are. Where lines end is the writer's
//! choice; blanks, indentation, blank lines and columns are not. The result means what the text meant: that is
//! checked, and text is left alone rather than changed.

mod align;
mod blanks;

use flow_diag::{FileId, Severity};

use crate::lex::{self, Token, TokenKind};
use crate::source;
use align::Line;

const INDENT: usize = 2;

/// The formatted text; `None` when the text has errors.
pub(crate) fn format(text: &str) -> Option<String> {
    let before = crate::parse_file(FileId(0), text);
    if before.diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error) {
        return None;
    }
    let formatted = layout(text);
    let after = crate::parse_file(FileId(0), &formatted);
    let same = after.diagnostics.iter().all(|diagnostic| diagnostic.severity != Severity::Error)
        && crate::same_meaning(&before.value, &after.value);
    Some(if same { formatted } else { text.to_owned() })
}

fn layout(text: &str) -> String {
    let tokens = lex::tokens(text);
    let tight = blanks::type_brackets(text, &tokens);
    let spread = spread_brackets(text, &tokens);
    let mut layout = Layout { text, stack: Vec::new(), lines: Vec::new(), blank: false, hanging: false };
    let mut line: Vec<(Token, bool)> = Vec::new();
    let mut index = 0;
    while index < tokens.len() {
        let token = tokens[index];
        let tight = tight.get(index).copied().unwrap_or(false);
        let spread = spread.get(index).copied().unwrap_or(false);
        index += 1;
        let arrow_next = source::continues(&tokens, index, text);
        match token.kind {
            TokenKind::Newline => layout.end_line(std::mem::take(&mut line), arrow_next),
            TokenKind::Open(_) if spread => {
                line.push((token, tight));
                if tokens.get(index).is_some_and(|next| !next.is_trivia()) {
                    layout.end_line(std::mem::take(&mut line), false);
                }
            }
            TokenKind::Close(_) if spread => {
                if line.iter().any(|(token, _)| !matches!(token.kind, TokenKind::Close(_))) {
                    layout.end_line(std::mem::take(&mut line), false);
                }
                line.push((token, tight));
            }
            // between settings it becomes a comma, between statements a line end
            TokenKind::Mark if token.text(text) == ";" => {
                if separates_settings(text, &tokens, index) {
                    line.push((token, tight));
                } else if becomes_line_end(text, &tokens, index - 1) {
                    layout.end_line(std::mem::take(&mut line), false);
                }
            }
            _ => line.push((token, tight)),
        }
    }
    layout.end_line(line, false);
    align::join(layout.lines)
}

/// Which brackets have a line end directly in them: those stand at the end and at the start of a line.
fn spread_brackets(text: &str, tokens: &[Token]) -> Vec<bool> {
    let mut spread = vec![false; tokens.len()];
    let mut open: Vec<usize> = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        match token.kind {
            TokenKind::Open(_) => open.push(index),
            TokenKind::Close(_) => {
                if let Some(opener) = open.pop() {
                    spread[index] = spread[opener];
                }
            }
            TokenKind::Newline | TokenKind::Mark
                if token.kind == TokenKind::Newline || becomes_line_end(text, tokens, index) =>
            {
                if let Some(&opener) = open.last() {
                    spread[opener] = true;
                }
            }
            _ => {}
        }
    }
    spread
}

/// Whether the token is a `;` between two statements of a line.
fn becomes_line_end(text: &str, tokens: &[Token], index: usize) -> bool {
    let next = tokens.get(index + 1);
    tokens[index].text(text) == ";"
        && next.is_some_and(|next| !next.is_trivia() && !matches!(next.kind, TokenKind::Close(_)))
        && !separates_settings(text, tokens, index + 1)
}

/// Whether `key :` follows.
fn separates_settings(text: &str, tokens: &[Token], index: usize) -> bool {
    let is_key = tokens
        .get(index)
        .is_some_and(|key| matches!(key.kind, TokenKind::Word | TokenKind::String | TokenKind::RawString));
    is_key && tokens.get(index + 1).is_some_and(|colon| colon.text(text) == ":")
}

/// A bracket that is open at the end of a line.
struct Open {
    bracket: u8,
    /// The indentation of the line with the bracket.
    indent: usize,
}

struct Layout<'t> {
    text: &'t str,
    stack: Vec<Open>,
    lines: Vec<Line>,
    /// A blank line is to come before the next one.
    blank: bool,
    /// The last line ended with an arrow, `=` or an operator.
    hanging: bool,
}

impl Layout<'_> {
    fn end_line(&mut self, mut tokens: Vec<(Token, bool)>, arrow_next: bool) {
        let text = self.text;
        let Some(&(first, _)) = tokens.first() else {
            self.blank = !self.lines.is_empty();
            return;
        };
        let comment = tokens.pop_if(|(token, _)| token.kind == TokenKind::Comment).map(|(token, _)| token);
        // inside brackets the line end separates already
        if !self.stack.is_empty() && !self.in_clause(&tokens) {
            tokens.pop_if(|(token, _)| token.text(text) == ",");
        }
        let closes = matches!(first.kind, TokenKind::Close(_));
        let comment_only = comment.is_some() && tokens.is_empty();
        let continues = first.text(text) == "->" || self.hanging || comment_only && arrow_next;
        let indent = self.indent_of(&tokens, comment_only) + usize::from(continues);
        let bracket = self.stack.last().map(|open| open.bracket);
        let opened_before = self.lines.last().is_some_and(|line| line.opens);
        let blank = self.blank && !opened_before && !closes && !self.lines.is_empty();
        self.blank = false;
        let mut line = Line::new(indent * INDENT, blank);
        line.comment = comment.map(|comment| comment.text(text).trim_end().to_owned());
        align::write(text, &tokens, bracket, continues, &mut line);
        if !tokens.is_empty() {
            self.hanging = hangs(text, &tokens);
        }
        let depth = self.stack.len();
        self.open_and_close(&tokens, indent);
        line.opens = self.stack.len() > depth
            || tokens.last().is_some_and(|(t, _)| matches!(t.kind, TokenKind::Open(_)));
        self.lines.push(line);
    }

    /// `can a, b` and `sets a, b` go on after a comma also where a line end separates.
    fn in_clause(&self, tokens: &[(Token, bool)]) -> bool {
        tokens.iter().any(|(token, _)| matches!(token.text(self.text), "can" | "sets"))
    }

    /// The levels of a line: one more than the line that opened the innermost bracket, the same for the line
    /// that closes it.
    fn indent_of(&self, tokens: &[(Token, bool)], comment_only: bool) -> usize {
        let closers = if comment_only {
            0
        } else {
            tokens.iter().take_while(|(token, _)| matches!(token.kind, TokenKind::Close(_))).count()
        };
        match closers.checked_sub(1) {
            None => self.stack.last().map_or(0, |open| open.indent + 1),
            Some(above) => {
                let outer = self.stack.len().saturating_sub(above + 1);
                self.stack.get(outer).map_or(0, |open| open.indent)
            }
        }
    }

    fn open_and_close(&mut self, tokens: &[(Token, bool)], indent: usize) {
        for (token, _) in tokens {
            match token.kind {
                TokenKind::Open(bracket) => self.stack.push(Open { bracket, indent }),
                TokenKind::Close(_) => {
                    self.stack.pop();
                }
                _ => {}
            }
        }
    }
}

/// Whether the statement goes on on the next line because of what this one ends with.
fn hangs(text: &str, tokens: &[(Token, bool)]) -> bool {
    tokens.last().is_some_and(|(token, _)| match token.kind {
        TokenKind::Mark => !matches!(token.text(text), "," | "?" | ":" | ">"),
        TokenKind::Word => matches!(token.text(text), "and" | "or" | "in" | "not"),
        _ => false,
    })
}
