//! The topics by name and id, and every change of them: creating, deleting, growing, configuring. A change is first made
//! to last on the disk and then seen; what a crash leaves half done is cleared away by the next start.
//!
//! It must not know the wire.

mod dirs;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use flow_log::{Committer, Storage};
use kafka_protocol::error::ResponseError;
use tokio::sync::watch;
use uuid::Uuid;

use super::configs::{self, BrokerSettings, Overrides};
use super::files::replace_file;
use super::meta::{self, META_FILE, Meta, PARTITIONS_MAX, TopicMeta};
use super::names;
use super::partition::Partition;
use super::topic::Topic;

/// The most partitions of all topics together: each holds files open.
pub(crate) const PARTITIONS_TOTAL_MAX: usize = 200_000;

/// A topic that is to be made.
#[derive(Debug, Clone, Default)]
pub(crate) struct NewTopic {
    pub(crate) name: String,
    /// None: as many as the broker's `num.partitions`.
    pub(crate) partitions: Option<i32>,
    pub(crate) configs: Overrides,
}

/// Why a change of topics was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TopicError {
    #[error("{0}")]
    Name(String),
    #[error("topic `{0}` exists")]
    Exists(String),
    #[error("topic `{name}` collides with `{other}`: tools that write `.` as `_` take one for the other")]
    Collides { name: String, other: String },
    #[error("there is no topic `{0}`")]
    Unknown(String),
    #[error("there is no topic with the id `{0}`")]
    UnknownId(Uuid),
    #[error("{0}")]
    Partitions(String),
    #[error("{0}")]
    Config(String),
    #[error("topic `{0}` is the broker's own: it is made, grown and kept by the broker alone")]
    Internal(String),
    /// A newer program wrote this file.
    #[error("{reason}")]
    Newer { path: PathBuf, reason: String },
    #[error("{0}")]
    Disk(String),
}

impl TopicError {
    /// The code on the wire.
    pub(crate) fn code(&self) -> ResponseError {
        match self {
            TopicError::Name(_) | TopicError::Collides { .. } | TopicError::Internal(_) => {
                ResponseError::InvalidTopicException
            }
            TopicError::Exists(_) => ResponseError::TopicAlreadyExists,
            TopicError::Unknown(_) => ResponseError::UnknownTopicOrPartition,
            TopicError::UnknownId(_) => ResponseError::UnknownTopicId,
            TopicError::Partitions(_) => ResponseError::InvalidPartitions,
            TopicError::Config(_) => ResponseError::InvalidConfig,
            TopicError::Newer { .. } | TopicError::Disk(_) => ResponseError::KafkaStorageError,
        }
    }
}

/// All topics of the broker.
pub(crate) struct Catalog {
    dir: PathBuf,
    storage: Arc<dyn Storage>,
    committer: Arc<Committer>,
    topics: RwLock<Topics>,
    settings: RwLock<BrokerSettings>,
    /// As it is on the disk. Held over a whole change, so that changes come one after the other.
    meta: Mutex<Meta>,
    /// Directories on their way out.
    doomed: Mutex<Vec<PathBuf>>,
    /// Counts the changes of which topics there are and how many partitions they have.
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct Topics {
    by_name: HashMap<Arc<str>, Arc<Topic>>,
    by_id: HashMap<Uuid, Arc<Topic>>,
}

impl Catalog {
    /// Opens every partition that `meta` lists, several at a time.
    pub(super) fn open(
        dir: &Path,
        storage: Arc<dyn Storage>,
        committer: Arc<Committer>,
        settings: BrokerSettings,
        meta: Meta,
    ) -> Result<Catalog, TopicError> {
        let catalog = Catalog {
            dir: dir.to_owned(),
            storage,
            committer,
            topics: RwLock::default(),
            settings: RwLock::new(settings),
            meta: Mutex::new(meta),
            doomed: Mutex::default(),
            changes: watch::Sender::new(0),
        };
        catalog.set_aside_leftovers()?;
        let topics = catalog.meta().topics.clone();
        let jobs: Vec<(&TopicMeta, i32)> =
            topics.iter().flat_map(|topic| (0..topic.partitions).map(move |index| (topic, index))).collect();
        let mut opened = catalog.open_partitions(&jobs, false)?.into_iter();
        for topic in &topics {
            let partitions = opened.by_ref().take(topic.partitions as usize).collect();
            catalog.insert(topic, partitions);
        }
        Ok(catalog)
    }

    /// The topic of this name.
    pub(crate) fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.read_topics().by_name.get(name).cloned()
    }

    /// The topic with this id.
    pub(crate) fn topic_by_id(&self, id: Uuid) -> Option<Arc<Topic>> {
        self.read_topics().by_id.get(&id).cloned()
    }

    /// Tells when topics were made, deleted or grown; a change is told after it can be seen.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// All topics, by name.
    pub(crate) fn topics(&self) -> Vec<Arc<Topic>> {
        let mut topics: Vec<Arc<Topic>> = self.read_topics().by_name.values().cloned().collect();
        topics.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        topics
    }

    /// A partition by its topic's name.
    pub(crate) fn partition(&self, topic: &str, index: i32) -> Option<Arc<Partition>> {
        self.read_topics().by_name.get(topic)?.partition(index)
    }

    /// Every partition of every topic.
    pub(crate) fn partitions(&self) -> Vec<Arc<Partition>> {
        self.read_topics()
            .by_name
            .values()
            .flat_map(|topic| topic.partitions().iter().cloned().collect::<Vec<_>>())
            .collect()
    }

    /// The name of the cluster.
    pub(crate) fn cluster_id(&self) -> String {
        self.meta().cluster_id.clone()
    }

    /// The broker's settings as they hold now.
    pub(crate) fn broker_settings(&self) -> BrokerSettings {
        self.settings.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    /// Says whether a topic could be made: all that [`Catalog::create_topic`] checks. Gives its number of partitions.
    pub(crate) fn check_new_topic(&self, new: &NewTopic) -> Result<i32, TopicError> {
        names::check_topic_name(&new.name).map_err(TopicError::Name)?;
        let topics = self.read_topics();
        if topics.by_name.contains_key(new.name.as_str()) {
            return Err(TopicError::Exists(new.name.clone()));
        }
        let key = names::collision_key(&new.name);
        if key != new.name || key.contains('_') {
            let other = topics.by_name.keys().find(|other| names::collision_key(other) == key);
            if let Some(other) = other {
                return Err(TopicError::Collides { name: new.name.clone(), other: other.to_string() });
            }
        }
        let total: usize = topics.by_name.values().map(|topic| topic.partitions().len()).sum();
        drop(topics);
        let default = self.broker_settings().broker_number("num.partitions", 1);
        let partitions = new.partitions.unwrap_or_else(|| i32::try_from(default).unwrap_or(1));
        check_partitions(partitions, total)?;
        configs::check_topic(&new.configs).map_err(TopicError::Config)?;
        Ok(partitions)
    }

    /// Makes a topic. Blocks on the disk.
    pub(crate) fn create_topic(&self, new: &NewTopic) -> Result<Arc<Topic>, TopicError> {
        let mut meta = self.meta();
        let partitions = self.check_new_topic(new)?;
        let topic = TopicMeta {
            name: new.name.clone(),
            id: new_topic_id(),
            partitions,
            configs: new.configs.clone(),
        };
        let jobs: Vec<(&TopicMeta, i32)> = (0..partitions).map(|index| (&topic, index)).collect();
        let undo = || (0..partitions).for_each(|index| self.doom_own(&topic.name, topic.id, index));
        let opened = self.open_partitions(&jobs, true).inspect_err(|_| undo())?;
        let mut next = meta.clone();
        next.topics.push(topic.clone());
        self.write_meta(&mut meta, next).inspect_err(|_| undo())?;
        Ok(self.insert(&topic, opened))
    }

    /// The topic of this name, made if there is none. Blocks on the disk.
    pub(crate) fn ensure_topic(&self, new: &NewTopic) -> Result<Arc<Topic>, TopicError> {
        if let Some(topic) = self.topic(&new.name) {
            return Ok(topic);
        }
        match self.create_topic(new) {
            Err(TopicError::Exists(name)) => self.topic(&name).ok_or(TopicError::Unknown(name)),
            other => other,
        }
    }

    /// Deletes a topic: its name is free at once, its files go in the background. Blocks on the disk.
    pub(crate) fn delete_topic(&self, name: &str) -> Result<Uuid, TopicError> {
        let mut meta = self.meta();
        let topic = self.topic(name).ok_or_else(|| TopicError::Unknown(name.to_owned()))?;
        let mut next = meta.clone();
        next.topics.retain(|known| known.name != name);
        self.write_meta(&mut meta, next)?;
        {
            let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
            topics.by_name.remove(name);
            topics.by_id.remove(&topic.id);
        }
        self.changes.send_modify(|count| *count += 1);
        for partition in topic.partitions().iter() {
            partition.set_gone();
            self.doom(name, partition.index);
        }
        if let Err(error) = self.storage.sync_dir(&self.dir) {
            tracing::warn!("cannot sync `{}`: {error}", self.dir.display());
        }
        Ok(topic.id)
    }

    /// Says whether a topic can have `count` partitions instead of those it has.
    pub(crate) fn check_growth(&self, name: &str, count: i32) -> Result<Arc<Topic>, TopicError> {
        let topic = self.topic(name).ok_or_else(|| TopicError::Unknown(name.to_owned()))?;
        let known = topic.partitions().len() as i32;
        if count == known {
            return Err(TopicError::Partitions(format!("topic `{name}` has {count} partitions already")));
        }
        if count < known {
            return Err(TopicError::Partitions(format!(
                "topic `{name}` has {known} partitions, and they cannot be lowered to {count}"
            )));
        }
        check_partitions(count, self.partitions().len() - known as usize)?;
        Ok(topic)
    }

    /// Gives a topic more partitions. Blocks on the disk.
    pub(crate) fn grow_topic(&self, name: &str, count: i32) -> Result<(), TopicError> {
        let mut meta = self.meta();
        let topic = self.check_growth(name, count)?;
        let known = topic.partitions().len() as i32;
        let mut next = meta.clone();
        let Some(grown) = next.topics.iter_mut().find(|other| other.id == topic.id) else {
            return Err(TopicError::Unknown(name.to_owned()));
        };
        grown.partitions = count;
        let grown = grown.clone();
        let jobs: Vec<(&TopicMeta, i32)> = (known..count).map(|index| (&grown, index)).collect();
        let undo = || (known..count).for_each(|index| self.doom_own(name, topic.id, index));
        let opened = self.open_partitions(&jobs, true).inspect_err(|_| undo())?;
        self.write_meta(&mut meta, next).inspect_err(|_| undo())?;
        topic.add_partitions(opened);
        self.changes.send_modify(|count| *count += 1);
        Ok(())
    }

    /// Replaces a topic's own settings by what `change` makes of them; only checks with `validate_only`. Blocks on the
    /// disk.
    pub(crate) fn alter_topic(
        &self,
        name: &str,
        validate_only: bool,
        change: impl FnOnce(&mut Overrides) -> Result<(), String>,
    ) -> Result<(), TopicError> {
        let mut meta = self.meta();
        let topic = self.topic(name).ok_or_else(|| TopicError::Unknown(name.to_owned()))?;
        let mut overrides = (*topic.configs()).clone();
        change(&mut overrides).map_err(TopicError::Config)?;
        configs::check_topic(&overrides).map_err(TopicError::Config)?;
        if validate_only {
            return Ok(());
        }
        let mut next = meta.clone();
        if let Some(known) = next.topics.iter_mut().find(|other| other.id == topic.id) {
            known.configs = overrides.clone();
        }
        self.write_meta(&mut meta, next)?;
        topic.set_configs(Arc::new(overrides.clone()), Arc::new(self.broker_settings().topic(&overrides)));
        Ok(())
    }

    /// The same for the broker's settings that can change while it runs.
    pub(crate) fn alter_broker(
        &self,
        validate_only: bool,
        change: impl FnOnce(&mut Overrides) -> Result<(), String>,
    ) -> Result<(), TopicError> {
        let mut meta = self.meta();
        let mut dynamic = meta.broker.clone();
        change(&mut dynamic).map_err(TopicError::Config)?;
        configs::check_broker(&dynamic).map_err(TopicError::Config)?;
        if validate_only {
            return Ok(());
        }
        let next = Meta { broker: dynamic.clone(), ..meta.clone() };
        self.write_meta(&mut meta, next)?;
        let settings = {
            let mut settings = self.settings.write().unwrap_or_else(PoisonError::into_inner);
            settings.dynamic = Arc::new(dynamic);
            settings.clone()
        };
        for topic in self.topics() {
            let overrides = topic.configs();
            let parsed = Arc::new(settings.topic(&overrides));
            topic.set_configs(overrides, parsed);
        }
        Ok(())
    }

    fn read_topics(&self) -> std::sync::RwLockReadGuard<'_, Topics> {
        self.topics.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn meta(&self) -> MutexGuard<'_, Meta> {
        self.meta.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn insert(&self, meta: &TopicMeta, partitions: Vec<Arc<Partition>>) -> Arc<Topic> {
        let topic = Arc::new(Topic::new(meta, partitions));
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        topics.by_name.insert(Arc::clone(&topic.name), Arc::clone(&topic));
        topics.by_id.insert(topic.id, Arc::clone(&topic));
        drop(topics);
        self.changes.send_modify(|count| *count += 1);
        topic
    }

    fn write_meta(&self, meta: &mut Meta, next: Meta) -> Result<(), TopicError> {
        write_meta(&*self.storage, &self.dir, &next).map_err(TopicError::Disk)?;
        *meta = next;
        Ok(())
    }
}

/// Writes the list of topics so that it lasts.
pub(super) fn write_meta(storage: &dyn Storage, dir: &Path, meta: &Meta) -> Result<(), String> {
    let path = dir.join(META_FILE);
    replace_file(storage, &path, &meta::encode_meta(meta))
        .and_then(|()| storage.sync_dir(dir))
        .map_err(|error| format!("cannot write `{}`: {error}", path.display()))
}

fn check_partitions(count: i32, others: usize) -> Result<(), TopicError> {
    if !(1..=PARTITIONS_MAX).contains(&count) {
        return Err(TopicError::Partitions(format!(
            "a topic has from 1 to {PARTITIONS_MAX} partitions, not {count}"
        )));
    }
    if others + count as usize > PARTITIONS_TOTAL_MAX {
        return Err(TopicError::Partitions(format!(
            "the broker has {others} partitions, and with {count} more it would be over {PARTITIONS_TOTAL_MAX}"
        )));
    }
    Ok(())
}

/// A random id; Kafka keeps those whose text begins with a dash for command lines' sake.
fn new_topic_id() -> Uuid {
    loop {
        let id = Uuid::new_v4();
        if !meta::encode_topic_id(id).starts_with('-') {
            return id;
        }
    }
}
