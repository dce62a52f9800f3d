//! The wire of ZooKeeper: what clients ask and what they are answered, as values and as bytes. It knows no tree and
//! no connection.

mod types;

pub use types::*;
