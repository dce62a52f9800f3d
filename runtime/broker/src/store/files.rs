//! Small files that are read and replaced as a whole.

use std::io::{self, IoSlice};
use std::path::Path;

use flow_log::Storage;

/// What the name of a file ends with while it is being written.
pub(super) const TEMPORARY_SUFFIX: &str = ".tmp";

/// Reads a whole file. None when there is none.
///
/// # Errors
///
/// A file of more than `bytes_max` bytes, or one that cannot be read.
pub(crate) fn read_file(storage: &dyn Storage, path: &Path, bytes_max: usize) -> io::Result<Option<Vec<u8>>> {
    let file = match storage.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let length = usize::try_from(file.len()?).ok().filter(|&length| length <= bytes_max);
    let Some(length) = length else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("it is larger than {bytes_max} bytes"),
        ));
    };
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while filled < length {
        match file.read_at(&mut bytes[filled..], filled as u64) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Some(bytes))
}

/// Replaces a file in one step: after a crash it is the old one or the new one. It lasts from the next
/// [`Storage::sync_dir`] on.
pub(crate) fn replace_file(storage: &dyn Storage, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(TEMPORARY_SUFFIX);
    let temporary = Path::new(&name);
    let written = write_new(storage, temporary, bytes).and_then(|()| storage.rename(temporary, path));
    if written.is_err() {
        // On a full disk even a part of it is too much.
        let _ = storage.remove(temporary);
    }
    written
}

fn write_new(storage: &dyn Storage, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let file = storage.create(path)?;
    let mut written = 0;
    while written < bytes.len() {
        match file.write_at(&[IoSlice::new(&bytes[written..])], written as u64) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    file.sync()
}
