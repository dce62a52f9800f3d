//! What members of the new protocol do: join, tell what they hold, and leave; all by one request. And what
//! happens to those who stay silent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::consumer_group_heartbeat_response as response;
use kafka_protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
use kafka_protocol::protocol::StrBytes;
use regex::RegexBuilder;

use super::assign::{Assignor, Wish, assign};
use super::reconcile::reconcile;
use super::{AWAY_EPOCH, Consumer, Member, nothing_yet};
use crate::groups::records::{Assignment, Change, CurrentValue, MemberState, MemberValue, TopicValue};
use crate::groups::shard::{Context, Group, Kind, Outputs, Shard, Topics, check_group_id};
use crate::groups::timers::Key;
use crate::groups::{Caller, MEMBER_TOPICS_MAX, NAME_BYTES_MAX, text};

/// The member epoch of one who leaves.
const LEAVE_EPOCH: i32 = -1;
/// From this version on members make their ids themselves (KIP-1082), and may name topics by a regex.
const OWN_ID_FROM: i16 = 1;
/// Bytes of the program a regex compiles to.
const REGEX_BYTES_MAX: usize = 1 << 20;
/// Topics of the broker itself, which no regex means.
const INTERNAL_PREFIX: &str = "__";

/// What is wrong, with a sentence for the client's log.
struct Refusal(ResponseError, String);

fn refuse<T>(error: ResponseError, why: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal(error, why.into()))
}

impl Shard {
    pub(in crate::groups) fn consumer_heartbeat(
        &mut self,
        caller: &Caller,
        request: &ConsumerGroupHeartbeatRequest,
        now_ms: i64,
        out: &mut Outputs,
    ) -> ConsumerGroupHeartbeatResponse {
        self.try_consumer_heartbeat(caller, request, now_ms, out).unwrap_or_else(|Refusal(error, why)| {
            ConsumerGroupHeartbeatResponse::default()
                .with_error_code(error.code())
                .with_error_message(Some(text(&why)))
        })
    }

    fn try_consumer_heartbeat(
        &mut self,
        caller: &Caller,
        request: &ConsumerGroupHeartbeatRequest,
        now_ms: i64,
        out: &mut Outputs,
    ) -> Result<ConsumerGroupHeartbeatResponse, Refusal> {
        check_request(caller, request)?;
        let id = request.group_id.as_str();
        let joins = request.member_epoch == 0;
        if let Some(Group { kind: Kind::Classic(classic), .. }) = self.groups.get(id)
            && (!joins || !classic.is_empty())
        {
            return refuse(ResponseError::GroupIdNotFound, format!("group `{id}` is not a consumer group"));
        }
        if joins {
            self.make_group(id, || Group {
                kind: Kind::Consumer(Box::default()),
                offsets: Default::default(),
            })
            .map_err(|error| Refusal(error, format!("no room for group `{id}`")))?;
        }
        self.with_group(id, now_ms, out, |group, cx| {
            if let Kind::Classic(_) = &group.kind {
                // A classic group without members: the new protocol takes over, the offsets stay.
                cx.write(&Change::Classic { group: cx.group.clone(), value: None });
                group.kind = Kind::Consumer(Box::default());
            }
            match &mut group.kind {
                Kind::Consumer(consumer) if request.member_epoch < 0 => consumer.leave(request, cx),
                Kind::Consumer(consumer) => consumer.heartbeat(caller, request, cx),
                Kind::Classic(_) => refuse(ResponseError::GroupIdNotFound, "not a consumer group"),
            }
        })
        .unwrap_or_else(|| refuse(ResponseError::GroupIdNotFound, format!("group `{id}` is not there")))
    }
}

fn check_request(caller: &Caller, request: &ConsumerGroupHeartbeatRequest) -> Result<(), Refusal> {
    let invalid = |why: &str| refuse(ResponseError::InvalidRequest, why);
    if check_group_id(&request.group_id).is_err() {
        return invalid("the group id is empty or too long");
    }
    let names = [Some(&request.member_id), request.instance_id.as_ref(), request.rack_id.as_ref()];
    let regex = request.subscribed_topic_regex.as_ref();
    if names.iter().flatten().any(|name| name.len() > NAME_BYTES_MAX)
        || regex.is_some_and(|r| r.len() > NAME_BYTES_MAX)
    {
        return invalid("a name is too long");
    }
    if names[1..].iter().flatten().any(|name| name.is_empty()) {
        return invalid("an instance id or rack id that is given must not be empty");
    }
    let topics = request.subscribed_topic_names.as_ref();
    if topics.is_some_and(|topics| topics.len() > MEMBER_TOPICS_MAX) {
        return invalid("too many topics");
    }
    let epoch = request.member_epoch;
    if epoch < AWAY_EPOCH {
        return invalid("the member epoch is invalid");
    }
    if request.member_id.is_empty() && (epoch != 0 || caller.version >= OWN_ID_FROM) {
        return invalid("the member id must not be empty");
    }
    if epoch == AWAY_EPOCH && request.instance_id.is_none() {
        return invalid("only a static member can be away");
    }
    if epoch == 0 {
        if request.rebalance_timeout_ms < 0 {
            return invalid("a rebalance time-out must be given when joining");
        }
        if request.topic_partitions.as_ref().is_none_or(|owned| !owned.is_empty()) {
            return invalid("a member holds nothing when it joins");
        }
        if topics.is_none_or(|topics| topics.is_empty() && caller.version < OWN_ID_FROM) && regex.is_none() {
            return invalid("topics must be named when joining");
        }
    } else if request.rebalance_timeout_ms < -1 {
        return invalid("the rebalance time-out is negative");
    }
    if let Some(assignor) = &request.server_assignor
        && Assignor::parse(assignor).is_none()
    {
        let why = format!("assignor `{assignor}` is not known; there are `uniform` and `range`");
        return refuse(ResponseError::UnsupportedAssignor, why);
    }
    Ok(())
}

impl Consumer {
    fn heartbeat(
        &mut self,
        caller: &Caller,
        request: &ConsumerGroupHeartbeatRequest,
        cx: &mut Context<'_>,
    ) -> Result<ConsumerGroupHeartbeatResponse, Refusal> {
        // Checked before anything changes: a refused request leaves no trace.
        let matched = match request.subscribed_topic_regex.as_deref() {
            Some(regex) if !regex.is_empty() => Some(match_topics(regex, cx.topics)?),
            Some(_) => Some(BTreeSet::new()),
            None => None,
        };
        let owned = request.topic_partitions.as_ref().map(|topics| {
            let mut owned = Assignment::new();
            for topic in topics {
                owned.entry(topic.topic_id).or_default().extend(&topic.partitions);
            }
            owned
        });
        let id = self.admit(request, owned.as_ref(), cx)?;
        let before = self.members.get(&id).map(|member| member.current.assigned.clone()).unwrap_or_default();

        let subscribed = self.update(&id, caller, request, matched, cx);
        self.refresh_topics(subscribed, cx);
        if self.epoch > self.target_epoch {
            self.update_target(cx);
        }
        self.reconcile(&id, owned.as_ref(), cx);

        let Some(member) = self.members.get_mut(&id) else {
            return refuse(ResponseError::UnknownMemberId, "the member is gone");
        };
        member.reset_session(&id, cx);
        let current = &member.current;
        let full = request.member_epoch == 0
            || request.rebalance_timeout_ms != -1
                && request.subscribed_topic_names.is_some()
                && owned.is_some();
        let mut answer = ConsumerGroupHeartbeatResponse::default()
            .with_member_id(Some(text(&id)))
            .with_member_epoch(current.epoch)
            .with_heartbeat_interval_ms(cx.config.consumer_heartbeat_interval_ms);
        if full || current.assigned != before {
            let topics = current.assigned.iter().map(|(topic, partitions)| {
                response::TopicPartitions::default()
                    .with_topic_id(*topic)
                    .with_partitions(partitions.iter().copied().collect())
            });
            answer.assignment = Some(response::Assignment::default().with_topic_partitions(topics.collect()));
        }
        Ok(answer)
    }

    /// The member that the request speaks for, made if it joins.
    fn admit(
        &mut self,
        request: &ConsumerGroupHeartbeatRequest,
        owned: Option<&Assignment>,
        cx: &mut Context<'_>,
    ) -> Result<Arc<str>, Refusal> {
        let (given, joins) = (request.member_id.as_str(), request.member_epoch == 0);
        let holder = request.instance_id.as_deref().and_then(|instance| self.statics.get(instance)).cloned();
        if joins {
            let replaces = match (&holder, request.instance_id.as_deref()) {
                (Some(holder), Some(instance)) if &**holder != given => {
                    if self.members.get(holder).is_some_and(|member| member.current.epoch != AWAY_EPOCH) {
                        let why = format!("instance id `{instance}` is held by member `{holder}`");
                        return refuse(ResponseError::UnreleasedInstanceId, why);
                    }
                    Some(holder.clone())
                }
                _ => None,
            };
            let known = self.members.contains_key(given);
            if !known && replaces.is_none() && self.members.len() >= cx.config.group_max_size {
                return refuse(
                    ResponseError::GroupMaxSizeReached,
                    "the group has all the members it may have",
                );
            }
            let id: Arc<str> = if given.is_empty() {
                Arc::from((cx.new_id)().simple().to_string())
            } else {
                Arc::from(given)
            };
            if let Some(old) = replaces {
                self.replace(&old, &id, cx);
            } else if known {
                // It joins anew and says that it holds nothing: what it had is free for others.
                let fresh = CurrentValue { epoch: 0, ..nothing_yet() };
                let changed = self.members.get(&id).is_some_and(|member| member.current != fresh);
                if changed {
                    let group = cx.group.clone();
                    self.write(Change::Current { group, member: id.clone(), value: Some(fresh) }, cx);
                }
            }
            return Ok(id);
        }
        if let Some(instance) = request.instance_id.as_deref() {
            match &holder {
                None => {
                    return refuse(
                        ResponseError::UnknownMemberId,
                        format!("instance id `{instance}` is not known"),
                    );
                }
                Some(holder) if &**holder != given => {
                    let why = format!("instance id `{instance}` is held by member `{holder}`");
                    return refuse(ResponseError::FencedInstanceId, why);
                }
                Some(_) => {}
            }
        }
        let Some((_, id, member)) = self.members.get_full(given) else {
            return refuse(ResponseError::UnknownMemberId, format!("member `{given}` is not in the group"));
        };
        let (epoch, current) = (request.member_epoch, &member.current);
        // The answer with the newer epoch may have been lost: then it still holds no more than it was given.
        let behind_by_one =
            epoch == current.previous_epoch && owned.is_some_and(|owned| is_within(owned, &current.assigned));
        if epoch > current.epoch || epoch < current.epoch && !behind_by_one {
            let why = format!(
                "the member's epoch is {}, not {epoch}: it must give up its partitions and join again",
                current.epoch
            );
            return refuse(ResponseError::FencedMemberEpoch, why);
        }
        Ok(id.clone())
    }

    /// A static member is back under another id: it takes over what the old one had.
    fn replace(&mut self, old: &Arc<str>, id: &Arc<str>, cx: &mut Context<'_>) {
        let Some(Member { value, current, .. }) = self.members.get(old).cloned() else { return };
        let target = self.target.get(old).cloned();
        self.remove(old, cx);
        let group = cx.group.clone();
        self.write(Change::Member { group: group.clone(), member: id.clone(), value: Some(value) }, cx);
        if let Some(target) = target {
            self.write(Change::Target { group: group.clone(), member: id.clone(), value: Some(target) }, cx);
        }
        let current = CurrentValue { epoch: 0, previous_epoch: 0, revoking: Assignment::new(), ..current };
        self.write(Change::Current { group, member: id.clone(), value: Some(current) }, cx);
    }

    /// Takes what the request tells about the member. True if it now reads other topics.
    fn update(
        &mut self,
        id: &Arc<str>,
        caller: &Caller,
        request: &ConsumerGroupHeartbeatRequest,
        matched: Option<BTreeSet<Arc<str>>>,
        cx: &mut Context<'_>,
    ) -> bool {
        let known = self.members.get(id);
        let old = known.map(|member| member.value.clone()).unwrap_or_default();
        let set = |given: &Option<StrBytes>, old: &Option<Arc<str>>| {
            given.as_deref().map(Arc::from).or(old.clone())
        };
        let value = MemberValue {
            instance: set(&request.instance_id, &old.instance),
            rack: set(&request.rack_id, &old.rack),
            client_id: caller.client_id.clone(),
            client_host: caller.host.clone(),
            topics: match &request.subscribed_topic_names {
                Some(names) => names.iter().map(|name| Arc::from(name.as_str())).collect(),
                None => old.topics.clone(),
            },
            regex: match request.subscribed_topic_regex.as_deref() {
                Some("") => None,
                Some(regex) => Some(Arc::from(regex)),
                None => old.regex.clone(),
            },
            rebalance_timeout_ms: if request.rebalance_timeout_ms >= 0 {
                request.rebalance_timeout_ms
            } else {
                old.rebalance_timeout_ms
            },
            assignor: set(&request.server_assignor, &old.assignor),
        };
        let is_new = known.is_none();
        let reads_other = is_new
            || value.topics != old.topics
            || value.regex != old.regex
            || known.is_some_and(|member| matched.as_ref().is_some_and(|matched| *matched != member.matched));
        if is_new || value != old {
            let group = cx.group.clone();
            self.write(Change::Member { group, member: id.clone(), value: Some(value) }, cx);
        }
        if let Some(matched) = matched
            && let Some(member) = self.members.get_mut(id)
        {
            member.matched = matched;
        }
        reads_other
    }

    /// Looks at the topics again if the members read others or topics changed; begins a new epoch if that
    /// makes a difference.
    fn refresh_topics(&mut self, changed: bool, cx: &mut Context<'_>) {
        if !changed && !self.stale {
            return;
        }
        let mut bump = changed;
        if std::mem::take(&mut self.stale) {
            for member in self.members.values_mut() {
                if let Some(regex) = &member.value.regex {
                    // It was good when the member came with it.
                    let matched = match_topics(regex, cx.topics).unwrap_or_default();
                    bump |= matched != member.matched;
                    member.matched = matched;
                }
            }
        }
        let topics = self.read_topics(cx.topics);
        let group = cx.group.clone();
        if topics != self.topics {
            bump = true;
            self.write(Change::Topics { group: group.clone(), value: Some(topics) }, cx);
        }
        if bump {
            let epoch = self.epoch + 1;
            self.write(Change::Epoch { group, value: Some(epoch) }, cx);
        }
    }

    fn read_topics(&self, topics: &Topics) -> BTreeMap<Arc<str>, TopicValue> {
        let names = self.subscribed_topics();
        names
            .into_iter()
            .filter_map(|name| {
                topics.get(&name).map(|(id, partitions)| (name, TopicValue { id, partitions }))
            })
            .collect()
    }

    fn update_target(&mut self, cx: &mut Context<'_>) {
        let wishes = self
            .members
            .iter()
            .map(|(id, member)| Wish {
                member: id,
                order: (member.value.instance.as_deref().unwrap_or(id), id),
                topics: member.subscribed().collect(),
                before: self.target.get(id),
            })
            .collect();
        let target = assign(Assignor::of_members(&self.members), wishes, &self.topics);
        let group = cx.group.clone();
        for (member, share) in target {
            if self.target.get(&member) != Some(&share) {
                self.write(Change::Target { group: group.clone(), member, value: Some(share) }, cx);
            }
        }
        let epoch = self.epoch;
        self.write(Change::TargetEpoch { group, value: Some(epoch) }, cx);
    }

    fn reconcile(&mut self, id: &Arc<str>, owned: Option<&Assignment>, cx: &mut Context<'_>) {
        let Some(member) = self.members.get(id) else { return };
        let none = Assignment::new();
        let target = self.target.get(id).unwrap_or(&none);
        let next = reconcile(&member.current, self.target_epoch, target, owned, |topic, partition| {
            self.owners.contains_key(&(topic, partition))
        });
        if next == member.current {
            return;
        }
        let revokes = next.state == MemberState::Unrevoked;
        let group = cx.group.clone();
        self.write(Change::Current { group, member: id.clone(), value: Some(next) }, cx);
        if let Some(member) = self.members.get_mut(id) {
            if revokes {
                member.reset_revocation(id, cx);
            } else {
                member.revocation.cancel();
            }
        }
    }

    fn leave(
        &mut self,
        request: &ConsumerGroupHeartbeatRequest,
        cx: &mut Context<'_>,
    ) -> Result<ConsumerGroupHeartbeatResponse, Refusal> {
        let given = request.member_id.as_str();
        if let Some(instance) = request.instance_id.as_deref() {
            match self.statics.get(instance) {
                None => {
                    return refuse(
                        ResponseError::UnknownMemberId,
                        format!("instance id `{instance}` is not known"),
                    );
                }
                Some(holder) if &**holder != given => {
                    let why = format!("instance id `{instance}` is held by member `{holder}`");
                    return refuse(ResponseError::FencedInstanceId, why);
                }
                Some(_) => {}
            }
        }
        let Some((_, id, member)) = self.members.get_full(given) else {
            return refuse(ResponseError::UnknownMemberId, format!("member `{given}` is not in the group"));
        };
        let id = id.clone();
        if request.member_epoch == AWAY_EPOCH {
            let current =
                CurrentValue { epoch: AWAY_EPOCH, revoking: Assignment::new(), ..member.current.clone() };
            let group = cx.group.clone();
            self.write(Change::Current { group, member: id, value: Some(current) }, cx);
        } else {
            debug_assert_eq!(request.member_epoch, LEAVE_EPOCH);
            self.fence(&id, cx);
        }
        Ok(ConsumerGroupHeartbeatResponse::default()
            .with_member_id(Some(request.member_id.clone()))
            .with_member_epoch(request.member_epoch))
    }

    fn remove(&mut self, id: &Arc<str>, cx: &mut Context<'_>) {
        let group = cx.group.clone();
        self.write(Change::Current { group: group.clone(), member: id.clone(), value: None }, cx);
        self.write(Change::Target { group: group.clone(), member: id.clone(), value: None }, cx);
        self.write(Change::Member { group, member: id.clone(), value: None }, cx);
    }

    /// Takes a member out; what it held is free at once, and the others get it in the next epoch.
    fn fence(&mut self, id: &Arc<str>, cx: &mut Context<'_>) {
        self.remove(id, cx);
        self.refresh_topics(true, cx);
    }

    /// The session of a member, or a stale entry of one.
    pub(in crate::groups) fn session_alarm(&mut self, id: &Arc<str>, entry_ms: i64, cx: &mut Context<'_>) {
        let key = || Key::Session(cx.group.clone(), id.clone());
        if let Some(member) = self.members.get_mut(id)
            && member.session.popped(entry_ms, cx.now_ms, cx.timers, key)
        {
            self.fence(id, cx);
        }
    }

    /// The time in which a member must give partitions back, or a stale entry of one.
    pub(in crate::groups) fn revocation_alarm(&mut self, id: &Arc<str>, entry_ms: i64, cx: &mut Context<'_>) {
        let key = || Key::Revocation(cx.group.clone(), id.clone());
        if let Some(member) = self.members.get_mut(id)
            && member.revocation.popped(entry_ms, cx.now_ms, cx.timers, key)
            && member.current.state == MemberState::Unrevoked
        {
            self.fence(id, cx);
        }
    }
}

fn is_within(owned: &Assignment, assigned: &Assignment) -> bool {
    owned.iter().all(|(topic, partitions)| {
        partitions.is_empty() || assigned.get(topic).is_some_and(|given| partitions.is_subset(given))
    })
}

/// The topics whose whole name the regex matches.
fn match_topics(regex: &str, topics: &Topics) -> Result<BTreeSet<Arc<str>>, Refusal> {
    let compiled = RegexBuilder::new(&format!("^(?:{regex})$"))
        .size_limit(REGEX_BYTES_MAX)
        .dfa_size_limit(REGEX_BYTES_MAX)
        .build()
        .map_err(|error| Refusal(ResponseError::InvalidRegularExpression, format!("`{regex}`: {error}")))?;
    Ok(topics
        .names()
        .filter(|name| !name.starts_with(INTERNAL_PREFIX) && compiled.is_match(name))
        .cloned()
        .collect())
}
