//! From regexes to an automaton: syntax, NFA, determinization, then what makes it small. Everything is bounded by
//! numbers of steps, never by time, so that a program is compiled the same way everywhere.
//!
//! # Beyond ASCII
//!
//! With Unicode on, a class like `[^"]` or `\S` takes one character in valid UTF-8, and an invalid byte ends it. With
//! [`Options::quit_beyond_ascii`] a class is treated by how much UTF-8 it needs:
//!
//! - few sequences (`.`, `[^"]`, `\s`, `\S`, `é`, the `ſ` of `(?i)s`): spelt out, 7 to 15 states for a loop. Such
//!   text is searched exactly, whatever bytes stand in it.
//! - many (`\w`, `\d`, `\pL`): the ASCII half stays. Where the class is tried on a byte that begins one of its
//!   characters beyond ASCII, the automaton quits; on other bytes beyond ASCII (a lead byte that no character of the
//!   class has, a lone continuation) it fails, as the class does.
//!
//! A quit needs a thread that could go that way and whose priority is not below a match that is already certain:
//! bytes beyond ASCII elsewhere in the text do no harm.
//!
//! Without the option all classes are spelt out. In both forms a Unicode word boundary is known as long as the bytes
//! on both sides are ASCII; elsewhere it counts as "perhaps", and the automaton quits if the next byte (or a match)
//! shows that it matters: `\bfoo` quits on a byte beyond ASCII followed by `f`, and on no other.

use flow_plan::settings::RegexSetting;
use regex_automata::nfa::thompson::{self, WhichCaptures};
use regex_automata::util::syntax;
use regex_syntax::hir::Hir;

use super::determinize::{Draft, Order, Transitions, determinize};
use super::nfa::{Nfa, Slots};
use super::{Automaton, DEAD, Kind, Options, QUIT, Refusal, minimize, registers, utf8};

/// The NFA may not take more memory than this.
const NFA_BYTES_MAX: usize = 1 << 20;
/// A longer regex is not even parsed.
const PATTERN_BYTES_MAX: usize = 64 << 10;

impl Automaton {
    /// Builds the automaton of patterns, the meaning being that of `regex::bytes` with the pattern's flags.
    /// [`Kind::Captures`] takes exactly one.
    pub fn new(patterns: &[&RegexSetting], kind: Kind, options: &Options) -> Result<Automaton, Refusal> {
        if kind == Kind::Captures && patterns.len() != 1 {
            return Err(Refusal::Unsupported("captures of several regexes at once"));
        }
        let mut parsed = Vec::with_capacity(patterns.len());
        for pattern in patterns {
            if pattern.pattern.len() > PATTERN_BYTES_MAX {
                return Err(Refusal::Unsupported("a regex this large"));
            }
            let hir = parse(pattern)?;
            parsed.push(if options.quit_beyond_ascii { utf8::cut_large_classes(hir) } else { hir });
        }
        let captures = if kind == Kind::Captures { WhichCaptures::All } else { WhichCaptures::None };
        let config =
            thompson::Config::new().utf8(false).nfa_size_limit(Some(NFA_BYTES_MAX)).which_captures(captures);
        let nfa = thompson::Compiler::new().configure(config).build_many_from_hir(&parsed);
        let nfa = nfa.map_err(|error| match error.size_limit() {
            Some(_) => Refusal::Unsupported("a regex this large"),
            None => Refusal::Syntax(error.to_string()),
        })?;
        let slots = if kind == Kind::Captures { nfa.group_info().slot_len() } else { 0 };
        let is_wanted = |&slot: &usize| {
            options.wanted.is_empty() || options.wanted.get(slot).is_some_and(|wanted| *wanted)
        };
        let wanted: Vec<usize> = (0..slots).filter(is_wanted).collect();
        // An accept names slots in 16 bits.
        if wanted.len() > Slots::BITS as usize || slots > usize::from(u16::MAX) {
            return Err(Refusal::Registers(Slots::BITS as usize));
        }
        let packed = Nfa::new(&nfa, &wanted, options.quit_beyond_ascii);
        let mut draft = determinize(&Order {
            nfa: &packed,
            kind,
            wanted: &wanted,
            quits: options.quit_beyond_ascii,
            states_max: options.states_max,
        })?;
        registers::share(&mut draft)?;
        if kind == Kind::Bool {
            accept_at_once(&mut draft);
        }
        minimize::minimize(&mut draft);
        Ok(finish(draft, patterns.len(), slots))
    }
}

/// What a regex says, with its flags; nothing of it has been compiled.
pub fn parse(setting: &RegexSetting) -> Result<Hir, Refusal> {
    let mut config = syntax::Config::new().utf8(false);
    for flag in setting.flags.chars() {
        config = match flag {
            'i' => config.case_insensitive(true),
            'm' => config.multi_line(true),
            's' => config.dot_matches_new_line(true),
            'x' => config.ignore_whitespace(true),
            'u' => config,
            other => return Err(Refusal::Syntax(format!("`{other}` is not a flag"))),
        };
    }
    syntax::parse_with(&setting.pattern, &config).map_err(|error| Refusal::Syntax(error.to_string()))
}

/// A state in which everything accepts is not worth entering: whoever would enter it accepts instead.
fn accept_at_once(draft: &mut Draft) {
    loop {
        let accepts = |transition: &u32| draft.transitions[*transition as usize].accept.is_some();
        let certain: Vec<bool> =
            (0..draft.states()).map(|state| draft.row(state).iter().all(accepts)).collect();
        let enters = |target: u32| target < QUIT && certain[target as usize];
        let Some(accept) = draft.transitions.iter().find_map(|transition| transition.accept.clone()) else {
            return;
        };
        let mut changed = false;
        for transition in draft.transitions.iter_mut().filter(|transition| enters(transition.target)) {
            transition.target = DEAD;
            transition.accept = Some(accept.clone());
            changed = true;
        }
        if !changed {
            return;
        }
    }
}

/// Spells the rows out by byte, keeping what can be reached.
fn finish(draft: Draft, patterns: usize, slots: usize) -> Automaton {
    let mut transitions = Transitions::default();
    let numbers: Vec<u32> =
        draft.transitions.iter().map(|transition| transitions.number(transition.clone())).collect();
    let states = (0..draft.states()).map(|state| {
        let row = draft.row(state);
        Box::new(std::array::from_fn(|column| numbers[row[usize::from(draft.class_of[column])] as usize]))
    });
    let states: Vec<Box<[u32; 257]>> = states.collect();
    let transitions = transitions.list;
    Automaton {
        kind: draft.kind,
        patterns,
        slots,
        registers: draft.registers,
        accepts_early: draft.kind == Kind::Captures
            && transitions.iter().any(|transition| transition.accept.is_some() && transition.target < QUIT),
        quits: transitions.iter().any(|transition| transition.target == QUIT),
        transitions,
        states,
        start: draft.start,
    }
}
