//! The first packet of a client: a four-letter word, or a session that it wants to begin or go on with.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use super::Server;
use super::connection::{Connection, Introduction};
use super::words;
use crate::network;
use crate::proto::{
    Code, ConnectRequest, ConnectResponse, Id, Reader, SessionId, begin_frame, decode_connect,
    encode_connect_reply, end_frame,
};
use crate::state::{Op, Txn};

/// Bytes of the first packet; ZooKeeper's clients send 44 or 45.
const CONNECT_BYTES_MAX: usize = 4096;
/// Room for what a client sends first.
const FIRST_BYTES: usize = 256;
/// Attempts to find a number for a session that no other has.
const SESSION_ATTEMPTS: usize = 8;
const PASSWORD_BYTES: usize = 16;
/// How often a client that comes during an election is looked after.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A connection that the hub knows, until this is dropped.
pub(super) struct Joined {
    server: Arc<Server>,
    pub connection: Arc<Connection>,
}

impl Joined {
    fn new(server: &Arc<Server>, connection: Connection) -> Joined {
        let connection = Arc::new(connection);
        server.hub.add(Arc::clone(&connection));
        Joined { server: Arc::clone(server), connection }
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        self.server.hub.remove(&self.connection);
    }
}

/// Where a client comes from, and how.
pub(super) struct Origin {
    /// `host:port`.
    pub peer: String,
    pub secure: bool,
    pub ids: Arc<[Id]>,
}

/// Speaks with a client until it has a session. `None`: there is nothing more to say to it.
///
/// # Errors
/// What the socket says, and packets that are none.
pub(super) async fn introduce(
    server: &Arc<Server>,
    stream: &mut network::Connection,
    origin: Origin,
) -> io::Result<Option<(Joined, BytesMut)>> {
    let mut input = BytesMut::with_capacity(FIRST_BYTES);
    read_until(stream, &mut input, 4).await?;
    let first: [u8; 4] = input[..4].try_into().unwrap_or_default();
    if let Some(word) = words::known(first) {
        let answer = words::answer(server, word);
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
        return Ok(None);
    }
    let length = usize::try_from(i32::from_be_bytes(first)).unwrap_or(usize::MAX);
    if length > CONNECT_BYTES_MAX {
        return Err(io::Error::other(format!("a first packet of {length} bytes")));
    }
    read_until(stream, &mut input, 4 + length).await?;
    input.advance(4);
    let packet = input.split_to(length);
    let asked = decode_connect(&mut Reader::new(&packet)).map_err(io::Error::other)?;
    server.hub.stats.connection_requests.fetch_add(1, Relaxed);
    let joined = match begin(server, &asked, origin).await {
        Answer::Session(joined, password) => {
            let connection = &joined.connection;
            let reply = ConnectResponse {
                protocol_version: 0,
                timeout_ms: connection.timeout_ms,
                session: connection.session,
                password,
                read_only: asked.read_only.map(|_| connection.read_only),
            };
            // In the outbox before any event.
            let mut outbox = connection.outbox();
            let mut first = Vec::with_capacity(64);
            put_connect_reply(&reply, &mut first);
            first.append(&mut outbox.bytes);
            outbox.bytes = first;
            drop(outbox);
            joined
        }
        Answer::Gone => {
            let reply = ConnectResponse {
                password: vec![0; PASSWORD_BYTES],
                read_only: asked.read_only.map(|_| false),
                ..ConnectResponse::default()
            };
            let mut bytes = Vec::new();
            put_connect_reply(&reply, &mut bytes);
            stream.write_all(&bytes).await?;
            stream.shutdown().await?;
            return Ok(None);
        }
        Answer::Elsewhere => return Ok(None),
    };
    Ok(Some((joined, input)))
}

enum Answer {
    /// The connection, already known to the hub, and the password of its session.
    Session(Joined, Vec<u8>),
    /// The session is over, or the client does not own it.
    Gone,
    /// Closed without a word: the client tries the next server.
    Elsewhere,
}

async fn begin(server: &Arc<Server>, asked: &ConnectRequest, origin: Origin) -> Answer {
    // An election takes a moment, and so does the first entry of a new ensemble.
    let until = Instant::now() + server.patience();
    while !server.is_ready() && Instant::now() < until {
        sleep(LOOK_AGAIN).await;
    }
    if asked.last_zxid_seen > server.replica.read().last_zxid() {
        return Answer::Elsewhere;
    }
    if !server.is_ready() {
        if server.config.read_only_enabled && asked.read_only == Some(true) {
            return read_only(server, asked, origin);
        }
        return Answer::Elsewhere;
    }
    if asked.session == 0 { create(server, asked, origin).await } else { attach(server, asked, origin).await }
}

/// A session that only this server knows, until it knows a leader again.
fn read_only(server: &Arc<Server>, asked: &ConnectRequest, origin: Origin) -> Answer {
    let timeout_ms = server.config.session_timeout_ms(asked.timeout_ms);
    let session = server.next_session();
    let connection = make(server, server.next_connection(), session, timeout_ms, origin, true);
    Answer::Session(Joined::new(server, connection), vec![0; PASSWORD_BYTES])
}

async fn create(server: &Arc<Server>, asked: &ConnectRequest, origin: Origin) -> Answer {
    let timeout_ms = server.config.session_timeout_ms(asked.timeout_ms);
    let free = |session: &SessionId| server.replica.read().session(*session).is_none();
    let Some(session) = (0..SESSION_ATTEMPTS).map(|_| server.next_session()).find(free) else {
        return Answer::Elsewhere;
    };
    // Known before the log is asked: from the answer on it hears of what happens to the session.
    let joined =
        Joined::new(server, make(server, server.next_connection(), session, timeout_ms, origin, false));
    let connection = &joined.connection;
    let op = Op::CreateSession { timeout_ms };
    match submit(server, session, connection.id, &connection.ids(), op).await {
        Ok(()) => {
            let password = server.replica.read().password(session);
            Answer::Session(joined, password.to_vec())
        }
        Err(_) => Answer::Elsewhere,
    }
}

async fn attach(server: &Arc<Server>, asked: &ConnectRequest, origin: Origin) -> Answer {
    let session = asked.session;
    let is_known = || server.replica.read().session(session).is_some();
    // A session that began elsewhere just now may not be known here yet. Neither that nor a wrong password asks the
    // log: who guesses shall not fill it.
    if !is_known() {
        if server.replica.barrier().await.is_err() {
            return Answer::Elsewhere;
        }
        if !is_known() {
            return Answer::Gone;
        }
    }
    if !server.replica.read().is_password(session, &asked.password) {
        return Answer::Gone;
    }
    let id = server.next_connection();
    let op = Op::Attach { password: asked.password.clone(), connection: id };
    match submit(server, session, 0, &origin.ids, op).await {
        Ok(()) => {}
        Err(Code::SessionExpired | Code::UnknownSession) => return Answer::Gone,
        Err(_) => return Answer::Elsewhere,
    }
    let timeout_ms = server.replica.read().session(session).map(|session| session.timeout_ms);
    let Some(timeout_ms) = timeout_ms else { return Answer::Gone };
    let joined = Joined::new(server, make(server, id, session, timeout_ms, origin, false));
    // Before the hub knew the connection the session may have ended, or moved on.
    let owner = server.replica.read().session(session).map(|session| session.owner);
    match owner {
        None => Answer::Gone,
        Some(owner) if owner != id => Answer::Elsewhere,
        Some(_) => Answer::Session(joined, asked.password.clone()),
    }
}

/// Waits for a transaction that is not a request.
async fn submit(
    server: &Server,
    session: SessionId,
    connection: u64,
    ids: &Arc<[Id]>,
    op: Op,
) -> Result<(), Code> {
    let (answer, answered) = oneshot::channel();
    let txn = Txn { session, connection, ids: Arc::clone(ids), op };
    server.replica.submit(
        txn,
        Box::new(move |outcome| {
            // Nobody waits any more when the client has gone.
            let _ = answer.send(outcome.result.map(|_| ()));
        }),
    );
    answered.await.unwrap_or(Err(Code::ConnectionLoss))
}

fn make(
    server: &Server,
    id: u64,
    session: SessionId,
    timeout_ms: i32,
    origin: Origin,
    read_only: bool,
) -> Connection {
    let introduction = Introduction {
        id,
        session,
        timeout_ms,
        peer: origin.peer,
        read_only,
        secure: origin.secure,
        established_ms: server.world.clock.now_ms(),
        ids: origin.ids,
    };
    Connection::new(introduction, Arc::clone(&server.hub.wakes), Arc::clone(&server.hub.stats))
}

fn put_connect_reply(reply: &ConnectResponse, out: &mut Vec<u8>) {
    let at = begin_frame(out);
    encode_connect_reply(reply, out);
    end_frame(out, at);
}

async fn read_until(stream: &mut network::Connection, input: &mut BytesMut, length: usize) -> io::Result<()> {
    while input.len() < length {
        if stream.read_buf(input).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}
