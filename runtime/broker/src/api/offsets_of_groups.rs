//! `OffsetCommit`, `OffsetFetch`, `OffsetDelete`.

use std::collections::HashMap;
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse, OffsetFetchRequest,
    OffsetFetchResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use super::Call;
use super::groups::{ask, caller, may};
use crate::broker::Broker;
use crate::groups::{Reply, Request};
use crate::security::{Operation, Resource};

/// From this version on several groups are asked at once.
const FETCH_GROUPS_FROM: i16 = 8;
/// From this version on an error of the whole request has its own field.
const FETCH_ERROR_FROM: i16 = 2;

/// A partition, and what is wrong with it before its group is asked.
type Refused = (i32, Option<ResponseError>);

pub(crate) async fn offset_commit(
    broker: &Arc<Broker>,
    call: &Call,
    mut request: OffsetCommitRequest,
) -> OffsetCommitResponse {
    let group = request.group_id.clone();
    // In the order of the request; `None`: the group answers.
    let mut answers: Vec<(TopicName, Vec<Refused>)> = Vec::with_capacity(request.topics.len());
    for topic in &mut request.topics {
        let allowed = call.allows(broker, Operation::Read, Resource::Topic(&topic.name));
        let known = broker.store.topic(&topic.name);
        let refused = |index: i32| match &known {
            _ if !allowed => Some(ResponseError::TopicAuthorizationFailed),
            Some(known) if known.partition(index).is_some() => None,
            _ => Some(ResponseError::UnknownTopicOrPartition),
        };
        let own =
            topic.partitions.iter().map(|asked| (asked.partition_index, refused(asked.partition_index)));
        answers.push((topic.name.clone(), own.collect()));
        topic.partitions.retain(|asked| refused(asked.partition_index).is_none());
    }
    request.topics.retain(|topic| !topic.partitions.is_empty());
    // With nothing left to commit there is nothing to ask, but a group that may not be read is an error first.
    let result = if request.topics.is_empty() && answers.iter().any(|(_, own)| !own.is_empty()) {
        may(broker, call, Operation::Read, &group).map(|()| OffsetCommitResponse::default())
    } else {
        ask!(broker, call, Operation::Read, group, Commit, request)
    };
    let mut codes: HashMap<(StrBytes, i32), i16> = HashMap::new();
    for topic in result.iter().flat_map(|response| &response.topics) {
        for partition in &topic.partitions {
            codes.insert((topic.name.0.clone(), partition.partition_index), partition.error_code);
        }
    }
    let topics = answers.into_iter().map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(|(index, refused)| {
            let code = match (&result, refused) {
                (Err(error), _) => error.code(),
                (Ok(_), Some(error)) => error.code(),
                (Ok(_), None) => codes
                    .get(&(name.0.clone(), index))
                    .copied()
                    .unwrap_or(ResponseError::UnknownServerError.code()),
            };
            OffsetCommitResponsePartition::default().with_partition_index(index).with_error_code(code)
        });
        let partitions = partitions.collect();
        OffsetCommitResponseTopic::default().with_name(name).with_partitions(partitions)
    });
    OffsetCommitResponse::default().with_topics(topics.collect())
}

pub(crate) async fn offset_fetch(
    broker: &Arc<Broker>,
    call: &Call,
    request: OffsetFetchRequest,
) -> OffsetFetchResponse {
    let require_stable = request.require_stable;
    if call.version >= FETCH_GROUPS_FROM {
        let mut groups = Vec::with_capacity(request.groups.len());
        for group in request.groups {
            groups.push(fetch_group(broker, call, group, require_stable).await);
        }
        return OffsetFetchResponse::default().with_groups(groups);
    }
    let topics = request.topics.map(|topics| {
        topics
            .into_iter()
            .map(|topic| {
                OffsetFetchRequestTopics::default()
                    .with_name(topic.name)
                    .with_partition_indexes(topic.partition_indexes)
            })
            .collect::<Vec<_>>()
    });
    let asked = topics.clone().unwrap_or_default();
    let group = OffsetFetchRequestGroup::default()
        .with_group_id(request.group_id)
        .with_member_epoch(-1)
        .with_topics(topics);
    let mut answer = fetch_group(broker, call, group, require_stable).await;
    if answer.error_code != 0 && call.version < FETCH_ERROR_FROM {
        // Version 1 can say it only partition by partition.
        let failed = |index: i32| {
            OffsetFetchResponsePartitions::default()
                .with_partition_index(index)
                .with_committed_offset(-1)
                .with_metadata(Some(StrBytes::new()))
                .with_error_code(answer.error_code)
        };
        answer.topics = asked
            .iter()
            .map(|topic| {
                OffsetFetchResponseTopics::default()
                    .with_name(topic.name.clone())
                    .with_partitions(topic.partition_indexes.iter().map(|index| failed(*index)).collect())
            })
            .collect();
    }
    let topics = answer.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().map(|partition| {
            OffsetFetchResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_committed_offset(partition.committed_offset)
                .with_committed_leader_epoch(partition.committed_leader_epoch)
                .with_metadata(partition.metadata)
                .with_error_code(partition.error_code)
        });
        OffsetFetchResponseTopic::default().with_name(topic.name).with_partitions(partitions.collect())
    });
    let topics = topics.collect();
    OffsetFetchResponse::default().with_topics(topics).with_error_code(answer.error_code)
}

async fn fetch_group(
    broker: &Arc<Broker>,
    call: &Call,
    mut request: OffsetFetchRequestGroup,
    require_stable: bool,
) -> OffsetFetchResponseGroup {
    let id = request.group_id.clone();
    let may_see = |topic: &str| call.allows(broker, Operation::Describe, Resource::Topic(topic));
    // All offsets: those of other topics are left out without a word. Named ones: they are refused one by one.
    let mut hidden = Vec::new();
    if let Some(topics) = &mut request.topics {
        hidden = topics.extract_if(.., |topic| !may_see(&topic.name)).collect();
    }
    let all = request.topics.is_none();
    let result = match may(broker, call, Operation::Describe, &id) {
        Err(error) => Err(error),
        Ok(()) => {
            let request = Request::Fetch { group: request, require_stable };
            match broker.groups.request(&id, caller(call), request).await {
                Ok(Reply::Fetch(answer)) => Ok(answer),
                Ok(_) => Err(ResponseError::UnknownServerError),
                Err(error) => Err(error),
            }
        }
    };
    let mut answer = match result {
        Ok(answer) => answer,
        Err(error) => {
            return OffsetFetchResponseGroup::default().with_group_id(id).with_error_code(error.code());
        }
    };
    if all {
        answer.topics.retain(|topic| may_see(&topic.name));
    }
    for topic in hidden {
        let refused = topic.partition_indexes.iter().map(|index| {
            OffsetFetchResponsePartitions::default()
                .with_partition_index(*index)
                .with_committed_offset(-1)
                .with_committed_leader_epoch(-1)
                .with_metadata(Some(StrBytes::new()))
                .with_error_code(ResponseError::TopicAuthorizationFailed.code())
        });
        answer.topics.push(
            OffsetFetchResponseTopics::default()
                .with_name(topic.name.clone())
                .with_partitions(refused.collect()),
        );
    }
    answer
}

pub(crate) async fn offset_delete(
    broker: &Arc<Broker>,
    call: &Call,
    mut request: OffsetDeleteRequest,
) -> OffsetDeleteResponse {
    let group = request.group_id.clone();
    let mut refused: Vec<OffsetDeleteResponseTopic> = Vec::new();
    request.topics.retain(|topic| {
        let error = if !call.allows(broker, Operation::Read, Resource::Topic(&topic.name)) {
            ResponseError::TopicAuthorizationFailed
        } else if broker.store.topic(&topic.name).is_none() {
            ResponseError::UnknownTopicOrPartition
        } else {
            return true;
        };
        let partitions = topic.partitions.iter().map(|partition| {
            OffsetDeleteResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(error.code())
        });
        refused.push(
            OffsetDeleteResponseTopic::default()
                .with_name(topic.name.clone())
                .with_partitions(partitions.collect()),
        );
        false
    });
    match ask!(broker, call, Operation::Delete, group, DeleteOffsets, request) {
        Ok(mut answer) => {
            if answer.error_code == 0 {
                answer.topics.extend(refused);
            }
            answer
        }
        Err(error) => OffsetDeleteResponse::default().with_error_code(error.code()),
    }
}
