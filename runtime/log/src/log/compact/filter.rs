//! Which batches and records stay. As Kafka's log cleaner decides it.

use std::collections::{HashMap, HashSet};

use super::super::Log;
use super::keys::{BATCH_BYTES_MAX, Keys};
use super::{CompactOptions, Compacted};
use crate::batch::{BatchError, Builder, BuilderOptions, Compression, Header, Record, Records};
use crate::error::LogError;

/// Producers whose last batches are known; with more of them every batch of a producer stays, records or not.
const PRODUCERS_MAX: usize = 200_000;
/// A producer that has been silent this long is forgotten, and its last batch need not stay for its sequence alone.
const PRODUCER_SILENCE_MS: i64 = 7 * 24 * 3600 * 1000;

/// The last offsets of the last batch with records and of the last batch at all, by producer id.
pub(super) type LastBatches = HashMap<i64, [i64; 2]>;

/// What becomes of a batch.
pub(super) enum Kept {
    AsItIs,
    Changed(Vec<u8>),
    Nothing,
}

/// Goes over the log from its beginning, since what becomes of a marker depends on what came before it.
pub(super) struct Filter<'a> {
    keys: &'a Keys,
    options: &'a CompactOptions<'a>,
    /// `None` if there are too many.
    last_batches: Option<LastBatches>,
    /// Producers of which batches of a transaction were seen whose marker comes later.
    open: HashSet<i64>,
}

impl Log {
    /// `None` if there are more producers than are remembered.
    pub(super) fn last_batches(&self) -> Result<Option<LastBatches>, LogError> {
        let mut last = LastBatches::new();
        for header in self.headers(self.start_offset()) {
            let header = header?;
            if !header.has_producer() {
                continue;
            }
            let entry = last.entry(header.producer_id).or_insert([-1; 2]);
            entry[1] = header.last_offset();
            if !header.is_control() {
                entry[0] = header.last_offset();
            }
            if last.len() > PRODUCERS_MAX {
                return Ok(None);
            }
        }
        Ok(Some(last))
    }
}

impl<'a> Filter<'a> {
    pub fn new(
        keys: &'a Keys,
        options: &'a CompactOptions<'a>,
        last_batches: Option<LastBatches>,
    ) -> Filter<'a> {
        Filter { keys, options, last_batches, open: HashSet::new() }
    }

    pub fn apply(&mut self, header: &Header, batch: &[u8], done: &mut Compacted) -> Result<Kept, BatchError> {
        done.records_before += header.records_count as u64;
        let kept = if header.base_offset >= self.keys.upto {
            // Its keys were not looked at: there was no room for all.
            self.note_open(header);
            Kept::AsItIs
        } else if header.is_control() {
            self.control(header, batch)?
        } else {
            self.data(header, batch)?
        };
        done.records_after += match &kept {
            Kept::AsItIs => header.records_count as u64,
            Kept::Changed(batch) => Header::parse(batch)?.records_count as u64,
            Kept::Nothing => 0,
        };
        Ok(kept)
    }

    /// True if a marker ends a transaction of which a batch is still there.
    fn note_open(&mut self, header: &Header) -> bool {
        if header.is_control() {
            return self.open.remove(&header.producer_id);
        }
        if header.is_transactional() {
            self.open.insert(header.producer_id);
        }
        false
    }

    /// A marker stays as long as a batch of its transaction, and then for the time that a reader may be behind.
    fn control(&mut self, header: &Header, batch: &[u8]) -> Result<Kept, BatchError> {
        if self.note_open(header) {
            return Ok(Kept::AsItIs);
        }
        match header.delete_horizon_ms() {
            // It was emptied before, for the sake of its producer.
            _ if header.records_count == 0 => Ok(self.emptied(header)),
            Some(horizon_ms) if horizon_ms < self.options.now_ms => Ok(self.emptied(header)),
            Some(_) => Ok(Kept::AsItIs),
            None => {
                let records = Records::read(batch, BATCH_BYTES_MAX)?;
                let all = records.iter().collect::<Result<Vec<_>, _>>()?;
                Ok(Kept::Changed(self.rebuilt(header, &all, true)))
            }
        }
    }

    fn data(&mut self, header: &Header, batch: &[u8]) -> Result<Kept, BatchError> {
        self.note_open(header);
        if header.records_count == 0
            || header.is_transactional() && (self.options.is_aborted)(header.producer_id, header.base_offset)
        {
            return Ok(self.emptied(header));
        }
        let horizon = header.delete_horizon_ms();
        let over = horizon.is_some_and(|horizon_ms| horizon_ms < self.options.now_ms);
        let records = Records::read(batch, BATCH_BYTES_MAX)?;
        let mut kept = Vec::with_capacity(header.records_count as usize);
        let mut tombstones = false;
        for record in records.iter() {
            let record = record?;
            let Some(key) = record.key else { continue };
            let tombstone = record.value.is_none();
            if self.keys.is_superseded(key, record.offset) || (tombstone && over) {
                continue;
            }
            tombstones |= tombstone;
            kept.push(record);
        }
        let begins = tombstones && horizon.is_none();
        if kept.is_empty() {
            return Ok(self.emptied(header));
        }
        if kept.len() == header.records_count as usize && !begins {
            return Ok(Kept::AsItIs);
        }
        Ok(Kept::Changed(self.rebuilt(header, &kept, begins)))
    }

    /// A batch without records: it stays if it is the last of its producer.
    fn emptied(&self, header: &Header) -> Kept {
        let known = match &self.last_batches {
            _ if !header.has_producer() => false,
            None => true,
            Some(last) => {
                last.get(&header.producer_id).is_some_and(|last| last.contains(&header.last_offset()))
            }
        };
        let silent = header.max_timestamp >= 0
            && self.options.now_ms.saturating_sub(header.max_timestamp) > PRODUCER_SILENCE_MS;
        if !known || silent {
            Kept::Nothing
        } else if header.records_count == 0 {
            Kept::AsItIs
        } else {
            Kept::Changed(self.rebuilt(header, &[], false))
        }
    }

    /// The batch with fewer records; `begins` starts the time after which its tombstones may go.
    fn rebuilt(&self, header: &Header, records: &[Record<'_>], begins: bool) -> Vec<u8> {
        let stamped = header.is_log_append_time() || records.is_empty();
        let mut builder = Builder::new(BuilderOptions {
            compression: header.compression().unwrap_or(Compression::None),
            level: None,
            producer_id: header.producer_id,
            producer_epoch: header.producer_epoch,
            base_sequence: header.base_sequence,
            transactional: header.is_transactional(),
            control: header.is_control(),
            log_append_time_ms: header.is_log_append_time().then_some(header.max_timestamp),
        });
        let begins = begins.then(|| self.options.now_ms.saturating_add(self.options.delete_retention_ms));
        if let Some(horizon_ms) = begins.or(header.delete_horizon_ms()) {
            builder.set_delete_horizon(horizon_ms);
        }
        for record in records {
            // Both were read from a batch whose last delta is 32-bit.
            let delta = (record.offset - header.base_offset) as i32;
            builder.push_at(delta, record.timestamp, record.key, record.value, record.headers());
        }
        if stamped {
            builder.set_max_timestamp(header.max_timestamp);
        }
        builder.finish_as(header.base_offset, header.last_offset_delta, header.leader_epoch)
    }
}
