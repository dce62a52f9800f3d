//! Directories of every format version that was ever released must open and read the same for ever. A version without a
//! fixture gets one from this test, to be committed; one that exists is never written again.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flow_log::batch::{self, Builder, BuilderOptions, Records};
use flow_log::log::{CompactOptions, FORMAT_VERSION, Log};
use flow_log::{Append, Compression, Disk, LogConfig};

const CODECS: [Compression; 5] =
    [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

fn fixture(version: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/v{version}"))
}

fn config() -> LogConfig {
    LogConfig { segment_bytes: 1_000, index_interval_bytes: 200, retention_ms: None, ..LogConfig::default() }
}

/// Everything that can be read of a log, as text.
fn describe(log: &Log) -> String {
    let mut text =
        format!("start {} end {} epochs {:?}\n", log.start_offset(), log.end_offset(), log.epochs());
    let mut headers = log.headers(log.start_offset());
    while let Some(header) = headers.next() {
        header.unwrap();
        let bytes = headers.batch().unwrap();
        let header = batch::check_stored(&bytes).unwrap();
        text += &format!(
            "batch {}..={} epoch {} {:?} producer {}/{}/{} transactional {} control {:?}\n",
            header.base_offset,
            header.last_offset(),
            header.leader_epoch,
            header.compression().unwrap(),
            header.producer_id,
            header.producer_epoch,
            header.base_sequence,
            header.is_transactional(),
            headers.marker().unwrap(),
        );
        for record in Records::read(&bytes, 1 << 20).unwrap().iter() {
            let record = record.unwrap();
            let show = |bytes: &[u8]| bytes.escape_ascii().to_string();
            let headers: Vec<_> =
                record.headers().map(|(name, value)| (show(name), value.map(show))).collect();
            text += &format!(
                "  {} @{} {:?} {:?} {headers:?}\n",
                record.offset,
                record.timestamp,
                record.key.map(show),
                record.value.map(show),
            );
        }
    }
    text
}

/// A log with a bit of everything: codecs, epochs, producers, markers, a compacted part, a moved start, and a tail after
/// the last checkpoint.
fn write(dir: &Path) {
    let (log, _) = Log::open(Arc::new(Disk), dir, config()).unwrap();
    for number in 0..30_i64 {
        let mut builder = Builder::new(BuilderOptions {
            compression: CODECS[number as usize % CODECS.len()],
            producer_id: if number % 3 == 0 { 7 } else { -1 },
            producer_epoch: if number % 3 == 0 { 1 } else { -1 },
            base_sequence: if number % 3 == 0 { number as i32 } else { -1 },
            transactional: number % 6 == 0,
            ..BuilderOptions::default()
        });
        let (key, value) = (format!("key {}", number % 4), format!("value {number}, value {number}"));
        let headers = [(&b"trace"[..], Some(&b"abc"[..])), (&b"none"[..], None)];
        let value = (number % 7 != 0).then_some(value.as_bytes());
        builder.push(1_700_000_000_000 + number, Some(key.as_bytes()), value, headers.into_iter());
        builder.push(1_700_000_000_010 + number, Some(b"other"), Some(b""), std::iter::empty());
        let stamp = (number == 20).then_some(1_700_000_000_500);
        let how =
            Append { leader_epoch: number as i32 / 12, log_append_time_ms: stamp, assign_offsets: true };
        log.append(&builder.finish(), how, number).unwrap();
        if number % 6 == 0 {
            let marker = batch::end_marker(7, 1, number % 12 == 0, 4, 1_700_000_000_020 + number);
            log.append(&marker, how, number).unwrap();
        }
        if number == 18 {
            let is_aborted = |_, offset| offset > 10;
            log.compact(CompactOptions {
                now_ms: 1_700_000_000_100,
                min_lag_ms: 0,
                delete_retention_ms: 1_000,
                before: i64::MAX,
                is_aborted: &is_aborted,
            })
            .unwrap();
        }
    }
    log.advance_start(9).unwrap();
    log.checkpoint().unwrap();
    for _ in 0..2 {
        log.append(
            &batch::end_marker(8, 0, true, 0, 5),
            Append { leader_epoch: 3, log_append_time_ms: None, assign_offsets: true },
            0,
        )
        .unwrap();
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

#[test]
fn every_released_format_opens_and_reads_the_same() {
    for version in 1..=FORMAT_VERSION {
        let dir = fixture(version);
        if !dir.exists() {
            assert_eq!(version, FORMAT_VERSION, "a fixture of an old version is gone");
            fs::create_dir_all(dir.join("log")).unwrap();
            write(&dir.join("log"));
            let copied = tempfile::tempdir().unwrap();
            copy(&dir.join("log"), copied.path());
            let (log, _) = Log::open(Arc::new(Disk), copied.path(), config()).unwrap();
            fs::write(dir.join("expected.txt"), describe(&log)).unwrap();
            panic!("{} was written: commit it", dir.display());
        }
        let expected = fs::read_to_string(dir.join("expected.txt")).unwrap();
        let copied = tempfile::tempdir().unwrap();
        copy(&dir.join("log"), copied.path());
        for round in 0..2 {
            let (log, recovery) = Log::open(Arc::new(Disk), copied.path(), config()).unwrap();
            assert!(recovery.damage.is_empty() && recovery.cut.is_none(), "{recovery:?}");
            assert!(recovery.rebuilt.is_empty(), "{recovery:?}");
            assert!(recovery.checked_batches == 2 || round > 0);
            assert_eq!(describe(&log), expected, "version {version}");
            log.close().unwrap();
        }
        // Without what helps, the same is read, if slower.
        for entry in fs::read_dir(copied.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "log") {
                fs::remove_file(path).unwrap();
            }
        }
        let (log, _) = Log::open(Arc::new(Disk), copied.path(), config()).unwrap();
        let moved = describe(&log);
        let tail = |text: &str| text.lines().skip(3).map(str::to_owned).collect::<Vec<_>>();
        assert!(moved.contains(&tail(&expected).join("\n")), "{moved}");
    }
}
