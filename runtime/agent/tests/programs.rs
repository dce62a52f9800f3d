//! Programs inside the host: interceptors, routes, errors chains, dead letters of steps, and state that is renewed
//! when rows come again.

mod support;

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use flow_agent::{Agents, Fault, Host, HostOptions, SinkError};
use flow_plan::interceptor::{Failed, Interceptor, Lowered};
use flow_plan::ir::{self, CompareOp, Const, End, Expr, Stmt};
use flow_plan::plan::{OriginId, Output, Target};
use flow_plan::{Batch, Outcome, Settings, Slot};
use support::*;

fn body_is(text: &str) -> Expr {
    Expr::Compare {
        op: CompareOp::Eq,
        left: Box::new(Expr::Body),
        right: Box::new(Expr::Const(Const::Text(text.into()))),
    }
}

/// Fails the event whose body is `text`.
fn fail_on(text: &str, errors: Option<u32>) -> ir::Step {
    let message = Expr::Const(Const::Text("never seen".into()));
    let fail = Stmt::Fail { message, origin: OriginId(2) };
    let body = vec![Stmt::If { condition: body_is(text), then: vec![fail], otherwise: Vec::new() }];
    let op = ir::StepOp::Code(ir::Code { locals: 0, body });
    ir::Step { name: "parse".into(), op, origin: OriginId(1), errors }
}

fn kind(name: &str) -> ir::Step {
    let op = ir::StepOp::Kind { kind: name.into(), settings: Settings::new() };
    ir::Step { name: name.into(), op, origin: OriginId(1), errors: None }
}

fn ends(steps: Vec<ir::Step>, end: End) -> ir::Program {
    ir::Program { steps, end }
}

/// `in -> body -> buf -> out`, with the program given.
fn line_with(world: &World, body: ir::Program) -> Draft {
    let mut draft = Draft::line(world, 100);
    draft.agent.programs[1].body = body;
    draft
}

#[tokio::test(start_paused = true)]
async fn a_step_that_fails_keeps_its_event_as_a_dead_letter_and_lets_the_rest_flow() {
    let world = World::new();
    let draft = line_with(&world, ends(vec![fail_on("bad", None)], End::Output(0)));
    let running = world.start(&draft.plan()).unwrap();
    world.send("in", &["a", "bad", "b"]);
    world.act("in", Act::Finish);
    assert!(!running.wait().await.failed);
    assert_eq!(world.written("out"), ["a", "b"]);
    let dead = world.dead("parse");
    assert_eq!((dead[0]["body"].as_str(), dead[0]["error"].as_str()), (Some("bad"), Some("never seen")));
    assert_eq!(dead[0]["place"], "test.flow:3:1");
    // The number of the first event of the batch stood in every letter.
    assert_eq!(dead[0]["id"], 1);
    let program = &running.status().agents[0].sources[0].program;
    assert_eq!((program.events_in, program.events_out, program.errors, program.dead_letters), (3, 2, 1, 1));
    assert_eq!(program.steps[0].failed, 1);
    assert_eq!(lock(&world.receipts)[0].try_recv(), Ok(Outcome::Delivered));
}

#[tokio::test(start_paused = true)]
async fn dead_letters_that_cannot_be_written_are_not_done_and_come_again() {
    let world = World::new();
    let draft = line_with(&world, ends(vec![fail_on("bad", None)], End::Output(0)));
    let in_the_way = world.dir.path().join("main");
    std::fs::write(&in_the_way, b"a file").unwrap();
    let running = world.start(&draft.plan()).unwrap();
    let mut notices = running.notices();
    world.send("in", &["bad"]);
    let notice = notices.recv().await.unwrap();
    assert_eq!((notice.node.as_str(), notice.fault.code), ("in", Some("F0806")));
    std::fs::remove_file(&in_the_way).unwrap();
    world.send("in", &["bad"]);
    world.act("in", Act::Finish);
    running.wait().await;
    assert_eq!(world.dead("parse").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_errors_chain_takes_the_events_that_fail() {
    let world = World::new();
    let mut draft = line_with(&world, ends(vec![fail_on("bad", Some(0))], End::Output(0)));
    let errors = draft.sink("errors");
    let channel = draft.channel("errs", 10, vec![output(Target::Sink(errors))]);
    draft.agent.programs[1].outputs.push(output(Target::Channel(channel)));
    draft.agent.programs[1].errors.push(ends(Vec::new(), End::Output(1)));
    let running = world.start(&draft.plan()).unwrap();
    world.send("in", &["a", "bad"]);
    world.act("in", Act::Finish);
    assert!(!running.wait().await.failed);
    assert_eq!((world.written("out"), world.written("errors")), (vec!["a".into()], vec!["bad".into()]));
    assert!(world.dead("parse").is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_a_source_refuses_goes_through_its_errors_chain_with_the_reason() {
    let world = World::new();
    let mut draft = Draft::line(&world, 10);
    let errors = draft.sink("errors");
    let channel = draft.channel("errs", 10, vec![output(Target::Sink(errors))]);
    let is_marked = Expr::Compare {
        op: CompareOp::Eq,
        left: Box::new(Expr::Header(Slot(0))),
        right: Box::new(Expr::Const(Const::Text("not a frame".into()))),
    };
    let route = ir::Route {
        all: false,
        subject: None,
        locals: 0,
        arms: vec![ir::Arm {
            when: Some(is_marked),
            then: ends(Vec::new(), End::Output(0)),
            origin: OriginId(1),
        }],
        errors: None,
        origin: OriginId(1),
        name: "route".into(),
    };
    let body = ends(Vec::new(), End::Route(route));
    let program = draft.program("in.errors", body, vec![output(Target::Channel(channel))]);
    draft.agent.sources[0].errors = Some(program);
    let mut plan = draft.plan();
    plan.slots.push("error".into());
    let running = world.start(&plan).unwrap();
    world.act("in", Act::Refuse(vec!["junk".to_owned()], "not a frame"));
    world.act("in", Act::Finish);
    assert!(!running.wait().await.failed);
    assert_eq!(world.written("errors"), ["junk"]);
}

#[tokio::test(start_paused = true)]
async fn a_channel_drains_through_a_route_into_several_sinks() {
    let world = World::new();
    let mut draft = Draft::new(&world);
    let (one, two) = (draft.sink("one"), draft.sink("two"));
    let outputs = vec![output(Target::Sink(one)), output(Target::Sink(two))];
    let channel = draft.channel("buf", 100, outputs);
    draft.source("in", vec![output(Target::Channel(channel))]);
    let arm =
        |when, output| ir::Arm { when, then: ends(Vec::new(), End::Output(output)), origin: OriginId(1) };
    let route = ir::Route {
        all: false,
        subject: None,
        locals: 0,
        arms: vec![arm(Some(body_is("x")), 0), arm(None, 1)],
        errors: None,
        origin: OriginId(1),
        name: "route at line 1".into(),
    };
    draft.agent.programs[0].body = ends(Vec::new(), End::Route(route));
    let running = world.start(&draft.plan()).unwrap();
    world.send("in", &["x", "y", "x", "z"]);
    world.act("in", Act::Finish);
    assert!(!running.wait().await.failed);
    assert_eq!(world.written("one"), ["x", "x"]);
    assert_eq!(world.written("two"), ["y", "z"]);
}

/// Drops bodies that it has seen, as `dedupe` does.
struct Seen(BTreeSet<Vec<u8>>);

impl Interceptor for Seen {
    fn apply(&mut self, batch: &mut Batch, _now_ms: i64) -> Vec<Failed> {
        let rows = std::mem::take(&mut batch.rows);
        batch.rows = rows.into_iter().filter(|&row| self.0.insert(batch.body(row).to_vec())).collect();
        Vec::new()
    }
}

struct Bomb;

impl Interceptor for Bomb {
    fn apply(&mut self, batch: &mut Batch, _now_ms: i64) -> Vec<Failed> {
        assert!(batch.rows.iter().all(|&row| batch.body(row) != b"bomb"), "a planned panic of a step");
        Vec::new()
    }
}

/// A source that starts again repeats what was not delivered. If the step still remembered the first time, it
/// would drop the repeated event, and its acknowledgement would say that it was delivered.
#[tokio::test(start_paused = true)]
async fn steps_forget_what_they_have_seen_when_a_source_starts_again() {
    let world = World::new();
    let draft = line_with(&world, ends(vec![kind("seen")], End::Output(0)));
    let mut registry = registry();
    registry.interceptors.add("seen", |_, _| Ok(Lowered::Native(Box::new(Seen(BTreeSet::new())))));
    let options = HostOptions::new(world.dir.path().to_owned());
    let running = Host::start(&draft.plan(), &Agents::All, &registry, options).unwrap();
    world.send("in", &["a", "a"]);
    world.act("in", Act::Retry);
    world.send("in", &["a", "b"]);
    world.act("in", Act::Finish);
    assert!(!running.wait().await.failed);
    assert_eq!(world.written("out"), ["a", "a", "b"]);
    let step = &running.status().agents[0].sources[0].program.steps[0];
    assert_eq!((step.events_in, step.dropped), (4, 1));
}

#[tokio::test(start_paused = true)]
async fn a_step_that_panics_is_a_fault_of_its_source_and_the_rest_goes_on() {
    let world = World::new();
    let draft = line_with(&world, ends(vec![kind("bomb")], End::Output(0)));
    let mut registry = registry();
    registry.interceptors.add("bomb", |_, _| Ok(Lowered::Native(Box::new(Bomb))));
    let options = HostOptions::new(world.dir.path().to_owned());
    let running = Host::start(&draft.plan(), &Agents::All, &registry, options).unwrap();
    world.send("in", &["a", "bomb"]);
    world.send("in", &["b"]);
    world.act("in", Act::Finish);
    assert!(!running.wait().await.failed);
    assert_eq!(world.written("out"), ["b"]);
    let source = &running.status().agents[0].sources[0];
    assert_eq!(source.last_fault.as_ref().unwrap().fault.code, Some("F1109"));
}

#[tokio::test(start_paused = true)]
async fn an_unknown_interceptor_is_a_fault_of_the_start() {
    let world = World::new();
    let draft = line_with(&world, ends(vec![kind("marble")], End::Output(0)));
    let faults = world.start(&draft.plan()).err().unwrap();
    assert_eq!((faults[0].node.as_str(), faults[0].origin), ("marble", OriginId(1)));
}

/// What leaves a durable channel for a volatile one is not forgotten before it is safe.
#[tokio::test(start_paused = true)]
async fn a_durable_channel_waits_for_what_it_moved_to_a_volatile_one() {
    let world = World::new();
    let mut draft = Draft::line(&world, 100);
    draft.agent.channels[0].abilities.push("durable".into());
    let errors = draft.sink("rejected");
    let channel = draft.channel("rejects", 10, vec![output(Target::Sink(errors))]);
    let program = draft.copies("out.errors", vec![output(Target::Channel(channel))]);
    draft.agent.sinks[0].errors = Some(program);
    world.behave("out", |bodies| match bodies {
        [.., last] if last == "bad" => Err(SinkError::Refused(Fault::new("no"))),
        _ => Ok(()),
    });
    world.hold("rejected");
    let running = world.start(&draft.plan()).unwrap();
    world.send("in", &["good", "bad"]);
    until("the good one is written", || world.written("out") == ["good"]).await;
    pass(Duration::from_secs(1)).await;
    assert_eq!(running.status().agents[0].channels[0].fill.events, 2);
    world.release("rejected");
    until("it forgets", || running.status().agents[0].channels[0].fill.events == 0).await;
    world.act("in", Act::Finish);
    assert!(!running.wait().await.failed);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_comes_alone_is_written_at_once_and_a_trickle_together() {
    let world = World::new();
    let linger = Duration::from_millis(20);
    let draft = Draft::line(&world, 1_000);
    let running = world.start_with(&draft.plan(), |options| options.linger = linger).unwrap();
    for lone in 1..=3 {
        let sent = tokio::time::Instant::now();
        world.send("in", &["lone"]);
        until("it is written", || world.written("out").len() == lone).await;
        assert!(sent.elapsed() < linger);
        pass(Duration::from_secs(1)).await;
    }
    world.sink("out").writes.store(0, Ordering::Relaxed);
    for number in numbers(0..200) {
        world.send("in", &[&number]);
        pass(Duration::from_millis(1)).await;
    }
    world.act("in", Act::Finish);
    assert!(!running.wait().await.failed);
    let writes = world.sink("out").writes.load(Ordering::Relaxed);
    assert!((5..=25).contains(&writes), "{writes} writes");
}

/// The drain keeps the events while it cannot go on: their source hears of no loss and reads nothing twice.
#[tokio::test(start_paused = true)]
async fn a_drain_that_cannot_keep_dead_letters_holds_its_events_and_heals() {
    let world = World::new();
    let mut draft = Draft::line(&world, 100);
    draft.agent.programs[0].body = ends(vec![fail_on("bad", None)], End::Output(0));
    let in_the_way = world.dir.path().join("main");
    std::fs::write(&in_the_way, b"a file").unwrap();
    let running = world.start(&draft.plan()).unwrap();
    world.send("in", &["a", "bad", "b"]);
    world.act("in", Act::Finish);
    let has_failed = || running.status().agents[0].channels[0].last_fault.is_some();
    until("it has failed", has_failed).await;
    pass(Duration::from_secs(5)).await;
    assert!(lock(&world.receipts)[0].try_recv().is_err(), "the source must not hear of it");
    assert!(world.written("out").is_empty());
    std::fs::remove_file(&in_the_way).unwrap();
    assert!(!running.wait().await.failed);
    assert_eq!(world.written("out"), ["a", "b"]);
    assert_eq!(world.dead("parse").len(), 1);
    assert_eq!(lock(&world.receipts)[0].try_recv(), Ok(Outcome::Delivered));
}

#[tokio::test(start_paused = true)]
async fn only_the_agents_that_were_asked_for_run() {
    let world = World::new();
    let mut plan = Draft::line(&world, 10).plan();
    let mut other = plan.agents[0].clone();
    other.name = "edge".into();
    other.sinks[0].name = "edge_out".into();
    plan.agents.push(other);
    let start = |names: &[&str]| {
        let agents = Agents::Named(names.iter().map(|name| name.to_string()).collect());
        let options = HostOptions::new(world.dir.path().to_owned());
        Host::start(&plan, &agents, &registry(), options)
    };
    let running = start(&["edge"]).unwrap();
    world.send("in", &["a"]);
    world.act("in", Act::Finish);
    assert!(!running.wait().await.failed);
    assert_eq!((world.written("out").len(), world.written("edge_out").len()), (0, 1));
    assert_eq!(start(&["main", "moon"]).err().unwrap()[0].fault.code, Some("F0812"));
}

/// One sink blocks its thread until the other one has written: on a single worker that works only when blocking
/// writes hand the worker over.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_sink_that_blocks_does_not_starve_the_others() {
    let world = World::new();
    let mut draft = Draft::new(&world);
    let (one, two) = (draft.sink("one"), draft.sink("two"));
    let first = draft.channel("first", 10, vec![output(Target::Sink(one))]);
    let second = draft.channel("second", 10, vec![output(Target::Sink(two))]);
    let outputs: Vec<Output> = [first, second].map(|channel| output(Target::Channel(channel))).into();
    draft.source("in", outputs);
    let (written, wait) = std::sync::mpsc::channel();
    let (began, begun) = std::sync::mpsc::channel::<()>();
    world.behave("one", move |_| {
        let _ = began.send(());
        wait.recv_timeout(Duration::from_secs(60)).map_err(|_| SinkError::Fatal(Fault::new("starved")))
    });
    world.behave("two", move |_| {
        // Not before the other one blocks.
        let _ = begun.recv_timeout(Duration::from_secs(60));
        let _ = written.send(());
        Ok(())
    });
    let running = world.start(&draft.plan()).unwrap();
    world.send("in", &["a"]);
    world.act("in", Act::Finish);
    let end = running.wait().await;
    assert!(!end.failed, "{end:?}");
    assert_eq!((world.written("one").len(), world.written("two").len()), (1, 1));
}
