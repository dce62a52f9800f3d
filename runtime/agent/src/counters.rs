//! Live counts behind the status: written by the tasks once for each batch, read by whoever takes a snapshot.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use crate::status::{FaultReport, PartState};

/// A count that only grows. Counts are independent of each other: a snapshot may be between two of them.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub fn add(&self, events: u64) {
        self.0.fetch_add(events, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts by name; the names come from the plan and from kinds, so their number is bounded.
#[derive(Debug, Default)]
pub(crate) struct NamedCounts(Mutex<BTreeMap<String, u64>>);

impl NamedCounts {
    pub fn add(&self, name: &str, events: u64) {
        let mut counts = lock(&self.0);
        match counts.get_mut(name) {
            Some(count) => *count += events,
            None => {
                counts.insert(name.to_owned(), events);
            }
        }
    }

    pub fn snapshot(&self) -> BTreeMap<String, u64> {
        lock(&self.0).clone()
    }
}

/// State and last fault of a part.
#[derive(Debug, Default)]
pub(crate) struct Health {
    state: Mutex<PartState>,
    last_fault: Mutex<Option<FaultReport>>,
}

impl Health {
    pub fn set(&self, state: PartState) {
        *lock(&self.state) = state;
    }

    pub fn state(&self) -> PartState {
        *lock(&self.state)
    }

    pub fn fault(&self, report: FaultReport) {
        *lock(&self.last_fault) = Some(report);
    }

    pub fn last_fault(&self) -> Option<FaultReport> {
        lock(&self.last_fault).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
