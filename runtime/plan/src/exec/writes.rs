//! Code over a batch: each row is evaluated against the batch as it was, its writes are kept in a list, and the
//! list is applied to the columns when all rows are through. So values borrow from the batch while it is read,
//! a failing row leaves no trace, and nothing is copied that is already in the arena.

use std::borrow::Cow;
use std::sync::Arc;

use super::rows::{column_for, columns_mut, reorder};
use super::{Failure, Fault};
use crate::batch::{ARENA_BYTES_MAX, Batch, Columns, Range, SideHeaders, Slot};
use crate::eval::node::{Block, Unit};
use crate::eval::run::{Env, Event, Scratch, Stop};
use crate::eval::{Changes, EmittedEvent};

/// Constants whose place in the arena is remembered during one step.
const CONSTANTS_MAX: usize = 16;

/// Rows of a batch after events were emitted.
const ROWS_MAX: usize = 1 << 24;

/// Runs a block over the rows alive. Rows it drops or fails leave `batch.rows`; gives how many were emitted.
/// The rows of `failures` are those of the columns afterwards.
pub(super) fn run_code(
    unit: &Unit,
    block: &Block,
    scratch: &mut Scratch,
    batch: &mut Batch,
    now_ms: i64,
    failures: &mut Vec<Failure>,
) -> usize {
    let mut kept = Vec::with_capacity(batch.rows.len());
    let mut writes = {
        let columns = &*batch.columns;
        let mut writes = Writes::new(columns);
        let mut env = Env::new(unit, None, Some(now_ms), scratch);
        for &row in &batch.rows {
            env.event = Event::new(columns, row);
            env.frame(block.locals);
            let result = env.block(&block.body);
            let outcome = match result {
                Ok(_) | Err(Stop::Pass) => writes.commit(row, &mut env.changes, true).map(|()| true),
                Err(Stop::Drop) => writes.commit(row, &mut env.changes, false).map(|()| false),
                Err(Stop::Fault(fault)) => Err(fault),
            };
            env.changes.clear();
            match outcome {
                Ok(true) => kept.push(row),
                Ok(false) => {}
                Err(fault) => failures.push(Failure { row, fault: *fault }),
            }
        }
        writes
    };
    batch.rows = kept;
    if writes.is_empty() {
        return 0;
    }
    let columns = columns_mut(&mut batch.columns);
    // The room was counted while the list was made.
    if columns.arena.push(&writes.bytes).is_err() {
        let message = "the batch is full".to_string();
        failures.extend(batch.rows.drain(..).map(|row| {
            let fault = Fault { message: message.clone(), origin: None };
            Failure { row, fault }
        }));
        return 0;
    }
    // Emitted events begin as their parent was before the step.
    let children: Vec<(u32, u32)> =
        writes.emitted.drain(..).map(|event| (event.parent, push_child(columns, event))).collect();
    writes.apply(columns);
    if !children.is_empty() {
        insert_children(columns, &mut batch.rows, failures, &children);
    }
    children.len()
}

struct Emitted {
    parent: u32,
    body: Option<Range>,
    time: Option<i64>,
    headers: Vec<(Slot, Range)>,
    side: Option<SideHeaders>,
}

/// What a step writes.
pub(crate) struct Writes {
    /// Where the arena of the batch is, to find out which texts are pieces of it.
    arena: std::ops::Range<usize>,
    /// To be appended to the arena.
    bytes: Vec<u8>,
    /// (address, length) of constants, and where they went.
    constants: Vec<(usize, usize, Range)>,
    headers: Vec<(u32, Slot, Range)>,
    bodies: Vec<(u32, Range)>,
    times: Vec<(u32, i64)>,
    side: Vec<(u32, SideHeaders)>,
    emitted: Vec<Emitted>,
    rows: usize,
}

impl Writes {
    pub fn new(columns: &Columns) -> Writes {
        let start = columns.arena.bytes().as_ptr().addr();
        Writes {
            arena: start..start + columns.arena.len(),
            bytes: Vec::new(),
            constants: Vec::new(),
            headers: Vec::new(),
            bodies: Vec::new(),
            times: Vec::new(),
            side: Vec::new(),
            emitted: Vec::new(),
            rows: columns.bodies.len(),
        }
    }

    fn is_empty(&self) -> bool {
        self.headers.is_empty()
            && self.bodies.is_empty()
            && self.times.is_empty()
            && self.side.is_empty()
            && self.emitted.is_empty()
    }

    /// Takes the changes of a row, all or none. A row that is not kept leaves only what it emitted.
    pub fn commit(&mut self, row: u32, changes: &mut Changes<'_>, keep: bool) -> Result<(), Box<Fault>> {
        let marks = (
            self.bytes.len(),
            self.constants.len(),
            self.headers.len(),
            self.bodies.len(),
            self.times.len(),
            self.side.len(),
            self.emitted.len(),
        );
        let result = self.commit_parts(row, changes, keep);
        if result.is_err() {
            self.bytes.truncate(marks.0);
            self.constants.truncate(marks.1);
            self.headers.truncate(marks.2);
            self.bodies.truncate(marks.3);
            self.times.truncate(marks.4);
            self.side.truncate(marks.5);
            self.emitted.truncate(marks.6);
        }
        result
    }

    fn commit_parts(&mut self, row: u32, changes: &mut Changes<'_>, keep: bool) -> Result<(), Box<Fault>> {
        if keep {
            let event = &mut changes.event;
            for (slot, value) in event.headers.drain(..) {
                let range = self.store_optional(value)?;
                self.headers.push((row, slot, range));
            }
            if let Some(body) = event.body.take() {
                let range = self.store(body)?;
                self.bodies.push((row, range));
            }
            if let Some(time) = event.time {
                self.times.push((row, time));
            }
            if let Some(side) = event.side.take() {
                let side = self.store_side(side)?;
                self.side.push((row, side));
            }
        }
        for event in changes.emitted.drain(..) {
            self.emit(row, event)?;
        }
        Ok(())
    }

    fn emit(&mut self, parent: u32, event: EmittedEvent<'_>) -> Result<(), Box<Fault>> {
        if self.rows + self.emitted.len() >= ROWS_MAX {
            return Err(full());
        }
        let mut headers = Vec::with_capacity(event.headers.len());
        for (slot, value) in event.headers {
            headers.push((slot, self.store_optional(value)?));
        }
        let body = event.body.map(|body| self.store(body)).transpose()?;
        let side = event.side.map(|side| self.store_side(side)).transpose()?;
        self.emitted.push(Emitted { parent, body, time: event.time, headers, side });
        Ok(())
    }

    fn store_side(
        &mut self,
        side: Vec<(std::sync::Arc<str>, Cow<'_, [u8]>)>,
    ) -> Result<SideHeaders, Box<Fault>> {
        side.into_iter().map(|(name, value)| Ok((name, self.store(value)?))).collect()
    }

    fn store_optional(&mut self, value: Option<Cow<'_, [u8]>>) -> Result<Range, Box<Fault>> {
        value.map_or(Ok(Range::ABSENT), |value| self.store(value))
    }

    /// Where a text is or will be in the arena.
    fn store(&mut self, text: Cow<'_, [u8]>) -> Result<Range, Box<Fault>> {
        let Cow::Borrowed(borrowed) = text else { return self.append(&text) };
        let (address, len) = (borrowed.as_ptr().addr(), borrowed.len());
        if len == 0 {
            return Ok(Range { start: 0, len: 0 });
        }
        if self.arena.contains(&address) && address + len <= self.arena.end {
            return Ok(Range::new(address - self.arena.start, len));
        }
        // Borrowed from elsewhere: a constant of the code, which many rows have in common.
        let known = self.constants.iter().find(|known| known.0 == address && known.1 == len);
        if let Some((_, _, range)) = known {
            return Ok(*range);
        }
        let range = self.append(borrowed)?;
        if self.constants.len() < CONSTANTS_MAX {
            self.constants.push((address, len, range));
        }
        Ok(range)
    }

    fn append(&mut self, text: &[u8]) -> Result<Range, Box<Fault>> {
        let start = self.arena.len() + self.bytes.len();
        if text.len() > ARENA_BYTES_MAX - start.min(ARENA_BYTES_MAX) {
            return Err(full());
        }
        self.bytes.extend_from_slice(text);
        Ok(Range::new(start, text.len()))
    }

    /// Writes everything into the columns they were made for; nothing when there is no room. For code that emits
    /// nothing.
    pub fn write(mut self, columns: &mut Arc<Columns>) -> Result<(), Box<Fault>> {
        if !self.is_empty() {
            let columns = columns_mut(columns);
            columns.arena.push(&self.bytes).map_err(|_| full())?;
            self.apply(columns);
        }
        Ok(())
    }

    fn apply(&mut self, columns: &mut Columns) {
        for &(row, slot, range) in &self.headers {
            if let Some(column) = column_for(columns, slot, range) {
                column[row as usize] = range;
            }
        }
        for &(row, range) in &self.bodies {
            columns.bodies[row as usize] = range;
        }
        for &(row, time) in &self.times {
            columns.times[row as usize] = time;
        }
        if !self.side.is_empty() && columns.side.is_empty() {
            columns.side.resize_with(columns.bodies.len(), Vec::new);
        }
        for (row, side) in self.side.drain(..) {
            columns.side[row as usize] = side;
        }
    }
}

/// Puts every emitted row behind its parent. Rows that are neither alive nor failed are left out.
fn insert_children(
    columns: &mut Columns,
    rows: &mut Vec<u32>,
    failures: &mut [Failure],
    children: &[(u32, u32)],
) {
    let mut order: Vec<(u32, bool)> = Vec::with_capacity(rows.len() + failures.len() + children.len());
    {
        let mut alive = rows.iter().copied().peekable();
        let mut failed = failures.iter().map(|failure| failure.row).peekable();
        let mut children = children.iter().peekable();
        loop {
            let next = [alive.peek().copied(), failed.peek().copied(), children.peek().map(|child| child.0)];
            let Some(row) = next.into_iter().flatten().min() else { break };
            if alive.next_if_eq(&row).is_some() {
                order.push((row, true));
            }
            if failed.next_if_eq(&row).is_some() {
                order.push((row, false));
            }
            while let Some((_, child)) = children.next_if(|child| child.0 == row) {
                order.push((*child, true));
            }
        }
    }
    let sources: Vec<u32> = order.iter().map(|(row, _)| *row).collect();
    reorder(columns, &sources);
    rows.clear();
    let mut failures = failures.iter_mut();
    for (at, (_, alive)) in order.into_iter().enumerate() {
        if alive {
            rows.push(at as u32);
        } else if let Some(failure) = failures.next() {
            failure.row = at as u32;
        }
    }
}

/// Appends a row that is like its parent but for what it brings.
fn push_child(columns: &mut Columns, event: Emitted) -> u32 {
    let parent = event.parent as usize;
    let id = columns.event_id(event.parent);
    if columns.ids.is_empty() {
        let rows = columns.bodies.len() as u32;
        columns.ids = (0..rows).map(|row| columns.first_id.wrapping_add(u64::from(row))).collect();
    }
    let body = event.body.unwrap_or(columns.bodies[parent]);
    columns.push_range(body, event.time.unwrap_or(columns.times[parent]));
    let row = columns.bodies.len() - 1;
    columns.ids[row] = id;
    for column in columns.headers.iter_mut().filter(|column| !column.is_empty()) {
        column[row] = column[parent];
    }
    for (slot, range) in event.headers {
        if let Some(column) = column_for(columns, slot, range) {
            column[row] = range;
        }
    }
    match event.side {
        Some(side) => {
            if columns.side.is_empty() {
                columns.side.resize_with(columns.bodies.len(), Vec::new);
            }
            columns.side[row] = side;
        }
        None if !columns.side.is_empty() => columns.side[row] = columns.side[parent].clone(),
        None => {}
    }
    row as u32
}

#[cold]
pub(super) fn full() -> Box<Fault> {
    Box::new(Fault { message: "the batch has no room for more".to_string(), origin: None })
}
