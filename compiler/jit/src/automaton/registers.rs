//! Few registers instead of one for each version of each slot: what is never read is not written, and registers
//! whose values do not meet, or are always the same when they meet, become one (the copies between them disappear).

use super::determinize::Draft;
use super::{QUIT, Refusal, Source, Transition};

/// Registers of a finished automaton.
const REGISTERS_MAX: usize = 128;

/// A set of registers.
#[derive(Clone, PartialEq, Eq)]
struct Set(Vec<u64>);

impl Set {
    fn new(registers: usize) -> Set {
        Set(vec![0; registers.div_ceil(64)])
    }

    fn insert(&mut self, register: u16) {
        self.0[usize::from(register >> 6)] |= 1 << (register & 63);
    }

    fn remove(&mut self, register: u16) {
        self.0[usize::from(register >> 6)] &= !(1 << (register & 63));
    }

    fn contains(&self, register: u16) -> bool {
        self.0[usize::from(register >> 6)] >> (register & 63) & 1 != 0
    }

    fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        self.0.iter().enumerate().flat_map(|(at, &word)| {
            std::iter::successors(Some(word), |word| Some(word & word.wrapping_sub(1)))
                .take_while(|word| *word != 0)
                .map(move |word| (at * 64) as u16 + word.trailing_zeros() as u16)
        })
    }

    /// Whether something was new.
    fn add_all(&mut self, other: &Set) -> bool {
        let mut new = false;
        for (word, more) in self.0.iter_mut().zip(&other.0) {
            new |= more & !*word != 0;
            *word |= more;
        }
        new
    }

    fn meets(&self, other: &Set) -> bool {
        self.0.iter().zip(&other.0).any(|(word, other)| word & other != 0)
    }
}

/// Shares registers.
pub(super) fn share(draft: &mut Draft) -> Result<(), Refusal> {
    if draft.registers == 0 {
        return Ok(());
    }
    let live = find_live(draft);
    for transition in draft.transitions.iter_mut() {
        if transition.target < QUIT {
            let live = &live[transition.target as usize];
            transition.assign.retain(|&(register, _)| live.contains(register));
        }
    }
    let groups = merge(draft, &live);
    let (color, colors) = groups.color();
    if colors > REGISTERS_MAX {
        return Err(Refusal::Registers(REGISTERS_MAX));
    }
    let rename = |source: Source| match source {
        Source::Position => Source::Position,
        Source::Register(register) => Source::Register(color[usize::from(register)]),
    };
    for transition in draft.transitions.iter_mut() {
        for (register, source) in transition.assign.iter_mut() {
            *register = color[usize::from(*register)];
            *source = rename(*source);
        }
        transition.assign.retain(|&(register, source)| source != Source::Register(register));
        transition.assign.sort_unstable();
        transition.assign.dedup();
        for (_, source) in transition.accept.iter_mut().flat_map(|accept| &mut accept.slots) {
            *source = source.map(rename);
        }
    }
    draft.registers = colors;
    Ok(())
}

/// By state: the registers that may still be read.
fn find_live(draft: &Draft) -> Vec<Set> {
    let nothing = Set::new(draft.registers);
    let mut live = vec![nothing.clone(); draft.states()];
    // The transitions of each state, each once.
    let rows: Vec<Vec<u32>> = (0..draft.states())
        .map(|state| {
            let mut row = draft.row(state).to_vec();
            row.sort_unstable();
            row.dedup();
            row
        })
        .collect();
    loop {
        let mut changed = false;
        for state in (0..draft.states()).rev() {
            for &transition in &rows[state] {
                let before = live_before(&draft.transitions[transition as usize], &live, &nothing);
                changed |= live[state].add_all(&before);
            }
        }
        if !changed {
            return live;
        }
    }
}

fn live_before(transition: &Transition, live: &[Set], nothing: &Set) -> Set {
    let after = if transition.target < QUIT { &live[transition.target as usize] } else { nothing };
    let mut before = after.clone();
    for &(register, _) in &transition.assign {
        before.remove(register);
    }
    for &(register, source) in &transition.assign {
        if let (true, Source::Register(source)) = (after.contains(register), source) {
            before.insert(source);
        }
    }
    for (_, source) in transition.accept.iter().flat_map(|accept| &accept.slots) {
        if let Some(Source::Register(source)) = source {
            before.insert(*source);
        }
    }
    before
}

/// Registers that became one.
struct Groups {
    /// By register: the group, called after one of its registers.
    group: Vec<u16>,
    /// By group: its registers and what must stay apart from it.
    members: Vec<Set>,
    apart: Vec<Set>,
    /// Registers that are read somewhere.
    used: Set,
}

impl Groups {
    /// Makes one group of two unless a member of one must stay apart from a member of the other.
    fn join(&mut self, a: u16, b: u16) {
        let (a, b) = (self.group[usize::from(a)], self.group[usize::from(b)]);
        if a == b || self.apart[usize::from(a)].meets(&self.members[usize::from(b)]) {
            return;
        }
        let (members, apart) = (self.members[usize::from(b)].clone(), self.apart[usize::from(b)].clone());
        for member in members.iter() {
            self.group[usize::from(member)] = a;
        }
        self.members[usize::from(a)].add_all(&members);
        self.apart[usize::from(a)].add_all(&apart);
    }

    /// By register: a number that it shares with registers that need not stay apart; and how many numbers.
    fn color(&self) -> (Vec<u16>, usize) {
        let mut members: Vec<Set> = Vec::new();
        let mut color = vec![0; self.group.len()];
        for register in 0..self.group.len() as u16 {
            let group = self.group[usize::from(register)];
            if group != register || !self.members[usize::from(group)].meets(&self.used) {
                continue;
            }
            let apart = &self.apart[usize::from(group)];
            let free = members.iter().position(|other| !other.meets(apart)).unwrap_or_else(|| {
                members.push(Set::new(self.group.len()));
                members.len() - 1
            });
            members[free].add_all(&self.members[usize::from(group)]);
            for member in self.members[usize::from(group)].iter() {
                color[usize::from(member)] = free as u16;
            }
        }
        (color, members.len())
    }
}

/// Two registers must stay apart when one is written while the other is read later, and the values may differ
/// (Chaitin 1981). Groups begin with the copies and with what is written together.
fn merge(draft: &Draft, live: &[Set]) -> Groups {
    let registers = draft.registers;
    let mut used = Set::new(registers);
    let mut apart = vec![Set::new(registers); registers];
    let written = draft.transitions.iter().filter(|transition| transition.target < QUIT);
    for transition in written.clone() {
        let live = &live[transition.target as usize];
        used.add_all(live);
        for &(register, source) in &transition.assign {
            for other in live.iter().filter(|&other| other != register) {
                let value = match transition.assign.iter().find(|(written, _)| *written == other) {
                    Some(&(_, source)) => source,
                    None => Source::Register(other),
                };
                if value != source {
                    apart[usize::from(register)].insert(other);
                    apart[usize::from(other)].insert(register);
                }
            }
        }
    }
    let members = (0..registers as u16).map(|register| {
        let mut set = Set::new(registers);
        set.insert(register);
        set
    });
    let mut groups =
        Groups { group: (0..registers as u16).collect(), members: members.collect(), apart, used };
    for transition in written {
        for (at, &(register, source)) in transition.assign.iter().enumerate() {
            if let Source::Register(source) = source {
                groups.join(source, register);
            }
            for &(other, _) in transition.assign[..at].iter().filter(|(_, other)| *other == source) {
                groups.join(other, register);
            }
        }
    }
    groups
}
