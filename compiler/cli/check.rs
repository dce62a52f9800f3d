//! `flowc check`: diagnostics and nothing else.

use std::path::PathBuf;

use clap::ValueEnum;
use flow_diag::{Edit, Files, Format, Severity, render};

use crate::project::{self, Params, Project};
use crate::{Exit, output};

#[derive(clap::Args)]
pub struct Arguments {
    /// The files; `-` is standard input
    #[arg(required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    params: Params,
    /// How diagnostics are shown
    #[arg(long, value_enum, default_value_t = CheckFormat::Full)]
    format: CheckFormat,
    /// Short for `--format short`
    #[arg(long, conflicts_with = "format")]
    short: bool,
    /// Also fail for warnings
    #[arg(long, value_name = "LEVEL", value_enum)]
    deny: Option<Deny>,
    /// Advise to say what happens wherever an expression can fail
    #[arg(long)]
    strict: bool,
    /// Apply the edits that mend a mistake, where there is exactly one
    #[arg(long)]
    fix: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum CheckFormat {
    /// With the text around
    Full,
    /// One line each
    Short,
    /// A JSON array
    Json,
    /// SARIF 2.1.0
    Sarif,
    /// Workflow commands
    Github,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Deny {
    Warnings,
}

pub fn run(arguments: &Arguments) -> Exit {
    let mut worst = Exit::Fine;
    for path in &arguments.files {
        let mut project = match project::open_with(path, &arguments.params, arguments.strict) {
            Ok(project) => project,
            Err(exit) => {
                worst = exit;
                continue;
            }
        };
        if arguments.fix {
            match apply_fixes(&project) {
                Ok(0) => {}
                Ok(count) => {
                    output::note(&format!("{count} fixed in {}", path.display()));
                    match project::open_with(path, &arguments.params, arguments.strict) {
                        Ok(fixed) => project = fixed,
                        Err(exit) => return exit,
                    }
                }
                Err(why) => {
                    output::note(&why);
                    return Exit::Usage;
                }
            }
        }
        show(&project, arguments);
        let denied = arguments.deny.is_some()
            && project.checked.diagnostics.iter().any(|one| one.severity == Severity::Warning);
        if (project.has_errors() || denied) && worst == Exit::Fine {
            worst = Exit::Errors;
        }
        if arguments.format == CheckFormat::Full && !arguments.short {
            let counts = flow_diag::count_line(&project.checked.diagnostics);
            let counts = if counts.is_empty() { "fine".to_owned() } else { counts };
            output::note(&format!("{}: {counts}", path.display()));
        }
    }
    worst
}

/// Diagnostics are the result of `check`, so those for tools go to stdout.
fn show(project: &Project, arguments: &Arguments) {
    let diagnostics = &project.checked.diagnostics;
    let format = match (arguments.short, arguments.format) {
        (true, _) | (_, CheckFormat::Short) => Format::Short,
        (_, CheckFormat::Json) => Format::Json,
        (_, CheckFormat::Sarif) => Format::Sarif,
        (_, CheckFormat::Github) => Format::Github,
        (_, CheckFormat::Full) => {
            output::block(&render(&project.files, diagnostics, output::graphical()));
            return;
        }
    };
    output::result(&render(&project.files, diagnostics, format));
}

/// Writes all fixes into their files and gives their number. Fixes that touch each other wait for the next run.
fn apply_fixes(project: &Project) -> Result<usize, String> {
    let mut edits: Vec<&[Edit]> = project
        .checked
        .diagnostics
        .iter()
        .map(|one| one.fix.as_slice())
        .filter(|fix| !fix.is_empty())
        .collect();
    edits.sort_by_key(|fix| fix.iter().map(|edit| (edit.span.file, edit.span.start)).min());
    let mut taken: Vec<&Edit> = Vec::new();
    let mut fixed = 0;
    for fix in edits {
        let free = fix.iter().all(|edit| {
            taken.iter().all(|other| {
                other.span.file != edit.span.file
                    || other.span.end <= edit.span.start
                    || edit.span.end <= other.span.start
            })
        });
        if free {
            taken.extend(fix);
            fixed += 1;
        }
    }
    for file in project.files.ids() {
        let mut here: Vec<&&Edit> = taken.iter().filter(|edit| edit.span.file == file).collect();
        if here.is_empty() {
            continue;
        }
        here.sort_by_key(|edit| std::cmp::Reverse(edit.span.start));
        let text = edited(&project.files, file, &here);
        let name = project.files.name(file);
        std::fs::write(name, text).map_err(|error| format!("cannot write `{name}`: {error}"))?;
    }
    Ok(fixed)
}

fn edited(files: &Files, file: flow_diag::FileId, edits_from_the_end: &[&&Edit]) -> String {
    let mut text = files.text(file).to_owned();
    for edit in edits_from_the_end {
        if text.get(edit.span.range()).is_some() {
            text.replace_range(edit.span.range(), &edit.text);
        }
    }
    text
}
