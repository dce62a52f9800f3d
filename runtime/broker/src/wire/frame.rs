//! Frames: a length of four bytes, a header, a body.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable};

use super::connection::Closed;
use crate::api::Api;

/// Bytes of a frame's length.
pub(super) const LENGTH_BYTES: usize = 4;
/// Bytes that every request's header has: key, version, correlation id.
const HEADER_BYTES_MIN: usize = 8;

/// What every header starts with, whatever the API.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    pub key: i16,
    pub version: i16,
    pub correlation_id: i32,
}

/// Reads the fixed start of a request's header without taking it.
pub(super) fn parse_start(frame: &[u8]) -> Result<Start, Closed> {
    let Some(start) = frame.get(..HEADER_BYTES_MIN) else {
        return Err(Closed::Malformed(format!("a request of {} bytes", frame.len())));
    };
    Ok(Start {
        key: i16::from_be_bytes([start[0], start[1]]),
        version: i16::from_be_bytes([start[2], start[3]]),
        correlation_id: i32::from_be_bytes([start[4], start[5], start[6], start[7]]),
    })
}

/// Takes the header off the frame; the body stays.
pub(super) fn decode_header(api: &Api, version: i16, frame: &mut Bytes) -> Result<RequestHeader, Closed> {
    RequestHeader::decode(frame, (api.request_header)(version))
        .map_err(|error| Closed::Malformed(format!("the header of {}: {error}", api.name)))
}

/// Writes length, header and body; what `body` writes is measured afterwards.
pub(super) fn encode_response<E>(
    buffer: &mut BytesMut,
    correlation_id: i32,
    header_version: i16,
    body: impl FnOnce(&mut BytesMut) -> Result<(), E>,
) -> Result<(), E> {
    let start = buffer.len();
    buffer.put_i32(0);
    // A header without tagged fields cannot fail.
    let _ = ResponseHeader::default().with_correlation_id(correlation_id).encode(buffer, header_version);
    body(buffer)?;
    let length = (buffer.len() - start - LENGTH_BYTES) as u32;
    buffer[start..start + LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
    Ok(())
}
