//! Resolved settings of a component: plain data, every declared setting present, decoded by serde.
//!
//! The encodings are the contract between the checker (which writes them) and the kinds (which read them):
//! see each type.

use serde::{Deserialize, Serialize};

/// Settings by name. Main arguments stand here under their declared names; rest settings under `...`.
pub type Settings = serde_json::Map<String, serde_json::Value>;

/// A duration in nanoseconds, never negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Duration(pub u64);

impl Duration {
    pub fn std(self) -> std::time::Duration {
        std::time::Duration::from_nanos(self.0)
    }
}

/// A regex setting.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegexSetting {
    pub pattern: String,
    /// A subset of `imsxu`.
    pub flags: String,
}

/// `1h or 128MiB or 10_000`: whichever comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    pub duration: Option<Duration>,
    /// Bytes.
    pub size: Option<u64>,
    pub events: Option<u64>,
}

/// `1s..30s`, both ends belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FromTo<T> {
    pub from: T,
    pub to: T,
}

/// A secret: by name, resolved at start and never printed, or written in the file (which the checker warned
/// about).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretSetting {
    Secret(String),
    Literal(String),
}
