//! Groups over the wire and from inside of the process, through restarts of the broker.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use common::{Client, start_with};
use flow_broker::{Broker, BrokerConfig, LocalTopic};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;
use tempfile::TempDir;

fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}

fn group(name: &str) -> GroupId {
    GroupId(text(name))
}

/// The first rebalance waits for nobody: a test has all its members in hand.
fn at_once(config: &mut BrokerConfig) {
    config.topics.settings.insert("group.initial.rebalance.delay.ms".into(), "0".into());
}

async fn broker_with(dir: &TempDir, topics: &[(&str, i32)]) -> Arc<Broker> {
    let broker = start_with(dir.path(), at_once).await;
    for (name, partitions) in topics {
        let settings = BTreeMap::new();
        let topic = LocalTopic { name: (*name).to_owned(), partitions: *partitions, settings, keep: true };
        broker.open_topic(topic).await.unwrap();
    }
    broker
}

/// Ends a broker and waits until it lets go of its directory.
async fn end(broker: Arc<Broker>) {
    broker.shutdown().await;
    let gone = Arc::downgrade(&broker);
    drop(broker);
    while gone.strong_count() > 0 {
        tokio::task::yield_now().await;
    }
}

fn join(member: &StrBytes) -> JoinGroupRequest {
    JoinGroupRequest::default()
        .with_group_id(group("g"))
        .with_session_timeout_ms(30_000)
        .with_rebalance_timeout_ms(30_000)
        .with_member_id(member.clone())
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![
            JoinGroupRequestProtocol::default()
                .with_name(text("range"))
                // Version 0, one topic `t`, no user data.
                .with_metadata(Bytes::from_static(b"\0\0\0\0\0\x01\0\x01t\xff\xff\xff\xff")),
        ])
}

fn commit(
    member: &StrBytes,
    generation: i32,
    topic: &str,
    partition: i32,
    offset: i64,
) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition::default()
        .with_partition_index(partition)
        .with_committed_offset(offset)
        .with_committed_leader_epoch(0)
        .with_committed_metadata(Some(text("note")));
    OffsetCommitRequest::default()
        .with_group_id(group("g"))
        .with_member_id(member.clone())
        .with_generation_id_or_member_epoch(generation)
        .with_topics(vec![
            OffsetCommitRequestTopic::default()
                .with_name(TopicName(text(topic)))
                .with_partitions(vec![partition]),
        ])
}

/// Becomes the only member of `g`; gives its id.
async fn become_member(client: &mut Client) -> StrBytes {
    let refused = client.call(9, join(&StrBytes::new())).await;
    assert_eq!(refused.error_code, ResponseError::MemberIdRequired.code());
    let joined = client.call(9, join(&refused.member_id)).await;
    assert_eq!((joined.error_code, joined.generation_id), (0, 1));
    assert_eq!(joined.leader, joined.member_id);
    let share = SyncGroupRequestAssignment::default()
        .with_member_id(joined.member_id.clone())
        .with_assignment(Bytes::from_static(b"mine"));
    let sync = SyncGroupRequest::default()
        .with_group_id(group("g"))
        .with_generation_id(1)
        .with_member_id(joined.member_id.clone())
        .with_assignments(vec![share]);
    let synced = client.call(5, sync).await;
    assert_eq!((synced.error_code, &synced.assignment[..]), (0, &b"mine"[..]));
    joined.member_id
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_and_its_offsets_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let broker = broker_with(&dir, &[("t", 2)]).await;
    let mut client = Client::connect(&broker).await;
    let member = become_member(&mut client).await;
    let code = |answer: &OffsetCommitResponse| answer.topics[0].partitions[0].error_code;
    let unknown = ResponseError::UnknownTopicOrPartition.code();
    for version in 2..=9 {
        assert_eq!(code(&client.call(version, commit(&member, 1, "t", 1, i64::from(version))).await), 0);
        assert_eq!(code(&client.call(version, commit(&member, 1, "t", 2, 1)).await), unknown);
        assert_eq!(code(&client.call(version, commit(&member, 1, "none", 0, 1)).await), unknown);
    }
    let refused = client.call(9, commit(&member, 2, "t", 1, 7)).await;
    assert_eq!(code(&refused), ResponseError::IllegalGeneration.code());
    drop(client);
    end(broker).await;

    let broker = start_with(dir.path(), at_once).await;
    let mut client = Client::connect(&broker).await;
    let beat =
        HeartbeatRequest::default().with_group_id(group("g")).with_generation_id(1).with_member_id(member);
    assert_eq!(client.call(4, beat).await.error_code, 0);
    for version in 1..=7 {
        let topic = OffsetFetchRequestTopic::default()
            .with_name(TopicName(text("t")))
            .with_partition_indexes(vec![0, 1]);
        let request = OffsetFetchRequest::default().with_group_id(group("g")).with_topics(Some(vec![topic]));
        let answer = client.call(version, request).await;
        let found: Vec<i64> = answer.topics[0].partitions.iter().map(|one| one.committed_offset).collect();
        assert_eq!(found, [-1, 9], "version {version}");
        assert_eq!(answer.topics[0].partitions[1].metadata.as_deref(), Some("note"));
    }
    for version in 8..=9 {
        let named = OffsetFetchRequestTopics::default()
            .with_name(TopicName(text("t")))
            .with_partition_indexes(vec![1]);
        let of = |name: &str, topics| {
            OffsetFetchRequestGroup::default()
                .with_group_id(group(name))
                .with_member_epoch(-1)
                .with_topics(topics)
        };
        let groups = vec![of("g", None), of("other", Some(vec![named]))];
        let answer = client.call(version, OffsetFetchRequest::default().with_groups(groups)).await;
        let offsets: Vec<i64> =
            answer.groups.iter().map(|one| one.topics[0].partitions[0].committed_offset).collect();
        assert_eq!(offsets, [9, -1], "version {version}");
    }
}

#[tokio::test]
async fn administrators_see_groups_as_in_kafka() {
    let dir = tempfile::tempdir().unwrap();
    let broker = broker_with(&dir, &[("t", 1)]).await;
    let mut client = Client::connect(&broker).await;
    for version in 0..=5 {
        let request = FindCoordinatorRequest::default()
            .with_key(text("g"))
            .with_coordinator_keys(vec![text("g"), text("h")]);
        let request = if version >= 4 {
            request.with_key(StrBytes::new())
        } else {
            request.with_coordinator_keys(Vec::new())
        };
        let answer = client.call(version, request).await;
        let port = i32::from(broker.address().port());
        if version >= 4 {
            assert_eq!(answer.coordinators.iter().map(|one| one.port).collect::<Vec<_>>(), [port, port]);
            assert_eq!(answer.coordinators[1].key.as_str(), "h");
        } else {
            assert_eq!((answer.error_code, answer.port), (0, port));
        }
    }
    let member = become_member(&mut client).await;
    for version in 0..=5 {
        let request =
            DescribeGroupsRequest::default().with_groups(vec![group("g"), group("none"), group("")]);
        let answer = client.call(version, request).await;
        let states: Vec<&str> = answer.groups.iter().map(|one| one.group_state.as_str()).collect();
        assert_eq!(states, ["Stable", "Dead", ""]);
        assert_eq!(answer.groups[2].error_code, ResponseError::InvalidGroupId.code());
        assert_eq!(answer.groups[0].members[0].member_id, member);
    }
    for (version, states, types, count) in [
        (0, vec![], vec![], 1),
        (4, vec!["stable"], vec![], 1),
        (4, vec!["Empty"], vec![], 0),
        (5, vec![], vec!["Consumer"], 0),
        (5, vec!["Stable"], vec!["Classic"], 1),
    ] {
        let names = |names: Vec<&str>| names.into_iter().map(text).collect();
        let request =
            ListGroupsRequest::default().with_states_filter(names(states)).with_types_filter(names(types));
        assert_eq!(client.call(version, request).await.groups.len(), count);
    }
    let delete = DeleteGroupsRequest::default().with_groups_names(vec![group("g"), group("none")]);
    let codes: Vec<i16> =
        client.call(2, delete.clone()).await.results.iter().map(|one| one.error_code).collect();
    assert_eq!(codes, [ResponseError::NonEmptyGroup.code(), ResponseError::GroupIdNotFound.code()]);
    for version in [0, 2] {
        let request = LeaveGroupRequest::default().with_group_id(group("g")).with_member_id(member.clone());
        let left = client.call(version, request).await.error_code;
        assert_eq!(left, if version == 0 { 0 } else { ResponseError::UnknownMemberId.code() });
    }
    assert_eq!(client.call(2, delete).await.results[0].error_code, 0);
}

#[tokio::test]
async fn a_member_of_the_new_protocol_is_given_a_topic_that_is_made_later() {
    let dir = tempfile::tempdir().unwrap();
    let broker = broker_with(&dir, &[]).await;
    let mut client = Client::connect(&broker).await;
    let beat = |epoch: i32| {
        ConsumerGroupHeartbeatRequest::default()
            .with_group_id(group("g"))
            .with_member_id(text("m"))
            .with_member_epoch(epoch)
            .with_rebalance_timeout_ms(30_000)
            .with_subscribed_topic_names(Some(vec![TopicName(text("t"))]))
            .with_topic_partitions(Some(Vec::new()))
    };
    let joined = client.call(1, beat(0)).await;
    assert_eq!(joined.error_code, 0);
    assert!(joined.assignment.is_some_and(|assignment| assignment.topic_partitions.is_empty()));
    let topic = LocalTopic { name: "t".into(), partitions: 3, settings: BTreeMap::new(), keep: true };
    broker.open_topic(topic).await.unwrap();
    // The coordinator hears of the topic a moment later.
    let mut epoch = joined.member_epoch;
    let assigned = loop {
        let answer = client.call(1, beat(epoch)).await;
        assert_eq!(answer.error_code, 0);
        epoch = answer.member_epoch;
        if let Some(topic) =
            answer.assignment.and_then(|assignment| assignment.topic_partitions.into_iter().next())
        {
            break topic.partitions;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(assigned, [0, 1, 2]);
    let described = client
        .call(1, ConsumerGroupDescribeRequest::default().with_group_ids(vec![group("g"), group("x")]))
        .await;
    assert_eq!(described.groups[0].members[0].assignment.topic_partitions[0].topic_name.as_str(), "t");
    assert_eq!(described.groups[1].error_code, ResponseError::GroupIdNotFound.code());
}
