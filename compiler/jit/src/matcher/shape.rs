//! What can be seen in an automaton before code is made of it: states that stay in themselves, literals that a
//! search waits for, runs of bytes that are likely to come next. It must not know instructions.

use super::weights::weight;
use crate::automaton::{Automaton, ByteSet, DEAD, END, Kind, QUIT, Source, Transition};

/// Bytes of a literal that a search waits for.
const LITERAL_BYTES_MAX: usize = 16;
/// Literals that are looked for at once; more make the test of a window slower than walking.
const LITERALS_MAX: usize = 4;
/// Places of a literal that are tested.
const PLACES_MAX: usize = 3;
/// Bytes that one probe compares: a word.
const PROBE_BYTES_MAX: usize = 8;

/// Whether the transition does nothing but go on.
pub(super) fn is_plain(transition: &Transition) -> bool {
    transition.target < QUIT && transition.assign.is_empty() && transition.accept.is_none()
}

/// The transition of a state on a byte or, for [`END`], at the end of the text.
pub(super) fn step(automaton: &Automaton, state: u32, column: usize) -> (u32, &Transition) {
    let index = automaton.states[state as usize][column];
    (index, &automaton.transitions[index as usize])
}

/// A state that stays in itself.
pub(super) struct SelfLoop {
    pub bytes: ByteSet,
    /// The transition back, if it does something. Doing it once, for the last of the bytes, is enough.
    pub effect: Option<u32>,
}

/// The bytes on which `state` stays in itself by one and the same transition, if there are at least `bytes_min`.
pub(super) fn self_loop(automaton: &Automaton, state: u32, bytes_min: usize) -> Option<SelfLoop> {
    let mut loops: Vec<(u32, ByteSet)> = Vec::new();
    for byte in 0..=255u8 {
        let (index, transition) = step(automaton, state, byte.into());
        if transition.target != state || !is_idempotent(automaton, transition) {
            continue;
        }
        match loops.iter_mut().find(|(other, _)| *other == index) {
            Some((_, bytes)) => bytes.insert(byte),
            None => loops.push((index, ByteSet::byte(byte))),
        }
    }
    let (index, bytes) = loops.into_iter().max_by_key(|(_, bytes)| bytes.len())?;
    let effect = (!is_plain(&automaton.transitions[index as usize])).then_some(index);
    (bytes.len() >= bytes_min).then_some(SelfLoop { bytes, effect })
}

/// Whether taking the transition for several bytes in a row leaves what taking it for the last one leaves.
fn is_idempotent(automaton: &Automaton, transition: &Transition) -> bool {
    if automaton.kind == Kind::Bool && transition.accept.is_some() {
        return false;
    }
    let assigned = |register: u16| transition.assign.iter().any(|(target, _)| *target == register);
    let from_position = transition.assign.iter().all(|(_, source)| *source == Source::Position);
    let accepted = transition.accept.iter().flat_map(|accept| &accept.slots);
    let mut stable = accepted.map(|(_, source)| match source {
        Some(Source::Register(register)) => !assigned(*register),
        Some(Source::Position) | None => true,
    });
    from_position && stable.all(|stable| stable)
}

/// A literal that begins with a byte on which a state leaves itself, as (place, bytes there): the places where
/// other bytes are rarest.
pub(super) struct Literal {
    pub places: Vec<(usize, ByteSet)>,
}

/// What a state waits for.
pub(super) struct Exits {
    /// Bytes that always leave.
    pub bytes: ByteSet,
    /// Instead of their first bytes.
    pub literals: Vec<Literal>,
}

/// What the state with this loop leaves on. A first byte is replaced by its whole literal when failing anywhere
/// inside it is the same as never having left: then only whole literals need to be walked.
///
/// Why that holds: inside the literal, on every byte but the next of the literal, the states go where the looping
/// state goes on that byte, and so they do at the end of the text. So after a failure at place `j` everything is as
/// if the loop had stayed until `j`. Between, no byte leaves the loop, as all but the first are bytes of the loop.
pub(super) fn exits(automaton: &Automaton, state: u32, self_loop: &SelfLoop) -> Exits {
    let mut exits = Exits { bytes: self_loop.bytes.complement(), literals: Vec::new() };
    if self_loop.effect.is_some() {
        return exits;
    }
    for (index, bytes) in edges(automaton, state, exits.bytes) {
        if exits.literals.len() == LITERALS_MAX {
            break;
        }
        if bytes.len() <= 2 && is_plain(&automaton.transitions[index as usize]) {
            let literal = read_literal(automaton, state, self_loop.bytes, index, bytes);
            if literal.len() >= 2 {
                exits.bytes = exits.bytes.intersection(bytes.complement());
                exits.literals.push(Literal { places: choose_places(&literal) });
            }
        }
    }
    exits
}

fn read_literal(
    automaton: &Automaton,
    looping: u32,
    stays: ByteSet,
    first: u32,
    bytes: ByteSet,
) -> Vec<ByteSet> {
    let mut literal = vec![bytes];
    let mut inside = automaton.transitions[first as usize].target;
    let mut seen = vec![looping];
    while literal.len() < LITERAL_BYTES_MAX && !seen.contains(&inside) {
        seen.push(inside);
        if step(automaton, inside, END).0 != step(automaton, looping, END).0 {
            break;
        }
        let differs = |byte: &u8| {
            step(automaton, inside, (*byte).into()).0 != step(automaton, looping, (*byte).into()).0
        };
        let on: ByteSet = (0..=255).filter(differs).collect();
        let [(index, bytes)] = edges(automaton, inside, on)[..] else { break };
        if bytes.len() > 2 || bytes.intersection(stays) != bytes {
            break;
        }
        literal.push(bytes);
        let transition = &automaton.transitions[index as usize];
        if !is_plain(transition) {
            break;
        }
        inside = transition.target;
    }
    literal
}

fn choose_places(literal: &[ByteSet]) -> Vec<(usize, ByteSet)> {
    let mut places: Vec<(usize, ByteSet)> = literal.iter().copied().enumerate().collect();
    places.sort_by_key(|(_, bytes)| super::weights::weight_of(*bytes));
    places.truncate(PLACES_MAX);
    places.sort_by_key(|(place, _)| *place);
    places
}

/// The transitions of a state on `bytes`, each with the bytes that take it.
fn edges(automaton: &Automaton, state: u32, bytes: ByteSet) -> Vec<(u32, ByteSet)> {
    let mut edges: Vec<(u32, ByteSet)> = Vec::new();
    for byte in bytes.iter() {
        let index = step(automaton, state, byte.into()).0;
        match edges.iter_mut().find(|(other, _)| *other == index) {
            Some((_, bytes)) => bytes.insert(byte),
            None => edges.push((index, ByteSet::byte(byte))),
        }
    }
    edges
}

/// What a probe expects in one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    Byte(u8),
    Digit,
}

/// A run of bytes that is likely to come next, compared as one word.
pub(super) struct Probe {
    pub elements: Vec<Element>,
    /// The state behind the run.
    pub target: u32,
    /// Registers set on the way, each with the place of the byte that sets it last.
    pub assign: Vec<(usize, u16)>,
}

/// The likely way on from a state: the one live edge of each state that is a byte or the digits, as long as all
/// other live edges lead back into the run (as those of a search do).
pub(super) fn probe(automaton: &Automaton, from: u32) -> Option<Probe> {
    let mut probe = Probe { elements: Vec::new(), target: from, assign: Vec::new() };
    let mut seen = vec![from];
    while probe.elements.len() < PROBE_BYTES_MAX {
        let Some((element, index)) = likely_edge(automaton, probe.target, &seen) else { break };
        let transition = &automaton.transitions[index as usize];
        let place = probe.elements.len();
        for (register, _) in &transition.assign {
            probe.assign.retain(|(_, other)| other != register);
            probe.assign.push((place, *register));
        }
        probe.elements.push(element);
        probe.target = transition.target;
        seen.push(transition.target);
    }
    (probe.elements.len() >= 2).then_some(probe)
}

fn likely_edge(automaton: &Automaton, state: u32, seen: &[u32]) -> Option<(Element, u32)> {
    let mut found = None;
    for (index, bytes) in edges(automaton, state, ByteSet::ALL) {
        let transition = &automaton.transitions[index as usize];
        if transition.target == QUIT || transition.target == DEAD && transition.accept.is_none() {
            continue;
        }
        if seen.contains(&transition.target) && transition.accept.is_none() {
            continue;
        }
        let element = match bytes.ranges()[..] {
            [(first, last)] if first == last => Element::Byte(first),
            [(b'0', b'9')] => Element::Digit,
            _ => return None,
        };
        let from_position = transition.assign.iter().all(|(_, source)| *source == Source::Position);
        let usable = transition.target < QUIT && transition.accept.is_none() && from_position;
        if !usable || found.is_some() {
            return None;
        }
        found = Some((element, index));
    }
    // A byte that is hardly ever there is no likely way.
    found.filter(|(element, _)| !matches!(element, Element::Byte(byte) if weight(*byte) < 2))
}

/// Registers that a search may read before it wrote them.
pub(super) fn registers_read_unset(automaton: &Automaton) -> Vec<bool> {
    let words = automaton.registers.div_ceil(64);
    let mut read = vec![false; automaton.registers];
    // By state: the registers that may be unset there. They only grow, so this ends.
    let mut unset: Vec<Option<Vec<u64>>> = vec![None; automaton.states.len()];
    unset[automaton.start as usize] = Some(vec![u64::MAX; words]);
    let mut work = vec![automaton.start];
    while let Some(state) = work.pop() {
        let Some(here) = unset[state as usize].clone() else { continue };
        let mut indexes: Vec<u32> = automaton.states[state as usize].to_vec();
        indexes.sort_unstable();
        indexes.dedup();
        for index in indexes {
            let transition = &automaton.transitions[index as usize];
            let accepted =
                transition.accept.iter().flat_map(|accept| &accept.slots).filter_map(|(_, source)| *source);
            for source in transition.assign.iter().map(|(_, source)| *source).chain(accepted) {
                if let Source::Register(register) = source {
                    let register = usize::from(register);
                    read[register] |= here[register / 64] >> (register % 64) & 1 != 0;
                }
            }
            if transition.target >= QUIT {
                continue;
            }
            let mut after = here.clone();
            for (register, _) in &transition.assign {
                after[usize::from(*register) / 64] &= !(1 << (register % 64));
            }
            let before = unset[transition.target as usize].get_or_insert_with(|| vec![0; words]);
            let new = after.iter().zip(before.iter()).any(|(after, before)| after & !before != 0);
            // With no register at all there is nothing to follow.
            if new {
                before.iter_mut().zip(&after).for_each(|(before, after)| *before |= after);
                work.push(transition.target);
            }
        }
    }
    read
}
