//! A group of the classic protocol: the members choose a leader among them, and the leader assigns. Here is what
//! a group is and how members come and go; [`join`] and [`sync`] hold what requests and time do to it.

mod join;
mod sync;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::{JoinGroupResponse, SyncGroupResponse};

use indexmap::IndexMap;

use super::codec::Reader;
use super::records::{Change, ClassicMemberValue, ClassicValue};
use super::shard::{Context, Reply, Token};
use super::text;
use super::timers::{Alarm, Key};

/// The protocol type of consumers, as against connect workers and others that use groups.
pub(super) const CONSUMER_PROTOCOL_TYPE: &str = "consumer";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum State {
    #[default]
    Empty,
    /// Members are asked to join again; those who did wait for the others.
    PreparingRebalance,
    /// All know the new generation; the leader's assignment is awaited.
    CompletingRebalance,
    Stable,
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            State::Empty => "Empty",
            State::PreparingRebalance => "PreparingRebalance",
            State::CompletingRebalance => "CompletingRebalance",
            State::Stable => "Stable",
        }
    }
}

/// What the group's alarm is set for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Awaiting {
    #[default]
    Nothing,
    /// The members that still have to join.
    Join,
    /// More first members, for at most this much longer.
    First { delay_ms: i64, remaining_ms: i64 },
    /// The members that joined and have not come for their assignment.
    Sync,
}

#[derive(Debug, Default)]
pub(super) struct Classic {
    state: State,
    /// The state before `PreparingRebalance`: a first rebalance ends by time alone.
    previous: State,
    /// When the state was entered; offsets of an empty group age from here.
    state_since_ms: Option<i64>,
    protocol_type: Option<Arc<str>>,
    protocol: Option<Arc<str>>,
    leader: Option<Arc<str>>,
    generation: i32,
    members: IndexMap<Arc<str>, Member>,
    /// Member ids by group instance id.
    statics: BTreeMap<Arc<str>, Arc<str>>,
    /// Ids that were handed out and have not come back (KIP-394).
    pending: BTreeMap<Arc<str>, Alarm>,
    /// Members that joined this generation and have not asked for their assignment.
    unsynced: BTreeSet<Arc<str>>,
    new_member_added: bool,
    awaiting: Awaiting,
    alarm: Alarm,
    /// Whether the log knows of the group.
    written: bool,
}

#[derive(Debug)]
struct Member {
    instance: Option<Arc<str>>,
    client_id: Arc<str>,
    client_host: Arc<str>,
    rebalance_timeout_ms: i32,
    session_timeout_ms: i32,
    protocols: Vec<Protocol>,
    assignment: Bytes,
    joining: Option<Token>,
    syncing: Option<Token>,
    /// Has not been through a whole join yet: its session runs even while it waits.
    is_new: bool,
    session: Alarm,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Protocol {
    name: Arc<str>,
    metadata: Bytes,
}

impl Member {
    fn supports(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|own| &*own.name == protocol)
    }

    fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols
            .iter()
            .find(|own| &*own.name == protocol)
            .map(|own| own.metadata.clone())
            .unwrap_or_default()
    }

    fn matches(&self, protocols: &[JoinGroupRequestProtocol]) -> bool {
        self.protocols.len() == protocols.len()
            && self
                .protocols
                .iter()
                .zip(protocols)
                .all(|(own, given)| *own.name == *given.name && own.metadata == given.metadata)
    }
}

/// Copies, so that a member does not keep the whole request in memory.
fn own_protocols(protocols: &[JoinGroupRequestProtocol]) -> Vec<Protocol> {
    protocols
        .iter()
        .map(|protocol| Protocol {
            name: Arc::from(protocol.name.as_str()),
            metadata: Bytes::copy_from_slice(&protocol.metadata),
        })
        .collect()
}

/// One member as DescribeGroups shows it.
pub(super) struct MemberView {
    pub id: Arc<str>,
    pub instance: Option<Arc<str>>,
    pub client_id: Arc<str>,
    pub client_host: Arc<str>,
    pub metadata: Bytes,
    pub assignment: Bytes,
}

impl Classic {
    pub fn from_value(value: ClassicValue) -> Classic {
        let mut classic = Classic {
            state: if value.members.is_empty() { State::Empty } else { State::Stable },
            state_since_ms: (value.state_timestamp_ms >= 0).then_some(value.state_timestamp_ms),
            protocol_type: Some(value.protocol_type).filter(|name| !name.is_empty()),
            protocol: value.protocol,
            leader: value.leader,
            generation: value.generation,
            written: true,
            ..Classic::default()
        };
        let protocol = classic.protocol.clone().unwrap_or_else(|| Arc::from(""));
        for member in value.members {
            if let Some(instance) = &member.instance {
                classic.statics.insert(instance.clone(), member.member.clone());
            }
            classic.members.insert(
                member.member,
                Member {
                    instance: member.instance,
                    client_id: member.client_id,
                    client_host: member.client_host,
                    rebalance_timeout_ms: member.rebalance_timeout_ms,
                    session_timeout_ms: member.session_timeout_ms,
                    protocols: vec![Protocol { name: protocol.clone(), metadata: member.subscription }],
                    assignment: member.assignment,
                    joining: None,
                    syncing: None,
                    is_new: false,
                    session: Alarm::default(),
                },
            );
        }
        classic
    }

    /// After a replay: each member has a session time-out to show itself.
    pub fn resume(&mut self, cx: &mut Context<'_>) {
        for (id, member) in &mut self.members {
            member.reset_session(id, cx);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.state == State::Empty
    }

    /// Nothing in memory or in the log would be missed.
    pub fn is_void(&self) -> bool {
        self.is_empty() && self.members.is_empty() && self.pending.is_empty() && !self.written
    }

    /// No member, and none on its way in.
    pub fn is_idle(&self) -> bool {
        self.is_empty() && self.pending.is_empty()
    }

    /// Never had a member since it was made: only commits offsets.
    pub fn is_simple(&self) -> bool {
        self.protocol_type.is_none()
    }

    pub fn state(&self) -> State {
        self.state
    }

    pub fn state_since_ms(&self) -> Option<i64> {
        self.state_since_ms
    }

    pub fn protocol_type(&self) -> &str {
        self.protocol_type.as_deref().unwrap_or("")
    }

    pub fn protocol(&self) -> &str {
        self.protocol.as_deref().unwrap_or("")
    }

    #[cfg(test)]
    pub fn generation(&self) -> i32 {
        self.generation
    }

    pub fn members(&self) -> impl Iterator<Item = MemberView> {
        let protocol = if self.state == State::Stable { self.protocol.clone() } else { None };
        self.members.iter().map(move |(id, member)| MemberView {
            id: id.clone(),
            instance: member.instance.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            // Kafka shows metadata and assignment of a stable group only.
            metadata: protocol.as_ref().map(|name| member.metadata(name)).unwrap_or_default(),
            assignment: if protocol.is_some() { member.assignment.clone() } else { Bytes::new() },
        })
    }

    /// The topics that members read, as far as they say so in the consumer protocol.
    pub fn subscribed_topics(&self) -> BTreeSet<Arc<str>> {
        let mut topics = BTreeSet::new();
        if self.protocol_type() != CONSUMER_PROTOCOL_TYPE {
            return topics;
        }
        for member in self.members.values() {
            let metadata = match &self.protocol {
                Some(protocol) => member.metadata(protocol),
                None => member.protocols.first().map(|own| own.metadata.clone()).unwrap_or_default(),
            };
            let mut from = Reader::new(&metadata);
            let read = from.i16().and_then(|_| from.count(false));
            for _ in 0..read.unwrap_or(0) {
                // What cannot be read was made by a client with its own idea of metadata; it is not ours to judge.
                let Ok(topic) = from.string(false) else { break };
                topics.insert(topic);
            }
        }
        topics
    }

    /// The member, if the request may speak for it (KIP-345: of two with one instance id the later one stands).
    ///
    /// # Errors
    /// UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID.
    fn check_member(&self, member: &str, instance: Option<&str>) -> Result<(), ResponseError> {
        if let Some(instance) = instance {
            match self.statics.get(instance) {
                None => return Err(ResponseError::UnknownMemberId),
                Some(known) if &**known != member => return Err(ResponseError::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member) { Ok(()) } else { Err(ResponseError::UnknownMemberId) }
    }

    /// Whether offsets may be committed in the name of this member and generation. A commit of a member counts
    /// as a sign of life.
    ///
    /// # Errors
    /// UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID, ILLEGAL_GENERATION, REBALANCE_IN_PROGRESS.
    pub fn check_commit(
        &mut self,
        member: &str,
        instance: Option<&str>,
        generation: i32,
        transactional: bool,
        cx: &mut Context<'_>,
    ) -> Result<(), ResponseError> {
        if generation < 0 && self.is_empty() {
            return Ok(());
        }
        if generation >= 0 || !member.is_empty() || instance.is_some() {
            self.check_member(member, instance)?;
            if generation != self.generation {
                return Err(ResponseError::IllegalGeneration);
            }
        } else if !transactional && !self.is_empty() {
            return Err(ResponseError::UnknownMemberId);
        }
        if !transactional && self.state == State::CompletingRebalance {
            // The member has joined and must learn its assignment first.
            return Err(ResponseError::RebalanceInProgress);
        }
        if !transactional && let Some((_, id, member)) = self.members.get_full_mut(member) {
            member.reset_session(id, cx);
        }
        Ok(())
    }

    fn enter(&mut self, state: State, cx: &Context<'_>) {
        self.previous = self.state;
        self.state = state;
        self.state_since_ms = Some(cx.now_ms);
    }

    fn await_until(&mut self, awaiting: Awaiting, delay_ms: i64, cx: &mut Context<'_>) {
        self.awaiting = awaiting;
        if awaiting == Awaiting::Nothing {
            self.alarm.cancel();
        } else {
            let group = cx.group.clone();
            self.alarm.set(cx.now_ms.saturating_add(delay_ms.max(0)), cx.timers, || Key::Group(group));
        }
    }

    fn rebalance_timeout_ms(&self) -> i64 {
        self.members.values().map(|member| i64::from(member.rebalance_timeout_ms)).max().unwrap_or(0)
    }

    fn all_joined(&self) -> bool {
        self.pending.is_empty() && self.members.values().all(|member| member.joining.is_some())
    }

    fn joining(&self) -> usize {
        self.members.values().filter(|member| member.joining.is_some()).count()
    }

    fn is_leader(&self, member: &str) -> bool {
        self.leader.as_deref() == Some(member)
    }

    /// Protocols that every member knows.
    fn supported_by_all(&self, protocol: &str) -> bool {
        self.members.values().all(|member| member.supports(protocol))
    }

    /// Whether a member with these protocols can be in the group.
    fn accepts(&self, protocol_type: &str, protocols: &[JoinGroupRequestProtocol]) -> bool {
        if self.is_empty() {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols.iter().any(|protocol| self.supported_by_all(&protocol.name))
    }

    /// Each member votes for the first of its protocols that all know; the most votes win, of equal ones the
    /// one named first.
    fn select_protocol(&self) -> Option<Arc<str>> {
        let mut votes: IndexMap<&Arc<str>, usize> = IndexMap::new();
        for member in self.members.values() {
            if let Some(choice) = member.protocols.iter().find(|own| self.supported_by_all(&own.name)) {
                *votes.entry(&choice.name).or_default() += 1;
            }
        }
        let most = votes.values().copied().max()?;
        votes.iter().find(|(_, count)| **count == most).map(|(name, _)| (*name).clone())
    }

    /// The members as their leader gets to see them.
    fn joined_members(&self) -> Vec<JoinGroupResponseMember> {
        let protocol = self.protocol.as_deref().unwrap_or("");
        self.members
            .iter()
            .map(|(id, member)| {
                JoinGroupResponseMember::default()
                    .with_member_id(text(id))
                    .with_group_instance_id(member.instance.as_deref().map(text))
                    .with_metadata(member.metadata(protocol))
            })
            .collect()
    }

    /// The answer to a join of the generation that is.
    fn joined(&self, member: &str) -> JoinGroupResponse {
        let members = if self.is_leader(member) { self.joined_members() } else { Vec::new() };
        JoinGroupResponse::default()
            .with_generation_id(self.generation)
            .with_protocol_type(self.protocol_type.as_deref().map(text))
            .with_protocol_name(self.protocol.as_deref().map(text))
            .with_leader(text(self.leader.as_deref().unwrap_or("")))
            .with_member_id(text(member))
            .with_members(members)
    }

    fn synced(&self, member: &Member) -> SyncGroupResponse {
        SyncGroupResponse::default()
            .with_protocol_type(self.protocol_type.as_deref().map(text))
            .with_protocol_name(self.protocol.as_deref().map(text))
            .with_assignment(member.assignment.clone())
    }

    /// Takes a member out; whoever waits in its name is told so.
    fn remove(&mut self, id: &str, cx: &mut Context<'_>) {
        self.pending.remove(id);
        self.unsynced.remove(id);
        let Some(member) = self.members.shift_remove(id) else { return };
        if let Some(token) = member.joining {
            cx.reply(token, join_error("", ResponseError::UnknownMemberId));
        }
        if let Some(token) = member.syncing {
            cx.reply(token, sync_error(ResponseError::UnknownMemberId));
        }
        if let Some(instance) = &member.instance
            && self.statics.get(instance).is_some_and(|known| &**known == id)
        {
            self.statics.remove(instance);
        }
        if self.is_leader(id) {
            self.leader = self.members.keys().next().cloned();
        }
    }

    /// Writes the group as it is, with the assignments its members have.
    pub(super) fn write(&mut self, cx: &mut Context<'_>) {
        let protocol = self.protocol.clone().unwrap_or_else(|| Arc::from(""));
        let members = self
            .members
            .iter()
            .map(|(id, member)| ClassicMemberValue {
                member: id.clone(),
                instance: member.instance.clone(),
                client_id: member.client_id.clone(),
                client_host: member.client_host.clone(),
                rebalance_timeout_ms: member.rebalance_timeout_ms,
                session_timeout_ms: member.session_timeout_ms,
                subscription: member.metadata(&protocol),
                assignment: member.assignment.clone(),
            })
            .collect();
        let value = ClassicValue {
            protocol_type: self.protocol_type.clone().unwrap_or_else(|| Arc::from("")),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            state_timestamp_ms: self.state_since_ms.unwrap_or(-1),
            members,
        };
        self.written = true;
        let group = cx.group.clone();
        cx.write(&Change::Classic { group, value: Some(value) });
    }

    /// Bytes of the record that [`Classic::write`] would make, about.
    fn record_bytes(&self) -> usize {
        self.members
            .iter()
            .map(|(id, member)| {
                let metadata = member.protocols.iter().map(|own| own.metadata.len()).max().unwrap_or(0);
                64 + id.len() + member.client_id.len() + metadata + member.assignment.len()
            })
            .sum()
    }
}

impl Member {
    fn reset_session(&mut self, id: &Arc<str>, cx: &mut Context<'_>) {
        self.reset_session_in(id, self.session_timeout_ms, cx);
    }

    fn reset_session_in(&mut self, id: &Arc<str>, timeout_ms: i32, cx: &mut Context<'_>) {
        let (group, id) = (&cx.group, id);
        self.session.set(cx.now_ms.saturating_add(i64::from(timeout_ms)), cx.timers, || {
            Key::Session(group.clone(), id.clone())
        });
    }
}

fn join_error(member: &str, error: ResponseError) -> Reply {
    Reply::Join(
        JoinGroupResponse::default()
            .with_error_code(error.code())
            .with_generation_id(-1)
            .with_protocol_name(Some(text("")))
            .with_member_id(text(member)),
    )
}

fn sync_error(error: ResponseError) -> Reply {
    Reply::Sync(SyncGroupResponse::default().with_error_code(error.code()))
}
