//! One program of cases: what it needs, its run beside a broker of its own, what it said.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::broker::{Broker, Kind};
use crate::clients::Clients;

/// Nothing takes this long unless it hangs; the million records of a long run included.
const PATIENCE: Duration = Duration::from_secs(600);

/// Lines of a log that are shown when something failed.
const LINES_SHOWN: usize = 60;

pub struct Program {
    pub name: String,
    path: PathBuf,
    /// Clients, by the names of their packages.
    pub needs: Vec<String>,
    kind: Kind,
    /// Only the cases whose name contains this.
    part: String,
}

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
/// programs `a`.
pub fn find(folder: &Path, filters: &[&str]) -> Vec<Program> {
    let mut programs = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder of the programs") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "py") {
            continue;
        }
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let chosen = filters.iter().map(|filter| filter.split_once("::").unwrap_or((filter, "")));
        let chosen = match filters {
            [] => Some(""),
            _ => chosen.filter(|(program, _)| name.contains(program)).map(|(_, case)| case).next(),
        };
        if let Some(part) = chosen {
            programs.push(Program::read(path, name, part.to_owned()));
        }
    }
    programs.sort_by(|a, b| a.name.cmp(&b.name));
    programs
}

impl Program {
    fn read(path: PathBuf, name: String, part: String) -> Program {
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut needs = Vec::new();
        let mut kind = Kind::Plain;
        for line in text.lines().map_while(|line| line.strip_prefix("# ")) {
            match line.split_once(": ") {
                Some(("needs", clients)) => needs = clients.split(' ').map(str::to_owned).collect(),
                Some(("broker", "secure")) => kind = Kind::Secure,
                _ => panic!("{}: nothing is known of `{line}`", path.display()),
            }
        }
        Program { name, path, needs, kind, part }
    }

    /// Runs it to its end, or kills it after [`PATIENCE`].
    pub fn run(&self, clients: &Clients) -> Report {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut broker = match Broker::start(self.kind, dir.path()) {
            Ok(broker) => broker,
            Err(error) => {
                let details = tail(&dir.path().join("broker.log"));
                return Report { cases: vec![("broker".to_owned(), Outcome::Failed(error))], details };
            }
        };
        let errors = dir.path().join("errors.log");
        let mut child = Command::new(clients.python.as_ref().expect("python"))
            .arg("-u")
            .arg(&self.path)
            .arg(&self.part)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("FLOW_INTEROP_CA", crate::broker::fixture("ca.pem"))
            .envs(broker.environment())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&errors).expect("a log"))
            .process_group(0)
            .spawn()
            .expect("python starts");
        let mut cases = Vec::new();
        let ended = listen(&mut child, &mut broker, &mut cases);
        // Also the members of its groups that are left.
        let _ = killpg(Pid::from_raw(child.id() as i32), Signal::SIGKILL);
        let status = child.wait();
        if let Err(reason) = ended {
            let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
            cases.push(("program".to_owned(), Outcome::Failed(format!("{reason}, {status}"))));
        }
        if let Err(reason) = broker.end() {
            cases.push(("broker".to_owned(), Outcome::Failed(reason)));
        }
        let details = format!(
            "what it said:\n{}\nwhat the broker said:\n{}",
            tail(&errors),
            tail(&dir.path().join("broker.log"))
        );
        Report { cases, details }
    }
}

/// Takes its lines until it says `end`: cases are noted, requests to the broker carried out.
fn listen(child: &mut Child, broker: &mut Broker, cases: &mut Vec<(String, Outcome)>) -> Result<(), String> {
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
            "broker:" => {
                let answer = match broker.command(rest) {
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

fn tail(path: &Path) -> String {
    let text = fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n")
}
