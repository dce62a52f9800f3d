//! Thousands of short random lives of a log on a disk that breaks, each compared with a model that cannot.
//!
//! `FLOW_LOG_SEEDS` says how many; `FLOW_LOG_SEED` replays one.

mod flips;
mod model;
mod regressions;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use self::world::World;

/// Lives in an ordinary test run.
const SEEDS: u64 = 300;
/// What is done in one life.
const STEPS: usize = 60;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn whatever_breaks_what_was_synced_is_there_and_nothing_else() {
    let seeds = match number("FLOW_LOG_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("FLOW_LOG_SEEDS").unwrap_or(SEEDS),
    };
    for seed in seeds {
        let life = catch_unwind(AssertUnwindSafe(|| {
            let mut world = World::new(seed);
            (0..STEPS).for_each(|_| world.step());
            world.end();
        }));
        if let Err(panic) = life {
            eprintln!("replay: FLOW_LOG_SEED={seed} cargo test -p flow-log --lib simulation");
            std::panic::resume_unwind(panic);
        }
    }
}
