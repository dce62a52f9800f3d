//! The checkpoint: up to where a log is known to be whole on disk, and the version of its format.
//!
//! A line of text each, the last of them a CRC-32C of all before. It is replaced by rename, so there is always a whole
//! one: the newest or the one before, and an older one only means that more is checked.

use std::io::IoSlice;
use std::path::Path;

use crate::error::LogError;
use crate::storage::{Storage, read_exact, write_all};

/// The file's name.
pub(crate) const FILE: &str = "flow-log-checkpoint";
/// The version of everything in the directory that this program writes. Older ones are read.
pub const FORMAT_VERSION: u32 = 1;
/// Largest file that is read.
const BYTES_MAX: u64 = 4096;

/// Everything below is synced and was checked when it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    /// The log's start.
    pub start: i64,
    /// The offset up to which the log is whole, the base of its segment, and the position in that segment's file.
    pub offset: i64,
    pub segment: i64,
    pub position: u64,
    /// Entries in that segment's indexes.
    pub offset_entries: u64,
    pub time_entries: u64,
    /// Everything below was compacted.
    pub cleaned: i64,
    /// The log was closed: nothing follows.
    pub clean: bool,
}

/// What the file said.
pub(crate) enum Found {
    Missing,
    Broken,
    Good(Checkpoint),
}

impl Checkpoint {
    fn encode(&self) -> String {
        let mut text = format!(
            "flow-log {FORMAT_VERSION}\nstart {}\noffset {}\nsegment {}\nposition {}\noffset_entries {}\n\
             time_entries {}\ncleaned {}\nclean {}\n",
            self.start,
            self.offset,
            self.segment,
            self.position,
            self.offset_entries,
            self.time_entries,
            self.cleaned,
            u8::from(self.clean)
        );
        let crc = crc32c::crc32c(text.as_bytes());
        text.push_str(&format!("crc32c {crc:08x}\n"));
        text
    }

    /// `Err` with the version if it is newer, `Ok(None)` if the text is broken.
    fn decode(text: &str) -> Result<Option<Checkpoint>, u32> {
        let version =
            text.lines().next().and_then(|line| line.strip_prefix("flow-log ")?.parse::<u32>().ok());
        match version {
            Some(version) if version > FORMAT_VERSION => return Err(version),
            Some(_) => {}
            None => return Ok(None),
        }
        Ok(Checkpoint::decode_fields(text))
    }

    fn decode_fields(text: &str) -> Option<Checkpoint> {
        let (body, crc) = text.split_at_checked(text.rfind("crc32c ")?)?;
        let crc = u32::from_str_radix(crc.strip_prefix("crc32c ")?.strip_suffix('\n')?, 16).ok()?;
        if crc != crc32c::crc32c(body.as_bytes()) {
            return None;
        }
        let mut lines = body.lines().skip(1);
        let mut field =
            |name: &str| -> Option<i64> { lines.next()?.strip_prefix(name)?.strip_prefix(' ')?.parse().ok() };
        let found = Checkpoint {
            start: field("start")?,
            offset: field("offset")?,
            segment: field("segment")?,
            position: field("position")?.try_into().ok()?,
            offset_entries: field("offset_entries")?.try_into().ok()?,
            time_entries: field("time_entries")?.try_into().ok()?,
            cleaned: field("cleaned")?,
            clean: field("clean")? == 1,
        };
        (found.start >= 0 && found.segment >= 0 && found.offset >= found.segment).then_some(found)
    }

    /// Reads the file of a directory. A newer version is an error.
    pub fn read(storage: &dyn Storage, dir: &Path) -> Result<Found, LogError> {
        let path = dir.join(FILE);
        let text = match read_text(storage, &path, BYTES_MAX) {
            Ok(Some(text)) => text,
            Ok(None) => return Ok(Found::Broken),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Found::Missing),
            Err(error) => return Err(LogError::io("read", &path, error)),
        };
        match Checkpoint::decode(&text) {
            Ok(Some(checkpoint)) => Ok(Found::Good(checkpoint)),
            Ok(None) => Ok(Found::Broken),
            Err(found) => Err(LogError::Newer { file: path, found, known: FORMAT_VERSION }),
        }
    }

    /// Replaces the file; the new one lasts from the next [`Storage::sync_dir`] on.
    pub fn write(&self, storage: &dyn Storage, dir: &Path) -> Result<(), LogError> {
        replace(storage, dir, FILE, self.encode().as_bytes())
    }
}

/// Reads a small text file; `None` if it is too large or not UTF-8.
pub(crate) fn read_text(
    storage: &dyn Storage,
    path: &Path,
    bytes_max: u64,
) -> std::io::Result<Option<String>> {
    let file = storage.open(path)?;
    let bytes = file.len()?;
    if bytes > bytes_max {
        return Ok(None);
    }
    let mut text = vec![0; bytes as usize];
    read_exact(file.as_ref(), &mut text, 0)?;
    Ok(String::from_utf8(text).ok())
}

/// Replaces a small file by a synced new one in one step.
pub(crate) fn replace(storage: &dyn Storage, dir: &Path, name: &str, content: &[u8]) -> Result<(), LogError> {
    let path = dir.join(name);
    let fresh = dir.join(format!("{name}.tmp"));
    let done = storage.create(&fresh).and_then(|file| {
        write_all(file.as_ref(), &mut [IoSlice::new(content)], 0)?;
        file.sync()?;
        storage.rename(&fresh, &path)
    });
    done.map_err(|error| LogError::io("write", &path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHECKPOINT: Checkpoint = Checkpoint {
        start: 3,
        offset: 900,
        segment: 500,
        position: 12_345,
        offset_entries: 3,
        time_entries: 2,
        cleaned: 400,
        clean: true,
    };

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(Checkpoint::decode(&CHECKPOINT.encode()), Ok(Some(CHECKPOINT)));
    }

    #[test]
    fn a_flipped_byte_makes_it_broken_or_newer_but_never_different() {
        let text = CHECKPOINT.encode();
        for index in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[index] ^= 1;
            let Ok(text) = String::from_utf8(bytes) else { continue };
            assert!(matches!(Checkpoint::decode(&text), Ok(None) | Err(_)), "byte {index}");
        }
    }

    #[test]
    fn a_newer_version_is_named_and_an_unreadable_one_is_broken() {
        assert_eq!(Checkpoint::decode("flow-log 2\nwhatever\n"), Err(2));
        assert_eq!(Checkpoint::decode(""), Ok(None));
        assert_eq!(Checkpoint::decode("flow-log 1\n"), Ok(None));
    }
}
