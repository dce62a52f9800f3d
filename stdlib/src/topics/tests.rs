//! Topics and readers against a cluster in memory.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use flow_agent::{Channel, Source, SourceError};
use flow_plan::batch::Columns;
use flow_plan::{Ack, Batch, Outcome, Settings, Slot};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::consumer::consumer;
use super::testing::{Collected, Fake, context, stop, until};
use super::topic::topic;

const SLOTS: &[&str] = &["user", "offset", "topic"];

fn topic_settings(change: Value) -> Settings {
    merged(
        json!({
            "partitions": 1, "replication": 1, "min_in_sync": null, "retention": null, "key": null,
            "compact": false, "compress": "none", "segment": 1 << 27, "event_max": 1 << 20,
            "external": false, "cluster": "events",
        }),
        change,
    )
}

fn reader_settings(change: Value) -> Settings {
    merged(
        json!({
            "cluster": "events", "topic": "orders", "group": "g", "once": false, "transactional": false, "from": "saved",
            "workers": 1, "commit": 1_000_000_000_u64, "session": 45_000_000_000_u64, "assign": "sticky",
            "isolation": "read_committed", "batch": 1_000,
        }),
        change,
    )
}

fn merged(settings: Value, change: Value) -> Settings {
    let (Value::Object(mut settings), Value::Object(change)) = (settings, change) else { unreachable!() };
    settings.extend(change);
    settings
}

fn channel(name: &str, fake: &Arc<Fake>, change: Value) -> Arc<dyn Channel> {
    topic(&topic_settings(change), &context(name, SLOTS, fake)).unwrap()
}

fn reader(fake: &Arc<Fake>, change: Value) -> Box<dyn Source> {
    consumer(&reader_settings(change), &context("orders as g", SLOTS, fake)).unwrap()
}

/// Events with a user each, under one acknowledgement.
fn events(bodies: &[(&str, &str)]) -> (Batch, oneshot::Receiver<Outcome>) {
    let mut columns = Columns::default();
    for (index, (body, user)) in bodies.iter().enumerate() {
        let row = columns.push(body.as_bytes(), 1_000 + index as i64).unwrap();
        if !user.is_empty() {
            let slots: Vec<String> = SLOTS.iter().map(|slot| (*slot).to_owned()).collect();
            columns.set_header_named(row, "user", user.as_bytes(), &slots).unwrap();
            columns.set_header_named(row, "x-more", b"1", &slots).unwrap();
        }
    }
    let mut batch = Batch::new(columns);
    let (ack, receipt) = flow_agent::receipt();
    batch.ack = ack;
    (batch, receipt)
}

fn put_in(fake: &Arc<Fake>, bodies: &[&str]) {
    let channel = channel("orders", fake, json!({}));
    let events: Vec<(&str, &str)> = bodies.iter().map(|body| (*body, "")).collect();
    assert!(channel.try_put(events_of(&events)).is_ok());
}

fn events_of(bodies: &[(&str, &str)]) -> Batch {
    let (mut batch, _) = events(bodies);
    std::mem::replace(&mut batch.ack, Ack::none()).done();
    batch
}

#[tokio::test(start_paused = true)]
async fn what_is_put_is_acknowledged_when_it_is_on_the_disk() {
    let fake = Fake::new(1);
    let channel = channel("orders", &fake, json!({}));
    *fake.slow.lock().unwrap() = true;
    let (first, mut receipt) = events(&[("a", ""), ("b", "u")]);
    channel.put(first).await.unwrap();
    until("the first append", || fake.appends.load(Ordering::Relaxed) == 1).await;
    // While the disk is busy, many puts become one append.
    let mut receipts = Vec::new();
    for _ in 0..100 {
        let (batch, receipt) = events(&[("c", "")]);
        channel.put(batch).await.unwrap();
        receipts.push(receipt);
    }
    assert!(receipt.try_recv().is_err());
    assert_eq!(channel.status().events, 102);
    *fake.slow.lock().unwrap() = false;
    fake.wake();
    channel.close();
    channel.settle(&|_| {}).await.unwrap();
    assert_eq!(receipt.await, Ok(Outcome::Delivered));
    for receipt in receipts {
        assert_eq!(receipt.await, Ok(Outcome::Delivered));
    }
    assert_eq!(fake.appends.load(Ordering::Relaxed), 2);
    assert_eq!(fake.bodies(0).len(), 102);
    assert_eq!(channel.status().events, 0);
}

#[tokio::test(start_paused = true)]
async fn events_of_a_key_stay_in_one_partition_in_order() {
    let fake = Fake::new(5);
    let channel = channel("orders", &fake, json!({ "key": { "header": 0 }, "compress": "lz4" }));
    for round in 0..20 {
        let bodies: Vec<(String, String)> =
            (0..10).map(|user| (format!("{user}:{round:02}"), format!("user{user}"))).collect();
        let bodies: Vec<(&str, &str)> = bodies.iter().map(|(body, user)| (&body[..], &user[..])).collect();
        channel.put(events(&bodies).0).await.unwrap();
    }
    channel.close();
    channel.settle(&|_| {}).await.unwrap();
    let mut used = 0;
    let mut seen = 0;
    for partition in 0..5 {
        let bodies = fake.bodies(partition);
        used += usize::from(!bodies.is_empty());
        for user in 0..10 {
            let own: Vec<&String> =
                bodies.iter().filter(|body| body.starts_with(&format!("{user}:"))).collect();
            assert!(own.is_empty() || own.len() == 20, "user {user} is spread");
            assert!(own.is_sorted());
            seen += own.len();
        }
    }
    assert!(used > 1 && seen == 200, "{used} {seen}");
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_is_waited_for_and_told() {
    let fake = Fake::new(1);
    let channel = channel("orders", &fake, json!({}));
    fake.full.store(3, Ordering::Relaxed);
    let (batch, receipt) = events(&[("a", "")]);
    channel.put(batch).await.unwrap();
    let told = std::sync::Mutex::new(Vec::new());
    let warn = |fault: &flow_agent::Fault| told.lock().unwrap().push(fault.message.clone());
    let settled = channel.settle(&warn);
    let closing = async {
        assert_eq!(receipt.await, Ok(Outcome::Delivered));
        channel.close();
    };
    let (settled, ()) = tokio::join!(settled, closing);
    settled.unwrap();
    assert_eq!(fake.bodies(0), ["a"]);
    assert!(told.into_inner().unwrap().contains(&"the disk is full".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn what_never_fits_is_named() {
    let fake = Fake::new(1);
    let small = channel("orders", &fake, json!({ "event_max": 100 }));
    let long = "x".repeat(200);
    let unfit = small.unfit(&events_of(&[("short", ""), (&long, "")]));
    assert_eq!(unfit.len(), 1);
    assert!(unfit[0].0 == 1 && unfit[0].1.contains("the topic takes 100"), "{unfit:?}");
    let compact = channel("orders", &fake, json!({ "compact": true, "key": { "header": 0 } }));
    let unfit = compact.unfit(&events_of(&[("a", "u"), ("b", "")]));
    assert!(unfit.len() == 1 && unfit[0].1.contains("needs a key"), "{unfit:?}");
}

#[tokio::test(start_paused = true)]
async fn events_come_back_as_they_went() {
    for compress in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let fake = Fake::new(1);
        let written = channel("orders", &fake, json!({ "key": { "header": 0 }, "compress": compress }));
        written.put(events(&[("a", "ann"), ("", ""), ("c", "bob")]).0).await.unwrap();
        written.put(events(&[("d", "dan")]).0).await.unwrap();
        let collected = Arc::new(Collected::default());
        let (stopping, stop) = stop();
        let mut source = reader(&fake, json!({}));
        let running = source.run(collected.output(), stop);
        let looking = async {
            until("all are read", || collected.bodies().len() == 4).await;
            let batches = std::mem::take(&mut *collected.batches.lock().unwrap());
            let mut offset = 0;
            for batch in batches {
                for &row in &batch.rows {
                    let header = |name: &str| {
                        let slots: Vec<String> = SLOTS.iter().map(|slot| (*slot).to_owned()).collect();
                        let found = batch.headers(row, &slots).find(|(known, _)| *known == name);
                        found.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
                    };
                    let expected = [("a", "ann"), ("", ""), ("c", "bob"), ("d", "dan")][offset as usize];
                    assert_eq!(batch.body(row), expected.0.as_bytes(), "{compress}");
                    assert_eq!(header("user").unwrap_or_default(), expected.1);
                    assert_eq!(header("x-more").is_some(), !expected.1.is_empty());
                    assert_eq!(header("topic").as_deref(), Some("orders"));
                    assert_eq!(header("offset"), Some(offset.to_string()));
                    assert_eq!(batch.columns.event_id(row), offset);
                    assert_eq!(batch.time_ms(row), if offset == 3 { 1_000 } else { 1_000 + offset as i64 });
                    assert!(batch.header(row, Slot(1)).is_some());
                    offset += 1;
                }
                batch.ack.done();
            }
            stopping.send_replace(true);
        };
        let (ended, ()) = tokio::join!(running, looking);
        ended.unwrap();
        assert_eq!(fake.positions()[&0], 4, "{compress}");
    }
}

#[tokio::test(start_paused = true)]
async fn only_what_is_delivered_moves_the_position() {
    let fake = Fake::new(1);
    for body in ["a", "b", "c"] {
        put_in(&fake, &[body]);
        until("it is there", || fake.bodies(0).contains(&body.to_owned())).await;
    }
    let collected = Arc::new(Collected::default());
    let (stopping, stop) = stop();
    let mut source = reader(&fake, json!({}));
    let running = source.run(collected.output(), stop);
    let looking = async {
        until("all are read", || collected.bodies().len() == 3).await;
        tokio::time::sleep(std::time::Duration::from_secs(5)).await;
        // Where it began is written down; nothing of what is on its way.
        assert_eq!(fake.positions()[&0], 0);
        for batch in std::mem::take(&mut *collected.batches.lock().unwrap()) {
            batch.ack.done();
        }
        tokio::time::sleep(std::time::Duration::from_secs(5)).await;
        assert_eq!(fake.positions()[&0], 3);
        stopping.send_replace(true);
    };
    let (ended, ()) = tokio::join!(running, looking);
    ended.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_lost_is_read_again() {
    let fake = Fake::new(1);
    put_in(&fake, &["a", "b"]);
    let collected = Arc::new(Collected::default());
    let (_stopping, stop) = stop();
    let mut source = reader(&fake, json!({}));
    let running = source.run(collected.output(), stop.clone());
    let losing = async {
        until("all are read", || collected.bodies().len() == 2).await;
        collected.batches.lock().unwrap().clear();
    };
    let (ended, ()) = tokio::join!(running, losing);
    assert!(matches!(ended, Err(SourceError::Retry(_))), "{ended:?}");
    let again = Arc::new(Collected { deliver: true, ..Collected::default() });
    let mut source = reader(&fake, json!({}));
    tokio::select! {
        _ = source.run(again.output(), stop) => unreachable!("nobody stops it"),
        () = until("it is written down", || fake.positions().get(&0) == Some(&2)) => {}
    }
    assert_eq!(again.bodies(), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn workers_share_the_partitions() {
    let fake = Fake::new(4);
    for partition in 0..4 {
        let mut columns = Columns::default();
        columns.push(format!("{partition}").as_bytes(), 5).unwrap();
        let batch = Batch::new(columns);
        let mut builder = super::encode::builder(super::encode::Compress::None);
        super::encode::Rows::new(&batch, &[]).push(&mut builder, 0, None);
        fake.lock().append(partition, &builder.finish());
    }
    let collected = Arc::new(Collected { deliver: true, ..Collected::default() });
    let (stopping, stop) = stop();
    let mut source = reader(&fake, json!({ "workers": 3 }));
    let running = source.run(collected.output(), stop);
    let looking = async {
        let read = |body: &str| collected.bodies().iter().any(|known| known == body);
        until("all are read", || ["0", "1", "2", "3"].into_iter().all(read)).await;
        until("all is written down", || (0..4).all(|partition| fake.positions().get(&partition) == Some(&1)))
            .await;
        stopping.send_replace(true);
    };
    let (ended, ()) = tokio::join!(running, looking);
    ended.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_was_deleted_unread_is_told() {
    let fake = Fake::new(1);
    put_in(&fake, &["a"]);
    until("the first is there", || fake.bodies(0).len() == 1).await;
    put_in(&fake, &["b"]);
    until("both are there", || fake.bodies(0).len() == 2).await;
    {
        let mut state = fake.lock();
        state.positions.insert(0, 0);
        state.partitions[0].start = 1;
        state.partitions[0].batches.remove(0);
    }
    let collected = Arc::new(Collected { deliver: true, ..Collected::default() });
    let (_stopping, stop) = stop();
    let mut source = reader(&fake, json!({}));
    tokio::select! {
        _ = source.run(collected.output(), stop) => unreachable!("nobody stops it"),
        () = until("the rest is read", || collected.bodies() == ["b"]) => {}
    }
    assert!(collected.warnings.lock().unwrap()[0].contains("deleted before they were read"));
}

#[tokio::test(start_paused = true)]
async fn latest_begins_at_the_end() {
    let fake = Fake::new(1);
    put_in(&fake, &["old"]);
    until("the old one is there", || fake.bodies(0).len() == 1).await;
    let collected = Arc::new(Collected { deliver: true, ..Collected::default() });
    let (_stopping, stop) = stop();
    let mut source = reader(&fake, json!({ "from": "latest" }));
    let looking = async {
        until("its place is written down", || fake.positions().get(&0) == Some(&1)).await;
        put_in(&fake, &["new"]);
        until("the new one is read", || collected.bodies() == ["new"]).await;
    };
    tokio::select! {
        _ = source.run(collected.output(), stop) => unreachable!("nobody stops it"),
        () = looking => {}
    }
}

#[tokio::test(start_paused = true)]
async fn events_and_position_move_in_one_transaction() {
    struct Copy(Arc<dyn Channel>, std::sync::atomic::AtomicBool);
    #[async_trait::async_trait]
    impl flow_agent::Accept for Copy {
        async fn accept(&self, batch: Batch) -> Result<(), SourceError> {
            if self.1.swap(false, Ordering::Relaxed) {
                // Written, and then lost on another way: all of it has to be forgotten.
                let other = batch.select(batch.rows.clone());
                self.0.put(other).await.unwrap();
                return Ok(());
            }
            self.0.put(batch).await.map_err(|_| SourceError::Stopped)
        }
        async fn refuse(&self, _: Batch, _: &str) -> Result<(), SourceError> {
            Ok(())
        }
        fn count(&self, _: &'static str, _: u64) {}
        fn idle(&self) {}
    }
    let fake = Fake::new(1);
    put_in(&fake, &["a", "b"]);
    until("they are there", || fake.bodies(0).len() == 2).await;
    let copies = channel("copies", &fake, json!({}));
    let copy = Arc::new(Copy(copies, true.into()));
    let (_stopping, stop) = stop();
    let mut source = reader(&fake, json!({ "transactional": true }));
    let ended = source.run(flow_agent::SourceOutput::new(copy.clone()), stop.clone()).await;
    assert!(matches!(ended, Err(SourceError::Retry(_))), "{ended:?}");
    assert_eq!(fake.lock().transactions, ["begin", "abort"]);
    assert_eq!(fake.positions().get(&0), None);
    let mut source = reader(&fake, json!({ "transactional": true }));
    tokio::select! {
        _ = source.run(flow_agent::SourceOutput::new(copy), stop) => unreachable!("nobody stops it"),
        () = until("it is written down", || fake.positions().get(&0) == Some(&2)) => {}
    }
    assert_eq!(fake.lock().transactions, ["begin", "abort", "begin", "commit"]);
    assert_eq!(fake.copied(), ["a", "b"]);
}

/// What was read while a transaction was ending lay there for ever: it waits for the next transaction, and once the one
/// before it had ended nothing woke the reader. A flow from topic to topic stood still, mostly after a start, when much is
/// to be read at once.
#[tokio::test(start_paused = true)]
async fn what_waits_for_the_next_transaction_goes_when_the_one_before_ends() {
    let fake = Fake::new(1);
    put_in(&fake, &["a"]);
    let collected = Arc::new(Collected::default());
    let (_stopping, stop) = stop();
    let mut source = reader(&fake, json!({ "transactional": true }));
    let looking = async {
        until("the first is read", || collected.bodies() == ["a"]).await;
        // The transaction is due by now, and open until the first is delivered.
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        put_in(&fake, &["b"]);
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        assert_eq!((collected.bodies(), fake.lock().transactions.clone()), (vec!["a".into()], vec!["begin"]));
        for body in ["b", "c"] {
            for batch in std::mem::take(&mut *collected.batches.lock().unwrap()) {
                batch.ack.done();
            }
            if body == "c" {
                put_in(&fake, &["c"]);
            }
            until("the next is read", || collected.bodies().last().is_some_and(|last| last == body)).await;
        }
        assert!(fake.lock().transactions.starts_with(&["begin", "commit", "begin"]));
    };
    tokio::select! {
        _ = source.run(collected.output(), stop) => unreachable!("nobody stops it"),
        () = looking => {}
    }
}
