//! How a replica is set up, and who else there is.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::state::Limits;

/// A server of the ensemble.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// From 1 on.
    pub id: u32,
    /// Where the other servers reach it, `host:port`.
    pub peer_address: String,
    /// Where clients reach it, `host:port`.
    pub client_address: String,
    /// Has no vote: it follows, serves reads and forwards writes.
    #[serde(default)]
    pub observer: bool,
}

/// TLS between the servers of an ensemble.
#[derive(Clone)]
pub struct PeerTls {
    /// Asks connecting peers for certificates as the ensemble wants it.
    pub server: Arc<rustls::ServerConfig>,
    pub client: Arc<rustls::ClientConfig>,
    /// The name that peers' certificates must have; `None` is the host of the peer's address.
    pub server_name: Option<String>,
}

/// What [`super::Replica::start`] needs to know.
#[derive(Clone)]
pub struct ReplicaConfig {
    /// Which of the members this one is.
    pub server: u32,
    /// All of them, this one included; the same everywhere at the first start. Later starts go by what the log says.
    pub members: Vec<Member>,
    /// Where this one listens for peers, if not at its `peer_address`.
    pub peer_listen: Option<String>,
    /// The ensemble's name: servers of different ensembles do not speak with each other.
    pub cluster: String,
    /// This server was not there when the ensemble began: it waits to be taken in by [`super::Replica::reconfig`].
    pub join: bool,
    /// Directory of its own.
    pub data: PathBuf,
    /// ZooKeeper's unit of time: sessions live in multiples of it, touches go to the leader each half.
    pub tick_ms: u64,
    /// Transactions after which a snapshot is written.
    pub snapshot_every: u64,
    /// Snapshots that are kept; at least 2.
    pub snapshots_kept: usize,
    pub limits: Limits,
    pub peer_tls: Option<PeerTls>,
    /// How often a leader is heard of when nothing happens. Elections follow after 3 to 6 times as long.
    pub heartbeat_ms: u64,
    /// How often the leader looks for containers and TTL nodes to delete.
    pub container_check_ms: u64,
    /// Everything runs on the runtime it is started in, without threads, and repeats itself for equal random numbers.
    pub simulated: bool,
}

/// What ZooKeeper has as `snapCount`.
const SNAPSHOT_EVERY: u64 = 100_000;

impl ReplicaConfig {
    /// One server alone, that keeps its data in `data`.
    pub fn standalone(data: PathBuf) -> ReplicaConfig {
        let alone = Member { id: 1, ..Member::default() };
        ReplicaConfig::new(1, vec![alone], data)
    }

    /// A server of an ensemble, with the defaults for everything else.
    pub fn new(server: u32, members: Vec<Member>, data: PathBuf) -> ReplicaConfig {
        ReplicaConfig {
            server,
            members,
            peer_listen: None,
            cluster: "flow".to_owned(),
            join: false,
            data,
            tick_ms: 2000,
            snapshot_every: SNAPSHOT_EVERY,
            snapshots_kept: 3,
            limits: Limits::default(),
            peer_tls: None,
            heartbeat_ms: 50,
            container_check_ms: 60_000,
            simulated: false,
        }
    }

    pub(crate) fn heartbeat(&self) -> Duration {
        Duration::from_millis(self.heartbeat_ms.max(1))
    }

    /// What is wrong with it, if anything is.
    pub(crate) fn check(&self) -> Result<(), String> {
        let mut ids: Vec<u32> = self.members.iter().map(|member| member.id).collect();
        ids.sort_unstable();
        if ids.first() == Some(&0) {
            return Err("a server's number is 0, and they go from 1".to_owned());
        }
        if let Some(twice) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("server {} is there twice", twice[0]));
        }
        if self.members.len() > MEMBERS_MAX {
            return Err(format!("{} servers are more than {MEMBERS_MAX}", self.members.len()));
        }
        if !self.join && !self.members.iter().any(|member| member.id == self.server) {
            return Err(format!("server {} is not among the members", self.server));
        }
        if !self.join && self.members.iter().all(|member| member.observer) {
            return Err("every server is an observer, so none can lead".to_owned());
        }
        if self.members.len() > 1 && self.members.iter().any(|member| member.peer_address.is_empty()) {
            return Err("a server of an ensemble has no address for its peers".to_owned());
        }
        Ok(())
    }
}

/// Servers of an ensemble.
pub const MEMBERS_MAX: usize = 255;
