//! The walls between the crates, read from the manifests: which of ours may import which, and which library has
//! only one user.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Manifest folder and the crates of ours that it may import.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("compiler/diag", &[]),
    ("compiler/syntax", &["flow-diag"]),
    ("compiler/check", &["flow-diag", "flow-syntax", "flow-plan"]),
    ("compiler/jit", &["flow-plan"]),
    ("runtime/plan", &[]),
    ("runtime/agent", &["flow-plan"]),
    ("stdlib", &["flow-plan", "flow-agent"]),
    (".", &["flow-diag", "flow-syntax", "flow-check", "flow-jit", "flow-plan", "flow-agent", "flow-stdlib"]),
];

/// Libraries that one crate alone may know.
const ONLY_USER: &[(&str, &str)] = &[
    ("pest", "compiler/syntax"),
    ("pest_derive", "compiler/syntax"),
    ("miette", "compiler/diag"),
    ("petgraph", "compiler/check"),
    ("cranelift-codegen", "compiler/jit"),
    ("cranelift-frontend", "compiler/jit"),
    ("cranelift-jit", "compiler/jit"),
    ("cranelift-module", "compiler/jit"),
    ("cranelift-native", "compiler/jit"),
    ("clap", "."),
];

/// The names in the dependency tables of a manifest (also of its tests: a wall holds there too, except for the
/// root package, whose tests may look everywhere).
fn dependencies(folder: &str) -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join("Cargo.toml");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut names = BTreeSet::new();
    let mut inside = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            inside = matches!(line, "[dependencies]" | "[dev-dependencies]" | "[build-dependencies]");
        } else if inside && !line.is_empty() && !line.starts_with('#') {
            let name = line.split(['=', '.', ' ']).next().unwrap_or("");
            names.insert(name.to_owned());
        }
    }
    names
}

fn members() -> Vec<String> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    let list = |key: &str| -> Vec<String> {
        let start = text.find(key).unwrap_or_else(|| panic!("no {key}")) + key.len();
        let end = start + text[start..].find(']').unwrap();
        text[start..end].split('"').skip(1).step_by(2).map(str::to_owned).collect()
    };
    let members = list("\nmembers = [");
    let mut default_members = list("\ndefault-members = [");
    default_members.retain(|one| one != ".");
    assert_eq!(members, default_members, "plain `cargo test` must mean every crate");
    members
}

#[test]
fn crates_import_only_what_their_wall_allows() {
    let rules: BTreeMap<&str, &[&str]> = MAY_IMPORT.iter().copied().collect();
    for folder in members().iter().map(String::as_str).chain(["."]) {
        let allowed = rules.get(folder).unwrap_or_else(|| panic!("{folder} has no rule in this test"));
        let ours: Vec<String> =
            dependencies(folder).into_iter().filter(|name| name.starts_with("flow-")).collect();
        for name in &ours {
            assert!(allowed.contains(&name.as_str()), "{folder} must not import {name}");
        }
    }
}

#[test]
fn some_libraries_have_one_user() {
    for folder in members().iter().map(String::as_str).chain(["."]) {
        let names = dependencies(folder);
        for (library, user) in ONLY_USER {
            assert!(folder == *user || !names.contains(*library), "{folder} must not know {library}");
        }
    }
}
