//! What is known of the topics beside their records: names, ids, partitions, settings; one versioned JSON document that
//! is always replaced as a whole.
//!
//! It must not know the disk: reading and writing the file is the store's.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::configs::Overrides;
use super::names;

/// The name of the file.
pub const META_FILE: &str = "topics.json";

/// The version that is written; an older one is read, a newer one refused.
pub const META_VERSION: u32 = 1;

/// The most partitions of one topic.
pub const PARTITIONS_MAX: i32 = 100_000;

/// The largest `partition.metadata` that is read, in bytes.
pub const PARTITION_METADATA_BYTES_MAX: usize = 4096;

/// Everything in the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    pub version: u32,
    pub cluster_id: String,
    /// The broker's settings changed while it ran.
    #[serde(default)]
    pub broker: Overrides,
    #[serde(default)]
    pub topics: Vec<TopicMeta>,
}

/// One topic in the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicMeta {
    pub name: String,
    #[serde(with = "topic_id")]
    pub id: Uuid,
    pub partitions: i32,
    #[serde(default)]
    pub configs: Overrides,
}

/// Why the file cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetaError {
    #[error("it has version {found}, and this program reads up to {META_VERSION} (F0813)")]
    Newer { found: u32 },
    #[error("it is damaged: {0}")]
    Damaged(String),
}

/// Gives the document as it is written.
pub fn encode_meta(meta: &Meta) -> Vec<u8> {
    // A map with names as keys, numbers and text: there is nothing in it that JSON cannot say.
    let mut text = serde_json::to_vec_pretty(meta).unwrap_or_default();
    text.push(b'\n');
    text
}

/// Reads the document.
///
/// # Errors
///
/// A newer version, text that is no such document, names or numbers that no topic can have, a name or id given twice.
pub fn decode_meta(text: &[u8]) -> Result<Meta, MetaError> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let damaged = |error: serde_json::Error| MetaError::Damaged(error.to_string());
    let Version { version } = serde_json::from_slice(text).map_err(damaged)?;
    if version > META_VERSION {
        return Err(MetaError::Newer { found: version });
    }
    let meta: Meta = serde_json::from_slice(text).map_err(damaged)?;
    let mut names_seen = std::collections::HashSet::new();
    let mut ids_seen = std::collections::HashSet::new();
    for topic in &meta.topics {
        names::check_topic_name(&topic.name).map_err(MetaError::Damaged)?;
        if !(1..=PARTITIONS_MAX).contains(&topic.partitions) {
            return Err(MetaError::Damaged(format!(
                "topic `{}` has {} partitions",
                topic.name, topic.partitions
            )));
        }
        if !names_seen.insert(&topic.name) || !ids_seen.insert(topic.id) {
            return Err(MetaError::Damaged(format!("topic `{}` is listed twice", topic.name)));
        }
    }
    Ok(meta)
}

/// The text of a partition's `partition.metadata`, as Kafka writes it.
pub fn encode_partition_metadata(topic: Uuid) -> String {
    format!("version: 0\ntopic_id: {}\n", encode_topic_id(topic))
}

/// The topic's id in a `partition.metadata`.
pub fn decode_partition_metadata(text: &str) -> Option<Uuid> {
    let value = text.lines().find_map(|line| line.strip_prefix("topic_id:"))?;
    decode_topic_id(value.trim())
}

/// An id as Kafka prints it: base64 for URLs, without padding.
pub fn encode_topic_id(id: Uuid) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(id.as_bytes())
}

/// Ids in the document, as Kafka prints them.
mod topic_id {
    use serde::{Deserialize, Deserializer, Serializer, de};
    use uuid::Uuid;

    pub(super) fn serialize<S: Serializer>(id: &Uuid, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::encode_topic_id(*id))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Uuid, D::Error> {
        let text = String::deserialize(deserializer)?;
        super::decode_topic_id(&text)
            .ok_or_else(|| de::Error::custom(format!("`{text}` is no id of a topic")))
    }
}

fn decode_topic_id(text: &str) -> Option<Uuid> {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).ok()?;
    Uuid::from_slice(&bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta() -> Meta {
        Meta {
            version: META_VERSION,
            cluster_id: "c".into(),
            broker: Overrides::from([("log.retention.ms".into(), "1".into())]),
            topics: vec![TopicMeta {
                name: "clicks".into(),
                id: Uuid::from_u128(7),
                partitions: 3,
                configs: Overrides::from([("cleanup.policy".into(), "compact".into())]),
            }],
        }
    }

    #[test]
    fn the_document_comes_back_as_it_was() {
        assert_eq!(decode_meta(&encode_meta(&meta())), Ok(meta()));
    }

    #[test]
    fn a_newer_document_is_refused_even_when_its_shape_is_another() {
        let newer = br#"{"version": 2, "shape": []}"#;
        assert_eq!(decode_meta(newer), Err(MetaError::Newer { found: 2 }));
    }

    #[test]
    fn a_damaged_document_is_refused() {
        let whole = encode_meta(&meta());
        for end in 0..whole.len() - 2 {
            assert!(matches!(decode_meta(&whole[..end]), Err(MetaError::Damaged(_))), "cut at {end}");
        }
        let mut twice = meta();
        twice.topics.push(twice.topics[0].clone());
        assert!(decode_meta(&encode_meta(&twice)).is_err());
        let mut escaped = meta();
        escaped.topics[0].name = "../x".into();
        assert!(decode_meta(&encode_meta(&escaped)).is_err());
        let mut none = meta();
        none.topics[0].partitions = 0;
        assert!(decode_meta(&encode_meta(&none)).is_err());
    }

    #[test]
    fn partition_metadata_is_as_kafka_writes_it() {
        let id = Uuid::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10);
        let text = encode_partition_metadata(id);
        assert_eq!(text, "version: 0\ntopic_id: AQIDBAUGBwgJCgsMDQ4PEA\n");
        assert_eq!(decode_partition_metadata(&text), Some(id));
        assert_eq!(decode_partition_metadata("version: 0\n"), None);
    }
}
