//! `flowc graph`: the flow as a picture.

use std::path::PathBuf;

use clap::ValueEnum;
use flow_diag::render;

use crate::project::{self, Params};
use crate::{Exit, output};

#[derive(clap::Args)]
pub struct Arguments {
    /// The file; `-` is standard input
    file: PathBuf,
    #[command(flatten)]
    params: Params,
    #[arg(long, value_enum, default_value_t = GraphFormat::Text)]
    format: GraphFormat,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum GraphFormat {
    /// For a terminal
    Text,
    /// For Graphviz
    Dot,
    /// For Markdown pages
    Mermaid,
}

/// Draws broken programs too, as far as they could be read.
pub fn run(arguments: &Arguments) -> Exit {
    let project = match project::open(&arguments.file, &arguments.params) {
        Ok(project) => project,
        Err(exit) => return exit,
    };
    output::block(&render(&project.files, &project.checked.diagnostics, output::graphical()));
    let model = &project.checked.model;
    output::result(&match arguments.format {
        GraphFormat::Text => flow_check::print::graph_text(model),
        GraphFormat::Dot => flow_check::print::graph_dot(model),
        GraphFormat::Mermaid => flow_check::print::graph_mermaid(model),
    });
    if project.has_errors() { Exit::Errors } else { Exit::Fine }
}
