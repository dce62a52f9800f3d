//! `flowc list`: what the library has.

use clap::ValueEnum;
use flow_syntax::ast::{Extern, ExternWord};
use serde_json::json;

use crate::output::OutputFormat;
use crate::{Exit, output, project};

#[derive(clap::Args)]
pub struct Arguments {
    /// Only this sort
    #[arg(value_enum)]
    sort: Option<Sort>,
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    format: OutputFormat,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Sort {
    #[value(alias = "source")]
    Sources,
    #[value(alias = "channel")]
    Channels,
    #[value(alias = "sink")]
    Sinks,
    #[value(alias = "group")]
    Groups,
    #[value(alias = "interceptor")]
    Interceptors,
    #[value(alias = "function", alias = "fn")]
    Functions,
    #[value(alias = "cluster")]
    Clusters,
    #[value(alias = "ensemble")]
    Ensembles,
    #[value(alias = "secret")]
    Secrets,
}

const SORTS: &[(Sort, ExternWord, &str)] = &[
    (Sort::Sources, ExternWord::Source, "sources"),
    (Sort::Interceptors, ExternWord::Interceptor, "interceptors"),
    (Sort::Channels, ExternWord::Channel, "channels"),
    (Sort::Sinks, ExternWord::Sink, "sinks"),
    (Sort::Groups, ExternWord::Group, "groups"),
    (Sort::Clusters, ExternWord::Cluster, "clusters"),
    (Sort::Ensembles, ExternWord::Ensemble, "ensembles"),
    (Sort::Secrets, ExternWord::Secret, "secrets"),
    (Sort::Functions, ExternWord::Fn, "functions"),
];

pub fn run(arguments: &Arguments) -> Exit {
    let externs = project::library().0.externs;
    let wanted = SORTS.iter().filter(|(sort, _, _)| arguments.sort.is_none_or(|only| only == *sort));
    if arguments.format == OutputFormat::Json {
        let all: Vec<_> = wanted
            .flat_map(|(_, word, title)| {
                let of_sort = externs.iter().filter(|one| one.word == *word);
                of_sort.map(move |one| {
                    json!({
                        "sort": title,
                        "name": one.name.text,
                        "summary": summary(one),
                        "in_this_build": !is_absent(one),
                    })
                })
            })
            .collect();
        output::result(&format!("{:#}\n", serde_json::Value::Array(all)));
        return Exit::Fine;
    }
    let mut text = String::new();
    for (_, word, title) in wanted {
        let mut of_sort: Vec<&Extern> = externs.iter().filter(|one| one.word == *word).collect();
        of_sort.sort_by(|a, b| a.name.text.cmp(&b.name.text));
        of_sort.dedup_by(|a, b| a.name.text == b.name.text);
        if of_sort.is_empty() {
            continue;
        }
        let width = of_sort.iter().map(|one| one.name.text.len()).max().unwrap_or(0);
        text.push_str(&format!("{title}\n"));
        for one in of_sort {
            let absent = if is_absent(one) { " (not in this build)" } else { "" };
            text.push_str(&format!("  {:width$}  {}{absent}\n", one.name.text, summary(one)));
        }
        text.push('\n');
    }
    output::result(&text);
    Exit::Fine
}

pub fn is_absent(one: &Extern) -> bool {
    one.abilities.iter().any(|ability| ability.text == "absent")
}

/// The first sentence of the documentation.
pub fn summary(one: &Extern) -> String {
    let doc = one.doc.as_deref().unwrap_or("");
    let paragraph = doc.split("\n\n").next().unwrap_or("").replace('\n', " ");
    match paragraph.find(". ") {
        Some(end) => paragraph[..=end].to_owned(),
        None => paragraph,
    }
}
