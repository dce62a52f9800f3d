//! Frames: a length of four bytes, a header, a body.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::RequestHeader;
use kafka_protocol::protocol::Decodable;

use super::connection::Closed;
use super::shape;
use crate::api::{self, Api};

/// Bytes of a frame's length.
pub(super) const LENGTH_BYTES: usize = 4;
/// Bytes that every request's header has: key, version, correlation id.
const HEADER_BYTES_MIN: usize = 8;

/// The key of `ApiVersions`.
const API_VERSIONS: i16 = 18;
/// `SaslHandshake` and `SaslAuthenticate`.
pub(super) const SASL_KEYS: [i16; 2] = [17, 36];
/// What is answered before it is known who asks.
pub(super) const BEFORE_AUTHENTICATION: [i16; 3] = [API_VERSIONS, 17, 36];

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

/// The entry of the table for a request. `None`: an `ApiVersions` of a version that does not exist here, which is answered
/// all the same.
pub(super) fn api_of(start: Start) -> Result<Option<&'static Api>, Closed> {
    let api = api::api(start.key);
    let known = api.filter(|api| api.versions.min <= start.version && start.version <= api.versions.max);
    match known {
        None if start.key == API_VERSIONS => Ok(None),
        None => Err(Closed::Unsupported { key: start.key, version: start.version }),
        Some(api) => Ok(Some(api)),
    }
}

/// The entry of `ApiVersions`.
pub(super) fn api_versions() -> &'static Api {
    api::api(API_VERSIONS).expect("it is in the table")
}

/// The entry of `SaslAuthenticate`, as which a bare message of SASL is handled.
pub(super) fn sasl_authenticate() -> &'static Api {
    api::api(SASL_KEYS[1]).expect("it is in the table")
}

/// Takes the header off the frame; the body stays.
pub(super) fn decode_header(api: &Api, version: i16, frame: &mut Bytes) -> Result<RequestHeader, Closed> {
    let malformed = |error: String| Closed::Malformed(format!("the header of {}: {error}", api.name));
    let header_version = (api.request_header)(version);
    shape::check_request_header(header_version, &frame[HEADER_BYTES_MIN..])
        .map_err(|error| malformed(error.to_string()))?;
    RequestHeader::decode(frame, header_version).map_err(|error| malformed(error.to_string()))
}

/// Writes length and header (correlation id and the header's version, if it has one) of an answer whose body of `bytes`
/// follows. `None`: too long for a frame.
pub(super) fn encode_head(buffer: &mut BytesMut, header: Option<(i32, i16)>, bytes: usize) -> Option<()> {
    let start = buffer.len();
    buffer.put_i32(0);
    if let Some((correlation_id, header_version)) = header {
        put_header(buffer, correlation_id, header_version);
    }
    let length = i32::try_from(buffer.len() - start - LENGTH_BYTES + bytes).ok()?;
    buffer[start..start + LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
    Some(())
}

/// Correlation id and, from version 1 on, no tagged fields.
fn put_header(buffer: &mut BytesMut, correlation_id: i32, header_version: i16) {
    buffer.put_i32(correlation_id);
    if header_version >= 1 {
        buffer.put_u8(0);
    }
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
    put_header(buffer, correlation_id, header_version);
    body(buffer)?;
    let length = (buffer.len() - start - LENGTH_BYTES) as u32;
    buffer[start..start + LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
    Ok(())
}
