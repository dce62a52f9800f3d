//! One server of our coordinator as a process of its own, so that it can be killed: this test's program, run again.

use std::path::Path;
use std::process::{Command, ExitCode};

use crate::ensemble::Server;

/// The first argument of the process that is a coordinator.
pub const COMMAND: &str = "be-a-coordinator";

/// Why ours cannot be driven, if it cannot.
pub const MISSING: Option<&str> = Some("the coordinator does not serve yet");

/// How the server `id` of these is started.
pub fn command(id: u32, servers: &[Server], data: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("the path of this program"));
    command.arg(COMMAND).arg(id.to_string()).arg(data);
    command.args(servers.iter().map(|one| format!("{}={},{}", one.id, one.peers[0], one.client)));
    command
}

/// The process that is a server: runs until its standard input ends, then stops cleanly.
pub fn serve(_arguments: &[String]) -> ExitCode {
    ExitCode::FAILURE
}
