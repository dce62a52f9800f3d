//! The primitive pieces of the log's entries and of snapshots: numbers of variable length, strings, lists. Every
//! length is held against the bytes that are there before anything is allocated.

use bytes::Bytes;
use thiserror::Error;

use crate::proto::{Acl, Id};

/// Bytes that are not what they should be, with the place.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{what} at byte {at}")]
pub struct DecodeError {
    pub what: &'static str,
    /// Offset from the start of what was decoded.
    pub at: usize,
}

pub(super) fn put_u64(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Small numbers of either sign take few bytes.
pub(super) fn put_i64(out: &mut Vec<u8>, value: i64) {
    put_u64(out, ((value << 1) ^ (value >> 63)) as u64);
}

pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u64(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Null is 0, else the length plus one.
pub(super) fn put_data(out: &mut Vec<u8>, data: Option<&[u8]>) {
    put_u64(out, data.map_or(0, |data| data.len() as u64 + 1));
    out.extend_from_slice(data.unwrap_or_default());
}

pub(super) fn put_acl(out: &mut Vec<u8>, list: &[Acl]) {
    put_u64(out, list.len() as u64);
    for acl in list {
        put_i64(out, i64::from(acl.perms));
        put_id(out, &acl.id);
    }
}

pub(super) fn put_id(out: &mut Vec<u8>, id: &Id) {
    put_bytes(out, id.scheme.as_bytes());
    put_bytes(out, id.id.as_bytes());
}

/// A place in bytes.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, at: 0 }
    }

    pub fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub fn error(&self, what: &'static str) -> DecodeError {
        DecodeError { what, at: self.at }
    }

    pub fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        if length > self.left() {
            return Err(self.error("the bytes end early"));
        }
        let bytes = &self.bytes[self.at..self.at + length];
        self.at += length;
        Ok(bytes)
    }

    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.take(1)?[0])
    }

    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            if shift == 63 && byte > 1 {
                return Err(self.error("a number is too long"));
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.error("a number is too long"))
    }

    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        u32::try_from(self.u64()?).map_err(|_| self.error("a number is too large"))
    }

    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        let value = self.u64()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    pub fn i32(&mut self) -> Result<i32, DecodeError> {
        i32::try_from(self.i64()?).map_err(|_| self.error("a number is too large"))
    }

    /// A session: eight bytes, as its bits are spread.
    pub fn session(&mut self) -> Result<i64, DecodeError> {
        Ok(self.take(8)?.iter().fold(0, |value, &byte| value << 8 | i64::from(byte)))
    }

    pub fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.u64()?;
        self.take(usize::try_from(length).unwrap_or(usize::MAX))
    }

    pub fn data(&mut self) -> Result<Option<&'a [u8]>, DecodeError> {
        match self.u64()? {
            0 => Ok(None),
            length => self.take(usize::try_from(length - 1).unwrap_or(usize::MAX)).map(Some),
        }
    }

    pub fn text(&mut self) -> Result<String, DecodeError> {
        let bytes = self.bytes()?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_string()),
            Err(_) => Err(self.error("text is not UTF-8")),
        }
    }

    /// The length of a list whose items take at least `least` bytes each.
    pub fn count(&mut self, least: usize) -> Result<usize, DecodeError> {
        let count = self.u64()?;
        match usize::try_from(count) {
            Ok(count) if count.saturating_mul(least) <= self.left() => Ok(count),
            _ => Err(self.error("a list is longer than its bytes")),
        }
    }

    pub fn id(&mut self) -> Result<Id, DecodeError> {
        Ok(Id { scheme: self.text()?, id: self.text()? })
    }

    pub fn acl(&mut self) -> Result<Vec<Acl>, DecodeError> {
        let count = self.count(3)?;
        (0..count).map(|_| Ok(Acl { perms: self.i32()?, id: self.id()? })).collect()
    }
}

/// The data in `whole` that `slice` points at, without a copy.
pub(super) fn share(whole: &Bytes, slice: Option<&[u8]>) -> Option<Bytes> {
    slice.map(|slice| if slice.is_empty() { Bytes::new() } else { whole.slice_ref(slice) })
}
