//! The dead-letter store: what a line holds, bounds, and files that others have spoilt.

use std::sync::Arc;

use flow_agent::dead::{DeadLetters, Letter};
use flow_plan::Batch;
use flow_plan::batch::Columns;
use serde_json::{Value, json};

fn batch(bodies: &[&[u8]]) -> Batch {
    let mut columns = Columns { source: Arc::from("web"), first_id: 40, ..Columns::default() };
    for body in bodies {
        columns.push(body, 7).unwrap();
    }
    Batch::new(columns)
}

fn letters<'a>(batch: &'a Batch, error: &'a str) -> impl Iterator<Item = Letter<'a>> {
    batch.rows.iter().map(move |&row| Letter { batch, row, error, place: "web.flow:3:5" })
}

fn lines(path: &std::path::Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.ends_with('\n'));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_letter_has_everything_needed_to_look_at_it_and_send_it_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = DeadLetters::new(dir.path().join("dead"), Arc::new(vec!["host".to_owned()]));
    let mut batch = batch(&[b"plain", b"\xff\x00"]);
    let slots = ["host".to_owned()];
    batch.columns_mut().set_header_named(0, "host", b"web01", &slots).unwrap();
    batch.columns_mut().set_header_named(0, "seen", b"\xfe", &slots).unwrap();
    assert_eq!(store.write("parse", letters(&batch, "no match"), 99), Ok(2));
    let lines = lines(&dir.path().join("dead/parse.jsonl"));
    assert_eq!(
        lines[0],
        json!({
            "at": 99, "step": "parse", "place": "web.flow:3:5", "error": "no match", "source": "web",
            "id": 40, "time": 7, "header": {"host": "web01", "seen": {"base64": "/g=="}}, "body": "plain"
        })
    );
    assert_eq!(lines[1]["body_base64"], "/wA=");
    assert_eq!(lines[1]["id"], 41);
    let status = &store.status()[0];
    assert_eq!((status.step.as_str(), status.events, status.overwritten), ("parse", 2, 0));
    store.sync().unwrap();
}

#[test]
fn at_the_bound_the_older_half_goes_and_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let store = DeadLetters::with_bound(dir.path().to_owned(), Arc::default(), 4_000);
    let batch = batch(&[b"0123456789"]);
    for _ in 0..100 {
        store.write("out", letters(&batch, "refused"), 1).unwrap();
    }
    let status = &store.status()[0];
    let kept = lines(&dir.path().join("out.jsonl")).len() + lines(&dir.path().join("out.old.jsonl")).len();
    assert_eq!((status.events, status.overwritten + kept as u64), (100, 100));
    let size = |name: &str| std::fs::metadata(dir.path().join(name)).unwrap().len();
    assert!(size("out.jsonl") + size("out.old.jsonl") <= 4_000);
    assert_eq!(status.bytes, size("out.jsonl"));
}

#[test]
fn a_torn_line_of_a_killed_process_does_not_swallow_the_next() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("out.jsonl"), b"{\"at\": 1, \"bo").unwrap();
    let store = DeadLetters::new(dir.path().to_owned(), Arc::default());
    store.write("out", letters(&batch(&[b"x"]), "refused"), 1).unwrap();
    let text = std::fs::read_to_string(dir.path().join("out.jsonl")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(serde_json::from_str::<Value>(lines[1]).unwrap()["body"], "x");
}

#[test]
fn names_cannot_leave_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let inside = dir.path().join("dead");
    let store = DeadLetters::new(inside.clone(), Arc::default());
    for name in ["route at line 20", "../../up", "..", "/root", "ключ"] {
        store.write(name, letters(&batch(&[b"x"]), "refused"), 1).unwrap();
    }
    let mut files: Vec<String> =
        inside.read_dir().unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    assert_eq!(files, [".._.._up.jsonl", "_.jsonl", "____.jsonl", "_root.jsonl", "route_at_line_20.jsonl"]);
    assert_eq!(dir.path().read_dir().unwrap().count(), 1);
}

#[test]
fn a_directory_that_cannot_be_made_is_a_fault_and_heals() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("dead");
    std::fs::write(&path, b"in the way").unwrap();
    let store = DeadLetters::new(path.clone(), Arc::default());
    let batch = batch(&[b"x"]);
    let fault = store.write("out", letters(&batch, "refused"), 1).unwrap_err();
    assert_eq!(fault.code, Some("F0806"));
    std::fs::remove_file(&path).unwrap();
    assert_eq!(store.write("out", letters(&batch, "refused"), 1), Ok(1));
    assert_eq!(lines(&path.join("out.jsonl")).len(), 1);
}
