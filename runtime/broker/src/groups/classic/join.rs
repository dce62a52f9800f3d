//! Joining: how a rebalance begins, whom it waits for, and how it ends in a new generation.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::JoinGroupRequest;

use super::{Awaiting, Classic, Member, State, join_error, own_protocols, sync_error};
use crate::groups::shard::{Context, Group, Kind, Outputs, Reply, Shard, Token};
use crate::groups::timers::{Alarm, Key};
use crate::groups::{Caller, MEMBER_METADATA_BYTES_MAX, NAME_BYTES_MAX, text};

/// From this version a new member is first given an id to come back with (KIP-394).
const MEMBER_ID_REQUIRED_FROM: i16 = 4;
/// From this version a leader can be told that its assignment stands (KIP-814).
const SKIP_ASSIGNMENT_FROM: i16 = 9;

impl Shard {
    pub(in crate::groups) fn join(
        &mut self,
        token: Token,
        caller: &Caller,
        request: &JoinGroupRequest,
        now_ms: i64,
        out: &mut Outputs,
    ) {
        if let Err(error) = self.accept_join(request, out) {
            let member = if error == ResponseError::GroupMaxSizeReached { "" } else { &request.member_id };
            return out.replies.push((token, join_error(member, error)));
        }
        self.with_group(&request.group_id, now_ms, out, |group, cx| match &mut group.kind {
            Kind::Classic(classic) => classic.join(token, caller, request, cx),
            // The classic members of a group of the new protocol would need a translation of both protocols.
            Kind::Consumer(_) => {
                cx.reply(token, join_error(&request.member_id, ResponseError::InconsistentGroupProtocol));
            }
        });
        self.drop_if_void(&request.group_id);
    }

    fn accept_join(&mut self, request: &JoinGroupRequest, out: &mut Outputs) -> Result<(), ResponseError> {
        crate::groups::shard::check_group_id(&request.group_id)?;
        let config = self.config();
        let sessions = config.group_min_session_timeout_ms..=config.group_max_session_timeout_ms;
        if !sessions.contains(&request.session_timeout_ms) {
            return Err(ResponseError::InvalidSessionTimeout);
        }
        let metadata: usize = request.protocols.iter().map(|own| own.name.len() + own.metadata.len()).sum();
        let instance = request.group_instance_id.as_ref();
        if metadata > MEMBER_METADATA_BYTES_MAX
            || request.member_id.len() > NAME_BYTES_MAX
            || request.protocol_type.len() > NAME_BYTES_MAX
            || instance.is_some_and(|id| id.is_empty() || id.len() > NAME_BYTES_MAX)
        {
            return Err(ResponseError::InvalidRequest);
        }
        let id = request.group_id.as_str();
        if !self.groups.contains_key(id) {
            if !request.member_id.is_empty() {
                return Err(ResponseError::UnknownMemberId);
            }
            return self.make_group(id, Group::new_classic);
        }
        self.make_classic_if_empty(id, out);
        Ok(())
    }
}

impl Classic {
    fn join(&mut self, token: Token, caller: &Caller, request: &JoinGroupRequest, cx: &mut Context<'_>) {
        let id = request.member_id.as_str();
        if !self.has_room_for(id, cx) {
            self.remove(id, cx);
            return cx.reply(token, join_error("", ResponseError::GroupMaxSizeReached));
        }
        if !self.accepts(&request.protocol_type, &request.protocols) {
            return cx.reply(token, join_error(id, ResponseError::InconsistentGroupProtocol));
        }
        if id.is_empty() {
            self.join_new(token, caller, request, cx);
        } else if self.pending.contains_key(id) && request.group_instance_id.is_none() {
            let id = Arc::from(id);
            self.add(id, token, caller, request, cx);
        } else if let Err(error) = self.check_member(id, request.group_instance_id.as_deref()) {
            cx.reply(token, join_error(id, error));
        } else {
            self.join_again(token, request, cx);
        }
    }

    fn has_room_for(&self, id: &str, cx: &Context<'_>) -> bool {
        let most = cx.config.group_max_size;
        match self.state {
            // Ids handed out count as well: asking for one costs a client nothing.
            State::Empty => self.pending.contains_key(id) || self.pending.len() < most,
            State::PreparingRebalance => {
                self.members.get(id).is_some_and(|member| member.joining.is_some())
                    || self.joining() < most && (!id.is_empty() || self.pending.len() < most)
            }
            State::CompletingRebalance | State::Stable => {
                self.members.contains_key(id)
                    || self.members.len() < most && (!id.is_empty() || self.pending.len() < most)
            }
        }
    }

    fn join_new(&mut self, token: Token, caller: &Caller, request: &JoinGroupRequest, cx: &mut Context<'_>) {
        let name = request.group_instance_id.as_deref().unwrap_or(&caller.client_id);
        let id: Arc<str> = Arc::from(format!("{name}-{}", (cx.new_id)()));
        if let Some(instance) = request.group_instance_id.as_deref() {
            match self.statics.get(instance).cloned() {
                Some(old) => self.replace_static(&old, id, token, caller, request, cx),
                None => self.add(id, token, caller, request, cx),
            }
        } else if caller.version >= MEMBER_ID_REQUIRED_FROM {
            let mut session = Alarm::default();
            session.set(cx.now_ms.saturating_add(i64::from(request.session_timeout_ms)), cx.timers, || {
                Key::Session(cx.group.clone(), id.clone())
            });
            cx.reply(token, join_error(&id, ResponseError::MemberIdRequired));
            self.pending.insert(id, session);
        } else {
            self.add(id, token, caller, request, cx);
        }
    }

    /// A member that the group knows joins again.
    fn join_again(&mut self, token: Token, request: &JoinGroupRequest, cx: &mut Context<'_>) {
        let id = request.member_id.as_str();
        let same = self.members.get(id).is_some_and(|member| member.matches(&request.protocols));
        let stands = match self.state {
            State::PreparingRebalance => false,
            // The answer to its first join was lost.
            State::CompletingRebalance => same,
            // A leader that joins wants to assign anew; a follower that has nothing new needs no rebalance.
            State::Stable => same && !self.is_leader(id),
            State::Empty => return cx.reply(token, join_error(id, ResponseError::UnknownMemberId)),
        };
        if stands {
            cx.reply(token, Reply::Join(self.joined(id)));
        } else {
            self.update(id, token, request, cx);
            self.rebalance_or_complete(cx);
        }
    }

    fn add(
        &mut self,
        id: Arc<str>,
        token: Token,
        caller: &Caller,
        request: &JoinGroupRequest,
        cx: &mut Context<'_>,
    ) {
        let pending = self.pending.remove(&id);
        if self.members.is_empty() {
            self.protocol_type = Some(Arc::from(request.protocol_type.as_str()));
        }
        let instance: Option<Arc<str>> = request.group_instance_id.as_deref().map(Arc::from);
        if let Some(instance) = &instance {
            self.statics.insert(instance.clone(), id.clone());
        }
        if self.leader.is_none() {
            self.leader = Some(id.clone());
        }
        if self.state == State::PreparingRebalance && self.previous == State::Empty {
            self.new_member_added = true;
        }
        let mut member = Member {
            instance,
            client_id: caller.client_id.clone(),
            client_host: caller.host.clone(),
            rebalance_timeout_ms: rebalance_timeout_ms(request),
            session_timeout_ms: request.session_timeout_ms,
            protocols: own_protocols(&request.protocols),
            assignment: Bytes::new(),
            joining: Some(token),
            syncing: None,
            is_new: true,
            session: pending.unwrap_or_default(),
        };
        // A client that is gone before the rebalance ends must not hold its place for ever.
        member.reset_session_in(&id, cx.config.new_member_join_timeout_ms, cx);
        self.members.insert(id, member);
        self.rebalance_or_complete(cx);
    }

    /// Takes what a known member brings in its join, and whom to answer.
    fn update(&mut self, id: &str, token: Token, request: &JoinGroupRequest, cx: &mut Context<'_>) {
        let Some(member) = self.members.get_mut(id) else { return };
        member.protocols = own_protocols(&request.protocols);
        member.rebalance_timeout_ms = rebalance_timeout_ms(request);
        member.session_timeout_ms = request.session_timeout_ms;
        if let Some(old) = member.joining.replace(token) {
            // One client waits once: the older request is of a connection that was given up.
            cx.reply(old, join_error(id, ResponseError::UnknownMemberId));
        }
    }

    /// A static member comes back without its id: it gets a new one and the old one is fenced.
    fn replace_static(
        &mut self,
        old: &Arc<str>,
        id: Arc<str>,
        token: Token,
        caller: &Caller,
        request: &JoinGroupRequest,
        cx: &mut Context<'_>,
    ) {
        let Some((place, _, mut member)) = self.members.shift_remove_full(old) else { return };
        let was_leader = self.is_leader(old);
        if let Some(token) = member.joining.take() {
            cx.reply(token, join_error(old, ResponseError::FencedInstanceId));
        }
        if let Some(token) = member.syncing.take() {
            cx.reply(token, sync_error(ResponseError::FencedInstanceId));
        }
        if let Some(instance) = &member.instance {
            self.statics.insert(instance.clone(), id.clone());
        }
        if self.unsynced.remove(old) {
            self.unsynced.insert(id.clone());
        }
        if was_leader {
            self.leader = Some(id.clone());
        }
        member.session = Alarm::default();
        member.client_id = caller.client_id.clone();
        member.client_host = caller.host.clone();
        member.session_timeout_ms = request.session_timeout_ms;
        member.reset_session(&id, cx);
        self.members.shift_insert(place, id.clone(), member);
        self.update(&id, token, request, cx);
        match self.state {
            State::Stable => {
                if self.select_protocol() == self.protocol {
                    // Nothing changes for the others, so there is no rebalance; the new id has to be kept.
                    self.write(cx);
                    let mut answer = self.joined(&id);
                    if caller.version >= SKIP_ASSIGNMENT_FROM {
                        answer.skip_assignment = was_leader;
                    } else if was_leader {
                        // An older client knows no «skip»: named a follower, it does not assign.
                        answer.leader = text(old);
                        answer.members = Vec::new();
                    }
                    if let Some(token) = self.members.get_mut(&id).and_then(|member| member.joining.take()) {
                        cx.reply(token, Reply::Join(answer));
                    }
                } else {
                    self.rebalance_or_complete(cx);
                }
            }
            State::CompletingRebalance => self.prepare(cx),
            State::PreparingRebalance | State::Empty => self.complete_if_all_joined(cx),
        }
    }

    pub(super) fn rebalance_or_complete(&mut self, cx: &mut Context<'_>) {
        if self.state == State::PreparingRebalance {
            self.complete_if_all_joined(cx);
        } else {
            self.prepare(cx);
        }
    }

    pub(super) fn complete_if_all_joined(&mut self, cx: &mut Context<'_>) {
        // The first rebalance of a group ends by its timer alone, so that members starting together are
        // assigned together.
        if self.state == State::PreparingRebalance && self.previous != State::Empty && self.all_joined() {
            self.complete(cx);
        }
    }

    pub(super) fn prepare(&mut self, cx: &mut Context<'_>) {
        if self.state == State::CompletingRebalance {
            for member in self.members.values_mut() {
                member.assignment = Bytes::new();
            }
            self.answer_syncs(Some(ResponseError::RebalanceInProgress), cx);
        }
        self.unsynced.clear();
        let first = self.state == State::Empty;
        self.enter(State::PreparingRebalance, cx);
        if first {
            let delay_ms = i64::from(cx.config.group_initial_rebalance_delay_ms);
            let remaining_ms = (self.rebalance_timeout_ms() - delay_ms).max(0);
            self.new_member_added = false;
            self.await_until(Awaiting::First { delay_ms, remaining_ms }, delay_ms, cx);
        } else if self.all_joined() {
            self.complete(cx);
        } else {
            self.await_until(Awaiting::Join, self.rebalance_timeout_ms(), cx);
        }
    }

    /// Ends the join phase: who has not joined is out, unless it is static and may still come back.
    fn complete(&mut self, cx: &mut Context<'_>) {
        self.await_until(Awaiting::Nothing, 0, cx);
        let late: Vec<Arc<str>> = self
            .members
            .iter()
            .filter(|(_, member)| member.joining.is_none() && member.instance.is_none())
            .map(|(id, _)| id.clone())
            .collect();
        late.iter().for_each(|id| self.remove(id, cx));
        if !self.members.is_empty() && !self.elect_joined_leader() {
            // Only static members are left and none of them is here: give them another time-out.
            return self.await_until(Awaiting::Join, self.rebalance_timeout_ms(), cx);
        }
        self.generation = if self.generation == i32::MAX { 1 } else { self.generation + 1 };
        if self.members.is_empty() {
            self.protocol = None;
            self.leader = None;
            self.enter(State::Empty, cx);
            return self.write(cx);
        }
        self.protocol = self.select_protocol();
        self.enter(State::CompletingRebalance, cx);
        let ids: Vec<Arc<str>> = self.members.keys().cloned().collect();
        for id in ids {
            let answer = self.joined(&id);
            let Some(member) = self.members.get_mut(&id) else { continue };
            if let Some(token) = member.joining.take() {
                cx.reply(token, Reply::Join(answer));
            }
            member.is_new = false;
            member.reset_session(&id, cx);
            self.unsynced.insert(id);
        }
        self.await_until(Awaiting::Sync, self.rebalance_timeout_ms(), cx);
    }

    /// Makes sure that the leader is one who joined. False if none did.
    fn elect_joined_leader(&mut self) -> bool {
        let joined = |member: &Member| member.joining.is_some();
        if self.leader.as_ref().and_then(|id| self.members.get(id)).is_some_and(joined) {
            return true;
        }
        let leader = self.members.iter().find(|(_, member)| joined(member)).map(|(id, _)| id.clone());
        let found = leader.is_some();
        if found {
            self.leader = leader;
        }
        found
    }

    /// The group's alarm, or a stale entry of it.
    pub(in crate::groups) fn alarm(&mut self, entry_ms: i64, cx: &mut Context<'_>) {
        let group = cx.group.clone();
        if !self.alarm.popped(entry_ms, cx.now_ms, cx.timers, || Key::Group(group)) {
            return;
        }
        match std::mem::take(&mut self.awaiting) {
            Awaiting::Nothing => {}
            Awaiting::First { delay_ms, remaining_ms } if self.new_member_added && remaining_ms > 0 => {
                self.new_member_added = false;
                let next_ms = i64::from(cx.config.group_initial_rebalance_delay_ms).min(remaining_ms);
                let remaining_ms = (remaining_ms - delay_ms).max(0);
                self.await_until(Awaiting::First { delay_ms: next_ms, remaining_ms }, next_ms, cx);
            }
            Awaiting::First { .. } | Awaiting::Join => self.complete(cx),
            Awaiting::Sync => {
                for id in std::mem::take(&mut self.unsynced) {
                    self.remove(&id, cx);
                }
                self.prepare(cx);
            }
        }
    }

    /// The session of a member, or of an id that was handed out, or a stale entry of one.
    pub(in crate::groups) fn session_alarm(&mut self, id: &Arc<str>, entry_ms: i64, cx: &mut Context<'_>) {
        let key = |group: &Arc<str>| Key::Session(group.clone(), id.clone());
        let group = cx.group.clone();
        if let Some(session) = self.pending.get_mut(id) {
            if session.popped(entry_ms, cx.now_ms, cx.timers, || key(&group)) {
                self.pending.remove(id);
                self.complete_if_all_joined(cx);
            }
            return;
        }
        let Some(member) = self.members.get_mut(id) else { return };
        if !member.session.popped(entry_ms, cx.now_ms, cx.timers, || key(&group)) {
            return;
        }
        // Who waits for us is alive as far as we can tell; its session begins anew with our answer.
        if !member.is_new && (member.joining.is_some() || member.syncing.is_some()) {
            return;
        }
        self.remove(id, cx);
        self.rebalance_or_complete(cx);
    }
}

/// Version 0 knows no rebalance time-out: the session's holds for both.
fn rebalance_timeout_ms(request: &JoinGroupRequest) -> i32 {
    if request.rebalance_timeout_ms < 0 { request.session_timeout_ms } else { request.rebalance_timeout_ms }
}
