//! What topics and their readers ask of a cluster. The embedded broker stands behind it, and a fake in the tests of
//! this folder.

use std::sync::Arc;

use async_trait::async_trait;
use flow_agent::Fault;

/// What a service that is a cluster gives to topics and readers.
pub struct ClusterHandle(pub Arc<dyn Cluster>);

#[async_trait]
pub trait Cluster: Send + Sync {
    /// How many partitions a topic has.
    fn partitions(&self, topic: &str) -> Result<i32, Fault>;

    /// Appends record batches (each at base offset 0) to a partition, in the order of the calls, and gives the offset
    /// behind the last record. They are not on the disk yet: see [`Cluster::kept`]. What was appended is taken off the
    /// front of `batches`, also when a later one fails. May block on files.
    fn append(&self, topic: &str, partition: i32, batches: &mut &[u8]) -> Result<i64, AppendError>;

    /// Resolves when everything before an offset is where it cannot be lost (acks=all).
    async fn kept(&self, topic: &str, partition: i32, offset: i64) -> Result<(), Fault>;

    /// Whole record batches from the one that holds `from` on, about `bytes_max` bytes of them; nothing when there is
    /// nothing yet.
    async fn read(&self, what: &Read<'_>) -> Result<Fetched, ReadError>;

    /// Resolves when one of the places (partition, offset) may have something to be read. May resolve early.
    async fn readable(&self, topic: &str, places: &[(i32, i64)], committed: bool);

    /// The offset of a place in a partition.
    async fn offset(&self, topic: &str, partition: i32, place: Place) -> Result<i64, Fault>;

    /// Makes a member of a group that reads one topic.
    async fn join(&self, join: Join) -> Result<Box<dyn Member>, Fault>;

    /// A producer that appends in transactions, under a name that outlives the process: who takes the name shuts out
    /// an earlier owner and aborts what it left open.
    async fn transactions(&self, name: &str) -> Result<Arc<dyn Transactions>, Fault>;
}

/// What to read.
pub struct Read<'a> {
    pub topic: &'a str,
    pub partition: i32,
    pub from: i64,
    pub bytes_max: usize,
    /// Without events of transactions that are open.
    pub committed: bool,
}

/// What was read.
#[derive(Debug, Default)]
pub struct Fetched {
    /// Whole batches; the first may begin before the offset that was asked for.
    pub bytes: Vec<u8>,
    /// Aborted transactions that reach into them: (producer id, first offset).
    pub aborted: Vec<(i64, i64)>,
}

#[derive(Debug)]
pub enum ReadError {
    /// The offset was deleted, or never written: what there is.
    OutOfRange {
        start: i64,
        end: i64,
    },
    Fault(Fault),
}

#[derive(Debug)]
pub enum AppendError {
    /// It may work later (the disk is full).
    Retry(Fault),
    /// Nothing can be written any more.
    Fatal(Fault),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Earliest,
    Latest,
    /// The first record at or after this time, in milliseconds since 1970; the end when there is none.
    At(i64),
}

/// A wish to be a member.
#[derive(Clone, Debug)]
pub struct Join {
    pub group: String,
    pub topic: String,
    /// The member's own name: who joins again with it takes the place of the one that died.
    pub member: String,
    pub session_ms: u64,
    pub assign: Assign,
}

/// How partitions are shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Assign {
    Range,
    RoundRobin,
    Sticky,
}

/// A member of a group. It stays one by itself as long as it lives; dropping it leaves the group as if it had died.
#[async_trait]
pub trait Member: Send {
    /// The partitions to read from now on, when that has changed. Those that are gone must be given up with
    /// [`Member::release`] before others get them. Cancel safe.
    async fn assigned(&mut self) -> Result<Vec<i32>, Fault>;

    /// What was taken away is no longer read, and its position is committed.
    async fn release(&mut self) -> Result<(), Fault>;

    /// Committed positions of partitions; `None` where there is none.
    async fn positions(&mut self, partitions: &[i32]) -> Result<Vec<Option<i64>>, Fault>;

    /// Writes positions down and resolves when they are kept.
    async fn commit(&mut self, positions: &[(i32, i64)]) -> Result<(), Fault>;

    /// Who the member is now, for positions that are committed in a transaction.
    fn identity(&self) -> Identity;

    /// Leaves the group, so that others take over at once.
    async fn leave(self: Box<Self>);
}

/// A member in one generation of its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub group: String,
    pub member: String,
    pub generation: i32,
}

/// A transactional producer: one transaction at a time.
#[async_trait]
pub trait Transactions: Send + Sync {
    async fn begin(&self) -> Result<Arc<dyn Transaction>, Fault>;
}

/// An open transaction. Dropped without an end it is aborted by the next one, or by its timeout.
#[async_trait]
pub trait Transaction: Send + Sync {
    /// Appends a batch of records to a partition.
    async fn append(&self, topic: &str, partition: i32, batch: Vec<u8>) -> Result<(), Fault>;

    /// The positions of a reader become part of the transaction.
    async fn offsets(&self, who: &Identity, topic: &str, positions: &[(i32, i64)]) -> Result<(), Fault>;

    /// Everything becomes visible, or nothing does. When the answer is an error nobody knows which; the next owner of
    /// the name finds out.
    async fn commit(&self) -> Result<(), Fault>;

    async fn abort(&self) -> Result<(), Fault>;
}
