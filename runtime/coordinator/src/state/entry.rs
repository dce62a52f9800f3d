//! What the replicated log holds: many transactions of one server's clients, in their order, as values and as bytes.
//! The bytes are the project's own form: a version, then numbers of variable length; identities once per entry.

use std::sync::Arc;

use bytes::Bytes;

use super::bytes::{DecodeError, Reader, put_acl, put_bytes, put_data, put_i64, put_id, put_u64, share};
use crate::proto::{Create, CreateOp, Id, Request, SessionId};

/// The form that is written; an unknown one is refused.
const VERSION: u8 = 1;
/// Lists of identities that are looked through for one that was already written.
const IDS_LOOKED_AT: usize = 64;
/// Requests of one multi lie one level deep.
const DEPTH_MAX: usize = 1;

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The leader's wall clock, milliseconds since 1970 UTC. The state never lets time go back.
    pub time_ms: i64,
    pub origin: Origin,
    /// The serial of the first transaction; the others follow without a gap.
    pub first_serial: u64,
    pub txns: Vec<Txn>,
}

/// The server whose clients asked. Serials begin with 1 in each incarnation, and each incarnation is greater than the
/// one before. Server 0 has no serials: what comes from there is never taken for a repeat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    pub server: u32,
    pub incarnation: u64,
}

/// One transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Txn {
    /// 0: of nobody, as membership and expiry are.
    pub session: SessionId,
    /// The connection that asked. It must own the session; 0 is internal and is not checked.
    pub connection: u64,
    /// Who asked.
    pub ids: Arc<[Id]>,
    pub op: Op,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// A write of a client.
    Request(Request),
    /// The session is that of the transaction, its first owner the connection of the transaction.
    CreateSession {
        timeout_ms: i32,
    },
    /// Another connection takes the session over.
    Attach {
        password: Vec<u8>,
        connection: u64,
    },
    CloseSession,
    /// Sessions that nobody heard of for too long; those that are gone already are passed over.
    Expire {
        sessions: Vec<SessionId>,
    },
    /// Containers and TTL nodes; each is looked at again.
    DeleteContainers {
        paths: Vec<String>,
    },
    /// The key of session passwords; only the first is kept.
    Init {
        secret: [u8; 32],
    },
    /// The new content of `/zookeeper/config`, lines of `server.N=…`.
    Membership {
        text: String,
    },
}

impl Entry {
    /// Appends the entry.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        put_i64(out, self.time_ms);
        put_u64(out, u64::from(self.origin.server));
        put_u64(out, self.origin.incarnation);
        put_u64(out, self.first_serial);
        put_u64(out, self.txns.len() as u64);
        let mut lists: Vec<&Arc<[Id]>> = Vec::new();
        for txn in &self.txns {
            out.extend_from_slice(&txn.session.to_be_bytes());
            put_u64(out, txn.connection);
            let known = lists.iter().position(|&list| Arc::ptr_eq(list, &txn.ids) || *list == txn.ids);
            match known {
                Some(number) => put_u64(out, number as u64 + 1),
                None => {
                    put_u64(out, 0);
                    put_u64(out, txn.ids.len() as u64);
                    txn.ids.iter().for_each(|id| put_id(out, id));
                    if lists.len() < IDS_LOOKED_AT {
                        lists.push(&txn.ids);
                    }
                }
            }
            encode_op(&txn.op, out);
        }
    }

    /// The entry that takes up all of `bytes`. Data is shared with them, not copied.
    ///
    /// # Errors
    /// For an unknown version, and for whatever is not an entry.
    pub fn decode(bytes: &Bytes) -> Result<Entry, DecodeError> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != VERSION {
            return Err(DecodeError { what: "the version of the entry is unknown", at: 0 });
        }
        let time_ms = reader.i64()?;
        let origin = Origin { server: reader.u32()?, incarnation: reader.u64()? };
        let first_serial = reader.u64()?;
        let count = reader.count(11)?;
        let mut txns = Vec::with_capacity(count);
        let mut lists: Vec<Arc<[Id]>> = Vec::new();
        for _ in 0..count {
            let session = reader.session()?;
            let connection = reader.u64()?;
            let ids = match reader.u64()? {
                0 => {
                    let count = reader.count(2)?;
                    let ids: Result<Vec<Id>, DecodeError> = (0..count).map(|_| reader.id()).collect();
                    let ids: Arc<[Id]> = ids?.into();
                    if lists.len() < IDS_LOOKED_AT {
                        lists.push(ids.clone());
                    }
                    ids
                }
                number => {
                    let list = usize::try_from(number - 1).ok().and_then(|number| lists.get(number));
                    list.ok_or(reader.error("an unknown list of identities"))?.clone()
                }
            };
            txns.push(Txn { session, connection, ids, op: decode_op(bytes, &mut reader)? });
        }
        if reader.left() > 0 {
            return Err(reader.error("bytes behind the entry"));
        }
        Ok(Entry { time_ms, origin, first_serial, txns })
    }
}

mod tag {
    pub const CREATE: u8 = 1;
    pub const DELETE: u8 = 2;
    pub const SET_DATA: u8 = 3;
    pub const SET_ACL: u8 = 4;
    pub const CHECK: u8 = 5;
    pub const MULTI: u8 = 6;
    pub const CLOSE_REQUEST: u8 = 7;
    pub const CREATE_SESSION: u8 = 20;
    pub const ATTACH: u8 = 21;
    pub const CLOSE_SESSION: u8 = 22;
    pub const EXPIRE: u8 = 23;
    pub const DELETE_CONTAINERS: u8 = 24;
    pub const INIT: u8 = 25;
    pub const MEMBERSHIP: u8 = 26;
    /// What is no write stands for itself and is refused when it is applied.
    pub const NO_WRITE: u8 = 0;
}

fn encode_op(op: &Op, out: &mut Vec<u8>) {
    match op {
        Op::Request(request) => encode_request(request, out),
        Op::CreateSession { timeout_ms } => {
            out.push(tag::CREATE_SESSION);
            put_i64(out, i64::from(*timeout_ms));
        }
        Op::Attach { password, connection } => {
            out.push(tag::ATTACH);
            put_bytes(out, password);
            put_u64(out, *connection);
        }
        Op::CloseSession => out.push(tag::CLOSE_SESSION),
        Op::Expire { sessions } => {
            out.push(tag::EXPIRE);
            put_u64(out, sessions.len() as u64);
            sessions.iter().for_each(|session| out.extend_from_slice(&session.to_be_bytes()));
        }
        Op::DeleteContainers { paths } => {
            out.push(tag::DELETE_CONTAINERS);
            put_u64(out, paths.len() as u64);
            paths.iter().for_each(|path| put_bytes(out, path.as_bytes()));
        }
        Op::Init { secret } => {
            out.push(tag::INIT);
            out.extend_from_slice(secret);
        }
        Op::Membership { text } => {
            out.push(tag::MEMBERSHIP);
            put_bytes(out, text.as_bytes());
        }
    }
}

fn encode_request(request: &Request, out: &mut Vec<u8>) {
    match request {
        Request::Create(create) => {
            out.push(tag::CREATE);
            out.push(match create.op {
                CreateOp::Create => 0,
                CreateOp::Create2 => 1,
                CreateOp::Container => 2,
                CreateOp::Ttl => 3,
            });
            put_bytes(out, create.path.as_bytes());
            put_data(out, create.data.as_deref());
            put_acl(out, &create.acl);
            put_i64(out, i64::from(create.flags));
            put_i64(out, create.ttl);
        }
        Request::Delete { path, version } => {
            out.push(tag::DELETE);
            put_bytes(out, path.as_bytes());
            put_i64(out, i64::from(*version));
        }
        Request::SetData { path, data, version } => {
            out.push(tag::SET_DATA);
            put_bytes(out, path.as_bytes());
            put_data(out, data.as_deref());
            put_i64(out, i64::from(*version));
        }
        Request::SetAcl { path, acl, version } => {
            out.push(tag::SET_ACL);
            put_bytes(out, path.as_bytes());
            put_acl(out, acl);
            put_i64(out, i64::from(*version));
        }
        Request::Check { path, version } => {
            out.push(tag::CHECK);
            put_bytes(out, path.as_bytes());
            put_i64(out, i64::from(*version));
        }
        Request::Multi(requests) => {
            out.push(tag::MULTI);
            put_u64(out, requests.len() as u64);
            for request in requests {
                match request {
                    Request::Multi(_) => out.push(tag::NO_WRITE),
                    request => encode_request(request, out),
                }
            }
        }
        Request::CloseSession => out.push(tag::CLOSE_REQUEST),
        _ => out.push(tag::NO_WRITE),
    }
}

fn decode_op(whole: &Bytes, reader: &mut Reader<'_>) -> Result<Op, DecodeError> {
    let tag = reader.u8()?;
    Ok(match tag {
        tag::CREATE_SESSION => Op::CreateSession { timeout_ms: reader.i32()? },
        tag::ATTACH => Op::Attach { password: reader.bytes()?.to_vec(), connection: reader.u64()? },
        tag::CLOSE_SESSION => Op::CloseSession,
        tag::EXPIRE => {
            let count = reader.count(8)?;
            let sessions: Result<_, _> = (0..count).map(|_| reader.session()).collect();
            Op::Expire { sessions: sessions? }
        }
        tag::DELETE_CONTAINERS => {
            let count = reader.count(1)?;
            let paths: Result<_, _> = (0..count).map(|_| reader.text()).collect();
            Op::DeleteContainers { paths: paths? }
        }
        tag::INIT => {
            let mut secret = [0; 32];
            secret.copy_from_slice(reader.take(32)?);
            Op::Init { secret }
        }
        tag::MEMBERSHIP => Op::Membership { text: reader.text()? },
        tag => Op::Request(decode_request(tag, whole, reader, 0)?),
    })
}

fn decode_request(
    tag: u8,
    whole: &Bytes,
    reader: &mut Reader<'_>,
    depth: usize,
) -> Result<Request, DecodeError> {
    Ok(match tag {
        tag::CREATE => {
            let op = match reader.u8()? {
                0 => CreateOp::Create,
                1 => CreateOp::Create2,
                2 => CreateOp::Container,
                3 => CreateOp::Ttl,
                _ => return Err(reader.error("an unknown way to create")),
            };
            Request::Create(Create {
                op,
                path: reader.text()?,
                data: share(whole, reader.data()?),
                acl: reader.acl()?,
                flags: reader.i32()?,
                ttl: reader.i64()?,
            })
        }
        tag::DELETE => Request::Delete { path: reader.text()?, version: reader.i32()? },
        tag::SET_DATA => Request::SetData {
            path: reader.text()?,
            data: share(whole, reader.data()?),
            version: reader.i32()?,
        },
        tag::SET_ACL => Request::SetAcl { path: reader.text()?, acl: reader.acl()?, version: reader.i32()? },
        tag::CHECK => Request::Check { path: reader.text()?, version: reader.i32()? },
        tag::MULTI if depth < DEPTH_MAX => {
            let count = reader.count(1)?;
            let requests: Result<_, _> = (0..count)
                .map(|_| {
                    let tag = reader.u8()?;
                    decode_request(tag, whole, reader, depth + 1)
                })
                .collect();
            Request::Multi(requests?)
        }
        tag::CLOSE_REQUEST => Request::CloseSession,
        tag::NO_WRITE => Request::Ping,
        _ => return Err(reader.error("an unknown operation")),
    })
}
