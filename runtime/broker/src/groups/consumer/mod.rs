//! A group of the new protocol (KIP-848): the coordinator assigns, members follow by heartbeats. Here is what a
//! group is and how records change it; [`heartbeat`] holds what members do, [`reconcile`] how one member gets
//! from what it has to what it shall have, [`assign`] who shall have what.

mod assign;
mod heartbeat;
mod reconcile;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use indexmap::IndexMap;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::consumer_group_describe_response as describe;
use uuid::Uuid;

use super::records::{Assignment, Change, CurrentValue, MemberState, MemberValue, TopicValue};
use super::shard::{Context, Topics};
use super::text;
use super::timers::{Alarm, Key};

/// The member epoch of a static member that is away and coming back.
const AWAY_EPOCH: i32 = -2;
/// The member type that ConsumerGroupDescribe 1 gives for members of this protocol.
const CONSUMER_MEMBER: i8 = 1;
/// From this version on commits can name a member epoch.
const COMMIT_WITH_EPOCH_FROM: i16 = 9;

#[derive(Debug, Default)]
pub(super) struct Consumer {
    epoch: i32,
    target_epoch: i32,
    pub members: IndexMap<Arc<str>, Member>,
    /// Member ids by group instance id.
    statics: BTreeMap<Arc<str>, Arc<str>>,
    target: BTreeMap<Arc<str>, Assignment>,
    /// The subscribed topics as they were when the epoch was set.
    topics: BTreeMap<Arc<str>, TopicValue>,
    /// Who holds a partition, also one that is to be given back.
    owners: BTreeMap<(Uuid, i32), Arc<str>>,
    /// Topics may have changed since the epoch was set.
    pub stale: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Member {
    value: MemberValue,
    current: CurrentValue,
    /// Topics that its regex stands for.
    matched: BTreeSet<Arc<str>>,
    session: Alarm,
    revocation: Alarm,
}

impl Default for Member {
    fn default() -> Member {
        Member {
            value: MemberValue::default(),
            current: nothing_yet(),
            matched: BTreeSet::new(),
            session: Alarm::default(),
            revocation: Alarm::default(),
        }
    }
}

impl Member {
    fn subscribed(&self) -> impl Iterator<Item = &Arc<str>> {
        self.value.topics.union(&self.matched)
    }
}

fn nothing_yet() -> CurrentValue {
    CurrentValue {
        epoch: 0,
        previous_epoch: 0,
        state: MemberState::Stable,
        assigned: Assignment::new(),
        revoking: Assignment::new(),
    }
}

impl Consumer {
    /// Makes a change, from a step or from the log.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Epoch { value: Some(epoch), .. } => self.epoch = epoch,
            Change::TargetEpoch { value: Some(epoch), .. } => self.target_epoch = epoch,
            Change::TargetEpoch { value: None, .. } => self.target_epoch = 0,
            Change::Topics { value, .. } => self.topics = value.unwrap_or_default(),
            Change::Member { member, value: Some(value), .. } => {
                if let Some(instance) = &value.instance {
                    self.statics.insert(instance.clone(), member.clone());
                }
                self.members.entry(member).or_default().value = value;
            }
            Change::Member { member, value: None, .. } => {
                self.set_current(&member, nothing_yet());
                if let Some(gone) = self.members.shift_remove(&member)
                    && let Some(instance) = gone.value.instance
                    && self.statics.get(&instance) == Some(&member)
                {
                    self.statics.remove(&instance);
                }
            }
            Change::Target { member, value: Some(value), .. } => {
                self.target.insert(member, value);
            }
            Change::Target { member, value: None, .. } => {
                self.target.remove(&member);
            }
            Change::Current { member, value, .. } => {
                self.set_current(&member, value.unwrap_or_else(nothing_yet))
            }
            // The rest is of other kinds of groups, and the epoch's end is the group's.
            Change::Epoch { value: None, .. }
            | Change::Offset { .. }
            | Change::Classic { .. }
            | Change::Other => {}
        }
    }

    fn set_current(&mut self, id: &Arc<str>, current: CurrentValue) {
        let Some(member) = self.members.get_mut(id) else { return };
        let old = std::mem::replace(&mut member.current, current);
        for partition in partitions(&old.assigned).chain(partitions(&old.revoking)) {
            if self.owners.get(&partition) == Some(id) {
                self.owners.remove(&partition);
            }
        }
        for partition in partitions(&member.current.assigned).chain(partitions(&member.current.revoking)) {
            self.owners.insert(partition, id.clone());
        }
    }

    fn write(&mut self, change: Change, cx: &mut Context<'_>) {
        cx.write(&change);
        self.apply(change);
    }

    /// After a replay: each member has a session time-out to show itself, and topics may have changed.
    pub fn resume(&mut self, cx: &mut Context<'_>) {
        self.stale = true;
        for (id, member) in &mut self.members {
            member.reset_session(id, cx);
            if member.current.state == MemberState::Unrevoked {
                member.reset_revocation(id, cx);
            }
        }
    }

    /// What takes the group out of the log.
    pub fn tombstones(&self, group: &Arc<str>) -> Vec<Change> {
        let group = || group.clone();
        let mut changes = Vec::new();
        for member in self.members.keys() {
            changes.push(Change::Current { group: group(), member: member.clone(), value: None });
        }
        for member in self.target.keys() {
            changes.push(Change::Target { group: group(), member: member.clone(), value: None });
        }
        changes.push(Change::TargetEpoch { group: group(), value: None });
        for member in self.members.keys() {
            changes.push(Change::Member { group: group(), member: member.clone(), value: None });
        }
        changes.push(Change::Topics { group: group(), value: None });
        changes.push(Change::Epoch { group: group(), value: None });
        changes
    }

    pub fn state_name(&self) -> &'static str {
        if self.members.is_empty() {
            "Empty"
        } else if self.epoch > self.target_epoch {
            "Assigning"
        } else if self.members.values().all(|member| self.is_reconciled(member)) {
            "Stable"
        } else {
            "Reconciling"
        }
    }

    fn is_reconciled(&self, member: &Member) -> bool {
        member.current.state == MemberState::Stable && member.current.epoch == self.target_epoch
    }

    pub fn subscribed_topics(&self) -> BTreeSet<Arc<str>> {
        self.members.values().flat_map(Member::subscribed).cloned().collect()
    }

    /// Whether offsets may be committed in the name of this member and epoch; no version for a transaction.
    ///
    /// # Errors
    /// UNKNOWN_MEMBER_ID, STALE_MEMBER_EPOCH, UNSUPPORTED_VERSION.
    pub fn check_commit(&self, member: &str, epoch: i32, version: Option<i16>) -> Result<(), ResponseError> {
        if epoch < 0 && self.members.is_empty() {
            return Ok(());
        }
        let member = self.members.get(member).ok_or(ResponseError::UnknownMemberId)?;
        if version.is_some_and(|version| version < COMMIT_WITH_EPOCH_FROM) {
            return Err(ResponseError::UnsupportedVersion);
        }
        if member.current.epoch == epoch { Ok(()) } else { Err(ResponseError::StaleMemberEpoch) }
    }

    /// # Errors
    /// UNKNOWN_MEMBER_ID, STALE_MEMBER_EPOCH.
    pub fn check_fetch(&self, member: Option<&str>, epoch: i32) -> Result<(), ResponseError> {
        let member = match member {
            None | Some("") if epoch < 0 => return Ok(()),
            member => {
                member.and_then(|member| self.members.get(member)).ok_or(ResponseError::UnknownMemberId)?
            }
        };
        if member.current.epoch == epoch { Ok(()) } else { Err(ResponseError::StaleMemberEpoch) }
    }

    pub fn describe(&self, answer: describe::DescribedGroup, topics: &Topics) -> describe::DescribedGroup {
        let view = |assignment: &Assignment| {
            let topics = assignment.iter().map(|(id, partitions)| {
                describe::TopicPartitions::default()
                    .with_topic_id(*id)
                    .with_topic_name(TopicName(text(topics.name(id).map_or("", |name| name))))
                    .with_partitions(partitions.iter().copied().collect())
            });
            describe::Assignment::default().with_topic_partitions(topics.collect())
        };
        let none = Assignment::new();
        let members = self.members.iter().map(|(id, member)| {
            describe::Member::default()
                .with_member_id(text(id))
                .with_instance_id(member.value.instance.as_deref().map(text))
                .with_rack_id(member.value.rack.as_deref().map(text))
                .with_member_epoch(member.current.epoch)
                .with_client_id(text(&member.value.client_id))
                .with_client_host(text(&member.value.client_host))
                .with_subscribed_topic_names(
                    member.value.topics.iter().map(|name| TopicName(text(name))).collect(),
                )
                .with_subscribed_topic_regex(member.value.regex.as_deref().map(text))
                .with_assignment(view(&member.current.assigned))
                .with_target_assignment(view(self.target.get(id).unwrap_or(&none)))
                .with_member_type(CONSUMER_MEMBER)
        });
        answer
            .with_group_state(text(self.state_name()))
            .with_group_epoch(self.epoch)
            .with_assignment_epoch(self.target_epoch)
            .with_assignor_name(text(assign::Assignor::of_members(&self.members).name()))
            .with_members(members.collect())
    }

    /// Who owns what, for invariants.
    #[cfg(test)]
    pub fn assigned(&self) -> impl Iterator<Item = (&Arc<str>, i32, &Assignment)> {
        self.members.iter().map(|(id, member)| (id, member.current.epoch, &member.current.assigned))
    }
}

impl Member {
    fn reset_session(&mut self, id: &Arc<str>, cx: &mut Context<'_>) {
        let group = &cx.group;
        let at_ms = cx.now_ms.saturating_add(i64::from(cx.config.consumer_session_timeout_ms));
        self.session.set(at_ms, cx.timers, || Key::Session(group.clone(), id.clone()));
    }

    fn reset_revocation(&mut self, id: &Arc<str>, cx: &mut Context<'_>) {
        let group = &cx.group;
        let at_ms = cx.now_ms.saturating_add(i64::from(self.value.rebalance_timeout_ms.max(0)));
        self.revocation.set(at_ms, cx.timers, || Key::Revocation(group.clone(), id.clone()));
    }
}

fn partitions(assignment: &Assignment) -> impl Iterator<Item = (Uuid, i32)> {
    assignment
        .iter()
        .flat_map(|(topic, partitions)| partitions.iter().map(move |partition| (*topic, *partition)))
}
