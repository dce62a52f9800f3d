//! What a log costs: building batches, appending, checking, reading, waiting for the disk, and opening again after a kill.
//!
//! `FLOW_LOG_BENCH_MB` is the size of the log that is opened (default 64), `TMPDIR` the disk that is measured.

use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, mpsc};

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use flow_log::batch::{self, Builder, BuilderOptions};
use flow_log::log::Log;
use flow_log::{Append, Committer, Compression, Disk, LogConfig};
use tempfile::TempDir;

const ASSIGN: Append = Append { leader_epoch: 0, log_append_time_ms: None, assign_offsets: true };
/// The log is cut back when it has this size, so that a long run does not fill the disk.
const KEPT_BYTES: u64 = 512 << 20;

fn main() {
    divan::main();
}

/// Record size and number of records: what a client sends at once.
const SHAPES: [(usize, usize); 3] = [(100, 1), (100, 160), (1024, 64)];

fn batch(value_bytes: usize, count: usize, compression: Compression) -> Vec<u8> {
    let mut builder = Builder::new(BuilderOptions { compression, ..BuilderOptions::default() });
    let value: Vec<u8> = (0..value_bytes).map(|index| (index % 71) as u8 + b'0').collect();
    for index in 0..count {
        builder.push(1_700_000_000_000 + index as i64, None, Some(&value), std::iter::empty());
    }
    builder.finish()
}

fn open(dir: &Path) -> Log {
    let config = LogConfig { retention_ms: None, ..LogConfig::default() };
    Log::open(Arc::new(Disk), dir, config).unwrap().0
}

fn filled(bytes: u64) -> (TempDir, Log) {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let batch = batch(100, 160, Compression::None);
    while log.bytes() < bytes {
        log.append(&batch, ASSIGN, 0).unwrap();
    }
    (dir, log)
}

#[divan::bench(args = SHAPES)]
fn append(bencher: Bencher<'_, '_>, (value_bytes, count): (usize, usize)) {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let batch = batch(value_bytes, count, Compression::None);
    bencher.counter(BytesCount::new(batch.len())).bench_local(|| {
        if log.bytes() > KEPT_BYTES {
            log.truncate(0).unwrap();
        }
        log.append(black_box(&batch), ASSIGN, 0).unwrap()
    });
}

/// As a channel on disk does it: memory that was used before, a put of a source.
#[divan::bench(args = [(100, 1600), (240, 700)])]
fn build(bencher: Bencher<'_, '_>, (value_bytes, count): (usize, usize)) {
    let value = vec![b'v'; value_bytes];
    let mut memory = Vec::new();
    bencher.counter(BytesCount::new(value_bytes * count)).bench_local(|| {
        let mut builder = Builder::reuse(BuilderOptions::default(), std::mem::take(&mut memory));
        for _ in 0..count {
            builder.push(1_700_000_000_000, None, Some(black_box(&value)), std::iter::empty());
        }
        memory = builder.finish();
    });
}

#[divan::bench(args = SHAPES)]
fn check(bencher: Bencher<'_, '_>, (value_bytes, count): (usize, usize)) {
    let batch = batch(value_bytes, count, Compression::None);
    bencher.counter(BytesCount::new(batch.len())).bench(|| batch::check(black_box(&batch)).unwrap());
}

#[divan::bench(args = [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd])]
fn check_records(bencher: Bencher<'_, '_>, compression: Compression) {
    let batch = batch(100, 160, compression);
    let plain = batch::check_records(&batch, 1 << 20).unwrap().bytes;
    bencher
        .counter(BytesCount::new(plain))
        .bench(|| batch::check_records(black_box(&batch), 1 << 20).unwrap());
}

/// As a consumer does that follows the log: each read begins where the one before ended. No byte is read.
#[divan::bench]
fn find_next(bencher: Bencher<'_, '_>) {
    let (_dir, log) = filled(64 << 20);
    let next = AtomicI64::new(0);
    bencher.bench(|| {
        let slice = log.read(next.load(Ordering::Relaxed), 1 << 20, i64::MAX, true).unwrap();
        let after = slice.next_offset_hint();
        next.store(if after >= log.end_offset() { 0 } else { after }, Ordering::Relaxed);
        slice.len()
    });
}

/// Somewhere in a closed segment, by its index file.
#[divan::bench]
fn find_anywhere(bencher: Bencher<'_, '_>) {
    let (dir, log) = filled(64 << 20);
    log.close().unwrap();
    drop(log);
    let log = open(dir.path());
    let (next, end) = (AtomicI64::new(1), log.end_offset());
    bencher.bench(|| {
        let from = next.fetch_add(7_654_321, Ordering::Relaxed) % end;
        log.read(from, 1 << 20, i64::MAX, true).unwrap().len()
    });
}

#[divan::bench]
fn read_bytes(bencher: Bencher<'_, '_>) {
    let (_dir, log) = filled(64 << 20);
    let slice = log.read(100_000, 1 << 20, i64::MAX, true).unwrap();
    bencher.counter(BytesCount::new(slice.len())).bench(|| slice.bytes().unwrap());
}

/// So many append and wait until their record is on disk.
#[divan::bench(args = [1, 16, 256], max_time = 2)]
fn commit(bencher: Bencher<'_, '_>, waiters: usize) {
    let dir = tempfile::tempdir().unwrap();
    let log = Arc::new(open(dir.path()));
    let committer = Committer::new();
    let batch = batch(100, 1, Compression::None);
    bencher.bench_local(|| {
        let (sender, receiver) = mpsc::channel();
        for _ in 0..waiters {
            let end = log.append(&batch, ASSIGN, 0).unwrap().next_offset;
            let sender = sender.clone();
            committer.when_synced(&log, end, Box::new(move |result| sender.send(result.is_ok()).unwrap()));
        }
        drop(sender);
        assert_eq!(receiver.iter().filter(|done| *done).count(), waiters);
    });
}

fn log_bytes() -> u64 {
    std::env::var("FLOW_LOG_BENCH_MB").ok().and_then(|size| size.parse().ok()).unwrap_or(64) << 20
}

/// Opening a log that was killed: `true` with the checkpoints of a log that is synced now and then, `false` without any.
#[divan::bench(args = [true, false], sample_count = 10, sample_size = 1)]
fn recover(bencher: Bencher<'_, '_>, checkpoint: bool) {
    let bytes = log_bytes();
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let batch = batch(100, 160, Compression::None);
    let mut unsynced = 0;
    while log.bytes() < bytes {
        log.append(&batch, ASSIGN, 0).unwrap();
        unsynced += batch.len();
        if unsynced > 4 << 20 && checkpoint {
            log.sync().unwrap();
            unsynced = 0;
        }
    }
    drop(log);
    let checkpoint_file = dir.path().join("flow-log-checkpoint");
    bencher
        .with_inputs(|| {
            if !checkpoint {
                let _ = std::fs::remove_file(&checkpoint_file);
            }
        })
        .counter(BytesCount::new(bytes))
        .bench_values(|()| open(dir.path()).end_offset());
}
