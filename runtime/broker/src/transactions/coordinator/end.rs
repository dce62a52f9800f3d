//! How a transaction ends: the decision, the markers, the completion.

use super::*;

impl Coordinator {
    /// `EndTxn` of a client. `Ok(true)`: that is how it ended already.
    pub(super) fn end(
        &mut self,
        call: CallId,
        id: &Arc<str>,
        producer: Producer,
        commit: bool,
        now_ms: i64,
        out: &mut Vec<Output>,
    ) -> Result<bool, ResponseError> {
        let slot = self.slot_of(id, producer)?;
        if slot.stuck {
            return Err(ResponseError::CoordinatorNotAvailable);
        }
        if slot.pending.is_some() {
            return Err(ResponseError::ConcurrentTransactions);
        }
        let prepare = State::prepare(commit);
        match slot.now.state {
            State::Ongoing => {
                let next = Transaction { state: prepare, updated_ms: now_ms, ..slot.now.clone() };
                self.write(id, next, Then::End { call }, out);
                Ok(false)
            }
            state if state == prepare => Err(ResponseError::ConcurrentTransactions),
            state if state == prepare.completed() => Ok(true),
            _ => Err(ResponseError::InvalidTxnState),
        }
    }

    /// Aborts an open transaction under an epoch that its producer does not have, so that nothing of it can come late.
    pub(super) fn fence(&mut self, id: &Arc<str>, call: Option<CallId>, now_ms: i64, out: &mut Vec<Output>) {
        let Some(slot) = self.slots.get(id) else { return };
        let next = Transaction {
            producer: slot.now.producer.next_epoch(),
            last_producer: Producer { id: slot.now.producer.id, epoch: -1 },
            state: State::PrepareAbort,
            updated_ms: now_ms,
            ..slot.now.clone()
        };
        self.write(id, next, Then::Fence { call }, out);
    }

    /// Fences whoever has left a transaction open for longer than it asked for.
    pub(super) fn abort_late(&mut self, now_ms: i64, out: &mut Vec<Output>) {
        let due: Vec<(i64, Arc<str>)> =
            self.deadlines.iter().take_while(|(deadline, _)| *deadline < now_ms).cloned().collect();
        for entry in due {
            let (deadline, id) = (entry.0, entry.1.clone());
            let open = self.slots.get(&id).filter(|slot| slot.now.state == State::Ongoing);
            match open {
                Some(slot) if slot.now.deadline_ms() == deadline => {
                    // Looked at again with every tick, until the abort is written.
                    if slot.pending.is_none() && !slot.stuck {
                        self.fence(&id, None, now_ms, out);
                    }
                }
                _ => {
                    self.deadlines.remove(&entry);
                }
            }
        }
    }

    /// The decision is on disk: its markers go out.
    pub(super) fn send_markers(&mut self, id: &Arc<str>, now_ms: i64, out: &mut Vec<Output>) {
        let coordinator_epoch = self.epoch_of(id);
        let Some(slot) = self.slots.get_mut(id) else { return };
        self.completing.insert(id.clone());
        slot.unmarked.clone_from(&slot.now.partitions);
        slot.unappended.clone_from(&slot.now.partitions);
        if slot.unmarked.is_empty() {
            self.answer_local(id, out);
            self.complete_if_marked(id, now_ms, out);
            return;
        }
        out.push(Output::Mark(Mark {
            transactional_id: id.clone(),
            producer: slot.now.producer,
            coordinator_epoch,
            commit: slot.now.state == State::PrepareCommit,
            partitions: slot.now.partitions.iter().cloned().collect(),
        }));
    }

    pub(super) fn markers_appended(
        &mut self,
        id: &Arc<str>,
        producer: Producer,
        partitions: &[TopicPartition],
        out: &mut Vec<Output>,
    ) {
        let Some(slot) = self.slots.get_mut(id) else { return };
        if slot.now.producer != producer || !slot.now.state.is_prepared() {
            return;
        }
        for partition in partitions {
            slot.unappended.remove(partition);
        }
        self.answer_local(id, out);
    }

    pub(super) fn markers_done(
        &mut self,
        id: &Arc<str>,
        producer: Producer,
        partitions: &[TopicPartition],
        now_ms: i64,
        out: &mut Vec<Output>,
    ) {
        self.local_markers_done(id, producer, partitions, out);
        let Some(slot) = self.slots.get_mut(id) else { return };
        if slot.now.producer != producer || !slot.now.state.is_prepared() {
            return;
        }
        for partition in partitions {
            slot.unmarked.remove(partition);
        }
        self.complete_if_marked(id, now_ms, out);
    }

    /// What was decided stays decided, and the next start goes on with it; until then nothing follows it.
    pub(super) fn markers_failed(&mut self, id: &Arc<str>, producer: Producer, out: &mut Vec<Output>) {
        let Some(slot) = self.slots.get_mut(id) else { return };
        let own = slot.now.producer == producer && slot.now.state.is_prepared();
        let of_local =
            slot.local.as_ref().is_some_and(|local| local.is_aborting() && local.producer == producer);
        if !own && !of_local {
            return;
        }
        slot.stuck = true;
        if let Some(call) = slot.local.as_mut().and_then(Local::give_up) {
            answer(out, call, Err(ResponseError::CoordinatorNotAvailable));
        }
    }

    pub(super) fn complete_if_marked(&mut self, id: &Arc<str>, now_ms: i64, out: &mut Vec<Output>) {
        let Some(slot) = self.slots.get(id) else { return };
        if slot.stuck || slot.pending.is_some() || !slot.unmarked.is_empty() || !slot.now.state.is_prepared()
        {
            return;
        }
        let next = Transaction {
            state: slot.now.state.completed(),
            partitions: BTreeSet::new(),
            updated_ms: now_ms,
            ..slot.now.clone()
        };
        self.write(id, next, Then::Complete, out);
    }
}
