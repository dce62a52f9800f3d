//! What members do between two joins: fetch their assignment, show that they are alive, and leave.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{
    HeartbeatRequest, HeartbeatResponse, LeaveGroupRequest, LeaveGroupResponse, SyncGroupRequest,
};
use kafka_protocol::protocol::StrBytes;

use super::{Awaiting, Classic, State, sync_error};
use crate::groups::shard::{Context, Kind, Outputs, Reply, Shard, Token, check_group_id};
use crate::groups::{Caller, GROUP_RECORD_BYTES_MAX};

/// From this version a request names several members.
const LEAVE_SEVERAL_FROM: i16 = 3;

impl Shard {
    pub(in crate::groups) fn sync(
        &mut self,
        token: Token,
        request: &SyncGroupRequest,
        now_ms: i64,
        out: &mut Outputs,
    ) {
        if let Err(error) = check_group_id(&request.group_id) {
            return out.replies.push((token, sync_error(error)));
        }
        let found = self.with_group(&request.group_id, now_ms, out, |group, cx| match &mut group.kind {
            Kind::Classic(classic) => classic.sync(token, request, cx),
            Kind::Consumer(_) => cx.reply(token, sync_error(ResponseError::UnknownMemberId)),
        });
        if found.is_none() {
            out.replies.push((token, sync_error(ResponseError::UnknownMemberId)));
        }
    }

    pub(in crate::groups) fn heartbeat(
        &mut self,
        request: &HeartbeatRequest,
        now_ms: i64,
        out: &mut Outputs,
    ) -> HeartbeatResponse {
        let result = check_group_id(&request.group_id).and_then(|()| {
            self.with_group(&request.group_id, now_ms, out, |group, cx| match &mut group.kind {
                Kind::Classic(classic) => classic.heartbeat(request, cx),
                Kind::Consumer(_) => Err(ResponseError::UnknownMemberId),
            })
            .unwrap_or(Err(ResponseError::UnknownMemberId))
        });
        HeartbeatResponse::default().with_error_code(result.err().map_or(0, |error| error.code()))
    }

    pub(in crate::groups) fn leave(
        &mut self,
        caller: &Caller,
        request: &LeaveGroupRequest,
        now_ms: i64,
        out: &mut Outputs,
    ) -> LeaveGroupResponse {
        let answer = LeaveGroupResponse::default();
        if let Err(error) = check_group_id(&request.group_id) {
            return answer.with_error_code(error.code());
        }
        let members: Vec<(StrBytes, Option<StrBytes>)> = if caller.version < LEAVE_SEVERAL_FROM {
            vec![(request.member_id.clone(), None)]
        } else {
            request
                .members
                .iter()
                .map(|member| (member.member_id.clone(), member.group_instance_id.clone()))
                .collect()
        };
        let results = self
            .with_group(&request.group_id, now_ms, out, |group, cx| match &mut group.kind {
                Kind::Classic(classic) => classic.leave(&members, cx),
                Kind::Consumer(_) => vec![Err(ResponseError::UnknownMemberId); members.len()],
            })
            .unwrap_or_else(|| vec![Err(ResponseError::UnknownMemberId); members.len()]);
        self.drop_if_void(&request.group_id);
        let code = |result: &Result<(), ResponseError>| result.err().map_or(0, |error| error.code());
        if caller.version < LEAVE_SEVERAL_FROM {
            return answer.with_error_code(results.first().map_or(0, code));
        }
        let members = members.into_iter().zip(&results).map(|((member, instance), result)| {
            MemberResponse::default()
                .with_member_id(member)
                .with_group_instance_id(instance)
                .with_error_code(code(result))
        });
        answer.with_members(members.collect())
    }
}

impl Classic {
    fn sync(&mut self, token: Token, request: &SyncGroupRequest, cx: &mut Context<'_>) {
        let id = request.member_id.as_str();
        if let Err(error) = self.check_sync(request) {
            return cx.reply(token, sync_error(error));
        }
        match self.state {
            State::Empty => cx.reply(token, sync_error(ResponseError::UnknownMemberId)),
            State::PreparingRebalance => cx.reply(token, sync_error(ResponseError::RebalanceInProgress)),
            State::Stable => {
                self.came_for_assignment(id, cx);
                let answer = self.members.get(id).map(|member| self.synced(member));
                if let Some(answer) = answer {
                    cx.reply(token, Reply::Sync(answer));
                }
            }
            State::CompletingRebalance => {
                if let Some(member) = self.members.get_mut(id)
                    && let Some(old) = member.syncing.replace(token)
                {
                    cx.reply(old, sync_error(ResponseError::UnknownMemberId));
                }
                self.came_for_assignment(id, cx);
                if self.is_leader(id) {
                    self.assign(request, cx);
                }
            }
        }
    }

    fn check_sync(&self, request: &SyncGroupRequest) -> Result<(), ResponseError> {
        self.check_member(&request.member_id, request.group_instance_id.as_deref())?;
        if request.generation_id != self.generation {
            return Err(ResponseError::IllegalGeneration);
        }
        let differs = |given: &Option<StrBytes>, own: &Option<Arc<str>>| {
            given.as_ref().is_some_and(|given| own.as_ref().is_some_and(|own| **given != **own))
        };
        if differs(&request.protocol_type, &self.protocol_type)
            || differs(&request.protocol_name, &self.protocol)
        {
            return Err(ResponseError::InconsistentGroupProtocol);
        }
        Ok(())
    }

    fn came_for_assignment(&mut self, id: &str, cx: &mut Context<'_>) {
        self.unsynced.remove(id);
        if self.unsynced.is_empty() && self.awaiting == Awaiting::Sync {
            self.await_until(Awaiting::Nothing, 0, cx);
        }
    }

    /// Takes the leader's assignment: the group is stable.
    fn assign(&mut self, request: &SyncGroupRequest, cx: &mut Context<'_>) {
        let given: BTreeMap<&str, &Bytes> =
            request.assignments.iter().map(|one| (one.member_id.as_str(), &one.assignment)).collect();
        for (id, member) in &mut self.members {
            // Copied, so that a member does not keep the whole request in memory.
            member.assignment =
                given.get(&**id).map(|bytes| Bytes::copy_from_slice(bytes)).unwrap_or_default();
        }
        if self.record_bytes() > GROUP_RECORD_BYTES_MAX {
            // It could not be written: the members are told, and try again.
            for member in self.members.values_mut() {
                member.assignment = Bytes::new();
            }
            self.answer_syncs(Some(ResponseError::UnknownServerError), cx);
            return self.prepare(cx);
        }
        self.enter(State::Stable, cx);
        self.write(cx);
        self.answer_syncs(None, cx);
    }

    /// Answers all who wait for an assignment, with it or with the error.
    pub(super) fn answer_syncs(&mut self, error: Option<ResponseError>, cx: &mut Context<'_>) {
        for index in 0..self.members.len() {
            let Some((_, member)) = self.members.get_index(index) else { return };
            let Some(token) = member.syncing else { continue };
            let answer = error.map_or_else(|| Reply::Sync(self.synced(member)), sync_error);
            cx.reply(token, answer);
            if let Some((id, member)) = self.members.get_index_mut(index) {
                member.syncing = None;
                member.reset_session(id, cx);
            }
        }
    }

    fn heartbeat(&mut self, request: &HeartbeatRequest, cx: &mut Context<'_>) -> Result<(), ResponseError> {
        self.check_member(&request.member_id, request.group_instance_id.as_deref())?;
        if request.generation_id != self.generation {
            return Err(ResponseError::IllegalGeneration);
        }
        if let Some((_, id, member)) = self.members.get_full_mut(request.member_id.as_str()) {
            member.reset_session(id, cx);
        }
        match self.state {
            State::Empty => Err(ResponseError::UnknownMemberId),
            State::PreparingRebalance => Err(ResponseError::RebalanceInProgress),
            State::CompletingRebalance | State::Stable => Ok(()),
        }
    }

    fn leave(
        &mut self,
        members: &[(StrBytes, Option<StrBytes>)],
        cx: &mut Context<'_>,
    ) -> Vec<Result<(), ResponseError>> {
        let mut results = Vec::with_capacity(members.len());
        for (id, instance) in members {
            let result = if id.is_empty() {
                // An administrator takes a static member out by its instance id.
                instance
                    .as_deref()
                    .and_then(|instance| self.statics.get(instance).cloned())
                    .ok_or(ResponseError::UnknownMemberId)
                    .map(|id| self.remove(&id, cx))
            } else if self.pending.remove(id.as_str()).is_some() {
                Ok(())
            } else {
                self.check_member(id, instance.as_deref()).map(|()| self.remove(id, cx))
            };
            results.push(result);
        }
        if results.iter().any(Result::is_ok) {
            match self.state {
                State::Stable | State::CompletingRebalance => self.prepare(cx),
                State::PreparingRebalance => self.complete_if_all_joined(cx),
                State::Empty => {}
            }
        }
        results
    }
}
