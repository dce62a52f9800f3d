//! Events that were taken from a [`super::Queue`].

use std::sync::Arc;

use async_trait::async_trait;
use flow_agent::{ChannelError, Transaction};
use flow_plan::Batch;

use super::Shared;
use super::state::Entry;
use super::store::{Place, Store};

pub(super) struct QueueTransaction<S: Store> {
    shared: Arc<Shared<S>>,
    batches: Vec<Batch>,
    /// The same batches, without their rows.
    entries: Vec<Entry>,
}

impl<S: Store> QueueTransaction<S> {
    pub(super) fn new(shared: Arc<Shared<S>>, mut entries: Vec<Entry>) -> QueueTransaction<S> {
        let batches = entries.iter_mut().map(|entry| std::mem::take(&mut entry.batch)).collect();
        QueueTransaction { shared, batches, entries }
    }

    fn entries(&mut self) -> Vec<Entry> {
        let mut entries = std::mem::take(&mut self.entries);
        for (entry, batch) in entries.iter_mut().zip(self.batches.drain(..)) {
            entry.batch = batch;
        }
        entries
    }
}

#[async_trait]
impl<S: Store> Transaction for QueueTransaction<S> {
    fn batches(&self) -> &[Batch] {
        &self.batches
    }

    async fn commit(mut self: Box<Self>) -> Result<(), ChannelError> {
        let places: Vec<Place> = self.entries.iter().filter_map(|entry| entry.place).collect();
        let forgotten = if places.is_empty() { Ok(()) } else { self.shared.store.forget(&places).await };
        // Also after a fault: the events are safe elsewhere, so they do not come again before the next start.
        let entries = self.entries();
        let ends = {
            let mut state = self.shared.lock();
            state.commit(&entries);
            state.closed
        };
        self.shared.room.notify_one();
        if ends {
            self.shared.readable.notify_one();
        }
        // Outside of the lock: whoever hears of it may do anything.
        for entry in entries {
            entry.batch.ack.done();
        }
        forgotten.map_err(ChannelError::Fault)
    }
}

impl<S: Store> Drop for QueueTransaction<S> {
    fn drop(&mut self) {
        if self.entries.is_empty() {
            return;
        }
        let entries = self.entries();
        let shared = self.shared.clone();
        let dropped = shared.lock().give_back(entries);
        drop(dropped);
        shared.readable.notify_one();
        shared.room.notify_one();
    }
}
