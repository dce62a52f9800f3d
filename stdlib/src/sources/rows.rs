//! Building the columns of a batch: headers by slot or by name, the name of the source, event numbers.
//!
//! It knows batches and slots, nothing of files or peers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flow_agent::Context;
use flow_plan::batch::Columns;
use flow_plan::{Range, Slot};

/// Milliseconds since 1970 UTC.
pub fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map(|since| since.as_millis() as i64).unwrap_or(0)
}

/// Where a header goes: its column when the plan has a slot for it, else the side table.
#[derive(Clone, Debug)]
pub struct HeaderTarget {
    slot: Option<Slot>,
    name: Arc<str>,
}

impl HeaderTarget {
    pub fn new(name: &str, context: &Context) -> HeaderTarget {
        let slot = context.slots.iter().position(|slot| slot == name).map(|slot| Slot(slot as u32));
        HeaderTarget { slot, name: Arc::from(name) }
    }

    pub fn optional(name: &Option<String>, context: &Context) -> Option<HeaderTarget> {
        name.as_deref().map(|name| HeaderTarget::new(name, context))
    }

    /// Sets the header of one row to a piece of the arena.
    pub fn set(&self, columns: &mut Columns, row: u32, value: Range) {
        match self.slot {
            Some(slot) => columns.set_header(row, slot, value),
            None => {
                if columns.side.is_empty() {
                    columns.side.resize_with(columns.bodies.len(), Vec::new);
                }
                let side = &mut columns.side[row as usize];
                match side.iter_mut().find(|(name, _)| *name == self.name) {
                    Some((_, known)) => *known = value,
                    None => side.push((self.name.clone(), value)),
                }
            }
        }
    }

    /// Sets the header of all rows to the same piece of the arena.
    pub fn set_all(&self, columns: &mut Columns, value: Range) {
        match self.slot {
            Some(slot) => columns.column_mut(slot).fill(value),
            None => {
                for row in 0..columns.bodies.len() as u32 {
                    self.set(columns, row, value);
                }
            }
        }
    }
}

/// Gives new columns the name of their source and consecutive event numbers.
#[derive(Debug)]
pub struct Stamp {
    source: Arc<str>,
    next_id: AtomicU64,
}

impl Stamp {
    /// Numbers begin at the time of the start, shifted so far that a restart does not meet the old ones.
    pub fn new(context: &Context) -> Stamp {
        Stamp {
            source: Arc::from(context.name.as_str()),
            next_id: AtomicU64::new((now_ms().max(0) as u64) << 20),
        }
    }

    pub fn apply(&self, columns: &mut Columns) {
        columns.source = self.source.clone();
        columns.first_id = self.next_id.fetch_add(columns.bodies.len() as u64, Ordering::Relaxed);
    }
}
