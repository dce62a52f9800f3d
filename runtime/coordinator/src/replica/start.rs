//! Starting a replica: what is on disk is opened and checked, then the consensus and the tasks beside it begin.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use flow_log::{Committer, DirLock, LockError};
use openraft::{Config, EntryPayload, SnapshotPolicy};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::barrier::Barrier;
use super::config::{Member, ReplicaConfig};
use super::flush::{Flusher, TaskFlusher};
use super::hard::{Hard, HardError};
use super::link::Dialer;
use super::machine::{Machine, Shared};
use super::network::Peers;
use super::outbox::Outbox;
use super::runtime::seed_thread;
use super::snapshot::{SnapshotError, Snapshots};
use super::status::{self, Status};
use super::store::{Store, StoreError};
use super::types::{Membership, RaftEntry, log_id};
use super::{Inner, Observer, Raft, barrier, duties, serve};
use crate::network::World;
use crate::state::{Origin, State};

/// Elections begin after so many heartbeats without a sign of a leader; how many exactly, chance says.
const ELECTION_HEARTBEATS_MIN: u32 = 3;
pub(super) const ELECTION_HEARTBEATS_MAX: u32 = 6;
/// Entries in one message to a follower. Their bytes are bounded as well.
const APPEND_ENTRIES_MAX: u64 = 512;
/// How long a follower may take for a snapshot, in milliseconds.
const SNAPSHOT_TIMEOUT_MS: u64 = 600_000;

/// Why a replica cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{0}")]
    Config(String),
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("`{}` belongs to server {server} of the ensemble `{cluster}`", dir.display())]
    OtherServer { dir: PathBuf, server: u32, cluster: String },
    /// See `Machine::load` for why it does not just ask the leader for another.
    #[error(
        "{error}, no other snapshot can be used, and the log no longer begins at its beginning: take this server out of \
         the ensemble, empty its directory, and let it join again"
    )]
    Snapshot { error: SnapshotError },
    #[error("cannot use `{}`: {error}", dir.display())]
    Io { dir: PathBuf, error: io::Error },
    #[error("cannot listen for peers on `{address}`: {error}")]
    Listen { address: String, error: io::Error },
    #[error("the consensus cannot start: {0}")]
    Consensus(String),
}

pub(super) async fn start(
    config: ReplicaConfig,
    world: World,
    observer: Arc<dyn Observer>,
) -> Result<Arc<Inner>, StartError> {
    config.check().map_err(StartError::Config)?;
    let threads = !config.simulated;
    if config.simulated {
        seed_thread(world.clock.random());
    }
    let dir = config.data.clone();
    let failed = |error| StartError::Io { dir: dir.clone(), error };
    // Directories of a simulation are not those of the machine.
    let held = if threads { Some(DirLock::take(&dir)?) } else { None };
    world.storage.create_dir(&dir).map_err(failed)?;
    let (store, incarnation) = open_store(&config, &world, threads)?;
    let snapshots =
        Snapshots::open(world.storage.clone(), &dir, config.snapshots_kept, config.limits.clone())
            .map_err(failed)?;
    let first = store.first_index();
    let reaches = |last: Option<super::types::LogId>| last.map_or(0, |last| last.index + 1) >= first;
    let loaded = Machine::load(&snapshots, reaches).map_err(|error| StartError::Snapshot { error })?;
    let fresh = store.is_empty() && loaded.is_none() && !config.join;
    if fresh {
        begin_log(&store, &config.members).await.map_err(failed)?;
    }

    let origin = Origin { server: config.server, incarnation };
    let (file, state) = match loaded {
        Some((file, state)) => (Some(Arc::new(file)), state),
        None => (None, State::with_limits(config.limits.clone())),
    };
    let copy = Machine::copy(state, file.as_ref().map(|file| &file.meta));
    let next = copy.applied.map_or(0, |applied| applied.index + 1);
    let shared = Arc::new(Shared {
        copy: RwLock::new(copy),
        observer,
        outbox: Outbox::new(origin),
        applied: watch::channel(next).0,
        expiry: Mutex::new(None),
        started: Instant::now(),
        snapshots,
        current: Mutex::new(file),
        since_snapshot: AtomicU64::new(0),
        threads,
    });
    let dialer =
        Arc::new(Dialer::new(world.clone(), config.server, config.cluster.clone(), config.peer_tls.clone()));
    let peers = Peers { dialer: dialer.clone() };
    let machine = Machine { shared: shared.clone() };
    let id = u64::from(config.server);
    let raft = Raft::new(id, consensus_config(&config)?, peers, store.clone(), machine).await;
    let raft = raft.map_err(|error| StartError::Consensus(error.to_string()))?;
    let listener = match listen_address(&config) {
        Some(address) => {
            let listening = world.network.listen(&address).await;
            Some(listening.map_err(|error| StartError::Listen { address, error })?)
        }
        None => None,
    };
    let inner = Arc::new(Inner {
        world,
        shared,
        raft,
        store,
        dialer,
        touched: Mutex::default(),
        status: watch::channel(Status { server: config.server, ..Status::default() }).0,
        barrier: Barrier::default(),
        changing: tokio::sync::Mutex::new(()),
        heard: Mutex::new(None),
        recovered: AtomicBool::new(false),
        failed: Mutex::new(None),
        tasks: Mutex::new(JoinSet::new()),
        copies: AtomicU64::new(0),
        peer_address: listener.as_ref().map(|listener| listener.address()).unwrap_or_default(),
        lock: Mutex::new(held),
        config,
    });
    if let Some(listener) = listener {
        inner.spawn(serve::listen(inner.clone(), listener));
    }
    inner.spawn(duties::pump(inner.clone()));
    inner.spawn(duties::lead(inner.clone()));
    inner.spawn(duties::snapshots(inner.clone()));
    inner.spawn(barrier::ask(inner.clone()));
    inner.spawn(status::watch(inner.clone()));
    inner.spawn(recover(inner.clone()));
    if inner.voters() == BTreeSet::from([id]) {
        // Nobody else could lead.
        let _ = inner.raft.trigger().elect(false).await;
    }
    Ok(inner)
}

/// Serving begins when what was committed before the start is applied, so that no client sees an older state than before.
async fn recover(inner: Arc<Inner>) {
    match inner.raft.wait_for_recovery(None).await {
        Ok(_) => {
            inner.recovered.store(true, Ordering::Release);
            inner.publish_status();
        }
        Err(error) => tracing::debug!(%error, "stopped before it had recovered"),
    }
}

fn open_store(config: &ReplicaConfig, world: &World, threads: bool) -> Result<(Store, u64), StartError> {
    let found = Hard::load(world.storage.as_ref(), &config.data).map_err(StoreError::from)?;
    let mut hard = match found {
        Some(hard) if hard.server != config.server || hard.cluster != config.cluster => {
            let (server, cluster) = (hard.server, hard.cluster);
            return Err(StartError::OtherServer { dir: config.data.clone(), server, cluster });
        }
        Some(hard) => hard,
        None => Hard { server: config.server, cluster: config.cluster.clone(), ..Hard::default() },
    };
    // Greater than before even if the directory is new.
    let now_ms = u64::try_from(world.clock.now_ms()).unwrap_or_default();
    hard.incarnation = (hard.incarnation + 1).max(now_ms);
    let incarnation = hard.incarnation;
    let flusher: Arc<dyn Flusher> = if threads { Arc::new(Committer::new()) } else { Arc::new(TaskFlusher) };
    let store = Store::open(world.storage.clone(), &config.data, flusher, threads, hard)?;
    Ok((store, incarnation))
}

/// Every server of a new ensemble writes the same first entry: who there is. Then they elect.
async fn begin_log(store: &Store, members: &[Member]) -> io::Result<()> {
    let nodes: BTreeMap<u64, Member> =
        members.iter().map(|member| (u64::from(member.id), member.clone())).collect();
    let voters =
        members.iter().filter(|member| !member.observer).map(|member| u64::from(member.id)).collect();
    let membership = Membership::new(vec![voters], nodes).map_err(io::Error::other)?;
    let entry = RaftEntry { log_id: log_id(0, 0), payload: EntryPayload::Membership(membership) };
    let (done, synced) = tokio::sync::oneshot::channel();
    store.append_entries([entry], move |result| drop(done.send(result)))?;
    synced.await.map_err(io::Error::other)?
}

fn consensus_config(config: &ReplicaConfig) -> Result<Arc<Config>, StartError> {
    let heartbeat = config.heartbeat_ms.max(1);
    let consensus = Config {
        cluster_name: config.cluster.clone(),
        heartbeat_interval: heartbeat,
        election_timeout_min: heartbeat * u64::from(ELECTION_HEARTBEATS_MIN),
        election_timeout_max: heartbeat * u64::from(ELECTION_HEARTBEATS_MAX),
        install_snapshot_timeout: SNAPSHOT_TIMEOUT_MS,
        max_payload_entries: APPEND_ENTRIES_MAX,
        // Followers get the log as long as it is there; when it goes is decided with the snapshots.
        replication_lag_threshold: u64::MAX >> 1,
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX >> 1,
        enable_pre_vote: Some(true),
        // A leader that comes back begins a new term: what it had not synced is gone, and others may count on it.
        enable_leader_restore: Some(false),
        ..Config::default()
    };
    consensus.validate().map(Arc::new).map_err(|error| StartError::Config(error.to_string()))
}

/// Where peers are listened for; `None` for a server that is and stays alone.
fn listen_address(config: &ReplicaConfig) -> Option<String> {
    let own = config.members.iter().find(|member| member.id == config.server);
    let own = own.map(|member| member.peer_address.clone()).filter(|address| !address.is_empty());
    config.peer_listen.clone().or(own)
}

impl From<HardError> for StartError {
    fn from(error: HardError) -> StartError {
        StartError::Store(error.into())
    }
}
