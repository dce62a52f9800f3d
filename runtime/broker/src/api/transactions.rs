//! Producer ids and transactions: InitProducerId, AddPartitionsToTxn, AddOffsetsToTxn, EndTxn, WriteTxnMarkers, and what
//! operators ask. Only rights, names and the codes of older versions are settled here; the coordinator decides the rest.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::describe_producers_response::{
    PartitionResponse, ProducerState, TopicResponse,
};
use kafka_protocol::messages::describe_transactions_response::{TopicData, TransactionState};
use kafka_protocol::messages::txn_offset_commit_request::TxnOffsetCommitRequestTopic;
use kafka_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use kafka_protocol::messages::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;

use super::Call;
use crate::broker::Broker;
use crate::security::{Operation, Resource, ResourceType};
use crate::store::names;
use crate::transactions::{Filter, Producer, State, TopicPartition, View, markers, offsets};

/// The first versions whose clients tell PRODUCER_FENCED from INVALID_PRODUCER_EPOCH.
const INIT_KNOWS_FENCED: i16 = 4;
const TXN_KNOWS_FENCED: i16 = 2;

/// The first versions of TxnOffsetCommit whose clients know TRANSACTION_ABORTABLE, and COORDINATOR_LOAD_IN_PROGRESS.
const OFFSETS_KNOW_ABORTABLE: i16 = 4;
const OFFSETS_KNOW_LOADING: i16 = 2;

/// The first version of AddPartitionsToTxn that brokers send each other, with several transactions.
const ADD_FROM_BROKERS: i16 = 4;

pub(crate) async fn init_producer_id(
    broker: &Arc<Broker>,
    call: &Call,
    request: InitProducerIdRequest,
) -> InitProducerIdResponse {
    let answer = match check_init(broker, call, &request) {
        Ok(expected) => {
            let id = request.transactional_id.map(|id| Arc::from(id.as_str()));
            let timeout_ms = request.transaction_timeout_ms;
            broker.transactions.init_producer_id(broker, id, timeout_ms, expected).await
        }
        Err(error) => Err(error),
    };
    let response = InitProducerIdResponse::default();
    match answer {
        Ok(producer) => response.with_producer_id(producer.id.into()).with_producer_epoch(producer.epoch),
        Err(error) => response
            .with_producer_id((-1).into())
            .with_producer_epoch(-1)
            .with_error_code(fenced(error, call.version >= INIT_KNOWS_FENCED).code()),
    }
}

/// Gives who the caller believes to be.
fn check_init(
    broker: &Arc<Broker>,
    call: &Call,
    request: &InitProducerIdRequest,
) -> Result<Option<Producer>, ResponseError> {
    match &request.transactional_id {
        Some(id) => check_transactional_id(broker, call, id)?,
        // Whoever may write to some topic may be idempotent there.
        None => {
            let allowed = call.allows(broker, Operation::IdempotentWrite, Resource::Cluster)
                || broker.security.allows_any(
                    &call.principal,
                    call.peer.ip(),
                    Operation::Write,
                    ResourceType::Topic,
                );
            if !allowed {
                return Err(ResponseError::ClusterAuthorizationFailed);
            }
        }
    }
    match (request.producer_id.0, request.producer_epoch) {
        (-1, -1) => Ok(None),
        (id, epoch) if id < 0 || epoch < 0 => Err(ResponseError::InvalidRequest),
        (id, epoch) => Ok(Some(Producer { id, epoch })),
    }
}

pub(crate) async fn add_partitions_to_txn(
    broker: &Arc<Broker>,
    call: &Call,
    request: AddPartitionsToTxnRequest,
) -> AddPartitionsToTxnResponse {
    let response = AddPartitionsToTxnResponse::default();
    if call.version < ADD_FROM_BROKERS {
        let producer =
            Producer { id: request.v3_and_below_producer_id.0, epoch: request.v3_and_below_producer_epoch };
        let id = &request.v3_and_below_transactional_id;
        let results = match check_transactional_id(broker, call, id) {
            Ok(()) => add(broker, call, id, producer, request.v3_and_below_topics, false).await,
            Err(error) => results(request.v3_and_below_topics, |_, _| Some(error)),
        };
        return response.with_results_by_topic_v3_and_below(results);
    }
    if !call.allows(broker, Operation::ClusterAction, Resource::Cluster) {
        return response.with_error_code(ResponseError::ClusterAuthorizationFailed.code());
    }
    let mut by_transaction = Vec::with_capacity(request.transactions.len());
    for transaction in request.transactions {
        let producer = Producer { id: transaction.producer_id.0, epoch: transaction.producer_epoch };
        let id = transaction.transactional_id;
        let topics = add(broker, call, &id, producer, transaction.topics, transaction.verify_only).await;
        by_transaction
            .push(AddPartitionsToTxnResult::default().with_transactional_id(id).with_topic_results(topics));
    }
    response.with_results_by_transaction(by_transaction)
}

/// Adds partitions to a transaction, all or none of them; or only says whether they are in it.
async fn add(
    broker: &Arc<Broker>,
    call: &Call,
    id: &TransactionalId,
    producer: Producer,
    topics: Vec<AddPartitionsToTxnTopic>,
    verify_only: bool,
) -> Vec<AddPartitionsToTxnTopicResult> {
    let from_client = call.version < ADD_FROM_BROKERS;
    let mut partitions = BTreeSet::new();
    let mut refused = Vec::new();
    for topic in &topics {
        let name: Arc<str> = Arc::from(topic.name.as_str());
        let allowed = !from_client
            || (!names::is_internal(&name) && call.allows(broker, Operation::Write, Resource::Topic(&name)));
        let known = broker.store.topic(&name);
        for index in &topic.partitions {
            let at = TopicPartition { topic: name.clone(), partition: *index };
            if !allowed {
                refused.push((at.clone(), ResponseError::TopicAuthorizationFailed));
            } else if known.as_ref().and_then(|topic| topic.partition(*index)).is_none() {
                refused.push((at.clone(), ResponseError::UnknownTopicOrPartition));
            }
            partitions.insert(at);
        }
    }
    if !refused.is_empty() {
        return results(topics, |name, index| {
            let own = refused.iter().find(|(at, _)| &*at.topic == name && at.partition == index);
            Some(own.map_or(ResponseError::OperationNotAttempted, |(_, error)| *error))
        });
    }
    if verify_only {
        return results(topics, |name, index| {
            broker.transactions.verify(id, producer, &TopicPartition::new(name, index)).err()
        });
    }
    let id: Arc<str> = Arc::from(id.as_str());
    let error = broker.transactions.add_partitions(broker, &id, producer, partitions).await.err();
    let error = error.map(|error| fenced(error, call.version >= TXN_KNOWS_FENCED));
    results(topics, |_, _| error)
}

fn results(
    topics: Vec<AddPartitionsToTxnTopic>,
    error: impl Fn(&str, i32) -> Option<ResponseError>,
) -> Vec<AddPartitionsToTxnTopicResult> {
    let topic = |topic: AddPartitionsToTxnTopic| {
        let partition = |index: &i32| {
            AddPartitionsToTxnPartitionResult::default()
                .with_partition_index(*index)
                .with_partition_error_code(error(&topic.name, *index).map_or(0, |error| error.code()))
        };
        let partitions = topic.partitions.iter().map(partition).collect();
        AddPartitionsToTxnTopicResult::default().with_results_by_partition(partitions).with_name(topic.name)
    };
    topics.into_iter().map(topic).collect()
}

pub(crate) async fn add_offsets_to_txn(
    broker: &Arc<Broker>,
    call: &Call,
    request: AddOffsetsToTxnRequest,
) -> AddOffsetsToTxnResponse {
    let answer = match check_transactional_id(broker, call, &request.transactional_id) {
        Err(error) => Err(error),
        Ok(()) if !call.allows(broker, Operation::Read, Resource::Group(&request.group_id)) => {
            Err(ResponseError::GroupAuthorizationFailed)
        }
        Ok(()) => {
            let id: Arc<str> = Arc::from(request.transactional_id.as_str());
            let producer = Producer { id: request.producer_id.0, epoch: request.producer_epoch };
            let partitions = BTreeSet::from([offsets::partition_of_group(broker, &request.group_id)]);
            broker.transactions.add_partitions(broker, &id, producer, partitions).await
        }
    };
    AddOffsetsToTxnResponse::default().with_error_code(txn_code(answer, call.version))
}

pub(crate) async fn end_txn(broker: &Arc<Broker>, call: &Call, request: EndTxnRequest) -> EndTxnResponse {
    let answer = match check_transactional_id(broker, call, &request.transactional_id) {
        Ok(()) => {
            let id: Arc<str> = Arc::from(request.transactional_id.as_str());
            let producer = Producer { id: request.producer_id.0, epoch: request.producer_epoch };
            broker.transactions.end(broker, &id, producer, request.committed).await
        }
        Err(error) => Err(error),
    };
    EndTxnResponse::default().with_error_code(txn_code(answer, call.version))
}

pub(crate) async fn txn_offset_commit(
    broker: &Arc<Broker>,
    call: &Call,
    mut request: TxnOffsetCommitRequest,
) -> TxnOffsetCommitResponse {
    let group = request.group_id.clone();
    let refused = match check_transactional_id(broker, call, &request.transactional_id) {
        Err(error) => Some(error),
        Ok(()) if !call.allows(broker, Operation::Read, Resource::Group(&group)) => {
            Some(ResponseError::GroupAuthorizationFailed)
        }
        Ok(()) => None,
    };
    let asked = request.topics.clone();
    if let Some(error) = refused {
        return offsets_refused(asked, |_, _| Some(error), Vec::new());
    }
    let check = |topic: &str, index: i32| {
        if !call.allows(broker, Operation::Read, Resource::Topic(topic)) {
            Some(ResponseError::TopicAuthorizationFailed)
        } else if broker.store.partition(topic, index).is_none() {
            Some(ResponseError::UnknownTopicOrPartition)
        } else {
            None
        }
    };
    for topic in &mut request.topics {
        topic.partitions.retain(|partition| check(&topic.name, partition.partition_index).is_none());
    }
    request.topics.retain(|topic| !topic.partitions.is_empty());
    if request.topics.is_empty() {
        return offsets_refused(asked, check, Vec::new());
    }
    match offsets::commit_in_transaction(broker, super::groups::caller(call), request).await {
        Ok(response) => offsets_refused(asked, check, response.topics),
        Err(error) => {
            let error = match error {
                ResponseError::TransactionAbortable if call.version < OFFSETS_KNOW_ABORTABLE => {
                    ResponseError::InvalidTxnState
                }
                ResponseError::CoordinatorLoadInProgress if call.version < OFFSETS_KNOW_LOADING => {
                    ResponseError::CoordinatorNotAvailable
                }
                error => error,
            };
            offsets_refused(asked, |topic, index| check(topic, index).or(Some(error)), Vec::new())
        }
    }
}

/// The answer in the order of the request: what was refused here, and what the group said of the rest.
fn offsets_refused(
    asked: Vec<TxnOffsetCommitRequestTopic>,
    refused: impl Fn(&str, i32) -> Option<ResponseError>,
    taken: Vec<TxnOffsetCommitResponseTopic>,
) -> TxnOffsetCommitResponse {
    let answers = taken.iter().flat_map(|topic| {
        let name = topic.name.as_str();
        topic
            .partitions
            .iter()
            .map(move |partition| ((name, partition.partition_index), partition.error_code))
    });
    let answers: HashMap<(&str, i32), i16> = answers.collect();
    let topics = asked.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let index = partition.partition_index;
            let code = match refused(&topic.name, index) {
                Some(error) => error.code(),
                None => answers.get(&(topic.name.as_str(), index)).copied().unwrap_or(0),
            };
            TxnOffsetCommitResponsePartition::default().with_partition_index(index).with_error_code(code)
        });
        let partitions = partitions.collect();
        TxnOffsetCommitResponseTopic::default().with_partitions(partitions).with_name(topic.name)
    });
    TxnOffsetCommitResponse::default().with_topics(topics.collect())
}

/// What a coordinator, or an operator who ends a hanging transaction, has written into the partitions here.
pub(crate) async fn write_txn_markers(
    broker: &Arc<Broker>,
    call: &Call,
    request: WriteTxnMarkersRequest,
) -> WriteTxnMarkersResponse {
    let allowed = call.allows(broker, Operation::Alter, Resource::Cluster)
        || call.allows(broker, Operation::ClusterAction, Resource::Cluster);
    // All are appended before the first is waited for.
    let mut waiting = Vec::new();
    let mut markers_done = Vec::with_capacity(request.markers.len());
    for (of_marker, marker) in request.markers.into_iter().enumerate() {
        let ending = markers::Ending {
            producer: Producer { id: marker.producer_id.0, epoch: marker.producer_epoch },
            coordinator_epoch: marker.coordinator_epoch,
            commit: marker.transaction_result,
        };
        let mut topics = Vec::with_capacity(marker.topics.len());
        for (of_topic, topic) in marker.topics.into_iter().enumerate() {
            let mut partitions = Vec::with_capacity(topic.partition_indexes.len());
            for index in topic.partition_indexes {
                let at = TopicPartition::new(topic.name.as_str(), index);
                let appended = if allowed {
                    markers::append(broker, &at, ending).map_err(|error| error.code())
                } else {
                    Err(ResponseError::ClusterAuthorizationFailed)
                };
                let mut result = WritableTxnMarkerPartitionResult::default().with_partition_index(index);
                match appended {
                    Ok(writing) => waiting.push((of_marker, of_topic, partitions.len(), writing)),
                    Err(error) => result.error_code = error.code(),
                }
                partitions.push(result);
            }
            topics.push(
                WritableTxnMarkerTopicResult::default().with_name(topic.name).with_partitions(partitions),
            );
        }
        markers_done.push(
            WritableTxnMarkerResult::default().with_producer_id(marker.producer_id).with_topics(topics),
        );
    }
    for (marker, topic, partition, writing) in waiting {
        if let Err(error) = writing.wait().await {
            markers_done[marker].topics[topic].partitions[partition].error_code = error.code();
        }
    }
    WriteTxnMarkersResponse::default().with_markers(markers_done)
}

pub(crate) async fn describe_transactions(
    broker: &Arc<Broker>,
    call: &Call,
    request: DescribeTransactionsRequest,
) -> DescribeTransactionsResponse {
    let states = request.transactional_ids.into_iter().map(|id| {
        let view = if !call.allows(broker, Operation::Describe, Resource::TransactionalId(&id)) {
            Err(ResponseError::TransactionalIdAuthorizationFailed)
        } else if id.is_empty() {
            Err(ResponseError::InvalidRequest)
        } else {
            broker.transactions.describe(&id).ok_or(ResponseError::TransactionalIdNotFound)
        };
        let state = TransactionState::default().with_transactional_id(id);
        match view {
            Ok(view) => state
                .with_transaction_state(StrBytes::from_static_str(view.state.name()))
                .with_transaction_timeout_ms(view.timeout_ms)
                .with_transaction_start_time_ms(view.start_ms)
                .with_producer_id(view.producer.id.into())
                .with_producer_epoch(view.producer.epoch)
                .with_topics(topics_of(broker, call, view)),
            Err(error) => state.with_error_code(error.code()),
        }
    });
    DescribeTransactionsResponse::default().with_transaction_states(states.collect())
}

/// The partitions of a transaction by topic, without those that the caller may not know of.
fn topics_of(broker: &Arc<Broker>, call: &Call, view: View) -> Vec<TopicData> {
    let mut topics: Vec<TopicData> = Vec::new();
    for at in view.partitions {
        match topics.last_mut().filter(|topic| topic.topic.as_str() == &*at.topic) {
            Some(topic) => topic.partitions.push(at.partition),
            None => {
                let name = StrBytes::from_string(at.topic.to_string());
                topics.push(TopicData::default().with_topic(name.into()).with_partitions(vec![at.partition]));
            }
        }
    }
    topics.retain(|topic| call.allows(broker, Operation::Describe, Resource::Topic(&topic.topic)));
    topics
}

pub(crate) async fn list_transactions(
    broker: &Arc<Broker>,
    call: &Call,
    request: ListTransactionsRequest,
) -> ListTransactionsResponse {
    let mut filter = Filter {
        producer_ids: request.producer_id_filters.iter().map(|id| id.0).collect(),
        states: Vec::new(),
        longer_than_ms: (request.duration_filter >= 0).then_some(request.duration_filter),
    };
    let mut unknown = Vec::new();
    let any_state = request.state_filters.is_empty();
    for name in request.state_filters {
        match State::from_name(&name) {
            Some(state) => filter.states.push(state),
            None => unknown.push(name),
        }
    }
    // Only unknown states were asked for: nothing is in them.
    let views =
        if any_state || !filter.states.is_empty() { broker.transactions.list(&filter) } else { Vec::new() };
    let may_know = |view: &View| {
        call.allows(broker, Operation::Describe, Resource::TransactionalId(&view.transactional_id))
    };
    let states = views.into_iter().filter(may_know).map(|view| {
        list_transactions_response::TransactionState::default()
            .with_transactional_id(StrBytes::from_string(view.transactional_id.to_string()).into())
            .with_producer_id(view.producer.id.into())
            .with_transaction_state(StrBytes::from_static_str(view.state.name()))
    });
    ListTransactionsResponse::default()
        .with_unknown_state_filters(unknown)
        .with_transaction_states(states.collect())
}

pub(crate) async fn describe_producers(
    broker: &Arc<Broker>,
    call: &Call,
    request: DescribeProducersRequest,
) -> DescribeProducersResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let found = if names::check_topic_name(&topic.name).is_err() {
            Err(ResponseError::InvalidTopicException)
        } else if !call.allows(broker, Operation::Read, Resource::Topic(&topic.name)) {
            Err(ResponseError::TopicAuthorizationFailed)
        } else {
            broker.store.topic(&topic.name).ok_or(ResponseError::UnknownTopicOrPartition)
        };
        let partition = |index: &i32| {
            let response = PartitionResponse::default().with_partition_index(*index);
            let partition = found
                .as_ref()
                .map_err(|error| *error)
                .and_then(|topic| topic.partition(*index).ok_or(ResponseError::UnknownTopicOrPartition));
            match partition {
                Ok(partition) => {
                    let mut views = partition.producer_views();
                    views.sort_unstable_by_key(|view| view.producer_id);
                    let producers = views.into_iter().map(|view| {
                        ProducerState::default()
                            .with_producer_id(view.producer_id.into())
                            .with_producer_epoch(i32::from(view.epoch))
                            .with_last_sequence(view.last_sequence)
                            .with_last_timestamp(view.last_timestamp)
                            .with_coordinator_epoch(view.coordinator_epoch)
                            .with_current_txn_start_offset(view.transaction_start_offset)
                    });
                    response.with_active_producers(producers.collect())
                }
                Err(error) => response.with_error_code(error.code()),
            }
        };
        let partitions = topic.partition_indexes.iter().map(partition).collect();
        TopicResponse::default().with_partitions(partitions).with_name(topic.name)
    });
    DescribeProducersResponse::default().with_topics(topics.collect())
}

fn check_transactional_id(broker: &Arc<Broker>, call: &Call, id: &str) -> Result<(), ResponseError> {
    if call.allows(broker, Operation::Write, Resource::TransactionalId(id)) {
        Ok(())
    } else {
        Err(ResponseError::TransactionalIdAuthorizationFailed)
    }
}

/// Older clients know only the code that partitions give a fenced producer.
fn fenced(error: ResponseError, knows: bool) -> ResponseError {
    match error {
        ResponseError::ProducerFenced if !knows => ResponseError::InvalidProducerEpoch,
        error => error,
    }
}

fn txn_code(answer: Result<(), ResponseError>, version: i16) -> i16 {
    answer.err().map_or(0, |error| fenced(error, version >= TXN_KNOWS_FENCED).code())
}
