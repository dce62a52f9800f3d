//! The explain pages: every wrong example gives its code, and no other error; every right one does not.

#[path = "support/checking.rs"]
#[allow(dead_code, reason = "only a part of it is needed")]
mod checking;

use checking::{Texts, check_with, library};
use flow_check::Options;
use flow_diag::all_codes;

/// The fenced blocks of a page with their info strings.
fn blocks(page: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in page.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(info)) => open = Some((info.to_owned(), String::new())),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some((_, text)), None) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, None) => {}
        }
    }
    blocks
}

/// What an example is checked with: it says `# flowc check --strict` where that is meant, and a page that speaks of
/// memory speaks of a host with 4 GiB.
fn options(example: &str) -> Options {
    let strict = example.lines().any(|line| line == "# flowc check --strict");
    Options { strict, memory_bytes: Some(4 << 30), ..Options::default() }
}

#[test]
fn every_page_says_what_it_is_about() {
    for entry in all_codes() {
        let first = entry.page.lines().next().unwrap_or("");
        assert!(first.starts_with(&format!("# {}: ", entry.name)), "{}: {first}", entry.name);
        assert!(entry.page.len() > 100, "{} explains nothing", entry.name);
    }
}

#[test]
fn the_examples_do_what_their_page_says() {
    let library = library();
    let mut failures = Vec::new();
    for entry in all_codes() {
        let blocks = blocks(entry.page);
        let imports = || {
            let named = blocks.iter().filter_map(|(info, text)| {
                Some((info.strip_prefix("flow ")?.trim().to_owned(), text.clone()))
            });
            Texts(named.collect())
        };
        let examples: Vec<&String> =
            blocks.iter().filter(|(info, _)| info == "flow").map(|(_, text)| text).collect();
        let [wrong, right] = examples[..] else {
            if !examples.is_empty() {
                failures.push(format!("{}: {} examples", entry.name, examples.len()));
            }
            continue;
        };
        let found = check_with(&library, "wrong.flow", wrong, imports(), &options(wrong));
        let others = found.errors().into_iter().filter(|code| code != entry.name && code != "F0116").count();
        if !found.codes().iter().any(|code| code == entry.name) || others > 0 {
            failures.push(format!("{} wrong example gives:\n{}", entry.name, found.shown()));
        }
        let found = check_with(&library, "right.flow", right, imports(), &options(right));
        let errors = found.errors().into_iter().filter(|code| code != "F0116").count();
        if found.codes().iter().any(|code| code == entry.name) || errors > 0 {
            failures.push(format!("{} right example gives:\n{}", entry.name, found.shown()));
        }
    }
    assert!(failures.is_empty(), "{} pages:\n{}", failures.len(), failures.join("\n"));
}
