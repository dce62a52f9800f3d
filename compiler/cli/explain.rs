//! `flowc explain F0101`: the page of a code.

use flow_diag::{Code, CodeEntry, all_codes, code_entry, suggest};
use serde_json::json;

use crate::output::OutputFormat;
use crate::{Exit, output};

#[derive(clap::Args)]
pub struct Arguments {
    /// The code, such as F0101; without it all codes are listed
    code: Option<String>,
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    format: OutputFormat,
}

pub fn run(arguments: &Arguments) -> Exit {
    let Some(word) = &arguments.code else {
        if arguments.format == OutputFormat::Json {
            let all: Vec<_> = all_codes().iter().map(json_of).collect();
            output::result(&format!("{:#}\n", serde_json::Value::Array(all)));
            return Exit::Fine;
        }
        let lines = all_codes().iter().map(|entry| format!("{}  {}\n", entry.name, entry.summary));
        output::result(&lines.collect::<String>());
        return Exit::Fine;
    };
    let Some(code) = Code::parse(word) else {
        let nearest = suggest(word, all_codes().iter().map(|entry| entry.name));
        let hint = nearest.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default();
        output::note(&format!("there is no code `{word}`{hint}"));
        return Exit::Usage;
    };
    output::result(&match arguments.format {
        OutputFormat::Text => code_entry(code).page.to_owned(),
        OutputFormat::Json => format!("{:#}\n", json_of(code_entry(code))),
    });
    Exit::Fine
}

fn json_of(entry: &CodeEntry) -> serde_json::Value {
    json!({
        "code": entry.code,
        "severity": entry.severity,
        "summary": entry.summary,
        "page": entry.page,
    })
}
