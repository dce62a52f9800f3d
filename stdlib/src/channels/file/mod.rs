//! The `file` channel: events on disk, in one log for each directory. It stands on flow-log and must not know how
//! that keeps bytes.
//!
//! A put is encoded as record batches, appended, and acknowledged when the disk has it; puts that come while the disk
//! is at work share its next sync. What was just put is also in memory, so that a reader that keeps up reads nothing
//! back. See `docs` of [`super::kept`] for the order, of `encode` for what a record looks like.

mod cursor;
mod decode;
mod encode;
#[cfg(test)]
mod fault_tests;
mod format;
mod keeper;
mod lane;
mod seal;
mod store;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use flow_agent::{Channel, Context, Fault, decode_settings};
use flow_log::{Compression, DirLock, Disk, LockError, Storage};
use flow_plan::settings::{Duration, SecretSetting};
use serde::Deserialize;
use tokio::sync::Notify;

use super::kept::{COPIES_BYTES_MAX, Limits, Memory, Queue, Room};
use store::FileStore;

/// Makes a `file` channel.
pub fn file(settings: &flow_plan::Settings, context: &Context) -> Result<Arc<dyn Channel>, Fault> {
    let settings: FileSettings = decode_settings(settings)?;
    let secret = settings.key.as_ref().map(|key| context.secret(key)).transpose()?;
    let limits = Limits {
        events_max: settings.capacity,
        bytes_max: settings.bytes.unwrap_or(u64::MAX),
        take_events_max: settings.batch.unwrap_or((settings.capacity / 2).max(1)),
        memory: Memory::Copies { bytes_max: COPIES_BYTES_MAX },
    };
    let inner = Settings {
        sync: settings.sync.into(),
        segment: settings.segment,
        min_free: settings.min_free,
        checkpoint: settings.checkpoint.std(),
        compress: match settings.compress {
            Compress::None => Compression::None,
            Compress::Lz4 => Compression::Lz4,
            Compress::Zstd => Compression::Zstd,
        },
        secret,
    };
    open(&settings.dirs, &inner, limits, context)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileSettings {
    dirs: Vec<PathBuf>,
    capacity: u64,
    bytes: Option<u64>,
    batch: Option<u64>,
    sync: SyncSetting,
    segment: u64,
    min_free: u64,
    checkpoint: Duration,
    compress: Compress,
    key: Option<SecretSetting>,
}

/// As the language has it.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SyncSetting {
    Commit,
    Interval(Duration),
    Never,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Compress {
    None,
    Lz4,
    Zstd,
}

/// When the disk is asked to keep what was put; only then is it acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// At once, for all that wait.
    Commit,
    /// Every so often.
    Interval(std::time::Duration),
    /// When the system wants: a crash of the process loses nothing, one of the machine may.
    Never,
}

impl From<SyncSetting> for Sync {
    fn from(setting: SyncSetting) -> Sync {
        match setting {
            SyncSetting::Commit => Sync::Commit,
            SyncSetting::Interval(interval) => Sync::Interval(interval.std()),
            SyncSetting::Never => Sync::Never,
        }
    }
}

/// What a store over directories is told.
#[derive(Clone, Debug)]
pub struct Settings {
    pub sync: Sync,
    /// Bytes of one file of the log.
    pub segment: u64,
    /// Bytes that must stay free.
    pub min_free: u64,
    pub checkpoint: std::time::Duration,
    pub compress: Compression,
    pub secret: Option<String>,
}

/// Locks the directories and opens a channel over them; without any, over one in the state directory.
pub fn open(
    dirs: &[PathBuf],
    settings: &Settings,
    limits: Limits,
    context: &Context,
) -> Result<Arc<dyn Channel>, Fault> {
    let dirs = if dirs.is_empty() { vec![context.state_dir.clone()] } else { dirs.to_vec() };
    let locks = dirs.iter().map(|dir| lock(dir)).collect::<Result<Vec<_>, _>>()?;
    let storage: Arc<dyn Storage> = Arc::new(Disk);
    let room: Room = Arc::new(Notify::new());
    let (store, found) = FileStore::open(&storage, &dirs, settings, context.slots.clone(), room.clone())?;
    let queue = Queue::new(store.with_locks(locks), found, limits, room);
    Ok(Arc::new(queue))
}

fn lock(dir: &Path) -> Result<DirLock, Fault> {
    DirLock::take(dir).map_err(|error| match error {
        LockError::Held { dir, process } => {
            let owner = process.map_or(String::new(), |process| format!(" (pid {process})"));
            Fault::new(format!("another flowc{owner} already owns `{}`", dir.display()))
                .code("F0811")
                .help("stop it, or give this channel a directory of its own")
                .setting("dirs")
        }
        LockError::Io { dir, error } => format::fault("use", &dir, &error),
    })
}
