//! `flowc plan`: what would run.

use std::path::PathBuf;

use flow_check::print::plan_text_noted;
use flow_diag::render;

use crate::machine_code::{self, Programs};
use crate::output::OutputFormat;
use crate::project::{self, Params};
use crate::{Exit, output, run};

#[derive(clap::Args)]
pub struct Arguments {
    /// The file; `-` is standard input
    file: PathBuf,
    #[command(flatten)]
    params: Params,
    /// As `run --no-jit` would run it: without machine code
    #[arg(long)]
    no_jit: bool,
    /// With the size of the machine code and the time to make it; text on a terminal has them anyway
    #[arg(long)]
    timings: bool,
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
    let programs = (!arguments.no_jit).then(|| Programs::build(plan, &*machine_code::compiler()));
    match arguments.format {
        OutputFormat::Text => {
            let figures = arguments.timings || output::result_on_terminal();
            let notes = |agent: usize, program: usize| match &programs {
                Some(programs) => programs.lines(agent, program, figures),
                None => Vec::new(),
            };
            output::result(&plan_text_noted(plan, Some(&project.library), &notes));
            if programs.is_none() {
                output::result("machine code: none, all programs run by the reference (--no-jit)\n");
            }
            let data = run::data_dir(plan, &arguments.file, None);
            output::result(&format!("state: {}\n", data.display()));
        }
        OutputFormat::Json => {
            let machine_code = programs.as_ref().map(|programs| programs.json(plan, arguments.timings));
            let json = serde_json::to_value(plan).and_then(|mut json| {
                json["machine_code"] = machine_code.into();
                serde_json::to_string_pretty(&json)
            });
            match json {
                Ok(json) => output::result(&(json + "\n")),
                Err(error) => {
                    output::note(&format!("the plan cannot be written as JSON: {error}"));
                    return Exit::Failure;
                }
            }
        }
    }
    let faults = programs.iter().flat_map(Programs::faults);
    let told: Vec<_> = faults
        .map(|(origin, step, fault)| run::diagnostic_of(&project.files, plan, origin, &fault, step))
        .collect();
    output::block(&render(&project.files, &told, output::graphical()));
    if told.is_empty() { Exit::Fine } else { Exit::Errors }
}
