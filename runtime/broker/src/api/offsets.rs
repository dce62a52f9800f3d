//! `ListOffsets` and `OffsetForLeaderEpoch`: where a partition begins and ends, where a time or a leader's term is in it.

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use kafka_protocol::messages::{
    ListOffsetsRequest, ListOffsetsResponse, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
};

use super::Call;
use super::fetch::{check_leader_epoch, read_code};
use crate::broker::Broker;
use crate::security::{Operation, Resource};
use crate::store::{Isolation, Partition};

/// What stands for a place instead of a time.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;

/// The first version with each of the newer ones.
const MAX_TIMESTAMP_VERSION: i16 = 7;
const EARLIEST_LOCAL_VERSION: i16 = 8;
const LATEST_TIERED_VERSION: i16 = 9;

/// The first version whose answer has the leader's epoch.
const LEADER_EPOCH_VERSION: i16 = 4;

/// A place in a partition: offset, timestamp, leader epoch.
type Place = (i64, i64, i32);

const NOWHERE: Place = (-1, -1, -1);

pub(crate) async fn list_offsets(
    broker: &Arc<Broker>,
    call: &Call,
    request: ListOffsetsRequest,
) -> ListOffsetsResponse {
    let isolation = if request.isolation_level == 1 { Isolation::Committed } else { Isolation::Uncommitted };
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let allowed = call.allows(broker, Operation::Describe, Resource::Topic(&topic.name));
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in &topic.partitions {
            let found = if allowed {
                find_partition(broker, &topic.name, asked.partition_index, asked.current_leader_epoch)
                    .and_then(|partition| find_place(&partition, asked, isolation, call.version))
            } else {
                Err(ResponseError::TopicAuthorizationFailed)
            };
            let (error_code, (offset, timestamp, leader_epoch)) = match found {
                Ok(place) => (0, place),
                Err(error) => (error.code(), NOWHERE),
            };
            partitions.push(
                ListOffsetsPartitionResponse::default()
                    .with_partition_index(asked.partition_index)
                    .with_error_code(error_code)
                    .with_timestamp(timestamp)
                    .with_offset(offset)
                    .with_leader_epoch(if call.version >= LEADER_EPOCH_VERSION { leader_epoch } else { -1 }),
            );
        }
        topics.push(ListOffsetsTopicResponse::default().with_name(topic.name).with_partitions(partitions));
    }
    ListOffsetsResponse::default().with_topics(topics)
}

fn find_partition(
    broker: &Broker,
    topic: &str,
    index: i32,
    leader_epoch: i32,
) -> Result<Arc<Partition>, ResponseError> {
    let partition = broker.store.partition(topic, index).ok_or(ResponseError::UnknownTopicOrPartition)?;
    check_leader_epoch(&partition, leader_epoch)?;
    Ok(partition)
}

fn find_place(
    partition: &Partition,
    asked: &ListOffsetsPartition,
    isolation: Isolation,
    version: i16,
) -> Result<Place, ResponseError> {
    let end = partition.end_for(isolation);
    let log = partition.log();
    let of_offset = |offset: i64, timestamp: i64| (offset, timestamp, epoch_at(partition, offset));
    match asked.timestamp {
        LATEST => Ok((end, -1, partition.leader_epoch())),
        EARLIEST => Ok(of_offset(log.start_offset(), -1)),
        EARLIEST_LOCAL if version >= EARLIEST_LOCAL_VERSION => Ok(of_offset(log.start_offset(), -1)),
        LATEST_TIERED if version >= LATEST_TIERED_VERSION => Ok(NOWHERE),
        MAX_TIMESTAMP if version >= MAX_TIMESTAMP_VERSION => {
            Ok(log.max_timestamp().map_or(NOWHERE, |(offset, timestamp)| of_offset(offset, timestamp)))
        }
        time if time < 0 => Err(ResponseError::UnsupportedVersion),
        time => {
            let found = log.offset_at_time(time).map_err(|error| read_code(&error))?;
            let seen = found.filter(|&(offset, _)| offset < end);
            Ok(seen.map_or(NOWHERE, |(offset, timestamp)| of_offset(offset, timestamp)))
        }
    }
}

/// The epoch of the leader that wrote `offset`; that of today's where nothing is written yet.
fn epoch_at(partition: &Partition, offset: i64) -> i32 {
    let epochs = partition.log().epochs();
    let after = epochs.partition_point(|&(_, start)| start <= offset);
    match after.checked_sub(1).and_then(|last| epochs.get(last)) {
        Some(&(epoch, _)) => epoch,
        None => partition.leader_epoch(),
    }
}

pub(crate) async fn offset_for_leader_epoch(
    broker: &Arc<Broker>,
    call: &Call,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let allowed = call.allows(broker, Operation::Describe, Resource::Topic(&topic.topic));
        let end_of = |asked: &OffsetForLeaderPartition| {
            let answer = EpochEndOffset::default().with_partition(asked.partition);
            if !allowed {
                return answer.with_error_code(ResponseError::TopicAuthorizationFailed.code());
            }
            match find_partition(broker, &topic.topic, asked.partition, asked.current_leader_epoch) {
                Err(error) => answer.with_error_code(error.code()),
                Ok(partition) => {
                    let (epoch, end) = match partition.log().epoch_end(asked.leader_epoch) {
                        // A log without batches: today's leader begins, and so far ends, where the log does.
                        (-1, _) if asked.leader_epoch == partition.leader_epoch() => {
                            (asked.leader_epoch, partition.offsets().high_watermark)
                        }
                        known => known,
                    };
                    answer.with_leader_epoch(epoch).with_end_offset(end)
                }
            }
        };
        let partitions = topic.partitions.iter().map(end_of).collect();
        topics
            .push(OffsetForLeaderTopicResult::default().with_topic(topic.topic).with_partitions(partitions));
    }
    OffsetForLeaderEpochResponse::default().with_topics(topics)
}
