//! `flowc show sink files`: one declaration, for people.

use flow_diag::{Files, Span, suggest};
use flow_syntax::ast::{Extern, ExternWord, ParamDecl, TypeExpr};
use serde_json::json;

use crate::list::is_absent;
use crate::output::OutputFormat;
use crate::{Exit, output, project};

#[derive(clap::Args)]
pub struct Arguments {
    /// `sink files`, `fn lower`, or the name alone
    #[arg(required = true, num_args = 1..=2)]
    what: Vec<String>,
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    format: OutputFormat,
}

pub fn run(arguments: &Arguments) -> Exit {
    let (library, files) = project::library();
    let externs = library.externs;
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
    if arguments.format == OutputFormat::Json {
        let all: Vec<_> = found.iter().map(|one| json_of(&files, one)).collect();
        output::result(&format!("{:#}\n", serde_json::Value::Array(all)));
        return Exit::Fine;
    }
    let pages: Vec<String> = found.iter().map(|one| page(&files, one)).collect();
    output::result(&pages.join("\n"));
    Exit::Fine
}

fn json_of(files: &Files, one: &Extern) -> serde_json::Value {
    let names =
        |names: &[flow_syntax::ast::Name]| names.iter().map(|name| name.text.clone()).collect::<Vec<_>>();
    let param = |param: &ParamDecl| {
        json!({
            "name": param.name.text,
            "type": param.ty.as_ref().map(|ty| type_text(files, ty)),
            "default": param.default.as_ref().map(|default| source_text(files, default.span)),
        })
    };
    let setting = |setting: &flow_syntax::ast::ExternSetting| {
        json!({
            "name": setting.name.text,
            "type": type_text(files, &setting.ty),
            "default": setting.default.as_ref().map(|default| source_text(files, default.span)),
            "required": setting.default.is_none() && !setting.ty.optional,
            "doc": setting.doc,
        })
    };
    json!({
        "sort": names_of(one.word)[0],
        "name": one.name.text,
        "doc": one.doc,
        "params": one.params.iter().map(param).collect::<Vec<_>>(),
        "result": one.result.as_ref().map(|ty| type_text(files, ty)),
        "settings": one.settings.iter().map(setting).collect::<Vec<_>>(),
        "rest": one.rest.as_ref().map(|ty| type_text(files, ty)),
        "can": names(&one.abilities),
        "sets": names(&one.sets),
        "in_this_build": !is_absent(one),
    })
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
    let whole = ty.range.as_ref().map_or(ty.span, |(_, high)| ty.span.to(high.span));
    source_text(files, whole)
}

/// The declaration's own words, on one line.
fn source_text(files: &Files, span: Span) -> String {
    files.slice(span).split_whitespace().collect::<Vec<_>>().join(" ")
}
