//! One producer of one partition: its epoch, its last batches, and its open transaction.

use flow_log::batch::Header;

use super::Placed;

/// Batches remembered per producer: as many as a client may have in flight (`max.in.flight.requests.per.connection`).
pub(crate) const BATCHES_KEPT: usize = 5;

/// Where a batch that came again was appended the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) base_offset: i64,
    pub(crate) last_offset: i64,
    /// Its greatest timestamp, in milliseconds since 1970; the append time where the topic says so.
    pub(crate) timestamp: i64,
}

/// A producer as `DescribeProducers` shows it; -1 stands for what is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProducerView {
    pub(crate) producer_id: i64,
    pub(crate) epoch: i16,
    pub(crate) last_sequence: i32,
    pub(crate) last_timestamp: i64,
    pub(crate) coordinator_epoch: i32,
    pub(crate) transaction_start_offset: i64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) last_sequence: i32,
    pub(super) last_offset: i64,
    pub(super) offset_delta: i32,
    pub(super) timestamp: i64,
}

impl Batch {
    /// Sequences are counted in `0..=i32::MAX` and begin again at 0.
    fn first_sequence(&self) -> i32 {
        let first = i64::from(self.last_sequence) - i64::from(self.offset_delta);
        (if first < 0 { first + i64::from(i32::MAX) + 1 } else { first }) as i32
    }
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) epoch: i16,
    pub(super) coordinator_epoch: i32,
    pub(super) timestamp: i64,
    /// When something of it was last appended, or loaded: what expiry counts from. (A record's own time would let a
    /// producer of old events be forgotten while it works.)
    pub(super) seen_ms: i64,
    pub(super) transaction_start: Option<i64>,
    batches: [Batch; BATCHES_KEPT],
    count: usize,
}

impl Entry {
    pub(super) fn new() -> Entry {
        Entry {
            epoch: -1,
            coordinator_epoch: -1,
            timestamp: -1,
            seen_ms: 0,
            transaction_start: None,
            batches: Default::default(),
            count: 0,
        }
    }

    pub(super) fn batches(&self) -> &[Batch] {
        &self.batches[..self.count]
    }

    /// -1 when no batch of this epoch is known.
    pub(super) fn last_sequence(&self) -> i32 {
        self.batches().last().map_or(-1, |batch| batch.last_sequence)
    }

    /// The batch with exactly these sequences, if it is still known.
    pub(super) fn find(&self, header: &Header) -> Option<Seen> {
        if header.producer_epoch != self.epoch || header.is_control() {
            return None;
        }
        let same = |batch: &&Batch| {
            batch.last_sequence == header.last_sequence() && batch.first_sequence() == header.base_sequence
        };
        let batch = self.batches().iter().find(same)?;
        Some(Seen {
            base_offset: batch.last_offset - i64::from(batch.offset_delta),
            last_offset: batch.last_offset,
            timestamp: batch.timestamp,
        })
    }

    pub(super) fn push(&mut self, header: &Header, last_offset: i64, placed: Placed) {
        self.set_epoch(header.producer_epoch);
        let offset_delta = header.last_offset_delta.max(0);
        let timestamp = placed.timestamp;
        self.push_batch(Batch {
            last_sequence: header.last_sequence(),
            last_offset,
            offset_delta,
            timestamp,
        });
        self.timestamp = timestamp;
        self.seen_ms = placed.now_ms;
    }

    pub(super) fn push_batch(&mut self, batch: Batch) {
        if self.count == BATCHES_KEPT {
            self.batches.copy_within(1.., 0);
            self.count -= 1;
        }
        self.batches[self.count] = batch;
        self.count += 1;
    }

    /// Puts batches before the only one that is known. False when they are too many, or out of order, or none of a log.
    pub(super) fn put_earlier(&mut self, earlier: &[Batch]) -> bool {
        let [last] = *self.batches() else { return false };
        let sound = |batch: &Batch| (0..=batch.last_offset).contains(&i64::from(batch.offset_delta));
        let ordered = earlier.iter().chain([&last]).is_sorted_by(|a, b| a.last_offset < b.last_offset);
        if earlier.len() >= BATCHES_KEPT || !earlier.iter().all(sound) || !ordered {
            return false;
        }
        self.count = 0;
        earlier.iter().chain([&last]).for_each(|batch| self.push_batch(*batch));
        true
    }

    /// Takes in a marker; gives the first offset of the transaction it ends. The batches stay known: sequences go on
    /// over the end of a transaction.
    pub(super) fn end_transaction(
        &mut self,
        epoch: i16,
        coordinator_epoch: i32,
        placed: Placed,
    ) -> Option<i64> {
        self.set_epoch(epoch);
        self.coordinator_epoch = coordinator_epoch;
        self.timestamp = placed.timestamp;
        self.seen_ms = placed.now_ms;
        self.transaction_start.take()
    }

    fn set_epoch(&mut self, epoch: i16) {
        if self.epoch != epoch {
            self.epoch = epoch;
            self.count = 0;
        }
    }

    pub(super) fn view(&self, producer_id: i64) -> ProducerView {
        ProducerView {
            producer_id,
            epoch: self.epoch,
            last_sequence: self.last_sequence(),
            last_timestamp: self.timestamp,
            coordinator_epoch: self.coordinator_epoch,
            transaction_start_offset: self.transaction_start.unwrap_or(-1),
        }
    }
}
