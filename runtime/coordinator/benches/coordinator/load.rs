//! Many connections that keep as many requests under way as they may, on one thread.

use std::collections::VecDeque;
use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::client::{self, Client, Session};
use crate::servers::Ensemble;
use crate::{CONNECTIONS, IN_FLIGHT};

/// Nodes that are read and written.
const NODES: usize = 1000;

/// Before anything is counted: a JVM compiles what it runs often.
const WARM_UP: Duration = Duration::from_millis(1500);

/// Bytes that a connection reads at a time.
const READ_BYTES: usize = 64 << 10;

#[derive(Clone, Copy, PartialEq)]
pub enum Kind {
    Read,
    Write100,
    Write1K,
    CreateDelete,
    Mixed,
}

impl Kind {
    pub const ALL: [Kind; 5] = [Kind::Read, Kind::Write100, Kind::Write1K, Kind::CreateDelete, Kind::Mixed];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Read => "read",
            Kind::Write100 => "write 100 B",
            Kind::Write1K => "write 1 KiB",
            Kind::CreateDelete => "create, delete",
            Kind::Mixed => "90 read 10 write",
        }
    }
}

#[derive(Clone)]
pub struct Measured {
    pub per_second: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    /// Processor time of all servers per operation.
    pub cpu_us: f64,
    /// Answers with an error.
    pub errors: u64,
}

/// Makes the nodes.
pub fn prepare(ensemble: &Ensemble) -> Result<(), String> {
    let all = || -> io::Result<i32> {
        let patience = Duration::from_secs(30);
        let mut one = Client::connect(ensemble.ports()[0], &Session::default(), patience)?;
        let mut error = one.call(&client::create("/bench", b""))?;
        for node in 0..NODES {
            error = error.min(one.call(&client::create(&path(node), &[b'x'; 100]))?);
        }
        Ok(error)
    };
    match all() {
        Ok(0) => Ok(()),
        Ok(code) => Err(format!("{}: error {code} for the first nodes", ensemble.whose().name())),
        Err(error) => Err(format!("{}: {error}", ensemble.whose().name())),
    }
}

fn path(node: usize) -> String {
    format!("/bench/n{node:04}")
}

pub fn run(ensemble: &Ensemble, kind: Kind, seconds: f64) -> Result<Measured, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let local = tokio::task::LocalSet::new();
    let failed = |error: io::Error| format!("{}, {}: {error}", ensemble.whose().name(), kind.name());
    local.block_on(&runtime, async {
        let begin = Instant::now() + WARM_UP;
        let end = begin + Duration::from_secs_f64(seconds);
        let mut tasks = JoinSet::new();
        for number in 0..CONNECTIONS {
            let port = ensemble.ports()[number % ensemble.ports().len()];
            tasks.spawn_local(connection(port, number, kind, begin, end));
        }
        tokio::time::sleep_until(begin.into()).await;
        let cpu = ensemble.cpu_us();
        tokio::time::sleep_until(end.into()).await;
        let cpu = ensemble.cpu_us() - cpu;
        let mut latencies = Vec::new();
        let mut errors = 0;
        while let Some(done) = tasks.join_next().await {
            let one = done.map_err(|error| error.to_string())?.map_err(failed)?;
            latencies.extend(one.latencies_us);
            errors += one.errors;
        }
        latencies.sort_unstable();
        let at = |part: f64| {
            let place = (latencies.len() as f64 * part) as usize;
            latencies.get(place).map_or(0.0, |&us| f64::from(us) / 1000.0)
        };
        let count = latencies.len().max(1) as f64;
        Ok(Measured {
            per_second: latencies.len() as f64 / seconds,
            p50_ms: at(0.5),
            p99_ms: at(0.99),
            cpu_us: cpu as f64 / count,
            errors,
        })
    })
}

#[derive(Default)]
struct Counted {
    latencies_us: Vec<u32>,
    errors: u64,
}

async fn connection(
    port: u16,
    number: usize,
    kind: Kind,
    begin: Instant,
    end: Instant,
) -> io::Result<Counted> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    stream.set_nodelay(true)?;
    let mut counted = Counted::default();
    let mut load = Load::new(kind, number);
    stream.write_all(&client::hello(&Session::default())).await?;
    let mut input = Vec::with_capacity(READ_BYTES);
    let mut output = Vec::new();
    let mut sent: VecDeque<Instant> = VecDeque::with_capacity(IN_FLIGHT);
    let mut welcomed = false;
    loop {
        if welcomed {
            let now = Instant::now();
            while sent.len() < IN_FLIGHT && now < end {
                load.next(&mut output);
                sent.push_back(now);
            }
            stream.write_all(&output).await?;
            output.clear();
            if sent.is_empty() {
                return Ok(counted);
            }
        }
        if stream.read_buf(&mut input).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let now = Instant::now();
        let mut at = 0;
        while let Some(length) = input.get(at..at + 4) {
            let length = u32::from_be_bytes(length.try_into().expect("four bytes")) as usize;
            let Some(frame) = input.get(at + 4..at + 4 + length) else { break };
            at += 4 + length;
            if !welcomed {
                client::welcome(frame)?;
                welcomed = true;
                continue;
            }
            let sent = sent.pop_front().ok_or(io::ErrorKind::InvalidData)?;
            if (begin..end).contains(&now) {
                let us = now.duration_since(sent).as_micros();
                counted.latencies_us.push(u32::try_from(us).unwrap_or(u32::MAX));
                counted.errors += u64::from(client::error_of(frame) != Some(0));
            }
        }
        input.drain(..at);
    }
}

/// The requests of one connection, built before.
struct Load {
    reads: Vec<Vec<u8>>,
    writes: Vec<Vec<u8>>,
    kind: Kind,
    at: usize,
}

impl Load {
    fn new(kind: Kind, number: usize) -> Load {
        // Another order for every connection.
        let nodes: Vec<String> = (0..NODES).map(|n| path((n * 7 + number * 31) % NODES)).collect();
        let reads = || nodes.iter().map(|path| client::get(path)).collect();
        let writes = |bytes: usize| nodes.iter().map(|path| client::set(path, &vec![b'y'; bytes])).collect();
        let (reads, writes) = match kind {
            Kind::Read => (reads(), vec![]),
            Kind::Write100 => (vec![], writes(100)),
            Kind::Write1K => (vec![], writes(1024)),
            Kind::Mixed => (reads(), writes(100)),
            Kind::CreateDelete => {
                // What an earlier run has left over is not in the way.
                static RUN: AtomicUsize = AtomicUsize::new(0);
                let run = RUN.fetch_add(1, Ordering::Relaxed);
                let own = |n: usize| format!("/bench/c{run:04}-{n:03}");
                let pair = |n: usize| [client::create(&own(n), &[b'x'; 100]), client::delete(&own(n))];
                (vec![], (0..NODES).flat_map(pair).collect())
            }
        };
        // The tenths of a mix do not fall together; creating and deleting begins with creating.
        let at = if kind == Kind::Mixed { number } else { 0 };
        Load { reads, writes, kind, at }
    }

    fn next(&mut self, output: &mut Vec<u8>) {
        let write = match self.kind {
            Kind::Read => false,
            Kind::Mixed => self.at.is_multiple_of(10),
            _ => true,
        };
        let some = if write { &self.writes } else { &self.reads };
        output.extend_from_slice(&some[self.at % some.len()]);
        self.at += 1;
    }
}
