//! Which clients are installed, and where.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::ensemble;
use crate::program::Program;

/// PyPI's name of a client and the module that it brings.
const MODULES: &[(&str, &str)] = &[
    ("confluent-kafka", "confluent_kafka"),
    ("kafka-python", "kafka"),
    ("aiokafka", "aiokafka"),
    ("kazoo", "kazoo"),
];

pub struct Clients {
    off: bool,
    /// The interpreter of the environment that `setup.sh` makes, or the machine's.
    pub python: Option<PathBuf>,
    found: Vec<&'static str>,
}

impl Clients {
    pub fn find() -> Clients {
        let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../interop/venv/bin/python");
        let machine = || runs(Command::new("python3").arg("--version")).then(|| PathBuf::from("python3"));
        let python = venv.exists().then_some(venv).or_else(machine);
        let mut found = Vec::new();
        if let Some(python) = &python {
            for (client, module) in MODULES {
                let asked =
                    format!("import importlib.util as u, sys; sys.exit(u.find_spec('{module}') is None)");
                if runs(Command::new(python).args(["-c", &asked])) {
                    found.push(*client);
                }
            }
        }
        if runs(Command::new("kcat").arg("-V")) {
            found.push("kcat");
        }
        if Path::new(ensemble::JAR).exists() && runs(Command::new("java").arg("-version")) {
            found.push("zookeeper");
        }
        let off = std::env::var("FLOW_INTEROP").is_ok_and(|value| value == "off");
        Clients { off, python, found }
    }

    /// Why the program cannot run, if it cannot.
    pub fn missing(&self, program: &Program) -> Option<String> {
        if self.off {
            return Some("FLOW_INTEROP=off".to_owned());
        }
        if self.python.is_none() {
            return Some("python3 is not installed".to_owned());
        }
        let lost: Vec<&str> =
            program.needs.iter().map(String::as_str).filter(|client| !self.found.contains(client)).collect();
        (!lost.is_empty()).then(|| {
            let verb = if lost.len() == 1 { "is" } else { "are" };
            format!("{} {verb} not installed (run tests/interop/setup.sh)", lost.join(", "))
        })
    }
}

fn runs(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
