//! What a person asks of a cluster: its topics, groups and places, each call at the broker that can answer it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::{
    BrokerId, ConsumerGroupDescribeRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeConfigsRequest,
    DescribeGroupsRequest, FindCoordinatorRequest, GroupId, ListGroupsRequest, ListOffsetsRequest,
    MetadataResponse, OffsetCommitRequest, OffsetFetchRequest,
};
use kafka_protocol::protocol::StrBytes;
use tokio::sync::Mutex;

use super::records::topic_name;
use super::{Client, ClientConfig, ClientError, FetchFrom, Fetched, check};
use crate::groups::text;

/// DeleteTopics by name.
const DELETE_BY_NAME: i16 = 5;
/// OffsetFetch for one group, with all of its topics.
const OFFSETS_OF_ONE_GROUP: i16 = 7;
/// FindCoordinator for one key.
const FIND_ONE: i16 = 3;
/// The last versions that name topics.
const COMMIT_BY_NAME: i16 = 9;
/// Kafka's number for topics among the resources that have configs.
const TOPIC_RESOURCE: i8 = 2;
/// A config that comes from its default (KIP-226): `DEFAULT_CONFIG`, `STATIC_BROKER_CONFIG` and what brokers share.
const SET_ON_TOPIC: i8 = 1;

/// A cluster, with a connection to each of its brokers as they are needed.
pub struct Admin {
    config: ClientConfig,
    first: Arc<Client>,
    /// By node id.
    nodes: Mutex<HashMap<i32, Arc<Client>>>,
}

/// A topic of the cluster.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TopicInfo {
    pub name: String,
    pub internal: bool,
    /// By number.
    pub partitions: Vec<PartitionInfo>,
}

/// A partition: its number, the node that leads it (−1: none), and the nodes that have it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PartitionInfo {
    pub index: i32,
    pub leader: i32,
    pub replicas: Vec<i32>,
}

/// A group of readers as its coordinator knows it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GroupInfo {
    pub name: String,
    /// `Stable`, `Empty`, `PreparingRebalance`, …
    pub state: String,
    /// What shares out its partitions.
    pub assignor: String,
    /// Member id, client id and host of each.
    pub members: Vec<(String, String, String)>,
}

/// A place in a partition.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Place {
    Earliest,
    Latest,
    /// The first record at or after this time, in milliseconds since 1970.
    At(i64),
    Offset(i64),
}

impl Admin {
    /// Connects to one broker; the others are found through it.
    ///
    /// # Errors
    ///
    /// As [`Client::connect`].
    pub async fn connect(config: ClientConfig) -> Result<Admin, ClientError> {
        let first = Arc::new(Client::connect(config.clone()).await?);
        Ok(Admin { config, first, nodes: Mutex::default() })
    }

    /// Topics by name; all of them for `None`.
    ///
    /// # Errors
    ///
    /// As [`Client::call`]; a topic that is not there.
    pub async fn topics(&self, names: Option<&[&str]>) -> Result<Vec<TopicInfo>, ClientError> {
        let metadata = self.first.metadata(names, false).await?;
        let mut topics = Vec::new();
        for topic in &metadata.topics {
            check(topic.error_code)?;
            let mut partitions: Vec<PartitionInfo> = topic
                .partitions
                .iter()
                .map(|partition| PartitionInfo {
                    index: partition.partition_index,
                    leader: partition.leader_id.0,
                    replicas: partition.replica_nodes.iter().map(|node| node.0).collect(),
                })
                .collect();
            partitions.sort_by_key(|partition| partition.index);
            let name = topic.name.as_ref().map(|name| name.to_string()).unwrap_or_default();
            topics.push(TopicInfo { name, internal: topic.is_internal, partitions });
        }
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(topics)
    }

    /// One topic.
    ///
    /// # Errors
    ///
    /// As [`Admin::topics`].
    pub async fn topic(&self, name: &str) -> Result<TopicInfo, ClientError> {
        let topics = self.topics(Some(&[name])).await?;
        topics
            .into_iter()
            .next()
            .ok_or_else(|| ClientError::Malformed("it says nothing of the topic".to_owned()))
    }

    /// Configs that were set on a topic itself.
    ///
    /// # Errors
    ///
    /// As [`Client::call`], and the broker's own.
    pub async fn configs(&self, topic: &str) -> Result<BTreeMap<String, String>, ClientError> {
        let resource = DescribeConfigsResource::default()
            .with_resource_type(TOPIC_RESOURCE)
            .with_resource_name(text(topic))
            .with_configuration_keys(None);
        let answer =
            self.first.call(&DescribeConfigsRequest::default().with_resources(vec![resource])).await?;
        let mut configs = BTreeMap::new();
        for result in answer.results {
            check(result.error_code)?;
            for config in result.configs.into_iter().filter(|config| config.config_source == SET_ON_TOPIC) {
                let value = config.value.map(|value| value.to_string()).unwrap_or_default();
                configs.insert(config.name.to_string(), value);
            }
        }
        Ok(configs)
    }

    /// Makes a topic.
    ///
    /// # Errors
    ///
    /// As [`Client::call`]; the broker's own, with its words.
    pub async fn create_topic(
        &self,
        name: &str,
        partitions: i32,
        replication: i16,
        configs: &[(String, String)],
    ) -> Result<(), ClientError> {
        let config = |(name, value): &(String, String)| {
            CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value)))
        };
        let topic = CreatableTopic::default()
            .with_name(topic_name(name))
            .with_num_partitions(partitions)
            .with_replication_factor(replication)
            .with_configs(configs.iter().map(config).collect());
        let request =
            CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(self.timeout_ms());
        let answer = self.controller().await?.call(&request).await?;
        for topic in answer.topics {
            refused(topic.error_code, topic.error_message)?;
        }
        Ok(())
    }

    /// Deletes a topic with all of its records.
    ///
    /// # Errors
    ///
    /// As [`Admin::create_topic`].
    pub async fn delete_topic(&self, name: &str) -> Result<(), ClientError> {
        let client = self.controller().await?;
        let version = client.version_at_most::<DeleteTopicsRequest>(DELETE_BY_NAME)?;
        let request = DeleteTopicsRequest::default()
            .with_topic_names(vec![topic_name(name)])
            .with_timeout_ms(self.timeout_ms());
        let answer = client.call_version(version, &request).await?;
        for topic in answer.responses {
            refused(topic.error_code, topic.error_message)?;
        }
        Ok(())
    }

    /// The offset of a place in each partition of a topic, by partition. A time behind the last record gives the end.
    ///
    /// # Errors
    ///
    /// As [`Client::call`], and the broker's own; a partition without a leader.
    pub async fn offsets(&self, topic: &TopicInfo, place: Place) -> Result<BTreeMap<i32, i64>, ClientError> {
        let timestamp = match place {
            Place::Offset(offset) => {
                return Ok(topic.partitions.iter().map(|partition| (partition.index, offset)).collect());
            }
            Place::Earliest => -2,
            Place::Latest => -1,
            Place::At(time_ms) => time_ms.max(0),
        };
        let mut by_leader: BTreeMap<i32, Vec<ListOffsetsPartition>> = BTreeMap::new();
        for partition in &topic.partitions {
            by_leader.entry(partition.leader).or_default().push(
                ListOffsetsPartition::default()
                    .with_partition_index(partition.index)
                    .with_timestamp(timestamp),
            );
        }
        let mut offsets = BTreeMap::new();
        for (leader, partitions) in by_leader {
            let topics =
                ListOffsetsTopic::default().with_name(topic_name(&topic.name)).with_partitions(partitions);
            let request =
                ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topics]);
            let answer = self.node(leader).await?.call(&request).await?;
            for partition in answer.topics.iter().flat_map(|topic| &topic.partitions) {
                check(partition.error_code)?;
                offsets.insert(partition.partition_index, partition.offset);
            }
        }
        if matches!(place, Place::At(_)) && offsets.values().any(|offset| *offset < 0) {
            let ends = Box::pin(self.offsets(topic, Place::Latest)).await?;
            for (partition, offset) in offsets.iter_mut().filter(|(_, offset)| **offset < 0) {
                *offset = ends.get(partition).copied().unwrap_or(0);
            }
        }
        Ok(offsets)
    }

    /// Fetches from the leader of a partition.
    ///
    /// # Errors
    ///
    /// As [`Client::fetch`]; a partition that is not there or has no leader.
    pub async fn fetch(&self, topic: &TopicInfo, from: &FetchFrom<'_>) -> Result<Fetched, ClientError> {
        let partition = topic.partitions.iter().find(|partition| partition.index == from.partition);
        let leader = partition.map_or(-1, |partition| partition.leader);
        self.node(leader).await?.fetch(from).await
    }

    /// Names and states of all groups.
    ///
    /// # Errors
    ///
    /// As [`Client::call`], and the brokers' own.
    pub async fn groups(&self) -> Result<BTreeMap<String, String>, ClientError> {
        let metadata = self.first.metadata(Some(&[]), false).await?;
        let mut groups = BTreeMap::new();
        for broker in &metadata.brokers {
            let answer =
                self.node_of(&metadata, broker.node_id.0).await?.call(&ListGroupsRequest::default()).await?;
            check(answer.error_code)?;
            for group in answer.groups {
                groups.insert(group.group_id.to_string(), group.group_state.to_string());
            }
        }
        Ok(groups)
    }

    /// A group as its coordinator knows it; `Dead` when there is none of this name.
    ///
    /// # Errors
    ///
    /// As [`Client::call`], and the broker's own.
    pub async fn group(&self, name: &str) -> Result<GroupInfo, ClientError> {
        match self.consumer_group(name).await? {
            Some(group) => Ok(group),
            None => self.classic_group(name).await,
        }
    }

    /// A group of the protocol of KIP-848; `None` when it is not one.
    async fn consumer_group(&self, name: &str) -> Result<Option<GroupInfo>, ClientError> {
        let client = self.coordinator(name).await?;
        // An older broker has no such groups.
        let Ok(version) = client.version::<ConsumerGroupDescribeRequest>() else { return Ok(None) };
        let request = ConsumerGroupDescribeRequest::default().with_group_ids(vec![group_id(name)]);
        let answer = client.call_version(version, &request).await?;
        let Some(group) = answer.groups.into_iter().next() else { return Ok(None) };
        if group.error_code == ResponseError::GroupIdNotFound.code() {
            return Ok(None);
        }
        refused(group.error_code, group.error_message)?;
        let members = group.members.iter().map(|member| {
            (member.member_id.to_string(), member.client_id.to_string(), member.client_host.to_string())
        });
        Ok(Some(GroupInfo {
            name: name.to_owned(),
            state: group.group_state.to_string(),
            assignor: group.assignor_name.to_string(),
            members: members.collect(),
        }))
    }

    async fn classic_group(&self, name: &str) -> Result<GroupInfo, ClientError> {
        let request = DescribeGroupsRequest::default().with_groups(vec![group_id(name)]);
        let client = self.coordinator(name).await?;
        // Version 6 makes an unknown group an error.
        let version = client.version_at_most::<DescribeGroupsRequest>(5)?;
        let answer = client.call_version(version, &request).await?;
        let group = answer.groups.into_iter().next();
        let group = group.ok_or_else(|| ClientError::Malformed("it says nothing of the group".to_owned()))?;
        check(group.error_code)?;
        let members = group.members.iter().map(|member| {
            (member.member_id.to_string(), member.client_id.to_string(), member.client_host.to_string())
        });
        Ok(GroupInfo {
            name: name.to_owned(),
            state: group.group_state.to_string(),
            assignor: group.protocol_data.to_string(),
            members: members.collect(),
        })
    }

    /// The places of a group, by topic and partition.
    ///
    /// # Errors
    ///
    /// As [`Client::call`], and the broker's own.
    pub async fn committed(&self, group: &str) -> Result<BTreeMap<(String, i32), i64>, ClientError> {
        let client = self.coordinator(group).await?;
        let mut offsets = BTreeMap::new();
        match client.version_at_most::<OffsetFetchRequest>(COMMIT_BY_NAME)? {
            version @ ..=OFFSETS_OF_ONE_GROUP => {
                let request = OffsetFetchRequest::default().with_group_id(group_id(group)).with_topics(None);
                let answer = client.call_version(version, &request).await?;
                check(answer.error_code)?;
                for topic in &answer.topics {
                    for partition in &topic.partitions {
                        check(partition.error_code)?;
                        offsets.insert(
                            (topic.name.to_string(), partition.partition_index),
                            partition.committed_offset,
                        );
                    }
                }
            }
            version => {
                let wanted =
                    OffsetFetchRequestGroup::default().with_group_id(group_id(group)).with_topics(None);
                let request = OffsetFetchRequest::default().with_groups(vec![wanted]);
                let answer = client.call_version(version, &request).await?;
                for group in &answer.groups {
                    check(group.error_code)?;
                    for topic in &group.topics {
                        for partition in &topic.partitions {
                            check(partition.error_code)?;
                            offsets.insert(
                                (topic.name.to_string(), partition.partition_index),
                                partition.committed_offset,
                            );
                        }
                    }
                }
            }
        }
        offsets.retain(|_, offset| *offset >= 0);
        Ok(offsets)
    }

    /// Moves a group that has no members.
    ///
    /// # Errors
    ///
    /// As [`Client::call`], and the broker's own; somebody reads as this group.
    pub async fn seek(
        &self,
        group: &str,
        topic: &str,
        offsets: &BTreeMap<i32, i64>,
    ) -> Result<(), ClientError> {
        let client = self.coordinator(group).await?;
        let version = client.version_at_most::<OffsetCommitRequest>(COMMIT_BY_NAME)?;
        let partitions = offsets.iter().map(|(partition, offset)| {
            OffsetCommitRequestPartition::default()
                .with_partition_index(*partition)
                .with_committed_offset(*offset)
                .with_committed_metadata(Some(StrBytes::new()))
        });
        let topic = OffsetCommitRequestTopic::default()
            .with_name(topic_name(topic))
            .with_partitions(partitions.collect());
        let request = OffsetCommitRequest::default()
            .with_group_id(group_id(group))
            .with_generation_id_or_member_epoch(-1)
            .with_retention_time_ms(-1)
            .with_topics(vec![topic]);
        let answer = client.call_version(version, &request).await?;
        for partition in answer.topics.iter().flat_map(|topic| &topic.partitions) {
            if partition.error_code == ResponseError::UnknownMemberId.code() {
                let message = format!("`{group}` has members: a group is moved while nobody reads as it");
                return Err(ClientError::Refused(message));
            }
            check(partition.error_code)?;
        }
        Ok(())
    }

    async fn controller(&self) -> Result<Arc<Client>, ClientError> {
        let metadata = self.first.metadata(Some(&[]), false).await?;
        self.node_of(&metadata, metadata.controller_id.0).await
    }

    async fn coordinator(&self, group: &str) -> Result<Arc<Client>, ClientError> {
        let version = self.first.version_at_most::<FindCoordinatorRequest>(FIND_ONE)?;
        let answer = self
            .first
            .call_version(version, &FindCoordinatorRequest::default().with_key(text(group)))
            .await?;
        refused(answer.error_code, answer.error_message)?;
        self.connection(answer.node_id.0, &answer.host, answer.port).await
    }

    async fn node(&self, node: i32) -> Result<Arc<Client>, ClientError> {
        if let Some(client) = self.nodes.lock().await.get(&node) {
            return Ok(Arc::clone(client));
        }
        let metadata = self.first.metadata(Some(&[]), false).await?;
        self.node_of(&metadata, node).await
    }

    async fn node_of(&self, metadata: &MetadataResponse, node: i32) -> Result<Arc<Client>, ClientError> {
        match metadata.brokers.iter().find(|broker| broker.node_id.0 == node) {
            Some(broker) => self.connection(node, &broker.host, broker.port).await,
            None => Err(ClientError::Malformed(format!("broker {node} is not one of the cluster's now"))),
        }
    }

    async fn connection(&self, node: i32, host: &str, port: i32) -> Result<Arc<Client>, ClientError> {
        let mut nodes = self.nodes.lock().await;
        if let Some(client) = nodes.get(&node) {
            return Ok(Arc::clone(client));
        }
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let address = format!("{host}:{port}");
        let client = match address == self.config.address {
            true => Arc::clone(&self.first),
            false => Arc::new(Client::connect(ClientConfig { address, ..self.config.clone() }).await?),
        };
        nodes.insert(node, Arc::clone(&client));
        Ok(client)
    }

    fn timeout_ms(&self) -> i32 {
        self.config.timeout_ms.min(i32::MAX as u64) as i32
    }
}

/// An error with the broker's own words, where it has any.
fn refused(code: i16, message: Option<StrBytes>) -> Result<(), ClientError> {
    match message {
        Some(message) if code != 0 && !message.is_empty() => Err(ClientError::Refused(message.to_string())),
        _ => check(code),
    }
}

fn group_id(name: &str) -> GroupId {
    GroupId(text(name))
}
