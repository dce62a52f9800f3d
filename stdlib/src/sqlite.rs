//! SQLite files, for the channel and the sink that keep events in one: opened, owned by one process, and their faults
//! in the words of the catalogue. It knows neither of the two.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use flow_agent::Fault;
use flow_plan::Batch;
use rusqlite::{Connection, Error, ErrorCode, OpenFlags, OptionalExtension};
use rustix::fs::{FlockOperation, flock};

use crate::sinks::io_text;

/// The largest body: SQLite's own bound on a value is a billion bytes.
pub const BODY_BYTES_MAX: u64 = 900_000_000;

/// How long another tool may hold the database before we say so.
const BUSY_MAX: Duration = Duration::from_secs(5);

/// Why a database cannot be opened.
#[derive(Debug)]
pub enum OpenError {
    Sql(Error),
    Fault(Fault),
}

impl From<Error> for OpenError {
    fn from(error: Error) -> OpenError {
        OpenError::Sql(error)
    }
}

/// Whether a table may have this name.
pub fn check_table(table: &str) -> Result<(), Fault> {
    if table.is_empty() || table.contains('\0') {
        return Err(Fault::new("the table needs a name").setting("table"));
    }
    if OWN_TABLES.iter().any(|own| own.eq_ignore_ascii_case(table)) {
        let message = format!("`{table}` is a table that flowc keeps for itself");
        return Err(Fault::new(message).help("choose another name").setting("table"));
    }
    Ok(())
}

/// Tables that are not for events.
const OWN_TABLES: [&str; 3] = ["flow_channels", "flow_sinks", "flow_positions"];

/// A file beside the database, locked as long as it is open, keeps a second process out; readers with other tools may come.
pub fn lock(path: &Path) -> Result<File, Fault> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let name = PathBuf::from(name);
    let failed = |error: &std::io::Error| {
        let fault =
            Fault::new(format!("cannot use `{}`: {}", path.display(), io_text(error))).setting("path");
        match error.kind() {
            ErrorKind::PermissionDenied => {
                fault.code("F0804").help("give the user that runs this write permission for its directory")
            }
            _ => fault.code("F0806").help("choose a place that can be written"),
        }
    };
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        fs::create_dir_all(directory).map_err(|error| failed(&error))?;
    }
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&name)
        .map_err(|error| failed(&error))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut owner = String::new();
        // Only for the message; an unreadable one says nothing.
        let _ = (&mut file).take(32).read_to_string(&mut owner);
        let owner = owner.trim();
        let owner = if owner.is_empty() { String::new() } else { format!(" (pid {owner})") };
        return Err(Fault::new(format!("another flowc{owner} already owns `{}`", path.display()))
            .code("F0811")
            .help("stop it, or choose a file of its own")
            .setting("path"));
    }
    // Only for the message of whoever comes second.
    let _ =
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(file)
}

/// Opens a database, and makes it when it is not there. What is committed lasts beyond a loss of power.
pub fn connect(path: &Path) -> Result<Connection, Error> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_MAX)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    Ok(connection)
}

/// Refuses a table that a newer program has made (F0813). `(the list of versions, the table, our version)`; whoever
/// makes the table enters it there.
pub fn check_version(
    connection: &Connection,
    path: &Path,
    (list, table, ours): (&str, &str, i64),
) -> Result<(), OpenError> {
    connection.execute(
        &format!(
            "CREATE TABLE IF NOT EXISTS {list} (name TEXT PRIMARY KEY, version INTEGER NOT NULL) WITHOUT ROWID"
        ),
        [],
    )?;
    let sql = format!("SELECT version FROM {list} WHERE name = ?1");
    let version: Option<i64> = connection.query_row(&sql, [table], |row| row.get(0)).optional()?;
    if version.is_some_and(|version| version > ours) {
        let message = format!("table `{table}` in `{}` was written by a newer flowc", path.display());
        let fault = Fault::new(message).code("F0813").help("run the newer flowc, or choose another `table`");
        return Err(OpenError::Fault(fault.setting("table")));
    }
    Ok(())
}

/// The headers of a row as a JSON object of texts by name, or nothing when it has none. A value that is not UTF-8 is
/// `{"base64": "…"}`.
pub fn headers_text<'a>(batch: &Batch, row: u32, slots: &[String], out: &'a mut Vec<u8>) -> Option<&'a str> {
    out.clear();
    for (name, value) in batch.headers(row, slots) {
        out.push(if out.is_empty() { b'{' } else { b',' });
        // Writing JSON into memory cannot fail.
        let _ = serde_json::to_writer(&mut *out, name);
        out.push(b':');
        match std::str::from_utf8(value) {
            Ok(text) => {
                let _ = serde_json::to_writer(&mut *out, text);
            }
            Err(_) => {
                out.extend_from_slice(b"{\"base64\":\"");
                out.extend_from_slice(BASE64.encode(value).as_bytes());
                out.extend_from_slice(b"\"}");
            }
        }
    }
    if out.is_empty() {
        return None;
    }
    out.push(b'}');
    std::str::from_utf8(out).ok()
}

/// A name as SQL has it.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// There is no room on the disk: waiting helps.
pub fn is_full(error: &Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DiskFull)
}

/// What the database says, in the words of the catalogue.
pub fn fault_of(path: &Path, doing: &str, error: &Error) -> Fault {
    let shown = path.display();
    let fault = |what: &str| Fault::new(format!("cannot {doing} the database `{shown}`: {what}"));
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => {
            fault("no space left on device").code("F0806").help("free some space: the flow goes on by itself")
        }
        Some(ErrorCode::ReadOnly) => {
            fault("it is read-only").code("F0806").help("make it writable, or choose another file")
        }
        Some(ErrorCode::NotADatabase) => {
            fault("the file is no database").help("choose another file, or move this one aside")
        }
        Some(ErrorCode::DatabaseCorrupt) => fault("the file is damaged")
            .help("move it aside and let `sqlite3 FILE .recover` save what it still holds"),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => fault("another program holds it")
            .code("F0811")
            .help("let the other program end its transaction, or choose a file of its own"),
        Some(ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
            fault("it cannot be opened").code("F0806").help("choose a place that can be written")
        }
        _ => fault(&error.to_string().to_lowercase()),
    }
}
