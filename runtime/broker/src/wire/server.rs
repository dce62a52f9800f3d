//! The listeners: binding, accepting, counting connections, stopping.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use super::buffers::Buffers;
use super::connection::{self, Closed, MEMORY_UNIT_BYTES, Memory};
use super::tls;
use super::transport::Transport;
use crate::broker::{Broker, StartError};
use crate::config::{BrokerConfig, ListenerConfig};

/// How long after a failed `accept` (no file descriptors left) the next one waits, in milliseconds.
const ACCEPT_PAUSE_MS: u64 = 50;

/// An address where clients connect.
pub(crate) struct Listener {
    pub config: ListenerConfig,
    /// With its real port.
    pub address: SocketAddr,
    pub advertised_port: u16,
    tls: Option<TlsAcceptor>,
}

impl Listener {
    /// The connection's byte stream: behind a TLS listener, after the handshake.
    pub(super) async fn transport(&self, stream: TcpStream) -> io::Result<Transport> {
        Ok(match &self.tls {
            None => Transport::Plain(stream),
            Some(acceptor) => Transport::Tls(Box::new(acceptor.accept(stream).await?)),
        })
    }

    /// The host that a client is told that reached this machine at `local`. A listener on all addresses has none of its
    /// own to tell.
    pub(crate) fn advertised_host(&self, local: IpAddr) -> String {
        match &self.config.advertised_host {
            Some(host) => host.clone(),
            None if self.address.ip().is_unspecified() => local.to_canonical().to_string(),
            None => self.address.ip().to_string(),
        }
    }
}

/// The listeners of a broker and their connections.
pub(crate) struct Server {
    listeners: Vec<Arc<Listener>>,
    connections: Arc<Semaphore>,
    connections_max: usize,
    memory: Arc<Memory>,
    stop: watch::Sender<bool>,
}

impl Server {
    /// Binds every listener; nobody is served before `accept`.
    pub(crate) async fn bind(config: &BrokerConfig) -> Result<(Server, Vec<TcpListener>), StartError> {
        if config.listeners.is_empty() {
            return Err(StartError::Config("a broker needs a listener".to_owned()));
        }
        let (mut listeners, mut sockets) = (Vec::new(), Vec::new());
        for config in &config.listeners {
            let bind = |error| StartError::Bind { name: config.name.clone(), address: config.address, error };
            let socket = TcpListener::bind(config.address).await.map_err(bind)?;
            let address = socket.local_addr().map_err(bind)?;
            listeners.push(Arc::new(Listener {
                config: config.clone(),
                address,
                tls: config.tls.as_ref().map(|tls| tls::acceptor(&config.name, tls)).transpose()?,
                advertised_port: config.advertised_port.unwrap_or(address.port()),
            }));
            sockets.push(socket);
        }
        let connections_max = config.limits.connections_max.clamp(1, Semaphore::MAX_PERMITS);
        // At least one request of the largest size, or it could never be read.
        let memory = config.limits.memory_max.max(config.limits.request_bytes_max);
        let memory_units = memory.div_ceil(MEMORY_UNIT_BYTES).min(Semaphore::MAX_PERMITS);
        let server = Server {
            listeners,
            connections: Arc::new(Semaphore::new(connections_max)),
            connections_max,
            memory: Arc::new(Memory {
                grants: Arc::new(Semaphore::new(memory_units)),
                buffers: Arc::new(Buffers::default()),
            }),
            stop: watch::Sender::new(false),
        };
        Ok((server, sockets))
    }

    pub(crate) fn listeners(&self) -> &[Arc<Listener>] {
        &self.listeners
    }

    /// Serves whoever connects, until `stop`.
    pub(crate) fn accept(&self, broker: &Arc<Broker>, sockets: Vec<TcpListener>) {
        for (listener, socket) in self.listeners.iter().zip(sockets) {
            let accept = accept(
                Arc::clone(broker),
                Arc::clone(listener),
                socket,
                Arc::clone(&self.connections),
                Arc::clone(&self.memory),
                self.stop.subscribe(),
            );
            tokio::spawn(accept);
        }
    }

    /// Stops accepting, ends every connection, and waits until the last is gone.
    pub(crate) async fn stop(&self) {
        self.stop.send_replace(true);
        // `connections_max` fits: it was clamped to the semaphore's own bound, which is below u32 on 64 bits only.
        let all = u32::try_from(self.connections_max).unwrap_or(u32::MAX);
        let _ = self.connections.acquire_many(all).await;
    }
}

async fn accept(
    broker: Arc<Broker>,
    listener: Arc<Listener>,
    socket: TcpListener,
    connections: Arc<Semaphore>,
    memory: Arc<Memory>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(listener = %listener.config.name, %error, "a connection could not be accepted");
                tokio::time::sleep(std::time::Duration::from_millis(ACCEPT_PAUSE_MS)).await;
                continue;
            }
        };
        // At the bound the newest is closed: those that are served stay served.
        let Ok(permit) = Arc::clone(&connections).try_acquire_owned() else {
            tracing::warn!(%peer, "too many connections: refused");
            continue;
        };
        let (broker, listener, stop) = (Arc::clone(&broker), Arc::clone(&listener), stop.clone());
        let memory = Arc::clone(&memory);
        tokio::spawn(async move {
            match connection::serve(broker, listener, memory, stream, peer, stop).await {
                Ok(()) => {}
                Err(reason @ (Closed::Panicked { .. } | Closed::Reply { .. })) => {
                    tracing::error!(%peer, %reason, "connection closed");
                }
                Err(reason) => tracing::debug!(%peer, %reason, "connection closed"),
            }
            drop(permit);
        });
    }
}
