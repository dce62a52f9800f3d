//! A blocking Kafka client that does as little as it can: frames made beforehand, answers looked at for errors only.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use flow_log::batch::{self, Builder, BuilderOptions, Compression};
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};

/// Records and bytes of one produce request, together over its partitions: librdkafka's defaults.
const RECORDS_MAX: usize = 10_000;
const BYTES_MAX: usize = 1_000_000;
/// What a record takes besides its value, about.
const RECORD_OVERHEAD: usize = 16;
/// Requests on the way at a time (librdkafka and the Java client: 5 with idempotence).
const IN_FLIGHT: usize = 5;
/// What one fetch asks for: librdkafka's `fetch.message.max.bytes`, per partition, and `fetch.max.bytes`.
const FETCH_PARTITION_BYTES: i32 = 1 << 20;
const FETCH_BYTES: i32 = 50 << 20;

/// Where a frame's correlation id stands: behind its length, API key and version.
const CORRELATION: std::ops::Range<usize> = 8..12;

const PRODUCE: i16 = 9;
const FETCH: i16 = 11;

/// What is sent again and again.
pub struct Load {
    topic: TopicName,
    batches: Vec<Bytes>,
    /// Of one frame.
    pub records: usize,
    pub payload_bytes: usize,
}

impl Load {
    pub fn new(topic: &str, partitions: i32, size: usize, compression: Compression) -> Load {
        let records = (RECORDS_MAX.min(BYTES_MAX / (size + RECORD_OVERHEAD)) / partitions as usize).max(1);
        let mut batches = Vec::new();
        let mut number = 0u64;
        for _ in 0..partitions {
            let mut builder = Builder::new(BuilderOptions { compression, ..BuilderOptions::default() });
            for _ in 0..records {
                number += 1;
                builder.push(now_ms(), None, Some(&value(number, size)), std::iter::empty());
            }
            batches.push(Bytes::from(builder.finish()));
        }
        let records = records * partitions as usize;
        Load { topic: name(topic), batches, records, payload_bytes: records * size }
    }

    /// The frame to be sent, however many times.
    pub fn frame(&self, acks: i16) -> Vec<u8> {
        let partitions = self.batches.iter().enumerate().map(|(index, batch)| {
            PartitionProduceData::default().with_index(index as i32).with_records(Some(batch.clone()))
        });
        let topic = TopicProduceData::default()
            .with_name(self.topic.clone())
            .with_partition_data(partitions.collect());
        let request =
            ProduceRequest::default().with_acks(acks).with_timeout_ms(30_000).with_topic_data(vec![topic]);
        encode(PRODUCE, 0, &request)
    }
}

/// Log lines that differ as log lines do: lz4 makes about half of them.
fn value(number: u64, size: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size + 160);
    while bytes.len() < size {
        let mixed = (number + bytes.len() as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let [a, b, c, d, ..] = mixed.to_be_bytes();
        let (minute, second) = (number / 60 % 60, number % 60);
        write!(
            bytes,
            "{a}.{b}.{c}.{d} - - [23/Nov/2026:10:{minute:02}:{second:02} +0000] \"GET /shop/{:x} HTTP/1.1\" 200 {} ",
            mixed >> 24,
            mixed as u16,
        )
        .expect("a vector takes everything");
    }
    bytes.truncate(size);
    bytes
}

pub struct Client {
    stream: TcpStream,
    correlation: i32,
    body: Vec<u8>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Client { stream, correlation: 0, body: Vec::new() }
    }

    /// Sends the frame `count` times, five on the way at a time, and wants every one accepted.
    pub fn produce_all(&mut self, frame: &[u8], count: usize) {
        let mut frame = frame.to_vec();
        let (mut sent, mut received) = (0, 0);
        while received < count {
            while sent < count && sent - received < IN_FLIGHT {
                frame[CORRELATION].copy_from_slice(&(sent as i32).to_be_bytes());
                self.stream.write_all(&frame).unwrap();
                sent += 1;
            }
            let response: ProduceResponse = self.receive::<ProduceRequest>(PRODUCE);
            for partition in response.responses.iter().flat_map(|topic| &topic.partition_responses) {
                assert_eq!(partition.error_code, 0, "a produce request was refused");
            }
            received += 1;
        }
    }

    /// Reads from the beginning until `records` came, one request on the way, as librdkafka does.
    pub fn consume_all(&mut self, topic: &str, partitions: i32, records: i64) {
        let mut offsets = vec![0i64; partitions as usize];
        while offsets.iter().sum::<i64>() < records {
            let response = self.fetch(topic, &offsets, 1, 500);
            for data in response.responses.iter().flat_map(|topic| &topic.partitions) {
                assert_eq!(data.error_code, 0, "a fetch was refused");
                // The last batch may be cut: it comes again.
                for batch in batch::batches(data.records.as_deref().unwrap_or_default()) {
                    let Ok((header, _)) = batch else { break };
                    offsets[data.partition_index as usize] = header.next_offset();
                }
            }
        }
    }

    fn fetch(&mut self, topic: &str, offsets: &[i64], min_bytes: i32, wait_ms: i32) -> FetchResponse {
        let partitions = offsets.iter().enumerate().map(|(index, offset)| {
            FetchPartition::default()
                .with_partition(index as i32)
                .with_fetch_offset(*offset)
                .with_partition_max_bytes(FETCH_PARTITION_BYTES)
        });
        let request = FetchRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_session_epoch(-1)
            .with_max_wait_ms(wait_ms)
            .with_min_bytes(min_bytes)
            .with_max_bytes(FETCH_BYTES)
            .with_topics(vec![
                FetchTopic::default().with_topic(name(topic)).with_partitions(partitions.collect()),
            ]);
        self.call(FETCH, &request)
    }

    pub fn create_topic(&mut self, topic: &str, partitions: i32) {
        let topic = CreatableTopic::default()
            .with_name(name(topic))
            .with_num_partitions(partitions)
            .with_replication_factor(1);
        let request = CreateTopicsRequest::default().with_timeout_ms(30_000).with_topics(vec![topic]);
        let response = self.call(5, &request);
        assert_eq!(response.topics[0].error_code, 0, "{:?}", response.topics[0].error_message);
    }

    pub fn delete_topic(&mut self, topic: &str) {
        let request =
            DeleteTopicsRequest::default().with_timeout_ms(30_000).with_topic_names(vec![name(topic)]);
        let response = self.call(5, &request);
        assert_eq!(response.responses[0].error_code, 0);
    }

    pub fn end_offset(&mut self, topic: &str) -> i64 {
        let partition = ListOffsetsPartition::default().with_partition_index(0).with_timestamp(-1);
        let topic = ListOffsetsTopic::default().with_name(name(topic)).with_partitions(vec![partition]);
        let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]);
        self.call(4, &request).topics[0].partitions[0].offset
    }

    fn call<R: Request + HeaderVersion>(&mut self, version: i16, request: &R) -> R::Response {
        self.correlation += 1;
        self.stream.write_all(&encode(version, self.correlation, request)).unwrap();
        self.receive::<R>(version)
    }

    fn receive<R: Request>(&mut self, version: i16) -> R::Response {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).unwrap();
        let length = u32::from_be_bytes(length) as usize;
        self.body.clear();
        (&mut self.stream).take(length as u64).read_to_end(&mut self.body).unwrap();
        assert_eq!(self.body.len(), length, "the connection ended in the middle of an answer");
        let mut body = Bytes::from(std::mem::take(&mut self.body));
        let header = <R::Response as HeaderVersion>::header_version(version);
        ResponseHeader::decode(&mut body, header).unwrap();
        R::Response::decode(&mut body, version).unwrap()
    }
}

/// Sends records one by one at a fixed rate while another connection consumes them. Gives the time from sending to
/// the acknowledgement, and to the consumer, of each.
pub fn latencies(
    address: SocketAddr,
    topic: &str,
    acks: i16,
    rate: u32,
    seconds: u32,
) -> (Vec<Duration>, Vec<Duration>) {
    let count = (rate * seconds) as usize;
    let begin = Instant::now();
    let consumer = std::thread::spawn({
        let topic = topic.to_owned();
        move || {
            let mut client = Client::connect(address);
            let (mut offset, mut latencies) = (0, Vec::with_capacity(count));
            while latencies.len() < count {
                let response = client.fetch(&topic, &[offset], 1, 500);
                let data = &response.responses[0].partitions[0];
                for batch in batch::batches(data.records.as_deref().unwrap_or_default()) {
                    let (header, bytes) = batch.unwrap();
                    offset = header.next_offset();
                    let records = batch::Records::read(bytes, 1 << 20).unwrap();
                    for record in records.iter() {
                        let sent =
                            u64::from_be_bytes(record.unwrap().value.unwrap()[..8].try_into().unwrap());
                        latencies.push(begin.elapsed() - Duration::from_nanos(sent));
                    }
                }
            }
            latencies
        }
    });
    let mut client = Client::connect(address);
    let mut acknowledged = Vec::with_capacity(count);
    for number in 0..count as u32 {
        let due = Duration::from_secs(1) * number / rate;
        std::thread::sleep(due.saturating_sub(begin.elapsed()));
        let sent = begin.elapsed();
        let mut body = [b'x'; 100];
        body[..8].copy_from_slice(&(sent.as_nanos() as u64).to_be_bytes());
        let mut builder = Builder::new(BuilderOptions::default());
        builder.push(now_ms(), None, Some(&body), std::iter::empty());
        let batch = Bytes::from(builder.finish());
        let load = Load { topic: name(topic), batches: vec![batch], records: 1, payload_bytes: 100 };
        client.produce_all(&load.frame(acks), 1);
        acknowledged.push(begin.elapsed() - sent);
    }
    (acknowledged, consumer.join().unwrap())
}

fn encode<R: Request + HeaderVersion>(version: i16, correlation: i32, request: &R) -> Vec<u8> {
    let mut bytes = BytesMut::from(&[0; 4][..]);
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation)
        .with_client_id(Some(StrBytes::from_static_str("bench")));
    header.encode(&mut bytes, R::header_version(version)).unwrap();
    request.encode(&mut bytes, version).unwrap();
    let length = (bytes.len() - 4) as u32;
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    bytes.to_vec()
}

fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as i64)
}
