//! Events as records: the body is the value, the key's text the key, the event's time the timestamp, headers are
//! headers. It must not know where the records go.

use flow_log::Compression;
use flow_log::batch::{Builder, BuilderOptions};
use flow_plan::Batch;
use serde::Deserialize;

use super::keys::Key;

/// Bytes of an encoded record besides key, value and headers: lengths, deltas, counts.
pub const RECORD_OVERHEAD: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compress {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Compress {
    pub fn codec(self) -> Compression {
        match self {
            Compress::None => Compression::None,
            Compress::Gzip => Compression::Gzip,
            Compress::Snappy => Compression::Snappy,
            Compress::Lz4 => Compression::Lz4,
            Compress::Zstd => Compression::Zstd,
        }
    }
}

/// A builder without a producer.
pub fn builder(compress: Compress) -> Builder {
    Builder::new(BuilderOptions { compression: compress.codec(), ..BuilderOptions::default() })
}

/// Appends rows to builders; the scratch is kept from row to row.
pub struct Rows<'b> {
    batch: &'b Batch,
    slots: &'b [String],
    headers: Vec<(&'b [u8], Option<&'b [u8]>)>,
}

impl<'b> Rows<'b> {
    pub fn new(batch: &'b Batch, slots: &'b [String]) -> Rows<'b> {
        Rows { batch, slots, headers: Vec::new() }
    }

    pub fn push(&mut self, builder: &mut Builder, row: u32, key: Option<&[u8]>) {
        self.headers.clear();
        let headers = self.batch.headers(row, self.slots);
        self.headers.extend(headers.map(|(name, value)| (name.as_bytes(), Some(value))));
        let body = Some(self.batch.body(row));
        // Kafka has no time before 1970.
        builder.push(self.batch.time_ms(row).max(0), key, body, self.headers.iter().copied());
    }
}

/// About the bytes of one row as a record, without its key.
pub fn row_bytes(batch: &Batch, row: u32, slots: &[String]) -> usize {
    let headers = batch.headers(row, slots).map(|(name, value)| name.len() + value.len() + 4).sum::<usize>();
    batch.body(row).len() + headers + RECORD_OVERHEAD
}

/// Whether a row can be a record of the topic; why not.
pub fn unfit(
    batch: &Batch,
    row: u32,
    slots: &[String],
    key: &Key,
    now_ms: i64,
    limits: &Limits,
) -> Option<String> {
    let size = row_bytes(batch, row, slots);
    if size > limits.event_bytes_max {
        return Some(format!("the event has {size} bytes, the topic takes {}", limits.event_bytes_max));
    }
    match key {
        Key::Expr(_) => {}
        Key::None | Key::Header(_) if !limits.key_needed => return None,
        Key::None | Key::Header(_) => {}
    }
    match key.with(batch, row, now_ms, |key| key.is_some()) {
        Ok(false) if limits.key_needed => {
            Some("a compacted topic needs a key, this event has none".to_owned())
        }
        Ok(_) => None,
        Err(why) => Some(format!("the key cannot be computed: {why}")),
    }
}

/// What a topic takes.
pub struct Limits {
    /// Bytes of one event as a record.
    pub event_bytes_max: usize,
    /// The topic is compacted.
    pub key_needed: bool,
}
