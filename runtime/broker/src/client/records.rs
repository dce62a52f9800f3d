//! Batches to a partition and from it.

use std::future::Future;

use bytes::Bytes;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    BrokerId, FetchRequest, MetadataRequest, MetadataResponse, ProduceRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use super::{Client, ClientError, check};

/// The last version of Fetch that names topics: later ones want ids.
const FETCH_BY_NAME: i16 = 12;
/// As above, for Produce.
const PRODUCE_BY_NAME: i16 = 12;

/// Where a batch went.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Produced {
    pub base_offset: i64,
    /// −1 where the producer's own timestamps stay.
    pub log_append_time_ms: i64,
}

/// What to fetch.
#[derive(Clone, Debug)]
pub struct FetchFrom<'a> {
    pub topic: &'a str,
    pub partition: i32,
    pub offset: i64,
    pub max_wait_ms: i32,
    pub bytes_min: i32,
    pub bytes_max: i32,
    /// Only what is committed.
    pub committed: bool,
}

impl<'a> FetchFrom<'a> {
    pub fn new(topic: &'a str, partition: i32, offset: i64) -> FetchFrom<'a> {
        FetchFrom {
            topic,
            partition,
            offset,
            max_wait_ms: 500,
            bytes_min: 1,
            bytes_max: 8 << 20,
            committed: false,
        }
    }
}

/// What came.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// Batches; the first may begin before the offset that was asked for, the last may be cut.
    pub records: Bytes,
    pub high_watermark: i64,
    pub last_stable_offset: i64,
    pub log_start_offset: i64,
    /// Producer id and first offset of each.
    pub aborted: Vec<(i64, i64)>,
}

impl Client {
    /// Topics and where they are; `None`: all of them.
    ///
    /// # Errors
    ///
    /// As [`Client::call`].
    pub async fn metadata(
        &self,
        topics: Option<&[&str]>,
        create: bool,
    ) -> Result<MetadataResponse, ClientError> {
        let topic = |name: &&str| MetadataRequestTopic::default().with_name(Some(topic_name(name)));
        let request = MetadataRequest::default()
            .with_topics(topics.map(|names| names.iter().map(topic).collect()))
            .with_allow_auto_topic_creation(create);
        let version = self.version::<MetadataRequest>()?;
        let request = if version < 4 { request.with_allow_auto_topic_creation(true) } else { request };
        self.call_version(version, &request).await
    }

    /// Sends encoded batches to a partition. When this returns they are on their way, behind all that were sent before;
    /// what it gives waits for the answer.
    ///
    /// # Errors
    ///
    /// As [`Client::send`], then as [`Client::call`] and the broker's own.
    pub async fn produce(
        &self,
        topic: &str,
        partition: i32,
        acks: i16,
        batches: Bytes,
    ) -> Result<impl Future<Output = Result<Produced, ClientError>> + Send + use<>, ClientError> {
        let version = self.version_at_most::<ProduceRequest>(PRODUCE_BY_NAME)?;
        let data = PartitionProduceData::default().with_index(partition).with_records(Some(batches));
        let data = TopicProduceData::default().with_name(topic_name(topic)).with_partition_data(vec![data]);
        let request = ProduceRequest::default()
            .with_acks(acks)
            .with_timeout_ms(self.config.timeout_ms.min(i32::MAX as u64) as i32)
            .with_transactional_id(None)
            .with_topic_data(vec![data]);
        let answer = match acks {
            0 => {
                self.send_unanswered(version, &request).await?;
                None
            }
            _ => Some(self.send(version, &request).await?),
        };
        Ok(async move {
            let Some(answer) = answer else {
                return Ok(Produced { base_offset: -1, log_append_time_ms: -1 });
            };
            let answer = answer.get().await?;
            let partition = answer.responses.first().and_then(|topic| topic.partition_responses.first());
            let partition = partition
                .ok_or_else(|| ClientError::Malformed("it says nothing of the partition".to_owned()))?;
            check(partition.error_code)?;
            let log_append_time_ms = partition.log_append_time_ms;
            Ok(Produced { base_offset: partition.base_offset, log_append_time_ms })
        })
    }

    /// Fetches batches of one partition, waiting for them if there are none.
    ///
    /// # Errors
    ///
    /// As [`Client::call`], and the broker's own.
    pub async fn fetch(&self, from: &FetchFrom<'_>) -> Result<Fetched, ClientError> {
        let version = self.version_at_most::<FetchRequest>(FETCH_BY_NAME)?;
        let partition = FetchPartition::default()
            .with_partition(from.partition)
            .with_fetch_offset(from.offset)
            .with_partition_max_bytes(from.bytes_max);
        let topic = FetchTopic::default().with_topic(topic_name(from.topic)).with_partitions(vec![partition]);
        let request = FetchRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_max_wait_ms(from.max_wait_ms)
            .with_min_bytes(from.bytes_min)
            .with_max_bytes(from.bytes_max)
            .with_isolation_level(i8::from(from.committed))
            .with_session_epoch(-1)
            .with_topics(vec![topic]);
        let answer = self.call_version(version, &request).await?;
        check(answer.error_code)?;
        let partition =
            answer.responses.into_iter().next().and_then(|topic| topic.partitions.into_iter().next());
        let partition =
            partition.ok_or_else(|| ClientError::Malformed("it says nothing of the partition".to_owned()))?;
        check(partition.error_code)?;
        let aborted = partition.aborted_transactions.unwrap_or_default();
        Ok(Fetched {
            records: partition.records.unwrap_or_default(),
            high_watermark: partition.high_watermark,
            last_stable_offset: partition.last_stable_offset,
            log_start_offset: partition.log_start_offset,
            aborted: aborted.iter().map(|aborted| (aborted.producer_id.0, aborted.first_offset)).collect(),
        })
    }
}

pub(super) fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}
