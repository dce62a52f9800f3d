//! `flowc plan`: what would run.

use std::path::PathBuf;

use flow_diag::render;

use crate::output::OutputFormat;
use crate::project::{self, Params};
use crate::{Exit, output};

#[derive(clap::Args)]
pub struct Arguments {
    /// The file; `-` is standard input
    file: PathBuf,
    #[command(flatten)]
    params: Params,
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    format: OutputFormat,
}

pub fn run(arguments: &Arguments) -> Exit {
    let project = match project::open(&arguments.file, &arguments.params) {
        Ok(project) => project,
        Err(exit) => return exit,
    };
    output::block(&render(&project.files, &project.checked.diagnostics, output::graphical()));
    let Some(plan) = &project.checked.plan else {
        return Exit::Errors;
    };
    match arguments.format {
        OutputFormat::Text => {
            output::result(&flow_check::print::plan_text_with(plan, Some(&project.library)));
            let data = crate::run::data_dir(plan, &arguments.file, None);
            output::result(&format!("state: {}\n", data.display()));
        }
        OutputFormat::Json => match serde_json::to_string_pretty(plan) {
            Ok(json) => output::result(&(json + "\n")),
            Err(error) => {
                output::note(&format!("the plan cannot be written as JSON: {error}"));
                return Exit::Failure;
            }
        },
    }
    Exit::Fine
}
