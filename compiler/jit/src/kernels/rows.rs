//! One bit per row of a batch.

/// A set of row positions: indexes in the list of rows alive, not row numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowBits {
    words: Vec<u64>,
    len: usize,
}

impl RowBits {
    /// Makes it a set over `len` positions with none inside. The buffer is used again.
    pub fn reset(&mut self, len: usize) {
        self.words.clear();
        self.words.resize(len.div_ceil(64), 0);
        self.len = len;
    }

    /// Puts all positions inside.
    pub fn fill(&mut self) {
        self.words.fill(u64::MAX);
        if let (Some(last), tail @ 1..) = (self.words.last_mut(), self.len % 64) {
            *last = (1 << tail) - 1;
        }
    }

    /// How many positions there are, inside or not.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many positions are inside.
    pub fn count(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    pub fn get(&self, position: usize) -> bool {
        self.words.get(position / 64).is_some_and(|word| word >> (position % 64) & 1 != 0)
    }

    /// Positions beyond the length are left out.
    pub fn set(&mut self, position: usize) {
        if position < self.len {
            self.words[position / 64] |= 1 << (position % 64);
        }
    }

    /// Position `p` is bit `p % 64` of word `p / 64`; bits beyond the length are zero.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// The positions inside, ascending.
    pub fn ones(&self) -> impl Iterator<Item = usize> + '_ {
        self.words.iter().enumerate().flat_map(|(at, &word)| {
            let mut word = word;
            std::iter::from_fn(move || {
                let bit = (word != 0).then(|| word.trailing_zeros() as usize)?;
                word &= word - 1;
                Some(at * 64 + bit)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn positions_are_kept(len in 0usize..200, positions in prop::collection::btree_set(0usize..250, 0..40)) {
            let mut bits = RowBits::default();
            bits.reset(500);
            bits.fill();
            bits.reset(len);
            positions.iter().for_each(|&position| bits.set(position));
            let inside: Vec<usize> = positions.into_iter().filter(|&position| position < len).collect();
            prop_assert_eq!(bits.count(), inside.len());
            prop_assert!((0..260).all(|at| bits.get(at) == inside.contains(&at)));
            prop_assert_eq!(bits.ones().collect::<Vec<_>>(), inside);
            bits.fill();
            prop_assert_eq!(bits.ones().collect::<Vec<_>>(), (0..len).collect::<Vec<_>>());
        }
    }
}
