//! What several tests of this crate share: the regex crate's own test data, hostile variations of texts, and the
//! answers of the reference.

use std::path::PathBuf;
use std::process::Command;

use flow_plan::eval::build_regex;
use flow_plan::settings::RegexSetting;
use regex::bytes::Regex;
use regex_test::RegexTests;

use crate::automaton::NONE;

/// Patterns and a text of the regex crate's test data.
pub(crate) struct Case {
    pub name: String,
    pub patterns: Vec<RegexSetting>,
    pub text: Vec<u8>,
}

/// The regex crate's test data, which its published package carries. Its expectations are left aside: the regex
/// crate itself is asked, so that cases about other ways to search serve as well. Says on stderr what is skipped.
pub(crate) fn regex_cases() -> Vec<Case> {
    let folder = regex_package().join("testdata");
    let mut tests = RegexTests::new();
    for folder in [folder.clone(), folder.join("fowler")] {
        let entries =
            std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "toml"))
        {
            tests.load(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        }
    }
    let mut cases = Vec::new();
    let mut skipped = 0;
    for test in tests.iter() {
        let patterns: Vec<RegexSetting> = test
            .regexes()
            .iter()
            .map(|pattern| RegexSetting {
                pattern: if test.unicode() { pattern.clone() } else { format!("(?-u){pattern}") },
                flags: if test.case_insensitive() { "i".into() } else { String::new() },
            })
            .collect();
        if patterns.iter().any(|pattern| build_regex(pattern).is_err()) {
            skipped += 1;
            continue;
        }
        cases.push(Case { name: test.full_name().to_string(), patterns, text: test.haystack().to_vec() });
    }
    eprintln!("{} cases of the regex crate; {skipped} skipped whose regex is an error", cases.len());
    assert!(
        cases.len() > 1_000,
        "the test data of the regex crate is not where it was: {}",
        folder.display()
    );
    cases
}

/// Where the package of the regex crate lies.
fn regex_package() -> PathBuf {
    let metadata = |offline: &[&str]| {
        let output = Command::new(env!("CARGO"))
            .args(["metadata", "--format-version", "1"])
            .args(offline)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .expect("cargo runs");
        output.status.success().then_some(output.stdout)
    };
    let metadata = metadata(&["--offline"]).or_else(|| metadata(&[])).expect("`cargo metadata` answers");
    let metadata: serde_json::Value = serde_json::from_slice(&metadata).expect("`cargo metadata` gives JSON");
    let package = metadata["packages"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|package| package["name"] == "regex")
        .expect("the regex crate is a dependency");
    let manifest = PathBuf::from(package["manifest_path"].as_str().expect("a package has a manifest"));
    manifest.parent().expect("a manifest lies in a folder").to_path_buf()
}

/// The text, and variations of it: cut, doubled, broken, with characters beyond ASCII and bytes that are none.
pub(crate) fn variations(text: &[u8]) -> Vec<Vec<u8>> {
    let middle = text.len() / 2;
    let insert = |at: usize, bytes: &[u8]| [&text[..at], bytes, &text[at..]].concat();
    let mut texts = vec![
        text.to_vec(),
        Vec::new(),
        text[..middle].to_vec(),
        text[middle..].to_vec(),
        [text, text].concat(),
        [b"\n", text, b"\n"].concat(),
        [b"x ", text, b" y"].concat(),
        text.iter().rev().copied().collect(),
        text.to_ascii_uppercase(),
    ];
    for bytes in ["é", "\u{2028}", "𝛃", "\r\n", "\0", "_"].map(str::as_bytes) {
        texts.push(insert(middle, bytes));
    }
    texts.push(insert(0, "ß".as_bytes()));
    texts.push(insert(text.len(), "日".as_bytes()));
    // An overlong form, a surrogate, a lone continuation, a sequence cut short, what never occurs.
    for bytes in [&b"\xc0\xaf"[..], b"\xed\xa0\x80", b"\x80", b"\xe2\x82", b"\xff"] {
        texts.push(insert(middle, bytes));
    }
    texts
}

/// What the reference finds: the slots of the leftmost-first match, [`NONE`] for groups that took no part.
pub(crate) fn reference_slots(regex: &Regex, text: &[u8]) -> Option<Vec<u32>> {
    let captures = regex.captures(text)?;
    let spans = captures.iter().flat_map(|group| match group {
        Some(group) => [group.start() as u32, group.end() as u32],
        None => [NONE, NONE],
    });
    Some(spans.collect())
}
