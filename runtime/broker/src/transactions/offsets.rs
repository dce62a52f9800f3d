//! What transactions and consumer groups have to do with each other: offsets that are committed in a transaction count
//! when it commits.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::error::ParseResponseErrorCode;
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::{TxnOffsetCommitRequest, TxnOffsetCommitResponse};

use super::transaction::{Producer, TopicPartition};
use crate::broker::Broker;
use crate::groups::Caller;
use crate::groups::text;

/// Where groups keep their offsets.
pub(crate) const TOPIC: &str = "__consumer_offsets";

/// The version of TxnOffsetCommit whose codes are understood here.
const LOCAL_VERSION: i16 = 4;

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
    TopicPartition::new(TOPIC, broker.groups.partition_of(group))
}

/// Commits a group's offsets in the transaction of a producer. The first of them in a transaction asks whether the
/// partition of the offsets was added to it, as the first batch of a producer does. (KIP-890, part 1)
pub(crate) async fn commit_in_transaction(
    broker: &Arc<Broker>,
    caller: Caller,
    request: TxnOffsetCommitRequest,
) -> Result<TxnOffsetCommitResponse, ResponseError> {
    let producer = Producer { id: request.producer_id.0, epoch: request.producer_epoch };
    let group = request.group_id.0.clone();
    let guard = broker.groups.verify_producer(&group, producer.id, producer.epoch).await?;
    if guard.is_some() {
        let at = partition_of_group(broker, &group);
        broker.transactions.verify(&request.transactional_id, producer, &at)?;
    }
    broker.groups.txn_offset_commit(caller, request, guard).await
}

/// The same for a transaction of this process, all or nothing; done when the offsets are on the disk.
pub(super) async fn commit_local(
    broker: &Arc<Broker>,
    transactional_id: &str,
    producer: Producer,
    offsets: &GroupOffsets,
) -> Result<(), ResponseError> {
    let mut topics: BTreeMap<&str, Vec<TxnOffsetCommitRequestPartition>> = BTreeMap::new();
    for ((topic, partition), offset) in &offsets.offsets {
        let partition = TxnOffsetCommitRequestPartition::default()
            .with_partition_index(*partition)
            .with_committed_offset(*offset)
            .with_committed_leader_epoch(-1);
        topics.entry(topic).or_default().push(partition);
    }
    let topics = topics.into_iter().map(|(name, partitions)| {
        TxnOffsetCommitRequestTopic::default().with_name(text(name).into()).with_partitions(partitions)
    });
    let request = TxnOffsetCommitRequest::default()
        .with_transactional_id(text(transactional_id).into())
        .with_group_id(text(&offsets.group).into())
        .with_producer_id(producer.id.into())
        .with_producer_epoch(producer.epoch)
        .with_generation_id(offsets.generation)
        .with_member_id(text(&offsets.member_id))
        .with_group_instance_id(offsets.instance_id.as_deref().map(text))
        .with_topics(topics.collect());
    let caller =
        Caller { client_id: Arc::from(transactional_id), host: Arc::from("local"), version: LOCAL_VERSION };
    let response = commit_in_transaction(broker, caller, request).await?;
    let codes =
        response.topics.iter().flat_map(|topic| &topic.partitions).map(|partition| partition.error_code);
    codes.filter_map(ParseResponseErrorCode::err).next().map_or(Ok(()), Err)
}
