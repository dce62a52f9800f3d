//! Steps that drop what they have let through before, and what their sources hear of it.

use super::ack::{Seen, watched};
use super::*;
use crate::ack::Outcome;
use crate::exec::Natives;
use crate::interceptor::{Failed, Interceptor, Interceptors, Lowered};
use crate::ir::StepOp;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// Drops bodies that it has seen.
#[derive(Default)]
struct Once {
    seen: BTreeMap<Vec<u8>, u64>,
    pass: u64,
}

impl Interceptor for Once {
    fn apply(&mut self, batch: &mut Batch, _now_ms: i64) -> Vec<Failed> {
        let rows = std::mem::take(&mut batch.rows);
        let mut admit = |row: u32| match self.seen.entry(batch.body(row).to_vec()) {
            Entry::Occupied(_) => false,
            Entry::Vacant(place) => {
                place.insert(self.pass);
                true
            }
        };
        let rows: Vec<u32> = rows.into_iter().filter(|&row| admit(row)).collect();
        batch.rows = rows;
        Vec::new()
    }

    fn remembers(&self) -> bool {
        true
    }

    fn begin(&mut self, pass: u64) {
        self.pass = pass;
    }

    fn forget(&mut self, pass: u64) {
        self.seen.retain(|_, learned| *learned != pass);
    }
}

fn once(origin: u32) -> ir::Step {
    ir::Step {
        name: "once".into(),
        op: StepOp::Kind { kind: "once".into(), settings: Default::default() },
        origin: OriginId(origin),
        errors: None,
    }
}

struct Site(Natives, Interceptors);

impl Site {
    fn new() -> Site {
        let mut interceptors = Interceptors::new();
        interceptors.add("once", |_, _| Ok(Lowered::Native(Box::new(Once::default()))));
        Site(Natives::new(), interceptors)
    }

    fn program(&self, steps: Vec<ir::Step>, renew: bool) -> Executor {
        let program = program(steps, to(0).end, &[false], vec![]);
        Executor::with_natives(&plan(), &program, &functions(), &self.1, None, &self.0, renew).unwrap()
    }
}

/// What a program lets through, and what the source hears.
fn run(executor: &mut Executor, bodies: &[&str]) -> (Vec<Batch>, Seen) {
    let mut outputs = Outputs::new();
    let (batch, seen) = watched(batch(bodies));
    executor.run(batch, 0, &mut outputs);
    (std::mem::take(&mut outputs.batches[0]), seen)
}

fn deliver(batches: Vec<Batch>) {
    batches.into_iter().for_each(|batch| batch.ack.done());
}

fn heard(seen: &Seen) -> Vec<Outcome> {
    seen.lock().unwrap().clone()
}

#[test]
fn a_repeated_event_is_delivered_with_its_first_time() {
    // The source of the repeated event heard `Delivered` at once, while the first one stood in a memory channel:
    // a killed process lost an event that was confirmed.
    let mut executor = Site::new().program(vec![once(1)], false);
    let (first, first_heard) = run(&mut executor, &["a"]);
    let (second, second_heard) = run(&mut executor, &["a"]);
    let (third, third_heard) = run(&mut executor, &["b"]);
    assert!(second.is_empty());
    assert!(heard(&second_heard).is_empty());
    deliver(third);
    assert_eq!(heard(&third_heard), [Outcome::Delivered], "it has nothing to do with the others");
    deliver(first);
    assert_eq!(heard(&first_heard), [Outcome::Delivered]);
    assert_eq!(heard(&second_heard), [Outcome::Delivered]);
}

#[test]
fn a_lost_event_is_let_through_when_it_comes_again() {
    // A put that was given up (a client that does not wait any longer) left its events in the memory of the step:
    // the client's next try was dropped as a duplicate, and confirmed.
    let mut executor = Site::new().program(vec![once(1)], false);
    let (kept, _) = run(&mut executor, &["x"]);
    deliver(kept);
    let (first, first_heard) = run(&mut executor, &["a", "x"]);
    let (_, second_heard) = run(&mut executor, &["a"]);
    drop(first);
    assert_eq!(heard(&first_heard), [Outcome::Lost]);
    assert_eq!(heard(&second_heard), [Outcome::Lost], "its event was dropped for one that is lost");
    let (again, again_heard) = run(&mut executor, &["a", "x"]);
    assert_eq!(bodies(&again), ["a"], "only what was lost is forgotten");
    deliver(again);
    assert_eq!(heard(&again_heard), [Outcome::Delivered]);
}

#[test]
fn sources_on_one_chain_share_the_step_and_other_chains_do_not() {
    // `[a, b] -> dedupe -> c` had a memory for each source.
    let site = Site::new();
    let mut a = site.program(vec![once(1)], false);
    let mut b = site.program(vec![once(1)], false);
    let mut elsewhere = site.program(vec![once(2)], false);
    let (first, _) = run(&mut a, &["x", "y"]);
    let (second, second_heard) = run(&mut b, &["y", "z"]);
    assert_eq!(bodies(&second), ["z"]);
    deliver(second);
    assert!(heard(&second_heard).is_empty(), "`y` is on its way from the other source");
    deliver(first);
    assert_eq!(heard(&second_heard), [Outcome::Delivered]);
    assert_eq!(bodies(&run(&mut elsewhere, &["x"]).0), ["x"]);
    // Built again after a fault: it begins anew, for both.
    let mut again = site.program(vec![once(1)], true);
    let (third, _) = run(&mut b, &["x"]);
    assert_eq!(bodies(&third), ["x"]);
    assert_eq!(bodies(&run(&mut again, &["x"]).0), Vec::<String>::new());
}

#[test]
fn a_batch_that_passes_twice_does_not_wait_for_itself() {
    let mut executor = Site::new().program(vec![once(1), once(1)], false);
    let (first, first_heard) = run(&mut executor, &["a", "a"]);
    deliver(first);
    assert_eq!(heard(&first_heard), [Outcome::Delivered]);
}
