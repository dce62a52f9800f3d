//! A value that is watched, as the consensus library wants it. Tokio's own wakes those who wait in an order that chance
//! picks, to spread them over threads; this one wakes them in the order of their coming, so that a simulation can be
//! repeated. It knows nothing of what is watched.

use std::ops::Deref;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use openraft::async_runtime::{self, watch as wanted};
use openraft::{OptionalSend, OptionalSync};
use tokio::sync::Notify;

/// The kind of channel.
pub struct Watch;

struct Shared<T> {
    /// How often it was changed, and the value.
    value: RwLock<(u64, T)>,
    changed: Notify,
    senders: AtomicUsize,
    receivers: AtomicUsize,
}

pub struct Sender<T>(Arc<Shared<T>>);

pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    seen: u64,
}

/// Holds off changes.
pub struct Ref<'a, T>(RwLockReadGuard<'a, (u64, T)>);

impl<T> Deref for Ref<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.1
    }
}

impl<T> Shared<T> {
    fn read(&self) -> RwLockReadGuard<'_, (u64, T)> {
        self.value.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn receiver(self: &Arc<Shared<T>>) -> Receiver<T> {
        self.receivers.fetch_add(1, Ordering::Relaxed);
        Receiver { shared: self.clone(), seen: self.read().0 }
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        self.0.senders.fetch_add(1, Ordering::Relaxed);
        Sender(self.0.clone())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        if self.0.senders.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.changed.notify_waiters();
        }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Receiver<T> {
        self.shared.receivers.fetch_add(1, Ordering::Relaxed);
        Receiver { shared: self.shared.clone(), seen: self.seen }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.shared.receivers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl async_runtime::Watch for Watch {
    type Sender<T: OptionalSend + OptionalSync> = Sender<T>;
    type Receiver<T: OptionalSend + OptionalSync> = Receiver<T>;
    type Ref<'a, T: OptionalSend + 'a> = Ref<'a, T>;

    fn channel<T: OptionalSend + OptionalSync>(init: T) -> (Sender<T>, Receiver<T>) {
        let shared = Arc::new(Shared {
            value: RwLock::new((0, init)),
            changed: Notify::new(),
            senders: AtomicUsize::new(1),
            receivers: AtomicUsize::new(0),
        });
        let receiver = shared.receiver();
        (Sender(shared), receiver)
    }
}

impl<T: OptionalSend + OptionalSync> async_runtime::WatchSender<Watch, T> for Sender<T> {
    fn send(&self, value: T) -> Result<(), wanted::SendError<T>> {
        if self.0.receivers.load(Ordering::Relaxed) == 0 {
            return Err(wanted::SendError(value));
        }
        self.send_if_modified(|current| {
            *current = value;
            true
        });
        Ok(())
    }

    fn send_if_modified<F>(&self, modify: F) -> bool
    where
        F: FnOnce(&mut T) -> bool,
    {
        let mut value = self.0.value.write().unwrap_or_else(PoisonError::into_inner);
        let modified = modify(&mut value.1);
        if modified {
            value.0 += 1;
        }
        drop(value);
        if modified {
            self.0.changed.notify_waiters();
        }
        modified
    }

    fn borrow_watched(&self) -> Ref<'_, T> {
        Ref(self.0.read())
    }

    fn subscribe(&self) -> Receiver<T> {
        self.0.receiver()
    }
}

impl<T: OptionalSend + OptionalSync> async_runtime::WatchReceiver<Watch, T> for Receiver<T> {
    async fn changed(&mut self) -> Result<(), wanted::RecvError> {
        loop {
            let mut changed = pin!(self.shared.changed.notified());
            // From here on no change is missed.
            changed.as_mut().enable();
            let now = self.shared.read().0;
            if now != self.seen {
                self.seen = now;
                return Ok(());
            }
            if self.shared.senders.load(Ordering::Acquire) == 0 {
                return Err(wanted::RecvError(()));
            }
            changed.await;
        }
    }

    fn borrow_watched(&self) -> Ref<'_, T> {
        Ref(self.shared.read())
    }

    fn borrow_and_update(&mut self) -> Ref<'_, T> {
        let value = self.shared.read();
        self.seen = value.0;
        Ref(value)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use openraft::async_runtime::{Watch as _, WatchReceiver as _, WatchSender as _};

    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn those_who_wait_are_woken_in_the_order_of_their_coming() {
        let (sender, receiver) = Watch::channel(0);
        let woken = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = Vec::new();
        for number in 0..50 {
            let (mut receiver, woken) = (receiver.clone(), woken.clone());
            tasks.push(tokio::spawn(async move {
                receiver.changed().await.unwrap();
                woken.lock().unwrap().push((number, *receiver.borrow_watched()));
            }));
            tokio::task::yield_now().await;
        }
        sender.send(7).unwrap();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*woken.lock().unwrap(), (0..50).map(|number| (number, 7)).collect::<Vec<_>>());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn changes_are_seen_once_and_the_end_too() {
        let (sender, mut receiver) = Watch::channel(0);
        assert!(!sender.send_if_modified(|_| false));
        sender.send(1).unwrap();
        sender.send(2).unwrap();
        receiver.changed().await.unwrap();
        assert_eq!(*receiver.borrow_watched(), 2);
        sender.send(3).unwrap();
        assert_eq!(*receiver.borrow_and_update(), 3);
        let other = sender.subscribe();
        drop(other);
        drop(sender);
        assert!(receiver.changed().await.is_err());
        let (sender, receiver) = Watch::channel(0);
        drop(receiver);
        assert!(sender.send(1).is_err());
    }
}
