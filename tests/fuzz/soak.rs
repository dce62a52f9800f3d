//! Runs random programs both ways for some time and keeps what shows something new.
//!
//! `cargo run --example soak -- SECONDS SEED [KEEP_IN]`: inputs with a shape that the corpus has not shown are written
//! into `KEEP_IN`, one whose answers differ into `differs-…` there; then the exit code is 1.

#[path = "../support/logs.rs"]
#[allow(dead_code, reason = "only its random numbers are needed")]
mod logs;
#[path = "../support/same/mod.rs"]
mod same;

use std::collections::BTreeSet;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use logs::Random;
use same::mutate;

const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fuzz/corpus");

fn main() -> std::process::ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, otherwise| args.get(at).and_then(|arg| arg.parse().ok()).unwrap_or(otherwise);
    let (seconds, seed) = (number(0, 60), number(1, 1));
    let keep = args.get(2).map(Path::new);
    let mut random = Random::new(seed);
    let mut corpus: Vec<Vec<u8>> = fs::read_dir(CORPUS)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|file| fs::read(file.path()).ok())
        .collect();
    corpus.sort();
    let mut shapes: BTreeSet<String> = BTreeSet::new();
    for data in &corpus {
        shapes.extend(same::check(data).shapes);
    }
    println!("{} inputs with {} shapes", corpus.len(), shapes.len());
    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut runs, mut programs, mut rows, mut parts, mut native, mut differ) = (0u64, 0u64, 0, 0, 0, 0);
    while Instant::now() < end {
        let data = if corpus.is_empty() || random.below(2) == 0 {
            mutate::fresh(&mut random)
        } else {
            let [one, other] = [0; 2].map(|_: u8| random.below(corpus.len() as u64) as usize);
            mutate::mutated(&corpus[one], &corpus[other], &mut random)
        };
        runs += 1;
        match catch_unwind(AssertUnwindSafe(|| same::check(&data))) {
            Ok(seen) => {
                programs += u64::from(seen.checked);
                (rows, parts, native) = (rows + seen.rows, parts + seen.parts, native + seen.native);
                let before = shapes.len();
                shapes.extend(seen.shapes);
                if shapes.len() > before {
                    write(keep, "input", &data);
                    corpus.push(data);
                }
            }
            Err(_) => {
                differ += 1;
                write(keep, "differs", &data);
            }
        }
    }
    println!(
        "{runs} runs, {programs} programs, {native} of {parts} parts native, {rows} rows, {} shapes, {differ} differ",
        shapes.len()
    );
    u8::from(differ > 0).into()
}

fn write(folder: Option<&Path>, what: &str, data: &[u8]) {
    let Some(folder) = folder else { return };
    let mut hasher = DefaultHasher::new();
    data.hash(&mut hasher);
    let path = folder.join(format!("{what}-{:016x}", hasher.finish()));
    if let Err(error) = fs::write(&path, data) {
        eprintln!("{}: {error}", path.display());
    }
}
