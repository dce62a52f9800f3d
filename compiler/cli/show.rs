//! `flowc show sink files`: one declaration, for people.

use flow_diag::{Files, Span, suggest};
use flow_syntax::ast::{Extern, ExternWord, ParamDecl, TypeExpr};

use crate::list::is_absent;
use crate::{Exit, output, project};

#[derive(clap::Args)]
pub struct Arguments {
    /// `sink files`, `fn lower`, or the name alone
    #[arg(required = true, num_args = 1..=2)]
    what: Vec<String>,
}

pub fn run(arguments: &Arguments) -> Exit {
    let (files, externs) = project::declarations();
    let (word, name) = match arguments.what.as_slice() {
        [name] => (None, name),
        [word, name, ..] => (Some(word.as_str()), name),
        [] => return Exit::Usage,
    };
    let wanted = |one: &&Extern| word.is_none_or(|word| names_of(one.word).contains(&word));
    let found: Vec<&Extern> = externs.iter().filter(wanted).filter(|one| one.name.text == *name).collect();
    if found.is_empty() {
        let names = externs.iter().filter(wanted).map(|one| one.name.text.as_str());
        let hint = suggest(name, names).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        let sort = word.unwrap_or("kind or function");
        output::note(&format!("there is no {sort} `{name}`{hint} (see flowc list)"));
        return Exit::Usage;
    }
    let pages: Vec<String> = found.iter().map(|one| page(&files, one)).collect();
    output::result(&pages.join("\n"));
    Exit::Fine
}

fn names_of(word: ExternWord) -> &'static [&'static str] {
    match word {
        ExternWord::Source => &["source", "sources"],
        ExternWord::Channel => &["channel", "channels"],
        ExternWord::Sink => &["sink", "sinks"],
        ExternWord::Group => &["group", "groups"],
        ExternWord::Interceptor => &["interceptor", "interceptors"],
        ExternWord::Cluster => &["cluster", "clusters"],
        ExternWord::Ensemble => &["ensemble", "ensembles"],
        ExternWord::Topic => &["topic"],
        ExternWord::Consumer => &["consumer"],
        ExternWord::Secret => &["secret", "secrets"],
        ExternWord::Runtime => &["runtime"],
        ExternWord::Fn => &["fn", "function", "functions"],
    }
}

fn page(files: &Files, one: &Extern) -> String {
    let mut text = format!("{} {}", names_of(one.word)[0], one.name.text);
    let params: Vec<String> = one.params.iter().map(|param| parameter(files, param)).collect();
    if !params.is_empty() || one.word == ExternWord::Fn {
        text.push_str(&format!("({})", params.join(", ")));
    }
    if let Some(result) = &one.result {
        text.push_str(&format!(" -> {}", type_text(files, result)));
    }
    if is_absent(one) {
        text.push_str("   (not in this build)");
    }
    text.push('\n');
    if let Some(doc) = &one.doc {
        text.push('\n');
        for line in doc.lines() {
            text.push_str(if line.is_empty() { "" } else { "  " });
            text.push_str(line);
            text.push('\n');
        }
    }
    text.push_str(&settings(files, one));
    let abilities: Vec<&str> =
        one.abilities.iter().map(|ability| ability.text.as_str()).filter(|text| *text != "absent").collect();
    if !abilities.is_empty() {
        text.push_str(&format!("\n  can: {}\n", abilities.join(", ")));
    }
    if !one.sets.is_empty() {
        let names: Vec<String> = one.sets.iter().map(|name| format!("header.{}", name.text)).collect();
        text.push_str(&format!("  sets: {}\n", names.join(", ")));
    }
    text
}

fn settings(files: &Files, one: &Extern) -> String {
    if one.settings.is_empty() && one.rest.is_none() {
        return String::new();
    }
    let mut rows: Vec<[String; 4]> = one
        .settings
        .iter()
        .map(|setting| {
            let value = match &setting.default {
                Some(default) => source_text(files, default.span),
                None if setting.ty.optional => String::new(),
                None => "required".to_owned(),
            };
            let doc = setting.doc.clone().unwrap_or_default().replace('\n', " ");
            [setting.name.text.clone(), type_text(files, &setting.ty), value, doc]
        })
        .collect();
    if let Some(rest) = &one.rest {
        rows.push(["…".to_owned(), type_text(files, rest), String::new(), "any other name".to_owned()]);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0).min(34);
    let (names, types, values) = (width(0), width(1), width(2));
    let mut text = String::from("\n  settings\n");
    for [name, ty, value, doc] in &rows {
        let line = format!("    {name:names$}  {ty:types$}  {value:values$}  {doc}");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn parameter(files: &Files, param: &ParamDecl) -> String {
    let mut text = param.name.text.clone();
    if let Some(ty) = &param.ty {
        text.push_str(&format!(": {}", type_text(files, ty)));
    }
    if let Some(default) = &param.default {
        text.push_str(&format!(" = {}", source_text(files, default.span)));
    }
    text
}

fn type_text(files: &Files, ty: &TypeExpr) -> String {
    source_text(files, ty.span)
}

/// The declaration's own words, on one line.
fn source_text(files: &Files, span: Span) -> String {
    files.slice(span).split_whitespace().collect::<Vec<_>>().join(" ")
}
