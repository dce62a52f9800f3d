//! `ConsumerGroupHeartbeat` and `ConsumerGroupDescribe` (KIP-848).
