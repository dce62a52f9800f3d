//! The declarations in `*.flow` and the implementations in Rust are one list: what is declared can be built unless
//! it is `absent`, what can be built is declared, and the settings of both sides are the same.
//!
//! The declarations are read line by line: the library must not know the compiler.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use flow_agent::{Context, Fault};
use flow_plan::Settings;
use flow_plan::interceptor::{LowerContext, Lowered};
use flow_plan::plan::OriginId;
use serde_json::{Value, json};

struct Declared {
    word: String,
    name: String,
    /// (name, type), parameters first; without defaults and docs.
    settings: Vec<(String, String)>,
    absent: bool,
    /// Interceptors: batches must pass one after the other.
    stateful: bool,
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
                let (absent, stateful) = (can(code, "absent"), can(code, "stateful"));
                kinds.push(Declared { word, name, settings, absent, stateful });
            } else if code.starts_with('}') {
                in_body = false;
                if let Some(kind) = kinds.last_mut() {
                    kind.absent |= can(code, "absent");
                    kind.stateful |= can(code, "stateful");
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

fn can(clauses: &str, ability: &str) -> bool {
    clauses.split_once(" can ").is_some_and(|(_, abilities)| {
        abilities.split(" sets ").next().unwrap_or_default().split(", ").any(|known| known.trim() == ability)
    })
}

fn setting(code: &str) -> Option<(String, String)> {
    let (name, rest) = code.trim().split_once(':')?;
    let ty = rest.split(" = ").next()?.trim();
    Some((name.trim().to_owned(), ty.to_owned()))
}

/// A value that the type allows, for a setting of that name.
fn example(name: &str, ty: &str) -> Value {
    let ty = ty.split(" 1..").next().unwrap_or(ty);
    if ty.ends_with('?') {
        return Value::Null;
    }
    if name == "..." {
        return json!({ "h": "body" });
    }
    if let Some(choices) = ty.strip_prefix("one_of<") {
        let choices = choices.trim_end_matches('>').split(", ");
        return json!(
            choices.into_iter().find(|choice| !choice.contains('(')).expect("a choice without a value")
        );
    }
    match ty.split(['<', ' ']).next().unwrap() {
        // A status, for one.
        "int" if ty.contains("200..") => json!(200),
        "int" | "size" | "duration" => json!(1),
        "float" => json!(0.5),
        "bool" => json!(false),
        "list" if ty == "list<regex>" => json!([{"pattern": "x", "flags": ""}]),
        "list" if name == "names" => json!(["h"]),
        "list" if name == "shell" => json!(["/bin/sh", "-c"]),
        "list" => json!([]),
        "map" => json!({}),
        "template" => json!({"template": [{"text": "/nowhere/x.log"}]}),
        "expr" => json!("body"),
        "regex" => json!({"pattern": "(?<h>x)", "flags": ""}),
        "glob" => json!("/nowhere/*.log"),
        "path" => json!("/nowhere"),
        "ref" => json!("zk"),
        // Another one than the header that is renamed.
        "header" if name == "to" => json!("k"),
        "header" => json!("h"),
        "url" => json!("http://127.0.0.1:9/"),
        "address" if name == "listen" => json!("127.0.0.1:0"),
        "address" => json!("127.0.0.1:9"),
        // A file mode, for one; a time zone, for another.
        "string" if name == "zone" => json!("UTC"),
        "string" if name == "path" => json!("/nowhere"),
        "string" => json!("7"),
        other => panic!("no example for the type `{other}`"),
    }
}

/// The fields of which a struct says that they may be there, out of what it says about one that may not.
fn expected_fields(message: &str) -> BTreeSet<String> {
    let expected = message.split_once(", expected").map_or("", |(_, expected)| expected);
    expected.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn context(state: &Path) -> Context {
    Context {
        name: "part".to_owned(),
        agent: "main".to_owned(),
        state_dir: state.to_owned(),
        slots: Arc::default(),
        functions: flow_stdlib::registry().functions,
        secrets: Arc::default(),
        host: "localhost".to_owned(),
        services: Default::default(),
    }
}

fn is_of_topics(kind: &Declared) -> bool {
    matches!(kind.word.as_str(), "topic" | "consumer")
}

/// Parts that need a cluster or an ensemble.
fn needs_a_service(kind: &Declared) -> bool {
    is_of_topics(kind) || kind.name == "znodes"
}

/// What the compiler adds to the settings of a topic and of its readers.
fn added(word: &str) -> Vec<(String, Value)> {
    match word {
        "topic" => vec![("cluster".to_owned(), json!("events"))],
        "consumer" => vec![
            ("cluster".to_owned(), json!("events")),
            ("topic".to_owned(), json!("orders")),
            ("group".to_owned(), json!("billing")),
            ("once".to_owned(), json!(false)),
            ("transactional".to_owned(), json!(false)),
        ],
        _ => Vec::new(),
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
        ("cluster", registry.services.keys().copied().collect()),
        ("interceptor", registry.interceptors.names().collect()),
        ("fn", registry.functions.names().collect()),
    ]);
    for (word, mut built) in built {
        // What is written to a topic enters a channel, and a reader of one is a source; they have words of their own.
        built.retain(|name| !kinds.iter().any(|kind| is_of_topics(kind) && kind.name == *name));
        let of_word = || kinds.iter().filter(|kind| kind.word == word);
        let present: BTreeSet<&str> =
            of_word().filter(|kind| !kind.absent).map(|kind| kind.name.as_str()).collect();
        assert_eq!(present, built, "declared on the left, registered on the right: {word}");
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
    // Channels take their place when they are built.
    let state = tempfile::tempdir().unwrap();
    let context = context(&state.path().join("part"));
    let database = state.path().join("buf.db");
    let slots = ["h".to_owned(), "k".to_owned()];
    let lower_context =
        LowerContext { slots: &slots, name: "part", origin: OriginId(0), functions: &registry.functions };
    let mut checked = BTreeMap::<String, usize>::new();
    for kind in declared().into_iter().filter(|kind| !kind.absent) {
        let name = kind.name.as_str();
        let build = |settings: &Settings| -> Result<(), String> {
            let said = |fault: Fault| fault.message;
            match kind.word.as_str() {
                "source" | "consumer" => registry.sources[name](settings, &context).map(drop).map_err(said),
                "sink" => registry.sinks[name](settings, &context).map(drop).map_err(said),
                "channel" | "topic" => registry.channels[name](settings, &context).map(drop).map_err(said),
                "interceptor" => {
                    let lower = registry.interceptors.get(name).expect("it is registered");
                    let lowered = lower(settings, &lower_context).map_err(|error| error.message)?;
                    let native = matches!(lowered, Lowered::Native(_));
                    assert_eq!(kind.stateful, native, "`stateful` of `{name}`, and what its code gives");
                    Ok(())
                }
                _ => Ok(()),
            }
        };
        let words = ["source", "sink", "channel", "interceptor", "topic", "consumer"];
        if !words.contains(&kind.word.as_str()) {
            continue;
        }
        *checked.entry(kind.word.clone()).or_default() += 1;
        let mut settings: Settings =
            kind.settings.iter().map(|(name, ty)| (name.clone(), example(name, ty))).collect();
        let keeps = kind.word == "channel" || (kind.word == "sink" && kind.name == "database");
        if keeps && settings.contains_key("path") {
            settings.insert("path".to_owned(), json!(database));
        }
        let added = added(&kind.word);
        let settings: Settings = settings.into_iter().chain(added.clone()).collect();
        let what = format!("{} {}", kind.word, kind.name);
        // Here is no service, and that is found out when the settings are understood.
        match build(&settings) {
            Err(fault) if needs_a_service(&kind) => assert!(fault.contains("no service"), "{what}: {fault}"),
            built => built.unwrap_or_else(|fault| panic!("{what}: {fault}")),
        }
        // Absent settings are null and stand there all the same, so one less must be noticed.
        let required: Vec<_> = kind.settings.iter().filter(|(_, ty)| !ty.contains('?')).collect();
        for (name, _) in required {
            let mut less = settings.clone();
            less.shift_remove(name);
            let refused = build(&less).is_err_and(|fault| !fault.contains("no service"));
            assert!(refused, "{what} does not read `{name}`, or gives it a default of its own");
        }
        // One more must be noticed, too; what is said of it names every field there is.
        let mut more = settings.clone();
        more.insert("unheard_of".to_owned(), Value::Null);
        let message = build(&more).expect_err(&what);
        let fields = expected_fields(&message);
        let own = kind.settings.iter().map(|(name, _)| name.clone());
        let names: BTreeSet<String> = own.chain(added.into_iter().map(|(name, _)| name)).collect();
        assert_eq!(names, fields, "declared on the left, in the code on the right: {what}: {message}");
    }
    assert!(
        ["source", "sink", "channel", "interceptor", "topic", "consumer"]
            .iter()
            .all(|word| checked[*word] > 0),
        "{checked:?}"
    );
}
