//! What the `database` sink promises, on real files.

use std::path::Path;
use std::sync::Arc;

use flow_plan::Ack;
use flow_plan::batch::Columns;

use super::*;
use crate::topics::FromTopic;

const TABLE: &str = "the \"table\" of 'events'";

fn try_sink(path: &Path) -> Result<Database, Fault> {
    let settings = DatabaseSettings { path: path.to_owned(), table: TABLE.to_owned(), batch: 100 };
    Database::new(settings, Arc::new(vec!["host".to_owned()]))
}

fn sink(path: &Path) -> Database {
    try_sink(path).unwrap()
}

fn batch(bodies: &[&[u8]]) -> Batch {
    let mut columns = Columns::default();
    for body in bodies {
        columns.push(body, 7).unwrap();
    }
    Batch::new(columns)
}

/// Events of partition 3 of `orders`; the body is the offset.
fn from_topic(reading: u64, offsets: std::ops::Range<u64>) -> Batch {
    let bodies: Vec<String> = offsets.clone().map(|offset| offset.to_string()).collect();
    let bodies: Vec<&[u8]> = bodies.iter().map(String::as_bytes).collect();
    let mut batch = batch(&bodies);
    batch.columns_mut().ids = offsets.collect();
    let from = FromTopic {
        topic: Arc::from("orders"),
        partition: 3,
        group: Arc::from("billing"),
        reading,
        transaction: None,
    };
    batch.ack = Ack::with_context(Arc::new(from), |_| {});
    batch
}

/// The bodies, as another program reads them.
fn bodies(path: &Path) -> Vec<String> {
    let reader = Connection::open(path).unwrap();
    let sql = format!("SELECT CAST(body AS TEXT) FROM {} ORDER BY rowid", sqlite::quoted(TABLE));
    let mut statement = reader.prepare(&sql).unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

fn numbers(range: std::ops::Range<u64>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

fn sql(path: &Path, sql: &str) {
    let sql = sql.replace("TABLE_NAME", &sqlite::quoted(TABLE));
    Connection::open(path).unwrap().execute_batch(&sql).unwrap();
}

#[tokio::test]
async fn events_are_rows_that_other_tools_can_read() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("deep/rows.db");
    let mut sink = sink(&path);
    let mut events = batch(&["web ö".as_bytes(), b"\xff\x00", b"a\0b"]);
    let slots = sink.slots.clone();
    events.columns_mut().set_header_named(0, "host", b"one", &slots).unwrap();
    events.columns_mut().set_header_named(0, "raw", b"\xff\x00", &slots).unwrap();
    sink.write(&[events, batch(&[b""])]).await.unwrap();
    let reader = Connection::open(&path).unwrap();
    let sql =
        format!("SELECT time, typeof(body), body, headers FROM {} ORDER BY rowid", sqlite::quoted(TABLE));
    let mut statement = reader.prepare(&sql).unwrap();
    let rows: Vec<(i64, String, Vec<u8>, Option<String>)> = statement
        .query_map([], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get_ref(2)?.as_bytes()?.to_owned(), row.get(3)?))
        })
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let headers = r#"{"host":"one","raw":{"base64":"/wA="}}"#.to_owned();
    assert_eq!(rows[0], (7, "text".to_owned(), "web ö".as_bytes().to_owned(), Some(headers)));
    assert_eq!(rows[1], (7, "blob".to_owned(), b"\xff\x00".to_vec(), None));
    assert_eq!(rows[2], (7, "blob".to_owned(), b"a\0b".to_vec(), None));
    assert_eq!(rows[3], (7, "text".to_owned(), Vec::new(), None));
}

#[tokio::test]
async fn what_comes_again_from_a_topic_is_left_out_also_after_a_restart() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("rows.db");
    let mut first = sink(&path);
    first.write(&[from_topic(1, 10..15), from_topic(1, 15..20)]).await.unwrap();
    first.close().await.unwrap();
    drop(first);
    let mut second = sink(&path);
    second.write(&[from_topic(2, 12..18)]).await.unwrap();
    second.write(&[from_topic(2, 18..25)]).await.unwrap();
    second.write(&[from_topic(3, 10..26)]).await.unwrap();
    assert_eq!(bodies(&path), numbers(10..26));
    // Other events have no offsets and are never left out.
    second.write(&[batch(&[b"x"])]).await.unwrap();
    second.write(&[batch(&[b"x"])]).await.unwrap();
    assert_eq!(bodies(&path).len(), 18);
}

/// A crash before the commit: neither the rows nor their position remain.
#[tokio::test]
async fn a_transaction_that_is_cut_off_leaves_nothing() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("rows.db");
    let mut first = sink(&path);
    first.write(&[from_topic(1, 0..5)]).await.unwrap();
    let open = first.open.take().unwrap();
    let events = from_topic(1, 5..50);
    assert!(first.places.fresh(&events).is_none());
    open.connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    rows::insert(&open.connection, TABLE, &first.slots, &events).unwrap();
    rows::keep_places(&open.connection, TABLE, first.places.pending()).unwrap();
    drop((open, first));
    assert_eq!(bodies(&path), numbers(0..5));
    sink(&path).write(&[from_topic(2, 3..50)]).await.unwrap();
    assert_eq!(bodies(&path), numbers(0..50));
}

#[tokio::test]
async fn a_row_that_the_table_does_not_take_is_refused_and_nothing_of_its_write_stays() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("rows.db");
    let columns = "time INTEGER, body TEXT CHECK (length(body) < 2), headers TEXT, own INTEGER DEFAULT 1";
    sql(&path, &format!("CREATE TABLE TABLE_NAME ({columns})"));
    let mut sink = sink(&path);
    let refused = sink.write(&[from_topic(1, 8..12)]).await;
    assert!(matches!(refused, Err(SinkError::Refused(_))), "{refused:?}");
    assert!(bodies(&path).is_empty());
    // The host parts them; the events before the bad one are written once.
    sink.write(&[from_topic(1, 8..10)]).await.unwrap();
    sink.write(&[from_topic(2, 9..10)]).await.unwrap();
    assert_eq!(bodies(&path), ["8", "9"]);
}

#[test]
fn what_may_pass_is_tried_again_and_what_cannot_ends_the_flow() {
    let told = |code: i32| {
        let error = Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
        sink_error(Path::new("x.db"), "write to", &error)
    };
    use rusqlite::ffi;
    assert!(matches!(told(ffi::SQLITE_TOOBIG), SinkError::Refused(_)));
    for code in
        [ffi::SQLITE_FULL, ffi::SQLITE_BUSY, ffi::SQLITE_LOCKED, ffi::SQLITE_IOERR, ffi::SQLITE_READONLY]
    {
        assert!(matches!(told(code), SinkError::Retry(_)), "{code}");
    }
    for code in [ffi::SQLITE_CORRUPT, ffi::SQLITE_NOTADB, ffi::SQLITE_ERROR] {
        assert!(matches!(told(code), SinkError::Fatal(_)), "{code}");
    }
}

/// The other program commits nothing and goes: what was refused meanwhile is written then, once.
#[tokio::test]
async fn a_database_that_another_program_holds_is_tried_again() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("rows.db");
    let mut sink = sink(&path);
    sink.open.as_ref().unwrap().connection.busy_timeout(std::time::Duration::ZERO).unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let held = sink.write(&[from_topic(1, 0..3)]).await;
    assert!(matches!(&held, Err(SinkError::Retry(fault)) if fault.code == Some("F0811")), "{held:?}");
    drop(other);
    sink.write(&[from_topic(1, 0..3)]).await.unwrap();
    assert_eq!(bodies(&path), numbers(0..3));
}

#[tokio::test]
async fn a_file_belongs_to_one_sink() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("rows.db");
    let first = sink(&path);
    let fault = try_sink(&path).err().unwrap();
    assert_eq!((fault.code, fault.setting), (Some("F0811"), Some("path")));
    drop(first);
    sink(&path);
}

#[tokio::test]
async fn what_is_no_database_is_told_and_left_alone() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("rows.db");
    let text = "this is a letter, not a database\n".repeat(1_000);
    fs::write(&path, &text).unwrap();
    let fault = try_sink(&path).err().unwrap();
    assert!(fault.message.contains("no database"), "{fault}");
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
}

#[tokio::test]
async fn a_table_that_is_not_ours_is_told() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("rows.db");
    sql(&path, "CREATE TABLE TABLE_NAME (something INTEGER)");
    let fault = try_sink(&path).err().unwrap();
    assert!(fault.message.contains("no column named"), "{fault}");
    sql(&path, "DROP TABLE TABLE_NAME");
    drop(sink(&path));
    sql(&path, "UPDATE flow_sinks SET version = 99");
    assert_eq!(try_sink(&path).err().unwrap().code, Some("F0813"));
    let own = DatabaseSettings { path, table: "Flow_Positions".to_owned(), batch: 1 };
    assert_eq!(Database::new(own, Arc::default()).err().unwrap().setting, Some("table"));
}

/// SQLite itself goes on writing to a file without a name.
#[tokio::test]
async fn a_database_that_was_moved_away_is_begun_again() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("rows.db");
    let mut sink = sink(&path);
    sink.write(&[from_topic(1, 0..3)]).await.unwrap();
    let moved = home.path().join("moved.db");
    fs::rename(&path, &moved).unwrap();
    sink.write(&[from_topic(1, 3..6)]).await.unwrap();
    assert_eq!((bodies(&moved), bodies(&path)), (numbers(0..3), numbers(3..6)));
}
