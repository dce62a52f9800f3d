//! What a partition remembers of its producers: the last batches of each, so that a repeat is answered and not appended
//! again, its epoch, the transactions still open and those that were aborted, and from these the last stable offset.
//!
//! Pure state: the partition asks [`Producers::check`] before an append and calls [`Producers::apply`] after it, under
//! its own lock. It must not know files, clocks, topics or the transaction coordinator.

mod aborted;
mod entry;
mod error;
mod snapshot;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

use flow_log::batch::{Header, Records};

pub(crate) use aborted::{Aborted, AbortedError};
pub(crate) use entry::{BATCHES_KEPT, ProducerView, Seen};
pub(crate) use error::ProducerError;
pub(crate) use snapshot::SnapshotError;

use entry::Entry;

/// Producers that one partition remembers. Above it the idlest without an open transaction are forgotten, as if they
/// had expired: their next batch is taken whatever its sequence is.
pub(crate) const PRODUCERS_MAX: usize = 100_000;

/// Transactions waiting for the coordinator's word. Above it the oldest questions are dropped: their batches are refused
/// with INVALID_TXN_STATE, which a producer answers by aborting.
pub(crate) const VERIFICATIONS_MAX: usize = 10_000;

/// A control batch holds one record of a few bytes; nothing larger is read.
const MARKER_BYTES_MAX: usize = 4096;

/// Who appends, which says how much is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A client over the wire: sequences, epochs and transactions are checked, control batches are refused.
    Client,
    /// The group or transaction coordinator: its batches carry no sequences; epochs and transactions are checked.
    Coordinator,
    /// This process, on the path that clients use: as a client.
    Local,
}

/// A question to the transaction coordinator, answered with yes: lets exactly one first batch of a transaction in. It
/// dies with the next marker of its producer, so that an answer that comes late cannot open a transaction nobody ends.
/// (KIP-890, part 1)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Guard(u64);

/// How a transaction ended, as its marker says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Marker {
    pub(crate) commit: bool,
    pub(crate) coordinator_epoch: i32,
}

impl Marker {
    /// Reads the marker out of a control batch; `None` when it is another kind of control batch, when a compaction has
    /// emptied it, or when it makes no sense.
    pub(crate) fn read(batch: &[u8]) -> Option<Marker> {
        let records = Records::read(batch, MARKER_BYTES_MAX).ok()?;
        let record = records.iter().next()?.ok()?;
        let commit = match record.key? {
            [0, _, 0, 0, ..] => false,
            [0, _, 0, 1, ..] => true,
            _ => return None,
        };
        let coordinator_epoch = match record.value? {
            [0, _, a, b, c, d, ..] => i32::from_be_bytes([*a, *b, *c, *d]),
            _ => return None,
        };
        Some(Marker { commit, coordinator_epoch })
    }
}

/// What becomes of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// To be appended; [`Producers::apply`] follows.
    Append,
    /// It is in the log already: the first answer is given again (after the same wait for the disk).
    Duplicate(Seen),
    Refuse(ProducerError),
}

/// Where and when a batch was appended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placed {
    pub(crate) base_offset: i64,
    /// The batch's greatest timestamp as it is in the log, in milliseconds since 1970.
    pub(crate) timestamp: i64,
    pub(crate) now_ms: i64,
}

#[derive(Clone, Debug)]
struct Verification {
    guard: Guard,
    epoch: i16,
    /// A greater one must not overtake it while its answer is awaited.
    lowest_sequence: i32,
    since_ms: i64,
}

/// An ended transaction whose marker the high watermark has not passed.
#[derive(Clone, Copy, Debug)]
struct Ended {
    last_offset: i64,
}

/// The producers of one partition.
#[derive(Clone, Debug, Default)]
pub(crate) struct Producers {
    entries: HashMap<i64, Entry>,
    verifications: HashMap<i64, Verification>,
    guards: u64,
    /// First offset of each open transaction -> its producer.
    ongoing: BTreeMap<i64, i64>,
    unreplicated: BTreeMap<i64, Ended>,
    /// In the order of their markers. Each stands for a batch and a marker in the log, so the log bounds it.
    aborted: Vec<Aborted>,
    /// Everything below is reflected here.
    end_offset: i64,
}

impl Producers {
    /// Nothing known, of a log that begins at `start_offset`.
    pub(crate) fn new(start_offset: i64) -> Producers {
        Producers { end_offset: start_offset, ..Producers::default() }
    }

    /// The offset after the last batch that is reflected here.
    pub(crate) fn end_offset(&self) -> i64 {
        self.end_offset
    }

    /// Whether the first batch of a transaction is about to come, so that the coordinator is to be asked. `None`:
    /// nothing to ask (not transactional, or the transaction is open here). The guard goes into [`Producers::check`]
    /// when the coordinator says that the partition was added to the transaction.
    pub(crate) fn start_verification(&mut self, header: &Header, now_ms: i64) -> Option<Guard> {
        let id = header.producer_id;
        if id < 0 || !header.is_transactional() || header.is_control() || self.is_ongoing(id) {
            return None;
        }
        if !self.verifications.contains_key(&id) && self.verifications.len() >= VERIFICATIONS_MAX {
            self.drop_oldest_verifications();
        }
        self.guards += 1;
        let fresh = Guard(self.guards);
        let known = self.verifications.entry(id).or_insert_with(|| Verification {
            guard: fresh,
            epoch: header.producer_epoch,
            lowest_sequence: header.base_sequence,
            since_ms: now_ms,
        });
        if header.producer_epoch > known.epoch {
            known.epoch = header.producer_epoch;
            known.lowest_sequence = header.base_sequence;
        } else if header.producer_epoch == known.epoch {
            known.lowest_sequence = known.lowest_sequence.min(header.base_sequence);
        }
        Some(known.guard)
    }

    /// What becomes of a batch that `origin` wants to append. `marker` is given for a control batch that ends a
    /// transaction; `guard` comes from [`Producers::start_verification`].
    pub(crate) fn check(
        &self,
        header: &Header,
        origin: Origin,
        marker: Option<Marker>,
        guard: Option<Guard>,
    ) -> Verdict {
        match self.judge(header, origin, marker, guard) {
            Ok(None) => Verdict::Append,
            Ok(Some(seen)) => Verdict::Duplicate(seen),
            Err(error) => Verdict::Refuse(error),
        }
    }

    fn judge(
        &self,
        header: &Header,
        origin: Origin,
        marker: Option<Marker>,
        guard: Option<Guard>,
    ) -> Result<Option<Seen>, ProducerError> {
        let from_client = origin != Origin::Coordinator;
        if header.is_control() && from_client {
            return Err(ProducerError::ControlBatch);
        }
        let id = header.producer_id;
        if id < 0 {
            return if header.is_transactional() { Err(ProducerError::NoProducerId) } else { Ok(None) };
        }
        if header.producer_epoch < 0 {
            return Err(ProducerError::NoProducerEpoch { producer_id: id });
        }
        if from_client && header.base_sequence < 0 {
            return Err(ProducerError::NoSequence { producer_id: id });
        }
        let entry = self.entries.get(&id);
        if from_client && let Some(seen) = entry.and_then(|entry| entry.find(header)) {
            return Ok(Some(seen));
        }
        let ongoing = entry.is_some_and(|entry| entry.transaction_start.is_some());
        let verification = self.verifications.get(&id);
        if header.is_transactional() && !header.is_control() && !ongoing {
            let answered = verification.is_some_and(|known| Some(known.guard) == guard);
            if !answered {
                return Err(ProducerError::NotVerified { producer_id: id });
            }
        }
        if let Some(entry) = entry
            && header.producer_epoch < entry.epoch
        {
            return Err(ProducerError::OldEpoch {
                producer_id: id,
                epoch: header.producer_epoch,
                last: entry.epoch,
            });
        }
        if let Some(marker) = marker {
            let last = entry.map_or(-1, |entry| entry.coordinator_epoch);
            if marker.coordinator_epoch < last {
                let epoch = marker.coordinator_epoch;
                return Err(ProducerError::OldCoordinator { producer_id: id, epoch, last });
            }
            return Ok(None);
        }
        if header.is_control() {
            return Ok(None);
        }
        if from_client {
            check_sequence(header, entry, verification)?;
        }
        if ongoing && !header.is_transactional() {
            return Err(ProducerError::NotTransactional { producer_id: id });
        }
        Ok(None)
    }

    /// Takes in a batch that is in the log now. Called for every batch, in the order of the log, after
    /// [`Producers::check`] allowed it, or when state is rebuilt (then unchecked: the log is what happened).
    pub(crate) fn apply(&mut self, header: &Header, placed: Placed, marker: Option<Marker>) {
        let delta = header.last_offset_delta.max(0);
        let last_offset = placed.base_offset.saturating_add(i64::from(delta));
        self.end_offset = self.end_offset.max(last_offset.saturating_add(1));
        let id = header.producer_id;
        if id < 0 {
            return;
        }
        if header.is_control() {
            if let Some(marker) = marker {
                self.apply_marker(header, placed, last_offset, marker);
            }
            return;
        }
        if !self.entries.contains_key(&id) && self.entries.len() >= PRODUCERS_MAX {
            self.forget_idlest();
        }
        let entry = self.entries.entry(id).or_insert_with(Entry::new);
        entry.push(header, last_offset, placed);
        if header.is_transactional() {
            if entry.transaction_start.is_none() {
                entry.transaction_start = Some(placed.base_offset);
                self.ongoing.insert(placed.base_offset, id);
            }
            self.verifications.remove(&id);
        }
    }

    fn apply_marker(&mut self, header: &Header, placed: Placed, last_offset: i64, marker: Marker) {
        let id = header.producer_id;
        self.verifications.remove(&id);
        let entry = self.entries.entry(id).or_insert_with(Entry::new);
        let start = entry.end_transaction(header.producer_epoch, marker.coordinator_epoch, placed);
        let Some(first_offset) = start else { return };
        self.ongoing.remove(&first_offset);
        self.unreplicated.insert(first_offset, Ended { last_offset });
        if !marker.commit {
            let last_stable_offset = self.ongoing.keys().next().copied().unwrap_or(last_offset + 1);
            self.aborted.push(Aborted { producer_id: id, first_offset, last_offset, last_stable_offset });
        }
    }

    /// [`Producers::apply`] of a batch read back from the log.
    pub(crate) fn replay(&mut self, header: &Header, marker: Option<Marker>, now_ms: i64) {
        let placed = Placed { base_offset: header.base_offset, timestamp: header.max_timestamp, now_ms };
        self.apply(header, placed, marker);
    }

    /// Whether `producer_id` has a transaction open here.
    pub(crate) fn is_ongoing(&self, producer_id: i64) -> bool {
        self.entries.get(&producer_id).is_some_and(|entry| entry.transaction_start.is_some())
    }

    /// The last stable offset for this high watermark: below it every transaction is decided, and its marker is as safe
    /// as its records. A log that begins at `log_start` has nothing to wait for below it.
    pub(crate) fn last_stable_offset(&mut self, high_watermark: i64, log_start: i64) -> i64 {
        self.unreplicated.retain(|_, ended| ended.last_offset >= high_watermark);
        let open = self.ongoing.keys().next().copied();
        let unsafe_yet = self.unreplicated.keys().next().copied();
        let first =
            open.into_iter().chain(unsafe_yet).min().map_or(high_watermark, |first| first.max(log_start));
        first.min(high_watermark)
    }

    /// The aborted transactions that a reader of `[from, to)` must skip, in the order of their markers.
    pub(crate) fn aborted(&self, from: i64, to: i64) -> Vec<Aborted> {
        let begin = self.aborted.partition_point(|aborted| aborted.last_offset < from);
        let mut found = Vec::new();
        for aborted in &self.aborted[begin..] {
            if aborted.first_offset < to {
                found.push(*aborted);
            }
            // At that marker nothing older was open: no later entry begins below `to`.
            if aborted.last_stable_offset >= to {
                break;
            }
        }
        found
    }

    /// Whether a compaction may drop the record at `offset` because its transaction was aborted.
    pub(crate) fn is_aborted(&self, producer_id: i64, offset: i64) -> bool {
        let begin = self.aborted.partition_point(|aborted| aborted.last_offset < offset);
        for aborted in &self.aborted[begin..] {
            if aborted.producer_id == producer_id {
                return aborted.first_offset <= offset;
            }
            // At that marker everything up to `offset` was decided.
            if aborted.last_stable_offset > offset {
                break;
            }
        }
        false
    }

    /// Everything below `start_offset` was deleted. Producers stay: they may still repeat their last batch.
    pub(crate) fn advance_start(&mut self, start_offset: i64) {
        let gone = self.aborted.partition_point(|aborted| aborted.last_offset < start_offset);
        self.aborted.drain(..gone);
        self.unreplicated.retain(|_, ended| ended.last_offset >= start_offset);
        self.end_offset = self.end_offset.max(start_offset);
    }

    /// Forgets producers that have been idle for `idle_ms`, and questions that were never answered. Gives how many
    /// producers went. One with an open transaction stays.
    pub(crate) fn expire(&mut self, now_ms: i64, idle_ms: i64) -> usize {
        let before = self.entries.len();
        self.entries.retain(|_, entry| {
            entry.transaction_start.is_some() || now_ms.saturating_sub(entry.seen_ms) < idle_ms
        });
        self.verifications.retain(|_, asked| now_ms.saturating_sub(asked.since_ms) < idle_ms);
        before - self.entries.len()
    }

    /// Every producer known, in no order (`DescribeProducers`).
    pub(crate) fn views(&self) -> impl Iterator<Item = ProducerView> + '_ {
        self.entries.iter().map(|(id, entry)| entry.view(*id))
    }

    fn forget_idlest(&mut self) {
        let mut seen: Vec<i64> = self
            .entries
            .values()
            .filter(|entry| entry.transaction_start.is_none())
            .map(|entry| entry.seen_ms)
            .collect();
        // A tenth at once, so that the search is paid once in many appends.
        let count = (PRODUCERS_MAX / 10).min(seen.len());
        if count == 0 {
            return;
        }
        let (_, bound, _) = seen.select_nth_unstable(count - 1);
        let bound = *bound;
        let mut left = count;
        self.entries.retain(|_, entry| {
            let goes = left > 0 && entry.transaction_start.is_none() && entry.seen_ms <= bound;
            left -= usize::from(goes);
            !goes
        });
    }

    fn drop_oldest_verifications(&mut self) {
        let mut guards: Vec<u64> = self.verifications.values().map(|asked| asked.guard.0).collect();
        let (_, bound, _) = guards.select_nth_unstable(VERIFICATIONS_MAX / 10);
        let bound = *bound;
        self.verifications.retain(|_, asked| asked.guard.0 > bound);
    }
}

fn check_sequence(
    header: &Header,
    entry: Option<&Entry>,
    verification: Option<&Verification>,
) -> Result<(), ProducerError> {
    let (producer_id, sequence) = (header.producer_id, header.base_sequence);
    if let Some(asked) = verification
        && asked.epoch == header.producer_epoch
        && sequence > asked.lowest_sequence
    {
        return Err(ProducerError::OutOfOrder { producer_id, sequence, last: asked.lowest_sequence });
    }
    // Nothing known, perhaps because everything it wrote was deleted: whatever comes is taken.
    let Some(entry) = entry else { return Ok(()) };
    if header.producer_epoch != entry.epoch {
        return match sequence {
            0 => Ok(()),
            _ => Err(ProducerError::NewEpoch { producer_id, epoch: header.producer_epoch, sequence }),
        };
    }
    let last = entry.last_sequence();
    let next = if last == i32::MAX { 0 } else { last + 1 };
    if sequence == next { Ok(()) } else { Err(ProducerError::OutOfOrder { producer_id, sequence, last }) }
}
