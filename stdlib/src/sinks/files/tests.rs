//! What the `files` sink promises.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use flow_agent::Context;
use flow_plan::Batch;
use flow_plan::batch::Columns;

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
pub fn path_setting(path: &str) -> serde_json::Value {
    serde_json::json!({"template": [{"text": path}]})
}

/// A `path` setting with `${header.name}` in it.
pub fn path_of_header(before: &str, after: &str) -> serde_json::Value {
    serde_json::json!({"template": [
        {"text": before}, {"expr": {"value": {"header": 0}, "format": null}}, {"text": after}
    ]})
}

use std::collections::HashMap;
use std::io::{Error, ErrorKind, Read, Result};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use flow_agent::{Sink, SinkError};
use flow_plan::batch::Slot;
use serde_json::{Value, json};

use super::storage::{Disk, Identity, Open, Storage, StorageFile};
use super::{Files, files};

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

    fn data(&self, name: &str) -> String {
        format!("{}/data/{name}", self.dir.path().display())
    }

    fn sink_on(&self, storage: Box<dyn Storage>, path: Value, changes: Value) -> Files {
        Files::new(&settings(path, changes), &context(&self.dir.path().join("state")), storage).unwrap()
    }

    fn sink(&self, path: &str, changes: Value) -> Files {
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
fn named(events: &[(&str, &str)]) -> Batch {
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

/// A disk on which a step can fail.
#[derive(Clone, Default)]
struct Faults {
    /// Steps left before `error`; `None` never.
    steps: Arc<Mutex<Option<u32>>>,
    error: Arc<Mutex<Option<ErrorKind>>>,
    /// After the error every further step fails, too: the process is dead.
    dead: Arc<Mutex<bool>>,
    taken: Arc<Mutex<u32>>,
}

impl Faults {
    /// Steps so far.
    fn taken(&self) -> u32 {
        *self.taken.lock().unwrap()
    }

    fn step(&self) -> Result<()> {
        *self.taken.lock().unwrap() += 1;
        let Some(error) = *self.error.lock().unwrap() else { return Ok(()) };
        let mut steps = self.steps.lock().unwrap();
        match steps.as_mut() {
            None => Ok(()),
            Some(0) => {
                if !*self.dead.lock().unwrap() {
                    *steps = None;
                }
                Err(Error::from(error))
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }
}

struct FaultyFile {
    faults: Faults,
    file: Box<dyn StorageFile>,
}

impl Storage for Faults {
    fn open(&self, path: &Path, how: Open, mode: u32) -> Result<Box<dyn StorageFile>> {
        self.step()?;
        let file = Disk.open(path, how, mode)?;
        Ok(Box::new(FaultyFile { faults: self.clone(), file }))
    }
    fn identity(&self, path: &Path) -> Result<Identity> {
        self.step()?;
        Disk.identity(path)
    }
    fn read(&self, path: &Path, from: u64) -> Result<Vec<u8>> {
        self.step()?;
        Disk.read(path, from)
    }
    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.step()?;
        Disk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> Result<()> {
        self.step()?;
        Disk.remove(path)
    }
    fn create_dirs(&self, path: &Path) -> Result<()> {
        self.step()?;
        Disk.create_dirs(path)
    }
    fn sync_dir(&self, path: &Path) -> Result<()> {
        // Nobody pulls the plug here, and a disk takes its time.
        let _ = path;
        self.step()
    }
}

impl StorageFile for FaultyFile {
    fn write_all(&mut self, bytes: &[u8]) -> Result<()> {
        if let Err(error) = self.faults.step() {
            // Some of it arrives all the same.
            self.file.write_all(&bytes[..bytes.len() / 2])?;
            return Err(error);
        }
        self.file.write_all(bytes)
    }
    fn set_len(&mut self, bytes: u64) -> Result<()> {
        self.faults.step()?;
        self.file.set_len(bytes)
    }
    fn sync(&mut self) -> Result<()> {
        self.faults.step()
    }
    fn identity(&self) -> Result<Identity> {
        self.faults.step()?;
        self.file.identity()
    }
}

/// The ways of writing that differ.
fn variants() -> Vec<Value> {
    let mut variants = vec![
        json!({}),
        json!({"sync": "batch"}),
        json!({"max_open": 1}),
        json!({"compress": "gzip"}),
        json!({"compress": "zstd", "max_open": 1}),
    ];
    for mut limits in [roll(json!({"events": 2})), roll(json!({"size": 40}))] {
        variants.push(limits.clone());
        limits["compress"] = json!("gzip");
        variants.push(limits);
    }
    variants
}

fn rounds() -> Vec<Vec<Batch>> {
    let line = |round: usize, name: &str| format!("{round} {name} {}", "x".repeat(round * 7));
    (0..3)
        .map(|round| {
            let (a, b, c) = (line(round, "a"), line(round, "b"), line(round, "c"));
            vec![named(&[("a", &a), ("b", &b)]), named(&[("a", &c)])]
        })
        .collect()
}

fn wanted() -> Vec<String> {
    let mut lines: Vec<String> = rounds()
        .iter()
        .flatten()
        .flat_map(|batch| batch.rows.iter().map(|&row| String::from_utf8_lossy(batch.body(row)).into_owned()))
        .collect();
    lines.sort();
    lines
}

/// Writes all rounds, each until it is taken; `false` when one was not taken within a few attempts.
fn write_rounds(sink: &mut Files, from: usize, attempts: usize) -> usize {
    for (index, round) in rounds().into_iter().enumerate().skip(from) {
        if (0..attempts).all(|_| sink.write_batches(&round, Instant::now()).is_err()) {
            return index;
        }
    }
    rounds().len()
}

/// How many steps a run without a fault takes.
fn steps_of(changes: &Value) -> u32 {
    let (place, faults) = (Place::new(), Faults::default());
    let mut sink =
        place.sink_on(Box::new(faults.clone()), path_of_header(&place.data("u-"), ".log"), changes.clone());
    assert_eq!(write_rounds(&mut sink, 0, 1), rounds().len());
    sink.writer.close().unwrap();
    assert_eq!(place.lines(), wanted());
    drop(sink);
    faults.taken()
}

#[test]
fn killed_at_any_step_nothing_is_lost_torn_or_doubled() {
    for changes in variants() {
        for step in 0..steps_of(&changes) {
            let (place, faults) = (Place::new(), Faults::default());
            *faults.steps.lock().unwrap() = Some(step);
            *faults.error.lock().unwrap() = Some(ErrorKind::Other);
            *faults.dead.lock().unwrap() = true;
            let template = path_of_header(&place.data("u-"), ".log");
            let mut sink = place.sink_on(Box::new(faults), template.clone(), changes.clone());
            let taken = write_rounds(&mut sink, 0, 1);
            drop(sink);
            let mut again = place.sink_on(Box::new(Faults::default()), template, changes.clone());
            again.writer.tick(Instant::now()).unwrap();
            place.lines();
            assert_eq!(write_rounds(&mut again, taken, 1), rounds().len());
            again.writer.close().unwrap();
            let mut lines = place.lines();
            if changes["sync"] == "batch" && lines.len() > wanted().len() {
                // Killed while the disk was asked to keep the commit: it may count all the same.
                lines.dedup();
            }
            assert_eq!(lines, wanted(), "{changes} killed at step {step}, {taken} rounds taken");
            let open = place.content().into_keys().filter(|name| name.ends_with(".open")).count();
            // Killed between making a file and writing down that it is there, it stays, empty.
            assert!(open <= 1, "{changes} killed at step {step}: {open} unfinished files");
        }
    }
}

#[test]
fn when_any_step_fails_the_same_events_go_through_at_the_next_attempt() {
    for changes in variants() {
        for step in 0..steps_of(&changes) {
            let kind = if step % 2 == 0 { ErrorKind::StorageFull } else { ErrorKind::PermissionDenied };
            let (place, faults) = (Place::new(), Faults::default());
            *faults.steps.lock().unwrap() = Some(step);
            *faults.error.lock().unwrap() = Some(kind);
            let template = path_of_header(&place.data("u-"), ".log");
            let mut sink = place.sink_on(Box::new(faults), template, changes.clone());
            assert_eq!(write_rounds(&mut sink, 0, 3), rounds().len(), "{changes} step {step}");
            if sink.writer.close().is_err() {
                sink.writer.close().unwrap();
            }
            assert_eq!(place.lines(), wanted(), "{changes} {kind:?} at step {step}");
        }
    }
}

#[test]
fn garbage_behind_the_committed_end_is_cut() {
    for changes in [json!({}), json!({"compress": "gzip"}), json!({"compress": "zstd"})] {
        let place = Place::new();
        let mut sink = place.sink("x.log", changes.clone());
        sink.write_batches(&[batch(&["one"])], Instant::now()).unwrap();
        drop(sink);
        for entry in std::fs::read_dir(place.data("")).unwrap() {
            let path = entry.unwrap().path();
            let mut bytes = std::fs::read(&path).unwrap();
            bytes.extend_from_slice(b"torn li");
            std::fs::write(&path, bytes).unwrap();
        }
        let mut sink = place.sink("x.log", changes);
        sink.writer.tick(Instant::now()).unwrap();
        assert_eq!(place.lines(), ["one"]);
        sink.write_batches(&[batch(&["two"])], Instant::now()).unwrap();
        sink.writer.close().unwrap();
        assert_eq!(place.lines(), ["one", "two"]);
    }
}

#[test]
fn a_file_that_the_disk_lost_the_end_of_keeps_its_complete_lines() {
    for changes in [json!({}), json!({"compress": "gzip"}), json!({"compress": "zstd"})] {
        let place = Place::new();
        let mut sink = place.sink("x.log", changes.clone());
        sink.write_batches(&[batch(&["one"])], Instant::now()).unwrap();
        sink.write_batches(&[batch(&["two", "three"])], Instant::now()).unwrap();
        drop(sink);
        for entry in std::fs::read_dir(place.data("")).unwrap() {
            let path = entry.unwrap().path();
            let len = std::fs::metadata(&path).unwrap().len();
            std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(len - 3).unwrap();
        }
        let mut sink = place.sink("x.log", changes.clone());
        sink.writer.tick(Instant::now()).unwrap();
        let lines = place.lines();
        // How much the last bytes held depends on the compression.
        let begins: [&[&str]; 3] = [&["one"], &["one", "two"], &["one", "three", "two"]];
        assert!(begins.iter().any(|begin| lines == *begin), "{changes} {lines:?}");
    }
}

#[test]
fn a_newer_state_is_refused() {
    let place = Place::new();
    let state: PathBuf = place.dir.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let json = r#"[{"version":2}]"#;
    let mut crc = flate2::Crc::new();
    crc.update(json.as_bytes());
    std::fs::write(state.join("files.journal"), format!("{:08x} {json}\n", crc.sum())).unwrap();
    let error = place.sink("x.log", json!({})).writer.prepare().unwrap_err().into_sink_error();
    assert!(matches!(&error, SinkError::Fatal(fault) if fault.code == Some("F0813")), "{error:?}");
}

#[test]
fn a_long_run_keeps_its_journal_short() {
    let place = Place::new();
    let path = path_setting(&place.data("x.log"));
    let mut sink = place.sink_on(Box::new(Faults::default()), path, roll(json!({"events": 1})));
    let journal = place.dir.path().join("state/files.journal");
    for round in 0..2500 {
        let body = round.to_string();
        sink.writer.prepare().unwrap();
        sink.writer
            .write_rows(&place.data("x.log"), &batch(&[&body]), &[0], Instant::now(), SystemTime::now())
            .unwrap();
        sink.writer.commit().unwrap();
    }
    assert!(std::fs::metadata(journal).unwrap().len() < 2 << 20);
    assert_eq!(place.content().len(), 2500);
}
