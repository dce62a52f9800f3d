//! The transaction coordinator: producer ids, and for each transactional id who may write under it and how its
//! transaction ends. `step(input, now) -> outputs` without IO: the host writes the records it gives to
//! `__transaction_state` and the markers to the partitions, and says when they are there.
//!
//! A decision (`PrepareCommit`, `PrepareAbort`) is on disk before the first marker is written, and the markers are on
//! disk before `Complete…` is written, so that whoever starts after a crash can finish what it finds. It must not know
//! tokio, files or the wire.

mod begin;
mod end;
mod local;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
mod view;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use kafka_protocol::ResponseError;

use super::ids::Ids;
use super::records::{self, RecordError};
use super::transaction::{Producer, State, TopicPartition, Transaction};

pub(crate) use view::{Filter, View};

use local::Local;

/// Transactional ids that are remembered; a new one beyond it is refused until old ones expire.
pub(crate) const TRANSACTIONAL_IDS_MAX: usize = 200_000;

/// Partitions in one transaction, so that its record fits a batch.
pub(crate) const PARTITIONS_MAX: usize = 10_000;

/// Requests that wait for a block of producer ids; beyond it clients are told to come again.
const WAITING_MAX: usize = 10_000;

/// How often idle transactional ids are looked for.
const EXPIRY_SCAN_MS: i64 = 3_600_000;

/// Answers go back to whoever asked under this number.
pub(crate) type CallId = u64;

/// What an operator may set, by the names of Kafka's settings.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// `transaction.max.timeout.ms`
    pub(crate) timeout_max_ms: i32,
    /// `transactional.id.expiration.ms`
    pub(crate) id_expiration_ms: i64,
    /// Partitions of `__transaction_state`.
    pub(crate) partitions: i32,
}

impl Default for Options {
    fn default() -> Options {
        Options { timeout_max_ms: 900_000, id_expiration_ms: 7 * 86_400_000, partitions: 50 }
    }
}

/// What happens to the coordinator.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    InitProducerId {
        call: CallId,
        transactional_id: Option<Arc<str>>,
        timeout_ms: i32,
        /// Who the caller believes to be (KIP-360).
        expected: Option<Producer>,
    },
    AddPartitions {
        call: CallId,
        transactional_id: Arc<str>,
        producer: Producer,
        partitions: BTreeSet<TopicPartition>,
    },
    End {
        call: CallId,
        transactional_id: Arc<str>,
        producer: Producer,
        commit: bool,
    },
    /// Somebody in this process takes the transactional id; whoever had it is fenced.
    OpenLocal {
        call: CallId,
        transactional_id: Arc<str>,
    },
    EndLocal {
        call: CallId,
        transactional_id: Arc<str>,
        producer: Producer,
        commit: bool,
    },
    /// A record is on disk (or in the log, where that was enough), or is not.
    Written {
        write: u64,
        result: Result<(), WriteError>,
    },
    /// Markers are in the logs: readers see them.
    MarkersAppended {
        transactional_id: Arc<str>,
        producer: Producer,
        partitions: Vec<TopicPartition>,
    },
    /// Markers are on disk, or not needed any more.
    MarkersDone {
        transactional_id: Arc<str>,
        producer: Producer,
        partitions: Vec<TopicPartition>,
    },
    /// Markers that cannot be written before a restart: a log takes nothing more.
    MarkersFailed {
        transactional_id: Arc<str>,
        producer: Producer,
    },
    /// Ids below `end` are reserved on disk; `None`: that failed.
    IdsReserved {
        end: Option<i64>,
    },
    Tick,
}

/// Why a record is not on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteError {
    /// It is not in the log.
    Refused,
    /// It may be found after a restart, or not. The log takes nothing more until then.
    Unknown,
}

/// What the host is to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    Write(Write),
    Mark(Mark),
    ReserveIds { end: i64 },
    Answer { call: CallId, answer: Result<Answer, ResponseError> },
}

/// A record for `__transaction_state`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Write {
    pub(crate) write: u64,
    pub(crate) partition: i32,
    pub(crate) key: Vec<u8>,
    /// `None` deletes the key.
    pub(crate) value: Option<Vec<u8>>,
    /// Whether [`Input::Written`] waits for the disk. It need not for `Complete…`: lost, it is done again.
    pub(crate) to_disk: bool,
}

/// Markers to write: [`Input::MarkersAppended`] and then [`Input::MarkersDone`] come back, at once or partition by
/// partition, however often it must be tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) transactional_id: Arc<str>,
    pub(crate) producer: Producer,
    pub(crate) coordinator_epoch: i32,
    pub(crate) commit: bool,
    pub(crate) partitions: Vec<TopicPartition>,
}

/// What a call brings when nothing is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Done,
    Producer(Producer),
}

/// What becomes of a transaction when its record is written.
#[derive(Clone, Copy, Debug)]
enum Then {
    Init {
        call: CallId,
    },
    OpenLocal {
        call: CallId,
    },
    Add {
        call: CallId,
    },
    End {
        call: CallId,
    },
    EndLocal {
        call: CallId,
    },
    /// A fence: whoever asked comes again when the abort is through.
    Fence {
        call: Option<CallId>,
    },
    Complete,
    Expire,
}

impl Then {
    fn call(self) -> Option<CallId> {
        match self {
            Then::Init { call }
            | Then::OpenLocal { call }
            | Then::Add { call }
            | Then::End { call }
            | Then::EndLocal { call } => Some(call),
            Then::Fence { call } => call,
            Then::Complete | Then::Expire => None,
        }
    }
}

#[derive(Debug)]
struct Pending {
    write: u64,
    next: Transaction,
    then: Then,
}

#[derive(Debug)]
struct Slot {
    now: Transaction,
    pending: Option<Pending>,
    /// Partitions whose marker is not in the log, and those where it is not on disk.
    unappended: BTreeSet<TopicPartition>,
    unmarked: BTreeSet<TopicPartition>,
    /// Set when somebody in this process has the id.
    local: Option<Local>,
    /// Something cannot be written, and may be on disk or not: only a restart can tell, and until then nothing follows.
    stuck: bool,
}

impl Slot {
    fn new(now: Transaction) -> Slot {
        Slot {
            now,
            pending: None,
            unappended: BTreeSet::new(),
            unmarked: BTreeSet::new(),
            local: None,
            stuck: false,
        }
    }

    /// What every request answers while the last decision is on its way.
    fn check_free(&self) -> Result<(), ResponseError> {
        if self.stuck {
            return Err(ResponseError::CoordinatorNotAvailable);
        }
        let aborting = self.local.as_ref().is_some_and(Local::is_aborting);
        if self.pending.is_some() || self.now.state.is_prepared() || aborting {
            return Err(ResponseError::ConcurrentTransactions);
        }
        Ok(())
    }
}

/// The coordinator of every transactional id here.
#[derive(Debug)]
pub(crate) struct Coordinator {
    options: Options,
    /// Of each partition of `__transaction_state`: the leader epoch, which markers carry.
    epochs: Vec<i32>,
    slots: HashMap<Arc<str>, Slot>,
    ids: Ids,
    waiting: VecDeque<Input>,
    writes: HashMap<u64, Arc<str>>,
    writes_made: u64,
    /// When open transactions are aborted. An entry may be out of date; it is looked at again when it is due.
    deadlines: BTreeSet<(i64, Arc<str>)>,
    /// Prepared, and not yet complete.
    completing: BTreeSet<Arc<str>>,
    next_expiry_scan_ms: i64,
}

impl Coordinator {
    /// Knows nothing yet: the records are given to [`Coordinator::load`], then [`Coordinator::finish_loading`] is
    /// called. `epochs` has the leader epoch of each partition of `__transaction_state`; producer ids below
    /// `ids_reserved` may have been given out.
    pub(crate) fn new(options: Options, epochs: Vec<i32>, ids_reserved: i64) -> Coordinator {
        Coordinator {
            options,
            epochs,
            slots: HashMap::new(),
            ids: Ids::new(ids_reserved),
            waiting: VecDeque::new(),
            writes: HashMap::new(),
            writes_made: 0,
            deadlines: BTreeSet::new(),
            completing: BTreeSet::new(),
            next_expiry_scan_ms: i64::MIN,
        }
    }

    /// Takes in a record of `__transaction_state`, in the order of the log.
    pub(crate) fn load(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), RecordError> {
        let Some(id) = records::decode_key(key)? else { return Ok(()) };
        let Some(value) = value else {
            self.slots.remove(&id);
            return Ok(());
        };
        let transaction = records::decode_value(value)?;
        self.ids.seen(transaction.producer.id);
        self.slots.insert(id, Slot::new(transaction));
        Ok(())
    }

    /// Everything is loaded: what was decided is finished.
    pub(crate) fn finish_loading(&mut self, now_ms: i64) -> Vec<Output> {
        let mut out = Vec::new();
        self.next_expiry_scan_ms = now_ms.saturating_add(EXPIRY_SCAN_MS);
        let mut ids: Vec<Arc<str>> = self.slots.keys().cloned().collect();
        ids.sort_unstable();
        for id in ids {
            let state = self.slots[&id].now.state;
            if state == State::Ongoing {
                self.deadlines.insert((self.slots[&id].now.deadline_ms(), id));
            } else if state.is_prepared() {
                self.send_markers(&id, now_ms, &mut out);
            }
        }
        self.reserve_ids(&mut out);
        out
    }

    /// What follows from `input`. Records for one partition of `__transaction_state` must be appended in the order in
    /// which they come out of here.
    pub(crate) fn step(&mut self, input: Input, now_ms: i64) -> Vec<Output> {
        let mut out = Vec::new();
        // After a failure the next request or tick asks again, not this one.
        let failed = matches!(input, Input::IdsReserved { end: None });
        self.apply(input, now_ms, &mut out);
        if !failed {
            self.reserve_ids(&mut out);
        }
        out
    }

    fn apply(&mut self, input: Input, now_ms: i64, out: &mut Vec<Output>) {
        match input {
            Input::InitProducerId { .. } | Input::OpenLocal { .. } => self.apply_opening(input, now_ms, out),
            Input::AddPartitions { call, transactional_id, producer, partitions } => {
                match self.add_partitions(call, &transactional_id, producer, partitions, now_ms, out) {
                    Ok(true) => answer(out, call, Ok(Answer::Done)),
                    Ok(false) => {}
                    Err(error) => answer(out, call, Err(error)),
                }
            }
            Input::End { call, transactional_id, producer, commit } => {
                match self.end(call, &transactional_id, producer, commit, now_ms, out) {
                    Ok(true) => answer(out, call, Ok(Answer::Done)),
                    Ok(false) => {}
                    Err(error) => answer(out, call, Err(error)),
                }
            }
            Input::EndLocal { call, transactional_id, producer, commit } => {
                if let Err(error) = self.end_local(call, &transactional_id, producer, commit, now_ms, out) {
                    answer(out, call, Err(error));
                }
            }
            Input::Written { write, result } => self.written(write, result, now_ms, out),
            Input::MarkersAppended { transactional_id, producer, partitions } => {
                self.markers_appended(&transactional_id, producer, &partitions, out);
            }
            Input::MarkersDone { transactional_id, producer, partitions } => {
                self.markers_appended(&transactional_id, producer, &partitions, out);
                self.markers_done(&transactional_id, producer, &partitions, now_ms, out);
            }
            Input::MarkersFailed { transactional_id, producer } => {
                self.markers_failed(&transactional_id, producer, out);
            }
            Input::IdsReserved { end } => {
                self.ids.reserved(end);
                for input in std::mem::take(&mut self.waiting) {
                    match (end, &input) {
                        (None, Input::InitProducerId { call, .. } | Input::OpenLocal { call, .. }) => {
                            answer(out, *call, Err(ResponseError::CoordinatorNotAvailable));
                        }
                        _ => self.apply(input, now_ms, out),
                    }
                }
            }
            Input::Tick => self.tick(now_ms, out),
        }
    }

    /// Whether a batch of this producer may begin its part of the transaction in `partition` (KIP-890, part 1).
    pub(crate) fn verify(
        &self,
        transactional_id: &str,
        producer: Producer,
        partition: &TopicPartition,
    ) -> Result<(), ResponseError> {
        let slot = self.slots.get(transactional_id).ok_or(ResponseError::InvalidProducerIdMapping)?;
        if let Some(local) = &slot.local {
            return local.verify(producer, partition);
        }
        if slot.now.producer.id != producer.id {
            return Err(ResponseError::InvalidProducerIdMapping);
        }
        if slot.now.producer.epoch != producer.epoch {
            return Err(ResponseError::ProducerFenced);
        }
        if slot.now.state.is_prepared() {
            return Err(ResponseError::ConcurrentTransactions);
        }
        if slot.now.partitions.contains(partition) {
            Ok(())
        } else {
            Err(ResponseError::TransactionAbortable)
        }
    }

    /// The partition of `__transaction_state` that keeps this transactional id.
    pub(crate) fn partition_of(&self, transactional_id: &str) -> i32 {
        partition_of(transactional_id, self.options.partitions)
    }

    fn epoch_of(&self, transactional_id: &str) -> i32 {
        let partition = self.partition_of(transactional_id) as usize;
        self.epochs.get(partition).copied().unwrap_or(0)
    }

    fn reserve_ids(&mut self, out: &mut Vec<Output>) {
        if let Some(end) = self.ids.wants() {
            out.push(Output::ReserveIds { end });
        }
    }

    /// Asks for `next` to be written; until then everything stays as it is.
    fn write(&mut self, id: &Arc<str>, next: Transaction, then: Then, out: &mut Vec<Output>) {
        self.writes_made += 1;
        let write = self.writes_made;
        let partition = self.partition_of(id);
        let Some(slot) = self.slots.get_mut(id) else { return };
        debug_assert!(slot.pending.is_none(), "one decision at a time");
        let value = if matches!(then, Then::Expire) { None } else { Some(records::encode_value(&next)) };
        let to_disk = !matches!(then, Then::Complete | Then::Expire);
        slot.pending = Some(Pending { write, next, then });
        self.writes.insert(write, id.clone());
        out.push(Output::Write(Write { write, partition, key: records::encode_key(id), value, to_disk }));
    }

    fn written(&mut self, write: u64, result: Result<(), WriteError>, now_ms: i64, out: &mut Vec<Output>) {
        let Some(id) = self.writes.remove(&write) else { return };
        let Some(slot) = self.slots.get_mut(&id) else { return };
        let Some(pending) = slot.pending.take_if(|pending| pending.write == write) else { return };
        if let Err(error) = result {
            // The log takes nothing more: nothing can follow, not even what was only deferred.
            slot.stuck |= error == WriteError::Unknown;
            if slot.stuck
                && let Some(call) = slot.local.as_mut().and_then(Local::give_up)
            {
                answer(out, call, Err(ResponseError::CoordinatorNotAvailable));
            }
            let refused_new = slot.now.producer.epoch < 0 && error == WriteError::Refused;
            if let Some(call) = pending.then.call() {
                answer(out, call, Err(ResponseError::CoordinatorNotAvailable));
            }
            if matches!(pending.then, Then::EndLocal { .. }) {
                self.reopen_local(&id);
            }
            if refused_new {
                self.slots.remove(&id);
            }
            return;
        }
        if matches!(pending.then, Then::Expire) {
            self.slots.remove(&id);
            return;
        }
        slot.now = pending.next;
        let producer = slot.now.producer;
        match pending.then {
            Then::Init { call } => answer(out, call, Ok(Answer::Producer(producer))),
            Then::OpenLocal { call } => {
                slot.local = Some(Local::new(producer));
                answer(out, call, Ok(Answer::Producer(producer)));
            }
            Then::Add { call } => {
                self.deadlines.insert((slot.now.deadline_ms(), id));
                answer(out, call, Ok(Answer::Done));
            }
            Then::End { call } => {
                self.send_markers(&id, now_ms, out);
                answer(out, call, Ok(Answer::Done));
            }
            Then::EndLocal { call } => {
                if let Some(local) = &mut slot.local {
                    local.committed(call);
                }
                self.send_markers(&id, now_ms, out);
            }
            Then::Fence { call } => {
                self.send_markers(&id, now_ms, out);
                if let Some(call) = call {
                    answer(out, call, Err(ResponseError::ConcurrentTransactions));
                }
            }
            Then::Complete => {
                self.completing.remove(&id);
                self.continue_local(&id, now_ms, out);
            }
            Then::Expire => {}
        }
    }

    fn tick(&mut self, now_ms: i64, out: &mut Vec<Output>) {
        self.abort_late(now_ms, out);
        let stalled: Vec<Arc<str>> = self.completing.iter().cloned().collect();
        for id in stalled {
            self.complete_if_marked(&id, now_ms, out);
        }
        if now_ms >= self.next_expiry_scan_ms {
            self.next_expiry_scan_ms = now_ms.saturating_add(EXPIRY_SCAN_MS);
            self.expire(now_ms, out);
        }
    }

    fn expire(&mut self, now_ms: i64, out: &mut Vec<Output>) {
        let since = now_ms.saturating_sub(self.options.id_expiration_ms);
        let idle = |slot: &Slot| {
            slot.now.state.is_idle() && slot.now.updated_ms <= since && slot.local.is_none() && !slot.stuck
        };
        let mut ids: Vec<Arc<str>> = self
            .slots
            .iter()
            .filter(|(_, slot)| slot.pending.is_none() && idle(slot))
            .map(|(id, _)| id.clone())
            .collect();
        ids.sort_unstable();
        for id in ids {
            let next = Transaction { state: State::Dead, ..self.slots[&id].now.clone() };
            self.write(&id, next, Then::Expire, out);
        }
    }
}

fn answer(out: &mut Vec<Output>, call: CallId, answer: Result<Answer, ResponseError>) {
    out.push(Output::Answer { call, answer });
}

/// Kafka's choice of a partition for a coordinator: Java's hash of the text, without its sign, modulo the partitions.
pub(crate) fn partition_of(id: &str, partitions: i32) -> i32 {
    let hash = id.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    hash.checked_abs().unwrap_or(0) % partitions.max(1)
}
