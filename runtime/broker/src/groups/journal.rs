//! The coordinator's side of one partition of `__consumer_offsets`: entries to batches, and batches back to the
//! state of a shard. It must not know who waits for what.

use std::collections::BTreeMap;

use flow_log::LogError;
use flow_log::batch::{self, Builder, BuilderOptions, EndMarker, Header, Records, end_marker};
use kafka_protocol::error::ResponseError;

use super::GROUP_RECORD_BYTES_MAX;
use super::shard::{Entry, Producer, Shard};
use crate::store::producers::Guard;
use crate::store::{AppendError, Origin, Partition};

/// Bytes of records after which a new batch is begun.
const BATCH_BYTES: usize = 1 << 20;
/// Bytes read from the log at a time.
const READ_BYTES: usize = 4 << 20;
/// Decompressed bytes of one batch; a foreign log may have compressed ones.
const PLAIN_BYTES_MAX: usize = 8 * GROUP_RECORD_BYTES_MAX;

/// Appends entries in their order, as few batches as they allow. Gives the offset after them.
///
/// # Errors
///
/// Those of the partition. Some of the entries may then be in the log.
pub(super) fn append(
    partition: &Partition,
    entries: &[Entry],
    guards: &BTreeMap<Producer, Guard>,
    now_ms: i64,
) -> Result<i64, AppendError> {
    let mut next_offset = 0;
    let mut batch: Option<(Option<Producer>, Builder)> = None;
    let put = |batch: &mut Option<(Option<Producer>, Builder)>| -> Result<Option<i64>, AppendError> {
        let Some((producer, builder)) = batch.take() else { return Ok(None) };
        let bytes = builder.finish();
        let guard = match producer {
            Some(producer) if !partition.has_open_transaction(producer.id) => guards.get(&producer).copied(),
            _ => None,
        };
        partition
            .append_guarded(&bytes, Origin::Coordinator, guard)
            .map(|appended| Some(appended.next_offset))
    };
    for entry in entries {
        match entry {
            Entry::Record { record, producer } => {
                let fits = |(of, builder): &(Option<Producer>, Builder)| {
                    of == producer && builder.bytes() < BATCH_BYTES
                };
                if !batch.as_ref().is_some_and(fits) {
                    next_offset = put(&mut batch)?.unwrap_or(next_offset);
                }
                let (_, builder) = batch.get_or_insert_with(|| (*producer, Builder::new(options(*producer))));
                builder.push(now_ms, Some(&record.key), record.value.as_deref(), std::iter::empty());
            }
            Entry::Marker { producer, coordinator_epoch, commit } => {
                put(&mut batch)?;
                let marker = end_marker(producer.id, producer.epoch, *commit, *coordinator_epoch, now_ms);
                next_offset = partition.append(&marker, Origin::Coordinator)?.next_offset;
            }
        }
    }
    Ok(put(&mut batch)?.unwrap_or(next_offset))
}

fn options(producer: Option<Producer>) -> BuilderOptions {
    match producer {
        None => BuilderOptions::default(),
        Some(producer) => BuilderOptions {
            producer_id: producer.id,
            producer_epoch: producer.epoch,
            // As Kafka's coordinator does: its batches have no place in the producer's sequence.
            base_sequence: -1,
            transactional: true,
            ..BuilderOptions::default()
        },
    }
}

/// Whether the partition would take a batch of this producer's transaction; with what leave, if it has none open.
///
/// # Errors
///
/// INVALID_PRODUCER_EPOCH and what else the partition finds wrong with the producer.
pub(super) fn verify_producer(
    partition: &Partition,
    producer: Producer,
) -> Result<Option<Guard>, ResponseError> {
    let mut builder = Builder::new(options(Some(producer)));
    builder.push(0, Some(b"?"), None, std::iter::empty());
    let probe = builder.finish();
    let header = Header::parse(&probe).map_err(|_| ResponseError::UnknownServerError)?;
    let guard = partition.verification(&header);
    partition.check_producer(&header, guard).map_err(|error| error.code())?;
    Ok(guard)
}

/// Reads a partition from its start.
pub(super) struct Journal<'a> {
    partition: &'a Partition,
}

impl<'a> Journal<'a> {
    pub fn new(partition: &'a Partition) -> Journal<'a> {
        Journal { partition }
    }

    /// Gives all that is in the log to the shard. What is no record of Kafka's is told and passed over.
    pub fn replay(&self, shard: &mut Shard) -> Result<(), String> {
        let log = self.partition.log();
        let (mut from, end) = (log.start_offset(), log.end_offset());
        while from < end {
            let bytes = match log.read(from, READ_BYTES, end, true).and_then(|slice| slice.bytes()) {
                Ok(bytes) => bytes,
                Err(LogError::OutOfRange { .. }) => break,
                Err(error) => return Err(error.to_string()),
            };
            let before = from;
            for batch in batch::batches(&bytes) {
                let (header, bytes) = batch.map_err(|error| error.to_string())?;
                self.replay_batch(&header, bytes, shard)?;
                from = header.next_offset();
            }
            if from == before {
                break;
            }
        }
        Ok(())
    }

    fn replay_batch(&self, header: &Header, bytes: &[u8], shard: &mut Shard) -> Result<(), String> {
        let producer = Producer { id: header.producer_id, epoch: header.producer_epoch };
        if header.is_control() {
            if let Some(marker) = batch::control_type(bytes) {
                shard.replay_marker(producer, matches!(marker, EndMarker::Commit));
            }
            return Ok(());
        }
        let records = Records::read(bytes, PLAIN_BYTES_MAX).map_err(|error| error.to_string())?;
        let producer = header.is_transactional().then_some(producer);
        for record in records.iter() {
            let record = record.map_err(|error| error.to_string())?;
            let Some(key) = record.key else { continue };
            if let Err(error) = shard.replay(key, record.value, producer) {
                tracing::warn!(
                    partition = self.partition.index,
                    offset = record.offset,
                    "a record of `{}` cannot be read and is passed over: {error}",
                    self.partition.topic
                );
            }
        }
        Ok(())
    }
}
