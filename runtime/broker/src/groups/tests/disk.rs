//! The coordinator on a disk that is full, fails, or loses what was not synced.

use std::collections::BTreeMap;
use std::sync::Arc;

use flow_log::testing::{Rng, SimStorage};
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::{GroupId, OffsetCommitRequest, TopicName};

use crate::broker::Broker;
use crate::config::BrokerConfig;
use crate::groups::shard::{Reply, Request};
use crate::groups::{Caller, text};

const GROUPS: u64 = 7;

async fn start(disk: &SimStorage) -> Arc<Broker> {
    let mut config = BrokerConfig::new("/data");
    // Each of the broker's own partitions is files to make and to read again.
    config.topics.settings.insert("offsets.topic.num.partitions".to_owned(), "3".to_owned());
    Broker::start_on(Arc::new(disk.clone()), config).await.expect("a start")
}

fn group(number: u64) -> String {
    format!("g{number}")
}

/// The error code of an answer.
#[derive(Debug, PartialEq, Eq)]
struct Refused(i16);

async fn ask(broker: &Broker, group: &str, request: Request) -> Result<Reply, Refused> {
    let caller = Caller { client_id: Arc::from(""), host: Arc::from("/test"), version: 9 };
    broker.groups.request(group, caller, request).await.map_err(|error| Refused(error.code()))
}

/// Commits as a reader that is no member.
async fn commit(broker: &Broker, number: u64, offset: i64) -> Result<(), Refused> {
    let partition =
        OffsetCommitRequestPartition::default().with_committed_offset(offset).with_committed_leader_epoch(-1);
    let topic =
        OffsetCommitRequestTopic::default().with_name(TopicName(text("t"))).with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(text(&group(number))))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic]);
    let Reply::Commit(answer) = ask(broker, &group(number), Request::Commit(request)).await? else {
        panic!("another answer");
    };
    match answer.topics[0].partitions[0].error_code {
        0 => Ok(()),
        code => Err(Refused(code)),
    }
}

async fn committed(broker: &Broker, number: u64) -> Result<Option<i64>, Refused> {
    let asked = OffsetFetchRequestGroup::default()
        .with_group_id(GroupId(text(&group(number))))
        .with_member_epoch(-1)
        .with_topics(None);
    let request = Request::Fetch { group: asked, require_stable: false };
    let Reply::Fetch(answer) = ask(broker, &group(number), request).await? else {
        panic!("another answer");
    };
    match answer.error_code {
        0 => Ok(answer.topics.first().map(|topic| topic.partitions[0].committed_offset)),
        code => Err(Refused(code)),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_commits_and_room_heals_it() {
    let disk = SimStorage::new(1);
    let broker = start(&disk).await;
    commit(&broker, 0, 5).await.expect("a commit");
    disk.set_space(Some(0));
    assert!(commit(&broker, 0, 6).await.is_err());
    disk.set_space(None);
    // What was not written is not told either: the group is as the log has it.
    let found = loop {
        match committed(&broker, 0).await {
            Ok(found) => break found,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    assert_eq!(found, Some(5));
    commit(&broker, 0, 7).await.expect("a commit after there is room");
    assert_eq!(committed(&broker, 0).await, Ok(Some(7)));
    broker.groups.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_accepted_outlives_a_crash_at_any_moment() {
    for seed in 0..12 {
        let disk = SimStorage::new(seed);
        let mut rng = Rng::new(seed);
        let mut accepted: BTreeMap<u64, i64> = BTreeMap::new();
        let mut tried: BTreeMap<u64, i64> = BTreeMap::new();
        for life in 0..4i64 {
            let broker = start(&disk).await;
            for (number, offset) in &accepted {
                let found = committed(&broker, *number).await.expect("an answer").expect("an offset");
                assert!((*offset..=tried[number]).contains(&found), "seed {seed}: group {number}");
            }
            disk.fail_after(20 + rng.below(200));
            for step in 0..200 {
                let number = rng.below(GROUPS);
                let offset = life * 1000 + step;
                tried.insert(number, offset);
                match commit(&broker, number, offset).await {
                    Ok(()) => accepted.insert(number, offset),
                    Err(_) => break,
                };
            }
            // The power goes: whatever was not synced may be lost.
            disk.crash();
            broker.groups.stop().await;
        }
        assert!(!accepted.is_empty(), "seed {seed}: nothing was accepted");
    }
}
