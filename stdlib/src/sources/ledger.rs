//! Batches on their way: numbers them, hears what became of them, bounds how many there are.

use std::collections::HashMap;

use flow_plan::{Ack, Outcome};
use tokio::sync::mpsc;

/// Batches that were sent and whose outcome is not known yet, by number; `K` says what each belongs to.
#[derive(Debug)]
pub struct Ledger<K> {
    // Never holds more than `max` outcomes: one for each open batch.
    sender: mpsc::UnboundedSender<(u64, Outcome)>,
    receiver: mpsc::UnboundedReceiver<(u64, Outcome)>,
    open: HashMap<u64, K>,
    next: u64,
    max: usize,
}

impl<K> Ledger<K> {
    pub fn new(max: usize) -> Ledger<K> {
        let (sender, receiver) = mpsc::unbounded_channel();
        Ledger { sender, receiver, open: HashMap::new(), next: 0, max }
    }

    /// How many more batches may be sent now.
    pub fn room(&self) -> usize {
        self.max.saturating_sub(self.open.len())
    }

    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// The number and the acknowledgement for the next batch.
    pub fn open(&mut self, key: K) -> (u64, Ack) {
        let id = self.next;
        self.next += 1;
        self.open.insert(id, key);
        let sender = self.sender.clone();
        let ack = Ack::new(move |outcome| {
            // The source may be gone when the outcome is known; then nobody needs it.
            let _ = sender.send((id, outcome));
        });
        (id, ack)
    }

    /// An outcome that is known already.
    pub fn try_next(&mut self) -> Option<(u64, K, Outcome)> {
        let (id, outcome) = self.receiver.try_recv().ok()?;
        self.open.remove(&id).map(|key| (id, key, outcome))
    }

    /// The next outcome; waits for ever when nothing is open. Nothing is lost when it is not waited for to the
    /// end.
    pub async fn next(&mut self) -> (u64, K, Outcome) {
        loop {
            match self.receiver.recv().await {
                Some((id, outcome)) => {
                    if let Some(key) = self.open.remove(&id) {
                        return (id, key, outcome);
                    }
                }
                // Cannot happen: a sender is kept here.
                None => std::future::pending().await,
            }
        }
    }
}
