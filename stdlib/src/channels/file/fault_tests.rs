//! The file channel over a disk that breaks: syncs that fail, no space, short writes, processes that end and machines
//! that crash in the middle of anything. What was acknowledged is there afterwards, in order.
//!
//! `FLOW_SEED=n cargo test -p flow-stdlib fault_tests` runs one seed (the threads of the channel make it nearly the same
//! run, not quite), `FLOW_SEEDS=1000` that many.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use flow_agent::Channel;
use flow_log::Compression;
use flow_log::testing::SimStorage;

use super::*;
use crate::channels::testing::{Driver, Random, numbered, slots};

/// Seeds of each test in the short form.
const SEEDS: u64 = 40;

fn seeds() -> Vec<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    match number("FLOW_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("FLOW_SEEDS").unwrap_or(SEEDS)).collect(),
    }
}

/// A channel over the simulated disk, small enough to roll, spill and fill.
fn open_on(disk: &SimStorage, random: &mut Random, lanes: usize) -> Result<Arc<dyn Channel>, Fault> {
    let checkpoint = Duration::from_millis(1 + random.below(5));
    open_with(disk, random, lanes, checkpoint)
}

/// The same, but nothing is synced that was not put.
fn open_calm(disk: &SimStorage, lanes: usize) -> Arc<dyn Channel> {
    open_with(disk, &mut Random(1), lanes, Duration::from_secs(3_600)).unwrap()
}

fn open_with(
    disk: &SimStorage,
    random: &mut Random,
    lanes: usize,
    checkpoint: Duration,
) -> Result<Arc<dyn Channel>, Fault> {
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    let dirs: Vec<PathBuf> = (0..lanes).map(|number| PathBuf::from(format!("/disk{number}"))).collect();
    let syncs = [Sync::Commit, Sync::Interval(Duration::from_millis(1))];
    let settings = Settings {
        sync: syncs[random.below(2) as usize],
        segment: 500 + random.below(4_000),
        min_free: 0,
        checkpoint,
        compress: [Compression::None, Compression::Lz4][random.below(2) as usize],
        secret: None,
    };
    let limits = Limits {
        events_max: 2_000,
        bytes_max: u64::MAX,
        take_events_max: 1_000,
        memory: Memory::Copies { bytes_max: random.below(3) * 200 },
    };
    let room: Room = Arc::new(Notify::new());
    let (store, found) = FileStore::open(&storage, &dirs, &settings, slots(), room.clone())?;
    Ok(Arc::new(Queue::new(store, found, limits, room)))
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_crash_of_the_machine() {
    let mut acknowledged = 0;
    for seed in seeds() {
        let disk = SimStorage::new(seed);
        let mut random = Random(seed);
        let lanes = 1 + random.below(3) as usize;
        let mut driver = Driver::new(seed);
        for _ in 0..4 {
            disk.write_short(random.below(2) == 0);
            let channel = open_on(&disk, &mut random, lanes)
                .unwrap_or_else(|fault| panic!("seed {seed}: it does not open: {fault}"));
            match random.below(5) {
                0 => disk.fail_after(random.below(200)),
                1 => disk.fail_sync_after(random.below(20)),
                2 => disk.set_space(Some(random.below(20_000))),
                _ => {}
            }
            driver.use_it(channel.clone(), 120).await;
            if random.below(4) == 0 {
                disk.set_space(None);
                driver.use_it(channel.clone(), 40).await;
            }
            // The channel ends before the disk, after it, or neither has a chance.
            match random.below(3) {
                0 => {
                    drop(channel);
                    driver.stop_listening();
                    disk.crash();
                }
                1 => {
                    driver.stop_listening();
                    disk.crash();
                    drop(channel);
                }
                _ => {
                    driver.stop_listening();
                    disk.kill();
                    drop(channel);
                }
            }
            disk.set_space(None);
        }
        let channel = open_on(&disk, &mut random, lanes).unwrap();
        driver.empty(channel).await;
        assert_eq!(driver.lost_acknowledged, [0u64; 0], "seed {seed}: acknowledged events are gone");
        acknowledged += driver.acknowledged();
    }
    assert!(acknowledged > 0 || seeds().len() == 1, "nothing was ever acknowledged");
}

#[tokio::test]
async fn a_killed_process_repeats_nothing_that_was_committed_in_order() {
    for seed in seeds() {
        let disk = SimStorage::new(seed);
        let mut random = Random(seed);
        let lanes = 1 + random.below(3) as usize;
        let mut driver = Driver::new(seed);
        driver.in_order = true;
        for _ in 0..4 {
            let channel = open_on(&disk, &mut random, lanes).unwrap();
            driver.use_it(channel.clone(), 80).await;
            disk.kill();
            drop(channel);
        }
        driver.empty(open_on(&disk, &mut random, lanes).unwrap()).await;
        assert_eq!(driver.lost_acknowledged, [0u64; 0], "seed {seed}: acknowledged events are gone");
        assert_eq!(driver.repeated, 0, "seed {seed}: committed events came again");
    }
}

#[tokio::test]
async fn a_failed_sync_is_heard_and_what_is_there_can_still_be_taken() {
    let disk = SimStorage::new(1);
    let channel = open_calm(&disk, 1);
    let put = async |number| {
        let (ack, receipt) = flow_agent::receipt();
        let mut batch = numbered(number, 1);
        batch.ack = ack;
        (channel.put(batch).await, [receipt])
    };
    let (taken, [receipt]) = put(0).await;
    taken.unwrap();
    assert_eq!(receipt.await.unwrap(), flow_plan::Outcome::Delivered);
    disk.fail_sync_after(0);
    let (taken, [receipt]) = put(1).await;
    taken.unwrap();
    assert_eq!(receipt.await.unwrap(), flow_plan::Outcome::Lost);
    let (refused, [receipt]) = put(2).await;
    let error = refused.unwrap_err();
    assert!(error.to_string().contains("takes no more"), "{error}");
    assert_eq!(receipt.await.unwrap(), flow_plan::Outcome::Lost);
    let transaction = channel.take(10).await.unwrap().unwrap();
    assert!(!transaction.batches().is_empty());
    transaction.commit().await.unwrap();
}

#[tokio::test]
async fn one_directory_that_fails_leaves_the_others() {
    let disk = SimStorage::new(1);
    let channel = open_calm(&disk, 3);
    disk.fail_sync_after(0);
    let mut lost = 0;
    for number in 0..30 {
        let (ack, receipt) = flow_agent::receipt();
        let mut batch = numbered(number, 1);
        batch.ack = ack;
        channel.put(batch).await.unwrap();
        lost += u64::from(receipt.await.unwrap() == flow_plan::Outcome::Lost);
    }
    assert_eq!(lost, 1, "the others take what the failed one does not");
}

/// A full disk is a full channel; space heals it without a restart.
#[tokio::test]
async fn space_heals_a_full_disk() {
    let disk = SimStorage::new(1);
    let channel = open_calm(&disk, 1);
    disk.set_space(Some(10));
    let rejected = channel.try_put(numbered(0, 1)).unwrap_err();
    assert!(!rejected.closed);
    let waiting = {
        let channel = channel.clone();
        tokio::spawn(async move { channel.put(numbered(0, 1)).await })
    };
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    disk.set_space(None);
    waiting.await.unwrap().unwrap();
    assert_eq!(channel.status().events, 1);
}

/// A flipped bit is told; what stands before it and in later segments is given, and nothing is thrown away unseen.
#[tokio::test]
async fn a_damaged_piece_is_told_and_the_rest_is_given() {
    for seed in seeds() {
        let disk = SimStorage::new(seed);
        let mut random = Random(seed);
        let channel = open_on(&disk, &mut random, 1).unwrap();
        for number in 0..200 {
            channel.put(numbered(number * 5, 5)).await.unwrap();
        }
        drop(channel);
        let logs: Vec<PathBuf> = disk
            .paths()
            .into_iter()
            .filter(|path| path.extension().is_some_and(|end| end == "log"))
            .collect();
        let path = &logs[random.below(logs.len() as u64) as usize];
        let bits = disk.content(path).unwrap().len() as u64 * 8;
        assert!(bits == 0 || disk.flip_bit(path, random.below(bits)));
        let Ok(channel) = open_on(&disk, &mut random, 1) else { continue };
        channel.close();
        let mut seen = Vec::new();
        let mut told = 0;
        loop {
            match channel.take(50).await {
                Ok(Some(transaction)) => {
                    seen.extend(crate::channels::testing::numbers(transaction.batches()));
                    transaction.commit().await.unwrap();
                }
                Ok(None) => break,
                Err(error) => {
                    told += 1;
                    assert!(told < 10, "seed {seed}: {error}");
                }
            }
        }
        assert!(seen.windows(2).all(|pair| pair[0] < pair[1]), "seed {seed}: {seen:?}");
        assert!(!seen.is_empty() || logs.len() == 1, "seed {seed}: nothing is left");
        let kept = disk.paths().iter().any(|path| path.to_string_lossy().contains("damaged-"));
        assert_eq!(told > 0, kept, "seed {seed}: a copy of what could not be read");
        // What is gone is not waited for: nothing comes again.
        drop(channel);
        let again = open_on(&disk, &mut random, 1).unwrap();
        assert_eq!(again.status().events, 0, "seed {seed}: the position stands before what is gone");
    }
}

/// A flipped bit in the offset of a batch, which its checksum does not cover, made taking overflow, or moved the position
/// far behind the end of the log.
#[tokio::test]
async fn an_offset_that_makes_no_sense_is_damage() {
    for bit in 0..64 {
        let disk = SimStorage::new(bit);
        let channel = open_calm(&disk, 1);
        for number in 0..20 {
            channel.put(numbered(number * 5, 5)).await.unwrap();
        }
        drop(channel);
        let paths = disk.paths();
        let path = paths.iter().find(|path| path.extension().is_some_and(|end| end == "log")).unwrap();
        let bytes = disk.content(path).unwrap();
        // The second batch begins behind the length of the first one, which does not count offset and length.
        let second = 12 + u64::from(u32::from_be_bytes(bytes[8..12].try_into().unwrap()));
        assert!(disk.flip_bit(path, second * 8 + bit));
        let channel = open_calm(&disk, 1);
        channel.close();
        let mut seen = Vec::new();
        let mut told = 0;
        loop {
            match channel.take(50).await {
                Ok(Some(transaction)) => {
                    seen.extend(crate::channels::testing::numbers(transaction.batches()));
                    transaction.commit().await.unwrap();
                }
                Ok(None) => break,
                Err(error) => {
                    told += 1;
                    assert!(told < 10, "bit {bit}: {error}");
                }
            }
        }
        assert!(seen.windows(2).all(|pair| pair[0] < pair[1]), "bit {bit}: {seen:?}");
        assert!(seen.starts_with(&[0, 1, 2, 3, 4]), "bit {bit}: what stands before it is given: {seen:?}");
        drop(channel);
        let again = open_calm(&disk, 1);
        assert_eq!(again.status().events, 0, "bit {bit}: the position stands before what is gone");
        // What comes from now on is not taken for old.
        again.put(numbered(1_000, 5)).await.unwrap();
        again.close();
        let transaction = again.take(50).await.unwrap().unwrap();
        assert_eq!(
            crate::channels::testing::numbers(transaction.batches()),
            [1_000, 1_001, 1_002, 1_003, 1_004]
        );
        transaction.commit().await.unwrap();
    }
}
