//! The `database` channel: events as rows of a table in a SQLite file. For those who want to look at what waits with
//! the tools of a database; the `file` channel is faster.
//!
//! One thread owns the connection. It gathers what has come meanwhile, puts and commits alike, into one transaction
//! of the database, so that they share its sync.

mod rows;
#[cfg(test)]
mod tests;
mod worker;

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

use async_trait::async_trait;
use flow_agent::{Channel, Context, Fault, decode_settings};
use flow_plan::{Ack, Batch, Settings};
use rustix::fs::{FlockOperation, flock};
use serde::Deserialize;
use tokio::sync::{Notify, oneshot};

use super::kept::store::{Loaded, Place, Refused, Store, Stored};
use super::kept::{COPIES_BYTES_MAX, Limits, Memory, Queue, Room};
use crate::sinks::io_text;
use worker::{Job, Shared, Worker};

/// Makes a `database` channel.
pub fn database(settings: &Settings, context: &Context) -> Result<Arc<dyn Channel>, Fault> {
    let settings: DatabaseSettings = decode_settings(settings)?;
    let limits = Limits {
        events_max: settings.capacity,
        bytes_max: u64::MAX,
        take_events_max: settings.batch.unwrap_or((settings.capacity / 2).max(1)),
        memory: Memory::Copies { bytes_max: COPIES_BYTES_MAX },
    };
    Ok(Arc::new(open(&settings.path, &settings.table, context.slots.clone(), limits)?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DatabaseSettings {
    path: PathBuf,
    table: String,
    capacity: u64,
    batch: Option<u64>,
}

/// Bytes of bodies that wait to be written, of one channel. At the bound `put` waits for the database.
const INBOX_BYTES_MAX: u64 = 16 << 20;

/// The largest body: SQLite's own bound on a value is a billion bytes.
const BODY_BYTES_MAX: u64 = 900_000_000;

fn open(
    path: &Path,
    table: &str,
    slots: Arc<Vec<String>>,
    limits: Limits,
) -> Result<Queue<DatabaseStore>, Fault> {
    if table.is_empty() || table.contains('\0') {
        return Err(Fault::new("the table needs a name").setting("table"));
    }
    let lock = lock(path)?;
    let (connection, found, next) = rows::open(path, table)?;
    let room: Room = Arc::new(Notify::new());
    let shared = Arc::new(Shared::new(room.clone()));
    let (inbox, jobs) = mpsc::channel();
    let worker = Worker::new(connection, path, table, slots, shared.clone());
    let thread = std::thread::Builder::new()
        .name("channel-database".to_owned())
        .spawn(move || {
            worker.run(&jobs);
            // Not before the connection is closed.
            drop(lock);
        })
        .map_err(|error| Fault::new(format!("cannot start a thread: {}", io_text(&error))))?;
    let store = DatabaseStore { inbox: Some(inbox), next: Mutex::new(next), shared, thread: Some(thread) };
    Ok(Queue::new(store, found, limits, room))
}

/// A file beside the database keeps a second process out; readers with other tools may come.
fn lock(path: &Path) -> Result<File, Fault> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let name = PathBuf::from(name);
    let failed = |error: &std::io::Error| {
        let fault =
            Fault::new(format!("cannot use `{}`: {}", path.display(), io_text(error))).setting("path");
        match error.kind() {
            ErrorKind::PermissionDenied => {
                fault.code("F0804").help("give the user that runs this write permission for its directory")
            }
            _ => fault.code("F0806").help("choose a place that can be written"),
        }
    };
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        fs::create_dir_all(directory).map_err(|error| failed(&error))?;
    }
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&name)
        .map_err(|error| failed(&error))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut owner = String::new();
        // Only for the message; an unreadable one says nothing.
        let _ = (&mut file).take(32).read_to_string(&mut owner);
        let owner = owner.trim();
        let owner = if owner.is_empty() { String::new() } else { format!(" (pid {owner})") };
        return Err(Fault::new(format!("another flowc{owner} already owns `{}`", path.display()))
            .code("F0811")
            .help("stop it, or give this channel a file of its own")
            .setting("path"));
    }
    // Only for the message of whoever comes second.
    let _ =
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(file)
}

/// What the queue sees of the database.
struct DatabaseStore {
    /// Taken when the store goes, which ends the thread.
    inbox: Option<mpsc::Sender<Job>>,
    /// The number of the next row.
    next: Mutex<i64>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl DatabaseStore {
    fn send(&self, job: Job) -> Result<(), Fault> {
        let sent = self.inbox.as_ref().is_some_and(|inbox| inbox.send(job).is_ok());
        if sent { Ok(()) } else { Err(Fault::new("the thread of the database has ended").code("F1109")) }
    }

    async fn ask<T>(&self, job: impl FnOnce(oneshot::Sender<Result<T, Fault>>) -> Job) -> Result<T, Fault> {
        let (sender, answer) = oneshot::channel();
        self.send(job(sender))?;
        let gone = |_| Fault::new("the thread of the database has ended").code("F1109");
        answer.await.map_err(gone)?
    }
}

#[async_trait]
impl Store for DatabaseStore {
    fn append(&self, batch: &Batch, added_ms: i64) -> Result<Stored, Refused> {
        if let Some(fault) = self.shared.take_fault() {
            return Err(Refused::Fault(fault));
        }
        if batch.rows.iter().any(|&row| u64::from(batch.columns.bodies[row as usize].len) > BODY_BYTES_MAX) {
            let message = format!("an event is larger than the {BODY_BYTES_MAX} bytes that a row can have");
            return Err(Refused::Fault(Fault::new(message)));
        }
        let bytes = batch.body_bytes().max(1);
        if !self.shared.reserve(bytes, INBOX_BYTES_MAX) {
            return Err(Refused::Full);
        }
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let place = Place { lane: 0, start: *next, end: *next + batch.len() as i64 };
        let rows = Batch { columns: batch.columns.clone(), rows: batch.rows.clone(), ack: Ack::none() };
        self.send(Job::Put { first: place.start, batch: rows, added_ms, bytes }).map_err(Refused::Fault)?;
        *next = place.end;
        Ok(Stored { place, bytes })
    }

    fn when_safe(&self, stored: Stored, ack: Ack) {
        self.shared.pledges.add(stored.place.end, ack);
    }

    async fn load(&self, next: &[i64], ends: &[i64], bytes_max: u64) -> Result<Vec<Loaded>, Fault> {
        let (&[from], &[end]) = (next, ends) else { return Ok(Vec::new()) };
        self.ask(|answer| Job::Load { from, end, bytes_max, answer }).await
    }

    async fn forget(&self, places: &[Place]) -> Result<(), Fault> {
        let ranges = places.iter().map(|place| (place.start, place.end)).collect();
        self.ask(|answer| Job::Forget { ranges, answer }).await
    }

    fn checkpoint(&self) {
        // Every commit is synced.
    }
}

impl Drop for DatabaseStore {
    fn drop(&mut self) {
        self.inbox = None;
        if let Some(thread) = self.thread.take() {
            // It writes what it was given and closes the database; a panic there was told already.
            let _ = thread.join();
        }
    }
}
