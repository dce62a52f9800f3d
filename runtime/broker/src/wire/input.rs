//! What was read of a connection and is not yet a whole request.

use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};

use super::buffers::Buffers;
use super::connection::Closed;
use super::frame::LENGTH_BYTES;
use super::transport::READ_BYTES;

/// A request up to this size is read without asking anybody; a larger one must have its memory granted.
pub(super) const FREE_BYTES: usize = READ_BYTES;

pub(super) struct Input {
    buffer: BytesMut,
    /// Where the buffers of large requests come from and go to.
    buffers: Arc<Buffers>,
    /// The largest request that came whole: what a following one may take at once.
    largest: usize,
}

impl Input {
    pub(super) fn new(buffers: Arc<Buffers>) -> Input {
        Input { buffer: BytesMut::new(), buffers, largest: 0 }
    }

    /// The next whole request, without its length.
    pub(super) fn next_frame(&mut self, bytes_max: usize) -> Result<Option<Bytes>, Closed> {
        let Some(length) = self.pending(bytes_max)? else { return Ok(None) };
        if self.buffer.len() < LENGTH_BYTES + length {
            return Ok(None);
        }
        self.largest = self.largest.max(length);
        self.buffer.advance(LENGTH_BYTES);
        let frame = self.buffer.split_to(length).freeze();
        if length > FREE_BYTES && self.buffer.is_empty() {
            // Small requests, which may wait for long, must not hold the storage of a large one.
            let rest = std::mem::take(&mut self.buffer);
            self.buffers.put(rest, LENGTH_BYTES + length);
        }
        Ok(Some(frame))
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
    /// with what arrives, so that a claim alone takes no memory; or a kept one.
    pub(super) fn space(&mut self, pending: Option<usize>) -> (&mut BytesMut, usize) {
        let have = self.buffer.len();
        let missing = pending.map_or(0, |length| (LENGTH_BYTES + length).saturating_sub(have));
        let bytes = match missing {
            0..=READ_BYTES => READ_BYTES,
            _ => missing.min(READ_BYTES.max(have).max(self.largest)),
        };
        if missing > READ_BYTES
            && missing > self.buffer.capacity() - have
            && let Some(mut kept) = self.buffers.take(have + missing)
        {
            kept.extend_from_slice(&self.buffer);
            self.buffer = kept;
            return (&mut self.buffer, missing);
        }
        (&mut self.buffer, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends a request of `length` zero bytes through the input as a socket would.
    fn receive(input: &mut Input, length: usize) -> Bytes {
        let mut sent = (length as u32).to_be_bytes().to_vec();
        sent.resize(LENGTH_BYTES + length, 0);
        let mut sent = sent.as_slice();
        loop {
            if let Some(frame) = input.next_frame(usize::MAX).unwrap() {
                assert!(sent.is_empty());
                return frame;
            }
            let pending = input.pending(usize::MAX).unwrap();
            let (buffer, max) = input.space(pending);
            buffer.reserve(max);
            let (now, later) = sent.split_at(sent.len().min(max));
            buffer.extend_from_slice(now);
            sent = later;
        }
    }

    #[test]
    fn large_requests_share_a_buffer_one_after_the_other_and_small_ones_never_hold_it() {
        let buffers = Arc::new(Buffers::default());
        let (mut one, mut other) = (Input::new(Arc::clone(&buffers)), Input::new(buffers));
        let first = receive(&mut one, 1 << 20);
        let storage = first.as_ptr_range();
        let second = receive(&mut other, 1 << 20);
        assert!(!storage.contains(&second.as_ptr()), "the first is still in use");
        drop(first);
        let small = receive(&mut one, 100);
        assert!(!storage.contains(&small.as_ptr()), "it would keep a megabyte");
        assert!(storage.contains(&receive(&mut other, 1 << 20).as_ptr()), "the memory is mapped already");
    }
}
