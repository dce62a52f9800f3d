//! Waking those who wait for records: a long poll waits on many partitions at once, and an append must cost next to
//! nothing when nobody waits.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// One wait, shared by all the partitions it is for.
#[derive(Debug)]
pub(crate) struct Waiter {
    /// How many more bytes must be appended before it is worth waking up.
    missing_bytes: AtomicI64,
    notify: Notify,
}

impl Waiter {
    /// A wait for `bytes` more bytes over all its partitions together.
    pub(crate) fn new(bytes: i64) -> Arc<Waiter> {
        Arc::new(Waiter { missing_bytes: AtomicI64::new(bytes), notify: Notify::new() })
    }

    /// Waits again for `bytes` more; what was appended before this call no longer counts. The caller looks at its
    /// partitions after it, and waits only if there is too little.
    pub(crate) fn arm(&self, bytes: i64) {
        self.missing_bytes.store(bytes, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// Waits for `bytes` more than before; what was appended since `arm` still counts.
    pub(crate) fn raise(&self, bytes: i64) {
        self.missing_bytes.fetch_add(bytes, Ordering::SeqCst);
    }

    /// Returns when enough was appended since the last `arm`, or something else changed that a reader must see.
    pub(crate) async fn woken(&self) {
        self.notify.notified().await;
    }

    fn appended(&self, bytes: i64) {
        if self.missing_bytes.fetch_sub(bytes, Ordering::SeqCst) <= bytes {
            self.notify.notify_one();
        }
    }
}

/// Those who wait on one partition. A connection waits once at a time, so the connections bound the list.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    count: AtomicUsize,
    list: Mutex<Vec<Arc<Waiter>>>,
}

impl Waiters {
    /// Adds a wait. The caller looks at the partition after it: what is appended from now on is told.
    pub(crate) fn add(&self, waiter: &Arc<Waiter>) {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        list.push(Arc::clone(waiter));
        self.count.store(list.len(), Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// Takes a wait out again.
    pub(crate) fn remove(&self, waiter: &Arc<Waiter>) {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = list.iter().position(|other| Arc::ptr_eq(other, waiter)) {
            list.swap_remove(at);
        }
        self.count.store(list.len(), Ordering::SeqCst);
    }

    /// Tells the waiting that `bytes` were appended. To be called after the append can be read.
    pub(crate) fn appended(&self, bytes: usize) {
        // With the fences on both sides either the waiter sees the append when it looks after `add`, or it is counted.
        fence(Ordering::SeqCst);
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        for waiter in self.list.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            waiter.appended(bytes);
        }
    }

    /// Wakes all, whatever they wait for: the partition is gone, or what can be read of it changed without an append.
    pub(crate) fn wake_all(&self) {
        self.appended(usize::MAX);
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::task::{Context, Waker};

    use super::*;

    fn is_woken(waiter: &Waiter) -> bool {
        let mut woken = std::pin::pin!(waiter.woken());
        woken.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn a_waiter_wakes_when_its_partitions_have_enough_together() {
        let (a, b) = (Waiters::default(), Waiters::default());
        let waiter = Waiter::new(100);
        a.add(&waiter);
        b.add(&waiter);
        a.appended(60);
        assert!(!is_woken(&waiter));
        b.appended(40);
        assert!(is_woken(&waiter));
        assert!(!is_woken(&waiter), "one wake-up for one wait");
        waiter.arm(10);
        a.remove(&waiter);
        a.appended(100);
        assert!(!is_woken(&waiter));
        b.wake_all();
        b.wake_all();
        assert!(is_woken(&waiter));
    }
}
