//! An ensemble in a simulation: its servers, their disks and clocks.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flow_coordinator::replica::{Member, Role, Status};
use flow_coordinator::server::{Coordinator, CoordinatorConfig};
use flow_coordinator::testing::{Rng, SimClock, SimStorage, Simulation};

/// What one seed makes of the ensemble.
#[derive(Clone, Debug)]
pub struct Shape {
    pub servers: u32,
    pub observers: u32,
    pub tick_ms: u64,
    pub snapshot_every: u64,
}

/// What must be equal on all servers.
#[derive(Clone, Debug, PartialEq)]
pub struct Short {
    pub last_zxid: i64,
    pub digest: u64,
    pub nodes: usize,
    pub ephemerals: usize,
    pub sessions: usize,
}

pub struct Cluster {
    pub simulation: Simulation,
    pub shape: Shape,
    members: Vec<Member>,
    disks: BTreeMap<u32, SimStorage>,
    clocks: BTreeMap<u32, Arc<SimClock>>,
    running: Arc<Mutex<BTreeMap<u32, Arc<Coordinator>>>>,
    /// Servers that did not start, and why.
    failed: Arc<Mutex<BTreeMap<u32, String>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub fn host(server: u32) -> String {
    format!("s{server}")
}

impl Cluster {
    pub fn new(seed: u64, shape: Shape) -> Cluster {
        let mut rng = Rng::new(seed);
        let simulation = Simulation::new(rng.next_u64());
        let all = 1..=shape.servers + shape.observers;
        let members = all.clone().map(|id| Member {
            id,
            peer_address: format!("s{id}:3181"),
            client_address: format!("s{id}:2181"),
            observer: id > shape.servers,
        });
        let network = simulation.network().clone();
        Cluster {
            members: members.collect(),
            disks: all.clone().map(|id| (id, SimStorage::new(rng.next_u64()))).collect(),
            clocks: all.map(|id| (id, Arc::new(SimClock::new(network.clone(), rng.next_u64())))).collect(),
            simulation,
            shape,
            running: Arc::default(),
            failed: Arc::default(),
        }
    }

    /// All servers, observers too.
    pub fn ids(&self) -> Vec<u32> {
        self.members.iter().map(|member| member.id).collect()
    }

    pub fn addresses(&self) -> Vec<String> {
        self.members.iter().map(|member| member.client_address.clone()).collect()
    }

    pub fn disk(&self, server: u32) -> &SimStorage {
        &self.disks[&server]
    }

    pub fn clock(&self, server: u32) -> &SimClock {
        &self.clocks[&server]
    }

    pub fn start(&mut self, server: u32) {
        let mut config =
            CoordinatorConfig::new(server, self.members.clone(), PathBuf::from(format!("/s{server}")));
        config.replica.simulated = true;
        config.replica.tick_ms = self.shape.tick_ms;
        config.replica.snapshot_every = self.shape.snapshot_every;
        let (clock, disk) = (self.clocks[&server].clone(), Arc::new(self.disks[&server].clone()));
        let (running, failed) = (self.running.clone(), self.failed.clone());
        lock(&failed).remove(&server);
        self.simulation.start(&host(server), |network| async move {
            match Coordinator::start(config, Simulation::world(network, clock, disk)).await {
                Ok(coordinator) => {
                    lock(&running).insert(server, coordinator);
                    std::future::pending::<()>().await;
                }
                Err(error) => {
                    lock(&failed).insert(server, error.to_string());
                }
            }
        });
    }

    /// Ends a server at once. With `power` its disk forgets a part of what was not synced.
    pub fn kill(&mut self, server: u32, power: bool, silently: bool) {
        match power {
            true => self.disks[&server].crash(),
            false => self.disks[&server].kill(),
        }
        let coordinator = lock(&self.running).remove(&server);
        self.simulation.kill(&host(server), silently);
        drop(coordinator);
    }

    pub fn runs(&self, server: u32) -> bool {
        self.simulation.runs(&host(server))
    }

    /// Why a server did not start or has stopped for good, if it did.
    pub fn failure(&self, server: u32) -> Option<String> {
        let failed = lock(&self.failed).get(&server).cloned();
        failed.or_else(|| self.status(server)?.failed.map(|why| why.to_string()))
    }

    pub fn status(&self, server: u32) -> Option<Status> {
        let coordinator = self.coordinator(server)?;
        self.simulation.on(&host(server), || coordinator.replica().status())
    }

    /// How things stand with a server, for messages.
    pub fn tell(&self, server: u32) -> String {
        let Some(status) = self.status(server) else { return format!("server {server} does not run") };
        let Status { role, term, leader, serving, failed, last_index, applied_index, pending, .. } = status;
        format!(
            "server {server}: {role:?} in term {term}, leader {leader:?}, serving {serving}, log to {last_index:?}, \
             applied {applied_index:?}, pending {pending}, failed {failed:?}"
        )
    }

    pub fn coordinator(&self, server: u32) -> Option<Arc<Coordinator>> {
        lock(&self.running).get(&server).cloned()
    }

    pub fn leader(&self) -> Option<u32> {
        let leads = |id: &u32| {
            self.status(*id).is_some_and(|status| matches!(status.role, Role::Leader | Role::Standalone))
        };
        self.ids().into_iter().find(leads)
    }

    /// The state of each server in short; `None` for one that does not run.
    pub fn states(&self) -> Vec<Option<Short>> {
        let state = |id: u32| {
            let coordinator = self.coordinator(id)?;
            let state = coordinator.replica().read();
            Some(Short {
                last_zxid: state.last_zxid(),
                digest: state.digest(),
                nodes: state.node_count(),
                ephemerals: state.ephemeral_count(),
                sessions: state.sessions().count(),
            })
        };
        self.ids().into_iter().map(state).collect()
    }
}
