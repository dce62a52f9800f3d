//! Building batches: of records, and the control batches that end a transaction.

use super::{
    BatchError, CONTROL, CRC_START, Compression, DELETE_HORIZON, HEADER_BYTES, Header, LENGTH_OVERHEAD,
    LOG_APPEND_TIME, NO_PRODUCER, Records, TRANSACTIONAL, varint,
};

/// What a batch says besides its records.
#[derive(Debug, Clone)]
pub struct BuilderOptions {
    pub compression: Compression,
    /// The codec's own level, clamped; `None` is its default.
    pub level: Option<i32>,
    /// −1 without a producer, as are the next two.
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub transactional: bool,
    pub control: bool,
    /// Marks the batch as stamped by the log (milliseconds since 1970) instead of by the producer.
    pub log_append_time_ms: Option<i64>,
}

impl Default for BuilderOptions {
    fn default() -> Self {
        BuilderOptions {
            compression: Compression::None,
            level: None,
            producer_id: NO_PRODUCER,
            producer_epoch: -1,
            base_sequence: -1,
            transactional: false,
            control: false,
            log_append_time_ms: None,
        }
    }
}

/// Collects records into one batch.
#[derive(Debug)]
pub struct Builder {
    options: BuilderOptions,
    /// Room for the header, then the records as they are without compression.
    bytes: Vec<u8>,
    count: usize,
    /// Bytes of the length in front of the last record.
    length_bytes: usize,
    /// That of the first record, or the delete horizon.
    base_timestamp: Option<i64>,
    max_timestamp: i64,
    delete_horizon: bool,
}

impl Builder {
    pub fn new(options: BuilderOptions) -> Builder {
        Builder::reuse(options, Vec::with_capacity(1024))
    }

    /// As [`Builder::new`], in the memory of an earlier batch, whose content is lost.
    pub fn reuse(options: BuilderOptions, mut bytes: Vec<u8>) -> Builder {
        bytes.clear();
        bytes.resize(HEADER_BYTES, 0);
        Builder {
            options,
            bytes,
            count: 0,
            length_bytes: 1,
            base_timestamp: None,
            max_timestamp: -1,
            delete_horizon: false,
        }
    }

    /// Puts the time from which on tombstones may go into the place of the base timestamp (KIP-534). Before any record.
    pub(crate) fn set_delete_horizon(&mut self, horizon_ms: i64) {
        self.base_timestamp = Some(horizon_ms);
        self.delete_horizon = true;
    }

    /// Says what the largest timestamp is, instead of the records. After the last record.
    pub(crate) fn set_max_timestamp(&mut self, timestamp: i64) {
        self.max_timestamp = timestamp;
    }

    /// Appends a record at the next offset. The caller keeps batches below 2 GiB: see [`Builder::bytes`].
    pub fn push<'h>(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl ExactSizeIterator<Item = (&'h [u8], Option<&'h [u8]>)>,
    ) {
        self.push_at(self.count as i32, timestamp, key, value, headers);
    }

    /// As [`Builder::push`], at `delta` after the base offset.
    pub(crate) fn push_at<'h>(
        &mut self,
        delta: i32,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl ExactSizeIterator<Item = (&'h [u8], Option<&'h [u8]>)>,
    ) {
        let base_timestamp = *self.base_timestamp.get_or_insert(timestamp);
        self.max_timestamp = if self.count == 0 { timestamp } else { self.max_timestamp.max(timestamp) };
        self.count += 1;
        let start = self.bytes.len();
        let out = &mut self.bytes;
        // The length stands first and its own size depends on it. Records of a batch are mostly about as long as the one
        // before, so the place is kept that this one's length took, and the record is moved only where that is wrong.
        let place = self.length_bytes;
        out.resize(start + place, 0);
        out.push(0);
        varint::write(out, timestamp.saturating_sub(base_timestamp));
        varint::write(out, i64::from(delta));
        put(out, key);
        put(out, value);
        varint::write(out, headers.len() as i64);
        for (name, value) in headers {
            put(out, Some(name));
            put(out, value);
        }
        let length = (out.len() - start - place) as i64;
        let needed = varint::size(length);
        if needed != place {
            let end = out.len();
            out.resize(end.max(end + needed - place), 0);
            out.copy_within(start + place..end, start + needed);
            out.truncate(end + needed - place);
            self.length_bytes = needed;
        }
        varint::put(&mut out[start..start + needed], length);
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Size of the batch without compression.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The batch, at base offset 0 and leader epoch −1 (the log sets both).
    pub fn finish(self) -> Vec<u8> {
        let last_offset_delta = (self.count.max(1) - 1) as i32;
        self.finish_as(0, last_offset_delta, -1)
    }

    /// The batch at given offsets.
    pub(crate) fn finish_as(self, base_offset: i64, last_offset_delta: i32, leader_epoch: i32) -> Vec<u8> {
        let Builder { options, mut bytes, count, base_timestamp, max_timestamp, delete_horizon, .. } = self;
        if options.compression != Compression::None && count > 0 {
            let mut packed = Vec::with_capacity(HEADER_BYTES + bytes.len() / 2);
            packed.resize(HEADER_BYTES, 0);
            options.compression.compress(&bytes[HEADER_BYTES..], options.level, &mut packed);
            bytes = packed;
        }
        let mut attributes = if count > 0 { options.compression as i16 } else { 0 };
        attributes |= if options.transactional { TRANSACTIONAL } else { 0 };
        attributes |= if options.control { CONTROL } else { 0 };
        attributes |= if options.log_append_time_ms.is_some() { LOG_APPEND_TIME } else { 0 };
        attributes |= if delete_horizon { DELETE_HORIZON } else { 0 };
        let header = Header {
            base_offset,
            batch_length: (bytes.len() - LENGTH_OVERHEAD) as i32,
            leader_epoch,
            magic: 2,
            crc: 0,
            attributes,
            last_offset_delta,
            base_timestamp: base_timestamp.unwrap_or(-1),
            max_timestamp: options.log_append_time_ms.unwrap_or(max_timestamp),
            producer_id: options.producer_id,
            producer_epoch: options.producer_epoch,
            base_sequence: options.base_sequence,
            records_count: count as i32,
        };
        header.encode(&mut bytes);
        let crc = crc32c::crc32c(&bytes[CRC_START..]);
        bytes[17..CRC_START].copy_from_slice(&crc.to_be_bytes());
        bytes
    }
}

/// A length and so many bytes; a null is −1.
fn put(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => varint::write(out, -1),
        Some(bytes) => {
            varint::write(out, bytes.len() as i64);
            out.extend_from_slice(bytes);
        }
    }
}

impl Header {
    /// Writes the header over the first [`HEADER_BYTES`] of `out`.
    pub(crate) fn encode(&self, out: &mut [u8]) {
        out[0..8].copy_from_slice(&self.base_offset.to_be_bytes());
        out[8..12].copy_from_slice(&self.batch_length.to_be_bytes());
        out[12..16].copy_from_slice(&self.leader_epoch.to_be_bytes());
        out[16] = self.magic as u8;
        out[17..21].copy_from_slice(&self.crc.to_be_bytes());
        out[21..23].copy_from_slice(&self.attributes.to_be_bytes());
        out[23..27].copy_from_slice(&self.last_offset_delta.to_be_bytes());
        out[27..35].copy_from_slice(&self.base_timestamp.to_be_bytes());
        out[35..43].copy_from_slice(&self.max_timestamp.to_be_bytes());
        out[43..51].copy_from_slice(&self.producer_id.to_be_bytes());
        out[51..53].copy_from_slice(&self.producer_epoch.to_be_bytes());
        out[53..57].copy_from_slice(&self.base_sequence.to_be_bytes());
        out[57..61].copy_from_slice(&self.records_count.to_be_bytes());
    }
}

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EndMarker {
    Abort,
    Commit,
}

/// The control batch that ends a producer's transaction in one partition (KIP-98).
pub fn end_marker(
    producer_id: i64,
    producer_epoch: i16,
    commit: bool,
    coordinator_epoch: i32,
    timestamp: i64,
) -> Vec<u8> {
    let mut builder = Builder::new(BuilderOptions {
        producer_id,
        producer_epoch,
        transactional: true,
        control: true,
        ..BuilderOptions::default()
    });
    // Key: version 0 and the type; value: version 0 and the coordinator's epoch.
    let key = [0, 0, 0, u8::from(commit)];
    let mut value = [0; 6];
    value[2..].copy_from_slice(&coordinator_epoch.to_be_bytes());
    builder.push(timestamp, Some(&key), Some(&value), std::iter::empty());
    builder.finish()
}

/// Most bytes that the record of a control batch has when decompressed; markers have 20 or so.
const CONTROL_BYTES_MAX: usize = 1024;

/// What a control batch says. `None` if it is not one, or not one that ends a transaction (other types are ignored by
/// Kafka's clients too).
pub fn control_type(batch: &[u8]) -> Option<EndMarker> {
    if !Header::parse(batch).is_ok_and(|header| header.is_control()) {
        return None;
    }
    let records = Records::read(batch, CONTROL_BYTES_MAX).ok()?;
    let first: Result<_, BatchError> = records.iter().next()?;
    match first.ok()?.key? {
        [0, _, 0, 0] => Some(EndMarker::Abort),
        [0, _, 0, 1] => Some(EndMarker::Commit),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_a_record_is_as_short_as_it_can_be_whatever_stands_before_it() {
        let bodies = [0, 100, 3, 10_000, 50, 60, 2_000_000, 9_000, 1, 0].map(|size| vec![b'a'; size]);
        let mut builder = Builder::new(BuilderOptions::default());
        for body in &bodies {
            let before = builder.bytes();
            builder.push(5, None, Some(body), [(&b"name"[..], Some(&b"value"[..]))].into_iter());
            // Attributes, two deltas, no key, the count of headers; a header of 4 and 5 bytes.
            let rest = 5 + varint::size(body.len() as i64) + body.len() + 1 + 4 + 1 + 5;
            assert_eq!(builder.bytes() - before, varint::size(rest as i64) + rest);
        }
        let batch = builder.finish();
        let records = Records::read(&batch, batch.len()).unwrap();
        let read: Vec<_> = records.iter().map(|record| record.unwrap().value.unwrap().to_vec()).collect();
        assert_eq!(read, bodies);
    }
}
