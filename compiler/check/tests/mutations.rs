//! Broken text never makes the checker panic: examples with words deleted, doubled, swapped and replaced.

mod common;

use common::{Disk, check_text, flow_files, repository};

/// Mutations of each file.
const PER_FILE: u64 = 25;

#[test]
fn mutated_examples_do_not_panic() {
    let mut files = flow_files(&repository().join("tests/flows"));
    files.extend(flow_files(&repository().join("tests/check")));
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for path in files {
        let text = std::fs::read_to_string(&path).expect("the file can be read");
        let words = words(&text);
        for _ in 0..PER_FILE {
            let mutated = mutate(&text, &words, &mut random);
            let name = path.to_string_lossy();
            let result = std::panic::catch_unwind(|| check_text(&name, &mutated, &mut Disk));
            assert!(result.is_ok(), "{name} panics when it is\n{mutated}");
        }
    }
}

/// Byte ranges of words and of single marks.
fn words(text: &str) -> Vec<(usize, usize)> {
    let mut words = Vec::new();
    let mut start = None;
    for (at, char) in text.char_indices() {
        let inside = char.is_alphanumeric() || char == '_';
        match (start, inside) {
            (None, true) => start = Some(at),
            (Some(begin), false) => {
                words.push((begin, at));
                start = None;
            }
            _ => {}
        }
        if !inside && !char.is_whitespace() {
            words.push((at, at + char.len_utf8()));
        }
    }
    words
}

fn mutate(text: &str, words: &[(usize, usize)], random: &mut Random) -> String {
    let mut out = text.to_owned();
    if words.is_empty() {
        return out;
    }
    let (start, end) = words[random.below(words.len())];
    let (other_start, other_end) = words[random.below(words.len())];
    let word = &text[start..end];
    let replacement = match random.below(5) {
        0 => String::new(),
        1 => format!("{word} {word}"),
        2 => text[other_start..other_end].to_owned(),
        3 => format!("{word}x"),
        _ => ["{", "}", "(", "[", "->", "null", "1h", "/a(/", "\"${\"", "..", "header.x", "-1"]
            [random.below(12)]
        .to_owned(),
    };
    out.replace_range(start..end, &replacement);
    out
}

/// xorshift: the same mutations in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}
