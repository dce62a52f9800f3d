//! What it costs to read three members of a line of a JSON log.

use divan::{Bencher, black_box};
use flow_plan::eval::{JsonTape, value_from_json};

fn main() {
    divan::main();
}

/// 300 bytes, 12 members.
const LINE: &[u8] = br#"{"ts":"2026-11-23T10:00:00.123Z","level":"info","service":"checkout","host":"edge-01","msg":"order 17 placed","http":{"method":"POST","path":"/api/orders","status":201},"ms":12.5,"ok":true,"user":null,"tags":["a","b"],"bytes":5123,"trace":"4bf92f3577b34da6a3ce929d0e0e4736"}"#;

#[divan::bench]
fn three_members_by_tape(bencher: Bencher<'_, '_>) {
    let mut tape = JsonTape::new();
    let mut buffer = Vec::new();
    bencher.bench_local(|| {
        buffer.clear();
        let line = black_box(LINE);
        black_box(tape.parse(line));
        black_box(tape.path(line, &["level"], &mut buffer));
        black_box(tape.path(line, &["http", "status"], &mut buffer));
        black_box(tape.path(line, &["bytes"], &mut buffer));
    });
}

#[divan::bench]
fn parse_alone(bencher: Bencher<'_, '_>) {
    let mut tape = JsonTape::new();
    bencher.bench_local(|| black_box(tape.parse(black_box(LINE))));
}

#[divan::bench]
fn value_of_the_evaluator(bencher: Bencher<'_, '_>) {
    bencher.bench_local(|| black_box(value_from_json(black_box(LINE))));
}

#[divan::bench]
fn value_of_serde_json(bencher: Bencher<'_, '_>) {
    bencher.bench_local(|| black_box(serde_json::from_slice::<serde_json::Value>(black_box(LINE))));
}
