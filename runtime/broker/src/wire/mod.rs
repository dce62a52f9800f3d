//! Kafka's wire protocol over TCP: listeners, connections, frames. It knows headers and the table of APIs, and nothing
//! of what a request means.

mod connection;
mod frame;
mod server;

pub(crate) use connection::Session;
pub(crate) use server::{Listener, Server};
