//! Bodies of replies as bytes.

use super::read::{DecodeError, Reader};
use super::request::{decode_acl, decode_id, op, put_ids, put_multi_header};
use super::types::{Code, Response, Stat};
use super::write::{put_acl, put_buffer, put_int, put_string, put_strings};

/// The body of a reply, behind a header whose `err` is 0.
pub fn encode_response(response: &Response, out: &mut Vec<u8>) {
    match response {
        Response::Empty => {}
        Response::Path(path) => put_string(out, path),
        Response::Created { path, stat } => {
            put_string(out, path);
            encode_stat(stat, out);
        }
        Response::Stat(stat) => encode_stat(stat, out),
        Response::Data { data, stat } => {
            put_buffer(out, data.as_deref());
            encode_stat(stat, out);
        }
        Response::Children(names) | Response::Ephemerals(names) => put_strings(out, names),
        Response::Children2 { children, stat } => {
            put_strings(out, children);
            encode_stat(stat, out);
        }
        Response::Acl { acl, stat } => {
            put_acl(out, acl);
            encode_stat(stat, out);
        }
        Response::Count(number) | Response::ErrorResponse(number) => put_int(out, *number),
        Response::WhoAmI(ids) => put_ids(out, ids),
        Response::Token(token) => put_buffer(out, token.as_deref()),
        Response::Multi(results) => {
            for (op, result) in results {
                match result {
                    Ok(Response::ErrorResponse(err)) => encode_multi_failure(*err, out),
                    Ok(response) => {
                        encode_multi_header(*op, out);
                        encode_response(response, out);
                    }
                    Err(code) => encode_multi_failure(*code as i32, out),
                }
            }
            encode_multi_end(out);
        }
    }
}

/// What stands before the result of one operation of a multi that went well.
pub fn encode_multi_header(op: i32, out: &mut Vec<u8>) {
    put_multi_header(out, op, false, 0);
}

/// What stands behind the last result of a multi.
pub fn encode_multi_end(out: &mut Vec<u8>) {
    put_multi_header(out, -1, true, -1);
}

/// The 68 bytes of a znode's `Stat`.
pub fn encode_stat(stat: &Stat, out: &mut Vec<u8>) {
    let mut bytes = [0; 68];
    let longs =
        [(0, stat.czxid), (8, stat.mzxid), (16, stat.ctime), (24, stat.mtime), (44, stat.ephemeral_owner)];
    for (at, value) in longs.into_iter().chain([(60, stat.pzxid)]) {
        bytes[at..at + 8].copy_from_slice(&value.to_be_bytes());
    }
    let ints = [(32, stat.version), (36, stat.cversion), (40, stat.aversion)];
    for (at, value) in ints.into_iter().chain([(52, stat.data_length), (56, stat.num_children)]) {
        bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
    }
    out.extend_from_slice(&bytes);
}

/// A vector of names whose number is known.
pub fn encode_strings<'a>(names: impl ExactSizeIterator<Item = &'a str>, out: &mut Vec<u8>) {
    super::write::put_length(out, names.len());
    for name in names {
        put_string(out, name);
    }
}

/// The body of the reply to an operation, when its header's `err` is 0.
///
/// A failed operation of a multi does not say on the wire which it was: its number is −1. Those before the culprit of a
/// failed multi are [`Response::ErrorResponse`] with 0.
///
/// # Errors
/// [`DecodeError::Malformed`] when it is cut off; [`DecodeError::Unknown`] for an operation without a reply.
pub fn decode_response(op: i32, body: &[u8]) -> Result<Response, DecodeError> {
    let reader = &mut Reader::new(body);
    if op != op::MULTI && op != op::MULTI_READ {
        return decode_simple(op, reader);
    }
    let mut results = Vec::new();
    loop {
        let op = reader.int()?;
        let done = reader.boolean()?;
        let err = reader.int()?;
        if done {
            return Ok(Response::Multi(results));
        }
        if op != op::ERROR {
            results.push((op, Ok(decode_simple(op, reader)?)));
            continue;
        }
        if reader.int()? != err {
            return Err(DecodeError::Malformed);
        }
        match (err, Code::from_number(err)) {
            (0, _) => results.push((op, Ok(Response::ErrorResponse(0)))),
            (_, Some(code)) => results.push((op, Err(code))),
            (_, None) => return Err(DecodeError::Malformed),
        }
    }
}

/// What stands for an operation of a multi that failed, or was taken back.
pub fn encode_multi_failure(err: i32, out: &mut Vec<u8>) {
    put_multi_header(out, op::ERROR, false, err);
    put_int(out, err);
}

fn decode_simple(op: i32, reader: &mut Reader) -> Result<Response, DecodeError> {
    Ok(match op {
        op::CREATE | op::SYNC => Response::Path(reader.string()?),
        op::CREATE2 | op::CREATE_CONTAINER | op::CREATE_TTL => {
            Response::Created { path: reader.string()?, stat: decode_stat(reader)? }
        }
        op::EXISTS | op::SET_DATA | op::SET_ACL => Response::Stat(decode_stat(reader)?),
        op::GET_DATA | op::RECONFIG => Response::Data { data: reader.buffer()?, stat: decode_stat(reader)? },
        op::GET_ACL => Response::Acl { acl: decode_acl(reader)?, stat: decode_stat(reader)? },
        op::GET_CHILDREN => Response::Children(reader.strings()?),
        op::GET_CHILDREN2 => Response::Children2 { children: reader.strings()?, stat: decode_stat(reader)? },
        op::GET_EPHEMERALS => Response::Ephemerals(reader.strings()?),
        op::GET_ALL_CHILDREN_NUMBER => Response::Count(reader.int()?),
        op::WHO_AM_I => Response::WhoAmI(reader.vector(8, decode_id)?),
        op::ADD_WATCH => Response::ErrorResponse(reader.int()?),
        op::SASL => Response::Token(reader.buffer()?),
        op::DELETE
        | op::CHECK
        | op::PING
        | op::CLOSE_SESSION
        | op::SET_WATCHES
        | op::SET_WATCHES2
        | op::CHECK_WATCHES
        | op::REMOVE_WATCHES
        | op::AUTH => Response::Empty,
        _ => return Err(DecodeError::Unknown(op)),
    })
}

fn decode_stat(reader: &mut Reader) -> Result<Stat, DecodeError> {
    Ok(Stat {
        czxid: reader.long()?,
        mzxid: reader.long()?,
        ctime: reader.long()?,
        mtime: reader.long()?,
        version: reader.int()?,
        cversion: reader.int()?,
        aversion: reader.int()?,
        ephemeral_owner: reader.long()?,
        data_length: reader.int()?,
        num_children: reader.int()?,
        pzxid: reader.long()?,
    })
}

impl Code {
    /// The code with this number.
    pub fn from_number(number: i32) -> Option<Code> {
        ALL_CODES.iter().copied().find(|code| *code as i32 == number)
    }
}

const ALL_CODES: [Code; 31] = [
    Code::SystemError,
    Code::RuntimeInconsistency,
    Code::DataInconsistency,
    Code::ConnectionLoss,
    Code::Marshalling,
    Code::Unimplemented,
    Code::OperationTimeout,
    Code::BadArguments,
    Code::UnknownSession,
    Code::NewConfigNoQuorum,
    Code::ReconfigInProgress,
    Code::ApiError,
    Code::NoNode,
    Code::NoAuth,
    Code::BadVersion,
    Code::NoChildrenForEphemerals,
    Code::NodeExists,
    Code::NotEmpty,
    Code::SessionExpired,
    Code::InvalidCallback,
    Code::InvalidAcl,
    Code::AuthFailed,
    Code::SessionMoved,
    Code::NotReadOnly,
    Code::EphemeralOnLocalSession,
    Code::NoWatcher,
    Code::RequestTimeout,
    Code::ReconfigDisabled,
    Code::SessionClosedRequireSasl,
    Code::QuotaExceeded,
    Code::Throttled,
];
