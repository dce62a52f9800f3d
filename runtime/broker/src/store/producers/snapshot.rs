//! Producers in a file beside the segments, so that a restart reads the log only from there. The form is that of Kafka's
//! `.snapshot` files (version 1): only the last batch of each producer is in it, and no transaction that was decided but
//! not yet passed by the high watermark.

use super::entry::{BATCHES_KEPT, Batch, Entry};
use super::{PRODUCERS_MAX, Producers};

/// Why a snapshot cannot be used. The state is then rebuilt from an older one, or from the whole log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SnapshotError {
    #[error("the snapshot is cut: {found} bytes, expected {expected}")]
    Short { found: usize, expected: usize },
    #[error("snapshot version {0} is not 1")]
    Version(i16),
    #[error("the snapshot's checksum is {stored:08x}, its content gives {computed:08x}")]
    Checksum { stored: u32, computed: u32 },
    #[error("the entry of producer {0} makes no sense")]
    Entry(i64),
}

const VERSION: i16 = 1;

/// Version, CRC-32C of all that follows it, number of entries.
const HEAD_BYTES: usize = 2 + 4 + 4;

/// The checksum covers everything after itself.
const CHECKED_FROM: usize = 2 + 4;

/// Producer id, epoch, last sequence, last offset, offset delta, timestamp, coordinator epoch, transaction start.
const ENTRY_BYTES: usize = 8 + 2 + 4 + 8 + 4 + 8 + 4 + 8;

/// What the earlier batches begin with.
const EARLIER: [u8; 4] = *b"more";

/// Producer id and number of its earlier batches; last sequence, last offset, offset delta, timestamp of each.
const EARLIER_HEAD_BYTES: usize = 8 + 1;
const EARLIER_BATCH_BYTES: usize = 4 + 8 + 4 + 8;

impl Producers {
    /// The content of the `.snapshot` file named after [`Producers::end_offset`].
    pub(crate) fn encode_snapshot(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD_BYTES + self.entries.len() * ENTRY_BYTES);
        out.extend_from_slice(&VERSION.to_be_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&(self.entries.len() as i32).to_be_bytes());
        let mut ids: Vec<i64> = self.entries.keys().copied().collect();
        ids.sort_unstable();
        for id in &ids {
            encode_entry(*id, &self.entries[id], &mut out);
        }
        self.encode_earlier(&ids, &mut out);
        let crc = crc32c::crc32c(&out[CHECKED_FROM..]);
        out[2..6].copy_from_slice(&crc.to_be_bytes());
        out
    }

    /// Producers as a snapshot taken at `end_offset` has them. The aborted transactions come from the `.txnindex` files
    /// ([`Producers::load_aborted`]), what came after the snapshot from the log ([`Producers::replay`]).
    pub(crate) fn decode_snapshot(
        bytes: &[u8],
        end_offset: i64,
        now_ms: i64,
    ) -> Result<Producers, SnapshotError> {
        let Some((head, body)) = bytes.split_first_chunk::<HEAD_BYTES>() else {
            return Err(SnapshotError::Short { found: bytes.len(), expected: HEAD_BYTES });
        };
        let version = i16::from_be_bytes([head[0], head[1]]);
        if version != VERSION {
            return Err(SnapshotError::Version(version));
        }
        let stored = u32::from_be_bytes([head[2], head[3], head[4], head[5]]);
        let computed = crc32c::crc32c(&bytes[CHECKED_FROM..]);
        if stored != computed {
            return Err(SnapshotError::Checksum { stored, computed });
        }
        let count =
            usize::try_from(i32::from_be_bytes([head[6], head[7], head[8], head[9]])).unwrap_or(usize::MAX);
        let expected = count.saturating_mul(ENTRY_BYTES);
        let Some((body, earlier)) = body.split_at_checked(expected) else {
            return Err(SnapshotError::Short { found: body.len(), expected });
        };
        let mut producers = Producers::new(end_offset);
        producers.entries.reserve(count.min(PRODUCERS_MAX));
        for bytes in body.as_chunks::<ENTRY_BYTES>().0 {
            let (id, entry) = decode_entry(bytes, end_offset, now_ms)?;
            if let Some(start) = entry.transaction_start {
                producers.ongoing.insert(start, id);
            }
            producers.entries.insert(id, entry);
        }
        producers.decode_earlier(earlier)?;
        Ok(producers)
    }

    fn encode_earlier(&self, ids: &[i64], out: &mut Vec<u8>) {
        let start = out.len();
        for id in ids {
            let Some((_, earlier)) = self.entries[id].batches().split_last() else { continue };
            if earlier.is_empty() {
                continue;
            }
            if out.len() == start {
                out.extend_from_slice(&EARLIER);
            }
            out.extend_from_slice(&id.to_be_bytes());
            out.push(earlier.len() as u8);
            for batch in earlier {
                out.extend_from_slice(&batch.last_sequence.to_be_bytes());
                out.extend_from_slice(&batch.last_offset.to_be_bytes());
                out.extend_from_slice(&batch.offset_delta.to_be_bytes());
                out.extend_from_slice(&batch.timestamp.to_be_bytes());
            }
        }
    }

    /// What follows the entries is ours or nothing: a snapshot of Kafka's own ends there.
    fn decode_earlier(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let short = |expected: usize| SnapshotError::Short { found: bytes.len(), expected };
        let mut rest = bytes.strip_prefix(&EARLIER).ok_or_else(|| short(EARLIER.len()))?;
        while !rest.is_empty() {
            let (head, body) =
                rest.split_first_chunk::<EARLIER_HEAD_BYTES>().ok_or_else(|| short(EARLIER_HEAD_BYTES))?;
            let id = long_at(head, 0);
            let wanted = usize::from(head[8]) * EARLIER_BATCH_BYTES;
            let (batches, after) = body.split_at_checked(wanted).ok_or_else(|| short(wanted))?;
            rest = after;
            let entry = self.entries.get_mut(&id).ok_or(SnapshotError::Entry(id))?;
            let mut earlier = Vec::with_capacity(BATCHES_KEPT);
            for bytes in batches.as_chunks::<EARLIER_BATCH_BYTES>().0 {
                earlier.push(Batch {
                    last_sequence: int_at(bytes, 0),
                    last_offset: long_at(bytes, 4),
                    offset_delta: int_at(bytes, 12),
                    timestamp: long_at(bytes, 16),
                });
            }
            if !entry.put_earlier(&earlier) {
                return Err(SnapshotError::Entry(id));
            }
        }
        Ok(())
    }
}

fn long_at(bytes: &[u8], at: usize) -> i64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    i64::from_be_bytes(word)
}

fn int_at(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn encode_entry(id: i64, entry: &Entry, out: &mut Vec<u8>) {
    let last = entry.batches().last();
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(&entry.epoch.to_be_bytes());
    out.extend_from_slice(&last.map_or(-1, |batch| batch.last_sequence).to_be_bytes());
    out.extend_from_slice(&last.map_or(-1, |batch| batch.last_offset).to_be_bytes());
    out.extend_from_slice(&last.map_or(0, |batch| batch.offset_delta).to_be_bytes());
    out.extend_from_slice(&entry.timestamp.to_be_bytes());
    out.extend_from_slice(&entry.coordinator_epoch.to_be_bytes());
    out.extend_from_slice(&entry.transaction_start.unwrap_or(-1).to_be_bytes());
}

fn decode_entry(
    bytes: &[u8; ENTRY_BYTES],
    end_offset: i64,
    now_ms: i64,
) -> Result<(i64, Entry), SnapshotError> {
    let long = |at: usize| long_at(bytes, at);
    let int = |at: usize| int_at(bytes, at);
    let id = long(0);
    let (last_sequence, last_offset, offset_delta, timestamp) = (int(10), long(14), int(22), long(26));
    let mut entry = Entry::new();
    entry.epoch = i16::from_be_bytes([bytes[8], bytes[9]]);
    entry.timestamp = timestamp;
    entry.coordinator_epoch = int(34);
    entry.seen_ms = now_ms;
    let start = long(38);
    entry.transaction_start = (start >= 0).then_some(start);
    if last_offset >= 0 {
        entry.push_batch(Batch { last_sequence, last_offset, offset_delta, timestamp });
    }
    let sound = id >= 0
        && last_offset < end_offset
        && start < end_offset
        && (last_offset < 0 || (0..=last_offset).contains(&i64::from(offset_delta)));
    if sound { Ok((id, entry)) } else { Err(SnapshotError::Entry(id)) }
}
