//! How a producer gets its id and epoch, and how its transaction takes in partitions.

use super::*;
use crate::transactions::records::TRANSACTIONAL_ID_BYTES_MAX;

impl Coordinator {
    /// `InitProducerId` and its counterpart in this process.
    pub(super) fn apply_opening(&mut self, input: Input, now_ms: i64, out: &mut Vec<Output>) {
        let (call, done) = match &input {
            Input::InitProducerId { call, transactional_id: None, .. } => (
                *call,
                self.ids
                    .take()
                    .map(|id| answer(out, *call, Ok(Answer::Producer(Producer { id, epoch: 0 }))))
                    .ok_or(None),
            ),
            Input::InitProducerId { call, transactional_id: Some(id), timeout_ms, expected } => {
                (*call, self.init(*call, id, *timeout_ms, *expected, now_ms, out))
            }
            Input::OpenLocal { call, transactional_id } => {
                (*call, self.open_local(*call, transactional_id, now_ms, out))
            }
            _ => return,
        };
        match done {
            Ok(()) => {}
            Err(Some(error)) => answer(out, call, Err(error)),
            // No id is left: the next block brings it.
            Err(None) if self.waiting.len() < WAITING_MAX => self.waiting.push_back(input),
            Err(None) => answer(out, call, Err(ResponseError::CoordinatorLoadInProgress)),
        }
    }

    /// `Err(None)`: a producer id is needed, and none is left.
    fn init(
        &mut self,
        call: CallId,
        id: &Arc<str>,
        timeout_ms: i32,
        expected: Option<Producer>,
        now_ms: i64,
        out: &mut Vec<Output>,
    ) -> Result<(), Option<ResponseError>> {
        check_id(id)?;
        if timeout_ms <= 0 || timeout_ms > self.options.timeout_max_ms {
            return Err(Some(ResponseError::InvalidTransactionTimeout));
        }
        if !self.slots.contains_key(id) {
            self.add_slot(id, timeout_ms, now_ms)?;
        }
        let slot = self.slots.get_mut(id).ok_or(Some(ResponseError::UnknownServerError))?;
        if slot.pending.is_some() {
            return Err(Some(ResponseError::ConcurrentTransactions));
        }
        let now = &slot.now;
        // KIP-360: a producer that goes on after an error is known by its id, or by its last id if that was used up and
        // the answer was lost; or everything about it was forgotten.
        let known = |expected: &Producer| {
            now.producer.epoch < 0
                || expected.id == now.producer.id
                || (expected.id == now.last_producer.id && expected.is_exhausted())
        };
        if expected.is_some_and(|expected| !known(&expected)) {
            return Err(Some(ResponseError::ProducerFenced));
        }
        slot.check_free()?;
        if self.fence_local(id, out) {
            return Err(Some(ResponseError::ConcurrentTransactions));
        }
        let now = &self.slots[id].now;
        if now.state == State::Ongoing {
            self.fence(id, Some(call), now_ms, out);
            return Ok(());
        }
        let current = expected.is_none_or(|expected| expected.epoch == now.producer.epoch);
        // Epochs of this process run ahead of their records: a client begins under another id.
        let was_local = now.timeout_ms == super::local::TIMEOUT_MS && now.producer.epoch >= 0;
        let (producer, last_producer) = if now.producer.is_exhausted() || was_local {
            if !current || (was_local && expected.is_some()) {
                return Err(Some(ResponseError::ProducerFenced));
            }
            let recorded = if expected.is_some() { now.producer.epoch } else { -1 };
            let last = Producer { id: now.producer.id, epoch: recorded };
            (Producer { id: self.ids.take().ok_or(None)?, epoch: 0 }, last)
        } else {
            let bumped = now.producer.next_epoch();
            match expected {
                None => (bumped, Producer { id: now.producer.id, epoch: -1 }),
                Some(_) if current || now.producer.epoch < 0 => (bumped, now.producer),
                // The answer to the last bump was lost: it is given again.
                Some(expected) if expected.epoch == now.last_producer.epoch => {
                    (now.producer, now.last_producer)
                }
                Some(_) => return Err(Some(ResponseError::ProducerFenced)),
            }
        };
        let next = Transaction {
            producer,
            last_producer,
            timeout_ms,
            state: State::Empty,
            partitions: BTreeSet::new(),
            start_ms: -1,
            updated_ms: now_ms,
        };
        self.write(id, next, Then::Init { call }, out);
        Ok(())
    }

    pub(super) fn add_slot(
        &mut self,
        id: &Arc<str>,
        timeout_ms: i32,
        now_ms: i64,
    ) -> Result<(), Option<ResponseError>> {
        if self.slots.len() >= TRANSACTIONAL_IDS_MAX {
            return Err(Some(ResponseError::PolicyViolation));
        }
        let producer_id = self.ids.take().ok_or(None)?;
        self.slots.insert(id.clone(), Slot::new(Transaction::new(producer_id, timeout_ms, now_ms)));
        Ok(())
    }

    /// `Ok(true)`: nothing to write, it is so already.
    pub(super) fn add_partitions(
        &mut self,
        call: CallId,
        id: &Arc<str>,
        producer: Producer,
        partitions: BTreeSet<TopicPartition>,
        now_ms: i64,
        out: &mut Vec<Output>,
    ) -> Result<bool, ResponseError> {
        let slot = self.slot_of(id, producer)?;
        slot.check_free()?;
        let now = &slot.now;
        if now.state == State::Ongoing && partitions.is_subset(&now.partitions) {
            return Ok(true);
        }
        let mut next = now.clone();
        if now.state.is_idle() {
            next.partitions.clear();
            next.start_ms = now_ms;
        }
        next.partitions.extend(partitions);
        if next.partitions.len() > PARTITIONS_MAX {
            return Err(ResponseError::InvalidRequest);
        }
        next.state = State::Ongoing;
        next.updated_ms = now_ms;
        self.write(id, next, Then::Add { call }, out);
        Ok(false)
    }

    /// The slot of a client that is who it says to be.
    pub(super) fn slot_of(&self, id: &Arc<str>, producer: Producer) -> Result<&Slot, ResponseError> {
        if id.is_empty() {
            return Err(ResponseError::InvalidRequest);
        }
        let slot = self.slots.get(id).ok_or(ResponseError::InvalidProducerIdMapping)?;
        if slot.now.producer.id != producer.id {
            return Err(ResponseError::InvalidProducerIdMapping);
        }
        if slot.now.producer.epoch != producer.epoch || slot.local.is_some() {
            return Err(ResponseError::ProducerFenced);
        }
        Ok(slot)
    }
}

pub(super) fn check_id(id: &str) -> Result<(), Option<ResponseError>> {
    if id.is_empty() || id.len() > TRANSACTIONAL_ID_BYTES_MAX {
        return Err(Some(ResponseError::InvalidRequest));
    }
    Ok(())
}
