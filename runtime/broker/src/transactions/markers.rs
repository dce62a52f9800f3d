//! Writing the markers that end a transaction in its partitions, however often it must be tried.

use std::sync::Arc;
use std::time::Duration;

use flow_log::batch::end_marker;

use super::coordinator::{Input, Mark};
use super::transaction::{Producer, TopicPartition};
use crate::broker::Broker;
use crate::store::clock::now_ms;
use crate::store::producers::ProducerError;
use crate::store::{AppendError, Commit, Origin};

/// The first wait before a marker is tried again, in milliseconds; it doubles up to the last.
const BACKOFF_FIRST_MS: u64 = 10;
const BACKOFF_LAST_MS: u64 = 5_000;

/// One marker for one partition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ending {
    pub(crate) producer: Producer,
    pub(crate) coordinator_epoch: i32,
    pub(crate) commit: bool,
}

/// Appends the markers at once, and goes on in the background until every one is on disk.
pub(super) fn write(broker: &Arc<Broker>, mark: Mark) {
    let waiting = append_all(broker, &mark, mark.partitions.clone());
    let Mark { transactional_id, producer, coordinator_epoch, commit, .. } = mark;
    let mark =
        Mark { transactional_id, producer, coordinator_epoch, commit, partitions: waiting.left.clone() };
    let broker = Arc::clone(broker);
    tokio::spawn(finish(broker, mark, waiting));
}

/// What came of a round of appends.
#[derive(Default)]
struct Round {
    /// Not appended.
    left: Vec<TopicPartition>,
    /// Appended, with the wait for the disk.
    commits: Vec<(TopicPartition, Option<Commit>)>,
}

fn append_all(broker: &Arc<Broker>, mark: &Mark, partitions: Vec<TopicPartition>) -> Round {
    let ending =
        Ending { producer: mark.producer, coordinator_epoch: mark.coordinator_epoch, commit: mark.commit };
    let mut round = Round::default();
    for at in partitions {
        match append(broker, &at, ending) {
            Ok(commit) => round.commits.push((at, commit)),
            Err(error) if is_over(&error) => {
                tracing::debug!(partition = %at, "no marker is needed: {error}");
                round.commits.push((at, None));
            }
            Err(error) => {
                tracing::warn!(partition = %at, "cannot append the marker of a transaction: {error}");
                round.left.push(at);
            }
        }
    }
    let appended: Vec<_> = round.commits.iter().map(|(at, _)| at.clone()).collect();
    if !appended.is_empty() {
        let (transactional_id, producer) = (mark.transactional_id.clone(), mark.producer);
        let input = Input::MarkersAppended { transactional_id, producer, partitions: appended };
        broker.transactions.feed(broker, input);
    }
    round
}

async fn finish(broker: Arc<Broker>, mark: Mark, mut round: Round) {
    let mut backoff_ms = BACKOFF_FIRST_MS;
    loop {
        let mut done = Vec::with_capacity(round.commits.len());
        for (at, commit) in round.commits {
            match commit {
                None => done.push(at),
                Some(commit) => match commit.await {
                    Ok(()) => done.push(at),
                    // The log takes nothing more: the next start finds the decision and writes the marker again.
                    Err(error) => tracing::error!(partition = %at, "cannot sync the marker: {error}"),
                },
            }
        }
        if !done.is_empty() {
            let (transactional_id, producer) = (mark.transactional_id.clone(), mark.producer);
            broker
                .transactions
                .feed(&broker, Input::MarkersDone { transactional_id, producer, partitions: done });
        }
        if round.left.is_empty() || broker.transactions.is_stopped() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(backoff_ms)).await;
        backoff_ms = (backoff_ms * 2).min(BACKOFF_LAST_MS);
        round = append_all(&broker, &mark, round.left);
    }
}

/// Appends one marker; gives what to wait for until it is on disk.
pub(crate) fn append(
    broker: &Arc<Broker>,
    at: &TopicPartition,
    ending: Ending,
) -> Result<Option<Commit>, AppendError> {
    let partition = broker.store.partition(&at.topic, at.partition).ok_or(AppendError::Gone)?;
    let Ending { producer, coordinator_epoch, commit } = ending;
    let batch = end_marker(producer.id, producer.epoch, commit, coordinator_epoch, now_ms());
    let appended = partition.append(&batch, Origin::Coordinator)?;
    super::offsets::complete(broker, at, producer, commit);
    Ok(partition.start_commit(appended.next_offset))
}

/// Whether there is nothing left to end: the partition was deleted, or the producer or the coordinator has moved on.
fn is_over(error: &AppendError) -> bool {
    matches!(
        error,
        AppendError::Gone
            | AppendError::Producer(ProducerError::OldEpoch { .. } | ProducerError::OldCoordinator { .. })
    )
}
