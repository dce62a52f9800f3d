//! How far groups have read: commits of members and of anybody, commits inside a transaction that count only
//! when it does, and the end of offsets that nobody needs any more.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
};
use kafka_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use kafka_protocol::messages::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse, TopicName,
    TxnOffsetCommitRequest, TxnOffsetCommitResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::records::{Change, OffsetValue};
use super::shard::{Group, Kind, Outputs, Producer, Shard};
use super::{Caller, Config, GROUP_OFFSETS_MAX, text};

/// Bytes of a topic's name, as Kafka has it.
const TOPIC_NAME_BYTES_MAX: usize = 249;
/// From this version on a group that is not there has its own code.
const GROUP_ID_NOT_FOUND_FROM: i16 = 9;

/// The offsets of one group.
#[derive(Debug, Default)]
pub(super) struct Offsets {
    committed: ByTopic,
    /// By producer: offsets whose transaction is not over.
    pending: BTreeMap<i64, ByTopic>,
    /// All of them, committed or pending.
    count: usize,
}

/// By topic and partition; no topic is empty.
type ByTopic = BTreeMap<Arc<str>, BTreeMap<i32, Offset>>;

#[derive(Debug, Clone)]
struct Offset {
    value: OffsetValue,
    /// Where in the log it stands among the shard's other offsets.
    order: u64,
}

impl Offsets {
    pub fn is_empty(&self) -> bool {
        self.committed.is_empty() && self.pending.is_empty()
    }

    pub fn get(&self, topic: &str, partition: i32) -> Option<&OffsetValue> {
        find(&self.committed, topic, partition).map(|offset| &offset.value)
    }

    fn is_pending(&self, topic: &str, partition: i32) -> bool {
        // Few transactions of one group are open at a time.
        self.pending.values().any(|own| find(own, topic, partition).is_some())
    }

    fn has_room_for(&self, topic: &str, partition: i32) -> bool {
        self.get(topic, partition).is_some() || self.count < GROUP_OFFSETS_MAX
    }

    fn put(&mut self, topic: &Arc<str>, partition: i32, offset: Offset, producer: Option<Producer>) {
        let to = match producer {
            None => &mut self.committed,
            Some(producer) => self.pending.entry(producer.id).or_default(),
        };
        let partitions = match to.get_mut(topic) {
            Some(partitions) => partitions,
            None => to.entry(topic.clone()).or_default(),
        };
        self.count += usize::from(partitions.insert(partition, offset).is_none());
    }

    /// Takes an offset away, a pending one too. True if there was one.
    fn remove(&mut self, topic: &str, partition: i32) -> bool {
        let mut found = take(&mut self.committed, topic, partition);
        for own in self.pending.values_mut() {
            found += take(own, topic, partition);
        }
        if found > 0 {
            self.pending.retain(|_, own| !own.is_empty());
        }
        self.count -= found;
        found > 0
    }

    /// Ends the transaction of a producer.
    fn end(&mut self, producer: i64, commit: bool) {
        for (topic, partitions) in self.pending.remove(&producer).unwrap_or_default() {
            self.count -= partitions.len();
            for (partition, offset) in partitions {
                let newer =
                    find(&self.committed, &topic, partition).is_some_and(|own| own.order > offset.order);
                if commit && !newer {
                    self.put(&topic, partition, offset, None);
                }
            }
        }
    }

    /// Every partition with an offset, committed or pending.
    fn partitions(&self) -> Vec<(Arc<str>, i32)> {
        let all = std::iter::once(&self.committed).chain(self.pending.values()).flatten();
        let all = all.flat_map(|(topic, own)| own.keys().map(move |partition| (topic.clone(), *partition)));
        let mut all: Vec<_> = all.collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

fn find<'a>(offsets: &'a ByTopic, topic: &str, partition: i32) -> Option<&'a Offset> {
    offsets.get(topic)?.get(&partition)
}

/// Takes an offset out; gives how many there were.
fn take(offsets: &mut ByTopic, topic: &str, partition: i32) -> usize {
    let Some(partitions) = offsets.get_mut(topic) else { return 0 };
    let found = partitions.remove(&partition).is_some();
    if partitions.is_empty() {
        offsets.remove(topic);
    }
    usize::from(found)
}

impl Shard {
    pub(super) fn commit(
        &mut self,
        caller: &Caller,
        request: &OffsetCommitRequest,
        now_ms: i64,
        out: &mut Outputs,
    ) -> OffsetCommitResponse {
        let generation = request.generation_id_or_member_epoch;
        let missing = if caller.version >= GROUP_ID_NOT_FOUND_FROM {
            ResponseError::GroupIdNotFound
        } else {
            ResponseError::IllegalGeneration
        };
        let mut checked = self.find_or_make(&request.group_id, generation, missing);
        if checked.is_ok() {
            let (member, instance) = (request.member_id.as_str(), request.group_instance_id.as_deref());
            checked = self
                .with_group(&request.group_id, now_ms, out, |group, cx| match &mut group.kind {
                    Kind::Classic(classic) => classic.check_commit(member, instance, generation, false, cx),
                    Kind::Consumer(consumer) => {
                        consumer.check_commit(member, generation, Some(caller.version))
                    }
                })
                .unwrap_or(Err(missing));
        }
        let expires =
            (request.retention_time_ms >= 0).then(|| now_ms.saturating_add(request.retention_time_ms));
        let mut topics = Vec::with_capacity(request.topics.len());
        for topic in &request.topics {
            let name: Arc<str> = Arc::from(topic.name.as_str());
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for partition in &topic.partitions {
                let index = partition.partition_index;
                let metadata = partition.committed_metadata.as_deref();
                let result =
                    checked.and_then(|()| self.check_offset(&request.group_id, &name, index, metadata));
                if result.is_ok() {
                    let value = OffsetValue {
                        offset: partition.committed_offset,
                        leader_epoch: partition.committed_leader_epoch,
                        metadata: own_metadata(metadata),
                        commit_timestamp_ms: now_ms,
                        expire_timestamp_ms: expires,
                    };
                    self.put_offset(&request.group_id, &name, index, value, None, out);
                }
                partitions.push(
                    OffsetCommitResponsePartition::default()
                        .with_partition_index(index)
                        .with_error_code(code(result)),
                );
            }
            topics.push(
                OffsetCommitResponseTopic::default()
                    .with_name(topic.name.clone())
                    .with_partitions(partitions),
            );
        }
        self.drop_if_void(&request.group_id);
        OffsetCommitResponse::default().with_topics(topics)
    }

    pub(super) fn txn_commit(
        &mut self,
        request: &TxnOffsetCommitRequest,
        now_ms: i64,
        out: &mut Outputs,
    ) -> TxnOffsetCommitResponse {
        let generation = request.generation_id;
        let mut checked = self.find_or_make(&request.group_id, generation, ResponseError::IllegalGeneration);
        if checked.is_ok() {
            let (member, instance) = (request.member_id.as_str(), request.group_instance_id.as_deref());
            checked = self
                .with_group(&request.group_id, now_ms, out, |group, cx| match &mut group.kind {
                    Kind::Classic(classic) => classic.check_commit(member, instance, generation, true, cx),
                    Kind::Consumer(consumer) => {
                        consumer.check_commit(member, generation, None).map_err(|error| {
                            // Producers know the code of the older protocol.
                            if error == ResponseError::StaleMemberEpoch {
                                ResponseError::IllegalGeneration
                            } else {
                                error
                            }
                        })
                    }
                })
                .unwrap_or(Err(ResponseError::IllegalGeneration));
        }
        let producer = Producer { id: request.producer_id.0, epoch: request.producer_epoch };
        let mut topics = Vec::with_capacity(request.topics.len());
        for topic in &request.topics {
            let name: Arc<str> = Arc::from(topic.name.as_str());
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for partition in &topic.partitions {
                let index = partition.partition_index;
                let metadata = partition.committed_metadata.as_deref();
                let result =
                    checked.and_then(|()| self.check_offset(&request.group_id, &name, index, metadata));
                if result.is_ok() {
                    let value = OffsetValue {
                        offset: partition.committed_offset,
                        leader_epoch: partition.committed_leader_epoch,
                        metadata: own_metadata(metadata),
                        commit_timestamp_ms: now_ms,
                        expire_timestamp_ms: None,
                    };
                    self.put_offset(&request.group_id, &name, index, value, Some(producer), out);
                }
                partitions.push(
                    TxnOffsetCommitResponsePartition::default()
                        .with_partition_index(index)
                        .with_error_code(code(result)),
                );
            }
            topics.push(
                TxnOffsetCommitResponseTopic::default()
                    .with_name(topic.name.clone())
                    .with_partitions(partitions),
            );
        }
        self.drop_if_void(&request.group_id);
        TxnOffsetCommitResponse::default().with_topics(topics)
    }

    /// A commit without a generation may be the first thing that is known of a group.
    fn find_or_make(
        &mut self,
        id: &str,
        generation: i32,
        missing: ResponseError,
    ) -> Result<(), ResponseError> {
        super::shard::check_group_id(id)?;
        if self.groups.contains_key(id) {
            return Ok(());
        }
        if generation >= 0 { Err(missing) } else { self.make_group(id, Group::new_classic) }
    }

    fn check_offset(
        &self,
        id: &str,
        topic: &str,
        index: i32,
        metadata: Option<&str>,
    ) -> Result<(), ResponseError> {
        if index < 0 || topic.is_empty() || topic.len() > TOPIC_NAME_BYTES_MAX {
            return Err(ResponseError::UnknownTopicOrPartition);
        }
        if metadata.is_some_and(|text| text.len() > self.config().offset_metadata_max_bytes) {
            return Err(ResponseError::OffsetMetadataTooLarge);
        }
        if self.groups.get(id).is_some_and(|group| !group.offsets.has_room_for(topic, index)) {
            return Err(ResponseError::InvalidCommitOffsetSize);
        }
        Ok(())
    }

    fn put_offset(
        &mut self,
        id: &str,
        topic: &Arc<str>,
        partition: i32,
        value: OffsetValue,
        producer: Option<Producer>,
        out: &mut Outputs,
    ) {
        let Some((group, _)) = self.groups.get_key_value(id) else { return };
        let change = Change::Offset {
            group: group.clone(),
            topic: topic.clone(),
            partition,
            value: Some(value.clone()),
        };
        out.write(&change, producer);
        self.apply_offset(id, topic, partition, Some(value), producer);
    }

    /// Makes a change of an offset in memory, from a step or from the log.
    pub(super) fn apply_offset(
        &mut self,
        id: &str,
        topic: &Arc<str>,
        partition: i32,
        value: Option<OffsetValue>,
        producer: Option<Producer>,
    ) {
        let Some(value) = value else {
            if let Some(group) = self.groups.get_mut(id) {
                group.offsets.remove(topic, partition);
                self.drop_if_void(id);
            }
            return;
        };
        let group = match self.groups.get_mut(id) {
            Some(group) => group,
            None => self.groups.entry(Arc::from(id)).or_insert_with(Group::new_classic),
        };
        self.order += 1;
        let offset = Offset { value, order: self.order };
        group.offsets.put(topic, partition, offset, producer);
        if let Some(producer) = producer {
            self.transactions.entry(producer.id).or_default().insert(Arc::from(id));
        }
    }

    pub(super) fn end_transaction(&mut self, producer: i64, commit: bool) {
        for id in self.transactions.remove(&producer).unwrap_or_default() {
            let Some(group) = self.groups.get_mut(&id) else { continue };
            group.offsets.end(producer, commit);
            self.drop_if_void(&id);
        }
    }

    pub(super) fn fetch(
        &self,
        request: &OffsetFetchRequestGroup,
        require_stable: bool,
    ) -> OffsetFetchResponseGroup {
        let answer = OffsetFetchResponseGroup::default().with_group_id(request.group_id.clone());
        if let Err(error) = super::shard::check_group_id(&request.group_id) {
            return answer.with_error_code(error.code());
        }
        let group = self.groups.get(request.group_id.as_str());
        if let Some(Group { kind: Kind::Consumer(consumer), .. }) = group
            && let Err(error) = consumer.check_fetch(request.member_id.as_deref(), request.member_epoch)
        {
            return answer.with_error_code(error.code());
        }
        let offsets = group.map(|group| &group.offsets);
        let one = |topic: &str, partition: i32| {
            let answer = OffsetFetchResponsePartitions::default()
                .with_partition_index(partition)
                .with_committed_offset(-1)
                .with_committed_leader_epoch(-1)
                .with_metadata(Some(StrBytes::new()));
            let Some(offsets) = offsets else { return answer };
            if require_stable && offsets.is_pending(topic, partition) {
                return answer.with_error_code(ResponseError::UnstableOffsetCommit.code());
            }
            match offsets.get(topic, partition) {
                None => answer,
                Some(value) => answer
                    .with_committed_offset(value.offset)
                    .with_committed_leader_epoch(value.leader_epoch)
                    .with_metadata(Some(text(&value.metadata))),
            }
        };
        let topics = match &request.topics {
            Some(topics) => topics
                .iter()
                .map(|topic| {
                    OffsetFetchResponseTopics::default().with_name(topic.name.clone()).with_partitions(
                        topic
                            .partition_indexes
                            .iter()
                            .map(|partition| one(&topic.name, *partition))
                            .collect(),
                    )
                })
                .collect(),
            None => offsets
                .iter()
                .flat_map(|offsets| &offsets.committed)
                .map(|(topic, partitions)| {
                    OffsetFetchResponseTopics::default()
                        .with_name(TopicName(text(topic)))
                        .with_partitions(partitions.keys().map(|partition| one(topic, *partition)).collect())
                })
                .collect(),
        };
        answer.with_topics(topics)
    }

    pub(super) fn delete_offsets(
        &mut self,
        request: &OffsetDeleteRequest,
        out: &mut Outputs,
    ) -> OffsetDeleteResponse {
        let answer = OffsetDeleteResponse::default();
        if let Err(error) = super::shard::check_group_id(&request.group_id) {
            return answer.with_error_code(error.code());
        }
        let subscribed = match self.groups.get(request.group_id.as_str()) {
            None => return answer.with_error_code(ResponseError::GroupIdNotFound.code()),
            Some(Group { kind: Kind::Classic(classic), .. }) => {
                if !classic.is_empty() && classic.protocol_type() != super::classic::CONSUMER_PROTOCOL_TYPE {
                    return answer.with_error_code(ResponseError::NonEmptyGroup.code());
                }
                classic.subscribed_topics()
            }
            Some(Group { kind: Kind::Consumer(consumer), .. }) => consumer.subscribed_topics(),
        };
        let mut topics = Vec::with_capacity(request.topics.len());
        for topic in &request.topics {
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for partition in &topic.partitions {
                let index = partition.partition_index;
                let result = if subscribed.contains(topic.name.as_str()) {
                    Err(ResponseError::GroupSubscribedToTopic)
                } else {
                    self.remove_offset(&request.group_id, &topic.name, index, out);
                    Ok(())
                };
                partitions.push(
                    OffsetDeleteResponsePartition::default()
                        .with_partition_index(index)
                        .with_error_code(code(result)),
                );
            }
            topics.push(
                OffsetDeleteResponseTopic::default()
                    .with_name(topic.name.clone())
                    .with_partitions(partitions),
            );
        }
        self.drop_if_void(&request.group_id);
        answer.with_topics(topics)
    }

    fn remove_offset(&mut self, id: &str, topic: &str, partition: i32, out: &mut Outputs) {
        let Some((name, _)) = self.groups.get_key_value(id) else { return };
        let change = Change::Offset { group: name.clone(), topic: Arc::from(topic), partition, value: None };
        if let Some(group) = self.groups.get_mut(id)
            && group.offsets.remove(topic, partition)
        {
            out.write(&change, None);
        }
    }

    /// Takes all offsets of a group away.
    pub(super) fn remove_offsets(&mut self, id: &str, out: &mut Outputs) {
        let all = self.groups.get(id).map(|group| group.offsets.partitions()).unwrap_or_default();
        for (topic, partition) in all {
            self.remove_offset(id, &topic, partition, out);
        }
    }

    /// Takes the offsets of topics away that are no more.
    pub(super) fn forget_topics(&mut self, names: &[Arc<str>], out: &mut Outputs) {
        let ids: Vec<Arc<str>> = self.groups.keys().cloned().collect();
        for id in ids {
            let all = self.groups.get(&id).map(|group| group.offsets.partitions()).unwrap_or_default();
            for (topic, partition) in all.into_iter().filter(|(topic, _)| names.contains(topic)) {
                self.remove_offset(&id, &topic, partition, out);
            }
            self.drop_if_void(&id);
        }
    }

    /// Offsets of groups without members go when they are old, and a group with nothing left goes too.
    pub(super) fn expire(&mut self, now_ms: i64, out: &mut Outputs) {
        let idle: Vec<Arc<str>> =
            self.groups.iter().filter(|(_, group)| !group.has_members()).map(|(id, _)| id.clone()).collect();
        for id in idle {
            let Some(group) = self.groups.get(&id) else { continue };
            let old = expired(group, self.config(), now_ms);
            for (topic, partition) in old {
                self.remove_offset(&id, &topic, partition, out);
            }
            let bare = self.groups.get(&id).is_some_and(|group| group.offsets.is_empty());
            if bare {
                self.remove_group(&id, out);
            }
        }
    }
}

fn expired(group: &Group, config: &Config, now_ms: i64) -> Vec<(Arc<str>, i32)> {
    // A group that had members ages from when it lost the last; one that only commits, from each commit.
    let since_ms = match &group.kind {
        Kind::Classic(classic) if !classic.is_simple() => classic.state_since_ms(),
        _ => None,
    };
    let mut old = Vec::new();
    for (topic, partitions) in &group.offsets.committed {
        for (partition, offset) in partitions {
            let value = &offset.value;
            let from_ms =
                since_ms.map_or(value.commit_timestamp_ms, |since| since.max(value.commit_timestamp_ms));
            let at_ms =
                value.expire_timestamp_ms.unwrap_or(from_ms.saturating_add(config.offsets_retention_ms));
            if at_ms <= now_ms && !group.offsets.is_pending(topic, *partition) {
                old.push((topic.clone(), *partition));
            }
        }
    }
    old
}

fn own_metadata(metadata: Option<&str>) -> Arc<str> {
    match metadata {
        None | Some("") => Arc::default(),
        Some(text) => Arc::from(text),
    }
}

fn code(result: Result<(), ResponseError>) -> i16 {
    result.err().map_or(0, |error| error.code())
}

/// For tests and for the host: the offset of one partition of a group.
impl Shard {
    #[cfg(test)]
    pub fn committed(&self, group: &str, topic: &str, partition: i32) -> Option<&OffsetValue> {
        self.groups.get(group)?.offsets.get(topic, partition)
    }
}
