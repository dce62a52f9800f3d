//! The declarations in `*.flow` and the implementations in Rust are one list: what is declared can be built unless
//! it is `absent`, what can be built is declared, and the settings of both sides are the same.
//!
//! The declarations are read line by line: the library must not know the compiler.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use flow_agent::{Context, Fault};
use flow_plan::Settings;
use serde_json::{Value, json};

struct Declared {
    word: String,
    name: String,
    /// (name, type), parameters first; without defaults and docs.
    settings: Vec<(String, String)>,
    absent: bool,
}

/// All kinds of all files.
fn declared() -> Vec<Declared> {
    let mut kinds: Vec<Declared> = Vec::new();
    for (_, text) in flow_stdlib::DECLARATIONS {
        let mut in_body = false;
        for line in text.lines() {
            let code = line.split("##").next().unwrap_or_default().trim_end();
            if let Some(rest) = code.strip_prefix("extern ") {
                let (word, rest) = rest.split_once(' ').unwrap();
                let end =
                    rest.find(|char: char| !char.is_alphanumeric() && char != '_').unwrap_or(rest.len());
                let settings = match rest[end..].strip_prefix('(').and_then(|rest| rest.split_once(')')) {
                    Some((params, _)) if word != "fn" => params.split(", ").filter_map(setting).collect(),
                    _ => Vec::new(),
                };
                in_body = code.ends_with('{');
                let (word, name) = (word.to_owned(), rest[..end].to_owned());
                kinds.push(Declared { word, name, settings, absent: is_absent(code) });
            } else if code.starts_with('}') {
                in_body = false;
                if let Some(kind) = kinds.last_mut() {
                    kind.absent |= is_absent(code);
                }
            } else if in_body
                && let Some(setting) = setting(code)
                && let Some(kind) = kinds.last_mut()
            {
                kind.settings.push(setting);
            }
        }
    }
    kinds
}

fn is_absent(clauses: &str) -> bool {
    clauses.split_once(" can ").is_some_and(|(_, abilities)| {
        abilities
            .split(" sets ")
            .next()
            .unwrap_or_default()
            .split(", ")
            .any(|ability| ability.trim() == "absent")
    })
}

fn setting(code: &str) -> Option<(String, String)> {
    let (name, rest) = code.trim().split_once(':')?;
    let ty = rest.split(" = ").next()?.trim();
    Some((name.trim().to_owned(), ty.to_owned()))
}

/// A value that the type allows.
fn example(ty: &str) -> Value {
    let ty = ty.split(" 1..").next().unwrap_or(ty);
    if ty.ends_with('?') {
        return Value::Null;
    }
    if let Some(choices) = ty.strip_prefix("one_of<") {
        return json!(choices.split([',', '>', '(']).next().unwrap());
    }
    match ty.split('<').next().unwrap() {
        "int" | "size" | "duration" => json!(1),
        "bool" => json!(true),
        "list" => json!([]),
        "map" => json!({}),
        "template" => json!({"template": [{"text": "/nowhere/x.log"}]}),
        "url" => json!("http://127.0.0.1:9/"),
        "address" => json!("127.0.0.1:9"),
        // A file mode, for one.
        "string" => json!("7"),
        other => panic!("no example for the type `{other}`"),
    }
}

fn context() -> Context {
    Context {
        name: "part".to_owned(),
        agent: "main".to_owned(),
        state_dir: Path::new("/nowhere/state").to_owned(),
        slots: Arc::default(),
        functions: flow_stdlib::registry().functions,
        secrets: Arc::default(),
        host: "localhost".to_owned(),
    }
}

#[test]
fn what_is_declared_can_be_built_and_what_can_be_built_is_declared() {
    let registry = flow_stdlib::registry();
    let kinds = declared();
    let built: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::from([
        ("source", registry.sources.keys().copied().collect()),
        ("channel", registry.channels.keys().copied().collect()),
        ("sink", registry.sinks.keys().copied().collect()),
        ("interceptor", registry.interceptors.names().collect()),
        ("fn", registry.functions.names().collect()),
    ]);
    for (word, built) in built {
        let of_word = || kinds.iter().filter(|kind| kind.word == word);
        let present: BTreeSet<&str> =
            of_word().filter(|kind| !kind.absent).map(|kind| kind.name.as_str()).collect();
        // FIXME: sources are declared before they are built; then both must be equal here, too.
        if word == "source" {
            assert!(built.is_subset(&present), "registered but not declared: {word} {built:?}");
        } else {
            assert_eq!(present, built, "declared on the left, registered on the right: {word}");
        }
    }
}

#[test]
fn no_kind_is_declared_twice() {
    let mut seen = BTreeSet::new();
    // Functions may have several signatures.
    for kind in declared().into_iter().filter(|kind| kind.word != "fn") {
        assert!(seen.insert((kind.word.clone(), kind.name.clone())), "{} {}", kind.word, kind.name);
    }
}

#[test]
fn declared_settings_are_the_settings_of_the_code() {
    let registry = flow_stdlib::registry();
    let context = context();
    for kind in declared().into_iter().filter(|kind| !kind.absent) {
        let build = |settings: &Settings| -> Result<(), Fault> {
            match kind.word.as_str() {
                "sink" => registry.sinks[kind.name.as_str()](settings, &context).map(drop),
                "channel" => registry.channels[kind.name.as_str()](settings, &context).map(drop),
                _ => Ok(()),
            }
        };
        if !matches!(kind.word.as_str(), "sink" | "channel") {
            continue;
        }
        let settings: Settings = kind.settings.iter().map(|(name, ty)| (name.clone(), example(ty))).collect();
        let what = format!("{} {}", kind.word, kind.name);
        build(&settings).unwrap_or_else(|fault| panic!("{what}: {fault}"));
        // Absent settings are null and stand there all the same, so one less must be noticed, and one more.
        let required: Vec<_> = kind.settings.iter().filter(|(_, ty)| !ty.contains('?')).collect();
        for (name, _) in required {
            let mut less = settings.clone();
            less.remove(name);
            assert!(build(&less).is_err(), "{what} does not read `{name}`, or gives it a default of its own");
        }
        let mut more = settings.clone();
        more.insert("unheard_of".to_owned(), Value::Null);
        assert!(build(&more).is_err(), "{what} takes settings that are not declared");
    }
}
