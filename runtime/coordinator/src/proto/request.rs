//! Requests as bytes.

use bytes::Bytes;

use super::read::{DecodeError, Reader};
use super::types::{Acl, Create, CreateOp, Id, Request, SetWatches};
use super::write::{
    put_acl, put_boolean, put_buffer, put_int, put_length, put_long, put_string, put_strings,
};

/// Numbers of operations (`ZooDefs.OpCode`).
pub mod op {
    pub const ERROR: i32 = -1;
    pub const CREATE_SESSION: i32 = -10;
    pub const CLOSE_SESSION: i32 = -11;
    pub const CREATE: i32 = 1;
    pub const DELETE: i32 = 2;
    pub const EXISTS: i32 = 3;
    pub const GET_DATA: i32 = 4;
    pub const SET_DATA: i32 = 5;
    pub const GET_ACL: i32 = 6;
    pub const SET_ACL: i32 = 7;
    pub const GET_CHILDREN: i32 = 8;
    pub const SYNC: i32 = 9;
    pub const PING: i32 = 11;
    pub const GET_CHILDREN2: i32 = 12;
    pub const CHECK: i32 = 13;
    pub const MULTI: i32 = 14;
    pub const CREATE2: i32 = 15;
    pub const RECONFIG: i32 = 16;
    pub const CHECK_WATCHES: i32 = 17;
    pub const REMOVE_WATCHES: i32 = 18;
    pub const CREATE_CONTAINER: i32 = 19;
    pub const CREATE_TTL: i32 = 21;
    pub const MULTI_READ: i32 = 22;
    pub const AUTH: i32 = 100;
    pub const SET_WATCHES: i32 = 101;
    pub const SASL: i32 = 102;
    pub const GET_EPHEMERALS: i32 = 103;
    pub const GET_ALL_CHILDREN_NUMBER: i32 = 104;
    pub const SET_WATCHES2: i32 = 105;
    pub const ADD_WATCH: i32 = 106;
    pub const WHO_AM_I: i32 = 107;
}

/// The record behind a request's header. What follows it in the packet is not looked at, as in ZooKeeper.
///
/// # Errors
/// [`DecodeError::Malformed`] for a record that is cut off or has impossible lengths, and for an operation inside of a
/// multi that does not belong there; [`DecodeError::Unknown`] for an operation that no client may ask for.
pub fn decode_request(op: i32, body: &Bytes) -> Result<Request, DecodeError> {
    let reader = &mut Reader::sharing(body);
    Ok(match op {
        op::MULTI => Request::Multi(decode_multi(reader, is_multi_write)?),
        op::MULTI_READ => Request::MultiRead(decode_multi(reader, is_multi_read)?),
        // Alone it is no request of a client.
        op::CHECK => return Err(DecodeError::Unknown(op)),
        _ => return decode_simple(op, reader),
    })
}

/// The record that [`decode_request`] reads, without its header.
pub fn encode_request(request: &Request, out: &mut Vec<u8>) {
    match request {
        Request::Create(create) => encode_create(create, out),
        Request::Delete { path, version } | Request::Check { path, version } => {
            put_string(out, path);
            put_int(out, *version);
        }
        Request::SetData { path, data, version } => {
            put_string(out, path);
            put_buffer(out, data.as_deref());
            put_int(out, *version);
        }
        Request::SetAcl { path, acl, version } => {
            put_string(out, path);
            put_acl(out, acl);
            put_int(out, *version);
        }
        Request::Multi(requests) | Request::MultiRead(requests) => {
            for request in requests {
                put_multi_header(out, op_code(request), false, -1);
                encode_request(request, out);
            }
            put_multi_header(out, -1, true, -1);
        }
        Request::Reconfig { joining, leaving, new_members, config_id } => {
            for text in [joining, leaving, new_members] {
                put_buffer(out, text.as_deref().map(str::as_bytes));
            }
            put_long(out, *config_id);
        }
        Request::CloseSession | Request::WhoAmI | Request::Ping => {}
        Request::Exists { path, watch }
        | Request::GetData { path, watch }
        | Request::GetChildren { path, watch }
        | Request::GetChildren2 { path, watch } => {
            put_string(out, path);
            put_boolean(out, *watch);
        }
        Request::GetAcl { path }
        | Request::GetAllChildrenNumber { path }
        | Request::Sync { path }
        | Request::GetEphemerals { prefix: path } => put_string(out, path),
        Request::SetWatches(watches) => {
            put_long(out, watches.relative_zxid);
            put_strings(out, &watches.data);
            put_strings(out, &watches.exist);
            put_strings(out, &watches.child);
            if op_code(request) == op::SET_WATCHES2 {
                put_strings(out, &watches.persistent);
                put_strings(out, &watches.persistent_recursive);
            }
        }
        Request::AddWatch { path, mode: number }
        | Request::CheckWatches { path, kind: number }
        | Request::RemoveWatches { path, kind: number } => {
            put_string(out, path);
            put_int(out, *number);
        }
        Request::Auth { kind, scheme, auth } => {
            put_int(out, *kind);
            put_string(out, scheme);
            put_buffer(out, Some(auth));
        }
        Request::Sasl { token } => put_buffer(out, token.as_deref()),
    }
}

/// The number of a request's operation.
pub fn op_code(request: &Request) -> i32 {
    match request {
        Request::Create(create) => match create.op {
            CreateOp::Create => op::CREATE,
            CreateOp::Create2 => op::CREATE2,
            CreateOp::Container => op::CREATE_CONTAINER,
            CreateOp::Ttl => op::CREATE_TTL,
        },
        Request::Delete { .. } => op::DELETE,
        Request::SetData { .. } => op::SET_DATA,
        Request::SetAcl { .. } => op::SET_ACL,
        Request::Check { .. } => op::CHECK,
        Request::Multi(_) => op::MULTI,
        Request::Reconfig { .. } => op::RECONFIG,
        Request::CloseSession => op::CLOSE_SESSION,
        Request::Exists { .. } => op::EXISTS,
        Request::GetData { .. } => op::GET_DATA,
        Request::GetAcl { .. } => op::GET_ACL,
        Request::GetChildren { .. } => op::GET_CHILDREN,
        Request::GetChildren2 { .. } => op::GET_CHILDREN2,
        Request::GetAllChildrenNumber { .. } => op::GET_ALL_CHILDREN_NUMBER,
        Request::GetEphemerals { .. } => op::GET_EPHEMERALS,
        Request::MultiRead(_) => op::MULTI_READ,
        Request::WhoAmI => op::WHO_AM_I,
        Request::Sync { .. } => op::SYNC,
        Request::Ping => op::PING,
        Request::SetWatches(watches) => {
            if watches.persistent.is_empty() && watches.persistent_recursive.is_empty() {
                op::SET_WATCHES
            } else {
                op::SET_WATCHES2
            }
        }
        Request::AddWatch { .. } => op::ADD_WATCH,
        Request::CheckWatches { .. } => op::CHECK_WATCHES,
        Request::RemoveWatches { .. } => op::REMOVE_WATCHES,
        Request::Auth { .. } => op::AUTH,
        Request::Sasl { .. } => op::SASL,
    }
}

pub(super) fn put_multi_header(out: &mut Vec<u8>, op: i32, done: bool, err: i32) {
    put_int(out, op);
    put_boolean(out, done);
    put_int(out, err);
}

/// Every operation but the two that hold others.
fn decode_simple(op: i32, reader: &mut Reader) -> Result<Request, DecodeError> {
    Ok(match op {
        op::CREATE => decode_create(CreateOp::Create, reader)?,
        op::CREATE2 => decode_create(CreateOp::Create2, reader)?,
        op::CREATE_CONTAINER => decode_create(CreateOp::Container, reader)?,
        op::CREATE_TTL => decode_create(CreateOp::Ttl, reader)?,
        op::DELETE => Request::Delete { path: reader.string()?, version: reader.int()? },
        op::CHECK => Request::Check { path: reader.string()?, version: reader.int()? },
        op::SET_DATA => {
            Request::SetData { path: reader.string()?, data: reader.buffer()?, version: reader.int()? }
        }
        op::SET_ACL => {
            Request::SetAcl { path: reader.string()?, acl: decode_acl(reader)?, version: reader.int()? }
        }
        op::RECONFIG => Request::Reconfig {
            joining: reader.text()?.map(str::to_owned),
            leaving: reader.text()?.map(str::to_owned),
            new_members: reader.text()?.map(str::to_owned),
            config_id: reader.long()?,
        },
        op::CLOSE_SESSION => Request::CloseSession,
        op::EXISTS => Request::Exists { path: reader.string()?, watch: reader.boolean()? },
        op::GET_DATA => Request::GetData { path: reader.string()?, watch: reader.boolean()? },
        op::GET_CHILDREN => Request::GetChildren { path: reader.string()?, watch: reader.boolean()? },
        op::GET_CHILDREN2 => Request::GetChildren2 { path: reader.string()?, watch: reader.boolean()? },
        op::GET_ACL => Request::GetAcl { path: reader.string()? },
        op::GET_ALL_CHILDREN_NUMBER => Request::GetAllChildrenNumber { path: reader.string()? },
        op::GET_EPHEMERALS => Request::GetEphemerals { prefix: reader.string()? },
        op::WHO_AM_I => Request::WhoAmI,
        op::SYNC => Request::Sync { path: reader.string()? },
        op::PING => Request::Ping,
        op::SET_WATCHES | op::SET_WATCHES2 => {
            let mut watches = SetWatches {
                relative_zxid: reader.long()?,
                data: reader.strings()?,
                exist: reader.strings()?,
                child: reader.strings()?,
                ..SetWatches::default()
            };
            if op == op::SET_WATCHES2 {
                watches.persistent = reader.strings()?;
                watches.persistent_recursive = reader.strings()?;
            }
            Request::SetWatches(watches)
        }
        op::ADD_WATCH => Request::AddWatch { path: reader.string()?, mode: reader.int()? },
        op::CHECK_WATCHES => Request::CheckWatches { path: reader.string()?, kind: reader.int()? },
        op::REMOVE_WATCHES => Request::RemoveWatches { path: reader.string()?, kind: reader.int()? },
        op::AUTH => Request::Auth {
            kind: reader.int()?,
            scheme: reader.string()?,
            auth: reader.buffer()?.unwrap_or_default(),
        },
        op::SASL => Request::Sasl { token: reader.buffer()? },
        _ => return Err(DecodeError::Unknown(op)),
    })
}

fn is_multi_write(op: i32) -> bool {
    matches!(
        op,
        op::CREATE
            | op::CREATE2
            | op::CREATE_CONTAINER
            | op::CREATE_TTL
            | op::DELETE
            | op::SET_DATA
            | op::CHECK
    )
}

fn is_multi_read(op: i32) -> bool {
    matches!(op, op::GET_DATA | op::GET_CHILDREN)
}

fn decode_multi(reader: &mut Reader, belongs: fn(i32) -> bool) -> Result<Vec<Request>, DecodeError> {
    // Grows with what is read: an operation takes seventeen bytes and more.
    let mut requests = Vec::new();
    loop {
        let op = reader.int()?;
        let done = reader.boolean()?;
        reader.int()?;
        if done {
            return Ok(requests);
        }
        if !belongs(op) {
            return Err(DecodeError::Malformed);
        }
        requests.push(decode_simple(op, reader)?);
    }
}

fn decode_create(op: CreateOp, reader: &mut Reader) -> Result<Request, DecodeError> {
    Ok(Request::Create(Create {
        op,
        path: reader.string()?,
        data: reader.buffer()?,
        acl: decode_acl(reader)?,
        flags: reader.int()?,
        ttl: if op == CreateOp::Ttl { reader.long()? } else { 0 },
    }))
}

fn encode_create(create: &Create, out: &mut Vec<u8>) {
    put_string(out, &create.path);
    put_buffer(out, create.data.as_deref());
    put_acl(out, &create.acl);
    put_int(out, create.flags);
    if create.op == CreateOp::Ttl {
        put_long(out, create.ttl);
    }
}

pub(super) fn decode_id(reader: &mut Reader) -> Result<Id, DecodeError> {
    Ok(Id { scheme: reader.string()?, id: reader.string()? })
}

pub(super) fn decode_acl(reader: &mut Reader) -> Result<Vec<Acl>, DecodeError> {
    reader.vector(12, |reader| Ok(Acl { perms: reader.int()?, id: decode_id(reader)? }))
}

pub(super) fn put_ids(out: &mut Vec<u8>, ids: &[Id]) {
    put_length(out, ids.len());
    for id in ids {
        super::write::put_id(out, id);
    }
}
