//! Every plant of `tests/flows` checks, apart from kinds that this build does not have; every case of
//! `tests/check` gives exactly the diagnostics written into it. Folders are walked: a file in them is a test.

mod common;

use std::collections::BTreeSet;
use std::fs;

use common::{Disk, check_file, check_with, flow_files, library, options_of, repository};
use flow_diag::{Code, all_codes, expect};

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
        let (checked, _) = check_with(&path.to_string_lossy(), &text, &mut Disk, &options_of(&text));
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

/// Codes up to F0612 are the compiler's alone: each has a case in one of the folders that the tests walk. F0024 is about
/// bytes that are no text, so no text can show it; it is tested with the command line.
#[test]
fn every_code_of_the_compiler_has_a_case() {
    let mut seen = BTreeSet::from([Code::F0024]);
    for folder in ["tests/parse", "tests/check", "tests/graph"] {
        for path in flow_files(&repository().join(folder)) {
            let text = fs::read_to_string(path).expect("the case can be read");
            seen.extend(expect::parse_expectations(&text).into_iter().map(|one| one.code));
        }
    }
    let ours = all_codes().iter().filter(|entry| entry.code <= Code::F0612);
    let missing =
        ours.filter(|entry| !seen.contains(&entry.code)).map(|entry| entry.name).collect::<Vec<_>>();
    assert!(missing.is_empty(), "{missing:?}");
}

/// What an editor or another system leaves in a text is no mistake.
#[test]
fn the_form_of_a_text_does_not_matter() {
    let texts = [
        "",
        "\n\n",
        "# only\n\n## comments\n",
        "tail \"/x\" -> console",
        "\ttail \"/x\"\t->\tconsole",
        "\u{FEFF}tail \"/x\" -> console\n",
        "tail \"/x\" -> console\r\n# c\r\nsource a = tail \"/y\" {\r\n  from: end # c\r\n}\r\na -> console\r\n",
    ];
    for text in texts {
        let (checked, files) = check_with("form.flow", text, &mut Disk, &Default::default());
        let shown = flow_diag::render(&files, &checked.diagnostics, flow_diag::Format::Short);
        assert!(checked.diagnostics.is_empty(), "{text:?}: {shown}");
    }
    let many = (0..5_000).map(|n| format!("\"v{n}\"")).collect::<Vec<_>>().join(", ");
    let long = format!(
        "interceptor f {{ if header.a in [{many}] {{ drop }} }}\nhttp \"127.0.0.1:1\" -> f -> console\n"
    );
    let (checked, _) = check_with("long.flow", &long, &mut Disk, &Default::default());
    assert!(checked.diagnostics.is_empty());
}
