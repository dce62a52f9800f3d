//! The `database` sink: events as rows of a table in a SQLite file.
//!
//! A write is one transaction of the database, synced before it is confirmed; how far each topic is written stands in
//! the same transaction, so that what comes again under `deliver effectively_once` is recognised. Writing blocks: the
//! host runs sinks so that other parts move on meanwhile.

mod rows;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use flow_agent::{Context, Fault, Sink, SinkError, decode_settings};
use flow_plan::{Batch, Settings};
use rusqlite::{Connection, Error, ErrorCode, TransactionBehavior};
use serde::Deserialize;

use super::places::Places;
use crate::sqlite::{self, BODY_BYTES_MAX, OpenError, fault_of};

/// Makes a `database` sink. A database that is away or held by another program for now is opened with the first write.
pub fn database(settings: &Settings, context: &Context) -> Result<Box<dyn Sink>, Fault> {
    Ok(Box::new(Database::new(decode_settings(settings)?, context.slots.clone())?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DatabaseSettings {
    path: PathBuf,
    table: String,
    batch: usize,
}

struct Database {
    /// Nothing before the first use and after an error. Closed before the lock goes.
    open: Option<Open>,
    path: PathBuf,
    table: String,
    slots: Arc<Vec<String>>,
    batch: usize,
    places: Places,
    _lock: File,
}

struct Open {
    connection: Connection,
    /// Device and number of the file: another one may have taken its name since.
    identity: (u64, u64),
}

/// Why a write failed. Nothing of it remains.
enum WriteError {
    Sql(Error),
    TooLarge,
}

impl From<Error> for WriteError {
    fn from(error: Error) -> WriteError {
        WriteError::Sql(error)
    }
}

impl Database {
    fn new(settings: DatabaseSettings, slots: Arc<Vec<String>>) -> Result<Database, Fault> {
        let DatabaseSettings { path, table, batch } = settings;
        sqlite::check_table(&table)?;
        let lock = sqlite::lock(&path)?;
        let places = Places::default();
        let mut sink = Database { open: None, path, table, slots, batch, places, _lock: lock };
        match sink.connect() {
            Ok(open) => sink.open = Some(open),
            Err(SinkError::Retry(fault)) => {
                tracing::warn!(code = fault.code.unwrap_or_default(), "{fault}");
            }
            Err(SinkError::Refused(fault) | SinkError::Fatal(fault) | SinkError::Closed(fault)) => {
                return Err(fault);
            }
        }
        Ok(sink)
    }

    /// Opens the database and learns how far it is written.
    fn connect(&mut self) -> Result<Open, SinkError> {
        let open = || -> Result<_, OpenError> {
            let connection = sqlite::connect(&self.path)?;
            let written = rows::prepare(&connection, &self.path, &self.table)?;
            Ok((connection, written))
        };
        let (connection, written) = open().map_err(|error| match error {
            OpenError::Sql(error) => sink_error(&self.path, "open", &error),
            OpenError::Fault(fault) => SinkError::Fatal(fault),
        })?;
        for (partition, place) in written {
            self.places.restore(partition, place);
        }
        let identity = identity(&self.path).unwrap_or_default();
        Ok(Open { connection, identity })
    }

    fn write_batches(&mut self, batches: &[Batch]) -> Result<(), SinkError> {
        self.leave_if_moved();
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.connect()?,
        };
        let written = self.transact(&mut open.connection, batches);
        match written {
            Ok(()) => {
                self.places.commit();
                self.open = Some(open);
                Ok(())
            }
            Err(WriteError::TooLarge) => {
                self.places.roll_back();
                self.open = Some(open);
                let message =
                    format!("the event is larger than the {BODY_BYTES_MAX} bytes that a row can have");
                Err(SinkError::Refused(Fault::new(message)))
            }
            Err(WriteError::Sql(error)) => {
                self.places.roll_back();
                let error = sink_error(&self.path, "write to", &error);
                // A commit that failed may have happened all the same: the database is opened again, and says.
                if matches!(error, SinkError::Refused(_)) {
                    self.open = Some(open);
                }
                Err(error)
            }
        }
    }

    /// SQLite itself would go on writing to a file that has another name now, or none.
    fn leave_if_moved(&mut self) {
        let here = identity(&self.path);
        let Some(open) = self.open.take_if(|open| here != Some(open.identity)) else { return };
        tracing::warn!(path = %self.path.display(), "the database was moved or removed: another one is begun");
        // What is committed stands beside it under the old name, and goes into it while it is known. It does not
        // matter when the file is gone.
        let _ = open.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        self.places = Places::default();
    }

    /// Rows and places in one transaction. On an error it is rolled back, here or when the connection goes.
    fn transact(&mut self, connection: &mut Connection, batches: &[Batch]) -> Result<(), WriteError> {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for batch in batches {
            // What is in the table already, when it comes again under `deliver effectively_once`.
            let fresh = self.places.fresh(batch);
            let batch = fresh.as_ref().unwrap_or(batch);
            let is_large = |&row: &u32| batch.body(row).len() as u64 > BODY_BYTES_MAX;
            if batch.rows.iter().any(is_large) {
                return Err(WriteError::TooLarge);
            }
            rows::insert(&transaction, &self.table, &self.slots, batch)?;
        }
        rows::keep_places(&transaction, &self.table, self.places.pending())?;
        Ok(transaction.commit()?)
    }
}

#[async_trait]
impl Sink for Database {
    async fn write(&mut self, batches: &[Batch]) -> Result<(), SinkError> {
        self.write_batches(batches)
    }

    async fn close(&mut self) -> Result<(), SinkError> {
        let Some(open) = self.open.take() else { return Ok(()) };
        // Everything is committed; what fails here is the tidying up that the next one to open it does.
        if let Err((_, error)) = open.connection.close() {
            tracing::warn!(error = %fault_of(&self.path, "close", &error), "the database is not tidied up");
        }
        Ok(())
    }

    fn batch_events_max(&self) -> usize {
        self.batch
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}

/// Content that the table does not take is refused; what may pass is tried again.
fn sink_error(path: &Path, doing: &str, error: &Error) -> SinkError {
    let fault = fault_of(path, doing, error).setting("path");
    match error.sqlite_error_code() {
        Some(ErrorCode::TooBig | ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch) => {
            SinkError::Refused(fault)
        }
        Some(
            ErrorCode::DiskFull
            | ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::FileLockingProtocolFailed
            | ErrorCode::ReadOnly
            | ErrorCode::CannotOpen
            | ErrorCode::PermissionDenied
            | ErrorCode::SystemIoFailure
            | ErrorCode::OutOfMemory
            | ErrorCode::SchemaChanged,
        ) => SinkError::Retry(fault),
        _ => SinkError::Fatal(fault),
    }
}
