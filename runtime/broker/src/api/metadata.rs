//! `Metadata`, `DescribeCluster`, `DescribeTopicPartitions`: which topics there are and where. With one broker the leader
//! of everything is this one.

use std::collections::BTreeSet;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{
    BrokerId, DescribeClusterRequest, DescribeClusterResponse, DescribeTopicPartitionsRequest,
    DescribeTopicPartitionsResponse, MetadataRequest, MetadataResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::Call;
use super::topics::on_disk;
use crate::broker::Broker;
use crate::security::{Operation, Resource};
use crate::store::names::is_internal;
use crate::store::{NewTopic, Partition, Topic};

/// What stands where nobody asked for the operations that are allowed.
const NOT_ASKED: i32 = i32::MIN;
/// Partitions in one answer of `DescribeTopicPartitions` (Kafka's `max.request.partition.size.limit`).
const PARTITIONS_MAX: usize = 2000;
/// What `DescribeCluster` can be asked about: brokers, or controllers.
const ENDPOINT_BROKERS: i8 = 1;
const ENDPOINT_CONTROLLERS: i8 = 2;

pub(crate) async fn metadata(
    broker: &Arc<Broker>,
    call: &Call,
    request: MetadataRequest,
) -> MetadataResponse {
    let operations = call.version >= 8 && request.include_topic_authorized_operations;
    // Version 0 has no null: empty means all.
    let asked = request.topics.filter(|asked| call.version > 0 || !asked.is_empty());
    let mut topics = Vec::new();
    match asked {
        None => {
            for topic in broker.store.topics() {
                if call.allows(broker, Operation::Describe, Resource::Topic(&topic.name)) {
                    topics.push(described(broker, call, &topic, operations));
                }
            }
        }
        Some(asked) => {
            let create = call.version < 4 || request.allow_auto_topic_creation;
            let mut seen = BTreeSet::new();
            for topic in asked {
                if seen.insert((topic.name.clone(), topic.topic_id)) {
                    topics.push(match topic.name {
                        Some(name) if topic.topic_id.is_nil() => {
                            by_name(broker, call, name, create, operations).await
                        }
                        name => by_id(broker, call, name, topic.topic_id, operations),
                    });
                }
            }
        }
    }
    let (host, port) = address(call);
    let own = MetadataResponseBroker::default()
        .with_node_id(id(broker))
        .with_host(host)
        .with_port(port)
        .with_rack(None);
    let mut response = MetadataResponse::default()
        .with_brokers(vec![own])
        .with_cluster_id(Some(broker.store.cluster_id().into()))
        .with_controller_id(id(broker))
        .with_topics(topics);
    // Only these versions have the field.
    if (8..=10).contains(&call.version) && request.include_cluster_authorized_operations {
        response.cluster_authorized_operations = cluster_operations(broker, call);
    }
    response
}

async fn by_name(
    broker: &Arc<Broker>,
    call: &Call,
    name: TopicName,
    create: bool,
    operations: bool,
) -> MetadataResponseTopic {
    let resource = Resource::Topic(&name);
    if !call.allows(broker, Operation::Describe, resource) {
        return failed(ResponseError::TopicAuthorizationFailed, Some(name), Uuid::nil());
    }
    if let Some(topic) = broker.store.topic(&name) {
        return described(broker, call, &topic, operations);
    }
    // The broker's own topics come into being when they are needed, with their own number of partitions.
    if !create || !creates_topics(broker) || is_internal(&name) {
        return failed(ResponseError::UnknownTopicOrPartition, Some(name), Uuid::nil());
    }
    if !call.allows(broker, Operation::Create, Resource::Cluster)
        && !call.allows(broker, Operation::Create, resource)
    {
        return failed(ResponseError::TopicAuthorizationFailed, Some(name), Uuid::nil());
    }
    let new = NewTopic { name: name.to_string(), ..NewTopic::default() };
    match on_disk(broker, move |broker| broker.store.ensure_topic(&new)).await {
        Ok(topic) => described(broker, call, &topic, operations),
        Err(refusal) => failed(refusal.code, Some(name), Uuid::nil()),
    }
}

/// A topic that is asked for by its id, which works from version 12 on: before, clients sent ids by mistake
/// (KAFKA-12701).
fn by_id(
    broker: &Broker,
    call: &Call,
    name: Option<TopicName>,
    topic_id: Uuid,
    operations: bool,
) -> MetadataResponseTopic {
    if call.version < 12 || topic_id.is_nil() {
        return failed(ResponseError::InvalidRequest, name.or_else(|| Some(TopicName::default())), topic_id);
    }
    match broker.store.topic_by_id(topic_id) {
        None => failed(ResponseError::UnknownTopicId, None, topic_id),
        // The name stays a secret.
        Some(topic) if !call.allows(broker, Operation::Describe, Resource::Topic(&topic.name)) => {
            failed(ResponseError::TopicAuthorizationFailed, None, topic_id)
        }
        Some(topic) => described(broker, call, &topic, operations),
    }
}

fn failed(error: ResponseError, name: Option<TopicName>, topic_id: Uuid) -> MetadataResponseTopic {
    MetadataResponseTopic::default()
        .with_error_code(error.code())
        .with_is_internal(name.as_ref().is_some_and(|name| is_internal(name)))
        .with_name(name)
        .with_topic_id(topic_id)
}

fn described(broker: &Broker, call: &Call, topic: &Topic, operations: bool) -> MetadataResponseTopic {
    let partition = |partition: &Arc<Partition>| {
        MetadataResponsePartition::default()
            .with_partition_index(partition.index)
            .with_leader_id(id(broker))
            .with_leader_epoch(partition.leader_epoch())
            .with_replica_nodes(vec![id(broker)])
            .with_isr_nodes(vec![id(broker)])
    };
    MetadataResponseTopic::default()
        .with_name(Some(topic_name(topic)))
        .with_topic_id(topic.id)
        .with_is_internal(topic.is_internal())
        .with_partitions(topic.partitions().iter().map(partition).collect())
        .with_topic_authorized_operations(topic_operations(broker, call, topic, operations))
}

pub(crate) async fn describe_cluster(
    broker: &Arc<Broker>,
    call: &Call,
    request: DescribeClusterRequest,
) -> DescribeClusterResponse {
    let response = DescribeClusterResponse::default().with_error_message(None);
    let refusal = match request.endpoint_type {
        ENDPOINT_BROKERS => None,
        ENDPOINT_CONTROLLERS => {
            Some((ResponseError::MismatchedEndpointType, "this is a listener of brokers, not of controllers"))
        }
        _ => Some((
            ResponseError::UnsupportedEndpointType,
            "the endpoints are 1 (brokers) and 2 (controllers)",
        )),
    };
    if let Some((error, message)) = refusal {
        return response
            .with_error_code(error.code())
            .with_error_message(Some(StrBytes::from_static_str(message)));
    }
    let (host, port) = address(call);
    let own = DescribeClusterBroker::default()
        .with_broker_id(id(broker))
        .with_host(host)
        .with_port(port)
        .with_rack(None);
    let mut response = response
        .with_cluster_id(broker.store.cluster_id().into())
        .with_controller_id(id(broker))
        .with_brokers(vec![own]);
    if call.version >= 1 {
        response.endpoint_type = ENDPOINT_BROKERS;
    }
    if request.include_cluster_authorized_operations {
        response.cluster_authorized_operations = cluster_operations(broker, call);
    }
    response
}

/// KIP-966: like `Metadata`, but a page at a time.
pub(crate) async fn describe_topic_partitions(
    broker: &Arc<Broker>,
    call: &Call,
    request: DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let mut response = DescribeTopicPartitionsResponse::default().with_next_cursor(None);
    let (first, first_partition) = match &request.cursor {
        Some(cursor) => (cursor.topic_name.as_str(), cursor.partition_index),
        None => ("", 0),
    };
    let may = |name: &str| call.allows(broker, Operation::Describe, Resource::Topic(name));
    if first_partition < 0 {
        // There is no error for the whole: every topic carries it.
        response.topics = request
            .topics
            .into_iter()
            .map(|topic| undescribed(ResponseError::InvalidRequest, topic.name))
            .collect();
        return response;
    }
    // In the order of the names, because that is what a cursor points into.
    let names: BTreeSet<String> = match request.topics.is_empty() {
        true => broker
            .store
            .topics()
            .iter()
            .map(|topic| topic.name.to_string())
            .filter(|name| may(name))
            .collect(),
        false => request.topics.iter().map(|topic| topic.name.to_string()).collect(),
    };
    let limit = usize::try_from(request.response_partition_limit).unwrap_or(0).clamp(1, PARTITIONS_MAX);
    let mut left = limit;
    for name in names.into_iter().filter(|name| name.as_str() >= first) {
        if !may(&name) {
            response.topics.push(undescribed(ResponseError::TopicAuthorizationFailed, name_of(name)));
            continue;
        }
        let Some(topic) = broker.store.topic(&name) else {
            response.topics.push(undescribed(ResponseError::UnknownTopicOrPartition, name_of(name)));
            continue;
        };
        let from = if name == first { first_partition } else { 0 };
        let next = |index| Cursor::default().with_topic_name(topic_name(&topic)).with_partition_index(index);
        if left == 0 {
            response.next_cursor = Some(next(from));
            break;
        }
        let partitions = topic.partitions();
        let rest = partitions.get(from as usize..).unwrap_or_default();
        let page = &rest[..rest.len().min(left)];
        left -= page.len();
        response.topics.push(
            DescribeTopicPartitionsResponseTopic::default()
                .with_name(Some(topic_name(&topic)))
                .with_topic_id(topic.id)
                .with_is_internal(topic.is_internal())
                .with_partitions(page.iter().map(|partition| page_partition(broker, partition)).collect())
                .with_topic_authorized_operations(topic_operations(broker, call, &topic, true)),
        );
        if page.len() < rest.len() {
            response.next_cursor = Some(next(from + page.len() as i32));
            break;
        }
    }
    response
}

fn page_partition(broker: &Broker, partition: &Partition) -> DescribeTopicPartitionsResponsePartition {
    DescribeTopicPartitionsResponsePartition::default()
        .with_partition_index(partition.index)
        .with_leader_id(id(broker))
        .with_leader_epoch(partition.leader_epoch())
        .with_replica_nodes(vec![id(broker)])
        .with_isr_nodes(vec![id(broker)])
        .with_eligible_leader_replicas(Some(Vec::new()))
        .with_last_known_elr(Some(Vec::new()))
}

fn undescribed(error: ResponseError, name: TopicName) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic::default().with_error_code(error.code()).with_name(Some(name))
}

fn topic_operations(broker: &Broker, call: &Call, topic: &Topic, asked: bool) -> i32 {
    match asked {
        true => call.authorized_operations(broker, Resource::Topic(&topic.name)),
        false => NOT_ASKED,
    }
}

fn cluster_operations(broker: &Broker, call: &Call) -> i32 {
    match call.allows(broker, Operation::Describe, Resource::Cluster) {
        true => call.authorized_operations(broker, Resource::Cluster),
        false => 0,
    }
}

fn creates_topics(broker: &Broker) -> bool {
    broker.store.broker_settings().broker_switch("auto.create.topics.enable")
}

fn id(broker: &Broker) -> BrokerId {
    BrokerId(broker.config.node_id)
}

fn topic_name(topic: &Topic) -> TopicName {
    name_of(topic.name.to_string())
}

fn name_of(name: String) -> TopicName {
    TopicName(StrBytes::from_string(name))
}

/// Where the caller reaches this broker.
fn address(call: &Call) -> (StrBytes, i32) {
    let host = call.listener.advertised_host(call.session.local_ip());
    (StrBytes::from_string(host), i32::from(call.listener.advertised_port))
}
