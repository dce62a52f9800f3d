//! Where text goes and how it may look: streams, colours, width.

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use flow_diag::Format;

/// How a result is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// For people
    Text,
    /// For tools
    Json,
}

/// Writes a result. A reader that went away is not a failure; any other problem is told once.
pub fn result(text: &str) {
    let mut out = io::stdout().lock();
    if let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush())
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        note(&format!("cannot write to standard output: {error}"));
    }
}

/// Writes a line for people.
pub fn note(text: &str) {
    // When stderr itself is gone there is nobody left to tell.
    let _ = writeln!(io::stderr(), "{text}");
}

/// Writes a block for people as it is.
pub fn block(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Where a line of the log is written: to stderr, over a live line that may stand there.
pub fn log_writer() -> io::Stderr {
    if live() {
        block("\r\x1b[2K");
    }
    io::stderr()
}

/// Whether stderr may be coloured: a terminal, no `NO_COLOR` (no-color.org), not a dumb one.
pub fn colour() -> bool {
    let no = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    io::stderr().is_terminal() && !no && !dumb
}

/// Whether a live line can be drawn on stderr.
pub fn live() -> bool {
    let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    io::stderr().is_terminal() && !dumb
}

/// Whether results are read by a person.
pub fn result_on_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Columns of the terminal, 80 when there is none.
pub fn width() -> usize {
    let columns = rustix::termios::tcgetwinsize(io::stderr()).map(|size| usize::from(size.ws_col));
    match columns {
        Ok(columns) if columns > 0 => columns,
        _ => 80,
    }
}

/// Diagnostics for people.
pub fn graphical() -> Format {
    Format::Graphical { colour: colour(), width: width().min(120) }
}
