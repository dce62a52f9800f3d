//! How a coordinator is set up.

use std::path::PathBuf;

use crate::replica::{Member, ReplicaConfig};

/// `jute.maxbuffer` of ZooKeeper.
const PACKET_BYTES_MAX: usize = 0xf_ffff;
/// Clients at once.
const CONNECTIONS_MAX: usize = 50_000;

/// The four-letter words that answer when nothing else is said: those that only look, and cost little.
pub const WORDS_ON: [&str; 10] =
    ["ruok", "srvr", "stat", "mntr", "conf", "cons", "isro", "wchs", "envi", "dirs"];

/// What [`super::Coordinator::start`] needs to know.
#[derive(Clone)]
pub struct CoordinatorConfig {
    /// Where clients connect, `host:port`; port 0 lets the system choose.
    pub listen: String,
    /// This server's copy of the state: its number, the members of the ensemble, its directory, its tick.
    pub replica: ReplicaConfig,
    /// Bounds of a session's time-out; `None` is 2 ticks and 20 ticks.
    pub session_min_ms: Option<u64>,
    pub session_max_ms: Option<u64>,
    /// Bytes of a packet from a client (`jute.maxbuffer`). What is larger is refused.
    pub packet_bytes_max: usize,
    pub connections_max: usize,
    /// Of one address; `None` is no limit, for whole clusters stand behind one.
    pub connections_per_address_max: Option<usize>,
    /// Where the admin page listens, `host:port`; without it there is none.
    pub admin: Option<String>,
    /// The four-letter words that are answered; `*` is all.
    pub words: Vec<String>,
    pub tls: Option<TlsConfig>,
    /// `super:hash` of who may do everything (`DigestAuthenticationProvider.superDigest`).
    pub super_digest: Option<String>,
    /// Whether clients may change the members.
    pub reconfig_enabled: bool,
    /// Whether a server that knows no leader serves reads to clients that accept this.
    pub read_only_enabled: bool,
}

/// PEM files of the client port.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    /// The certificate and its chain.
    pub certificate: PathBuf,
    pub private_key: PathBuf,
    /// Whose certificates clients may show: their subjects are identities of the scheme `x509`.
    pub client_ca: Option<PathBuf>,
    /// Whether clients must show one.
    pub client_required: bool,
}

impl CoordinatorConfig {
    /// One server alone, that keeps its data in `data`.
    pub fn standalone(listen: impl Into<String>, data: PathBuf) -> CoordinatorConfig {
        CoordinatorConfig::with(listen.into(), ReplicaConfig::standalone(data))
    }

    /// A server of an ensemble. It listens for clients where its entry in `members` says.
    pub fn new(server: u32, members: Vec<Member>, data: PathBuf) -> CoordinatorConfig {
        let own = members.iter().find(|member| member.id == server);
        let listen = own.map(|member| member.client_address.clone()).unwrap_or_default();
        CoordinatorConfig::with(listen, ReplicaConfig::new(server, members, data))
    }

    fn with(listen: String, replica: ReplicaConfig) -> CoordinatorConfig {
        CoordinatorConfig {
            listen,
            replica,
            session_min_ms: None,
            session_max_ms: None,
            packet_bytes_max: PACKET_BYTES_MAX,
            connections_max: CONNECTIONS_MAX,
            connections_per_address_max: None,
            admin: None,
            words: WORDS_ON.iter().map(|word| (*word).to_owned()).collect(),
            tls: None,
            super_digest: None,
            reconfig_enabled: false,
            read_only_enabled: false,
        }
    }

    pub(super) fn session_min_ms(&self) -> u64 {
        self.session_min_ms.unwrap_or(self.replica.tick_ms.saturating_mul(2)).max(1)
    }

    pub(super) fn session_max_ms(&self) -> u64 {
        let most = self.session_max_ms.unwrap_or(self.replica.tick_ms.saturating_mul(20));
        most.max(self.session_min_ms()).min(i32::MAX as u64)
    }

    /// What is agreed when a client asks for a time-out.
    pub(super) fn session_timeout_ms(&self, asked: i32) -> i32 {
        let asked = u64::try_from(asked).unwrap_or(0);
        let agreed = asked.clamp(self.session_min_ms().min(self.session_max_ms()), self.session_max_ms());
        i32::try_from(agreed).unwrap_or(i32::MAX)
    }

    pub(super) fn answers_word(&self, word: &str) -> bool {
        self.words.iter().any(|on| on == "*" || on.trim() == word)
    }
}
