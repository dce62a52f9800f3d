//! The records inside of a batch.

use super::{BatchError, COMPRESSION_MASK, HEADER_BYTES, Header, varint};

/// One record; the slices lie in the batch's (decompressed) bytes.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    pub offset: i64,
    /// Milliseconds since 1970; the batch's append time if the batch says so.
    pub timestamp: i64,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    headers: &'a [u8],
    headers_count: usize,
}

impl<'a> Record<'a> {
    /// The headers in order, names as bytes (Kafka: UTF-8, not checked).
    pub fn headers(&self) -> RecordHeaders<'a> {
        RecordHeaders { rest: self.headers, left: self.headers_count }
    }
}

/// Iterator of [`Record::headers`].
#[derive(Debug, Clone)]
pub struct RecordHeaders<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> Iterator for RecordHeaders<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        // They were walked once when the record was parsed, so none is broken.
        self.left -= 1;
        let name = bytes_of(&mut self.rest)??;
        let value = bytes_of(&mut self.rest)?;
        Some((name, value))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for RecordHeaders<'_> {}

/// A length and so many bytes; the inner `None` is a null, the outer one a cut or impossible length.
fn bytes_of<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let length = varint::read_int(rest)?;
    if length == -1 {
        return Some(None);
    }
    let (bytes, after) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    *rest = after;
    Some(Some(bytes))
}

/// The records of one batch, decompressed.
#[derive(Debug, Clone)]
pub struct Records {
    header: Header,
    plain: Vec<u8>,
}

impl Records {
    /// Decompresses the records of one batch (its CRC is not checked again): at most `bytes_max` bytes of them, else
    /// [`BatchError::TooLarge`].
    pub fn read(batch: &[u8], bytes_max: usize) -> Result<Records, BatchError> {
        let header = Header::parse(batch)?;
        let packed = payload(&header, batch)?;
        let plain = codec(&header)?.decompress(packed, bytes_max)?;
        Ok(Records { header, plain })
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The decompressed bytes, in which the slices of all records lie.
    pub fn plain(&self) -> &[u8] {
        &self.plain
    }

    /// The same bytes, for whoever keeps places in them instead of slices.
    pub fn into_plain(self) -> Vec<u8> {
        self.plain
    }

    /// The records in order; stops after the first error.
    pub fn iter(&self) -> impl Iterator<Item = Result<Record<'_>, BatchError>> {
        Walk::new(&self.header, &self.plain)
    }
}

/// The records in the decompressed payload of a batch with this header, in order; stops after the first error. For
/// who keeps the bytes elsewhere: the slices of a record lie in `plain`.
pub fn records_in<'a>(
    header: &'a Header,
    plain: &'a [u8],
) -> impl Iterator<Item = Result<Record<'a>, BatchError>> {
    Walk::new(header, plain)
}

/// What [`check_records`] has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordsSummary {
    pub records: usize,
    /// How many records have no key: a compacted topic refuses them.
    pub without_key: usize,
    /// How many records have no value.
    pub tombstones: usize,
    /// Largest timestamp of a record (−1 without records), and the offset of the first record that has it.
    pub max_timestamp: i64,
    pub max_timestamp_offset: i64,
    /// Smallest timestamp of a record (−1 without records).
    pub min_timestamp: i64,
    /// Bytes of the records when decompressed.
    pub bytes: usize,
}

/// Reads every record of one batch, within `bytes_max` decompressed bytes: each must be whole, in order of offsets,
/// within the batch's last offset, and as many as the header says.
pub fn check_records(batch: &[u8], bytes_max: usize) -> Result<RecordsSummary, BatchError> {
    let header = Header::parse(batch)?;
    let packed = payload(&header, batch)?;
    let decompressed;
    let plain = match codec(&header)? {
        super::Compression::None if packed.len() <= bytes_max => packed,
        codec => {
            decompressed = codec.decompress(packed, bytes_max)?;
            &decompressed[..]
        }
    };
    let mut summary = RecordsSummary {
        records: 0,
        without_key: 0,
        tombstones: 0,
        max_timestamp: -1,
        max_timestamp_offset: -1,
        min_timestamp: -1,
        bytes: plain.len(),
    };
    for record in Walk::new(&header, plain) {
        let record = record?;
        if summary.records == 0 || record.timestamp > summary.max_timestamp {
            summary.max_timestamp = record.timestamp;
            summary.max_timestamp_offset = record.offset;
        }
        if summary.records == 0 || record.timestamp < summary.min_timestamp {
            summary.min_timestamp = record.timestamp;
        }
        summary.records += 1;
        summary.without_key += usize::from(record.key.is_none());
        summary.tombstones += usize::from(record.value.is_none());
    }
    Ok(summary)
}

/// What follows the header.
fn payload<'a>(header: &Header, batch: &'a [u8]) -> Result<&'a [u8], BatchError> {
    batch
        .get(HEADER_BYTES..header.size())
        .ok_or(BatchError::Short { needed: header.size(), have: batch.len() })
}

fn codec(header: &Header) -> Result<super::Compression, BatchError> {
    header.compression().ok_or(BatchError::Codec(header.attributes & COMPRESSION_MASK))
}

/// Walks the records one after the other.
struct Walk<'a> {
    header: &'a Header,
    rest: &'a [u8],
    index: usize,
    /// The smallest offset delta that the next record may have.
    delta_min: i32,
    done: bool,
}

impl<'a> Walk<'a> {
    fn new(header: &'a Header, plain: &'a [u8]) -> Walk<'a> {
        Walk { header, rest: plain, index: 0, delta_min: 0, done: false }
    }

    fn record(&mut self) -> Result<Record<'a>, &'static str> {
        let length = varint::read_int(&mut self.rest).ok_or("the length is broken")?;
        let length = usize::try_from(length).map_err(|_| "the length is negative")?;
        let (mut body, after) = self.rest.split_at_checked(length).ok_or("the record is cut")?;
        let body = &mut body;
        self.rest = after;
        let (_attributes, rest) = body.split_first().ok_or("the record is empty")?;
        *body = rest;
        let timestamp_delta = varint::read_long(body).ok_or("the timestamp is broken")?;
        let delta = varint::read_int(body).ok_or("the offset is broken")?;
        if delta < self.delta_min || delta > self.header.last_offset_delta {
            return Err("the offset is out of order");
        }
        self.delta_min = delta.saturating_add(1);
        let key = bytes_of(body).ok_or("the key is cut")?;
        let value = bytes_of(body).ok_or("the value is cut")?;
        let count = varint::read_int(body).ok_or("the number of headers is broken")?;
        let headers_count = usize::try_from(count).map_err(|_| "the number of headers is negative")?;
        let headers = *body;
        // A header has at least two bytes.
        if headers_count > headers.len() / 2 {
            return Err("there are more headers than bytes for them");
        }
        for _ in 0..headers_count {
            bytes_of(body).ok_or("a header's name is cut")?.ok_or("a header has no name")?;
            bytes_of(body).ok_or("a header's value is cut")?;
        }
        if !body.is_empty() {
            return Err("bytes follow the last header");
        }
        let timestamp = if self.header.is_log_append_time() {
            self.header.max_timestamp
        } else {
            self.header.base_timestamp.saturating_add(timestamp_delta)
        };
        let offset = self.header.base_offset.saturating_add(i64::from(delta));
        Ok(Record { offset, timestamp, key, value, headers, headers_count })
    }
}

impl<'a> Iterator for Walk<'a> {
    type Item = Result<Record<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let index = self.index;
        let expected = self.header.records_count as usize;
        if index == expected {
            self.done = true;
            let what = "more bytes than records";
            return (!self.rest.is_empty()).then_some(Err(BatchError::Record { index, what }));
        }
        self.index += 1;
        let record = self.record();
        self.done = record.is_err();
        Some(record.map_err(|what| BatchError::Record { index, what }))
    }
}
