//! The broker as a whole: what it consists of, in which order its parts start and stop.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use crate::api::fetch::Sessions;
use crate::config::BrokerConfig;
use crate::groups::Groups;
use crate::security::Security;
use crate::store::Store;
use crate::transactions::Transactions;
use crate::wire::Server;

/// A running broker. Handlers get it as `&Arc<Broker>`.
pub struct Broker {
    pub(crate) config: BrokerConfig,
    pub(crate) store: Store,
    pub(crate) fetch_sessions: Sessions,
    pub(crate) groups: Groups,
    pub(crate) transactions: Transactions,
    pub(crate) security: Arc<Security>,
    server: OnceLock<Server>,
}

/// Why a broker does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the listener `{name}` cannot be bound to {address}: {error}")]
    Bind { name: String, address: SocketAddr, error: std::io::Error },
    #[error("the TLS files of the listener `{name}` cannot be used: {reason}")]
    Tls { name: String, reason: String },
    #[error("`{path}` cannot be used: {error}")]
    File { path: std::path::PathBuf, error: std::io::Error },
    /// Another process, or another place in this one, works in the data directory (F0811).
    #[error("`{}` is in use{}", dir.display(), process.map_or(String::new(), |id| format!(" by process {id}")))]
    Held { dir: std::path::PathBuf, process: Option<u32> },
    /// A newer program wrote the data directory (F0813).
    #[error("`{}` cannot be used: {reason}", path.display())]
    Newer { path: std::path::PathBuf, reason: String },
    #[error("{0}")]
    Config(String),
}

impl Broker {
    /// Opens what is on disk, replays it, and accepts connections.
    ///
    /// # Errors
    ///
    /// A listener that cannot be bound, files that cannot be read, a configuration that contradicts itself.
    pub async fn start(config: BrokerConfig) -> Result<Arc<Broker>, StartError> {
        std::fs::create_dir_all(&config.data_dir)
            .map_err(|error| StartError::File { path: config.data_dir.clone(), error })?;
        let security = Arc::new(Security::open(&config)?);
        let store = Store::open(&config).await?;
        let groups = Groups::open(&config)?;
        let transactions = Transactions::open(&config)?;
        // Bound before anything is replayed: a port that is taken is told at once.
        let (server, listeners) = Server::bind(&config).await?;
        let slots = store.broker_settings().broker_number("max.incremental.fetch.session.cache.slots", 1000);
        let broker = Arc::new(Broker {
            config,
            store,
            fetch_sessions: Sessions::new(usize::try_from(slots).unwrap_or(0)),
            groups,
            transactions,
            security,
            server: OnceLock::new(),
        });
        // Nobody else holds the broker yet, so the cell is empty.
        let server = broker.server.get_or_init(|| server);
        Groups::start(&broker).await?;
        Transactions::start(&broker).await?;
        server.accept(&broker, listeners);
        Ok(broker)
    }

    /// On any storage, without listeners and upkeep: for tests that break the disk.
    ///
    /// # Errors
    ///
    /// As [`Broker::start`].
    #[cfg(test)]
    pub(crate) async fn start_on(
        storage: Arc<dyn flow_log::Storage>,
        config: BrokerConfig,
    ) -> Result<Arc<Broker>, StartError> {
        let broker = Arc::new(Broker {
            store: Store::open_on(storage, &config)?,
            fetch_sessions: Sessions::new(0),
            groups: Groups::open(&config)?,
            transactions: Transactions::open(&config)?,
            security: Arc::new(Security::open(&config)?),
            server: OnceLock::new(),
            config,
        });
        Groups::start(&broker).await?;
        Transactions::start(&broker).await?;
        Ok(broker)
    }

    /// The address of the first listener, with its real port.
    ///
    /// # Panics
    ///
    /// Never: a broker without a listener does not start.
    pub fn address(&self) -> SocketAddr {
        self.server().listeners()[0].address
    }

    /// Stops accepting, ends the connections, and closes what is on disk with a mark that it is whole.
    pub async fn shutdown(&self) {
        self.server().stop().await;
        self.groups.stop().await;
        self.transactions.stop().await;
        self.store.stop().await;
    }

    pub(crate) fn server(&self) -> &Server {
        self.server.get().expect("set before the broker is given to anybody")
    }
}
