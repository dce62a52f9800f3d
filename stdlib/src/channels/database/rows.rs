//! The table: how it is made, and how events become rows and rows events.
//!
//! Headers are a JSON object of texts by name; a value that is not UTF-8 is `{"base64": "…"}`. So the table can be
//! read, and even filled, with the tools of the database.

use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use flow_agent::Fault;
use flow_plan::Batch;
use flow_plan::batch::Columns;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Error, Row, params};

use crate::channels::kept::store::{Found, Loaded, Place};
use crate::sqlite::{self, OpenError, fault_of, headers_text, quoted};

/// The shape of the table; a newer one is refused.
const VERSION: i64 = 1;

/// Opens the database, makes the table when it is not there, and says what it holds and the number of the next row.
pub fn open(path: &Path, table: &str) -> Result<(Connection, Found, i64), Fault> {
    let opened = || -> Result<_, OpenError> {
        let connection = sqlite::connect(path)?;
        let (found, next) = prepare(&connection, table, path)?;
        Ok((connection, found, next))
    };
    opened().map_err(|error| match error {
        OpenError::Sql(error) => fault_of(path, "open", &error).setting("path"),
        OpenError::Fault(fault) => fault,
    })
}

fn prepare(connection: &Connection, table: &str, path: &Path) -> Result<(Found, i64), OpenError> {
    sqlite::check_version(connection, path, ("flow_channels", table, VERSION))?;
    let name = quoted(table);
    let literal = table.replace('\'', "''");
    connection.execute_batch(&format!(
        "BEGIN IMMEDIATE;
         CREATE TABLE IF NOT EXISTS {name} (
           id INTEGER PRIMARY KEY, time INTEGER NOT NULL, added INTEGER NOT NULL, source TEXT NOT NULL,
           event INTEGER NOT NULL, body BLOB NOT NULL, headers TEXT);
         INSERT OR IGNORE INTO flow_channels (name, version) VALUES ('{literal}', {VERSION});
         COMMIT;"
    ))?;
    let (events, bytes, first, last): (i64, Option<i64>, Option<i64>, Option<i64>) = connection.query_row(
        &format!("SELECT count(*), sum(length(body)), min(id), max(id) FROM {name}"),
        [],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
    )?;
    let oldest_ms = match first {
        Some(first) => connection
            .query_row(&format!("SELECT added FROM {name} WHERE id = ?1"), [first], |row| row.get(0))
            .map(Some)?,
        None => None,
    };
    let next = last.map_or(1, |last| last.saturating_add(1));
    let found = Found {
        next: vec![first.unwrap_or(next)],
        ends: vec![next],
        events: u64::try_from(events).unwrap_or(0),
        bytes: bytes.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0),
        oldest_ms,
    };
    Ok((found, next))
}

/// Rows of a batch, numbered from `first` on.
pub fn insert(
    connection: &Connection,
    table: &str,
    slots: &[String],
    (first, batch, added_ms): (i64, &Batch, i64),
) -> Result<(), Error> {
    let sql = format!(
        "INSERT INTO {} (id, time, added, source, event, body, headers) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        quoted(table)
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut headers = Vec::new();
    for (id, &row) in (first..).zip(&batch.rows) {
        let columns = &batch.columns;
        let headers = headers_text(batch, row, slots, &mut headers);
        statement.execute(params![
            id,
            batch.time_ms(row),
            added_ms,
            &*columns.source,
            columns.event_id(row) as i64,
            batch.body(row),
            headers,
        ])?;
    }
    Ok(())
}

/// Deletes rows: `from..end` each.
pub fn delete(connection: &Connection, table: &str, ranges: &[(i64, i64)]) -> Result<(), Error> {
    let sql = format!("DELETE FROM {} WHERE id >= ?1 AND id < ?2", quoted(table));
    let mut statement = connection.prepare_cached(&sql)?;
    for (from, end) in ranges {
        statement.execute(params![from, end])?;
    }
    Ok(())
}

/// Rows with the numbers `from..end`, in batches of consecutive ones from one source, about `bytes_max` bytes.
pub fn load(
    connection: &Connection,
    table: &str,
    slots: &[String],
    (from, end, bytes_max): (i64, i64, u64),
) -> Result<Vec<Loaded>, Error> {
    let sql = format!(
        "SELECT id, time, added, source, event, body, headers FROM {} WHERE id >= ?1 AND id < ?2 ORDER BY id",
        quoted(table)
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params![from, end])?;
    let mut loaded: Vec<Loaded> = Vec::new();
    let mut columns = Columns::default();
    let mut place = Place { lane: 0, start: from, end: from };
    let (mut added, mut bytes) = (0, 0);
    while let Some(row) = rows.next()? {
        let (id, added_ms): (i64, i64) = (row.get(0)?, row.get(2)?);
        let source = row.get_ref(3)?.as_str().unwrap_or_default();
        let goes_on = id == place.end && added_ms == added && *columns.source == *source;
        if !goes_on || columns.bodies.is_empty() {
            flush(&mut loaded, &mut columns, place, added);
            columns.source = Arc::from(source);
            columns.ids.clear();
            place = Place { lane: 0, start: id, end: id };
            added = added_ms;
        }
        bytes += push(&mut columns, row, slots)?;
        place.end = id + 1;
        if bytes >= bytes_max {
            break;
        }
    }
    flush(&mut loaded, &mut columns, place, added);
    Ok(loaded)
}

fn flush(loaded: &mut Vec<Loaded>, columns: &mut Columns, place: Place, added_ms: i64) {
    if columns.bodies.is_empty() {
        return;
    }
    let batch = Batch::new(std::mem::take(columns));
    loaded.push(Loaded { place, bytes: batch.body_bytes(), added_ms, batch, gone: 0 });
}

/// Appends a row to the columns and says how many bytes it has.
fn push(columns: &mut Columns, row: &Row<'_>, slots: &[String]) -> Result<u64, Error> {
    let body = bytes_of(row.get_ref(5)?);
    let full = |_| Error::InvalidQuery;
    let number = columns.push(body, row.get(1)?).map_err(full)?;
    // The columns have numbered it themselves once there are ids.
    columns.ids.truncate(number as usize);
    columns.ids.push(row.get::<_, i64>(4)? as u64);
    let mut bytes = body.len() as u64;
    if let ValueRef::Text(text) = row.get_ref(6)? {
        let headers: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(text).map_err(|error| {
                Error::FromSqlConversionFailure(6, rusqlite::types::Type::Text, Box::new(error))
            })?;
        for (name, value) in headers {
            let binary = value.get("base64").and_then(|text| text.as_str()).map(|text| BASE64.decode(text));
            let value = match (&value, &binary) {
                (serde_json::Value::String(text), _) => text.as_bytes(),
                (_, Some(Ok(bytes))) => bytes,
                // Written by somebody else: its text is the closest there is.
                (other, _) => &other.to_string().into_bytes(),
            };
            bytes += (name.len() + value.len()) as u64;
            columns.set_header_named(number, &name, value, slots).map_err(full)?;
        }
    }
    Ok(bytes)
}

fn bytes_of(value: ValueRef<'_>) -> &[u8] {
    match value {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes,
        ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) => &[],
    }
}
