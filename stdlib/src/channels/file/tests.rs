//! The file channel on real directories.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use flow_agent::{Channel, Fault};
use flow_log::Compression;

use super::decode::{DecodeError, decode};
use super::encode::Encoder;
use super::seal::Seal;
use super::*;
use crate::channels::testing::{Driver, Random, SLOTS, events, numbered, numbers, slots, strange};

fn settings() -> Settings {
    Settings {
        sync: Sync::Commit,
        segment: 64 << 20,
        min_free: 0,
        checkpoint: Duration::from_secs(30),
        compress: Compression::None,
        secret: None,
    }
}

fn limits(copies: u64) -> Limits {
    Limits {
        events_max: 10_000,
        bytes_max: u64::MAX,
        take_events_max: 5_000,
        memory: Memory::Copies { bytes_max: copies },
    }
}

fn context(dir: &Path) -> Context {
    Context {
        name: "buf".to_owned(),
        agent: "main".to_owned(),
        state_dir: dir.join("state"),
        slots: slots(),
        functions: crate::registry().functions,
        secrets: Arc::default(),
        services: Default::default(),
        host: "localhost".to_owned(),
    }
}

fn dirs(home: &Path, count: usize) -> Vec<PathBuf> {
    (0..count).map(|number| home.join(format!("dir{number}"))).collect()
}

fn channel(home: &Path, lanes: usize, copies: u64, settings: &Settings) -> Arc<dyn Channel> {
    try_channel(home, lanes, copies, settings).unwrap()
}

fn try_channel(
    home: &Path,
    lanes: usize,
    copies: u64,
    settings: &Settings,
) -> Result<Arc<dyn Channel>, Fault> {
    open(&dirs(home, lanes), settings, limits(copies), &context(home))
}

/// Everything that waits, in order, without taking it away.
async fn waiting(channel: &Arc<dyn Channel>) -> Vec<u64> {
    let mut open = Vec::new();
    let mut seen = Vec::new();
    while (seen.len() as u64) < channel.status().events {
        let transaction = channel.take(1_000).await.unwrap().unwrap();
        seen.extend(numbers(transaction.batches()));
        open.push(transaction);
    }
    seen
}

#[test]
fn an_event_comes_back_as_it_was() {
    let mut random = Random(1);
    let (seal, check) = Seal::make("secret").unwrap();
    let other = Seal::unlock("secret", &check).unwrap().unwrap();
    let mut encoders = [
        (Encoder::new(Compression::None, None), None),
        (Encoder::new(Compression::Lz4, None), None),
        (Encoder::new(Compression::Zstd, Some(seal)), Some(&other)),
    ];
    let slots = slots();
    for round in 0..200 {
        let count = 1 + random.below(30);
        let batch = strange(&mut random, count);
        if batch.is_empty() {
            continue;
        }
        for (encoder, seal) in &mut encoders {
            let bytes = encoder.encode(&batch, &slots, 1234, round).unwrap().to_vec();
            let mut back = Vec::new();
            let mut sequence = round;
            for found in flow_log::batch::batches(&bytes) {
                let (header, bytes) = found.unwrap();
                let decoded = decode(bytes, &slots, *seal).unwrap();
                assert_eq!((decoded.sequence, decoded.added_ms), (sequence, 1234));
                assert_eq!(decoded.batch.len() as i32, header.records_count);
                sequence += decoded.batch.len() as u64;
                back.push(decoded.batch);
            }
            assert_eq!(events(&back), events(std::slice::from_ref(&batch)));
        }
    }
    assert_eq!(SLOTS.len(), 3);
}

#[test]
fn what_is_not_a_batch_of_events_is_refused() {
    let mut random = Random(2);
    let (seal, check) = Seal::make("secret").unwrap();
    let open = Seal::unlock("secret", &check).unwrap().unwrap();
    assert!(Seal::unlock("another", &check).unwrap().is_none());
    let slots = slots();
    let batch = numbered(0, 20);
    for (mut encoder, seal) in [
        (Encoder::new(Compression::None, None), None),
        (Encoder::new(Compression::None, Some(seal)), Some(&open)),
    ] {
        let bytes = encoder.encode(&batch, &slots, 0, 0).unwrap().to_vec();
        if seal.is_some() {
            assert_eq!(decode(&bytes, &slots, None).unwrap_err(), DecodeError::NoKey);
            let (stranger, _) = Seal::make("secret").unwrap();
            assert_eq!(decode(&bytes, &slots, Some(&stranger)).unwrap_err(), DecodeError::WrongKey);
            assert!(!bytes.windows(2).any(|pair| pair == b"19"), "the text can be read");
        }
        for _ in 0..2_000 {
            let mut broken = bytes.clone();
            for _ in 0..=random.below(3) {
                let at = random.below(broken.len() as u64) as usize;
                broken[at] ^= 1 << random.below(8);
            }
            if random.below(2) == 0 {
                // With a good checksum: what the records say must be looked at as well.
                let crc = crc32c::crc32c(&broken[21..]);
                broken[17..21].copy_from_slice(&crc.to_be_bytes());
            }
            broken.truncate(broken.len() - (random.below(8) / 7) as usize);
            if let Ok(decoded) = decode(&broken, &slots, seal) {
                assert_eq!(decoded.batch.len(), 20);
                let _ = events(&[decoded.batch]);
            }
        }
    }
}

#[tokio::test]
async fn what_was_not_committed_is_there_after_a_restart() {
    for (lanes, copies) in [(1, 1 << 20), (1, 0), (3, 1 << 20), (3, 0)] {
        let home = tempfile::tempdir().unwrap();
        let first = channel(home.path(), lanes, copies, &settings());
        for from in (0..1_000).step_by(10) {
            first.put(numbered(from, 10)).await.unwrap();
        }
        assert_eq!(first.status().events, 1_000);
        let one = first.take(105).await.unwrap().unwrap();
        let two = first.take(100).await.unwrap().unwrap();
        let mut taken = numbers(one.batches());
        one.commit().await.unwrap();
        taken.extend(numbers(two.batches()));
        drop(two);
        assert_eq!(taken, (0..taken.len() as u64).collect::<Vec<_>>());
        let left = first.status().events;
        drop(first);
        let second = channel(home.path(), lanes, copies, &settings());
        assert_eq!(second.status().events, left, "{lanes} directories, {copies} bytes of copies");
        assert_eq!(waiting(&second).await, (1_000 - left..1_000).collect::<Vec<_>>());
        second.put(numbered(1_000, 5)).await.unwrap();
        assert_eq!(waiting(&second).await, (1_000 - left..1_005).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn used_at_random_it_loses_nothing_and_keeps_the_order() {
    for seed in 0..12 {
        let home = tempfile::tempdir().unwrap();
        let mut random = Random(seed);
        let (lanes, copies) = (1 + random.below(3) as usize, random.below(2) * 300);
        let mut settings = Settings { segment: 2_000, ..settings() };
        settings.compress =
            [Compression::None, Compression::Lz4, Compression::Zstd][random.below(3) as usize];
        let mut driver = Driver::new(seed);
        for _ in 0..4 {
            driver.use_it(channel(home.path(), lanes, copies, &settings), 200).await;
        }
        driver.empty(channel(home.path(), lanes, copies, &settings)).await;
        assert_eq!(driver.lost_acknowledged, [0u64; 0], "seed {seed}");
        assert!(driver.acknowledged() > 0);
    }
}

#[tokio::test]
async fn segments_that_were_read_are_deleted() {
    let home = tempfile::tempdir().unwrap();
    let settings = Settings { segment: 1_000, ..settings() };
    let files = || fs::read_dir(home.path().join("dir0/log")).unwrap().count();
    let first = channel(home.path(), 1, 0, &settings);
    for from in (0..1_000).step_by(10) {
        first.put(numbered(from, 10)).await.unwrap();
    }
    assert!(files() > 10);
    first.take(990).await.unwrap().unwrap().commit().await.unwrap();
    while first.status().events > 10 {
        first.take(10).await.unwrap().unwrap().commit().await.unwrap();
    }
    first.abandon();
    assert!(files() < 10, "{} files are left", files());
    drop(first);
    let second = channel(home.path(), 1, 0, &settings);
    assert_eq!(waiting(&second).await, (990..1_000).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_full_channel_holds_its_puts_back_in_their_order() {
    let home = tempfile::tempdir().unwrap();
    let limits = Limits { events_max: 10, ..limits(1 << 20) };
    let channel = open(&dirs(home.path(), 1), &settings(), limits, &context(home.path())).unwrap();
    channel.put(numbered(0, 8)).await.unwrap();
    let puts: Vec<_> = [(8, 5), (13, 1), (14, 2)]
        .into_iter()
        .map(|(from, count)| {
            let channel = channel.clone();
            tokio::spawn(async move { channel.put(numbered(from, count)).await })
        })
        .collect();
    tokio::task::yield_now().await;
    channel.filled(1_000).await;
    assert!(channel.try_put(numbered(100, 1)).is_err());
    let mut seen = Vec::new();
    while seen.len() < 16 {
        let transaction = channel.take(3).await.unwrap().unwrap();
        seen.extend(numbers(transaction.batches()));
        transaction.commit().await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(seen, (0..16).collect::<Vec<_>>());
    for put in puts {
        put.await.unwrap().unwrap();
    }
    // Larger than the channel: taken when it is empty.
    channel.put(numbered(0, 100)).await.unwrap();
    channel.close();
    assert!(channel.put(numbered(0, 1)).await.is_err());
    while let Some(transaction) = channel.take(100).await.unwrap() {
        transaction.commit().await.unwrap();
    }
}

#[tokio::test]
async fn too_little_free_space_is_a_full_channel() {
    let home = tempfile::tempdir().unwrap();
    let settings = Settings { min_free: u64::MAX >> 1, ..settings() };
    let channel = channel(home.path(), 2, 0, &settings);
    let rejected = channel.try_put(numbered(0, 1)).unwrap_err();
    assert!(!rejected.closed);
    assert_eq!(channel.status().bytes_max, 0);
}

#[tokio::test]
async fn a_directory_belongs_to_one_channel() {
    let home = tempfile::tempdir().unwrap();
    let first = channel(home.path(), 2, 0, &settings());
    let fault = try_channel(home.path(), 1, 0, &settings()).err().unwrap();
    assert_eq!((fault.code, fault.setting), (Some("F0811"), Some("dirs")));
    assert!(fault.message.contains(&format!("pid {}", std::process::id())), "{fault}");
    drop(first);
    channel(home.path(), 1, 0, &settings());
}

#[tokio::test]
async fn a_newer_format_is_refused_and_left_alone() {
    let home = tempfile::tempdir().unwrap();
    drop(channel(home.path(), 1, 0, &settings()));
    let path = home.path().join("dir0/channel.json");
    let newer = r#"{"version":99,"shape":"unknown"}"#;
    fs::write(&path, newer).unwrap();
    let fault = try_channel(home.path(), 1, 0, &settings()).err().unwrap();
    assert_eq!(fault.code, Some("F0813"));
    assert_eq!(fs::read_to_string(&path).unwrap(), newer);
}

#[tokio::test]
async fn an_encrypted_directory_opens_with_its_key_only() {
    let home = tempfile::tempdir().unwrap();
    let with = |secret: Option<&str>| Settings { secret: secret.map(str::to_owned), ..settings() };
    let plain = channel(home.path(), 1, 0, &with(None));
    plain.put(numbered(0, 5)).await.unwrap();
    drop(plain);
    let sealed = channel(home.path(), 1, 0, &with(Some("one")));
    sealed.put(numbered(5, 5)).await.unwrap();
    assert_eq!(waiting(&sealed).await, (0..10).collect::<Vec<_>>());
    drop(sealed);
    let wrong = try_channel(home.path(), 1, 0, &with(Some("two"))).err().unwrap();
    assert_eq!(wrong.setting, Some("key"));
    assert!(try_channel(home.path(), 1, 0, &with(None)).err().unwrap().message.contains("encrypted"));
    let right = channel(home.path(), 1, 0, &with(Some("one")));
    assert_eq!(waiting(&right).await, (0..10).collect::<Vec<_>>());
}

/// A log that lost its end must not grow into what the old position calls read.
#[tokio::test]
async fn a_position_behind_the_end_of_the_log_is_taken_back() {
    let home = tempfile::tempdir().unwrap();
    let first = channel(home.path(), 1, 0, &settings());
    first.put(numbered(0, 100)).await.unwrap();
    first.take(100).await.unwrap().unwrap().commit().await.unwrap();
    drop(first);
    fs::remove_dir_all(home.path().join("dir0/log")).unwrap();
    let second = channel(home.path(), 1, 0, &settings());
    assert_eq!(second.status().events, 0);
    second.put(numbered(0, 10)).await.unwrap();
    drop(second);
    let third = channel(home.path(), 1, 0, &settings());
    assert_eq!(waiting(&third).await, (0..10).collect::<Vec<_>>());
}

#[tokio::test]
async fn interval_and_commit_acknowledge_when_the_disk_has_it() {
    for sync in [Sync::Commit, Sync::Interval(Duration::from_millis(1)), Sync::Never] {
        let home = tempfile::tempdir().unwrap();
        let channel = channel(home.path(), 2, 0, &Settings { sync, ..settings() });
        let mut receipts = Vec::new();
        for from in 0..20 {
            let (ack, receipt) = flow_agent::receipt();
            let mut batch = numbered(from, 1);
            batch.ack = ack;
            channel.put(batch).await.unwrap();
            receipts.push(receipt);
        }
        for receipt in receipts {
            assert_eq!(receipt.await.unwrap(), flow_plan::Outcome::Delivered, "{sync:?}");
        }
    }
}
