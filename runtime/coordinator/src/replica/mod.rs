//! One server's copy of the state, kept equal to that of the others by a replicated log: consensus by `openraft` over
//! `flow-log`, snapshots, forwarding to the leader, expiry of sessions, changes of the membership. It must not know
//! clients' connections; those see it through [`Replica`] and [`Observer`] alone, and none of the consensus library.

mod barrier;
mod codec;
mod config;
mod duties;
mod expiry;
mod flush;
mod frame;
mod hard;
mod link;
mod machine;
mod members;
mod network;
mod outbox;
mod reconfig;
mod runtime;
mod serve;
mod snapshot;
mod start;
mod status;
mod store;
#[cfg(test)]
mod tests;
mod types;
mod watching;

use std::collections::BTreeSet;
use std::future::Future;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLockReadGuard};
use std::time::Duration;

use flow_log::DirLock;
use hashbrown::HashSet;
use openraft::async_runtime::WatchReceiver;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

pub use self::config::{MEMBERS_MAX, Member, PeerTls, ReplicaConfig};
pub use self::hard::HardError;
pub use self::members::{members_text, parse_members};
pub use self::reconfig::Reconfig;
pub use self::snapshot::SnapshotError;
pub use self::start::StartError;
pub use self::status::{Role, Status};
pub use self::store::StoreError;

use self::barrier::Barrier;
use self::codec::AppendRequest;
use self::link::{Dialer, Link};
use self::machine::{Copy, Machine, Shared, lock};
use self::store::Store;
use self::types::Types;
use crate::network::World;
use crate::proto::{Code, SessionId, Zxid};
use crate::state::{Applied, Entry, Outcome, State, Txn};

/// Called once with what came of a transaction: when it was applied on this server, or with
/// [`Code::ConnectionLoss`] when it was given up. It may be called under the lock of the state, so it must be quick and
/// must not read the state.
pub type Answer = Box<dyn FnOnce(Outcome) + Send>;

/// Who is told what happens to the state. All calls are made while the state is locked for writing (except
/// [`Observer::status`]), in order, and must be quick.
pub trait Observer: Send + Sync {
    /// An entry was applied. The answers to transactions of this server in it come right after.
    fn applied(&self, state: &State, applied: &Applied);
    /// The role, the leader or the members are others now.
    fn status(&self, status: &Status);
    /// A snapshot replaced the state: what happened in between is not told.
    fn restored(&self, state: &State);
    /// The state is unlocked after entries were applied and answered: time to wake who waits.
    fn unlocked(&self) {}
}

/// The state, locked for reading. Never to be held across an await.
pub struct StateGuard<'r>(RwLockReadGuard<'r, Copy>);

impl Deref for StateGuard<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.0.state
    }
}

/// See the module.
pub struct Replica {
    inner: Arc<Inner>,
}

type Raft = openraft::Raft<Types, Machine>;

/// What the tasks of a replica share.
struct Inner {
    config: ReplicaConfig,
    world: World,
    shared: Arc<Shared>,
    raft: Raft,
    store: Store,
    dialer: Arc<Dialer>,
    /// Sessions that were heard of since touches were carried to the leader.
    touched: Mutex<HashSet<SessionId>>,
    status: watch::Sender<Status>,
    barrier: Barrier,
    /// Held while the membership is changed.
    changing: tokio::sync::Mutex<()>,
    /// Which leader was heard of last, and when.
    heard: Mutex<Option<(u64, Instant)>>,
    /// Everything that was committed before this start was applied.
    recovered: AtomicBool,
    /// Why it does not serve any more.
    failed: Mutex<Option<Arc<str>>>,
    tasks: Mutex<JoinSet<()>>,
    /// Numbers of received snapshots.
    copies: AtomicU64,
    /// Where peers reach it; empty without a port for them.
    peer_address: String,
    lock: Mutex<Option<DirLock>>,
}

impl Replica {
    /// Opens the data of this server and takes its place in the ensemble.
    ///
    /// # Errors
    /// When the configuration, the directory or what is in it cannot be used. See [`StartError`].
    pub async fn start(
        config: ReplicaConfig,
        world: World,
        observer: Arc<dyn Observer>,
    ) -> Result<Arc<Replica>, StartError> {
        Ok(Arc::new(Replica { inner: start::start(config, world, observer).await? }))
    }

    /// Locks the state for reading.
    pub fn read(&self) -> StateGuard<'_> {
        self.inner.shared.guard()
    }

    /// Hands a transaction to the ensemble, in the order of the calls.
    pub fn submit(&self, txn: Txn, answer: Answer) {
        self.inner.shared.outbox.push(txn, answer);
    }

    /// How many transactions of this server are on the way. Whoever sees many should wait before taking more of clients.
    pub fn pending(&self) -> usize {
        self.inner.shared.outbox.len()
    }

    /// Waits until everything that was committed anywhere before the call is applied here (ReadIndex; Ongaro 2014, 6.4).
    ///
    /// # Errors
    /// [`Code::ConnectionLoss`] if no leader with a quorum was found in time.
    pub async fn barrier(&self) -> Result<Zxid, Code> {
        self.inner.barrier().await
    }

    /// Something was heard of a session. The leader, which alone ends sessions, is told each half tick.
    pub fn touch(&self, session: SessionId) {
        lock(&self.inner.touched).insert(session);
    }

    /// How things stand now.
    pub fn status(&self) -> Status {
        self.inner.status()
    }

    /// Tells of changes of role, leader and members; the numbers in it are as of then.
    pub fn watch_status(&self) -> watch::Receiver<Status> {
        self.inner.status.subscribe()
    }

    /// It knows a leader, is in touch with it (or leads, in touch with a quorum), and has applied what was committed
    /// before it started.
    pub fn is_serving(&self) -> bool {
        self.inner.is_serving()
    }

    /// Changes who is in the ensemble. Comes back when the change is committed and `/zookeeper/config` has it here.
    ///
    /// # Errors
    /// [`Code::BadArguments`] for what cannot work, [`Code::ReconfigInProgress`], [`Code::NewConfigNoQuorum`] when a
    /// server does not come up to date or too few agree, [`Code::ConnectionLoss`] without a leader.
    pub async fn reconfig(&self, change: Reconfig) -> Result<(), Code> {
        self.inner.reconfig_and_show(change).await
    }

    /// Writes a snapshot now.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn snapshot(&self) -> std::io::Result<()> {
        self.inner.take_snapshot().await
    }

    /// Where peers reach this server, with the port the system has chosen when 0 was asked for; empty without one.
    pub fn peer_address(&self) -> &str {
        &self.inner.peer_address
    }

    /// Stops in order. Transactions that are on the way are given up here, and may be done nevertheless.
    pub async fn shutdown(&self) {
        let inner = &self.inner;
        if let Err(error) = inner.raft.shutdown().await {
            tracing::warn!(%error, "the consensus did not stop in order");
        }
        inner.shared.outbox.close();
        inner.close();
        if let Err(error) = inner.store.close().await {
            tracing::warn!(%error, "the log could not be closed in order; the next start takes longer");
        }
        lock(&inner.lock).take();
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.inner.shared.outbox.close();
        self.inner.close();
    }
}

impl Inner {
    fn id(&self) -> u64 {
        u64::from(self.config.server)
    }

    /// Runs a task until this replica stops.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = lock(&self.tasks);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    /// Ends tasks and connections.
    fn close(&self) {
        lock(&self.tasks).abort_all();
        self.dialer.close();
    }

    /// Gives up for good: the log or the disk has failed, and nothing more may be promised.
    fn stop_serving(&self, why: &str) {
        let fatal = self.raft.metrics().borrow_watched().running_state.clone();
        let why = fatal.err().map_or(why.to_owned(), |fatal| fatal.to_string());
        if lock(&self.failed).replace(why.as_str().into()).is_none() {
            tracing::error!(server = self.config.server, why, "this server stops serving");
        }
        self.shared.outbox.close();
        self.publish_status();
    }

    /// Milliseconds since the start, by the runtime's clock.
    fn uptime_ms(&self) -> u64 {
        self.shared.uptime_ms()
    }

    fn next_copy(&self) -> u64 {
        self.copies.fetch_add(1, Ordering::Relaxed)
    }

    /// The leader and its term, as far as this server knows.
    fn leader(&self) -> Option<(u64, u64)> {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let vote = &metrics.vote;
        metrics.current_leader.filter(|_| vote.committed).map(|leader| (leader, vote.leader_id.term))
    }

    /// The link to another server, if it is a member.
    fn link(&self, server: u64) -> Option<Arc<Link>> {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let member = metrics.membership_config.membership().get_node(&server)?;
        Some(self.dialer.link(server, &member.peer_address))
    }

    fn voters(&self) -> BTreeSet<u64> {
        self.raft.server_metrics().borrow_watched().membership_config.membership().voter_ids().collect()
    }

    /// All servers, as far as it is committed who they are.
    fn members(&self) -> Vec<Member> {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.committed_membership_config.membership();
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        let member =
            |(id, member): (&u64, &Member)| Member { observer: !voters.contains(id), ..member.clone() };
        membership.nodes().map(member).collect()
    }

    /// How long without a sign makes a leader doubtful.
    fn doubt_after(&self) -> Duration {
        self.config.heartbeat() * start::ELECTION_HEARTBEATS_MAX * 2
    }

    /// A request of a leader came in.
    fn heard_of(&self, from: u32, request: &AppendRequest) {
        if request.vote.leader_id.voted_for == u64::from(from) {
            *lock(&self.heard) = Some((u64::from(from), Instant::now()));
        }
    }

    /// A leader hears of a quorum, a follower of its leader.
    fn is_in_touch(&self) -> bool {
        let Some((leader, _)) = self.leader() else { return false };
        if leader != self.id() {
            let heard = *lock(&self.heard);
            return heard.is_some_and(|(from, at)| from == leader && at.elapsed() < self.doubt_after());
        }
        if self.voters().len() <= 1 {
            return true;
        }
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        metrics.last_quorum_acked.as_ref().is_some_and(|acked| {
            let acked: openraft::type_config::alias::InstantOf<Types> = **acked;
            openraft::Instant::elapsed(&acked) < self.doubt_after()
        })
    }

    fn is_serving(&self) -> bool {
        self.recovered.load(Ordering::Acquire) && lock(&self.failed).is_none() && self.is_in_touch()
    }

    /// Sessions that were heard of here or by a follower: counts if this server leads.
    fn heard(&self, sessions: &[SessionId]) {
        let now_ms = self.uptime_ms();
        if let Some(expiry) = lock(&self.shared.expiry).as_mut() {
            sessions.iter().for_each(|session| expiry.touch(*session, now_ms));
        }
    }

    /// The same of those who asked for transactions: before these are in the log, so that no session is ended between
    /// a write that counts as a sign of life and its answer.
    fn heard_in(&self, entry: &Entry) {
        let now_ms = self.uptime_ms();
        if let Some(expiry) = lock(&self.shared.expiry).as_mut() {
            entry.txns.iter().for_each(|txn| expiry.touch(txn.session, now_ms));
        }
    }
}
