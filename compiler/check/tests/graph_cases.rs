//! The cases of `tests/graph`: programs that are read well and built wrong. Each says in comments what is reported
//! where; `FLOW_UPDATE=1 cargo test -p flow-check --test graph_cases` writes the comments anew.

mod support;

use std::fs;
use std::path::PathBuf;

use flow_diag::expect;
use support::make;

#[test]
fn every_case_gives_what_it_says() {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/graph"));
    let mut tested = 0;
    let mut wrong = String::new();
    let mut paths: Vec<PathBuf> =
        fs::read_dir(&folder).expect("the folder of the cases").flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths.iter().filter(|path| path.extension().is_some_and(|end| end == "flow")) {
        let text = fs::read_to_string(path).expect("a readable case");
        let made = make(&text);
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
