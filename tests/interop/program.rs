//! One program of cases: what it needs, its run beside a broker or an ensemble of its own, what it said.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::broker::Kind;
use crate::clients::Clients;
use crate::ensemble::Whose;
use crate::server::{Server, Wanted};
use crate::{differential, zookeeper_client};

/// Nothing takes this long unless it hangs; the million records of a long run included.
const PATIENCE: Duration = Duration::from_secs(600);

/// Lines of a log that are shown when something failed.
const LINES_SHOWN: usize = 60;

pub struct Program {
    pub name: String,
    body: Body,
    /// Clients, by the names of their packages.
    pub needs: Vec<String>,
    pub wanted: Wanted,
    /// Only the cases whose name contains this.
    part: String,
    /// Not run unless a filter names it.
    only_named: bool,
}

#[derive(Clone)]
enum Body {
    Python(PathBuf),
    /// This test's program, run again with this as its first argument.
    Rust(&'static str),
}

/// The first argument of the process that is a program of cases in Rust, by the name that it is listed under.
pub const IN_RUST: &[(&str, &str)] =
    &[("zookeeper_client", zookeeper_client::COMMAND), ("zookeeper_differential", differential::COMMAND)];

pub enum Outcome {
    /// With the time it took, in the program's words.
    Passed(String),
    Failed(String),
    Skipped(String),
}

pub struct Report {
    pub cases: Vec<(String, Outcome)>,
    /// What to read when one failed.
    pub details: String,
}

/// The programs of the folder that one of the filters names, or all without a filter. `a::b` are the cases `b` of the
/// programs `a`. A program for ensembles is there once for each that it is run on: `kazoo_watches@ours-3`.
pub fn find(folder: &Path, filters: &[&str]) -> Vec<Program> {
    let mut programs = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder of the programs") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "py") {
            programs.extend(Program::read(&path));
        }
    }
    let debian = || vec!["zookeeper".to_owned()];
    let (client, compared) = (&IN_RUST[0], &IN_RUST[1]);
    for wanted in [
        Wanted::Ensemble(Whose::Ours, 1),
        Wanted::Ensemble(Whose::Ours, 3),
        Wanted::Ensemble(Whose::Debian, 1),
    ] {
        programs.push(Program::new(client.0, Body::Rust(client.1), vec![], wanted));
    }
    programs.push(Program::new(compared.0, Body::Rust(compared.1), debian(), Wanted::Compared));
    if !filters.is_empty() {
        let parts: Vec<(&str, &str)> =
            filters.iter().map(|filter| filter.split_once("::").unwrap_or((filter, ""))).collect();
        programs.retain_mut(|program| {
            let chosen = parts.iter().find(|(name, _)| program.name.contains(name));
            program.part = chosen.map_or("", |(_, case)| case).to_owned();
            chosen.is_some()
        });
    } else {
        programs.retain(|program| !program.only_named);
    }
    programs.sort_by(|a, b| a.name.cmp(&b.name));
    programs
}

impl Program {
    fn new(name: &str, body: Body, mut needs: Vec<String>, wanted: Wanted) -> Program {
        if wanted == Wanted::Compared || matches!(wanted, Wanted::Ensemble(Whose::Debian, _)) {
            needs.push("zookeeper".to_owned());
        }
        // Three JVMs beside everything else are for those who ask.
        let only_named = wanted == Wanted::Ensemble(Whose::Debian, 3);
        let name = format!("{name}{}", wanted.suffix());
        Program { name, body, needs, wanted, part: String::new(), only_named }
    }

    fn read(path: &Path) -> Vec<Program> {
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let mut needs = Vec::new();
        let mut wanted = vec![Wanted::Broker(Kind::Plain)];
        for line in text.lines().map_while(|line| line.strip_prefix("# ")) {
            match line.split_once(": ") {
                Some(("needs", clients)) => needs = clients.split(' ').map(str::to_owned).collect(),
                Some(("broker", "secure")) => wanted = vec![Wanted::Broker(Kind::Secure)],
                Some(("ensemble", sizes)) => {
                    let sizes = sizes.split(' ').map(|size| size.parse().expect("a number of servers"));
                    wanted = sizes
                        .flat_map(|size| {
                            [Whose::Ours, Whose::Debian].map(|whose| Wanted::Ensemble(whose, size))
                        })
                        .collect();
                }
                _ => panic!("{}: nothing is known of `{line}`", path.display()),
            }
        }
        let body = Body::Python(path.to_owned());
        wanted.into_iter().map(|wanted| Program::new(&name, body.clone(), needs.clone(), wanted)).collect()
    }

    /// Runs it to its end, or kills it after [`PATIENCE`].
    pub fn run(&self, clients: &Clients) -> Report {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut server = match Server::start(self.wanted, dir.path()) {
            Ok(server) => server,
            Err((error, details)) => {
                return Report { cases: vec![("server".to_owned(), Outcome::Failed(error))], details };
            }
        };
        let errors = dir.path().join("errors.log");
        let mut command = match &self.body {
            Body::Python(path) => {
                let mut command = Command::new(clients.python.as_ref().expect("python"));
                command.arg("-u").arg(path).arg(&self.part);
                command
            }
            Body::Rust(name) => {
                let mut command = Command::new(std::env::current_exe().expect("the path of this program"));
                command.arg(name).arg(&self.part);
                command
            }
        };
        let mut child = command
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("FLOW_INTEROP_CA", crate::broker::fixture("ca.pem"))
            .envs(server.environment())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&errors).expect("a log"))
            .process_group(0)
            .spawn()
            .expect("the program starts");
        let mut cases = Vec::new();
        let ended = listen(&mut child, &mut server, &mut cases);
        // Also the members of its groups that are left.
        let _ = killpg(Pid::from_raw(child.id() as i32), Signal::SIGKILL);
        let status = child.wait();
        if let Err(reason) = ended {
            let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
            cases.push(("program".to_owned(), Outcome::Failed(format!("{reason}, {status}"))));
        }
        if let Err(reason) = server.end() {
            cases.push(("server".to_owned(), Outcome::Failed(reason)));
        }
        let details = format!(
            "what it said:\n{}\nwhat the server said:\n{}",
            tail(&errors, LINES_SHOWN),
            server.log(LINES_SHOWN)
        );
        Report { cases, details }
    }
}

/// Takes its lines until it says `end`: cases are noted, requests to the server carried out.
fn listen(child: &mut Child, server: &mut Server, cases: &mut Vec<(String, Outcome)>) -> Result<(), String> {
    let out = child.stdout.take().expect("piped");
    let mut input = child.stdin.take().expect("piped");
    let (send, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                return;
            }
        }
    });
    let start = Instant::now();
    loop {
        let line = match lines.recv_timeout(PATIENCE.saturating_sub(start.elapsed())) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => {
                return Err(format!("it was killed after {} s", PATIENCE.as_secs()));
            }
            Err(RecvTimeoutError::Disconnected) => return Err("it ended before its end".to_owned()),
        };
        let (word, rest) = line.split_once(' ').unwrap_or((&line, ""));
        match word {
            "end" => return Ok(()),
            "ok" => {
                let (case, seconds) = rest.split_once(' ').unwrap_or((rest, ""));
                cases.push((case.to_owned(), Outcome::Passed(seconds.to_owned())));
            }
            "FAILED" | "skipped" => {
                let (case, reason) = rest.split_once(": ").unwrap_or((rest, ""));
                let outcome = if word == "FAILED" { Outcome::Failed } else { Outcome::Skipped };
                cases.push((case.to_owned(), outcome(reason.to_owned())));
            }
            "broker:" | "ensemble:" => {
                let answer = match server.command(rest) {
                    Ok(()) => "done".to_owned(),
                    Err(error) => error.replace('\n', " "),
                };
                writeln!(input, "{answer}").map_err(|error| format!("it does not listen: {error}"))?;
            }
            // Clients print what they like.
            _ => eprintln!("{line}"),
        }
    }
}

/// The last lines of a file.
pub fn tail(path: &Path, shown: usize) -> String {
    let text = fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(shown)..].join("\n")
}
