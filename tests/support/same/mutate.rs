//! Changes to bytes that already make an interesting program and batch.

use crate::logs::Random;

/// The longest input, in bytes.
pub const INPUT_BYTES_MAX: usize = 2_048;

/// New bytes.
pub fn fresh(random: &mut Random) -> Vec<u8> {
    (0..random.below(INPUT_BYTES_MAX as u64)).map(|_| random.next() as u8).collect()
}

/// The same with a few changes; the halves stay where they are, mostly.
pub fn mutated(data: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let mut data = data.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(data.len() as u64 + 1) as usize;
        match random.below(8) {
            0..=3 => {
                if let Some(byte) = data.get_mut(at) {
                    *byte = random.next() as u8;
                }
            }
            4 => data.insert(at, random.next() as u8),
            5 => {
                if at < data.len() {
                    data.remove(at);
                }
            }
            6 => {
                // The batch of one with the program of the other.
                let half = data.len() / 2;
                let theirs = &other[other.len() / 2..];
                data.truncate(half);
                data.extend_from_slice(&theirs[..theirs.len().min(half)]);
                data.resize(half * 2, 0);
            }
            _ => {
                let tail = random.below(64) as usize;
                data.extend((0..tail).map(|_| random.next() as u8));
            }
        }
    }
    data.truncate(INPUT_BYTES_MAX);
    data
}
