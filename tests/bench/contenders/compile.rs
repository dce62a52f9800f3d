//! How long the chain takes from its text to a program that can run, in milliseconds of processor time.

use std::hint::black_box;

use crate::measure::{median, thread_ns};
use crate::ours::{Compiler, Engine, Flow};
use crate::patterns::{CASES, COMBINED, HEALTH};
use crate::table::verdict;
use crate::{remap, workloads};

pub const NAME: &str = "compile";

const MUST_MS: f64 = 20.0;
const AIM_MS: f64 = 5.0;

pub fn run(rounds: usize) {
    let (items, chain) = workloads::chain_flow();
    let text = Flow { items: &items, chain: &chain, fields: &[], time: true }.text();
    let vrl = workloads::chain_remap();
    let compiler = Compiler::new();
    let plan = compiler.plan(&text);
    let patterns = || [HEALTH, COMBINED].into_iter().chain(CASES);

    println!("\n{NAME}: the chain, {} regexes, {rounds} rounds", patterns().count());
    println!("  {:36} {:>10} {:>10}", "ms", "median", "least");
    show("regex crate: its regexes", rounds, || patterns().map(workloads::regex_of).collect::<Vec<_>>());
    show("PCRE2 JIT: its regexes", rounds, || patterns().map(workloads::pcre2_of).collect::<Vec<_>>());
    show("VRL: text to program", rounds, || remap::compile(&vrl));
    show("ours: the library", rounds, Compiler::new);
    let checked = show("ours: text to plan", rounds, || compiler.plan(&text));
    for engine in Engine::ALL {
        let name = format!("{}: plan to program", engine.name());
        let built = show(&name, rounds, || compiler.executor(&plan, engine));
        let ms = checked + built;
        for (word, limit) in [("must", MUST_MS), ("aim", AIM_MS)] {
            let name = format!("{}: text to program", engine.name());
            println!("  {name:36} {word} {limit} ms: {ms:.1} ms, {}", verdict(ms <= limit));
        }
    }
}

/// The median.
fn show<T>(name: &str, rounds: usize, mut work: impl FnMut() -> T) -> f64 {
    black_box(work());
    let mut ms = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let begin = thread_ns();
        let made = work();
        ms.push((thread_ns() - begin) as f64 / 1e6);
        black_box(made);
    }
    let least = ms.iter().copied().fold(f64::INFINITY, f64::min);
    let median = median(ms);
    println!("  {name:36} {median:>10.2} {least:>10.2}");
    median
}
