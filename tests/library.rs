//! Declarations and implementations agree, and the examples of the library are true.

#[path = "support/checking.rs"]
#[allow(dead_code, reason = "only a part of it is needed")]
mod checking;

use std::collections::BTreeSet;

use checking::{Texts, check, library};
use flow_syntax::ast::{Extern, ExternWord};

fn is_absent(one: &Extern) -> bool {
    one.abilities.iter().any(|ability| ability.text == "absent")
}

fn declared(externs: &[Extern], word: ExternWord) -> BTreeSet<&str> {
    let present = externs.iter().filter(|one| one.word == word && !is_absent(one));
    present.map(|one| one.name.text.as_str()).collect()
}

#[test]
fn what_is_declared_is_there_and_what_is_there_is_declared() {
    let library = library();
    let registry = flow_stdlib::registry();
    // What is written to a topic enters a channel, and a reader of one is a source; they have words of their own.
    let own = |word: ExternWord| declared(&library.externs, word);
    let (topics, readers) = (own(ExternWord::Topic), own(ExternWord::Consumer));
    let sorts: [(ExternWord, BTreeSet<&str>); 7] = [
        (ExternWord::Source, registry.sources.keys().copied().collect()),
        (ExternWord::Channel, registry.channels.keys().copied().collect()),
        (ExternWord::Sink, registry.sinks.keys().copied().collect()),
        (ExternWord::Interceptor, registry.interceptors.names().collect()),
        (ExternWord::Cluster, registry.services.keys().copied().collect()),
        (ExternWord::Ensemble, registry.ensembles.keys().copied().collect()),
        (ExternWord::Fn, registry.functions.names().collect()),
    ];
    for (word, mut registered) in sorts {
        match word {
            ExternWord::Channel => registered.retain(|name| !topics.contains(name)),
            ExternWord::Source => registered.retain(|name| !readers.contains(name)),
            _ => {}
        }
        assert_eq!(declared(&library.externs, word), registered, "{word:?}");
    }
}

/// The indented lines of a doc comment.
fn examples(one: &Extern) -> Vec<String> {
    let mut examples: Vec<String> = Vec::new();
    let mut inside = false;
    for line in one.doc.as_deref().unwrap_or("").lines() {
        match line.strip_prefix("    ") {
            Some(code) if inside => {
                let last = examples.len() - 1;
                examples[last].push('\n');
                examples[last].push_str(code);
            }
            Some(code) => {
                examples.push(code.to_owned());
                inside = true;
            }
            None => inside = false,
        }
    }
    examples
}

#[test]
fn every_kind_and_function_is_documented() {
    let library = library();
    for one in &library.externs {
        let name = &one.name.text;
        assert!(
            one.doc.as_deref().is_some_and(|doc| !doc.trim().is_empty()),
            "`{name}` has no documentation"
        );
        for setting in &one.settings {
            let documented = setting.doc.as_deref().is_some_and(|doc| !doc.trim().is_empty());
            assert!(documented, "setting `{}` of `{name}` has no documentation", setting.name.text);
        }
    }
}

#[test]
fn examples_of_kinds_check() {
    let library = library();
    let mut failures = Vec::new();
    // What a piece of an example may lack because it shows one part only.
    let fine = ["F0116", "F0401", "F0402", "F0403", "F0405", "F0112", "F0101"];
    for one in library.externs.iter().filter(|one| one.word != ExternWord::Fn) {
        for example in examples(one) {
            let found = check(&library, "example.flow", &example, Texts::default());
            if found.errors().iter().any(|code| !fine.contains(&code.as_str())) {
                failures.push(format!("{} `{example}`:\n{}", one.name.text, found.shown()));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_function_has_an_example() {
    let library = library();
    let mut without: BTreeSet<&str> = declared(&library.externs, ExternWord::Fn);
    for one in library.externs.iter().filter(|one| !examples(one).is_empty()) {
        without.remove(one.name.text.as_str());
    }
    // These give another value each time.
    for name in ["now", "uuid", "uuid_v7", "hostname", "random_int"] {
        without.remove(name);
    }
    assert!(without.is_empty(), "{without:?}");
}

/// Each example is a condition that holds, or `… fails`: the checker evaluates parameters, so a file of parameters
/// evaluates the examples.
#[test]
fn examples_of_functions_are_true() {
    let library = library();
    let mut failures = Vec::new();
    for one in library.externs.iter().filter(|one| one.word == ExternWord::Fn && !is_absent(one)) {
        for example in examples(one).iter().flat_map(|block| block.lines()) {
            let fails = example.trim_end().strip_suffix(" fails");
            let flow = match fails {
                Some(expression) => format!("param _example: any? = {expression}\n"),
                None => format!("param _example: bool = {example} where _example\n"),
            };
            let text = format!("{flow}tail \"a.log\" -> console\n");
            let found = check(&library, "example.flow", &text, Texts::default());
            if found.errors().is_empty() == fails.is_some() {
                failures.push(format!("`{}`: {example}\n{}", one.name.text, found.shown()));
            }
        }
    }
    assert!(failures.is_empty(), "{} examples:\n{}", failures.len(), failures.join("\n"));
}
