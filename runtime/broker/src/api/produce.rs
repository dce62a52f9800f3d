//! `Produce`: batches into partitions. Everything is appended before the first suspension, so that the batches of one
//! connection keep their order; then, with `acks=all`, the disk is waited for.

use std::sync::Arc;

use flow_log::batch::{Compression, Header};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::ProduceRequest;
use kafka_protocol::messages::ProduceResponse;
use kafka_protocol::messages::produce_request::PartitionProduceData;
use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, TopicProduceResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::{Call, Reply};
use crate::broker::Broker;
use crate::security::{Operation, Resource};
use crate::store::{AppendError, Appended, Commit, Origin, Partition, Topic, check_single, names};
use crate::transactions::{Producer, TopicPartition};

/// The first version whose clients know zstd.
const ZSTD_VERSION_MIN: i16 = 7;

/// The first version whose clients know TRANSACTION_ABORTABLE.
const ABORTABLE_VERSION_MIN: i16 = 11;

/// A batch that is appended and not yet on the disk.
struct Waiting {
    topic: usize,
    partition: usize,
    commit: Commit,
}

pub(crate) async fn produce(broker: &Arc<Broker>, call: &Call, request: ProduceRequest) -> Reply {
    let acks = request.acks;
    let refused = if !(-1..=1).contains(&acks) {
        Some(ResponseError::InvalidRequiredAcks)
    } else {
        request
            .transactional_id
            .as_ref()
            .filter(|id| !call.allows(broker, Operation::Write, Resource::TransactionalId(id)))
            .map(|_| ResponseError::TransactionalIdAuthorizationFailed)
    };
    let transactional_id = request.transactional_id.map(|id| id.0);
    let mut waiting: Vec<Waiting> = Vec::new();
    let mut responses = Vec::with_capacity(request.topic_data.len());
    for data in request.topic_data {
        let topic = match refused {
            Some(error) => Err(error),
            None => find_topic(broker, call, &data.name),
        };
        let mut partitions = Vec::with_capacity(data.partition_data.len());
        for partition in data.partition_data {
            let index = partition.index;
            let appended = match &topic {
                Ok(topic) => append(broker, call, topic, partition, transactional_id.as_deref()),
                Err(error) => Err(Refused::Code(*error)),
            };
            partitions.push(match appended {
                Ok((appended, place)) => {
                    if acks == -1
                        && let Some(commit) = place.start_commit(appended.next_offset)
                    {
                        waiting.push(Waiting { topic: responses.len(), partition: partitions.len(), commit });
                    }
                    success(index, &appended)
                }
                Err(refused) => failure(index, &refused),
            });
        }
        responses
            .push(TopicProduceResponse::default().with_name(data.name).with_partition_responses(partitions));
    }
    for Waiting { topic, partition, commit } in waiting {
        if let Err(error) = commit.await {
            let response = &mut responses[topic].partition_responses[partition];
            *response = failure(response.index, &Refused::Append(error));
        }
    }
    if acks == 0 {
        return unanswered(&responses);
    }
    ProduceResponse::default().with_responses(responses).into()
}

/// A client that wants no answer learns of a failure, such as a topic that is gone, by the end of its connection.
fn unanswered(responses: &[TopicProduceResponse]) -> Reply {
    let failed = responses.iter().find_map(|topic| {
        let partition = topic.partition_responses.iter().find(|partition| partition.error_code != 0)?;
        Some(format!(
            "error {} for partition {} of `{}`",
            partition.error_code, partition.index, &*topic.name
        ))
    });
    failed.map_or(Reply::None, Reply::Close)
}

/// Why a partition's batch is not appended.
enum Refused {
    Code(ResponseError),
    Append(AppendError),
}

fn find_topic(broker: &Broker, call: &Call, name: &str) -> Result<Arc<Topic>, ResponseError> {
    if !call.allows(broker, Operation::Write, Resource::Topic(name)) {
        return Err(ResponseError::TopicAuthorizationFailed);
    }
    if names::is_internal(name) {
        return Err(ResponseError::InvalidTopicException);
    }
    broker.store.topic(name).ok_or(ResponseError::UnknownTopicOrPartition)
}

/// Appends one partition's batch.
fn append(
    broker: &Arc<Broker>,
    call: &Call,
    topic: &Topic,
    data: PartitionProduceData,
    transactional_id: Option<&str>,
) -> Result<(Appended, Arc<Partition>), Refused> {
    let unknown = Refused::Code(ResponseError::UnknownTopicOrPartition);
    let partition = topic.partition(data.index).ok_or(unknown)?;
    let batch = data.records.unwrap_or_default();
    let header = check_single(&batch)?;
    if call.version < ZSTD_VERSION_MIN && header.compression() == Some(Compression::Zstd) {
        return Err(Refused::Code(ResponseError::UnsupportedCompressionType));
    }
    // The first batch of a transaction waits for the coordinator's word that the partition belongs to it.
    let guard = partition.verification(&header);
    if guard.is_some() {
        verify(broker, call.version, transactional_id, &header, &topic.name, data.index)
            .map_err(Refused::Code)?;
    }
    let appended = partition.append_checked(&header, &batch, Origin::Client, guard)?;
    Ok((appended, partition))
}

/// Asks the transaction coordinator whether the partition was added to the producer's open transaction.
fn verify(
    broker: &Arc<Broker>,
    version: i16,
    transactional_id: Option<&str>,
    header: &Header,
    topic: &Arc<str>,
    partition: i32,
) -> Result<(), ResponseError> {
    let transactional_id = transactional_id.ok_or(ResponseError::InvalidTxnState)?;
    let producer = Producer { id: header.producer_id, epoch: header.producer_epoch };
    let at = TopicPartition { topic: topic.clone(), partition };
    broker.transactions.verify(transactional_id, producer, &at).map_err(|error| match error {
        // As Kafka translates them for the versions of clients.
        ResponseError::ProducerFenced => ResponseError::InvalidProducerEpoch,
        ResponseError::TransactionAbortable if version < ABORTABLE_VERSION_MIN => {
            ResponseError::InvalidTxnState
        }
        ResponseError::ConcurrentTransactions | ResponseError::CoordinatorNotAvailable => {
            ResponseError::NotEnoughReplicas
        }
        error => error,
    })
}

fn success(index: i32, appended: &Appended) -> PartitionProduceResponse {
    PartitionProduceResponse::default()
        .with_index(index)
        .with_base_offset(appended.base_offset)
        .with_log_append_time_ms(appended.log_append_time_ms)
        .with_log_start_offset(appended.log_start_offset)
}

fn failure(index: i32, refused: &Refused) -> PartitionProduceResponse {
    let response = PartitionProduceResponse::default()
        .with_index(index)
        .with_base_offset(-1)
        .with_log_append_time_ms(-1)
        .with_log_start_offset(-1);
    match refused {
        Refused::Code(error) => response.with_error_code(error.code()),
        Refused::Append(error) => {
            let records = error.records().iter().map(|(index, reason)| {
                BatchIndexAndErrorMessage::default()
                    .with_batch_index(*index)
                    .with_batch_index_error_message(Some(StrBytes::from_string(reason.clone())))
            });
            response
                .with_error_code(error.code().code())
                .with_record_errors(records.collect())
                .with_error_message(Some(StrBytes::from_string(error.to_string())))
        }
    }
}

impl From<AppendError> for Refused {
    fn from(error: AppendError) -> Refused {
        Refused::Append(error)
    }
}
