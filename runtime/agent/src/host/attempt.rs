//! One try to bring a transaction to where it goes, and what its acknowledgements mean meanwhile. While the
//! transaction is open the channel still answers for the events: a try that fails is no loss, and their source must
//! not hear of one. From the commit on, what was moved to other channels answers for itself.

use std::sync::{Arc, Mutex, MutexGuard};

use flow_plan::{Ack, Batch, Outcome};
use tokio::sync::Notify;

use crate::traits::Transaction;

pub(super) struct Attempt {
    state: Mutex<State>,
    resolved: Notify,
}

#[derive(Default)]
struct State {
    /// Batches whose shares are not all resolved.
    open: usize,
    lost: bool,
    committed: bool,
}

impl Attempt {
    /// The rows of a transaction, with its memory, each batch under an acknowledgement of this attempt.
    pub fn new(transaction: &dyn Transaction) -> (Arc<Attempt>, Vec<Batch>) {
        let batches = transaction.batches();
        let state = State { open: batches.len(), ..State::default() };
        let attempt = Arc::new(Attempt { state: Mutex::new(state), resolved: Notify::new() });
        let shares = batches.iter().map(|batch| attempt.share(batch)).collect();
        (attempt, shares)
    }

    fn share(self: &Arc<Self>, batch: &Batch) -> Batch {
        let attempt = self.clone();
        let source = Mutex::new(Some(batch.ack.split()));
        let resolved = move |outcome| {
            let source = source.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
            // Outside of the locks: whoever hears of it may do anything.
            if let Some(source) = source
                && attempt.resolve(outcome)
            {
                source.done();
            }
        };
        // Sinks may know what the source gave along.
        let ack = match batch.ack.context() {
            Some(context) => Ack::with_context(context.clone(), resolved),
            None => Ack::new(resolved),
        };
        Batch { columns: batch.columns.clone(), rows: batch.rows.clone(), ack }
    }

    /// True: somebody answers for the events (or did all there was to do).
    fn resolve(&self, outcome: Outcome) -> bool {
        let safe = {
            let mut state = self.lock();
            state.open = state.open.saturating_sub(1);
            match outcome {
                Outcome::Delivered => true,
                // The transaction is given back instead of committed.
                Outcome::Lost if !state.committed => {
                    state.lost = true;
                    true
                }
                Outcome::Lost => false,
            }
        };
        self.resolved.notify_one();
        safe
    }

    /// Waits until everything is delivered, also what went to other channels. One caller at a time.
    pub async fn resolved(&self) {
        while self.lock().open > 0 {
            self.resolved.notified().await;
        }
    }

    /// The transaction is about to be committed. False: something that was moved was lost before, so it must be
    /// given back.
    pub fn commit(&self) -> bool {
        let mut state = self.lock();
        state.committed = !state.lost;
        state.committed
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
