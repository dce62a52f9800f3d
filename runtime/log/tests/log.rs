//! A log on a real disk: what is appended is read, synced, found by time, cut, deleted, and there again afterwards.

use std::path::Path;
use std::sync::{Arc, mpsc};

use flow_log::batch::{self, Builder, BuilderOptions, EndMarker, Records};
use flow_log::log::Log;
use flow_log::{Append, Committer, Disk, LogConfig, LogError, Recovery};

const ASSIGN: Append = Append { leader_epoch: 0, log_append_time_ms: None, assign_offsets: true };

fn small() -> LogConfig {
    LogConfig { segment_bytes: 2000, index_interval_bytes: 200, ..LogConfig::default() }
}

fn open(dir: &Path, config: LogConfig) -> (Log, Recovery) {
    Log::open(Arc::new(Disk), dir, config).unwrap()
}

/// A batch of `count` records whose values say `text` and their place, a millisecond apart.
fn batch(text: &str, count: usize, time_ms: i64) -> Vec<u8> {
    let mut builder = Builder::new(BuilderOptions::default());
    for index in 0..count {
        let value = format!("{text} {index}");
        builder.push(time_ms + index as i64, None, Some(value.as_bytes()), std::iter::empty());
    }
    builder.finish()
}

fn values(log: &Log, mut from: i64) -> Vec<(i64, String)> {
    let mut values = Vec::new();
    while from < log.end_offset() {
        let slice = log.read(from, 500, i64::MAX, true).unwrap();
        assert!(!slice.is_empty(), "nothing at {from} of {}", log.end_offset());
        for found in batch::batches(&slice.bytes().unwrap()) {
            let (header, bytes) = found.unwrap();
            batch::check(bytes).unwrap();
            for record in Records::read(bytes, 1 << 20).unwrap().iter() {
                let record = record.unwrap();
                let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
                values.push((record.offset, value));
            }
            from = header.next_offset();
        }
        assert_eq!(from, slice.next_offset_hint());
    }
    values
}

#[test]
fn what_is_appended_is_read_now_and_after_opening_again() {
    let dir = tempfile::tempdir().unwrap();
    let (log, recovery) = open(dir.path(), small());
    assert_eq!((log.start_offset(), log.end_offset(), recovery.damage.len()), (0, 0, 0));
    let mut expected = Vec::new();
    for round in 0..100 {
        let appended =
            log.append(&batch(&format!("round {round}"), 3, 1000 + round * 10), ASSIGN, 0).unwrap();
        assert_eq!(appended.base_offset, round * 3);
        expected.extend((0..3).map(|index| (round * 3 + index, format!("round {round} {index}"))));
    }
    assert!(log.segments() > 3);
    assert_eq!(values(&log, 0), expected);
    assert_eq!(values(&log, 150), expected[150..]);
    assert_eq!(log.sync().unwrap(), 300);
    drop(log);

    // As after a kill: no checkpoint but those at the rolls.
    let (log, recovery) = open(dir.path(), small());
    assert!(!recovery.clean && recovery.cut.is_none() && recovery.damage.is_empty());
    assert_eq!(values(&log, 0), expected);
    log.close().unwrap();
    assert!(matches!(log.append(&batch("late", 1, 0), ASSIGN, 0), Err(LogError::Closed)));
    drop(log);

    let (log, recovery) = open(dir.path(), small());
    assert!(recovery.clean, "{recovery:?}");
    assert_eq!(recovery.checked_bytes, 0);
    assert_eq!(values(&log, 0), expected);
    assert_eq!(log.headers(7).map(|header| header.unwrap().base_offset).take(2).collect::<Vec<_>>(), [6, 9]);
}

#[test]
fn a_read_keeps_its_bounds() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path(), LogConfig::default());
    let one = batch("x", 10, 0);
    for _ in 0..50 {
        log.append(&one, ASSIGN, 0).unwrap();
    }
    let size = one.len();
    assert_eq!(log.read(0, 3 * size + 5, i64::MAX, false).unwrap().len(), 3 * size);
    assert_eq!(log.read(15, 3 * size, i64::MAX, false).unwrap().len(), 3 * size);
    assert!(log.read(0, size - 1, i64::MAX, false).unwrap().is_empty());
    assert_eq!(log.read(0, 1, i64::MAX, true).unwrap().len(), size);
    assert_eq!(log.read(100, 1 << 20, 200, false).unwrap().len(), 10 * size);
    assert!(log.read(200, 1 << 20, 200, true).unwrap().is_empty());
    assert!(log.read(500, 1 << 20, i64::MAX, true).unwrap().is_empty());
    assert!(matches!(log.read(201, 1, 200, true), Err(LogError::OutOfRange { start: 0, end: 200 })));
    assert!(matches!(log.read(501, 1, i64::MAX, true), Err(LogError::OutOfRange { start: 0, end: 500 })));
    assert!(matches!(log.read(-1, 1, i64::MAX, true), Err(LogError::OutOfRange { .. })));
}

#[test]
fn the_log_stamps_its_own_time_if_told_to() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path(), LogConfig::default());
    let how = Append { leader_epoch: 7, log_append_time_ms: Some(5_000), assign_offsets: true };
    let appended = log.append(&batch("x", 2, 10), how, 5_000).unwrap();
    assert_eq!(appended.max_timestamp, 5_000);
    let bytes = log.read(0, 1 << 20, i64::MAX, true).unwrap().bytes().unwrap();
    let header = batch::check(&bytes).unwrap();
    assert!(header.is_log_append_time() && header.leader_epoch == 7);
    let records = Records::read(&bytes, 1 << 20).unwrap();
    assert!(records.iter().all(|record| record.unwrap().timestamp == 5_000));
}

#[test]
fn records_are_found_by_time() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path(), small());
    assert_eq!(log.max_timestamp(), None);
    for round in 0..100 {
        log.append(&batch("x", 5, 1000 + round * 10), ASSIGN, 0).unwrap();
    }
    for (time_ms, found) in [(0, (0, 1000)), (1003, (3, 1003)), (1007, (5, 1010)), (1994, (499, 1994))] {
        assert_eq!(log.offset_at_time(time_ms).unwrap(), Some(found), "{time_ms}");
    }
    assert_eq!(log.offset_at_time(1995).unwrap(), None);
    assert_eq!(log.max_timestamp(), Some((499, 1994)));
    log.advance_start(101).unwrap();
    assert_eq!(log.offset_at_time(0).unwrap(), Some((101, 1201)));
}

#[test]
fn the_start_moves_and_old_segments_go() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path(), small());
    for round in 0..100 {
        log.append(&batch("x", 5, 1000 + round * 10), ASSIGN, 0).unwrap();
    }
    let segments = log.segments();
    log.advance_start(200).unwrap();
    assert!(log.segments() < segments);
    assert!(matches!(log.read(199, 1, i64::MAX, true), Err(LogError::OutOfRange { start: 200, end: 500 })));
    assert!(matches!(log.advance_start(501), Err(LogError::OutOfRange { .. })));
    log.advance_start(100).unwrap();
    assert_eq!(log.start_offset(), 200);

    log.set_config(LogConfig { retention_ms: Some(100), ..small() });
    let deleted = log.delete_old(1700).unwrap();
    assert!(deleted.segments > 0 && deleted.start_offset > 200, "{deleted:?}");
    let newest_gone = log.start_offset();
    drop(log);
    let (log, _) = open(dir.path(), LogConfig { retention_bytes: Some(2500), ..small() });
    assert_eq!(log.start_offset(), newest_gone);
    log.delete_old(0).unwrap();
    assert!(log.bytes() >= 2500 && log.bytes() < 5000);
    // Everything is old: a fresh segment takes the place of the last.
    log.set_config(LogConfig { retention_ms: Some(1), ..small() });
    log.delete_old(i64::MAX).unwrap();
    assert_eq!((log.start_offset(), log.end_offset(), log.bytes()), (500, 500, 0));
    assert_eq!(log.append(&batch("x", 5, 1), ASSIGN, 0).unwrap().base_offset, 500);
    drop(log);
    let (log, _) = open(dir.path(), small());
    assert_eq!((log.start_offset(), log.end_offset()), (500, 505));
}

#[test]
fn a_truncated_log_ends_there_also_after_opening_again() {
    for offset in [0, 3, 299, 300, 301, 320, 499] {
        let dir = tempfile::tempdir().unwrap();
        let (log, _) = open(dir.path(), small());
        for round in 0..100 {
            let how = Append { leader_epoch: round / 20, ..ASSIGN };
            log.append(&batch(&format!("{round}"), 5, 1000), how, 0).unwrap();
        }
        log.checkpoint().unwrap();
        log.truncate(offset).unwrap();
        let end = offset / 5 * 5;
        assert_eq!((log.end_offset(), log.synced_offset()), (end, end), "{offset}");
        assert_eq!(log.append(&batch("new", 2, 2000), ASSIGN, 0).unwrap().base_offset, end);
        let before = values(&log, 0);
        assert_eq!(before.len() as i64, end + 2);
        log.sync().unwrap();
        drop(log);
        let (log, recovery) = open(dir.path(), small());
        assert_eq!(recovery.damage, []);
        assert_eq!(values(&log, 0), before);
    }
}

#[test]
fn leader_epochs_are_kept_with_their_offsets() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path(), small());
    for epoch in [1, 1, 3, 3, 6] {
        log.append(&batch("x", 10, 0), Append { leader_epoch: epoch, ..ASSIGN }, 0).unwrap();
    }
    let expected = [(1, 0), (3, 20), (6, 40)];
    assert_eq!(log.epochs(), expected);
    assert_eq!((log.epoch_end(3), log.epoch_end(6), log.epoch_end(2)), ((3, 40), (6, 50), (1, 20)));
    drop(log);
    let (log, _) = open(dir.path(), small());
    assert_eq!(log.epochs(), expected);
    log.close().unwrap();
    drop(log);
    let (log, _) = open(dir.path(), small());
    assert_eq!(log.epochs(), expected);
    log.truncate(40).unwrap();
    assert_eq!(log.latest_epoch(), 3);
}

#[test]
fn batches_that_keep_their_offsets_must_follow() {
    let dir = tempfile::tempdir().unwrap();
    let (leader, _) = open(&dir.path().join("leader"), LogConfig::default());
    for epoch in 0..4 {
        leader.append(&batch("x", 10, 0), Append { leader_epoch: epoch, ..ASSIGN }, 0).unwrap();
    }
    let bytes = leader.read(20, 1 << 20, i64::MAX, true).unwrap().bytes().unwrap();
    let (follower, _) = open(&dir.path().join("follower"), LogConfig::default());
    let how = Append { assign_offsets: false, ..ASSIGN };
    follower.append(&bytes, how, 0).unwrap();
    assert_eq!((follower.end_offset(), follower.epochs()), (40, vec![(2, 20), (3, 30)]));
    assert!(matches!(follower.append(&bytes, how, 0), Err(LogError::OutOfOrder { offset: 20, end: 40 })));
}

#[test]
fn what_is_no_batch_is_refused_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path(), LogConfig { max_batch_bytes: 500, ..LogConfig::default() });
    let good = batch("x", 3, 0);
    for bad in [&good[..good.len() - 1], &good[..20], b"", &[good.as_slice(), b"rest"].concat()] {
        assert!(matches!(log.append(bad, ASSIGN, 0), Err(LogError::Batch(_))), "{bad:?}");
    }
    assert!(matches!(log.append(&batch("x", 100, 0), ASSIGN, 0), Err(LogError::TooLarge { .. })));
    assert_eq!((log.end_offset(), log.bytes()), (0, 0));
}

#[test]
fn many_wait_for_one_sync() {
    let dir = tempfile::tempdir().unwrap();
    let logs: Vec<_> =
        (0..6).map(|index| Arc::new(open(&dir.path().join(format!("{index}")), small()).0)).collect();
    let committer = Committer::new();
    let (sender, receiver) = mpsc::channel();
    for round in 0..200 {
        let log = &logs[round % logs.len()];
        let end = log.append(&batch("x", 1, 0), ASSIGN, 0).unwrap().next_offset;
        let (sender, told) = (sender.clone(), log.clone());
        let done = move |result: Result<(), LogError>| {
            result.unwrap();
            assert!(told.synced_offset() >= end);
            sender.send(()).unwrap();
        };
        committer.when_synced(log, end, Box::new(done));
    }
    drop(sender);
    assert_eq!(receiver.iter().count(), 200);
    let (sender, receiver) = mpsc::channel();
    committer.when_synced(&logs[0], 1_000, Box::new(move |result| sender.send(result.is_err()).unwrap()));
    assert!(receiver.recv().unwrap(), "an offset past the end never comes");
}

#[test]
fn control_batches_say_how_a_transaction_ended() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path(), LogConfig::default());
    log.append(&batch("x", 3, 0), ASSIGN, 0).unwrap();
    log.append(&batch::end_marker(9, 2, true, 4, 100), ASSIGN, 0).unwrap();
    log.append(&batch::end_marker(9, 2, false, 4, 100), ASSIGN, 0).unwrap();
    let mut headers = log.headers(0);
    let mut markers = Vec::new();
    while let Some(header) = headers.next() {
        let header = header.unwrap();
        markers.push((header.base_offset, header.producer_id, headers.marker().unwrap()));
    }
    assert_eq!(markers, [(0, -1, None), (3, 9, Some(EndMarker::Commit)), (4, 9, Some(EndMarker::Abort))]);
}

#[test]
fn a_newer_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path(), LogConfig::default());
    log.close().unwrap();
    drop(log);
    let path = dir.path().join("flow-log-checkpoint");
    let text = std::fs::read_to_string(&path).unwrap().replace("flow-log 1\n", "flow-log 2\n");
    std::fs::write(&path, text).unwrap();
    match Log::open(Arc::new(Disk), dir.path(), LogConfig::default()) {
        Err(LogError::Newer { found: 2, known: 1, .. }) => {}
        other => panic!("{:?}", other.map(|(_, recovery)| recovery)),
    }
}
