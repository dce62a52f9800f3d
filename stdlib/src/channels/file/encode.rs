//! Events as record batches: body, time and headers are those of the record; what a record has no place for stands
//! in its key.
//!
//! # Keys
//!
//! The first record of a batch: a byte 1, when the batch was put (8 bytes, milliseconds since 1970), the sequence
//! number of its first event in the channel (8 bytes; puts it in order with the batches of other directories), the id
//! of its first event (8 bytes), the name of its source. Every other record: nothing when its event has the next id,
//! else how far the id is from that (a varint of seven bits a byte, wrapping). All numbers are big-endian.
//!
//! An encrypted batch has a first record with the key 2 and the sequence number, whose value is the batch in cipher
//! (see `seal`), followed by as many empty records as number the other events.

use flow_agent::Fault;
use flow_log::Compression;
use flow_log::batch::{Builder, BuilderOptions};
use flow_plan::Batch;
use flow_plan::batch::Range;

use super::seal::Seal;

/// The first byte of a key: what follows.
pub const PLAIN: u8 = 1;
pub const SEALED: u8 = 2;

/// Bytes of a plain key before the name of the source.
pub const PLAIN_KEY_BYTES: usize = 25;

/// About how large a record batch gets before the next one begins, in bytes without compression: what is read and
/// decoded at once.
const RECORD_BATCH_BYTES: usize = 2 << 20;

/// The largest event, with its headers, in bytes: a record batch has a 32-bit length.
const EVENT_BYTES_MAX: usize = 1 << 30;

/// Encodes batches. Keeps its memory from one to the next.
pub struct Encoder {
    compression: Compression,
    seal: Option<Seal>,
    /// All record batches of one put.
    out: Vec<u8>,
    spare: Vec<u8>,
}

/// Memory that an encoder keeps, in bytes.
const SPARE_BYTES_MAX: usize = 4 << 20;

/// What goes into the key of the first record.
#[derive(Clone, Copy)]
struct First<'a> {
    added_ms: i64,
    sequence: u64,
    id: u64,
    source: &'a str,
}

impl Encoder {
    pub fn new(compression: Compression, seal: Option<Seal>) -> Encoder {
        Encoder { compression, seal, out: Vec::new(), spare: Vec::new() }
    }

    /// The rows of a batch as one or more record batches at offset 0, one behind the other.
    pub fn encode(
        &mut self,
        batch: &Batch,
        slots: &[String],
        added_ms: i64,
        sequence: u64,
    ) -> Result<&[u8], Fault> {
        self.out.clear();
        self.out.shrink_to(SPARE_BYTES_MAX);
        self.spare.shrink_to(SPARE_BYTES_MAX);
        let columns = &batch.columns;
        let used: Vec<(&[u8], &[Range])> = slots
            .iter()
            .zip(&columns.headers)
            .filter(|(_, column)| !column.is_empty())
            .map(|(name, column)| (name.as_bytes(), column.as_slice()))
            .collect();
        let mut headers: Vec<(&[u8], Option<&[u8]>)> = Vec::new();
        let mut key = Vec::with_capacity(PLAIN_KEY_BYTES + columns.source.len());
        let mut builder: Option<(Builder, i64, u64)> = None;
        let mut next_id = 0;
        for (index, &row) in batch.rows.iter().enumerate() {
            headers.clear();
            for (name, column) in &used {
                if let Some(value) = columns.arena.get(column[row as usize]) {
                    headers.push((name, Some(value)));
                }
            }
            if let Some(side) = columns.side.get(row as usize) {
                let side = side.iter().filter_map(|(name, range)| {
                    columns.arena.get(*range).map(|value| (name.as_bytes(), Some(value)))
                });
                headers.extend(side);
            }
            let body = batch.body(row);
            let time = batch.time_ms(row);
            let size = headers
                .iter()
                .fold(body.len(), |sum, (name, value)| sum + name.len() + value.map_or(0, <[u8]>::len));
            if size > EVENT_BYTES_MAX {
                return Err(Fault::new(format!(
                    "an event of {size} bytes is larger than the {EVENT_BYTES_MAX} bytes that a channel on disk takes"
                )));
            }
            let full = |(builder, base_time, _): &(Builder, i64, u64)| {
                builder.bytes() + size > RECORD_BATCH_BYTES || time.checked_sub(*base_time).is_none()
            };
            if builder.as_ref().is_some_and(full)
                && let Some((full, _, first)) = builder.take()
            {
                self.finish(full, sequence + first, added_ms)?;
            }
            let id = columns.event_id(row);
            let (builder, ..) = match &mut builder {
                Some(builder) => {
                    key.clear();
                    if id != next_id {
                        write_varint(&mut key, id.wrapping_sub(next_id));
                    }
                    builder
                }
                none => {
                    let source = &columns.source;
                    First { added_ms, sequence: sequence + index as u64, id, source }.write(&mut key);
                    // What is in cipher is compressed before, and the cipher not again.
                    let options =
                        BuilderOptions { compression: self.compression, ..BuilderOptions::default() };
                    let memory = std::mem::take(&mut self.spare);
                    none.insert((Builder::reuse(options, memory), time, index as u64))
                }
            };
            let key = (!key.is_empty()).then_some(key.as_slice());
            builder.push(time, key, Some(body), headers.iter().copied());
            next_id = id.wrapping_add(1);
        }
        if let Some((builder, _, first)) = builder {
            self.finish(builder, sequence + first, added_ms)?;
        }
        Ok(&self.out)
    }

    fn finish(&mut self, builder: Builder, sequence: u64, added_ms: i64) -> Result<(), Fault> {
        let events = builder.len();
        let mut batch = builder.finish();
        if let Some(seal) = &self.seal {
            let mut key = vec![SEALED];
            key.extend_from_slice(&sequence.to_be_bytes());
            let cipher = seal.close(batch, &key)?;
            let mut outer = Builder::new(BuilderOptions::default());
            outer.push(added_ms, Some(&key), Some(&cipher), std::iter::empty());
            for _ in 1..events {
                outer.push(added_ms, None, None, std::iter::empty());
            }
            batch = outer.finish();
        }
        if self.out.is_empty() {
            // The usual put is one record batch: nothing is copied.
            self.spare = std::mem::replace(&mut self.out, batch);
        } else {
            self.out.extend_from_slice(&batch);
            self.spare = batch;
        }
        Ok(())
    }
}

impl First<'_> {
    fn write(self, key: &mut Vec<u8>) {
        key.clear();
        key.push(PLAIN);
        key.extend_from_slice(&self.added_ms.to_be_bytes());
        key.extend_from_slice(&self.sequence.to_be_bytes());
        key.extend_from_slice(&self.id.to_be_bytes());
        key.extend_from_slice(self.source.as_bytes());
    }
}

fn write_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// `None` when it is cut or too long.
pub fn read_varint(bytes: &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for (index, byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f).checked_shl(7 * index as u32)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
