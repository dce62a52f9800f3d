//! What the `files` sink must know after a crash: which files it had open and up to where their content was
//! committed. One line per commit, each with its checksum; a torn last line is a commit that never was.

use std::collections::BTreeMap;
use std::io::Result;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::codec::{Checkpoint, Compressed};
use super::storage::{Open, Storage, StorageFile};
use crate::sinks::places::Place;

/// The journal is written anew, with what is still open, when it has grown to this many bytes.
const JOURNAL_BYTES_MAX: u64 = 1 << 20;

/// Raised when the lines change their meaning; a newer journal is refused.
const JOURNAL_VERSION: u32 = 2;

/// A file that is being written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Where it is now.
    pub path: String,
    /// Where it belongs when it is finished; none for a file that is appended to in place.
    pub final_path: Option<String>,
    pub compressed: Compressed,
    /// It was not there before.
    pub created: bool,
    pub device: u64,
    /// [`ANNOUNCED`] for a file that is about to be made.
    pub inode: u64,
    pub state: Committed,
}

/// No file has this number.
pub const ANNOUNCED: u64 = 0;

/// The content that counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Committed {
    /// Bytes of the file.
    pub len: u64,
    pub stream: Checkpoint,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    Version(u32),
    Open(u64, Entry),
    Commit(u64, Committed),
    Done(u64),
    /// Rows of a partition of a topic up to this one are in the content that counts (since version 2).
    Place(String, Place),
}

/// The journal of one sink.
pub struct Journal {
    path: PathBuf,
    file: Option<Box<dyn StorageFile>>,
    bytes: u64,
    open: BTreeMap<u64, Entry>,
    places: BTreeMap<String, Place>,
    next_id: u64,
}

/// Why a journal cannot be used.
#[derive(Debug)]
pub enum ReadError {
    Io(std::io::Error),
    Newer(u32),
}

impl Journal {
    /// Reads what the last run left, or begins.
    pub fn read(storage: &dyn Storage, directory: &Path) -> std::result::Result<Journal, ReadError> {
        storage.create_dirs(directory).map_err(ReadError::Io)?;
        let path = directory.join("files.journal");
        let text = match storage.read(&path, 0) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(ReadError::Io(error)),
        };
        let mut journal = Journal {
            path,
            file: None,
            bytes: 0,
            open: BTreeMap::new(),
            places: BTreeMap::new(),
            next_id: 0,
        };
        for line in text.split_inclusive(|&byte| byte == b'\n') {
            let Some(records) = parse_line(line) else { break };
            for record in records {
                if let Record::Version(version) = record
                    && version > JOURNAL_VERSION
                {
                    return Err(ReadError::Newer(version));
                }
                journal.apply(record);
            }
        }
        Ok(journal)
    }

    /// The files that were open.
    pub fn open(&self) -> &BTreeMap<u64, Entry> {
        &self.open
    }

    /// How far the topics are written that the events come from.
    pub fn places(&self) -> &BTreeMap<String, Place> {
        &self.places
    }

    /// A number for a new file.
    pub fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Writes records as one line: all of them count or none. After an error none does, and the next call
    /// writes the whole journal anew.
    pub fn append(&mut self, storage: &dyn Storage, records: Vec<Record>, sync: bool) -> Result<()> {
        let line = encode_line(&records);
        let result = self.append_line(storage, &line, sync);
        match result {
            Ok(()) => records.into_iter().for_each(|record| self.apply(record)),
            // What of it is on disk is unknown.
            Err(_) => self.file = None,
        }
        result
    }

    fn append_line(&mut self, storage: &dyn Storage, line: &[u8], sync: bool) -> Result<()> {
        if self.file.is_none() || self.bytes >= JOURNAL_BYTES_MAX {
            self.rewrite(storage, sync)?;
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        file.write_all(line)?;
        self.bytes += line.len() as u64;
        if sync { file.sync() } else { Ok(()) }
    }

    /// Replaces the journal by one of what is open now.
    fn rewrite(&mut self, storage: &dyn Storage, sync: bool) -> Result<()> {
        self.file = None;
        let fresh = self.path.with_extension("journal.new");
        match storage.remove(&fresh) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut text = encode_line(&[Record::Version(JOURNAL_VERSION)]);
        for (&id, entry) in &self.open {
            text.extend_from_slice(&encode_line(&[Record::Open(id, entry.clone())]));
        }
        for (partition, place) in &self.places {
            text.extend_from_slice(&encode_line(&[Record::Place(partition.clone(), *place)]));
        }
        let mut file = storage.open(&fresh, Open::New, 0o600)?;
        file.write_all(&text)?;
        // Renamed over the old one, it must not turn out empty after a loss of power.
        file.sync()?;
        storage.rename(&fresh, &self.path)?;
        if sync && let Some(directory) = self.path.parent() {
            storage.sync_dir(directory)?;
        }
        self.bytes = text.len() as u64;
        self.file = Some(file);
        Ok(())
    }

    fn apply(&mut self, record: Record) {
        match record {
            Record::Version(_) => {}
            Record::Open(id, entry) => {
                self.next_id = self.next_id.max(id);
                self.open.insert(id, entry);
            }
            Record::Commit(id, state) => {
                if let Some(entry) = self.open.get_mut(&id) {
                    entry.state = state;
                }
            }
            Record::Done(id) => {
                self.open.remove(&id);
            }
            Record::Place(partition, place) => {
                self.places.insert(partition, place);
            }
        }
    }
}

fn encode_line(records: &[Record]) -> Vec<u8> {
    // These types have nothing that JSON could not hold.
    let json = serde_json::to_string(records).unwrap_or_default();
    let mut crc = flate2::Crc::new();
    crc.update(json.as_bytes());
    format!("{:08x} {json}\n", crc.sum()).into_bytes()
}

fn parse_line(line: &[u8]) -> Option<Vec<Record>> {
    let line = std::str::from_utf8(line.strip_suffix(b"\n")?).ok()?;
    let (sum, json) = line.split_once(' ')?;
    let mut crc = flate2::Crc::new();
    crc.update(json.as_bytes());
    if u32::from_str_radix(sum, 16).ok()? != crc.sum() {
        return None;
    }
    serde_json::from_str(json).ok()
}
