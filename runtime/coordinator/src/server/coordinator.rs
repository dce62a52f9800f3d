//! A whole server: the port, the replica behind it, the admin page, and how all of that begins and ends.

use std::io;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hashbrown::HashMap;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::config::CoordinatorConfig;
use super::connection::End;
use super::handshake::{Joined, Origin, introduce};
use super::hub::Hub;
use super::serve::serve;
use super::{admin, auth, tls, x509};
use crate::network::{Connection, Listener, World};
use crate::proto::SessionId;
use crate::replica::Replica;

/// How long a client has for its first packet, TLS and the log's answer included.
const INTRODUCTION: Duration = Duration::from_secs(10);
/// How long the port rests when the system gives no more connections.
const ACCEPT_REST: Duration = Duration::from_millis(50);
/// How long connections have to take their last answers.
const SHUTDOWN: Duration = Duration::from_secs(6);

/// What keeps a coordinator from starting.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Replica(#[from] crate::replica::StartError),
    #[error("cannot listen at `{address}`: {error}")]
    Listen { address: String, error: io::Error },
    #[error("TLS of the client port: {0}")]
    Tls(String),
}

/// One server: alone, or one of an ensemble.
pub struct Coordinator {
    server: Arc<Server>,
    address: String,
    admin_address: Option<String>,
    stop: watch::Sender<bool>,
    /// Yields nothing, and ends when the last task has.
    done: tokio::sync::Mutex<mpsc::Receiver<()>>,
}

impl Coordinator {
    /// Opens the port and the data. Clients are served as soon as there is a leader, which this does not wait for.
    ///
    /// # Errors
    /// When a port is taken, a file of TLS is not what it should be, or the data cannot be read.
    pub async fn start(config: CoordinatorConfig, world: World) -> Result<Arc<Coordinator>, StartError> {
        let acceptor = config.tls.as_ref().map(tls::acceptor).transpose().map_err(StartError::Tls)?;
        let listener = listen(&world, &config.listen).await?;
        let admin = match &config.admin {
            None => None,
            Some(address) => Some(listen(&world, address).await?),
        };
        let hub = Arc::new(Hub::default());
        let replica = Replica::start(config.replica.clone(), world.clone(), Arc::clone(&hub) as _).await?;
        let (address, admin_address) = (listener.address(), admin.as_ref().map(|port| port.address()));
        let server = Arc::new(Server::new(config, world, hub, replica, &address));
        let (stop, stopped) = watch::channel(false);
        let (alive, done) = mpsc::channel(1);
        tokio::spawn(accept(Arc::clone(&server), listener, acceptor, stopped.clone(), alive.clone()));
        tokio::spawn(watch_leader(Arc::clone(&server), stopped.clone(), alive.clone()));
        if let Some(admin) = admin {
            tokio::spawn(admin::serve(Arc::clone(&server), admin, stopped, alive));
        }
        let done = tokio::sync::Mutex::new(done);
        Ok(Arc::new(Coordinator { server, address, admin_address, stop, done }))
    }

    /// Where clients connect, with the port the system has chosen.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Where the admin page is, if there is one.
    pub fn admin_address(&self) -> Option<&str> {
        self.admin_address.as_deref()
    }

    /// Whether a client that comes now gets a session.
    pub fn is_ready(&self) -> bool {
        self.server.is_ready()
    }

    pub fn replica(&self) -> &Arc<Replica> {
        &self.server.replica
    }

    /// Takes no more clients, sends what is answered, and closes the data. Sessions live on: their clients go elsewhere,
    /// or come back.
    pub async fn shutdown(&self) {
        self.stop.send_replace(true);
        self.server.hub.finish_all(End::Flush);
        let mut done = self.done.lock().await;
        let _ = timeout(SHUTDOWN, done.recv()).await;
        self.server.replica.shutdown().await;
    }
}

/// What all connections share.
pub(super) struct Server {
    pub config: CoordinatorConfig,
    pub world: World,
    pub hub: Arc<Hub>,
    pub replica: Arc<Replica>,
    /// Where clients connect.
    pub address: String,
    pub started: Instant,
    next_session: AtomicI64,
    open: AtomicUsize,
    by_address: Mutex<HashMap<String, usize>>,
}

impl Server {
    fn new(
        config: CoordinatorConfig,
        world: World,
        hub: Arc<Hub>,
        replica: Arc<Replica>,
        address: &str,
    ) -> Server {
        let first = first_session(config.replica.server, world.clock.now_ms());
        Server {
            config,
            world,
            hub,
            replica,
            address: address.to_owned(),
            started: Instant::now(),
            next_session: AtomicI64::new(first),
            open: AtomicUsize::new(0),
            by_address: Mutex::default(),
        }
    }

    /// A number for a session, such as no other server gives.
    pub fn next_session(&self) -> SessionId {
        self.next_session.fetch_add(1, Ordering::Relaxed)
    }

    /// A number for a connection, such as no other connection of the ensemble ever had, as far as chance goes.
    pub fn next_connection(&self) -> u64 {
        self.world.clock.random().max(1)
    }

    /// Connections that are open, those without a session too.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Whether clients get sessions: there is a leader, and the key of their passwords.
    pub fn is_ready(&self) -> bool {
        self.replica.is_serving() && self.replica.read().is_initialized()
    }

    /// How long clients are kept while no leader is known: longer than an election, shorter than any session.
    pub fn patience(&self) -> Duration {
        let config = &self.config.replica;
        Duration::from_millis((config.tick_ms / 2).max(config.heartbeat_ms.saturating_mul(10)))
    }

    /// Room for one more connection.
    fn admit(self: &Arc<Server>, peer: &str) -> Option<Slot> {
        let host = auth::host(peer).to_owned();
        if self.open.load(Ordering::Relaxed) >= self.config.connections_max {
            return None;
        }
        if let Some(most) = self.config.connections_per_address_max {
            let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
            let count = by_address.entry(host.clone()).or_insert(0);
            if *count >= most {
                return None;
            }
            *count += 1;
        }
        self.open.fetch_add(1, Ordering::Relaxed);
        Some(Slot { server: Arc::clone(self), host })
    }
}

/// As ZooKeeper lays it out: the server in the highest byte, then the time, then a counter.
fn first_session(server: u32, now_ms: i64) -> SessionId {
    i64::from(server & 0xff) << 56 | (now_ms & 0xff_ffff_ffff) << 16
}

/// The place of a connection among those that are allowed.
struct Slot {
    server: Arc<Server>,
    host: String,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.server.open.fetch_sub(1, Ordering::Relaxed);
        if self.server.config.connections_per_address_max.is_some() {
            let mut by_address = self.server.by_address.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(count) = by_address.get_mut(&self.host) {
                *count -= 1;
                if *count == 0 {
                    by_address.remove(&self.host);
                }
            }
        }
    }
}

async fn listen(world: &World, address: &str) -> Result<Box<dyn Listener>, StartError> {
    let opened = world.network.listen(address).await;
    opened.map_err(|error| StartError::Listen { address: address.to_owned(), error })
}

async fn accept(
    server: Arc<Server>,
    mut listener: Box<dyn Listener>,
    acceptor: Option<TlsAcceptor>,
    mut stopped: watch::Receiver<bool>,
    alive: mpsc::Sender<()>,
) {
    loop {
        let accepted = tokio::select! {
            biased;
            accepted = listener.accept() => accepted,
            _ = stopped.wait_for(|stop| *stop) => return,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot take a connection");
                sleep(ACCEPT_REST).await;
                continue;
            }
        };
        let Some(slot) = server.admit(&peer) else {
            server.hub.stats.connections_rejected.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(peer, "too many connections");
            continue;
        };
        let (server, acceptor, stopped, alive) =
            (Arc::clone(&server), acceptor.clone(), stopped.clone(), alive.clone());
        tokio::spawn(async move {
            run(server, stream, peer, acceptor, stopped).await;
            drop((slot, alive));
        });
    }
}

/// One connection from its first byte to its last.
async fn run(
    server: Arc<Server>,
    stream: Connection,
    peer: String,
    acceptor: Option<TlsAcceptor>,
    mut stopped: watch::Receiver<bool>,
) {
    let introduced = tokio::select! {
        biased;
        introduced = timeout(INTRODUCTION, meet(&server, stream, &peer, acceptor)) => introduced,
        _ = stopped.wait_for(|stop| *stop) => return,
    };
    let failed = || server.hub.stats.unsuccessful_handshakes.fetch_add(1, Ordering::Relaxed);
    match introduced {
        Ok(Ok(Some((joined, stream, input)))) => {
            if *stopped.borrow() {
                joined.connection.finish(End::Flush);
            }
            serve(Arc::clone(&server), joined, stream, input).await;
        }
        Ok(Ok(None)) => {}
        Ok(Err(error)) => {
            failed();
            tracing::debug!(peer, %error, "a connection ended before it had a session");
        }
        Err(_) => {
            failed();
            tracing::debug!(peer, "a connection took too long to begin a session");
        }
    }
}

type Met = (Joined, Connection, bytes::BytesMut);

async fn meet(
    server: &Arc<Server>,
    stream: Connection,
    peer: &str,
    acceptor: Option<TlsAcceptor>,
) -> io::Result<Option<Met>> {
    let secure = acceptor.is_some();
    let mut subject = None;
    let mut stream: Connection = match acceptor {
        None => stream,
        Some(acceptor) => {
            let stream = acceptor.accept(stream).await?;
            let certificates = stream.get_ref().1.peer_certificates();
            subject = certificates.and_then(|chain| x509::subject(chain.first()?));
            Box::pin(stream)
        }
    };
    let origin = Origin { peer: peer.to_owned(), secure, ids: auth::first_ids(peer, subject) };
    let introduced = introduce(server, &mut stream, origin).await?;
    Ok(introduced.map(|(joined, input)| (joined, stream, input)))
}

/// Sends clients away when this server has known no leader for too long: others may have one, and sessions end soon.
/// Those who were content with reads are sent away when there is a leader again.
async fn watch_leader(server: Arc<Server>, mut stopped: watch::Receiver<bool>, alive: mpsc::Sender<()>) {
    let patience = server.patience();
    let mut status = server.replica.watch_status();
    let work = async {
        loop {
            status.borrow_and_update();
            if server.replica.is_serving() {
                server.hub.finish_where(true, End::Cut);
                if status.changed().await.is_err() {
                    return;
                }
                continue;
            }
            let again = async { while status.changed().await.is_ok() && !server.replica.is_serving() {} };
            if timeout(patience, again).await.is_err() {
                server.hub.finish_where(false, End::Cut);
            } else if status.has_changed().is_err() {
                return;
            }
        }
    };
    tokio::select! {
        biased;
        () = work => {}
        _ = stopped.wait_for(|stop| *stop) => {}
    }
    drop(alive);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_of_servers_differ() {
        let now_ms = 1_795_422_227_039;
        assert_eq!(first_session(1, now_ms) >> 56, 1);
        assert_ne!(first_session(1, now_ms), first_session(2, now_ms));
        assert!(first_session(1, now_ms + 1) - first_session(1, now_ms) == 1 << 16);
        // Never one of the two numbers that are no sessions.
        assert!(first_session(128, now_ms) != i64::MIN && first_session(1, 0) != 0);
    }
}
