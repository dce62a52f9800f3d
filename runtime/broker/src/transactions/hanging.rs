//! Transactions that are open in a partition while no coordinator knows of them: nobody would end them, and readers of
//! committed records would stand before them for ever. With one broker the coordinator knows everything there is, so
//! they are aborted.
//!
//! They come from transactions of this process that a crash cut off, which are not written down before they are decided.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::markers::{self, Ending};
use super::transaction::{Producer, TopicPartition};
use crate::broker::Broker;
use crate::store::clock::now_ms;
use crate::store::producers::ProducerView;

/// What a transaction may last beyond the longest time-out before it is looked at while the broker runs.
const LATE_MS: i64 = 300_000;

/// At a start, before anybody is served: everything that is open is either known or over.
pub(super) async fn end_at_start(broker: &Arc<Broker>) {
    end(broker, i64::MAX).await;
}

/// While the broker runs: only what no producer can be working on.
pub(super) async fn end_late(broker: &Arc<Broker>) {
    let timeout_ms = i64::from(broker.transactions.options().timeout_max_ms);
    end(broker, now_ms() - timeout_ms - LATE_MS).await;
}

/// Ends what hangs and was last written to before `before_ms`, in milliseconds since 1970.
async fn end(broker: &Arc<Broker>, before_ms: i64) {
    let found = find(broker, before_ms);
    if found.is_empty() {
        return;
    }
    let coordinator_epoch = broker.transactions.with_coordinator(|coordinator| coordinator.epoch_max());
    let mut waiting = Vec::new();
    for (at, view) in found {
        let producer = Producer { id: view.producer_id, epoch: view.epoch };
        let coordinator_epoch = coordinator_epoch.max(view.coordinator_epoch);
        tracing::info!(partition = %at, producer = producer.id, "aborts a transaction that nobody would end");
        match markers::append(broker, &at, Ending { producer, coordinator_epoch, commit: false }) {
            Ok(writing) => waiting.push((at, writing)),
            Err(error) => {
                tracing::error!(partition = %at, "cannot abort a hanging transaction: {}", error.code());
            }
        }
    }
    for (at, writing) in waiting {
        if let Err(error) = writing.wait().await {
            tracing::error!(partition = %at, "cannot write the end of a hanging transaction: {error}");
        }
    }
}

fn find(broker: &Arc<Broker>, before_ms: i64) -> Vec<(TopicPartition, ProducerView)> {
    let mut open: Vec<(TopicPartition, ProducerView)> = Vec::new();
    for partition in broker.store.partitions() {
        let offsets = partition.offsets();
        if offsets.last_stable == offsets.high_watermark {
            continue;
        }
        let at = TopicPartition { topic: partition.topic.clone(), partition: partition.index };
        let views = partition.producer_views();
        let late = views
            .into_iter()
            .filter(|view| view.transaction_start_offset >= 0 && view.last_timestamp < before_ms);
        open.extend(late.map(|view| (at.clone(), view)));
    }
    if open.is_empty() {
        return open;
    }
    let known = broker.transactions.with_coordinator(|coordinator| coordinator.open());
    open.retain(|(at, view)| !is_known(&known, at, view));
    open
}

/// Whether somebody will end what this producer has open: under its own epoch, or under a later one that fences it.
fn is_known(
    known: &HashMap<Producer, BTreeSet<TopicPartition>>,
    at: &TopicPartition,
    view: &ProducerView,
) -> bool {
    known.iter().any(|(producer, partitions)| {
        producer.id == view.producer_id && producer.epoch >= view.epoch && partitions.contains(at)
    })
}
