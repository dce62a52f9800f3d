//! The tables against the decoder and encoder of `kafka-protocol`, which are generated from the same descriptions by
//! somebody else: a missing field, a wrong version or a wrong size shows as a disagreement.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, Request};

use super::*;

/// Random numbers that are the same in every run (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

/// Writes a message by the table.
struct Writer {
    bytes: Vec<u8>,
    random: Random,
    version: i16,
    flexible: bool,
    nulls: bool,
}

impl Writer {
    fn fields(&mut self, fields: &[Field]) {
        let version = self.version;
        let here = |field: &&Field| field.low <= version && version <= field.high;
        for field in fields.iter().filter(here).filter(|field| field.tag.is_none()) {
            self.kind(&field.kind);
        }
        if self.flexible {
            let known = fields.iter().filter(here).filter(|field| field.tag.is_some());
            let known: Vec<_> = known.collect();
            self.varint(known.len() + 1);
            for field in known {
                let mut inner = Writer { bytes: Vec::new(), random: Random(self.random.next()), ..*self };
                inner.kind(&field.kind);
                self.varint(field.tag.unwrap() as usize);
                self.varint(inner.bytes.len());
                self.bytes.extend(inner.bytes);
            }
            // One that nobody knows.
            self.varint(77);
            self.varint(3);
            self.bytes.extend([1, 2, 3]);
        }
    }

    fn kind(&mut self, kind: &Kind) {
        match kind {
            // Zeros and ones are in the range of every number and flag.
            Kind::Fixed(size) => {
                let byte = self.random.below(2) as u8;
                self.bytes.extend(std::iter::repeat_n(byte, *size));
            }
            Kind::Text => {
                let length = self.length(true);
                self.bytes.extend(std::iter::repeat_n(b'x', length));
            }
            Kind::Bytes => {
                let length = self.length(false);
                self.bytes.extend(std::iter::repeat_n(0xff, length));
            }
            Kind::Struct(fields) => self.fields(fields),
            Kind::Optional(fields) => {
                let there = self.random.below(2) == 1;
                self.bytes.push(if there { 1 } else { 0xff });
                if there {
                    self.fields(fields);
                }
            }
            Kind::Array(of) => {
                for _ in 0..self.length(false) {
                    self.kind(of);
                }
            }
        }
    }

    fn length(&mut self, short: bool) -> usize {
        let null = self.nulls && self.random.below(8) == 0;
        let length = if null { 0 } else { self.random.below(4) };
        match (self.flexible, short) {
            (true, _) => self.varint(if null { 0 } else { length + 1 }),
            (false, true) => self.bytes.extend(if null { -1i16 } else { length as i16 }.to_be_bytes()),
            (false, false) => self.bytes.extend(if null { -1i32 } else { length as i32 }.to_be_bytes()),
        }
        length
    }

    fn varint(&mut self, mut value: usize) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }
}

fn write(message: &Message, version: i16, seed: u64, nulls: bool) -> Vec<u8> {
    let flexible = version >= message.flexible;
    let mut writer = Writer { bytes: Vec::new(), random: Random(seed), version, flexible, nulls };
    writer.fields(message.fields);
    writer.bytes
}

fn check<M: Decodable + Encodable + Default>(message: &Message, name: &str, version: i16) {
    let mut encoded = BytesMut::new();
    if M::default().encode(&mut encoded, version).is_ok() {
        assert_eq!(walk(message, version, &encoded), Ok(encoded.len()), "default {name} {version}");
    }
    for seed in 0..20 {
        let bytes = write(message, version, seed, false);
        let context = || format!("{name} {version}, seed {seed}: {bytes:02x?}");
        assert_eq!(walk(message, version, &bytes), Ok(bytes.len()), "{}", context());
        let mut rest = Bytes::copy_from_slice(&bytes);
        let decoded = M::decode(&mut rest, version).unwrap_or_else(|e| panic!("{}: {e}", context()));
        assert!(rest.is_empty(), "{} bytes left of {}", rest.len(), context());
        let mut again = BytesMut::new();
        decoded.encode(&mut again, version).unwrap_or_else(|e| panic!("{}: {e}", context()));
        assert_eq!(walk(message, version, &again), Ok(again.len()), "encoded again: {}", context());
        agree::<M>(message, name, version, &write(message, version, seed, true));
        damage::<M>(message, name, version, bytes, seed);
    }
}

/// Where walk and decoder both accept, they end at the same byte; and the decoder does not panic.
fn agree<M: Decodable>(message: &Message, name: &str, version: i16, bytes: &[u8]) {
    let Ok(walked) = walk(message, version, bytes) else { return };
    let mut rest = Bytes::copy_from_slice(bytes);
    if M::decode(&mut rest, version).is_ok() {
        assert_eq!(walked, bytes.len() - rest.len(), "{name} {version}: {bytes:02x?}");
    }
}

/// Cuts and changes a valid message.
fn damage<M: Decodable>(message: &Message, name: &str, version: i16, bytes: Vec<u8>, seed: u64) {
    let mut random = Random(seed ^ 0xdead);
    for _ in 0..30 {
        let mut bytes = bytes.clone();
        for _ in 0..=random.below(3) {
            if bytes.is_empty() {
                break;
            }
            let at = random.below(bytes.len());
            match random.below(5) {
                0 => bytes.truncate(at),
                1 => bytes[at] = 0xff,
                2 => bytes[at] = 0x7f,
                3 => bytes[at] = bytes[at].wrapping_add(1),
                _ => bytes[at] = random.next() as u8,
            }
        }
        agree::<M>(message, name, version, &bytes);
    }
}

macro_rules! check {
    ($($request:ident)*) => {{
        let mut checked = 0;
        $(
            let key = <$request as Request>::KEY;
            let (request, response) = (requests::shape(key).unwrap(), responses::shape(key).unwrap());
            // What the decoder knows and Kafka 3.9 does not is not advertised.
            let versions = <$request as kafka_protocol::protocol::Message>::VERSIONS;
            for version in versions.min..=versions.max.min(newest(key)) {
                check::<$request>(request, stringify!($request), version);
                check::<<$request as Request>::Response>(response, stringify!($request), version);
                checked += 1;
            }
        )*
        checked
    }};
}

#[test]
fn tables_agree_with_the_decoder_for_every_api_and_version() {
    let checked = check!(
        ProduceRequest FetchRequest ListOffsetsRequest MetadataRequest OffsetCommitRequest OffsetFetchRequest
        FindCoordinatorRequest JoinGroupRequest HeartbeatRequest LeaveGroupRequest SyncGroupRequest
        DescribeGroupsRequest ListGroupsRequest SaslHandshakeRequest ApiVersionsRequest CreateTopicsRequest
        DeleteTopicsRequest DeleteRecordsRequest InitProducerIdRequest OffsetForLeaderEpochRequest
        AddPartitionsToTxnRequest AddOffsetsToTxnRequest EndTxnRequest WriteTxnMarkersRequest
        TxnOffsetCommitRequest DescribeAclsRequest CreateAclsRequest DeleteAclsRequest DescribeConfigsRequest
        AlterConfigsRequest AlterReplicaLogDirsRequest DescribeLogDirsRequest SaslAuthenticateRequest
        CreatePartitionsRequest DeleteGroupsRequest ElectLeadersRequest IncrementalAlterConfigsRequest
        AlterPartitionReassignmentsRequest ListPartitionReassignmentsRequest OffsetDeleteRequest
        DescribeClientQuotasRequest AlterClientQuotasRequest DescribeUserScramCredentialsRequest
        AlterUserScramCredentialsRequest DescribeClusterRequest DescribeProducersRequest
        DescribeTransactionsRequest ListTransactionsRequest ConsumerGroupHeartbeatRequest
        ConsumerGroupDescribeRequest DescribeTopicPartitionsRequest
    );
    assert!(checked > 150, "{checked} versions");
}

#[test]
fn every_advertised_version_has_a_shape_that_was_checked() {
    for api in crate::api::APIS {
        assert!(requests::shape(api.key).is_some() && responses::shape(api.key).is_some(), "{}", api.name);
        assert!(api.versions.max <= newest(api.key), "{}", api.name);
    }
}

#[test]
fn an_array_cannot_promise_more_than_what_is_there() {
    // Metadata, version 1: two billion topics in a request of four bytes. The decoder reserved memory for them all.
    let bytes = i32::MAX.to_be_bytes();
    let error = ShapeError::Length { at: 4, length: i64::from(i32::MAX) };
    assert_eq!(check_request(3, 1, &bytes), Err(error));
}

#[test]
fn elements_are_bounded_however_long_the_message_is() {
    // Metadata, version 1: every topic is an empty name of two bytes.
    let topics = ELEMENTS_MAX as i32 + 1;
    let mut bytes = topics.to_be_bytes().to_vec();
    bytes.resize(4 + 2 * topics as usize, 0);
    assert_eq!(check_request(3, 1, &bytes), Err(ShapeError::Elements));
}

/// The inputs of the fuzz target `request`: for every API a request of its oldest and of its newest version.
fn corpus() -> Vec<Vec<u8>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fuzz/corpus_request");
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = paths.collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

#[test]
fn the_corpus_is_taken_and_its_neighbours_do_not_panic() {
    let corpus = corpus();
    assert!(corpus.len() >= 60, "{} requests", corpus.len());
    for frame in &corpus {
        crate::wire::check_request(frame).unwrap_or_else(|error| panic!("{frame:02x?}: {error}"));
    }
    let mut random = Random(1);
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..20_000 {
        let mut frame = corpus[random.below(corpus.len())].clone();
        let other = &corpus[random.below(corpus.len())];
        for _ in 0..=random.below(4) {
            let at = random.below(frame.len() + 1);
            match random.below(7) {
                0 => frame.truncate(at),
                1 => frame.insert(at, random.next() as u8),
                2 => frame.splice(at.., other[random.below(other.len())..].iter().copied()).for_each(drop),
                3 if at < frame.len() => frame[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
                4 if at < frame.len() => frame[at] ^= 1 << random.below(8),
                5 if at + 4 <= frame.len() => frame[at..at + 4].copy_from_slice(&i32::MAX.to_be_bytes()),
                _ if at < frame.len() => frame[at] = random.next() as u8,
                _ => {}
            }
        }
        match crate::wire::check_request(&frame) {
            Ok(()) => taken += 1,
            Err(_) => refused += 1,
        }
    }
    assert!(taken > 1000 && refused > 1000, "{taken} taken, {refused} refused");
}
