//! A coordinator that ZooKeeper clients take for ZooKeeper: a tree of znodes, sessions and watches, kept by one server
//! or by an ensemble of them over a replicated log. It knows the wire, the tree and the log; it knows no language, no
//! plan and no agent.
//!
//! ```text
//!  server/   connections, order of replies, watches of this server, four-letter words, admin page
//!  replica/  the state of this server, consensus over flow-log, forwarding to the leader, expiry, snapshots
//!  state/    what every server does alike with each entry of the log: no IO, no clock;  watches  who is told of it
//!  client/   a session of somebody else, for those who use an ensemble
//!  proto/    the wire: records, requests, replies
//! ```

pub mod client;
pub mod network;
pub mod proto;
pub mod replica;
pub mod server;
pub mod state;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod watches;
