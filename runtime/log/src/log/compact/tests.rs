use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::batch::{self, Builder, BuilderOptions, EndMarker, Header, Records, control_type, end_marker};
use crate::log::{Append, LogConfig};
use crate::storage::Disk;

const ASSIGN: Append = Append { leader_epoch: 0, log_append_time_ms: None, assign_offsets: true };
const NEVER: &dyn Fn(i64, i64) -> bool = &|_, _| false;
const OPTIONS: CompactOptions<'_> = CompactOptions {
    now_ms: 1_000,
    min_lag_ms: 0,
    delete_retention_ms: 500,
    before: i64::MAX,
    is_aborted: NEVER,
};

fn open(dir: &Path) -> Log {
    let config = LogConfig { segment_bytes: 600, index_interval_bytes: 100, ..LogConfig::default() };
    Log::open(Arc::new(Disk), dir, config).unwrap().0
}

fn keyed(options: BuilderOptions, records: &[(&str, Option<&str>)]) -> Vec<u8> {
    let mut builder = Builder::new(options);
    for (key, value) in records {
        builder.push(100, Some(key.as_bytes()), value.map(str::as_bytes), std::iter::empty());
    }
    builder.finish()
}

fn put(log: &Log, records: &[(&str, Option<&str>)]) -> i64 {
    log.append(&keyed(BuilderOptions::default(), records), ASSIGN, 0).unwrap().base_offset
}

/// Ends the active segment, so that what it holds may be compacted.
fn roll(log: &Log) {
    let mut writer = log.lock_writer();
    let end = writer.end;
    log.roll(&mut writer, end).unwrap();
}

fn batches(log: &Log) -> Vec<Vec<u8>> {
    let mut headers = log.headers(log.start_offset());
    let mut batches = Vec::new();
    while let Some(header) = headers.next() {
        header.unwrap();
        let batch = headers.batch().unwrap();
        batch::check_stored(&batch).unwrap();
        batches.push(batch);
    }
    batches
}

/// Offset, key and value of every record.
fn records(log: &Log) -> Vec<(i64, String, Option<String>)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let mut out = Vec::new();
    for batch in batches(log) {
        for record in Records::read(&batch, 1 << 20).unwrap().iter() {
            let record = record.unwrap();
            out.push((record.offset, text(record.key.unwrap()), record.value.map(text)));
        }
    }
    out
}

fn last_by_key(records: &[(i64, String, Option<String>)]) -> Vec<(i64, String, Option<String>)> {
    let mut last: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, (_, key, _)) in records.iter().enumerate() {
        last.insert(key, index);
    }
    let mut kept: Vec<_> = last.into_values().collect();
    kept.sort_unstable();
    kept.into_iter().map(|index| records[index].clone()).collect()
}

#[test]
fn the_last_record_of_every_key_stays_at_its_offset() {
    for keys_max in [20, 1000] {
        let dir = tempfile::tempdir().unwrap();
        let log = open(dir.path());
        for round in 0..200 {
            let value = format!("value {round}");
            let keys = [format!("key {}", round % 7), format!("key {}", round % 31), format!("only {round}")];
            let count = if round % 10 == 0 { 3 } else { 2 };
            let records: Vec<_> =
                keys[..count].iter().map(|key| (key.as_str(), Some(value.as_str()))).collect();
            put(&log, &records);
        }
        roll(&log);
        let before = records(&log);
        let end = log.end_offset();
        let done = log.compact_with(&OPTIONS, keys_max).unwrap();
        let expected = last_by_key(&before);
        assert_eq!(records(&log), expected, "{keys_max} keys");
        assert!(done.passes > 1 || keys_max > 20, "{done:?}");
        assert!(done.bytes_after < done.bytes_before && log.segments() < 30, "{done:?}");
        assert_eq!((log.start_offset(), log.end_offset()), (0, end));
        assert_eq!(log.dirty(i64::MAX).dirty_bytes, 0);
        // Reading from an offset that is gone gives the next that is there.
        for from in 0..end {
            let slice = log.read(from, 1 << 20, i64::MAX, true).unwrap();
            let next = expected.iter().find(|(offset, _, _)| *offset >= from).map(|(offset, _, _)| *offset);
            let header = (!slice.is_empty()).then(|| Header::parse(&slice.bytes().unwrap()).unwrap());
            assert!(
                next.is_none_or(|next| header
                    .is_some_and(|found| found.last_offset() >= from && found.base_offset <= next)),
                "{from}"
            );
        }
        drop(log);
        let log = open(dir.path());
        assert_eq!((records(&log), log.end_offset()), (expected, end));
    }
}

#[test]
fn tombstones_stay_until_their_time_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    put(&log, &[("a", Some("1")), ("b", Some("1"))]);
    put(&log, &[("a", None), ("c", Some("1"))]);
    roll(&log);
    log.compact(OPTIONS).unwrap();
    let kept = records(&log);
    assert_eq!(kept.iter().map(|(offset, _, _)| *offset).collect::<Vec<_>>(), [1, 2, 3]);
    // The horizon was set to 1,500 by the first compaction, and timestamps did not change.
    log.compact(CompactOptions { now_ms: 1_500, ..OPTIONS }).unwrap();
    assert_eq!(records(&log), kept);
    assert_eq!(log.offset_at_time(100).unwrap(), Some((1, 100)));
    log.compact(CompactOptions { now_ms: 1_501, ..OPTIONS }).unwrap();
    assert_eq!(records(&log).iter().map(|(offset, _, _)| *offset).collect::<Vec<_>>(), [1, 3]);
}

#[test]
fn young_segments_and_those_past_the_limit_are_untouched() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    for _ in 0..3 {
        put(&log, &[("a", Some("1")), ("a", Some("2"))]);
        roll(&log);
    }
    log.compact(CompactOptions { min_lag_ms: 901, ..OPTIONS }).unwrap();
    assert_eq!(records(&log).len(), 6, "all are 900 ms old");
    log.compact(CompactOptions { before: 3, ..OPTIONS }).unwrap();
    assert_eq!(records(&log).len(), 5, "only the first segment lies before offset 3");
    log.compact(OPTIONS).unwrap();
    assert_eq!(records(&log).len(), 1);
}

#[test]
fn transactions_lose_what_was_aborted_and_keep_markers_as_long_as_needed() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let transactional = |producer_id: i64, base_sequence: i32| BuilderOptions {
        producer_id,
        producer_epoch: 0,
        base_sequence,
        transactional: true,
        ..BuilderOptions::default()
    };
    let add = |batch: &[u8]| log.append(batch, ASSIGN, 0).unwrap().base_offset;
    put(&log, &[("a", Some("old"))]);
    let aborted = add(&keyed(transactional(1, 0), &[("a", Some("aborted")), ("x", Some("aborted"))]));
    let committed = add(&keyed(transactional(2, 0), &[("b", Some("committed"))]));
    let abort = add(&end_marker(1, 0, false, 0, 100));
    let commit = add(&end_marker(2, 0, true, 0, 100));
    roll(&log);
    let is_aborted = |producer_id: i64, _| producer_id == 1;
    let options = |now_ms| CompactOptions { now_ms, is_aborted: &is_aborted, ..OPTIONS };
    log.compact(options(1_000)).unwrap();
    let kept = batches(&log);
    let found: HashMap<i64, (i32, Option<EndMarker>)> = kept
        .iter()
        .map(|batch| {
            let header = Header::parse(batch).unwrap();
            (header.base_offset, (header.records_count, control_type(batch)))
        })
        .collect();
    // The aborted batch is empty but there: it is the last of its producer.
    assert_eq!(found[&0], (1, None), "an aborted record must not supersede: {found:?}");
    assert_eq!(found[&aborted], (0, None));
    assert_eq!(found[&committed], (1, None));
    assert_eq!(found[&abort], (1, Some(EndMarker::Abort)));
    assert_eq!(found[&commit], (1, Some(EndMarker::Commit)));
    let header = Header::parse(&kept[1]).unwrap();
    assert_eq!((header.producer_id, header.base_sequence, header.last_sequence()), (1, 0, 1));

    // Later the key is written without a transaction, and the producers fall silent for longer than they are known.
    put(&log, &[("b", Some("newer"))]);
    roll(&log);
    let silence_ms = 8 * 24 * 3600 * 1000;
    for round in 0..5 {
        log.compact(options(silence_ms + round * 1_000)).unwrap();
    }
    let left: Vec<_> = batches(&log).iter().map(|batch| Header::parse(batch).unwrap().base_offset).collect();
    assert_eq!(left, [0, 6], "all of both transactions is gone");
}

#[test]
fn compression_headers_and_sequences_outlive_a_rewrite() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let mut builder = Builder::new(BuilderOptions {
        compression: crate::Compression::Zstd,
        producer_id: 5,
        producer_epoch: 3,
        base_sequence: 40,
        ..BuilderOptions::default()
    });
    for (index, key) in ["a", "b", "a"].iter().enumerate() {
        let headers = [(&b"name"[..], Some(&b"value"[..])), (&b"null"[..], None)];
        builder.push(100 + index as i64, Some(key.as_bytes()), Some(b"v"), headers.into_iter());
    }
    log.append(&builder.finish(), Append { leader_epoch: 9, ..ASSIGN }, 0).unwrap();
    roll(&log);
    log.compact(OPTIONS).unwrap();
    let batch = batches(&log).remove(0);
    let header = Header::parse(&batch).unwrap();
    assert_eq!(header.compression(), Some(crate::Compression::Zstd));
    assert_eq!((header.base_sequence, header.last_sequence(), header.leader_epoch), (40, 42, 9));
    assert_eq!((header.records_count, header.last_offset_delta), (2, 2));
    let found = Records::read(&batch, 1 << 20).unwrap();
    let found: Vec<_> = found
        .iter()
        .map(|record| record.unwrap())
        .map(|record| (record.offset, record.timestamp, record.headers().count()))
        .collect();
    assert_eq!(found, [(1, 101, 2), (2, 102, 2)]);
}

#[test]
fn a_swap_file_says_what_it_replaces() {
    let swap = Swap { base: 5, upper: 900 };
    let path = swap.path(Path::new("d"));
    assert_eq!(Swap::parse(path.file_name().unwrap().to_str().unwrap()), Some(swap));
    for wrong in ["5-900.swap", "00000000000000000900-00000000000000000005.swap", "x.swap", ".swap"] {
        assert_eq!(Swap::parse(wrong), None, "{wrong}");
    }
}

#[test]
fn closing_ends_a_compaction_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    for round in 0..20 {
        put(&log, &[("a", Some("1")), ("b", Some(&round.to_string()))]);
    }
    roll(&log);
    let before = records(&log);
    let closing = |_, _| {
        log.closed.store(true, std::sync::atomic::Ordering::Release);
        false
    };
    // A transactional batch makes it ask, and so gives the test its moment.
    let options = BuilderOptions { producer_id: 1, transactional: true, ..BuilderOptions::default() };
    log.append(&keyed(options, &[("c", None)]), ASSIGN, 0).unwrap();
    roll(&log);
    let result = log.compact(CompactOptions { is_aborted: &closing, ..OPTIONS });
    assert!(matches!(result, Err(LogError::Closed)), "{result:?}");
    assert_eq!(records(&log)[..before.len()], before);
    assert!(!dir.path().join("00000000000000000000.log.cleaned").exists());
}
