//! Commits, transactions over them, and their end.

use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};

use super::*;

const DAY_MS: i64 = 24 * 3_600_000;

fn txn_commit(world: &mut World, producer: i64, generation: i32, partition: i32, offset: i64) -> i16 {
    let partition = TxnOffsetCommitRequestPartition::default()
        .with_partition_index(partition)
        .with_committed_offset(offset)
        .with_committed_metadata(Some(text("")));
    let request = TxnOffsetCommitRequest::default()
        .with_group_id(group(GROUP))
        .with_producer_id(ProducerId(producer))
        .with_generation_id(generation)
        .with_topics(vec![
            TxnOffsetCommitRequestTopic::default()
                .with_name(topic_name("t"))
                .with_partitions(vec![partition]),
        ]);
    let token = world.send(3, Request::TxnCommit(request));
    match world.reply(token) {
        Some(Reply::TxnCommit(answer)) => answer.topics[0].partitions[0].error_code,
        other => panic!("{other:?}"),
    }
}

fn end(world: &mut World, id: i64, commit: bool) {
    let token = Token(world.asked);
    world.asked += 1;
    world.step(Input::CompleteTransaction { token, producer: producer(id), coordinator_epoch: 0, commit });
    assert_eq!(world.reply(token), Some(Reply::TransactionCompleted));
}

#[test]
fn anybody_commits_to_an_empty_group_and_members_only_in_their_generation() {
    let mut world = World::new();
    assert_eq!(world.commit("", -1, 0, 7), 0);
    assert_eq!(world.fetch(0, true), (7, 0));
    assert_eq!(world.fetch(1, true), (-1, 0));
    let ids = world.stable_group(1);
    assert_eq!(world.commit("", -1, 0, 8), code(ResponseError::UnknownMemberId));
    assert_eq!(world.commit(&ids[0], 2, 0, 8), code(ResponseError::IllegalGeneration));
    assert_eq!(world.commit("who", 1, 0, 8), code(ResponseError::UnknownMemberId));
    assert_eq!(world.commit(&ids[0], 1, 0, 8), 0);
    world.restart();
    assert_eq!(world.fetch(0, false), (8, 0));
}

#[test]
fn commits_of_a_group_that_is_not_there_have_the_code_of_their_version() {
    let mut world = World::new();
    assert_eq!(world.commit_with(8, "m", 3, 0, 1, ""), code(ResponseError::IllegalGeneration));
    assert_eq!(world.commit_with(9, "m", 3, 0, 1, ""), code(ResponseError::GroupIdNotFound));
    assert!(world.shard.groups.is_empty());
}

#[test]
fn bad_commits_are_refused_one_by_one_and_leave_nothing() {
    let mut world = World::new();
    let huge = "x".repeat(4097);
    assert_eq!(world.commit_with(9, "", -1, 0, 1, &huge), code(ResponseError::OffsetMetadataTooLarge));
    assert_eq!(world.commit("", -1, -1, 1), code(ResponseError::UnknownTopicOrPartition));
    assert!(world.shard.groups.is_empty() && world.log.is_empty());
    assert_eq!(world.commit_with(9, "", -1, 0, 1, &huge[..4096]), 0);
}

#[test]
fn a_commit_must_wait_for_the_assignment_and_shows_that_its_member_lives() {
    let mut world = World::new();
    let ids = world.stable_group(1);
    for _ in 0..4 {
        world.pass(SESSION_MS / 2);
        assert_eq!(world.commit(&ids[0], 1, 0, 1), 0);
    }
    let token = world.send(9, join(&ids[0], None));
    assert_eq!(world.joined(token).generation_id, 2);
    assert_eq!(world.commit(&ids[0], 2, 0, 1), code(ResponseError::RebalanceInProgress));
}

#[test]
fn offsets_of_a_transaction_count_when_it_commits() {
    let mut world = World::new();
    assert_eq!(world.commit("", -1, 0, 1), 0);
    assert_eq!(txn_commit(&mut world, 9, -1, 0, 5), 0);
    assert_eq!(txn_commit(&mut world, 9, -1, 1, 6), 0);
    assert_eq!(world.fetch(0, false), (1, 0));
    assert_eq!(world.fetch(0, true), (-1, code(ResponseError::UnstableOffsetCommit)));
    world.restart();
    assert_eq!(world.fetch(0, true), (-1, code(ResponseError::UnstableOffsetCommit)));
    end(&mut world, 9, true);
    assert_eq!((world.fetch(0, true), world.fetch(1, true)), ((5, 0), (6, 0)));
    assert_eq!(txn_commit(&mut world, 9, -1, 0, 50), 0);
    end(&mut world, 9, false);
    assert_eq!(world.fetch(0, true), (5, 0));
    world.restart();
    assert_eq!((world.fetch(0, true), world.fetch(1, true)), ((5, 0), (6, 0)));
    assert!(world.shard.transactions.is_empty());
}

#[test]
fn a_transaction_does_not_undo_a_commit_made_after_its_own() {
    let mut world = World::new();
    assert_eq!(txn_commit(&mut world, 9, -1, 0, 5), 0);
    assert_eq!(world.commit("", -1, 0, 8), 0);
    end(&mut world, 9, true);
    assert_eq!(world.fetch(0, true), (8, 0));
    world.restart();
    assert_eq!(world.fetch(0, true), (8, 0));
}

#[test]
fn a_group_that_only_an_aborted_transaction_knew_is_gone_with_it() {
    let mut world = World::new();
    assert_eq!(txn_commit(&mut world, 9, 4, 0, 5), code(ResponseError::IllegalGeneration));
    assert_eq!(txn_commit(&mut world, 9, -1, 0, 5), 0);
    end(&mut world, 9, false);
    assert!(world.shard.groups.is_empty());
    world.restart();
    assert!(world.shard.groups.is_empty());
}

#[test]
fn offsets_age_only_while_a_group_has_no_member() {
    let mut world = World::new();
    let ids = world.stable_group(1);
    assert_eq!(world.commit(&ids[0], 1, 0, 3), 0);
    for _ in 0..(10 * DAY_MS / 5_000) {
        world.pass(5_000);
        assert_eq!(world.heartbeat(&ids[0], 1), 0);
    }
    assert_eq!(world.offset(0), Some(3));
    world.leave(&[(&ids[0], None)]);
    world.pass(6 * DAY_MS);
    assert_eq!(world.offset(0), Some(3));
    world.restart();
    world.pass(DAY_MS + 3_600_000);
    assert_eq!((world.offset(0), world.state().as_str()), (None, "none"));
    world.restart();
    assert!(world.shard.groups.is_empty());
}

#[test]
fn offsets_of_a_group_that_only_commits_age_from_each_commit_or_as_the_commit_says() {
    let mut world = World::new();
    assert_eq!(world.commit("", -1, 0, 3), 0);
    world.pass(4 * DAY_MS);
    assert_eq!(world.commit("", -1, 1, 3), 0);
    world.pass(4 * DAY_MS);
    assert_eq!((world.offset(0), world.offset(1)), (None, Some(3)));

    let request = OffsetCommitRequest::default()
        .with_group_id(group(GROUP))
        .with_generation_id_or_member_epoch(-1)
        .with_retention_time_ms(3_600_000)
        .with_topics(vec![OffsetCommitRequestTopic::default().with_name(topic_name("t")).with_partitions(
            vec![OffsetCommitRequestPartition::default().with_partition_index(2).with_committed_offset(1)],
        )]);
    world.send(2, Request::Commit(request));
    world.restart();
    world.pass(3_600_000 - 1_200_000);
    assert_eq!(world.offset(2), Some(1));
    world.pass(2_400_000);
    assert_eq!(world.offset(2), None);
}

#[test]
fn offsets_are_deleted_unless_the_group_reads_the_topic() {
    let mut world = World::new();
    // The consumer protocol's subscription to `t`: version 0, one name, no user data.
    let subscription = "\0\0\0\0\0\x01\0\x01t\0\0\0\0";
    let token = world.send(OLD_JOIN, Request::Join(join_of("", None, &[("range", subscription)])));
    world.pass(3_000);
    let id = world.joined(token).member_id.to_string();
    world.send(5, sync(&id, 1, &[]));
    assert_eq!(world.commit(&id, 1, 0, 3), 0);
    let delete = |world: &mut World| {
        let topic = OffsetDeleteRequestTopic::default()
            .with_name(topic_name("t"))
            .with_partitions(vec![OffsetDeleteRequestPartition::default().with_partition_index(0)]);
        let request = OffsetDeleteRequest::default().with_group_id(group(GROUP)).with_topics(vec![topic]);
        let token = world.send(0, Request::DeleteOffsets(request));
        match world.reply(token) {
            Some(Reply::DeleteOffsets(answer)) => {
                answer.topics.first().map_or(answer.error_code, |topic| topic.partitions[0].error_code)
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(delete(&mut world), code(ResponseError::GroupSubscribedToTopic));
    world.leave(&[(&id, None)]);
    world.pass(REBALANCE_MS);
    assert_eq!(delete(&mut world), 0);
    assert_eq!(world.offset(0), None);
    world.restart();
    assert_eq!(world.offset(0), None);
    world.pass(2 * DAY_MS);
    assert_eq!(delete(&mut world), code(ResponseError::GroupIdNotFound));
}

#[test]
fn offsets_of_deleted_topics_go_pending_ones_too() {
    let mut world = World::new();
    assert_eq!(world.commit("", -1, 0, 3), 0);
    assert_eq!(txn_commit(&mut world, 9, -1, 1, 5), 0);
    world.step(Input::TopicsDeleted(vec![Arc::from("t")]));
    end(&mut world, 9, true);
    assert_eq!((world.offset(0), world.offset(1)), (None, None));
    world.restart();
    assert_eq!((world.offset(0), world.offset(1)), (None, None));
}
