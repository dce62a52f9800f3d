//! The log store by itself, with the consensus library's own tests of stores.

use std::path::Path;

use openraft::storage::RaftLogStorage;
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::{EntryPayload, RaftLogReader, StorageError};
use tokio::sync::watch;

use super::super::flush::TaskFlusher;
use super::super::hard::Hard;
use super::super::machine::{Machine, Shared};
use super::super::outbox::Outbox;
use super::super::snapshot::Snapshots;
use super::super::store::Store;
use super::super::types::{Data, RaftEntry, Types, log_id};
use super::*;
use crate::state::{Limits, Origin};

fn open(storage: &SimStorage) -> Store {
    let dir = Path::new("/data");
    let hard = Hard::load(storage, dir).unwrap().unwrap_or_default();
    Store::open(Arc::new(storage.clone()), dir, Arc::new(TaskFlusher), false, hard).unwrap()
}

struct Stores(AtomicU64);

impl StoreBuilder<Types, Store, Machine> for Stores {
    async fn build(&self) -> Result<((), Store, Machine), StorageError<Types>> {
        let storage = SimStorage::new(self.0.fetch_add(1, Ordering::Relaxed));
        let store = open(&storage);
        let snapshots = Snapshots::open(Arc::new(storage), Path::new("/data"), 2, Limits::default()).unwrap();
        let shared = Shared {
            copy: std::sync::RwLock::new(Machine::copy(State::new(), None)),
            observer: Arc::new(Counts::default()),
            outbox: Outbox::new(Origin { server: 1, incarnation: 1 }),
            applied: watch::channel(0).0,
            expiry: Mutex::new(None),
            started: tokio::time::Instant::now(),
            snapshots,
            current: Mutex::new(None),
            since_snapshot: AtomicU64::new(0),
            threads: false,
        };
        Ok(((), store, Machine { shared: Arc::new(shared) }))
    }
}

#[tokio::test(start_paused = true)]
async fn it_passes_the_librarys_tests_of_stores() {
    Suite::test_all(Stores(AtomicU64::new(0))).await.unwrap();
}

fn entry(term: u64, index: u64) -> RaftEntry {
    let data = Data::new(0, format!("entry {index} of term {term}").as_bytes(), None);
    RaftEntry { log_id: log_id(term, index), payload: EntryPayload::Normal(data) }
}

async fn append(store: &Store, entries: Vec<RaftEntry>) {
    let (done, synced) = tokio::sync::oneshot::channel();
    store.append_entries(entries, move |result| done.send(result.is_ok()).unwrap()).unwrap();
    assert!(synced.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn what_was_synced_is_there_after_the_power_went() {
    for seed in 0..20 {
        let storage = SimStorage::new(seed);
        let store = open(&storage);
        append(&store, (0..40).map(|index| entry(1, index)).collect()).await;
        // Not called back: it may be there or not, but nothing after a gap.
        store.append_entries((40..60).map(|index| entry(2, index)), |_| ()).unwrap();
        storage.crash();
        let mut store = open(&storage);
        let last = store.last_log_id().unwrap().index;
        assert!((39..60).contains(&last));
        let found = store.try_get_log_entries(0..100).await.unwrap();
        let expected: Vec<RaftEntry> =
            (0..=last).map(|index| entry(if index < 40 { 1 } else { 2 }, index)).collect();
        assert_eq!(found, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_goes_on_after_a_snapshot_that_leaps_ahead_of_it() {
    let storage = SimStorage::new(9);
    let mut store = open(&storage);
    append(&store, (0..10).map(|index| entry(1, index)).collect()).await;
    store.purge(log_id(4, 500)).await.unwrap();
    assert_eq!(store.last_log_id(), Some(log_id(4, 500)));
    append(&store, vec![entry(4, 501), entry(5, 502)]).await;
    for _ in 0..2 {
        storage.crash();
        store = open(&storage);
        assert_eq!(store.first_index(), 501);
        assert_eq!(store.try_get_log_entries(0..1000).await.unwrap(), [entry(4, 501), entry(5, 502)]);
        assert_eq!(store.get_log_state().await.unwrap().last_purged_log_id, Some(log_id(4, 500)));
    }
}

/// What was given up was noted first, so a crash in between leaves no gap that is taken for entries.
#[tokio::test(start_paused = true)]
async fn giving_up_survives_a_crash_at_every_step() {
    for changes in 0..40 {
        let storage = SimStorage::new(changes);
        let mut store = open(&storage);
        append(&store, (0..10).map(|index| entry(1, index)).collect()).await;
        storage.fail_after(changes);
        let upto = if changes % 2 == 0 { log_id(1, 5) } else { log_id(3, 50) };
        let purged = store.purge(upto).await;
        storage.crash();
        let mut store = open(&storage);
        let state = store.get_log_state().await.unwrap();
        let found = store.try_get_log_entries(0..1000).await.unwrap();
        match state.last_purged_log_id {
            Some(found) => assert_eq!(found, upto),
            None => assert!(purged.is_err()),
        }
        let first = state.last_purged_log_id.map_or(0, |purged| purged.index + 1);
        let expected: Vec<RaftEntry> = (first..10).map(|index| entry(1, index)).collect();
        assert_eq!(found, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_cut_end_stays_cut() {
    let storage = SimStorage::new(2);
    let mut store = open(&storage);
    append(&store, (0..10).map(|index| entry(1, index)).collect()).await;
    store.append_entries((10..15).map(|index| entry(1, index)), |synced| assert!(synced.is_ok())).unwrap();
    store.truncate_after(Some(log_id(1, 4))).await.unwrap();
    append(&store, vec![entry(2, 5)]).await;
    storage.crash();
    let mut store = open(&storage);
    let found = store.try_get_log_entries(3..).await.unwrap();
    assert_eq!(found, [entry(1, 3), entry(1, 4), entry(2, 5)]);
}

#[tokio::test(start_paused = true)]
async fn entries_that_left_memory_are_read_from_the_disk() {
    let storage = SimStorage::new(2);
    let mut store = open(&storage);
    let large = |index| RaftEntry {
        log_id: log_id(1, index),
        payload: EntryPayload::Normal(Data::new(0, &vec![index as u8; 300_000], None)),
    };
    for index in 0..80 {
        append(&store, vec![large(index)]).await;
    }
    let all = store.try_get_log_entries(0..80).await.unwrap();
    assert!(all.iter().enumerate().all(|(at, entry)| *entry == large(at as u64)) && all.len() == 80);
    let some = store.limited_get_log_entries(1, 80).await.unwrap();
    assert!((1..80).contains(&some.len()) && some[0] == large(1));
    assert_eq!(store.limited_get_log_entries(79, 80).await.unwrap(), [large(79)]);
}

/// A bit that flips in what was synced is not taken for a torn end, however often it is tried.
#[tokio::test(start_paused = true)]
async fn a_log_that_lost_what_it_promised_is_refused() {
    let storage = SimStorage::new(3);
    let store = open(&storage);
    for index in 0..20 {
        append(&store, vec![entry(1, index)]).await;
    }
    drop(store);
    storage.crash();
    let path = storage.paths().into_iter().find(|path| path.to_string_lossy().ends_with(".log")).unwrap();
    storage.flip_bit(&path, 8 * 700);
    for _ in 0..2 {
        let dir = Path::new("/data");
        let hard = Hard::load(&storage, dir).unwrap().unwrap();
        let opened = Store::open(Arc::new(storage.clone()), dir, Arc::new(TaskFlusher), false, hard);
        assert!(opened.is_err_and(|error| error.to_string().contains("were synced, and are broken")));
    }
}
