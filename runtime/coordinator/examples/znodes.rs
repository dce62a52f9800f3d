//! A million znodes of 100 bytes in one state: memory, snapshot, restore, and the cost of single operations. Times are
//! those of the processor, so that other programs on the machine count little; the longest pauses are by the clock.
//! `cargo run --release -p flow-coordinator --example znodes -- [COUNT]`

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use flow_coordinator::proto::{Acl, Create, CreateOp, Id, Request, perms};
use flow_coordinator::state::{Applied, Entry, Op, Origin, State, Txn};

const DATA_BYTES: usize = 100;
const CHILDREN: usize = 1000;
const TXNS_PER_ENTRY: usize = 100;
const SNAPSHOT_CHUNK_BYTES: usize = 1 << 20;

/// Bytes of the process that are in memory.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|text| text.parse::<usize>().ok()).unwrap_or(0) * 1024
}

/// Time that this thread had on a processor. The kernel counts it some milliseconds late, which long loops even out.
fn spent_so_far() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text.split_whitespace().next().and_then(|text| text.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}

fn path(number: usize) -> String {
    format!("/bench/d{:05}/node{:07}", number / CHILDREN, number)
}

struct Host {
    state: State,
    applied: Applied,
    ids: Arc<[Id]>,
    acl: Vec<Acl>,
    longest: Duration,
}

impl Host {
    fn apply(&mut self, requests: Vec<Request>) {
        let txn =
            |request| Txn { session: 0, connection: 0, ids: self.ids.clone(), op: Op::Request(request) };
        let txns = requests.into_iter().map(txn).collect();
        let entry = Entry { time_ms: 1_700_000_000_000, origin: Origin::default(), first_serial: 0, txns };
        let start = Instant::now();
        self.state.apply(1, &entry, &mut self.applied);
        self.longest = self.longest.max(start.elapsed());
        assert!(self.applied.outcomes.iter().all(|outcome| outcome.result.is_ok()));
    }

    fn create(&self, path: String) -> Request {
        let (op, acl) = (CreateOp::Create, self.acl.clone());
        let data = Some(Bytes::from(vec![b'x'; DATA_BYTES]));
        Request::Create(Create { op, path, data, acl, flags: 0, ttl: -1 })
    }
}

fn per(elapsed: Duration, count: usize) -> f64 {
    elapsed.as_secs_f64() * 1e6 / count as f64
}

fn main() {
    let count: usize = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    let world = Id { scheme: "world".to_string(), id: "anyone".to_string() };
    let acl = vec![Acl { perms: perms::ALL, id: world }];
    let mut host = Host {
        state: State::new(),
        applied: Applied::default(),
        ids: Arc::from([]),
        acl,
        longest: Duration::ZERO,
    };
    host.apply(vec![host.create("/bench".to_string())]);
    let base = resident();
    let mut spent = Duration::ZERO;
    for start in (0..count).step_by(TXNS_PER_ENTRY) {
        let mut requests = Vec::new();
        if start % CHILDREN == 0 {
            requests.push(host.create(format!("/bench/d{:05}", start / CHILDREN)));
        }
        requests.extend((start..count.min(start + TXNS_PER_ENTRY)).map(|number| host.create(path(number))));
        let begin = spent_so_far();
        host.apply(requests);
        spent += spent_so_far() - begin;
    }
    let used = resident() - base;
    println!("znodes               {:>10}", host.state.node_count());
    println!("memory               {:>10.1} MB, {:.1} B each", used as f64 / 1e6, used as f64 / count as f64);
    println!("create               {:>10.3} us", per(spent, count));
    println!("longest entry        {:>10.3} ms", host.longest.as_secs_f64() * 1e3);

    // Far apart, so that caches help no more than they would.
    let places: Vec<usize> = (0..200_000).map(|at: usize| at.wrapping_mul(7_919_999) % count).collect();
    let paths: Vec<String> = places.iter().map(|&number| path(number)).collect();
    let data = Some(Bytes::from(vec![b'y'; DATA_BYTES]));
    let mut spent = Duration::ZERO;
    for paths in paths.chunks(TXNS_PER_ENTRY) {
        let set = |path: &String| Request::SetData { path: path.clone(), data: data.clone(), version: -1 };
        let requests = paths.iter().map(set).collect();
        let begin = spent_so_far();
        host.apply(requests);
        spent += spent_so_far() - begin;
    }
    println!("set, cold            {:>10.3} us", per(spent, places.len()));
    let mut spent = Duration::ZERO;
    for _ in 0..2000 {
        let set = |path: &String| Request::SetData { path: path.clone(), data: data.clone(), version: -1 };
        let requests: Vec<Request> = paths[..TXNS_PER_ENTRY].iter().map(set).collect();
        let begin = spent_so_far();
        host.apply(requests);
        spent += spent_so_far() - begin;
    }
    println!("set, warm            {:>10.3} us", per(spent, 2000 * TXNS_PER_ENTRY));

    let gets: Vec<Request> =
        paths.iter().map(|path| Request::GetData { path: path.clone(), watch: false }).collect();
    let mut out = Vec::new();
    for (name, rounds, gets) in [("get, cold", 1, &gets[..]), ("get, warm", 2000, &gets[..100])] {
        let begin = spent_so_far();
        for _ in 0..rounds {
            for get in gets {
                out.clear();
                assert!(host.state.read_into(0, &host.ids, get, &mut out).is_ok());
                black_box(&out);
            }
        }
        println!("{name:<20} {:>10.3} us", per(spent_so_far() - begin, rounds * gets.len()));
    }

    let begin = spent_so_far();
    let start = Instant::now();
    let id = host.state.snapshot_begin();
    let begun = start.elapsed();
    let mut file = Vec::with_capacity(count * 180);
    let mut longest = Duration::ZERO;
    loop {
        let start = Instant::now();
        let more = host.state.snapshot_chunk(id, SNAPSHOT_CHUNK_BYTES, &mut file);
        longest = longest.max(start.elapsed());
        if !more {
            break;
        }
    }
    println!(
        "snapshot             {:>10.3} s, {:.1} MB",
        (spent_so_far() - begin).as_secs_f64(),
        file.len() as f64 / 1e6
    );
    println!("  its begin          {:>10.3} ms", begun.as_secs_f64() * 1e3);
    println!("  longest chunk      {:>10.3} ms", longest.as_secs_f64() * 1e3);
    host.state.snapshot_end(id);

    let begin = spent_so_far();
    match State::restore(&mut file.as_slice()) {
        Ok(restored) => {
            println!("restore              {:>10.3} s", (spent_so_far() - begin).as_secs_f64());
            assert_eq!(restored.digest(), host.state.digest());
        }
        Err(error) => println!("restore failed: {error}"),
    }

    let entry = {
        let mut requests: Vec<Request> = Vec::new();
        requests.extend((0..TXNS_PER_ENTRY).map(|number| host.create(path(number))));
        let txn = |request| Txn {
            session: 1 << 60,
            connection: 77,
            ids: host.ids.clone(),
            op: Op::Request(request),
        };
        let txns: Vec<Txn> = requests.into_iter().map(txn).collect();
        Entry { time_ms: 1_700_000_000_000, origin: Origin::default(), first_serial: 0, txns }
    };
    let mut bytes = Vec::new();
    let begin = spent_so_far();
    for _ in 0..1000 {
        bytes.clear();
        entry.encode(&mut bytes);
    }
    println!("encode a create      {:>10.3} us", per(spent_so_far() - begin, 1000 * TXNS_PER_ENTRY));
    let bytes = Bytes::from(bytes);
    let begin = spent_so_far();
    for _ in 0..1000 {
        assert!(black_box(Entry::decode(&bytes)).is_ok());
    }
    println!("decode a create      {:>10.3} us", per(spent_so_far() - begin, 1000 * TXNS_PER_ENTRY));
}
