//! What the `files` sink promises.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flow_agent::{Context, Sink, SinkError};
use flow_plan::Batch;
use flow_plan::batch::{Columns, Slot};
use serde_json::{Value, json};

use super::storage::{Disk, Storage};
use super::{Files, files};

/// Surroundings with one header slot, `name`.
pub fn context(state_dir: &Path) -> Context {
    Context {
        name: "out".to_owned(),
        agent: "main".to_owned(),
        state_dir: state_dir.to_owned(),
        slots: Arc::new(vec!["name".to_owned()]),
        functions: Default::default(),
        secrets: Arc::new(BTreeMap::from([("pw".to_owned(), "geheim".to_owned())])),
        host: "localhost".to_owned(),
        services: Default::default(),
    }
}

/// A batch of bodies.
pub fn batch(bodies: &[&str]) -> Batch {
    let mut columns = Columns::default();
    for body in bodies {
        columns.push(body.as_bytes(), 1_700_000_000_000).unwrap();
    }
    Batch::new(columns)
}

/// A `path` setting without holes.
pub fn path_setting(path: &str) -> Value {
    json!({"template": [{"text": path}]})
}

/// A `path` setting with `${header.name}` in it.
pub fn path_of_header(before: &str, after: &str) -> Value {
    json!({"template": [
        {"text": before}, {"expr": {"value": {"header": 0}, "format": null}}, {"text": after}
    ]})
}

pub(super) fn settings(path: Value, changes: Value) -> flow_plan::Settings {
    let mut settings = json!({
        "path": path, "roll": null, "idle": 300_000_000_000_u64, "compress": "none", "level": null,
        "format": "text", "in_use": ".open", "sync": "roll", "max_open": 256, "mode": "0644",
        "create_dirs": true, "append": true, "batch": 10_000,
    });
    for (name, value) in changes.as_object().unwrap() {
        assert!(settings.get(name).is_some(), "no setting `{name}`");
        settings[name] = value.clone();
    }
    settings.as_object().unwrap().clone()
}

pub(super) fn roll(changes: Value) -> Value {
    let mut limits = json!({"duration": null, "size": null, "events": null});
    for (name, value) in changes.as_object().unwrap() {
        limits[name] = value.clone();
    }
    json!({ "roll": limits })
}

/// A directory with `data/` for files and `state/`.
pub(super) struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    pub(super) fn new() -> Place {
        Place { dir: tempfile::tempdir().unwrap() }
    }

    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(super) fn data(&self, name: &str) -> String {
        format!("{}/data/{name}", self.dir.path().display())
    }

    pub(super) fn sink_on(&self, storage: Box<dyn Storage>, path: Value, changes: Value) -> Files {
        Files::new(&settings(path, changes), &context(&self.dir.path().join("state")), storage).unwrap()
    }

    pub(super) fn sink(&self, path: &str, changes: Value) -> Files {
        self.sink_on(Box::new(Disk), path_setting(&self.data(path)), changes)
    }

    /// The decoded content of all files by their path below `data/`.
    pub(super) fn content(&self) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        let root = self.dir.path().join("data");
        let mut directories = vec![root.clone()];
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(&directory).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    directories.push(path);
                } else {
                    let name = path.strip_prefix(&root).unwrap().display().to_string();
                    found.insert(name, String::from_utf8(decode(&path)).unwrap());
                }
            }
        }
        found
    }

    /// All lines of all files, sorted.
    pub(super) fn lines(&self) -> Vec<String> {
        let content = self.content();
        for (name, text) in &content {
            assert!(text.is_empty() || text.ends_with('\n'), "`{name}` ends inside of a line");
        }
        let mut lines: Vec<String> =
            content.values().flat_map(|text| text.lines().map(str::to_owned)).collect();
        lines.sort();
        lines
    }
}

/// A file as a reader sees it who insists on correct streams.
fn decode(path: &Path) -> Vec<u8> {
    let bytes = std::fs::read(path).unwrap();
    let mut text = Vec::new();
    let name = path.display().to_string();
    if name.ends_with(".gz") {
        flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_end(&mut text).unwrap();
    } else if name.ends_with(".zst") {
        zstd::stream::read::Decoder::new(&bytes[..]).unwrap().read_to_end(&mut text).unwrap();
    } else {
        text = bytes;
    }
    text
}

/// A batch of (value of the header `name`, body).
pub(super) fn named(events: &[(&str, &str)]) -> Batch {
    let mut columns = Columns::default();
    for (name, body) in events {
        let row = columns.push(body.as_bytes(), 1_700_000_000_000).unwrap();
        let range = columns.arena.push(name.as_bytes()).unwrap();
        columns.set_header(row, Slot(0), range);
    }
    Batch::new(columns)
}

#[tokio::test]
async fn without_limits_lines_are_appended_to_one_file() {
    let place = Place::new();
    for round in 0..2 {
        let settings = settings(path_setting(&place.data("syslog")), json!({}));
        let mut sink = files(&settings, &context(&place.dir.path().join("state"))).unwrap();
        sink.write(&[batch(&["one", ""]), batch(&["two"])]).await.unwrap();
        sink.tick().await.unwrap();
        if round == 0 {
            assert_eq!(place.content()["syslog/events.log"], "one\n\ntwo\n");
        }
        sink.close().await.unwrap();
    }
    assert_eq!(place.content()["syslog/events.log"], "one\n\ntwo\none\n\ntwo\n");
}

#[tokio::test]
async fn a_file_holds_as_many_events_as_it_may() {
    let place = Place::new();
    let mut sink = place.sink("x.log", roll(json!({"events": 3})));
    sink.write(&[batch(&["1", "2", "3", "4"]), batch(&["5", "6", "7"])]).await.unwrap();
    let open: Vec<String> = place.content().into_keys().collect();
    assert_eq!(open.len(), 3);
    assert_eq!(open.iter().filter(|name| name.ends_with(".log.open")).count(), 1, "{open:?}");
    sink.close().await.unwrap();
    let texts: Vec<String> = place.content().into_values().collect();
    assert_eq!(texts.len(), 3);
    for text in ["1\n2\n3\n", "4\n5\n6\n", "7\n"] {
        assert!(texts.iter().any(|found| found == text), "{texts:?}");
    }
}

#[tokio::test]
async fn a_file_is_never_larger_than_it_may_be_unless_one_line_is() {
    let place = Place::new();
    let mut sink = place.sink("x.log", roll(json!({"size": 10})));
    sink.write(&[batch(&["1234", "5678", "9", "a line that is too long", "b"])]).await.unwrap();
    sink.close().await.unwrap();
    let mut texts: Vec<String> = place.content().into_values().collect();
    texts.sort();
    assert_eq!(texts, ["1234\n5678\n", "9\n", "a line that is too long\n", "b\n"]);
}

#[tokio::test]
async fn a_long_line_does_not_make_a_file_larger_than_it_may_be() {
    let place = Place::new();
    let mut sink = place.sink("x.log", roll(json!({"size": 150_000})));
    let (short, long) = ("s".repeat(80_000), "l".repeat(100_000));
    sink.write(&[batch(&[&short, &long, &short])]).await.unwrap();
    sink.close().await.unwrap();
    let mut sizes: Vec<usize> = place.content().into_values().map(|text| text.len()).collect();
    sizes.sort();
    assert_eq!(sizes, [80_001, 80_001, 100_001]);
}

#[test]
fn a_file_is_finished_when_its_time_is_over_or_nothing_comes() {
    for changes in [roll(json!({"duration": 3_600_000_000_000_u64})), json!({"compress": "gzip"})] {
        let place = Place::new();
        let mut sink = place.sink("x.log", changes.clone());
        let start = Instant::now();
        sink.write_batches(&[batch(&["one"])], start).unwrap();
        sink.writer.tick(start + Duration::from_secs(299)).unwrap();
        assert!(
            std::fs::read_dir(place.data(""))
                .unwrap()
                .all(|entry| { entry.unwrap().file_name().to_string_lossy().ends_with(".open") })
        );
        // Five minutes of nothing.
        sink.writer.tick(start + Duration::from_secs(300)).unwrap();
        let names: Vec<String> = place.content().into_keys().collect();
        assert!(names.len() == 1 && !names[0].ends_with(".open"), "{changes} {names:?}");
        assert_eq!(place.lines(), ["one"]);
    }
    let place = Place::new();
    let mut sink = place.sink("x.log", roll(json!({"duration": 60_000_000_000_u64})));
    let start = Instant::now();
    sink.write_batches(&[batch(&["one"])], start).unwrap();
    sink.write_batches(&[batch(&["two"])], start + Duration::from_secs(61)).unwrap();
    assert_eq!(place.content().len(), 2, "no tick is needed when events come");
}

#[tokio::test]
async fn compressed_files_are_correct_streams() {
    for (compress, extension) in [("gzip", ".log.gz"), ("zstd", ".log.zst")] {
        let place = Place::new();
        let mut sink = place.sink("x.log", json!({"compress": compress, "format": "json"}));
        let long = "abcdefghij".repeat(100_000);
        for _ in 0..3 {
            sink.write(&[batch(&["one", &long, "two"])]).await.unwrap();
        }
        sink.close().await.unwrap();
        let content = place.content();
        let (name, text) = content.first_key_value().unwrap();
        assert!(name.ends_with(extension), "{name}");
        assert_eq!(text.lines().count(), 9);
        for line in text.lines() {
            let event: Value = serde_json::from_str(line).unwrap();
            assert_eq!(event["time"], "2023-11-14T22:13:20.000Z");
        }
    }
}

#[tokio::test]
async fn every_value_has_its_file_and_open_files_are_bounded() {
    for changes in [json!({"max_open": 2}), json!({"max_open": 2, "compress": "zstd"})] {
        let place = Place::new();
        let template = path_of_header(&place.data("u-"), ".log");
        let mut sink = place.sink_on(Box::new(Disk), template, changes);
        for round in 0..3 {
            let body = format!("round {round}");
            sink.write(&[named(&[("a", &body), ("b", &body), ("a", &body), ("c", &body), ("../d", &body)])])
                .await
                .unwrap();
            let open = std::fs::read_dir(place.dir.path().join("data"))
                .unwrap()
                .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().ends_with(".open"))
                .count();
            assert!(open <= 2, "{open} open files");
        }
        sink.close().await.unwrap();
        let mut by_user: HashMap<String, usize> = HashMap::new();
        for (name, text) in place.content() {
            *by_user.entry(name[..3].to_owned()).or_default() += text.lines().count();
        }
        assert_eq!(
            by_user,
            HashMap::from([("u-a", 6), ("u-b", 3), ("u-c", 3), ("u-.", 3)].map(|(k, v)| (k.to_owned(), v)))
        );
    }
}

#[tokio::test]
async fn a_file_that_is_moved_away_is_begun_again() {
    let place = Place::new();
    let mut sink = place.sink("x.log", json!({}));
    sink.write(&[batch(&["one"])]).await.unwrap();
    std::fs::rename(place.data("x.log"), place.data("x.log.1")).unwrap();
    sink.write(&[batch(&["two"])]).await.unwrap();
    assert_eq!(
        place.content(),
        BTreeMap::from([("x.log", "two\n"), ("x.log.1", "one\n")].map(|(k, v)| (k.to_owned(), v.to_owned())))
    );
    // And the directory with it.
    std::fs::rename(place.data(""), place.dir.path().join("old")).unwrap();
    sink.write(&[batch(&["three"])]).await.unwrap();
    assert_eq!(place.lines(), ["three"]);
}

#[tokio::test]
async fn without_append_a_file_that_is_there_stays_as_it_is() {
    let place = Place::new();
    std::fs::create_dir(place.data("")).unwrap();
    std::fs::write(place.data("x.log"), "old\n").unwrap();
    let mut sink = place.sink("x.log", json!({"append": false}));
    sink.write(&[batch(&["new"])]).await.unwrap();
    sink.write(&[batch(&["newer"])]).await.unwrap();
    sink.close().await.unwrap();
    let content = place.content();
    assert_eq!(content["x.log"], "old\n");
    assert_eq!((content.len(), content.last_key_value().unwrap().1.as_str()), (2, "old\n"));
    assert_eq!(content.first_key_value().unwrap().1, "new\nnewer\n");
}

#[tokio::test]
async fn two_sinks_cannot_write_one_file() {
    let place = Place::new();
    let mut one = place.sink("x.log", json!({}));
    one.write(&[batch(&["one"])]).await.unwrap();
    let other = settings(path_setting(&place.data("x.log")), json!({}));
    let mut two = files(&other, &context(&place.dir.path().join("state2"))).unwrap();
    let error = two.write(&[batch(&["two"])]).await.unwrap_err();
    assert!(matches!(&error, SinkError::Retry(fault) if fault.code == Some("F0811")), "{error:?}");
    one.close().await.unwrap();
    two.write(&[batch(&["two"])]).await.unwrap();
    assert_eq!(place.lines(), ["one", "two"]);
}

#[tokio::test]
async fn a_name_that_no_file_can_have_refuses_the_event_alone() {
    let place = Place::new();
    std::fs::create_dir_all(place.data("dir.log")).unwrap();
    let mut sink = place.sink_on(Box::new(Disk), path_of_header(&place.data(""), ".log"), json!({}));
    let error = sink.write(&[named(&[("a", "1"), ("dir", "2")])]).await.unwrap_err();
    assert!(matches!(&error, SinkError::Refused(_)), "{error:?}");
    assert_eq!(place.lines(), [""; 0], "nothing of a failed write remains");
    sink.write(&[named(&[("a", "1")])]).await.unwrap();
    assert_eq!(place.lines(), ["1"]);
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let place = Place::new();
    for (changes, setting) in [
        (json!({"mode": "888"}), "mode"),
        (json!({"in_use": "/x"}), "in_use"),
        (json!({"path": "body"}), "path"),
        (json!({"path": path_setting("")}), "path"),
    ] {
        let settings = settings(path_setting("/x"), changes);
        let fault = files(&settings, &context(place.dir.path())).err().unwrap();
        assert_eq!(fault.setting, Some(setting));
    }
}
