//! The tables: events become rows of one, and how far each topic is written stands in `flow_positions`.
//!
//! A body is text when it is UTF-8, otherwise a blob; headers are a JSON object of texts by name.

use std::path::Path;

use flow_plan::Batch;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Error, ToSql, params};

use crate::sinks::places::Place;
use crate::sqlite::{self, OpenError, headers_text, quoted};

/// The shape of the tables; a newer one is refused.
const VERSION: i64 = 1;

/// Makes the tables when they are not there, and says how far each partition is written. A table of somebody else
/// will do when it has the columns.
pub fn prepare(connection: &Connection, path: &Path, table: &str) -> Result<Vec<(String, Place)>, OpenError> {
    sqlite::check_version(connection, path, ("flow_sinks", table, VERSION))?;
    let name = quoted(table);
    let literal = table.replace('\'', "''");
    connection.execute_batch(&format!(
        "BEGIN IMMEDIATE;
         CREATE TABLE IF NOT EXISTS {name} (time INTEGER NOT NULL, body BLOB NOT NULL, headers TEXT);
         CREATE TABLE IF NOT EXISTS flow_positions (
           name TEXT NOT NULL, partition TEXT NOT NULL, position INTEGER NOT NULL, rows INTEGER NOT NULL,
           PRIMARY KEY (name, partition)) WITHOUT ROWID;
         INSERT OR IGNORE INTO flow_sinks (name, version) VALUES ('{literal}', {VERSION});
         COMMIT;"
    ))?;
    // A table without the columns is found out now.
    connection.prepare_cached(&insert_sql(table))?;
    let mut statement =
        connection.prepare("SELECT partition, position, rows FROM flow_positions WHERE name = ?1")?;
    let written = statement.query_map([table], |row| {
        let (offset, rows): (i64, i64) = (row.get(1)?, row.get(2)?);
        Ok((row.get(0)?, Place { offset: offset as u64, rows: rows as u64 }))
    })?;
    Ok(written.collect::<Result<_, Error>>()?)
}

fn insert_sql(table: &str) -> String {
    format!("INSERT INTO {} (time, body, headers) VALUES (?1, ?2, ?3)", quoted(table))
}

/// The rows of a batch.
pub fn insert(connection: &Connection, table: &str, slots: &[String], batch: &Batch) -> Result<(), Error> {
    let mut statement = connection.prepare_cached(&insert_sql(table))?;
    let mut headers = Vec::new();
    for &row in &batch.rows {
        let headers = headers_text(batch, row, slots, &mut headers);
        statement.execute(params![batch.time_ms(row), Body(batch.body(row)), headers])?;
    }
    Ok(())
}

/// How far partitions are written with this transaction.
pub fn keep_places<'a>(
    connection: &Connection,
    table: &str,
    places: impl Iterator<Item = (&'a str, Place)>,
) -> Result<(), Error> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO flow_positions (name, partition, position, rows) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (name, partition) DO UPDATE SET position = excluded.position, rows = excluded.rows",
    )?;
    for (partition, place) in places {
        statement.execute(params![table, partition, place.offset as i64, place.rows as i64])?;
    }
    Ok(())
}

/// The tools of the database end a text at its first zero byte, so what has one is a blob.
struct Body<'a>(&'a [u8]);

impl ToSql for Body<'_> {
    fn to_sql(&self) -> Result<rusqlite::types::ToSqlOutput<'_>, Error> {
        let is_text = std::str::from_utf8(self.0).is_ok() && !self.0.contains(&0);
        let value = if is_text { ValueRef::Text(self.0) } else { ValueRef::Blob(self.0) };
        Ok(rusqlite::types::ToSqlOutput::Borrowed(value))
    }
}
