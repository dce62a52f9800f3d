//! Consumer groups: who is a member, who reads what, and how far each group has read. The decisions are in
//! [`shard::Shard`], which does no IO and has no clock; [`host`] writes what it decides to `__consumer_offsets`
//! and lets answers out when they are on disk. Nothing here knows connections or the files of a partition.

mod admin;
mod classic;
mod codec;
mod consumer;
mod host;
mod journal;
mod offsets;
mod records;
mod shard;
mod timers;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use kafka_protocol::protocol::StrBytes;

pub(crate) use host::Groups;
pub(crate) use shard::{Reply, Request};

/// Partitions of `__consumer_offsets`; a group belongs to the one its name hashes to.
pub const OFFSETS_PARTITIONS: i32 = 50;
/// Bytes of a group id, member id or instance id. Kafka has no bound but the 32 KiB its strings can hold.
pub const NAME_BYTES_MAX: usize = 4096;
/// Bytes of the metadata one member brings for all its protocols together.
pub const MEMBER_METADATA_BYTES_MAX: usize = 1 << 20;
/// Bytes of all members of a group together, as they go into its one record.
pub const GROUP_RECORD_BYTES_MAX: usize = 8 << 20;
/// Groups in one shard; at the bound no new one is made (COORDINATOR_NOT_AVAILABLE).
pub const SHARD_GROUPS_MAX: usize = 100_000;
/// Partitions for which one group keeps an offset; at the bound a commit for a further one is refused.
pub const GROUP_OFFSETS_MAX: usize = 1_000_000;
/// Topics that one member of the new protocol may name.
pub const MEMBER_TOPICS_MAX: usize = 10_000;

/// Settings of the coordinator, named as in Kafka's broker configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub group_min_session_timeout_ms: i32,
    pub group_max_session_timeout_ms: i32,
    /// How long an empty group waits for further members after its first.
    pub group_initial_rebalance_delay_ms: i32,
    /// Members of a group, of either protocol.
    pub group_max_size: usize,
    /// How long a new member may wait in a join whose client does not follow up.
    pub new_member_join_timeout_ms: i32,
    pub consumer_session_timeout_ms: i32,
    pub consumer_heartbeat_interval_ms: i32,
    /// Bytes of the text beside a committed offset.
    pub offset_metadata_max_bytes: usize,
    /// Age at which the offsets of a group without members go.
    pub offsets_retention_ms: i64,
    pub offsets_retention_check_interval_ms: i64,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            group_min_session_timeout_ms: 6_000,
            group_max_session_timeout_ms: 1_800_000,
            group_initial_rebalance_delay_ms: 3_000,
            group_max_size: 5_000,
            new_member_join_timeout_ms: 300_000,
            consumer_session_timeout_ms: 45_000,
            consumer_heartbeat_interval_ms: 5_000,
            offset_metadata_max_bytes: 4096,
            offsets_retention_ms: 7 * 24 * 3_600_000,
            offsets_retention_check_interval_ms: 600_000,
        }
    }
}

/// Who sends a request, and in which version of it.
#[derive(Debug, Clone)]
pub struct Caller {
    pub client_id: Arc<str>,
    /// As Kafka writes it: `/127.0.0.1`.
    pub host: Arc<str>,
    pub version: i16,
}

/// The partition of `__consumer_offsets` (or `__transaction_state`) that a name belongs to: Java's hash of the
/// string, made positive as Kafka's `Utils.abs` does, modulo the partitions.
pub fn partition_of(name: &str, partitions: i32) -> i32 {
    let hash =
        name.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    let positive = if hash == i32::MIN { 0 } else { hash.abs() };
    positive % partitions.max(1)
}

/// Text for a message; the names kept here are shared, those of a message are its own.
pub(crate) fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}

#[cfg(test)]
mod hash_tests {
    use super::partition_of;

    #[test]
    fn groups_hash_as_in_java() {
        // "hello".hashCode() is 99162322; "polygenelubricants".hashCode() is Integer.MIN_VALUE.
        assert_eq!(partition_of("hello", 50), 99_162_322 % 50);
        assert_eq!(partition_of("polygenelubricants", 50), 0);
        assert_eq!(partition_of("", 50), 0);
        // Two UTF-16 units: 0xd83d * 31 + 0xde00.
        assert_eq!(partition_of("\u{1f600}", 50), (0xd83d * 31 + 0xde00) % 50);
    }
}
