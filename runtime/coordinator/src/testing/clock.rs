//! What time it is in a simulation: the simulation's own time, and what a server with a wrong clock believes.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::{Rng, SimNetwork};
use crate::network::Clock;

/// The wall time at which every simulation begins, milliseconds since 1970 UTC.
const EPOCH_MS: i64 = 1_700_000_000_000;

/// The wall clock of one host, wrong by as much as it is told to be.
pub struct SimClock {
    network: SimNetwork,
    skew_ms: AtomicI64,
    rng: Mutex<Rng>,
    draws: AtomicU64,
}

impl SimClock {
    pub fn new(network: SimNetwork, seed: u64) -> SimClock {
        SimClock {
            network,
            skew_ms: AtomicI64::new(0),
            rng: Mutex::new(Rng::new(seed)),
            draws: AtomicU64::new(0),
        }
    }

    /// From now on the clock is wrong by so many milliseconds.
    pub fn set_skew_ms(&self, skew_ms: i64) {
        self.skew_ms.store(skew_ms, Ordering::Relaxed);
    }

    /// How many random numbers were taken.
    pub fn draws(&self) -> u64 {
        self.draws.load(Ordering::Relaxed)
    }
}

impl Clock for SimClock {
    fn now_ms(&self) -> i64 {
        let since = i64::try_from(self.network.now_ms()).unwrap_or(i64::MAX / 2);
        EPOCH_MS + since + self.skew_ms.load(Ordering::Relaxed)
    }

    fn random(&self) -> u64 {
        self.draws.fetch_add(1, Ordering::Relaxed);
        self.rng.lock().unwrap_or_else(PoisonError::into_inner).next_u64()
    }
}
