//! One connection: frames in, answers out in the same order.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::frame::{self, LENGTH_BYTES};
use super::server::Listener;
use crate::api::{self, Call, Message, Piece, Reply};
use crate::broker::Broker;
use crate::security::Principal;

/// What a connection remembers between requests.
pub(crate) struct Session {}

/// Why a connection ends before its client wants it to.
#[derive(Debug, thiserror::Error)]
pub(super) enum Closed {
    #[error("{0}")]
    Malformed(String),
    #[error("the API {key} in version {version} does not exist here")]
    Unsupported { key: i16, version: i16 },
    #[error("{0}")]
    Reply(#[from] api::EncodeError),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Serves a connection until its client closes it, misbehaves, or the broker stops.
pub(super) async fn serve(
    broker: Arc<Broker>,
    listener: Arc<Listener>,
    mut stream: TcpStream,
    peer: SocketAddr,
    mut stop: watch::Receiver<bool>,
) -> Result<(), Closed> {
    stream.set_nodelay(true)?;
    let session = Arc::new(Session {});
    let mut input = BytesMut::new();
    let mut output = BytesMut::new();
    loop {
        while let Some(length) = whole_frame(&broker, &input)? {
            input.advance(LENGTH_BYTES);
            let mut frame = input.split_to(length).freeze();
            let start = frame::parse_start(&frame)?;
            let Some(api) = frame::api_of(start)? else {
                frame::encode_response(&mut output, start.correlation_id, 0, |buffer| {
                    Message::encode(&api::unsupported_version(), buffer, 0)
                })?;
                continue;
            };
            let header = frame::decode_header(api, start.version, &mut frame)?;
            let call = Call {
                key: start.key,
                version: start.version,
                client_id: header.client_id,
                principal: Principal::anonymous(),
                peer,
                listener: Arc::clone(&listener),
                session: Arc::clone(&session),
            };
            let handling = (api.start)(Arc::clone(&broker), call, frame)
                .map_err(|error| Closed::Malformed(format!("{}: {error}", api.name)))?;
            let response_header = (api.response_header)(start.version);
            match handling.await {
                Reply::None => {}
                Reply::Message(message) => {
                    frame::encode_response(&mut output, start.correlation_id, response_header, |buffer| {
                        message.encode(buffer, start.version)
                    })?;
                }
                Reply::Pieces(pieces) => {
                    frame::encode_response(&mut output, start.correlation_id, response_header, |buffer| {
                        for piece in pieces {
                            match piece {
                                Piece::Bytes(bytes) => buffer.extend_from_slice(&bytes),
                            }
                        }
                        Ok::<(), Closed>(())
                    })?
                }
            }
        }
        stream.write_all(&output).await?;
        output.clear();
        let read = tokio::select! {
            read = stream.read_buf(&mut input) => read?,
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
        };
        if read == 0 {
            return Ok(());
        }
    }
}

/// Decodes a request and forgets it.
pub(super) fn check_request(mut frame: Bytes) -> Result<(), Closed> {
    let start = frame::parse_start(&frame)?;
    let Some(api) = frame::api_of(start)? else { return Ok(()) };
    frame::decode_header(api, start.version, &mut frame)?;
    (api.check)(start.version, frame).map_err(|error| Closed::Malformed(error.to_string()))
}

/// The length of the frame that stands whole at the start of `input`.
fn whole_frame(broker: &Broker, input: &[u8]) -> Result<Option<usize>, Closed> {
    let Some(length) = input.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let length = i32::from_be_bytes(*length);
    match usize::try_from(length) {
        Ok(length) if length <= broker.config.limits.request_bytes_max => {
            Ok((input.len() - LENGTH_BYTES >= length).then_some(length))
        }
        _ => Err(Closed::Malformed(format!("a request of {length} bytes"))),
    }
}
