//! The `spill` channel: memory as long as it has room, then the directories of a `file` channel, in one order. What is
//! in memory takes its source's acknowledgement along; what is on disk is acknowledged there.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use flow_agent::{Channel, Context, Fault, decode_settings};
use flow_log::Compression;
use serde::Deserialize;

use super::file::{self, SyncSetting};
use super::kept::{Limits, Memory};

/// Size of one file of the log, in bytes.
const SEGMENT_BYTES: u64 = 64 << 20;

/// How often the reading position is made to last.
const CHECKPOINT: Duration = Duration::from_secs(30);

/// Makes a `spill` channel.
pub fn spill(settings: &flow_plan::Settings, context: &Context) -> Result<Arc<dyn Channel>, Fault> {
    let settings: SpillSettings = decode_settings(settings)?;
    let whole = settings.capacity.saturating_add(settings.memory);
    let limits = Limits {
        events_max: settings.capacity,
        bytes_max: settings.bytes.unwrap_or(u64::MAX),
        take_events_max: settings.batch.unwrap_or((whole / 2).max(1)),
        memory: Memory::First { events_max: settings.memory, bytes_max: settings.memory_bytes },
    };
    let inner = file::Settings {
        sync: settings.sync.into(),
        segment: SEGMENT_BYTES,
        min_free: settings.min_free,
        checkpoint: CHECKPOINT,
        compress: Compression::None,
        secret: None,
    };
    file::open(&settings.dirs, &inner, limits, context)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SpillSettings {
    dirs: Vec<PathBuf>,
    memory: u64,
    memory_bytes: u64,
    capacity: u64,
    bytes: Option<u64>,
    batch: Option<u64>,
    sync: SyncSetting,
    min_free: u64,
}
