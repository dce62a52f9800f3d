//! The ensemble `embedded`: those of its servers that belong to this host run in this process. Clients in the same
//! process go over the port, too, so that nothing is special about them.

use std::any::Any;
use std::net::{IpAddr, TcpListener, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use flow_agent::{Context, Elector, Fault, Service, StartingService, decode_settings};
use flow_coordinator::client::{ClientConfig, ClientTls};
use flow_coordinator::network::{SystemClock, Tcp, World};
use flow_coordinator::replica::{self, Member, Role};
use flow_coordinator::server::{self, Coordinator, CoordinatorConfig, StartError, TlsConfig};
use flow_plan::Settings;
use flow_plan::plan::Topic;
use flow_plan::settings::{Duration, SecretSetting};
use serde::Deserialize;

use super::election::ClientElector;
use super::{EnsembleHandle, tls_needs};

/// Where clients of ZooKeeper look first.
const USUAL_PORT: u16 = 2181;

/// How far the port between servers is from the one for clients.
const PEER_PORT_DISTANCE: u16 = 1000;

/// Starts an `embedded` ensemble.
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
    servers: Vec<String>,
    data: Option<PathBuf>,
    tick: Duration,
    snapshots: u64,
    session_min: Option<Duration>,
    session_max: Option<Duration>,
    node_max: u64,
    peers: Option<u16>,
    admin: Option<String>,
    #[serde(rename = "super")]
    super_password: Option<SecretSetting>,
    reconfig: bool,
    tls: bool,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    ca: Option<PathBuf>,
}

/// A server of the list.
struct Server {
    host: String,
    port: u16,
    /// Of this host, so it is started here.
    local: bool,
}

async fn start(settings: &EmbeddedSettings, context: &Context) -> Result<Embedded, Fault> {
    let servers = servers(settings, context)?;
    let data = settings.data.clone().unwrap_or_else(|| context.state_dir.clone());
    let tls = tls(settings)?;
    let client = client_config(settings, &servers)?;
    let mut running = Vec::new();
    for (index, server) in servers.iter().enumerate().filter(|(_, server)| server.local) {
        let id = u32::try_from(index + 1).unwrap_or(u32::MAX);
        let started = match config(settings, context, &servers, id, &data, tls.as_ref()) {
            Ok(config) => {
                Coordinator::start(config, world()).await.map_err(|error| start_fault(&error, server))
            }
            Err(fault) => Err(fault),
        };
        match started {
            Ok(coordinator) => running.push(coordinator),
            Err(fault) => {
                for coordinator in running.iter().rev() {
                    coordinator.shutdown().await;
                }
                return Err(fault);
            }
        }
    }
    let client = ClientConfig { servers: addresses(&running, &client), ..client };
    Ok(Embedded { servers: running, of: servers.len(), client })
}

/// Where the clients of this process connect: with the port that the system has chosen, where none was given.
fn addresses(running: &[Arc<Coordinator>], client: &ClientConfig) -> Vec<String> {
    match running {
        [one] if client.servers.len() == 1 => {
            let port = one.address().rsplit_once(':').map_or("", |(_, port)| port).to_owned();
            let host = client.servers[0].rsplit_once(':').map_or("127.0.0.1", |(host, _)| host);
            vec![format!("{host}:{port}")]
        }
        _ => client.servers.clone(),
    }
}

fn world() -> World {
    World { network: Arc::new(Tcp), clock: Arc::new(SystemClock), storage: Arc::new(flow_log::storage::Disk) }
}

fn servers(settings: &EmbeddedSettings, context: &Context) -> Result<Vec<Server>, Fault> {
    let wrong = |text: &str| {
        Fault::new(format!("`{text}` is no address to listen on (`host:port`)"))
            .code("F0807")
            .setting("servers")
    };
    let mut servers = Vec::new();
    for text in &settings.servers {
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port.parse().map_err(|_| wrong(text))?),
            _ => (text.as_str(), USUAL_PORT),
        };
        let host = if host.is_empty() { "0.0.0.0" } else { host };
        servers.push(Server { host: host.to_owned(), port, local: false });
    }
    if servers.is_empty() {
        return Err(Fault::new("an ensemble needs at least one server").code("F0206").setting("servers"));
    }
    if servers.len() > replica::MEMBERS_MAX {
        let message = format!("an ensemble has at most {} servers", replica::MEMBERS_MAX);
        return Err(Fault::new(message).code("F0206").setting("servers"));
    }
    for server in &mut servers {
        server.local = is_local(&server.host, &context.host);
    }
    let several = servers.len() > 1;
    if let Some(open) =
        servers.iter().find(|server| several && (server.port == 0 || server.host == "0.0.0.0"))
    {
        let message = format!("`{}:{}` does not say where the others find it", open.host, open.port);
        return Err(Fault::new(message).code("F0807").setting("servers"));
    }
    Ok(servers)
}

/// Whether a name or an address is one of this host's. A name that cannot be resolved is another's.
fn is_local(host: &str, own: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    if host.eq_ignore_ascii_case(own) || host == "0.0.0.0" || host == "::" {
        return true;
    }
    let Ok(mut found) = (host, 0).to_socket_addrs() else { return false };
    found.any(|address| match address.ip() {
        ip if ip.is_loopback() => true,
        // Only an address of this host can be listened on.
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => TcpListener::bind((ip, 0)).is_ok(),
    })
}

fn config(
    settings: &EmbeddedSettings,
    context: &Context,
    servers: &[Server],
    id: u32,
    data: &Path,
    tls: Option<&TlsConfig>,
) -> Result<CoordinatorConfig, Fault> {
    let mut members = Vec::new();
    for (id, server) in (1..).zip(servers) {
        let peer = match settings.peers {
            Some(port) => port,
            None if server.port == 0 => 0,
            None => server.port.checked_add(PEER_PORT_DISTANCE).ok_or_else(|| {
                let message = format!("there is no port for peers: {} and 1000 is too large", server.port);
                Fault::new(message).code("F0206").setting("servers").help("say `peers: 2888`")
            })?,
        };
        members.push(Member {
            id,
            peer_address: format!("{}:{peer}", server.host),
            client_address: format!("{}:{}", server.host, server.port),
            observer: false,
        });
    }
    let ms = |duration: &Duration| u64::try_from(duration.std().as_millis()).unwrap_or(u64::MAX).max(1);
    // Each has a directory of its own, also where they are on one host.
    let mut config = CoordinatorConfig::new(id, members, data.join(id.to_string()));
    config.replica.cluster = context.name.clone();
    config.replica.tick_ms = ms(&settings.tick);
    config.replica.snapshot_every = settings.snapshots;
    config.replica.limits.node_bytes_max = usize::try_from(settings.node_max).unwrap_or(usize::MAX);
    let packet = usize::try_from(settings.node_max).unwrap_or(usize::MAX).saturating_add(PACKET_OVERHEAD);
    config.packet_bytes_max = config.packet_bytes_max.max(packet);
    config.session_min_ms = settings.session_min.as_ref().map(ms);
    config.session_max_ms = settings.session_max.as_ref().map(ms);
    config.admin = settings.admin.as_ref().map(|admin| match admin.strip_prefix(':') {
        Some(port) => format!("127.0.0.1:{port}"),
        None => admin.clone(),
    });
    config.reconfig_enabled = settings.reconfig;
    if let Some(password) = &settings.super_password {
        config.super_digest = Some(server::digest(&format!("super:{}", context.secret(password)?)));
    }
    config.tls = tls.cloned();
    if tls.is_some() && servers.len() > 1 {
        config.replica.peer_tls = Some(peer_tls(settings)?);
    }
    Ok(config)
}

/// Of a packet that carries a znode: its path, its ACL, its header.
const PACKET_OVERHEAD: usize = 64 << 10;

fn tls(settings: &EmbeddedSettings) -> Result<Option<TlsConfig>, Fault> {
    if !settings.tls {
        return Ok(None);
    }
    Ok(Some(TlsConfig {
        certificate: settings.cert.clone().ok_or_else(|| tls_needs("cert"))?,
        private_key: settings.key.clone().ok_or_else(|| tls_needs("key"))?,
        client_ca: settings.ca.clone(),
        client_required: settings.ca.is_some(),
    }))
}

/// Between the servers: each shows its certificate, and trusts those of the authorities.
fn peer_tls(settings: &EmbeddedSettings) -> Result<replica::PeerTls, Fault> {
    let cert = settings.cert.as_ref().ok_or_else(|| tls_needs("cert"))?;
    let key = settings.key.as_ref().ok_or_else(|| tls_needs("key"))?;
    let ca = settings
        .ca
        .as_ref()
        .ok_or_else(|| tls_needs("ca").help("several servers trust each other by the authorities in it"))?;
    let wrong = |setting: &'static str| {
        move |error: flow_coordinator::client::ConfigError| Fault::new(error.to_string()).setting(setting)
    };
    let client = ClientTls::new(ca, Some((cert, key))).map_err(wrong("cert"))?;
    let server = flow_coordinator::client::server_tls(ca, cert, key).map_err(wrong("cert"))?;
    Ok(replica::PeerTls { server, client: client.config, server_name: None })
}

/// How the flow's own parts reach the servers. With TLS they trust what signed the servers' certificates.
fn client_config(settings: &EmbeddedSettings, servers: &[Server]) -> Result<ClientConfig, Fault> {
    let text: Vec<String> = servers
        .iter()
        .map(|server| match server.host.as_str() {
            "0.0.0.0" => format!("127.0.0.1:{}", server.port.max(1)),
            host => format!("{host}:{}", server.port.max(1)),
        })
        .collect();
    let mut config = ClientConfig::parse(&text.join(","))
        .map_err(|error| Fault::new(error.to_string()).setting("servers"))?;
    if settings.tls {
        let cert = settings.cert.as_ref().ok_or_else(|| tls_needs("cert"))?;
        let key = settings.key.as_ref().ok_or_else(|| tls_needs("key"))?;
        // Without authorities only this very certificate is trusted: enough for servers that share it.
        let (trusted, setting) = settings.ca.as_ref().map_or((cert, "cert"), |ca| (ca, "ca"));
        let identity = settings.ca.as_ref().map(|_| (cert.as_path(), key.as_path()));
        let tls = ClientTls::new(trusted, identity)
            .map_err(|error| Fault::new(error.to_string()).setting(setting))?;
        config.tls = Some(tls);
    }
    Ok(config)
}

fn start_fault(error: &StartError, server: &Server) -> Fault {
    let message = error.to_string();
    let taken = |address: &str, error: &std::io::Error| match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            let port = address.rsplit_once(':').map_or(address, |(_, port)| port);
            Fault::new(format!("port {port} is taken"))
                .code("F0802")
                .setting("servers")
                .help("stop the process that has it, or name another port")
        }
        std::io::ErrorKind::PermissionDenied => Fault::new(message.clone()).code("F0803").setting("servers"),
        _ => Fault::new(message.clone()).setting("servers"),
    };
    match error {
        StartError::Listen { address, error } => taken(address, error),
        StartError::Tls(_) => Fault::new(message).setting("cert"),
        StartError::Replica(error) => match error {
            replica::StartError::Listen { address, error } => taken(address, error),
            replica::StartError::Lock(_) => Fault::new(message)
                .code("F0811")
                .setting("data")
                .help("stop the process that has it, or give this ensemble a directory of its own"),
            replica::StartError::Config(_) => Fault::new(message),
            replica::StartError::OtherServer { .. } => Fault::new(message)
                .setting("data")
                .help(format!("the list of `servers` has another order than before: {}", server.host)),
            _ => Fault::new(message).code("F0806").setting("data"),
        },
    }
}

/// The servers of this process.
struct Embedded {
    servers: Vec<Arc<Coordinator>>,
    /// How many there are in all.
    of: usize,
    client: ClientConfig,
}

#[async_trait]
impl Service for Embedded {
    fn handle(&self) -> Arc<dyn Any + Send + Sync> {
        Arc::new(EnsembleHandle(self.client.clone()))
    }

    async fn open_topic(&self, _: &Topic) -> Result<(), Fault> {
        Err(Fault::new("an ensemble has no topics").code("F1109"))
    }

    fn address(&self) -> String {
        match self.servers.as_slice() {
            [] => self.client.servers.join(", "),
            here => here.iter().map(|server| server.address().to_owned()).collect::<Vec<_>>().join(", "),
        }
    }

    fn condition(&self) -> Option<String> {
        if self.servers.is_empty() {
            return Some("on other hosts".to_owned());
        }
        let role = |server: &Arc<Coordinator>| match server.replica().status().role {
            Role::Leader => "leader",
            Role::Follower => "follower",
            Role::Observer => "observer",
            Role::Looking => "looking for a leader",
            Role::Standalone => "alone",
        };
        let roles: Vec<&str> = self.servers.iter().map(role).collect();
        let here = match (self.servers.len(), self.of) {
            (here, all) if here < all => format!("{here} of {all} servers here: "),
            _ => String::new(),
        };
        Some(format!("{here}{}", roles.join(", ")))
    }

    fn serves(&self) -> bool {
        !self.servers.is_empty()
    }

    fn elector(&self) -> Option<Arc<dyn Elector>> {
        Some(Arc::new(ClientElector::new(self.client.clone())))
    }

    async fn shutdown(&self) {
        for server in self.servers.iter().rev() {
            server.shutdown().await;
        }
    }
}
