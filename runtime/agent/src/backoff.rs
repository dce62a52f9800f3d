//! Waiting times between attempts: exponential, with jitter, bounded on both sides. Plain arithmetic on a seeded
//! generator; the caller does the waiting.

use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

/// How long to wait between attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackoffLimits {
    /// The first wait.
    pub from: Duration,
    /// The longest wait.
    pub to: Duration,
    /// A part that has worked this long starts again at `from`.
    pub healthy: Duration,
}

impl Default for BackoffLimits {
    fn default() -> BackoffLimits {
        BackoffLimits {
            from: Duration::from_millis(100),
            to: Duration::from_secs(30),
            healthy: Duration::from_secs(60),
        }
    }
}

/// The state of one part that is being tried again.
#[derive(Clone, Debug)]
pub struct Backoff {
    limits: BackoffLimits,
    attempt: u32,
    random: u64,
}

impl Backoff {
    pub fn new(limits: BackoffLimits, seed: u64) -> Backoff {
        Backoff { limits, attempt: 0, random: seed }
    }

    /// The next wait: `from` doubled with each attempt up to `to`, of which a random half is kept back so that
    /// many parts that failed together do not come back together.
    pub fn next_wait(&mut self) -> Duration {
        let factor = 1u32.checked_shl(self.attempt).unwrap_or(u32::MAX);
        let full = self.limits.from.saturating_mul(factor).min(self.limits.to);
        self.attempt = self.attempt.saturating_add(1).min(31);
        let half = full / 2;
        half + half.mul_f64(self.fraction())
    }

    pub fn reset(&mut self) {
        self.attempt = 0;
    }

    pub fn limits(&self) -> BackoffLimits {
        self.limits
    }

    /// From 0 to 1, by splitmix64.
    fn fraction(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        (mixed >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// A seed that differs from process to process.
pub fn random_seed() -> u64 {
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_bound_and_starts_again() {
        let limits = BackoffLimits::default();
        let mut backoff = Backoff::new(limits, 7);
        let mut full = limits.from;
        for _ in 0..40 {
            let wait = backoff.next_wait();
            assert!(wait >= full / 2 && wait <= full, "{wait:?} of {full:?}");
            full = (full * 2).min(limits.to);
        }
        backoff.reset();
        assert!(backoff.next_wait() <= limits.from);
    }

    #[test]
    fn two_seeds_come_back_at_different_times() {
        let limits = BackoffLimits::default();
        assert_ne!(Backoff::new(limits, 1).next_wait(), Backoff::new(limits, 2).next_wait());
    }
}
