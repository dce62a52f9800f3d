//! The log: the only place where events are kept on disk. Segments of record batches in Kafka's format v2, with an
//! offset index and a time index beside each.
//!
//! It stands on a small storage trait, so that tests can break the disk; it must not know tokio, topics, groups, or
//! anything of Kafka above record batches.

pub mod batch;
pub mod commit;
mod error;
pub mod lock;
pub mod log;
pub mod storage;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use batch::{BatchError, Compression, Header};
pub use commit::Committer;
pub use error::{FileError, LogError};
pub use lock::{DirLock, LockError};
pub use log::{Append, Appended, Log, LogConfig, Recovery, Slice};
pub use storage::{Disk, File, Storage};
