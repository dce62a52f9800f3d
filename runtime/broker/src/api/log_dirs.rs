//! `DescribeLogDirs`.

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::Call;
use crate::broker::Broker;
use crate::security::{Operation, Resource};
use crate::store::{Partition, Topic};

/// The first version that says at the top what is wrong.
const TOP_ERROR: i16 = 3;

/// Stands for a size that is not known.
const UNKNOWN_BYTES: i64 = -1;

pub(crate) async fn describe_log_dirs(
    broker: &Arc<Broker>,
    call: &Call,
    request: DescribeLogDirsRequest,
) -> DescribeLogDirsResponse {
    if !call.allows(broker, Operation::Describe, Resource::Cluster) {
        let code = ResponseError::ClusterAuthorizationFailed.code();
        let answer = DescribeLogDirsResponse::default();
        return if call.version >= TOP_ERROR { answer.with_error_code(code) } else { answer };
    }
    let topics = match request.topics {
        None => {
            broker.store.topics().iter().map(|topic| describe(topic, topic.partitions().iter())).collect()
        }
        Some(asked) => asked
            .iter()
            .filter_map(|asked| {
                let topic = broker.store.topic(&asked.topic)?;
                let partitions: Vec<_> =
                    asked.partitions.iter().filter_map(|&index| topic.partition(index)).collect();
                Some(describe(&topic, partitions.iter()))
            })
            .collect(),
    };
    let dir = broker.store.dir();
    let free = broker.store.storage().free_bytes(dir).ok().and_then(|bytes| i64::try_from(bytes).ok());
    let total = rustix::fs::statvfs(dir).ok().map(|found| found.f_blocks.saturating_mul(found.f_frsize));
    let result = DescribeLogDirsResult::default()
        .with_log_dir(StrBytes::from_string(dir.display().to_string()))
        .with_topics(topics)
        .with_total_bytes(total.and_then(|bytes| i64::try_from(bytes).ok()).unwrap_or(UNKNOWN_BYTES))
        .with_usable_bytes(free.unwrap_or(UNKNOWN_BYTES));
    DescribeLogDirsResponse::default().with_results(vec![result])
}

fn describe<'a>(topic: &Topic, partitions: impl Iterator<Item = &'a Arc<Partition>>) -> DescribeLogDirsTopic {
    let partitions = partitions.map(|partition| {
        DescribeLogDirsPartition::default()
            .with_partition_index(partition.index)
            .with_partition_size(i64::try_from(partition.bytes()).unwrap_or(i64::MAX))
    });
    DescribeLogDirsTopic::default()
        .with_name(TopicName(StrBytes::from_string(topic.name.to_string())))
        .with_partitions(partitions.collect())
}
