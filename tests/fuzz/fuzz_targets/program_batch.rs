//! Bytes to a program and batches, run as machine code and by the reference: see `tests/support/same`.
#![no_main]

#[path = "../../support/logs.rs"]
#[allow(dead_code, reason = "only its random numbers are needed")]
mod logs;
#[path = "../../support/same/mod.rs"]
#[allow(dead_code, reason = "only a part of it is needed")]
mod same;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    same::check(data);
});
