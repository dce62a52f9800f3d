//! Files put into a directory: each event once when all is well, at least once whatever happens.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use flow_agent::SourceError;
use serde_json::{Value, json};

use super::spool;
use crate::sources::testing::{Collector, Mode, Running, settings};

fn run(root: &Path, flow: &Arc<Collector>, changes: Value) -> Running {
    let defaults = json!({"dir": root.join("in"), "done": {"rename": ".done"}, "include": ["*"],
        "exclude": [".*", "*.tmp"], "format": "lines", "order": "name", "recursive": false, "follow": false,
        "settle": 0, "poll": 1_000_000, "batch": 2, "read": 4096, "line_max": 1 << 20, "blob_max": 100,
        "unconfirmed": 4, "file_header": "file", "basename_header": "name"});
    Running::of(spool, &settings(defaults, changes), &root.join("state"), flow)
}

fn place() -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    fs::create_dir(place.path().join("in")).unwrap();
    fs::write(place.path().join("in/a"), "1\n2\n3\n").unwrap();
    fs::write(place.path().join("in/b"), "4\n\n5").unwrap();
    fs::write(place.path().join("in/c.tmp"), "not yet\n").unwrap();
    place
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_are_read_and_marked() {
    for done in [json!({"rename": ".done"}), json!("delete"), json!("tracker")] {
        let place = place();
        let flow = Collector::new(Mode::Deliver);
        for _ in 0..2 {
            run(place.path(), &flow, json!({"done": done})).ended().await.unwrap();
            assert_eq!(flow.seen().texts(), ["1", "2", "3", "4", "", "5"], "{done}");
        }
        assert_eq!(flow.seen().rows[0].header("name"), "a");
        assert_eq!(place.path().join("in/a.done").exists(), done.is_object());
        assert_eq!(place.path().join("in/a").exists(), done == json!("tracker"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_marked_before_it_is_delivered_and_a_target_is_never_overwritten() {
    let place = place();
    fs::write(place.path().join("in/b.done"), "mine").unwrap();
    let flow = Collector::new(Mode::Hold);
    let source = run(place.path(), &flow, json!({}));
    flow.until_rows(6).await;
    assert!(place.path().join("in/a").exists());
    source.kill().await;
    let flow = Collector::new(Mode::Deliver);
    run(place.path(), &flow, json!({})).ended().await.unwrap();
    assert_eq!(flow.seen().texts(), ["1", "2", "3", "4", "", "5"]);
    assert_eq!(fs::read(place.path().join("in/b.done")).unwrap(), b"mine");
    assert!(place.path().join("in/a.done").exists());
    assert_eq!(flow.seen().counts["refused_files"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blob_is_one_event_within_its_bound() {
    let place = place();
    fs::write(place.path().join("in/large"), vec![b'x'; 101]).unwrap();
    let flow = Collector::new(Mode::Deliver);
    run(place.path(), &flow, json!({"format": "blob"})).ended().await.unwrap();
    assert_eq!(flow.seen().texts(), ["1\n2\n3\n", "4\n\n5"]);
    assert!(place.path().join("in/large").exists());
}

fn lines(from: usize, to: usize) -> String {
    (from..to).map(|number| format!("line {number}\n")).collect()
}

fn expected(from: usize, to: usize) -> Vec<String> {
    (from..to).map(|number| format!("line {number}")).collect()
}

/// One large file and a small one after it.
fn large() -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    fs::create_dir(place.path().join("in")).unwrap();
    fs::write(place.path().join("in/a"), lines(0, 1000)).unwrap();
    fs::write(place.path().join("in/b"), "last\n").unwrap();
    place
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_changes_while_it_is_read_is_left_and_the_others_go_on() {
    let place = large();
    let path = place.path().join("in/a");
    let flow = Collector::new(Mode::Hold);
    let source = run(place.path(), &flow, json!({"follow": true}));
    // Four batches of two are on their way: the source waits in the middle of the file.
    flow.until_rows(8).await;
    fs::write(&path, lines(0, 1001)).unwrap();
    flow.set_mode(Mode::Deliver);
    flow.seen().held.drain(..).for_each(flow_plan::Ack::done);
    flow.until("the other file", |seen| seen.texts().contains(&"last".to_owned())).await;
    flow.until("a word about it", |seen| seen.count("refused_files") == 1).await;
    {
        let seen = flow.seen();
        assert_eq!((seen.warned[0].code, seen.warned[0].setting), (Some("F0804"), Some("dir")));
        assert!(seen.warned[0].message.contains("in/a` has changed while it was read"), "{}", seen.warned[0]);
    }
    let idle = flow.seen().idle;
    let rows = flow.seen().rows.len();
    flow.until("more looks", |seen| seen.idle > idle + 3).await;
    assert!(path.exists() && !place.path().join("in/a.done").exists());
    assert_eq!(flow.seen().rows.len(), rows, "it is not touched again");
    // Another size and another time: a new file for all that matters.
    fs::write(&path, lines(2000, 2010)).unwrap();
    flow.until("the new content", |seen| seen.texts().contains(&"line 2009".to_owned())).await;
    flow.until("no more words", |seen| seen.idle > idle + 4).await;
    source.stop().await.unwrap();
    assert_eq!(flow.seen().count("refused_files"), 1);
    assert!(place.path().join("in/a.done").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_in_the_middle_of_a_file_repeats_little_and_loses_nothing() {
    let place = large();
    let flow = Collector::new(Mode::Deliver);
    let source = run(place.path(), &flow, json!({"unconfirmed": 3}));
    flow.until_rows(300).await;
    flow.set_mode(Mode::Hold);
    flow.until("nothing moves", |seen| seen.held.len() == 3).await;
    let delivered = flow.seen().rows.len() - 6;
    // The position is saved at most a second later.
    let saved = place.path().join("state/spool.json");
    let wanted = format!("\"position\":{},", lines(0, delivered).len());
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !fs::read_to_string(&saved).unwrap_or_default().contains(&wanted) {
        assert!(std::time::Instant::now() < deadline, "{wanted} is never saved");
        tokio::task::yield_now().await;
    }
    source.kill().await;
    let flow = Collector::new(Mode::Deliver);
    run(place.path(), &flow, json!({})).ended().await.unwrap();
    let mut rest = expected(delivered, 1000);
    rest.push("last".to_owned());
    assert_eq!(flow.seen().texts(), rest);
    assert!(place.path().join("in/a.done").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_batches_are_read_again_from_where_delivery_stands() {
    let place = large();
    let flow = Collector::new(Mode::Hold);
    let source = run(place.path(), &flow, json!({"batch": 100, "unconfirmed": 20}));
    // Both files are read to their ends and nothing is confirmed.
    flow.until_rows(1001).await;
    let held = std::mem::take(&mut flow.seen().held);
    flow.set_mode(Mode::Deliver);
    for (number, ack) in held.into_iter().enumerate() {
        // The third is lost, and so is whatever comes after it in its file.
        if number == 2 { drop(ack) } else { ack.done() }
    }
    source.ended().await.unwrap();
    let again: Vec<String> = flow.seen().texts().split_off(1001);
    assert_eq!(again, expected(200, 1000));
    assert!(place.path().join("in/a.done").exists() && place.path().join("in/b.done").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_lost_for_a_while_is_delivered_in_the_end() {
    let place = large();
    let flow = Collector::new(Mode::Lose);
    let source = run(place.path(), &flow, json!({"batch": 100}));
    flow.until("losses", |seen| seen.lost.len() >= 500).await;
    assert!(!place.path().join("in/a.done").exists());
    flow.set_mode(Mode::Deliver);
    source.ended().await.unwrap();
    let texts: std::collections::BTreeSet<String> = flow.seen().texts().into_iter().collect();
    assert_eq!(texts.len(), 1001);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_between_two_names_of_a_file_is_finished_without_reading_it_again() {
    let place = place();
    fs::hard_link(place.path().join("in/a"), place.path().join("in/a.done")).unwrap();
    let flow = Collector::new(Mode::Deliver);
    run(place.path(), &flow, json!({})).ended().await.unwrap();
    assert_eq!(flow.seen().texts(), ["4", "", "5"]);
    assert!(!place.path().join("in/a").exists());
    assert_eq!(fs::read(place.path().join("in/a.done")).unwrap(), b"1\n2\n3\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mark_that_failed_is_made_when_its_name_is_free() {
    let place = place();
    fs::write(place.path().join("in/a.done"), "mine").unwrap();
    let flow = Collector::new(Mode::Deliver);
    let source = run(place.path(), &flow, json!({"follow": true}));
    flow.until("a word about it", |seen| seen.count("refused_files") == 1).await;
    {
        let seen = flow.seen();
        assert_eq!(seen.warned[0].setting, Some("done"));
        assert!(seen.warned[0].message.contains("in/a.done` exists"), "{}", seen.warned[0]);
    }
    fs::remove_file(place.path().join("in/a.done")).unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while place.path().join("in/a").exists() {
        assert!(std::time::Instant::now() < deadline, "the mark is never made");
        tokio::task::yield_now().await;
    }
    source.stop().await.unwrap();
    assert_eq!(flow.seen().texts(), ["1", "2", "3", "4", "", "5"], "and nothing is read again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_is_told_once_and_a_missing_directory_is_a_fault() {
    let place = place();
    // A link that leads in a circle cannot be read by anybody, root included.
    std::os::unix::fs::symlink(place.path().join("in/loop"), place.path().join("in/loop")).unwrap();
    let flow = Collector::new(Mode::Deliver);
    let source = run(place.path(), &flow, json!({"follow": true}));
    flow.until("a word and more looks", |seen| !seen.warned.is_empty() && seen.idle > 5).await;
    source.stop().await.unwrap();
    assert_eq!(flow.seen().texts().len(), 6);
    assert_eq!(flow.seen().warned.len(), 1);
    assert_eq!(flow.seen().warned[0].code, Some("F0804"));
    let result = run(place.path(), &flow, json!({"dir": place.path().join("nothing")})).ended().await;
    let Err(SourceError::Retry(fault)) = result else { panic!("no fault") };
    assert_eq!((fault.code, fault.setting), (Some("F0804"), Some("dir")));
    assert!(fault.help.unwrap().contains("mkdir"));
}
