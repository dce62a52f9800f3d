//! The example plants, the wrong ones and the README: what people copy must be right.

#[path = "support/checking.rs"]
#[allow(dead_code, reason = "only a part of it is needed")]
mod checking;

use std::fs;
use std::path::{Path, PathBuf};

use checking::{Texts, check, library};

fn flows_in(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut paths: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "flow"))
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "no flows in {}", folder.display());
    paths
}

/// Kinds that this build does not have give F0116, and that is all.
#[test]
fn the_fifteen_plants_check() {
    let library = library();
    let mut failures = Vec::new();
    let paths = flows_in("tests/flows");
    assert_eq!(paths.len(), 15);
    for path in paths {
        let text = fs::read_to_string(&path).unwrap();
        let found = check(&library, &path.display().to_string(), &text, Texts::default());
        if found.codes().iter().any(|code| code != "F0116") {
            failures.push(found.shown());
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn the_examples_check_without_a_word() {
    let library = library();
    for path in flows_in("examples") {
        let text = fs::read_to_string(&path).unwrap();
        let found = check(&library, &path.display().to_string(), &text, Texts::default());
        assert!(found.checked.plan.is_some() && found.codes().is_empty(), "{}", found.shown());
        assert_eq!(flow_syntax::format(&text).as_deref(), Some(text.as_str()), "{}", path.display());
    }
}

#[test]
fn the_blocks_of_the_pages_check() {
    let library = library();
    for page in ["README.md", "grammar/README.md"] {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page)).unwrap();
        let blocks: Vec<&str> =
            text.split("```flow\n").skip(1).map(|rest| rest.split("```").next().unwrap_or("")).collect();
        assert!(!blocks.is_empty(), "no flows in {page}");
        for block in blocks {
            let found = check(&library, page, block, Texts::default());
            let codes: Vec<String> = found.codes().into_iter().filter(|code| code != "F0410").collect();
            assert!(codes.is_empty(), "{block}\n{}", found.shown());
        }
    }
}
