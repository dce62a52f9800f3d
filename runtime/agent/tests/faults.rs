//! Random faults, seeded: whatever a source was told is delivered is in every sink or among the dead letters, and
//! once the faults stop everything arrives. A failure prints its seed.

mod support;

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flow_agent::{Fault, HostOptions, Receipt, SinkError, SourceError, SourceOutput, Stop, receipt};
use flow_plan::Outcome;
use flow_plan::ir::{self, Expr, Stmt};
use flow_plan::plan::{OriginId, Target};
use flow_plan::value::Value;
use support::*;

const EVENTS: usize = 80;
const SINKS: [&str; 3] = ["one", "two", "three"];
const OPEN_RECEIPTS_MAX: usize = 4;

#[derive(Clone)]
struct Dice(Arc<Mutex<u64>>);

impl Dice {
    fn new(seed: u64) -> Dice {
        Dice(Arc::new(Mutex::new(seed)))
    }

    fn below(&self, bound: u64) -> u64 {
        let mut state = lock(&self.0);
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = *state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn one_in(&self, odds: u64) -> bool {
        self.below(odds) == 0
    }
}

/// A log that is read from the position up to which everything is known to be delivered.
async fn replay(
    output: SourceOutput,
    stop: Stop,
    position: Arc<Mutex<usize>>,
    dice: Dice,
    faults: bool,
    ahead: bool,
) -> Result<(), SourceError> {
    let mut next = *lock(&position);
    let mut open: VecDeque<(usize, Receipt)> = VecDeque::new();
    loop {
        if stop.is_stopped() {
            return Err(SourceError::Stopped);
        }
        if faults && dice.one_in(25) {
            return Err(SourceError::Retry(Fault::new("directory is away")));
        }
        assert!(!faults || !dice.one_in(40), "a planned panic of a source");
        if next < EVENTS && open.len() < OPEN_RECEIPTS_MAX {
            let end = (next + 1 + dice.below(9) as usize).min(EVENTS);
            let (ack, receipt) = receipt();
            let mut batch = batch(&numbers(next..end));
            batch.ack = ack;
            if ahead {
                output.send_ahead(batch).await?
            } else {
                output.send(batch).await?
            }
            open.push_back((end, receipt));
            next = end;
            continue;
        }
        let Some((end, receipt)) = open.pop_front() else { return Ok(()) };
        let mut asked = stop.clone();
        tokio::select! {
            biased;
            outcome = receipt => match outcome {
                Ok(Outcome::Delivered) => {
                    let mut position = lock(&position);
                    *position = end.max(*position);
                }
                _ => return Err(SourceError::Retry(Fault::new("events were lost"))),
            },
            () = asked.stopped() => return Err(SourceError::Stopped),
        }
    }
}

fn is_bad(body: &str) -> bool {
    body.ends_with('7')
}

fn random_sink(world: &World, sink: &str, dice: &Dice, fatal: bool) {
    let dice = dice.clone();
    world.behave(sink, move |bodies| {
        if fatal && dice.one_in(60) {
            return Err(SinkError::Fatal(Fault::new("gone")));
        }
        if dice.one_in(4) {
            return Err(SinkError::Retry(Fault::new("busy")));
        }
        assert!(!dice.one_in(20), "a planned panic of a sink");
        if bodies.iter().any(|body| is_bad(body)) {
            return Err(SinkError::Refused(Fault::new("bad")));
        }
        Ok(())
    });
}

fn kept(world: &World, sink: &str) -> BTreeSet<usize> {
    let dead = world.dead(sink);
    let dead = dead.iter().map(|letter| letter["body"].as_str().unwrap().to_owned());
    world.written(sink).into_iter().chain(dead).map(|body| body.parse().unwrap()).collect()
}

fn check(world: &World, position: usize, seed: u64) {
    for sink in ["one", "two"] {
        let mut kept = kept(world, sink);
        if sink == "one" {
            kept.extend(self::kept(world, "three"));
        }
        let missing: Vec<usize> = (0..position).filter(|number| !kept.contains(number)).collect();
        assert!(missing.is_empty(), "seed {seed}: `{sink}` misses {missing:?} of {position} acknowledged");
    }
}

/// When the step of [`stumbling_step`] panics. One ordeal at a time.
static STUMBLES: Mutex<Option<Dice>> = Mutex::new(None);

fn stumbling_step() -> ir::Step {
    let value = Expr::Call { function: "stumble".into(), args: vec![Expr::Body], origin: OriginId(1) };
    let op = ir::StepOp::Code(ir::Code { locals: 0, body: vec![Stmt::Expr { value }] });
    ir::Step { name: "stumble".into(), op, origin: OriginId(1), errors: None }
}

async fn ordeal(seed: u64) {
    let world = World::new();
    let dice = Dice::new(seed);
    let mut draft = Draft::new(&world);
    let (one, two) = (draft.sink("one"), draft.sink("two"));
    let first = draft.channel("first", 5 + dice.below(30), vec![output(Target::Sink(one))]);
    let second = draft.channel("second", 5 + dice.below(30), vec![output(Target::Sink(two))]);
    draft.source("in", vec![output(Target::Channel(first)), output(Target::Channel(second))]);
    if dice.one_in(2) {
        // What `one` refuses goes on through a channel to `three`, which refuses it once more.
        let three = draft.sink("three");
        let rejects = draft.channel("rejects", 1 + dice.below(9), vec![output(Target::Sink(three))]);
        let program = draft.copies("one.errors", vec![output(Target::Channel(rejects))]);
        draft.agent.sinks[one as usize].errors = Some(program);
    }
    for channel in [first, second] {
        if dice.one_in(2) {
            draft.agent.channels[channel as usize].abilities.push("durable".to_owned());
        }
    }
    for sink in SINKS {
        *lock(&world.sink(sink).batch) = 1 + dice.below(20) as usize;
        random_sink(&world, sink, &dice, true);
    }
    let position = Arc::new(Mutex::new(0));
    let faulty = Arc::new(Mutex::new(true));
    {
        let (position, dice, faulty) = (position.clone(), dice.clone(), faulty.clone());
        let ahead = !dice.one_in(4);
        world.source("in", move |output, stop| {
            replay(output, stop, position.clone(), dice.clone(), *lock(&faulty), ahead)
        });
    }
    if dice.one_in(2) {
        let program = draft.agent.sources[0].program as usize;
        draft.agent.programs[program].body.steps.push(stumbling_step());
    }
    *lock(&STUMBLES) = Some(dice.clone());
    let plan = draft.plan();
    let mut registry = registry();
    registry.functions.add_varying("stumble", |_, _| {
        let stumbles = lock(&STUMBLES).as_ref().is_some_and(|dice| dice.one_in(150));
        assert!(!stumbles, "a planned panic of a step");
        Ok(Value::Null)
    });
    let workers_max = 1 + dice.below(4) as usize;
    let change = |options: &mut HostOptions| {
        options.drain_max = Duration::from_secs(2);
        options.workers_max = workers_max;
        options.overlap_from = Duration::ZERO;
    };
    for _ in 0..6 {
        let running = world.start_in(&plan, &registry, change).unwrap();
        let time = Duration::from_millis(dice.below(4_000));
        let _ = tokio::time::timeout(time, running.wait()).await;
        check(&world, *lock(&position), seed);
        match dice.below(3) {
            0 => {
                running.stop();
                running.wait().await;
            }
            1 => {
                running.stop_now();
                running.wait().await;
            }
            _ => {}
        }
        drop(running);
        // The tasks of a killed run are gone with the next turn of the runtime.
        pass(Duration::from_millis(10)).await;
        check(&world, *lock(&position), seed);
    }
    *lock(&faulty) = false;
    *lock(&STUMBLES) = None;
    for sink in SINKS {
        random_sink(&world, sink, &dice, false);
    }
    let running = world.start_in(&plan, &registry, change).unwrap();
    let end = running.wait().await;
    assert!(!end.failed, "seed {seed}: {end:?}");
    assert_eq!(*lock(&position), EVENTS, "seed {seed}");
    check(&world, EVENTS, seed);
    for sink in SINKS {
        assert!(!world.written(sink).iter().any(|body| is_bad(body)), "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_acknowledged_is_never_lost() {
    // Planned panics are part of it: keep them off the terminal.
    std::panic::set_hook(Box::new(|panic| {
        let planned = panic.payload_as_str().is_some_and(|text| text.starts_with("a planned panic"));
        if !planned {
            eprintln!("{panic}");
        }
    }));
    // `FLOW_SEEDS=2000 cargo test -p flow-agent --test faults` is the long form.
    let seeds = std::env::var("FLOW_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    for seed in 0..seeds {
        ordeal(seed).await;
    }
}

/// Whatever a sink does, the events of a source leave a channel in their order, each once.
#[tokio::test(start_paused = true)]
async fn faults_of_a_sink_keep_the_order_and_repeat_nothing() {
    for seed in 0..30 {
        let world = World::new();
        let dice = Dice::new(seed);
        let draft = Draft::line(&world, 1 + dice.below(40));
        *lock(&world.sink("out").batch) = 1 + dice.below(20) as usize;
        random_sink(&world, "out", &dice, false);
        let position = Arc::new(Mutex::new(0));
        world.source("in", move |output, stop| {
            replay(output, stop, position.clone(), Dice::new(seed), false, seed % 2 == 0)
        });
        let change = |options: &mut HostOptions| {
            options.workers_max = 3;
            options.overlap_from = Duration::ZERO;
        };
        let running = world.start_with(&draft.plan(), change).unwrap();
        assert!(!running.wait().await.failed, "seed {seed}");
        let (bad, good): (Vec<String>, Vec<String>) =
            numbers(0..EVENTS).into_iter().partition(|body| is_bad(body));
        assert_eq!(world.written("out"), good, "seed {seed}");
        let dead: Vec<String> =
            world.dead("out").iter().map(|letter| letter["body"].as_str().unwrap().to_owned()).collect();
        assert_eq!(dead, bad, "seed {seed}");
    }
}
