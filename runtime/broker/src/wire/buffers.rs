//! The buffers that large requests were read into, kept for the next ones: memory that the system takes back and gives
//! again has to be mapped and cleared each time, which costs as much as reading a request from its socket.
//!
//! It must not know requests or connections.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::BytesMut;

/// Buffers that are kept at most.
const KEPT_MAX: usize = 8;
/// The largest buffer that is kept: above what clients send by default (1 MiB).
const KEPT_BYTES_MAX: usize = 2 << 20;

/// A broker's kept buffers, the last that was used at the end.
#[derive(Default)]
pub(super) struct Buffers {
    kept: Mutex<Vec<BytesMut>>,
}

impl Buffers {
    /// An empty buffer with room for `bytes`, if one is kept whose request was dropped since.
    pub(super) fn take(&self, bytes: usize) -> Option<BytesMut> {
        let mut kept = self.lock();
        let index = kept.iter_mut().rposition(|buffer| buffer.try_reclaim(bytes))?;
        Some(kept.remove(index))
    }

    /// Keeps the storage of a buffer of `bytes`; its request may still be in use.
    pub(super) fn put(&self, mut buffer: BytesMut, bytes: usize) {
        if bytes > KEPT_BYTES_MAX {
            return;
        }
        buffer.clear();
        let mut kept = self.lock();
        if kept.len() == KEPT_MAX {
            kept.remove(0);
        }
        kept.push(buffer);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<BytesMut>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_once_its_request_is_dropped() {
        let buffers = Buffers::default();
        let mut buffer = BytesMut::with_capacity(100_000);
        buffer.resize(100_000, 1);
        let request = buffer.split_to(100_000).freeze();
        let storage = request.as_ptr();
        buffers.put(buffer, 100_000);
        assert!(buffers.take(100_000).is_none(), "the request still uses it");
        drop(request);
        assert!(buffers.take(200_000).is_none(), "it is too small");
        let again = buffers.take(100_000).unwrap();
        assert_eq!((again.as_ptr(), again.len()), (storage, 0));
        assert!(buffers.take(1).is_none(), "it is in use again");
    }

    #[test]
    fn few_buffers_are_kept_and_no_very_large_ones() {
        let buffers = Buffers::default();
        buffers.put(BytesMut::with_capacity(KEPT_BYTES_MAX + 1), KEPT_BYTES_MAX + 1);
        assert!(buffers.take(1).is_none());
        for size in 0..=KEPT_MAX {
            buffers.put(BytesMut::with_capacity(1000 + size), 1000 + size);
        }
        let taken: Vec<usize> =
            std::iter::from_fn(|| buffers.take(1000)).map(|buffer| buffer.capacity()).collect();
        assert_eq!(taken, (1001..=1000 + KEPT_MAX).rev().collect::<Vec<_>>());
    }
}
