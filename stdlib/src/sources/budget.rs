//! Memory that many peers share: each is sure of a small part, and what is beyond that is for whoever comes first.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that peers may hold together. As each is sure of its part, twice the bound is the most that can be held.
#[derive(Debug)]
pub struct Budget {
    used: AtomicUsize,
    max: usize,
    sure: usize,
}

impl Budget {
    /// `peers`: how many there may be at a time.
    pub fn new(max: usize, peers: usize) -> Arc<Budget> {
        Arc::new(Budget { used: AtomicUsize::new(0), max, sure: max / peers.max(1) })
    }

    pub fn share(self: &Arc<Budget>) -> Share {
        Share { of: self.clone(), bytes: 0 }
    }
}

/// What one peer holds; given back when it is dropped.
#[derive(Debug)]
pub struct Share {
    of: Arc<Budget>,
    bytes: usize,
}

impl Share {
    /// Now this much is held. `false`: that is too much, and nothing has changed.
    pub fn set(&mut self, bytes: usize) -> bool {
        if bytes <= self.bytes {
            self.of.used.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
            self.bytes = bytes;
            return true;
        }
        let more = bytes - self.bytes;
        let before = self.of.used.fetch_add(more, Ordering::Relaxed);
        if bytes > self.of.sure && before.saturating_add(more) > self.of.max {
            self.of.used.fetch_sub(more, Ordering::Relaxed);
            return false;
        }
        self.bytes = bytes;
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.of.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greedy_are_refused_and_the_modest_are_served() {
        let budget = Budget::new(100, 10);
        let (mut greedy, mut other, mut modest) = (budget.share(), budget.share(), budget.share());
        assert!(greedy.set(95));
        assert!(!other.set(50), "beyond the bound");
        assert!(modest.set(10), "everybody is sure of a tenth");
        assert!(!modest.set(11));
        drop(greedy);
        assert!(other.set(50));
        assert!(other.set(5));
        assert!(modest.set(95));
        drop((other, modest));
        assert_eq!(budget.used.load(Ordering::Relaxed), 0);
    }
}
