//! From files to files: `flowc run` beside a hand-written single-threaded program that does the same work.
//!
//! Both are processes of their own, run in turn; the table gives medians of wall time, CPU seconds per GB of input
//! and peak memory. `cargo bench --bench end_to_end -- [MEGABYTES] [RUNS]`; what both write is compared first.

#[path = "../support/logs.rs"]
#[allow(dead_code, reason = "only one shape is measured")]
mod logs;

use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use logs::{Logs, Shape};
use nix::sys::resource::{UsageWho, getrusage};

const PATTERN: &str = r#"^(?<ip>\S+) (?<ident>\S+) (?<user>\S+) \[(?<when>[^\]]+)\] "(?<method>[A-Z]+) (?<path>\S+) (?<protocol>[^"]*)" (?<status>\d{3}) (?<bytes>\d+|-) "(?<referrer>[^"]*)""#;
const PROBES: &str = r"kube-probe|GET /health";
const OUTPUTS: [&str; 3] = ["served.log", "refused.log", "failed.log"];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match args.first().map(String::as_str) {
        Some("--hand") => hand_written(Path::new(&args[1]), Path::new(&args[2])),
        Some("--measure") => measure_child(&args[1..]),
        _ => compare(&args),
    }
}

/// The same work by hand: filter, ten groups, route by status into three files.
fn hand_written(input: &Path, out: &Path) {
    let pattern = regex::bytes::Regex::new(PATTERN).unwrap();
    let probes = regex::bytes::Regex::new(PROBES).unwrap();
    let mut locations = pattern.capture_locations();
    let status_group = pattern.capture_names().position(|name| name == Some("status")).unwrap();
    let mut outputs =
        OUTPUTS.map(|name| BufWriter::with_capacity(256 << 10, File::create(out.join(name)).unwrap()));
    let mut file = File::open(input).unwrap();
    let mut buffer = vec![0; 1 << 20];
    let mut filled = 0;
    loop {
        let read = file.read(&mut buffer[filled..]).unwrap();
        filled += read;
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', &buffer[..filled]) {
            let line = &buffer[start..end];
            start = end + 1;
            if probes.is_match(line) || pattern.captures_read(&mut locations, line).is_none() {
                continue;
            }
            let status: u32 = locations
                .get(status_group)
                .and_then(|(from, to)| std::str::from_utf8(&line[from..to]).ok()?.parse().ok())
                .unwrap_or(0);
            let output = match status {
                200..=399 => 0,
                400..=499 => 1,
                500..=599 => 2,
                _ => continue,
            };
            outputs[output].write_all(line).unwrap();
            outputs[output].write_all(b"\n").unwrap();
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
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
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

fn compare(args: &[String]) {
    let megabytes: u64 = args.first().and_then(|arg| arg.parse().ok()).unwrap_or(200);
    let runs: usize = args.get(1).and_then(|arg| arg.parse().ok()).unwrap_or(5);
    let folder = std::env::temp_dir().join(format!("flowc-bench-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let (input, lines) = make_input(&folder, megabytes << 20);
    let bytes = fs::metadata(&input).unwrap().len();
    let hand = folder.join("hand");
    let ours = folder.join("flow");
    fs::create_dir_all(&hand).unwrap();
    let program = write_flow(&folder, &input, &ours);

    let me = std::env::current_exe().unwrap();
    let contenders: [(&str, Vec<String>, &Path); 2] = [
        ("hand-written, one thread", vec![text(&me), "--hand".into(), text(&input), text(&hand)], &hand),
        ("flowc run", vec![env!("CARGO_BIN_EXE_flowc").into(), "run".into(), text(&program)], &ours),
    ];
    let mut costs = vec![Vec::new(); contenders.len()];
    for _ in 0..runs {
        for (index, (_, command, out)) in contenders.iter().enumerate() {
            for name in OUTPUTS {
                let _ = fs::remove_file(out.join(name));
            }
            let words: Vec<&str> = command.iter().map(String::as_str).collect();
            costs[index].push(cost_of(&words));
        }
        for name in OUTPUTS {
            let same = fs::read(hand.join(name)).unwrap() == fs::read(ours.join(name)).unwrap();
            assert!(same, "the two programs wrote different {name}");
        }
    }
    println!("{lines} lines, {:.0} MB, medians of {runs} runs in turn, same output", bytes as f64 / 1e6);
    println!("{:26} {:>14} {:>14} {:>12}", "", "lines/s", "CPU s/GB", "peak MiB");
    for ((name, _, _), costs) in contenders.iter().zip(&costs) {
        let median = |value: fn(&Cost) -> f64| {
            let mut values: Vec<f64> = costs.iter().map(value).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        println!(
            "{name:26} {:>14.0} {:>14.2} {:>12.1}",
            lines as f64 / median(|cost| cost.wall_s),
            median(|cost| cost.cpu_s) / (bytes as f64 / 1e9),
            median(|cost| cost.peak_mib),
        );
    }
    fs::remove_dir_all(&folder).unwrap();
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

fn write_flow(folder: &Path, input: &Path, out: &Path) -> PathBuf {
    let program = folder.join("bench.flow");
    let (input, data) = (input.display(), folder.join("state"));
    let out = out.display();
    let flow = format!(
        r#"runtime {{ data: "{}" }}
source log = tail "{input}" {{ from: start, follow: false }}
interceptor no_probes = filter {{ exclude: /{}/ }}
interceptor parse = extract /{PATTERN}/ {{ on_miss: drop }}
sink served  = files "{out}/{}"
sink refused = files "{out}/{}"
sink failed  = files "{out}/{}"
log -> no_probes -> parse -> timestamp -> host -> route int(header.status) {{
  200..399 -> served
  400..499 -> refused
  500..599 -> failed
  else     -> discard
}}
"#,
        data.display(),
        PROBES.replace('/', r"\/"),
        OUTPUTS[0],
        OUTPUTS[1],
        OUTPUTS[2],
    );
    fs::write(&program, flow).unwrap();
    program
}
