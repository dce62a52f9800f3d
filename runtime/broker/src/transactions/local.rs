//! Transactions of this process: records and the offsets of what they were made from, visible together or not at all.
//! What a flow `topic -> program -> topic` stands on when it delivers effectively once.
//!
//! A transaction waits for the disk twice, however many partitions it has: for what it wrote, all at once, and for the
//! decision.

use std::collections::HashMap;
use std::sync::Arc;

use flow_log::LogError;
use flow_log::batch::{BatchError, CRC_START, HEADER_BYTES, Header};
use kafka_protocol::ResponseError;
use tokio::sync::{Mutex, OwnedMutexGuard, oneshot};

use super::coordinator::Answer;
use super::offsets::{self, GroupOffsets};
use super::transaction::{Producer, TopicPartition};
use crate::broker::Broker;
use crate::store::producers::ProducerError;
use crate::store::{AppendError, Origin, Partition, check_single};

/// Groups whose offsets may be in one transaction.
pub const GROUPS_MAX: usize = 64;

/// Where the fields of a batch's producer lie, and the bit of its attributes that says "transactional".
const ATTRIBUTES_LOW: usize = 22;
const TRANSACTIONAL: u8 = 0x10;
const PRODUCER_ID: usize = 43;
const PRODUCER_EPOCH: usize = 51;
const BASE_SEQUENCE: usize = 53;
const CRC: usize = 17;

/// Why a transaction of this process failed. Whatever it was, nothing of it is visible, but for
/// [`TransactionError::InDoubt`] and [`TransactionError::Stopped`] after a commit: there the next start of the broker
/// decides, for all of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransactionError {
    /// Somebody else has taken the transactional id: this one is not used any more.
    #[error("the transactional id `{0}` was taken by another producer")]
    Fenced(String),
    #[error("there is no partition {partition} of topic `{topic}`")]
    UnknownPartition { topic: String, partition: i32 },
    /// The disk is full. It works again when there is room.
    #[error("{0}")]
    Full(String),
    /// It would not work again either.
    #[error("{0}")]
    Refused(String),
    /// The group does not take the offsets: it has rebalanced, or they are wrong.
    #[error("the group `{group}` does not take the offsets: {reason}")]
    Offsets { group: String, reason: String },
    /// The disk failed while the decision was written.
    #[error("the disk failed: whether the transaction is committed is known after a restart")]
    InDoubt,
    #[error("{0}")]
    Failed(String),
    #[error("the broker stops")]
    Stopped,
}

/// A transactional id held by this process. Its transactions come one after the other.
#[derive(Clone)]
pub struct LocalTransactions {
    id: Arc<str>,
    owner: Arc<Mutex<Owner>>,
}

/// What a transaction has to itself as long as it is open.
struct Owner {
    broker: Arc<Broker>,
    id: Arc<str>,
    producer: Producer,
    /// The abort of a transaction that was dropped: the next one waits for it.
    aborting: Option<oneshot::Receiver<Result<Answer, ResponseError>>>,
}

/// One transaction. Dropped without [`LocalTransaction::commit`], it is aborted.
pub struct LocalTransaction {
    owner: OwnedMutexGuard<Owner>,
    parts: HashMap<TopicPartition, Part>,
    offsets: Vec<GroupOffsets>,
    /// Set when nothing is left to abort.
    over: bool,
}

/// What the transaction has in one partition.
struct Part {
    partition: Arc<Partition>,
    next_sequence: i32,
    /// After the last batch; -1 when none was appended yet.
    next_offset: i64,
}

impl LocalTransactions {
    /// Takes the transactional id. Whoever had it, in this process or over the wire, is fenced, and what it left open is
    /// aborted before this returns.
    ///
    /// # Errors
    ///
    /// An empty id or one of more than 32,767 bytes; a disk that does not take the record of it; a broker that stops.
    pub async fn open(
        broker: &Arc<Broker>,
        transactional_id: &str,
    ) -> Result<LocalTransactions, TransactionError> {
        let id: Arc<str> = Arc::from(transactional_id);
        let producer =
            broker.transactions.open_local(broker, &id).await.map_err(|error| failed(&id, error))?;
        let owner = Owner { broker: Arc::clone(broker), id: id.clone(), producer, aborting: None };
        Ok(LocalTransactions { id, owner: Arc::new(Mutex::new(owner)) })
    }

    pub fn transactional_id(&self) -> &str {
        &self.id
    }

    /// Begins a transaction, when the one before has ended. It costs nothing until something is in it.
    ///
    /// # Errors
    ///
    /// [`TransactionError::Fenced`], and what the abort of a dropped transaction or the renewal of the producer id ran
    /// into.
    pub async fn begin(&self) -> Result<LocalTransaction, TransactionError> {
        let mut owner = Arc::clone(&self.owner).lock_owned().await;
        owner.prepare().await?;
        Ok(LocalTransaction { owner, parts: HashMap::new(), offsets: Vec::new(), over: false })
    }
}

impl Owner {
    async fn prepare(&mut self) -> Result<(), TransactionError> {
        if let Some(aborting) = self.aborting.take() {
            let answer = aborting.await;
            self.take_answer(answer)?;
        }
        if self.producer.is_exhausted() {
            let renewed = self.broker.transactions.open_local(&self.broker, &self.id).await;
            self.producer = renewed.map_err(|error| failed(&self.id, error))?;
        }
        Ok(())
    }

    fn end(&self, commit: bool) -> oneshot::Receiver<Result<Answer, ResponseError>> {
        self.broker.transactions.end_local(&self.broker, &self.id, self.producer, commit)
    }

    /// Takes in how a transaction ended: the next one has another epoch.
    fn take_answer(
        &mut self,
        answer: Result<Result<Answer, ResponseError>, oneshot::error::RecvError>,
    ) -> Result<(), TransactionError> {
        match answer {
            Ok(Ok(Answer::Producer(producer))) => {
                self.producer = producer;
                Ok(())
            }
            Ok(Ok(Answer::Done)) => Ok(()),
            Ok(Err(ResponseError::CoordinatorNotAvailable)) => Err(TransactionError::InDoubt),
            Ok(Err(error)) => Err(failed(&self.id, error)),
            Err(_) => Err(TransactionError::Stopped),
        }
    }
}

impl LocalTransaction {
    /// Appends one batch of records. The fields of its producer are set here; what else is in it stays as it is. Gives
    /// the offset of its first record.
    ///
    /// # Errors
    ///
    /// The batch is not appended, and the transaction can go on, but for [`TransactionError::Fenced`].
    pub fn append(
        &mut self,
        topic: &str,
        partition: i32,
        mut batch: Vec<u8>,
    ) -> Result<i64, TransactionError> {
        let at = TopicPartition::new(topic, partition);
        if !self.parts.contains_key(&at) {
            let unknown = || TransactionError::UnknownPartition { topic: topic.to_owned(), partition };
            let found = self.owner.broker.store.partition(topic, partition).ok_or_else(unknown)?;
            let added =
                self.owner.broker.transactions.add_local(&self.owner.id, self.owner.producer, at.clone());
            added.map_err(|error| failed(&self.owner.id, error))?;
            self.parts.insert(at.clone(), Part { partition: found, next_sequence: 0, next_offset: -1 });
        }
        let Owner { broker, id, producer, .. } = &*self.owner;
        let Some(part) = self.parts.get_mut(&at) else {
            return Err(TransactionError::Failed("the partition was lost".to_owned()));
        };
        seal(&mut batch, *producer, part.next_sequence)
            .map_err(|error| TransactionError::Refused(error.to_string()))?;
        let header = check_single(&batch).map_err(|error| append_failed(id, &error))?;
        // The question before the answer: what fences this producer in between makes the answer worthless.
        let guard = part.partition.verification(&header);
        if guard.is_some() {
            broker.transactions.verify(id, *producer, &at).map_err(|error| failed(id, error))?;
        }
        let appended = part
            .partition
            .append_checked(&header, &batch, Origin::Local, guard)
            .map_err(|error| append_failed(id, &error))?;
        part.next_sequence = next_sequence(&header);
        part.next_offset = appended.next_offset;
        Ok(appended.base_offset)
    }

    /// Adds offsets that a group commits with this transaction. They are looked at when it is committed.
    ///
    /// # Errors
    ///
    /// More than [`GROUPS_MAX`] groups; a fenced transactional id.
    pub fn add_offsets(&mut self, offsets: GroupOffsets) -> Result<(), TransactionError> {
        if self.offsets.len() >= GROUPS_MAX {
            return Err(TransactionError::Refused(format!("more than {GROUPS_MAX} groups in a transaction")));
        }
        self.offsets.push(offsets);
        Ok(())
    }

    /// Makes everything visible at once. When it returns, it is decided on the disk, and readers see it.
    ///
    /// # Errors
    ///
    /// Nothing is visible, but for [`TransactionError::InDoubt`] and [`TransactionError::Stopped`].
    pub async fn commit(mut self) -> Result<(), TransactionError> {
        if let Err(error) = self.store().await {
            return Err(self.aborted_after(error).await);
        }
        self.over = true;
        let answer = self.owner.end(true).await;
        match self.owner.take_answer(answer) {
            Err(TransactionError::InDoubt) => {
                // Refused for now, or in doubt? Only what was not written can be aborted.
                let answer = self.owner.end(false).await;
                self.owner.take_answer(answer)?;
                Err(TransactionError::Full("the decision could not be written".to_owned()))
            }
            other => other,
        }
    }

    /// Takes everything back.
    ///
    /// # Errors
    ///
    /// The broker stops: the next start takes it back.
    pub async fn abort(mut self) -> Result<(), TransactionError> {
        self.over = true;
        let answer = self.owner.end(false).await;
        self.owner.take_answer(answer)
    }

    /// Puts what was written on the disk, and the offsets with it.
    async fn store(&mut self) -> Result<(), TransactionError> {
        let Owner { broker, id, producer, .. } = &*self.owner;
        // All partitions at once.
        let mut commits = Vec::with_capacity(self.parts.len());
        for part in self.parts.values().filter(|part| part.next_offset >= 0) {
            commits.extend(part.partition.start_commit(part.next_offset));
        }
        for offsets in &self.offsets {
            let at = offsets::partition_of_group(broker, &offsets.group);
            broker.transactions.add_local(id, *producer, at).map_err(|error| failed(id, error))?;
            offsets::commit_local(broker, id, *producer, offsets).await.map_err(|error| match error {
                ResponseError::InvalidProducerEpoch | ResponseError::ProducerFenced => {
                    TransactionError::Fenced(id.to_string())
                }
                error => {
                    TransactionError::Offsets { group: offsets.group.clone(), reason: error.to_string() }
                }
            })?;
        }
        for commit in commits {
            commit.await.map_err(|error| append_failed(id, &error))?;
        }
        Ok(())
    }

    async fn aborted_after(mut self, error: TransactionError) -> TransactionError {
        self.over = true;
        let answer = self.owner.end(false).await;
        match self.owner.take_answer(answer) {
            // Nothing was decided: what cannot be aborted now, the next start aborts.
            Ok(()) | Err(TransactionError::InDoubt) => error,
            Err(worse) => worse,
        }
    }
}

impl Drop for LocalTransaction {
    fn drop(&mut self) {
        if !self.over {
            let aborting = self.owner.end(false);
            self.owner.aborting = Some(aborting);
        }
    }
}

/// Makes a batch one of this producer's transaction (KIP-98): only its header changes.
fn seal(batch: &mut [u8], producer: Producer, sequence: i32) -> Result<(), BatchError> {
    Header::parse(batch)?;
    if batch.len() < HEADER_BYTES {
        return Err(BatchError::Short { needed: HEADER_BYTES, have: batch.len() });
    }
    batch[ATTRIBUTES_LOW] |= TRANSACTIONAL;
    batch[PRODUCER_ID..PRODUCER_ID + 8].copy_from_slice(&producer.id.to_be_bytes());
    batch[PRODUCER_EPOCH..PRODUCER_EPOCH + 2].copy_from_slice(&producer.epoch.to_be_bytes());
    batch[BASE_SEQUENCE..BASE_SEQUENCE + 4].copy_from_slice(&sequence.to_be_bytes());
    let crc = crc32c::crc32c(&batch[CRC_START..]);
    batch[CRC..CRC + 4].copy_from_slice(&crc.to_be_bytes());
    Ok(())
}

fn next_sequence(header: &Header) -> i32 {
    match header.last_sequence() {
        i32::MAX => 0,
        last => last + 1,
    }
}

fn failed(id: &str, error: ResponseError) -> TransactionError {
    match error {
        ResponseError::ProducerFenced
        | ResponseError::InvalidProducerIdMapping
        | ResponseError::InvalidProducerEpoch => TransactionError::Fenced(id.to_owned()),
        ResponseError::InvalidRequest | ResponseError::PolicyViolation => {
            TransactionError::Refused(format!("the transactional id `{id}` is refused: {error}"))
        }
        error => TransactionError::Failed(error.to_string()),
    }
}

fn append_failed(id: &str, error: &AppendError) -> TransactionError {
    match error {
        AppendError::Producer(ProducerError::OldEpoch { .. } | ProducerError::NotVerified { .. }) => {
            TransactionError::Fenced(id.to_owned())
        }
        AppendError::Log(LogError::Full(_)) => TransactionError::Full(error.to_string()),
        AppendError::Log(LogError::Closed) => TransactionError::Stopped,
        AppendError::Log(LogError::Batch(_) | LogError::TooLarge { .. }) => {
            TransactionError::Refused(error.to_string())
        }
        AppendError::Log(_) => TransactionError::Failed(error.to_string()),
        _ => TransactionError::Refused(error.to_string()),
    }
}
