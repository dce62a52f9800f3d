//! Faults of the world in the words of the catalogue. It knows no sink.

use std::io::{Error, ErrorKind};
use std::path::Path;

use flow_agent::Fault;

/// `cannot write /data/x.log: permission denied`, with a code where the catalogue has one.
pub fn file_fault(doing: &str, path: &Path, error: &Error) -> Fault {
    let fault = Fault::new(format!("cannot {doing} `{}`: {}", path.display(), io_text(error)));
    match error.kind() {
        ErrorKind::PermissionDenied => fault
            .code("F0804")
            .help("give the user that runs this write permission for the directory and the file"),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            fault.code("F0806").help("free some space: the flow goes on by itself")
        }
        ErrorKind::ReadOnlyFilesystem => fault.code("F0806").help("mount it writable or choose another path"),
        ErrorKind::NotFound | ErrorKind::NotADirectory => {
            fault.code("F0806").help("make the directory: the flow goes on by itself")
        }
        ErrorKind::WouldBlock => fault.code("F0811").help("let only one sink write to this file"),
        _ if is_open_limit(error) => fault.help("raise the limit of open files: `ulimit -n`"),
        _ => fault,
    }
}

/// The process, or the machine, has as many files open as it may.
pub fn is_open_limit(error: &Error) -> bool {
    use rustix::io::Errno;
    [Errno::MFILE, Errno::NFILE].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// What the system says, in lower case and without its number.
pub fn io_text(error: &Error) -> String {
    if error.kind() == ErrorKind::WouldBlock {
        return "another writer has it open".to_owned();
    }
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    match chars.next() {
        Some(first) if !text.starts_with("I/O") => first.to_lowercase().chain(chars).collect(),
        _ => text.to_owned(),
    }
}
