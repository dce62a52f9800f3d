//! A broker that Kafka clients take for Kafka: topics, groups and transactions over the log, spoken to by Kafka's wire
//! protocol or, inside of the process, by plain calls.
//!
//! It must not know flows, plans or the language.

mod api;
mod broker;
pub mod client;
mod config;
mod groups;
mod local;
mod members;
mod security;
mod store;
mod transactions;
mod wire;

pub use broker::{Broker, StartError};
pub use config::{
    AuthorizerConfig, BrokerConfig, Limits, ListenerConfig, TlsConfig, TopicDefaults, UserConfig,
};
pub use local::{LocalError, LocalPartition, LocalRead, LocalTopic, readable};
pub use members::{Assignor, Joining, LocalMember, MemberError};
pub use transactions::{GroupOffsets, LocalTransaction, LocalTransactions, TransactionError};
#[doc(hidden)]
pub use wire::check_request;
