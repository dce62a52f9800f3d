//! What one evaluation changes of its event, kept beside the batch until the row has come through its step:
//! values may borrow from the batch meanwhile, and a row that fails leaves no trace.

use std::borrow::Cow;
use std::sync::Arc;

use crate::batch::{Columns, Slot};
use crate::value::Value;

type Text<'e> = Cow<'e, [u8]>;

/// Headers without a slot, whole.
pub(crate) type Side<'e> = Vec<(Arc<str>, Text<'e>)>;

/// Changes of one event. `None` inside: as it was (`body`, `time`, `side`), removed (`headers`).
#[derive(Clone, Default)]
pub(crate) struct EmittedEvent<'e> {
    pub body: Option<Text<'e>>,
    pub time: Option<i64>,
    pub headers: Vec<(Slot, Option<Text<'e>>)>,
    pub side: Option<Side<'e>>,
}

/// Changes of the current event and the events it emitted.
#[derive(Default)]
pub(crate) struct Changes<'e> {
    pub event: EmittedEvent<'e>,
    pub emitted: Vec<EmittedEvent<'e>>,
}

impl Changes<'_> {
    pub fn clear(&mut self) {
        self.event.body = None;
        self.event.time = None;
        self.event.headers.clear();
        self.event.side = None;
        self.emitted.clear();
    }
}

impl<'e> EmittedEvent<'e> {
    pub fn set_header(&mut self, slot: Slot, value: Option<Text<'e>>) {
        match self.headers.iter_mut().find(|(known, _)| *known == slot) {
            Some((_, known)) => *known = value,
            None => self.headers.push((slot, value)),
        }
    }

    /// `Some`: set or removed by this evaluation.
    pub fn header(&self, slot: Slot) -> Option<&Option<Text<'e>>> {
        self.headers.iter().find(|(known, _)| *known == slot).map(|(_, value)| value)
    }

    pub fn side_mut(&mut self, columns: &'e Columns, row: usize) -> &mut Side<'e> {
        self.side.get_or_insert_with(|| side_of(columns, row))
    }

    pub fn set_side(&mut self, columns: &'e Columns, row: usize, name: &str, value: Option<Text<'e>>) {
        let side = self.side_mut(columns, row);
        let known = side.iter().position(|(known, _)| known.as_ref() == name);
        match (known, value) {
            (Some(at), Some(value)) => side[at].1 = value,
            (Some(at), None) => {
                side.remove(at);
            }
            (None, Some(value)) => side.push((Arc::from(name), value)),
            (None, None) => {}
        }
    }
}

fn side_of(columns: &Columns, row: usize) -> Side<'_> {
    let side = columns.side.get(row).map(Vec::as_slice).unwrap_or(&[]);
    side.iter()
        .filter_map(|(name, range)| Some((name.clone(), Cow::Borrowed(columns.arena.get(*range)?))))
        .collect()
}

/// One row of a batch.
#[derive(Clone, Copy)]
pub(crate) struct Event<'e> {
    pub columns: &'e Columns,
    pub row: usize,
}

impl<'e> Event<'e> {
    /// `None` when the batch has no such row.
    pub fn new(columns: &'e Columns, row: u32) -> Option<Event<'e>> {
        let row = row as usize;
        let there = row < columns.bodies.len() && row < columns.times.len();
        there.then_some(Event { columns, row })
    }

    pub fn body(&self) -> &'e [u8] {
        self.columns.arena.get(self.columns.bodies[self.row]).unwrap_or(&[])
    }

    pub fn time(&self) -> i64 {
        self.columns.times[self.row]
    }

    pub fn header(&self, slot: Slot) -> Option<&'e [u8]> {
        let column = self.columns.headers.get(slot.0 as usize)?;
        self.columns.arena.get(*column.get(self.row)?)
    }

    /// All headers as a map, slots first, with the changes applied.
    pub fn headers(&self, changes: &EmittedEvent<'e>, slots: &'e [String]) -> Value<'e> {
        let mut entries = Vec::new();
        for (slot, name) in slots.iter().enumerate() {
            let slot = Slot(slot as u32);
            let value = match changes.header(slot) {
                Some(changed) => changed.clone(),
                None => self.header(slot).map(Cow::Borrowed),
            };
            if let Some(value) = value {
                entries.push((Cow::Borrowed(name.as_str()), Value::Text(value)));
            }
        }
        let untouched;
        let side = match &changes.side {
            Some(side) => side,
            None => {
                untouched = side_of(self.columns, self.row);
                &untouched
            }
        };
        for (name, value) in side {
            entries.push((Cow::Owned(name.to_string()), Value::Text(value.clone())));
        }
        Value::Map(entries)
    }
}
