//! `flowc fmt`: the one style.

use std::io::Read;
use std::path::{Path, PathBuf};

use flow_diag::{Files, render};

use crate::{Exit, output};

#[derive(clap::Args)]
pub struct Arguments {
    /// The files; `-` formats standard input to standard output
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Change nothing; fail when a file is not formatted
    #[arg(long)]
    check: bool,
}

pub fn run(arguments: &Arguments) -> Exit {
    let mut worst = Exit::Fine;
    for path in &arguments.files {
        match format_one(path, arguments.check) {
            Ok(true) => {}
            Ok(false) => worst = Exit::Errors,
            Err(why) => {
                output::note(&why);
                return Exit::Usage;
            }
        }
    }
    worst
}

/// Whether all is well with this file afterwards.
fn format_one(path: &Path, check: bool) -> Result<bool, String> {
    let name = path.display();
    let standard_input = path == Path::new("-");
    let text = if standard_input {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(path)
    }
    .map_err(|error| format!("cannot read `{name}`: {error}"))?;
    let Some(formatted) = flow_syntax::format(&text) else {
        let mut files = Files::new();
        let file = files.add(name.to_string(), text.as_str());
        let parsed = flow_syntax::parse_file(file, &text);
        output::block(&render(&files, &parsed.diagnostics, output::graphical()));
        output::note(&format!("{name}: not formatted, because it cannot be read"));
        return Ok(false);
    };
    if check {
        if formatted != text {
            output::note(&format!("{name}: not formatted"));
        }
        return Ok(formatted == text);
    }
    if standard_input {
        output::result(&formatted);
    } else if formatted != text {
        // Beside the file and then renamed, so that a full disk cannot cut the file short.
        let beside = path.with_extension("flow.fmt");
        std::fs::write(&beside, formatted)
            .and_then(|()| std::fs::rename(&beside, path))
            .map_err(|error| format!("cannot write `{name}`: {error}"))?;
    }
    Ok(true)
}
