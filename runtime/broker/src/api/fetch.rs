//! `Fetch`: batches from partitions, as slices of the log's files. When there is too little it waits on all its
//! partitions at once, and an append wakes it.

mod encode;
mod sessions;

use std::sync::Arc;
use std::time::Duration;

use flow_log::LogError;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::FetchRequest;
use tokio::time::Instant;
use uuid::Uuid;

pub(crate) use sessions::Sessions;

use self::encode::{Answer, Part, encode_fetch};
use self::sessions::{Entry, FINAL_EPOCH, INITIAL_EPOCH, Key, Partitions, Session, SessionError};
use super::{Call, Reply};
use crate::broker::Broker;
use crate::security::{Operation, Resource};
use crate::store::{Isolation, Partition, Waiter, clock};

/// The first version that names topics by id.
const TOPIC_IDS: i16 = 13;

/// The first version with sessions.
const SESSIONS: i16 = 7;

/// The most bytes of one answer, whatever is asked for (Kafka's `fetch.max.bytes` of the broker).
const BYTES_MAX: i32 = 55 << 20;

/// The most partitions that a session remembers; a consumer of more fetches without one.
const SESSION_PARTITIONS_MAX: usize = 100_000;

/// The longest wait, whatever is asked for, in milliseconds.
const WAIT_MS_MAX: i32 = 600_000;

pub(crate) async fn fetch(broker: &Arc<Broker>, call: &Call, request: FetchRequest) -> Reply {
    let version = call.version;
    let terms = Terms {
        isolation: if request.isolation_level == 1 { Isolation::Committed } else { Isolation::Uncommitted },
        bytes_min: request.min_bytes.max(0) as usize,
        bytes_max: request.max_bytes.clamp(0, BYTES_MAX) as usize,
    };
    let wait = Duration::from_millis(request.max_wait_ms.clamp(0, WAIT_MS_MAX) as u64);
    let Asked { session, mut partitions, incremental } = match asked(broker, version, request) {
        Ok(asked) => asked,
        Err(error) => {
            return Reply::Pieces(encode_fetch(version, session_code(&error).code(), 0, Vec::new()));
        }
    };
    for entry in &mut partitions.entries {
        if entry.partition.as_ref().is_none_or(|partition| partition.is_gone()) {
            resolve(broker, entry);
        }
    }
    let reader = Reader { broker, call, terms };
    let answers = reader.read(&partitions, wait).await;
    let session_id = session.as_ref().map_or(0, |session| session.id);
    let mut parts = Vec::with_capacity(partitions.entries.len());
    let first = partitions.first;
    let mut served = None;
    for (place, answer) in answers {
        let entry = &mut partitions.entries[place];
        let has_records = answer.records.as_ref().is_some_and(|records| !records.is_empty());
        if has_records {
            served = Some(place);
        }
        let news = has_records
            || answer.error_code != 0
            || answer.diverging.is_some()
            || answer.high_watermark != entry.sent_high_watermark
            || answer.log_start_offset != entry.sent_log_start;
        if incremental && !news {
            continue;
        }
        // After an error the consumer is told again whatever comes.
        let known = answer.error_code == 0;
        entry.sent_high_watermark = if known { answer.high_watermark } else { -1 };
        entry.sent_log_start = if known { answer.log_start_offset } else { -1 };
        parts.push((place, answer));
    }
    if let Some(served) = served {
        partitions.first = (served + 1) % partitions.entries.len();
    } else {
        partitions.first = first;
    }
    let parts = parts
        .into_iter()
        .map(|(place, answer)| {
            let entry = &partitions.entries[place];
            Part { topic: &entry.topic, topic_id: entry.topic_id, index: entry.index, answer }
        })
        .collect();
    let pieces = encode_fetch(version, 0, session_id, parts);
    if let Some(session) = session {
        session.give_back(partitions);
    }
    Reply::Pieces(pieces)
}

/// What a request asks for, with its session.
struct Asked {
    session: Option<Arc<Session>>,
    partitions: Partitions,
    /// Only what is new is told.
    incremental: bool,
}

fn asked(broker: &Arc<Broker>, version: i16, request: FetchRequest) -> Result<Asked, SessionError> {
    let (id, epoch) =
        if version >= SESSIONS { (request.session_id, request.session_epoch) } else { (0, FINAL_EPOCH) };
    let by_id = version >= TOPIC_IDS;
    let sessions = &broker.fetch_sessions;
    let now_ms = clock::now_ms();
    let goes_on = epoch != INITIAL_EPOCH && epoch != FINAL_EPOCH;
    let (mut session, mut partitions) = if goes_on {
        let (session, partitions) = sessions.resume(id, epoch, by_id, now_ms)?;
        (Some(session), partitions)
    } else {
        if id != 0 {
            sessions.close(id);
        }
        (None, Partitions::default())
    };
    for topic in request.topics {
        let name: Arc<str> = match by_id {
            false => Arc::from(topic.topic.as_str()),
            true => broker
                .store
                .topic_by_id(topic.topic_id)
                .map_or_else(|| Arc::from(""), |known| Arc::clone(&known.name)),
        };
        for asked in topic.partitions {
            partitions.put(Entry {
                topic: Arc::clone(&name),
                topic_id: if by_id { topic.topic_id } else { Uuid::nil() },
                index: asked.partition,
                partition: None,
                offset: asked.fetch_offset,
                bytes_max: asked.partition_max_bytes,
                leader_epoch: asked.current_leader_epoch,
                last_fetched_epoch: asked.last_fetched_epoch,
                sent_high_watermark: -1,
                sent_log_start: -1,
            });
        }
    }
    for topic in request.forgotten_topics_data {
        let name: Arc<str> = Arc::from(topic.topic.as_str());
        for index in topic.partitions {
            let key =
                if by_id { Key::Id(topic.topic_id, index) } else { Key::Name(Arc::clone(&name), index) };
            partitions.forget(&key);
        }
    }
    let too_many = partitions.entries.len() > SESSION_PARTITIONS_MAX;
    if too_many && session.take().is_some() {
        sessions.close(id);
    }
    if epoch == INITIAL_EPOCH && version >= SESSIONS && !partitions.entries.is_empty() && !too_many {
        return Ok(match sessions.open(Partitions::default(), by_id, now_ms) {
            Some(session) => {
                session.take();
                Asked { session: Some(session), partitions, incremental: false }
            }
            None => Asked { session: None, partitions, incremental: false },
        });
    }
    Ok(Asked { incremental: session.is_some(), session, partitions })
}

fn session_code(error: &SessionError) -> ResponseError {
    match error {
        SessionError::NotFound => ResponseError::FetchSessionIdNotFound,
        SessionError::Epoch => ResponseError::InvalidFetchSessionEpoch,
        SessionError::TopicIds => ResponseError::FetchSessionTopicIdError,
    }
}

/// Finds the partition of an entry, which may have been deleted, made, or made again since.
fn resolve(broker: &Broker, entry: &mut Entry) {
    let topic = if entry.topic_id.is_nil() {
        broker.store.topic(&entry.topic)
    } else {
        broker.store.topic_by_id(entry.topic_id)
    };
    if let Some(topic) = &topic {
        entry.topic = Arc::clone(&topic.name);
    }
    entry.partition = topic.and_then(|topic| topic.partition(entry.index));
}

/// What holds for all partitions of a request.
struct Terms {
    isolation: Isolation,
    bytes_min: usize,
    bytes_max: usize,
}

struct Reader<'a> {
    broker: &'a Broker,
    call: &'a Call,
    terms: Terms,
}

/// What one look at all partitions gives.
struct Found {
    answers: Vec<(usize, Answer)>,
    bytes: usize,
    /// Something that the reader must know at once.
    urgent: bool,
}

impl Reader<'_> {
    /// Reads until there is enough or the time is over.
    async fn read(&self, partitions: &Partitions, wait: Duration) -> Vec<(usize, Answer)> {
        let found = self.look(partitions);
        let enough = |found: &Found| found.urgent || found.bytes >= self.terms.bytes_min;
        if enough(&found) || wait.is_zero() || partitions.entries.is_empty() {
            return found.answers;
        }
        let deadline = Instant::now() + wait;
        let waiter = Waiter::new(0);
        let waiting = Waiting::new(partitions, &waiter);
        loop {
            waiter.arm(1);
            let found = self.look(partitions);
            if enough(&found) {
                return found.answers;
            }
            let missing = self.terms.bytes_min.saturating_sub(found.bytes);
            waiter.raise(i64::try_from(missing).unwrap_or(i64::MAX / 2) - 1);
            if tokio::time::timeout_at(deadline, waiter.woken()).await.is_err() {
                drop(waiting);
                return self.look(partitions).answers;
            }
        }
    }

    fn look(&self, partitions: &Partitions) -> Found {
        let count = partitions.entries.len();
        let mut found = Found { answers: Vec::with_capacity(count), bytes: 0, urgent: false };
        for place in (partitions.first..count).chain(0..partitions.first.min(count)) {
            let entry = &partitions.entries[place];
            let left = self.terms.bytes_max.saturating_sub(found.bytes);
            let answer = self.answer(entry, left, found.bytes == 0).unwrap_or_else(|error| {
                found.urgent = true;
                Answer {
                    error_code: error.code(),
                    high_watermark: -1,
                    last_stable_offset: -1,
                    log_start_offset: -1,
                    ..Answer::default()
                }
            });
            found.urgent |= answer.diverging.is_some();
            found.bytes += answer.records.as_ref().map_or(0, flow_log::Slice::len);
            found.answers.push((place, answer));
        }
        found
    }

    fn answer(&self, entry: &Entry, left: usize, first: bool) -> Result<Answer, ResponseError> {
        let by_id = !entry.topic_id.is_nil();
        if by_id && entry.topic.is_empty() {
            return Err(ResponseError::UnknownTopicId);
        }
        if !self.call.allows(self.broker, Operation::Read, Resource::Topic(&entry.topic)) {
            return Err(ResponseError::TopicAuthorizationFailed);
        }
        let known = entry.partition.as_ref().filter(|partition| !partition.is_gone());
        let partition =
            known.ok_or_else(|| match by_id && self.broker.store.topic_by_id(entry.topic_id).is_none() {
                true => ResponseError::UnknownTopicId,
                false => ResponseError::UnknownTopicOrPartition,
            })?;
        check_leader_epoch(partition, entry.leader_epoch)?;
        let committed = self.terms.isolation == Isolation::Committed;
        if let Some(diverging) = diverging(partition, entry)? {
            let offsets = partition.offsets();
            return Ok(Answer {
                high_watermark: offsets.high_watermark,
                last_stable_offset: offsets.last_stable,
                log_start_offset: offsets.log_start,
                aborted: committed.then(Vec::new),
                diverging: Some(diverging),
                ..Answer::default()
            });
        }
        let bytes_max = left.min(entry.bytes_max.max(0) as usize);
        let fetched = partition
            .read(entry.offset, bytes_max, self.terms.isolation, first)
            .map_err(|error| read_code(&error))?;
        Ok(Answer {
            error_code: 0,
            high_watermark: fetched.high_watermark,
            last_stable_offset: fetched.last_stable_offset,
            log_start_offset: fetched.log_start_offset,
            aborted: committed.then_some(fetched.aborted),
            diverging: None,
            records: Some(fetched.slice),
        })
    }
}

/// Whether a client that knows of `epoch` may be answered (KIP-320); -1 is not to know any.
pub(super) fn check_leader_epoch(partition: &Partition, epoch: i32) -> Result<(), ResponseError> {
    match epoch.cmp(&partition.leader_epoch()) {
        _ if epoch < 0 => Ok(()),
        std::cmp::Ordering::Less => Err(ResponseError::FencedLeaderEpoch),
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Greater => Err(ResponseError::UnknownLeaderEpoch),
    }
}

/// Where the reader's log parts from this one, if it says what it has.
fn diverging(partition: &Partition, entry: &Entry) -> Result<Option<(i32, i64)>, ResponseError> {
    if entry.last_fetched_epoch < 0 {
        return Ok(None);
    }
    match partition.log().epoch_end(entry.last_fetched_epoch) {
        (-1, _) => Err(ResponseError::OffsetOutOfRange),
        (epoch, end_offset) if epoch < entry.last_fetched_epoch || end_offset < entry.offset => {
            Ok(Some((epoch, end_offset)))
        }
        _ => Ok(None),
    }
}

/// The code of a failed read.
pub(super) fn read_code(error: &LogError) -> ResponseError {
    match error {
        LogError::OutOfRange { .. } => ResponseError::OffsetOutOfRange,
        LogError::Closed => ResponseError::NotLeaderOrFollower,
        error => {
            tracing::error!("cannot read a log: {error}");
            ResponseError::KafkaStorageError
        }
    }
}

/// A wait on many partitions; ends when it is dropped, also when its connection does.
struct Waiting<'a> {
    partitions: Vec<Arc<Partition>>,
    waiter: &'a Arc<Waiter>,
}

impl<'a> Waiting<'a> {
    fn new(partitions: &Partitions, waiter: &'a Arc<Waiter>) -> Waiting<'a> {
        let partitions: Vec<Arc<Partition>> =
            partitions.entries.iter().filter_map(|entry| entry.partition.clone()).collect();
        for partition in &partitions {
            partition.waiters().add(waiter);
        }
        Waiting { partitions, waiter }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        for partition in &self.partitions {
            partition.waiters().remove(self.waiter);
        }
    }
}
