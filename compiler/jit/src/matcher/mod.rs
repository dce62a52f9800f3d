//! Makes an automaton a native function that searches one text. It knows automata and the code host; it must not
//! know rows, batches or expressions. What is too large for it is refused, and the reference does the work.

use std::fmt;
use std::ops::Range;

use cranelift_codegen::ir::types::I64;
use flow_plan::batch::ARENA_PADDING;

use crate::automaton::{Automaton, ByteSet, DEAD, Kind, QUIT, Source};
use crate::code::{Code, CodeBuilder, CodeError, FuncId, Settings};
use crate::kernels::Bitmaps;

mod branch;
mod class;
mod emit;
mod shape;
#[cfg(test)]
mod tests;
mod weights;

/// States of an automaton; more are refused. Each costs about 100 bytes of code and 20 µs.
pub const STATES_MAX: usize = 4_000;
/// Instructions of Cranelift's language for one automaton: about 100 ms of compilation.
pub const INSTRUCTIONS_MAX: usize = 60_000;
/// Slots, registers and patterns of an automaton: offsets into their memory stay small.
pub const PLACES_MAX: usize = 1 << 14;
/// A state that stays in itself on fewer bytes goes through them one by one.
pub const LOOP_BYTES_MIN: usize = 8;

/// Nothing matches.
pub const NO_MATCH: u64 = 0;
/// There is a match; slots or bits are written.
pub const MATCH: u64 = 1;
/// The reference has to be asked.
pub const QUITS: u64 = 2;

/// A search: `(base, start, end, slots, bitmaps)` for the text `base[start..end]`; gives [`NO_MATCH`], [`MATCH`] or
/// [`QUITS`].
///
/// - The text and [`ARENA_PADDING`] bytes behind it are readable, and `start <= end <= u32::MAX`.
/// - `slots` is null for [`Kind::Bool`]. For [`Kind::Captures`] it has room for `Automaton::slots` offsets; after a
///   match those of the wanted slots are positions from `base`, or `u32::MAX` for groups that took no part; after
///   anything else they mean nothing. For [`Kind::Set`] it has room for a bit for each pattern, in whole words;
///   all are written unless the search quits.
/// - `bitmaps` covers the text with the classes that [`define_matcher`] asked for; null if it asked for none.
pub type MatchFn = unsafe extern "C" fn(*const u8, u64, u64, *mut u32, *const Bitmaps) -> u64;

/// How states that stay in themselves are left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Loops {
    /// One byte after the other, as all states.
    Bytewise,
    /// 16 bytes at once.
    #[default]
    Vectors,
    /// By bitmaps of the bytes they are left on, made for the whole batch before; by vectors when there are too
    /// many classes.
    Bitmaps,
}

/// How code is made of an automaton.
#[derive(Clone, Debug)]
pub struct Options {
    pub loops: Loops,
    /// See [`LOOP_BYTES_MIN`].
    pub loop_bytes_min: usize,
    /// Compare runs of likely bytes as one word.
    pub probes: bool,
    pub states_max: usize,
    pub instructions_max: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            loops: Loops::default(),
            loop_bytes_min: LOOP_BYTES_MIN,
            probes: true,
            states_max: STATES_MAX,
            instructions_max: INSTRUCTIONS_MAX,
        }
    }
}

/// Adds the search of an automaton to `code`, as a [`MatchFn`] under this name. Classes of bytes that it wants
/// bitmaps of are added to `classes`, in the order of [`Bitmaps`]; searches over the same batch share them.
pub fn define_matcher(
    code: &mut CodeBuilder,
    name: &str,
    automaton: &Automaton,
    options: &Options,
    classes: &mut Vec<ByteSet>,
) -> Result<FuncId, CodeError> {
    check_automaton(automaton, options).map_err(|error| match error {
        Unfit::Large(what, max) => CodeError::TooLarge(what, max),
        Unfit::Broken(what) => {
            CodeError::Refused(name.to_owned(), format!("{what} of its automaton is missing"))
        }
    })?;
    let signature = code.signature(&[I64; 5], &[I64]);
    let wanted_before = classes.len();
    let defined =
        code.define(name, &signature, |b, scope| emit::emit_function(b, scope, automaton, options, classes));
    if defined.is_err() {
        classes.truncate(wanted_before);
    }
    defined
}

enum Unfit {
    Large(&'static str, usize),
    Broken(&'static str),
}

/// Whether all that the automaton refers to exists and stays within the bounds.
fn check_automaton(automaton: &Automaton, options: &Options) -> Result<(), Unfit> {
    if automaton.states.len() > options.states_max {
        return Err(Unfit::Large("states", options.states_max));
    }
    for (what, number) in
        [("slots", automaton.slots), ("registers", automaton.registers), ("patterns", automaton.patterns)]
    {
        if number > PLACES_MAX {
            return Err(Unfit::Large(what, PLACES_MAX));
        }
    }
    let broken = |what, holds: bool| if holds { Ok(()) } else { Err(Unfit::Broken(what)) };
    let state = |index: u32| (index as usize) < automaton.states.len();
    broken("the start", state(automaton.start))?;
    let mut indexes = automaton.states.iter().flat_map(|row| row.iter());
    broken("a transition", indexes.all(|index| (*index as usize) < automaton.transitions.len()))?;
    let register = |index: u16| usize::from(index) < automaton.registers;
    let source = |source: &Source| !matches!(source, Source::Register(index) if !register(*index));
    for transition in &automaton.transitions {
        let target = transition.target;
        broken("a state", target == DEAD || target == QUIT || state(target))?;
        broken("a register", transition.assign.iter().all(|(to, from)| register(*to) && source(from)))?;
        let Some(accept) = &transition.accept else { continue };
        broken("a pattern", accept.patterns.iter().all(|pattern| (*pattern as usize) < automaton.patterns))?;
        broken("a register", accept.slots.iter().all(|(_, from)| from.as_ref().is_none_or(source)))?;
        broken("a slot", accept.slots.iter().all(|(slot, _)| usize::from(*slot) < automaton.slots))?;
    }
    Ok(())
}

/// What a search found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    NoMatch,
    Match,
    /// The reference has to be asked.
    Quit,
}

/// The native search of one automaton, with everything around it checked.
pub struct Matcher {
    function: MatchFn,
    /// Elements of the slots of a search.
    slots: usize,
    classes: Vec<ByteSet>,
    code: Code,
}

impl Matcher {
    pub fn new(automaton: &Automaton, settings: &Settings, options: &Options) -> Result<Matcher, CodeError> {
        let mut code = CodeBuilder::new(settings)?;
        let mut classes = Vec::new();
        let id = define_matcher(&mut code, "search", automaton, options, &mut classes)?;
        let code = code.finish()?;
        let pointer = code.pointer(id).ok_or_else(|| CodeError::Undefined("search".into()))?;
        // SAFETY: it was defined with the signature of `MatchFn`, in the C convention.
        let function = unsafe { std::mem::transmute::<*const u8, MatchFn>(pointer) };
        let slots = match automaton.kind {
            Kind::Bool => 0,
            Kind::Captures => automaton.slots,
            Kind::Set => automaton.patterns.div_ceil(32),
        };
        Ok(Matcher { function, slots, classes, code })
    }

    /// The classes of bytes it wants bitmaps of.
    pub fn classes(&self) -> &[ByteSet] {
        &self.classes
    }

    /// Elements that the slots of a search must have: offsets, or words of bits.
    pub fn slots(&self) -> usize {
        self.slots
    }

    pub fn code_bytes(&self) -> usize {
        self.code.code_bytes()
    }

    /// Searches `padded[text]`, see [`MatchFn`]. [`Outcome::Quit`] too when a text does not lie
    /// [`ARENA_PADDING`] bytes before the end of `padded`, is beyond 4 GiB, has too few slots or no bitmaps.
    pub fn search(
        &self,
        padded: &[u8],
        text: Range<usize>,
        slots: &mut [u32],
        bitmaps: Option<&Bitmaps>,
    ) -> Outcome {
        let inside = text.start <= text.end && text.end.saturating_add(ARENA_PADDING) <= padded.len();
        let covered =
            self.classes.is_empty() || bitmaps.is_some_and(|bitmaps| self.is_covered(bitmaps, &text));
        if !inside || !covered || text.end > u32::MAX as usize || slots.len() < self.slots {
            return Outcome::Quit;
        }
        let bitmaps = bitmaps.map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: the text and its padding lie in `padded`, the slots in `slots`, and the bitmaps cover the text
        // with all classes; the code lives as long as `self`.
        let answer = unsafe {
            (self.function)(padded.as_ptr(), text.start as u64, text.end as u64, slots.as_mut_ptr(), bitmaps)
        };
        match answer {
            NO_MATCH => Outcome::NoMatch,
            MATCH => Outcome::Match,
            _ => Outcome::Quit,
        }
    }

    /// Whether the bitmaps have an answer for every byte and class.
    fn is_covered(&self, bitmaps: &Bitmaps, text: &Range<usize>) -> bool {
        let covered = bitmaps.covered();
        let last = self.classes.len().saturating_sub(1);
        covered.start <= text.start && text.end <= covered.end && bitmaps.has(last, covered.start).is_some()
    }
}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Matcher({} slots, {:?}, {:?})", self.slots, self.classes, self.code)
    }
}
