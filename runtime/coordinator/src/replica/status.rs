//! How things stand with a replica, for four-letter words, metrics and whoever waits for a leader.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use openraft::ServerState;
use openraft::async_runtime::WatchReceiver;
use tokio::time::sleep;

use super::Inner;
use super::config::Member;
use super::machine::lock;

/// What a server is in its ensemble.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Role {
    /// Knows no leader, or is not in touch with it.
    #[default]
    Looking,
    Leader,
    Follower,
    /// Follows without a vote.
    Observer,
    /// Leads nobody: it is alone.
    Standalone,
}

impl Role {
    /// As ZooKeeper's `Mode:` line has it.
    pub fn name(self) -> &'static str {
        match self {
            Role::Looking => "looking",
            Role::Leader => "leader",
            Role::Follower => "follower",
            Role::Observer => "observer",
            Role::Standalone => "standalone",
        }
    }
}

/// See the module. Indexes are those of the log's entries, each of which holds many transactions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    pub server: u32,
    pub role: Role,
    pub term: u64,
    pub leader: Option<u32>,
    pub members: Vec<Member>,
    /// See [`super::Replica::is_serving`].
    pub serving: bool,
    /// Why it stopped for good, as after an error of the disk. It must be started anew.
    pub failed: Option<Arc<str>>,
    /// Of a leader: followers (with a vote, without) that have the whole log or nearly.
    pub synced_followers: usize,
    pub synced_observers: usize,
    pub first_index: u64,
    pub last_index: Option<u64>,
    pub applied_index: Option<u64>,
    /// The last entry of the newest snapshot.
    pub snapshot_index: Option<u64>,
    pub snapshot_bytes: u64,
    /// Size of the log on disk.
    pub log_bytes: u64,
    /// Transactions of this server that are on the way.
    pub pending: usize,
    /// Appends that reached the disk, and how long they took, in microseconds.
    pub syncs: u64,
    pub syncs_total_us: u64,
    pub syncs_max_us: u64,
}

/// A follower that misses at most so many entries counts as synced.
const SYNCED_LAG: u64 = 16;

impl Inner {
    pub(super) fn status(&self) -> Status {
        // All of these look at the metrics themselves: to look twice at once is a deadlock when a writer waits between.
        let (touch, serving) = (self.is_in_touch(), self.is_serving());
        let leader = self.leader().filter(|_| touch).and_then(|(leader, _)| u32::try_from(leader).ok());
        let (members, id) = (self.members(), self.id());
        let failed = lock(&self.failed).clone();
        let metrics = self.raft.metrics().borrow_watched().clone();
        let role = match metrics.state {
            _ if failed.is_some() || !touch => Role::Looking,
            ServerState::Leader if members.len() <= 1 => Role::Standalone,
            ServerState::Leader => Role::Leader,
            ServerState::Follower => Role::Follower,
            ServerState::Learner => Role::Observer,
            _ => Role::Looking,
        };
        let mut synced = (0, 0);
        if let Some(replication) = &metrics.replication {
            for (server, matching) in replication {
                let reached = matching.as_ref().map_or(0, |id| id.index + 1);
                let member = members.iter().find(|member| u64::from(member.id) == *server);
                if *server == id || reached + SYNCED_LAG < metrics.last_log_index.unwrap_or(0) {
                    continue;
                }
                match member.map(|member| member.observer) {
                    Some(false) => synced.0 += 1,
                    Some(true) => synced.1 += 1,
                    None => {}
                }
            }
        }
        let snapshot = lock(&self.shared.current).clone();
        let syncs = self.store.syncs();
        Status {
            server: self.config.server,
            role,
            term: metrics.current_term,
            leader,
            members,
            serving,
            failed,
            synced_followers: synced.0,
            synced_observers: synced.1,
            first_index: self.store.first_index(),
            last_index: self.store.last_log_id().map(|last| last.index),
            applied_index: self.shared.applied.borrow().checked_sub(1),
            snapshot_index: snapshot.as_ref().and_then(|file| file.meta.last_log_id).map(|last| last.index),
            snapshot_bytes: snapshot.map_or(0, |file| file.bytes),
            log_bytes: self.store.bytes(),
            pending: self.shared.outbox.len(),
            syncs: syncs.count.load(Ordering::Relaxed),
            syncs_total_us: syncs.total_us.load(Ordering::Relaxed),
            syncs_max_us: syncs.max_us.load(Ordering::Relaxed),
        }
    }

    /// Tells of the status if more than numbers changed.
    pub(super) fn publish_status(&self) {
        let fresh = self.status();
        let told = self.status.send_if_modified(|known| {
            let same = known.role == fresh.role
                && known.term == fresh.term
                && known.leader == fresh.leader
                && known.serving == fresh.serving
                && known.failed == fresh.failed
                && known.members == fresh.members;
            if !same {
                *known = fresh.clone();
            }
            !same
        });
        if told {
            self.shared.observer.status(&fresh);
        }
    }
}

/// Watches whether the server is still what it was, until the task is ended.
pub(super) async fn watch(inner: Arc<Inner>) {
    let mut metrics = inner.raft.server_metrics();
    let pause = inner.config.heartbeat().max(Duration::from_millis(10)) * 2;
    loop {
        inner.publish_status();
        tokio::select! {
            biased;
            changed = metrics.changed() => if changed.is_err() {
                inner.stop_serving("the consensus stopped");
                return;
            },
            () = sleep(pause) => {}
        }
        if inner.raft.metrics().borrow_watched().running_state.is_err() {
            inner.stop_serving("the consensus failed");
            return;
        }
    }
}
