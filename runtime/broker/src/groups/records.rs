//! The records of `__consumer_offsets` as Apache Kafka 3.9 writes them: a key that names what changes and a
//! value with the new state, none for «gone». Tools that read the topic of a Kafka broker can read this one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::codec::{CodecError, Reader, Writer};

/// Partitions by topic id.
pub type Assignment = BTreeMap<Uuid, BTreeSet<i32>>;

/// One change of the coordinator's state, decoded. `None` as value takes the thing away.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    Offset {
        group: Arc<str>,
        topic: Arc<str>,
        partition: i32,
        value: Option<OffsetValue>,
    },
    Classic {
        group: Arc<str>,
        value: Option<ClassicValue>,
    },
    /// The epoch of a group of the new protocol.
    Epoch {
        group: Arc<str>,
        value: Option<i32>,
    },
    /// The topics that a group of the new protocol reads, as they were when its epoch was set.
    Topics {
        group: Arc<str>,
        value: Option<BTreeMap<Arc<str>, TopicValue>>,
    },
    Member {
        group: Arc<str>,
        member: Arc<str>,
        value: Option<MemberValue>,
    },
    TargetEpoch {
        group: Arc<str>,
        value: Option<i32>,
    },
    Target {
        group: Arc<str>,
        member: Arc<str>,
        value: Option<Assignment>,
    },
    Current {
        group: Arc<str>,
        member: Arc<str>,
        value: Option<CurrentValue>,
    },
    /// A record of a later Kafka (a regex, a share group): kept in the log, no part of the state.
    Other,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetValue {
    pub offset: i64,
    pub leader_epoch: i32,
    pub metadata: Arc<str>,
    pub commit_timestamp_ms: i64,
    /// Set only by commits of version 2 to 4 that name a retention time.
    pub expire_timestamp_ms: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassicValue {
    pub protocol_type: Arc<str>,
    pub generation: i32,
    pub protocol: Option<Arc<str>>,
    pub leader: Option<Arc<str>>,
    pub state_timestamp_ms: i64,
    pub members: Vec<ClassicMemberValue>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassicMemberValue {
    pub member: Arc<str>,
    pub instance: Option<Arc<str>>,
    pub client_id: Arc<str>,
    pub client_host: Arc<str>,
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    pub subscription: Bytes,
    pub assignment: Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicValue {
    pub id: Uuid,
    pub partitions: i32,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MemberValue {
    pub instance: Option<Arc<str>>,
    pub rack: Option<Arc<str>>,
    pub client_id: Arc<str>,
    pub client_host: Arc<str>,
    pub topics: BTreeSet<Arc<str>>,
    pub regex: Option<Arc<str>>,
    pub rebalance_timeout_ms: i32,
    pub assignor: Option<Arc<str>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CurrentValue {
    pub epoch: i32,
    pub previous_epoch: i32,
    pub state: MemberState,
    pub assigned: Assignment,
    pub revoking: Assignment,
}

/// Where a member of the new protocol stands on its way to its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberState {
    /// It has what the target of its epoch gives it.
    Stable,
    /// It must give partitions back before its epoch moves.
    Unrevoked,
    /// It waits for partitions that other members still hold.
    Unreleased,
}

/// What goes to the log: a key, and a value or a tombstone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub key: Vec<u8>,
    pub value: Option<Vec<u8>>,
}

const OFFSET_KEY: i16 = 1;
const CLASSIC_KEY: i16 = 2;
const EPOCH_KEY: i16 = 3;
const TOPICS_KEY: i16 = 4;
const MEMBER_KEY: i16 = 5;
const TARGET_EPOCH_KEY: i16 = 6;
const TARGET_KEY: i16 = 7;
const CURRENT_KEY: i16 = 8;

/// The version of OffsetCommitValue with a leader epoch, and the only one with an expiry time.
const OFFSET_VALUE: i16 = 3;
const OFFSET_VALUE_EXPIRES: i16 = 1;
/// GroupMetadataValue with group instance ids.
const CLASSIC_VALUE: i16 = 3;

/// The bytes of a change. `Change::Other` has none: it is never made here.
pub fn encode(change: &Change) -> Option<Record> {
    let key_of = |version: i16, names: &[&str]| {
        let mut key = Writer::versioned(version);
        names.iter().for_each(|name| key.string(name, false));
        key
    };
    let (key, value) = match change {
        Change::Offset { group, topic, partition, value } => {
            let mut key = key_of(OFFSET_KEY, &[group, topic]);
            key.i32(*partition);
            (key, value.as_ref().map(encode_offset))
        }
        Change::Classic { group, value } => {
            (key_of(CLASSIC_KEY, &[group]), value.as_ref().map(encode_classic))
        }
        Change::Epoch { group, value } => (key_of(EPOCH_KEY, &[group]), value.map(encode_epoch)),
        Change::Topics { group, value } => (key_of(TOPICS_KEY, &[group]), value.as_ref().map(encode_topics)),
        Change::Member { group, member, value } => {
            (key_of(MEMBER_KEY, &[group, member]), value.as_ref().map(encode_member))
        }
        Change::TargetEpoch { group, value } => (key_of(TARGET_EPOCH_KEY, &[group]), value.map(encode_epoch)),
        Change::Target { group, member, value } => {
            (key_of(TARGET_KEY, &[group, member]), value.as_ref().map(encode_target))
        }
        Change::Current { group, member, value } => {
            (key_of(CURRENT_KEY, &[group, member]), value.as_ref().map(encode_current))
        }
        Change::Other => return None,
    };
    Some(Record { key: key.out, value: value.map(|value| value.out) })
}

fn encode_offset(value: &OffsetValue) -> Writer {
    let version = if value.expire_timestamp_ms.is_some() { OFFSET_VALUE_EXPIRES } else { OFFSET_VALUE };
    let mut out = Writer::versioned(version);
    out.i64(value.offset);
    if version == OFFSET_VALUE {
        out.i32(value.leader_epoch);
    }
    out.string(&value.metadata, false);
    out.i64(value.commit_timestamp_ms);
    if let Some(at) = value.expire_timestamp_ms {
        out.i64(at);
    }
    out
}

fn encode_classic(value: &ClassicValue) -> Writer {
    let mut out = Writer::versioned(CLASSIC_VALUE);
    out.string(&value.protocol_type, false);
    out.i32(value.generation);
    out.nullable_string(value.protocol.as_deref(), false);
    out.nullable_string(value.leader.as_deref(), false);
    out.i64(value.state_timestamp_ms);
    out.count(value.members.len(), false);
    for member in &value.members {
        out.string(&member.member, false);
        out.nullable_string(member.instance.as_deref(), false);
        out.string(&member.client_id, false);
        out.string(&member.client_host, false);
        out.i32(member.rebalance_timeout_ms);
        out.i32(member.session_timeout_ms);
        out.bytes(&member.subscription, false);
        out.bytes(&member.assignment, false);
    }
    out
}

fn encode_epoch(epoch: i32) -> Writer {
    let mut out = Writer::versioned(0);
    out.i32(epoch);
    out.no_tags();
    out
}

fn encode_topics(topics: &BTreeMap<Arc<str>, TopicValue>) -> Writer {
    let mut out = Writer::versioned(0);
    out.count(topics.len(), true);
    for (name, topic) in topics {
        out.uuid(topic.id);
        out.string(name, true);
        out.i32(topic.partitions);
        out.count(0, true); // no racks known
        out.no_tags();
    }
    out.no_tags();
    out
}

fn encode_member(value: &MemberValue) -> Writer {
    let mut out = Writer::versioned(0);
    out.nullable_string(value.instance.as_deref(), true);
    out.nullable_string(value.rack.as_deref(), true);
    out.string(&value.client_id, true);
    out.string(&value.client_host, true);
    out.count(value.topics.len(), true);
    value.topics.iter().for_each(|topic| out.string(topic, true));
    out.nullable_string(value.regex.as_deref(), true);
    out.i32(value.rebalance_timeout_ms);
    out.nullable_string(value.assignor.as_deref(), true);
    out.no_tags();
    out
}

fn encode_partitions(out: &mut Writer, assignment: &Assignment) {
    out.count(assignment.len(), true);
    for (topic, partitions) in assignment {
        out.uuid(*topic);
        out.count(partitions.len(), true);
        partitions.iter().for_each(|partition| out.i32(*partition));
        out.no_tags();
    }
}

fn encode_target(value: &Assignment) -> Writer {
    let mut out = Writer::versioned(0);
    encode_partitions(&mut out, value);
    out.no_tags();
    out
}

fn encode_current(value: &CurrentValue) -> Writer {
    let mut out = Writer::versioned(0);
    out.i32(value.epoch);
    out.i32(value.previous_epoch);
    out.i8(match value.state {
        MemberState::Stable => 0,
        MemberState::Unrevoked => 1,
        MemberState::Unreleased => 2,
    });
    encode_partitions(&mut out, &value.assigned);
    encode_partitions(&mut out, &value.revoking);
    out.no_tags();
    out
}

/// Reads a record back. Fails on bytes that no Kafka wrote; a kind that is only newer gives [`Change::Other`].
pub fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Change, CodecError> {
    let key = &mut Reader::new(key);
    let version = key.i16()?;
    match version {
        0 | OFFSET_KEY => Ok(Change::Offset {
            group: key.string(false)?,
            topic: key.string(false)?,
            partition: key.i32()?,
            value: value.map(decode_offset).transpose()?,
        }),
        CLASSIC_KEY => {
            Ok(Change::Classic { group: key.string(false)?, value: value.map(decode_classic).transpose()? })
        }
        EPOCH_KEY => {
            Ok(Change::Epoch { group: key.string(false)?, value: value.map(decode_epoch).transpose()? })
        }
        TOPICS_KEY => {
            Ok(Change::Topics { group: key.string(false)?, value: value.map(decode_topics).transpose()? })
        }
        MEMBER_KEY => Ok(Change::Member {
            group: key.string(false)?,
            member: key.string(false)?,
            value: value.map(decode_member).transpose()?,
        }),
        TARGET_EPOCH_KEY => {
            Ok(Change::TargetEpoch { group: key.string(false)?, value: value.map(decode_epoch).transpose()? })
        }
        TARGET_KEY => Ok(Change::Target {
            group: key.string(false)?,
            member: key.string(false)?,
            value: value.map(decode_target).transpose()?,
        }),
        CURRENT_KEY => Ok(Change::Current {
            group: key.string(false)?,
            member: key.string(false)?,
            value: value.map(decode_current).transpose()?,
        }),
        version if version > CURRENT_KEY => Ok(Change::Other),
        version => Err(CodecError::Version(version)),
    }
}

fn decode_offset(bytes: &[u8]) -> Result<OffsetValue, CodecError> {
    let mut from = Reader::new(bytes);
    let version = from.i16()?;
    if !(0..=4).contains(&version) {
        return Err(CodecError::Version(version));
    }
    let flexible = version >= 4;
    Ok(OffsetValue {
        offset: from.i64()?,
        leader_epoch: if version >= 3 { from.i32()? } else { -1 },
        metadata: from.string(flexible)?,
        commit_timestamp_ms: from.i64()?,
        expire_timestamp_ms: if version == OFFSET_VALUE_EXPIRES {
            Some(from.i64()?).filter(|at| *at >= 0)
        } else {
            None
        },
    })
}

fn decode_classic(bytes: &[u8]) -> Result<ClassicValue, CodecError> {
    let mut from = Reader::new(bytes);
    let version = from.i16()?;
    if !(0..=4).contains(&version) {
        return Err(CodecError::Version(version));
    }
    let flexible = version >= 4;
    let mut value = ClassicValue {
        protocol_type: from.string(flexible)?,
        generation: from.i32()?,
        protocol: from.nullable_string(flexible)?,
        leader: from.nullable_string(flexible)?,
        state_timestamp_ms: if version >= 2 { from.i64()? } else { -1 },
        members: Vec::new(),
    };
    for _ in 0..from.count(flexible)? {
        let member = from.string(flexible)?;
        let instance = if version >= 3 { from.nullable_string(flexible)? } else { None };
        let client_id = from.string(flexible)?;
        let client_host = from.string(flexible)?;
        let rebalance_timeout_ms = if version >= 1 { from.i32()? } else { -1 };
        let session_timeout_ms = from.i32()?;
        value.members.push(ClassicMemberValue {
            member,
            instance,
            client_id,
            client_host,
            // Version 0 knew one time for both.
            rebalance_timeout_ms: if rebalance_timeout_ms < 0 {
                session_timeout_ms
            } else {
                rebalance_timeout_ms
            },
            session_timeout_ms,
            subscription: Bytes::copy_from_slice(from.bytes(flexible)?),
            assignment: Bytes::copy_from_slice(from.bytes(flexible)?),
        });
        if flexible {
            from.skip_tags()?;
        }
    }
    Ok(value)
}

fn version_zero(from: &mut Reader<'_>) -> Result<(), CodecError> {
    match from.i16()? {
        0 => Ok(()),
        version => Err(CodecError::Version(version)),
    }
}

fn decode_epoch(bytes: &[u8]) -> Result<i32, CodecError> {
    let mut from = Reader::new(bytes);
    version_zero(&mut from)?;
    from.i32()
}

fn decode_topics(bytes: &[u8]) -> Result<BTreeMap<Arc<str>, TopicValue>, CodecError> {
    let mut from = Reader::new(bytes);
    version_zero(&mut from)?;
    let mut topics = BTreeMap::new();
    for _ in 0..from.count(true)? {
        let id = from.uuid()?;
        let name = from.string(true)?;
        let partitions = from.i32()?;
        for _ in 0..from.count(true)? {
            from.i32()?;
            for _ in 0..from.count(true)? {
                from.string(true)?;
            }
            from.skip_tags()?;
        }
        from.skip_tags()?;
        topics.insert(name, TopicValue { id, partitions });
    }
    Ok(topics)
}

fn decode_member(bytes: &[u8]) -> Result<MemberValue, CodecError> {
    let mut from = Reader::new(bytes);
    version_zero(&mut from)?;
    let instance = from.nullable_string(true)?;
    let rack = from.nullable_string(true)?;
    let client_id = from.string(true)?;
    let client_host = from.string(true)?;
    let topics = (0..from.count(true)?).map(|_| from.string(true)).collect::<Result<_, _>>()?;
    Ok(MemberValue {
        instance,
        rack,
        client_id,
        client_host,
        topics,
        regex: from.nullable_string(true)?,
        rebalance_timeout_ms: from.i32()?,
        assignor: from.nullable_string(true)?,
    })
}

fn decode_partitions(from: &mut Reader<'_>) -> Result<Assignment, CodecError> {
    let mut assignment = Assignment::new();
    for _ in 0..from.count(true)? {
        let topic = from.uuid()?;
        let partitions = (0..from.count(true)?).map(|_| from.i32()).collect::<Result<_, _>>()?;
        from.skip_tags()?;
        assignment.insert(topic, partitions);
    }
    Ok(assignment)
}

fn decode_target(bytes: &[u8]) -> Result<Assignment, CodecError> {
    let mut from = Reader::new(bytes);
    version_zero(&mut from)?;
    decode_partitions(&mut from)
}

fn decode_current(bytes: &[u8]) -> Result<CurrentValue, CodecError> {
    let mut from = Reader::new(bytes);
    version_zero(&mut from)?;
    Ok(CurrentValue {
        epoch: from.i32()?,
        previous_epoch: from.i32()?,
        state: match from.i8()? {
            1 => MemberState::Unrevoked,
            2 => MemberState::Unreleased,
            _ => MemberState::Stable,
        },
        assigned: decode_partitions(&mut from)?,
        revoking: decode_partitions(&mut from)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Arc<str> {
        Arc::from(text)
    }

    fn some_of_each() -> Vec<Change> {
        let topic = Uuid::from_u128(7);
        let group = name("g");
        let assignment = Assignment::from([(topic, BTreeSet::from([0, 3]))]);
        let offset = OffsetValue {
            offset: 42,
            leader_epoch: 5,
            metadata: name("m"),
            commit_timestamp_ms: 1000,
            expire_timestamp_ms: None,
        };
        let expiring = OffsetValue { leader_epoch: -1, expire_timestamp_ms: Some(2000), ..offset.clone() };
        let member = ClassicMemberValue {
            member: name("m-1"),
            instance: Some(name("i")),
            client_id: name("c"),
            client_host: name("/127.0.0.1"),
            rebalance_timeout_ms: 300_000,
            session_timeout_ms: 10_000,
            subscription: Bytes::from_static(b"\0\x01"),
            assignment: Bytes::new(),
        };
        let (group_of, member_of) = (|| group.clone(), || name("m-1"));
        vec![
            Change::Offset { group: group_of(), topic: name("t"), partition: 3, value: Some(offset) },
            Change::Offset { group: group_of(), topic: name("t"), partition: 3, value: Some(expiring) },
            Change::Offset { group: group_of(), topic: name("t"), partition: 3, value: None },
            Change::Classic {
                group: group_of(),
                value: Some(ClassicValue {
                    protocol_type: name("consumer"),
                    generation: 4,
                    protocol: Some(name("range")),
                    leader: None,
                    state_timestamp_ms: 9,
                    members: vec![member],
                }),
            },
            Change::Epoch { group: group_of(), value: Some(3) },
            Change::Topics {
                group: group_of(),
                value: Some(BTreeMap::from([(name("t"), TopicValue { id: topic, partitions: 6 })])),
            },
            Change::Member {
                group: group_of(),
                member: member_of(),
                value: Some(MemberValue {
                    topics: BTreeSet::from([name("a"), name("b")]),
                    regex: Some(name("a.*")),
                    rebalance_timeout_ms: 5,
                    ..MemberValue::default()
                }),
            },
            Change::TargetEpoch { group: group_of(), value: Some(2) },
            Change::Target { group: group_of(), member: member_of(), value: Some(assignment.clone()) },
            Change::Current {
                group: group_of(),
                member: member_of(),
                value: Some(CurrentValue {
                    epoch: 3,
                    previous_epoch: 2,
                    state: MemberState::Unrevoked,
                    assigned: assignment.clone(),
                    revoking: assignment,
                }),
            },
            Change::Current { group: group_of(), member: member_of(), value: None },
        ]
    }

    #[test]
    fn every_change_comes_back_and_every_cut_is_an_error() {
        for change in some_of_each() {
            let record = encode(&change).unwrap();
            assert_eq!(decode(&record.key, record.value.as_deref()).unwrap(), change);
            for cut in 0..record.key.len() {
                assert!(
                    decode(&record.key[..cut], record.value.as_deref()).is_err(),
                    "{change:?} cut at {cut}"
                );
            }
            let value = record.value.unwrap_or_default();
            // The tags at the very end may be missing without harm.
            for cut in 0..value.len().saturating_sub(1) {
                let _ = decode(&record.key, Some(&value[..cut]));
            }
        }
    }

    #[test]
    fn the_bytes_are_those_of_kafka() {
        let change = Change::Offset {
            group: name("g"),
            topic: name("t"),
            partition: 1,
            value: Some(OffsetValue {
                offset: 2,
                leader_epoch: 3,
                metadata: name("x"),
                commit_timestamp_ms: 4,
                expire_timestamp_ms: None,
            }),
        };
        let record = encode(&change).unwrap();
        assert_eq!(record.key, b"\0\x01\0\x01g\0\x01t\0\0\0\x01");
        assert_eq!(record.value.unwrap(), b"\0\x03\0\0\0\0\0\0\0\x02\0\0\0\x03\0\x01x\0\0\0\0\0\0\0\x04");
        let epoch = encode(&Change::Epoch { group: name("g"), value: Some(3) }).unwrap();
        assert_eq!(
            (epoch.key.as_slice(), epoch.value.as_deref()),
            (&b"\0\x03\0\x01g"[..], Some(&b"\0\0\0\0\0\x03\0"[..]))
        );
    }

    #[test]
    fn a_kind_of_a_later_kafka_is_passed_over() {
        assert_eq!(decode(&[0, 16, 0, 0], None), Ok(Change::Other));
        assert_eq!(decode(&[0xff, 0xff], None), Err(CodecError::Version(-1)));
    }
}
