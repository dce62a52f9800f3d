//! From files to files: `flowc run` beside hand-written single-threaded programs that do the same work: a copy, a
//! filter that keeps half of the lines, and the whole chain (filter, ten groups, route into three files); `flowc` with
//! memory channels, and with `file` channels that are synced before their source counts events as delivered.
//!
//! All are processes of their own, run in turn; the table gives medians of wall time, CPU seconds per GB of input
//! and peak memory, and how long the chain takes from the start of the process to its first event out.
//! `cargo bench --bench end_to_end -- [MEGABYTES] [RUNS]`; what both write is compared first.

#[path = "../support/logs.rs"]
#[allow(dead_code, reason = "only one shape is measured")]
mod logs;

use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use logs::{Logs, Shape};
use nix::sys::resource::{UsageWho, getrusage};

const PATTERN: &str = r#"^(?<ip>\S+) (?<ident>\S+) (?<user>\S+) \[(?<when>[^\]]+)\] "(?<method>[A-Z]+) (?<path>\S+) (?<protocol>[^"]*)" (?<status>\d{3}) (?<bytes>\d+|-) "(?<referrer>[^"]*)""#;
const PROBES: &str = r"kube-probe|GET /health";
const HALF: &str = r#""(GET|POST) /[a-p]"#;

/// The number of the output that a line goes to; none drops it.
type Choice = Box<dyn FnMut(&[u8]) -> Option<usize>>;

/// Work to measure.
struct Workload {
    name: &'static str,
    outputs: &'static [&'static str],
    /// Everything of the program but its runtime section, for an input file and an output folder.
    flow: fn(&str, &str) -> String,
    /// The same by hand.
    hand: fn() -> Choice,
}

const WORKLOADS: [Workload; 3] = [
    Workload {
        name: "copy",
        outputs: &["copy.log"],
        flow: |input, out| {
            format!("tail \"{input}\" {{ from: start, follow: false }} -> files \"{out}/copy.log\"\n")
        },
        hand: || Box::new(|_| Some(0)),
    },
    Workload { name: "half", outputs: &["half.log"], flow: half_flow, hand: half_by_hand },
    Workload {
        name: "chain",
        outputs: &["served.log", "refused.log", "failed.log"],
        flow: chain_flow,
        hand: chain_by_hand,
    },
];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match args.first().map(String::as_str) {
        Some("--hand") => {
            let workload = WORKLOADS.iter().find(|workload| workload.name == args[1]).unwrap();
            hand_written(workload, Path::new(&args[2]), Path::new(&args[3]));
        }
        Some("--measure") => measure_child(&args[1..]),
        _ => compare_all(&args),
    }
}

fn half_flow(input: &str, out: &str) -> String {
    format!(
        r#"interceptor half = filter {{ include: /{}/ }}
tail "{input}" {{ from: start, follow: false }} -> half -> files "{out}/half.log"
"#,
        HALF.replace('/', r"\/"),
    )
}

fn half_by_hand() -> Choice {
    let pattern = regex::bytes::Regex::new(HALF).unwrap();
    Box::new(move |line| pattern.is_match(line).then_some(0))
}

fn chain_flow(input: &str, out: &str) -> String {
    format!(
        r#"source log = tail "{input}" {{ from: start, follow: false }}
interceptor no_probes = filter {{ exclude: /{}/ }}
interceptor parse = extract /{PATTERN}/ {{ on_miss: drop }}
sink served  = files "{out}/served.log"
sink refused = files "{out}/refused.log"
sink failed  = files "{out}/failed.log"
log -> no_probes -> parse -> timestamp -> host -> route int(header.status) {{
  200..399 -> served
  400..499 -> refused
  500..599 -> failed
  else     -> discard
}}
"#,
        PROBES.replace('/', r"\/"),
    )
}

fn chain_by_hand() -> Choice {
    let pattern = regex::bytes::Regex::new(PATTERN).unwrap();
    let probes = regex::bytes::Regex::new(PROBES).unwrap();
    let mut locations = pattern.capture_locations();
    let status_group = pattern.capture_names().position(|name| name == Some("status")).unwrap();
    Box::new(move |line| {
        if probes.is_match(line) || pattern.captures_read(&mut locations, line).is_none() {
            return None;
        }
        let (from, to) = locations.get(status_group)?;
        match std::str::from_utf8(&line[from..to]).ok()?.parse().unwrap_or(0) {
            200..=399 => Some(0),
            400..=499 => Some(1),
            500..=599 => Some(2),
            _ => None,
        }
    })
}

fn hand_written(workload: &Workload, input: &Path, out: &Path) {
    let mut choose = (workload.hand)();
    let create = |name: &&str| BufWriter::with_capacity(256 << 10, File::create(out.join(name)).unwrap());
    let mut outputs: Vec<_> = workload.outputs.iter().map(create).collect();
    let mut file = File::open(input).unwrap();
    let mut buffer = vec![0; 1 << 20];
    let mut filled = 0;
    loop {
        let read = file.read(&mut buffer[filled..]).unwrap();
        filled += read;
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', &buffer[..filled]) {
            let line = &buffer[start..end];
            if let Some(output) = choose(line) {
                outputs[output].write_all(&buffer[start..=end]).unwrap();
            }
            start = end + 1;
        }
        buffer.copy_within(start..filled, 0);
        filled -= start;
        if read == 0 {
            break;
        }
        if filled == buffer.len() {
            buffer.resize(buffer.len() * 2, 0);
        }
    }
    for output in &mut outputs {
        output.flush().unwrap();
    }
}

/// What one run cost.
#[derive(Clone, Copy, Default)]
struct Cost {
    wall_s: f64,
    cpu_s: f64,
    peak_mib: f64,
}

/// Runs a command alone in this process's children, so that the kernel's account of them is its cost.
fn measure_child(command: &[String]) {
    let begin = Instant::now();
    let status = Command::new(&command[0])
        .args(&command[1..])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    let wall = begin.elapsed().as_secs_f64();
    assert!(status.success(), "{command:?} failed");
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    let cpu = seconds(usage.user_time()) + seconds(usage.system_time());
    println!("{wall} {cpu} {}", usage.max_rss() as f64 / 1024.0);
}

fn cost_of(command: &[&str]) -> Cost {
    let output =
        Command::new(std::env::current_exe().unwrap()).arg("--measure").args(command).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let numbers: Vec<f64> = text.split_whitespace().map(|word| word.parse().unwrap()).collect();
    Cost { wall_s: numbers[0], cpu_s: numbers[1], peak_mib: numbers[2] }
}

fn compare_all(args: &[String]) {
    let megabytes: u64 = args.first().and_then(|arg| arg.parse().ok()).unwrap_or(200);
    let runs: usize = args.get(1).and_then(|arg| arg.parse().ok()).unwrap_or(5);
    let folder = std::env::temp_dir().join(format!("flowc-bench-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let (input, lines) = make_input(&folder, megabytes << 20);
    let bytes = fs::metadata(&input).unwrap().len();
    println!("{lines} lines, {:.0} MB, medians of {runs} runs in turn, same output", bytes as f64 / 1e6);
    println!("{:32} {:>12} {:>12} {:>10} {:>8}", "", "lines/s", "CPU s/GB", "peak MiB", "speed");
    for workload in &WORKLOADS {
        let costs = compare(workload, &folder, &input, runs);
        let hand = median(&costs[0], |cost| cost.wall_s);
        let names = ["hand-written, one thread", "flowc run", "flowc run, file channel"];
        for (name, costs) in names.iter().zip(&costs) {
            let wall = median(costs, |cost| cost.wall_s);
            println!(
                "{:32} {:>12.0} {:>12.2} {:>10.1} {:>7.2}x",
                format!("{}: {name}", workload.name),
                lines as f64 / wall,
                median(costs, |cost| cost.cpu_s) / (bytes as f64 / 1e9),
                median(costs, |cost| cost.peak_mib),
                hand / wall,
            );
        }
    }
    println!("chain: start to first event out {:>21.1} ms", first_event_ms(&folder, runs));
    fs::remove_dir_all(&folder).unwrap();
}

/// Bytes of input for the time to the first event: a batch or two.
const FIRST_EVENT_INPUT: u64 = 1 << 20;

/// Milliseconds from the start of the process, which compiles the chain, to the first byte that it writes to a pipe:
/// the median.
fn first_event_ms(folder: &Path, runs: usize) -> f64 {
    let folder = folder.join("first");
    fs::create_dir_all(&folder).unwrap();
    let (input, _) = make_input(&folder, FIRST_EVENT_INPUT);
    let program = folder.join("first.flow");
    let state = text(&folder.join("state"));
    // The sinks keep their names; all of them write to the standard output.
    let chain: String = chain_flow(&text(&input), &text(&folder))
        .lines()
        .filter(|line| !line.starts_with("sink "))
        .map(|line| {
            ["served", "refused", "failed"]
                .iter()
                .fold(line.to_owned(), |line, sink| line.replace(&format!("-> {sink}"), "-> console"))
                + "\n"
        })
        .collect();
    fs::write(&program, format!("runtime {{ data: \"{state}\" }}\n{chain}")).unwrap();
    let run = |_| {
        let _ = fs::remove_dir_all(&state);
        let begin = Instant::now();
        let mut child = Command::new(env!("CARGO_BIN_EXE_flowc"))
            .args(["run", &text(&program)])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut out = child.stdout.take().unwrap();
        out.read_exact(&mut [0]).unwrap();
        let ms = begin.elapsed().as_secs_f64() * 1e3;
        std::io::copy(&mut out, &mut std::io::sink()).unwrap();
        assert!(child.wait().unwrap().success(), "the chain failed");
        ms
    };
    let mut ms: Vec<f64> = (0..runs).map(run).collect();
    ms.sort_by(f64::total_cmp);
    ms[ms.len() / 2]
}

/// The costs of the program by hand, of `flowc`, and of `flowc` with channels on disk.
fn compare(workload: &Workload, folder: &Path, input: &Path, runs: usize) -> [Vec<Cost>; 3] {
    let places = ["hand", "flow", "durable"].map(|name| folder.join(name));
    places.iter().for_each(|place| fs::create_dir_all(place).unwrap());
    let [hand, ours, durable] = &places;
    // The claim puts a channel that keeps its events before each sink.
    let programs = [(ours, ""), (durable, "deliver at_least_once\n")].map(|(out, claim)| {
        let name = out.file_name().unwrap().to_str().unwrap();
        let program = folder.join(format!("{}-{name}.flow", workload.name));
        let data = folder.join(format!("state-{}-{name}", workload.name));
        let flow = (workload.flow)(&text(input), &text(out));
        fs::write(&program, format!("runtime {{ data: \"{}\" }}\n{claim}{flow}", data.display())).unwrap();
        text(&program)
    });
    let me = text(&std::env::current_exe().unwrap());
    let by_hand = [&me, "--hand", workload.name, &text(input), &text(hand)].map(str::to_owned);
    let by_flow = programs.map(|program| [env!("CARGO_BIN_EXE_flowc"), "run", &program].map(str::to_owned));
    let commands = [by_hand.as_slice(), by_flow[0].as_slice(), by_flow[1].as_slice()];
    let mut costs = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..runs {
        for (costs, (command, out)) in costs.iter_mut().zip(commands.into_iter().zip(&places)) {
            for name in workload.outputs {
                let _ = fs::remove_file(out.join(name));
            }
            let words: Vec<&str> = command.iter().map(String::as_str).collect();
            costs.push(cost_of(&words));
        }
        for name in workload.outputs {
            let wanted = fs::read(hand.join(name)).unwrap();
            for ours in [ours, durable] {
                assert!(wanted == fs::read(ours.join(name)).unwrap(), "the programs wrote different {name}");
            }
        }
    }
    for place in &places {
        fs::remove_dir_all(place).unwrap();
    }
    costs
}

fn median(costs: &[Cost], value: fn(&Cost) -> f64) -> f64 {
    let mut values: Vec<f64> = costs.iter().map(value).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

fn make_input(folder: &Path, bytes: u64) -> (PathBuf, u64) {
    let path = folder.join("access.log");
    let mut out = BufWriter::with_capacity(1 << 20, File::create(&path).unwrap());
    let mut logs = Logs::new(Shape::Access, 1);
    let (mut written, mut lines) = (0, 0);
    let mut line = String::new();
    while written < bytes {
        line.clear();
        logs.line(&mut line);
        out.write_all(line.as_bytes()).unwrap();
        written += line.len() as u64;
        lines += 1;
    }
    out.flush().unwrap();
    (path, lines)
}
