//! How often bytes are met in text that programs log: the order of tests and the choice of probes follow it. Rough
//! figures are enough, and wrong ones cost time only.

use crate::automaton::ByteSet;

/// Letters by how frequent they are in English and in paths and names of logs, per mille of all bytes.
const LETTERS: &[(u8, u16)] = &[
    (b'e', 55),
    (b't', 45),
    (b'a', 42),
    (b'o', 42),
    (b'i', 40),
    (b'n', 36),
    (b's', 36),
    (b'r', 34),
    (b'l', 24),
    (b'c', 24),
    (b'd', 20),
    (b'p', 20),
    (b'm', 20),
    (b'h', 17),
    (b'u', 14),
    (b'g', 13),
    (b'w', 10),
    (b'f', 9),
    (b'b', 9),
    (b'k', 7),
    (b'v', 7),
    (b'x', 6),
    (b'y', 6),
    (b'j', 3),
    (b'z', 4),
    (b'q', 2),
];

/// Of one byte, per mille.
pub(super) fn weight(byte: u8) -> u32 {
    match byte {
        b'a'..=b'z' => {
            LETTERS.iter().find(|(letter, _)| *letter == byte).map_or(5, |(_, per_mille)| (*per_mille).into())
        }
        b' ' => 70,
        b'0' | b'1' | b'2' => 35,
        b'3'..=b'9' => 20,
        b'/' | b'.' | b'-' => 25,
        b'"' => 20,
        b':' | b'=' | b',' | b'_' => 12,
        // Methods of HTTP.
        b'G' | b'E' | b'T' | b'P' => 14,
        b'A'..=b'Z' => 5,
        b'\n' | b'\t' => 4,
        0x21..=0x7e => 4,
        0x80..=0xbf => 2,
        _ => 1,
    }
}

pub(super) fn weight_of(set: ByteSet) -> u32 {
    set.iter().map(weight).sum()
}
