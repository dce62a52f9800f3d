//! Topics, their readers and the clusters they are on. [`cluster`] is the seam: topics and readers know a cluster only
//! by it.

mod cluster;
mod consumer;
mod decode;
mod embedded;
mod encode;
mod keys;
mod lane;
mod ledger;
mod reader;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod topic;
mod transaction;

use flow_agent::Registry;

pub use transaction::FromTopic;

/// Adds topics, readers and clusters.
pub fn register(registry: &mut Registry) {
    registry.channels.insert("topic", topic::topic);
    registry.services.insert("embedded", embedded::embedded);
    registry.sources.insert("consumer", consumer::consumer);
}
