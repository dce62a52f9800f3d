//! Searches of access-log lines: generated code beside the regex crate, interleaved so that what disturbs the
//! machine disturbs all alike. Every contender's answers are checked before it is timed; the figures are medians
//! in nanoseconds a line.

use std::hint::black_box;
use std::time::Instant;

use flow_jit::automaton::{self, Automaton, Kind};
use flow_jit::code::Settings;
use flow_jit::kernels::{Bitmaps, Classifier, Isa};
use flow_jit::matcher::{Loops, Matcher, Options, Outcome};
use flow_plan::batch::ARENA_PADDING;
use flow_plan::settings::RegexSetting;
use regex::bytes::Regex;

#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../../../tests/support/logs.rs"]
mod logs;

/// Lines of a batch.
const LINES: usize = 1024;
/// Batches that take turns, so that branches are not learned by heart.
const BATCHES: usize = 16;
const ROUNDS: usize = 200;

const PATTERNS: [(&str, &str, Kind); 3] = [
    ("filter", "GET /health|kube-probe", Kind::Bool),
    ("awkward filter", r"^(.*GET /health.*|.*kube-probe.*)$", Kind::Bool),
    (
        "ten groups",
        r#"^(\S+) (\S+) (\S+) \[([^\]]+)\] "(\S+) ([^"]*) HTTP/[\d.]+" (\d{3}) (\d+|-) "([^"]*)" "([^"]*)"$"#,
        Kind::Captures,
    ),
];

/// Lines in one padded buffer.
struct Batch {
    padded: Vec<u8>,
    lines: Vec<std::ops::Range<usize>>,
}

fn batches() -> Vec<Batch> {
    let mut logs = logs::Logs::new(logs::Shape::Access, 7);
    let one = |_| {
        let mut text = String::new();
        let mut lines = Vec::new();
        for number in 0..LINES {
            let mut line = String::new();
            logs.line(&mut line);
            if number % 17 == 0 {
                line = line.replace("Mozilla/5.0", "kube-probe/1.29");
            }
            let start = text.len();
            text.push_str(line.trim_end());
            lines.push(start..text.len());
            text.push('\n');
        }
        let mut padded = text.into_bytes();
        padded.resize(padded.len() + ARENA_PADDING, 0);
        Batch { padded, lines }
    };
    (0..BATCHES).map(one).collect()
}

/// Goes through a batch and gives a sum that depends on every answer.
type Contender<'a> = (String, Box<dyn FnMut(&Batch) -> u64 + 'a>);

fn native<'a>(name: &str, automaton: &Automaton, options: &Options) -> Contender<'a> {
    let started = Instant::now();
    let matcher = Matcher::new(automaton, &Settings::default(), options).expect("the automaton fits");
    let compiled = started.elapsed();
    let name = format!("{name} ({:.1} ms, {} bytes)", compiled.as_secs_f64() * 1e3, matcher.code_bytes());
    let classifier = Classifier::new(matcher.classes()).expect("few classes");
    let mut bitmaps = Bitmaps::default();
    let mut slots = vec![0; matcher.slots()];
    let run = move |batch: &Batch| {
        let with_bitmaps = !matcher.classes().is_empty();
        if with_bitmaps {
            classifier.classify(&batch.padded, 0..batch.padded.len(), Isa::detect(), &mut bitmaps);
        }
        let mut sum = 0;
        for line in &batch.lines {
            let bitmaps = with_bitmaps.then_some(&bitmaps);
            if matcher.search(&batch.padded, line.clone(), &mut slots, bitmaps) == Outcome::Match {
                sum += 1;
                for slot in &slots {
                    sum += u64::from(*slot) - line.start as u64;
                }
            }
        }
        sum
    };
    (name, Box::new(run))
}

fn reference<'a>(pattern: &str, kind: Kind) -> Contender<'a> {
    let regex = Regex::new(pattern).expect("the patterns are right");
    if kind == Kind::Bool {
        let run = move |batch: &Batch| {
            batch.lines.iter().filter(|line| regex.is_match(&batch.padded[(*line).clone()])).count() as u64
        };
        return ("regex crate, is_match".into(), Box::new(run));
    }
    let mut locations = regex.capture_locations();
    let run = move |batch: &Batch| {
        let mut sum = 0;
        for line in &batch.lines {
            if regex.captures_read(&mut locations, &batch.padded[line.clone()]).is_some() {
                let ends = (0..locations.len()).filter_map(|group| locations.get(group));
                sum += 1 + ends.map(|(start, end)| (start + end) as u64).sum::<u64>();
            }
        }
        sum
    };
    ("regex crate, captures_read".into(), Box::new(run))
}

fn main() {
    let batches = batches();
    let bytes: usize = batches.iter().map(|batch| batch.padded.len() - ARENA_PADDING).sum();
    println!("{} bytes a line", bytes / (LINES * BATCHES));
    for (name, pattern, kind) in PATTERNS {
        let setting = RegexSetting { pattern: pattern.into(), flags: String::new() };
        let options = automaton::Options { states_max: 2_000, wanted: Vec::new(), quit_beyond_ascii: true };
        let automaton = Automaton::new(&[&setting], kind, &options).expect("the pattern is simple");
        let with = |loops, probes| Options { loops, probes, ..Options::default() };
        let mut contenders = [
            reference(pattern, kind),
            native("bytewise", &automaton, &with(Loops::Bytewise, false)),
            native("vectors", &automaton, &with(Loops::Vectors, false)),
            native("vectors, probes", &automaton, &with(Loops::Vectors, true)),
            native("bitmaps", &automaton, &with(Loops::Bitmaps, false)),
            native("bitmaps, probes", &automaton, &with(Loops::Bitmaps, true)),
        ];
        for batch in &batches {
            let expected = contenders[0].1(batch);
            for (contender, run) in &mut contenders[1..] {
                assert_eq!(run(batch), expected, "{name}: {contender}");
            }
        }
        let mut times = vec![Vec::with_capacity(ROUNDS); contenders.len()];
        for round in 0..ROUNDS {
            for ((_, run), times) in contenders.iter_mut().zip(&mut times) {
                let started = Instant::now();
                black_box(run(black_box(&batches[round % BATCHES])));
                times.push(started.elapsed().as_nanos() as f64 / LINES as f64);
            }
        }
        println!("{name}: {} states, {} registers", automaton.states.len(), automaton.registers);
        let medians = times.iter_mut().map(|times| {
            times.sort_by(f64::total_cmp);
            times[times.len() / 2]
        });
        let medians: Vec<f64> = medians.collect();
        for ((contender, _), median) in contenders.iter().zip(&medians) {
            println!("  {median:7.1} ns  x{:5.2}  {contender}", medians[0] / median);
        }
    }
}
