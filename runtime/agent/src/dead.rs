//! Dead letters: events that a step or a sink could not take, kept on disk as JSON lines so that a person can look
//! at them and send them again. Knows files and events; it must not know why a row failed beyond one sentence.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use base64::Engine;
use flow_plan::Batch;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::traits::Fault;

/// Bytes kept for one step or sink, in two files of half that size. At the bound the older half is thrown away
/// and its events are counted as [`DeadStatus::overwritten`]. A single letter larger than half is kept whole.
pub const DEAD_BYTES_MAX: u64 = 256 << 20;

/// The store of one agent: `<data>/<agent>/dead/<step or sink>.jsonl`, and `….old.jsonl` beside it.
///
/// A line is `{"at", "step", "place", "error", "source", "id", "time", "header", "body" | "body_base64"}`; times are
/// milliseconds since 1970 UTC. Written with one `write` before the rows count as done: a killed process loses
/// nothing of it (a lost machine may: it is synced when the store is closed).
pub struct DeadLetters {
    dir: PathBuf,
    slots: Arc<Vec<String>>,
    bytes_max: u64,
    boxes: Mutex<BTreeMap<String, DeadBox>>,
}

/// What the store holds for one step or sink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeadStatus {
    pub step: String,
    pub file: PathBuf,
    /// Written by this process.
    pub events: u64,
    /// Size of the newer file.
    pub bytes: u64,
    /// Thrown away at the bound by this process.
    pub overwritten: u64,
}

/// A row that failed.
pub struct Letter<'a> {
    pub batch: &'a Batch,
    pub row: u32,
    pub error: &'a str,
    /// Where what failed stands in the text: `web.flow:12:5`.
    pub place: &'a str,
}

struct DeadBox {
    path: PathBuf,
    old: PathBuf,
    /// Opened on the first letter, and again after an error.
    file: Option<File>,
    bytes: u64,
    events: u64,
    overwritten: u64,
}

impl DeadLetters {
    /// A store in `dir`, which is made with the first letter.
    pub fn new(dir: PathBuf, slots: Arc<Vec<String>>) -> DeadLetters {
        DeadLetters::with_bound(dir, slots, DEAD_BYTES_MAX)
    }

    /// The same with another bound per step.
    pub fn with_bound(dir: PathBuf, slots: Arc<Vec<String>>, bytes_max: u64) -> DeadLetters {
        DeadLetters { dir, slots, bytes_max: bytes_max.max(2), boxes: Mutex::new(BTreeMap::new()) }
    }

    /// Appends letters of one step. After an error none of them counts as kept.
    pub fn write<'a>(
        &self,
        step: &str,
        letters: impl IntoIterator<Item = Letter<'a>>,
        at_ms: i64,
    ) -> Result<u64, Fault> {
        let mut lines = Vec::new();
        let mut events = 0;
        for letter in letters {
            encode_letter(&mut lines, step, &letter, at_ms, &self.slots);
            events += 1;
        }
        if events == 0 {
            return Ok(0);
        }
        let mut boxes = self.lock();
        let dead = boxes.entry(step.to_owned()).or_insert_with(|| DeadBox::new(&self.dir, step));
        dead.append(&lines, self.bytes_max / 2).map_err(|error| {
            Fault::new(format!("cannot write dead letters to `{}`: {error}", dead.path.display()))
                .code("F0806")
                .help("free space, or make the directory writable: the events wait until then")
        })?;
        dead.events += events;
        Ok(events)
    }

    /// One entry for each step that has failed since the start.
    pub fn status(&self) -> Vec<DeadStatus> {
        let boxes = self.lock();
        boxes
            .iter()
            .map(|(step, dead)| DeadStatus {
                step: step.clone(),
                file: dead.path.clone(),
                events: dead.events,
                bytes: dead.bytes,
                overwritten: dead.overwritten,
            })
            .collect()
    }

    /// Brings everything to the disk.
    pub fn sync(&self) -> Result<(), Fault> {
        for dead in self.lock().values_mut() {
            if let Some(file) = &dead.file {
                file.sync_data().map_err(|error| {
                    Fault::new(format!("cannot sync `{}`: {error}", dead.path.display())).code("F0806")
                })?;
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, DeadBox>> {
        self.boxes.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl DeadBox {
    fn new(dir: &Path, step: &str) -> DeadBox {
        let name = file_name(step);
        DeadBox {
            path: dir.join(format!("{name}.jsonl")),
            old: dir.join(format!("{name}.old.jsonl")),
            file: None,
            bytes: 0,
            events: 0,
            overwritten: 0,
        }
    }

    fn append(&mut self, lines: &[u8], file_bytes_max: u64) -> std::io::Result<()> {
        self.open()?;
        if self.bytes > 0 && self.bytes + lines.len() as u64 > file_bytes_max {
            self.rotate()?;
        }
        let Some(file) = &mut self.file else { return Err(std::io::ErrorKind::NotFound.into()) };
        if let Err(error) = file.write_all(lines) {
            // Part of a line may be there: cut it, or open again (which mends it) when that fails too.
            if file.set_len(self.bytes).is_err() {
                self.file = None;
            }
            return Err(error);
        }
        self.bytes += lines.len() as u64;
        Ok(())
    }

    fn open(&mut self) -> std::io::Result<()> {
        if self.file.is_some() {
            return Ok(());
        }
        if let Some(dir) = self.path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        let mut file = OpenOptions::new().create(true).read(true).append(true).open(&self.path)?;
        let mut bytes = file.metadata()?.len();
        if bytes > 0 {
            // A process that died while writing leaves a line without an end.
            let mut last = [0];
            file.seek(SeekFrom::Start(bytes - 1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
                bytes += 1;
            }
        }
        self.bytes = bytes;
        self.file = Some(file);
        Ok(())
    }

    /// The full file becomes the old one, and what the old one held is gone.
    fn rotate(&mut self) -> std::io::Result<()> {
        if self.old.exists() {
            self.overwritten += count_lines(&self.old)?;
        }
        self.file = None;
        std::fs::rename(&self.path, &self.old)?;
        self.open()
    }
}

fn count_lines(path: &Path) -> std::io::Result<u64> {
    let mut reader = BufReader::with_capacity(1 << 16, File::open(path)?);
    let mut lines = 0;
    let mut buffer = [0; 1 << 16];
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(lines),
            read => lines += buffer[..read].iter().filter(|&&byte| byte == b'\n').count() as u64,
        }
    }
}

/// Step names may hold anything (`route at line 20`): what could leave the directory becomes `_`.
fn file_name(step: &str) -> String {
    let clean: String = step
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '_' })
        .take(200)
        .collect();
    if clean.trim_matches('.').is_empty() { "_".to_owned() } else { clean }
}

fn encode_letter(lines: &mut Vec<u8>, step: &str, letter: &Letter<'_>, at_ms: i64, slots: &[String]) {
    let Letter { batch, row, error, place } = letter;
    let mut header = Map::new();
    for (name, value) in batch.headers(*row, slots) {
        header.insert(name.to_owned(), text_or_base64(value));
    }
    let body = batch.body(*row);
    let (body_key, body) = match std::str::from_utf8(body) {
        Ok(text) => ("body", text.to_owned()),
        Err(_) => ("body_base64", base64::engine::general_purpose::STANDARD.encode(body)),
    };
    let line = json!({
        "at": at_ms,
        "step": step,
        "place": place,
        "error": error,
        "source": batch.columns.source.as_ref(),
        "id": batch.columns.event_id(*row),
        "time": batch.time_ms(*row),
        "header": header,
        body_key: body,
    });
    lines.extend_from_slice(line.to_string().as_bytes());
    lines.push(b'\n');
}

fn text_or_base64(value: &[u8]) -> Value {
    match std::str::from_utf8(value) {
        Ok(text) => Value::from(text),
        Err(_) => json!({ "base64": base64::engine::general_purpose::STANDARD.encode(value) }),
    }
}
