//! Three real processes on loopback ports, with real disks: the leader is killed with `kill -9`, or stopped and let go on,
//! while clients do a bit of everything; then what they saw is checked as in the simulation.
//!
//! `FLOW_KILLS=50` is the long form.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use flow_coordinator::network::{Tcp, World};
use flow_coordinator::replica::Member;
use flow_coordinator::server::{Coordinator, CoordinatorConfig};
use flow_coordinator::testing::checks::check_history;
use flow_coordinator::testing::history::{History, Recorder};
use flow_coordinator::testing::workload::{self, Workload};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// Tells the test executable that it is to be a server: its number, its directory, and all members.
const SERVER: &str = "FLOW_ENSEMBLE_SERVER";
/// Rounds of the short form.
const KILLS: usize = 3;
const WORKERS: u32 = 6;
/// Writes between two faults, and after the last.
const WRITES: u64 = 200;
const TICK_MS: u64 = 1_000;
const SESSION_MS: i32 = 6_000;
/// After this time something hangs. Not a measure of anything.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked whether something has happened.
const LOOK: Duration = Duration::from_millis(5);

/// Not a test: a server of the ensemble, when the executable is started as one. It ends when its parent does.
#[test]
fn server_process() {
    let Ok(told) = std::env::var(SERVER) else { return };
    let mut words = told.split(' ');
    let server: u32 = words.next().unwrap().parse().unwrap();
    let data = PathBuf::from(words.next().unwrap());
    let members = words.map(parse_member).collect();
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let mut config = CoordinatorConfig::new(server, members, data);
        config.replica.tick_ms = TICK_MS;
        config.replica.snapshot_every = 500;
        let _coordinator = Coordinator::start(config, World::real()).await.expect("the server starts");
        std::future::pending::<()>().await;
    });
}

fn parse_member(word: &str) -> Member {
    let mut parts = word.split('=');
    let id = parts.next().unwrap().parse().unwrap();
    let mut addresses = parts.next().unwrap().split(',').map(str::to_owned);
    let (peer_address, client_address) = (addresses.next().unwrap(), addresses.next().unwrap());
    Member { id, peer_address, client_address, observer: false }
}

struct Ensemble {
    dir: tempfile::TempDir,
    members: Vec<Member>,
    children: Vec<Option<Child>>,
}

impl Ensemble {
    fn new() -> Ensemble {
        // Held all at once, so that they differ.
        let ports: Vec<TcpListener> = (0..6).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let addresses: Vec<String> =
            ports.iter().map(|port| port.local_addr().unwrap().to_string()).collect();
        drop(ports);
        let members = (1..).zip(addresses.chunks(2)).map(|(id, pair)| Member {
            id,
            peer_address: pair[0].clone(),
            client_address: pair[1].clone(),
            observer: false,
        });
        let members: Vec<Member> = members.collect();
        let mut ensemble = Ensemble {
            dir: tempfile::tempdir().unwrap(),
            children: members.iter().map(|_| None).collect(),
            members,
        };
        for index in 0..ensemble.members.len() {
            ensemble.start(index);
        }
        ensemble
    }

    fn start(&mut self, index: usize) {
        let data: &Path = self.dir.path();
        let data = data.join(format!("server{}", index + 1));
        let mut told = format!("{} {}", index + 1, data.display());
        for member in &self.members {
            told += &format!(" {}={},{}", member.id, member.peer_address, member.client_address);
        }
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "server_process", "--nocapture"])
            .env(SERVER, told)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        self.children[index] = Some(child);
    }

    fn kill(&mut self, index: usize) {
        if let Some(mut child) = self.children[index].take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn signal(&self, index: usize, signal: &str) {
        let id = self.children[index].as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    fn addresses(&self) -> Vec<String> {
        self.members.iter().map(|member| member.client_address.clone()).collect()
    }

    /// What a server says it is, `None` if it says nothing.
    fn mode(&self, index: usize) -> Option<String> {
        let address = self.members[index].client_address.parse().ok()?;
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_millis(500)).ok()?;
        stream.set_read_timeout(Some(Duration::from_millis(500))).ok()?;
        stream.write_all(b"srvr").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        text.lines().find_map(|line| line.strip_prefix("Mode: ").map(str::to_owned))
    }

    async fn leader(&self) -> usize {
        until("a leader", || (0..3).find(|index| self.mode(*index).as_deref() == Some("leader"))).await
    }

    async fn serves(&self, index: usize) {
        let serves = |mode: &str| mode == "leader" || mode == "follower";
        until("a server that serves", || self.mode(index).filter(|mode| serves(mode))).await;
    }
}

impl Drop for Ensemble {
    fn drop(&mut self) {
        (0..self.children.len()).for_each(|index| self.kill(index));
    }
}

async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            match look() {
                Some(found) => return found,
                None => sleep(LOOK).await,
            }
        }
    };
    timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("there is not {what}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_is_killed_and_stopped_under_load() {
    let kills = std::env::var("FLOW_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(KILLS);
    let mut ensemble = Ensemble::new();
    let began = Instant::now();
    let now_ms = move || began.elapsed().as_millis() as u64;
    let recorder = Recorder::new(now_ms);
    let (stop, stopped) = watch::channel(false);
    let acknowledged = Arc::new(AtomicU64::new(0));
    let work = Workload {
        servers: ensemble.addresses(),
        timeout_ms: SESSION_MS,
        pause_ms: 10,
        recorder: recorder.clone(),
        stop: stopped,
        acknowledged: acknowledged.clone(),
    };
    timeout(PATIENCE, workload::prepare(Arc::new(Tcp), &work, 900)).await.expect("the ensemble serves");
    let workers: Vec<_> = (1..=WORKERS)
        .map(|number| tokio::spawn(workload::work(Arc::new(Tcp), work.clone(), number, u64::from(number))))
        .collect();
    let writes = async |count: u64| {
        let before = acknowledged.load(Ordering::Relaxed);
        until("a write", || (acknowledged.load(Ordering::Relaxed) >= before + count).then_some(())).await;
    };

    let mut struck = Vec::new();
    for round in 0..kills {
        writes(WRITES).await;
        let leader = ensemble.leader().await;
        struck.push((now_ms(), round % 3 == 2));
        if round % 3 == 2 {
            ensemble.signal(leader, "-STOP");
            writes(WRITES).await;
            ensemble.signal(leader, "-CONT");
        } else {
            ensemble.kill(leader);
            writes(WRITES).await;
            ensemble.start(leader);
        }
        ensemble.serves(leader).await;
    }
    writes(WRITES).await;
    stop.send_replace(true);
    for worker in workers {
        timeout(PATIENCE, worker).await.expect("a client ends").unwrap();
    }
    for (number, server) in (800..).zip(ensemble.addresses()) {
        let audit = workload::audit(Arc::new(Tcp), &work, &server, number);
        timeout(PATIENCE, audit).await.expect("every server serves");
    }
    let history = recorder.history();
    report(&history, &struck, acknowledged.load(Ordering::Relaxed));
    if let Err(what) = check_history(&history, &workload::expected()) {
        panic!("{what}");
    }
}

/// Times from a fault to the first acknowledged write that began after it.
fn report(history: &History, struck: &[(u64, bool)], acknowledged: u64) {
    for (kind, stopped) in [("killed", false), ("stopped", true)] {
        let mut times: Vec<u64> = (struck.iter().filter(|(_, how)| *how == stopped))
            .filter_map(|(at_ms, _)| {
                let writes = history.calls.iter().filter(|call| call.is_done_write());
                let after = writes.filter(|call| history.lines[call.invoked].at_ms >= *at_ms);
                let replied = after.filter_map(|call| Some(history.lines[call.replied?].at_ms));
                replied.min().map(|replied| replied - at_ms)
            })
            .collect();
        times.sort_unstable();
        println!(
            "leader {kind} {} times: to the next acknowledged write median {:?} ms, most {:?} ms",
            times.len(),
            times.get(times.len() / 2),
            times.last()
        );
    }
    println!("{} calls, {acknowledged} acknowledged writes", history.calls.len());
}
