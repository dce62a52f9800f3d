//! Arbitrary bytes as the files of a log: see `flow_log::testing::inputs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| flow_log::testing::inputs::check_recovery(data));
