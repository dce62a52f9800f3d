//! The state directory: where it is, that it belongs to this process alone, and that its format is known.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use flow_agent::Fault;
use rustix::fs::{FlockOperation, flock};

/// The format of everything under the state directory.
const STATE_VERSION: u32 = 1;

/// The lock on a state directory, held while it lives.
pub struct State {
    _lock: File,
}

impl State {
    /// Makes the directory when it is not there, and takes it.
    pub fn open(directory: &Path) -> Result<State, Fault> {
        let shown = directory.display();
        let broken = |error: std::io::Error| {
            Fault::new(format!("cannot use the state directory `{shown}`: {error}"))
                .code("F0806")
                .help("choose another one: --data DIRECTORY, or runtime { data: \"…\" }")
        };
        fs::create_dir_all(directory).map_err(broken)?;
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(directory.join("lock"))
            .map_err(broken)?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut owner = String::new();
            // Only for the message; an unreadable one says nothing.
            let _ = lock.read_to_string(&mut owner);
            let owner = owner.trim();
            let owner = if owner.is_empty() { String::new() } else { format!(" (pid {owner})") };
            return Err(Fault::new(format!("another flowc{owner} already owns `{shown}`"))
                .code("F0811")
                .help("stop it, or give this one a directory of its own: --data DIRECTORY"));
        }
        lock.set_len(0).and_then(|()| lock.rewind()).map_err(broken)?;
        writeln!(lock, "{}", std::process::id()).map_err(broken)?;
        check_version(directory)?;
        Ok(State { _lock: lock })
    }
}

fn check_version(directory: &Path) -> Result<(), Fault> {
    let path = directory.join("version");
    let broken =
        |error: std::io::Error| Fault::new(format!("cannot use `{}`: {error}", path.display())).code("F0806");
    match fs::read_to_string(&path) {
        Ok(text) => match text.trim().parse::<u32>() {
            Ok(version) if version <= STATE_VERSION => Ok(()),
            Ok(version) => Err(Fault::new(format!(
                "the state in `{}` has format {version}, this flowc knows {STATE_VERSION}",
                directory.display()
            ))
            .code("F0813")
            .help("use the newer flowc, or another directory: --data DIRECTORY")),
            Err(_) => Err(Fault::new(format!("`{}` holds no version number", path.display())).code("F0813")),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            fs::write(&path, format!("{STATE_VERSION}\n")).map_err(broken)
        }
        Err(error) => Err(broken(error)),
    }
}

/// `$XDG_STATE_HOME/flowc/<stem>-<hash of the path>`, or under `~/.local/state`.
pub fn default_directory(file: &Path) -> PathBuf {
    let home = || std::env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
    let base = std::env::var_os("XDG_STATE_HOME")
        .filter(|base| !base.is_empty())
        .map(PathBuf::from)
        .or_else(|| home().map(|home| home.join(".local/state")))
        .unwrap_or_else(std::env::temp_dir);
    let whole = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let stem = file.file_stem().map_or("flow".into(), |stem| stem.to_string_lossy().into_owned());
    base.join("flowc").join(format!("{stem}-{:08x}", fnv1a(whole.as_os_str().as_encoded_bytes())))
}

/// FNV-1a, folded to 32 bits: the same on every machine and in every version, as a directory name must be.
fn fnv1a(bytes: &[u8]) -> u32 {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    });
    (hash ^ (hash >> 32)) as u32
}

/// The name of this machine.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
