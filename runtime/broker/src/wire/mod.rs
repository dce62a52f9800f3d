//! Kafka's wire protocol over TCP: listeners, connections, frames. It knows headers and the table of APIs, and nothing
//! of what a request means.

mod connection;
mod frame;
mod server;
pub(crate) mod shape;

pub(crate) use connection::Session;
pub(crate) use server::{Listener, Server};

/// Decodes one request without its length, as a connection would: for fuzzing.
///
/// # Errors
///
/// What is wrong with it.
pub fn check_request(frame: &[u8]) -> Result<(), String> {
    connection::check_request(bytes::Bytes::copy_from_slice(frame)).map_err(|error| error.to_string())
}
