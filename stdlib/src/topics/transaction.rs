//! What batches read in a transaction carry: the topics that they reach append inside of it.

use std::sync::Arc;

use super::cluster::Transaction;

/// Carried by every share of the acknowledgement of a batch.
pub struct InTransaction {
    pub transaction: Arc<dyn Transaction>,
}
