//! One connection with a session: takes requests from the socket, answers them in their order, and sends what is in
//! the outbox. Reads are answered at once, under one guard for all that came together; writes go to the log without
//! waiting for each other; what follows on a write waits for it.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering::{self, Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use super::Server;
use super::connection::{Connection, End, put_reply};
use super::handshake::Joined;
use super::reconfig;
use super::requests::{Reads, Way, put_decode_error, way};
use crate::network;
use crate::proto::{
    Code, DecodeError, Reader, Request, RequestHeader, Response, SessionId, decode_request, op,
};
use crate::state::{CONFIG_PATH, Op, Txn};

/// Room for what a client sends, while it sends little.
const INPUT_BYTES: usize = 4 << 10;
/// Bytes that are read ahead of what can be answered, unless one packet is larger.
const INPUT_AHEAD_MAX: usize = 64 << 10;
/// Bytes that the buffer for a large packet grows by.
const GROWTH_MAX: usize = 1 << 20;
/// Bytes that all connections together hold beyond [`INPUT_AHEAD_MAX`] each. A packet that would exceed it ends its
/// connection.
const LARGE_INPUT_MAX: u64 = 1 << 30;
/// Bytes of a `setWatches` packet: a client that comes back has to say all it watches (ZOOKEEPER-706).
const SET_WATCHES_BYTES_MAX: usize = 16 << 20;
/// Bytes of a packet that is read over and refused; with more the connection ends.
const REFUSED_BYTES_MAX: usize = 64 << 20;
/// Requests answered under one guard of the state.
const READS_AT_ONCE_MAX: usize = 256;
/// Bytes of answers that wait for the client before more is answered.
const OUTPUT_AHEAD_MAX: usize = 256 << 10;
/// Writes of one connection that wait for the log.
const PENDING_MAX: usize = 1000;
/// Bytes of writes of all connections that wait for the log, and how long a connection waits for room.
const OUTSTANDING_BYTES_MAX: u64 = 256 << 20;
const THROTTLE: Duration = Duration::from_millis(10);
/// How long the last bytes may take when a connection ends.
const FAREWELL: Duration = Duration::from_secs(5);
/// A buffer for output that has become larger is given back.
const OUTPUT_KEPT: usize = 64 << 10;
/// `sync` requests that one barrier answers.
const SYNCS_MAX: usize = 1000;

type Waiting = Pin<Box<dyn Future<Output = Result<Response, Code>> + Send>>;

/// See the module. Returns when the connection has ended.
pub(super) async fn serve(
    server: Arc<Server>,
    joined: Joined,
    mut stream: network::Connection,
    input: BytesMut,
) {
    let connection = Arc::clone(&joined.connection);
    let mut task = Task {
        server: &server,
        connection: &connection,
        input,
        room: INPUT_BYTES,
        skip: 0,
        large: 0,
        reads: Reads::new(&connection),
        output: Vec::new(),
        sent: 0,
        unflushed: false,
        waiting: None,
        waiters: Vec::new(),
        refused: None,
        throttle: None,
        closing: false,
        touched: None,
        arrived: Instant::now(),
    };
    let end = poll_fn(|context| task.poll(&mut stream, context)).await;
    let (output, sent) = (std::mem::take(&mut task.output), task.sent);
    task.release();
    drop(joined);
    match end {
        Ok(()) if connection.end() == End::Flush => {
            let rest = std::mem::take(&mut connection.outbox().bytes);
            let farewell = async {
                stream.write_all(&output[sent..]).await?;
                stream.write_all(&rest).await?;
                stream.shutdown().await
            };
            let _ = timeout(FAREWELL, farewell).await;
        }
        Ok(()) => {}
        Err(error) => {
            server.hub.stats.connections_dropped.fetch_add(1, Relaxed);
            tracing::debug!(peer = connection.peer, %error, "a client's connection ended");
        }
    }
}

struct Task<'a> {
    server: &'a Arc<Server>,
    connection: &'a Arc<Connection>,
    input: BytesMut,
    /// Bytes that are made room for at once.
    room: usize,
    /// Bytes of a refused packet that are still to come.
    skip: usize,
    /// What this connection has taken of [`LARGE_INPUT_MAX`].
    large: u64,
    reads: Reads,
    /// What goes over the wire now, and how much of it is gone.
    output: Vec<u8>,
    sent: usize,
    /// TLS may hold bytes that the socket did not take.
    unflushed: bool,
    /// What a `sync` or `reconfig` waits for, and who is answered then.
    waiting: Option<Waiting>,
    waiters: Vec<(i32, Response)>,
    /// A write that could not be read: answered when those before it are.
    refused: Option<(i32, DecodeError)>,
    throttle: Option<Pin<Box<tokio::time::Sleep>>>,
    /// The session ends: nothing that follows is looked at.
    closing: bool,
    touched: Option<Instant>,
    /// When the bytes came that are being looked at.
    arrived: Instant,
}

/// What is at the front of the input.
enum Front {
    /// Not all of it is here yet.
    Partial,
    Packet(RequestHeader, usize),
    /// Larger than allowed.
    Oversized(RequestHeader, usize),
}

impl Task<'_> {
    fn poll(&mut self, stream: &mut network::Connection, context: &mut Context) -> Poll<io::Result<()>> {
        // Before anything is looked at, so that nothing is missed.
        self.connection.register(context);
        loop {
            match self.connection.end() {
                End::No => {}
                End::Flush | End::Cut => return Poll::Ready(Ok(())),
            }
            self.poll_waiting(context);
            let answered = self.answer(context)?;
            let room = self.poll_output(stream, context)?;
            let more = self.poll_input(stream, context)?;
            // What is left to answer when the client has taken what was answered goes round again.
            if !(more || answered && room) {
                if self.connection.end() != End::No {
                    continue;
                }
                return Poll::Pending;
            }
        }
    }

    /// Answers a `sync` or `reconfig` that has come to its end.
    fn poll_waiting(&mut self, context: &mut Context) {
        let Some(waiting) = &mut self.waiting else { return };
        let Poll::Ready(result) = waiting.as_mut().poll(context) else { return };
        self.waiting = None;
        let took = self.arrived.elapsed();
        let state = self.server.replica.read();
        let zxid = state.last_zxid();
        let mut outbox = self.connection.outbox();
        for (xid, response) in self.waiters.drain(..) {
            match &result {
                // Nobody knows; the client asks another server.
                Err(Code::ConnectionLoss) => self.connection.finish(End::Cut),
                Err(code) => put_reply(&mut outbox, xid, zxid, &Err(*code)),
                Ok(Response::Empty) => put_reply(&mut outbox, xid, zxid, &Ok(response)),
                Ok(other) => put_reply(&mut outbox, xid, zxid, &Ok(other.clone())),
            }
            self.server.hub.stats.latency.add(1, took);
            self.connection.stats.latency.add(1, took);
        }
    }

    /// Answers what can be answered. True if it stopped for no other reason than that it had done much.
    fn answer(&mut self, context: &mut Context) -> io::Result<bool> {
        let mut done = 0;
        let more = loop {
            if self.closing || self.waiting.is_some() || self.is_throttled(context) {
                break false;
            }
            if done >= READS_AT_ONCE_MAX || self.unsent() > OUTPUT_AHEAD_MAX {
                break true;
            }
            if let Some((xid, error)) = self.refused {
                if self.connection.pending() > 0 {
                    break false;
                }
                self.refused = None;
                self.put_error(xid, error);
                done += 1;
            }
            match self.front()? {
                Front::Partial => break false,
                Front::Oversized(header, length) => {
                    if self.connection.pending() > 0 {
                        break false;
                    }
                    self.refuse(header, length);
                    done += 1;
                }
                Front::Packet(header, length) => match way(header.op) {
                    Way::Log => {
                        if self.connection.pending() >= PENDING_MAX {
                            break false;
                        }
                        self.submit(header, length);
                        done += 1;
                    }
                    way => {
                        if self.connection.pending() > 0 {
                            break false;
                        }
                        match way {
                            Way::Now => {
                                let answered = self.answer_reads()?;
                                if answered == 0 {
                                    break true;
                                }
                                done += answered;
                            }
                            Way::Sync => done += self.begin_sync(context)?,
                            _ => {
                                self.begin_reconfig(context, header, length);
                                done += 1;
                            }
                        }
                    }
                },
            }
        };
        if done > 0 {
            self.heard();
            self.server.hub.stats.received.fetch_add(done as u64, Relaxed);
            self.connection.stats.received.fetch_add(done as u64, Relaxed);
        }
        Ok(more)
    }

    /// Answers the reads at the front of the input under one guard. Says how many.
    fn answer_reads(&mut self) -> io::Result<usize> {
        let server = self.server;
        let connection = self.connection;
        let state = server.replica.read();
        let mut outbox = connection.outbox();
        let (mut done, mut last) = (0, None);
        while done < READS_AT_ONCE_MAX
            && outbox.bytes.len() <= OUTPUT_AHEAD_MAX
            && connection.end() == End::No
        {
            let Front::Packet(header, length) = self.front()? else { break };
            if way(header.op) != Way::Now {
                break;
            }
            let body = &self.input[12..4 + length];
            self.reads.answer(server, connection, &state, &mut outbox, header, body);
            self.input.advance(4 + length);
            last = Some(header);
            done += 1;
        }
        let zxid = state.last_zxid();
        drop(outbox);
        drop(state);
        if let Some(header) = last {
            let took = self.arrived.elapsed();
            server.hub.stats.latency.add(done as u64, took);
            server.hub.stats.read_latency.add(done as u64, took);
            connection.stats.latency.add(done as u64, took);
            self.note(header, zxid);
        }
        Ok(done)
    }

    /// Sends a write to the log.
    fn submit(&mut self, header: RequestHeader, length: usize) {
        self.input.advance(12);
        let body = self.input.split_to(length - 8).freeze();
        let request = match decode_request(header.op, &body) {
            Ok(request) => request,
            Err(error) => {
                self.refused = Some((header.xid, error));
                return;
            }
        };
        if self.connection.read_only {
            let result = match request {
                Request::CloseSession => {
                    self.closing = true;
                    Ok(Response::Empty)
                }
                _ => Err(Code::NotReadOnly),
            };
            let zxid = self.server.replica.read().last_zxid();
            put_reply(&mut self.connection.outbox(), header.xid, zxid, &result);
            if self.closing {
                self.connection.finish(End::Flush);
            }
            return;
        }
        let op = match request {
            Request::CloseSession => {
                self.closing = true;
                self.connection.closes.store(true, Ordering::Release);
                Op::CloseSession
            }
            request => Op::Request(request),
        };
        let (connection, closing, started) = (Arc::clone(self.connection), self.closing, self.arrived);
        let txn = Txn {
            session: connection.session,
            connection: connection.id,
            ids: Arc::clone(self.reads.ids()),
            op,
        };
        connection.begin_write(length);
        self.server.replica.submit(
            txn,
            Box::new(move |outcome| {
                connection.answer_write(header.xid, length, started.elapsed(), &outcome);
                if closing {
                    connection.finish(End::Flush);
                }
            }),
        );
        self.note(header, 0);
    }

    /// One barrier for all `sync` requests that stand together.
    fn begin_sync(&mut self, context: &mut Context) -> io::Result<usize> {
        let mut done = 0;
        while done < SYNCS_MAX {
            let Front::Packet(header, length) = self.front()? else { break };
            if way(header.op) != Way::Sync {
                break;
            }
            let path = Reader::new(&self.input[12..4 + length]).string();
            match path {
                Ok(path) => self.waiters.push((header.xid, Response::Path(path))),
                Err(_) if done > 0 => break,
                Err(error) => {
                    self.input.advance(4 + length);
                    self.put_error(header.xid, error);
                    return Ok(1);
                }
            }
            self.input.advance(4 + length);
            self.note(header, 0);
            done += 1;
        }
        let replica = Arc::clone(&self.server.replica);
        let read_only = self.connection.read_only;
        self.waiting = Some(Box::pin(async move {
            if !read_only {
                replica.barrier().await?;
            }
            Ok(Response::Empty)
        }));
        self.poll_waiting(context);
        Ok(done)
    }

    fn begin_reconfig(&mut self, context: &mut Context, header: RequestHeader, length: usize) {
        self.input.advance(12);
        let body = self.input.split_to(length - 8).freeze();
        let request = decode_request(op::RECONFIG, &body);
        let server = Arc::clone(self.server);
        let ids = Arc::clone(self.reads.ids());
        let session: SessionId = self.connection.session;
        let read_only = self.connection.read_only;
        self.waiters.push((header.xid, Response::Empty));
        self.waiting = Some(Box::pin(async move {
            let Ok(Request::Reconfig { joining, leaving, new_members, config_id }) = request else {
                return Err(Code::Marshalling);
            };
            if read_only {
                return Err(Code::NotReadOnly);
            }
            if !server.config.reconfig_enabled {
                return Err(Code::ReconfigDisabled);
            }
            let allowed = {
                let state = server.replica.read();
                let acl = state.acl(CONFIG_PATH);
                acl.is_some_and(|acl| crate::state::allows(&acl, crate::proto::perms::WRITE, &ids))
            };
            if !allowed {
                return Err(Code::NoAuth);
            }
            let [joining, leaving, new_members] =
                [&joining, &leaving, &new_members].map(|text| text.as_deref());
            let change = reconfig::change(joining, leaving, new_members, config_id, &server.replica.read())?;
            server.replica.reconfig(change).await?;
            let data = Request::GetData { path: CONFIG_PATH.to_owned(), watch: false };
            server.replica.read().read(session, &ids, &data)
        }));
        self.note(header, 0);
        self.poll_waiting(context);
    }

    fn put_error(&mut self, xid: i32, error: DecodeError) {
        let zxid = self.server.replica.read().last_zxid();
        put_decode_error(self.connection, &mut self.connection.outbox(), xid, zxid, error);
    }

    /// Bytes that the client has not taken.
    fn unsent(&self) -> usize {
        self.output.len() - self.sent + self.connection.outbox().bytes.len()
    }

    /// Answers a packet that is too large, and reads over it.
    fn refuse(&mut self, header: RequestHeader, length: usize) {
        let zxid = self.server.replica.read().last_zxid();
        self.server.hub.stats.large_requests_rejected.fetch_add(1, Relaxed);
        put_reply(&mut self.connection.outbox(), header.xid, zxid, &Err(Code::BadArguments));
        let here = self.input.len().min(4 + length);
        self.input.advance(here);
        self.skip = 4 + length - here;
    }

    fn front(&self) -> io::Result<Front> {
        let Some(prefix) = self.input.first_chunk::<4>() else { return Ok(Front::Partial) };
        let length = i32::from_be_bytes(*prefix);
        let length = usize::try_from(length).ok().filter(|length| *length >= 8);
        let length = length.ok_or_else(|| io::Error::other("a packet with an impossible length"))?;
        let Some(header) = self.input.get(4..12) else { return Ok(Front::Partial) };
        let mut reader = Reader::new(header);
        let header = crate::proto::decode_request_header(&mut reader).map_err(io::Error::other)?;
        if length > self.bytes_max(header.op) {
            if length > REFUSED_BYTES_MAX {
                return Err(io::Error::other(format!("a packet of {length} bytes")));
            }
            return Ok(Front::Oversized(header, length));
        }
        if self.input.len() < 4 + length { Ok(Front::Partial) } else { Ok(Front::Packet(header, length)) }
    }

    fn bytes_max(&self, code: i32) -> usize {
        let most = self.server.config.packet_bytes_max;
        if matches!(code, op::SET_WATCHES | op::SET_WATCHES2) {
            most.max(SET_WATCHES_BYTES_MAX)
        } else {
            most
        }
    }

    /// Whether the server has so much to do that this connection has to wait.
    fn is_throttled(&mut self, context: &mut Context) -> bool {
        if self.server.hub.stats.outstanding_bytes.load(Relaxed) <= OUTSTANDING_BYTES_MAX {
            self.throttle = None;
            return false;
        }
        // Its own answers wake it; else it looks again in a while.
        let sleep = self.throttle.get_or_insert_with(|| Box::pin(tokio::time::sleep(THROTTLE)));
        while sleep.as_mut().poll(context).is_ready() {
            sleep.as_mut().reset(Instant::now() + THROTTLE);
        }
        true
    }

    /// Sends what there is. True if the client has taken it all.
    fn poll_output(&mut self, stream: &mut network::Connection, context: &mut Context) -> io::Result<bool> {
        loop {
            if self.sent == self.output.len() {
                self.output.clear();
                if self.output.capacity() > OUTPUT_KEPT {
                    self.output = Vec::new();
                }
                self.sent = 0;
                let mut outbox = self.connection.outbox();
                if outbox.bytes.is_empty() {
                    drop(outbox);
                    return self.poll_flush(stream, context);
                }
                std::mem::swap(&mut self.output, &mut outbox.bytes);
                let packets = std::mem::take(&mut outbox.packets);
                drop(outbox);
                self.server.hub.stats.sent.fetch_add(packets, Relaxed);
                self.server.hub.stats.bytes_sent.fetch_add(self.output.len() as u64, Relaxed);
                self.connection.stats.sent.fetch_add(packets, Relaxed);
            }
            match stream.as_mut().poll_write(context, &self.output[self.sent..]) {
                Poll::Pending => return Ok(false),
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(written)) => self.sent += written,
            }
            self.unflushed = true;
        }
    }

    fn poll_flush(&mut self, stream: &mut network::Connection, context: &mut Context) -> io::Result<bool> {
        if self.unflushed {
            match stream.as_mut().poll_flush(context) {
                Poll::Pending => return Ok(false),
                Poll::Ready(flushed) => flushed?,
            }
            self.unflushed = false;
        }
        Ok(true)
    }

    /// Reads once. True if there was something.
    fn poll_input(&mut self, stream: &mut network::Connection, context: &mut Context) -> io::Result<bool> {
        if self.closing {
            return Ok(false);
        }
        // Whole packets that wait, or an oversized one that waits for its turn, are enough.
        let wanted = match self.front()? {
            Front::Partial if self.input.len() >= 4 => {
                let length = self.input.first_chunk().map_or(0, |prefix| i32::from_be_bytes(*prefix));
                4 + usize::try_from(length).unwrap_or(0)
            }
            Front::Partial => INPUT_BYTES,
            _ if self.input.len() >= INPUT_AHEAD_MAX => return Ok(false),
            _ => INPUT_AHEAD_MAX,
        };
        let spare = self.input.capacity() - self.input.len();
        if spare < INPUT_BYTES / 4 || spare < self.room / 4 {
            // Grows with what comes, not with what is announced.
            let ahead = wanted.saturating_sub(self.input.len()).clamp(INPUT_BYTES, GROWTH_MAX);
            self.input.reserve(ahead.min(self.input.len().max(self.room)));
            self.hold()?;
        }
        let spare = self.input.capacity() - self.input.len();
        let read = match pin!(stream.read_buf(&mut self.input)).poll(context) {
            Poll::Pending => {
                if self.input.is_empty() && self.input.capacity() > INPUT_AHEAD_MAX {
                    self.input = BytesMut::new();
                    self.room = INPUT_BYTES;
                    self.release();
                }
                return Ok(false);
            }
            Poll::Ready(read) => read?,
        };
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // One that sends much gets room for more at once.
        self.room = if read == spare { (self.room * 2).min(INPUT_AHEAD_MAX / 2) } else { self.room };
        self.arrived = Instant::now();
        self.server.hub.stats.bytes_received.fetch_add(read as u64, Relaxed);
        self.heard();
        let skipped = self.skip.min(self.input.len());
        self.input.advance(skipped);
        self.skip -= skipped;
        Ok(true)
    }

    /// Counts what this connection holds beyond what every one may.
    fn hold(&mut self) -> io::Result<()> {
        let now = self.input.capacity().saturating_sub(INPUT_AHEAD_MAX) as u64;
        let counter = &self.server.hub.stats.large_input_bytes;
        let total = counter.fetch_add(now, Relaxed) + now - self.large;
        counter.fetch_sub(self.large, Relaxed);
        self.large = now;
        if now > 0 && total > LARGE_INPUT_MAX {
            return Err(io::Error::other("all connections together hold too much"));
        }
        Ok(())
    }

    fn release(&mut self) {
        self.server.hub.stats.large_input_bytes.fetch_sub(self.large, Relaxed);
        self.large = 0;
    }

    /// The session lives. Said to the replica not more often than it matters.
    fn heard(&mut self) {
        if self.connection.read_only {
            return;
        }
        let every = Duration::from_millis((self.connection.timeout_ms.max(0) as u64 / 16).max(1));
        if self.touched.is_none_or(|touched| self.arrived.duration_since(touched) >= every) {
            self.touched = Some(self.arrived);
            self.server.replica.touch(self.connection.session);
        }
    }

    /// For `cons`.
    fn note(&self, header: RequestHeader, zxid: i64) {
        let stats = &self.connection.stats;
        stats.last_op.store(i64::from(header.op), Relaxed);
        stats.last_xid.store(i64::from(header.xid), Relaxed);
        if zxid > 0 {
            stats.last_zxid.store(zxid, Relaxed);
        }
    }
}
