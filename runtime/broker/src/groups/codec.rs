//! The primitive types of Kafka's own records and of the consumer protocol: big-endian numbers, strings and
//! arrays in their plain and compact forms. It knows no record; every length read is bounded by the bytes there.

use std::sync::Arc;

use uuid::Uuid;

/// Bytes that end too early, or say something that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    #[error("the bytes end inside a field")]
    Short,
    #[error("a length is negative or greater than what follows")]
    Length,
    #[error("a string is not UTF-8")]
    Utf8,
    #[error("a version that is not known: {0}")]
    Version(i16),
}

/// Reads fields from the front of a byte string.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    pub fn take(&mut self, len: usize) -> Result<&'a [u8], CodecError> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(CodecError::Short)?;
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(CodecError::Short)?;
        self.rest = rest;
        Ok(*head)
    }

    pub fn i8(&mut self) -> Result<i8, CodecError> {
        Ok(i8::from_be_bytes(self.array()?))
    }

    pub fn i16(&mut self) -> Result<i16, CodecError> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    pub fn i32(&mut self) -> Result<i32, CodecError> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    pub fn i64(&mut self) -> Result<i64, CodecError> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    pub fn uuid(&mut self) -> Result<Uuid, CodecError> {
        Ok(Uuid::from_bytes(self.array()?))
    }

    fn varint(&mut self) -> Result<u32, CodecError> {
        let mut value = 0u32;
        for shift in (0..35).step_by(7) {
            let [byte] = self.array()?;
            value |= u32::from(byte & 0x7f).checked_shl(shift).ok_or(CodecError::Length)?;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(CodecError::Length)
    }

    fn text(bytes: &[u8]) -> Result<Arc<str>, CodecError> {
        Ok(Arc::from(std::str::from_utf8(bytes).map_err(|_| CodecError::Utf8)?))
    }

    /// A length as `flexible` says, `None` for null.
    fn len(&mut self, flexible: bool, wide: bool) -> Result<Option<usize>, CodecError> {
        let len = if flexible {
            match self.varint()? {
                0 => return Ok(None),
                len => i64::from(len) - 1,
            }
        } else if wide {
            i64::from(self.i32()?)
        } else {
            i64::from(self.i16()?)
        };
        if len == -1 {
            return Ok(None);
        }
        let len = usize::try_from(len).map_err(|_| CodecError::Length)?;
        // The smallest element has one byte, so this also bounds what a caller may reserve.
        if len > self.rest.len() { Err(CodecError::Length) } else { Ok(Some(len)) }
    }

    pub fn nullable_string(&mut self, flexible: bool) -> Result<Option<Arc<str>>, CodecError> {
        match self.len(flexible, false)? {
            None => Ok(None),
            Some(len) => Self::text(self.take(len)?).map(Some),
        }
    }

    pub fn string(&mut self, flexible: bool) -> Result<Arc<str>, CodecError> {
        self.nullable_string(flexible)?.ok_or(CodecError::Length)
    }

    pub fn bytes(&mut self, flexible: bool) -> Result<&'a [u8], CodecError> {
        let len = self.len(flexible, true)?.ok_or(CodecError::Length)?;
        self.take(len)
    }

    /// The count of an array; null counts as empty.
    pub fn count(&mut self, flexible: bool) -> Result<usize, CodecError> {
        Ok(self.len(flexible, true)?.unwrap_or(0))
    }

    /// Passes over the tagged fields at the end of a flexible structure.
    pub fn skip_tags(&mut self) -> Result<(), CodecError> {
        for _ in 0..self.varint()? {
            self.varint()?;
            let len = self.varint()?;
            self.take(len as usize)?;
        }
        Ok(())
    }
}

/// Appends fields to a byte string.
#[derive(Debug, Default)]
pub struct Writer {
    pub out: Vec<u8>,
}

impl Writer {
    /// Starts with the version that opens every key, value and embedded message.
    pub fn versioned(version: i16) -> Writer {
        let mut writer = Writer { out: Vec::with_capacity(64) };
        writer.i16(version);
        writer
    }

    pub fn i8(&mut self, value: i8) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    pub fn i16(&mut self, value: i16) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    pub fn i32(&mut self, value: i32) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    pub fn i64(&mut self, value: i64) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    pub fn uuid(&mut self, value: Uuid) {
        self.out.extend_from_slice(value.as_bytes());
    }

    pub fn varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.out.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.out.push(value as u8);
    }

    /// Ends a flexible structure that has no tagged field.
    pub fn no_tags(&mut self) {
        self.out.push(0);
    }

    pub fn count(&mut self, count: usize, flexible: bool) {
        // Everything written was bounded on its way in, far below these types' ends.
        if flexible {
            self.varint(u32::try_from(count + 1).unwrap_or(u32::MAX));
        } else {
            self.i32(i32::try_from(count).unwrap_or(i32::MAX));
        }
    }

    pub fn nullable_string(&mut self, value: Option<&str>, flexible: bool) {
        match value {
            Some(value) => self.string(value, flexible),
            None if flexible => self.varint(0),
            None => self.i16(-1),
        }
    }

    pub fn string(&mut self, value: &str, flexible: bool) {
        // A plain string holds 32,767 bytes; ids and names arrive in such strings, so nothing longer gets here.
        if flexible {
            self.count(value.len(), true);
        } else {
            self.i16(i16::try_from(value.len()).unwrap_or(i16::MAX));
        }
        let bytes = value.as_bytes();
        let len = if flexible { bytes.len() } else { bytes.len().min(i16::MAX as usize) };
        self.out.extend_from_slice(&bytes[..len]);
    }

    pub fn bytes(&mut self, value: &[u8], flexible: bool) {
        self.count(value.len(), flexible);
        self.out.extend_from_slice(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_beyond_the_bytes_is_refused() {
        assert_eq!(Reader::new(&i32::MAX.to_be_bytes()).count(false), Err(CodecError::Length));
        assert_eq!(Reader::new(&[0xff, 0xff, 0xff, 0xff, 0x0f]).count(true), Err(CodecError::Length));
        assert_eq!(Reader::new(&[0xff; 9]).count(true), Err(CodecError::Length));
    }

    #[test]
    fn strings_come_back_in_both_forms() {
        for flexible in [false, true] {
            let mut writer = Writer::default();
            writer.string("grüße", flexible);
            writer.nullable_string(None, flexible);
            writer.bytes(b"\0\xff", flexible);
            let mut reader = Reader::new(&writer.out);
            assert_eq!(&*reader.string(flexible).unwrap(), "grüße");
            assert_eq!(reader.nullable_string(flexible).unwrap(), None);
            assert_eq!(reader.bytes(flexible).unwrap(), b"\0\xff");
        }
    }
}
