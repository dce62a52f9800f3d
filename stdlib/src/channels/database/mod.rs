//! The `database` channel: events as rows of a table in a SQLite file. For those who want to look at what waits with
//! the tools of a database; the `file` channel is faster.
//!
//! One thread owns the connection. It gathers what has come meanwhile, puts and commits alike, into one transaction
//! of the database, so that they share its sync.

mod rows;
#[cfg(test)]
mod tests;
mod worker;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

use async_trait::async_trait;
use flow_agent::{Channel, Context, Fault, decode_settings};
use flow_plan::{Ack, Batch, Settings};
use serde::Deserialize;
use tokio::sync::{Notify, oneshot};

use super::kept::store::{Loaded, Place, Refused, Store, Stored};
use super::kept::{COPIES_BYTES_MAX, Limits, Memory, Queue, Room};
use crate::sinks::io_text;
use crate::sqlite::{self, BODY_BYTES_MAX};
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

fn open(
    path: &Path,
    table: &str,
    slots: Arc<Vec<String>>,
    limits: Limits,
) -> Result<Queue<DatabaseStore>, Fault> {
    sqlite::check_table(table)?;
    let lock = sqlite::lock(path)?;
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
