//! No event costs an allocation: neither in a program of machine code, nor on its way from a file through the usual
//! chain into files. Alone in its process, because everything in it is counted.

#![allow(unsafe_code, reason = "a global allocator cannot be written without; it only counts")]

#[path = "support/logs.rs"]
#[allow(dead_code, reason = "only one shape is needed")]
mod logs;
#[path = "support/same/mod.rs"]
#[allow(dead_code, reason = "only a part of it is needed")]
mod same;

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flow_agent::host::{Agents, Host, HostOptions};
use flow_jit::JitCompiler;
use flow_plan::Batch;
use flow_plan::batch::Columns;
use flow_plan::exec::{Executor, Outputs};
use logs::{Logs, Shape};

/// Counts what is allocated, by the system's allocator.
struct Counting;

static COUNT: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        COUNT.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn counted<R>(run: impl FnOnce() -> R) -> (u64, R) {
    let before = COUNT.load(Ordering::Relaxed);
    let answer = run();
    (COUNT.load(Ordering::Relaxed) - before, answer)
}

/// Filter, ten groups with a typed one, the time of the event, the host, a template, a route by number.
fn chain(source: &str, outputs: [&str; 3]) -> String {
    let [served, refused, failed] = outputs;
    format!(
        r#"source log = {source}
interceptor no_probes = filter {{ exclude: /kube-probe|GET \/health/ }}
interceptor parse = extract /^(?<ip>\S+) (?<ident>\S+) (?<user>\S+) \[(?<when>[^\]]+)\] "(?<method>[A-Z]+) (?<path>\S+) (?<protocol>[^"]*)" (?<status>\d{{3}}) (?<bytes>\d+|-) "(?<referrer>[^"]*)"/ {{ types: {{ status: int }}, on_miss: drop }}
interceptor logged = timestamp {{ from: header.when, format: "%d/%b/%Y:%H:%M:%S %z" }}
interceptor label = tag {{ request: "${{header.method}} ${{header.path}} by ${{header.ip}}" }}
sink served  = {served}
sink refused = {refused}
sink failed  = {failed}
log -> no_probes -> parse -> logged -> host -> label -> route int(header.status) {{
  200..399 -> served
  400..499 -> refused
  500..599 -> failed
  else     -> discard
}}
"#
    )
}

fn batch(rows: usize) -> Batch {
    let mut columns = Columns { source: "log".into(), ..Columns::default() };
    let (mut logs, mut line) = (Logs::new(Shape::Access, 1), String::new());
    for _ in 0..rows {
        line.clear();
        logs.line(&mut line);
        columns.push(line.trim_end().as_bytes(), same::NOW_MS).unwrap();
    }
    Batch::new(columns)
}

/// Allocations of a run over so many rows, after others have made the buffers.
fn of_run(executor: &mut Executor, rows: usize) -> u64 {
    let mut outputs = Outputs::new();
    for _ in 0..3 {
        executor.run(batch(rows), same::NOW_MS, &mut outputs);
        outputs.clear();
    }
    let batch = batch(rows);
    let (count, ()) = counted(|| executor.run(batch, same::NOW_MS, &mut outputs));
    let out: usize = outputs.batches.iter().flatten().map(Batch::len).sum();
    assert!(out > rows / 2 && outputs.dead.is_empty(), "{out} of {rows} rows came out");
    count
}

fn program_allocates_by_batch() {
    let text = chain("stdin", ["console"; 3]);
    let plan = same::plan("x.flow", &text).unwrap_or_else(|errors| panic!("{errors}"));
    let program = &plan.agents[0].programs[plan.agents[0].sources[0].program as usize];
    let compiler = JitCompiler::new();
    let mut executor = same::executor(&plan, program, Some(&compiler)).unwrap();
    let parts: Vec<_> = executor.reports().iter().flat_map(|report| &report.parts).collect();
    assert!(parts.len() >= 6 && parts.iter().all(|part| part.native), "{parts:?}");
    let [few, many] = [1_000, 4_000].map(|rows| of_run(&mut executor, rows));
    println!("a batch of 1,000 rows: {few} allocations, of 4,000: {many}");
    // The arena doubles now and then.
    assert!(many <= few + 8, "1,000 rows: {few} allocations, 4,000 rows: {many}");
    assert!(few <= 64, "{few} allocations for a batch");
}

/// Allocations of a whole run from a file of so many lines into files.
fn of_flow(lines: usize, flow: fn(&str, [&str; 3]) -> String) -> u64 {
    let place = tempfile::tempdir().unwrap();
    let input = place.path().join("in.log");
    let (mut logs, mut text) = (Logs::new(Shape::Access, 1), String::new());
    (0..lines).for_each(|_| logs.line(&mut text));
    fs::write(&input, text).unwrap();
    let out = |name: &str| format!("files \"{}\"", place.path().join(name).display());
    let outputs = ["served.log", "refused.log", "failed.log"].map(out);
    // A batch costs about a hundred, in three channels and three sinks: large ones show what events cost.
    let source =
        format!("tail \"{}\" {{ from: start, follow: false, batch: 8_000, read: 4MiB }}", input.display());
    let flow = flow(&source, [&outputs[0], &outputs[1], &outputs[2]]);
    let plan = same::plan("x.flow", &flow).unwrap_or_else(|errors| panic!("{errors}"));
    let mut registry = flow_stdlib::registry();
    registry.compiler = Some(Arc::new(JitCompiler::new()));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut options = HostOptions::new(place.path().join("state"));
    // The executor of a second worker is built when there is much to do: several thousand allocations, once.
    options.workers_max = 1;
    let (count, failed) = counted(|| {
        runtime.block_on(async {
            let running = Host::start(&plan, &Agents::All, &registry, options).unwrap();
            running.wait().await.failed
        })
    });
    assert!(!failed);
    let written = |name: &str| count_lines(&place.path().join(name));
    let written = written("served.log") + written("refused.log") + written("failed.log");
    assert!(written > lines / 2, "{written} of {lines} lines came out");
    count
}

fn count_lines(path: &Path) -> usize {
    fs::read(path).unwrap_or_default().iter().filter(|byte| **byte == b'\n').count()
}

fn copy(source: &str, [served, ..]: [&str; 3]) -> String {
    format!("{source} -> {served}\n")
}

fn flow_allocates_by_batch(flow: fn(&str, [&str; 3]) -> String) {
    const LINES: usize = 10_000;
    let (few, many) = (of_flow(LINES, flow), of_flow(4 * LINES, flow));
    let by_event = (many as f64 - few as f64) / (3 * LINES) as f64;
    println!("{LINES} lines: {few} allocations, {}: {many}; {by_event:.4} an event", 4 * LINES);
    assert!(by_event < 0.05, "{by_event} allocations an event");
}

/// One test, so that nothing else is counted.
#[test]
fn allocations_do_not_grow_with_events() {
    program_allocates_by_batch();
    flow_allocates_by_batch(chain);
    flow_allocates_by_batch(copy);
}
