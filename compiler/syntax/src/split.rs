//! Cuts text into statements without reading them, also when brackets or quotes are missing.
//!
//! It stands on the scanner alone. The prompt asks it whether a line is complete, an editor which piece changed.

use flow_diag::{Diagnostic, FileId};

use crate::brackets::{self, Brackets, Partner};
use crate::lex::{Token, TokenKind};
use crate::source::{Source, continues};

/// The statements of a text and what the scanner alone can say.
pub struct Split {
    /// Byte ranges of the statements, without the line ends between them.
    pub pieces: Vec<std::ops::Range<usize>>,
    /// Something is still open (a bracket, a `"""`, an arrow, `=` or `,` at the end): more lines may follow.
    pub incomplete: bool,
    /// Brackets that do not match.
    pub diagnostics: Vec<Diagnostic>,
}

/// Cuts a text into its statements.
pub fn split(text: &str) -> Split {
    let source = Source::new(FileId(0), text);
    let brackets = brackets::pair(&source);
    let ranges = pieces(&source, &brackets, 0, source.tokens.len(), Separator::Line);
    let pieces = ranges.iter().filter_map(|&(lo, hi)| bytes_of(&source.tokens, lo, hi)).collect();
    let last = source.tokens.iter().rev().find(|token| !token.is_trivia());
    let hanging = last.is_some_and(|token| matches!(token.text(text), "->" | "=" | "," | "|" | ":"));
    let open_block = source.tokens.last().is_some_and(|token| token.kind == TokenKind::UnclosedBlock);
    let open = brackets.partners.iter().zip(&source.tokens).any(|(partner, token)| {
        matches!(token.kind, TokenKind::Open(_)) && *partner == Partner::Before(source.tokens.len())
    });
    Split { pieces, incomplete: hanging || open_block || open, diagnostics: brackets.diagnostics }
}

/// What ends a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Separator {
    /// A line end or `;`: statements.
    Line,
    /// Also a comma: settings, cases.
    Comma,
}

/// The byte range of tokens without the blanks around them.
pub(crate) fn bytes_of(tokens: &[Token], lo: usize, hi: usize) -> Option<std::ops::Range<usize>> {
    let slice = tokens.get(lo..hi)?;
    let first = slice.iter().find(|token| !token.is_trivia())?;
    let last = slice.iter().rev().find(|token| !token.is_trivia())?;
    Some(first.start..last.end)
}

/// The pieces between two tokens, as ranges of tokens; brackets are jumped over.
pub(crate) fn pieces(
    source: &Source<'_>,
    brackets: &Brackets,
    lo: usize,
    hi: usize,
    separator: Separator,
) -> Vec<(usize, usize)> {
    let tokens = &source.tokens;
    let mut out = Vec::new();
    let mut start = lo;
    let mut index = lo;
    let mut has_text = false;
    while index < hi {
        let token = tokens[index];
        let mut ends = false;
        match token.kind {
            TokenKind::Open(_) => {
                has_text = true;
                match brackets.partners[index] {
                    Partner::At(partner) if partner > index => index = partner.min(hi - 1),
                    Partner::Before(end) if end > index => {
                        index = end.clamp(index + 1, hi) - 1;
                        // what is open ends with its line, and so does the statement
                        ends = tokens.get(index + 1).is_some_and(|next| !next.is_trivia()) && index + 1 < hi;
                    }
                    _ => {}
                }
            }
            TokenKind::Newline => ends = has_text && !continues(&tokens[..hi], index, source.text),
            TokenKind::Comment => {}
            _ => {
                has_text = true;
                let text = token.text(source.text);
                ends = text == ";" || separator == Separator::Comma && text == ",";
            }
        }
        index += 1;
        if ends {
            if has_text {
                out.push((start, index));
            }
            start = index;
            has_text = false;
        }
    }
    if has_text {
        out.push((start, hi));
    }
    out
}
