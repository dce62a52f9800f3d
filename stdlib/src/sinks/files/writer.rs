//! The files that are being written: opened, filled, rolled, and committed together. Synchronous, over a
//! [`Storage`] and a clock that are handed in.

use std::collections::HashMap;
use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use flow_agent::{Fault, SinkError};
use flow_plan::Batch;
use flow_plan::settings::Limits;

use super::Sync;
use super::codec::{Codec, Compressed};
use super::journal::{ANNOUNCED, Committed, Entry, Journal, ReadError, Record};
use super::path::rolled_name;
use super::storage::{Identity, Open, Storage, StorageFile};
use crate::sinks::encode::Encoder;
use crate::sinks::fault::{file_fault, is_open_limit};
use crate::sinks::places::Places;

/// Bytes gathered before they are written.
const BUFFER_BYTES_MAX: usize = 256 << 10;

/// With a limit in bytes a file grows by at most this many body bytes before it is measured again.
const MEASURE_BYTES: u64 = 64 << 10;

/// Names tried for a new file within one second.
const NAMES_MAX: u32 = 100_000;

/// What the settings come to.
pub struct Options {
    pub roll: Limits,
    /// Files are finished under another name than they are written.
    pub rolled: bool,
    pub idle: Duration,
    pub compress: Compressed,
    pub level: Option<u32>,
    pub in_use: String,
    pub sync: Sync,
    pub max_open: usize,
    pub mode: u32,
    pub create_dirs: bool,
    pub append: bool,
    /// Paths have values of events in them: one that cannot be a file is the event's fault.
    pub names_from_events: bool,
}

/// Why a write failed. Nothing of it remains.
#[derive(Debug)]
pub enum WriteError {
    File { doing: &'static str, path: PathBuf, error: Error, refused: bool },
    Refused(Fault),
    Fatal(Fault),
}

impl WriteError {
    pub fn file(doing: &'static str, path: impl AsRef<Path>, error: Error) -> WriteError {
        WriteError::File { doing, path: path.as_ref().to_owned(), error, refused: false }
    }

    /// The process has as many files open as it may.
    fn is_open_limit(&self) -> bool {
        matches!(self, WriteError::File { error, .. } if is_open_limit(error))
    }

    pub fn into_sink_error(self) -> SinkError {
        match self {
            WriteError::File { doing, path, error, refused } => {
                let fault = file_fault(doing, &path, &error).setting("path");
                if refused { SinkError::Refused(fault) } else { SinkError::Retry(fault) }
            }
            WriteError::Refused(fault) => SinkError::Refused(fault),
            WriteError::Fatal(fault) => SinkError::Fatal(fault),
        }
    }
}

/// All files of a sink.
pub struct Writer {
    pub(super) options: Options,
    encoder: Encoder,
    pub(super) storage: Box<dyn Storage>,
    state_dir: PathBuf,
    /// Read with the first use.
    pub(super) journal: Option<Journal>,
    /// By the path that the template gave.
    open: HashMap<String, OpenFile>,
    /// Written to since the last commit, by the same path.
    touched: Vec<String>,
    /// Closed since the last commit: finished after it.
    parked: Vec<Parked>,
    /// Files of the journal that have to be cut, ended, renamed or removed.
    pub(super) left: Vec<u64>,
    /// How far the topics are written that the events come from.
    pub(super) places: Places,
    buffer: Vec<u8>,
    packed: Vec<u8>,
    uses: u64,
}

/// A file with room.
struct OpenFile {
    id: u64,
    path: PathBuf,
    file: Box<dyn StorageFile>,
    identity: Identity,
    codec: Codec,
    /// Bytes written.
    len: u64,
    events: u64,
    opened: Instant,
    written: Instant,
    /// Counts up with each use, to find the one used longest ago.
    used: u64,
    touched: bool,
}

/// A file closed since the last commit.
struct Parked {
    key: String,
    id: u64,
    path: PathBuf,
    len: u64,
}

impl Writer {
    pub fn new(options: Options, encoder: Encoder, storage: Box<dyn Storage>, state_dir: PathBuf) -> Writer {
        Writer {
            options,
            encoder,
            storage,
            state_dir,
            journal: None,
            open: HashMap::new(),
            touched: Vec::new(),
            parked: Vec::new(),
            left: Vec::new(),
            places: Places::default(),
            buffer: Vec::new(),
            packed: Vec::new(),
            uses: 0,
        }
    }

    /// Puts in order what a crash or a failure left. Nothing is written before that is done.
    pub fn prepare(&mut self) -> Result<(), WriteError> {
        if self.journal.is_none() {
            let journal =
                Journal::read(self.storage.as_ref(), &self.state_dir).map_err(|error| match error {
                    ReadError::Io(error) => WriteError::file("read the state in", &self.state_dir, error),
                    ReadError::Newer(version) => WriteError::Fatal(
                        Fault::new(format!(
                            "the state in `{}` has version {version}, a newer one than this build knows",
                            self.state_dir.display()
                        ))
                        .code("F0813"),
                    ),
                })?;
            self.left = journal.open().keys().copied().collect();
            for (partition, place) in journal.places() {
                self.places.restore(partition.clone(), *place);
            }
            self.journal = Some(journal);
        }
        while let Some(&id) = self.left.last() {
            self.settle(id)?;
            self.left.pop();
        }
        Ok(())
    }

    /// Writes rows to the file of a path, opening and rolling as needed. After an error everything since the
    /// last commit must be rolled back.
    pub fn write_rows(
        &mut self,
        key: &str,
        batch: &Batch,
        mut rows: &[u32],
        now: Instant,
        wall: SystemTime,
    ) -> Result<(), WriteError> {
        while !rows.is_empty() {
            self.ready(key, now, wall)?;
            let Some(file) = self.open.get_mut(key) else {
                return Err(WriteError::Fatal(Fault::new("an open file is not known").code("F1109")));
            };
            let count = rows_that_fit(&self.options, file, batch, rows);
            if count > 0 {
                let (these, rest) = rows.split_at(count);
                rows = rest;
                file.events += count as u64;
                file.written = now;
                let (packed, path) = (&mut self.packed, file.path.clone());
                let buffer = &mut self.buffer;
                let result = self
                    .encoder
                    .encode_lines(batch, these, buffer, BUFFER_BYTES_MAX, |piece| file.write(piece, packed))
                    .and_then(|()| if buffer.is_empty() { Ok(()) } else { file.write(buffer, packed) })
                    .and_then(|()| file.write_packed(packed));
                buffer.clear();
                packed.clear();
                result.map_err(|error| WriteError::file("write", path, error))?;
            }
            let roll = &self.options.roll;
            let full = count == 0
                || roll.events.is_some_and(|events| file.events >= events)
                || roll.size.is_some_and(|bytes| file.len >= bytes);
            if full {
                self.park(key)?;
            }
        }
        Ok(())
    }

    /// Makes all rows since the last commit count. After an error they must be rolled back.
    pub fn commit(&mut self) -> Result<(), WriteError> {
        let mut records = Vec::with_capacity(self.touched.len() + self.parked.len());
        for key in &self.touched {
            let Some(file) = self.open.get_mut(key) else { continue };
            let mut done =
                file.codec.flush(&mut self.packed).and_then(|()| file.write_packed(&mut self.packed));
            self.packed.clear();
            if done.is_ok() && self.options.sync == Sync::Batch {
                done = file.file.sync();
            }
            done.map_err(|error| WriteError::file("write", &file.path, error))?;
            records
                .push(Record::Commit(file.id, Committed { len: file.len, stream: file.codec.checkpoint() }));
        }
        for parked in &self.parked {
            records.push(Record::Commit(parked.id, Committed { len: parked.len, ..Committed::default() }));
        }
        let places = self.places.pending();
        records.extend(places.map(|(partition, place)| Record::Place(partition.to_owned(), place)));
        if records.is_empty() {
            self.places.commit();
            return Ok(());
        }
        self.append(records, self.options.sync == Sync::Batch)?;
        self.places.commit();
        for key in self.touched.drain(..) {
            if let Some(file) = self.open.get_mut(&key) {
                file.touched = false;
            }
        }
        self.left.extend(self.parked.drain(..).map(|parked| parked.id));
        // The events are safe; what is still to do with their files is done now or before the next write.
        if let Err(error) = self.prepare() {
            tracing::warn!(error = %error.into_sink_error(), "a finished file waits for its name");
        }
        Ok(())
    }

    /// Takes back everything since the last commit, now or, when the disk does not let us, before the next
    /// write.
    pub fn roll_back(&mut self) {
        self.places.roll_back();
        self.buffer.clear();
        self.packed.clear();
        for key in self.touched.drain(..) {
            if let Some(file) = self.open.remove(&key) {
                self.left.push(file.id);
            }
        }
        self.left.extend(self.parked.drain(..).map(|parked| parked.id));
        // Whether it works or not: the error that brought us here is the one to report.
        let _ = self.prepare();
    }

    /// Finishes files whose time has come.
    pub fn tick(&mut self, now: Instant) -> Result<(), WriteError> {
        self.prepare()?;
        let over: Vec<String> = self
            .open
            .iter()
            .filter(|(_, file)| self.is_over(file, now))
            .map(|(key, _)| key.clone())
            .collect();
        self.finish(over)
    }

    /// Finishes all files.
    pub fn close(&mut self) -> Result<(), WriteError> {
        self.prepare()?;
        let all = self.open.keys().cloned().collect();
        self.finish(all)?;
        self.prepare()
    }

    fn finish(&mut self, keys: Vec<String>) -> Result<(), WriteError> {
        for key in keys {
            self.park(&key).inspect_err(|_| self.roll_back())?;
        }
        self.commit().inspect_err(|_| self.roll_back())
    }

    fn is_over(&self, file: &OpenFile, now: Instant) -> bool {
        let old = self.options.roll.duration.is_some_and(|age| now.duration_since(file.opened) >= age.std());
        old || now.duration_since(file.written) >= self.options.idle
    }

    pub(super) fn append(&mut self, records: Vec<Record>, sync: bool) -> Result<(), WriteError> {
        let Some(journal) = &mut self.journal else { return Ok(()) };
        journal
            .append(self.storage.as_ref(), records, sync)
            .map_err(|error| WriteError::file("write the state in", &self.state_dir, error))
    }

    /// Sees to it that the file of a path is open, is still the one under its name, and is marked as written to.
    fn ready(&mut self, key: &str, now: Instant, wall: SystemTime) -> Result<(), WriteError> {
        if let Some(file) = self.open.get(key)
            && !file.touched
        {
            let here = match self.storage.identity(&file.path) {
                Ok(identity) => identity.same_file(&file.identity),
                Err(error) if is_gone(&error) => false,
                Err(error) => return Err(WriteError::file("write", &file.path, error)),
            };
            if !here {
                tracing::warn!(path = %file.path.display(), "the file was moved or removed: another one is begun");
                let id = file.id;
                self.append(vec![Record::Done(id)], false)?;
                self.open.remove(key);
            } else if self.is_over(file, now) {
                self.park(key)?;
            }
        }
        if !self.open.contains_key(key) {
            while self.open.len() >= self.options.max_open && self.park_oldest()? {}
            let file = loop {
                // A file that is appended to in place goes on where it was: it has one place in the journal.
                let parked =
                    self.parked.iter().position(|parked| parked.key == key).filter(|_| !self.options.rolled);
                let opened = match parked {
                    Some(index) => self.reopen(index, now),
                    None => self.open_file(key, now, wall),
                };
                match opened {
                    // The process may open fewer files than `max_open` says.
                    Err(error) if error.is_open_limit() && self.park_oldest()? => {}
                    opened => break opened?,
                }
            };
            self.open.insert(key.to_owned(), file);
        }
        self.uses += 1;
        if let Some(file) = self.open.get_mut(key) {
            file.used = self.uses;
            if !file.touched {
                file.touched = true;
                self.touched.push(key.to_owned());
            }
        }
        Ok(())
    }

    /// Parks the file used longest ago. False: none is open.
    fn park_oldest(&mut self) -> Result<bool, WriteError> {
        let oldest = self.open.iter().min_by_key(|(_, file)| file.used).map(|(key, _)| key.clone());
        let Some(oldest) = oldest else { return Ok(false) };
        self.park(&oldest)?;
        Ok(true)
    }

    /// Ends a file and closes it. It gets its name after the commit.
    fn park(&mut self, key: &str) -> Result<(), WriteError> {
        let Some(mut file) = self.open.remove(key) else { return Ok(()) };
        self.touched.retain(|touched| touched != key);
        let mut done = file.codec.finish(&mut self.packed).and_then(|()| file.write_packed(&mut self.packed));
        self.packed.clear();
        if done.is_ok() && self.options.sync != Sync::Never {
            done = file.file.sync();
        }
        // On an error the length does not matter: the file is cut back.
        let parked = Parked { key: key.to_owned(), id: file.id, path: file.path, len: file.len };
        let done = done.map_err(|error| WriteError::file("write", &parked.path, error));
        self.parked.push(parked);
        done
    }

    /// Opens a file again that was closed since the last commit.
    fn reopen(&mut self, index: usize, now: Instant) -> Result<OpenFile, WriteError> {
        let Parked { id, path, len, .. } = &self.parked[index];
        let fault = |error| WriteError::file("open", path, error);
        let file = self.storage.open(path, Open::Existing, self.options.mode).map_err(fault)?;
        let identity = file.identity().map_err(fault)?;
        let file = OpenFile {
            id: *id,
            path: path.clone(),
            file,
            identity,
            codec: Codec::new(self.options.compress, self.options.level),
            len: *len,
            events: 0,
            opened: now,
            written: now,
            used: 0,
            touched: false,
        };
        self.parked.swap_remove(index);
        Ok(file)
    }

    fn open_file(&mut self, key: &str, now: Instant, wall: SystemTime) -> Result<OpenFile, WriteError> {
        let id = match &mut self.journal {
            Some(journal) => journal.next_id(),
            None => 0,
        };
        let mut opened = self.create(id, key, wall);
        if let Err((path, error)) = &opened
            && error.kind() == ErrorKind::NotFound
            && self.options.create_dirs
            && let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty())
        {
            opened = match self.storage.create_dirs(directory) {
                Ok(()) => self.create(id, key, wall),
                Err(error) => Err((directory.to_owned(), error)),
            };
        }
        if opened.is_err() {
            self.forget(id);
        }
        let refused = |error: &Error| {
            self.options.names_from_events
                && matches!(
                    error.kind(),
                    ErrorKind::InvalidFilename | ErrorKind::IsADirectory | ErrorKind::InvalidInput
                )
        };
        let created = opened.map_err(|(path, error)| {
            let refused = refused(&error);
            WriteError::File { doing: "open", path, error, refused }
        })?;
        let Created { path, final_path, file, new } = created;
        let identity = file.identity().map_err(|error| WriteError::file("open", &path, error))?;
        let entry = Entry {
            path: path.clone(),
            final_path,
            compressed: self.options.compress,
            created: new,
            device: identity.device,
            inode: identity.inode,
            state: Committed { len: identity.len, ..Committed::default() },
        };
        if let Err(error) = self.append(vec![Record::Open(id, entry)], false) {
            if new {
                // Nobody would know of it; when it cannot be removed an empty file stays.
                let _ = self.storage.remove(Path::new(&path));
            }
            return Err(error);
        }
        Ok(OpenFile {
            id,
            path: PathBuf::from(path),
            file,
            identity,
            codec: Codec::new(self.options.compress, self.options.level),
            len: identity.len,
            events: 0,
            opened: now,
            written: now,
            used: 0,
            touched: false,
        })
    }

    /// Opens the file of a path under the name that it has while it is written.
    fn create(&mut self, id: u64, key: &str, wall: SystemTime) -> Result<Created, (PathBuf, Error)> {
        if !self.options.rolled {
            let open = |path: &str, how| self.open_named(path, how);
            match open(key, Open::New) {
                Ok(file) => return Ok(Created { path: key.to_owned(), final_path: None, file, new: true }),
                Err((_, error)) if error.kind() == ErrorKind::AlreadyExists && self.options.append => {
                    let file = open(key, Open::Append)?;
                    return Ok(Created { path: key.to_owned(), final_path: None, file, new: false });
                }
                Err((_, error)) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        let stamp = stamp(wall);
        let mut taken = (PathBuf::from(key), Error::from(ErrorKind::AlreadyExists));
        for count in 0..NAMES_MAX {
            let name = rolled_name(key, &stamp, count, self.options.compress.extension());
            if self.storage.identity(Path::new(&name)).is_ok() {
                continue;
            }
            let path =
                if self.options.rolled { format!("{name}{}", self.options.in_use) } else { name.clone() };
            if self.options.rolled {
                if self.storage.identity(Path::new(&path)).is_ok() {
                    continue;
                }
                self.announce(id, &path)?;
            }
            match self.open_named(&path, Open::New) {
                Ok(file) => {
                    let final_path = Some(name).filter(|name| *name != path);
                    return Ok(Created { path, final_path, file, new: true });
                }
                Err(error) if error.1.kind() == ErrorKind::AlreadyExists => taken = error,
                Err(error) => return Err(error),
            }
        }
        Err(taken)
    }
}

impl Writer {
    fn open_named(&self, path: &str, how: Open) -> Result<Box<dyn StorageFile>, (PathBuf, Error)> {
        let opened = self.storage.open(Path::new(path), how, self.options.mode);
        opened.map_err(|error| (PathBuf::from(path), error))
    }

    /// Notes a file that is about to be made: killed in between, nobody would know whose it is.
    fn announce(&mut self, id: u64, path: &str) -> Result<(), (PathBuf, Error)> {
        let entry = Entry {
            path: path.to_owned(),
            final_path: None,
            compressed: self.options.compress,
            created: true,
            device: 0,
            inode: ANNOUNCED,
            state: Committed::default(),
        };
        self.append(vec![Record::Open(id, entry)], false).map_err(|error| match error {
            WriteError::File { path, error, .. } => (path, error),
            _ => (PathBuf::from(path), Error::other("the state cannot be written")),
        })
    }

    /// Takes an announcement back when the file could not be made; should that fail, the next start does it.
    fn forget(&mut self, id: u64) {
        if self.journal.as_ref().is_some_and(|journal| journal.open().contains_key(&id)) {
            let _ = self.append(vec![Record::Done(id)], false);
        }
    }
}

struct Created {
    path: String,
    final_path: Option<String>,
    file: Box<dyn StorageFile>,
    new: bool,
}

impl OpenFile {
    /// Takes lines; what is ready to be written goes out when there is enough of it.
    fn write(&mut self, lines: &[u8], packed: &mut Vec<u8>) -> std::io::Result<()> {
        if let Codec::None = self.codec {
            self.file.write_all(lines)?;
            self.len += lines.len() as u64;
            return Ok(());
        }
        self.codec.compress(lines, packed)?;
        if packed.len() >= BUFFER_BYTES_MAX { self.write_packed(packed) } else { Ok(()) }
    }

    fn write_packed(&mut self, packed: &mut Vec<u8>) -> std::io::Result<()> {
        if !packed.is_empty() {
            self.file.write_all(packed)?;
            self.len += packed.len() as u64;
            packed.clear();
        }
        Ok(())
    }
}

/// How many of the rows the file takes before it must be looked at again; 0: none, it is full.
fn rows_that_fit(options: &Options, file: &OpenFile, batch: &Batch, rows: &[u32]) -> usize {
    let mut count = rows.len();
    if let Some(events) = options.roll.events {
        count = count.min(events.max(1).saturating_sub(file.events) as usize);
    }
    if let Some(bytes) = options.roll.size {
        let left = match options.compress {
            Compressed::None => bytes.saturating_sub(file.len),
            // What the compressor will make of it is not known before.
            _ => u64::MAX,
        };
        let size = |row: u32| batch.body(row).len() as u64 + 1;
        let mut sum = 0;
        let fit = rows[..count]
            .iter()
            .take_while(|&&row| {
                sum += size(row);
                sum <= left.min(MEASURE_BYTES)
            })
            .count();
        // A line that is larger than any file has one of its own, and one larger than a measure is measured alone.
        let alone = file.events == 0 || rows.first().is_some_and(|&row| size(row) <= left);
        count = if fit == 0 && alone { count.min(1) } else { fit };
    }
    count
}

/// `20261123T100000` in UTC.
fn stamp(wall: SystemTime) -> String {
    match jiff::Timestamp::try_from(wall) {
        Ok(time) => time.strftime("%Y%m%dT%H%M%S").to_string(),
        Err(_) => "00000000T000000".to_owned(),
    }
}

/// The name is not there any more.
pub(super) fn is_gone(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}
