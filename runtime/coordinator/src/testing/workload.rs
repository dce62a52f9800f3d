//! Clients that do a bit of everything that people do with ZooKeeper, at random: registers with compare-and-set, a
//! queue of sequential znodes, ephemerals, pairs that are set together, watches of every kind, sessions that are closed,
//! dropped and moved. Every value is written once in the whole run, so that the checks can tell writes apart.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use super::Rng;
use super::checks::Expected;
use super::client::{Client, ClientConfig, Reply};
use super::history::Recorder;
use crate::network::Network;
use crate::proto::{Acl, Code, Create, CreateOp, Id, Request, Response, perms};

/// Registers that all clients write.
pub const REGISTERS: u64 = 4;
/// Paths that come and go.
const COMING_AND_GOING: u64 = 3;
/// Between the numbers of a worker's clients, which are one behind the other.
const NUMBERS: u32 = 1_000;
/// Requests of one burst.
const BURST: u64 = 12;

/// What every client of a run shares.
#[derive(Clone)]
pub struct Workload {
    pub servers: Vec<String>,
    pub timeout_ms: i32,
    /// Longest pause between two bursts.
    pub pause_ms: u64,
    pub recorder: Recorder,
    /// True: come to an end.
    pub stop: watch::Receiver<bool>,
    /// Writes that were acknowledged.
    pub acknowledged: Arc<AtomicU64>,
}

/// What the checks must know of this workload.
pub fn expected() -> Expected {
    Expected {
        pairs: vec![("/a".to_owned(), "/b".to_owned())],
        registers: (0..REGISTERS).map(register).collect(),
    }
}

/// Makes the znodes that the clients work on. Ends when all are there.
pub async fn prepare(network: Arc<dyn Network>, workload: &Workload, number: u32) {
    let config = ClientConfig::new(workload.servers.clone(), workload.timeout_ms, u64::from(number));
    let client = Client::start(network, config, workload.recorder.listen(number));
    let mut paths: Vec<String> = ["/q", "/e", "/x"].map(str::to_owned).into();
    paths.extend((0..REGISTERS).map(register));
    for path in paths {
        while !is_there(client.call(create(&path, &format!("v0{path}"), 0)).await) {}
    }
    let pair = Request::Multi(vec![create("/a", "v0/pair", 0), create("/b", "v0/pair", 0)]);
    while !is_there(client.call(pair.clone()).await.and_then(whole)) {}
    client.close().await;
}

fn is_there(result: Result<Response, Code>) -> bool {
    matches!(result, Ok(_) | Err(Code::NodeExists))
}

/// The first error of a multi, which is an answer without one on the wire.
fn whole(response: Response) -> Result<Response, Code> {
    if let Response::Multi(results) = &response {
        let culprit = results.iter().filter_map(|(_, result)| result.as_ref().err());
        if let Some(code) = culprit.copied().find(|code| *code != Code::RuntimeInconsistency) {
            return Err(code);
        }
    }
    Ok(response)
}

/// A client that works until it is told to stop, and then closes its session, or is just gone.
pub async fn work(network: Arc<dyn Network>, workload: Workload, number: u32, seed: u64) {
    let mut rng = Rng::new(seed);
    let mut worker = Worker::new(network, workload, number, rng.next_u64());
    while !*worker.workload.stop.borrow() {
        worker.burst(&mut rng).await;
        if rng.once_in(60) {
            worker.leave(&mut rng).await;
        }
        sleep(Duration::from_millis(rng.below(worker.workload.pause_ms + 1))).await;
    }
    if rng.once_in(2) {
        worker.client.close().await;
    }
}

/// Looks at everything through one server, after a `sync`. Ends when it has seen all.
pub async fn audit(network: Arc<dyn Network>, workload: &Workload, server: &str, number: u32) {
    let config = ClientConfig::new(vec![server.to_owned()], workload.timeout_ms, u64::from(number));
    let client = Client::start(network, config, workload.recorder.listen(number));
    while client.call(Request::Sync { path: "/".to_owned() }).await.is_err() {}
    let mut paths = vec!["/a".to_owned(), "/b".to_owned()];
    paths.extend((0..REGISTERS).map(register));
    for parent in ["/q", "/e", "/x"] {
        let request = Request::GetChildren { path: parent.to_owned(), watch: false };
        if let Ok(Response::Children(names)) = client.call(request).await {
            paths.extend(names.into_iter().map(|name| format!("{parent}/{name}")));
        }
    }
    for path in paths {
        if path.starts_with("/r") {
            let _ = client.call(Request::Sync { path: path.clone() }).await;
        }
        let _ = client.call(get(&path, false)).await;
    }
    client.close().await;
}

struct Worker {
    network: Arc<dyn Network>,
    workload: Workload,
    number: u32,
    client: Client,
    seed: u64,
    /// Values that it has written.
    values: u64,
    /// The versions of registers it has seen last.
    versions: BTreeMap<String, i32>,
    /// Children of the queue it has seen last.
    queue: VecDeque<String>,
    ephemerals: VecDeque<String>,
}

impl Worker {
    fn new(network: Arc<dyn Network>, workload: Workload, number: u32, seed: u64) -> Worker {
        let client = start(&network, &workload, number, seed);
        Worker {
            network,
            workload,
            number,
            client,
            seed,
            values: 0,
            versions: BTreeMap::new(),
            queue: VecDeque::new(),
            ephemerals: VecDeque::new(),
        }
    }

    /// Some requests behind each other, then their answers.
    async fn burst(&mut self, rng: &mut Rng) {
        let count = if rng.once_in(4) { 1 + rng.below(BURST) } else { 1 };
        let mut waiting = Vec::new();
        for _ in 0..count {
            for request in self.requests(rng) {
                waiting.push((request.clone(), self.client.send(request)));
            }
        }
        for (request, reply) in waiting {
            let lost = Reply { zxid: 0, result: Err(Code::ConnectionLoss) };
            self.learn(&request, reply.await.unwrap_or(lost));
        }
    }

    /// The session ends, or its client does, or its connection.
    async fn leave(&mut self, rng: &mut Rng) {
        match rng.below(4) {
            0 => self.client.close().await,
            1 => {}
            _ => return self.client.disconnect(),
        }
        self.seed = rng.next_u64();
        self.ephemerals.clear();
        // Another client for the checks, in case the old one still says something.
        self.number += NUMBERS;
        self.client = start(&self.network, &self.workload, self.number, self.seed);
    }

    fn value(&mut self) -> String {
        self.values += 1;
        format!("v{}-{}", self.number, self.values)
    }

    /// What belongs together.
    fn requests(&mut self, rng: &mut Rng) -> Vec<Request> {
        let path = register(rng.below(REGISTERS));
        let watch = rng.once_in(3);
        let going = format!("/x/{}", rng.below(COMING_AND_GOING));
        match rng.below(24) {
            0 | 1 => vec![set(&path, &self.value(), -1)],
            2 | 3 => vec![get(&path, watch)],
            4..=6 => {
                let version = self.versions.get(&path).copied().unwrap_or(0);
                vec![set(&path, &self.value(), version)]
            }
            7 | 8 => vec![Request::Sync { path: path.clone() }, get(&path, watch)],
            9 => vec![Request::Exists { path, watch }],
            10 | 11 => vec![create("/q/n-", &self.value(), 2)],
            12 | 13 => match self.queue.pop_front() {
                Some(name) => vec![delete(&format!("/q/{name}"))],
                None => vec![Request::GetChildren { path: "/q".to_owned(), watch }],
            },
            14 => {
                let name = format!("/e/{}", self.value());
                vec![create(&name, "", 1)]
            }
            15 => match self.ephemerals.pop_front().filter(|_| rng.once_in(3)) {
                Some(path) => vec![delete(&path)],
                None => vec![Request::GetChildren { path: "/e".to_owned(), watch }],
            },
            16 | 17 => {
                let value = self.value();
                let mut parts = vec![set("/a", &value, -1), set("/b", &value, -1)];
                if rng.once_in(3) {
                    let check = Request::Check { path, version: rng.below(4) as i32 };
                    parts.insert(rng.below(3) as usize, check);
                }
                vec![Request::Multi(parts)]
            }
            18 => vec![Request::MultiRead(vec![get("/a", false), get("/b", false)])],
            19 => vec![create(&going, &self.value(), 0)],
            20 => vec![delete(&going)],
            21 => vec![Request::Exists { path: going, watch: true }],
            22 => {
                let path = ["/x", "/q", "/r0"][rng.below(3) as usize].to_owned();
                if rng.once_in(3) {
                    vec![Request::RemoveWatches { path, kind: 3 }]
                } else {
                    vec![Request::AddWatch { path, mode: rng.below(2) as i32 }]
                }
            }
            _ => vec![Request::Exists { path: "/e".to_owned(), watch }],
        }
    }

    fn learn(&mut self, request: &Request, reply: Reply) {
        match (request, reply.result) {
            (Request::SetData { path, .. }, Ok(Response::Stat(stat))) => {
                self.versions.insert(path.clone(), stat.version);
            }
            (Request::GetData { path, .. }, Ok(Response::Data { stat, .. })) => {
                self.versions.insert(path.clone(), stat.version);
                return;
            }
            (Request::GetChildren { path, .. }, Ok(Response::Children(mut names))) => {
                if path == "/q" {
                    names.sort_unstable();
                    self.queue = names.into_iter().take(3).collect();
                }
                return;
            }
            (Request::Create(create), Ok(Response::Created { path, .. })) if create.flags == 1 => {
                self.ephemerals.push_back(path);
            }
            (Request::Create(_) | Request::Delete { .. }, Ok(_)) => {}
            _ => return,
        }
        self.workload.acknowledged.fetch_add(1, Ordering::Relaxed);
    }
}

fn start(network: &Arc<dyn Network>, workload: &Workload, number: u32, seed: u64) -> Client {
    let config = ClientConfig::new(workload.servers.clone(), workload.timeout_ms, seed);
    Client::start(network.clone(), config, workload.recorder.listen(number))
}

fn register(number: u64) -> String {
    format!("/r{number}")
}

fn get(path: &str, watch: bool) -> Request {
    Request::GetData { path: path.to_owned(), watch }
}

fn set(path: &str, text: &str, version: i32) -> Request {
    Request::SetData { path: path.to_owned(), data: Some(text.to_owned().into()), version }
}

fn delete(path: &str) -> Request {
    Request::Delete { path: path.to_owned(), version: -1 }
}

/// A create whose answer has a stat.
pub fn create(path: &str, text: &str, flags: i32) -> Request {
    let anyone = Id { scheme: "world".to_owned(), id: "anyone".to_owned() };
    Request::Create(Create {
        op: CreateOp::Create2,
        path: path.to_owned(),
        data: Some(text.to_owned().into()),
        acl: vec![Acl { perms: perms::ALL, id: anyone }],
        flags,
        ttl: 0,
    })
}
