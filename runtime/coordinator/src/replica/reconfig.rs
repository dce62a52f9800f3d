//! Changing who is in the ensemble while it runs, by the library's joint consensus: servers that come are brought up to
//! date as learners first, then the voters change, then those that leave are let go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openraft::ChangeMembers;
use serde::{Deserialize, Serialize};
use tokio::time::{sleep, timeout};

use super::Inner;
use super::config::{MEMBERS_MAX, Member};
use super::frame::kind;
use super::members::members_text;
use super::types::Types;
use crate::proto::Code;
use crate::state::{CONFIG_PATH, State};

type Changed = Result<
    openraft::raft::ClientWriteResponse<Types>,
    openraft::errors::RaftError<Types, openraft::errors::ClientWriteError<Types>>,
>;

/// How long a server that comes may take to be brought up to date.
const JOIN_TIMEOUT: Duration = Duration::from_secs(20);
/// How long the change itself may take.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a follower waits for the leader to do it.
const CALL_TIMEOUT: Duration = Duration::from_secs(40);

/// How often it is looked whether `/zookeeper/config` has followed.
const SHOW_INTERVAL: Duration = Duration::from_millis(10);

/// Whether `/zookeeper/config` lists these servers.
pub(super) fn shows(state: &State, members: &str) -> bool {
    let stored = state.data(CONFIG_PATH).flatten().unwrap_or_default();
    let servers = stored.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"server."));
    servers.eq(members.lines().map(str::as_bytes))
}

/// A change of the membership.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reconfig {
    /// Come, or change their address or role.
    pub joining: Vec<Member>,
    pub leaving: Vec<u32>,
    /// All that there shall be, instead of the other two.
    pub members: Option<Vec<Member>>,
}

impl Reconfig {
    /// Who there shall be; an error if that cannot work.
    fn target(&self, now: &[Member]) -> Result<Vec<Member>, Code> {
        let mut target: BTreeMap<u32, Member> = match &self.members {
            Some(_) if !self.joining.is_empty() || !self.leaving.is_empty() => {
                return Err(Code::BadArguments);
            }
            Some(members) => members.iter().map(|member| (member.id, member.clone())).collect(),
            None => now.iter().map(|member| (member.id, member.clone())).collect(),
        };
        for member in &self.joining {
            target.insert(member.id, member.clone());
        }
        for id in &self.leaving {
            target.remove(id);
        }
        let addresses: BTreeSet<&str> = target.values().map(|member| member.peer_address.as_str()).collect();
        let wrong = target.values().any(|member| member.id == 0 || member.peer_address.is_empty());
        if wrong || addresses.len() != target.len() || target.len() > MEMBERS_MAX {
            return Err(Code::BadArguments);
        }
        if target.values().all(|member| member.observer) {
            return Err(Code::BadArguments);
        }
        Ok(target.into_values().collect())
    }
}

fn code_of(changed: Changed) -> Result<(), Code> {
    use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
    match changed {
        Ok(_) => Ok(()),
        Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(
            ChangeMembershipError::InProgress(_),
        ))) => Err(Code::ReconfigInProgress),
        Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(error))) => {
            tracing::warn!(%error, "the membership cannot be changed so");
            Err(Code::BadArguments)
        }
        Err(error) => {
            tracing::warn!(%error, "the membership was not changed");
            Err(Code::ConnectionLoss)
        }
    }
}

impl Inner {
    /// Has the leader change the membership.
    pub(super) async fn reconfig(self: &Arc<Self>, change: Reconfig) -> Result<(), Code> {
        let (leader, _) = self.leader().ok_or(Code::ConnectionLoss)?;
        if leader == self.id() {
            return self.reconfig_here(change).await;
        }
        let link = self.link(leader).ok_or(Code::ConnectionLoss)?;
        let body = serde_json::to_vec(&change).map_err(|_| Code::Marshalling)?;
        let answer = link.call(kind::RECONFIG, body, CALL_TIMEOUT).await.map_err(|_| Code::ConnectionLoss)?;
        let code = answer.first_chunk().map(|code| i32::from_be_bytes(*code));
        match code {
            Some(0) => Ok(()),
            Some(code) => Err(known(code)),
            None => Err(Code::Marshalling),
        }
    }

    /// Changes it, and waits until `/zookeeper/config` says so here: that node follows by a transaction of its own.
    pub(super) async fn reconfig_and_show(self: &Arc<Self>, change: Reconfig) -> Result<(), Code> {
        let expected = members_text(&change.target(&self.members())?);
        self.reconfig(change).await?;
        let shown = async {
            while !shows(&self.shared.read().state, &expected) {
                sleep(SHOW_INTERVAL).await;
            }
        };
        // It is done all the same; a server that has left hears no more of it.
        let _ = timeout(CHANGE_TIMEOUT, shown).await;
        Ok(())
    }

    /// Changes the membership; only on the leader.
    pub(super) async fn reconfig_here(self: &Arc<Self>, change: Reconfig) -> Result<(), Code> {
        let Ok(_one) = self.changing.try_lock() else { return Err(Code::ReconfigInProgress) };
        let now = self.members();
        let target = change.target(&now)?;
        for member in &target {
            let id = u64::from(member.id);
            let known = now.iter().find(|known| known.id == member.id);
            match known {
                Some(known) if known == member => {}
                Some(_) => {
                    let nodes = BTreeMap::from([(id, member.clone())]);
                    self.change(ChangeMembers::SetNodes(nodes)).await?;
                }
                None => {
                    code_of(self.raft.add_learner(id, member.clone(), false).await)?;
                    if !self.catches_up(id).await {
                        // The ensemble stays as it was.
                        let _ = self.change(ChangeMembers::RemoveNodes(BTreeSet::from([id]))).await;
                        return Err(Code::NewConfigNoQuorum);
                    }
                }
            }
        }
        let voters: BTreeSet<u64> =
            target.iter().filter(|member| !member.observer).map(|member| u64::from(member.id)).collect();
        if voters != self.voters() {
            self.change(ChangeMembers::ReplaceAllVoters(voters)).await?;
        }
        let kept: BTreeSet<u64> = target.iter().map(|member| u64::from(member.id)).collect();
        let gone: BTreeSet<u64> = self
            .members()
            .iter()
            .map(|member| u64::from(member.id))
            .filter(|id| !kept.contains(id))
            .collect();
        if !gone.is_empty() {
            self.change(ChangeMembers::RemoveNodes(gone)).await?;
        }
        Ok(())
    }

    /// Waits until a server has all that the log has now.
    async fn catches_up(&self, server: u64) -> bool {
        let last = self.store.last_log_id();
        let wait = self.raft.wait(Some(JOIN_TIMEOUT));
        let reached = wait.metrics(
            |metrics| {
                let replication = metrics.replication.as_ref();
                let matching = replication.and_then(|all| all.get(&server)).and_then(|matching| *matching);
                matching.is_some() && matching >= last
            },
            "a server that joins is up to date",
        );
        reached.await.is_ok()
    }

    async fn change(&self, change: ChangeMembers<u64, Member>) -> Result<(), Code> {
        let changed = timeout(CHANGE_TIMEOUT, self.raft.change_membership(change, true)).await;
        changed.map_or(Err(Code::NewConfigNoQuorum), code_of)
    }
}

fn known(code: i32) -> Code {
    let codes = [Code::BadArguments, Code::NewConfigNoQuorum, Code::ReconfigInProgress];
    codes.into_iter().find(|known| *known as i32 == code).unwrap_or(Code::ConnectionLoss)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u32) -> Member {
        Member { id, peer_address: format!("h:{id}"), client_address: format!("c:{id}"), observer: false }
    }

    #[test]
    fn changes_that_cannot_work_are_refused() {
        let now = [member(1), member(2)];
        let change = |joining: &[Member], leaving: &[u32]| Reconfig {
            joining: joining.to_vec(),
            leaving: leaving.to_vec(),
            members: None,
        };
        assert_eq!(change(&[member(3)], &[1]).target(&now).unwrap(), [member(2), member(3)]);
        assert_eq!(change(&[], &[1, 2]).target(&now), Err(Code::BadArguments));
        let twice = Member { id: 9, ..member(2) };
        assert_eq!(change(&[twice], &[]).target(&now), Err(Code::BadArguments));
        let both = Reconfig { members: Some(vec![member(1)]), ..change(&[member(3)], &[]) };
        assert_eq!(both.target(&now), Err(Code::BadArguments));
    }
}
