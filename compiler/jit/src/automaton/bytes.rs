//! Sets of bytes: what a state leaves on, what a bitmap marks, what a window of a literal search allows.

use std::fmt;

/// A set of byte values. Bit `b % 64` of word `b / 64` says whether byte `b` is in it.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSet(pub [u64; 4]);

impl ByteSet {
    pub const EMPTY: ByteSet = ByteSet([0; 4]);
    pub const ALL: ByteSet = ByteSet([u64::MAX; 4]);

    pub const fn byte(byte: u8) -> ByteSet {
        let mut words = [0; 4];
        words[(byte >> 6) as usize] = 1 << (byte & 63);
        ByteSet(words)
    }

    /// Both ends belong to it.
    pub fn range(first: u8, last: u8) -> ByteSet {
        (first..=last).collect()
    }

    pub fn insert(&mut self, byte: u8) {
        self.0[usize::from(byte >> 6)] |= 1 << (byte & 63);
    }

    pub const fn has(self, byte: u8) -> bool {
        self.0[(byte >> 6) as usize] >> (byte & 63) & 1 != 0
    }

    /// How many bytes are in it: 0 to 256.
    pub fn len(self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    pub fn is_empty(self) -> bool {
        self == ByteSet::EMPTY
    }

    pub fn complement(self) -> ByteSet {
        ByteSet(self.0.map(|word| !word))
    }

    pub fn union(self, other: ByteSet) -> ByteSet {
        ByteSet(std::array::from_fn(|at| self.0[at] | other.0[at]))
    }

    pub fn intersection(self, other: ByteSet) -> ByteSet {
        ByteSet(std::array::from_fn(|at| self.0[at] & other.0[at]))
    }

    /// The bytes in it, ascending.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        self.0.into_iter().enumerate().flat_map(|(at, mut word)| {
            std::iter::from_fn(move || {
                let bit = (word != 0).then(|| word.trailing_zeros())?;
                word &= word - 1;
                Some((at * 64) as u8 + bit as u8)
            })
        })
    }

    /// Maximal runs of bytes, ascending, both ends inside.
    pub fn ranges(self) -> Vec<(u8, u8)> {
        let mut ranges: Vec<(u8, u8)> = Vec::new();
        for byte in self.iter() {
            match ranges.last_mut() {
                Some((_, last)) if byte - *last == 1 => *last = byte,
                _ => ranges.push((byte, byte)),
            }
        }
        ranges
    }
}

impl FromIterator<u8> for ByteSet {
    fn from_iter<I: IntoIterator<Item = u8>>(bytes: I) -> ByteSet {
        let mut set = ByteSet::EMPTY;
        bytes.into_iter().for_each(|byte| set.insert(byte));
        set
    }
}

/// As a class of a regex: `[\t -"a]`.
impl fmt::Debug for ByteSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (first, last) in self.ranges() {
            write!(f, "{}", first.escape_ascii())?;
            if last > first {
                write!(f, "-{}", last.escape_ascii())?;
            }
        }
        f.write_str("]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_set_holds_what_was_put_in(words in any::<[u64; 4]>(), other in any::<[u64; 4]>()) {
            let (set, other) = (ByteSet(words), ByteSet(other));
            let bytes: Vec<u8> = (0..=255).filter(|&byte| set.has(byte)).collect();
            prop_assert_eq!(set.iter().collect::<Vec<_>>(), bytes.clone());
            prop_assert_eq!(bytes.iter().copied().collect::<ByteSet>(), set);
            prop_assert_eq!(set.len(), bytes.len());
            let ranges = set.ranges();
            prop_assert!(ranges.windows(2).all(|pair| pair[1].0 as u16 > pair[0].1 as u16 + 1));
            let back = ranges.iter().fold(ByteSet::EMPTY, |all, r| all.union(ByteSet::range(r.0, r.1)));
            prop_assert_eq!(back, set);
            for byte in 0..=255 {
                prop_assert_eq!(set.complement().has(byte), !set.has(byte));
                prop_assert_eq!(set.union(other).has(byte), set.has(byte) || other.has(byte));
                prop_assert_eq!(set.intersection(other).has(byte), set.has(byte) && other.has(byte));
            }
        }
    }

    #[test]
    fn the_ends_of_the_byte_range_are_ordinary() {
        assert_eq!(ByteSet::ALL.ranges(), [(0, 255)]);
        assert_eq!(ByteSet::ALL.len(), 256);
        assert!(ByteSet::EMPTY.is_empty() && ByteSet::EMPTY.ranges().is_empty());
        assert_eq!(
            format!("{:?}", [b'\t', b'a', b'b', 255].into_iter().collect::<ByteSet>()),
            r"[\ta-b\xff]"
        );
    }
}
