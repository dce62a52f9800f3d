//! `CreateTopics`, `DeleteTopics`, `CreatePartitions`, and what is asked about replicas, of which there is one each.

use std::collections::HashSet;
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, BrokerId,
    CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse,
    DeleteTopicsRequest, DeleteTopicsResponse, ElectLeadersRequest, ElectLeadersResponse,
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::Call;
use super::configs::shown_value;
use crate::broker::Broker;
use crate::security::{Operation, Resource};
use crate::store::configs::{self, Overrides};
use crate::store::meta::PARTITIONS_MAX;
use crate::store::{NewTopic, Topic, TopicError, names};

/// The first version of `DeleteTopics` that names topics one by one, with ids.
const DELETE_BY_ID: i16 = 6;

/// A refusal with its reason.
pub(super) struct Refusal {
    pub(super) code: ResponseError,
    pub(super) reason: String,
}

impl Refusal {
    pub(super) fn new(code: ResponseError, reason: impl Into<String>) -> Refusal {
        Refusal { code, reason: reason.into() }
    }

    pub(super) fn message(&self) -> Option<StrBytes> {
        Some(StrBytes::from_string(self.reason.clone()))
    }
}

impl From<TopicError> for Refusal {
    fn from(error: TopicError) -> Refusal {
        Refusal { code: error.code(), reason: error.to_string() }
    }
}

/// Runs what waits for the disk where it holds up nobody else.
pub(super) async fn on_disk<T: Send + 'static>(
    broker: &Arc<Broker>,
    work: impl FnOnce(&Broker) -> Result<T, TopicError> + Send + 'static,
) -> Result<T, Refusal> {
    let broker = Arc::clone(broker);
    match tokio::task::spawn_blocking(move || work(&broker)).await {
        Ok(result) => result.map_err(Refusal::from),
        Err(error) => Err(Refusal::new(ResponseError::UnknownServerError, error.to_string())),
    }
}

fn text(text: impl Into<String>) -> StrBytes {
    StrBytes::from_string(text.into())
}

pub(crate) async fn create_topics(
    broker: &Arc<Broker>,
    call: &Call,
    request: CreateTopicsRequest,
) -> CreateTopicsResponse {
    let anywhere = call.allows(broker, Operation::Create, Resource::Cluster);
    let mut seen = HashSet::new();
    let twice: HashSet<TopicName> = request
        .topics
        .iter()
        .filter(|topic| !seen.insert(&topic.name))
        .map(|topic| topic.name.clone())
        .collect();
    let mut answered = HashSet::new();
    let mut results = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let name = topic.name.clone();
        if twice.contains(&name) && !answered.insert(name.clone()) {
            continue;
        }
        let created = if twice.contains(&name) {
            Err(Refusal::new(ResponseError::InvalidRequest, format!("topic `{}` is named twice", &*name)))
        } else if !anywhere && !call.allows(broker, Operation::Create, Resource::Topic(&name)) {
            Err(Refusal::new(ResponseError::TopicAuthorizationFailed, "not allowed to create this topic"))
        } else if names::is_internal(&name) {
            Err(TopicError::Internal(name.to_string()).into())
        } else {
            create_topic(broker, topic, request.validate_only).await
        };
        let result = CreatableTopicResult::default().with_name(name);
        results.push(match created {
            Ok(Created { id, partitions, overrides }) => {
                let result =
                    result.with_topic_id(id).with_num_partitions(partitions).with_replication_factor(1);
                if call.allows(broker, Operation::DescribeConfigs, Resource::Topic(&result.name)) {
                    result.with_configs(Some(configs_of(broker, &overrides)))
                } else {
                    result
                        .with_topic_config_error_code(ResponseError::TopicAuthorizationFailed.code())
                        .with_num_partitions(-1)
                        .with_replication_factor(-1)
                        .with_configs(None)
                }
            }
            Err(refusal) => result
                .with_error_code(refusal.code.code())
                .with_error_message(refusal.message())
                .with_num_partitions(-1)
                .with_replication_factor(-1)
                .with_configs(Some(Vec::new())),
        });
    }
    CreateTopicsResponse::default().with_topics(results)
}

struct Created {
    id: Uuid,
    partitions: i32,
    overrides: Overrides,
}

async fn create_topic(
    broker: &Arc<Broker>,
    topic: CreatableTopic,
    validate_only: bool,
) -> Result<Created, Refusal> {
    let partitions = wanted_partitions(broker, &topic)?;
    let mut overrides = Overrides::new();
    for config in &topic.configs {
        let Some(value) = &config.value else {
            let reason = format!("`{}` has no value", config.name.as_str());
            return Err(Refusal::new(ResponseError::InvalidConfig, reason));
        };
        overrides.insert(config.name.to_string(), value.to_string());
    }
    let new = NewTopic { name: topic.name.to_string(), partitions, configs: overrides.clone() };
    if validate_only {
        let partitions = broker.store.check_new_topic(&new)?;
        return Ok(Created { id: Uuid::nil(), partitions, overrides });
    }
    let made: Arc<Topic> = on_disk(broker, move |broker| broker.store.create_topic(&new)).await?;
    Ok(Created { id: made.id, partitions: made.partitions().len() as i32, overrides })
}

/// The number of partitions that a request asks for; none for the broker's default.
fn wanted_partitions(broker: &Broker, topic: &CreatableTopic) -> Result<Option<i32>, Refusal> {
    if topic.assignments.is_empty() {
        return match (topic.num_partitions, topic.replication_factor) {
            (_, factor) if factor != -1 && factor < 1 => Err(Refusal::new(
                ResponseError::InvalidReplicationFactor,
                format!("{factor} replicas are asked for, and at least 1 is needed"),
            )),
            (_, factor) if factor > 1 => Err(Refusal::new(
                ResponseError::InvalidReplicationFactor,
                format!("{factor} replicas are asked for, and there is 1 broker"),
            )),
            (-1, _) => Ok(None),
            (partitions, _) => Ok(Some(partitions)),
        };
    }
    if topic.num_partitions != -1 || topic.replication_factor != -1 {
        return Err(Refusal::new(
            ResponseError::InvalidRequest,
            "replicas are assigned by hand, so the number of partitions and replicas has to be -1",
        ));
    }
    let mut indexes: Vec<i32> = topic.assignments.iter().map(|one| one.partition_index).collect();
    indexes.sort_unstable();
    if indexes.iter().enumerate().any(|(at, &index)| index != at as i32)
        || indexes.len() > PARTITIONS_MAX as usize
    {
        return Err(Refusal::new(
            ResponseError::InvalidReplicaAssignment,
            "partitions are to be numbered from 0 on, each once",
        ));
    }
    for assignment in &topic.assignments {
        check_replicas(broker, &assignment.broker_ids)?;
    }
    Ok(Some(indexes.len() as i32))
}

/// Replicas can be on this broker only.
fn check_replicas(broker: &Broker, replicas: &[BrokerId]) -> Result<(), Refusal> {
    if replicas == [BrokerId(broker.config.node_id)] {
        return Ok(());
    }
    let found: Vec<i32> = replicas.iter().map(|id| id.0).collect();
    Err(Refusal::new(
        ResponseError::InvalidReplicaAssignment,
        format!("replicas on {found:?} are asked for, and the only broker is {}", broker.config.node_id),
    ))
}

fn configs_of(broker: &Broker, overrides: &Overrides) -> Vec<CreatableTopicConfigs> {
    let settings = broker.store.broker_settings();
    configs::topic_defs()
        .iter()
        .filter_map(|def| {
            let layer = settings.topic_layers(def, overrides).into_iter().next()?;
            Some(
                CreatableTopicConfigs::default()
                    .with_name(StrBytes::from_static_str(def.name))
                    .with_value(shown_value(def, layer.value))
                    .with_config_source(layer.source as i8)
                    .with_is_sensitive(def.sensitive),
            )
        })
        .collect()
}

pub(crate) async fn delete_topics(
    broker: &Arc<Broker>,
    call: &Call,
    request: DeleteTopicsRequest,
) -> DeleteTopicsResponse {
    let asked: Vec<DeleteTopicState> = if call.version >= DELETE_BY_ID {
        request.topics
    } else {
        request
            .topic_names
            .into_iter()
            .map(|name| DeleteTopicState::default().with_name(Some(name)))
            .collect()
    };
    let mut responses = Vec::with_capacity(asked.len());
    for DeleteTopicState { name, topic_id, .. } in asked {
        let by_id = name.is_none();
        let known = if by_id {
            broker.store.topic_by_id(topic_id).map(|topic| Arc::clone(&topic.name))
        } else {
            None
        };
        // The name of a topic asked for by id is told to those only who may see it.
        let shown = match (&name, &known) {
            (Some(name), _) => Some(name.clone()),
            (None, Some(known)) if call.allows(broker, Operation::Describe, Resource::Topic(known)) => {
                Some(TopicName(text(&**known)))
            }
            (None, _) => None,
        };
        let deleted = delete_topic(broker, call, name, topic_id, known).await;
        let result = DeletableTopicResult::default().with_name(shown).with_topic_id(topic_id);
        responses.push(match deleted {
            Ok(id) => result.with_topic_id(id),
            Err(refusal) => result.with_error_code(refusal.code.code()).with_error_message(refusal.message()),
        });
    }
    DeleteTopicsResponse::default().with_responses(responses)
}

async fn delete_topic(
    broker: &Arc<Broker>,
    call: &Call,
    name: Option<TopicName>,
    id: Uuid,
    known: Option<Arc<str>>,
) -> Result<Uuid, Refusal> {
    let name: String = match (&name, &known) {
        (Some(_), _) if !id.is_nil() => {
            return Err(Refusal::new(
                ResponseError::InvalidRequest,
                "a topic is named either by name or by id",
            ));
        }
        (Some(name), _) => name.to_string(),
        (None, Some(known)) => known.to_string(),
        (None, None) => return Err(TopicError::UnknownId(id).into()),
    };
    if !call.allows(broker, Operation::Delete, Resource::Topic(&name)) {
        return Err(Refusal::new(
            ResponseError::TopicAuthorizationFailed,
            "not allowed to delete this topic",
        ));
    }
    if names::is_internal(&name) {
        return Err(TopicError::Internal(name).into());
    }
    on_disk(broker, move |broker| broker.store.delete_topic(&name)).await
}

pub(crate) async fn create_partitions(
    broker: &Arc<Broker>,
    call: &Call,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let mut seen = HashSet::new();
    let mut results = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let name = topic.name.clone();
        let grown = if !seen.insert(name.clone()) {
            Err(Refusal::new(ResponseError::InvalidRequest, format!("topic `{}` is named twice", &*name)))
        } else if !call.allows(broker, Operation::Alter, Resource::Topic(&name)) {
            Err(Refusal::new(ResponseError::TopicAuthorizationFailed, "not allowed to alter this topic"))
        } else if names::is_internal(&name) {
            Err(TopicError::Internal(name.to_string()).into())
        } else {
            grow_topic(broker, topic, request.validate_only).await
        };
        let result = CreatePartitionsTopicResult::default().with_name(name);
        results.push(match grown {
            Ok(()) => result,
            Err(refusal) => result.with_error_code(refusal.code.code()).with_error_message(refusal.message()),
        });
    }
    CreatePartitionsResponse::default().with_results(results)
}

async fn grow_topic(
    broker: &Arc<Broker>,
    topic: CreatePartitionsTopic,
    validate_only: bool,
) -> Result<(), Refusal> {
    let (name, count) = (topic.name.to_string(), topic.count);
    let known = broker.store.check_growth(&name, count)?.partitions().len() as i32;
    if let Some(assignments) = &topic.assignments {
        if assignments.len() as i32 != count - known {
            return Err(Refusal::new(
                ResponseError::InvalidReplicaAssignment,
                format!("{} partitions are added and {} assigned", count - known, assignments.len()),
            ));
        }
        for assignment in assignments {
            check_replicas(broker, &assignment.broker_ids)?;
        }
    }
    if validate_only {
        return Ok(());
    }
    on_disk(broker, move |broker| broker.store.grow_topic(&name, count)).await
}

/// Every partition has its only replica as leader: there is nothing to elect.
pub(crate) async fn elect_leaders(
    broker: &Arc<Broker>,
    call: &Call,
    request: ElectLeadersRequest,
) -> ElectLeadersResponse {
    if !call.allows(broker, Operation::Alter, Resource::Cluster) {
        let code = ResponseError::ClusterAuthorizationFailed.code();
        let answer = ElectLeadersResponse::default();
        return if call.version >= 1 { answer.with_error_code(code) } else { answer };
    }
    // Without a list all partitions are meant, and only those are told where something was done.
    let results = request.topic_partitions.unwrap_or_default().into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|&index| {
            let (code, reason) = match broker.store.partition(&topic.topic, index) {
                Some(_) => (ResponseError::ElectionNotNeeded, "the only replica is the leader"),
                None => (ResponseError::UnknownTopicOrPartition, "there is no such partition"),
            };
            PartitionResult::default()
                .with_partition_id(index)
                .with_error_code(code.code())
                .with_error_message(Some(StrBytes::from_static_str(reason)))
        });
        let partitions = partitions.collect();
        ReplicaElectionResult::default().with_topic(topic.topic).with_partition_result(partitions)
    });
    ElectLeadersResponse::default().with_replica_election_results(results.collect())
}

pub(crate) async fn alter_partition_reassignments(
    broker: &Arc<Broker>,
    call: &Call,
    request: AlterPartitionReassignmentsRequest,
) -> AlterPartitionReassignmentsResponse {
    if !call.allows(broker, Operation::Alter, Resource::Cluster) {
        return AlterPartitionReassignmentsResponse::default()
            .with_error_code(ResponseError::ClusterAuthorizationFailed.code());
    }
    let responses = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let refused =
                match (broker.store.partition(&topic.name, partition.partition_index), &partition.replicas) {
                    (None, _) => Err(Refusal::new(
                        ResponseError::UnknownTopicOrPartition,
                        "there is no such partition",
                    )),
                    (Some(_), None) => Err(Refusal::new(
                        ResponseError::NoReassignmentInProgress,
                        "no reassignment is in progress",
                    )),
                    (Some(_), Some(replicas)) => check_replicas(broker, replicas),
                };
            let answer =
                ReassignablePartitionResponse::default().with_partition_index(partition.partition_index);
            match refused {
                Ok(()) => answer,
                Err(refusal) => {
                    answer.with_error_code(refusal.code.code()).with_error_message(refusal.message())
                }
            }
        });
        let partitions = partitions.collect();
        ReassignableTopicResponse::default().with_name(topic.name).with_partitions(partitions)
    });
    AlterPartitionReassignmentsResponse::default().with_responses(responses.collect())
}

/// With one broker nothing is ever on its way.
pub(crate) async fn list_partition_reassignments(
    broker: &Arc<Broker>,
    call: &Call,
    _request: ListPartitionReassignmentsRequest,
) -> ListPartitionReassignmentsResponse {
    let answer = ListPartitionReassignmentsResponse::default();
    if call.allows(broker, Operation::Describe, Resource::Cluster) {
        answer
    } else {
        answer.with_error_code(ResponseError::ClusterAuthorizationFailed.code())
    }
}
