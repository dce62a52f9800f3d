//! One transactional id: its producer, the state of its transaction, and the partitions in it.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// A partition by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TopicPartition {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: i32,
}

impl TopicPartition {
    pub(crate) fn new(topic: impl Into<Arc<str>>, partition: i32) -> TopicPartition {
        TopicPartition { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// A producer id with its epoch: who may write, and which of its lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Producer {
    pub(crate) id: i64,
    pub(crate) epoch: i16,
}

impl Producer {
    /// Whether no further epoch may be given to a client: the last one is kept for the coordinator, so that it can
    /// always fence.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.epoch >= i16::MAX - 1
    }

    pub(crate) fn next_epoch(&self) -> Producer {
        Producer { id: self.id, epoch: self.epoch.saturating_add(1) }
    }
}

/// Where a transaction stands. The numbers are those of the records in `__transaction_state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// A producer, and no transaction yet.
    Empty = 0,
    Ongoing = 1,
    /// Decided; the markers are on their way.
    PrepareCommit = 2,
    PrepareAbort = 3,
    /// Every marker is on disk.
    CompleteCommit = 4,
    CompleteAbort = 5,
    /// About to be forgotten.
    Dead = 6,
    /// An older producer is being fenced; what follows is `PrepareAbort` with a new epoch.
    PrepareEpochFence = 7,
}

impl State {
    pub(crate) const ALL: [State; 8] = [
        State::Empty,
        State::Ongoing,
        State::PrepareCommit,
        State::PrepareAbort,
        State::CompleteCommit,
        State::CompleteAbort,
        State::Dead,
        State::PrepareEpochFence,
    ];

    /// The state with this number, if it is one that is ever written.
    pub(crate) fn from_id(id: i8) -> Option<State> {
        State::ALL.into_iter().take(6).find(|state| *state as i8 == id)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            State::Empty => "Empty",
            State::Ongoing => "Ongoing",
            State::PrepareCommit => "PrepareCommit",
            State::PrepareAbort => "PrepareAbort",
            State::CompleteCommit => "CompleteCommit",
            State::CompleteAbort => "CompleteAbort",
            State::Dead => "Dead",
            State::PrepareEpochFence => "PrepareEpochFence",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<State> {
        State::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Whether the markers are being written.
    pub(crate) fn is_prepared(self) -> bool {
        matches!(self, State::PrepareCommit | State::PrepareAbort)
    }

    /// Whether a transaction may begin.
    pub(crate) fn is_idle(self) -> bool {
        matches!(self, State::Empty | State::CompleteCommit | State::CompleteAbort)
    }

    pub(crate) fn prepare(commit: bool) -> State {
        if commit { State::PrepareCommit } else { State::PrepareAbort }
    }

    /// What a prepared transaction becomes.
    pub(crate) fn completed(self) -> State {
        if self == State::PrepareCommit { State::CompleteCommit } else { State::CompleteAbort }
    }
}

/// What `__transaction_state` says of a transactional id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Transaction {
    pub(crate) producer: Producer,
    /// The producer before the last bump, so that a repeated InitProducerId is known (KIP-360). Not on disk, as with
    /// Kafka: -1 after a restart.
    pub(crate) last_producer: Producer,
    pub(crate) timeout_ms: i32,
    pub(crate) state: State,
    pub(crate) partitions: BTreeSet<TopicPartition>,
    /// When the first partition was added, in milliseconds since 1970; -1 before.
    pub(crate) start_ms: i64,
    pub(crate) updated_ms: i64,
}

pub(crate) const NO_PRODUCER: Producer = Producer { id: -1, epoch: -1 };

impl Transaction {
    /// A transactional id that was never seen; its first epoch is given with the first bump.
    pub(crate) fn new(producer_id: i64, timeout_ms: i32, now_ms: i64) -> Transaction {
        Transaction {
            producer: Producer { id: producer_id, epoch: -1 },
            last_producer: NO_PRODUCER,
            timeout_ms,
            state: State::Empty,
            partitions: BTreeSet::new(),
            start_ms: -1,
            updated_ms: now_ms,
        }
    }

    pub(crate) fn deadline_ms(&self) -> i64 {
        self.start_ms.saturating_add(i64::from(self.timeout_ms))
    }
}
