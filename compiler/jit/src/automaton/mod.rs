//! Regexes as automata over bytes: whether there is a match, which of many patterns match, or where the groups of
//! the leftmost-first match are. Plain data; it must not know how code is made of it.

mod build;
pub mod bytes;
mod determinize;
mod facts;
mod find;
mod interner;
mod minimize;
mod nfa;
mod registers;
#[cfg(test)]
mod tests;
mod utf8;

use std::fmt;

pub use build::parse;
pub use bytes::ByteSet;
pub use find::{Answer, NONE};

/// What an automaton answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Whether there is a match; ends at the first accepting transition.
    Bool,
    /// Which of the patterns match anywhere in the text, in one pass.
    Set,
    /// Where the groups of the leftmost-first match are: a tagged automaton with one byte of look-ahead
    /// (Laurikari 2000, Trofimovich 2017: TDFA(1)) whose registers keep positions.
    Captures,
}

/// No way on: the answer is what was accepted so far.
pub const DEAD: u32 = u32::MAX;
/// The automaton cannot tell (a byte beyond ASCII where characters matter); the reference has to.
pub const QUIT: u32 = u32::MAX - 1;
/// The column of [`Automaton::states`] for the end of the text.
pub const END: usize = 256;

/// Where a position comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// The position of the byte that the transition reads (at the end: the length of the text).
    Position,
    Register(u16),
}

/// A match that is found by a transition, before its byte is consumed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Accept {
    /// The patterns that match, ascending; more than one only for [`Kind::Set`].
    pub patterns: Vec<u32>,
    /// For [`Kind::Captures`]: the positions by slot that somebody reads; `None`: the group took no part.
    pub slots: Vec<(u16, Option<Source>)>,
}

/// What happens on a byte: first the accept with the registers as they are, then the assignments, all at once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Transition {
    /// A state, [`DEAD`] or [`QUIT`].
    pub target: u32,
    /// Register := source.
    pub assign: Vec<(u16, Source)>,
    pub accept: Option<Accept>,
}

/// A deterministic automaton. Searches are unanchored (the patterns bring their own anchors) and see the whole
/// text, so that `^`, `$` and `\b` look at its true ends.
#[derive(Clone, Debug)]
pub struct Automaton {
    pub kind: Kind,
    pub patterns: usize,
    /// Slots of the pattern: two for each group, group 0 among them. 0 unless [`Kind::Captures`].
    pub slots: usize,
    pub registers: usize,
    /// Without duplicates.
    pub transitions: Vec<Transition>,
    /// By state: the index of the transition for each byte and, in column [`END`], for the end of the text.
    pub states: Vec<Box<[u32; 257]>>,
    pub start: u32,
    /// An accepting transition goes on with live threads: a later, better match may replace what was accepted, so
    /// the accepted slots must not be shared with registers.
    pub accepts_early: bool,
    pub quits: bool,
}

/// How an automaton is built.
#[derive(Clone, Debug)]
pub struct Options {
    /// More states are refused.
    pub states_max: usize,
    /// For [`Kind::Captures`]: by slot, whether anybody reads it. Empty: all.
    pub wanted: Vec<bool>,
    /// Leave on the first byte beyond ASCII where a class of characters could tell such bytes apart, instead of
    /// spelling the UTF-8 automaton out.
    pub quit_beyond_ascii: bool,
}

/// Why there is no automaton.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The regex itself cannot be used.
    Syntax(String),
    /// It would need more than this many states.
    States(usize),
    /// It would need more registers or threads than the bounds.
    Registers(usize),
    Unsupported(&'static str),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Syntax(message) => write!(f, "the regex cannot be used: {message}"),
            Refusal::States(states) => write!(f, "its automaton has more than {states} states"),
            Refusal::Registers(registers) => write!(f, "its automaton needs more than {registers} registers"),
            Refusal::Unsupported(what) => write!(f, "{what} is left to the reference"),
        }
    }
}
