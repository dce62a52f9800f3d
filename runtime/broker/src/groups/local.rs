//! Groups used from inside of the process: a reader is an ordinary member of the classic protocol, so that it shares
//! a group with readers of other programs, and how far groups are can be looked at. No sockets, the same coordinator.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    GroupId, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, OffsetCommitRequest,
    SyncGroupRequest, TopicName,
};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::classic::CONSUMER_PROTOCOL_TYPE;
use super::shard::{Reply, Request};
use super::subscription::{
    GroupAssignor, decode_assignment, decode_subscription, encode_assignment, encode_subscription, share_out,
};
use super::{Caller, text};
use crate::broker::Broker;

/// The versions whose fields and codes are used here.
const JOIN_VERSION: i16 = 9;
const SYNC_VERSION: i16 = 5;
const HEARTBEAT_VERSION: i16 = 4;
const LEAVE_VERSION: i16 = 5;
const COMMIT_VERSION: i16 = 9;
const FETCH_VERSION: i16 = 9;
/// A coordinator that is not there yet is asked again after this.
const RETRY: Duration = Duration::from_millis(100);
/// Heartbeats in a session at the least, so that two may be late.
const HEARTBEATS_PER_SESSION: u32 = 3;

/// How a reader is a member of its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSettings {
    /// Its name in lists of members.
    pub client_id: String,
    /// A name of its own that outlives restarts: with it the member's place is kept for a session's time (KIP-345).
    pub instance_id: Option<String>,
    /// Silent for this long, the member is out.
    pub session_timeout_ms: i32,
    /// How often the member asks whether the group rebalances.
    pub heartbeat_interval_ms: u32,
    /// How long a rebalance waits for the member to finish what it has in hand.
    pub rebalance_timeout_ms: i32,
    /// Who reads what, if the others of the group know it too.
    pub assignor: GroupAssignor,
}

impl Default for GroupSettings {
    fn default() -> GroupSettings {
        GroupSettings {
            client_id: "flowc".to_owned(),
            instance_id: None,
            session_timeout_ms: 45_000,
            heartbeat_interval_ms: 3_000,
            rebalance_timeout_ms: 300_000,
            assignor: GroupAssignor::Range,
        }
    }
}

/// What happens to a reader's partitions, each (topic, partition).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupEvent {
    /// These are the reader's from now on, and no others.
    Assigned(Vec<(String, i32)>),
    /// The reader must stop reading these and commit what it has done; it may until it asks for the next event.
    Revoked(Vec<(String, i32)>),
    /// Others may read these already: what was not committed is not going to be.
    Lost(Vec<(String, i32)>),
}

/// Why a call of a group failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// The partitions belong to others by now.
    #[error("group `{group}` has been rebalanced since")]
    Rebalanced { group: String },
    #[error("group `{group}`: {reason}")]
    Refused { group: String, reason: String },
    /// It may work again later.
    #[error("group `{group}` cannot be reached: {reason}")]
    Failed { group: String, reason: String },
}

/// How far a group has read a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupLag {
    pub topic: String,
    pub partition: i32,
    /// The next offset that the group reads.
    pub committed: i64,
    /// The offset behind the last record; `None` when the partition is gone.
    pub end: Option<i64>,
}

impl GroupLag {
    /// Records that the group has not read.
    pub fn lag(&self) -> Option<i64> {
        self.end.map(|end| (end - self.committed).max(0))
    }
}

/// A group in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSummary {
    pub group: String,
    /// As Kafka names it: `Stable`, `Empty`, …
    pub state: String,
    /// `classic` or `consumer`.
    pub kind: String,
}

/// A member of a group that reads in this process.
pub struct GroupReader {
    shared: Arc<Shared>,
    events: mpsc::Receiver<(GroupEvent, oneshot::Sender<()>)>,
    /// Tells the member that the last event has been dealt with.
    dealt_with: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), GroupError>>,
    error: Option<GroupError>,
}

struct Shared {
    broker: Arc<Broker>,
    group: String,
    topics: Vec<String>,
    settings: GroupSettings,
    identity: Mutex<Identity>,
}

#[derive(Clone, Debug)]
struct Identity {
    member: String,
    generation: i32,
}

impl Broker {
    /// Becomes a member of `group` that reads `topics`.
    pub fn join_group(
        self: &Arc<Self>,
        group: &str,
        topics: Vec<String>,
        settings: GroupSettings,
    ) -> GroupReader {
        let identity = Mutex::new(Identity { member: String::new(), generation: -1 });
        let (broker, group) = (Arc::clone(self), group.to_owned());
        let shared = Arc::new(Shared { broker, group, topics, settings, identity });
        let (send, events) = mpsc::channel(1);
        let task = tokio::spawn(run(Arc::clone(&shared), send));
        GroupReader { shared, events, dealt_with: None, task, error: None }
    }

    /// The next offset that a group reads of a partition.
    ///
    /// # Errors
    ///
    /// [`GroupError::Failed`].
    pub async fn committed(
        &self,
        group: &str,
        topic: &str,
        partition: i32,
    ) -> Result<Option<i64>, GroupError> {
        let offsets = self.committed_offsets(group).await?;
        Ok(offsets.get(&(topic.to_owned(), partition)).copied())
    }

    /// The next offsets that a group reads.
    ///
    /// # Errors
    ///
    /// [`GroupError::Failed`].
    pub async fn committed_offsets(&self, group: &str) -> Result<BTreeMap<(String, i32), i64>, GroupError> {
        let asked = OffsetFetchRequestGroup::default()
            .with_group_id(GroupId(text(group)))
            .with_member_epoch(-1)
            .with_topics(None);
        let request = Request::Fetch { group: asked, require_stable: false };
        let Reply::Fetch(answer) = self.ask_group(group, "", FETCH_VERSION, request).await? else {
            return Err(mixed_up(group));
        };
        check(group, answer.error_code)?;
        let offsets = answer.topics.iter().flat_map(|topic| {
            let name = topic.name.to_string();
            topic
                .partitions
                .iter()
                .map(move |one| ((name.clone(), one.partition_index), one.committed_offset))
        });
        Ok(offsets.filter(|(_, offset)| *offset >= 0).collect())
    }

    /// Commits offsets of a group that has no members: of a reader that chooses its partitions itself.
    ///
    /// # Errors
    ///
    /// [`GroupError::Rebalanced`] when the group has members, others as they are.
    pub async fn commit_offsets(
        &self,
        group: &str,
        offsets: &BTreeMap<(String, i32), i64>,
    ) -> Result<(), GroupError> {
        let nobody = Identity { member: String::new(), generation: -1 };
        self.commit_as(group, &nobody, None, "", offsets).await
    }

    /// How far a group is behind.
    ///
    /// # Errors
    ///
    /// [`GroupError::Failed`].
    pub async fn group_lag(&self, group: &str) -> Result<Vec<GroupLag>, GroupError> {
        let offsets = self.committed_offsets(group).await?;
        let lag = offsets.into_iter().map(|((topic, partition), committed)| {
            let end = self.partition(&topic, partition).map(|at| at.offsets(true).1);
            GroupLag { topic, partition, committed, end }
        });
        Ok(lag.collect())
    }

    /// All groups.
    ///
    /// # Errors
    ///
    /// [`GroupError::Failed`].
    pub async fn list_groups(&self) -> Result<Vec<GroupSummary>, GroupError> {
        let list = || Request::List { states: Vec::new(), types: Vec::new() };
        let replies = self.groups.request_all(list).await.map_err(|error| failed("*", error))?;
        let groups = replies.into_iter().flat_map(|reply| match reply {
            Reply::List(groups) => groups,
            _ => Vec::new(),
        });
        let mut groups: Vec<GroupSummary> = groups
            .map(|one| GroupSummary {
                group: one.group_id.to_string(),
                state: one.group_state.to_string(),
                kind: one.group_type.to_string(),
            })
            .collect();
        groups.sort_by(|a, b| a.group.cmp(&b.group));
        Ok(groups)
    }

    async fn ask_group(
        &self,
        group: &str,
        client_id: &str,
        version: i16,
        request: Request,
    ) -> Result<Reply, GroupError> {
        let caller = Caller { client_id: Arc::from(client_id), host: Arc::from("/local"), version };
        self.groups.request(group, caller, request).await.map_err(|error| failed(group, error))
    }

    async fn commit_as(
        &self,
        group: &str,
        identity: &Identity,
        instance: Option<&str>,
        client_id: &str,
        offsets: &BTreeMap<(String, i32), i64>,
    ) -> Result<(), GroupError> {
        let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
        for ((topic, partition), offset) in offsets {
            topics.entry(topic).or_default().push(
                OffsetCommitRequestPartition::default()
                    .with_partition_index(*partition)
                    .with_committed_offset(*offset)
                    .with_committed_leader_epoch(-1),
            );
        }
        let topics = topics.into_iter().map(|(name, partitions)| {
            OffsetCommitRequestTopic::default().with_name(TopicName(text(name))).with_partitions(partitions)
        });
        let request = OffsetCommitRequest::default()
            .with_group_id(GroupId(text(group)))
            .with_generation_id_or_member_epoch(identity.generation)
            .with_member_id(text(&identity.member))
            .with_group_instance_id(instance.map(text))
            .with_topics(topics.collect());
        match self.ask_group(group, client_id, COMMIT_VERSION, Request::Commit(request)).await? {
            Reply::Commit(answer) => answer
                .topics
                .iter()
                .flat_map(|topic| &topic.partitions)
                .try_for_each(|partition| check(group, partition.error_code)),
            _ => Err(mixed_up(group)),
        }
    }
}

impl GroupReader {
    /// The next change of what this reader reads; `None` when it is no member any more, and [`GroupReader::error`]
    /// says why. Asking tells the group that the change before has been dealt with.
    pub async fn next(&mut self) -> Option<GroupEvent> {
        if let Some(done) = self.dealt_with.take() {
            // A member that is gone needs not know.
            let _ = done.send(());
        }
        if let Some((event, done)) = self.events.recv().await {
            self.dealt_with = Some(done);
            return Some(event);
        }
        if self.error.is_none() && !self.task.is_finished() {
            self.error = (&mut self.task).await.ok().and_then(Result::err);
        }
        None
    }

    /// Why the reader is no member any more.
    pub fn error(&self) -> Option<&GroupError> {
        self.error.as_ref()
    }

    /// Commits the next offsets to read; done when they are on the disk.
    ///
    /// # Errors
    ///
    /// [`GroupError::Rebalanced`]: the partitions are of others by now.
    pub async fn commit(&self, offsets: &BTreeMap<(String, i32), i64>) -> Result<(), GroupError> {
        let Shared { broker, group, settings, .. } = &*self.shared;
        let identity = self.shared.identity().clone();
        let instance = settings.instance_id.as_deref();
        broker.commit_as(group, &identity, instance, &settings.client_id, offsets).await
    }

    /// Who the reader is in its group: member id and generation, for a commit in a transaction.
    pub fn identity(&self) -> (String, i32) {
        let identity = self.shared.identity();
        (identity.member.clone(), identity.generation)
    }

    /// Leaves the group, so that others take over at once.
    pub async fn leave(self) {
        self.task.abort();
        self.shared.leave().await;
    }
}

impl Drop for GroupReader {
    fn drop(&mut self) {
        self.task.abort();
        // A member with a name of its own is expected back.
        let temporary = self.shared.settings.instance_id.is_none();
        if temporary && let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let shared = Arc::clone(&self.shared);
            runtime.spawn(async move { shared.leave().await });
        }
    }
}

/// What ended a time of membership.
enum End {
    /// The group rebalances; the member stays.
    Rejoin,
    /// The coordinator does not know the member any more.
    Lost,
}

async fn run(
    shared: Arc<Shared>,
    events: mpsc::Sender<(GroupEvent, oneshot::Sender<()>)>,
) -> Result<(), GroupError> {
    // What this member gave each member when it led, so that the next time little moves.
    let mut before = BTreeMap::new();
    let mut changes = shared.broker.store.changes();
    loop {
        changes.mark_unchanged();
        let answer = shared.join().await?;
        let leads = !answer.members.is_empty();
        let Some(own) = shared.sync(&answer, &mut before).await? else { continue };
        tell(&events, GroupEvent::Assigned(own.clone())).await;
        let end = shared.beat(leads, &mut changes).await?;
        let event = match end {
            End::Rejoin => GroupEvent::Revoked(own),
            End::Lost => GroupEvent::Lost(own),
        };
        shared.tell_alive(&events, event).await;
    }
}

/// Gives an event to the reader; an assignment needs no answer.
async fn tell(events: &mpsc::Sender<(GroupEvent, oneshot::Sender<()>)>, event: GroupEvent) {
    let (done, _) = oneshot::channel();
    // A reader that is gone aborts this task.
    let _ = events.send((event, done)).await;
}

impl Shared {
    fn identity(&self) -> MutexGuard<'_, Identity> {
        self.identity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget(&self, with_id: bool) {
        let mut identity = self.identity();
        identity.generation = -1;
        if with_id {
            identity.member.clear();
        }
    }

    async fn ask(&self, version: i16, request: Request) -> Result<Reply, GroupError> {
        self.broker.ask_group(&self.group, &self.settings.client_id, version, request).await
    }

    /// Joins until it is done.
    async fn join(&self) -> Result<JoinGroupResponse, GroupError> {
        let assignors = GroupAssignor::preferred(self.settings.assignor);
        let metadata = encode_subscription(&self.topics);
        loop {
            let protocols = assignors.iter().map(|assignor| {
                JoinGroupRequestProtocol::default()
                    .with_name(text(assignor.name()))
                    .with_metadata(metadata.clone())
            });
            let request = JoinGroupRequest::default()
                .with_group_id(GroupId(text(&self.group)))
                .with_session_timeout_ms(self.settings.session_timeout_ms)
                .with_rebalance_timeout_ms(self.settings.rebalance_timeout_ms)
                .with_member_id(text(&self.identity().member))
                .with_group_instance_id(self.settings.instance_id.as_deref().map(text))
                .with_protocol_type(text(CONSUMER_PROTOCOL_TYPE))
                .with_protocols(protocols.collect());
            let answer = match self.ask(JOIN_VERSION, Request::Join(request)).await {
                Ok(Reply::Join(answer)) => answer,
                Ok(_) => return Err(mixed_up(&self.group)),
                Err(error) => {
                    self.retry(error).await?;
                    continue;
                }
            };
            match ResponseError::try_from_code(answer.error_code) {
                None => {
                    let mut identity = self.identity();
                    identity.member = answer.member_id.to_string();
                    identity.generation = answer.generation_id;
                    drop(identity);
                    return Ok(answer);
                }
                Some(ResponseError::MemberIdRequired) => {
                    self.identity().member = answer.member_id.to_string()
                }
                Some(ResponseError::UnknownMemberId) => self.forget(true),
                Some(error) => self.retry(failed(&self.group, error)).await?,
            }
        }
    }

    /// Fetches the assignment, or makes it if this member leads. `None`: the group rebalances again.
    async fn sync(
        &self,
        joined: &JoinGroupResponse,
        before: &mut BTreeMap<String, Vec<(String, i32)>>,
    ) -> Result<Option<Vec<(String, i32)>>, GroupError> {
        let mut shares = Vec::new();
        if !joined.members.is_empty() && !joined.skip_assignment {
            let members = joined.members.iter().map(|member| {
                (member.member_id.to_string(), decode_subscription(&member.metadata).unwrap_or_default())
            });
            let assignor = joined.protocol_name.as_deref().and_then(GroupAssignor::parse).unwrap_or_default();
            let count = |topic: &str| self.broker.partition_count(topic);
            *before = share_out(assignor, members.collect(), before, count);
            shares = before
                .iter()
                .map(|(member, share)| {
                    SyncGroupRequestAssignment::default()
                        .with_member_id(text(member))
                        .with_assignment(encode_assignment(share))
                })
                .collect();
        }
        loop {
            let request = SyncGroupRequest::default()
                .with_group_id(GroupId(text(&self.group)))
                .with_generation_id(joined.generation_id)
                .with_member_id(joined.member_id.clone())
                .with_group_instance_id(self.settings.instance_id.as_deref().map(text))
                .with_protocol_type(joined.protocol_type.clone())
                .with_protocol_name(joined.protocol_name.clone())
                .with_assignments(shares.clone());
            let answer = match self.ask(SYNC_VERSION, Request::Sync(request)).await {
                Ok(Reply::Sync(answer)) => answer,
                Ok(_) => return Err(mixed_up(&self.group)),
                Err(error) => {
                    self.retry(error).await?;
                    continue;
                }
            };
            match ResponseError::try_from_code(answer.error_code) {
                None => {
                    let own = decode_assignment(&answer.assignment).ok_or_else(|| GroupError::Refused {
                        group: self.group.clone(),
                        reason: "its leader assigns in a way that cannot be read".to_owned(),
                    })?;
                    return Ok(Some(own));
                }
                Some(ResponseError::RebalanceInProgress) => return Ok(None),
                Some(ResponseError::UnknownMemberId | ResponseError::IllegalGeneration) => {
                    self.forget(true);
                    return Ok(None);
                }
                Some(error) => {
                    self.retry(failed(&self.group, error)).await?;
                    // What can be asked again is asked with another generation.
                    return Ok(None);
                }
            }
        }
    }

    fn interval(&self) -> Duration {
        let session = Duration::from_millis(u64::try_from(self.settings.session_timeout_ms).unwrap_or(0));
        let asked = Duration::from_millis(u64::from(self.settings.heartbeat_interval_ms));
        (session / HEARTBEATS_PER_SESSION).min(asked).max(Duration::from_millis(1))
    }

    /// One heartbeat; what it ended, if it did.
    async fn beat_once(&self) -> Result<Option<End>, GroupError> {
        let identity = self.identity().clone();
        let request = HeartbeatRequest::default()
            .with_group_id(GroupId(text(&self.group)))
            .with_generation_id(identity.generation)
            .with_member_id(text(&identity.member))
            .with_group_instance_id(self.settings.instance_id.as_deref().map(text));
        let code = match self.ask(HEARTBEAT_VERSION, Request::Heartbeat(request)).await {
            Ok(Reply::Heartbeat(answer)) => answer.error_code,
            Ok(_) => return Err(mixed_up(&self.group)),
            Err(error) => {
                self.retry(error).await?;
                return Ok(None);
            }
        };
        match ResponseError::try_from_code(code) {
            None => Ok(None),
            Some(ResponseError::RebalanceInProgress) => Ok(Some(End::Rejoin)),
            Some(ResponseError::UnknownMemberId | ResponseError::IllegalGeneration) => Ok(Some(End::Lost)),
            Some(error) => {
                self.retry(failed(&self.group, error)).await?;
                Ok(None)
            }
        }
    }

    /// Shows that the member lives until the group changes, or, if it leads, until its topics do.
    async fn beat(
        &self,
        leads: bool,
        changes: &mut tokio::sync::watch::Receiver<u64>,
    ) -> Result<End, GroupError> {
        let counts =
            || self.topics.iter().map(|topic| self.broker.partition_count(topic)).collect::<Vec<_>>();
        let known = counts();
        loop {
            tokio::select! {
                () = tokio::time::sleep(self.interval()) => {}
                changed = changes.changed(), if leads => {
                    if changed.is_ok() && counts() != known {
                        return Ok(End::Rejoin);
                    }
                    continue;
                }
            }
            if let Some(end) = self.beat_once().await? {
                if matches!(end, End::Lost) {
                    self.forget(true);
                }
                return Ok(end);
            }
        }
    }

    /// Gives an event to the reader and waits until it is dealt with; the session must not end meanwhile, and the
    /// coordinator's own limit is the rebalance time-out.
    async fn tell_alive(&self, events: &mpsc::Sender<(GroupEvent, oneshot::Sender<()>)>, event: GroupEvent) {
        let (done, mut dealt_with) = oneshot::channel();
        let told = async {
            // A reader that is gone aborts this task.
            let _ = events.send((event, done)).await;
            let _ = (&mut dealt_with).await;
        };
        tokio::pin!(told);
        loop {
            tokio::select! {
                () = &mut told => return,
                () = tokio::time::sleep(self.interval()) => {
                    if self.identity().generation >= 0 {
                        // Whatever it answers: the group rebalances, and the next join finds out where it stands.
                        let _ = self.beat_once().await;
                    }
                }
            }
        }
    }

    /// Waits after an error that passes; gives back one that stays.
    async fn retry(&self, error: GroupError) -> Result<(), GroupError> {
        match error {
            GroupError::Failed { .. } => {
                tokio::time::sleep(RETRY).await;
                Ok(())
            }
            error => Err(error),
        }
    }

    async fn leave(&self) {
        let identity = {
            let mut identity = self.identity();
            std::mem::replace(&mut *identity, Identity { member: String::new(), generation: -1 })
        };
        if identity.member.is_empty() {
            return;
        }
        let member = MemberIdentity::default()
            .with_member_id(text(&identity.member))
            .with_group_instance_id(self.settings.instance_id.as_deref().map(text));
        let request =
            LeaveGroupRequest::default().with_group_id(GroupId(text(&self.group))).with_members(vec![member]);
        // Without an answer the session's end does the same.
        let _ = self.ask(LEAVE_VERSION, Request::Leave(request)).await;
    }
}

fn mixed_up(group: &str) -> GroupError {
    GroupError::Failed {
        group: group.to_owned(),
        reason: "the coordinator answered another question".to_owned(),
    }
}

fn check(group: &str, code: i16) -> Result<(), GroupError> {
    ResponseError::try_from_code(code).map_or(Ok(()), |error| Err(failed(group, error)))
}

fn failed(group: &str, error: ResponseError) -> GroupError {
    let group = group.to_owned();
    match error {
        ResponseError::UnknownMemberId
        | ResponseError::IllegalGeneration
        | ResponseError::RebalanceInProgress => GroupError::Rebalanced { group },
        ResponseError::CoordinatorLoadInProgress
        | ResponseError::CoordinatorNotAvailable
        | ResponseError::NotCoordinator => GroupError::Failed { group, reason: error.to_string() },
        error => GroupError::Refused { group, reason: error.to_string() },
    }
}
