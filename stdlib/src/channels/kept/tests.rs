//! Memory first, then the store: `spill`.

use std::sync::Arc;
use std::time::Duration;

use flow_agent::{Channel, Context, receipt};
use flow_log::Compression;
use flow_plan::Outcome;

use super::{Limits, Memory};
use crate::channels::file::{self, Settings, Sync};
use crate::channels::testing::{numbered, numbers, slots};

fn spill(home: &std::path::Path, memory: u64, disk: u64) -> Arc<dyn Channel> {
    let settings = Settings {
        sync: Sync::Commit,
        segment: 1 << 20,
        min_free: 0,
        checkpoint: Duration::from_secs(30),
        compress: Compression::None,
        secret: None,
    };
    let limits = Limits {
        events_max: disk,
        bytes_max: u64::MAX,
        take_events_max: 1_000,
        memory: Memory::First { events_max: memory, bytes_max: 1 << 20 },
    };
    let context = Context {
        name: "buf".to_owned(),
        agent: "main".to_owned(),
        state_dir: home.join("state"),
        slots: slots(),
        functions: crate::registry().functions,
        secrets: Arc::default(),
        services: Default::default(),
        host: "localhost".to_owned(),
    };
    file::open(&[home.join("dir")], &settings, limits, &context).unwrap()
}

#[tokio::test]
async fn memory_and_disk_are_one_line() {
    let home = tempfile::tempdir().unwrap();
    let channel = spill(home.path(), 10, 1_000);
    let mut next = 0;
    let mut seen = Vec::new();
    // More comes than goes, then more goes than comes, twice: the line leaves memory and comes back to it.
    for (put, take) in [(30, 10), (0, 25), (40, 20), (3, 60)] {
        for _ in 0..put {
            channel.put(numbered(next, 2)).await.unwrap();
            next += 2;
        }
        for _ in 0..take {
            if channel.status().events == 0 {
                break;
            }
            let transaction = channel.take(3).await.unwrap().unwrap();
            seen.extend(numbers(transaction.batches()));
            transaction.commit().await.unwrap();
        }
    }
    channel.close();
    while let Some(transaction) = channel.take(7).await.unwrap() {
        seen.extend(numbers(transaction.batches()));
        transaction.commit().await.unwrap();
    }
    assert_eq!(seen, (0..next).collect::<Vec<_>>());
}

#[tokio::test]
async fn memory_keeps_the_acknowledgement_and_the_disk_gives_it() {
    let home = tempfile::tempdir().unwrap();
    let channel = spill(home.path(), 10, 1_000);
    let put = async |from, count| {
        let (ack, receipt) = receipt();
        let mut batch = numbered(from, count);
        batch.ack = ack;
        channel.put(batch).await.unwrap();
        [receipt]
    };
    let [mut volatile] = put(0, 10).await;
    let [durable] = put(10, 10).await;
    assert_eq!(durable.await.unwrap(), Outcome::Delivered);
    assert!(volatile.try_recv().is_err());
    let transaction = channel.take(10).await.unwrap().unwrap();
    drop(transaction);
    assert!(volatile.try_recv().is_err());
    let transaction = channel.take(10).await.unwrap().unwrap();
    assert_eq!(numbers(transaction.batches()), (0..10).collect::<Vec<_>>());
    transaction.commit().await.unwrap();
    assert_eq!(volatile.await.unwrap(), Outcome::Delivered);

    let [lost] = put(20, 5).await;
    assert_eq!(channel.status().events, 15);
    channel.abandon();
    assert_eq!(lost.await.unwrap(), Outcome::Lost);
    assert!(channel.take(10).await.unwrap().is_none());
    drop(channel);
    let channel = spill(home.path(), 10, 1_000);
    let transaction = channel.take(100).await.unwrap().unwrap();
    assert_eq!(numbers(transaction.batches()), (10..20).collect::<Vec<_>>());
}
