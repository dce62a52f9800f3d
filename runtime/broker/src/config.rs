//! What a broker is told when it starts.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// The configuration of one broker. `BrokerConfig::new` gives safe defaults: loopback, a port of the system's choice.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// The broker's number in its cluster.
    pub node_id: i32,
    /// What clients are told as the cluster's name. `None`: made at the first start and kept in the data directory.
    pub cluster_id: Option<String>,
    /// At least one.
    pub listeners: Vec<ListenerConfig>,
    /// Where topics and the broker's own state are kept.
    pub data_dir: PathBuf,
    /// Whether a topic that is asked for by name, by a client that wants it so, is made.
    pub auto_create_topics: bool,
    pub topics: TopicDefaults,
    /// When there are any, clients must authenticate.
    pub users: Vec<UserConfig>,
    /// How long a login lasts before the client must do it again on the same connection (Kafka's
    /// `connections.max.reauth.ms`). `None`: as long as the connection.
    pub reauthentication_ms: Option<u64>,
    /// `None`: everybody may do everything, and ACLs cannot be made (as with Kafka without an authorizer).
    pub authorizer: Option<AuthorizerConfig>,
    pub limits: Limits,
}

/// One address where clients connect.
#[derive(Clone, Debug)]
pub struct ListenerConfig {
    /// Its name in messages.
    pub name: String,
    /// Port 0: the system chooses, and clients are told the real one.
    pub address: SocketAddr,
    /// The host that clients are told. `None`: the listener's address.
    pub advertised_host: Option<String>,
    /// The port that clients are told. `None`: the listener's real one.
    pub advertised_port: Option<u16>,
    pub tls: Option<TlsConfig>,
}

/// PEM files of a TLS listener.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    /// The certificate and its chain.
    pub certificate: PathBuf,
    pub private_key: PathBuf,
    /// Clients must show a certificate signed by one of these.
    pub client_ca: Option<PathBuf>,
}

/// What a topic gets when nothing else is said.
#[derive(Clone, Debug)]
pub struct TopicDefaults {
    pub partitions: i32,
    /// By the names of Kafka's topic configs (`retention.ms`, `segment.bytes`, …); what is missing has Kafka's default.
    pub settings: BTreeMap<String, String>,
}

/// A user who may log in with PLAIN or SCRAM.
#[derive(Clone)]
pub struct UserConfig {
    pub name: String,
    pub password: String,
}

impl std::fmt::Debug for UserConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UserConfig").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Who may do what, beyond the ACLs that clients make.
#[derive(Clone, Debug, Default)]
pub struct AuthorizerConfig {
    /// Principals (`User:alice`) who may do everything.
    pub super_users: Vec<String>,
    /// Whether a resource that no ACL speaks of is open to everybody.
    pub allow_everyone_without_acl: bool,
}

/// Bounds on what clients can make the broker hold.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at a time; beyond it the newest is closed.
    pub connections_max: usize,
    /// Bytes of one request (Kafka's `socket.request.max.bytes`).
    pub request_bytes_max: usize,
    /// Requests of a connection that are being answered; beyond it the connection is not read.
    pub requests_in_flight_max: usize,
    /// Bytes of the requests of a connection that are being answered; beyond it the connection is not read.
    pub bytes_in_flight_max: usize,
    /// Bytes of all requests that are arriving or being answered, where one is more than a few pages (Kafka's
    /// `queued.max.request.bytes`); beyond it large requests wait.
    pub memory_max: usize,
    /// A connection with nothing to do is closed after this (Kafka's `connections.max.idle.ms`).
    pub idle_timeout_ms: u64,
    /// A request that began to arrive must be whole after this.
    pub request_timeout_ms: u64,
    /// TLS and SASL must be done after this.
    pub authentication_timeout_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections_max: 16_384,
            request_bytes_max: 100 << 20,
            requests_in_flight_max: 64,
            bytes_in_flight_max: 32 << 20,
            memory_max: 512 << 20,
            idle_timeout_ms: 10 * 60 * 1000,
            request_timeout_ms: 60 * 1000,
            authentication_timeout_ms: 30 * 1000,
        }
    }
}

impl BrokerConfig {
    pub fn new(data_dir: impl Into<PathBuf>) -> BrokerConfig {
        BrokerConfig {
            node_id: 1,
            cluster_id: None,
            listeners: vec![ListenerConfig::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))],
            data_dir: data_dir.into(),
            auto_create_topics: true,
            topics: TopicDefaults { partitions: 1, settings: BTreeMap::new() },
            users: Vec::new(),
            reauthentication_ms: None,
            authorizer: None,
            limits: Limits::default(),
        }
    }
}

impl ListenerConfig {
    /// A plain listener that tells clients its own address.
    pub fn new(address: SocketAddr) -> ListenerConfig {
        ListenerConfig {
            name: "kafka".to_owned(),
            address,
            advertised_host: None,
            advertised_port: None,
            tls: None,
        }
    }
}
