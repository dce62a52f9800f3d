//! Every plant of `tests/flows` checks, apart from kinds that this build does not have; every case of
//! `tests/check` gives exactly the diagnostics written into it. Folders are walked: a file in them is a test.

mod common;

use std::fs;

use common::{Disk, check_file, check_text, flow_files, library, repository};
use flow_diag::expect;

#[test]
fn the_library_has_no_mistakes() {
    let (library, files, diagnostics) = library();
    assert!(diagnostics.is_empty(), "{}", flow_diag::render(&files, &diagnostics, flow_diag::Format::Short));
    let diagnostics = flow_check::check_library(&library, &files);
    assert!(diagnostics.is_empty(), "{}", flow_diag::render(&files, &diagnostics, flow_diag::Format::Short));
}

#[test]
fn the_plants_check_apart_from_kinds_to_come() {
    let mut failures = String::new();
    for path in flow_files(&repository().join("tests/flows")) {
        let (checked, files) = check_file(&path);
        let unexpected = checked
            .diagnostics
            .iter()
            .filter(|one| one.code != flow_diag::Code::F0116)
            .cloned()
            .collect::<Vec<_>>();
        if !unexpected.is_empty() {
            failures += &flow_diag::render(&files, &unexpected, flow_diag::Format::Short);
        }
    }
    assert!(failures.is_empty(), "\n{failures}");
}

#[test]
fn cases_give_what_they_say() {
    let mut failures = String::new();
    for path in flow_files(&repository().join("tests/check")) {
        let text = fs::read_to_string(&path).expect("the case can be read");
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let (checked, _) = check_text(&path.to_string_lossy(), &text, &mut Disk);
        let in_case = checked
            .diagnostics
            .iter()
            .filter(|one| one.primary.span.file.0 == 0)
            .cloned()
            .collect::<Vec<_>>();
        if expect::updating() {
            let updated = expect::update_expectations(&text, &in_case);
            fs::write(&path, updated).expect("the case can be written");
            continue;
        }
        for difference in expect::differences(&text, &in_case) {
            failures += &format!("{name}: {difference}\n");
        }
    }
    assert!(failures.is_empty(), "\n{failures}");
}
