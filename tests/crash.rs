//! `kill -9` at any time during `tail -> files`, again and again, with every kind of channel in between: every line
//! that was ever written to the input is in the output after the last start. Lines may come twice; none is lost, none
//! is torn, and without the repetitions they are in the order of the input.
//!
//! `FLOW_KILLS=100 cargo test --test crash` is the long form.

#[path = "support/logs.rs"]
#[allow(dead_code, reason = "only its random numbers are needed")]
mod logs;
#[path = "support/process.rs"]
#[allow(dead_code, reason = "only a part of it is needed")]
mod process;

use std::collections::{HashMap, HashSet};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use logs::Random;
use process::{Running, flowc, wait_until};

/// Kills in the short form.
const KILLS: u64 = 12;

fn kills() -> u64 {
    std::env::var("FLOW_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(KILLS)
}

/// How often each line is in the files that begin with `name`; compressed ones are opened.
fn lines_in(folder: &Path, name: &str) -> HashMap<String, u64> {
    let mut count = HashMap::new();
    let Ok(entries) = fs::read_dir(folder) else { return count };
    for entry in entries.flatten() {
        if !entry.file_name().to_string_lossy().starts_with(name) {
            continue;
        }
        // A file may be renamed while we look.
        let Ok(bytes) = fs::read(entry.path()) else { continue };
        for line in String::from_utf8_lossy(&bytes).split_inclusive('\n') {
            if let Some(whole) = line.strip_suffix('\n') {
                *count.entry(whole.to_owned()).or_insert(0) += 1;
            }
        }
    }
    count
}

/// Bytes of output, for progress: cheap enough to ask often.
fn bytes_in(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries.flatten().filter_map(|entry| Some(entry.metadata().ok()?.len())).sum()
}

/// What stays of the input's order when a run is killed.
#[derive(PartialEq)]
enum Order {
    /// Lines come in it, apart from those that come again.
    OutlivesKills,
    /// Older lines were in memory and are read again, behind newer ones that were on disk.
    EndsWithTheRun,
}

fn run(name: &str, flow: &str, seed: u64) {
    run_and_check(name, flow, seed, Order::OutlivesKills);
}

fn run_and_check(name: &str, flow: &str, seed: u64, order: Order) {
    let home = tempfile::tempdir().unwrap();
    let root = home.path();
    let (input, out) = (root.join("in.log"), root.join("out"));
    fs::create_dir_all(&out).unwrap();
    let program = root.join("x.flow");
    let place = |path: &Path| path.display().to_string();
    let text = flow.replace("IN", &place(&input)).replace("OUT", &place(&out));
    let text = text.replace("BUF", &place(&root.join("buf")));
    fs::write(&program, text).unwrap();
    let mut file = OpenOptions::new().create(true).append(true).open(&input).unwrap();
    let mut random = Random::new(seed);
    let mut written = 0_u64;
    let mut write_some = |random: &mut Random| {
        let count = 1 + random.below(4_000);
        let mut text = String::new();
        for _ in 0..count {
            text.push_str(&format!("line {written} {}\n", "x".repeat(random.below(120) as usize)));
            written += 1;
        }
        // In two pieces that need not end with a line.
        let middle = random.below(text.len() as u64) as usize;
        file.write_all(&text.as_bytes()[..middle]).unwrap();
        file.write_all(&text.as_bytes()[middle..]).unwrap();
        written
    };
    let start = || Running::start(flowc(root).arg("run").arg(&program));
    for _ in 0..kills() {
        let running = start();
        // Dies somewhere between its first breath and having written some of what is there.
        write_some(&mut random);
        let wanted = bytes_in(&out) + random.below(200_000);
        if random.below(4) > 0 {
            let mut polls = 0;
            wait_until("it writes, or has nothing left to write", || {
                polls += 1;
                bytes_in(&out) >= wanted || polls > 200
            });
        }
        running.kill();
    }
    let total = write_some(&mut random);
    let running = start();
    // The last line is written after all others, so the rest is there when it is.
    let last = format!("line {} ", total - 1);
    let mut seen = 0;
    wait_until("the last line has arrived", || {
        let bytes = bytes_in(&out);
        let news = bytes != seen;
        seen = bytes;
        news && lines_in(&out, "kept").keys().any(|line| line.starts_with(&last))
    });
    running.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(running.wait().success(), "it stops cleanly when asked");
    let kept = lines_in(&out, "kept");
    let input_lines = fs::read_to_string(&input).unwrap();
    let mut repeated = 0;
    for line in input_lines.lines() {
        match kept.get(line) {
            None => panic!("seed {seed}: lost `{line}`"),
            Some(times) => repeated += times - 1,
        }
    }
    assert_eq!(
        kept.len(),
        input_lines.lines().count(),
        "seed {seed}: something is in the output that never was"
    );
    if order == Order::OutlivesKills
        && let Ok(one_file) = fs::read_to_string(out.join("kept.log"))
        && one_file.lines().count() as u64 == kept.len() as u64 + repeated
    {
        let mut known = HashSet::new();
        let firsts = one_file.lines().filter(|line| known.insert(*line));
        assert!(firsts.eq(input_lines.lines()), "seed {seed}: the order is not that of the input");
    }
    println!("{name}: {} kills, {total} lines, none lost, {repeated} came again", kills());
}

#[test]
fn killing_tail_to_files_loses_nothing() {
    run("memory", "source web = tail \"IN\"\nsink kept = files \"OUT/kept.log\"\nweb -> kept\n", 7);
}

#[test]
fn killing_while_files_roll_loses_nothing() {
    run(
        "memory, rolled files",
        "source web = tail \"IN\"\nsink kept = files \"OUT/kept.log\" { roll: 40KiB or 1_000 }\nweb -> kept\n",
        8,
    );
}

/// What a channel that keeps its events has acknowledged is safe, so the source never brings it again.
fn run_durable(name: &str, channel: &str, seed: u64) {
    let flow = format!(
        "deliver at_least_once\nsource web = tail \"IN\"\nchannel buf = {channel}\n\
         sink kept = files \"OUT/kept.log\"\nweb -> buf\nbuf -> kept\n"
    );
    run(name, &flow, seed);
}

#[test]
fn killing_a_file_channel_loses_nothing() {
    run_durable("file", "file \"BUF\" { segment: 256KiB, min_free: 1MiB, checkpoint: 100ms }", 9);
}

#[test]
fn killing_a_file_channel_in_two_directories_loses_nothing() {
    let settings = "compress: lz4, segment: 256KiB, min_free: 1MiB, sync: interval(20ms)";
    run_durable("file, two directories", &format!("file [\"BUF/a\", \"BUF/b\"] {{ {settings} }}"), 10);
}

#[test]
fn killing_a_database_channel_loses_nothing() {
    run_durable("database", "database \"BUF/buf.db\"", 11);
}

#[test]
fn killing_a_spilling_channel_loses_nothing() {
    run_and_check(
        "spill",
        "source web = tail \"IN\"\nchannel buf = spill \"BUF\" { memory: 1_000, min_free: 1MiB }\n\
         sink kept = files \"OUT/kept.log\"\nweb -> buf\nbuf -> kept\n",
        12,
        Order::EndsWithTheRun,
    );
}
