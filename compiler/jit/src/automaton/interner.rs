//! Numbers for sequences of words: the same sequence gets the same number. States of an automaton are found again
//! by it. It must not know what the words mean.

/// Sequences of words, each kept once, numbered in the order of their first appearance.
pub(super) struct Interner {
    words: Vec<u32>,
    /// Where each sequence ends in `words`.
    ends: Vec<u32>,
    /// Open addressing, a power of two long, at most half full: 0 is free, `n + 1` is sequence `n`.
    table: Vec<u32>,
}

impl Interner {
    pub fn new() -> Interner {
        Interner { words: Vec::new(), ends: Vec::new(), table: vec![0; 256] }
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn get(&self, number: u32) -> &[u32] {
        let number = number as usize;
        let start = if number == 0 { 0 } else { self.ends[number - 1] as usize };
        &self.words[start..self.ends[number] as usize]
    }

    /// The number of a sequence. All of them together have to stay below 2³² words: the caller's work is bounded
    /// far below that.
    pub fn intern(&mut self, sequence: &[u32]) -> u32 {
        if self.ends.len() * 2 >= self.table.len() {
            self.grow();
        }
        let mut at = hash(sequence) as usize & (self.table.len() - 1);
        loop {
            match self.table[at] {
                0 => break,
                taken if self.get(taken - 1) == sequence => return taken - 1,
                _ => at = (at + 1) & (self.table.len() - 1),
            }
        }
        self.words.extend_from_slice(sequence);
        self.ends.push(self.words.len() as u32);
        self.table[at] = self.ends.len() as u32;
        self.ends.len() as u32 - 1
    }

    fn grow(&mut self) {
        let mut table = vec![0; self.table.len() * 4];
        for number in 0..self.ends.len() as u32 {
            let mut at = hash(self.get(number)) as usize & (table.len() - 1);
            while table[at] != 0 {
                at = (at + 1) & (table.len() - 1);
            }
            table[at] = number + 1;
        }
        self.table = table;
    }
}

/// Multiply and rotate; the high half is folded in since the table looks at the low bits.
fn hash(sequence: &[u32]) -> u64 {
    let mut hash = sequence.len() as u64;
    for &word in sequence {
        hash = (hash.rotate_left(5) ^ u64::from(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    hash ^ (hash >> 32)
}
