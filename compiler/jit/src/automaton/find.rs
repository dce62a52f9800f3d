//! What an automaton means: a search that follows its transitions one by one. Generated code has to give the same
//! answers; it must not be used where speed matters.

use super::{Automaton, DEAD, END, Kind, QUIT, Source};

/// What a search found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Miss,
    Match,
    /// The automaton cannot tell: the reference has to.
    Quit,
}

/// The position of a group that took no part.
pub const NONE: u32 = u32::MAX;

impl Automaton {
    /// Searches the whole of `text`.
    ///
    /// For [`Kind::Captures`] a match writes the wanted slots, [`NONE`] where a group took no part; without a match
    /// nothing is written. For [`Kind::Set`] `slots` gets one bit for each pattern (bit `p % 32` of word `p / 32`),
    /// on a match and on a miss. `slots` has to be long enough for that, and the text shorter than 4 GiB
    /// (longer: [`Answer::Quit`]).
    pub fn find(&self, text: &[u8], slots: &mut [u32]) -> Answer {
        if text.len() >= NONE as usize {
            return Answer::Quit;
        }
        let mut registers = vec![NONE; self.registers];
        let mut found = vec![NONE; if self.kind == Kind::Captures { self.slots } else { 0 }];
        let mut written = vec![false; found.len()];
        let mut set = vec![0u32; if self.kind == Kind::Set { self.patterns.div_ceil(32) } else { 0 }];
        let mut matched = false;
        let mut state = self.start;
        for at in 0..=text.len() {
            let column = text.get(at).map_or(END, |&byte| usize::from(byte));
            let transition = self.transition(state, column);
            if transition.target == QUIT {
                return Answer::Quit;
            }
            let value = |source: Source, registers: &[u32]| match source {
                Source::Position => at as u32,
                Source::Register(register) => registers[usize::from(register)],
            };
            if let Some(accept) = &transition.accept {
                matched = true;
                if self.kind == Kind::Set {
                    for &pattern in &accept.patterns {
                        set[pattern as usize / 32] |= 1 << (pattern % 32);
                    }
                }
                for &(slot, source) in &accept.slots {
                    found[usize::from(slot)] = source.map_or(NONE, |source| value(source, &registers));
                    written[usize::from(slot)] = true;
                }
            }
            if transition.target == DEAD {
                break;
            }
            let new: Vec<u32> =
                transition.assign.iter().map(|&(_, source)| value(source, &registers)).collect();
            for (&(register, _), new) in transition.assign.iter().zip(new) {
                registers[usize::from(register)] = new;
            }
            state = transition.target;
        }
        if self.kind == Kind::Set {
            slots[..set.len()].copy_from_slice(&set);
        } else if matched {
            for slot in (0..found.len()).filter(|&slot| written[slot]) {
                slots[slot] = found[slot];
            }
        }
        if matched { Answer::Match } else { Answer::Miss }
    }
}
