//! Record batches as events again (see `encode`). The bytes of a batch become the arena of its columns as they are;
//! nothing is copied for an event. What comes from the disk is not trusted: everything is bounds checked.

use std::sync::Arc;

use flow_log::Header;
use flow_log::batch::{Records, check_stored};
use flow_plan::Batch;
use flow_plan::batch::{ARENA_BYTES_MAX, Arena, Columns, Range, Slot};

use super::encode::{PLAIN, PLAIN_KEY_BYTES, SEALED, read_varint};
use super::seal::Seal;

/// A record batch that was read.
#[derive(Debug)]
pub struct Decoded {
    /// Offset of the first event.
    pub base: i64,
    pub sequence: u64,
    pub added_ms: i64,
    pub batch: Batch,
}

/// Why a record batch could not be read.
#[derive(Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// It is not what was written.
    Corrupt(String),
    /// It is in cipher, and there is no key.
    NoKey,
    /// The key is another one.
    WrongKey,
    /// It was written by a newer program.
    Newer,
}

impl DecodeError {
    fn corrupt(what: impl ToString) -> DecodeError {
        DecodeError::Corrupt(what.to_string())
    }
}

/// Reads one whole record batch.
pub fn decode(bytes: &[u8], slots: &[String], seal: Option<&Seal>) -> Result<Decoded, DecodeError> {
    let header = check_stored(bytes).map_err(DecodeError::corrupt)?;
    let records = Records::read(bytes, ARENA_BYTES_MAX).map_err(DecodeError::corrupt)?;
    let first = records.iter().next().ok_or_else(|| DecodeError::corrupt("a batch without records"))?;
    let first = first.map_err(DecodeError::corrupt)?;
    let key = first.key.unwrap_or_default();
    match key.first() {
        Some(&PLAIN) => plain(records, &header),
        Some(&SEALED) => {
            let seal = seal.ok_or(DecodeError::NoKey)?;
            let inner = seal.open(first.value.unwrap_or_default(), key).ok_or(DecodeError::WrongKey)?;
            let inner_header = check_stored(&inner).map_err(DecodeError::corrupt)?;
            if inner_header.records_count != header.records_count {
                return Err(DecodeError::corrupt("the number of events is not that of the batch"));
            }
            let records = Records::read(&inner, ARENA_BYTES_MAX).map_err(DecodeError::corrupt)?;
            plain(records, &header)
        }
        Some(_) => Err(DecodeError::Newer),
        None => Err(DecodeError::corrupt("a batch without a key")),
    }
    .map(|decoded| decoded.with_slots(slots))
}

/// A decoded batch whose headers have names, not slots yet.
struct Named {
    decoded: Decoded,
    columns: Columns,
    /// Name, row, value.
    headers: Vec<(Range, u32, Range)>,
}

fn plain(records: Records, outer: &Header) -> Result<Named, DecodeError> {
    let count = usize::try_from(records.header().records_count).unwrap_or(0);
    // At least seven bytes stand for a record, so a wrong count cannot ask for more than was read.
    let count = count.min(records.plain().len() / 7 + 1);
    let mut columns =
        Columns { bodies: Vec::with_capacity(count), times: Vec::with_capacity(count), ..Columns::default() };
    let mut headers = Vec::new();
    let start = records.plain().as_ptr() as usize;
    // Slices of the batch lie in its bytes, whose number fits.
    let range = |slice: &[u8]| Range::new(slice.as_ptr() as usize - start, slice.len());
    let mut next_id = 0u64;
    let (mut added_ms, mut sequence) = (0, 0);
    for record in records.iter() {
        let record = record.map_err(DecodeError::corrupt)?;
        let row = columns.bodies.len() as u32;
        let id = match record.key {
            Some(key) if row == 0 => {
                let (fixed, source) = key
                    .split_at_checked(PLAIN_KEY_BYTES)
                    .filter(|(fixed, _)| fixed[0] == PLAIN)
                    .ok_or_else(|| DecodeError::corrupt("a first key that is cut"))?;
                added_ms = number(&fixed[1..9]) as i64;
                sequence = number(&fixed[9..17]);
                columns.source = Arc::from(String::from_utf8_lossy(source).as_ref());
                columns.first_id = number(&fixed[17..25]);
                columns.first_id
            }
            None if row == 0 => return Err(DecodeError::corrupt("a batch without a key")),
            Some(key) => {
                let distance = read_varint(key).ok_or_else(|| DecodeError::corrupt("a key that is cut"))?;
                let id = next_id.wrapping_add(distance);
                if columns.ids.is_empty() {
                    columns.ids.extend((0..u64::from(row)).map(|row| columns.first_id.wrapping_add(row)));
                }
                id
            }
            None => next_id,
        };
        next_id = id.wrapping_add(1);
        if !columns.ids.is_empty() {
            columns.ids.push(id);
        }
        let body = record.value.ok_or_else(|| DecodeError::corrupt("an event without a body"))?;
        columns.bodies.push(range(body));
        columns.times.push(record.timestamp);
        for (name, value) in record.headers() {
            if let Some(value) = value {
                headers.push((range(name), row, range(value)));
            }
        }
    }
    if columns.bodies.len() as i64 != i64::from(outer.records_count) {
        return Err(DecodeError::corrupt("the number of events is not that of the batch"));
    }
    columns.arena = Arena::from_vec(records.into_plain())
        .map_err(|_| DecodeError::corrupt("a batch that is too large"))?;
    let decoded = Decoded { base: outer.base_offset, sequence, added_ms, batch: Batch::default() };
    Ok(Named { decoded, columns, headers })
}

/// Where the values of a header name go.
enum Target {
    Slot(Slot),
    Side(Arc<str>),
}

impl Named {
    fn with_slots(self, slots: &[String]) -> Decoded {
        let Named { mut decoded, mut columns, headers } = self;
        let rows = columns.bodies.len();
        // Few names; the headers of one event come in the order of the event before.
        let mut targets: Vec<(Range, Target)> = Vec::new();
        let mut hint = 0;
        for (name, row, value) in headers {
            let bytes = |range| columns.arena.get(range).unwrap_or_default();
            let text = bytes(name);
            let order = (hint..targets.len()).chain(0..hint.min(targets.len()));
            let found = order.into_iter().find(|&index| bytes(targets[index].0) == text);
            let index = found.unwrap_or_else(|| {
                let slot = slots.iter().position(|slot| slot.as_bytes() == text);
                let target = match slot {
                    Some(slot) => Target::Slot(Slot(slot as u32)),
                    None => Target::Side(Arc::from(String::from_utf8_lossy(text).as_ref())),
                };
                targets.push((name, target));
                targets.len() - 1
            });
            hint = index + 1;
            match &targets[index].1 {
                Target::Slot(slot) => columns.set_header(row, *slot, value),
                Target::Side(name) => {
                    if columns.side.is_empty() {
                        columns.side.resize_with(rows, Vec::new);
                    }
                    columns.side[row as usize].push((name.clone(), value));
                }
            }
        }
        decoded.batch = Batch::new(columns);
        decoded
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}
