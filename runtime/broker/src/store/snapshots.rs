//! The state of a partition's producers on disk: Kafka's `.snapshot` files, and `.txnindex` files with the aborted
//! transactions of each segment. A start reads the newest usable snapshot and then only the batches after it.
//!
//! It must not know what the state means.

use std::io;
use std::path::Path;
use std::sync::Arc;

use flow_log::{FileError, Log, LogError, Storage};

use super::files::{read_file, replace_file};
use super::producers::Producers;

const SNAPSHOT: &str = ".snapshot";
const ABORTED: &str = ".txnindex";
const SEGMENT: &str = ".log";

/// Snapshots that are kept: the newest, and one more should it turn out damaged.
const SNAPSHOTS_KEPT: usize = 2;

/// The largest file of either kind that is read, in bytes.
const FILE_BYTES_MAX: usize = 64 << 20;

/// Digits of an offset in a file's name.
const OFFSET_DIGITS: usize = 20;

/// The state as the newest usable snapshot has it; an empty one from the log's start when there is none.
pub(super) fn load(storage: &dyn Storage, dir: &Path, log: &Log, now_ms: i64) -> Producers {
    let (start, end) = (log.start_offset(), log.end_offset());
    let names = storage.list(dir).unwrap_or_default();
    let mut offsets = offsets_of(&names, SNAPSHOT);
    // One beyond the end knows batches that are no longer there: other batches will take their offsets.
    for offset in offsets.extract_if(.., |offset| *offset > end) {
        if let Err(error) = storage.remove(&dir.join(file_name(offset, SNAPSHOT))) {
            tracing::warn!(dir = %dir.display(), "cannot remove snapshot {offset} of the producers: {error}");
        }
    }
    while let Some(offset) = offsets.pop() {
        match load_one(storage, dir, &names, offset, now_ms) {
            Ok(producers) => return producers,
            Err(reason) => {
                tracing::warn!(
                    dir = %dir.display(),
                    "snapshot {offset} of the producers is left aside and the log read instead: {reason}"
                );
            }
        }
    }
    Producers::new(start)
}

fn load_one(
    storage: &dyn Storage,
    dir: &Path,
    names: &[String],
    offset: i64,
    now_ms: i64,
) -> Result<Producers, String> {
    let read = |name: String| match read_file(storage, &dir.join(&name), FILE_BYTES_MAX) {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err(format!("`{name}` is gone")),
        Err(error) => Err(format!("cannot read `{name}`: {error}")),
    };
    let bytes = read(file_name(offset, SNAPSHOT))?;
    let mut producers =
        Producers::decode_snapshot(&bytes, offset, now_ms).map_err(|error| error.to_string())?;
    for base in offsets_of(names, ABORTED) {
        let name = file_name(base, ABORTED);
        let bytes = read(name.clone())?;
        producers.load_aborted(&bytes).map_err(|error| format!("`{name}`: {error}"))?;
    }
    Ok(producers)
}

/// Writes the state, taken when everything below its end was in the log, and drops older snapshots. The log is synced up
/// to there already.
pub(super) fn save(
    storage: &dyn Storage,
    dir: &Path,
    log: &Log,
    producers: &Producers,
) -> Result<(), LogError> {
    let failed = |error: io::Error| {
        LogError::Io(FileError {
            file: dir.to_owned(),
            doing: "write the snapshot in",
            error: Arc::new(error),
        })
    };
    let names = storage.list(dir).map_err(failed)?;
    let mut snapshots = offsets_of(&names, SNAPSHOT);
    let end = producers.end_offset();
    if snapshots.last() == Some(&end) || (end == log.start_offset() && snapshots.is_empty()) {
        return Ok(());
    }
    save_aborted(storage, dir, &names, producers).map_err(failed)?;
    replace_file(storage, &dir.join(file_name(end, SNAPSHOT)), &producers.encode_snapshot())
        .map_err(failed)?;
    storage.sync_dir(dir).map_err(failed)?;
    snapshots.retain(|&offset| offset < end);
    let kept_old = SNAPSHOTS_KEPT - 1;
    for offset in &snapshots[..snapshots.len().saturating_sub(kept_old)] {
        storage.remove(&dir.join(file_name(*offset, SNAPSHOT))).map_err(failed)?;
    }
    Ok(())
}

/// One file per segment that an aborted transaction ends in; the others have none.
fn save_aborted(
    storage: &dyn Storage,
    dir: &Path,
    names: &[String],
    producers: &Producers,
) -> io::Result<()> {
    let files = offsets_of(names, ABORTED);
    if files.is_empty() && producers.encode_aborted(0, i64::MAX).is_empty() {
        return Ok(());
    }
    let segments = offsets_of(names, SEGMENT);
    for (at, &base) in segments.iter().enumerate() {
        let next = segments.get(at + 1).copied().unwrap_or(i64::MAX);
        let bytes = producers.encode_aborted(base, next);
        let path = dir.join(file_name(base, ABORTED));
        if bytes.is_empty() {
            if files.contains(&base) {
                storage.remove(&path)?;
            }
            continue;
        }
        if read_file(storage, &path, FILE_BYTES_MAX)?.as_ref() != Some(&bytes) {
            replace_file(storage, &path, &bytes)?;
        }
    }
    for base in files.iter().filter(|base| !segments.contains(base)) {
        storage.remove(&dir.join(file_name(*base, ABORTED)))?;
    }
    Ok(())
}

fn file_name(offset: i64, suffix: &str) -> String {
    format!("{offset:0OFFSET_DIGITS$}{suffix}")
}

/// The offsets in the names of the files of one kind, rising.
fn offsets_of(names: &[String], suffix: &str) -> Vec<i64> {
    let mut offsets: Vec<i64> = names
        .iter()
        .filter_map(|name| name.strip_suffix(suffix))
        .filter(|digits| digits.len() == OFFSET_DIGITS && digits.bytes().all(|b| b.is_ascii_digit()))
        .filter_map(|digits| digits.parse().ok())
        .collect();
    offsets.sort_unstable();
    offsets
}
