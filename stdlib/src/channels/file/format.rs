//! The file that says what a directory is: the version of its format, and whether it is encrypted.

use std::io::{self, IoSlice};
use std::path::Path;

use flow_agent::Fault;
use flow_log::Storage;
use serde::{Deserialize, Serialize};

use super::seal::{KeyCheck, Seal};
use crate::sinks::io_text;

/// The format of a channel's directory; a newer one is refused.
const VERSION: u32 = 1;

const FILE: &str = "channel.json";

/// The largest format file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 64 << 10;

#[derive(Serialize, Deserialize)]
struct Format {
    version: u32,
    key: Option<KeyCheck>,
}

#[derive(Deserialize)]
struct VersionOnly {
    version: u32,
}

/// Makes the directory a channel's, or checks that it is one that this program and this secret can read. Gives the
/// key to write and read with.
pub fn open(storage: &dyn Storage, dir: &Path, secret: Option<&str>) -> Result<Option<Seal>, Fault> {
    let shown = dir.display();
    let Some(bytes) = read(storage, &dir.join(FILE)).map_err(|error| fault("read", dir, &error))? else {
        let (seal, key) = secret.map(Seal::make).transpose()?.unzip();
        write(storage, dir, &Format { version: VERSION, key })?;
        return Ok(seal);
    };
    let broken = || {
        Fault::new(format!("`{shown}/{FILE}` is not what was written"))
            .help(format!(
                "move it aside when the channel has no `key`: it is made again; `{shown}/log` stays"
            ))
            .setting("dirs")
    };
    let VersionOnly { version } = serde_json::from_slice(&bytes).map_err(|_| broken())?;
    if version > VERSION {
        return Err(Fault::new(format!("state in `{shown}` was written by a newer flowc"))
            .code("F0813")
            .help("run the newer flowc, or choose another directory")
            .setting("dirs"));
    }
    let format: Format = serde_json::from_slice(&bytes).map_err(|_| broken())?;
    match (secret, &format.key) {
        (None, None) => Ok(None),
        (None, Some(_)) => Err(Fault::new(format!("the events in `{shown}` are encrypted"))
            .help("say which secret they were written with: `key: …`")
            .setting("dirs")),
        (Some(secret), None) => {
            // What is there already stays readable: every batch says whether it is encrypted.
            let (seal, key) = Seal::make(secret)?;
            write(storage, dir, &Format { version: VERSION, key: Some(key) })?;
            Ok(Some(seal))
        }
        (Some(secret), Some(check)) => match Seal::unlock(secret, check)? {
            Some(seal) => Ok(Some(seal)),
            None => Err(Fault::new(format!("the events in `{shown}` were encrypted with another key"))
                .help("use the secret they were written with, or another directory")
                .setting("key")),
        },
    }
}

fn read(storage: &dyn Storage, path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match storage.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let length = file.len()?.min(FILE_BYTES_MAX);
    let mut bytes = vec![0; length as usize];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(Some(bytes))
}

/// Replaces the file as a whole: a crash leaves the old one or the new one.
fn write(storage: &dyn Storage, dir: &Path, format: &Format) -> Result<(), Fault> {
    let bytes = serde_json::to_vec(format).unwrap_or_default();
    let attempt = || -> io::Result<()> {
        let temporary = dir.join("channel.new");
        let file = storage.create(&temporary)?;
        let mut written = 0;
        while written < bytes.len() {
            match file.write_at(&[IoSlice::new(&bytes[written..])], written as u64) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        file.sync()?;
        storage.rename(&temporary, &dir.join(FILE))?;
        storage.sync_dir(dir)
    };
    attempt().map_err(|error| fault("write to", dir, &error))
}

/// What the system says of a directory, in the words of the catalogue.
pub fn fault(doing: &str, dir: &Path, error: &io::Error) -> Fault {
    let fault = Fault::new(format!("cannot {doing} `{}`: {}", dir.display(), io_text(error))).setting("dirs");
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            fault.code("F0804").help("give the user that runs this write permission for the directory")
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            fault.code("F0806").help("free some space")
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            fault.code("F0806").help("mount it writable, or choose another directory")
        }
        _ => fault.code("F0806").help("choose a directory that can be written"),
    }
}
