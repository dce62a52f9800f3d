//! Ours beside ZooKeeper as Debian packs it: the same load in the same run, by turns, every write synced to disk by
//! both. Gives throughput, latency, and the processor time of the servers per operation; the time from the death of a
//! leader to the next acknowledged write; memory and restart with many znodes. Medians of the runs.
//!
//! ```text
//! cargo bench -p flow-coordinator --bench coordinator -- [SECONDS [RUNS [ZNODES]]]      5 3 1000000
//! ```
//!
//! The load generator runs on the same machine, so throughput is that of both together; the processor time is not.
//! Without `/usr/share/java/zookeeper.jar` and a java ours is measured alone.

mod client;
mod failover;
mod load;
mod servers;
mod znodes;

use std::process::ExitCode;

use load::{Kind, Measured};
use servers::{Ensemble, Whose};

/// Clients, and requests that each has under way.
const CONNECTIONS: usize = 32;
const IN_FLIGHT: usize = 32;

/// Leaders that are killed, for one median.
const FAILOVERS: usize = 7;

struct Options {
    seconds: f64,
    runs: usize,
    znodes: u64,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some((servers::COMMAND, rest)) = arguments.split_first().map(|(one, rest)| (one.as_str(), rest)) {
        return servers::serve(rest);
    }
    // Cargo adds a flag of its own.
    let numbers: Vec<f64> =
        arguments.iter().filter(|one| !one.starts_with('-')).filter_map(|one| one.parse().ok()).collect();
    let number = |at: usize, usual: f64| numbers.get(at).copied().unwrap_or(usual);
    let options =
        Options { seconds: number(0, 5.0), runs: number(1, 3.0) as usize, znodes: number(2, 1e6) as u64 };
    match measure(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> Result<(), String> {
    let mut all = vec![Whose::Ours];
    match servers::reference_is_missing() {
        None => all.push(Whose::Debian),
        Some(reason) => println!("ours alone: {reason}"),
    }
    println!(
        "{CONNECTIONS} clients with {IN_FLIGHT} requests under way, {} s each, medians of {} runs",
        options.seconds, options.runs
    );
    for size in [1, 3] {
        throughput(size, &all, options)?;
    }
    println!("\nfrom `kill -9` of the leader to the next acknowledged write, ms ({FAILOVERS} times)");
    for &whose in &all {
        let mut times = failover::measure(whose, FAILOVERS)?;
        times.sort_by(f64::total_cmp);
        let (first, last) = (times[0], times[times.len() - 1]);
        println!("{:10} median {:6.0}   least {first:6.0}   most {last:6.0}", whose.name(), middle(&times));
    }
    println!("\n{} znodes of 100 B", options.znodes);
    for &whose in &all {
        let found = znodes::measure(whose, options.znodes)?;
        println!(
            "{:10} filled in {:5.1} s   resident {:5.0} MB   restart {:5.2} s   then resident {:5.0} MB",
            whose.name(),
            found.fill_s,
            found.resident_mb,
            found.restart_s,
            found.restarted_mb
        );
    }
    Ok(())
}

/// Every kind of load on ensembles of this size, by turns.
fn throughput(size: u32, all: &[Whose], options: &Options) -> Result<(), String> {
    let mut ensembles = Vec::new();
    for &whose in all {
        let ensemble = Ensemble::start(whose, size)?;
        load::prepare(&ensemble)?;
        ensembles.push(ensemble);
    }
    println!("\n{size} server{}", if size == 1 { "" } else { "s" });
    println!(
        "{:18} {:10} {:>9} {:>9} {:>9} {:>9} {:>7}",
        "", "", "ops/s", "p50 ms", "p99 ms", "CPU µs", "errors"
    );
    for kind in Kind::ALL {
        let mut found: Vec<Vec<Measured>> = vec![Vec::new(); all.len()];
        for _ in 0..options.runs {
            for (ensemble, found) in ensembles.iter().zip(&mut found) {
                found.push(load::run(ensemble, kind, options.seconds)?);
            }
        }
        for (whose, found) in all.iter().zip(&found) {
            let median = |value: fn(&Measured) -> f64| {
                let mut values: Vec<f64> = found.iter().map(value).collect();
                values.sort_by(f64::total_cmp);
                middle(&values)
            };
            println!(
                "{:18} {:10} {:9.0} {:9.2} {:9.2} {:9.1} {:7.0}",
                kind.name(),
                whose.name(),
                median(|one| one.per_second),
                median(|one| one.p50_ms),
                median(|one| one.p99_ms),
                median(|one| one.cpu_us),
                median(|one| one.errors as f64),
            );
        }
    }
    for ensemble in &ensembles {
        println!("{:29} peak memory {:.0} MB", ensemble.whose().name(), ensemble.peak_mb());
    }
    Ok(())
}

fn middle(sorted: &[f64]) -> f64 {
    sorted[sorted.len() / 2]
}
