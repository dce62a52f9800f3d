//! What the requests of one connection come to, strictly in their order. Reads are answered at once, under one guard
//! for all that came together; writes go to the log without waiting for each other; what follows on a write waits for
//! it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::{self, Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Buf;
use tokio::time::Instant;

use super::connection::{End, put_reply};
use super::reconfig;
use super::requests::{Way, put_decode_error, way};
use super::serve::Task;
use crate::proto::{
    Code, DecodeError, Reader, Request, RequestHeader, Response, SessionId, decode_request, op,
};
use crate::state::{CONFIG_PATH, Op, Txn};

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
/// `sync` requests that one barrier answers.
const SYNCS_MAX: usize = 1000;

/// What is at the front of the input.
pub(super) enum Front {
    /// Not all of it is here yet.
    Partial,
    Packet(RequestHeader, usize),
    /// Larger than allowed.
    Oversized(RequestHeader, usize),
}

impl Task<'_> {
    /// Answers a `sync` or `reconfig` that has come to its end.
    pub(super) fn poll_waiting(&mut self, context: &mut Context) {
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
    pub(super) fn answer(&mut self, context: &mut Context) -> io::Result<bool> {
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

    pub(super) fn front(&self) -> io::Result<Front> {
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
