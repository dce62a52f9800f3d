//! The position file: which part of which file has been delivered. JSON with a version, replaced as a whole by a
//! rename so that a crash leaves the old one or the new one.

use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use flow_agent::Fault;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Raised when the shape changes; a newer one is refused.
const VERSION: u32 = 1;

/// The largest position file that is read: far beyond what the bounds on entries allow.
const FILE_BYTES_MAX: u64 = 256 << 20;

#[derive(Serialize, Deserialize)]
struct Stored<T> {
    version: u32,
    files: Vec<T>,
}

/// What was found at the start.
pub enum Loaded<T> {
    /// There is no position file: this is the first run.
    First,
    Entries(Vec<T>),
    /// It could not be read and was moved aside to the given path.
    Corrupt(PathBuf),
}

/// Reads a position file. One that makes no sense is moved aside, never deleted; a newer one is refused.
pub fn load_positions<T: DeserializeOwned>(path: &Path) -> Result<Loaded<T>, Fault> {
    let bytes = match fs::metadata(path) {
        Ok(meta) if meta.len() > FILE_BYTES_MAX => Vec::new(),
        Ok(_) => fs::read(path).map_err(|error| state_fault(path, "read", &error))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Loaded::First),
        Err(error) => return Err(state_fault(path, "read", &error)),
    };
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    if let Ok(Version { version }) = serde_json::from_slice(&bytes)
        && version > VERSION
    {
        return Err(Fault::new(format!("state in `{}` was written by a newer flowc", path.display()))
            .code("F0813")
            .help("run the newer flowc, or choose another `data` directory"));
    }
    match serde_json::from_slice::<Stored<T>>(&bytes) {
        Ok(stored) => Ok(Loaded::Entries(stored.files)),
        Err(_) => {
            let mut aside = path.as_os_str().to_owned();
            aside.push(format!(".corrupt-{}", super::rows::now_ms()));
            let aside = PathBuf::from(aside);
            fs::rename(path, &aside).map_err(|error| state_fault(path, "move aside", &error))?;
            Ok(Loaded::Corrupt(aside))
        }
    }
}

/// Writes a position file: a temporary file beside it, synced, then renamed over it.
pub fn save_positions<T: Serialize>(path: &Path, files: Vec<T>) -> Result<(), Fault> {
    let write = || -> io::Result<()> {
        let directory = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(directory)?;
        let temporary = path.with_extension("new");
        let mut file = fs::File::create(&temporary)?;
        let bytes = serde_json::to_vec(&Stored { version: VERSION, files }).map_err(io::Error::other)?;
        file.write_all(&bytes)?;
        file.sync_data()?;
        fs::rename(&temporary, path)
    };
    write().map_err(|error| state_fault(path, "write", &error))
}

fn state_fault(path: &Path, what: &str, error: &io::Error) -> Fault {
    Fault::new(format!("cannot {what} the positions in `{}`: {}", path.display(), plain(error)))
        .code("F0806")
        .help("make room, or choose another place: `runtime { data: \"…\" }`")
}

/// The reason of an IO error without the number that Rust adds.
pub fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    text.to_lowercase()
}

/// A path in JSON: text when it is UTF-8, else hexadecimal bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum StoredPath {
    Text(String),
    Bytes { hex: String },
}

impl StoredPath {
    pub fn of(path: &Path) -> StoredPath {
        match path.to_str() {
            Some(text) => StoredPath::Text(text.to_owned()),
            None => StoredPath::Bytes { hex: hex::encode(path.as_os_str().as_bytes()) },
        }
    }

    pub fn path(&self) -> PathBuf {
        match self {
            StoredPath::Text(text) => PathBuf::from(text),
            StoredPath::Bytes { hex } => {
                PathBuf::from(std::ffi::OsString::from_vec(hex::decode(hex).unwrap_or_default()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_saved_is_loaded() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/b/positions.json");
        assert!(matches!(load_positions::<u64>(&path), Ok(Loaded::First)));
        save_positions(&path, vec![1u64, 2]).unwrap();
        assert!(matches!(load_positions::<u64>(&path), Ok(Loaded::Entries(files)) if files == [1, 2]));
    }

    #[test]
    fn a_torn_file_is_kept_aside() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("positions.json");
        fs::write(&path, b"{\"version\":1,\"fi").unwrap();
        let Ok(Loaded::Corrupt(aside)) = load_positions::<u64>(&path) else { panic!("not corrupt") };
        assert_eq!(fs::read(aside).unwrap(), b"{\"version\":1,\"fi");
        assert!(!path.exists());
    }

    #[test]
    fn a_newer_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("positions.json");
        fs::write(&path, b"{\"version\":2,\"other\":1}").unwrap();
        let Err(fault) = load_positions::<u64>(&path) else { panic!("not refused") };
        assert_eq!(fault.code, Some("F0813"));
        assert!(path.exists());
    }

    #[test]
    fn a_path_that_is_not_text_survives() {
        let path = PathBuf::from(std::ffi::OsString::from_vec(vec![b'/', 0xff, b'a']));
        let json = serde_json::to_string(&StoredPath::of(&path)).unwrap();
        assert_eq!(serde_json::from_str::<StoredPath>(&json).unwrap().path(), path);
    }
}
