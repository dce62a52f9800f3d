//! The rules and credentials that clients made, in one file of the data directory: written beside, synced, renamed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::acls::Acl;
use super::scram::{Credential, Mechanism};

const FILE: &str = "security.json";
const VERSION: u32 = 1;

/// What is kept.
#[derive(Clone, Default)]
pub(super) struct State {
    pub acls: Vec<Acl>,
    pub credentials: Credentials,
}

/// By user and mechanism.
pub(super) type Credentials = BTreeMap<(String, Mechanism), Credential>;

#[derive(serde::Deserialize, serde::Serialize)]
struct Stored {
    version: u32,
    #[serde(default)]
    acls: Vec<Acl>,
    #[serde(default)]
    credentials: Vec<StoredCredential>,
}

#[derive(serde::Deserialize, serde::Serialize)]
struct StoredCredential {
    user: String,
    mechanism: Mechanism,
    iterations: u32,
    salt: String,
    stored_key: String,
    server_key: String,
}

/// Reads what was kept; nothing if the file was never written.
pub(super) fn read(data_dir: &Path) -> io::Result<State> {
    let text = match std::fs::read(path(data_dir)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(State::default()),
        Err(error) => return Err(error),
    };
    #[derive(serde::Deserialize)]
    struct Version {
        version: u32,
    }
    let Version { version } = serde_json::from_slice(&text)?;
    if version > VERSION {
        return Err(invalid(format!("its format {version} is newer than this program")));
    }
    let stored: Stored = serde_json::from_slice(&text)?;
    let mut credentials = Credentials::new();
    for stored in stored.credentials {
        let bytes = |text: &str| BASE64.decode(text).map_err(|error| invalid(error.to_string()));
        let credential = Credential {
            mechanism: stored.mechanism,
            iterations: stored.iterations,
            salt: bytes(&stored.salt)?,
            stored_key: bytes(&stored.stored_key)?,
            server_key: bytes(&stored.server_key)?,
        };
        credentials.insert((stored.user, stored.mechanism), credential);
    }
    Ok(State { acls: stored.acls, credentials })
}

/// Replaces what was kept; when it returns, the new state survives a crash.
pub(super) fn write(data_dir: &Path, state: &State) -> io::Result<()> {
    let credentials = state.credentials.iter().map(|((user, mechanism), credential)| StoredCredential {
        user: user.clone(),
        mechanism: *mechanism,
        iterations: credential.iterations,
        salt: BASE64.encode(&credential.salt),
        stored_key: BASE64.encode(&credential.stored_key),
        server_key: BASE64.encode(&credential.server_key),
    });
    let stored = Stored { version: VERSION, acls: state.acls.clone(), credentials: credentials.collect() };
    let (path, beside) = (path(data_dir), data_dir.join(format!("{FILE}.new")));
    let mut file = File::create(&beside)?;
    file.write_all(&serde_json::to_vec_pretty(&stored)?)?;
    file.sync_all()?;
    std::fs::rename(beside, path)?;
    File::open(data_dir)?.sync_all()
}

pub(super) fn path(data_dir: &Path) -> PathBuf {
    data_dir.join(FILE)
}

fn invalid(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}
