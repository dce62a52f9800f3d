//! Facts about an automaton that a code generator asks for. It must not know what code looks like.

use super::{Automaton, ByteSet, END, Transition};

impl Automaton {
    /// What happens in a state on a byte, or on [`END`].
    pub fn transition(&self, state: u32, column: usize) -> &Transition {
        &self.transitions[self.states[state as usize][column] as usize]
    }

    /// The bytes on which a state stays itself and nothing else happens: these can be skipped many at a time.
    pub fn self_loop(&self, state: u32) -> ByteSet {
        let idle = |byte: &u8| {
            let transition = self.transition(state, usize::from(*byte));
            transition.target == state && transition.assign.is_empty() && transition.accept.is_none()
        };
        (0..=255).filter(idle).collect()
    }

    /// The transitions of a state on bytes (the end of the text is not among them), each once with its bytes, in
    /// the order of their first byte.
    pub fn edges(&self, state: u32) -> Vec<(u32, ByteSet)> {
        let mut edges: Vec<(u32, ByteSet)> = Vec::new();
        for byte in 0..=255u8 {
            let transition = self.states[state as usize][usize::from(byte)];
            match edges.iter_mut().find(|(other, _)| *other == transition) {
                Some((_, bytes)) => bytes.insert(byte),
                None => edges.push((transition, ByteSet::from_iter([byte]))),
            }
        }
        edges
    }

    /// Which columns (bytes and [`END`]) no state tells apart: a class for each, numbered from 0 in the order of
    /// their first column.
    pub fn equivalence(&self) -> ([u16; 257], usize) {
        let mut classes = [0; 257];
        let mut interner = super::interner::Interner::new();
        let mut words = Vec::with_capacity(self.states.len());
        for (column, class) in classes.iter_mut().enumerate() {
            words.clear();
            words.extend(self.states.iter().map(|row| row[column]));
            *class = interner.intern(&words) as u16;
        }
        debug_assert!(interner.len() <= END + 1);
        (classes, interner.len())
    }
}
