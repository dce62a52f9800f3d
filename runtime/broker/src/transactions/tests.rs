//! Transactions of this process on a disk that breaks at any moment: the flow `topic -> program -> topic`, killed again
//! and again, shows each input once, and its offsets say so.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use flow_log::batch::{self, Builder, BuilderOptions, Records};
use flow_log::testing::{Rng, SimStorage};
use flow_log::{LogError, Storage};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::protocol::StrBytes;

use super::*;
use crate::broker::{Broker, StartError};
use crate::config::BrokerConfig;
use crate::groups::{Caller, Reply, Request};
use crate::store::{Isolation, NewTopic, Origin};

const GROUP: &str = "flow";
const PARTITIONS: i32 = 2;
const INPUTS: i64 = 30;
const BATCH_BYTES_MAX: usize = 1 << 20;

async fn start(disk: &SimStorage) -> Result<Arc<Broker>, StartError> {
    let mut config = BrokerConfig::new("/data");
    // Each of the broker's own partitions is files to make and to read again.
    config.topics.settings.insert("offsets.topic.num.partitions".to_owned(), "3".to_owned());
    config.topics.settings.insert("transaction.state.log.num.partitions".to_owned(), "3".to_owned());
    Broker::start_on(Arc::new(disk.clone()), config).await
}

fn batch_of(values: &[String]) -> Vec<u8> {
    let mut builder = Builder::new(BuilderOptions::default());
    for value in values {
        builder.push(0, None, Some(value.as_bytes()), std::iter::empty());
    }
    builder.finish()
}

/// The values of a partition from `from` on with their offsets, as a reader of committed records takes them.
fn read(broker: &Broker, topic: &str, partition: i32, from: i64) -> Result<Vec<(i64, String)>, LogError> {
    let place = broker.store.partition(topic, partition).expect("the partition");
    let mut values = Vec::new();
    let mut at = from;
    // A read gives one segment at most.
    loop {
        let fetched = place.read(at, usize::MAX / 2, Isolation::Committed, true)?;
        let bytes = fetched.slice.bytes()?;
        if bytes.is_empty() {
            return Ok(values);
        }
        for batch in batch::batches(&bytes) {
            let (header, bytes) = batch.expect("whole batches");
            at = header.next_offset();
            let aborted = fetched.aborted.iter().any(|aborted| {
                aborted.producer_id == header.producer_id
                    && (aborted.first_offset..=aborted.last_offset).contains(&header.base_offset)
            });
            if header.is_control() || (header.is_transactional() && aborted) {
                continue;
            }
            let records = Records::read(bytes, BATCH_BYTES_MAX).expect("records");
            for record in records.iter().map(|record| record.expect("a record")) {
                let value = String::from_utf8(record.value.expect("a value").to_vec()).expect("text");
                if record.offset >= from {
                    values.push((record.offset, value));
                }
            }
        }
    }
}

/// The group's committed offset of each input partition.
async fn committed(broker: &Broker) -> Result<Vec<i64>, kafka_protocol::ResponseError> {
    let topic = OffsetFetchRequestTopics::default()
        .with_name(StrBytes::from_static_str("in").into())
        .with_partition_indexes((0..PARTITIONS).collect());
    let group = OffsetFetchRequestGroup::default()
        .with_group_id(StrBytes::from_static_str(GROUP).into())
        .with_topics(Some(vec![topic]));
    let caller = Caller { client_id: Arc::from("test"), host: Arc::from("test"), version: 8 };
    let request = Request::Fetch { group, require_stable: true };
    let Reply::Fetch(reply) = broker.groups.request(GROUP, caller, request).await? else {
        panic!("an answer of another kind")
    };
    let partitions = &reply.topics.first().expect("the topic").partitions;
    Ok(partitions.iter().map(|partition| partition.committed_offset.max(0)).collect())
}

/// A flow, from where its group stands, until everything is read or something fails. Gives what failed.
async fn run_flow(broker: &Arc<Broker>, rng: &mut Rng) -> Result<(), String> {
    let text = |error: TransactionError| error.to_string();
    let transactions = LocalTransactions::open(broker, "flow-1").await.map_err(text)?;
    let mut positions = committed(broker).await.map_err(|error| error.to_string())?;
    loop {
        let mut next = positions.clone();
        let mut values = Vec::new();
        let partition = rng.below(PARTITIONS as u64) as i32;
        let wanted = 1 + rng.below(8) as usize;
        let from = positions[partition as usize];
        let inputs = read(broker, "in", partition, from).map_err(|error| error.to_string())?;
        for (offset, value) in inputs.into_iter().take(wanted) {
            next[partition as usize] = offset + 1;
            values.push(value);
        }
        if values.is_empty() {
            if positions.iter().all(|position| *position == INPUTS) {
                return Ok(());
            }
            continue;
        }
        let mut transaction = transactions.begin().await.map_err(text)?;
        for chunk in values.chunks(3) {
            let to = rng.below(PARTITIONS as u64) as i32;
            transaction.append("out", to, batch_of(chunk)).map_err(text)?;
        }
        let mut offsets = GroupOffsets::new(GROUP);
        for (index, offset) in next.iter().enumerate() {
            offsets.offsets.insert(("in".to_owned(), index as i32), *offset);
        }
        transaction.add_offsets(offsets).map_err(text)?;
        match rng.below(10) {
            0 => transaction.abort().await.map_err(text)?,
            1 => drop(transaction),
            _ => {
                transaction.commit().await.map_err(text)?;
                positions = next;
            }
        }
    }
}

async fn crash_story(seed: u64) {
    let mut rng = Rng::new(seed);
    let disk = SimStorage::new(seed);
    let broker = start(&disk).await.expect("an empty disk");
    for name in ["in", "out"] {
        let new = NewTopic { name: name.to_owned(), partitions: Some(PARTITIONS), configs: BTreeMap::new() };
        broker.store.create_topic(&new).expect("a new topic");
    }
    for index in 0..PARTITIONS {
        let partition = broker.store.partition("in", index).expect("the partition");
        let values: Vec<String> = (0..INPUTS).map(|number| format!("{index}-{number}")).collect();
        let appended = partition.append(&batch_of(&values), Origin::Local).expect("appended");
        partition.committed(appended.next_offset).await.expect("on the disk");
    }
    end(broker).await;
    disk.kill();
    for round in 0.. {
        // The last rounds are quiet.
        let quiet = round >= 8;
        if !quiet {
            disk.fail_after(rng.below(400));
        }
        let Ok(broker) = start(&disk).await else {
            assert!(!quiet, "seed {seed}: a sound disk is not taken");
            disk.crash();
            continue;
        };
        let done = tokio::select! {
            done = run_flow(&broker, &mut rng) => done,
            // Whoever waits for a disk that is gone waits until the process is ended.
            () = until_gone(&disk) => Err("the disk is gone".to_owned()),
        };
        check_whole(&broker, seed);
        end(broker).await;
        match done {
            Ok(()) => break,
            Err(reason) => assert!(!quiet, "seed {seed}: {reason}"),
        }
        if rng.below(4) == 0 { disk.kill() } else { disk.crash() }
    }
    disk.kill();
    let broker = start(&disk).await.expect("a sound disk");
    check_all(&broker, seed).await;
}

async fn until_gone(disk: &SimStorage) {
    while disk.create_dir(Path::new("/data")).is_ok() {
        tokio::task::yield_now().await;
    }
}

/// What is under way in the background must not reach the disk that the next broker has.
async fn end(broker: Arc<Broker>) {
    broker.transactions.stop().await;
    broker.groups.stop().await;
    while Arc::strong_count(&broker) > 1 {
        tokio::task::yield_now().await;
    }
}

/// No input is seen twice, at any time. A disk that fails answers no reads.
fn check_whole(broker: &Arc<Broker>, seed: u64) {
    let mut seen = BTreeSet::new();
    for index in 0..PARTITIONS {
        for (_, value) in read(broker, "out", index, 0).unwrap_or_default() {
            assert!(seen.insert(value.clone()), "seed {seed}: `{value}` is seen twice");
        }
    }
}

/// Each input is seen once, the group stands behind the last, and nothing is open.
async fn check_all(broker: &Arc<Broker>, seed: u64) {
    let mut seen: Vec<String> = Vec::new();
    for index in 0..PARTITIONS {
        seen.extend(values(broker, index));
    }
    seen.sort_unstable();
    let mut expected: Vec<String> = (0..PARTITIONS)
        .flat_map(|index| (0..INPUTS).map(move |number| format!("{index}-{number}")))
        .collect();
    expected.sort_unstable();
    assert_eq!(seen, expected, "seed {seed}");
    assert_eq!(committed(broker).await, Ok(vec![INPUTS; PARTITIONS as usize]), "seed {seed}");
    for partition in broker.store.partitions() {
        let offsets = partition.offsets();
        if partition.is_gone() {
            continue;
        }
        let name = format!("{}-{}", partition.topic, partition.index);
        assert_eq!(offsets.last_stable, offsets.high_watermark, "seed {seed}: `{name}` stays unstable");
    }
}

/// `FLOW_SEEDS=2000 cargo test -p flow-broker a_flow_that_is_killed` is the long form; a failure names its seed, and
/// `FLOW_SIMULATION_SEED` runs that one alone. Threads sync the disk, so a seed does not fix everything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flow_that_is_killed_again_and_again_shows_each_input_once() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    if let Some(seed) = number("FLOW_SIMULATION_SEED") {
        return crash_story(seed).await;
    }
    for seed in 0..number("FLOW_SEEDS").unwrap_or(30) {
        eprintln!("seed {seed}");
        crash_story(seed).await;
    }
}

async fn with_topics(disk: &SimStorage) -> Arc<Broker> {
    let broker = start(disk).await.expect("a sound disk");
    for name in ["in", "out"] {
        let new = NewTopic { name: name.to_owned(), partitions: Some(PARTITIONS), configs: BTreeMap::new() };
        broker.store.ensure_topic(&new).expect("a topic");
    }
    broker
}

fn values(broker: &Broker, partition: i32) -> Vec<String> {
    let read = read(broker, "out", partition, 0).expect("a disk that can be read");
    read.into_iter().map(|(_, value)| value).collect()
}

#[tokio::test]
async fn a_transaction_is_seen_when_it_is_committed_and_never_when_it_is_not() {
    let broker = with_topics(&SimStorage::new(1)).await;
    let transactions = LocalTransactions::open(&broker, "t").await.expect("opened");
    let mut first = transactions.begin().await.expect("begun");
    assert_eq!(first.append("out", 0, batch_of(&["a".into(), "b".into()])), Ok(0));
    assert_eq!(first.append("out", 0, batch_of(&["c".into()])), Ok(2));
    assert_eq!(first.append("out", 1, batch_of(&["d".into()])), Ok(0));
    assert!(values(&broker, 0).is_empty());
    first.commit().await.expect("committed");
    assert_eq!(
        (values(&broker, 0), values(&broker, 1)),
        (vec!["a".into(), "b".into(), "c".into()], vec!["d".into()])
    );
    let mut second = transactions.begin().await.expect("begun");
    second.append("out", 0, batch_of(&["e".into()])).expect("appended");
    second.abort().await.expect("aborted");
    let mut third = transactions.begin().await.expect("begun");
    third.append("out", 0, batch_of(&["f".into()])).expect("appended");
    drop(third);
    let mut fourth = transactions.begin().await.expect("begun");
    fourth.append("out", 0, batch_of(&["g".into()])).expect("appended");
    fourth.commit().await.expect("committed");
    assert_eq!(values(&broker, 0), ["a", "b", "c", "g"]);
}

#[tokio::test]
async fn offsets_count_with_their_transaction_alone() {
    let broker = with_topics(&SimStorage::new(2)).await;
    let transactions = LocalTransactions::open(&broker, "t").await.expect("opened");
    let offsets = |offset| GroupOffsets {
        offsets: [(("in".to_owned(), 0), offset)].into(),
        ..GroupOffsets::new(GROUP)
    };
    for (offset, commits) in [(5, true), (9, false), (7, true)] {
        let mut transaction = transactions.begin().await.expect("begun");
        transaction.add_offsets(offsets(offset)).expect("added");
        if commits {
            transaction.commit().await.expect("committed");
        } else {
            transaction.abort().await.expect("aborted");
        }
    }
    assert_eq!(committed(&broker).await, Ok(vec![7, 0]));
    // A member that is not in the group, and its records with it.
    let mut transaction = transactions.begin().await.expect("begun");
    transaction.append("out", 0, batch_of(&["lost".into()])).expect("appended");
    transaction
        .add_offsets(GroupOffsets { generation: 3, member_id: "m".into(), ..offsets(20) })
        .expect("added");
    assert!(matches!(transaction.commit().await, Err(TransactionError::Offsets { .. })));
    assert_eq!(committed(&broker).await, Ok(vec![7, 0]));
    assert!(values(&broker, 0).is_empty());
}

#[tokio::test]
async fn whoever_opens_the_id_later_has_it_alone() {
    let broker = with_topics(&SimStorage::new(3)).await;
    let old = LocalTransactions::open(&broker, "t").await.expect("opened");
    let mut open = old.begin().await.expect("begun");
    open.append("out", 0, batch_of(&["old".into()])).expect("appended");
    let new = LocalTransactions::open(&broker, "t").await.expect("opened");
    let fenced = || TransactionError::Fenced("t".to_owned());
    assert_eq!(open.append("out", 0, batch_of(&["late".into()])), Err(fenced()));
    assert_eq!(open.append("out", 1, batch_of(&["late".into()])), Err(fenced()));
    assert_eq!(open.commit().await, Err(fenced()));
    let mut transaction = new.begin().await.expect("begun");
    transaction.append("out", 0, batch_of(&["new".into()])).expect("appended");
    transaction.commit().await.expect("committed");
    assert_eq!(values(&broker, 0), ["new"]);
    assert!(matches!(LocalTransactions::open(&broker, "").await, Err(TransactionError::Refused(_))));
}

#[tokio::test]
async fn a_full_disk_is_waited_out() {
    let disk = SimStorage::new(4);
    let broker = with_topics(&disk).await;
    let transactions = LocalTransactions::open(&broker, "t").await.expect("opened");
    let mut transaction = transactions.begin().await.expect("begun");
    transaction.append("out", 0, batch_of(&["a".into()])).expect("appended");
    disk.set_space(Some(10));
    assert!(matches!(
        transaction.append("out", 0, batch_of(&["b".into()])),
        Err(TransactionError::Full(_) | TransactionError::Failed(_))
    ));
    disk.set_space(None);
    assert_eq!(transaction.append("out", 0, batch_of(&["b".into()])), Ok(1));
    assert!(matches!(transaction.append("out", 0, vec![0; 9]), Err(TransactionError::Refused(_))));
    assert!(matches!(
        transaction.append("no", 0, Vec::new()),
        Err(TransactionError::UnknownPartition { .. })
    ));
    transaction.commit().await.expect("committed");
    assert_eq!(values(&broker, 0), ["a", "b"]);
}

#[tokio::test]
async fn a_disk_that_fails_while_a_transaction_is_stored_shows_nothing_of_it() {
    let disk = SimStorage::new(5);
    let broker = with_topics(&disk).await;
    let transactions = LocalTransactions::open(&broker, "t").await.expect("opened");
    let mut transaction = transactions.begin().await.expect("begun");
    transaction.append("out", 0, batch_of(&["a".into()])).expect("appended");
    disk.fail_sync_after(0);
    assert!(matches!(transaction.commit().await, Err(TransactionError::Failed(_))));
    assert!(values(&broker, 0).is_empty());
    drop(transactions);
    end(broker).await;
    disk.crash();
    let broker = with_topics(&disk).await;
    assert!(values(&broker, 0).is_empty());
    let transactions = LocalTransactions::open(&broker, "t").await.expect("opened");
    let mut transaction = transactions.begin().await.expect("begun");
    transaction.append("out", 0, batch_of(&["b".into()])).expect("appended");
    transaction.commit().await.expect("committed");
    assert_eq!(values(&broker, 0), ["b"]);
}
