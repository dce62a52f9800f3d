//! What is answered at once from this server's copy: reads of the tree, watches, and who the client is. All of it under
//! one guard of the state for as many requests as came together.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;

use super::Server;
use super::auth;
use super::connection::{Connection, End, Outbox, put_event, put_reply};
use crate::proto::{
    Code, DecodeError, Id, Reader, ReplyHeader, Request, RequestHeader, Response, Zxid, begin_frame,
    check_path, decode_request, encode_multi_end, encode_multi_failure, encode_multi_header,
    encode_reply_header, end_frame, op, op_code,
};
use crate::state::State;
use crate::watches::WatcherId;

/// The zxid in the header of a reply that has none to tell.
const NO_ZXID: Zxid = -1;

/// Bytes of the answer to a `multiRead`, and of what a `setWatches` finds changed.
const REPLY_BYTES_MAX: usize = 64 << 20;

/// What the requests of one connection are answered with. Keeps memory from request to request.
pub(super) struct Reads {
    ids: Arc<[Id]>,
    /// The path of the last request, for the memory.
    path: String,
}

/// How a request is answered.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// From this server's copy, when all writes before it are answered.
    Now,
    /// By the log.
    Log,
    /// When this server has caught up.
    Sync,
    /// By a change of the members.
    Reconfig,
}

/// The way of an operation.
pub(super) fn way(code: i32) -> Way {
    match code {
        op::CREATE
        | op::CREATE2
        | op::CREATE_CONTAINER
        | op::CREATE_TTL
        | op::DELETE
        | op::SET_DATA
        | op::SET_ACL
        | op::MULTI
        | op::CLOSE_SESSION => Way::Log,
        op::SYNC => Way::Sync,
        op::RECONFIG => Way::Reconfig,
        _ => Way::Now,
    }
}

impl Reads {
    pub fn new(connection: &Connection) -> Reads {
        Reads { ids: connection.ids(), path: String::new() }
    }

    pub fn ids(&self) -> &Arc<[Id]> {
        &self.ids
    }

    /// Answers a request that needs nothing but this server's copy.
    pub fn answer(
        &mut self,
        server: &Server,
        connection: &Connection,
        state: &State,
        outbox: &mut Outbox,
        header: RequestHeader,
        body: &[u8],
    ) {
        let zxid = state.last_zxid();
        match header.op {
            op::PING => put_reply(outbox, header.xid, zxid, &Ok(Response::Empty)),
            op::EXISTS | op::GET_DATA | op::GET_CHILDREN | op::GET_CHILDREN2 => {
                self.answer_watched(server, connection, state, outbox, header, body);
            }
            _ => match decode_request(header.op, &Bytes::copy_from_slice(body)) {
                Ok(request) => self.answer_other(server, connection, state, outbox, header, &request),
                Err(error) => put_decode_error(connection, outbox, header.xid, zxid, error),
            },
        }
    }

    /// The four reads that may leave a watch. Nothing is allocated but what the outbox grows by.
    fn answer_watched(
        &mut self,
        server: &Server,
        connection: &Connection,
        state: &State,
        outbox: &mut Outbox,
        header: RequestHeader,
        body: &[u8],
    ) {
        let zxid = state.last_zxid();
        let reader = &mut Reader::new(body);
        let parsed = reader.text().and_then(|path| Ok((path.unwrap_or_default(), reader.boolean()?)));
        let (text, watch) = match parsed {
            Ok(parsed) => parsed,
            Err(error) => return put_decode_error(connection, outbox, header.xid, zxid, error),
        };
        let before = (outbox.bytes.len(), outbox.packets);
        let mut path = std::mem::take(&mut self.path);
        path.clear();
        path.push_str(text);
        let request = match header.op {
            op::EXISTS => Request::Exists { path, watch },
            op::GET_DATA => Request::GetData { path, watch },
            op::GET_CHILDREN => Request::GetChildren { path, watch },
            _ => Request::GetChildren2 { path, watch },
        };
        let result = self.read(connection, state, outbox, header, &request);
        if let Request::Exists { path, .. }
        | Request::GetData { path, .. }
        | Request::GetChildren { path, .. }
        | Request::GetChildren2 { path, .. } = request
        {
            self.path = path;
        }
        if !watch {
            return;
        }
        let (mut watches, watcher) = (server.hub.watches(), WatcherId(connection.id));
        let added = match (header.op, result) {
            (op::EXISTS, Err(Code::NoNode)) => watches.add_exists(watcher, text),
            (op::EXISTS | op::GET_DATA, Ok(())) => watches.add_data(watcher, text),
            (_, Ok(())) => watches.add_child(watcher, text),
            _ => Ok(()),
        };
        if let Err(code) = added {
            // An answer without the watch would be taken for one with it.
            outbox.bytes.truncate(before.0);
            outbox.packets = before.1;
            put_reply(outbox, header.xid, zxid, &Err(code));
        }
    }

    /// Reads the tree straight into the outbox.
    fn read(
        &self,
        connection: &Connection,
        state: &State,
        outbox: &mut Outbox,
        header: RequestHeader,
        request: &Request,
    ) -> Result<(), Code> {
        let out = &mut outbox.bytes;
        let at = begin_frame(out);
        let zxid = state.last_zxid();
        encode_reply_header(ReplyHeader { xid: header.xid, zxid, err: 0 }, out);
        let result = state.read_into(connection.session, &self.ids, request, out);
        if let Err(code) = result {
            out.truncate(at + 4);
            encode_reply_header(ReplyHeader { xid: header.xid, zxid, err: code as i32 }, out);
        }
        end_frame(out, at);
        outbox.packets += 1;
        result
    }

    fn answer_other(
        &mut self,
        server: &Server,
        connection: &Connection,
        state: &State,
        outbox: &mut Outbox,
        header: RequestHeader,
        request: &Request,
    ) {
        let (zxid, watcher) = (state.last_zxid(), WatcherId(connection.id));
        let result = match request {
            Request::WhoAmI => Ok(Response::WhoAmI(auth::shown(&self.ids))),
            Request::Auth { scheme, auth, .. } => {
                return self.answer_auth(server, connection, outbox, header.xid, scheme, auth);
            }
            // Not set up: an empty token, and the connection lives on, as ZooKeeper does it.
            Request::Sasl { .. } => {
                return put_reply(outbox, header.xid, 0, &Ok(Response::Token(None)));
            }
            Request::SetWatches(asked) => {
                let set = server.hub.watches().set_watches(watcher, asked, state, &self.ids);
                set.map(|events| {
                    // Before the answer: what the client missed.
                    for (kind, path) in events {
                        if outbox.bytes.len() > REPLY_BYTES_MAX {
                            connection.finish(End::Cut);
                            break;
                        }
                        put_event(outbox, NO_ZXID, kind, &path);
                    }
                    Response::Empty
                })
            }
            Request::AddWatch { path, mode } => {
                let added = check_path(path, false)
                    .and_then(|()| server.hub.watches().add_mode(watcher, path, *mode));
                added.map(|()| Response::ErrorResponse(0))
            }
            Request::CheckWatches { path, kind } => {
                server.hub.watches().check(watcher, path, *kind).map(|()| Response::Empty)
            }
            Request::RemoveWatches { path, kind } => {
                server.hub.watches().remove(watcher, path, *kind).map(|()| Response::Empty)
            }
            Request::MultiRead(requests) => {
                return self.answer_multi_read(connection, state, outbox, header, requests);
            }
            _ => {
                // An error is in the outbox as well.
                let _ = self.read(connection, state, outbox, header, request);
                return;
            }
        };
        put_reply(outbox, header.xid, zxid, &result);
    }

    /// Each operation for itself. A request of few bytes may ask for many megabytes many times, so there is an end.
    fn answer_multi_read(
        &self,
        connection: &Connection,
        state: &State,
        outbox: &mut Outbox,
        header: RequestHeader,
        requests: &[Request],
    ) {
        let zxid = state.last_zxid();
        let at = begin_frame(&mut outbox.bytes);
        encode_reply_header(ReplyHeader { xid: header.xid, zxid, err: 0 }, &mut outbox.bytes);
        for request in requests {
            let before = outbox.bytes.len();
            encode_multi_header(op_code(request), &mut outbox.bytes);
            if let Err(code) = state.read_into(connection.session, &self.ids, request, &mut outbox.bytes) {
                outbox.bytes.truncate(before);
                encode_multi_failure(code as i32, &mut outbox.bytes);
            }
            if outbox.bytes.len() - at > REPLY_BYTES_MAX {
                outbox.bytes.truncate(at);
                return put_reply(outbox, header.xid, zxid, &Err(Code::BadArguments));
            }
        }
        encode_multi_end(&mut outbox.bytes);
        end_frame(&mut outbox.bytes, at);
        outbox.packets += 1;
    }

    fn answer_auth(
        &mut self,
        server: &Server,
        connection: &Connection,
        outbox: &mut Outbox,
        xid: i32,
        scheme: &str,
        auth: &[u8],
    ) {
        let result = auth::add_auth(&self.ids, scheme, auth, server.config.super_digest.as_deref());
        let result = result.map(|ids| {
            self.ids = ids;
            connection.set_ids(Arc::clone(&self.ids));
            Response::Empty
        });
        if result.is_err() {
            server.hub.stats.auth_failed.fetch_add(1, Relaxed);
            connection.finish(End::Flush);
        }
        // Most clients ask with a number that is kept for this, but not all: who counts it waits for its own.
        put_reply(outbox, xid, 0, &result);
    }
}

/// The answer to what is no request. After an operation that is none the connection ends, as ZooKeeper does it.
pub(super) fn put_decode_error(
    connection: &Connection,
    outbox: &mut Outbox,
    xid: i32,
    zxid: Zxid,
    error: DecodeError,
) {
    match error {
        DecodeError::Malformed => put_reply(outbox, xid, zxid, &Err(Code::Marshalling)),
        DecodeError::Unknown(_) => {
            put_reply(outbox, xid, NO_ZXID, &Err(Code::Unimplemented));
            connection.finish(End::Flush);
        }
    }
}
