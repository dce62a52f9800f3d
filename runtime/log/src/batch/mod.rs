//! Record batches in Kafka's format v2 (magic 2): reading, checking and building them.
//!
//! Everything here works on bytes in memory and trusts none of them; it must not know files or offsets of a log.
//! Layout: <https://kafka.apache.org/documentation/#recordbatch>.

mod build;
mod compression;
mod records;
mod varint;

pub use build::{Builder, BuilderOptions, EndMarker, control_type, end_marker};
pub use compression::Compression;
pub use records::{Record, RecordHeaders, Records, RecordsSummary, check_records, records_in};

/// Length of the fixed part of a batch, from the base offset to the number of records.
pub const HEADER_BYTES: usize = 61;
/// Bytes in front of what `batch_length` counts: the base offset and the length itself.
pub const LENGTH_OVERHEAD: usize = 12;
/// Where the bytes begin that the CRC covers: the attributes.
pub const CRC_START: usize = 21;
/// A producer id that says "none".
pub const NO_PRODUCER: i64 = -1;

pub(crate) const COMPRESSION_MASK: i16 = 0x07;
pub(crate) const LOG_APPEND_TIME: i16 = 0x08;
pub(crate) const TRANSACTIONAL: i16 = 0x10;
pub(crate) const CONTROL: i16 = 0x20;
pub(crate) const DELETE_HORIZON: i16 = 0x40;

/// What is wrong with the bytes of a batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    #[error("the batch is cut short: {have} of {needed} bytes")]
    Short { needed: usize, have: usize },
    #[error("{0} bytes follow the batch")]
    Trailing(usize),
    #[error("record format {0} is not supported, only 2 is")]
    Magic(i8),
    #[error("a batch cannot be {0} bytes long")]
    Length(i32),
    #[error("the checksum is {computed:#010x}, but the batch says {stored:#010x}")]
    Crc { stored: u32, computed: u32 },
    #[error("{count} records do not fit a last offset delta of {last_offset_delta}")]
    Count { count: i32, last_offset_delta: i32 },
    #[error("compression codec {0} is unknown")]
    Codec(i16),
    #[error("the records cannot be decompressed: {0}")]
    Compressed(String),
    #[error("the records are larger than {bytes_max} bytes when decompressed")]
    TooLarge { bytes_max: usize },
    #[error("offset {offset} stands where {expected} or one soon after belongs")]
    Offset { offset: i64, expected: i64 },
    #[error("record {index}: {what}")]
    Record { index: usize, what: &'static str },
}

/// The fixed part of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub base_offset: i64,
    /// Bytes after this field.
    pub batch_length: i32,
    pub leader_epoch: i32,
    pub magic: i8,
    pub crc: u32,
    pub attributes: i16,
    pub last_offset_delta: i32,
    pub base_timestamp: i64,
    pub max_timestamp: i64,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub records_count: i32,
}

impl Header {
    /// Reads the header at the start of `bytes`. Fails if there are fewer than [`HEADER_BYTES`], if the magic is not 2,
    /// or if a length or count is impossible; the CRC is not looked at, nor whether the whole batch is there.
    pub fn parse(bytes: &[u8]) -> Result<Header, BatchError> {
        let magic = match bytes.get(16) {
            Some(byte) => *byte as i8,
            None => return Err(BatchError::Short { needed: HEADER_BYTES, have: bytes.len() }),
        };
        if magic != 2 {
            return Err(BatchError::Magic(magic));
        }
        let Some(fixed) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(BatchError::Short { needed: HEADER_BYTES, have: bytes.len() });
        };
        let header = Header {
            base_offset: i64::from_be_bytes(take(fixed, 0)),
            batch_length: i32::from_be_bytes(take(fixed, 8)),
            leader_epoch: i32::from_be_bytes(take(fixed, 12)),
            magic,
            crc: u32::from_be_bytes(take(fixed, 17)),
            attributes: i16::from_be_bytes(take(fixed, 21)),
            last_offset_delta: i32::from_be_bytes(take(fixed, 23)),
            base_timestamp: i64::from_be_bytes(take(fixed, 27)),
            max_timestamp: i64::from_be_bytes(take(fixed, 35)),
            producer_id: i64::from_be_bytes(take(fixed, 43)),
            producer_epoch: i16::from_be_bytes(take(fixed, 51)),
            base_sequence: i32::from_be_bytes(take(fixed, 53)),
            records_count: i32::from_be_bytes(take(fixed, 57)),
        };
        if header.batch_length < (HEADER_BYTES - LENGTH_OVERHEAD) as i32 {
            return Err(BatchError::Length(header.batch_length));
        }
        // A compacted batch keeps its last offset and loses records, so fewer than the delta says are fine.
        if header.last_offset_delta < 0
            || header.records_count < 0
            || header.records_count - 1 > header.last_offset_delta
        {
            return Err(BatchError::Count {
                count: header.records_count,
                last_offset_delta: header.last_offset_delta,
            });
        }
        Ok(header)
    }

    /// The whole batch in bytes, header included.
    pub fn size(&self) -> usize {
        LENGTH_OVERHEAD + self.batch_length as usize
    }

    pub fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta))
    }

    /// The first offset after the batch.
    pub fn next_offset(&self) -> i64 {
        self.last_offset().saturating_add(1)
    }

    /// `None` if the codec is unknown.
    pub fn compression(&self) -> Option<Compression> {
        Compression::from_code(self.attributes & COMPRESSION_MASK)
    }

    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    pub fn is_log_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME != 0
    }

    /// Whether every offset of the batch has its record: so it is as a producer made it, not compacted.
    pub fn is_dense(&self) -> bool {
        self.records_count > 0 && self.records_count - 1 == self.last_offset_delta
    }

    /// From when on the batch's tombstones and markers may go (KIP-534); it stands in the place of the base timestamp.
    /// `None` if no compaction has set it.
    pub fn delete_horizon_ms(&self) -> Option<i64> {
        (self.attributes & DELETE_HORIZON != 0).then_some(self.base_timestamp)
    }

    pub fn has_producer(&self) -> bool {
        self.producer_id >= 0
    }

    /// Sequence number of the last record; sequences wrap around to 0 after `i32::MAX`. −1 without a sequence.
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return -1;
        }
        let last = i64::from(self.base_sequence) + i64::from(self.last_offset_delta);
        (last % (i64::from(i32::MAX) + 1)) as i32
    }
}

/// `N` bytes of the header at `at`.
fn take<const N: usize>(fixed: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&fixed[at..at + N]);
    out
}

/// The batches in `bytes`, one after the other. Stops after the first error; a batch that is cut at the end gives
/// [`BatchError::Short`].
pub fn batches(bytes: &[u8]) -> Batches<'_> {
    Batches { rest: bytes }
}

/// Iterator of [`batches`]: each with its header and its bytes (header included).
#[derive(Debug, Clone)]
pub struct Batches<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<(Header, &'a [u8]), BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let rest = std::mem::take(&mut self.rest);
        let header = match Header::parse(rest) {
            Ok(header) => header,
            Err(error) => return Some(Err(error)),
        };
        let size = header.size();
        if size > rest.len() {
            return Some(Err(BatchError::Short { needed: size, have: rest.len() }));
        }
        let (batch, rest) = rest.split_at(size);
        self.rest = rest;
        Some(Ok((header, batch)))
    }
}

/// Checks one batch as a producer sends it: exact length, magic, codec, CRC-32C, and a record for every offset.
/// The records themselves are not looked at: see [`check_records`].
pub fn check(batch: &[u8]) -> Result<Header, BatchError> {
    let header = check_stored(batch)?;
    if !header.is_dense() {
        return Err(BatchError::Count {
            count: header.records_count,
            last_offset_delta: header.last_offset_delta,
        });
    }
    if header.compression().is_none() {
        return Err(BatchError::Codec(header.attributes & COMPRESSION_MASK));
    }
    Ok(header)
}

/// Checks one batch as a log may hold it, compacted ones included: exact length, magic and CRC-32C.
pub fn check_stored(batch: &[u8]) -> Result<Header, BatchError> {
    let header = Header::parse(batch)?;
    let size = header.size();
    if size > batch.len() {
        return Err(BatchError::Short { needed: size, have: batch.len() });
    }
    if size < batch.len() {
        return Err(BatchError::Trailing(batch.len() - size));
    }
    let computed = crc32c::crc32c(&batch[CRC_START..]);
    if computed != header.crc {
        return Err(BatchError::Crc { stored: header.crc, computed });
    }
    Ok(header)
}
