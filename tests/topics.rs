//! Topics in a running process: `kill -9` at any time loses nothing and, where the flow says `effectively_once`, repeats
//! nothing; a destination that is away for long is caught up afterwards, and the other reader never notices.
//!
//! `FLOW_KILLS=100 cargo test --test topics` is the long form.

#[path = "support/logs.rs"]
#[allow(dead_code, reason = "only its random numbers are needed")]
mod logs;
#[path = "support/process.rs"]
#[allow(dead_code, reason = "only a part of it is needed")]
mod process;

use std::collections::{HashMap, HashSet};
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use logs::Random;
use process::{Running, flowc, wait_until};

/// Kills in the short form.
const KILLS: u64 = 6;

/// Lines that a reader has before it for each kill: more than it reads until then.
const LINES_PER_KILL: u64 = 3_500;

fn kills() -> u64 {
    std::env::var("FLOW_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(KILLS)
}

/// A home with a program and its input.
struct Site {
    home: tempfile::TempDir,
    program: PathBuf,
    written: u64,
}

impl Site {
    fn new(flow: &str) -> Site {
        let home = tempfile::tempdir().unwrap();
        let program = home.path().join("x.flow");
        fs::write(&program, flow.replace("HERE", &home.path().display().to_string())).unwrap();
        fs::write(home.path().join("in.log"), "").unwrap();
        Site { home, program, written: 0 }
    }

    fn start(&self) -> Running {
        Running::start(flowc(self.home.path()).arg("run").arg(&self.program))
    }

    fn write(&mut self, lines: u64) {
        let mut file = OpenOptions::new().append(true).open(self.home.path().join("in.log")).unwrap();
        let mut text = String::new();
        for _ in 0..lines {
            text.push_str(&format!("line {} {}\n", self.written, "x".repeat(self.written as usize % 90)));
            self.written += 1;
        }
        file.write_all(text.as_bytes()).unwrap();
    }

    /// How often each whole line is in a file.
    fn lines(&self, file: &str) -> HashMap<String, u64> {
        let mut count = HashMap::new();
        let bytes = fs::read(self.home.path().join(file)).unwrap_or_default();
        for line in String::from_utf8_lossy(&bytes).split_inclusive('\n') {
            if let Some(whole) = line.strip_suffix('\n') {
                *count.entry(whole.to_owned()).or_insert(0) += 1;
            }
        }
        count
    }

    fn bytes(&self, file: &str) -> u64 {
        fs::metadata(self.home.path().join(file)).map_or(0, |meta| meta.len())
    }

    fn has_last_line(&self, file: &str) -> bool {
        let last = format!("line {} ", self.written - 1);
        self.lines(file).keys().any(|line| line.starts_with(&last))
    }
}

/// How many records a topic of three partitions holds, by the headers of the batches in its logs: base offset, length and
/// last offset delta lie at bytes 0, 8 and 23. Nothing is deleted and nothing rolled in these tests.
fn records_of(site: &Site, topic: &str) -> u64 {
    let of = |partition: u32| -> u64 {
        let log = format!("state/services/embedded/{topic}-{partition}/00000000000000000000.log");
        let bytes = fs::read(site.home.path().join(log)).unwrap_or_default();
        let (mut at, mut next_offset) = (0, 0);
        while let Some(header) = bytes.get(at..at + 61) {
            let number = |from: usize| u32::from_be_bytes(header[from..from + 4].try_into().unwrap());
            next_offset = u64::from_be_bytes(header[..8].try_into().unwrap()) + u64::from(number(23)) + 1;
            at += 12 + number(8) as usize;
        }
        next_offset
    };
    (0..3).map(of).sum()
}

/// Kills again and again while lines flow to `kept.log`; gives how often a line came again.
fn kill_and_count(name: &str, flow: &str, seed: u64) -> u64 {
    let mut site = Site::new(flow);
    let mut random = Random::new(seed);
    for _ in 0..kills() {
        let running = site.start();
        site.write(1 + random.below(3_000));
        let wanted = site.bytes("kept.log") + random.below(100_000);
        if random.below(4) > 0 {
            let mut polls = 0;
            wait_until("it writes, or has nothing left to write", || {
                polls += 1;
                site.bytes("kept.log") >= wanted || polls > 1_500
            });
        }
        running.kill();
    }
    site.write(1 + random.below(3_000));
    let running = site.start();
    let mut seen = 0;
    wait_until("the last line has arrived", || {
        let bytes = site.bytes("kept.log");
        let news = bytes != seen;
        seen = bytes;
        news && site.lines("kept.log").len() as u64 >= site.written && site.has_last_line("kept.log")
    });
    running.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(running.wait().success(), "{name}: it stops cleanly when asked");
    let kept = site.lines("kept.log");
    let mut repeated = 0;
    for line in fs::read_to_string(site.home.path().join("in.log")).unwrap().lines() {
        match kept.get(line) {
            None => panic!("{name}, seed {seed}: lost `{line}`"),
            Some(times) => repeated += times - 1,
        }
    }
    assert_eq!(kept.len() as u64, site.written, "{name}: something is in the output that never was");
    println!("{name}: {} kills, {} lines, none lost, {repeated} came again", kills(), site.written);
    repeated
}

#[test]
fn killing_a_flow_through_a_topic_loses_nothing() {
    let flow = "deliver at_least_once\nsource web = tail \"HERE/in.log\"\nsink kept = files \"HERE/kept.log\"\n\
                topic lines { partitions: 3 }\nweb -> lines\nlines as keeper -> kept\n";
    kill_and_count("topic to files", flow, 21);
}

/// The topic is filled first: a source that repeats after a crash would repeat into it.
#[test]
fn killing_a_reader_that_delivers_effectively_once_repeats_nothing() {
    let filled = "source web = tail \"HERE/in.log\"\ntopic lines { partitions: 3, external: true }\n\
                  runtime { data: \"HERE/state\" }\nweb -> lines\n";
    let reading = "deliver effectively_once\nsink kept = files \"HERE/kept.log\" { batch: 700 }\n\
                   topic lines { partitions: 3 }\nruntime { data: \"HERE/state\" }\nlines as keeper -> kept\n";
    let mut site = Site::new(filled);
    // Enough for every kill to find it at work.
    site.write(kills() * LINES_PER_KILL);
    let running = site.start();
    // By records: the bytes of the log are more than those of the lines long before all of them are there.
    wait_until("all lines are in the topic", || records_of(&site, "lines") >= site.written);
    running.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(running.wait().success());
    fs::write(&site.program, reading.replace("HERE", &site.home.path().display().to_string())).unwrap();
    let mut random = Random::new(22);
    for _ in 0..kills() {
        let running = site.start();
        let wanted = site.bytes("kept.log") + random.below(60_000);
        let mut polls = 0;
        wait_until("it writes, or has nothing left to write", || {
            polls += 1;
            site.bytes("kept.log") >= wanted || polls > 1_500
        });
        running.kill();
    }
    let running = site.start();
    wait_until("all lines have arrived", || site.lines("kept.log").len() as u64 >= site.written);
    running.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(running.wait().success());
    let kept = site.lines("kept.log");
    assert_eq!(kept.len() as u64, site.written);
    let again: Vec<&String> = kept.iter().filter(|(_, times)| **times > 1).map(|(line, _)| line).collect();
    assert!(again.is_empty(), "{} lines came again, as `{}`", again.len(), again[0]);
    println!("reader: {} kills, {} lines, none lost, none came again", kills(), site.written);
}

/// What topic `a` got comes out behind topic `b` exactly once. The source repeats after a crash, so records of `a` are
/// told apart by their place there and not by their line; its log says how many there are.
#[test]
fn killing_a_flow_from_topic_to_topic_loses_and_repeats_nothing() {
    let flow = "flow fill deliver at_least_once {\n  source web = tail \"HERE/in.log\"\n  web -> a\n}\n\
                deliver effectively_once\nsink kept = files \"HERE/kept.log\" { batch: 700 }\n\
                topic a { partitions: 3 }\ntopic b { partitions: 3 }\nruntime { data: \"HERE/state\" }\n\
                interceptor mark { body = \"${header.partition} ${header.offset} ${body}\" }\n\
                a as mover -> mark -> b\nb as keeper -> kept\n";
    let mut site = Site::new(flow);
    let mut random = Random::new(23);
    for _ in 0..kills() {
        let running = site.start();
        site.write(1 + random.below(3_000));
        let wanted = site.bytes("kept.log") + random.below(100_000);
        if random.below(4) > 0 {
            let mut polls = 0;
            wait_until("it writes, or has nothing left to write", || {
                polls += 1;
                site.bytes("kept.log") >= wanted || polls > 1_500
            });
        }
        running.kill();
    }
    site.write(1 + random.below(3_000));
    let input = fs::read_to_string(site.home.path().join("in.log")).unwrap();
    let last = input.lines().last().unwrap();
    let running = site.start();
    let mut seen = 0;
    wait_until("all of the first topic has arrived", || {
        let bytes = site.bytes("kept.log");
        let news = bytes != seen;
        seen = bytes;
        if !news {
            return false;
        }
        let kept = site.lines("kept.log");
        let came = |line: &str| kept.keys().any(|record| record.ends_with(line));
        kept.len() as u64 >= records_of(&site, "a") && came(last)
    });
    running.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(running.wait().success());
    let kept = site.lines("kept.log");
    assert_eq!(kept.len() as u64, records_of(&site, "a"), "each record of the first topic, and nothing else");
    for partition in 0..3 {
        let of = |line: &&String| line.split(' ').next() == Some(&partition.to_string());
        let offset = |line: &String| line.split(' ').nth(1).and_then(|offset| offset.parse::<u64>().ok());
        let mut offsets: Vec<u64> = kept.keys().filter(of).filter_map(offset).collect();
        offsets.sort_unstable();
        let gap = (0..).zip(&offsets).find(|(wanted, offset)| wanted != *offset);
        assert_eq!(gap, None, "partition {partition}: an offset that is missing, and the one in its place");
    }
    let again: Vec<&String> = kept.iter().filter(|(_, times)| **times > 1).map(|(line, _)| line).collect();
    assert!(again.is_empty(), "{} records came again, as `{}`", again.len(), again[0]);
    // Behind partition and offset.
    let lines: HashSet<&str> = kept.keys().filter_map(|record| record.splitn(3, ' ').nth(2)).collect();
    assert_eq!(input.lines().find(|line| !lines.contains(line)), None, "the first topic did not get it");
    println!("topic to topic: {} kills, {} lines, {} records", kills(), site.written, kept.len());
}

/// Takes requests and keeps their lines, until the test ends.
fn serve(listener: TcpListener, lines: Arc<Mutex<Vec<String>>>) {
    for stream in listener.incoming() {
        let Ok(stream) = stream else { return };
        let lines = lines.clone();
        std::thread::spawn(move || while answer(&stream, &lines).is_some() {});
    }
}

/// One request; nothing when the client has gone.
fn answer(mut stream: &TcpStream, lines: &Mutex<Vec<String>>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    let mut line = String::new();
    loop {
        line.clear();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    lines.lock().unwrap().extend(String::from_utf8_lossy(&body).lines().map(str::to_owned));
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").ok()
}

fn missing(site: &Site, have: impl Fn(&str) -> bool) -> Option<String> {
    let input = fs::read_to_string(site.home.path().join("in.log")).unwrap();
    input.lines().find(|line| !have(line)).map(str::to_owned)
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn a_destination_that_was_away_is_caught_up_and_the_other_reader_never_notices() {
    let port = free_port();
    let flow = format!(
        "deliver at_least_once\nsource web = tail \"HERE/in.log\"\nsink lake = http \"http://127.0.0.1:{port}/in\"\n\
         sink seek = files \"HERE/seek.log\"\ntopic clicks {{ partitions: 3, retention: 3d or 1GiB }}\n\
         web -> clicks\nclicks as to_lake -> lake\nclicks as to_search -> seek\n"
    );
    let mut site = Site::new(&flow);
    let running = site.start();
    // More than the channel before the sink that is away holds.
    for _ in 0..6 {
        site.write(5_000);
        wait_until("the other reader has everything", || site.has_last_line("seek.log"));
    }
    // A crash in the middle of it changes nothing.
    running.kill();
    let running = site.start();
    site.write(1_000);
    wait_until("the other reader goes on", || site.has_last_line("seek.log"));
    let lines = Arc::new(Mutex::new(Vec::new()));
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let taken = lines.clone();
    std::thread::spawn(move || serve(listener, taken));
    wait_until("everything has arrived", || lines.lock().unwrap().len() as u64 >= site.written);
    running.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(running.wait().success());
    let seek = site.lines("seek.log");
    assert_eq!(missing(&site, |line| seek.contains_key(line)), None);
    let lake: HashSet<String> = lines.lock().unwrap().iter().cloned().collect();
    assert_eq!(missing(&site, |line| lake.contains(line)), None);
}

#[test]
fn a_plan_shows_the_cluster_that_was_put_in() {
    let site =
        Site::new("topic lines { partitions: 3 }\ntail \"HERE/in.log\" -> lines as keeper -> console\n");
    let output = process::finish(flowc(Path::new(site.home.path())).arg("plan").arg(&site.program));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        text.contains("cluster embedded  put in") && text.contains("reads lines as group keeper"),
        "{text}"
    );
}

/// How often each body is in a table; nothing while there is none.
fn rows(site: &Site) -> HashMap<String, u64> {
    let path = site.home.path().join("rows.db");
    let mut count = HashMap::new();
    if let Ok(database) =
        rusqlite::Connection::open_with_flags(path, rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE)
        && let Ok(mut statement) = database.prepare("SELECT body FROM events")
        && let Ok(bodies) = statement.query_map([], |row| row.get::<_, String>(0))
    {
        for body in bodies {
            *count.entry(body.unwrap()).or_insert(0) += 1;
        }
    }
    count
}

/// How many rows a table has, by the number of its last one: reading all of them takes so long when there are many that
/// the reader had come to the end before nearly every one of a hundred kills.
fn last_row(site: &Site) -> u64 {
    let path = site.home.path().join("rows.db");
    rusqlite::Connection::open_with_flags(path, rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE)
        .and_then(|database| {
            database.query_row("SELECT coalesce(max(rowid), 0) FROM events", [], |row| row.get::<_, i64>(0))
        })
        .map_or(0, i64::cast_unsigned)
}

/// The position stands in the transaction of the rows. The topic is filled first, as above.
#[test]
fn killing_a_reader_into_a_database_loses_nothing_and_repeats_nothing() {
    let filled = "source web = tail \"HERE/in.log\" { follow: false }\n\
                  topic lines { partitions: 3, external: true }\nruntime { data: \"HERE/state\" }\nweb -> lines\n";
    let reading = "deliver effectively_once\nsink kept = database \"HERE/rows.db\" { batch: 300 }\n\
                   topic lines { partitions: 3 }\nruntime { data: \"HERE/state\" }\nlines as keeper -> kept\n";
    let mut site = Site::new(filled);
    site.write(kills().max(1) * LINES_PER_KILL);
    // It ends with its input.
    assert!(site.start().wait().success());
    fs::write(&site.program, reading.replace("HERE", &site.home.path().display().to_string())).unwrap();
    let mut random = Random::new(23);
    let mut cut = 0;
    for _ in 0..kills() {
        let before = last_row(&site);
        let wanted = (before + random.below(LINES_PER_KILL / 2)).min(site.written);
        let running = site.start();
        wait_until("it writes", || last_row(&site) >= wanted);
        running.kill();
        cut += u64::from(last_row(&site) < site.written);
    }
    assert!(cut > kills() / 2, "only {cut} kills came while it wrote");
    let running = site.start();
    wait_until("all lines have arrived", || last_row(&site) >= site.written);
    running.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(running.wait().success());
    let kept = rows(&site);
    let again: Vec<&String> = kept.iter().filter(|(_, times)| **times > 1).map(|(line, _)| line).collect();
    assert!(again.is_empty(), "{} lines came again, as `{}`", again.len(), again[0]);
    assert_eq!(missing(&site, |line| kept.contains_key(line)), None);
    assert_eq!(kept.len() as u64, site.written, "something is in the table that never was");
    println!("database: {} kills, {cut} while it wrote, {} lines once each", kills(), site.written);
}
