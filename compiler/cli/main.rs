//! `flowc`: the command line. One file per subcommand; this one reads the arguments and gives the exit code.
//!
//! Exit codes: 0 fine, 1 the program has errors, 2 usage or files, 3 a failure while running. Results go to
//! stdout, everything else to stderr, and a closed pipe is not a failure.

mod check;
mod cluster;
mod confirm;
mod ensemble;
mod explain;
mod fmt;
mod graph;
mod group;
mod list;
mod machine_code;
mod output;
mod plan;
mod project;
mod run;
mod secrets;
mod show;
mod state;
mod status;
mod table;
mod topic;
mod zk;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "flowc",
    version,
    about = "Moves logs and events: sources, interceptors, channels, topics, sinks in one text"
)]
#[command(after_help = "`flowc x.flow` is `flowc run x.flow`")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Check files without starting anything
    Check(check::Arguments),
    /// Check a file and run it until its input ends or Ctrl-C
    Run(run::Arguments),
    /// Show what would run: channels put in, files, ports, bounds, proofs
    Plan(plan::Arguments),
    /// Draw the flow
    Graph(graph::Arguments),
    /// Rewrite files in the one style
    Fmt(fmt::Arguments),
    /// Topics of a cluster: list, show, create, delete, peek
    Topic(topic::Arguments),
    /// Groups of readers: list, show, seek
    Group(group::Arguments),
    /// The tree of an ensemble: ls, get, set, create, delete, watch, stat
    Zk(zk::Arguments),
    /// List the kinds and functions of the library
    List(list::Arguments),
    /// Show one kind or function with its settings
    Show(show::Arguments),
    /// Explain a diagnostic code
    Explain(explain::Arguments),
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Fine,
    /// The program has errors.
    Errors,
    /// Wrong usage, or a file that cannot be read or written.
    Usage,
    /// A failure while running.
    Failure,
}

impl Exit {
    pub fn code(self) -> u8 {
        match self {
            Exit::Fine => 0,
            Exit::Errors => 1,
            Exit::Usage => 2,
            Exit::Failure => 3,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse_from(with_run(std::env::args_os().collect())) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are results; a wrong word is not.
            let fine = !error.use_stderr();
            let _ = error.print();
            return if fine { Exit::Fine } else { Exit::Usage }.into();
        }
    };
    let exit = match arguments.command {
        Command::Check(arguments) => check::run(&arguments),
        Command::Run(arguments) => run::run(&arguments),
        Command::Plan(arguments) => plan::run(&arguments),
        Command::Graph(arguments) => graph::run(&arguments),
        Command::Fmt(arguments) => fmt::run(&arguments),
        Command::Topic(arguments) => topic::run(&arguments),
        Command::Group(arguments) => group::run(&arguments),
        Command::Zk(arguments) => zk::run(&arguments),
        Command::List(arguments) => list::run(&arguments),
        Command::Show(arguments) => show::run(&arguments),
        Command::Explain(arguments) => explain::run(&arguments),
    };
    exit.into()
}

/// `flowc x.flow …` means `flowc run x.flow …`.
fn with_run(mut words: Vec<std::ffi::OsString>) -> Vec<std::ffi::OsString> {
    let is_file = words.get(1).is_some_and(|word| word.to_string_lossy().ends_with(".flow"));
    if is_file {
        words.insert(1, "run".into());
    }
    words
}
