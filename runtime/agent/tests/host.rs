//! The host with fakes on both ends: flow, back-pressure, stops, faults.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use flow_agent::status::PartState;
use flow_agent::{Fault, Level, Phase, SinkError};
use flow_plan::Outcome;
use flow_plan::plan::{OriginId, Output, Target};
use support::*;

fn outcomes(world: &World) -> Vec<Result<Outcome, ()>> {
    lock(&world.receipts).iter_mut().map(|receipt| receipt.try_recv().map_err(|_| ())).collect()
}

#[tokio::test(start_paused = true)]
async fn a_run_ends_by_itself_when_its_sources_have_finished() {
    let world = World::new();
    let running = world.start(&Draft::line(&world, 100).plan()).unwrap();
    world.send("in", &["a", "b"]);
    world.send("in", &["c"]);
    world.act("in", Act::Finish);
    let end = running.wait().await;
    assert!(!end.failed && end.events_left == 0, "{end:?}");
    assert_eq!(world.written("out"), ["a", "b", "c"]);
    assert_eq!(world.sink("out").closed.load(Ordering::Relaxed), 1);
    assert_eq!(outcomes(&world), [Ok(Outcome::Delivered), Ok(Outcome::Delivered)]);
    let status = running.status();
    assert_eq!(status.phase, Phase::Ended);
    let agent = &status.agents[0];
    assert_eq!((agent.sources[0].events, agent.sources[0].bytes), (3, 3));
    assert_eq!(agent.sources[0].state, PartState::Finished);
    assert_eq!((agent.channels[0].committed, agent.channels[0].fill.events), (3, 0));
    assert_eq!((agent.sinks[0].events, agent.sinks[0].state), (3, PartState::Finished));
    serde_json::to_string(&status).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_full_channel_stops_the_source() {
    let world = World::new();
    world.hold("out");
    let running = world.start(&Draft::line(&world, 3).plan()).unwrap();
    for body in ["a", "b", "c", "d", "e"] {
        world.send("in", &[body]);
    }
    world.act("in", Act::Finish);
    pass(Duration::from_secs(5)).await;
    assert_eq!(world.sent.load(Ordering::Relaxed), 3);
    assert_eq!(running.status().agents[0].channels[0].fill.events, 3);
    assert!(running.status().agents[0].channels[0].fill.oldest_ms >= 4_000);
    assert!(running.status().agents[0].sources[0].program.outputs[0].waiting_ms >= 4_000);
    world.release("out");
    assert!(!running.wait().await.failed);
    assert_eq!(running.status().agents[0].sources[0].program.outputs[0].waiting_ms, 0);
    assert_eq!(world.written("out"), ["a", "b", "c", "d", "e"]);
}

#[tokio::test(start_paused = true)]
async fn stop_drains_what_the_channels_hold() {
    let world = World::new();
    world.hold("out");
    let running = world.start(&Draft::line(&world, 100).plan()).unwrap();
    world.send("in", &["a", "b"]);
    until("both are in the channel", || channel_events(&running.status()) == 2).await;
    running.stop();
    pass(Duration::from_secs(1)).await;
    assert_eq!(running.status().phase, Phase::Draining);
    world.release("out");
    let end = running.wait().await;
    assert!(!end.failed, "{end:?}");
    assert_eq!(world.written("out"), ["a", "b"]);
    assert_eq!(world.sink("out").closed.load(Ordering::Relaxed), 1);
    assert_eq!(running.status().agents[0].sources[0].state, PartState::Stopped);
}

#[tokio::test(start_paused = true)]
async fn on_stop_a_batch_that_waits_for_room_is_given_back_to_a_source_that_repeats() {
    let world = World::new();
    world.hold("out");
    let running = world.start(&Draft::line(&world, 1).plan()).unwrap();
    world.send("in", &["a"]);
    until("the first is in the channel", || channel_events(&running.status()) == 1).await;
    world.send("in", &["b"]);
    pass(Duration::from_secs(1)).await;
    running.stop();
    let stopped = || running.status().agents[0].sources[0].state == PartState::Stopped;
    until("the source has stopped", stopped).await;
    world.release("out");
    assert!(!running.wait().await.failed);
    assert_eq!(world.written("out"), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn on_stop_a_batch_that_nobody_repeats_waits_for_room() {
    let world = World::new();
    world.hold("out");
    let running = world.start(&Draft::line(&world, 1).plan()).unwrap();
    for body in ["a", "b"] {
        world.act("in", Act::SendPlain(vec![body.to_owned()]));
    }
    until("the first is in the channel", || channel_events(&running.status()) == 1).await;
    running.stop();
    pass(Duration::from_secs(1)).await;
    world.release("out");
    assert!(!running.wait().await.failed);
    assert_eq!(world.written("out"), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn after_the_limit_a_drain_is_given_up_and_nothing_counts_as_delivered() {
    let world = World::new();
    world.hold("out");
    let running = world.start(&Draft::line(&world, 100).plan()).unwrap();
    world.send("in", &["a"]);
    until("it is in the channel", || channel_events(&running.status()) == 1).await;
    running.stop();
    let end = running.wait().await;
    assert!(end.failed);
    assert_eq!(end.events_left, 1);
    drop(running);
    until("the source hears of it", || outcomes(&world) == [Ok(Outcome::Lost)]).await;
}

#[tokio::test(start_paused = true)]
async fn a_source_that_waits_for_its_events_hears_of_the_end_of_draining() {
    // The channel kept its events when its drain was given up, so the source waited for them until it was given up
    // itself, ten seconds later, and was blamed for that.
    let world = World::new();
    world.hold("out");
    let settled = Arc::new(AtomicBool::new(false));
    let told = settled.clone();
    world.source("in", move |output, mut stop| {
        let told = told.clone();
        async move {
            let receipt = output.send_with_receipt(batch(&["a".to_owned()])).await?;
            stop.stopped().await;
            told.store(receipt.await == Ok(Outcome::Lost), Ordering::Relaxed);
            Ok(())
        }
    });
    let running = world.start(&Draft::line(&world, 100).plan()).unwrap();
    let mut notices = running.notices();
    until("it is in the channel", || channel_events(&running.status()) == 1).await;
    let begun = tokio::time::Instant::now();
    running.stop();
    let end = running.wait().await;
    assert!(end.failed && end.events_left == 1, "{end:?}");
    assert!(settled.load(Ordering::Relaxed));
    assert!(begun.elapsed() < Duration::from_secs(31), "{:?}", begun.elapsed());
    assert!(notices.try_recv().is_err(), "nothing is told of a source that did stop");
}

#[tokio::test(start_paused = true)]
async fn stop_now_ends_at_once_and_what_was_not_written_is_lost_to_its_source() {
    let world = World::new();
    let running = world.start(&Draft::line(&world, 100).plan()).unwrap();
    world.send("in", &["a"]);
    until("the first is written", || world.written("out") == ["a"]).await;
    world.hold("out");
    world.send("in", &["b"]);
    until("the second is sent", || world.sent.load(Ordering::Relaxed) == 2).await;
    running.stop();
    running.stop_now();
    let end = running.wait().await;
    assert!(end.failed && end.events_left == 1, "{end:?}");
    drop(running);
    until("the source hears of it", || {
        let outcomes = outcomes(&world);
        outcomes[1] == Ok(Outcome::Lost)
    })
    .await;
    assert_eq!(world.written("out"), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_run_loses_open_receipts() {
    let world = World::new();
    world.hold("out");
    let running = world.start(&Draft::line(&world, 100).plan()).unwrap();
    world.send("in", &["a"]);
    until("it is in the channel", || channel_events(&running.status()) == 1).await;
    drop(running);
    until("the source hears of it", || outcomes(&world) == [Ok(Outcome::Lost)]).await;
}

#[tokio::test(start_paused = true)]
async fn a_source_is_started_again_after_faults_and_panics() {
    let world = World::new();
    let running = world.start(&Draft::line(&world, 100).plan()).unwrap();
    let mut notices = running.notices();
    world.send("in", &["a"]);
    world.act("in", Act::Retry);
    world.send("in", &["b"]);
    world.act("in", Act::Panic);
    world.send("in", &["c"]);
    world.act("in", Act::Finish);
    let end = running.wait().await;
    assert!(!end.failed, "{end:?}");
    assert_eq!(world.written("out"), ["a", "b", "c"]);
    assert_eq!(world.source_starts.load(Ordering::Relaxed), 3);
    let source = &running.status().agents[0].sources[0];
    assert_eq!(source.restarts, 2);
    let first = notices.recv().await.unwrap();
    assert_eq!((first.level, first.fault.message.as_str()), (Level::Warning, "away"));
    assert_eq!(notices.recv().await.unwrap().fault.code, Some("F1109"));
}

/// A reader subscribed after the start, and what had been told by then (an unreadable file, say) was lost: a run
/// showed its first warnings only when it happened to be slow. The first reader gets everything since the start.
#[tokio::test(start_paused = true)]
async fn the_first_reader_of_notices_misses_nothing() {
    let world = World::new();
    let running = world.start(&Draft::line(&world, 100).plan()).unwrap();
    world.act("in", Act::Retry);
    world.act("in", Act::Finish);
    assert!(!running.wait().await.failed);
    assert_eq!(running.notices().recv().await.unwrap().fault.message, "away");
    assert!(running.notices().try_recv().is_err(), "later readers hear of what comes");
}

#[tokio::test(start_paused = true)]
async fn a_source_that_cannot_go_on_leaves_the_others_running_and_fails_the_run() {
    let world = World::new();
    let mut draft = Draft::line(&world, 100);
    let channel = Target::Channel(0);
    draft.source("other", vec![output(channel)]);
    let running = world.start(&draft.plan()).unwrap();
    world.act("in", Act::Fatal);
    until("it has failed", || running.status().agents[0].sources[0].state == PartState::Failed).await;
    world.send("other", &["a"]);
    until("the other goes on", || world.written("out") == ["a"]).await;
    world.act("other", Act::Finish);
    let end = running.wait().await;
    assert!(end.failed);
    assert_eq!(end.faults[0].node, "in");
    // The fault is about a setting: its place is given, not the source's.
    assert_eq!(end.faults[0].origin, OriginId(2));
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_is_away_is_tried_again_until_it_is_back() {
    let world = World::new();
    let mut fails = 5;
    world.behave("out", move |_| {
        if fails == 0 {
            return Ok(());
        }
        fails -= 1;
        Err(SinkError::Retry(Fault::new("connection refused")))
    });
    let running = world.start(&Draft::line(&world, 100).plan()).unwrap();
    world.send("in", &["a", "b"]);
    world.act("in", Act::Finish);
    let started = tokio::time::Instant::now();
    assert!(!running.wait().await.failed);
    // 100 + 200 + 400 + 800 + 1600 ms, of which up to half is jitter.
    assert!(started.elapsed() >= Duration::from_millis(1_550) && started.elapsed() < Duration::from_secs(5));
    assert_eq!(world.written("out"), ["a", "b"]);
    assert_eq!(running.status().agents[0].sinks[0].retries, 5);
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_panics_is_built_anew_and_nothing_is_lost() {
    let world = World::new();
    let mut first = true;
    world.behave("out", move |_| {
        assert!(!std::mem::take(&mut first), "a planned panic of a sink");
        Ok(())
    });
    let running = world.start(&Draft::line(&world, 100).plan()).unwrap();
    world.send("in", &["a"]);
    world.act("in", Act::Finish);
    assert!(!running.wait().await.failed);
    assert_eq!(world.written("out"), ["a"]);
    assert_eq!(world.sink("out").builds.load(Ordering::Relaxed), 2);
    assert_eq!(outcomes(&world), [Ok(Outcome::Delivered)]);
}

#[tokio::test(start_paused = true)]
async fn only_the_refused_events_go_to_the_dead_letters() {
    let world = World::new();
    world.behave("out", |bodies| {
        if bodies.iter().any(|body| body.parse::<usize>().unwrap() % 10 == 3) {
            return Err(SinkError::Refused(Fault::new("bad number")));
        }
        Ok(())
    });
    let running = world.start(&Draft::line(&world, 1_000).plan()).unwrap();
    let mut notices = running.notices();
    world.act("in", Act::Send(numbers(0..100)));
    world.act("in", Act::Finish);
    assert!(!running.wait().await.failed);
    assert_eq!(notices.try_recv().unwrap().fault.message, "bad number");
    assert!(notices.try_recv().is_err(), "one notice for many refused events");
    let good: Vec<String> = numbers(0..100).into_iter().filter(|number| !number.ends_with('3')).collect();
    assert_eq!(world.written("out"), good);
    let dead = world.dead("out");
    let bodies: Vec<&str> = dead.iter().map(|letter| letter["body"].as_str().unwrap()).collect();
    assert_eq!(bodies, ["3", "13", "23", "33", "43", "53", "63", "73", "83", "93"]);
    assert_eq!(dead[0]["error"], "bad number");
    assert_eq!(dead[0]["place"], "test.flow:5:1");
    assert_eq!(dead[0]["at"], 1_000);
    let sink = &running.status().agents[0].sinks[0];
    assert_eq!((sink.refused, sink.dead_letters, sink.events), (10, 10, 90));
    assert_eq!(outcomes(&world), [Ok(Outcome::Delivered)]);
}

#[tokio::test(start_paused = true)]
async fn refused_events_flow_into_the_chain_of_the_sinks_errors() {
    let world = World::new();
    world.behave("out", |bodies| match bodies {
        [.., last] if last == "bad" => Err(SinkError::Refused(Fault::new("no"))),
        _ => Ok(()),
    });
    let mut draft = Draft::line(&world, 100);
    let errors = draft.sink("rejected");
    let channel = draft.channel("rejects", 10, vec![output(Target::Sink(errors))]);
    let program = draft.copies("out.errors", vec![output(Target::Channel(channel))]);
    draft.agent.sinks[0].errors = Some(program);
    let running = world.start(&draft.plan()).unwrap();
    world.hold("rejected");
    world.send("in", &["good", "bad"]);
    until("the good one is written", || world.written("out") == ["good"]).await;
    pass(Duration::from_secs(1)).await;
    assert_eq!(outcomes(&world), [Err(())], "the refused event is not safe yet");
    world.release("rejected");
    world.act("in", Act::Finish);
    assert!(!running.wait().await.failed);
    assert_eq!(world.written("rejected"), ["bad"]);
    assert_eq!(outcomes(&world), [Ok(Outcome::Delivered)]);
    assert!(world.dead("out").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_cannot_go_on_stops_the_run_and_its_events_are_lost_to_their_source() {
    let world = World::new();
    world.behave("out", |_| Err(SinkError::Fatal(Fault::new("unknown table").setting("path"))));
    let running = world.start(&Draft::line(&world, 100).plan()).unwrap();
    world.send("in", &["a"]);
    let end = running.wait().await;
    assert!(end.failed);
    assert_eq!((end.faults[0].node.as_str(), end.faults[0].origin), ("out", OriginId(5)));
    assert_eq!(outcomes(&world), [Ok(Outcome::Lost)]);
    assert_eq!(running.status().agents[0].sinks[0].state, PartState::Failed);
}

#[tokio::test(start_paused = true)]
async fn an_optional_branch_that_is_full_never_holds_the_others() {
    let world = World::new();
    let mut draft = Draft::new(&world);
    let (out, extra) = (draft.sink("out"), draft.sink("extra"));
    let main = draft.channel("buf", 100, vec![output(Target::Sink(out))]);
    let side = draft.channel("side", 2, vec![output(Target::Sink(extra))]);
    draft.source("in", vec![optional(Target::Channel(side)), output(Target::Channel(main))]);
    world.hold("extra");
    let running = world.start(&draft.plan()).unwrap();
    for number in numbers(0..10) {
        world.send("in", &[&number]);
    }
    world.act("in", Act::Finish);
    until("all are written", || world.written("out").len() == 10).await;
    world.release("extra");
    assert!(!running.wait().await.failed);
    assert_eq!(world.written("extra"), ["0", "1"]);
    let status = running.status();
    assert_eq!(status.agents[0].sources[0].program.outputs[0].dropped, 8);
    assert!(outcomes(&world).iter().all(|outcome| *outcome == Ok(Outcome::Delivered)));
}

#[tokio::test(start_paused = true)]
async fn an_optional_sink_that_fails_never_holds_the_others() {
    let world = World::new();
    let mut draft = Draft::new(&world);
    let (out, extra) = (draft.sink("out"), draft.sink("extra"));
    let outputs = vec![optional(Target::Sink(extra)), output(Target::Sink(out))];
    let channel = draft.channel("buf", 100, outputs);
    draft.source("in", vec![output(Target::Channel(channel))]);
    world.behave("extra", |_| Err(SinkError::Fatal(Fault::new("gone"))));
    let running = world.start(&draft.plan()).unwrap();
    for number in numbers(0..10) {
        world.send("in", &[&number]);
    }
    world.act("in", Act::Finish);
    assert!(!running.wait().await.failed);
    assert_eq!(world.written("out"), numbers(0..10));
    assert_eq!(running.status().agents[0].sinks.iter().map(|sink| sink.skipped).sum::<u64>(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_has_confirmed_is_not_written_again_while_another_is_tried() {
    let world = World::new();
    let mut draft = Draft::new(&world);
    let (one, two) = (draft.sink("one"), draft.sink("two"));
    let channel = draft.channel("buf", 100, vec![output(Target::Sink(one)), output(Target::Sink(two))]);
    draft.source("in", vec![output(Target::Channel(channel))]);
    let mut fails = 3;
    world.behave("one", move |_| {
        if fails == 0 {
            return Ok(());
        }
        fails -= 1;
        Err(SinkError::Retry(Fault::new("busy")))
    });
    let running = world.start(&draft.plan()).unwrap();
    world.send("in", &["a", "b"]);
    until("the healthy one is not held", || world.written("two") == ["a", "b"]).await;
    assert_eq!(outcomes(&world), [Err(())]);
    world.act("in", Act::Finish);
    assert!(!running.wait().await.failed);
    assert_eq!((world.written("one").len(), world.written("two").len()), (2, 2));
    assert_eq!(outcomes(&world), [Ok(Outcome::Delivered)]);
}

#[tokio::test(start_paused = true)]
async fn sinks_hear_of_the_time_also_while_nothing_comes_and_while_another_is_tried() {
    let world = World::new();
    let mut draft = Draft::new(&world);
    let (one, two) = (draft.sink("one"), draft.sink("two"));
    let channel = draft.channel("buf", 100, vec![output(Target::Sink(one)), output(Target::Sink(two))]);
    draft.source("in", vec![output(Target::Channel(channel))]);
    world.behave("one", |_| Err(SinkError::Retry(Fault::new("busy"))));
    let running = world.start(&draft.plan()).unwrap();
    let ticks = || world.sink("two").ticks.load(Ordering::Relaxed);
    pass(Duration::from_millis(5_500)).await;
    assert_eq!(ticks(), 6);
    world.send("in", &["a"]);
    pass(Duration::from_secs(20)).await;
    assert_eq!(ticks(), 26);
    drop(running);
}

#[tokio::test(start_paused = true)]
async fn writes_are_at_most_as_large_as_the_sink_wants() {
    let world = World::new();
    *lock(&world.sink("out").batch) = 7;
    world.behave("out", |bodies| {
        assert!(bodies.len() <= 7);
        Ok(())
    });
    let running = world.start(&Draft::line(&world, 1_000).plan()).unwrap();
    world.act("in", Act::Send(numbers(0..100)));
    world.act("in", Act::Finish);
    assert!(!running.wait().await.failed);
    assert_eq!(world.written("out"), numbers(0..100));
    assert_eq!(world.sink("out").writes.load(Ordering::Relaxed), 15);
}

#[tokio::test(start_paused = true)]
async fn small_batches_that_wait_are_written_together() {
    let world = World::new();
    world.hold("out");
    let running = world.start(&Draft::line(&world, 1_000).plan()).unwrap();
    world.send("in", &["first"]);
    until("the first is being written", || channel_events(&running.status()) == 1).await;
    for number in numbers(0..50) {
        world.send("in", &[&number]);
    }
    world.act("in", Act::Finish);
    until("all are in the channel", || channel_events(&running.status()) == 51).await;
    world.release("out");
    assert!(!running.wait().await.failed);
    assert_eq!(world.sink("out").writes.load(Ordering::Relaxed), 2);
    assert_eq!(world.written("out")[1..], numbers(0..50));
}

/// A drain waited out its linger although its channel was full: a copy of a file spent more than half of its time
/// with everybody waiting for that moment to pass.
#[tokio::test(start_paused = true)]
async fn nobody_lingers_over_a_channel_that_is_full() {
    let world = World::new();
    let plan = Draft::line(&world, 10).plan();
    let began = tokio::time::Instant::now();
    let running = world.start_with(&plan, |options| options.linger = Duration::from_secs(10)).unwrap();
    for number in numbers(0..200) {
        world.send("in", &[&number]);
    }
    world.act("in", Act::Finish);
    assert!(!running.wait().await.failed);
    assert_eq!(world.written("out"), numbers(0..200));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn input_that_a_source_refuses_is_kept_as_dead_letters() {
    let world = World::new();
    let running = world.start(&Draft::line(&world, 10).plan()).unwrap();
    world.act("in", Act::Refuse(vec!["\u{0}junk".to_owned()], "not a frame"));
    world.act("in", Act::Finish);
    assert!(!running.wait().await.failed);
    assert_eq!(world.dead("in")[0]["error"], "not a frame");
    assert_eq!(running.status().agents[0].sources[0].refused, 1);
    assert_eq!(running.status().agents[0].dead[0].events, 1);
}

#[tokio::test(start_paused = true)]
async fn all_faults_of_a_start_come_together_and_nothing_is_started() {
    let world = World::new();
    let mut draft = Draft::line(&world, 10);
    draft.agent.sources[0].settings.insert("broken".into(), true.into());
    draft.agent.sinks[0].settings.insert("broken".into(), true.into());
    draft.agent.channels[0].kind = "marble".into();
    let faults = world.start(&draft.plan()).err().expect("the start should fail");
    let mut seen: Vec<_> = faults
        .iter()
        .map(|fault| (fault.node.as_str(), fault.fault.code.unwrap_or(""), fault.origin.0))
        .collect();
    seen.sort();
    assert_eq!(seen, [("buf", "F0116", 3), ("in", "F0802", 2), ("out", "F0806", 5)]);
    assert_eq!(world.source_starts.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn plans_that_cannot_work_are_refused() {
    let world = World::new();
    let code = |draft: &Draft| world.start(&draft.plan()).err().map(|faults| faults[0].fault.code);
    let mut two_feeders = Draft::line(&world, 10);
    two_feeders.channel("second", 10, vec![output(Target::Sink(0))]);
    assert_eq!(code(&two_feeders), Some(Some("F0411")));
    let mut ring = Draft::new(&world);
    ring.channel("one", 10, vec![output(Target::Channel(1))]);
    ring.channel("two", 10, vec![output(Target::Channel(0))]);
    assert_eq!(code(&ring), Some(Some("F0420")));
    let mut outside = Draft::new(&world);
    outside.source("in", vec![output(Target::Channel(7))]);
    assert_eq!(code(&outside), Some(Some("F1109")));
    let mut newer = Draft::line(&world, 10).plan();
    newer.version += 1;
    assert_eq!(world.start(&newer).err().unwrap()[0].fault.code, Some("F0813"));
}

#[tokio::test(start_paused = true)]
async fn a_source_that_does_not_stop_is_told_about_and_given_up() {
    let world = World::new();
    world.source("in", |_, _| std::future::pending());
    let running = world.start(&Draft::line(&world, 10).plan()).unwrap();
    let mut notices = running.notices();
    running.stop();
    let end = running.wait().await;
    // Nothing was lost by it.
    assert!(!end.failed, "{end:?}");
    let notice = notices.recv().await.unwrap();
    assert_eq!(notice.node, "in");
    assert!(notice.fault.message.contains("did not stop within 30 s"), "{}", notice.fault.message);
}

#[tokio::test(start_paused = true)]
async fn a_failed_flow_lets_the_others_drain() {
    let world = World::new();
    let mut draft = Draft::new(&world);
    let (one, two) = (draft.sink("one"), draft.sink("two"));
    let first = draft.channel("first", 10, vec![output(Target::Sink(one))]);
    let second = draft.channel("second", 10, vec![output(Target::Sink(two))]);
    draft.source("a", vec![output(Target::Channel(first))]);
    draft.source("b", vec![output(Target::Channel(second))]);
    world.hold("two");
    world.behave("one", |_| Err(SinkError::Fatal(Fault::new("gone"))));
    let running = world.start(&draft.plan()).unwrap();
    world.send("b", &["kept"]);
    until("it is in the channel", || channel_events(&running.status()) == 1).await;
    world.send("a", &["lost"]);
    until("the run drains", || running.status().phase == Phase::Draining).await;
    world.release("two");
    let end = running.wait().await;
    assert!(end.failed && end.events_left == 1, "{end:?}");
    assert_eq!(world.written("two"), ["kept"]);
    assert_eq!(outcomes(&world), [Ok(Outcome::Delivered), Ok(Outcome::Lost)]);
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_a_channel_stops_the_run_with_a_fault() {
    struct Broken;
    #[async_trait::async_trait]
    impl flow_agent::Channel for Broken {
        async fn put(&self, _: flow_plan::Batch) -> Result<(), flow_agent::ChannelError> {
            Ok(())
        }
        fn try_put(&self, batch: flow_plan::Batch) -> Result<(), flow_agent::Rejected> {
            Err(flow_agent::Rejected { batch, closed: false })
        }
        async fn take(
            &self,
            _: usize,
        ) -> Result<Option<Box<dyn flow_agent::Transaction>>, flow_agent::ChannelError> {
            panic!("a planned panic of a channel")
        }
        fn close(&self) {}
        fn status(&self) -> flow_agent::ChannelStatus {
            flow_agent::ChannelStatus::default()
        }
    }
    let world = World::new();
    let mut registry = registry();
    registry.channels.insert("memory", |_, _| Ok(std::sync::Arc::new(Broken)));
    let options = flow_agent::HostOptions::new(world.dir.path().to_owned());
    let plan = Draft::line(&world, 10).plan();
    let running = flow_agent::Host::start(&plan, &flow_agent::Agents::All, &registry, options).unwrap();
    let end = running.wait().await;
    assert!(end.failed);
    assert_eq!((end.faults[0].node.as_str(), end.faults[0].fault.code), ("buf", Some("F1109")));
    assert_eq!(world.sink("out").closed.load(Ordering::Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn on_several_threads_every_source_keeps_its_order_in_every_sink() {
    const BATCHES: usize = 500;
    let world = World::new();
    let mut draft = Draft::new(&world);
    let (one, two) = (draft.sink("one"), draft.sink("two"));
    let first = draft.channel("first", 100, vec![output(Target::Sink(one))]);
    let second = draft.channel("second", 70, vec![output(Target::Sink(two))]);
    for source in ["a", "b", "c"] {
        draft.source(source, vec![output(Target::Channel(first)), output(Target::Channel(second))]);
    }
    let running = world.start(&draft.plan()).unwrap();
    for batch in 0..BATCHES {
        for source in ["a", "b", "c"] {
            let bodies = (0..batch % 13 + 1).map(|row| format!("{source}{:05}", batch * 100 + row)).collect();
            world.act(source, Act::Send(bodies));
        }
    }
    for source in ["a", "b", "c"] {
        world.act(source, Act::Finish);
    }
    assert!(!running.wait().await.failed);
    let sent: usize = (0..BATCHES).map(|batch| batch % 13 + 1).sum();
    for sink in ["one", "two"] {
        let written = world.written(sink);
        for source in ["a", "b", "c"] {
            let of_source: Vec<&String> = written.iter().filter(|body| body.starts_with(source)).collect();
            assert_eq!(of_source.len(), sent);
            assert!(of_source.is_sorted(), "source `{source}` in sink `{sink}`");
        }
    }
    assert!(outcomes(&world).iter().all(|outcome| *outcome == Ok(Outcome::Delivered)));
}

/// A run whose sources had finished went on for ever when the sink of an optional branch was away, and a stop of it
/// counted as a failure.
#[tokio::test(start_paused = true)]
async fn an_optional_branch_does_not_hold_the_end() {
    let world = World::new();
    let mut draft = Draft::new(&world);
    let (main, side) = (draft.sink("main"), draft.sink("side"));
    let first = draft.channel("first", 10, vec![output(Target::Sink(main))]);
    let second = draft.channel("second", 10, vec![output(Target::Sink(side))]);
    let optional = Output { optional: true, ..output(Target::Channel(second)) };
    draft.source("in", vec![output(Target::Channel(first)), optional]);
    world.behave("side", |_| Err(SinkError::Retry(Fault::new("away"))));
    let running = world.start(&draft.plan()).unwrap();
    let mut notices = running.notices();
    world.send("in", &["a"]);
    world.act("in", Act::Finish);
    let end = running.wait().await;
    assert!(!end.failed && end.events_left == 1, "{end:?}");
    assert_eq!(world.written("main"), ["a"]);
    // It was tried for half a minute, at first every few hundred milliseconds.
    let mut told = 0;
    while notices.try_recv().is_ok() {
        told += 1;
    }
    assert!((1..=7).contains(&told), "{told}");
}
