//! Reads broken text piece by piece: a broken statement costs only itself.
//!
//! A piece that cannot be read is looked into: the block with the mistake is blanked out, its inside is split and
//! read on its own, and the piece is tried again. What remains is explained in [`crate::explain`], and the names
//! in it are poisoned so that nobody complains about them.

mod blocks;

use std::collections::BTreeSet;
use std::ops::Range;

use flow_diag::{Code, Diagnostic};

use crate::ast::{
    Arm, ExternSetting, Item, MatchArm, Setting, Stmt, StmtKind, TestStmt, TestStmtKind, TypeExpr,
};
use crate::brackets::{Brackets, NESTING_MAX, Partner};
use crate::build::{Body, Builder};
use crate::explain::{self, Failure, Repair};
use crate::grammar::{self, InputLocation, Node, Rule, children};
use crate::lex::TokenKind;
use crate::source::Source;
use crate::split::{Separator, bytes_of, pieces};
use crate::words::is_reserved;

/// What a piece should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Item,
    Stmt,
    Arm,
    MatchArm,
    Test,
    Entry,
    Extern,
}

impl Kind {
    fn rule(self) -> Rule {
        match self {
            Kind::Item => Rule::one_item,
            Kind::Stmt => Rule::one_stmt,
            Kind::Arm => Rule::one_arm,
            Kind::MatchArm => Rule::one_match_arm,
            Kind::Test => Rule::one_test_stmt,
            Kind::Entry => Rule::one_entry,
            Kind::Extern => Rule::one_extern,
        }
    }

    fn separator(self) -> Separator {
        match self {
            Kind::Item | Kind::Stmt | Kind::Test => Separator::Line,
            Kind::Arm | Kind::MatchArm | Kind::Entry | Kind::Extern => Separator::Comma,
        }
    }
}

/// What was read of the inside of a block.
#[derive(Default)]
struct Parts {
    items: Vec<Item>,
    stmts: Vec<Stmt>,
    arms: Vec<Arm>,
    match_arms: Vec<MatchArm>,
    tests: Vec<TestStmt>,
    settings: Vec<Setting>,
    externs: Vec<ExternSetting>,
    rest: Option<TypeExpr>,
}

impl Parts {
    fn body(self, kind: Kind) -> Body {
        match kind {
            Kind::Item => Body::Items(self.items),
            Kind::Stmt => Body::Stmts(self.stmts),
            Kind::Arm => Body::Arms(self.arms),
            Kind::MatchArm => Body::MatchArms(self.match_arms),
            Kind::Test => Body::Tests(self.tests),
            Kind::Entry => Body::Settings(self.settings),
            Kind::Extern => Body::Extern(self.externs, self.rest.map(Box::new)),
        }
    }
}

/// Blocks that are blanked out one by one in a piece; the rest at once.
const TRIES_MAX: usize = 12;

/// Blocks in blocks that are looked into when the text nests deeper than is read.
const DEEP_DESCENT_MAX: usize = 6;

pub(crate) struct Recovery<'a> {
    pub source: &'a Source<'a>,
    pub brackets: &'a Brackets,
    pub builder: Builder<'a>,
    pub poisoned: BTreeSet<String>,
    /// The text as a whole is another language's: said once, and nothing more.
    pub foreign: bool,
    /// F0032 was told.
    pub foreign_told: bool,
    /// Something of the text was read as Flow.
    pub any_read: bool,
    level: usize,
    /// Where the grammar stopped in the text around the block that is being read.
    stopped_at: Option<usize>,
}

/// A piece while it is being tried: tokens `lo..hi`, and what is blanked out of its text.
struct Attempt {
    lo: usize,
    hi: usize,
    bytes: Range<usize>,
    blanks: Vec<Range<usize>>,
    /// Openers whose inside is blanked out.
    closed: Vec<usize>,
}

impl<'a> Recovery<'a> {
    pub fn new(source: &'a Source<'a>, brackets: &'a Brackets) -> Recovery<'a> {
        let builder = Builder::new(source);
        Recovery {
            source,
            brackets,
            builder,
            poisoned: BTreeSet::new(),
            foreign: false,
            foreign_told: false,
            any_read: false,
            level: 0,
            stopped_at: None,
        }
    }

    /// Reads all declarations of the text.
    pub fn items(&mut self) -> Vec<Item> {
        let mut parts = Parts::default();
        self.block(Kind::Item, 0, self.source.tokens.len(), &mut parts);
        parts.items
    }

    fn block(&mut self, kind: Kind, lo: usize, hi: usize, parts: &mut Parts) {
        for (lo, hi) in pieces(self.source, self.brackets, lo, hi, kind.separator()) {
            self.piece(kind, lo, hi, parts);
        }
    }

    /// Reads one piece, or says what is wrong with it.
    fn piece(&mut self, kind: Kind, lo: usize, hi: usize, parts: &mut Parts) {
        let Some(mut attempt) = self.attempt(kind, lo, hi) else { return };
        self.close_deep_blocks(kind, &mut attempt);
        if let Some(deep) = self.too_deep(&attempt) {
            let span = self.source.token_span(self.source.tokens[deep]);
            self.builder.diagnostics.push(
                Diagnostic::new(Code::F0023, span, format!("nesting deeper than {NESTING_MAX}"))
                    .label("this bracket is one too many")
                    .help("move the inner part into a function or a declaration of its own"),
            );
            return self.give_up(kind, &attempt, parts);
        }
        // the block with a mistake that is known already is read first: trying the whole again at every level
        // would cost the square of the depth
        if let Some(at) = self.stopped_at.filter(|at| attempt.bytes.contains(at))
            && let Some((open, inner)) = self.block_at(kind, &attempt, at)
        {
            self.descend(inner, open, Some(at), &mut attempt);
        }
        let mut repaired = false;
        for _ in 0..TRIES_MAX + 2 {
            let text = self.text(&attempt);
            let error = match grammar::parse(kind.rule(), &text) {
                Ok(node) => {
                    self.builder.base = attempt.bytes.start;
                    return self.build(&node, parts);
                }
                Err(error) => error,
            };
            let at = match error.location {
                InputLocation::Pos(at) => at,
                InputLocation::Span((at, _)) => at,
            };
            let at = (attempt.bytes.start + at).min(attempt.bytes.end);
            let failure = Failure { kind, lo: attempt.lo, hi: attempt.hi, at, error: &error };
            if explain::is_foreign(self, &failure) {
                return self.give_up(kind, &attempt, parts);
            }
            if attempt.closed.len() < TRIES_MAX
                && let Some((open, inner)) = self.block_at(kind, &attempt, at)
            {
                self.descend(inner, open, Some(at), &mut attempt);
                continue;
            }
            if self.damaged(&attempt) || repaired {
                return self.give_up(kind, &attempt, parts);
            }
            match explain::explain(self, &failure) {
                Repair::None => {}
                Repair::Blank(range) => {
                    attempt.blanks.push(range);
                    repaired = true;
                    continue;
                }
                Repair::Split(token) if token > attempt.lo && token < attempt.hi => {
                    let (lo, hi) = (attempt.lo, attempt.hi);
                    self.piece(kind, lo, token, parts);
                    return self.piece(kind, token, hi, parts);
                }
                Repair::Split(_) => {}
            }
            return self.give_up(kind, &attempt, parts);
        }
        self.give_up(kind, &attempt, parts);
    }

    /// The piece without the commas, semicolons and blanks at its ends.
    fn attempt(&mut self, kind: Kind, lo: usize, hi: usize) -> Option<Attempt> {
        let tokens = &self.source.tokens;
        let text = self.source.text;
        let mut hi = hi;
        while hi > lo && tokens[hi - 1].is_trivia() {
            hi -= 1;
        }
        if kind.separator() == Separator::Comma && hi > lo && tokens[hi - 1].text(text) == "," {
            hi -= 1;
        }
        let mut lo = lo;
        while lo < hi && tokens[lo].is_trivia() {
            lo += 1;
        }
        if lo + 1 == hi && tokens[lo].text(text) == ";" {
            let span = self.source.token_span(tokens[lo]);
            self.builder.diagnostics.push(explain::semicolon(self.source, span));
            return None;
        }
        let bytes = bytes_of(tokens, lo, hi)?;
        Some(Attempt { lo, hi, bytes, blanks: Vec::new(), closed: Vec::new() })
    }

    /// The text of the piece in which what is blanked out is blanks, brackets that close nothing are gone and
    /// those that are never closed are closed at the end: positions stay as they are.
    fn text(&self, attempt: &Attempt) -> String {
        let mut bytes = self.source.text[attempt.bytes.clone()].as_bytes().to_vec();
        let base = attempt.bytes.start;
        for range in &attempt.blanks {
            blank(&mut bytes, base, range.clone());
        }
        let mut closers = Vec::new();
        for index in attempt.lo..attempt.hi {
            let token = self.source.tokens[index];
            match (token.kind, self.brackets.partners[index]) {
                (TokenKind::Open(_) | TokenKind::Close(_), Partner::Stray) => {
                    blank(&mut bytes, base, token.start..token.end)
                }
                (TokenKind::Open(bracket), Partner::Before(_))
                    if !attempt.blanks.iter().any(|range| range.contains(&token.start)) =>
                {
                    closers.push(match bracket {
                        b'(' => b')',
                        b'[' => b']',
                        _ => b'}',
                    });
                }
                // a wrong bracket that stands for the right one
                (TokenKind::Close(_), Partner::At(open)) => {
                    let right = match self.source.tokens[open].kind {
                        TokenKind::Open(b'(') => b')',
                        TokenKind::Open(b'[') => b']',
                        _ => b'}',
                    };
                    let at = token.start - base;
                    if !attempt.blanks.iter().any(|range| range.contains(&token.start)) {
                        bytes_put(&mut bytes, at, right);
                    }
                }
                _ => {}
            }
        }
        if !closers.is_empty() {
            bytes.push(b'\n');
            bytes.extend(closers.iter().rev());
        }
        // blanks only replace whole characters, so this does not lose anything
        String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
    }

    /// A bracket of the piece below which nothing is read.
    fn too_deep(&self, attempt: &Attempt) -> Option<usize> {
        if self.brackets.deepest <= NESTING_MAX {
            return None;
        }
        (attempt.lo..attempt.hi).find(|&index| {
            matches!(self.source.tokens[index].kind, TokenKind::Open(_))
                && self.brackets.depths[index] as usize >= NESTING_MAX
                && !attempt.blanks.iter().any(|range| range.contains(&self.source.tokens[index].start))
        })
    }

    /// When the piece nests too deep, its blocks are read on their own, so that only the part with the nesting
    /// is lost.
    fn close_deep_blocks(&mut self, kind: Kind, attempt: &mut Attempt) {
        if self.level >= DEEP_DESCENT_MAX || self.too_deep(attempt).is_none() {
            return;
        }
        for (open, close) in self.groups(attempt) {
            if let Some(inner) = self.block_kind(kind, attempt, open)
                && (open..close).any(|index| self.brackets.depths[index] as usize >= NESTING_MAX)
            {
                self.descend(inner, open, None, attempt);
            }
        }
    }

    /// Reads the inside of a block on its own and blanks it out of the piece.
    fn descend(&mut self, kind: Kind, open: usize, stopped_at: Option<usize>, attempt: &mut Attempt) {
        let tokens = &self.source.tokens;
        let end = match self.brackets.partners[open] {
            Partner::At(close) | Partner::Before(close) => close.clamp(open + 1, attempt.hi),
            _ => attempt.hi,
        };
        let mut parts = Parts::default();
        let outer = std::mem::replace(&mut self.stopped_at, stopped_at);
        self.level += 1;
        self.block(kind, open + 1, end, &mut parts);
        self.level -= 1;
        self.stopped_at = outer;
        self.builder.bodies.insert(tokens[open].start, parts.body(kind));
        let end_byte = tokens.get(end).map_or(self.source.text.len(), |token| token.start);
        attempt.blanks.push(tokens[open].end..end_byte.max(tokens[open].end));
        attempt.closed.push(open);
    }

    fn build(&mut self, node: &Node<'_>, parts: &mut Parts) {
        self.any_read = true;
        for child in children(node) {
            match child.as_rule() {
                Rule::item => parts.items.extend(self.builder.item(&child)),
                Rule::stmt => parts.stmts.push(self.builder.stmt(&child)),
                Rule::arm => parts.arms.push(self.builder.arm(&child)),
                Rule::match_arm => parts.match_arms.push(self.builder.match_arm(&child)),
                Rule::test_stmt => parts.tests.push(self.builder.test_stmt(&child)),
                Rule::entry => parts.settings.push(self.builder.setting(&child)),
                Rule::extern_entry => {
                    self.builder.extern_entry(&child, &mut parts.externs, &mut parts.rest);
                }
                Rule::x_semicolon => self.builder.semicolon(&child),
                _ => {}
            }
        }
    }

    /// Whether the scanner has already said what is wrong with this piece.
    fn damaged(&self, attempt: &Attempt) -> bool {
        (attempt.lo..attempt.hi).any(|index| {
            let token = self.source.tokens[index];
            let visible = !attempt.blanks.iter().any(|range| range.contains(&token.start));
            visible
                && match token.kind {
                    TokenKind::UnclosedString | TokenKind::UnclosedRegex | TokenKind::UnclosedBlock => true,
                    TokenKind::Open(_) => matches!(self.brackets.partners[index], Partner::Before(_)),
                    TokenKind::Close(_) => self.brackets.partners[index] == Partner::Stray,
                    _ => false,
                }
        })
    }

    /// Nothing more can be read: the names of the piece are poisoned, and the blocks in it that were not looked
    /// into yet are, for the mistakes in them.
    fn give_up(&mut self, kind: Kind, attempt: &Attempt, parts: &mut Parts) {
        let groups = if self.too_deep(attempt).is_some() { Vec::new() } else { self.groups(attempt) };
        for (open, _) in groups {
            let inner = self.block_kind(kind, attempt, open);
            if let Some(inner @ (Kind::Item | Kind::Stmt | Kind::Arm | Kind::MatchArm | Kind::Test)) = inner
                && !attempt.closed.contains(&open)
                && !self.foreign
            {
                let mut rest = Attempt { blanks: Vec::new(), closed: Vec::new(), bytes: 0..0, ..*attempt };
                self.descend(inner, open, None, &mut rest);
            }
        }
        for token in &self.source.tokens[attempt.lo..attempt.hi] {
            self.builder.bodies.remove(&token.start);
            let word = token.text(self.source.text);
            if token.kind == TokenKind::Word && !is_reserved(word) {
                self.poisoned.insert(word.to_owned());
            }
        }
        let span = self.source.span(attempt.bytes.start, attempt.bytes.end);
        match kind {
            Kind::Stmt => parts.stmts.push(Stmt { span, kind: StmtKind::Broken }),
            Kind::Test => parts.tests.push(TestStmt { span, kind: TestStmtKind::Broken }),
            _ => {}
        }
    }
}

fn blank(bytes: &mut [u8], base: usize, range: Range<usize>) {
    let start = range.start.saturating_sub(base).min(bytes.len());
    let end = range.end.saturating_sub(base).clamp(start, bytes.len());
    bytes[start..end].fill(b' ');
}

fn bytes_put(bytes: &mut [u8], at: usize, byte: u8) {
    if let Some(place) = bytes.get_mut(at) {
        *place = byte;
    }
}
