//! Which blocks a piece has, and what they consist of, judged by words and marks alone.

use super::{Attempt, Kind, Recovery};
use crate::brackets::{NESTING_MAX, Partner};
use crate::lex::TokenKind;
use crate::words::{ITEM_WORDS, is_reserved, nearest_item_word};

/// Blocks in blocks that are looked into; deeper ones are read as a whole or not at all.
const DESCENT_MAX: usize = NESTING_MAX;

/// Tokens of a line that a guess looks at.
const LOOKED_AT_MAX: usize = 32;

impl Recovery<'_> {
    /// The brackets directly in the piece: opener and the token with the closer (or the end).
    pub(super) fn groups(&self, attempt: &Attempt) -> Vec<(usize, usize)> {
        let mut out = Vec::new();
        let mut index = attempt.lo;
        while index < attempt.hi {
            let next = match self.brackets.partners[index] {
                Partner::At(close) if close > index => Some(close.min(attempt.hi)),
                Partner::Before(end) if end > index => Some(end.clamp(index + 1, attempt.hi)),
                _ => None,
            };
            if let Some(close) = next {
                out.push((index, close));
                index = close;
            }
            index += 1;
        }
        out
    }

    /// The block of the piece that holds the position and can be read on its own.
    pub(super) fn block_at(&self, kind: Kind, attempt: &Attempt, at: usize) -> Option<(usize, Kind)> {
        let tokens = &self.source.tokens;
        let (open, _) = self.groups(attempt).into_iter().find(|&(open, close)| {
            let end = tokens.get(close).map_or(self.source.text.len(), |token| token.start);
            tokens[open].start < at && (at <= end || close >= attempt.hi)
        })?;
        if attempt.closed.contains(&open) {
            return None;
        }
        Some((open, self.block_kind(kind, attempt, open)?))
    }

    /// What the inside of the block consists of.
    pub(super) fn block_kind(&self, kind: Kind, attempt: &Attempt, open: usize) -> Option<Kind> {
        if self.level >= DESCENT_MAX || self.source.tokens[open].kind != TokenKind::Open(b'{') {
            return None;
        }
        let word =
            |index: usize| self.source.tokens.get(index).map_or("", |token| token.text(self.source.text));
        let before = open.checked_sub(1).filter(|before| *before >= attempt.lo).map(word);
        match kind {
            Kind::Item => {
                let first = word(attempt.lo);
                let first =
                    if is_reserved(first) { first } else { nearest_item_word(first).unwrap_or(first) };
                match first {
                    "agent" | "flow" | "template" => Some(Kind::Item),
                    "test" => Some(Kind::Test),
                    "fn" => Some(Kind::Stmt),
                    "extern" => Some(Kind::Extern),
                    "type" => None,
                    "interceptor" if !self.has_mark_before(attempt, open, "=") => Some(Kind::Stmt),
                    "param" => None,
                    _ if open == attempt.lo + 1 || word(attempt.lo + 1) == "at" => {
                        Some(self.guessed_block(attempt, open))
                    }
                    _ => Some(self.step_block(attempt, open)),
                }
            }
            Kind::Arm => Some(self.step_block(attempt, open)),
            Kind::Stmt => match word(attempt.lo) {
                "if" | "for" => Some(Kind::Stmt),
                "match" => Some(Kind::MatchArm),
                _ if matches!(before, Some("=" | "emit")) => Some(Kind::Entry),
                _ => None,
            },
            Kind::MatchArm if before == Some("->") => Some(Kind::Stmt),
            Kind::MatchArm => None,
            Kind::Test => Some(Kind::Entry),
            Kind::Entry if before == Some(":") => Some(Kind::Entry),
            Kind::Entry | Kind::Extern => None,
        }
    }

    /// The body of something whose declaring word is missing: what its first line looks like.
    fn guessed_block(&self, attempt: &Attempt, open: usize) -> Kind {
        let tokens = &self.source.tokens;
        let first = tokens[open + 1..attempt.hi].iter().position(|token| !token.is_trivia());
        let Some(first) = first else { return Kind::Entry };
        let line = tokens[open + 1 + first..attempt.hi].iter();
        let line: Vec<&str> = line
            .take_while(|token| token.kind != TokenKind::Newline)
            .take(LOOKED_AT_MAX)
            .map(|token| token.text(self.source.text))
            .collect();
        let at = |mark: &str| line.iter().position(|text| *text == mark).unwrap_or(usize::MAX);
        let (colon, equals, arrow) = (at(":"), at("="), at("->"));
        let declares = ITEM_WORDS.contains(&line[0]) && colon != 1;
        if declares || (arrow < colon && arrow < equals) {
            Kind::Item
        } else if equals < colon || matches!(line[0], "let" | "if" | "for" | "match" | "drop" | "remove") {
            Kind::Stmt
        } else if matches!(line[0], "send" | "expect") {
            Kind::Test
        } else {
            Kind::Entry
        }
    }

    /// Behind `route` come cases, behind anything else settings.
    fn step_block(&self, attempt: &Attempt, open: usize) -> Kind {
        let tokens = &self.source.tokens;
        let mut index = open;
        while index > attempt.lo {
            index -= 1;
            match self.brackets.partners[index] {
                Partner::At(partner) if partner < index => index = partner.max(attempt.lo),
                _ => {}
            }
            match tokens[index].text(self.source.text) {
                "route" => return Kind::Arm,
                "->" | "=" => return Kind::Entry,
                _ => {}
            }
        }
        Kind::Entry
    }

    fn has_mark_before(&self, attempt: &Attempt, open: usize, mark: &str) -> bool {
        let mut index = attempt.lo;
        while index < open {
            if let Partner::At(close) = self.brackets.partners[index]
                && close > index
            {
                index = close;
            }
            if self.source.tokens[index].text(self.source.text) == mark {
                return true;
            }
            index += 1;
        }
        false
    }
}
