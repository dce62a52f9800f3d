//! The store on a disk that breaks: full, failing to sync, or forgetting at a crash what was not synced.

use std::collections::BTreeMap;
use std::sync::mpsc;

use flow_log::testing::{Rng, SimStorage};

use super::*;

fn open(disk: &SimStorage) -> Result<Store, StartError> {
    Store::open_on(Arc::new(disk.clone()), &BrokerConfig::new("/data"))
}

/// Waits for the disk as `acks=all` does.
fn commit(partition: &Partition, offset: i64) -> Result<(), LogError> {
    let (send, receive) = mpsc::channel();
    partition.when_committed(offset, Box::new(move |result| send.send(result).unwrap()));
    receive.recv().unwrap()
}

#[test]
fn a_full_disk_refuses_and_heals_without_a_restart() {
    let disk = SimStorage::new(1);
    let store = open(&disk).unwrap();
    let partition = store.create_topic(&new_topic("a", 1, &[])).unwrap().partition(0).unwrap();
    partition.append(&idempotent(1, 0, &["first"]), Origin::Client).unwrap();
    disk.set_space(Some(10));
    let second = idempotent(1, 1, &["second"]);
    for _ in 0..3 {
        assert_eq!(code(partition.append(&second, Origin::Client)), ResponseError::KafkaStorageError);
    }
    let refused = store.create_topic(&new_topic("b", 1, &[])).err().unwrap();
    assert_eq!(refused.code(), ResponseError::KafkaStorageError);
    assert!(store.topic("b").is_none());
    assert_eq!(values(&partition, 0), ["first"]);
    assert_eq!(partition.offsets().high_watermark, 1);
    disk.set_space(None);
    assert_eq!(partition.append(&second, Origin::Client).unwrap().base_offset, 1);
    commit(&partition, 2).unwrap();
    store.create_topic(&new_topic("b", 1, &[])).unwrap();
    assert_eq!(values(&partition, 0), ["first", "second"]);
}

/// After a failed sync nobody knows what is on the disk: nothing more is promised, and readers go on.
#[test]
fn a_failed_sync_stops_writes_and_not_reads() {
    let disk = SimStorage::new(2);
    let store = open(&disk).unwrap();
    let partition = store.create_topic(&new_topic("a", 1, &[])).unwrap().partition(0).unwrap();
    partition.append(&batch_of(&["x"]), Origin::Client).unwrap();
    disk.fail_sync_after(0);
    assert!(commit(&partition, 1).is_err());
    assert_eq!(code(partition.append(&batch_of(&["y"]), Origin::Client)), ResponseError::KafkaStorageError);
    assert!(commit(&partition, 1).is_err(), "not retried as if nothing had happened");
    assert_eq!(partition.offsets().high_watermark, 1);
}

/// What the test knows of a topic.
#[derive(Default)]
struct Known {
    id: Option<uuid::Uuid>,
    /// Sequences appended and, of them, how many the disk promised to have.
    appended: i32,
    committed: i32,
    /// An operation failed half way: the topic may be there or not.
    uncertain: bool,
}

/// Random work with a crash or a kill at a random step: what was promised is there, in order and once, and a producer
/// that repeats its unanswered batches loses and doubles nothing.
#[test]
fn crashes_lose_nothing_that_was_promised_and_double_nothing() {
    for seed in 0..150 {
        crash_story(seed);
    }
}

fn crash_story(seed: u64) {
    let mut rng = Rng::new(seed);
    let disk = SimStorage::new(seed);
    let mut known: BTreeMap<String, Known> = BTreeMap::new();
    for round in 0..4 {
        let store = open(&disk).unwrap_or_else(|error| panic!("seed {seed}, round {round}: {error}"));
        check_promises(&store, &mut known, seed);
        disk.fail_after(rng.below(400));
        for _ in 0..rng.below(60) {
            if !work(&store, &mut known, &mut rng) {
                break;
            }
        }
        if rng.once_in(3) {
            close(&store.catalog);
        }
        // The committer's threads end with the store, so that nothing touches the disk after the crash.
        drop(store);
        if rng.once_in(2) { disk.crash() } else { disk.kill() }
    }
    let store = open(&disk).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    check_promises(&store, &mut known, seed);
}

/// Does one thing; false when the disk failed.
fn work(store: &Store, known: &mut BTreeMap<String, Known>, rng: &mut Rng) -> bool {
    let name = ["a", "b", "c"][rng.below(3) as usize].to_owned();
    let state = known.entry(name.clone()).or_default();
    let Some(topic) = store.topic(&name) else {
        return match store.create_topic(&new_topic(&name, 1, &[("segment.bytes", "1000")])) {
            Ok(topic) => {
                *state = Known { id: Some(topic.id), ..Known::default() };
                true
            }
            Err(_) => {
                *state = Known { uncertain: true, ..Known::default() };
                false
            }
        };
    };
    let partition = topic.partition(0).unwrap();
    match rng.below(12) {
        0 => match store.delete_topic(&name) {
            Ok(_) => {
                *state = Known::default();
                true
            }
            Err(_) => {
                state.uncertain = true;
                false
            }
        },
        1 => partition.checkpoint().is_ok(),
        2..=4 => {
            let end = partition.offsets().high_watermark;
            let done = commit(&partition, end).is_ok();
            if done {
                state.committed = state.appended;
            }
            done
        }
        _ => {
            let sequence = state.appended;
            let appended =
                partition.append(&idempotent(7, sequence, &[&sequence.to_string()]), Origin::Client);
            if appended.is_ok() {
                state.appended += 1;
            }
            appended.is_ok()
        }
    }
}

fn check_promises(store: &Store, known: &mut BTreeMap<String, Known>, seed: u64) {
    for (name, state) in known {
        let topic = store.topic(name);
        if state.uncertain && topic.is_none() {
            *state = Known::default();
            continue;
        }
        assert!(
            state.uncertain || topic.as_ref().map(|topic| topic.id) == state.id,
            "seed {seed}: topic `{name}`"
        );
        let Some(topic) = topic else { continue };
        (state.id, state.uncertain) = (Some(topic.id), false);
        let partition = topic.partition(0).unwrap();
        let found = all_values(&partition);
        let expected: Vec<String> = (0..found.len()).map(|sequence| sequence.to_string()).collect();
        assert_eq!(found, expected, "seed {seed}: topic `{name}`");
        assert!(
            found.len() >= state.committed as usize,
            "seed {seed}: topic `{name}` lost what was promised"
        );
        // The producer does not know how much of the rest arrived, and repeats from the last promise on.
        let there = found.len() as i32;
        for sequence in state.committed.max(there - 5)..there {
            let again = partition.append(&idempotent(7, sequence, &[&sequence.to_string()]), Origin::Client);
            assert_eq!(again.unwrap().base_offset, i64::from(sequence), "seed {seed}: topic `{name}`");
        }
        assert_eq!(
            partition.offsets().high_watermark,
            i64::from(there),
            "seed {seed}: a repeat was appended"
        );
        (state.appended, state.committed) = (there, there.min(state.committed));
    }
}
