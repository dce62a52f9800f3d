//! Writing the markers that end a transaction in its partitions, however often it must be tried.

use std::sync::Arc;
use std::time::Duration;

use flow_log::batch::{Header, end_marker};
use kafka_protocol::ResponseError;
use tokio::task::JoinHandle;

use super::coordinator::{Input, Mark};
use super::offsets;
use super::transaction::{Producer, TopicPartition};
use crate::broker::Broker;
use crate::store::clock::now_ms;
use crate::store::producers::ProducerError;
use crate::store::{AppendError, Commit, Origin};

/// The first wait before a marker is tried again, in milliseconds; it doubles up to the last.
const BACKOFF_FIRST_MS: u64 = 10;
const BACKOFF_LAST_MS: u64 = 5_000;

/// How a producer's transaction ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ending {
    pub(crate) producer: Producer,
    pub(crate) coordinator_epoch: i32,
    pub(crate) commit: bool,
}

/// A marker that is being written.
pub(crate) enum Writing {
    /// It is on the disk.
    Done,
    /// It is in the log.
    Appended(Commit),
    /// Groups write it, between their own records.
    ByGroups(JoinHandle<Result<(), ResponseError>>),
}

impl Writing {
    /// Waits until the marker is on the disk.
    pub(crate) async fn wait(self) -> Result<(), ResponseError> {
        match self {
            Writing::Done => Ok(()),
            Writing::Appended(commit) => commit.await.map_err(|error| error.code()),
            Writing::ByGroups(written) => {
                written.await.unwrap_or(Err(ResponseError::CoordinatorNotAvailable))
            }
        }
    }
}

/// Why a marker is not written.
#[derive(Debug)]
pub(crate) enum MarkError {
    /// There is nothing left to end: the partition was deleted, or the producer or the coordinator has moved on.
    Over(ResponseError),
    Failed(AppendError),
}

impl MarkError {
    pub(crate) fn code(&self) -> ResponseError {
        match self {
            MarkError::Over(error) => *error,
            MarkError::Failed(error) => error.code(),
        }
    }
}

impl From<AppendError> for MarkError {
    fn from(error: AppendError) -> MarkError {
        match error {
            AppendError::Gone
            | AppendError::Producer(ProducerError::OldEpoch { .. } | ProducerError::OldCoordinator { .. }) => {
                MarkError::Over(error.code())
            }
            error => MarkError::Failed(error),
        }
    }
}

/// Writes one marker; when this returns, it is in the log, unless groups write it.
pub(crate) fn append(
    broker: &Arc<Broker>,
    at: &TopicPartition,
    ending: Ending,
) -> Result<Writing, MarkError> {
    let partition = broker.store.partition(&at.topic, at.partition).ok_or(AppendError::Gone)?;
    let Ending { producer, coordinator_epoch, commit } = ending;
    let batch = end_marker(producer.id, producer.epoch, commit, coordinator_epoch, now_ms());
    if &*at.topic == offsets::TOPIC {
        let header = Header::parse(&batch).map_err(AppendError::Corrupt)?;
        partition.check_producer(&header, None)?;
        let (broker, index) = (Arc::clone(broker), at.partition);
        return Ok(Writing::ByGroups(tokio::spawn(async move {
            broker.groups.complete_txn(index, producer.id, producer.epoch, coordinator_epoch, commit).await
        })));
    }
    let appended = partition.append(&batch, Origin::Coordinator)?;
    Ok(partition.start_commit(appended.next_offset).map_or(Writing::Done, Writing::Appended))
}

/// Appends the markers of a decision at once, and goes on in the background until every one is on the disk.
pub(super) fn write(broker: &Arc<Broker>, mut mark: Mark) {
    let partitions = std::mem::take(&mut mark.partitions);
    let round = append_all(broker, &mark, partitions);
    tokio::spawn(finish(Arc::clone(broker), mark, round));
}

/// What came of a round of appends.
#[derive(Default)]
struct Round {
    /// Not appended.
    left: Vec<TopicPartition>,
    /// Cannot be appended before a restart.
    hopeless: bool,
    by_groups: Vec<(TopicPartition, Writing)>,
    appended: Vec<(TopicPartition, Writing)>,
}

impl Round {
    /// Keeps a marker to be tried again, unless its log takes nothing more.
    fn keep(&mut self, broker: &Broker, at: TopicPartition) {
        let partition = broker.store.partition(&at.topic, at.partition);
        if partition.is_some_and(|partition| partition.log().is_poisoned()) {
            self.hopeless = true;
        } else {
            self.left.push(at);
        }
    }
}

fn append_all(broker: &Arc<Broker>, mark: &Mark, partitions: Vec<TopicPartition>) -> Round {
    let Mark { producer, coordinator_epoch, commit, .. } = *mark;
    let ending = Ending { producer, coordinator_epoch, commit };
    let mut round = Round::default();
    for at in partitions {
        match append(broker, &at, ending) {
            Ok(writing @ Writing::ByGroups(_)) => round.by_groups.push((at, writing)),
            Ok(writing) => round.appended.push((at, writing)),
            Err(MarkError::Over(error)) => {
                tracing::debug!(partition = %at, "no marker is needed: {error}");
                round.appended.push((at, Writing::Done));
            }
            Err(MarkError::Failed(error)) => {
                tracing::warn!(partition = %at, "cannot append the marker of a transaction: {error}");
                round.keep(broker, at);
            }
        }
    }
    if !round.appended.is_empty() {
        let partitions = round.appended.iter().map(|(at, _)| at.clone()).collect();
        let (transactional_id, producer) = (mark.transactional_id.clone(), mark.producer);
        broker.transactions.feed(broker, Input::MarkersAppended { transactional_id, producer, partitions });
    }
    round
}

async fn finish(broker: Arc<Broker>, mark: Mark, mut round: Round) {
    let mut backoff_ms = BACKOFF_FIRST_MS;
    loop {
        let written = [std::mem::take(&mut round.by_groups), std::mem::take(&mut round.appended)];
        // Those of groups first: that they are in the log is known only when they are on the disk.
        for written in written {
            let mut done = Vec::with_capacity(written.len());
            for (at, writing) in written {
                match writing.wait().await {
                    Ok(()) => done.push(at),
                    Err(error) => {
                        tracing::warn!(partition = %at, "cannot write the marker of a transaction: {error}");
                        round.keep(&broker, at);
                    }
                }
            }
            if !done.is_empty() {
                let (transactional_id, producer) = (mark.transactional_id.clone(), mark.producer);
                let input = Input::MarkersDone { transactional_id, producer, partitions: done };
                broker.transactions.feed(&broker, input);
            }
        }
        if round.hopeless {
            // The next start finds the decision and writes the markers again.
            let (transactional_id, producer) = (mark.transactional_id.clone(), mark.producer);
            broker.transactions.feed(&broker, Input::MarkersFailed { transactional_id, producer });
        }
        if round.left.is_empty() || !broker.transactions.pause(Duration::from_millis(backoff_ms)).await {
            return;
        }
        backoff_ms = (backoff_ms * 2).min(BACKOFF_LAST_MS);
        round = append_all(&broker, &mark, round.left);
    }
}
