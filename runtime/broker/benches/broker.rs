//! The broker under load, as a process of its own: produce and consume throughput, CPU seconds per GB of payload,
//! latency at a fixed rate, memory, time from start to the first accepted record, recovery after `kill -9`.
//!
//! `cargo bench -p flow-broker --bench broker -- [MEGABYTES] [RUNS]` (medians; default 400 and 3).
//! `… -- --partitions [MEGABYTES] [RUNS]` sets producing to six partitions against producing to one, by turns, so that a
//! machine that is busy with something else slows both.
//! `… -- --recovery GIGABYTES` fills a log, kills the broker, and times its next start.
//! `… -- [MEGABYTES] [RUNS] HOST:PORT PID` drives another broker that runs on this machine, with the same load.
//!
//! The load generator is a plain blocking client that sends frames made beforehand, as large as librdkafka makes them
//! by default (10,000 records or 1 MB), so that it takes little of the machine from the broker.

mod load;

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use flow_broker::{Broker, BrokerConfig};
use flow_log::batch::Compression;
use load::{Client, Load};

/// Messages of a second in the latency run, and how long it goes on.
const RATE: u32 = 500;
const LATENCY_SECONDS: u32 = 8;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match args.first().map(String::as_str) {
        Some("--serve") => serve(&args[1]),
        Some("--partitions") => {
            let number =
                |index: usize, default| args.get(index).and_then(|text| text.parse().ok()).unwrap_or(default);
            partitions(number(1, 400), number(2, 5));
        }
        Some("--recovery") => recovery(args.get(1).and_then(|text| text.parse().ok()).unwrap_or(10)),
        _ => {
            let megabytes = args.first().and_then(|text| text.parse().ok()).unwrap_or(400);
            let runs = args.get(1).and_then(|text| text.parse().ok()).unwrap_or(3);
            match (args.get(2), args.get(3)) {
                (Some(address), Some(pid)) => {
                    let server =
                        Server { child: None, address: address.parse().unwrap(), pid: pid.parse().unwrap() };
                    throughput(&server, megabytes, runs);
                    latency(&server);
                }
                _ => whole(megabytes, runs),
            }
        }
    }
}

fn whole(megabytes: usize, runs: usize) {
    let data = tempfile::tempdir().unwrap();
    let mut starts = Vec::new();
    for run in 0..5 {
        let data = data.path().join(format!("start-{run}"));
        let begin = Instant::now();
        let server = Server::start(&data);
        let mut client = Client::connect(server.address);
        client.create_topic("first", 1);
        client.produce_all(&Load::new("first", 1, 100, Compression::None).frame(-1), 1);
        starts.push(begin.elapsed().as_secs_f64() * 1e3);
    }
    println!("start to the first accepted record: {:.0} ms (median of 5)", median(&mut starts));
    let server = Server::start(&data.path().join("load"));
    println!("resident after the start: {:.1} MiB", server.memory("VmRSS:"));
    throughput(&server, megabytes, runs);
    println!(
        "resident after the load: {:.1} MiB, peak {:.1} MiB",
        server.memory("VmRSS:"),
        server.memory("VmHWM:")
    );
    latency(&server);
}

fn throughput(server: &Server, megabytes: usize, runs: usize) {
    println!("\n{megabytes} MB of payload per row, medians of {runs}");
    println!("record  partitions  acks  codec   produce MB/s  CPU s/GB   consume MB/s  CPU s/GB");
    let mut number = 0;
    for size in [100, 1024] {
        for (partitions, acks, codec) in [
            (1, 1, Compression::None),
            (1, -1, Compression::None),
            (6, 1, Compression::None),
            (6, -1, Compression::None),
            (1, 1, Compression::Lz4),
            (6, -1, Compression::Lz4),
        ] {
            let mut rows: [Vec<f64>; 4] = Default::default();
            for _ in 0..runs {
                number += 1;
                let topic = format!("bench-{}-{number}", std::process::id());
                let mut client = Client::connect(server.address);
                client.create_topic(&topic, partitions);
                let load = Load::new(&topic, partitions, size, codec);
                let count = (megabytes * 1_000_000).div_ceil(load.payload_bytes);
                let frame = load.frame(acks);
                let gigabytes = (count * load.payload_bytes) as f64 / 1e9;
                let measure = |rows: &mut [Vec<f64>], work: &mut dyn FnMut()| {
                    let (begin, cpu) = (Instant::now(), server.cpu_seconds());
                    work();
                    let wall = begin.elapsed().as_secs_f64();
                    rows[0].push(gigabytes * 1e3 / wall);
                    rows[1].push((server.cpu_seconds() - cpu) / gigabytes);
                };
                measure(&mut rows[..2], &mut || client.produce_all(&frame, count));
                let records = (count * load.records) as i64;
                measure(&mut rows[2..], &mut || client.consume_all(&topic, partitions, records));
                client.delete_topic(&topic);
                server.settle();
            }
            let [produce, produce_cpu, consume, consume_cpu] = rows.each_mut().map(|row| median(row));
            println!(
                "{size:>6}  {partitions:>10}  {acks:>4}  {:<6} {produce:>13.0} {produce_cpu:>9.2} {consume:>14.0} {consume_cpu:>9.2}",
                format!("{codec:?}").to_lowercase(),
            );
        }
    }
}

/// What six partitions cost against one: the same bytes in requests of the same size.
fn partitions(megabytes: usize, runs: usize) {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(&data.path().join("load"));
    println!("{megabytes} MB of payload per run, medians of {runs}, one and six partitions by turns");
    println!("record  acks  partitions  produce MB/s  broker CPU s/GB (user + system)  client CPU s/GB");
    let mut number = 0;
    for size in [100, 1024] {
        for acks in [1, -1] {
            let mut rows: [[Vec<f64>; 5]; 2] = Default::default();
            for _ in 0..runs {
                for (partitions, rows) in [1, 6].into_iter().zip(&mut rows) {
                    number += 1;
                    let topic = format!("partitions-{number}");
                    let mut client = Client::connect(server.address);
                    client.create_topic(&topic, partitions);
                    let load = Load::new(&topic, partitions, size, Compression::None);
                    let count = (megabytes * 1_000_000).div_ceil(load.payload_bytes);
                    let frame = load.frame(acks);
                    let gigabytes = (count * load.payload_bytes) as f64 / 1e9;
                    let own = std::process::id();
                    let (begin, before, before_own) =
                        (Instant::now(), cpu_seconds(server.pid), cpu_seconds(own));
                    client.produce_all(&frame, count);
                    let wall = begin.elapsed().as_secs_f64();
                    let (after, after_own) = (cpu_seconds(server.pid), cpu_seconds(own));
                    let spent = [after[0] - before[0], after[1] - before[1]];
                    let spent_own = after_own[0] + after_own[1] - before_own[0] - before_own[1];
                    let figures =
                        [gigabytes * 1e3 / wall, spent[0] + spent[1], spent[0], spent[1], spent_own];
                    for (index, (row, figure)) in rows.iter_mut().zip(figures).enumerate() {
                        row.push(if index == 0 { figure } else { figure / gigabytes });
                    }
                    client.delete_topic(&topic);
                    server.settle();
                }
            }
            let mut totals = [0.0; 2];
            for ((partitions, rows), total) in [1, 6].into_iter().zip(&mut rows).zip(&mut totals) {
                let [rate, cpu, user, system, own] = rows.each_mut().map(|row| median(row));
                *total = cpu;
                println!(
                    "{size:>6}  {acks:>4}  {partitions:>10}  {rate:>12.0}  {cpu:>15.2} ({user:.2} + {system:.2})  {own:>21.2}"
                );
            }
            println!("{:>78}", format!("six against one: {:+.0} %", (totals[1] / totals[0] - 1.0) * 100.0));
        }
    }
}

fn latency(server: &Server) {
    println!("\n{RATE} records of 100 B a second, one by one, for {LATENCY_SECONDS} s: milliseconds");
    println!("acks   acknowledged p50   p99  p99.9   consumed p50   p99  p99.9");
    for acks in [1, -1] {
        let topic = format!("latency-{}-{acks}", std::process::id());
        Client::connect(server.address).create_topic(&topic, 1);
        let (mut acknowledged, mut consumed) =
            load::latencies(server.address, &topic, acks, RATE, LATENCY_SECONDS);
        let [a, b, c] = percentiles(&mut acknowledged);
        let [d, e, f] = percentiles(&mut consumed);
        println!("{acks:>4} {a:>18.2} {b:>5.2} {c:>6.2} {d:>14.2} {e:>5.2} {f:>6.2}");
    }
}

fn recovery(gigabytes: usize) {
    let data = tempfile::tempdir().unwrap();
    let mut server = Server::start(data.path());
    let mut client = Client::connect(server.address);
    client.create_topic("big", 1);
    let load = Load::new("big", 1, 1024, Compression::None);
    let count = gigabytes * 1_000_000_000 / load.payload_bytes;
    client.produce_all(&load.frame(1), count);
    let end = client.end_offset("big");
    server.kill();
    let begin = Instant::now();
    let server = Server::start(data.path());
    let bound = begin.elapsed();
    let mut client = Client::connect(server.address);
    client.produce_all(&load.frame(1), 1);
    let accepted = begin.elapsed();
    assert_eq!(client.end_offset("big"), end + load.records as i64, "records are missing after the kill");
    println!(
        "{gigabytes} GB, then kill -9: listening again after {:.0} ms, first accepted record after {:.0} ms",
        bound.as_secs_f64() * 1e3,
        accepted.as_secs_f64() * 1e3,
    );
}

/// A broker in a process of its own.
struct Server {
    child: Option<Child>,
    address: SocketAddr,
    pid: u32,
}

impl Server {
    fn start(data: &std::path::Path) -> Server {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg("--serve")
            .arg(data)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut output = std::io::BufReader::new(child.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut output, &mut line).unwrap();
        let address = line.trim().parse().expect("the broker prints its address");
        Server { address, pid: child.id(), child: Some(child) }
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// User and system time so far.
    fn cpu_seconds(&self) -> f64 {
        cpu_seconds(self.pid).iter().sum()
    }

    /// Waits until the process has nothing left to do, such as to remove the files of a topic that was deleted.
    fn settle(&self) {
        let mut spent = f64::NAN;
        while spent != self.cpu_seconds() {
            spent = self.cpu_seconds();
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// A line of the process' status, in MiB.
    fn memory(&self, name: &str) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap();
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line[name.len()..].trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// User and system time of a process so far.
fn cpu_seconds(pid: u32) -> [f64; 2] {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after_name = &stat[stat.rfind(')').unwrap() + 2..];
    let fields: Vec<&str> = after_name.split(' ').collect();
    // Linux gives hundredths of a second here, whatever the kernel's own clock.
    [11, 12].map(|field| fields[field].parse::<f64>().unwrap() / 100.0)
}

fn serve(data: &str) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let broker = Broker::start(BrokerConfig::new(data)).await.unwrap();
        println!("{}", broker.address());
        std::future::pending::<()>().await
    })
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn percentiles(values: &mut [Duration]) -> [f64; 3] {
    values.sort();
    [0.5, 0.99, 0.999].map(|part| values[((values.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e3)
}
