//! The way to one other server for calls that are small and urgent: votes, heartbeats, forwarded transactions. One
//! connection, made when it is needed, names resolved each time, with a pause after a failure. It must not know what the
//! calls mean.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use rustls::pki_types::ServerName;
use tokio::io::AsyncWriteExt;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::config::PeerTls;
use super::frame::{Frame, FrameReader, Hello, Purpose, kind, put_frame};
use super::machine::lock;
use crate::network::{Connection, World};

/// Calls that wait for the connection.
const COMMANDS_MAX: usize = 1024;
/// Calls that wait for an answer.
const CALLS_MAX: usize = 4096;
/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// A connection that takes nothing for so long is given up.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause after a failure, and what it grows to.
const PAUSE: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(320);
/// How often the other side is asked whether it lives.
const PING_EVERY: Duration = Duration::from_millis(250);
/// A connection on which nothing came for so long is given up: the other side may have gone without a word.
const DEAD_AFTER: Duration = Duration::from_secs(1);
/// Bytes gathered for one write.
const WRITE_BYTES: usize = 256 << 10;

/// How to reach the others.
pub(crate) struct Dialer {
    pub world: World,
    pub me: u32,
    pub cluster: String,
    pub tls: Option<PeerTls>,
    links: Mutex<BTreeMap<u64, Arc<Link>>>,
}

impl Dialer {
    pub(crate) fn new(world: World, me: u32, cluster: String, tls: Option<PeerTls>) -> Dialer {
        Dialer { world, me, cluster, tls, links: Mutex::default() }
    }

    /// Connects and agrees on who is who.
    pub(crate) async fn dial(&self, to: u64, address: &str, purpose: Purpose) -> io::Result<Connection> {
        let whole = async {
            let stream = self.world.network.connect(address).await?;
            let mut stream: Connection = match &self.tls {
                None => stream,
                Some(tls) => {
                    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
                    let name = tls.server_name.as_deref().unwrap_or(host).trim_matches(['[', ']']).to_owned();
                    let name = ServerName::try_from(name).map_err(io::Error::other)?;
                    let connector = tokio_rustls::TlsConnector::from(tls.client.clone());
                    Box::pin(connector.connect(name, stream).await?)
                }
            };
            let to = u32::try_from(to).map_err(io::Error::other)?;
            let hello = Hello { purpose, from: self.me, to, cluster: self.cluster.clone() };
            hello.introduce(&mut stream).await?;
            Ok(stream)
        };
        timeout(CONNECT_TIMEOUT, whole).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// The link to a server, made now if there is none. A new address counts from the next connection on.
    pub(crate) fn link(self: &Arc<Self>, to: u64, address: &str) -> Arc<Link> {
        let mut links = lock(&self.links);
        if let Some(link) = links.get(&to) {
            let mut known = lock(&link.address);
            if *known != address {
                address.clone_into(&mut known);
            }
            drop(known);
            return link.clone();
        }
        let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
        let (state, generation) = watch::channel(0);
        let refused = Arc::new(Notify::new());
        let known = Mutex::new(address.to_owned());
        let link = Arc::new(Link { to, address: known, commands, generation, refused: refused.clone() });
        links.insert(to, link.clone());
        drop(links);
        let weak = (Arc::downgrade(&link), self.clone());
        tokio::spawn(async move {
            let (link, dialer) = weak;
            let runner = Runner { to, dialer, link, inbox, state, refused, count: 0, next: 0 };
            runner.run().await;
        });
        link
    }

    /// Ends all links.
    pub(crate) fn close(&self) {
        lock(&self.links).clear();
    }
}

/// See the module.
pub(crate) struct Link {
    to: u64,
    address: Mutex<String>,
    commands: mpsc::Sender<Command>,
    /// The number of the present connection; 0 while there is none.
    generation: watch::Receiver<u64>,
    /// The other side did not take something that was sent without an answer.
    pub refused: Arc<Notify>,
}

enum Command {
    Call {
        kind: u8,
        body: Vec<u8>,
        reply: oneshot::Sender<io::Result<Frame>>,
    },
    /// Without an answer, and only on the connection that was meant.
    Send {
        kind: u8,
        body: Bytes,
        generation: u64,
    },
    Connect,
    /// Gives up the connection, if it is still that one.
    Reset {
        generation: u64,
    },
}

impl Link {
    /// Calls, and waits for the answer until the caller gives up.
    pub(crate) async fn call(&self, kind: u8, body: Vec<u8>, limit: Duration) -> io::Result<Bytes> {
        let (reply, answer) = oneshot::channel();
        let whole = async {
            let sent = self.commands.send(Command::Call { kind, body, reply }).await;
            sent.map_err(|_| io::Error::from(io::ErrorKind::NotConnected))?;
            let frame = answer.await.map_err(|_| io::Error::from(io::ErrorKind::NotConnected))??;
            match frame.kind {
                kind::REPLY => Ok(frame.body),
                _ => Err(io::Error::other(format!("server {} cannot answer", self.to))),
            }
        };
        timeout(limit, whole).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Sends on the connection with this number; false if it is gone or takes no more.
    pub(crate) fn send(&self, kind: u8, body: Bytes, generation: u64) -> bool {
        self.generation() == generation
            && self.commands.try_send(Command::Send { kind, body, generation }).is_ok()
    }

    pub(crate) fn generation(&self) -> u64 {
        *self.generation.borrow()
    }

    /// Tells of new and lost connections.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.generation.clone()
    }

    pub(crate) fn connect(&self) {
        let _ = self.commands.try_send(Command::Connect);
    }

    pub(crate) fn reset(&self, generation: u64) {
        let _ = self.commands.try_send(Command::Reset { generation });
    }
}

struct Runner {
    to: u64,
    dialer: Arc<Dialer>,
    link: std::sync::Weak<Link>,
    inbox: mpsc::Receiver<Command>,
    state: watch::Sender<u64>,
    refused: Arc<Notify>,
    /// Connections so far.
    count: u64,
    /// Number of the last call.
    next: u32,
}

impl Runner {
    /// Ends when the link was dropped.
    async fn run(mut self) {
        let mut pause = PAUSE;
        let mut not_before = Instant::now();
        while let Some(command) = self.inbox.recv().await {
            // Whoever wants a connection at once hears at once that there is none.
            if Instant::now() < not_before && !matches!(command, Command::Connect) {
                fail(command);
                continue;
            }
            sleep_until(not_before).await;
            let Some(address) = self.link.upgrade().map(|link| lock(&link.address).clone()) else { return };
            match self.dialer.dial(self.to, &address, Purpose::Calls).await {
                Ok(connection) => {
                    pause = PAUSE;
                    self.count += 1;
                    self.state.send_replace(self.count);
                    let ended = self.serve(connection, command).await;
                    self.state.send_replace(0);
                    tracing::debug!(server = self.to, ?ended, "a connection to a peer ended");
                    if ended.is_ok() {
                        return;
                    }
                }
                Err(error) => {
                    tracing::debug!(server = self.to, address, %error, "a peer cannot be reached");
                    fail(command);
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
            not_before = Instant::now() + pause;
        }
    }

    /// Until the connection breaks, or (without an error) the link is dropped.
    async fn serve(&mut self, connection: Connection, first: Command) -> io::Result<()> {
        let (read, mut write) = tokio::io::split(connection);
        let mut frames = FrameReader::new(read);
        let mut calls: BTreeMap<u32, oneshot::Sender<io::Result<Frame>>> = BTreeMap::new();
        let mut out = Vec::new();
        let mut command = Some(first);
        let mut heard = Instant::now();
        let mut ping_at = heard + PING_EVERY;
        loop {
            while let Some(one) = command.take() {
                self.put(one, &mut calls, &mut out)?;
                if out.len() < WRITE_BYTES {
                    command = self.inbox.try_recv().ok();
                }
            }
            if !out.is_empty() {
                let written = timeout(WRITE_TIMEOUT, async {
                    write.write_all(&out).await?;
                    write.flush().await
                });
                written.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
                out.clear();
                out.shrink_to(WRITE_BYTES);
            }
            tokio::select! {
                biased;
                frame = frames.next() => {
                    let frame = frame?.ok_or(io::ErrorKind::UnexpectedEof)?;
                    heard = Instant::now();
                    match calls.remove(&frame.number) {
                        Some(reply) => drop(reply.send(Ok(frame))),
                        None if frame.number == 0 => self.refused.notify_one(),
                        None => {}
                    }
                }
                next = self.inbox.recv() => match next {
                    Some(next) => command = Some(next),
                    None => return Ok(()),
                },
                () = sleep_until(ping_at) => {
                    ping_at = Instant::now() + PING_EVERY;
                    if heard.elapsed() > DEAD_AFTER {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                    self.next = self.next.wrapping_add(1).max(1);
                    put_frame(&mut out, kind::PING, self.next, &[])?;
                }
            }
        }
    }

    fn put(
        &mut self,
        command: Command,
        calls: &mut BTreeMap<u32, oneshot::Sender<io::Result<Frame>>>,
        out: &mut Vec<u8>,
    ) -> io::Result<()> {
        match command {
            Command::Call { reply, .. } if reply.is_closed() => {}
            Command::Call { kind, body, reply } => {
                calls.retain(|_, reply| !reply.is_closed());
                if calls.len() >= CALLS_MAX {
                    let _ = reply.send(Err(io::ErrorKind::WouldBlock.into()));
                    return Ok(());
                }
                self.next = self.next.wrapping_add(1).max(1);
                put_frame(out, kind, self.next, &body)?;
                calls.insert(self.next, reply);
            }
            Command::Send { kind, body, generation } if generation == self.count => {
                put_frame(out, kind, 0, &body)?;
            }
            Command::Reset { generation } if generation == self.count => {
                return Err(io::Error::other("given up"));
            }
            Command::Send { .. } | Command::Connect | Command::Reset { .. } => {}
        }
        Ok(())
    }
}

fn fail(command: Command) {
    if let Command::Call { reply, .. } = command {
        let _ = reply.send(Err(io::ErrorKind::NotConnected.into()));
    }
}
