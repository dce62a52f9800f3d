//! The examples of the explain pages: the wrong one gives the code of its page, the right one gives no error.

mod common;

use std::collections::BTreeMap;

use common::{check_with, library_docs};
use flow_check::{Imports, Options};
use flow_diag::{Code, Severity, all_codes};

/// Found only by a look at the world, by another tool, or at run time.
const ELSEWHERE: &[&str] = &[
    "F0024", "F0607", "F0801", "F0802", "F0803", "F0804", "F0805", "F0806", "F0811", "F0812", "F0813",
    "F0901", "F0904", "F1103", "F1106", "F1109",
];

#[test]
fn wrong_examples_give_the_code_of_their_page() {
    let mut failures = String::new();
    for entry in all_codes() {
        if ELSEWHERE.contains(&entry.name) {
            continue;
        }
        let mut imports = imported(entry.page);
        for (section, text) in examples(entry.page) {
            let found = diagnose(&text, &mut imports);
            let shown =
                found.iter().map(|(code, _, title)| format!("{code} {title}")).collect::<Vec<_>>().join("; ");
            if section == "Wrong" && !found.iter().any(|(code, ..)| *code == entry.code) {
                failures += &format!("{}: the wrong example gives: {shown}\n", entry.name);
            }
            let right_failed = found.iter().any(|(code, severity, _)| {
                *code == entry.code || (*severity == Severity::Error && *code != Code::F0116)
            });
            if section == "Right" && right_failed {
                failures += &format!("{}: the right example gives: {shown}\n", entry.name);
            }
        }
    }
    assert!(failures.is_empty(), "\n{failures}");
}

#[test]
fn examples_of_kinds_check() {
    let mut failures = String::new();
    for (name, text) in library_docs() {
        let found = diagnose(&text, &mut Texts(BTreeMap::new()))
            .into_iter()
            .filter(|(code, severity, _)| *severity == Severity::Error && *code != Code::F0116)
            // a declaration alone leads nowhere, and what it leads to stands elsewhere
            .filter(|(code, ..)| !matches!(*code, Code::F0401 | Code::F0403 | Code::F0707))
            .map(|(code, _, title)| format!("{code} {title}"))
            .collect::<Vec<_>>();
        if !found.is_empty() {
            failures += &format!("{name}: {}\n", found.join("; "));
        }
    }
    assert!(failures.is_empty(), "\n{failures}");
}

fn diagnose(text: &str, imports: &mut Texts) -> Vec<(Code, Severity, String)> {
    // a page that speaks of memory speaks of a host with 4 GiB
    let strict = text.lines().any(|line| line == "# flowc check --strict");
    let options = Options { strict, memory_bytes: Some(4 << 30), ..Options::default() };
    let (checked, _) = check_with("example.flow", text, imports, &options);
    checked.diagnostics.into_iter().map(|one| (one.code, one.severity, one.title)).collect()
}

/// The files that the examples of a page import: fences that name one.
fn imported(page: &str) -> Texts {
    let mut texts = BTreeMap::new();
    let mut inside: Option<(String, String)> = None;
    for line in page.lines() {
        match &mut inside {
            Some((_, text)) => {
                if line.trim() == "```" {
                    texts.extend(inside.take());
                } else {
                    *text += line;
                    *text += "\n";
                }
            }
            None => {
                if let Some(name) = line.strip_prefix("```flow ") {
                    inside = Some((name.trim().to_owned(), String::new()));
                }
            }
        }
    }
    Texts(texts)
}

struct Texts(BTreeMap<String, String>);

impl Imports for Texts {
    fn read(&mut self, _: &str, path: &str) -> Result<(String, String), String> {
        match self.0.get(path) {
            Some(text) => Ok((path.to_owned(), text.clone())),
            None => Err(format!("there is no `{path}`")),
        }
    }
}

/// The fenced examples by the heading above them.
fn examples(page: &str) -> Vec<(String, String)> {
    let mut examples = Vec::new();
    let mut heading = String::new();
    let mut inside: Option<String> = None;
    for line in page.lines() {
        match &mut inside {
            Some(text) => {
                if line.trim() == "```" {
                    examples.push((heading.clone(), inside.take().unwrap_or_default()));
                } else {
                    *text += line;
                    *text += "\n";
                }
            }
            None => {
                if let Some(title) = line.strip_prefix("## ") {
                    heading = title.trim().to_owned();
                } else if line.trim() == "```flow" {
                    inside = Some(String::new());
                }
            }
        }
    }
    examples
}
