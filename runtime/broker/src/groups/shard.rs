//! One partition's worth of groups: `step(input, now_ms)` takes a request, a change of topics or the passing of
//! time, and gives the entries to write and the answers to send once those are on disk. No IO, no clock, no
//! randomness but the ids it is given, so a test can drive any history twice.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, HeartbeatRequest, HeartbeatResponse,
    JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse, OffsetCommitRequest,
    OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse, SyncGroupRequest, SyncGroupResponse,
    TxnOffsetCommitRequest, TxnOffsetCommitResponse, consumer_group_describe_response,
    describe_groups_response, list_groups_response::ListedGroup,
    offset_fetch_request::OffsetFetchRequestGroup, offset_fetch_response::OffsetFetchResponseGroup,
};
use uuid::Uuid;

use super::classic::Classic;
use super::codec::CodecError;
use super::consumer::Consumer;
use super::offsets::Offsets;
use super::records::{self, Change, Record};
use super::timers::{Key, Timers};
use super::{Caller, Config, NAME_BYTES_MAX, SHARD_GROUPS_MAX};

/// Names the one who waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// Something that happens to a shard.
#[derive(Debug)]
pub enum Input {
    Request {
        token: Token,
        caller: Caller,
        request: Box<Request>,
    },
    /// The transaction of a producer ends: its pending offsets count, or are forgotten.
    CompleteTransaction {
        token: Token,
        producer: Producer,
        coordinator_epoch: i32,
        commit: bool,
    },
    /// Topics were made, grown or deleted.
    Topics(Arc<Topics>),
    /// Offsets of these topics go: the topics are no more.
    TopicsDeleted(Vec<Arc<str>>),
    /// Time has passed.
    Tick,
}

/// A request to one group (or, for `List`, to all groups of the shard).
#[derive(Debug)]
pub enum Request {
    Join(JoinGroupRequest),
    Sync(SyncGroupRequest),
    Heartbeat(HeartbeatRequest),
    Leave(LeaveGroupRequest),
    Commit(OffsetCommitRequest),
    TxnCommit(TxnOffsetCommitRequest),
    /// With `require_stable` an offset with a transaction pending over it is an error instead of a value.
    Fetch {
        group: OffsetFetchRequestGroup,
        require_stable: bool,
    },
    DeleteOffsets(OffsetDeleteRequest),
    ConsumerHeartbeat(ConsumerGroupHeartbeatRequest),
    Describe(Arc<str>),
    ConsumerDescribe(Arc<str>),
    Delete(Arc<str>),
    List {
        states: Vec<String>,
        types: Vec<String>,
    },
}

/// The answer to a [`Request`] of the same kind.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    Join(JoinGroupResponse),
    Sync(SyncGroupResponse),
    Heartbeat(HeartbeatResponse),
    Leave(LeaveGroupResponse),
    Commit(OffsetCommitResponse),
    TxnCommit(TxnOffsetCommitResponse),
    Fetch(OffsetFetchResponseGroup),
    DeleteOffsets(OffsetDeleteResponse),
    ConsumerHeartbeat(ConsumerGroupHeartbeatResponse),
    Describe(describe_groups_response::DescribedGroup),
    ConsumerDescribe(consumer_group_describe_response::DescribedGroup),
    /// An error code, 0 for none.
    Delete(i16),
    List(Vec<ListedGroup>),
    TransactionCompleted,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Producer {
    pub id: i64,
    pub epoch: i16,
}

/// What must be in the log, in this order, before any reply of the same step may go out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// `producer` is set for offsets that count only when the producer's transaction commits.
    Record { record: Record, producer: Option<Producer> },
    /// The end of a transaction.
    Marker { producer: Producer, coordinator_epoch: i32, commit: bool },
}

/// What a step decided.
#[derive(Debug, Default)]
pub struct Outputs {
    pub entries: Vec<Entry>,
    pub replies: Vec<(Token, Reply)>,
}

/// The topics there are: name to id and number of partitions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Topics {
    by_name: BTreeMap<Arc<str>, (Uuid, i32)>,
    by_id: BTreeMap<Uuid, Arc<str>>,
}

impl Topics {
    pub fn new(topics: impl IntoIterator<Item = (Arc<str>, Uuid, i32)>) -> Topics {
        let mut all = Topics::default();
        for (name, id, partitions) in topics {
            all.by_id.insert(id, name.clone());
            all.by_name.insert(name, (id, partitions));
        }
        all
    }

    pub fn get(&self, name: &str) -> Option<(Uuid, i32)> {
        self.by_name.get(name).copied()
    }

    pub fn name(&self, id: &Uuid) -> Option<&Arc<str>> {
        self.by_id.get(id)
    }

    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.by_name.keys()
    }
}

/// A group with its offsets. A group that only commits offsets is a classic one that never had a member.
#[derive(Debug)]
pub(super) struct Group {
    pub kind: Kind,
    pub offsets: Offsets,
}

#[derive(Debug)]
pub(super) enum Kind {
    Classic(Box<Classic>),
    Consumer(Box<Consumer>),
}

impl Group {
    pub fn new_classic() -> Group {
        Group { kind: Kind::Classic(Box::default()), offsets: Offsets::default() }
    }

    pub fn has_members(&self) -> bool {
        match &self.kind {
            Kind::Classic(classic) => !classic.is_empty(),
            Kind::Consumer(consumer) => !consumer.members.is_empty(),
        }
    }
}

/// What the functions of a group may use of the shard while they hold the group.
pub(super) struct Context<'a> {
    pub config: &'a Config,
    pub timers: &'a mut Timers,
    pub topics: &'a Topics,
    pub out: &'a mut Outputs,
    pub new_id: &'a mut (dyn FnMut() -> Uuid + Send),
    pub now_ms: i64,
    pub group: Arc<str>,
}

impl Context<'_> {
    pub fn reply(&mut self, token: Token, reply: Reply) {
        self.out.replies.push((token, reply));
    }

    /// Writes a change that has been made.
    pub fn write(&mut self, change: &Change) {
        self.out.write(change, None);
    }
}

impl Outputs {
    pub(super) fn write(&mut self, change: &Change, producer: Option<Producer>) {
        if let Some(record) = records::encode(change) {
            self.entries.push(Entry::Record { record, producer });
        }
    }
}

/// The groups of one partition of `__consumer_offsets`.
pub struct Shard {
    config: Arc<Config>,
    pub(super) groups: BTreeMap<Arc<str>, Group>,
    /// Groups for which a producer has pending offsets.
    pub(super) transactions: BTreeMap<i64, BTreeSet<Arc<str>>>,
    pub(super) timers: Timers,
    pub(super) topics: Arc<Topics>,
    new_id: Box<dyn FnMut() -> Uuid + Send>,
    /// Counts offsets in the order of the log, so that a transaction that commits late does not undo a commit
    /// made after its own.
    pub(super) order: u64,
}

impl fmt::Debug for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shard").field("groups", &self.groups.len()).finish_non_exhaustive()
    }
}

impl Shard {
    /// An empty shard. `new_id` makes the ids of members.
    pub fn new(config: Arc<Config>, topics: Arc<Topics>, new_id: Box<dyn FnMut() -> Uuid + Send>) -> Shard {
        Shard {
            config,
            groups: BTreeMap::new(),
            transactions: BTreeMap::new(),
            timers: Timers::default(),
            topics,
            new_id,
            order: 0,
        }
    }

    /// Takes a record of the log, in the order of the log, before the first step.
    ///
    /// # Errors
    /// When the record is not one of Kafka's; the caller says so and goes on with the next.
    pub fn replay(
        &mut self,
        key: &[u8],
        value: Option<&[u8]>,
        producer: Option<Producer>,
    ) -> Result<(), CodecError> {
        let change = records::decode(key, value)?;
        self.apply(change, producer);
        Ok(())
    }

    /// Takes the end of a transaction from the log.
    pub fn replay_marker(&mut self, producer: Producer, commit: bool) {
        self.end_transaction(producer.id, commit);
    }

    /// To be called once after the last record: members get a whole session time-out to come back.
    pub fn replayed(&mut self, now_ms: i64) -> Outputs {
        let mut out = Outputs::default();
        let ids: Vec<Arc<str>> = self.groups.keys().cloned().collect();
        for id in ids {
            self.with_group(&id, now_ms, &mut out, |group, cx| match &mut group.kind {
                Kind::Classic(classic) => classic.resume(cx),
                Kind::Consumer(consumer) => consumer.resume(cx),
            });
        }
        self.timers.push(now_ms.saturating_add(self.config.offsets_retention_check_interval_ms), Key::Expiry);
        out
    }

    /// When [`Input::Tick`] is wanted next.
    pub fn next_tick_ms(&self) -> Option<i64> {
        self.timers.next()
    }

    /// The one way in.
    pub fn step(&mut self, input: Input, now_ms: i64) -> Outputs {
        let mut out = Outputs::default();
        match input {
            Input::Request { token, caller, request } => {
                self.request(token, &caller, *request, now_ms, &mut out)
            }
            Input::CompleteTransaction { token, producer, coordinator_epoch, commit } => {
                out.entries.push(Entry::Marker { producer, coordinator_epoch, commit });
                self.end_transaction(producer.id, commit);
                out.replies.push((token, Reply::TransactionCompleted));
            }
            Input::Topics(topics) => {
                self.topics = topics;
                for group in self.groups.values_mut() {
                    if let Kind::Consumer(consumer) = &mut group.kind {
                        consumer.stale = true;
                    }
                }
            }
            Input::TopicsDeleted(names) => self.forget_topics(&names, &mut out),
            Input::Tick => self.tick(now_ms, &mut out),
        }
        out
    }

    fn request(&mut self, token: Token, caller: &Caller, request: Request, now_ms: i64, out: &mut Outputs) {
        let reply = match request {
            Request::Join(request) => return self.join(token, caller, &request, now_ms, out),
            Request::Sync(request) => return self.sync(token, &request, now_ms, out),
            Request::Heartbeat(request) => Reply::Heartbeat(self.heartbeat(&request, now_ms, out)),
            Request::Leave(request) => Reply::Leave(self.leave(caller, &request, now_ms, out)),
            Request::Commit(request) => Reply::Commit(self.commit(caller, &request, now_ms, out)),
            Request::TxnCommit(request) => Reply::TxnCommit(self.txn_commit(&request, now_ms, out)),
            Request::Fetch { group, require_stable } => Reply::Fetch(self.fetch(&group, require_stable)),
            Request::DeleteOffsets(request) => Reply::DeleteOffsets(self.delete_offsets(&request, out)),
            Request::ConsumerHeartbeat(request) => {
                Reply::ConsumerHeartbeat(self.consumer_heartbeat(caller, &request, now_ms, out))
            }
            Request::Describe(group) => Reply::Describe(self.describe(&group)),
            Request::ConsumerDescribe(group) => Reply::ConsumerDescribe(self.consumer_describe(&group)),
            Request::Delete(group) => Reply::Delete(self.delete(&group, out)),
            Request::List { states, types } => Reply::List(self.list(&states, &types)),
        };
        out.replies.push((token, reply));
    }

    /// Runs `f` with the group of this name and what it may use of the shard.
    pub(super) fn with_group<R>(
        &mut self,
        id: &str,
        now_ms: i64,
        out: &mut Outputs,
        f: impl FnOnce(&mut Group, &mut Context<'_>) -> R,
    ) -> Option<R> {
        let (name, _) = self.groups.get_key_value(id)?;
        let name = name.clone();
        let group = self.groups.get_mut(id)?;
        let mut cx = Context {
            config: &self.config,
            timers: &mut self.timers,
            topics: &self.topics,
            out,
            new_id: &mut *self.new_id,
            now_ms,
            group: name,
        };
        Some(f(group, &mut cx))
    }

    /// The group of this name, made if it is not there.
    ///
    /// # Errors
    /// INVALID_GROUP_ID for a name that cannot be, COORDINATOR_NOT_AVAILABLE when there is no room.
    pub(super) fn make_group(&mut self, id: &str, make: impl FnOnce() -> Group) -> Result<(), ResponseError> {
        check_group_id(id)?;
        if self.groups.contains_key(id) {
            return Ok(());
        }
        if self.groups.len() >= SHARD_GROUPS_MAX {
            return Err(ResponseError::CoordinatorNotAvailable);
        }
        self.groups.insert(Arc::from(id), make());
        Ok(())
    }

    /// Drops a group that holds nothing: no member, no offset, nothing in the log.
    pub(super) fn drop_if_void(&mut self, id: &str) {
        let void = self.groups.get(id).is_some_and(|group| {
            group.offsets.is_empty() && matches!(&group.kind, Kind::Classic(classic) if classic.is_void())
        });
        if void {
            self.groups.remove(id);
        }
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    fn tick(&mut self, now_ms: i64, out: &mut Outputs) {
        while let Some((at_ms, key)) = self.timers.pop(now_ms) {
            match key {
                Key::Expiry => {
                    self.expire(now_ms, out);
                    self.timers
                        .push(now_ms.saturating_add(self.config.offsets_retention_check_interval_ms), key);
                }
                Key::Group(ref id) => {
                    self.with_group(id, now_ms, out, |group, cx| {
                        if let Kind::Classic(classic) = &mut group.kind {
                            classic.alarm(at_ms, cx);
                        }
                    });
                }
                Key::Session(ref id, ref member) => {
                    self.with_group(id, now_ms, out, |group, cx| match &mut group.kind {
                        Kind::Classic(classic) => classic.session_alarm(member, at_ms, cx),
                        Kind::Consumer(consumer) => consumer.session_alarm(member, at_ms, cx),
                    });
                    self.drop_if_void(id);
                }
                Key::Revocation(ref id, ref member) => {
                    self.with_group(id, now_ms, out, |group, cx| {
                        if let Kind::Consumer(consumer) = &mut group.kind {
                            consumer.revocation_alarm(member, at_ms, cx);
                        }
                    });
                }
            }
        }
    }

    /// Makes a change of the log in memory.
    pub(super) fn apply(&mut self, change: Change, producer: Option<Producer>) {
        match change {
            Change::Offset { group, topic, partition, value } => {
                self.apply_offset(&group, &topic, partition, value, producer);
            }
            Change::Classic { group, value: Some(value) } => {
                let classic = Kind::Classic(Box::new(Classic::from_value(value)));
                let offsets = self.groups.remove(&group).map(|group| group.offsets).unwrap_or_default();
                self.groups.insert(group, Group { kind: classic, offsets });
            }
            Change::Classic { group, value: None } => {
                // A tombstone follows the conversion to the new protocol too: what is then there stays.
                if let Some(Group { kind: Kind::Classic(classic), offsets }) = self.groups.get_mut(&group) {
                    **classic = Classic::default();
                    if offsets.is_empty() {
                        self.groups.remove(&group);
                    }
                }
            }
            Change::Epoch { group, value: None } => {
                if let Some(Group { kind, offsets }) = self.groups.get_mut(&group)
                    && matches!(kind, Kind::Consumer(_))
                {
                    *kind = Kind::Classic(Box::default());
                    if offsets.is_empty() {
                        self.groups.remove(&group);
                    }
                }
            }
            Change::Other => {}
            change => {
                let Some(id) = consumer_group_of(&change) else { return };
                let removes = is_removal(&change);
                let group = match self.groups.get_mut(&id) {
                    Some(group) => group,
                    None if removes => return,
                    None => self.groups.entry(id).or_insert_with(Group::new_classic),
                };
                if let Kind::Classic(classic) = &group.kind {
                    // Tombstones of a group that has since become classic again.
                    if removes || !classic.is_empty() {
                        return;
                    }
                    group.kind = Kind::Consumer(Box::default());
                }
                if let Kind::Consumer(consumer) = &mut group.kind {
                    consumer.apply(change);
                }
            }
        }
    }
}

fn consumer_group_of(change: &Change) -> Option<Arc<str>> {
    match change {
        Change::Epoch { group, .. }
        | Change::Topics { group, .. }
        | Change::Member { group, .. }
        | Change::TargetEpoch { group, .. }
        | Change::Target { group, .. }
        | Change::Current { group, .. } => Some(group.clone()),
        Change::Offset { .. } | Change::Classic { .. } | Change::Other => None,
    }
}

fn is_removal(change: &Change) -> bool {
    match change {
        Change::Offset { value, .. } => value.is_none(),
        Change::Classic { value, .. } => value.is_none(),
        Change::Epoch { value, .. } | Change::TargetEpoch { value, .. } => value.is_none(),
        Change::Topics { value, .. } => value.is_none(),
        Change::Member { value, .. } => value.is_none(),
        Change::Target { value, .. } => value.is_none(),
        Change::Current { value, .. } => value.is_none(),
        Change::Other => false,
    }
}

/// # Errors
/// INVALID_GROUP_ID for the empty name and for one beyond the bound.
pub(super) fn check_group_id(id: &str) -> Result<(), ResponseError> {
    if id.is_empty() || id.len() > NAME_BYTES_MAX { Err(ResponseError::InvalidGroupId) } else { Ok(()) }
}
