//! What stands below a channel that keeps its events: a log, a database. It numbers what it is given and gives it
//! back by number; it must not know of order between transactions, of room, or of whoever waits.

use async_trait::async_trait;
use flow_agent::Fault;
use flow_plan::{Ack, Batch};

/// Keeps batches in lanes (directories), each numbered by itself: one number for each event, none twice.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Writes the rows behind everything else. One caller at a time; may block on the disk.
    fn append(&self, batch: &Batch, added_ms: i64) -> Result<Stored, Refused>;

    /// Marks the acknowledgement done as soon as what was stored is as safe as it was asked for; drops it when that
    /// will never be.
    fn when_safe(&self, stored: Stored, ack: Ack);

    /// Reads on from `next` (by lane), in the order in which it was written, nothing at or above `ends`. About
    /// `bytes_max` of memory, but one batch at least. Nothing: there is no more. Reading changes nothing.
    async fn load(&self, next: &[i64], ends: &[i64], bytes_max: u64) -> Result<Vec<Loaded>, Fault>;

    /// Events that are safe elsewhere: they are not found at the next start. May come in any order.
    async fn forget(&self, places: &[Place]) -> Result<(), Fault>;

    /// Writes down what is only known in memory. May block on the disk.
    fn checkpoint(&self);

    /// Bytes that there is still room for, as far as the disk is concerned.
    fn bytes_free(&self) -> u64 {
        u64::MAX
    }
}

/// Where consecutive events are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub lane: u32,
    pub start: i64,
    /// One past the last.
    pub end: i64,
}

/// A batch that was written.
#[derive(Clone, Copy, Debug)]
pub struct Stored {
    pub place: Place,
    /// What it takes in the store.
    pub bytes: u64,
}

/// A batch that was read back: rows of one place.
#[derive(Debug)]
pub struct Loaded {
    pub place: Place,
    pub bytes: u64,
    /// When it was put, in milliseconds since 1970.
    pub added_ms: i64,
    pub batch: Batch,
    /// Events that should have come before it and are gone (told by the store already).
    pub gone: u64,
}

/// Why a batch was not written.
#[derive(Debug)]
pub enum Refused {
    /// There is no room now; the store wakes the queue when there may be.
    Full,
    Fault(Fault),
}

/// What a store held when it was opened.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// By lane: the first event that was not forgotten, one past the last.
    pub next: Vec<i64>,
    pub ends: Vec<i64>,
    pub events: u64,
    pub bytes: u64,
    /// When the oldest was put.
    pub oldest_ms: Option<i64>,
}
