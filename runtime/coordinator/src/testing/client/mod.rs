//! A small client of ZooKeeper's protocol for tests, benchmarks and fault runs: one session, kept over the loss of its
//! server, requests in flight behind each other, watches set anew after a reconnect. Everything that it does and hears
//! goes to one listener, in the order of its coming. It knows the wire and nothing of the servers.

mod link;
mod watching;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{mpsc, oneshot};

use self::link::Session;
use crate::network::Network;
use crate::proto::{Code, EventType, Request, Response, SessionId, Zxid};

/// Requests that may wait to be sent.
pub const QUEUE_MAX: usize = 64 * 1024;

#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// `host:port`, tried in turn from one that the seed picks.
    pub servers: Vec<String>,
    pub timeout_ms: i32,
    pub seed: u64,
    /// Scheme and secret, sent at each connect.
    pub auth: Vec<(String, Vec<u8>)>,
    /// Begin a new session when the old one has expired, rather than end.
    pub renew: bool,
    /// Set watches anew after a reconnect, as all real clients do.
    pub rewatch: bool,
}

impl ClientConfig {
    pub fn new(servers: Vec<String>, timeout_ms: i32, seed: u64) -> ClientConfig {
        ClientConfig { servers, timeout_ms, seed, auth: Vec::new(), renew: true, rewatch: true }
    }
}

/// What a client does and hears.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    Invoked {
        call: u64,
        request: Request,
    },
    /// `zxid` is that of the reply's header. [`Code::ConnectionLoss`] means that nobody knows what became of it; zxid is
    /// 0 then.
    Replied {
        call: u64,
        zxid: Zxid,
        result: Result<Response, Code>,
    },
    Event {
        zxid: Zxid,
        kind: EventType,
        path: String,
    },
    /// `resumed`: the session is the one from before.
    Connected {
        session: SessionId,
        resumed: bool,
        server: String,
        timeout_ms: i32,
    },
    /// The server has answered that the watches from before are set again.
    Rewatched {
        zxid: Zxid,
    },
    Disconnected,
    Expired {
        session: SessionId,
    },
    /// The session was closed by the client.
    Closed {
        session: SessionId,
        zxid: Zxid,
    },
    /// The server broke the protocol.
    Violated {
        what: String,
    },
}

/// Hears everything, from the client's task and from its callers. Must be quick.
pub type Listen = Arc<dyn Fn(Notice) + Send + Sync>;

/// A reply, with the zxid of its header.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    pub zxid: Zxid,
    pub result: Result<Response, Code>,
}

enum Command {
    Call { call: u64, request: Request, answer: oneshot::Sender<Reply> },
    Close { done: oneshot::Sender<()> },
    Disconnect,
}

/// A session and its requests. When it is dropped, the client falls silent, and its session expires.
pub struct Client {
    commands: mpsc::Sender<Command>,
    calls: AtomicU64,
    listen: Listen,
    task: tokio::task::JoinHandle<()>,
}

impl Client {
    /// Begins to connect.
    pub fn start(network: Arc<dyn Network>, config: ClientConfig, listen: Listen) -> Client {
        let (commands, receiver) = mpsc::channel(QUEUE_MAX);
        let session = Session::new(network, config, listen.clone(), receiver);
        let task = tokio::spawn(session.run());
        Client { commands, calls: AtomicU64::new(1), listen, task }
    }

    /// Sends a request behind those that were sent before; the reply comes later. Where the queue is full or the client
    /// has ended, the reply is an error at once.
    pub fn send(&self, request: Request) -> oneshot::Receiver<Reply> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        (self.listen)(Notice::Invoked { call, request: request.clone() });
        let (answer, receiver) = oneshot::channel();
        if let Err(refused) = self.commands.try_send(Command::Call { call, request, answer }) {
            // Never sent, so nothing came of it.
            let result = Err(Code::SessionExpired);
            (self.listen)(Notice::Replied { call, zxid: 0, result: result.clone() });
            if let Command::Call { answer, .. } = refused.into_inner() {
                let _ = answer.send(Reply { zxid: 0, result });
            }
        }
        receiver
    }

    /// Sends a request and waits for its reply.
    pub async fn call(&self, request: Request) -> Result<Response, Code> {
        self.send(request).await.map_or(Err(Code::ConnectionLoss), |reply| reply.result)
    }

    /// Closes the session, which deletes its ephemerals. Ends when the server has answered, or the session expired.
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.commands.send(Command::Close { done }).await.is_ok() {
            let _ = closed.await;
        }
    }

    /// Breaks the connection; the client goes to the next server.
    pub fn disconnect(&self) {
        // A full queue means that it is busy enough.
        let _ = self.commands.try_send(Command::Disconnect);
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}
