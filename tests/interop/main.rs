//! Real clients of Kafka against our broker, and of ZooKeeper against our coordinator and ZooKeeper itself. Every
//! `*.py` beside this file is a program of cases; each gets a broker or an ensemble of its own, as processes that it
//! may have stopped and killed. What a program needs stands in its first lines.
//!
//! The clients come from `tests/interop/setup.sh`; without them the programs are skipped, and that is said.
//! `FLOW_INTEROP=require` makes a missing client a failure, `FLOW_INTEROP=off` skips all. `FLOW_INTEROP_RECORDS` is
//! the size of the long cases. `cargo test --test interop confluent_groups::static` runs the cases of that name.

mod broker;
mod clients;
mod coordinator;
mod differential;
mod ensemble;
mod program;
mod server;
mod zookeeper_client;

use std::collections::VecDeque;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;

use clients::Clients;
use program::{Outcome, Program};

/// Programs at a time. Many cases wait for time-outs of groups, so more than there are cores.
const TOGETHER: usize = 4;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // This program is also the servers and those of the clients that are in Rust.
    if let Some((first, rest)) = arguments.split_first() {
        match first.as_str() {
            broker::COMMAND => return broker::serve(rest),
            coordinator::COMMAND => return coordinator::serve(rest),
            zookeeper_client::COMMAND => return zookeeper_client::run(rest),
            differential::COMMAND => return differential::run(rest),
            _ => {}
        }
    }
    if arguments.iter().any(|one| one == "--list") {
        return ExitCode::SUCCESS;
    }
    let filters: Vec<&str> =
        arguments.iter().map(String::as_str).filter(|one| !one.starts_with('-')).collect();
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop");
    let programs = program::find(&here, &filters);
    let required = std::env::var("FLOW_INTEROP").is_ok_and(|value| value == "require");
    let clients = Clients::find();

    let mut tally = Tally::default();
    let mut runnable = VecDeque::new();
    for program in programs {
        match clients.missing(&program) {
            None => runnable.push_back(program),
            Some(reason) => {
                eprintln!("skipped: {}: {reason}", program.name);
                tally.skipped += 1;
            }
        }
    }
    if required && tally.skipped > 0 {
        eprintln!("FLOW_INTEROP=require: nothing may be skipped");
        tally.failed += tally.skipped;
        tally.skipped = 0;
    }

    let tally = Mutex::new(tally);
    let queue = Mutex::new(runnable);
    std::thread::scope(|scope| {
        for _ in 0..TOGETHER {
            scope.spawn(|| {
                loop {
                    let Some(program) = queue.lock().unwrap().pop_front() else { return };
                    let report = program.run(&clients);
                    tally.lock().unwrap().add(&program, &report);
                }
            });
        }
    });
    let tally = tally.into_inner().unwrap();
    println!("\ninterop: {} passed, {} failed, {} skipped", tally.passed, tally.failed, tally.skipped);
    if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[derive(Default)]
struct Tally {
    passed: usize,
    failed: usize,
    skipped: usize,
}

impl Tally {
    fn add(&mut self, program: &Program, report: &program::Report) {
        for (case, outcome) in &report.cases {
            let told = match outcome {
                Outcome::Passed(seconds) => {
                    self.passed += 1;
                    format!("ok {seconds}")
                }
                Outcome::Failed(reason) => {
                    self.failed += 1;
                    format!("FAILED\n    {reason}")
                }
                Outcome::Skipped(reason) => {
                    self.skipped += 1;
                    format!("skipped: {reason}")
                }
            };
            println!("{}::{case} ... {told}", program.name);
        }
        if report.cases.iter().any(|(_, outcome)| matches!(outcome, Outcome::Failed(_))) {
            println!("---- {} ----\n{}", program.name, report.details);
        }
    }
}
