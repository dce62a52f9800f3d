//! Members of groups inside of the process: by the new protocol (KIP-848), at the coordinator that clients of the wire
//! have, so that both may read in one group.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, GroupId, OffsetCommitRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use tokio::time::{Instant, sleep_until};

use crate::broker::Broker;
use crate::groups::text;
use crate::groups::{Caller, Reply, Request};

/// Between two heartbeats: soon enough for a change of the group to be felt at once, seldom enough to cost nothing.
const HEARTBEAT: Duration = Duration::from_millis(300);

/// Before the next try when the coordinator is not ready.
const RETRY: Duration = Duration::from_millis(100);

/// Tries to join: a shard that is being loaded answers soon.
const JOIN_TRIES: u32 = 100;

/// The version of `OffsetCommit` that names epochs.
const COMMIT_VERSION: i16 = 9;

/// The epoch that says "I leave".
const LEAVING: i32 = -1;

/// How the coordinator shares partitions out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assignor {
    /// Neighbouring partitions of a topic for each member.
    Range,
    /// Equally many for each, moving as few as possible.
    Uniform,
}

/// A wish to read a topic in a group.
#[derive(Clone, Debug)]
pub struct Joining {
    pub group: String,
    pub topic: String,
    /// The member's own name in the group. Whoever joins with the name of a member that has died takes its place at once.
    pub member: String,
    pub assignor: Assignor,
    /// How long a member may take to give partitions back, in milliseconds.
    pub rebalance_ms: i32,
}

/// Why a call of a member failed: it has to join again.
#[derive(Clone, Debug, thiserror::Error)]
pub enum MemberError {
    #[error("there is no topic `{0}`")]
    UnknownTopic(String),
    #[error("the group `{group}` says: {why}")]
    Refused { group: String, why: String },
}

/// A member of a group that reads one topic.
pub struct LocalMember {
    broker: Arc<Broker>,
    joining: Joining,
    epoch: i32,
    /// What the coordinator wants it to have.
    assigned: BTreeSet<i32>,
    /// What it has told the coordinator to have.
    owned: BTreeSet<i32>,
    /// The assignment was not given to the caller yet.
    news: bool,
    next_heartbeat: Instant,
    /// A heartbeat on its way. Its answer may say what no later one says again, so it is kept when a wait is given up.
    pending: Option<Pending>,
}

type Pending = Pin<Box<dyn Future<Output = Result<Reply, ResponseError>> + Send>>;

impl LocalMember {
    /// Joins the group.
    ///
    /// # Errors
    ///
    /// An unknown topic; a group of the classic protocol with members; a coordinator that does not come up.
    pub async fn join(broker: &Arc<Broker>, joining: Joining) -> Result<LocalMember, MemberError> {
        let mut member = LocalMember {
            broker: Arc::clone(broker),
            joining,
            epoch: 0,
            assigned: BTreeSet::new(),
            owned: BTreeSet::new(),
            news: false,
            next_heartbeat: Instant::now(),
            pending: None,
        };
        let mut tries = 0;
        loop {
            match member.heartbeat(true).await {
                Ok(()) => return Ok(member),
                Err(error) if is_passing(error) && tries < JOIN_TRIES => tries += 1,
                Err(error) => return Err(member.refused(error)),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// The partitions to read from now on, when that has changed. Cancel safe. What is no longer among them is to be
    /// given back by [`LocalMember::release`]; others get it only then.
    pub async fn assigned(&mut self) -> Result<Vec<i32>, MemberError> {
        loop {
            if std::mem::take(&mut self.news) {
                return Ok(self.assigned.iter().copied().collect());
            }
            let told = if self.pending.is_some() {
                self.answered().await
            } else {
                sleep_until(self.next_heartbeat).await;
                self.heartbeat(false).await
            };
            match told {
                Ok(()) => {}
                Err(error) if is_passing(error) => self.next_heartbeat = Instant::now() + RETRY,
                Err(error) => return Err(self.refused(error)),
            }
        }
    }

    /// What was taken away is not read any more.
    pub async fn release(&mut self) -> Result<(), MemberError> {
        if self.owned == self.assigned {
            return Ok(());
        }
        self.owned.clone_from(&self.assigned);
        match self.heartbeat(true).await {
            Ok(()) => Ok(()),
            // Told with the next one.
            Err(error) if is_passing(error) => Ok(()),
            Err(error) => Err(self.refused(error)),
        }
    }

    /// Committed offsets of partitions; `None` where there is none.
    pub async fn positions(&mut self, partitions: &[i32]) -> Result<Vec<Option<i64>>, MemberError> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let topic = OffsetFetchRequestTopics::default()
            .with_name(self.topic_name())
            .with_partition_indexes(partitions.to_vec());
        let group = OffsetFetchRequestGroup::default()
            .with_group_id(GroupId(text(&self.joining.group)))
            .with_member_id(Some(text(&self.joining.member)))
            .with_member_epoch(self.epoch)
            .with_topics(Some(vec![topic]));
        // With a transaction pending over an offset its end decides: asked again until then.
        let request = || Request::Fetch { group: group.clone(), require_stable: true };
        loop {
            match self.ask(COMMIT_VERSION, request()).await {
                Ok(Reply::Fetch(answer)) => {
                    let found = answer.topics.iter().flat_map(|topic| &topic.partitions);
                    let found: Vec<_> = found.collect();
                    let errors = found.iter().map(|one| one.error_code).chain([answer.error_code]);
                    match errors.filter_map(ResponseError::try_from_code).next() {
                        None => {
                            let of = |index: &i32| {
                                let one = found.iter().find(|one| one.partition_index == *index)?;
                                (one.committed_offset >= 0).then_some(one.committed_offset)
                            };
                            return Ok(partitions.iter().map(of).collect());
                        }
                        Some(error) if is_passing(error) => {}
                        Some(error) => return Err(self.refused(error)),
                    }
                }
                Ok(_) => return Err(self.refused(ResponseError::UnknownServerError)),
                Err(error) if is_passing(error) => {}
                Err(error) => return Err(self.refused(error)),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Commits offsets; when it returns they are on the disk.
    pub async fn commit(&mut self, positions: &[(i32, i64)]) -> Result<(), MemberError> {
        let partition = |&(partition, offset): &(i32, i64)| {
            OffsetCommitRequestPartition::default()
                .with_partition_index(partition)
                .with_committed_offset(offset)
                .with_committed_leader_epoch(-1)
                .with_committed_metadata(Some(StrBytes::default()))
        };
        let topic = OffsetCommitRequestTopic::default()
            .with_name(self.topic_name())
            .with_partitions(positions.iter().map(partition).collect());
        let request = OffsetCommitRequest::default()
            .with_group_id(GroupId(text(&self.joining.group)))
            .with_generation_id_or_member_epoch(self.epoch)
            .with_member_id(text(&self.joining.member))
            .with_topics(vec![topic]);
        match self.ask(COMMIT_VERSION, Request::Commit(request)).await {
            Ok(Reply::Commit(answer)) => {
                let errors = answer.topics.iter().flat_map(|topic| &topic.partitions);
                let mut errors = errors.filter_map(|one| ResponseError::try_from_code(one.error_code));
                errors.next().map_or(Ok(()), |error| Err(self.refused(error)))
            }
            Ok(_) => Err(self.refused(ResponseError::UnknownServerError)),
            Err(error) => Err(self.refused(error)),
        }
    }

    /// The member's name and its epoch, for offsets that are committed in a transaction.
    pub fn identity(&self) -> (&str, i32) {
        (&self.joining.member, self.epoch)
    }

    /// Leaves: the others get its partitions at once.
    pub async fn leave(mut self) {
        self.epoch = LEAVING;
        self.owned.clear();
        // Who cannot be told finds out when the session is over.
        let _ = self.heartbeat(true).await;
    }

    async fn heartbeat(&mut self, full: bool) -> Result<(), ResponseError> {
        if self.pending.is_some() {
            self.answered().await?;
        }
        self.next_heartbeat = Instant::now() + HEARTBEAT;
        let topic = self.broker.store.topic(&self.joining.topic);
        let topic = topic.ok_or(ResponseError::UnknownTopicOrPartition)?;
        let mut request = ConsumerGroupHeartbeatRequest::default()
            .with_group_id(GroupId(text(&self.joining.group)))
            .with_member_id(text(&self.joining.member))
            .with_member_epoch(self.epoch)
            .with_rebalance_timeout_ms(-1)
            .with_topic_partitions(None)
            .with_subscribed_topic_names(None);
        if full {
            let assignor = match self.joining.assignor {
                Assignor::Range => "range",
                Assignor::Uniform => "uniform",
            };
            let owned = TopicPartitions::default()
                .with_topic_id(topic.id)
                .with_partitions(self.owned.iter().copied().collect());
            let owned = if self.owned.is_empty() { Vec::new() } else { vec![owned] };
            request = request
                .with_rebalance_timeout_ms(self.joining.rebalance_ms)
                .with_subscribed_topic_names(Some(vec![self.topic_name()]))
                .with_server_assignor(Some(text(assignor)))
                .with_topic_partitions(Some(owned));
        }
        self.pending = Some(Box::pin(self.ask(1, Request::ConsumerHeartbeat(request))));
        self.answered().await
    }

    /// Hears the answer to the heartbeat that is on its way.
    async fn answered(&mut self) -> Result<(), ResponseError> {
        let Some(pending) = &mut self.pending else { return Ok(()) };
        let answer = pending.await;
        self.pending = None;
        let topic = self.broker.store.topic(&self.joining.topic);
        let topic = topic.ok_or(ResponseError::UnknownTopicOrPartition)?;
        match answer? {
            Reply::ConsumerHeartbeat(answer) => self.hear(answer, topic.id),
            _ => Err(ResponseError::UnknownServerError),
        }
    }

    fn hear(
        &mut self,
        answer: ConsumerGroupHeartbeatResponse,
        topic: uuid::Uuid,
    ) -> Result<(), ResponseError> {
        if let Some(error) = ResponseError::try_from_code(answer.error_code) {
            return Err(error);
        }
        if self.epoch != LEAVING {
            self.epoch = answer.member_epoch;
        }
        if let Some(assignment) = answer.assignment {
            let own = assignment.topic_partitions.into_iter().filter(|one| one.topic_id == topic);
            let assigned: BTreeSet<i32> = own.flat_map(|one| one.partitions).collect();
            if assigned != self.assigned {
                self.assigned = assigned;
                self.news = true;
            }
        }
        Ok(())
    }

    fn ask(
        &self,
        version: i16,
        request: Request,
    ) -> impl Future<Output = Result<Reply, ResponseError>> + Send + use<> {
        let caller = Caller {
            client_id: Arc::from(self.joining.member.as_str()),
            host: Arc::from("/127.0.0.1"),
            version,
        };
        let (broker, group) = (Arc::clone(&self.broker), self.joining.group.clone());
        async move { broker.groups.request(&group, caller, request).await }
    }

    fn topic_name(&self) -> TopicName {
        TopicName(text(&self.joining.topic))
    }

    fn refused(&self, error: ResponseError) -> MemberError {
        match error {
            ResponseError::UnknownTopicOrPartition => MemberError::UnknownTopic(self.joining.topic.clone()),
            error => MemberError::Refused { group: self.joining.group.clone(), why: error.to_string() },
        }
    }
}

/// It is asked again.
fn is_passing(error: ResponseError) -> bool {
    matches!(
        error,
        ResponseError::CoordinatorLoadInProgress
            | ResponseError::CoordinatorNotAvailable
            | ResponseError::UnstableOffsetCommit
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::BrokerConfig;
    use crate::local::LocalTopic;

    async fn broker(dir: &std::path::Path) -> Arc<Broker> {
        let broker = Broker::start(BrokerConfig::new(dir)).await.unwrap();
        let topic = LocalTopic {
            name: "orders".into(),
            partitions: 4,
            settings: std::collections::BTreeMap::new(),
            keep: false,
        };
        broker.open_topic(topic).await.unwrap();
        broker
    }

    fn joining(member: &str) -> Joining {
        Joining {
            group: "billing".into(),
            topic: "orders".into(),
            member: member.into(),
            assignor: Assignor::Uniform,
            rebalance_ms: 10_000,
        }
    }

    #[tokio::test]
    async fn members_share_partitions_and_take_over() {
        let dir = tempfile::tempdir().unwrap();
        let broker = broker(dir.path()).await;
        let mut first = LocalMember::join(&broker, joining("a")).await.unwrap();
        assert_eq!(first.assigned().await.unwrap(), [0, 1, 2, 3]);
        first.release().await.unwrap();
        assert_eq!(first.positions(&[0, 1]).await.unwrap(), [None, None]);
        first.commit(&[(0, 7), (3, 9)]).await.unwrap();
        assert_eq!(first.positions(&[0, 1, 3]).await.unwrap(), [Some(7), None, Some(9)]);
        let mut second = LocalMember::join(&broker, joining("b")).await.unwrap();
        let kept = first.assigned().await.unwrap();
        assert_eq!(kept.len(), 2);
        // Others get nothing before it is given back.
        first.release().await.unwrap();
        let mut gained = Vec::new();
        while gained.len() < 2 {
            gained = second.assigned().await.unwrap();
            second.release().await.unwrap();
        }
        assert!(gained.iter().all(|partition| !kept.contains(partition)), "{kept:?} {gained:?}");
        first.leave().await;
        while second.assigned().await.unwrap().len() < 4 {
            second.release().await.unwrap();
        }
        broker.shutdown().await;
    }

    #[tokio::test]
    async fn one_that_died_comes_back_to_its_place_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let running = broker(dir.path()).await;
        let mut member = LocalMember::join(&running, joining("a")).await.unwrap();
        assert_eq!(member.assigned().await.unwrap().len(), 4);
        member.release().await.unwrap();
        member.commit(&[(2, 5)]).await.unwrap();
        // Not a word of leaving.
        drop(member);
        running.shutdown().await;
        drop(running);
        let running = broker(dir.path()).await;
        let mut member = LocalMember::join(&running, joining("a")).await.unwrap();
        assert_eq!(member.assigned().await.unwrap(), [0, 1, 2, 3]);
        assert_eq!(member.positions(&[2]).await.unwrap(), [Some(5)]);
        running.shutdown().await;
    }
}
