//! Batches that a source sends ahead: programs that run at once, the order that is kept, what faults, stops and the
//! end of a source do to batches on their way, and the bounds of what is on its way.

mod support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use flow_agent::host::{WINDOW_BATCHES_PER_WORKER, WINDOW_BYTES_MAX};
use flow_agent::status::PartState;
use flow_agent::{Agents, Host, HostOptions, Receipt, Registry, Running, SourceError, SourceOutput, receipt};
use flow_plan::interceptor::{Failed, Interceptor, Lowered};
use flow_plan::ir::{self, Expr, Stmt};
use flow_plan::plan::{OriginId, Target};
use flow_plan::value::Value;
use flow_plan::{Batch, Outcome, Settings};
use support::*;

const WORKERS: usize = 4;

/// A step that calls a function with the body.
fn call(function: &str) -> ir::Step {
    let value = Expr::Call { function: function.into(), args: vec![Expr::Body], origin: OriginId(1) };
    let op = ir::StepOp::Code(ir::Code { locals: 0, body: vec![Stmt::Expr { value }] });
    ir::Step { name: function.into(), op, origin: OriginId(1), errors: None }
}

fn kind(name: &str) -> ir::Step {
    let op = ir::StepOp::Kind { kind: name.into(), settings: Settings::new() };
    ir::Step { name: name.into(), op, origin: OriginId(1), errors: None }
}

/// `in -> step -> buf -> out`
fn line(world: &World, step: Option<ir::Step>, capacity: u64) -> Draft {
    let mut draft = Draft::line(world, capacity);
    draft.agent.programs[1].body.steps.extend(step);
    draft
}

/// Everything is handed over, however quick the program is.
fn start(world: &World, draft: &Draft, change: impl FnOnce(&mut Registry)) -> Running {
    let mut registry = registry();
    change(&mut registry);
    let mut options = HostOptions::new(world.dir.path().to_owned());
    options.workers_max = WORKERS;
    options.overlap_from = Duration::ZERO;
    Host::start(&draft.plan(), &Agents::All, &registry, options).unwrap()
}

async fn send_ahead(output: &SourceOutput, bodies: &[String]) -> Result<Receipt, SourceError> {
    let (ack, receipt) = receipt();
    let mut batch = batch(bodies);
    batch.ack = ack;
    output.send_ahead(batch).await?;
    Ok(receipt)
}

/// A source that sends the numbers one by one, with receipts that the world keeps, and ends.
fn send_numbers(world: &Arc<World>, count: usize) {
    let keeper = world.clone();
    world.source("in", move |output, _| {
        let world = keeper.clone();
        async move {
            for number in numbers(0..count) {
                let receipt = send_ahead(&output, &[number]).await?;
                lock(&world.receipts).push(receipt);
                world.sent.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        }
    });
}

fn sent(world: &World) -> usize {
    world.sent.load(Ordering::Relaxed) as usize
}

fn source_state(running: &Running) -> PartState {
    running.status().agents[0].sources[0].state
}

/// Batches that are inside of the function `meet`, and those that have left it, by group.
static MET: Mutex<BTreeMap<usize, (usize, usize)>> = Mutex::new(BTreeMap::new());
static MOVED: Condvar = Condvar::new();

/// Returns when all of a group are in, the last one first. A group that never meets is a failure.
fn meet(body: &str) {
    let number: usize = body.parse().unwrap();
    let (group, place) = (number / WORKERS, number % WORKERS);
    let mut met = lock(&MET);
    met.entry(group).or_default().0 += 1;
    MOVED.notify_all();
    loop {
        let (inside, left) = met[&group];
        if inside == WORKERS && left == WORKERS - 1 - place {
            break;
        }
        let (guard, wait) = MOVED.wait_timeout(met, Duration::from_secs(60)).unwrap();
        assert!(!wait.timed_out(), "batches {inside} of {WORKERS} met");
        met = guard;
    }
    if let Some((_, left)) = met.get_mut(&group) {
        *left += 1;
    }
    MOVED.notify_all();
}

fn body_of(args: &[Value<'_>]) -> String {
    let [Value::Text(body)] = args else { panic!("{args:?}") };
    String::from_utf8_lossy(body).into_owned()
}

/// Four batches are in the program at the same time and leave it backwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn programs_run_at_once_and_what_they_give_stays_in_order() {
    const BATCHES: usize = 20 * WORKERS;
    let world = World::new();
    send_numbers(&world, BATCHES);
    let running = start(&world, &line(&world, Some(call("meet")), 7), |registry| {
        registry.functions.add_varying("meet", |_, args| {
            meet(&body_of(&args));
            Ok(Value::Null)
        });
    });
    let end = running.wait().await;
    assert!(!end.failed, "{end:?}");
    assert_eq!(world.written("out"), numbers(0..BATCHES));
    let program = &running.status().agents[0].sources[0].program;
    assert_eq!((program.events_in, program.steps[0].events_in), (BATCHES as u64, BATCHES as u64));
    for receipt in lock(&world.receipts).iter_mut() {
        assert_eq!(receipt.try_recv(), Ok(Outcome::Delivered));
    }
}

/// Takes a time that depends on the text.
fn spin(body: &str) {
    let seed = body.bytes().fold(7_u64, |seed, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte)));
    let turns = (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) % 60_000;
    for turn in 0..turns {
        std::hint::black_box(turn);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_channel_gets_the_order_of_the_source_whatever_programs_take() {
    const BATCHES: usize = 600;
    let world = World::new();
    let mut draft = Draft::new(&world);
    let (quick, slow) = (draft.sink("quick"), draft.sink("slow"));
    let first = draft.channel("first", 100, vec![output(Target::Sink(quick))]);
    // Every batch waits for the sink.
    let second = draft.channel("second", 1, vec![output(Target::Sink(slow))]);
    for source in ["a", "b"] {
        draft.source(source, vec![output(Target::Channel(first)), output(Target::Channel(second))]);
        draft.agent.programs.last_mut().unwrap().body.steps.push(call("spin"));
        world.source(source, move |output, _| async move {
            let mut receipts = Vec::new();
            for number in 0..BATCHES {
                let bodies: Vec<String> =
                    (0..1 + number % 5).map(|row| format!("{source}{:05}", number * 10 + row)).collect();
                receipts.push(send_ahead(&output, &bodies).await?);
            }
            for receipt in receipts {
                assert_eq!(receipt.await, Ok(Outcome::Delivered));
            }
            Ok(())
        });
    }
    let running = start(&world, &draft, |registry| {
        registry.functions.add_varying("spin", |_, args| {
            spin(&body_of(&args));
            Ok(Value::Null)
        });
    });
    let end = running.wait().await;
    assert!(!end.failed, "{end:?}");
    for sink in ["quick", "slow"] {
        let written = world.written(sink);
        for source in ["a", "b"] {
            let of_source: Vec<&String> = written.iter().filter(|body| body.starts_with(source)).collect();
            assert_eq!(of_source.len(), BATCHES * 3);
            assert!(of_source.is_sorted(), "source `{source}` in sink `{sink}`");
        }
    }
}

/// Fails the test when two batches are in it at the same time.
struct Alone(&'static AtomicUsize);

impl Interceptor for Alone {
    fn apply(&mut self, batch: &mut Batch, _now_ms: i64) -> Vec<Failed> {
        assert_eq!(self.0.fetch_add(1, Ordering::SeqCst), 0, "two batches at once");
        for &row in &batch.rows {
            spin(&String::from_utf8_lossy(batch.body(row)));
        }
        self.0.fetch_sub(1, Ordering::SeqCst);
        Vec::new()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_program_that_keeps_state_takes_its_batches_one_by_one() {
    static INSIDE: AtomicUsize = AtomicUsize::new(0);
    let world = World::new();
    send_numbers(&world, 300);
    let running = start(&world, &line(&world, Some(kind("alone")), 50), |registry| {
        registry.interceptors.add("alone", |_, _| Ok(Lowered::Native(Box::new(Alone(&INSIDE)))));
    });
    assert!(!running.wait().await.failed);
    assert_eq!(world.written("out"), numbers(0..300));
}

fn held_line(world: &Arc<World>) -> Running {
    world.hold("out");
    start(world, &line(world, None, 1), |_| {})
}

#[tokio::test(start_paused = true)]
async fn a_full_window_holds_the_source_and_a_stop_gives_back_what_is_repeated() {
    let world = World::new();
    send_numbers(&world, 100);
    let running = held_line(&world);
    pass(Duration::from_secs(5)).await;
    // One is in the channel.
    assert_eq!(sent(&world), 1 + WORKERS * WINDOW_BATCHES_PER_WORKER);
    running.stop();
    until("the source has stopped", || source_state(&running) == PartState::Stopped).await;
    let outcomes: Vec<_> = lock(&world.receipts).iter_mut().map(|receipt| receipt.try_recv().ok()).collect();
    assert_eq!(outcomes[0], None);
    assert!(outcomes[1..].iter().all(|outcome| *outcome == Some(Outcome::Lost)), "{outcomes:?}");
    world.release("out");
    assert!(!running.wait().await.failed);
    assert_eq!(world.written("out"), ["0"]);
}

/// Sends numbers that nobody repeats, and ends at once.
fn send_plain(world: &Arc<World>, count: usize) {
    let keeper = world.clone();
    world.source("in", move |output, _| {
        let world = keeper.clone();
        async move {
            for number in numbers(0..count) {
                output.send_ahead(batch(&[number])).await?;
                world.sent.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        }
    });
}

#[tokio::test(start_paused = true)]
async fn a_source_has_not_finished_before_what_it_sent_ahead_has_a_place() {
    let world = World::new();
    send_plain(&world, 8);
    let running = held_line(&world);
    until("all were sent", || sent(&world) == 8).await;
    pass(Duration::from_secs(5)).await;
    assert_eq!(source_state(&running), PartState::Running);
    world.release("out");
    let end = running.wait().await;
    assert!(!end.failed && end.events_left == 0, "{end:?}");
    assert_eq!(world.written("out"), numbers(0..8));
    assert_eq!(source_state(&running), PartState::Finished);
}

#[tokio::test(start_paused = true)]
async fn on_stop_what_nobody_repeats_goes_on_through_the_window() {
    let world = World::new();
    send_plain(&world, 8);
    let running = held_line(&world);
    until("all were sent", || sent(&world) == 8).await;
    running.stop();
    pass(Duration::from_secs(1)).await;
    world.release("out");
    assert!(!running.wait().await.failed);
    assert_eq!(world.written("out"), numbers(0..8));
}

#[tokio::test(start_paused = true)]
async fn stop_now_loses_what_is_in_the_window_to_its_source() {
    let world = World::new();
    send_numbers(&world, 8);
    let running = held_line(&world);
    until("all were sent", || sent(&world) == 8).await;
    running.stop_now();
    running.wait().await;
    drop(running);
    pass(Duration::from_millis(10)).await;
    for receipt in lock(&world.receipts).iter_mut() {
        assert_eq!(receipt.try_recv(), Ok(Outcome::Lost));
    }
}

/// The memory of what is on its way is bounded, not only the number of batches; a batch that is larger than all of
/// the bound goes its way without the window.
#[tokio::test(start_paused = true)]
async fn the_window_holds_a_bounded_number_of_bytes() {
    let world = World::new();
    let bytes = WINDOW_BYTES_MAX as usize / 3 + 1;
    let keeper = world.clone();
    world.source("in", move |output, _| {
        let world = keeper.clone();
        async move {
            for size in [bytes, bytes, bytes, bytes, 3 * bytes, 1] {
                output.send_ahead(batch(&["x".repeat(size)])).await?;
                world.sent.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        }
    });
    let running = held_line(&world);
    pass(Duration::from_secs(5)).await;
    assert_eq!(sent(&world), 1 + 2);
    world.release("out");
    assert!(!running.wait().await.failed);
    let sizes: Vec<usize> = world.written("out").iter().map(String::len).collect();
    assert_eq!(sizes, [bytes, bytes, bytes, bytes, 3 * bytes, 1]);
}

fn add_bomb(registry: &mut Registry) {
    registry.functions.add_varying("bomb", |_, args| {
        assert!(body_of(&args) != "bomb", "a planned panic of a step");
        Ok(Value::Null)
    });
}

/// The batches behind a lost one would overtake it when it comes again.
#[tokio::test(start_paused = true)]
async fn a_fault_is_told_later_and_takes_along_what_is_repeated_behind_it() {
    let world = World::new();
    let told = Arc::new(Mutex::new(Vec::new()));
    let (keeper, teller) = (world.clone(), told.clone());
    world.source("in", move |output, _| {
        let (world, told) = (keeper.clone(), teller.clone());
        async move {
            let begins = lock(&told).is_empty();
            if begins {
                for body in ["a", "waits", "bomb", "b", "c"] {
                    let receipt = send_ahead(&output, &[body.to_owned()]).await?;
                    lock(&world.receipts).push(receipt);
                }
                // Nobody would bring this one again.
                output.send_ahead(batch(&["plain".to_owned()])).await?;
                // Until now nobody had room: otherwise the fault would have been told already.
                world.release("out");
                let mut outcomes = Vec::new();
                let receipts = std::mem::take(&mut *lock(&world.receipts));
                for receipt in receipts {
                    outcomes.push(receipt.await);
                }
                *lock(&told) = outcomes;
                return send_ahead(&output, &["d".to_owned()]).await.map(drop);
            }
            send_ahead(&output, &["again".to_owned()]).await.map(drop)
        }
    });
    world.hold("out");
    let running = start(&world, &line(&world, Some(call("bomb")), 1), add_bomb);
    let mut notices = running.notices();
    assert!(!running.wait().await.failed);
    let (delivered, lost) = (Ok(Outcome::Delivered), Ok(Outcome::Lost));
    assert_eq!(*lock(&told), [delivered.clone(), delivered, lost.clone(), lost.clone(), lost]);
    assert_eq!(world.written("out"), ["a", "waits", "plain", "again"]);
    let notice = notices.recv().await.unwrap();
    assert!(notice.fault.message.contains("a planned panic of a step"), "{notice:?}");
    assert_eq!(running.status().agents[0].sources[0].restarts, 1);
}

#[tokio::test(start_paused = true)]
async fn a_fault_in_the_last_batch_is_told_at_the_end() {
    let world = World::new();
    let starts = Arc::new(AtomicUsize::new(0));
    let counter = starts.clone();
    world.source("in", move |output, _| {
        let first = counter.fetch_add(1, Ordering::Relaxed) == 0;
        async move {
            if first {
                send_ahead(&output, &["a".to_owned()]).await?;
                send_ahead(&output, &["bomb".to_owned()]).await?;
            }
            Ok(())
        }
    });
    let running = start(&world, &line(&world, Some(call("bomb")), 10), add_bomb);
    assert!(!running.wait().await.failed);
    assert_eq!((starts.load(Ordering::Relaxed), world.written("out")), (2, vec!["a".to_owned()]));
}

/// A source that had nothing to read hands its next batch over by itself: there is nothing to overlap with.
#[tokio::test(start_paused = true)]
async fn a_batch_that_comes_alone_is_in_the_channel_when_it_is_sent() {
    let world = World::new();
    let keeper = world.clone();
    world.source("in", move |output, mut stop| {
        let world = keeper.clone();
        async move {
            for number in numbers(0..2) {
                output.idle();
                output.send_ahead(batch(&[number])).await?;
                world.sent.fetch_add(1, Ordering::Relaxed);
            }
            stop.stopped().await;
            Ok(())
        }
    });
    let running = held_line(&world);
    pass(Duration::from_secs(1)).await;
    assert_eq!(sent(&world), 1);
    world.release("out");
    until("the second found room", || sent(&world) == 2).await;
    running.stop();
    assert!(!running.wait().await.failed);
}
