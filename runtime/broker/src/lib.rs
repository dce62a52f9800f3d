//! A broker that Kafka clients take for Kafka: topics, groups and transactions over the log, spoken to by Kafka's wire
//! protocol or, inside of the process, by plain calls.
//!
//! It must not know flows, plans or the language.
