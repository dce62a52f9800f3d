//! What is left of files when a step fails or the process dies at it.

use std::io::{Error, ErrorKind, Result};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Instant, SystemTime};

use flow_agent::SinkError;
use flow_plan::Batch;
use serde_json::{Value, json};

use super::Files;
use super::storage::{Disk, Identity, Open, Storage, StorageFile};
use super::tests::{Place, batch, named, path_of_header, path_setting, roll};

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
    let state = place.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let json = r#"[{"version":3}]"#;
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
    let journal = place.path().join("state/files.journal");
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
