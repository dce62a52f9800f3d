//! What stands around requests and replies: lengths, headers, the hand-shake, and the notes of watches.

use super::read::{DecodeError, Reader};
use super::write::{put_boolean, put_buffer, put_int, put_long, put_string};
use super::{ConnectRequest, ConnectResponse, EventType, Zxid};

/// Stands in the header of what a watch tells.
pub const XID_EVENT: i32 = -1;
/// Of a ping and its reply.
pub const XID_PING: i32 = -2;
/// Of an `auth` packet and its reply.
pub const XID_AUTH: i32 = -4;
/// Of `setWatches` and `setWatches2`.
pub const XID_SET_WATCHES: i32 = -8;

/// `SyncConnected`, the state that all events of a server carry.
const STATE_CONNECTED: i32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    pub xid: i32,
    pub op: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyHeader {
    pub xid: i32,
    /// What the server had applied when it answered.
    pub zxid: Zxid,
    /// 0, or the number of a [`Code`](super::Code).
    pub err: i32,
}

/// What a watch tells a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatcherEvent {
    pub kind: EventType,
    pub path: String,
}

/// Leaves room for a length, and says where.
pub fn begin_frame(out: &mut Vec<u8>) -> usize {
    let at = out.len();
    put_int(out, 0);
    at
}

/// Writes the length of what was put behind [`begin_frame`].
pub fn end_frame(out: &mut [u8], at: usize) {
    let length = i32::try_from(out.len() - at - 4).unwrap_or(i32::MAX);
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
}

/// # Errors
/// [`DecodeError::Malformed`] when there are fewer than eight bytes.
pub fn decode_request_header(reader: &mut Reader) -> Result<RequestHeader, DecodeError> {
    Ok(RequestHeader { xid: reader.int()?, op: reader.int()? })
}

pub fn encode_request_header(header: RequestHeader, out: &mut Vec<u8>) {
    put_int(out, header.xid);
    put_int(out, header.op);
}

/// # Errors
/// [`DecodeError::Malformed`] when there are fewer than sixteen bytes.
pub fn decode_reply_header(reader: &mut Reader) -> Result<ReplyHeader, DecodeError> {
    Ok(ReplyHeader { xid: reader.int()?, zxid: reader.long()?, err: reader.int()? })
}

pub fn encode_reply_header(header: ReplyHeader, out: &mut Vec<u8>) {
    put_int(out, header.xid);
    put_long(out, header.zxid);
    put_int(out, header.err);
}

/// # Errors
/// [`DecodeError::Malformed`] when it is cut off, or its type is none.
pub fn decode_event(reader: &mut Reader) -> Result<WatcherEvent, DecodeError> {
    let kind = match reader.int()? {
        1 => EventType::Created,
        2 => EventType::Deleted,
        3 => EventType::DataChanged,
        4 => EventType::ChildrenChanged,
        _ => return Err(DecodeError::Malformed),
    };
    reader.int()?;
    Ok(WatcherEvent { kind, path: reader.string()? })
}

pub fn encode_event(kind: EventType, path: &str, out: &mut Vec<u8>) {
    put_int(out, kind as i32);
    put_int(out, STATE_CONNECTED);
    put_string(out, path);
}

/// The first packet of a client. One without the last byte comes from a client before 3.4.
///
/// # Errors
/// [`DecodeError::Malformed`] when it is cut off.
pub fn decode_connect(reader: &mut Reader) -> Result<ConnectRequest, DecodeError> {
    Ok(ConnectRequest {
        protocol_version: reader.int()?,
        last_zxid_seen: reader.long()?,
        timeout_ms: reader.int()?,
        session: reader.long()?,
        password: reader.slice()?.unwrap_or_default().to_vec(),
        read_only: decode_read_only(reader)?,
    })
}

pub fn encode_connect(connect: &ConnectRequest, out: &mut Vec<u8>) {
    put_int(out, connect.protocol_version);
    put_long(out, connect.last_zxid_seen);
    put_int(out, connect.timeout_ms);
    put_long(out, connect.session);
    put_buffer(out, Some(&connect.password));
    if let Some(read_only) = connect.read_only {
        put_boolean(out, read_only);
    }
}

/// # Errors
/// [`DecodeError::Malformed`] when it is cut off.
pub fn decode_connect_reply(reader: &mut Reader) -> Result<ConnectResponse, DecodeError> {
    Ok(ConnectResponse {
        protocol_version: reader.int()?,
        timeout_ms: reader.int()?,
        session: reader.long()?,
        password: reader.slice()?.unwrap_or_default().to_vec(),
        read_only: decode_read_only(reader)?,
    })
}

pub fn encode_connect_reply(reply: &ConnectResponse, out: &mut Vec<u8>) {
    put_int(out, reply.protocol_version);
    put_int(out, reply.timeout_ms);
    put_long(out, reply.session);
    put_buffer(out, Some(&reply.password));
    if let Some(read_only) = reply.read_only {
        put_boolean(out, read_only);
    }
}

fn decode_read_only(reader: &mut Reader) -> Result<Option<bool>, DecodeError> {
    if reader.remaining() == 0 { Ok(None) } else { reader.boolean().map(Some) }
}
