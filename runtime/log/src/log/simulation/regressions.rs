//! What the random lives have found, each told once more without chance.

use std::path::Path;
use std::sync::Arc;

use crate::batch::{Builder, BuilderOptions};
use crate::log::{Append, CompactOptions, Log, LogConfig};
use crate::storage::Storage;
use crate::testing::SimStorage;

const DIR: &str = "/log";
const CONFIG: LogConfig = LogConfig {
    segment_bytes: 400,
    segment_ms: None,
    index_interval_bytes: 100,
    retention_ms: None,
    retention_bytes: None,
    max_batch_bytes: 10_000,
    checkpoint_bytes: 100_000,
};

fn open(storage: &SimStorage) -> Log {
    Log::open(Arc::new(storage.clone()), Path::new(DIR), CONFIG).unwrap().0
}

fn put(log: &Log, time_ms: i64, leader_epoch: i32) {
    let mut builder = Builder::new(BuilderOptions::default());
    builder.push(time_ms, Some(b"key"), Some(&[b'v'; 30]), std::iter::empty());
    let how = Append { leader_epoch, log_append_time_ms: None, assign_offsets: true };
    log.append(&builder.finish(), how, 0).unwrap();
}

/// A killed process had made the segment's file but not synced its name; the next one found the file and synced only
/// its bytes, so that a crash lost the whole file. Now a log that was not closed in order syncs its directory once.
#[test]
fn the_name_of_a_file_from_before_a_kill_lasts_after_a_sync() {
    for seed in 0..8 {
        let storage = SimStorage::new(seed);
        drop(open(&storage));
        storage.kill();
        let log = open(&storage);
        put(&log, 1, 0);
        assert_eq!(log.sync().unwrap(), 1);
        storage.crash();
        assert_eq!(open(&storage).end_offset(), 1);
    }
}

/// A truncation wrote a checkpoint that vouched for batches whose leader epochs were in no file yet, and a crash lost
/// the epochs. Now the epochs' file is written before any checkpoint.
#[test]
fn a_truncation_keeps_the_epochs_of_what_it_keeps() {
    let storage = SimStorage::new(1);
    let log = open(&storage);
    (0..5).for_each(|epoch| put(&log, 1, epoch));
    log.sync().unwrap();
    log.truncate(3).unwrap();
    storage.crash();
    assert_eq!(open(&storage).epochs(), [(0, 0), (1, 1), (2, 2)]);
}

/// Moving the log's start cut the epochs' file before the start itself was written; the write failed, and the epochs of
/// what the log still held were gone. Now the file follows the start.
#[test]
fn a_start_that_fails_to_move_leaves_the_epochs() {
    let storage = SimStorage::new(1);
    let mut log = open(&storage);
    (0..6).for_each(|epoch| put(&log, 1, epoch));
    log.sync().unwrap();
    for changes in 0..40 {
        storage.fail_after(changes);
        let moved = log.advance_start(4).is_ok();
        storage.crash();
        log = open(&storage);
        let start = log.start_offset();
        assert!(!moved || start == 4);
        assert_eq!(log.epoch_end(start as i32), (start as i32, start + 1), "after {changes} changes");
        if moved {
            return;
        }
    }
    panic!("the start never moved");
}

/// After a crash had lost the end of a segment, older and longer index files were still there; new entries were written
/// over their beginning, and the next process took the old end for entries. Now an index is cut when it is opened.
#[test]
fn entries_of_lost_batches_do_not_come_back_behind_new_ones() {
    let storage = SimStorage::new(1);
    let log = open(&storage);
    (0..3).for_each(|_| put(&log, 1, 0));
    log.checkpoint().unwrap();
    let index = Path::new(DIR).join("00000000000000000000.index");
    let mut bytes = storage.content(&index).unwrap();
    let entries = bytes.len();
    bytes.extend_from_slice(&[0, 0, 0, 9, 0, 0, 1, 0, 0, 0, 0, 10, 0, 0, 1, 4]);
    storage.set_content(&index, &bytes);
    drop(log);
    let log = open(&storage);
    assert_eq!(storage.content(&index).unwrap().len(), entries);
    (0..20).for_each(|_| put(&log, 1, 0));
    for offset in 0..23 {
        let slice = log.read(offset, 1, i64::MAX, true).unwrap();
        assert_eq!(slice.next_offset_hint(), offset + 1);
    }
}

/// A compaction whose result was empty left an empty file; a later one merged the segments around it, and the next
/// recovery took the file's base for the end of the merged segment and deleted that as lying before the log's start.
/// Now nothing is left where nothing is left.
#[test]
fn a_segment_that_a_compaction_empties_leaves_no_file() {
    let storage = SimStorage::new(1);
    let log = open(&storage);
    (0..30).for_each(|number| put(&log, number, 0));
    log.compact(CompactOptions {
        now_ms: 100,
        min_lag_ms: 0,
        delete_retention_ms: 0,
        before: i64::MAX,
        is_aborted: &|_, _| false,
    })
    .unwrap();
    for name in storage.list(Path::new(DIR)).unwrap() {
        let bytes = storage.content(&Path::new(DIR).join(&name)).unwrap();
        assert!(!name.ends_with(".log") || !bytes.is_empty(), "{name} is empty");
    }
}

/// The checkpoint noted the newest timestamp of batches that a crash then lost; the time index went on from it, with
/// offsets past the log's end, and looking up a time stepped over records. Now it is computed from what was vouched for.
#[test]
fn a_lost_batch_is_not_the_newest() {
    let storage = SimStorage::new(1);
    let log = open(&storage);
    put(&log, 10, 0);
    log.sync().unwrap();
    for time_ms in [900, 901] {
        put(&log, time_ms, 0);
    }
    log.write_checkpoint(&mut log.lock_maintenance(), false).unwrap();
    log.truncate(1).unwrap();
    storage.crash();
    let log = open(&storage);
    assert_eq!(log.max_timestamp(), Some((0, 10)));
    for time_ms in 20..24 {
        put(&log, time_ms, 0);
    }
    assert_eq!(log.offset_at_time(15).unwrap(), Some((1, 20)));
    assert_eq!(log.offset_at_time(23).unwrap(), Some((4, 23)));
}
