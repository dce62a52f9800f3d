//! `flowc explain F0101`: the page of a code.

use flow_diag::{Code, all_codes, code_entry, suggest};

use crate::{Exit, output};

#[derive(clap::Args)]
pub struct Arguments {
    /// The code, such as F0101; without it all codes are listed
    code: Option<String>,
}

pub fn run(arguments: &Arguments) -> Exit {
    let Some(word) = &arguments.code else {
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
    output::result(code_entry(code).page);
    Exit::Fine
}
