//! What a log should hold.

use std::collections::BTreeMap;

use crate::batch::{self, Header, Records};

/// One batch as it is stored.
#[derive(Clone, PartialEq, Eq)]
pub struct Stored {
    pub header: Header,
    pub bytes: Vec<u8>,
}

impl std::fmt::Debug for Stored {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Header { base_offset, records_count, max_timestamp, .. } = self.header;
        write!(out, "{base_offset}..{} ({records_count}) @{max_timestamp}", self.header.next_offset())
    }
}

/// Key and value of a record, with its offset.
pub type Row = (i64, Vec<u8>, Option<Vec<u8>>);

#[derive(Clone, Debug, Default)]
pub struct Model {
    pub batches: Vec<Stored>,
    pub start: i64,
    pub end: i64,
    pub synced: i64,
}

impl Stored {
    pub fn new(bytes: Vec<u8>) -> Stored {
        Stored { header: batch::check_stored(&bytes).expect("a stored batch is whole"), bytes }
    }

    /// Key and value of every record; a batch of the test has keys always.
    pub fn rows(&self) -> Vec<Row> {
        let records = Records::read(&self.bytes, 1 << 20).expect("records are whole");
        records
            .iter()
            .map(|record| record.expect("a record is whole"))
            .map(|record| (record.offset, record.key.unwrap().to_vec(), record.value.map(<[u8]>::to_vec)))
            .collect()
    }
}

impl Model {
    /// Puts what an append should store; `bytes` are batches at offset 0.
    pub fn append(&mut self, bytes: &[u8], leader_epoch: i32) {
        for found in batch::batches(bytes) {
            let mut batch = found.unwrap().1.to_vec();
            batch[..8].copy_from_slice(&self.end.to_be_bytes());
            batch[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
            let stored = Stored::new(batch);
            self.end = stored.header.next_offset();
            self.batches.push(stored);
        }
    }

    pub fn truncate(&mut self, offset: i64) {
        if offset >= self.end {
            return;
        }
        let keep = self.batches.partition_point(|one| one.header.last_offset() < offset);
        // A batch that spans the offset goes as a whole.
        let first_gone = self.batches.get(keep).map_or(offset, |one| one.header.base_offset);
        self.end = offset.min(first_gone).max(self.start);
        self.batches.truncate(keep);
        self.synced = self.synced.min(self.end);
    }

    /// The batches that may be read.
    pub fn readable(&self) -> Vec<Stored> {
        self.batches.iter().filter(|one| one.header.last_offset() >= self.start).cloned().collect()
    }

    /// The last record of every key, except tombstones: what a compaction must keep.
    pub fn last_rows(&self) -> BTreeMap<Vec<u8>, Row> {
        last_rows(&self.readable())
    }

    /// The first record at or after a time, as offset and timestamp.
    pub fn at_time(&self, timestamp: i64) -> Option<(i64, i64)> {
        for one in self.readable() {
            let records = Records::read(&one.bytes, 1 << 20).unwrap();
            let mut fits = records
                .iter()
                .map(|record| record.unwrap())
                .filter(|record| record.timestamp >= timestamp && record.offset >= self.start);
            if let Some(record) = fits.next() {
                return Some((record.offset, record.timestamp));
            }
        }
        None
    }
}

pub fn last_rows(batches: &[Stored]) -> BTreeMap<Vec<u8>, Row> {
    let mut last = BTreeMap::new();
    for row in batches.iter().flat_map(Stored::rows) {
        last.insert(row.1.clone(), row);
    }
    last.retain(|_, row| row.2.is_some());
    last
}
