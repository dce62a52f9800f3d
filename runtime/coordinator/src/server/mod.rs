//! What clients speak with: the port, their connections in order, the watches of this server, the four-letter words
//! and the admin page. It asks the replica for all that is to last, and knows nothing of how servers agree.
//!
//! ```text
//!  coordinator.rs   the port, from start to shutdown       config.rs: how it is set up
//!  handshake.rs     the first packet: words, sessions      auth.rs tls.rs x509.rs: who a client is
//!  serve.rs         a connection's bytes                   dispatch.rs requests.rs: what they ask, and are answered
//!  connection.rs    what others may do to a connection     hub.rs: all of them, and their watches
//!  words.rs admin.rs report.rs stats.rs                    what operators see
//! ```

mod admin;
mod auth;
mod config;
mod connection;
mod coordinator;
mod dispatch;
mod handshake;
mod hub;
mod reconfig;
mod report;
mod requests;
mod serve;
mod stats;
mod tls;
mod words;
mod x509;

pub use auth::digest;
pub use config::{CoordinatorConfig, TlsConfig, WORDS_ON};
pub use coordinator::{Coordinator, StartError};

use coordinator::Server;
