//! The database channel on real files.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use flow_agent::{Channel, receipt};
use flow_plan::Outcome;
use rusqlite::Connection;

use super::*;
use crate::channels::testing::{Driver, Random, events, numbered, numbers, slots, strange};

fn try_channel(path: &Path, copies: u64) -> Result<Arc<dyn Channel>, Fault> {
    let limits = Limits {
        events_max: 10_000,
        bytes_max: u64::MAX,
        take_events_max: 5_000,
        memory: Memory::Copies { bytes_max: copies },
    };
    Ok(Arc::new(open(path, "the \"table\" of 'events'", slots(), limits)?))
}

fn channel(path: &Path, copies: u64) -> Arc<dyn Channel> {
    try_channel(path, copies).unwrap()
}

#[tokio::test]
async fn an_event_comes_back_as_it_was() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("deep/buf.db");
    let mut random = Random(3);
    let mut given = Vec::new();
    let first = channel(&path, 0);
    for _ in 0..50 {
        let batch = strange(&mut random, 20);
        given.extend(events(std::slice::from_ref(&batch)));
        first.put(batch).await.unwrap();
    }
    drop(first);
    let second = channel(&path, 0);
    let mut found = Vec::new();
    second.close();
    while let Some(transaction) = second.take(100).await.unwrap() {
        found.extend(events(transaction.batches()));
        transaction.commit().await.unwrap();
    }
    assert_eq!(found, given);
    drop(second);
    assert_eq!(channel(&path, 0).status().events, 0);
}

#[tokio::test]
async fn used_at_random_it_loses_nothing_and_keeps_the_order() {
    for seed in 0..10 {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("buf.db");
        let copies = seed % 2 * 300;
        let mut driver = Driver::new(seed);
        for _ in 0..3 {
            driver.use_it(channel(&path, copies), 150).await;
        }
        driver.empty(channel(&path, copies)).await;
        assert_eq!(driver.lost_acknowledged, [0u64; 0], "seed {seed}");
        assert!(driver.acknowledged() > 0);
    }
}

#[tokio::test]
async fn an_acknowledged_event_is_a_row_that_other_tools_can_read() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("buf.db");
    let channel = channel(&path, 1 << 20);
    let (ack, receipt) = receipt();
    let mut batch = numbered(7, 3);
    let slots = slots();
    batch.columns_mut().set_header_named(0, "host", "web ö".as_bytes(), &slots).unwrap();
    batch.columns_mut().set_header_named(0, "raw", b"\xff\x00", &slots).unwrap();
    batch.ack = ack;
    channel.put(batch).await.unwrap();
    assert_eq!(receipt.await.unwrap(), Outcome::Delivered);
    let reader = Connection::open(&path).unwrap();
    let sql = r#"SELECT CAST(body AS TEXT), time, headers FROM "the ""table"" of 'events'" ORDER BY id"#;
    let rows: Vec<(String, i64, Option<String>)> = reader
        .prepare(sql)
        .unwrap()
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let headers = r#"{"host":"web ö","raw":{"base64":"/wA="}}"#;
    assert_eq!(rows[0], ("7".to_owned(), 7, Some(headers.to_owned())));
    assert_eq!((rows.len(), rows[2].2.as_deref()), (3, None));
    let transaction = channel.take(2).await.unwrap().unwrap();
    assert_eq!(numbers(transaction.batches()), [7, 8]);
    transaction.commit().await.unwrap();
    let left: i64 = reader
        .query_row(r#"SELECT count(*) FROM "the ""table"" of 'events'""#, [], |row| row.get(0))
        .unwrap();
    assert_eq!(left, 1);
}

#[tokio::test]
async fn a_file_belongs_to_one_channel() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("buf.db");
    let first = channel(&path, 0);
    let fault = try_channel(&path, 0).err().unwrap();
    assert_eq!((fault.code, fault.setting), (Some("F0811"), Some("path")));
    drop(first);
    channel(&path, 0);
}

#[tokio::test]
async fn what_is_no_database_is_told_and_left_alone() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("buf.db");
    let text = "this is a letter, not a database\n".repeat(1_000);
    fs::write(&path, &text).unwrap();
    let fault = try_channel(&path, 0).err().unwrap();
    assert!(fault.message.contains("no database"), "{fault}");
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
}

#[tokio::test]
async fn a_newer_table_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("buf.db");
    drop(channel(&path, 0));
    let other = Connection::open(&path).unwrap();
    other.execute("UPDATE flow_channels SET version = 99", []).unwrap();
    drop(other);
    assert_eq!(try_channel(&path, 0).err().unwrap().code, Some("F0813"));
}

/// The rows are in memory as long as nobody can write them; the acknowledgement tells that they are not safe.
#[tokio::test]
async fn a_write_that_fails_is_heard_by_the_source_and_the_next_put() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("buf.db");
    let channel = channel(&path, 0);
    let other = Connection::open(&path).unwrap();
    other.execute(r#"DROP TABLE "the ""table"" of 'events'""#, []).unwrap();
    let (ack, receipt) = receipt();
    let mut batch = numbered(0, 1);
    batch.ack = ack;
    channel.put(batch).await.unwrap();
    assert_eq!(receipt.await.unwrap(), Outcome::Lost);
    assert!(channel.put(numbered(1, 1)).await.is_err());
}
