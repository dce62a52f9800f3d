//! What was read of a connection and is not yet a whole request.

use bytes::{Buf, Bytes, BytesMut};

use super::connection::Closed;
use super::frame::LENGTH_BYTES;
use super::transport::READ_BYTES;

/// A request up to this size is read without asking anybody; a larger one must have its memory granted.
pub(super) const FREE_BYTES: usize = READ_BYTES;

#[derive(Default)]
pub(super) struct Input {
    buffer: BytesMut,
    /// The largest request that came whole: what a following one may take at once.
    largest: usize,
}

impl Input {
    /// The next whole request, without its length.
    pub(super) fn next_frame(&mut self, bytes_max: usize) -> Result<Option<Bytes>, Closed> {
        let Some(length) = self.pending(bytes_max)? else { return Ok(None) };
        if self.buffer.len() < LENGTH_BYTES + length {
            return Ok(None);
        }
        self.largest = self.largest.max(length);
        self.buffer.advance(LENGTH_BYTES);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }

    pub(super) fn has_frame(&self, bytes_max: usize) -> Result<bool, Closed> {
        let length = self.pending(bytes_max)?;
        Ok(length.is_some_and(|length| self.buffer.len() >= LENGTH_BYTES + length))
    }

    /// The length of the request that stands, whole or not, at the start of the buffer.
    pub(super) fn pending(&self, bytes_max: usize) -> Result<Option<usize>, Closed> {
        let Some(length) = self.buffer.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let length = i32::from_be_bytes(*length);
        match usize::try_from(length) {
            Ok(length) if length <= bytes_max => Ok(Some(length)),
            _ => Err(Closed::Malformed(format!("a request of {length} bytes"))),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// The buffer, and how much to read into it at most.
    ///
    /// A large request gets a buffer that ends where it ends, so that what follows need not be moved; and one that grows
    /// with what arrives, so that a claim alone takes no memory.
    pub(super) fn space(&mut self, pending: Option<usize>) -> (&mut BytesMut, usize) {
        let have = self.buffer.len();
        let missing = pending.map_or(0, |length| (LENGTH_BYTES + length).saturating_sub(have));
        let bytes = match missing {
            0..=READ_BYTES => READ_BYTES,
            _ => missing.min(READ_BYTES.max(have).max(self.largest)),
        };
        (&mut self.buffer, bytes)
    }
}
