//! How servers and clients reach each other, and what time it is: the real network and clock, or those of a
//! simulation. All timers are tokio's, which a simulation stops and moves; all bytes go through [`Network`].

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

/// Two directions of bytes.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection that was made or accepted.
pub type Connection = Pin<Box<dyn Stream>>;

/// Where connections come from and go to. Addresses are `host:port`, resolved anew each time.
#[async_trait]
pub trait Network: Send + Sync + 'static {
    async fn listen(&self, address: &str) -> io::Result<Box<dyn Listener>>;
    async fn connect(&self, address: &str) -> io::Result<Connection>;
}

/// An open port.
#[async_trait]
pub trait Listener: Send {
    /// The next connection, and the address it comes from, as `host:port`.
    async fn accept(&mut self) -> io::Result<(Connection, String)>;
    /// Where it listens, with the port the system has chosen when 0 was asked for.
    fn address(&self) -> String;
}

/// TCP of the machine, without delay for small packets.
pub struct Tcp;

#[async_trait]
impl Network for Tcp {
    async fn listen(&self, address: &str) -> io::Result<Box<dyn Listener>> {
        Ok(Box::new(TcpPort(TcpListener::bind(address).await?)))
    }

    async fn connect(&self, address: &str) -> io::Result<Connection> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Box::pin(stream))
    }
}

struct TcpPort(TcpListener);

#[async_trait]
impl Listener for TcpPort {
    async fn accept(&mut self) -> io::Result<(Connection, String)> {
        let (stream, from) = self.0.accept().await?;
        stream.set_nodelay(true)?;
        Ok((Box::pin(stream), from.to_string()))
    }

    fn address(&self) -> String {
        self.0.local_addr().map(|address| address.to_string()).unwrap_or_default()
    }
}

/// The wall clock. Only what is shown to people (`ctime`, `mtime`) and TTLs go by it; time-outs never do.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since 1970 UTC.
    fn now_ms(&self) -> i64;
    /// A number that no other call has given, as far as chance goes.
    fn random(&self) -> u64;
}

/// The clock of the machine.
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }

    fn random(&self) -> u64 {
        rand::random()
    }
}

/// What a server needs of the world.
#[derive(Clone)]
pub struct World {
    pub network: Arc<dyn Network>,
    pub clock: Arc<dyn Clock>,
    pub storage: Arc<dyn flow_log::storage::Storage>,
}

impl World {
    /// The network, the clock and the disk of this machine.
    pub fn real() -> World {
        World {
            network: Arc::new(Tcp),
            clock: Arc::new(SystemClock),
            storage: Arc::new(flow_log::storage::Disk),
        }
    }
}
