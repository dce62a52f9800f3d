//! Transactions of this process. They differ from a client's in what they cost: partitions are added in memory alone,
//! and the one record that is waited for is the decision.
//!
//! That is safe because every transaction has an epoch of its own, and every opening a producer id of its own. A crash
//! leaves records in partitions that no `__transaction_state` speaks of; whoever starts finds them open under a producer
//! that has nothing open there, and aborts them. A marker that is written again can only meet records of its own epoch
//! or of a later one, which refuses it.

use super::begin::check_id;
use super::*;

/// How long a transaction of this process is said to last: it lives and dies with its owner. No client may ask for as
/// much, so the record of an id tells whose it was.
pub(super) const TIMEOUT_MS: i32 = i32::MAX;

/// What the owner of a transactional id in this process has going on.
#[derive(Debug)]
pub(super) struct Local {
    /// Of the transaction that is being collected, or comes next.
    pub(super) producer: Producer,
    pub(super) partitions: BTreeSet<TopicPartition>,
    start_ms: i64,
    state: Ending,
}

#[derive(Debug)]
enum Ending {
    Open,
    /// The end of the last transaction is awaited before the record of this one.
    Deferred(CallId),
    /// The decision is being written.
    Deciding,
    /// It is decided; the owner hears of it when every marker is in its log.
    Committed(CallId),
    /// The markers of an abort are being written; nobody waits for those of a fence.
    Aborting {
        call: Option<CallId>,
        left: BTreeSet<TopicPartition>,
    },
}

impl Local {
    pub(super) fn new(producer: Producer) -> Local {
        Local { producer, partitions: BTreeSet::new(), start_ms: -1, state: Ending::Open }
    }

    pub(super) fn is_aborting(&self) -> bool {
        matches!(self.state, Ending::Aborting { .. })
    }

    pub(super) fn start_ms(&self) -> i64 {
        self.start_ms
    }

    /// Partitions that may have something open under this producer.
    pub(super) fn unfinished(&self) -> impl Iterator<Item = &TopicPartition> {
        let left = match &self.state {
            Ending::Aborting { left, .. } => Some(left),
            _ => None,
        };
        self.partitions.iter().chain(left.into_iter().flatten())
    }

    pub(super) fn verify(&self, producer: Producer, partition: &TopicPartition) -> Result<(), ResponseError> {
        self.check(producer)?;
        if self.partitions.contains(partition) { Ok(()) } else { Err(ResponseError::TransactionAbortable) }
    }

    fn check(&self, producer: Producer) -> Result<(), ResponseError> {
        if producer != self.producer {
            return Err(ResponseError::ProducerFenced);
        }
        match self.state {
            Ending::Open => Ok(()),
            _ => Err(ResponseError::ConcurrentTransactions),
        }
    }

    pub(super) fn committed(&mut self, call: CallId) {
        self.state = Ending::Committed(call);
    }

    /// What it waited for will not come. Gives the call that waits.
    pub(super) fn give_up(&mut self) -> Option<CallId> {
        match std::mem::replace(&mut self.state, Ending::Open) {
            Ending::Deferred(call) | Ending::Committed(call) => Some(call),
            Ending::Aborting { call, .. } => call,
            Ending::Open => None,
            Ending::Deciding => {
                self.state = Ending::Deciding;
                None
            }
        }
    }

    /// The next transaction, under the next epoch.
    fn renew(&mut self) {
        *self = Local::new(self.producer.next_epoch());
    }
}

impl Coordinator {
    pub(super) fn open_local(
        &mut self,
        call: CallId,
        id: &Arc<str>,
        now_ms: i64,
        out: &mut Vec<Output>,
    ) -> Result<(), Option<ResponseError>> {
        check_id(id)?;
        if !self.slots.contains_key(id) {
            self.add_slot(id, TIMEOUT_MS, now_ms)?;
        }
        self.slots[id].check_free()?;
        if self.fence_local(id, out) {
            return Err(Some(ResponseError::ConcurrentTransactions));
        }
        let now = &self.slots[id].now;
        if now.state == State::Ongoing {
            self.fence(id, Some(call), now_ms, out);
            return Ok(());
        }
        let (fresh, last_producer) = (now.producer.epoch < 0, now.producer);
        let producer_id = if fresh { now.producer.id } else { self.ids.take().ok_or(None)? };
        let next = Transaction {
            producer: Producer { id: producer_id, epoch: 0 },
            last_producer,
            timeout_ms: TIMEOUT_MS,
            state: State::Empty,
            partitions: BTreeSet::new(),
            start_ms: -1,
            updated_ms: now_ms,
        };
        self.write(id, next, Then::OpenLocal { call }, out);
        Ok(())
    }

    /// Takes the id from its owner in this process. True if something of it must be aborted first.
    pub(super) fn fence_local(&mut self, id: &Arc<str>, out: &mut Vec<Output>) -> bool {
        let coordinator_epoch = self.epoch_of(id);
        let Some(slot) = self.slots.get_mut(id) else { return false };
        let Some(local) = &mut slot.local else { return false };
        if local.partitions.is_empty() {
            slot.local = None;
            return false;
        }
        local.producer = local.producer.next_epoch();
        let partitions: Vec<_> = std::mem::take(&mut local.partitions).into_iter().collect();
        local.state = Ending::Aborting { call: None, left: partitions.iter().cloned().collect() };
        out.push(Output::Mark(Mark {
            transactional_id: id.clone(),
            producer: local.producer,
            coordinator_epoch,
            commit: false,
            partitions,
        }));
        true
    }

    /// Adds partitions to the transaction that `producer` is collecting.
    pub(crate) fn add_local(
        &mut self,
        id: &str,
        producer: Producer,
        partition: TopicPartition,
        now_ms: i64,
    ) -> Result<(), ResponseError> {
        let slot = self.slots.get_mut(id).ok_or(ResponseError::ProducerFenced)?;
        if slot.stuck {
            return Err(ResponseError::CoordinatorNotAvailable);
        }
        let local = slot.local.as_mut().ok_or(ResponseError::ProducerFenced)?;
        local.check(producer)?;
        if local.partitions.is_empty() {
            local.start_ms = now_ms;
        }
        if local.partitions.len() >= PARTITIONS_MAX && !local.partitions.contains(&partition) {
            return Err(ResponseError::InvalidRequest);
        }
        local.partitions.insert(partition);
        Ok(())
    }

    pub(super) fn end_local(
        &mut self,
        call: CallId,
        id: &Arc<str>,
        producer: Producer,
        commit: bool,
        now_ms: i64,
        out: &mut Vec<Output>,
    ) -> Result<(), ResponseError> {
        let coordinator_epoch = self.epoch_of(id);
        let slot = self.slots.get_mut(id).ok_or(ResponseError::ProducerFenced)?;
        if slot.stuck {
            return Err(ResponseError::CoordinatorNotAvailable);
        }
        let local = slot.local.as_mut().ok_or(ResponseError::ProducerFenced)?;
        local.check(producer)?;
        if local.partitions.is_empty() {
            answer(out, call, Ok(Answer::Producer(producer)));
            return Ok(());
        }
        if commit {
            local.state = Ending::Deferred(call);
            self.continue_local(id, now_ms, out);
            return Ok(());
        }
        let partitions: Vec<_> = std::mem::take(&mut local.partitions).into_iter().collect();
        local.state = Ending::Aborting { call: Some(call), left: partitions.iter().cloned().collect() };
        let transactional_id = id.clone();
        out.push(Output::Mark(Mark {
            transactional_id,
            producer,
            coordinator_epoch,
            commit: false,
            partitions,
        }));
        Ok(())
    }

    /// Writes the decision of a transaction that waited for the end of the one before.
    pub(super) fn continue_local(&mut self, id: &Arc<str>, now_ms: i64, out: &mut Vec<Output>) {
        let Some(slot) = self.slots.get_mut(id) else { return };
        if slot.pending.is_some() || slot.now.state.is_prepared() {
            return;
        }
        let Some(local) = &mut slot.local else { return };
        let Ending::Deferred(call) = local.state else { return };
        local.state = Ending::Deciding;
        let next = Transaction {
            producer: local.producer,
            last_producer: Producer { id: local.producer.id, epoch: -1 },
            timeout_ms: TIMEOUT_MS,
            state: State::PrepareCommit,
            partitions: local.partitions.clone(),
            start_ms: local.start_ms,
            updated_ms: now_ms,
        };
        self.write(id, next, Then::EndLocal { call }, out);
    }

    /// The decision was not written: the transaction is open as before, and can be tried again or aborted.
    pub(super) fn reopen_local(&mut self, id: &Arc<str>) {
        if let Some(local) = self.slots.get_mut(id).and_then(|slot| slot.local.as_mut()) {
            local.state = Ending::Open;
        }
    }

    /// Tells the owner that its transaction is over, when every marker is in its log: the next one may write behind
    /// them.
    pub(super) fn answer_local(&mut self, id: &Arc<str>, out: &mut Vec<Output>) {
        let Some(slot) = self.slots.get_mut(id) else { return };
        let Some(local) = &mut slot.local else { return };
        if let Ending::Committed(call) = local.state
            && slot.unappended.is_empty()
        {
            local.renew();
            answer(out, call, Ok(Answer::Producer(local.producer)));
        }
    }

    pub(super) fn local_markers_done(
        &mut self,
        id: &Arc<str>,
        producer: Producer,
        partitions: &[TopicPartition],
        out: &mut Vec<Output>,
    ) {
        let Some(slot) = self.slots.get_mut(id) else { return };
        let Some(local) = &mut slot.local else { return };
        if local.producer != producer {
            return;
        }
        let Ending::Aborting { call, left } = &mut local.state else { return };
        for partition in partitions {
            left.remove(partition);
        }
        if !left.is_empty() {
            return;
        }
        match *call {
            Some(call) => {
                local.renew();
                answer(out, call, Ok(Answer::Producer(local.producer)));
            }
            None => slot.local = None,
        }
    }
}
