//! Histories of groups with a clock and a log made of memory: by hand in the files beside this one, by chance in
//! [`simulation`].

mod classic;
mod consumer;
mod disk;
mod offsets;
mod simulation;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::shard::{Entry, Input, Outputs, Producer, Reply, Request, Shard, Token, Topics};
use super::{Caller, Config, text};

const GROUP: &str = "g";
/// Before KIP-394: a join needs no id handed out first.
const OLD_JOIN: i16 = 3;
const SESSION_MS: i64 = 10_000;
const REBALANCE_MS: i64 = 60_000;

/// A shard, its log, and the answers it gave.
struct World {
    shard: Shard,
    config: Arc<Config>,
    topics: Arc<Topics>,
    log: Vec<Entry>,
    now_ms: i64,
    asked: u64,
    replies: BTreeMap<Token, Reply>,
}

impl World {
    fn new() -> World {
        World::with(Config::default())
    }

    fn with(config: Config) -> World {
        let (config, topics) = (Arc::new(config), Arc::new(Topics::default()));
        let mut world = World {
            shard: new_shard(&config, &topics, 0),
            config,
            topics,
            log: Vec::new(),
            now_ms: 1_000_000,
            asked: 0,
            replies: BTreeMap::new(),
        };
        world.shard.replayed(world.now_ms);
        world
    }

    fn set_topics(&mut self, topics: &[(&str, i32)]) {
        let topics = topics.iter().map(|(name, partitions)| (Arc::from(*name), topic_id(name), *partitions));
        self.topics = Arc::new(Topics::new(topics));
        self.step(Input::Topics(Arc::clone(&self.topics)));
    }

    fn step(&mut self, input: Input) {
        let outputs = self.shard.step(input, self.now_ms);
        self.take(outputs);
    }

    fn take(&mut self, outputs: Outputs) {
        self.log.extend(outputs.entries);
        for (token, reply) in outputs.replies {
            assert!(token.0 < self.asked, "an answer to nobody");
            assert!(self.replies.insert(token, reply).is_none(), "two answers to {token:?}");
        }
    }

    fn send(&mut self, version: i16, request: Request) -> Token {
        let token = Token(self.asked);
        self.asked += 1;
        let caller = Caller { client_id: Arc::from("client"), host: Arc::from("/127.0.0.1"), version };
        self.step(Input::Request { token, caller, request: Box::new(request) });
        token
    }

    /// Lets time pass, deadline by deadline.
    fn pass(&mut self, ms: i64) {
        let until = self.now_ms + ms;
        while let Some(at) = self.shard.next_tick_ms().filter(|at| *at <= until) {
            self.now_ms = self.now_ms.max(at);
            self.step(Input::Tick);
        }
        self.now_ms = until;
    }

    /// Forgets everything but the log.
    fn restart(&mut self) {
        self.shard = new_shard(&self.config, &self.topics, self.asked + 1);
        replay(&mut self.shard, &self.log);
        let outputs = self.shard.replayed(self.now_ms);
        self.take(outputs);
    }

    fn reply(&mut self, token: Token) -> Option<Reply> {
        self.replies.remove(&token)
    }

    fn joined(&mut self, token: Token) -> JoinGroupResponse {
        match self.reply(token) {
            Some(Reply::Join(answer)) => answer,
            other => panic!("no answer to a join: {other:?}"),
        }
    }

    fn synced(&mut self, token: Token) -> SyncGroupResponse {
        match self.reply(token) {
            Some(Reply::Sync(answer)) => answer,
            other => panic!("no answer to a sync: {other:?}"),
        }
    }

    fn heartbeat(&mut self, member: &str, generation: i32) -> i16 {
        self.heartbeat_of(member, None, generation)
    }

    fn heartbeat_of(&mut self, member: &str, instance: Option<&str>, generation: i32) -> i16 {
        let request = HeartbeatRequest::default()
            .with_group_id(group(GROUP))
            .with_generation_id(generation)
            .with_member_id(text(member))
            .with_group_instance_id(instance.map(text));
        let token = self.send(4, Request::Heartbeat(request));
        match self.reply(token) {
            Some(Reply::Heartbeat(answer)) => answer.error_code,
            other => panic!("no answer to a heartbeat: {other:?}"),
        }
    }

    fn leave(&mut self, members: &[(&str, Option<&str>)]) -> Vec<i16> {
        let members = members.iter().map(|(member, instance)| {
            MemberIdentity::default().with_member_id(text(member)).with_group_instance_id(instance.map(text))
        });
        let request =
            LeaveGroupRequest::default().with_group_id(group(GROUP)).with_members(members.collect());
        let token = self.send(5, Request::Leave(request));
        match self.reply(token) {
            Some(Reply::Leave(answer)) => answer.members.iter().map(|member| member.error_code).collect(),
            other => panic!("no answer to a leave: {other:?}"),
        }
    }

    fn commit(&mut self, member: &str, generation: i32, partition: i32, offset: i64) -> i16 {
        self.commit_with(9, member, generation, partition, offset, "")
    }

    fn commit_with(
        &mut self,
        version: i16,
        member: &str,
        generation: i32,
        partition: i32,
        offset: i64,
        metadata: &str,
    ) -> i16 {
        let partition = OffsetCommitRequestPartition::default()
            .with_partition_index(partition)
            .with_committed_offset(offset)
            .with_committed_metadata(Some(text(metadata)));
        let request = OffsetCommitRequest::default()
            .with_group_id(group(GROUP))
            .with_member_id(text(member))
            .with_generation_id_or_member_epoch(generation)
            .with_topics(vec![
                OffsetCommitRequestTopic::default()
                    .with_name(topic_name("t"))
                    .with_partitions(vec![partition]),
            ]);
        let token = self.send(version, Request::Commit(request));
        match self.reply(token) {
            Some(Reply::Commit(answer)) => answer.topics[0].partitions[0].error_code,
            other => panic!("no answer to a commit: {other:?}"),
        }
    }

    fn offset(&self, partition: i32) -> Option<i64> {
        self.shard.committed(GROUP, "t", partition).map(|value| value.offset)
    }

    fn fetch(&mut self, partition: i32, require_stable: bool) -> (i64, i16) {
        let topic = offset_fetch_request::OffsetFetchRequestTopics::default()
            .with_name(topic_name("t"))
            .with_partition_indexes(vec![partition]);
        let asked = OffsetFetchRequestGroup::default()
            .with_group_id(group(GROUP))
            .with_member_epoch(-1)
            .with_topics(Some(vec![topic]));
        let token = self.send(9, Request::Fetch { group: asked, require_stable });
        match self.reply(token) {
            Some(Reply::Fetch(answer)) => {
                let one = &answer.topics[0].partitions[0];
                (one.committed_offset, one.error_code)
            }
            other => panic!("no answer to a fetch: {other:?}"),
        }
    }

    fn state(&mut self) -> String {
        let token = self.send(5, Request::List { states: Vec::new(), types: Vec::new() });
        match self.reply(token) {
            Some(Reply::List(groups)) => groups
                .iter()
                .find(|listed| listed.group_id.as_str() == GROUP)
                .map_or_else(|| "none".to_owned(), |listed| listed.group_state.to_string()),
            other => panic!("no answer to a list: {other:?}"),
        }
    }

    /// A stable group of these members, the first one leading; gives their ids.
    fn stable_group(&mut self, count: usize) -> Vec<String> {
        let tokens: Vec<Token> = (0..count).map(|_| self.send(OLD_JOIN, join("", None))).collect();
        while !self.replies.contains_key(&tokens[0]) {
            self.pass(1_000);
        }
        let ids: Vec<String> =
            tokens.into_iter().map(|token| self.joined(token).member_id.to_string()).collect();
        let generation = self.generation();
        let shares: Vec<(&str, &str)> = ids.iter().map(|id| (id.as_str(), id.as_str())).collect();
        for id in ids.iter().skip(1) {
            self.send(5, sync(id, generation, &[]));
        }
        let token = self.send(5, sync(&ids[0], generation, &shares));
        assert_eq!(self.synced(token).assignment, ids[0].as_bytes());
        self.replies.clear();
        ids
    }

    fn generation(&self) -> i32 {
        match &self.shard.groups[GROUP].kind {
            super::shard::Kind::Classic(classic) => classic.generation(),
            super::shard::Kind::Consumer(_) => panic!("not a classic group"),
        }
    }
}

fn new_shard(config: &Arc<Config>, topics: &Arc<Topics>, life: u64) -> Shard {
    let mut count = u128::from(life) << 64;
    let new_id = move || {
        count += 1;
        Uuid::from_u128(count)
    };
    Shard::new(Arc::clone(config), Arc::clone(topics), Box::new(new_id))
}

fn replay(shard: &mut Shard, log: &[Entry]) {
    for entry in log {
        match entry {
            Entry::Record { record, producer } => {
                shard.replay(&record.key, record.value.as_deref(), *producer).expect("its own record");
            }
            Entry::Marker { producer, commit, .. } => shard.replay_marker(*producer, *commit),
        }
    }
}

fn group(name: &str) -> GroupId {
    GroupId(text(name))
}

fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

fn topic_id(name: &str) -> Uuid {
    Uuid::from_u128(name.bytes().fold(1, |id, byte| id * 257 + u128::from(byte)))
}

fn join(member: &str, instance: Option<&str>) -> Request {
    Request::Join(join_of(member, instance, &[("range", "m")]))
}

fn join_of(member: &str, instance: Option<&str>, protocols: &[(&str, &str)]) -> JoinGroupRequest {
    let protocols = protocols.iter().map(|(name, metadata)| {
        JoinGroupRequestProtocol::default()
            .with_name(text(name))
            .with_metadata(Bytes::copy_from_slice(metadata.as_bytes()))
    });
    JoinGroupRequest::default()
        .with_group_id(group(GROUP))
        .with_session_timeout_ms(SESSION_MS as i32)
        .with_rebalance_timeout_ms(REBALANCE_MS as i32)
        .with_member_id(text(member))
        .with_group_instance_id(instance.map(text))
        .with_protocol_type(StrBytes::from_static_str("consumer"))
        .with_protocols(protocols.collect())
}

fn sync(member: &str, generation: i32, shares: &[(&str, &str)]) -> Request {
    let shares = shares.iter().map(|(member, share)| {
        SyncGroupRequestAssignment::default()
            .with_member_id(text(member))
            .with_assignment(Bytes::copy_from_slice(share.as_bytes()))
    });
    Request::Sync(
        SyncGroupRequest::default()
            .with_group_id(group(GROUP))
            .with_generation_id(generation)
            .with_member_id(text(member))
            .with_assignments(shares.collect()),
    )
}

fn code(error: ResponseError) -> i16 {
    error.code()
}

fn producer(id: i64) -> Producer {
    Producer { id, epoch: 0 }
}
