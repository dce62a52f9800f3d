//! Transactions: who may write under a transactional id, and how what it wrote becomes visible as a whole or not at all.
//! The decisions are in [`coordinator`], which does no IO and has no clock; [`host`] writes what it decides.

mod coordinator;
mod hanging;
mod host;
mod ids;
mod local;
pub(crate) mod markers;
pub(crate) mod offsets;
mod records;
#[cfg(test)]
mod tests;
mod transaction;

pub(crate) use coordinator::{Filter, View};
pub(crate) use host::Transactions;
pub use local::{LocalTransaction, LocalTransactions, TransactionError};
pub use offsets::GroupOffsets;
pub(crate) use transaction::{Producer, State, TopicPartition};
