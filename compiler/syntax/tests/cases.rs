//! Every file under `tests/parse` is a case: what it expects is written in it, and `FLOW_UPDATE=1` rewrites that.
//!
//! A file in `tests/parse` is parsed as it stands, expectations included, because those are comments.

use std::path::{Path, PathBuf};

use flow_diag::{Code, FileId, all_codes, expect};
use flow_syntax::parse_file;

fn cases(folder: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests").join(folder);
    let entries = std::fs::read_dir(&root).expect("the folder of cases is there");
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "flow"));
    paths.sort();
    paths
}

#[test]
fn every_case_reports_what_it_says() {
    let cases = cases("parse");
    assert!(cases.len() >= 40, "only {} cases found", cases.len());
    let mut failures = String::new();
    for path in cases {
        let text = std::fs::read_to_string(&path).expect("the case was listed");
        let diagnostics = parse_file(FileId(0), &text).diagnostics;
        if expect::updating() {
            let updated = expect::update_expectations(&text, &diagnostics);
            if updated != text {
                std::fs::write(&path, updated).expect("the case can be written");
            }
            continue;
        }
        for difference in expect::differences(&text, &diagnostics) {
            failures += &format!("{}: {difference}\n", path.display());
        }
    }
    assert!(failures.is_empty(), "FLOW_UPDATE=1 rewrites the expectations\n{failures}");
}

/// No code of the parser is without a case. F0024 is about bytes that are no text and has its test beside its code.
#[test]
fn every_syntax_code_has_a_case() {
    let mut seen = std::collections::BTreeSet::from([Code::F0024]);
    for path in cases("parse") {
        let text = std::fs::read_to_string(&path).expect("the case was listed");
        seen.extend(expect::parse_expectations(&text).into_iter().map(|expectation| expectation.code));
    }
    let missing: Vec<&str> = all_codes()
        .iter()
        .filter(|entry| entry.name < "F0100" && !seen.contains(&entry.code))
        .map(|entry| entry.name)
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}
