//! Walks an encoded message by a table of its fields before anything is decoded, so that no length in it promises more
//! than the bytes that are there. The decoder of `kafka-protocol` reserves memory for as many elements as an array
//! claims; behind this walk the claim is true. It knows lengths, and nothing of what the fields mean.

mod requests;
mod responses;
#[cfg(test)]
mod tests;

/// Elements (of arrays, and unknown tagged fields) in one message. One that is a few bytes on the wire may be two hundred
/// in memory: with this bound a hundred megabytes of them cannot become ten gigabytes.
pub(crate) const ELEMENTS_MAX: usize = 1 << 20;

/// A version without an end.
const MAX: i16 = i16::MAX;

/// A message: from which version on it is flexible (KIP-482: compact lengths, tagged fields), and its fields in order.
struct Message {
    flexible: i16,
    fields: &'static [Field],
}

/// A field, the versions that have it, and its tag where it is a tagged one.
struct Field {
    low: i16,
    high: i16,
    tag: Option<u32>,
    kind: Kind,
}

enum Kind {
    /// This many bytes: numbers, and neighbours of them taken together.
    Fixed(usize),
    /// A string, perhaps null.
    Text,
    /// Bytes or records, perhaps null.
    Bytes,
    Struct(&'static [Field]),
    /// A struct behind a byte that says whether it is there.
    Optional(&'static [Field]),
    Array(&'static Kind),
}

const fn all(kind: Kind) -> Field {
    Field { low: 0, high: MAX, tag: None, kind }
}

const fn of(low: i16, high: i16, kind: Kind) -> Field {
    Field { low, high, tag: None, kind }
}

const fn tag(tag: u32, low: i16, high: i16, kind: Kind) -> Field {
    Field { low, high, tag: Some(tag), kind }
}

/// What is wrong with the lengths of a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum ShapeError {
    #[error("it ends at byte {at}, in the middle of a field")]
    Short { at: usize },
    #[error("a length of {length} at byte {at}")]
    Length { at: usize, length: i64 },
    #[error("more than {ELEMENTS_MAX} elements")]
    Elements,
    #[error("the tagged field at byte {at} is not as long as it says")]
    Tagged { at: usize },
    #[error("the tag {tag} has no meaning in this version")]
    Tag { tag: u32 },
    #[error("its shape is not known")]
    Unknown,
}

/// The newest version of an API that the tables describe, where the decoder knows later ones than Kafka 3.9.
pub(crate) const fn newest(key: i16) -> i16 {
    match key {
        0 => 11,
        1 => 16,
        2 => 9,
        3 => 12,
        10 => 5,
        15 => 5,
        22 => 5,
        24 | 25 | 26 | 28 => 4,
        29..=31 => 3,
        60 => 1,
        45 => 0,
        66 => 1,
        68 | 69 => 1,
        _ => MAX,
    }
}

/// Walks the body of a request; gives its length, which may be less than the bytes that are there.
pub(crate) fn check_request(key: i16, version: i16, body: &[u8]) -> Result<usize, ShapeError> {
    walk(requests::shape(key).ok_or(ShapeError::Unknown)?, version, body)
}

/// Walks the body of a response.
pub(crate) fn check_response(key: i16, version: i16, body: &[u8]) -> Result<usize, ShapeError> {
    walk(responses::shape(key).ok_or(ShapeError::Unknown)?, version, body)
}

/// Walks what follows the correlation id in the header of a request: the client's id, and tagged fields from header
/// version 2 on.
pub(crate) fn check_request_header(version: i16, rest: &[u8]) -> Result<usize, ShapeError> {
    static CLIENT_ID: [Field; 1] = [all(Kind::Text)];
    // The client's id kept its two bytes of length in the flexible header (KIP-482).
    let mut walk = Walk { bytes: rest, at: 0, version, flexible: false, elements: 0 };
    walk.fields(&CLIENT_ID)?;
    if version >= 2 {
        walk.tagged(&[])?;
    }
    Ok(walk.at)
}

/// Walks what follows the correlation id in the header of a response.
pub(crate) fn check_response_header(version: i16, rest: &[u8]) -> Result<usize, ShapeError> {
    let mut walk = Walk { bytes: rest, at: 0, version, flexible: true, elements: 0 };
    if version >= 1 {
        walk.tagged(&[])?;
    }
    Ok(walk.at)
}

fn walk(message: &Message, version: i16, bytes: &[u8]) -> Result<usize, ShapeError> {
    let mut walk = Walk { bytes, at: 0, version, flexible: version >= message.flexible, elements: 0 };
    walk.fields(message.fields)?;
    Ok(walk.at)
}

struct Walk<'a> {
    bytes: &'a [u8],
    /// Never beyond `bytes`.
    at: usize,
    version: i16,
    flexible: bool,
    elements: usize,
}

impl Walk<'_> {
    /// The fields of a struct, then its tagged ones.
    fn fields(&mut self, fields: &[Field]) -> Result<(), ShapeError> {
        for field in fields {
            if field.tag.is_none() && field.low <= self.version && self.version <= field.high {
                self.kind(&field.kind)?;
            }
        }
        if self.flexible { self.tagged(fields) } else { Ok(()) }
    }

    fn kind(&mut self, kind: &Kind) -> Result<(), ShapeError> {
        match kind {
            Kind::Fixed(size) => self.skip(*size),
            Kind::Text => {
                let length = if self.flexible { self.compact()? } else { self.int16()? };
                self.skip(length.unwrap_or(0))
            }
            Kind::Bytes => {
                let length = if self.flexible { self.compact()? } else { self.int32()? };
                self.skip(length.unwrap_or(0))
            }
            Kind::Struct(fields) => self.fields(fields),
            Kind::Optional(fields) => match self.byte()? {
                1 => self.fields(fields),
                _ => Ok(()),
            },
            Kind::Array(of) => {
                let length = if self.flexible { self.compact()? } else { self.int32()? };
                self.array(length.unwrap_or(0), of)
            }
        }
    }

    fn array(&mut self, length: usize, of: &Kind) -> Result<(), ShapeError> {
        if let Kind::Fixed(size) = of {
            // As large in memory as on the wire: the bytes are bound enough.
            let at = self.at;
            let bytes = length.checked_mul(*size);
            return self.skip(bytes.ok_or(ShapeError::Length { at, length: length as i64 })?);
        }
        // Every element has at least a byte, but for a struct without fields in this version.
        if length > self.bytes.len() - self.at {
            return Err(ShapeError::Length { at: self.at, length: length as i64 });
        }
        self.count(length)?;
        for _ in 0..length {
            self.kind(of)?;
        }
        Ok(())
    }

    fn tagged(&mut self, fields: &[Field]) -> Result<(), ShapeError> {
        let count = self.varint()?;
        for _ in 0..count {
            let number = self.varint()?;
            let length = self.varint()? as usize;
            let at = self.at;
            if length > self.bytes.len() - at {
                return Err(ShapeError::Short { at: self.bytes.len() });
            }
            match fields.iter().find(|field| field.tag == Some(number)) {
                Some(field) if field.low <= self.version && self.version <= field.high => {
                    self.kind(&field.kind)?;
                    // The decoder goes by the field and not by the length: both must say the same.
                    if self.at - at != length {
                        return Err(ShapeError::Tagged { at });
                    }
                }
                Some(_) => return Err(ShapeError::Tag { tag: number }),
                None => {
                    self.count(1)?;
                    self.skip(length)?;
                }
            }
        }
        Ok(())
    }

    fn count(&mut self, elements: usize) -> Result<(), ShapeError> {
        self.elements += elements;
        if self.elements > ELEMENTS_MAX { Err(ShapeError::Elements) } else { Ok(()) }
    }

    fn skip(&mut self, bytes: usize) -> Result<(), ShapeError> {
        if bytes > self.bytes.len() - self.at {
            return Err(ShapeError::Short { at: self.bytes.len() });
        }
        self.at += bytes;
        Ok(())
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], ShapeError> {
        let Some(bytes) = self.bytes[self.at..].first_chunk::<N>() else {
            return Err(ShapeError::Short { at: self.bytes.len() });
        };
        self.at += N;
        Ok(*bytes)
    }

    fn byte(&mut self) -> Result<u8, ShapeError> {
        self.take::<1>().map(|[byte]| byte)
    }

    fn int16(&mut self) -> Result<Option<usize>, ShapeError> {
        let bytes = self.take()?;
        self.length(i64::from(i16::from_be_bytes(bytes)))
    }

    fn int32(&mut self) -> Result<Option<usize>, ShapeError> {
        let bytes = self.take()?;
        self.length(i64::from(i32::from_be_bytes(bytes)))
    }

    /// A compact length: one more than it means, and zero for null.
    fn compact(&mut self) -> Result<Option<usize>, ShapeError> {
        let length = self.varint()?;
        self.length(i64::from(length) - 1)
    }

    fn length(&self, length: i64) -> Result<Option<usize>, ShapeError> {
        match length {
            -1 => Ok(None),
            _ => match usize::try_from(length) {
                Ok(length) => Ok(Some(length)),
                Err(_) => Err(ShapeError::Length { at: self.at, length }),
            },
        }
    }

    fn varint(&mut self) -> Result<u32, ShapeError> {
        let mut value = 0;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.byte()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(ShapeError::Length { at: self.at, length: i64::from(value) })
    }
}
