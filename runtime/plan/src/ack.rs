//! Acknowledgement: who has taken responsibility for the events of a batch.
//!
//! A source opens an [`Ack`], every part of the batch carries a share of it, and the source hears once, when
//! the last share is gone. A share that is dropped without [`Ack::done`] counts as lost, so forgetting is safe:
//! the source keeps its position and repeats.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// What became of all events that shared an [`Ack`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every share was marked done: delivered, kept durably, or dropped on purpose by the flow.
    Delivered,
    /// At least one share was dropped without being done (shutdown, a crash of a part).
    Lost,
}

type Resolved = Box<dyn Fn(Outcome) + Send + Sync>;

struct Inner {
    shares: AtomicUsize,
    lost: AtomicBool,
    resolved: Resolved,
    context: Option<Arc<dyn Any + Send + Sync>>,
}

/// One share of an acknowledgement. Not `Clone`: a share is split on purpose.
#[derive(Default)]
pub struct Ack {
    inner: Option<Arc<Inner>>,
}

impl std::fmt::Debug for Ack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.inner.is_some() { "Ack(open)" } else { "Ack(none)" })
    }
}

impl Ack {
    /// An acknowledgement that calls `resolved` exactly once, on whatever thread drops the last share.
    pub fn new(resolved: impl Fn(Outcome) + Send + Sync + 'static) -> Ack {
        Ack::make(Box::new(resolved), None)
    }

    /// The same, with something that all shares carry: the unit of work that the source and the places where its
    /// events end have in common (a transaction). Who does not know its type takes no notice of it.
    pub fn with_context(
        context: Arc<dyn Any + Send + Sync>,
        resolved: impl Fn(Outcome) + Send + Sync + 'static,
    ) -> Ack {
        Ack::make(Box::new(resolved), Some(context))
    }

    fn make(resolved: Resolved, context: Option<Arc<dyn Any + Send + Sync>>) -> Ack {
        let inner = Inner { shares: AtomicUsize::new(1), lost: AtomicBool::new(false), resolved, context };
        Ack { inner: Some(Arc::new(inner)) }
    }

    /// What the source gave all shares along.
    pub fn context(&self) -> Option<&Arc<dyn Any + Send + Sync>> {
        self.inner.as_ref()?.context.as_ref()
    }

    /// Nobody waits for this one.
    pub fn none() -> Ack {
        Ack { inner: None }
    }

    /// Another share: the acknowledgement resolves only when this one is done or dropped too.
    pub fn split(&self) -> Ack {
        if let Some(inner) = &self.inner {
            inner.shares.fetch_add(1, Ordering::Relaxed);
        }
        Ack { inner: self.inner.clone() }
    }

    /// Responsibility has been taken for the events of this share.
    pub fn done(mut self) {
        if let Some(inner) = self.inner.take() {
            release(&inner);
        }
    }

    pub fn is_open(&self) -> bool {
        self.inner.is_some()
    }
}

impl Drop for Ack {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.take() {
            inner.lost.store(true, Ordering::Relaxed);
            release(&inner);
        }
    }
}

fn release(inner: &Inner) {
    if inner.shares.fetch_sub(1, Ordering::AcqRel) == 1 {
        let lost = inner.lost.load(Ordering::Relaxed);
        (inner.resolved)(if lost { Outcome::Lost } else { Outcome::Delivered });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    fn recorder() -> (Ack, Arc<Mutex<Vec<Outcome>>>) {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = seen.clone();
        (Ack::new(move |outcome| sink.lock().unwrap().push(outcome)), seen)
    }

    #[test]
    fn resolves_once_after_the_last_share() {
        let (ack, seen) = recorder();
        let second = ack.split();
        ack.done();
        assert!(seen.lock().unwrap().is_empty());
        second.done();
        assert_eq!(*seen.lock().unwrap(), [Outcome::Delivered]);
    }

    #[test]
    fn every_share_carries_the_context() {
        let ack = Ack::with_context(Arc::new(7_u32), |_| {});
        let share = ack.split();
        ack.done();
        assert_eq!(share.context().and_then(|context| context.downcast_ref::<u32>()), Some(&7));
        assert!(recorder().0.context().is_none());
        assert!(Ack::none().context().is_none());
    }

    #[test]
    fn a_forgotten_share_is_lost() {
        let (ack, seen) = recorder();
        drop(ack.split());
        ack.done();
        assert_eq!(*seen.lock().unwrap(), [Outcome::Lost]);
    }
}
