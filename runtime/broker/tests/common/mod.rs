//! A broker on a directory and a port of its own, and a client that speaks raw requests with it.

#![allow(dead_code)]

use std::path::Path;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use flow_broker::{Broker, BrokerConfig};
use flow_log::batch::{Builder, BuilderOptions, Records, batches};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{
    CreateTopicsRequest, FetchRequest, ProduceRequest, RequestHeader, ResponseHeader, TopicName,
    TransactionalId,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub async fn start(dir: &Path) -> Arc<Broker> {
    start_with(dir, |_| ()).await
}

pub async fn start_with(dir: &Path, change: impl FnOnce(&mut BrokerConfig)) -> Arc<Broker> {
    let mut config = BrokerConfig::new(dir);
    change(&mut config);
    Broker::start(config).await.unwrap()
}

/// A broker with a connection to it.
pub struct Fixture {
    pub dir: TempDir,
    pub broker: Arc<Broker>,
    pub client: Client,
}

impl Fixture {
    pub async fn new() -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let broker = start(dir.path()).await;
        let client = Client::connect(&broker).await;
        Fixture { dir, broker, client }
    }

    /// Shuts the broker down and starts it again.
    pub async fn restart(&mut self) {
        self.broker.shutdown().await;
        let Fixture { dir, broker, client } = self;
        let gone = Arc::downgrade(broker);
        // The lock of the directory goes with the last one who holds the broker.
        let placeholder = tempfile::tempdir().unwrap();
        *broker = start(placeholder.path()).await;
        *client = Client::connect(broker).await;
        while gone.strong_count() > 0 {
            tokio::task::yield_now().await;
        }
        *broker = start(dir.path()).await;
        *client = Client::connect(broker).await;
    }
}

pub struct Client {
    stream: TcpStream,
    correlation_id: i32,
}

impl Client {
    pub async fn connect(broker: &Broker) -> Client {
        Client { stream: TcpStream::connect(broker.address()).await.unwrap(), correlation_id: 0 }
    }

    /// Sends a request and takes its answer.
    pub async fn call<R: Request>(&mut self, version: i16, request: R) -> R::Response {
        self.send(version, &request).await;
        self.receive::<R>(version).await
    }

    pub async fn send<R: Request>(&mut self, version: i16, request: &R) {
        self.correlation_id += 1;
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation_id)
            .with_client_id(Some(StrBytes::from_static_str("test")));
        let mut frame = BytesMut::new();
        header.encode(&mut frame, R::header_version(version)).unwrap();
        request.encode(&mut frame, version).unwrap();
        self.stream.write_all(&(frame.len() as i32).to_be_bytes()).await.unwrap();
        self.stream.write_all(&frame).await.unwrap();
    }

    /// Takes the answer to the last request.
    pub async fn receive<R: Request>(&mut self, version: i16) -> R::Response {
        let correlation_id = self.correlation_id;
        self.receive_of::<R>(version, correlation_id).await
    }

    /// Waits for the end of the connection; false when something else comes.
    pub async fn is_closed(&mut self) -> bool {
        match self.stream.read(&mut [0]).await {
            Ok(bytes) => bytes == 0,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }

    pub async fn receive_of<R: Request>(&mut self, version: i16, correlation_id: i32) -> R::Response {
        let length = self.stream.read_i32().await.unwrap();
        let mut frame = vec![0; length as usize];
        self.stream.read_exact(&mut frame).await.unwrap();
        let mut frame = Bytes::from(frame);
        let header = ResponseHeader::decode(&mut frame, R::Response::header_version(version)).unwrap();
        assert_eq!(header.correlation_id, correlation_id);
        let response = R::Response::decode(&mut frame, version).unwrap();
        assert_eq!(frame.remaining(), 0, "bytes after the answer");
        response
    }

    pub async fn create_topic(&mut self, name: &str, partitions: i32, configs: &[(&str, &str)]) {
        use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
        let configs = configs.iter().map(|(name, value)| {
            CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value)))
        });
        let topic = CreatableTopic::default()
            .with_name(topic_name(name))
            .with_num_partitions(partitions)
            .with_replication_factor(1)
            .with_configs(configs.collect());
        let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(1000);
        let response = self.call(7, request).await;
        assert_eq!(response.topics[0].error_code, 0, "{:?}", response.topics[0].error_message);
    }

    /// Produces one batch with `acks=all`.
    pub async fn produce(&mut self, topic: &str, partition: i32, batch: Vec<u8>) -> PartitionProduceResponse {
        let response = self.call(9, produce_request(topic, partition, -1, batch)).await;
        response.responses[0].partition_responses[0].clone()
    }
}

pub fn produce_request(topic: &str, partition: i32, acks: i16, batch: Vec<u8>) -> ProduceRequest {
    let data = PartitionProduceData::default().with_index(partition).with_records(Some(batch.into()));
    let topic = TopicProduceData::default().with_name(topic_name(topic)).with_partition_data(vec![data]);
    ProduceRequest::default().with_acks(acks).with_timeout_ms(1000).with_topic_data(vec![topic])
}

pub fn transactional(request: ProduceRequest, id: &str) -> ProduceRequest {
    request.with_transactional_id(Some(TransactionalId(text(id))))
}

/// A fetch of whole partitions from these offsets, without a session and without waiting.
pub fn fetch_request(topic: &str, offsets: &[(i32, i64)]) -> FetchRequest {
    let partitions = offsets.iter().map(|&(partition, offset)| {
        FetchPartition::default()
            .with_partition(partition)
            .with_fetch_offset(offset)
            .with_partition_max_bytes(1 << 20)
            .with_current_leader_epoch(-1)
            .with_last_fetched_epoch(-1)
    });
    let topic = FetchTopic::default().with_topic(topic_name(topic)).with_partitions(partitions.collect());
    FetchRequest::default()
        .with_replica_id((-1).into())
        .with_max_wait_ms(0)
        .with_min_bytes(1)
        .with_max_bytes(1 << 20)
        .with_session_epoch(-1)
        .with_topics(vec![topic])
}

pub fn batch(values: &[&str]) -> Vec<u8> {
    batch_with(BuilderOptions::default(), values)
}

pub fn batch_with(options: BuilderOptions, values: &[&str]) -> Vec<u8> {
    let mut builder = Builder::new(options);
    for value in values {
        let headers = std::iter::empty::<(&[u8], Option<&[u8]>)>();
        builder.push(1_000, Some(b"k"), Some(value.as_bytes()), headers);
    }
    builder.finish()
}

/// The values of all records in some batches.
pub fn values(records: &Option<Bytes>) -> Vec<String> {
    let mut values = Vec::new();
    for one in batches(records.as_deref().unwrap_or_default()) {
        let records = Records::read(one.unwrap().1, 1 << 20).unwrap();
        for record in records.iter() {
            values.push(String::from_utf8(record.unwrap().value.unwrap().to_vec()).unwrap());
        }
    }
    values
}

pub fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

pub fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}
