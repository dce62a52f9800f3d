//! A client of an ensemble, of flowc or of ZooKeeper: one session over one connection at a time, moved to another
//! server when it breaks. It re-arms no watches and repeats no requests: whoever uses it hears of each connection and
//! looks again, because only they know what a repeated request would do.
//!
//! It is our own because a worker must know when the ensemble last heard of it ([`Client::heard`]): it has to stop
//! before its session can end, which no session state that arrives later can promise.

mod calls;
mod config;
mod session;

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::Instant;

pub use calls::{CreateKind, Created};
pub use config::{ClientConfig, ClientTls, ConfigError, server_tls};

use crate::proto::{Code, EventType, Request, Response};

/// Requests handed over and not yet sent; beyond it the caller waits.
const CALLS_MAX: usize = 256;

/// Events that nobody has taken; beyond it they are forgotten and [`Event::Missed`] stands for them.
const EVENTS_MAX: usize = 10_000;

/// Why a request was not answered with what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The server's answer.
    #[error("{}", code_text(*.0))]
    Code(Code),
    /// Sent, and the connection broke: it was done, or not.
    #[error("the connection was lost before the answer came")]
    Lost,
    /// Not sent.
    #[error("no server can be reached: {0}")]
    Away(String),
    /// The session is over for good.
    #[error("{0}")]
    Ended(String),
    /// Something else than the protocol.
    #[error("the server sent something else than an answer: {0}")]
    Protocol(String),
}

impl ClientError {
    /// Another connection may bring the answer.
    pub fn is_temporary(&self) -> bool {
        match self {
            ClientError::Lost | ClientError::Away(_) => true,
            ClientError::Code(code) => matches!(
                code,
                Code::ConnectionLoss
                    | Code::OperationTimeout
                    | Code::SessionMoved
                    | Code::RequestTimeout
                    | Code::Throttled
            ),
            ClientError::Ended(_) | ClientError::Protocol(_) => false,
        }
    }
}

/// What a code means to somebody who gave the command.
pub fn code_text(code: Code) -> &'static str {
    match code {
        Code::NoNode => "there is no such znode",
        Code::NoAuth => "not allowed by the znode's ACL",
        Code::BadVersion => "it has another version by now",
        Code::NoChildrenForEphemerals => "an ephemeral znode has no children",
        Code::NodeExists => "there is such a znode already",
        Code::NotEmpty => "it has children",
        Code::SessionExpired => "the session is over",
        Code::InvalidAcl => "the ACL is not valid",
        Code::AuthFailed => "the user or the password is refused",
        Code::SessionMoved => "the session has moved to another connection",
        Code::NotReadOnly => "the server has no majority and only reads",
        Code::BadArguments => "the path or an argument is not valid",
        Code::QuotaExceeded => "the quota of the tree is used up",
        Code::Unimplemented => "the server does not know this operation",
        Code::ConnectionLoss => "the connection was lost",
        Code::OperationTimeout | Code::RequestTimeout => "the server took too long",
        Code::ReconfigDisabled => "changes of the ensemble are not enabled",
        Code::NewConfigNoQuorum => "the new servers are not in step yet",
        Code::ReconfigInProgress => "another change of the ensemble is under way",
        Code::Throttled => "the server is busy",
        Code::NoWatcher => "there is no such watch",
        Code::EphemeralOnLocalSession => "a local session has no ephemeral znodes",
        Code::SessionClosedRequireSasl => "the server asks for SASL",
        Code::Marshalling => "the server could not read the request",
        Code::UnknownSession => "the server does not know the session",
        Code::InvalidCallback | Code::ApiError => "the request is not valid",
        Code::SystemError | Code::RuntimeInconsistency | Code::DataInconsistency => "the server has failed",
    }
}

/// What happens to the session and to what is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Connected. Watches of an earlier connection are gone.
    Connected {
        /// With a new session: ephemeral znodes of the one before are gone, or will be.
        fresh: bool,
    },
    Disconnected,
    /// The ensemble says that the session is over; another one is asked for.
    Expired,
    Changed {
        kind: EventType,
        path: String,
    },
    /// More happened than was taken: whoever watches has to look.
    Missed,
    /// The client has stopped, and why.
    Ended(String),
}

/// How the session stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionState {
    pub connected: bool,
    /// 0 before the first connection.
    pub session: i64,
    /// As the server has granted it.
    pub timeout: Duration,
    /// The server it is connected to, or was.
    pub server: String,
    /// Why it is not connected.
    pub fault: Option<String>,
    /// No further try will be made.
    pub ended: bool,
}

struct Call {
    request: Request,
    answer: oneshot::Sender<Result<Response, ClientError>>,
}

/// Answered by the task when there is room for it.
enum Order {
    Call(Call),
    Close(oneshot::Sender<()>),
}

/// What the task and the handles share.
struct Shared {
    state: watch::Sender<SessionState>,
    events: Mutex<VecDeque<Event>>,
    arrived: Notify,
    /// When the newest request was sent that a server has answered in this session.
    heard: Mutex<Option<Instant>>,
}

impl Shared {
    fn tell(&self, event: Event) {
        let mut events = locked(&self.events);
        if events.len() >= EVENTS_MAX {
            events.retain(|event| !matches!(event, Event::Changed { .. } | Event::Missed));
            // What is left is about the session; the last of it says how it stands.
            let extra = events.len().saturating_sub(EVENTS_MAX / 2);
            events.drain(..extra);
            events.push_back(Event::Missed);
        }
        events.push_back(event);
        drop(events);
        self.arrived.notify_one();
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A session. Cheap to clone; when the last one is dropped the session is closed.
#[derive(Clone)]
pub struct Client {
    orders: mpsc::Sender<Order>,
    shared: Arc<Shared>,
    /// Put before every path: empty, or `/a/b`.
    chroot: Arc<str>,
}

/// The events of one session, for one reader.
pub struct Events {
    shared: Arc<Shared>,
    chroot: Arc<str>,
}

impl Client {
    /// Begins to connect, on the current tokio runtime, and goes on for as long as there is a handle.
    pub fn start(config: ClientConfig) -> (Client, Events) {
        let (orders, received) = mpsc::channel(CALLS_MAX);
        let chroot: Arc<str> = config.chroot.as_str().into();
        let shared = Arc::new(Shared {
            state: watch::Sender::new(SessionState::default()),
            events: Mutex::default(),
            arrived: Notify::new(),
            heard: Mutex::new(None),
        });
        tokio::spawn(session::run(config, received, shared.clone()));
        let events = Events { shared: shared.clone(), chroot: chroot.clone() };
        (Client { orders, shared, chroot }, events)
    }

    /// Waits until a server has granted the session.
    ///
    /// # Errors
    ///
    /// [`ClientError::Away`] after `limit`, with what was in the way; [`ClientError::Ended`] when it is refused.
    pub async fn ready(&self, limit: Duration) -> Result<SessionState, ClientError> {
        let mut state = self.shared.state.subscribe();
        let settled =
            tokio::time::timeout(limit, state.wait_for(|state| state.connected || state.ended)).await;
        let seen = match settled {
            Ok(Ok(state)) => state.clone(),
            _ => self.state(),
        };
        match seen {
            state if state.connected => Ok(state),
            SessionState { ended: true, fault, .. } => Err(ClientError::Ended(fault.unwrap_or_default())),
            SessionState { fault, .. } => {
                Err(ClientError::Away(fault.unwrap_or_else(|| format!("no answer within {limit:?}"))))
            }
        }
    }

    /// How the session stands now.
    pub fn state(&self) -> SessionState {
        self.shared.state.borrow().clone()
    }

    /// When the newest request was sent that was answered within the present session. The session lasts at least two
    /// thirds of its time-out from then on, also when the server that answered was lost before it could say so to the
    /// one that counts: requests are at most a quarter of the time-out apart, and servers tell of them in less.
    pub fn heard(&self) -> Option<Instant> {
        *locked(&self.shared.heard)
    }

    /// Sends a request as it is: no path is changed.
    ///
    /// # Errors
    ///
    /// What the server answers, or that it does not.
    pub async fn request(&self, request: Request) -> Result<Response, ClientError> {
        let (answer, answered) = oneshot::channel();
        let gone =
            || ClientError::Ended(self.state().fault.unwrap_or_else(|| "the session is closed".to_owned()));
        self.orders.send(Order::Call(Call { request, answer })).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }

    /// Ends the session now, with its ephemeral znodes. Gives up when no server can be reached.
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.orders.send(Order::Close(done)).await.is_ok() {
            let _ = closed.await;
        }
    }
}

impl Events {
    /// The next event; waits for it. After [`Event::Ended`] there is none.
    pub async fn next(&mut self) -> Event {
        loop {
            if let Some(event) = locked(&self.shared.events).pop_front() {
                return match event {
                    Event::Changed { kind, path } => Event::Changed { kind, path: strip(&self.chroot, path) },
                    other => other,
                };
            }
            self.shared.arrived.notified().await;
        }
    }

    /// One that is there already.
    pub fn try_next(&mut self) -> Option<Event> {
        let event = locked(&self.shared.events).pop_front()?;
        Some(match event {
            Event::Changed { kind, path } => Event::Changed { kind, path: strip(&self.chroot, path) },
            other => other,
        })
    }
}

/// A path as the user of a client sees it, whose root is a part of the tree.
fn strip(chroot: &str, path: String) -> String {
    match path.strip_prefix(chroot) {
        Some("") => "/".to_owned(),
        Some(rest) if rest.starts_with('/') => rest.to_owned(),
        _ => path,
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("state", &self.state()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_the_tree_is_the_whole_one_to_its_user() {
        for (chroot, path, seen) in [
            ("", "/a", "/a"),
            ("/flow", "/flow", "/"),
            ("/flow", "/flow/a", "/a"),
            ("/flow", "/flower", "/flower"),
        ] {
            assert_eq!(strip(chroot, path.to_owned()), seen);
        }
    }

    #[test]
    fn what_nobody_takes_is_bounded_and_its_loss_is_told() {
        let shared = Shared {
            state: watch::Sender::new(SessionState::default()),
            events: Mutex::default(),
            arrived: Notify::new(),
            heard: Mutex::new(None),
        };
        shared.tell(Event::Connected { fresh: true });
        for _ in 0..2 * EVENTS_MAX {
            shared.tell(Event::Changed { kind: EventType::DataChanged, path: "/a".to_owned() });
        }
        let events = locked(&shared.events);
        assert!(events.len() <= EVENTS_MAX);
        assert_eq!(events[0], Event::Connected { fresh: true });
        assert!(events.contains(&Event::Missed));
    }
}
