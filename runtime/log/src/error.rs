//! What can go wrong with a log.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::batch::BatchError;

/// Why a call on a log failed. Cheap to clone: one failed sync is told to all that waited for it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LogError {
    /// The offset asked for lies outside of `start..=end`.
    #[error("the offset is out of range: the log holds {start} to {end}")]
    OutOfRange { start: i64, end: i64 },
    /// No space is left; the log is as it was before the call, and freeing space heals it.
    #[error("the disk is full: {0}")]
    Full(FileError),
    /// A sync failed earlier, so what is on disk is unknown: reads go on, writes stop until the log is opened again.
    #[error("the log takes no more writes, because an earlier one failed: {0}")]
    Poisoned(Arc<str>),
    #[error("{0}")]
    Io(FileError),
    /// Bytes in the middle of the log are not what was written.
    #[error("`{}` is corrupt at byte {position}: {what}", file.display())]
    Corrupt { file: PathBuf, position: u64, what: Arc<str> },
    /// The directory was written by a newer version of the program.
    #[error("`{}` has format version {found}, and this program reads versions up to {known}", file.display())]
    Newer { file: PathBuf, found: u32, known: u32 },
    /// What was to be appended breaks a rule of the log.
    #[error("the batch cannot be appended: {0}")]
    Batch(#[from] BatchError),
    #[error("{bytes} bytes are too large for the log: at most {bytes_max}")]
    TooLarge { bytes: usize, bytes_max: usize },
    /// Batches that keep their offsets must follow what is there.
    #[error("offset {offset} does not follow the log's end {end}")]
    OutOfOrder { offset: i64, end: i64 },
    #[error("the log is closed")]
    Closed,
    /// More callers wait for the disk than are kept.
    #[error("too many wait for the disk")]
    Busy,
}

/// A file, what was tried with it, and the system's answer.
#[derive(Debug, Clone, thiserror::Error)]
#[error("cannot {doing} `{}`: {error}", file.display())]
pub struct FileError {
    pub file: PathBuf,
    /// An infinitive without "to".
    pub doing: &'static str,
    pub error: Arc<io::Error>,
}

impl LogError {
    /// [`LogError::Full`] if the system says that there is no space, else [`LogError::Io`].
    pub(crate) fn io(doing: &'static str, file: &Path, error: io::Error) -> LogError {
        let kind = error.kind();
        let error = FileError { file: file.to_owned(), doing, error: Arc::new(error) };
        match kind {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => LogError::Full(error),
            _ => LogError::Io(error),
        }
    }

    pub(crate) fn corrupt(file: &Path, position: u64, what: impl ToString) -> LogError {
        LogError::Corrupt { file: file.to_owned(), position, what: what.to_string().into() }
    }
}
