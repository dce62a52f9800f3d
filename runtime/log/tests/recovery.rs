//! What opening a log does with files that a crash, a bad disk or a hurried operator left behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flow_log::batch::{self, Builder, BuilderOptions, Records};
use flow_log::log::Log;
use flow_log::{Append, Disk, LogConfig, LogError, Recovery};

const ASSIGN: Append = Append { leader_epoch: 0, log_append_time_ms: None, assign_offsets: true };
const CONFIG: LogConfig = LogConfig {
    segment_bytes: 1 << 20,
    segment_ms: None,
    index_interval_bytes: 300,
    retention_ms: None,
    retention_bytes: None,
    max_batch_bytes: 1 << 20,
    checkpoint_bytes: 1 << 30,
};

fn open(dir: &Path) -> (Log, Recovery) {
    Log::open(Arc::new(Disk), dir, CONFIG).unwrap()
}

fn batch(number: i64) -> Vec<u8> {
    let mut builder = Builder::new(BuilderOptions::default());
    let value = format!("record {number}");
    builder.push(1_000 + number, None, Some(value.as_bytes()), std::iter::empty());
    builder.finish()
}

/// Appends so many records; gives where each batch begins in the file of the first segment.
fn fill(log: &Log, count: i64) -> Vec<u64> {
    let end = log.end_offset();
    let mut positions = Vec::new();
    for number in end..end + count {
        positions.push(log.bytes());
        log.append(&batch(number), ASSIGN, 0).unwrap();
    }
    positions
}

/// The offsets that can be read; each record must say its offset.
fn offsets(log: &Log) -> Vec<i64> {
    let mut found = Vec::new();
    let mut headers = log.headers(log.start_offset());
    while let Some(header) = headers.next() {
        header.unwrap();
        let bytes = headers.batch().unwrap();
        batch::check(&bytes).unwrap();
        for record in Records::read(&bytes, 1 << 20).unwrap().iter() {
            let record = record.unwrap();
            assert_eq!(record.value.unwrap(), format!("record {}", record.offset).as_bytes());
            found.push(record.offset);
        }
    }
    found
}

fn segment(dir: &Path, base: i64) -> PathBuf {
    dir.join(format!("{base:020}.log"))
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

fn upto(end: i64) -> Vec<i64> {
    (0..end).collect()
}

#[test]
fn a_torn_tail_is_cut_and_the_log_goes_on() {
    type Tear = fn(&mut Vec<u8>);
    let tears: [Tear; 5] = [
        |bytes| bytes.truncate(bytes.len() - 1),
        |bytes| bytes.truncate(bytes.len() - 60),
        |bytes| *bytes.last_mut().unwrap() ^= 1,
        // A size that reached the disk before the bytes did.
        |bytes| {
            let end = bytes.len();
            bytes[end - 70..].fill(0);
            bytes.resize(end + 5_000, 0);
        },
        |bytes| bytes.extend_from_slice(&[0xff; 40]),
    ];
    for (index, tear) in tears.into_iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        let (log, _) = open(dir.path());
        let positions = fill(&log, 20);
        drop(log);
        change(&segment(dir.path(), 0), tear);
        let (log, recovery) = open(dir.path());
        let end = if index == 4 { 20 } else { 19 };
        assert_eq!(offsets(&log), upto(end), "tear {index}");
        let cut = recovery.cut.unwrap();
        assert!(index == 4 || cut.position == positions[19], "{cut:?}");
        assert!(recovery.damage.is_empty());
        fill(&log, 2);
        drop(log);
        let (log, recovery) = open(dir.path());
        assert_eq!((offsets(&log), recovery.cut), (upto(end + 2), None));
    }
}

#[test]
fn a_corrupt_middle_is_reported_and_kept_aside() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path());
    let positions = fill(&log, 20);
    drop(log);
    let path = segment(dir.path(), 0);
    let before = fs::read(&path).unwrap();
    change(&path, |bytes| bytes[positions[7] as usize + 65] ^= 4);
    let (log, recovery) = open(dir.path());
    assert_eq!(offsets(&log), upto(7));
    assert_eq!(recovery.cut, None);
    let damage = &recovery.damage[0];
    assert_eq!((&damage.file, damage.position), (&path, positions[7]));
    assert!(damage.what.contains("checksum"), "{damage:?}");
    let kept = fs::read(damage.kept.as_ref().unwrap()).unwrap();
    assert_eq!(kept[70..], before[positions[7] as usize + 70..]);
    // It stays there, and a second one beside it.
    fill(&log, 13);
    drop(log);
    change(&path, |bytes| bytes[positions[7] as usize + 65] ^= 4);
    fs::remove_file(dir.path().join("flow-log-checkpoint")).unwrap();
    let (log, again) = open(dir.path());
    assert_eq!(offsets(&log), upto(7));
    assert_ne!(again.damage[0].kept, damage.kept);
    assert_eq!(fs::read(damage.kept.as_ref().unwrap()).unwrap(), kept);
}

#[test]
fn segments_after_a_broken_one_are_kept_aside_whole() {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig { segment_bytes: 800, ..CONFIG };
    let (log, _) = Log::open(Arc::new(Disk), dir.path(), config).unwrap();
    fill(&log, 40);
    let bases = log.segment_bases();
    assert!(bases.len() > 3);
    drop(log);
    let third = segment(dir.path(), bases[3]);
    let kept_content = fs::read(&third).unwrap();
    change(&segment(dir.path(), bases[2]), |bytes| bytes[70] ^= 1);
    let (log, recovery) = open(dir.path());
    assert_eq!(offsets(&log), upto(bases[2]));
    assert_eq!(recovery.damage.len(), bases.len() - 2);
    assert_eq!(fs::read(third.with_extension("log.corrupt")).unwrap(), kept_content);
    fill(&log, 5);
    drop(log);
    let (log, recovery) = open(dir.path());
    assert!(recovery.damage.is_empty());
    assert_eq!(offsets(&log), upto(bases[2] + 5));
}

#[test]
fn a_missing_segment_is_not_stepped_over() {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig { segment_bytes: 800, ..CONFIG };
    let (log, _) = Log::open(Arc::new(Disk), dir.path(), config).unwrap();
    fill(&log, 40);
    let bases = log.segment_bases();
    drop(log);
    fs::remove_file(segment(dir.path(), bases[1])).unwrap();
    let (log, recovery) = open(dir.path());
    assert_eq!(offsets(&log), upto(bases[1]));
    assert!(recovery.damage.iter().all(|damage| damage.what.contains("missing")), "{recovery:?}");
}

#[test]
fn only_what_came_after_the_checkpoint_is_checked() {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig { checkpoint_bytes: 2_000, segment_bytes: 10_000, ..CONFIG };
    let (log, _) = Log::open(Arc::new(Disk), dir.path(), config).unwrap();
    for _ in 0..1_000 {
        fill(&log, 1);
        log.sync().unwrap();
    }
    let bytes = log.bytes();
    drop(log);
    let (log, recovery) = Log::open(Arc::new(Disk), dir.path(), config).unwrap();
    assert!(bytes > 50_000 && recovery.checked_bytes <= 2_000 && recovery.rebuilt.is_empty(), "{recovery:?}");
    assert_eq!(offsets(&log), upto(1_000));
}

#[test]
fn lost_and_wrong_indexes_are_made_again() {
    type Spoil = fn(&Path);
    let spoils: [Spoil; 5] = [
        |path| fs::remove_file(path).unwrap(),
        |path| fs::write(path, b"").unwrap(),
        |path| fs::write(path, [0xff; 13]).unwrap(),
        |path| fs::write(path, [0xff; 24]).unwrap(),
        |path| change(path, |bytes| bytes.truncate(bytes.len() - 12)),
    ];
    for spoil in spoils {
        for extension in ["index", "timeindex"] {
            let dir = tempfile::tempdir().unwrap();
            let config = LogConfig { segment_bytes: 8_000, ..CONFIG };
            let (log, _) = Log::open(Arc::new(Disk), dir.path(), config).unwrap();
            fill(&log, 200);
            let bases = log.segment_bases();
            log.close().unwrap();
            drop(log);
            for base in &bases {
                spoil(&segment(dir.path(), *base).with_extension(extension));
            }
            let (log, recovery) = Log::open(Arc::new(Disk), dir.path(), config).unwrap();
            assert!(recovery.damage.is_empty(), "{recovery:?}");
            assert_eq!(offsets(&log), upto(200));
            for offset in 0..200 {
                assert_eq!(log.offset_at_time(1_000 + offset).unwrap(), Some((offset, 1_000 + offset)));
                let bytes = log.read(offset, 1, i64::MAX, true).unwrap().bytes().unwrap();
                assert_eq!(batch::check(&bytes).unwrap().base_offset, offset);
            }
        }
    }
}

#[test]
fn a_broken_checkpoint_only_costs_time() {
    for spoil in [&b""[..], b"flow-log 1\n", &[0xff; 100], &[b'x'; 10_000]] {
        let dir = tempfile::tempdir().unwrap();
        let (log, _) = open(dir.path());
        fill(&log, 50);
        log.close().unwrap();
        let bytes = log.bytes();
        drop(log);
        fs::write(dir.path().join("flow-log-checkpoint"), spoil).unwrap();
        let (log, recovery) = open(dir.path());
        assert_eq!((offsets(&log), recovery.checked_bytes, recovery.clean), (upto(50), bytes, false));
        assert!(recovery.damage.is_empty());
    }
}

#[test]
fn leftovers_and_foreign_files_do_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path());
    fill(&log, 5);
    drop(log);
    let leftovers =
        ["flow-log-checkpoint.tmp", "00000000000000000000.log.cleaned", "00000000000000000007.index"];
    let foreign = ["notes.txt", "7.log", "00000000000000000000.snapshot", "0000000000000000000x.log"];
    for name in leftovers.iter().chain(&foreign) {
        fs::write(dir.path().join(name), b"something").unwrap();
    }
    let (log, recovery) = open(dir.path());
    assert_eq!(offsets(&log), upto(5));
    assert!(recovery.damage.is_empty() && recovery.cut.is_none());
    assert!(leftovers.iter().all(|name| !dir.path().join(name).exists()));
    assert!(foreign.iter().all(|name| dir.path().join(name).exists()));
}

#[test]
fn a_shortened_file_is_reported_and_its_offsets_are_not_given_again() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path());
    let positions = fill(&log, 20);
    log.close().unwrap();
    drop(log);
    change(&segment(dir.path(), 0), |bytes| bytes.truncate(positions[12] as usize));
    let (log, recovery) = open(dir.path());
    assert!(recovery.damage[0].what.contains("long"), "{recovery:?}");
    assert_eq!((offsets(&log), log.end_offset()), (upto(12), 20));
    fill(&log, 1);
    assert_eq!(offsets(&log).last(), Some(&20));
    drop(log);
    let (log, recovery) = open(dir.path());
    assert_eq!((recovery.damage.len(), offsets(&log).len()), (0, 13));
}

#[test]
fn damage_below_the_checkpoint_is_found_when_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path());
    let positions = fill(&log, 20);
    log.close().unwrap();
    drop(log);
    change(&segment(dir.path(), 0), |bytes| bytes[positions[3] as usize + 16] = 9);
    let (log, _) = open(dir.path());
    match log.headers(0).find_map(Result::err) {
        Some(LogError::Corrupt { file, position, .. }) => {
            assert_eq!((file, position), (segment(dir.path(), 0), positions[3]));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn index_files_are_those_of_kafka() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path());
    let positions = fill(&log, 12);
    log.append(&batch(12), Append { leader_epoch: 3, ..ASSIGN }, 0).unwrap();
    log.close().unwrap();
    let index = fs::read(dir.path().join("00000000000000000000.index")).unwrap();
    let times = fs::read(dir.path().join("00000000000000000000.timeindex")).unwrap();
    // Every batch has 80 bytes or so, so every fifth is the first after more than 300.
    let entry = |at: usize| (&index[8 * at..8 * at + 4], &index[8 * at + 4..8 * at + 8]);
    let offset = i32::from_be_bytes(entry(0).0.try_into().unwrap());
    let position = i32::from_be_bytes(entry(0).1.try_into().unwrap());
    assert_eq!((offset, position as u64), (4, positions[4]));
    assert_eq!(i64::from_be_bytes(times[..8].try_into().unwrap()), 1_004);
    assert_eq!(i32::from_be_bytes(times[8..12].try_into().unwrap()), 4);
    let epochs = fs::read_to_string(dir.path().join("leader-epoch-checkpoint")).unwrap();
    assert_eq!(epochs, "0\n2\n0 0\n3 12\n");
}

/// A flipped bit had made a base offset negative, in a part that is not checked again; making the index of that part
/// anew subtracted from it and overflowed. Now such a batch is corrupt wherever it is met.
#[test]
fn a_negative_offset_is_damage_and_no_panic() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path());
    let positions = fill(&log, 20);
    log.close().unwrap();
    drop(log);
    change(&segment(dir.path(), 0), |bytes| bytes[positions[5] as usize] |= 0x80);
    fs::remove_file(dir.path().join("00000000000000000000.index")).unwrap();
    let (log, recovery) = open(dir.path());
    assert_eq!((recovery.damage[0].position, &recovery.damage[0].kept), (positions[5], &None));
    assert_eq!(log.headers(0).filter(|header| header.is_ok()).count(), 5);
    assert_eq!(log.end_offset(), 20);
}
