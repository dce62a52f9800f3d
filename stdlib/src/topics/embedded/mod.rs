//! The cluster `embedded`: a broker in this process, used without sockets by the topics and readers beside it, and over
//! its listener by everybody else.

mod groups;
mod transactions;

use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use flow_agent::{Context, Fault, Service, StartingService, decode_settings};
use flow_broker::{
    AuthorizerConfig, Broker, BrokerConfig, ListenerConfig, LocalError, LocalPartition, LocalTopic,
    StartError, TlsConfig, TopicDefaults, UserConfig,
};
use flow_plan::Settings;
use flow_plan::batch::Arena;
use flow_plan::plan::Topic;
use flow_plan::settings::{Limits, SecretSetting};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::cluster::{
    AppendError, Cluster, ClusterHandle, Fetched, Join, Member, Place, Read, ReadError, Transactions,
};
use super::lane::BATCH_BYTES;

/// Where clients of Kafka look first.
const USUAL_PORT: u16 = 9092;

/// Starts an `embedded` cluster.
pub fn embedded(settings: Settings, context: Context) -> StartingService {
    Box::pin(async move {
        let settings: EmbeddedSettings = decode_settings(&settings)?;
        let embedded = start(&settings, &context).await?;
        Ok(Arc::new(embedded) as Arc<dyn Service>)
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EmbeddedSettings {
    brokers: Option<Vec<String>>,
    data: Option<PathBuf>,
    /// Not built in: the checker has refused it.
    #[serde(rename = "ensemble")]
    _ensemble: IgnoredAny,
    retention: Option<Limits>,
    auto_create: bool,
    #[serde(rename = "session")]
    _session: IgnoredAny,
    users: BTreeMap<String, SecretSetting>,
    super_users: Vec<String>,
    tls: bool,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    ca: Option<PathBuf>,
}

async fn start(settings: &EmbeddedSettings, context: &Context) -> Result<Embedded, Fault> {
    let data_dir = settings.data.clone().unwrap_or_else(|| context.state_dir.clone());
    let mut config = BrokerConfig::new(data_dir);
    config.auto_create_topics = settings.auto_create;
    // Nothing goes unless the file says so.
    let retention = retention(Some(&settings.retention.unwrap_or_default()));
    let given = retention.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    config.topics = TopicDefaults { partitions: 1, settings: given.collect() };
    for (name, password) in &settings.users {
        config.users.push(UserConfig { name: name.clone(), password: context.secret(password)? });
    }
    if !settings.super_users.is_empty() {
        if let Some(stranger) = settings.super_users.iter().find(|name| !settings.users.contains_key(*name)) {
            let message = format!("super user `{stranger}` is none of the `users`");
            return Err(Fault::new(message).setting("super_users"));
        }
        let super_users = settings.super_users.iter().map(|name| format!("User:{name}")).collect();
        config.authorizer = Some(AuthorizerConfig { super_users, allow_everyone_without_acl: false });
    }
    let tls = tls(settings)?;
    let listener = |address: SocketAddr| {
        let mut listener = ListenerConfig::new(address);
        listener.tls = tls.clone();
        listener
    };
    let Some(brokers) = &settings.brokers else {
        let usual = SocketAddr::from(([127, 0, 0, 1], USUAL_PORT));
        config.listeners = vec![listener(usual)];
        return match Broker::start(config.clone()).await {
            Ok(broker) => Ok(Embedded(broker)),
            Err(StartError::Bind { error, .. }) if error.kind() == std::io::ErrorKind::AddrInUse => {
                config.listeners = vec![listener(SocketAddr::from(([127, 0, 0, 1], 0)))];
                Broker::start(config).await.map(Embedded).map_err(start_fault)
            }
            Err(error) => Err(start_fault(error)),
        };
    };
    config.listeners = brokers.iter().map(|text| resolve(text).map(listener)).collect::<Result<_, _>>()?;
    if config.listeners.len() != 1 {
        return Err(Fault::new("this build has one broker per cluster").code("F0116").setting("brokers"));
    }
    // Clients come back to the name that the file gives.
    if let (Some(listener), Some((host, _))) =
        (config.listeners.first_mut(), brokers[0].rsplit_once(':').filter(|(host, _)| !host.is_empty()))
    {
        listener.advertised_host = Some(host.trim_matches(['[', ']']).to_owned());
    }
    Broker::start(config).await.map(Embedded).map_err(start_fault)
}

fn tls(settings: &EmbeddedSettings) -> Result<Option<TlsConfig>, Fault> {
    if !settings.tls {
        return Ok(None);
    }
    let needed = |file: &Option<PathBuf>, setting: &'static str| {
        let fault = || Fault::new(format!("`tls: true` needs `{setting}`")).code("F0115").setting("tls");
        file.clone().ok_or_else(fault)
    };
    Ok(Some(TlsConfig {
        certificate: needed(&settings.cert, "cert")?,
        private_key: needed(&settings.key, "key")?,
        client_ca: settings.ca.clone(),
    }))
}

/// `127.0.0.1:9092`, `host:9092` or `:9092` for all addresses.
fn resolve(text: &str) -> Result<SocketAddr, Fault> {
    let wrong = |why: String| Fault::new(why).setting("brokers");
    let full = match text.strip_prefix(':') {
        Some(port) => format!("0.0.0.0:{port}"),
        None if text.contains(':') => text.to_owned(),
        None => format!("{text}:{USUAL_PORT}"),
    };
    let mut found = full
        .to_socket_addrs()
        .map_err(|error| wrong(format!("`{text}` is no address to listen on: {error}")).code("F0807"))?;
    found.next().ok_or_else(|| wrong(format!("`{text}` has no address")).code("F0807"))
}

fn start_fault(error: StartError) -> Fault {
    let message = error.to_string();
    match error {
        StartError::Bind { address, error, .. } => match error.kind() {
            std::io::ErrorKind::AddrInUse => Fault::new(format!("port {} is taken", address.port()))
                .code("F0802")
                .setting("brokers")
                .help("stop the process that has it, or name another port"),
            std::io::ErrorKind::PermissionDenied => Fault::new(message).code("F0803").setting("brokers"),
            _ => Fault::new(message).setting("brokers"),
        },
        StartError::Tls { .. } => Fault::new(message).setting("cert"),
        StartError::Held { dir, process } => {
            let owner = process.map_or(String::new(), |id| format!(" (pid {id})"));
            Fault::new(format!("another flowc{owner} already owns `{}`", dir.display()))
                .code("F0811")
                .setting("data")
                .help("stop it, or give this cluster a directory of its own")
        }
        StartError::Newer { .. } => Fault::new(message).code("F0813").setting("data"),
        StartError::File { .. } => Fault::new(message).code("F0806").setting("data"),
        StartError::Config(_) => Fault::new(message),
    }
}

/// A broker in this process.
pub struct Embedded(Arc<Broker>);

#[async_trait]
impl Service for Embedded {
    fn handle(&self) -> Arc<dyn std::any::Any + Send + Sync> {
        Arc::new(ClusterHandle(Arc::new(Inside(self.0.clone()))))
    }

    async fn open_topic(&self, topic: &Topic) -> Result<(), Fault> {
        let settings: DeclaredTopic = decode_settings(&topic.settings)?;
        let local = LocalTopic {
            name: topic.name.clone(),
            partitions: settings.partitions,
            settings: settings.configs(),
            keep: settings.external,
        };
        self.0.open_topic(local).await.map_err(|error| match &error {
            LocalError::FewerPartitions { .. } => Fault::new(error.to_string())
                .code("F0710")
                .setting("partitions")
                .help("write the number there is, or use a new topic"),
            _ => Fault::new(error.to_string()),
        })
    }

    fn address(&self) -> String {
        self.0.address().to_string()
    }

    async fn shutdown(&self) {
        self.0.shutdown().await;
    }
}

/// A topic as the file declares it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeclaredTopic {
    partitions: i32,
    #[serde(rename = "replication")]
    _replication: IgnoredAny,
    /// One broker keeps one copy, and that one is in sync.
    #[serde(rename = "min_in_sync")]
    _min_in_sync: IgnoredAny,
    retention: Option<Limits>,
    #[serde(rename = "key")]
    _key: IgnoredAny,
    compact: bool,
    /// Of what the flow writes; others choose for themselves.
    #[serde(rename = "compress")]
    _compress: IgnoredAny,
    segment: u64,
    event_max: u64,
    external: bool,
}

impl DeclaredTopic {
    /// By Kafka's names. `None` for what the cluster's default decides.
    fn configs(&self) -> BTreeMap<String, Option<String>> {
        let policy = match (self.compact, self.retention.is_some()) {
            (true, true) => Some("compact,delete"),
            (true, false) => Some("compact"),
            (false, _) => None,
        };
        // A batch of the flow's own writer, and a largest event in it.
        let batch_max = self.event_max.saturating_add(2 * BATCH_BYTES as u64).min(i32::MAX as u64);
        let segment = self.segment.clamp(1 << 20, i32::MAX as u64);
        let mut configs = BTreeMap::from([
            ("cleanup.policy".to_owned(), policy.map(str::to_owned)),
            ("segment.bytes".to_owned(), Some(segment.to_string())),
            ("max.message.bytes".to_owned(), Some(batch_max.to_string())),
            // An event may be of any time: that is for the flow to judge.
            ("message.timestamp.after.max.ms".to_owned(), Some(i64::MAX.to_string())),
        ]);
        let retention = retention(self.retention.as_ref()).into_iter();
        configs.extend(retention.map(|(name, value)| (name.to_owned(), value)));
        configs
    }
}

/// `3d or 200GiB`; what is not said of a limit that is given is without a bound.
fn retention(limits: Option<&Limits>) -> [(&'static str, Option<String>); 2] {
    let ms = |limits: &Limits| {
        limits.duration.map_or(-1, |time| i64::try_from(time.std().as_millis()).unwrap_or(i64::MAX))
    };
    let bytes = |limits: &Limits| limits.size.map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
    [
        ("retention.ms", limits.map(|limits| ms(limits).to_string())),
        ("retention.bytes", limits.map(|limits| bytes(limits).to_string())),
    ]
}

/// The broker as its topics and readers in this process see it.
struct Inside(Arc<Broker>);

impl Inside {
    fn partition(&self, topic: &str, index: i32) -> Result<LocalPartition, Fault> {
        let gone = || Fault::new(format!("topic `{topic}` has no partition {index}: was it deleted?"));
        self.0.partition(topic, index).ok_or_else(gone)
    }
}

#[async_trait]
impl Cluster for Inside {
    fn partitions(&self, topic: &str) -> Result<i32, Fault> {
        let gone = || Fault::new(format!("there is no topic `{topic}`: was it deleted?"));
        self.0.partition_count(topic).ok_or_else(gone)
    }

    fn append(&self, topic: &str, partition: i32, batches: &mut &[u8]) -> Result<i64, AppendError> {
        let partition = self.partition(topic, partition).map_err(AppendError::Fatal)?;
        let mut end = 0;
        while let Some((header, batch)) = flow_log::batch::batches(batches).next().and_then(Result::ok) {
            end = partition.append(batch).map_err(|error| match error {
                LocalError::Full(why) => AppendError::Retry(Fault::new(why).code("F0806")),
                other => AppendError::Fatal(Fault::new(other.to_string())),
            })?;
            *batches = &batches[header.size()..];
        }
        Ok(end)
    }

    async fn kept(&self, topic: &str, partition: i32, offset: i64) -> Result<(), Fault> {
        let partition = self.partition(topic, partition)?;
        partition.committed(offset).await.map_err(|error| Fault::new(error.to_string()))
    }

    async fn read(&self, what: &Read<'_>) -> Result<Fetched, ReadError> {
        let failed = |error: LocalError| match error {
            LocalError::OutOfRange { start, end } => ReadError::OutOfRange { start, end },
            other => ReadError::Fault(Fault::new(other.to_string())),
        };
        let partition = self.partition(what.topic, what.partition).map_err(ReadError::Fault)?;
        let read = partition.read(what.from, what.bytes_max, what.committed).map_err(failed)?;
        if read.is_empty() {
            return Ok(Fetched::default());
        }
        // Old records may have to come from the disk.
        let reading = tokio::task::spawn_blocking(move || {
            let mut bytes = Arena::buffer(read.len(), 0);
            read.read_into(&mut bytes)?;
            Ok(Fetched { bytes, aborted: read.aborted })
        });
        match reading.await {
            Ok(read) => read.map_err(failed),
            Err(error) => Err(ReadError::Fault(Fault::new(error.to_string()))),
        }
    }

    async fn readable(&self, topic: &str, places: &[(i32, i64)], committed: bool) {
        let places: Vec<(LocalPartition, i64)> = places
            .iter()
            .filter_map(|&(partition, from)| Some((self.0.partition(topic, partition)?, from)))
            .collect();
        if places.is_empty() {
            // Deleted: the next read says so.
            return;
        }
        flow_broker::readable(&places, committed).await;
    }

    async fn offset(&self, topic: &str, partition: i32, place: Place) -> Result<i64, Fault> {
        let partition = self.partition(topic, partition)?;
        let (start, end) = partition.offsets(true);
        match place {
            Place::Earliest => Ok(start),
            Place::Latest => Ok(end),
            Place::At(time_ms) => {
                let found = tokio::task::spawn_blocking(move || partition.offset_at_time(time_ms)).await;
                match found {
                    Ok(Ok(offset)) => Ok(offset.unwrap_or(end)),
                    Ok(Err(error)) => Err(Fault::new(error.to_string())),
                    Err(error) => Err(Fault::new(error.to_string())),
                }
            }
        }
    }

    async fn join(&self, join: Join) -> Result<Box<dyn Member>, Fault> {
        groups::join(&self.0, join).await
    }

    async fn transactions(&self, name: &str) -> Result<Arc<dyn Transactions>, Fault> {
        transactions::open(&self.0, name).await
    }
}
