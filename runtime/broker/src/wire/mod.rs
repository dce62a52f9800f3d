//! Kafka's wire protocol over TCP: listeners, connections, frames. It knows headers and the table of APIs, and nothing
//! of what a request means.

mod buffers;
mod connection;
mod frame;
mod input;
mod output;
mod pipeline;
mod server;
mod session;
pub(crate) mod shape;
mod tls;
mod transport;

pub(crate) use server::{Listener, Server};
pub(crate) use session::Session;

/// Decodes one request without its length, as a connection would: for fuzzing.
///
/// # Errors
///
/// What is wrong with it.
pub fn check_request(frame: &[u8]) -> Result<(), String> {
    connection::check_request(bytes::Bytes::copy_from_slice(frame)).map_err(|error| error.to_string())
}
