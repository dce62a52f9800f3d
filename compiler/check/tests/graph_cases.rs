//! The cases of `tests/graph`: programs that are read well and built wrong. Each says in comments what is reported
//! where; `FLOW_UPDATE=1 cargo test -p flow-check --test graph_cases` writes the comments anew.

mod common;
mod support;

use std::fs;
use std::path::PathBuf;

use common::{Disk, check_file, flow_files, options_of, repository};
use flow_check::{Checked, Library, check};
use flow_diag::{Files, expect};
use flow_plan::function::Functions;
use support::KINDS;

/// With the functions of the library, and with kinds that do not change when the library does.
fn kinds() -> Library {
    let functions = fs::read_to_string(repository().join("stdlib/functions.flow")).expect("declarations");
    let texts = [("functions.flow", functions.as_str()), ("kinds.flow", KINDS)];
    let (library, files, diagnostics) = Library::from_declarations(texts, Functions::new());
    assert!(diagnostics.is_empty(), "{}", flow_diag::render(&files, &diagnostics, flow_diag::Format::Short));
    library
}

fn check_case(text: &str, library: &Library) -> Checked {
    let mut files = Files::new();
    let root = files.add("case.flow", text);
    check(root, &mut files, &mut Disk, library, &options_of(text))
}

#[test]
fn every_case_gives_what_it_says() {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/graph"));
    let library = kinds();
    let mut tested = 0;
    let mut wrong = String::new();
    let mut paths: Vec<PathBuf> =
        fs::read_dir(&folder).expect("the folder of the cases").flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths.iter().filter(|path| path.extension().is_some_and(|end| end == "flow")) {
        let text = fs::read_to_string(path).expect("a readable case");
        let made = check_case(&text, &library);
        if expect::updating() {
            fs::write(path, expect::update_expectations(&text, &made.diagnostics)).expect("a writable case");
            continue;
        }
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        for line in expect::differences(&text, &made.diagnostics) {
            wrong.push_str(&format!("{name}: {line}\n"));
        }
        // The name of a case begins with its code, which is all that it may give.
        let code = name.get(..5).unwrap_or_default();
        if !expect::parse_expectations(&text).iter().any(|one| one.code.to_string() == code) {
            wrong.push_str(&format!("{name}: {code} is not given\n"));
        }
        tested += 1;
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(expect::updating() || tested >= 40, "{tested}");
}

#[test]
fn every_plan_is_whole() {
    let mut planned = 0;
    for folder in ["tests/flows", "examples", "tests/graph"] {
        for path in flow_files(&repository().join(folder)) {
            let (checked, _) = check_file(&path);
            let Some(plan) = &checked.plan else { continue };
            assert_eq!(flow_check::graph::validate(plan), Vec::<String>::new(), "{}", path.display());
            planned += 1;
        }
    }
    assert!(planned >= 5, "{planned}");
}
