//! Record batches as a batch of events: values and headers are ranges of the bytes that were read (of what they
//! decompress to), so a record costs no copy.

use std::sync::Arc;

use flow_agent::Fault;
use flow_log::Compression;
use flow_log::batch::{EndMarker, HEADER_BYTES, Record, Records, batches, control_type, records_in};
use flow_plan::batch::{ARENA_BYTES_MAX, Arena, Columns, Range, SideHeaders};
use flow_plan::{Batch, Slot};

use super::cluster::Fetched;

/// Bytes that one batch of records may decompress to.
const DECOMPRESSED_BYTES_MAX: usize = 256 << 20;

/// Names of headers that are remembered, so that a name that comes again costs nothing.
const NAMES_MAX: usize = 1_024;

/// Turns what was read from one topic into events.
pub struct Decoder {
    slots: Arc<Vec<String>>,
    source: Arc<str>,
    topic: String,
    /// Slots of `header.topic`, `header.partition`, `header.offset` and `header.key`, where the program mentions them.
    own: Own,
    names: Vec<(Arc<str>, Option<Slot>)>,
}

#[derive(Default)]
struct Own {
    topic: Option<Slot>,
    partition: Option<Slot>,
    offset: Option<Slot>,
    key: Option<Slot>,
}

/// Events of one partition.
pub struct Decoded {
    pub batch: Batch,
    /// Where to read on.
    pub next: i64,
}

impl Decoder {
    pub fn new(slots: Arc<Vec<String>>, source: &str, topic: &str) -> Decoder {
        let slot = |name: &str| slots.iter().position(|slot| slot == name).map(|slot| Slot(slot as u32));
        let own = Own {
            topic: slot("topic"),
            partition: slot("partition"),
            offset: slot("offset"),
            key: slot("key"),
        };
        Decoder { slots, source: Arc::from(source), topic: topic.to_owned(), own, names: Vec::new() }
    }

    /// The events from `from` on. Control batches and aborted transactions are left out, and passed.
    pub fn decode(&mut self, fetched: Fetched, partition: i32, from: i64) -> Result<Decoded, Fault> {
        let Fetched { bytes, aborted } = fetched;
        let whole = bytes.len();
        let mut pieces = Vec::new();
        let mut plains: Vec<Vec<u8>> = Vec::new();
        let mut next = from;
        let mut records = 0;
        let mut extra = 0;
        let mut open: Vec<i64> = Vec::new();
        let mut aborted = aborted.into_iter().peekable();
        for batch in batches(&bytes) {
            let Ok((header, batch)) = batch else { break };
            next = next.max(header.next_offset());
            while let Some((producer, _)) = aborted.next_if(|(_, first)| *first <= header.last_offset()) {
                open.push(producer);
            }
            if header.is_control() {
                if control_type(batch) == Some(EndMarker::Abort) {
                    open.retain(|producer| *producer != header.producer_id);
                }
                continue;
            }
            if header.is_transactional() && open.contains(&header.producer_id) || header.last_offset() < from
            {
                continue;
            }
            records += header.records_count.max(0) as usize;
            // Where the batch lies in what was read: `batch` is a piece of it.
            let start = batch.as_ptr() as usize - bytes.as_ptr() as usize;
            match header.compression() {
                Some(Compression::None) => {
                    pieces.push((header, start + HEADER_BYTES, batch.len() - HEADER_BYTES));
                }
                _ => {
                    let broken = |error| self.broken(partition, header.base_offset, error);
                    let plain = Records::read(batch, DECOMPRESSED_BYTES_MAX).map_err(broken)?.into_plain();
                    pieces.push((header, whole + extra, plain.len()));
                    extra += plain.len();
                    plains.push(plain);
                }
            }
        }
        if whole + extra > ARENA_BYTES_MAX {
            let what = format!("the batches at offset {from} are too large together");
            return Err(self.broken(partition, from, what));
        }
        let mut columns =
            Columns { source: self.source.clone(), first_id: from as u64, ..Columns::default() };
        let arena = arena_of(bytes, &plains, extra).map_err(|_| self.broken(partition, from, "too large"))?;
        columns.bodies.reserve(records);
        columns.times.reserve(records);
        columns.ids.reserve(records);
        let mut headers = Headers::new(self.slots.len());
        for (header, start, len) in &pieces {
            let plain = &arena.bytes()[*start..*start + *len];
            for record in records_in(header, plain) {
                let record = record.map_err(|error| self.broken(partition, header.base_offset, error))?;
                if record.offset < from {
                    continue;
                }
                let range = |slice: &[u8]| {
                    Range::new(start + (slice.as_ptr() as usize - plain.as_ptr() as usize), slice.len())
                };
                let row = columns.bodies.len();
                columns.bodies.push(record.value.map_or(Range::new(0, 0), range));
                columns.times.push(record.timestamp);
                columns.ids.push(record.offset as u64);
                self.headers_of(&record, row, &range, &mut headers);
            }
        }
        columns.arena = arena;
        let rows = columns.bodies.len();
        columns.headers = headers.columns;
        for column in columns.headers.iter_mut().filter(|column| !column.is_empty()) {
            column.resize(rows, Range::ABSENT);
        }
        if !headers.side.is_empty() {
            headers.side.resize_with(rows, Vec::new);
        }
        columns.side = headers.side;
        self.own_headers(&mut columns, partition).map_err(|_| self.broken(partition, from, "too large"))?;
        Ok(Decoded { batch: Batch::new(columns), next })
    }

    fn headers_of(
        &mut self,
        record: &Record<'_>,
        row: usize,
        range: &impl Fn(&[u8]) -> Range,
        out: &mut Headers,
    ) {
        if let (Some(slot), Some(key)) = (self.own.key, record.key) {
            out.set(slot, row, range(key));
        }
        for (name, value) in record.headers() {
            let Some(value) = value else { continue };
            match self.name(name) {
                // The record's key goes before a header of that name.
                Some((_, Some(slot))) if Some(slot) == self.own.key && record.key.is_some() => {}
                Some((_, Some(slot))) => out.set(slot, row, range(value)),
                Some((name, None)) => out.set_aside(name, row, range(value)),
                None => {}
            }
        }
    }

    /// A name and its slot; none for one that is no text.
    fn name(&mut self, name: &[u8]) -> Option<(Arc<str>, Option<Slot>)> {
        if let Some(index) = self.names.iter().position(|(known, _)| known.as_bytes() == name) {
            // What comes often is found first.
            self.names.swap(index, index / 2);
            return Some(self.names[index / 2].clone());
        }
        let name = std::str::from_utf8(name).ok()?;
        let slot = self.slots.iter().position(|slot| slot == name).map(|slot| Slot(slot as u32));
        let entry = (Arc::from(name), slot);
        if self.names.len() < NAMES_MAX {
            self.names.push(entry.clone());
        }
        Some(entry)
    }

    /// Topic, partition and offset, for programs that look at them.
    fn own_headers(&self, columns: &mut Columns, partition: i32) -> Result<(), flow_plan::batch::ArenaFull> {
        let rows = columns.bodies.len();
        for (slot, text) in
            [(self.own.topic, self.topic.clone()), (self.own.partition, partition.to_string())]
        {
            if let Some(slot) = slot {
                let range = columns.arena.push(text.as_bytes())?;
                let column = columns.column_mut(slot);
                column.clear();
                column.resize(rows, range);
            }
        }
        if let Some(slot) = self.own.offset {
            let mut text = Vec::new();
            for row in 0..rows {
                use std::io::Write as _;
                text.clear();
                let _ = write!(text, "{}", columns.ids[row]);
                let range = columns.arena.push(&text)?;
                columns.column_mut(slot)[row] = range;
            }
        }
        Ok(())
    }

    fn broken(&self, partition: i32, offset: i64, why: impl std::fmt::Display) -> Fault {
        Fault::new(format!("`{}` partition {partition} cannot be read at offset {offset}: {why}", self.topic))
    }
}

/// What was read, and behind it what was compressed in it.
fn arena_of(
    mut bytes: Vec<u8>,
    plains: &[Vec<u8>],
    extra: usize,
) -> Result<Arena, flow_plan::batch::ArenaFull> {
    if extra > 0 {
        bytes.reserve_exact(extra + flow_plan::batch::ARENA_PADDING);
        for plain in plains {
            bytes.extend_from_slice(plain);
        }
    }
    Arena::from_vec(bytes)
}

/// Header columns while they are filled, row by row.
struct Headers {
    columns: Vec<Vec<Range>>,
    side: Vec<SideHeaders>,
}

impl Headers {
    fn new(slots: usize) -> Headers {
        Headers { columns: vec![Vec::new(); slots], side: Vec::new() }
    }

    fn set(&mut self, slot: Slot, row: usize, value: Range) {
        let column = &mut self.columns[slot.0 as usize];
        column.resize(row, Range::ABSENT);
        column.push(value);
    }

    fn set_aside(&mut self, name: Arc<str>, row: usize, value: Range) {
        self.side.resize_with(row + 1, Vec::new);
        let side = &mut self.side[row];
        // The last one counts, as in a map.
        match side.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = value,
            None => side.push((name, value)),
        }
    }
}
