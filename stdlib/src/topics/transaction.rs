//! What batches of a reader carry under `deliver effectively_once`: where they come from, so that a sink recognises what
//! comes again, and the transaction in which the topics that they reach append.

use std::fmt;
use std::sync::Arc;

use super::cluster::Transaction;

/// Carried by every share of the acknowledgement of a batch. `event.id` is the offset.
pub struct FromTopic {
    pub topic: Arc<str>,
    pub partition: i32,
    /// Who reads: two groups bring the same event twice on purpose.
    pub group: Arc<str>,
    /// Another number for each time a reader begins: within one, every event comes once and in order.
    pub reading: u64,
    pub transaction: Option<Arc<dyn Transaction>>,
}

/// `orders/3 as billing`
impl fmt::Display for FromTopic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} as {}", self.topic, self.partition, self.group)
    }
}
