//! What others may do to a connection: put bytes into its outbox, and ask it to end. The task that reads and writes
//! the socket is in `serve.rs`.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::task::AtomicWaker;

use super::stats::{ConnectionStats, ServerStats};
use crate::proto::{
    Code, EventType, Id, ReplyHeader, Response, SessionId, XID_EVENT, Zxid, begin_frame, encode_event,
    encode_reply_header, encode_response, end_frame,
};
use crate::state::Outcome;

/// Bytes that wait for a client that does not read. One that has more events than that is cut off: it connects again
/// and says what it knew.
const OUTBOX_BYTES_MAX: usize = 64 << 20;

/// The half of a connection that the rest of the server sees.
pub(super) struct Connection {
    /// Given out once in the ensemble's life, as far as chance goes: the state knows the owner of a session by it.
    pub id: u64,
    pub session: SessionId,
    /// Agreed with the client.
    pub timeout_ms: i32,
    /// Where the client is, `host:port`.
    pub peer: String,
    /// Serves reads of a server without a leader, of a session that exists only here.
    pub read_only: bool,
    pub secure: bool,
    /// Milliseconds since 1970 UTC.
    pub established_ms: i64,
    pub stats: ConnectionStats,
    /// Who the client is, as far as it has said.
    ids: Mutex<Arc<[Id]>>,
    outbox: Mutex<Outbox>,
    /// Writes that are not answered.
    pending: AtomicUsize,
    /// The client asked for the end of its session, so the end is told by an answer.
    pub closes: AtomicBool,
    end: AtomicUsize,
    waker: AtomicWaker,
    wakes: Arc<Wakes>,
    /// Stands in the list of those to be woken.
    listed: AtomicBool,
    server: Arc<ServerStats>,
}

/// Who is to be woken when the state is unlocked. A connection that ran before that would wait for the lock, and would
/// send the answers of one entry in pieces.
#[derive(Default)]
pub(super) struct Wakes(Mutex<Listed>);

#[derive(Default)]
struct Listed {
    applying: bool,
    connections: Vec<Arc<Connection>>,
}

impl Wakes {
    /// Entries are being applied: wakes are put off.
    pub fn begin(&self) {
        self.lock().applying = true;
    }

    /// Wakes those who were put off.
    pub fn end(&self) {
        let mut listed = self.lock();
        listed.applying = false;
        let mut connections = std::mem::take(&mut listed.connections);
        drop(listed);
        for connection in connections.drain(..) {
            connection.listed.store(false, Ordering::Release);
            connection.waker.wake();
        }
        // The memory is kept for the next time.
        let mut listed = self.lock();
        if listed.connections.capacity() == 0 {
            listed.connections = connections;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Listed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes that go to the client next.
#[derive(Default)]
pub(super) struct Outbox {
    pub bytes: Vec<u8>,
    /// Packets in them.
    pub packets: u64,
}

/// How a connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    No,
    /// When what is in the outbox has been sent.
    Flush,
    /// At once.
    Cut,
}

/// What a connection is made of.
pub(super) struct Introduction {
    pub id: u64,
    pub session: SessionId,
    pub timeout_ms: i32,
    pub peer: String,
    pub read_only: bool,
    pub secure: bool,
    pub established_ms: i64,
    pub ids: Arc<[Id]>,
}

impl Connection {
    pub fn new(introduction: Introduction, wakes: Arc<Wakes>, server: Arc<ServerStats>) -> Connection {
        let Introduction { id, session, timeout_ms, peer, read_only, secure, established_ms, ids } =
            introduction;
        Connection {
            id,
            session,
            timeout_ms,
            peer,
            read_only,
            secure,
            established_ms,
            stats: ConnectionStats::default(),
            ids: Mutex::new(ids),
            outbox: Mutex::default(),
            pending: AtomicUsize::new(0),
            closes: AtomicBool::new(false),
            end: AtomicUsize::new(0),
            waker: AtomicWaker::new(),
            wakes,
            listed: AtomicBool::new(false),
            server,
        }
    }

    pub fn ids(&self) -> Arc<[Id]> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set_ids(&self, ids: Arc<[Id]>) {
        *self.ids.lock().unwrap_or_else(PoisonError::into_inner) = ids;
    }

    pub fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The task of this connection is woken by what follows.
    pub fn register(&self, context: &std::task::Context) {
        self.waker.register(context.waker());
    }

    pub fn end(&self) -> End {
        match self.end.load(Ordering::Acquire) {
            0 => End::No,
            1 => End::Flush,
            _ => End::Cut,
        }
    }

    /// Asks the connection to end. What was asked first and is stricter holds.
    pub fn finish(&self, end: End) {
        let rank = match end {
            End::No => return,
            End::Flush => 1,
            End::Cut => 2,
        };
        self.end.fetch_max(rank, Ordering::AcqRel);
        self.waker.wake();
    }

    /// Writes that are not answered.
    pub fn pending(&self) -> usize {
        self.pending.load(Ordering::Acquire)
    }

    /// One more write goes out.
    pub fn begin_write(&self, bytes: usize) {
        use std::sync::atomic::Ordering::Relaxed;
        self.pending.fetch_add(1, Ordering::AcqRel);
        self.server.outstanding.fetch_add(1, Relaxed);
        self.server.outstanding_bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// Answers a write. Called in the order of the writes, while the state is locked: only puts bytes into the outbox.
    pub fn answer_write(self: &Arc<Self>, xid: i32, bytes: usize, took: Duration, outcome: &Outcome) {
        use std::sync::atomic::Ordering::Relaxed;
        match &outcome.result {
            // Nobody knows whether it was done, and the client shall not take it for refused.
            Err(Code::ConnectionLoss | Code::SessionMoved) => self.finish(End::Cut),
            result => {
                let mut outbox = self.outbox();
                put_reply(&mut outbox, xid, outcome.zxid, result);
                drop(outbox);
                if matches!(result, Err(Code::SessionExpired | Code::UnknownSession)) {
                    self.finish(End::Flush);
                }
            }
        }
        self.server.outstanding.fetch_sub(1, Relaxed);
        self.server.outstanding_bytes.fetch_sub(bytes as u64, Relaxed);
        self.server.latency.add(1, took);
        self.server.write_latency.add(1, took);
        self.stats.latency.add(1, took);
        self.stats.last_zxid.store(outcome.zxid, Relaxed);
        self.pending.fetch_sub(1, Ordering::AcqRel);
        self.wake_later();
    }

    /// Wakes the task, after the state is unlocked if it is locked now.
    fn wake_later(self: &Arc<Self>) {
        if self.listed.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut listed = self.wakes.lock();
        if listed.applying {
            listed.connections.push(Arc::clone(self));
            return;
        }
        drop(listed);
        self.listed.store(false, Ordering::Release);
        self.waker.wake();
    }

    /// Tells what a watch saw. Called before the answers to the writes of the same entry, while the state is locked.
    pub fn tell(self: &Arc<Self>, zxid: Zxid, kind: EventType, path: &str) {
        let mut outbox = self.outbox();
        if outbox.bytes.len() > OUTBOX_BYTES_MAX {
            drop(outbox);
            self.finish(End::Cut);
            return;
        }
        put_event(&mut outbox, zxid, kind, path);
        drop(outbox);
        self.wake_later();
    }
}

/// A reply with its frame.
pub(super) fn put_reply(outbox: &mut Outbox, xid: i32, zxid: Zxid, result: &Result<Response, Code>) {
    let at = begin_frame(&mut outbox.bytes);
    let err = result.as_ref().err().map_or(0, |code| *code as i32);
    encode_reply_header(ReplyHeader { xid, zxid, err }, &mut outbox.bytes);
    if let Ok(response) = result {
        encode_response(response, &mut outbox.bytes);
    }
    end_frame(&mut outbox.bytes, at);
    outbox.packets += 1;
}

pub(super) fn put_event(outbox: &mut Outbox, zxid: Zxid, kind: EventType, path: &str) {
    let at = begin_frame(&mut outbox.bytes);
    encode_reply_header(ReplyHeader { xid: XID_EVENT, zxid, err: 0 }, &mut outbox.bytes);
    encode_event(kind, path, &mut outbox.bytes);
    end_frame(&mut outbox.bytes, at);
    outbox.packets += 1;
}
