//! The broker used from inside of the process: no sockets and no messages, the same append path, checks and long polls
//! as for clients. Topics are here; members of groups are in `groups::local`, transactions in `transactions::local`.

use std::collections::BTreeMap;
use std::sync::Arc;

use flow_log::{LogError, Slice};

use crate::broker::Broker;
use crate::store::{AppendError, Isolation, NewTopic, Origin, Partition, TopicError, Waiter};

/// A topic as its user wants it.
#[derive(Clone, Debug)]
pub struct LocalTopic {
    pub name: String,
    pub partitions: i32,
    /// By Kafka's names of topic configs. `None` takes a setting away, so that the broker's default holds.
    pub settings: BTreeMap<String, Option<String>>,
    /// A topic that is there is left as it is.
    pub keep: bool,
}

/// Why a local call failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LocalError {
    #[error("there is no topic `{0}`")]
    UnknownTopic(String),
    #[error("topic `{topic}` has {there} partitions, and they cannot be lowered to {wanted}")]
    FewerPartitions { topic: String, there: i32, wanted: i32 },
    /// The offset lies outside of what there is.
    #[error("the offset is out of range: {start} to {end} are there")]
    OutOfRange { start: i64, end: i64 },
    /// Nothing was written; it works again when there is room.
    #[error("{0}")]
    Full(String),
    /// The broker does not take it, now or later.
    #[error("{0}")]
    Refused(String),
    /// The disk fails, or the broker stops.
    #[error("{0}")]
    Failed(String),
}

/// Records of one partition, as they are in the log.
pub struct LocalRead {
    slice: Slice,
    /// Aborted transactions among them: (producer id, first offset), by first offset.
    pub aborted: Vec<(i64, i64)>,
}

impl LocalRead {
    /// Bytes of the batches. The last one may be cut.
    pub fn len(&self) -> usize {
        self.slice.len()
    }

    pub fn is_empty(&self) -> bool {
        self.slice.is_empty()
    }

    /// Reads them from the file; the buffer has [`LocalRead::len`] bytes. Blocks.
    pub fn read_into(&self, buffer: &mut [u8]) -> Result<(), LocalError> {
        self.slice.read_into(buffer).map_err(local_error)
    }
}

/// A partition that is used from inside.
#[derive(Clone)]
pub struct LocalPartition(Arc<Partition>);

impl Broker {
    /// Makes a topic, or brings the one that is there in line: more partitions, other settings. Never fewer partitions.
    pub async fn open_topic(self: &Arc<Self>, topic: LocalTopic) -> Result<(), LocalError> {
        let broker = Arc::clone(self);
        let opened = tokio::task::spawn_blocking(move || open_topic(&broker, topic));
        opened.await.unwrap_or_else(|error| Err(LocalError::Failed(error.to_string())))
    }

    /// Partitions of a topic; `None` when there is no such topic.
    pub fn partition_count(&self, topic: &str) -> Option<i32> {
        self.store.topic(topic).map(|topic| topic.partitions().len() as i32)
    }

    pub fn partition(&self, topic: &str, index: i32) -> Option<LocalPartition> {
        self.store.partition(topic, index).map(LocalPartition)
    }
}

impl LocalPartition {
    /// Appends one record batch, as a client's produce request does, and gives the offset behind it. It is not on the
    /// disk yet. May block on the disk.
    pub fn append(&self, batch: &[u8]) -> Result<i64, LocalError> {
        self.0.append(batch, Origin::Local).map(|appended| appended.next_offset).map_err(append_error)
    }

    /// Waits until everything below `offset` is on the disk.
    pub async fn committed(&self, offset: i64) -> Result<(), LocalError> {
        self.0.committed(offset).await.map_err(append_error)
    }

    /// Finds about `bytes_max` bytes of batches from the one that holds `from` on; the first one is whole.
    /// `committed_only` leaves away what lies behind the first open transaction.
    pub fn read(&self, from: i64, bytes_max: usize, committed_only: bool) -> Result<LocalRead, LocalError> {
        let found = self.0.read(from, bytes_max, isolation(committed_only), true).map_err(local_error)?;
        let aborted = found.aborted.iter().map(|one| (one.producer_id, one.first_offset)).collect();
        Ok(LocalRead { slice: found.slice, aborted })
    }

    /// The first offset there is, and the one behind the last that a reader sees.
    pub fn offsets(&self, committed_only: bool) -> (i64, i64) {
        (self.0.offsets().log_start, self.0.end_for(isolation(committed_only)))
    }

    /// The first offset whose record is of this time (milliseconds since 1970) or later; `None` when there is none.
    pub fn offset_at_time(&self, time_ms: i64) -> Result<Option<i64>, LocalError> {
        let found = self.0.log().offset_at_time(time_ms).map_err(local_error)?;
        Ok(found.map(|(offset, _)| offset))
    }
}

/// Waits until a reader sees something at or behind one of the places (partition, offset); also when one of them is gone
/// or lies outside of what there is.
pub async fn readable(places: &[(LocalPartition, i64)], committed_only: bool) {
    let waiter = Waiter::new(1);
    let waiting = Waiting { waiter: &waiter, places };
    for (partition, _) in places {
        partition.0.waiters().add(&waiter);
    }
    loop {
        waiter.arm(1);
        let news = |(partition, from): &(LocalPartition, i64)| {
            let (start, end) = partition.offsets(committed_only);
            partition.0.is_gone() || *from < start || end > *from
        };
        if places.iter().any(news) {
            break;
        }
        waiter.woken().await;
    }
    drop(waiting);
}

/// Takes the wait out of the partitions again, also when it is given up.
struct Waiting<'a> {
    waiter: &'a Arc<Waiter>,
    places: &'a [(LocalPartition, i64)],
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        for (partition, _) in self.places {
            partition.0.waiters().remove(self.waiter);
        }
    }
}

fn open_topic(broker: &Broker, topic: LocalTopic) -> Result<(), LocalError> {
    let LocalTopic { name, partitions, settings, keep } = topic;
    let given = settings.iter().filter_map(|(key, value)| Some((key.clone(), value.clone()?)));
    let new = NewTopic { name: name.clone(), partitions: Some(partitions), configs: given.collect() };
    let known = match broker.store.topic(&name) {
        Some(known) => known,
        None => return broker.store.ensure_topic(&new).map(drop).map_err(topic_error),
    };
    if keep {
        return Ok(());
    }
    let there = known.partitions().len() as i32;
    if partitions < there {
        return Err(LocalError::FewerPartitions { topic: name, there, wanted: partitions });
    }
    if partitions > there {
        broker.store.grow_topic(&name, partitions).map_err(topic_error)?;
    }
    let as_wanted = settings.iter().all(|(key, value)| known.configs().get(key) == value.as_ref());
    if as_wanted {
        return Ok(());
    }
    let change = |configs: &mut BTreeMap<String, String>| {
        for (key, value) in &settings {
            match value {
                Some(value) => configs.insert(key.clone(), value.clone()),
                None => configs.remove(key),
            };
        }
        Ok(())
    };
    broker.store.alter_topic(&name, false, change).map_err(topic_error)
}

fn isolation(committed_only: bool) -> Isolation {
    if committed_only { Isolation::Committed } else { Isolation::Uncommitted }
}

fn topic_error(error: TopicError) -> LocalError {
    match error {
        TopicError::Disk(why) => LocalError::Failed(why),
        TopicError::Unknown(name) => LocalError::UnknownTopic(name),
        other => LocalError::Refused(other.to_string()),
    }
}

fn append_error(error: AppendError) -> LocalError {
    match error {
        AppendError::Log(error) => local_error(error),
        AppendError::Gone => LocalError::Failed(error.to_string()),
        other => LocalError::Refused(other.to_string()),
    }
}

fn local_error(error: LogError) -> LocalError {
    match error {
        LogError::OutOfRange { start, end } => LocalError::OutOfRange { start, end },
        LogError::Full(_) | LogError::Busy => LocalError::Full(error.to_string()),
        LogError::Batch(_) | LogError::TooLarge { .. } => LocalError::Refused(error.to_string()),
        other => LocalError::Failed(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use flow_log::batch::{Builder, BuilderOptions, Records};

    use super::*;
    use crate::config::BrokerConfig;

    fn batch(bodies: &[&str]) -> Vec<u8> {
        let mut builder = Builder::new(BuilderOptions::default());
        for body in bodies {
            builder.push(1_000, None, Some(body.as_bytes()), std::iter::empty());
        }
        builder.finish()
    }

    fn topic(partitions: i32, settings: &[(&str, Option<&str>)]) -> LocalTopic {
        let settings =
            settings.iter().map(|(key, value)| ((*key).to_owned(), value.map(str::to_owned))).collect();
        LocalTopic { name: "orders".into(), partitions, settings, keep: false }
    }

    #[tokio::test]
    async fn what_is_appended_inside_is_read_inside() {
        let dir = tempfile::tempdir().unwrap();
        let broker = Broker::start(BrokerConfig::new(dir.path())).await.unwrap();
        broker.open_topic(topic(2, &[("retention.ms", Some("1000000"))])).await.unwrap();
        assert_eq!(broker.partition_count("orders"), Some(2));
        let partition = broker.partition("orders", 1).unwrap();
        let places = [(broker.partition("orders", 0).unwrap(), 0), (partition.clone(), 0)];
        let appending = async {
            let end = partition.append(&batch(&["a", "b"])).unwrap();
            partition.committed(end).await.unwrap();
            end
        };
        let ((), end) = tokio::join!(readable(&places, true), appending);
        assert_eq!((end, partition.offsets(true)), (2, (0, 2)));
        let read = partition.read(1, 1 << 20, true).unwrap();
        let mut bytes = vec![0; read.len()];
        read.read_into(&mut bytes).unwrap();
        let records = Records::read(&bytes, 1 << 20).unwrap();
        let bodies: Vec<_> = records.iter().map(|record| record.unwrap().value.unwrap().to_vec()).collect();
        assert_eq!(bodies, [b"a", b"b"]);
        assert!(matches!(partition.read(3, 1, true), Err(LocalError::OutOfRange { start: 0, end: 2 })));
        assert_eq!(partition.offset_at_time(1_000).unwrap(), Some(0));
        assert_eq!(partition.offset_at_time(1_001).unwrap(), None);
        broker.shutdown().await;
    }

    #[tokio::test]
    async fn a_topic_is_brought_in_line_and_never_cut() {
        let dir = tempfile::tempdir().unwrap();
        let broker = Broker::start(BrokerConfig::new(dir.path())).await.unwrap();
        broker.open_topic(topic(2, &[("retention.ms", Some("1000"))])).await.unwrap();
        broker
            .open_topic(topic(3, &[("retention.ms", None), ("segment.bytes", Some("1048576"))]))
            .await
            .unwrap();
        assert_eq!(broker.partition_count("orders"), Some(3));
        let configs = broker.store.topic("orders").unwrap().configs();
        assert_eq!(configs.keys().map(String::as_str).collect::<Vec<_>>(), ["segment.bytes"]);
        let fewer = broker.open_topic(topic(1, &[])).await;
        assert!(matches!(fewer, Err(LocalError::FewerPartitions { there: 3, wanted: 1, .. })), "{fewer:?}");
        let kept = LocalTopic { keep: true, ..topic(1, &[("retention.ms", Some("5"))]) };
        broker.open_topic(kept).await.unwrap();
        assert!(!broker.store.topic("orders").unwrap().configs().contains_key("retention.ms"));
        let wrong = broker.open_topic(topic(3, &[("no.such.thing", Some("5"))])).await;
        assert!(matches!(wrong, Err(LocalError::Refused(_))), "{wrong:?}");
        broker.shutdown().await;
    }
}
