//! The store on a disk of its own: topics that come, go and stay; appends that are checked; restarts after a clean stop
//! and after none.

mod faults;

use std::sync::Arc;

use flow_log::batch::{self, Builder, BuilderOptions, Compression};
use flow_log::{Disk, LogError};
use kafka_protocol::error::ResponseError;
use tempfile::TempDir;

use super::configs::Overrides;
use super::*;
use crate::config::BrokerConfig;

struct Fixture {
    dir: TempDir,
    store: Option<Store>,
}

impl Fixture {
    fn new() -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let mut fixture = Fixture { dir, store: None };
        fixture.reopen();
        fixture
    }

    fn config(&self) -> BrokerConfig {
        BrokerConfig::new(self.dir.path())
    }

    /// Drops the store without a word, as a kill does, and opens it again.
    fn reopen(&mut self) {
        self.store = None;
        self.store = Some(Store::open_on(Arc::new(Disk), &self.config()).unwrap());
    }

    /// Stops the store in order and opens it again.
    fn restart(&mut self) {
        close(&self.store().catalog);
        self.reopen();
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn topic(&self, name: &str, partitions: i32, configs: &[(&str, &str)]) -> Arc<Topic> {
        self.store().create_topic(&new_topic(name, partitions, configs)).unwrap()
    }
}

fn new_topic(name: &str, partitions: i32, configs: &[(&str, &str)]) -> NewTopic {
    let configs = configs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
    NewTopic { name: name.to_owned(), partitions: Some(partitions), configs }
}

fn batch_with(options: BuilderOptions, records: &[(Option<&str>, &str)]) -> Vec<u8> {
    let mut builder = Builder::new(options);
    for (key, value) in records {
        let headers = std::iter::empty::<(&[u8], Option<&[u8]>)>();
        builder.push(1_000, key.map(str::as_bytes), Some(value.as_bytes()), headers);
    }
    builder.finish()
}

fn batch_of(values: &[&str]) -> Vec<u8> {
    let records: Vec<_> = values.iter().map(|value| (None, *value)).collect();
    batch_with(BuilderOptions::default(), &records)
}

fn idempotent(producer_id: i64, base_sequence: i32, values: &[&str]) -> Vec<u8> {
    let records: Vec<_> = values.iter().map(|value| (None, *value)).collect();
    let options =
        BuilderOptions { producer_id, producer_epoch: 0, base_sequence, ..BuilderOptions::default() };
    batch_with(options, &records)
}

fn values(partition: &Partition, from: i64) -> Vec<String> {
    let fetched = partition.read(from, 1 << 20, Isolation::Uncommitted, true).unwrap();
    let bytes = fetched.slice.bytes().unwrap();
    let mut found = Vec::new();
    for one in batch::batches(&bytes) {
        let records = batch::Records::read(one.unwrap().1, 1 << 20).unwrap();
        for record in records.iter() {
            found.push(String::from_utf8(record.unwrap().value.unwrap().to_vec()).unwrap());
        }
    }
    found
}

fn code(result: Result<Appended, AppendError>) -> ResponseError {
    result.unwrap_err().code()
}

#[test]
fn topics_stay_over_restarts_with_their_ids_settings_and_records() {
    let mut fixture = Fixture::new();
    let topic = fixture.topic("clicks", 3, &[("retention.ms", "1000")]);
    let (id, cluster) = (topic.id, fixture.store().cluster_id());
    topic.partition(1).unwrap().append(&batch_of(&["a", "b"]), Origin::Client).unwrap();
    drop(topic);
    for clean in [false, true, false] {
        if clean {
            fixture.restart()
        } else {
            fixture.reopen()
        }
        let topic = fixture.store().topic("clicks").unwrap();
        assert_eq!((topic.id, topic.partitions().len()), (id, 3));
        assert_eq!(fixture.store().cluster_id(), cluster);
        assert_eq!(topic.configs().get("retention.ms").map(String::as_str), Some("1000"));
        assert_eq!(topic.partition(0).unwrap().settings().retention_ms, Some(1000));
        let partition = fixture.store().partition("clicks", 1).unwrap();
        assert_eq!(values(&partition, 0), ["a", "b"]);
        assert_eq!(partition.offsets(), Offsets { log_start: 0, last_stable: 2, high_watermark: 2 });
        assert_eq!(fixture.store().topic_by_id(id).unwrap().name, topic.name);
    }
}

#[test]
fn a_topic_is_deleted_and_made_again_at_once() {
    let mut fixture = Fixture::new();
    let old = fixture.topic("a", 2, &[]);
    let partition = old.partition(0).unwrap();
    partition.append(&batch_of(&["old"]), Origin::Client).unwrap();
    fixture.store().delete_topic("a").unwrap();
    assert!(fixture.store().topic_by_id(old.id).is_none());
    assert_eq!(
        code(partition.append(&batch_of(&["x"]), Origin::Client)),
        ResponseError::UnknownTopicOrPartition
    );
    let new = fixture.topic("a", 1, &[]);
    assert_ne!(new.id, old.id);
    assert_eq!(values(&new.partition(0).unwrap(), 0), Vec::<String>::new());
    assert_eq!(fixture.store().remove_doomed(), 2);
    drop((old, new, partition));
    fixture.reopen();
    assert_eq!(fixture.store().topic("a").unwrap().partitions().len(), 1);
    assert!(matches!(fixture.store().delete_topic("b"), Err(TopicError::Unknown(_))));
}

/// A deleted partition's checkpoint that was still under way wrote its files by their names, into the directory of the
/// next topic of the same name, whose next start then believed in records it never had. Now a deletion waits for what is
/// under way, and nothing is written by name after it.
#[test]
fn what_is_left_of_a_deleted_topic_writes_nothing_into_the_next_one() {
    let mut fixture = Fixture::new();
    let old = fixture.topic("a", 1, &[]).partition(0).unwrap();
    for sequence in 0..5 {
        old.append(&idempotent(1, sequence, &["old"]), Origin::Client).unwrap();
    }
    fixture.store().delete_topic("a").unwrap();
    let new = fixture.topic("a", 1, &[]).partition(0).unwrap();
    new.append(&batch_of(&["new"]), Origin::Client).unwrap();
    assert!(matches!(old.checkpoint(), Err(LogError::Closed)));
    assert!(matches!(old.log().checkpoint(), Err(LogError::Closed)));
    assert!(old.close().is_err());
    old.log().sync().unwrap();
    let names = Disk.list(new.dir.as_path()).unwrap();
    assert!(
        !names.iter().any(|name| name.ends_with(".snapshot") || name.ends_with("checkpoint")),
        "{names:?}"
    );
    drop((old, new));
    fixture.reopen();
    let partition = fixture.store().partition("a", 0).unwrap();
    assert_eq!(partition.offsets().high_watermark, 1);
    assert_eq!(values(&partition, 0), ["new"]);
}

/// What a crash leaves between the steps of a change is cleared away, and what belongs to nobody stays.
#[test]
fn leftovers_are_cleared_and_strangers_left_alone() {
    let mut fixture = Fixture::new();
    fixture.topic("a", 1, &[]);
    let path = |name: &str| fixture.dir.path().join(name);
    let doomed = names::deleted_dir("gone", 0);
    let orphan = meta::encode_partition_metadata(uuid::Uuid::from_u128(1));
    for (dir, metadata) in
        [("b-0", Some(&orphan)), ("a-7", Some(&orphan)), ("c-0", None), ("my-delete", None)]
    {
        std::fs::create_dir(path(dir)).unwrap();
        if let Some(text) = metadata {
            std::fs::write(path(dir).join("partition.metadata"), text).unwrap();
        }
    }
    std::fs::create_dir(path(&doomed)).unwrap();
    let (kept, removed) =
        ([path("a-0"), path("c-0"), path("my-delete")], [path("b-0"), path("a-7"), path(&doomed)]);
    fixture.reopen();
    assert_eq!(fixture.store().remove_doomed(), 3);
    assert!(kept.iter().all(|dir| dir.exists()));
    assert!(removed.iter().all(|dir| !dir.exists()));
}

/// Records that say of no topic that they are its own are nobody's to delete.
#[test]
fn a_topic_is_not_made_over_a_strangers_records() {
    let fixture = Fixture::new();
    let dir = fixture.dir.path().join("a-0");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("00000000000000000000.log"), b"records").unwrap();
    let refused = fixture.store().create_topic(&new_topic("a", 1, &[])).err().unwrap();
    assert_eq!(refused.code(), ResponseError::KafkaStorageError);
    assert_eq!(std::fs::read(dir.join("00000000000000000000.log")).unwrap(), b"records");
    std::fs::remove_dir_all(&dir).unwrap();
    fixture.topic("a", 1, &[]);
}

#[test]
fn names_numbers_and_settings_of_new_topics_are_checked() {
    let fixture = Fixture::new();
    fixture.topic("a.b", 1, &[]);
    let create = |topic: NewTopic| fixture.store().create_topic(&topic).err().unwrap().code();
    assert_eq!(create(new_topic("a.b", 1, &[])), ResponseError::TopicAlreadyExists);
    assert_eq!(create(new_topic("a_b", 1, &[])), ResponseError::InvalidTopicException);
    assert_eq!(create(new_topic("a b", 1, &[])), ResponseError::InvalidTopicException);
    assert_eq!(create(new_topic("x", 0, &[])), ResponseError::InvalidPartitions);
    assert_eq!(create(new_topic("x", i32::MAX, &[])), ResponseError::InvalidPartitions);
    assert_eq!(create(new_topic("x", 1, &[("retention", "1")])), ResponseError::InvalidConfig);
    let default = NewTopic { name: "x".into(), ..NewTopic::default() };
    assert_eq!(fixture.store().create_topic(&default).unwrap().partitions().len(), 1);
}

#[test]
fn a_topic_grows_and_never_shrinks() {
    let mut fixture = Fixture::new();
    fixture.topic("a", 1, &[]);
    fixture.store().grow_topic("a", 40).unwrap();
    assert!(fixture.store().partition("a", 39).is_some());
    for count in [40, 39, 0] {
        assert!(matches!(fixture.store().grow_topic("a", count), Err(TopicError::Partitions(_))));
    }
    fixture.reopen();
    let topic = fixture.store().topic("a").unwrap();
    let indexes: Vec<i32> = topic.partitions().iter().map(|partition| partition.index).collect();
    assert_eq!(indexes, (0..40).collect::<Vec<_>>());
}

#[test]
fn a_change_of_settings_reaches_partitions_and_lasts() {
    let mut fixture = Fixture::new();
    let topic = fixture.topic("a", 2, &[]);
    fixture
        .store()
        .alter_topic("a", false, |configs| {
            configs.insert("max.message.bytes".into(), "100".into());
            Ok(())
        })
        .unwrap();
    let partition = topic.partition(1).unwrap();
    let long = "x".repeat(200);
    assert_eq!(code(partition.append(&batch_of(&[&long]), Origin::Client)), ResponseError::MessageTooLarge);
    let broker = |configs: &mut Overrides| {
        configs.insert("log.retention.ms".into(), "77".into());
        Ok(())
    };
    fixture.store().alter_broker(true, broker).unwrap();
    assert_eq!(partition.settings().retention_ms, Some(604_800_000));
    fixture.store().alter_broker(false, broker).unwrap();
    assert_eq!(partition.settings().retention_ms, Some(77));
    drop((topic, partition));
    fixture.reopen();
    let settings = fixture.store().partition("a", 0).unwrap().settings();
    assert_eq!((settings.retention_ms, settings.max_message_bytes), (Some(77), 100));
}

#[test]
fn batches_that_break_a_rule_are_refused_with_the_right_code() {
    let fixture = Fixture::new();
    let partition = fixture.topic("a", 1, &[]).partition(0).unwrap();
    let append = |batch: &[u8]| code(partition.append(batch, Origin::Client));
    let good = batch_of(&["a", "b"]);
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    assert_eq!(append(&flipped), ResponseError::CorruptMessage);
    assert_eq!(append(&good[..good.len() - 1]), ResponseError::CorruptMessage);
    assert_eq!(append(&[]), ResponseError::InvalidRecord);
    assert_eq!(append(&[good.clone(), good.clone()].concat()), ResponseError::InvalidRecord);
    for magic in [0, 1] {
        let mut old = good.clone();
        old[16] = magic;
        assert_eq!(append(&old), ResponseError::UnsupportedForMessageFormat);
    }
    let mut moved = good.clone();
    moved[7] = 5;
    assert_eq!(append(&moved), ResponseError::InvalidRecord);
    assert_eq!(append(&batch::end_marker(1, 0, true, 0, 0)), ResponseError::InvalidRecord);
    assert_eq!(partition.offsets().high_watermark, 0);
    partition.append(&good, Origin::Client).unwrap();
    assert_eq!(partition.offsets().high_watermark, 2);
}

#[test]
fn a_compacted_topic_takes_no_record_without_a_key_and_says_which() {
    let fixture = Fixture::new();
    let partition = fixture.topic("a", 1, &[("cleanup.policy", "compact")]).partition(0).unwrap();
    for compression in [Compression::None, Compression::Lz4] {
        let options = || BuilderOptions { compression, ..BuilderOptions::default() };
        let mixed = batch_with(options(), &[(Some("k"), "1"), (None, "2"), (Some("k"), "3"), (None, "4")]);
        let error = partition.append(&mixed, Origin::Client).unwrap_err();
        assert_eq!(error.code(), ResponseError::InvalidRecord);
        assert_eq!(error.records().iter().map(|record| record.0).collect::<Vec<_>>(), [1, 3]);
        partition.append(&batch_with(options(), &[(Some("k"), "1")]), Origin::Client).unwrap();
    }
}

#[test]
fn records_too_far_from_now_are_refused_where_the_topic_says_so() {
    let fixture = Fixture::new();
    let partition =
        fixture.topic("a", 1, &[("message.timestamp.before.max.ms", "1000")]).partition(0).unwrap();
    let error = partition.append(&batch_of(&["old", "older"]), Origin::Client).unwrap_err();
    assert_eq!(error.code(), ResponseError::InvalidTimestamp);
    assert_eq!(error.records().len(), 2);
}

#[test]
fn with_log_append_time_the_append_says_the_time() {
    let fixture = Fixture::new();
    let partition =
        fixture.topic("a", 1, &[("message.timestamp.type", "LogAppendTime")]).partition(0).unwrap();
    let appended = partition.append(&batch_of(&["a"]), Origin::Client).unwrap();
    assert!(appended.log_append_time_ms > 1_000_000);
    let bytes = partition.read(0, 1 << 20, Isolation::Uncommitted, true).unwrap().slice.bytes().unwrap();
    let header = batch::check_stored(&bytes).unwrap();
    assert!(header.is_log_append_time());
    assert_eq!(header.max_timestamp, appended.log_append_time_ms);
}

#[test]
fn the_codec_of_the_topic_is_the_codec_on_disk() {
    let fixture = Fixture::new();
    for (name, codec) in
        [("zstd", Compression::Zstd), ("gzip", Compression::Gzip), ("uncompressed", Compression::None)]
    {
        let partition = fixture.topic(name, 1, &[("compression.type", name)]).partition(0).unwrap();
        let mut sent = Builder::new(BuilderOptions {
            compression: Compression::Lz4,
            producer_id: 7,
            producer_epoch: 0,
            base_sequence: 0,
            ..BuilderOptions::default()
        });
        let headers: [(&[u8], Option<&[u8]>); 1] = [(b"h", Some(b"1"))];
        sent.push(5, Some(b"k"), Some(b"v"), headers.into_iter());
        partition.append(&sent.finish(), Origin::Client).unwrap();
        let bytes = partition.read(0, 1 << 20, Isolation::Uncommitted, true).unwrap().slice.bytes().unwrap();
        let header = batch::check(&bytes).unwrap();
        assert_eq!(header.compression(), Some(codec));
        assert_eq!((header.producer_id, header.base_sequence, header.max_timestamp), (7, 0, 5));
        let records = batch::Records::read(&bytes, 1 << 20).unwrap();
        let record = records.iter().next().unwrap().unwrap();
        assert_eq!((record.key, record.value), (Some(&b"k"[..]), Some(&b"v"[..])));
        assert_eq!(record.headers().collect::<Vec<_>>(), headers);
    }
}

/// A small batch that is enormous when decompressed is refused before the memory is taken.
#[test]
fn a_decompression_bomb_is_refused() {
    let fixture = Fixture::new();
    let configs = [("cleanup.policy", "compact"), ("max.message.bytes", "20000")];
    let partition = fixture.topic("a", 1, &configs).partition(0).unwrap();
    let zeros = "0".repeat(16 << 20);
    for compression in [Compression::Gzip, Compression::Zstd] {
        let bomb =
            batch_with(BuilderOptions { compression, ..BuilderOptions::default() }, &[(Some("k"), &zeros)]);
        assert!(bomb.len() < 20_000);
        assert_eq!(code(partition.append(&bomb, Origin::Client)), ResponseError::InvalidRecord);
    }
}

#[test]
fn a_repeated_batch_gets_the_first_answer_also_after_restarts() {
    let mut fixture = Fixture::new();
    fixture.topic("a", 1, &[]);
    let partition = |fixture: &Fixture| fixture.store().partition("a", 0).unwrap();
    let first = partition(&fixture).append(&idempotent(9, 0, &["a", "b"]), Origin::Client).unwrap();
    let last = partition(&fixture).append(&idempotent(9, 2, &["c"]), Origin::Client).unwrap();
    assert_eq!((first.base_offset, last.base_offset), (0, 2));
    let again = partition(&fixture).append(&idempotent(9, 0, &["a", "b"]), Origin::Client).unwrap();
    assert_eq!(again, first);
    for clean in [false, true, false] {
        if clean {
            fixture.restart()
        } else {
            fixture.reopen()
        }
        let partition = partition(&fixture);
        assert_eq!(partition.append(&idempotent(9, 2, &["c"]), Origin::Client).unwrap(), last);
        let gap = partition.append(&idempotent(9, 9, &["d"]), Origin::Client);
        assert_eq!(code(gap), ResponseError::OutOfOrderSequenceNumber);
        assert_eq!(partition.offsets().high_watermark, 3);
    }
}

fn transactional(partition: &Partition, producer_id: i64, base_sequence: i32, values: &[&str]) {
    let records: Vec<_> = values.iter().map(|value| (None, *value)).collect();
    let options = BuilderOptions {
        producer_id,
        producer_epoch: 0,
        base_sequence,
        transactional: true,
        ..BuilderOptions::default()
    };
    let batch = batch_with(options, &records);
    let guard = partition.verification(&check_single(&batch).unwrap());
    partition.append_guarded(&batch, Origin::Client, guard).unwrap();
}

fn end(partition: &Partition, producer_id: i64, commit: bool) {
    let marker = batch::end_marker(producer_id, 0, commit, 0, 0);
    partition.append(&marker, Origin::Coordinator).unwrap();
}

#[test]
fn readers_of_committed_records_wait_for_open_transactions_and_are_told_the_aborted() {
    let mut fixture = Fixture::new();
    fixture.topic("a", 1, &[]);
    {
        let partition = fixture.store().partition("a", 0).unwrap();
        partition.append(&batch_of(&["plain"]), Origin::Client).unwrap();
        transactional(&partition, 1, 0, &["x", "y"]);
        transactional(&partition, 2, 0, &["z"]);
        assert_eq!(partition.offsets(), Offsets { log_start: 0, last_stable: 1, high_watermark: 4 });
        end(&partition, 1, false);
        assert_eq!(partition.offsets().last_stable, 3);
    }
    for clean in [false, true, false] {
        if clean {
            fixture.restart()
        } else {
            fixture.reopen()
        }
        let partition = fixture.store().partition("a", 0).unwrap();
        assert_eq!(partition.offsets(), Offsets { log_start: 0, last_stable: 3, high_watermark: 5 });
        let fetched = partition.read(0, 1 << 20, Isolation::Committed, true).unwrap();
        assert_eq!(fetched.slice.next_offset_hint(), 3);
        let aborted: Vec<_> = fetched.aborted.iter().map(|one| (one.producer_id, one.first_offset)).collect();
        assert_eq!(aborted, [(1, 1)]);
        assert!(partition.read(4, 1 << 20, Isolation::Committed, true).unwrap().slice.is_empty());
        assert_eq!(partition.read(0, 1 << 20, Isolation::Uncommitted, true).unwrap().aborted, []);
    }
    let partition = fixture.store().partition("a", 0).unwrap();
    end(&partition, 2, true);
    assert_eq!(partition.offsets().last_stable, 6);
}

#[test]
fn deleted_records_are_out_of_range() {
    let mut fixture = Fixture::new();
    let partition = fixture.topic("a", 1, &[]).partition(0).unwrap();
    for value in ["a", "b", "c"] {
        partition.append(&batch_of(&[value]), Origin::Client).unwrap();
    }
    assert_eq!(partition.delete_before(2).unwrap(), 2);
    assert!(matches!(partition.delete_before(4), Err(LogError::OutOfRange { start: 2, end: 3 })));
    drop(partition);
    fixture.reopen();
    let partition = fixture.store().partition("a", 0).unwrap();
    assert!(matches!(partition.read(1, 100, Isolation::Uncommitted, true), Err(LogError::OutOfRange { .. })));
    assert_eq!(values(&partition, 2), ["c"]);
    assert!(matches!(partition.read(4, 100, Isolation::Uncommitted, true), Err(LogError::OutOfRange { .. })));
    assert!(partition.read(3, 100, Isolation::Uncommitted, true).unwrap().slice.is_empty());
}

#[tokio::test]
async fn a_commit_ends_when_the_disk_has_it() {
    let fixture = Fixture::new();
    let partition = fixture.topic("a", 1, &[]).partition(0).unwrap();
    let appended = partition.append(&batch_of(&["a"]), Origin::Client).unwrap();
    partition.committed(appended.next_offset).await.unwrap();
    assert_eq!(partition.log().synced_offset(), 1);
    assert!(partition.start_commit(appended.next_offset).is_none());
}

#[test]
fn a_data_directory_of_a_newer_program_or_with_damage_is_refused() {
    let fixture = Fixture::new();
    let path = fixture.dir.path().join(meta::META_FILE);
    for (text, why) in [("{\"version\": 99}", "F0813"), ("{", "damaged")] {
        std::fs::write(&path, text).unwrap();
        let Err(error) = Store::open_on(Arc::new(Disk), &fixture.config()) else { panic!("{text}") };
        let message = error.to_string();
        assert!(message.contains(why) && message.contains("topics.json"), "{message}");
    }
}

#[test]
fn a_partition_of_a_newer_program_is_refused() {
    let mut fixture = Fixture::new();
    fixture.topic("a", 1, &[]);
    let partition = fixture.store().partition("a", 0).unwrap();
    partition.append(&batch_of(&["x"]), Origin::Client).unwrap();
    partition.checkpoint().unwrap();
    let path = partition.dir.join("flow-log-checkpoint");
    drop(partition);
    fixture.store = None;
    let text = std::fs::read_to_string(&path).unwrap();
    let version = flow_log::log::FORMAT_VERSION;
    std::fs::write(&path, text.replacen(&version.to_string(), &(version + 1).to_string(), 1)).unwrap();
    let refused = Store::open_on(Arc::new(Disk), &fixture.config()).err().unwrap();
    assert!(matches!(refused, StartError::Newer { .. }), "{refused}");
}

#[tokio::test]
async fn one_process_at_a_time_holds_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let config = BrokerConfig::new(dir.path());
    let store = Store::open(&config).await.unwrap();
    assert!(Store::open(&config).await.is_err());
    store.stop().await;
    drop(store);
    Store::open(&config).await.unwrap();
}

#[test]
fn settings_of_the_configuration_hold_for_all_topics_and_unknown_ones_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = BrokerConfig::new(dir.path());
    config.topics.partitions = 5;
    config.topics.settings.insert("retention.ms".into(), "42".into());
    let store = Store::open_on(Arc::new(Disk), &config).unwrap();
    let topic = store.create_topic(&NewTopic { name: "a".into(), ..NewTopic::default() }).unwrap();
    assert_eq!(topic.partitions().len(), 5);
    assert_eq!(topic.partition(4).unwrap().settings().retention_ms, Some(42));
    drop((topic, store));
    config.topics.settings.insert("retention".into(), "42".into());
    assert!(Store::open_on(Arc::new(Disk), &config).is_err());
}

/// Lets everything happen that is due at a time, as the thread does.
fn upkeep_at(fixture: &Fixture, now_ms: i64) {
    upkeep::Upkeep::new(0).pass(&fixture.store().catalog, now_ms, &|| false);
}

#[test]
fn old_records_go_when_their_time_is_over_and_readers_are_told_the_new_start() {
    let fixture = Fixture::new();
    let configs = [("retention.ms", "10000"), ("segment.bytes", "100")];
    let partition = fixture.topic("a", 1, &configs).partition(0).unwrap();
    for _ in 0..3 {
        partition.append(&batch_of(&["of the time 1000"]), Origin::Client).unwrap();
    }
    assert!(partition.log().segments() > 1);
    upkeep_at(&fixture, 10_000);
    assert_eq!(partition.offsets().log_start, 0);
    upkeep_at(&fixture, 1_000_000);
    assert_eq!(partition.offsets(), Offsets { log_start: 3, last_stable: 3, high_watermark: 3 });
    assert_eq!(partition.append(&batch_of(&["x"]), Origin::Client).unwrap().base_offset, 3);
}

#[test]
fn the_oldest_records_go_when_there_are_too_many_bytes() {
    let fixture = Fixture::new();
    let configs = [("retention.ms", "-1"), ("retention.bytes", "250"), ("segment.bytes", "100")];
    let partition = fixture.topic("a", 1, &configs).partition(0).unwrap();
    for _ in 0..10 {
        partition.append(&batch_of(&["0123456789"]), Origin::Client).unwrap();
    }
    upkeep_at(&fixture, 1_000_000);
    assert!(partition.offsets().log_start > 5);
    assert!(partition.bytes() >= 250 && partition.bytes() < 500);
}

#[test]
fn a_compacted_topic_keeps_the_last_record_of_each_key_when_enough_is_dirty() {
    let mut fixture = Fixture::new();
    let configs = [("cleanup.policy", "compact"), ("segment.bytes", "200"), ("retention.ms", "1")];
    fixture.topic("a", 1, &configs);
    {
        let partition = fixture.store().partition("a", 0).unwrap();
        for round in 0..10 {
            for key in ["x", "y"] {
                let value = format!("{key}{round}");
                let batch = batch_with(BuilderOptions::default(), &[(Some(key), &value)]);
                partition.append(&batch, Origin::Client).unwrap();
            }
        }
        upkeep_at(&fixture, 1_000_000);
        let found = all_values(&partition);
        assert!(found.len() < 8, "{found:?}");
        assert!(found.ends_with(&["x9".into(), "y9".into()]), "{found:?}");
        assert_eq!(partition.offsets().high_watermark, 20);
    }
    for clean in [false, true] {
        if clean {
            fixture.restart()
        } else {
            fixture.reopen()
        }
        let partition = fixture.store().partition("a", 0).unwrap();
        assert!(all_values(&partition).ends_with(&["x9".into(), "y9".into()]));
    }
}

/// Reads over the ends of segments.
fn all_values(partition: &Partition) -> Vec<String> {
    let mut found = Vec::new();
    let mut from = partition.offsets().log_start;
    while from < partition.offsets().high_watermark {
        found.extend(values(partition, from));
        let slice = partition.read(from, 1 << 20, Isolation::Uncommitted, true).unwrap().slice;
        assert!(slice.next_offset_hint() > from);
        from = slice.next_offset_hint();
    }
    found
}

#[test]
fn unsynced_records_are_synced_when_the_topic_says_so() {
    let fixture = Fixture::new();
    let by_time = fixture.topic("time", 1, &[("flush.ms", "1000")]).partition(0).unwrap();
    let by_count = fixture.topic("count", 1, &[("flush.messages", "2")]).partition(0).unwrap();
    for partition in [&by_time, &by_count] {
        partition.append(&batch_of(&["x"]), Origin::Client).unwrap();
        assert_eq!(partition.log().synced_offset(), 0);
    }
    by_count.append(&batch_of(&["x"]), Origin::Client).unwrap();
    by_time.flush_old(clock::now_ms());
    assert_eq!(by_time.log().synced_offset(), 0);
    by_time.flush_old(clock::now_ms() + 2_000);
    // The committer works on its own threads; waiting for it is waiting for the same sync.
    for (partition, end) in [(&by_time, 1), (&by_count, 2)] {
        let (send, receive) = std::sync::mpsc::channel();
        partition.when_committed(end, Box::new(move |result| send.send(result.is_ok()).unwrap()));
        assert!(receive.recv().unwrap());
    }
}

#[test]
fn a_checkpoint_leaves_little_to_do_for_the_next_start() {
    let mut fixture = Fixture::new();
    fixture.topic("a", 1, &[]);
    {
        let partition = fixture.store().partition("a", 0).unwrap();
        for sequence in 0..3 {
            partition.append(&idempotent(3, sequence, &["x"]), Origin::Client).unwrap();
            partition.checkpoint().unwrap();
        }
        assert_eq!(partition.unchecked_bytes(), 0);
        let names = Disk.list(&partition.dir).unwrap();
        let mut snapshots: Vec<_> = names.iter().filter(|name| name.ends_with(".snapshot")).collect();
        snapshots.sort();
        assert_eq!(snapshots, ["00000000000000000002.snapshot", "00000000000000000003.snapshot"]);
    }
    // The newest snapshot is damaged: the one before it and the log say the same.
    let dir = fixture.store().partition("a", 0).unwrap().dir.clone();
    std::fs::write(dir.join("00000000000000000003.snapshot"), b"damaged").unwrap();
    fixture.reopen();
    let partition = fixture.store().partition("a", 0).unwrap();
    assert_eq!(partition.append(&idempotent(3, 2, &["x"]), Origin::Client).unwrap().base_offset, 2);
    assert_eq!(partition.append(&idempotent(3, 3, &["x"]), Origin::Client).unwrap().base_offset, 3);
}

#[test]
fn silent_producers_are_forgotten() {
    let fixture = Fixture::new();
    let partition = fixture.topic("a", 1, &[]).partition(0).unwrap();
    partition.append(&idempotent(3, 0, &["x"]), Origin::Client).unwrap();
    assert_eq!(partition.producer_views().len(), 1);
    upkeep_at(&fixture, clock::now_ms() + 86_400_001);
    assert_eq!(partition.producer_views().len(), 0);
}

/// Thousands of partitions come back in order, and with what was in them.
#[test]
fn many_partitions_are_opened_side_by_side() {
    let mut fixture = Fixture::new();
    fixture.topic("many", 300, &[]);
    for index in [0, 150, 299] {
        let partition = fixture.store().partition("many", index).unwrap();
        partition.append(&batch_of(&[&index.to_string()]), Origin::Client).unwrap();
    }
    fixture.reopen();
    let topic = fixture.store().topic("many").unwrap();
    assert!(topic.partitions().iter().enumerate().all(|(at, partition)| partition.index == at as i32));
    for index in [0, 150, 299] {
        assert_eq!(values(&topic.partition(index).unwrap(), 0), [index.to_string()]);
    }
}

/// A marker has few bytes and can make many readable: one that waits for more bytes than it has was left asleep until
/// its time was over. Now every marker wakes.
#[test]
fn a_marker_wakes_those_who_wait_for_many_bytes() {
    use std::task::{Context, Poll, Waker};
    let fixture = Fixture::new();
    let partition = fixture.topic("a", 1, &[]).partition(0).unwrap();
    let waiter = Waiter::new(1);
    partition.waiters().add(&waiter);
    let is_woken = || {
        let woken = std::pin::pin!(waiter.woken());
        woken.poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(())
    };
    transactional(&partition, 1, 0, &["x"]);
    assert!(is_woken());
    waiter.arm(1 << 20);
    transactional(&partition, 1, 1, &["y"]);
    assert!(!is_woken());
    end(&partition, 1, true);
    assert!(is_woken());
}
