//! Interceptors on one core: what a flow does to events between two boundaries, beside the programs and libraries
//! that people use for the same work.
//!
//!     cargo bench --manifest-path tests/bench/contenders/Cargo.toml
//!     cargo bench --manifest-path tests/bench/contenders/Cargo.toml -- --short chain date
//!
//! Words are workloads to run (all by default); `--short` makes few rounds, enough to see that all agree and what
//! the order is; `--rounds N` makes N. The crate is a workspace of its own, with its own lock file: its libraries are
//! no part of the project's build.
//!
//! # How it is measured
//!
//! Every contender does the work on the same 8 batches of 1,024 rows, in one process, in turn, and the turn moves
//! on by one with each round. The time is that of the thread's processor clock; the table has the median and the
//! least over the rounds, in nanoseconds an event, and how many times faster a contender is than the one named at
//! the head of the column (the median of the ratios within a round). What the work consumes is made again before
//! each round, outside of the time; what it gives is let go outside of the time, too.
//!
//! After the first and after the last round the answers of all are compared: which rows are left, what is in their
//! fields, their times, where they go. One difference ends the run.
//!
//! # Where the work is not the same
//!
//! - VRL takes an event as an object and gives one: its fields are texts of their own, where the others store where
//!   in the row a field begins and ends. Making the object that holds the row is outside of the time.
//! - `regex` and VRL are left as they come, with Unicode classes; PCRE2 looks at bytes. The rows are ASCII.
//! - Hand-written Rust knows the shape of the rows: it looks for literals and separators where they can be, and in
//!   JSON for the names of the wanted fields only, so it takes rows that are no JSON.
//! - No regex engine reads dates or JSON; in `chain` hand-written Rust does for them what a regex does not.

mod answers;
mod compile;
mod hand;
mod measure;
mod ours;
mod patterns;
mod remap;
mod rows;
mod rowwise;
mod table;
mod workloads;

use rows::Data;

/// Rounds of a usual run, and of a short one.
const ROUNDS: usize = 101;
const ROUNDS_SHORT: usize = 11;

fn main() {
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(message) => {
            eprintln!("{message}\nusage: [--short] [--rounds N] [{}]", names().join("] ["));
            std::process::exit(2);
        }
    };
    for workload in workloads::ALL {
        if arguments.wants(workload.name) {
            let data = Data::of(workload.rows);
            let found = measure::run((workload.contenders)(&data), &data, arguments.rounds);
            table::print(workload, &data, &found);
        }
    }
    if arguments.wants(compile::NAME) {
        compile::run(arguments.rounds.min(ROUNDS_SHORT));
    }
}

fn names() -> Vec<&'static str> {
    workloads::ALL.iter().map(|workload| workload.name).chain([compile::NAME]).collect()
}

struct Arguments {
    rounds: usize,
    /// Empty: all.
    workloads: Vec<String>,
}

impl Arguments {
    fn parse(words: impl Iterator<Item = String>) -> Result<Arguments, String> {
        let mut arguments = Arguments { rounds: ROUNDS, workloads: Vec::new() };
        let mut words = words.filter(|word| word != "--bench");
        while let Some(word) = words.next() {
            match word.as_str() {
                "--short" => arguments.rounds = ROUNDS_SHORT,
                "--rounds" => {
                    let count = words.next().and_then(|count| count.parse().ok()).filter(|count| *count > 0);
                    arguments.rounds = count.ok_or("`--rounds` needs a number")?;
                }
                name if names().contains(&name) => arguments.workloads.push(word),
                _ => return Err(format!("unknown workload `{word}`")),
            }
        }
        Ok(arguments)
    }

    fn wants(&self, name: &str) -> bool {
        self.workloads.is_empty() || self.workloads.iter().any(|wanted| wanted == name)
    }
}
