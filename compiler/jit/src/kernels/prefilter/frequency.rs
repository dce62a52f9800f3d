//! How common bytes are in logs and other text, to choose what to search for: a search for rare bytes stops seldom.
//! Rough on purpose; a wrong guess costs time, never an answer.

use crate::automaton::ByteSet;

/// How often a window is met that bytes chosen independently would make with probability 1: neighbours in text are
/// not independent, so the product of the shares is too small. It is raised to this power.
const DEPENDENCE: f64 = 0.75;

/// By byte: about how many of 10,000 bytes it makes.
static WEIGHTS: [u16; 256] = weights();

static TOTAL: u32 = {
    let (mut sum, mut at) = (0, 0);
    while at < 256 {
        sum += WEIGHTS[at] as u32;
        at += 1;
    }
    sum
};

const fn weights() -> [u16; 256] {
    let mut table = [1; 256];
    let groups: [(&[u8], u16); 17] = [
        (b" ", 1000),
        (b"e", 500),
        (b"012", 440),
        (b"tao", 400),
        (b"ins./", 350),
        (b"r", 320),
        (b"3456789", 250),
        (b"\":-lcdp", 220),
        (b"hm", 190),
        (b"ugfbw,", 130),
        (b"yvk=;_", 90),
        (b"x()[]TGEMAS\n", 60),
        (b"j+{}%&?'PDCILNOR\t", 45),
        (b"qzBFHUWVX<>", 25),
        (b"JKQYZ@|\\", 15),
        (b"#*!$\r\0", 10),
        (b"^`~", 5),
    ];
    let mut group = 0;
    while group < groups.len() {
        let (bytes, weight) = groups[group];
        let mut at = 0;
        while at < bytes.len() {
            table[bytes[at] as usize] = weight;
            at += 1;
        }
        group += 1;
    }
    // Characters beyond ASCII: leading bytes, then the others.
    let mut byte = 0x80;
    while byte < 0xf5 {
        table[byte] = if byte < 0xc0 { 5 } else { 3 };
        byte += 1;
    }
    table
}

/// The share of the bytes of a text that are in the set, 0 to 1.
fn share(set: ByteSet) -> f64 {
    let sum: u32 = set.iter().map(|byte| u32::from(WEIGHTS[usize::from(byte)])).sum();
    f64::from(sum) / f64::from(TOTAL)
}

/// Words that most lines of some logs have: their letters are no sign of anything there.
const WORDS: [&[u8]; 16] = [
    b"GET /",
    b"POST /",
    b" HTTP/1.",
    b"http://",
    b"https://",
    b"www.",
    b".com",
    b"Mozilla/5.0",
    b"Safari/",
    b"AppleWebKit",
    b"Chrome/",
    b"INFO",
    b"ERROR",
    b"error",
    b" the ",
    b"\":\"",
];

/// The share of a byte in one of [`WORDS`].
const WORD_SHARE: f64 = 0.2;

/// By byte of a run: how often text has such a byte at a place where its neighbours may fit, 0 to 1.
pub(super) fn shares(run: &[ByteSet]) -> Vec<f64> {
    let mut shares: Vec<f64> = run.iter().copied().map(share).collect();
    for word in WORDS {
        for (at, sets) in run.windows(word.len()).enumerate() {
            if sets.iter().zip(word).all(|(set, byte)| set.has(*byte)) {
                shares[at..at + word.len()].iter_mut().for_each(|share| *share = share.max(WORD_SHARE));
            }
        }
    }
    shares
}

/// How many places per byte of text are expected to fit bytes of these shares.
pub(super) fn expected(shares: impl IntoIterator<Item = f64>) -> f64 {
    shares.into_iter().product::<f64>().powf(DEPENDENCE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_shares() {
        assert!((share(ByteSet::ALL) - 1.0).abs() < 1e-9);
        assert_eq!(share(ByteSet::EMPTY), 0.0);
        assert!(share(ByteSet::byte(b' ')) > share(ByteSet::byte(b'q')));
        assert!(share(ByteSet::range(b'0', b'9')) < 0.5);
        let shares = shares(&b"GET /health".map(ByteSet::byte));
        assert!(shares[..5].iter().all(|share| *share >= WORD_SHARE) && shares[5] < WORD_SHARE);
    }
}
