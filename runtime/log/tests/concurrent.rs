//! Appending, reading, syncing, compacting and deleting at the same time: readers see whole batches, in order, none
//! twice, and whoever waits for the disk is told.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use flow_log::batch::{self, Builder, BuilderOptions, Records};
use flow_log::log::{CompactOptions, Log};
use flow_log::{Append, Committer, Disk, LogConfig, LogError};

const ASSIGN: Append = Append { leader_epoch: 0, log_append_time_ms: None, assign_offsets: true };
const WRITERS: usize = 3;
const BATCHES: usize = 800;

fn batch(writer: usize, number: usize) -> Vec<u8> {
    let mut builder = Builder::new(BuilderOptions::default());
    let value = format!("{writer} {number}");
    for index in 0..3 {
        // Every record has a key of its own, so that a compaction keeps all.
        let key = format!("{writer} {number} {index}");
        builder.push(number as i64, Some(key.as_bytes()), Some(value.as_bytes()), std::iter::empty());
    }
    builder.finish()
}

fn open(dir: &std::path::Path) -> Arc<Log> {
    let config = LogConfig {
        segment_bytes: 8_000,
        index_interval_bytes: 500,
        checkpoint_bytes: 20_000,
        retention_ms: None,
        ..LogConfig::default()
    };
    Arc::new(Log::open(Arc::new(Disk), dir, config).unwrap().0)
}

fn write(log: &Arc<Log>, committer: &Committer) {
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            scope.spawn(move || {
                let (sender, receiver) = mpsc::channel();
                for number in 0..BATCHES {
                    let end = log.append(&batch(writer, number), ASSIGN, 0).unwrap().next_offset;
                    if number % 50 == 0 {
                        let (sender, told) = (sender.clone(), log.clone());
                        committer.when_synced(
                            log,
                            end,
                            Box::new(move |result| {
                                result.unwrap();
                                sender.send(told.synced_offset() >= end).unwrap();
                            }),
                        );
                    }
                }
                drop(sender);
                assert_eq!(receiver.iter().filter(|synced| *synced).count(), BATCHES / 50);
            });
        }
    });
}

/// Follows the log until it is done; gives how many records there were.
fn follow(log: &Log, done: &AtomicBool, bytes_max: usize, may_fall_behind: bool) -> u64 {
    let mut next = 0;
    let mut last = [-1_i64; WRITERS];
    let mut count = 0;
    loop {
        let finished = done.load(Ordering::Acquire);
        let slice = match log.read(next, bytes_max, i64::MAX, true) {
            Ok(slice) => slice,
            Err(LogError::OutOfRange { start, .. }) if may_fall_behind => {
                next = start;
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        for found in batch::batches(&slice.bytes().unwrap()) {
            let (header, bytes) = found.unwrap();
            batch::check(bytes).unwrap();
            assert!(header.base_offset == next || may_fall_behind, "{} is not {next}", header.base_offset);
            next = header.next_offset();
            for record in Records::read(bytes, 1 << 20).unwrap().iter() {
                let value = String::from_utf8(record.unwrap().value.unwrap().to_vec()).unwrap();
                let (writer, number) = value.split_once(' ').unwrap();
                let (writer, number): (usize, i64) = (writer.parse().unwrap(), number.parse().unwrap());
                let expected = last[writer]..=last[writer] + 1;
                assert!(expected.contains(&number) || may_fall_behind, "{writer} {number} after {last:?}");
                last[writer] = number;
                count += 1;
            }
        }
        if slice.is_empty() {
            if finished {
                return count;
            }
            thread::yield_now();
        }
    }
}

#[test]
fn readers_see_every_batch_once_while_the_log_is_compacted() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let committer = Committer::new();
    let done = AtomicBool::new(false);
    let total = AtomicU64::new(0);
    thread::scope(|scope| {
        let (log, done, total) = (&log, &done, &total);
        for bytes_max in [1, 700, 100_000] {
            scope.spawn(move || {
                total.fetch_add(follow(log, done, bytes_max, false), Ordering::Relaxed);
            });
        }
        scope.spawn(move || {
            while !done.load(Ordering::Acquire) {
                log.compact(CompactOptions {
                    now_ms: 0,
                    min_lag_ms: 0,
                    delete_retention_ms: 0,
                    before: log.synced_offset(),
                    is_aborted: &|_, _| false,
                })
                .unwrap();
            }
        });
        write(log, &committer);
        done.store(true, Ordering::Release);
    });
    assert_eq!(total.into_inner(), (3 * WRITERS * BATCHES * 3) as u64);
    assert_eq!(log.end_offset(), (WRITERS * BATCHES * 3) as i64);
}

#[test]
fn readers_step_over_what_is_deleted_before_them() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let committer = Committer::new();
    let done = AtomicBool::new(false);
    log.set_config(LogConfig { retention_bytes: Some(20_000), ..log.config() });
    thread::scope(|scope| {
        let (log, done) = (&log, &done);
        for bytes_max in [1, 5_000] {
            scope.spawn(move || follow(log, done, bytes_max, true));
        }
        scope.spawn(move || {
            while !done.load(Ordering::Acquire) {
                log.delete_old(0).unwrap();
                log.offset_at_time(100).unwrap();
            }
        });
        write(log, &committer);
        done.store(true, Ordering::Release);
    });
    log.delete_old(0).unwrap();
    assert!(log.bytes() < 40_000);
    drop(log);
    assert_eq!(open(dir.path()).end_offset(), (WRITERS * BATCHES * 3) as i64);
}
