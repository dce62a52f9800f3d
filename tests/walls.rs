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
    ("runtime/log", &[]),
    ("runtime/broker", &["flow-log"]),
    ("runtime/coordinator", &["flow-log"]),
    ("stdlib", &["flow-plan", "flow-agent", "flow-log", "flow-broker", "flow-coordinator"]),
    (
        ".",
        &[
            "flow-diag",
            "flow-syntax",
            "flow-check",
            "flow-jit",
            "flow-plan",
            "flow-agent",
            "flow-broker",
            "flow-coordinator",
            "flow-stdlib",
        ],
    ),
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
    ("kafka-protocol", "runtime/broker"),
    ("openraft", "runtime/coordinator"),
    ("rusqlite", "stdlib"),
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
            inside = matches!(line, "[dependencies]" | "[build-dependencies]")
                || (line == "[dev-dependencies]" && folder != ".");
        } else if inside && !line.is_empty() && !line.starts_with('#') {
            let name = line.split(['=', '.', ' ']).next().unwrap_or("");
            names.insert(name.to_owned());
        }
    }
    names
}

/// A list of texts in the root manifest.
fn list(key: &str) -> Vec<String> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    let key = format!("\n{key} = [");
    let start = text.find(&key).unwrap_or_else(|| panic!("no {key}")) + key.len();
    let end = start + text[start..].find(']').unwrap();
    text[start..end].split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

fn members() -> Vec<String> {
    let members = list("members");
    let mut default_members = list("default-members");
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
        // A crate may name itself, for what only its tests switch on.
        let itself = format!("flow-{}", folder.rsplit('/').next().unwrap_or(folder));
        for name in ours.iter().filter(|name| **name != itself) {
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

/// What is only compared with in a benchmark (VRL brings some two hundred libraries) is built by nobody who does not
/// ask for that benchmark.
#[test]
fn contenders_and_fuzzers_are_no_part_of_the_build() {
    const OUTSIDE: [&str; 2] = ["tests/bench/contenders", "tests/fuzz"];
    assert_eq!(list("exclude"), OUTSIDE);
    for outside in OUTSIDE {
        assert!(!members().iter().any(|member| member.starts_with(outside)));
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(outside);
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        assert!(manifest.contains("\n[workspace]\n"), "{outside} is a workspace of its own");
        assert!(folder.join("Cargo.lock").is_file(), "with its own lock file");
    }
    let lock = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock")).unwrap();
    for library in ["vrl", "pcre2", "libfuzzer-sys"] {
        assert!(!lock.contains(&format!("name = \"{library}\"\n")), "the project must not know {library}");
    }
}
