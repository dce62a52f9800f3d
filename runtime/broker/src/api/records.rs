//! `DeleteRecords`.

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};

use super::Call;
use super::fetch::read_code;
use crate::broker::Broker;
use crate::security::{Operation, Resource};

/// What stands for the end of what readers see.
const HIGH_WATERMARK: i64 = -1;

pub(crate) async fn delete_records(
    broker: &Arc<Broker>,
    call: &Call,
    request: DeleteRecordsRequest,
) -> DeleteRecordsResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let allowed = call.allows(broker, Operation::Delete, Resource::Topic(&topic.name));
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in topic.partitions {
            let deleted = if allowed {
                delete_before(broker, topic.name.to_string(), asked.partition_index, asked.offset).await
            } else {
                Err(ResponseError::TopicAuthorizationFailed)
            };
            let result = DeleteRecordsPartitionResult::default().with_partition_index(asked.partition_index);
            partitions.push(match deleted {
                Ok(start) => result.with_low_watermark(start),
                Err(error) => result.with_low_watermark(-1).with_error_code(error.code()),
            });
        }
        topics.push(DeleteRecordsTopicResult::default().with_name(topic.name).with_partitions(partitions));
    }
    DeleteRecordsResponse::default().with_topics(topics)
}

async fn delete_before(
    broker: &Arc<Broker>,
    topic: String,
    index: i32,
    offset: i64,
) -> Result<i64, ResponseError> {
    let partition = broker.store.partition(&topic, index).ok_or(ResponseError::UnknownTopicOrPartition)?;
    if !partition.settings().cleanup.delete {
        // What compaction keeps is not to be taken away beside it.
        return Err(ResponseError::PolicyViolation);
    }
    let work = move || {
        let offset = if offset == HIGH_WATERMARK { partition.offsets().high_watermark } else { offset };
        partition.delete_before(offset).map_err(|error| read_code(&error))
    };
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(ResponseError::UnknownServerError))
}
