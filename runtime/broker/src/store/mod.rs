//! Topics by name and id, their partitions and their configs: everything of the broker that lies on the disk, and who
//! takes care of it.
//!
//! It must not know the wire, groups or transactions.

mod catalog;
pub(crate) mod clock;
pub(crate) mod configs;
pub(crate) mod files;
pub(crate) mod meta;
pub(crate) mod names;
pub(crate) mod partition;
// The transaction APIs will use all of it.
#[allow(unused_imports)]
pub(crate) mod producers;
mod snapshots;
#[cfg(test)]
mod tests;
mod topic;
mod upkeep;
mod validate;
mod wake;

use std::ops::Deref;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use flow_log::{Committer, DirLock, Disk, LockError, Storage};
use uuid::Uuid;

// Handlers to come use all of them.
#[allow(unused_imports)]
pub(crate) use catalog::{Catalog, NewTopic, TopicError};
#[allow(unused_imports)]
pub(crate) use partition::{Appended, Commit, Fetched, Isolation, Offsets, Partition};
pub(crate) use producers::Origin;
pub(crate) use topic::Topic;
pub(crate) use validate::{AppendError, check_single};
#[allow(unused_imports)]
pub(crate) use wake::Waiter;

use self::configs::{BrokerSettings, Overrides};
use self::meta::{META_FILE, META_VERSION, Meta, MetaError};
use self::upkeep::UpkeepThread;
use crate::broker::StartError;
use crate::config::BrokerConfig;

/// The largest list of topics that is read, in bytes.
const META_BYTES_MAX: usize = 256 << 20;

/// All topics, open. Stopped with [`Store::stop`]; dropped without it, the next start has a little to check.
pub(crate) struct Store {
    catalog: Arc<Catalog>,
    upkeep: Mutex<Option<UpkeepThread>>,
    /// Keeps other processes out as long as the store lives.
    _lock: Option<DirLock>,
}

impl Deref for Store {
    type Target = Catalog;

    fn deref(&self) -> &Catalog {
        &self.catalog
    }
}

impl Store {
    /// Opens the data directory: takes its lock, reads the topics, opens their partitions side by side.
    ///
    /// # Errors
    ///
    /// Another process holds the directory (F0811), a newer program wrote it (F0813), damaged or unreadable files, a
    /// setting of the configuration that is unknown or wrong.
    pub(crate) async fn open(config: &BrokerConfig) -> Result<Store, StartError> {
        let config = config.clone();
        tokio::task::spawn_blocking(move || {
            raise_file_limit();
            let lock = DirLock::take(&config.data_dir).map_err(|error| match error {
                LockError::Held { dir, process } => StartError::Held { dir, process },
                LockError::Io { .. } => StartError::Config(error.to_string()),
            })?;
            let store = Store::open_on(Arc::new(Disk), &config)?;
            let upkeep = UpkeepThread::start(Arc::clone(&store.catalog))
                .map_err(|error| StartError::Config(format!("cannot start a thread: {error}")))?;
            Ok(Store { upkeep: Mutex::new(Some(upkeep)), _lock: Some(lock), ..store })
        })
        .await
        .unwrap_or_else(|error| Err(StartError::Config(format!("cannot open the store: {error}"))))
    }

    /// The same on any storage, without the lock and without upkeep.
    pub(crate) fn open_on(storage: Arc<dyn Storage>, config: &BrokerConfig) -> Result<Store, StartError> {
        let dir = &config.data_dir;
        storage.create_dir(dir).map_err(|error| StartError::File { path: dir.clone(), error })?;
        let meta = read_meta(&*storage, dir, config.cluster_id.as_deref())?;
        let fixed = fixed_settings(config, &meta.cluster_id).map_err(StartError::Config)?;
        let settings = BrokerSettings { fixed: Arc::new(fixed), dynamic: Arc::new(meta.broker.clone()) };
        let committer = Arc::new(Committer::new());
        let catalog =
            Catalog::open(dir, storage, committer, settings, meta).map_err(|error| match error {
                TopicError::Newer { path, reason } => StartError::Newer { path, reason },
                other => StartError::Config(other.to_string()),
            })?;
        Ok(Store { catalog: Arc::new(catalog), upkeep: Mutex::new(None), _lock: None })
    }

    /// Puts everything on the disk with a mark that it is whole. Appends are refused from now on.
    pub(crate) async fn stop(&self) {
        let upkeep = self.upkeep.lock().unwrap_or_else(PoisonError::into_inner).take();
        let catalog = Arc::clone(&self.catalog);
        let closed = tokio::task::spawn_blocking(move || {
            drop(upkeep);
            close(&catalog);
        });
        if let Err(error) = closed.await {
            tracing::error!("cannot close the store: {error}");
        }
    }
}

/// Closes every partition; several at a time, because each waits for the disk.
pub(crate) fn close(catalog: &Catalog) {
    const THREADS: usize = 8;
    let partitions = catalog.partitions();
    std::thread::scope(|scope| {
        for part in partitions.chunks(partitions.len().div_ceil(THREADS).max(1)) {
            scope.spawn(move || {
                for partition in part {
                    if let Err(error) = partition.close() {
                        let (topic, index) = (&*partition.topic, partition.index);
                        tracing::error!(topic, partition = index, "cannot close the log: {error}");
                    }
                }
            });
        }
    });
    catalog.remove_doomed();
}

fn read_meta(storage: &dyn Storage, dir: &Path, cluster_id: Option<&str>) -> Result<Meta, StartError> {
    let path = dir.join(META_FILE);
    let text = files::read_file(storage, &path, META_BYTES_MAX)
        .map_err(|error| StartError::File { path: path.clone(), error })?;
    // The last change may have been cut off between its rename and this; what is built on it must last as long as it.
    storage.sync_dir(dir).map_err(|error| StartError::File { path: dir.to_owned(), error })?;
    let mut meta = match text {
        Some(text) => meta::decode_meta(&text).map_err(|error| match error {
            MetaError::Newer { .. } => StartError::Newer { path: path.clone(), reason: error.to_string() },
            other => StartError::Config(format!("`{}` cannot be used: {other}", path.display())),
        })?,
        None => {
            let meta = Meta {
                version: META_VERSION,
                cluster_id: cluster_id.map_or_else(|| meta::encode_topic_id(Uuid::new_v4()), str::to_owned),
                broker: Overrides::new(),
                topics: Vec::new(),
            };
            catalog::write_meta(storage, dir, &meta).map_err(StartError::Config)?;
            meta
        }
    };
    meta.version = META_VERSION;
    if let Some(given) = cluster_id {
        given.clone_into(&mut meta.cluster_id);
    }
    Ok(meta)
}

/// What the broker's own configuration says, by Kafka's names.
fn fixed_settings(config: &BrokerConfig, cluster_id: &str) -> Result<Overrides, String> {
    let mut fixed = Overrides::new();
    for (name, value) in &config.topics.settings {
        let (name, def) = match configs::topic_def(name) {
            Some(def) => match def.synonyms.first() {
                Some(&(broker, _)) => (broker, def),
                None => return Err(format!("`{name}` can be set for single topics only")),
            },
            None => match configs::broker_def(name) {
                Some(def) => (def.name, def),
                None => return Err(format!("unknown setting `{name}`")),
            },
        };
        def.check(value)?;
        fixed.insert(name.to_owned(), value.clone());
    }
    let listeners = |host: &dyn Fn(&crate::config::ListenerConfig) -> String| {
        let texts: Vec<String> = config
            .listeners
            .iter()
            .map(|listener| {
                let protocol = if listener.tls.is_some() { "SSL" } else { "PLAINTEXT" };
                format!("{protocol}://{}", host(listener))
            })
            .collect();
        texts.join(",")
    };
    let given = [
        (
            "advertised.listeners",
            listeners(&|listener| {
                let host =
                    listener.advertised_host.clone().unwrap_or_else(|| listener.address.ip().to_string());
                format!("{host}:{}", listener.advertised_port.unwrap_or_else(|| listener.address.port()))
            }),
        ),
        ("auto.create.topics.enable", config.auto_create_topics.to_string()),
        ("broker.id", config.node_id.to_string()),
        ("cluster.id", cluster_id.to_owned()),
        ("connections.max.idle.ms", config.limits.idle_timeout_ms.to_string()),
        ("listeners", listeners(&|listener| listener.address.to_string())),
        ("log.dirs", config.data_dir.display().to_string()),
        ("max.connections", config.limits.connections_max.to_string()),
        ("node.id", config.node_id.to_string()),
        ("num.partitions", config.topics.partitions.to_string()),
        ("socket.request.max.bytes", config.limits.request_bytes_max.to_string()),
    ];
    for (name, value) in given {
        fixed.insert(name.to_owned(), value);
    }
    Ok(fixed)
}

/// Partitions hold files open: the process gets as many as the system lets it have.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::debug!("cannot raise the number of open files: {error}");
        }
    }
}
