//! What a call of a plain form costs, as machine code makes it: values on the stack, a buffer that is used again.

use divan::{Bencher, black_box};
use flow_plan::function::{Plain, PlainForm};

fn main() {
    divan::main();
}

/// A call with the given arguments, all but the first of them constants.
fn call(bencher: Bencher<'_, '_>, name: &str, args: &[Plain<'_>]) {
    let functions = flow_stdlib::registry().functions;
    let constants: Vec<Option<Plain<'_>>> =
        args.iter().enumerate().map(|(at, arg)| (at > 0).then_some(*arg)).collect();
    let form: PlainForm = functions.plain(name, &constants).expect("a plain form");
    let mut buffer = Vec::new();
    bencher.bench_local(|| {
        buffer.clear();
        black_box(form.call(black_box(args), &mut buffer));
    });
}

#[divan::bench]
fn int(bencher: Bencher<'_, '_>) {
    call(bencher, "int", &[Plain::Text(b"200")]);
}

#[divan::bench]
fn float(bencher: Bencher<'_, '_>) {
    call(bencher, "float", &[Plain::Text(b"0.0035")]);
}

#[divan::bench]
fn lower(bencher: Bencher<'_, '_>) {
    call(bencher, "lower", &[Plain::Text(b"WWW.Example.COM/Index.html")]);
}

#[divan::bench]
fn trim(bencher: Bencher<'_, '_>) {
    call(bencher, "trim", &[Plain::Text(b"  a word ")]);
}

#[divan::bench]
fn parse_time_with_a_format(bencher: Bencher<'_, '_>) {
    let format = Plain::Text(b"%d/%b/%Y:%H:%M:%S %z");
    call(bencher, "parse_time", &[Plain::Text(b"23/Nov/2026:10:00:01 +0100"), format, Plain::Text(b"UTC")]);
}

#[divan::bench]
fn parse_time_rfc_3339(bencher: Bencher<'_, '_>) {
    call(bencher, "parse_time", &[Plain::Text(b"2026-11-23T10:00:01.123Z")]);
}

#[divan::bench]
fn format_time(bencher: Bencher<'_, '_>) {
    let at = Plain::Time(1_795_428_000_123);
    call(bencher, "format_time", &[at, Plain::Text(b"%FT%T%.3fZ"), Plain::Text(b"UTC")]);
}

#[divan::bench]
fn hour(bencher: Bencher<'_, '_>) {
    call(bencher, "hour", &[Plain::Time(1_795_428_000_123), Plain::Text(b"UTC")]);
}
