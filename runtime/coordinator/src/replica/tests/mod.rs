//! Ensembles of replicas in a simulation: one thread, paused clocks, disks and a network that break on purpose.

mod alone;
mod changes;
mod faults;
mod log;
mod three;

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;

use super::{Member, Observer, Replica, ReplicaConfig, Role, StartError, Status};
use crate::network::World;
use crate::proto::{Acl, Code, Create, CreateOp, Id, Request, perms};
use crate::state::{Applied, Op, Outcome, State, Txn};
use crate::testing::{SimClock, SimStorage, Simulation};

type Job = Box<dyn FnOnce(Arc<Replica>) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// Counts what it is told.
#[derive(Default)]
struct Counts {
    applied: AtomicU64,
    restored: AtomicU64,
}

impl Observer for Counts {
    fn applied(&self, _state: &State, applied: &Applied) {
        self.applied.fetch_add(applied.outcomes.len() as u64, Ordering::Relaxed);
    }

    fn status(&self, _status: &Status) {}

    fn restored(&self, _state: &State) {
        self.restored.fetch_add(1, Ordering::Relaxed);
    }
}

#[derive(Default)]
struct Slot {
    replica: Option<Arc<Replica>>,
    error: Option<StartError>,
    jobs: Option<mpsc::UnboundedSender<Job>>,
}

struct Host {
    storage: SimStorage,
    slot: Arc<Mutex<Slot>>,
    counts: Arc<Counts>,
}

/// Servers 1 to n.
struct Cluster {
    sim: Simulation,
    seed: u64,
    hosts: Vec<Host>,
    members: Vec<Member>,
    change: Box<dyn Fn(&mut ReplicaConfig)>,
}

fn member(id: u32, observer: bool) -> Member {
    Member { id, peer_address: format!("host{id}:2888"), client_address: format!("host{id}:2181"), observer }
}

fn name(id: u32) -> String {
    format!("host{id}")
}

impl Cluster {
    /// Starts a server for each member.
    fn new(seed: u64, servers: u32) -> Cluster {
        Cluster::with(seed, (1..=servers).map(|id| member(id, false)).collect(), |_| ())
    }

    fn with(seed: u64, members: Vec<Member>, change: impl Fn(&mut ReplicaConfig) + 'static) -> Cluster {
        let sim = Simulation::new(seed);
        let mut cluster = Cluster { sim, seed, hosts: Vec::new(), members, change: Box::new(change) };
        let ids: Vec<u32> = cluster.members.iter().map(|member| member.id).collect();
        for id in ids {
            cluster.add_host();
            cluster.start(id);
        }
        cluster
    }

    fn add_host(&mut self) {
        let storage = SimStorage::new(self.seed ^ (self.hosts.len() as u64 + 77));
        self.hosts.push(Host { storage, slot: Arc::default(), counts: Arc::default() });
    }

    fn host(&self, id: u32) -> &Host {
        &self.hosts[id as usize - 1]
    }

    fn start(&mut self, id: u32) {
        let mut config = ReplicaConfig::new(id, self.members.clone(), PathBuf::from("/data"));
        config.simulated = true;
        config.tick_ms = 200;
        (self.change)(&mut config);
        self.start_with(config);
    }

    fn start_with(&mut self, config: ReplicaConfig) {
        let id = config.server;
        let host = &self.hosts[id as usize - 1];
        let (slot, counts, storage) = (host.slot.clone(), host.counts.clone(), host.storage.clone());
        *slot.lock().unwrap() = Slot::default();
        let clock = Arc::new(SimClock::new(self.sim.network().clone(), self.seed ^ u64::from(id)));
        self.sim.start(&name(id), move |network| async move {
            let world = World { network, clock, storage: Arc::new(storage) };
            let (jobs, mut inbox) = mpsc::unbounded_channel::<Job>();
            match Replica::start(config, world, counts).await {
                Ok(replica) => {
                    let weak = Arc::downgrade(&replica);
                    *slot.lock().unwrap() = Slot { replica: Some(replica), error: None, jobs: Some(jobs) };
                    while let (Some(job), Some(replica)) = (inbox.recv().await, weak.upgrade()) {
                        tokio::spawn(job(replica));
                    }
                }
                Err(error) => slot.lock().unwrap().error = Some(error),
            }
        });
    }

    /// Ends a server; with `power`, what its disk had not synced is lost as well.
    fn kill(&mut self, id: u32, power: bool) {
        let host = self.host(id);
        match power {
            true => host.storage.crash(),
            false => host.storage.kill(),
        }
        *self.host(id).slot.lock().unwrap() = Slot::default();
        self.sim.kill(&name(id), power);
    }

    fn replica(&self, id: u32) -> Option<Arc<Replica>> {
        self.host(id).slot.lock().unwrap().replica.clone()
    }

    /// What a server says of itself. Its clock runs only inside of it, so role and service are as it told them last.
    fn status(&self, id: u32) -> Option<Status> {
        let replica = self.replica(id)?;
        let told = replica.watch_status().borrow().clone();
        Some(Status { role: told.role, leader: told.leader, serving: told.serving, ..replica.status() })
    }

    fn is_serving(&self, id: u32) -> bool {
        self.status(id).is_some_and(|status| status.serving)
    }

    fn error(&self, id: u32) -> Option<String> {
        self.host(id).slot.lock().unwrap().error.as_ref().map(ToString::to_string)
    }

    fn running(&self) -> Vec<u32> {
        (1..=self.hosts.len() as u32).filter(|id| self.sim.runs(&name(*id))).collect()
    }

    /// The server that leads and serves.
    fn leader(&self) -> Option<u32> {
        let leads = |id: &u32| {
            self.status(*id).is_some_and(|status| {
                status.serving && matches!(status.role, Role::Leader | Role::Standalone)
            })
        };
        self.running().into_iter().find(leads)
    }

    /// Runs until all servers that run serve.
    fn settle(&mut self) -> u32 {
        for _ in 0..20_000 {
            if let Some(error) = (1..=self.hosts.len() as u32).find_map(|id| self.error(id)) {
                panic!("{error}");
            }
            let all = self.running();
            let serving = all.iter().all(|id| self.is_serving(*id));
            if serving
                && !all.is_empty()
                && let Some(leader) = self.leader()
            {
                return leader;
            }
            self.sim.step();
        }
        let found: Vec<Status> = self
            .running()
            .iter()
            .filter_map(|id| self.replica(*id))
            .map(|replica| replica.status())
            .collect();
        panic!("no leader: {found:#?}");
    }

    /// Runs until something is so, and fails if it never is.
    fn until(&mut self, what: &str, ms_max: u64, mut so: impl FnMut(&Cluster) -> bool) {
        for _ in 0..ms_max {
            if so(self) {
                return;
            }
            self.sim.step();
        }
        let found: Vec<Status> = self
            .running()
            .iter()
            .filter_map(|id| self.replica(*id))
            .map(|replica| replica.status())
            .collect();
        panic!("never {what}: {found:#?}");
    }

    /// Has a server do something, and waits for what comes of it.
    fn run<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
        &mut self,
        id: u32,
        job: impl FnOnce(Arc<Replica>) -> F + Send + 'static,
    ) -> T {
        let result = Arc::new(Mutex::new(None));
        let done = result.clone();
        let job: Job = Box::new(move |replica| {
            let work = job(replica);
            Box::pin(async move {
                let got = work.await;
                *done.lock().unwrap() = Some(got);
            })
        });
        self.host(id).slot.lock().unwrap().jobs.as_ref().unwrap().send(job).ok().unwrap();
        for _ in 0..200_000 {
            if let Some(got) = result.lock().unwrap().take() {
                return got;
            }
            self.sim.step();
        }
        panic!("it never ended");
    }

    /// Runs until all running servers have applied the same, and compares their states.
    fn converge(&mut self) {
        self.until("all the same", 20_000, |cluster| {
            let applied: Vec<Option<u64>> = cluster
                .running()
                .iter()
                .filter_map(|id| cluster.replica(*id))
                .map(|replica| replica.status().applied_index)
                .collect();
            applied.windows(2).all(|pair| pair[0] == pair[1])
        });
        let digests: Vec<(u64, i64)> = self
            .running()
            .iter()
            .filter_map(|id| self.replica(*id))
            .map(|replica| (replica.read().digest(), replica.read().last_zxid()))
            .collect();
        assert!(digests.windows(2).all(|pair| pair[0] == pair[1]), "{digests:?}");
    }

    /// How many children a znode has on a server.
    fn children(&self, id: u32, path: &str) -> usize {
        self.replica(id).and_then(|replica| replica.read().children(path)).map_or(0, |found| found.len())
    }
}

/// What came of writes: unanswered, then done or failed.
#[derive(Default, Clone)]
struct Answers(Arc<Mutex<Vec<Result<i64, Code>>>>);

impl Answers {
    fn take(&self) -> super::Answer {
        let answers = self.0.clone();
        Box::new(move |outcome: Outcome| {
            answers.lock().unwrap().push(outcome.result.map(|_| outcome.zxid));
        })
    }

    fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    fn done(&self) -> usize {
        self.0.lock().unwrap().iter().filter(|answer| answer.is_ok()).count()
    }
}

fn open() -> Vec<Acl> {
    vec![Acl { perms: perms::ALL, id: Id { scheme: "world".into(), id: "anyone".into() } }]
}

fn request(request: Request) -> Txn {
    Txn { session: 0, connection: 0, ids: Arc::from([]), op: Op::Request(request) }
}

fn create(path: &str, flags: i32) -> Txn {
    let create = Create {
        op: CreateOp::Create,
        path: path.to_owned(),
        data: Some(bytes::Bytes::from_static(b"some data")),
        acl: open(),
        flags,
        ttl: 0,
    };
    request(Request::Create(create))
}

/// Makes another child of `/q` each time it is done: doing it twice shows.
fn another() -> Txn {
    create("/q/n-", 2)
}
