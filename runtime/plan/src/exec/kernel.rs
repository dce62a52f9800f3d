//! Shapes of code that have a loop of their own over the columns: filters, plain extractions, constant headers.
//! Each gives the same answer as running its block row by row (a test holds both together).

use crate::batch::{Batch, Range, Slot};
use crate::eval::node::{Block, Extract, Node, Statement, Unit};
use crate::eval::pattern::{Pattern, Search};
use crate::eval::run::{Env, Event, Scratch, Stop};
use crate::eval::value_to_text;
use crate::ir::OnMiss;

use super::memo::Memo;
use super::rows::{column_for, columns_mut};
use super::{Failure, writes};

pub(super) enum Kernel {
    /// `if condition { drop }`; `drop_when` is the answer that drops.
    Filter(Box<Filter>),
    /// Groups of a regex over the body or a header, without conversion.
    Extract(Box<Extract>),
    /// Headers set to constants; absent removes.
    Constants(Vec<(Slot, Option<Vec<u8>>)>),
    /// The time of each event becomes that of the batch.
    TimeNow,
}

pub(super) struct Filter {
    condition: Node,
    locals: usize,
    drop_when: bool,
    /// For a condition that is a regex over the body.
    search: Option<Box<Search>>,
    /// For a condition that one header decides.
    memo: Option<Memo<bool>>,
}

impl Kernel {
    /// The block again when it has none of the shapes. `decides`: the header whose text alone decides on the
    /// condition of a filter.
    pub fn new(mut block: Block, decides: Option<Slot>) -> Result<Kernel, Block> {
        let locals = block.locals;
        let constant = |statement: &Statement| match statement {
            Statement::SetHeader(_, value) => matches!(value, Node::Const(_)),
            Statement::RemoveHeader(_) => true,
            _ => false,
        };
        if !block.body.is_empty() && block.body.iter().all(constant) {
            let headers = block.body.iter().filter_map(constant_header).collect();
            return Ok(Kernel::Constants(headers));
        }
        if block.body.len() != 1 {
            return Err(block);
        }
        let fits = match &block.body[0] {
            Statement::SetTime(value) => matches!(value, Node::Now),
            Statement::Cond(cases, otherwise) => match (cases.as_slice(), otherwise.as_slice()) {
                ([(_, then)], []) => matches!(then.as_slice(), [Statement::Drop]),
                ([(_, then)], [Statement::Drop]) => then.is_empty(),
                _ => false,
            },
            Statement::Extract(extract) => {
                let slots = extract.groups.iter().map(|group| group.slot);
                let twice =
                    slots.clone().enumerate().any(|(at, slot)| slots.clone().take(at).any(|s| s == slot));
                let plain = extract.groups.iter().all(|group| group.convert.is_none());
                plain && !twice && matches!(extract.subject, Node::Body | Node::Header(_))
            }
            _ => false,
        };
        if !fits {
            return Err(block);
        }
        match block.body.pop() {
            Some(Statement::SetTime(_)) => Ok(Kernel::TimeNow),
            Some(Statement::Extract(extract)) => Ok(Kernel::Extract(extract)),
            Some(Statement::Cond(mut cases, otherwise)) => match cases.pop() {
                Some((condition, _)) => Ok(Kernel::Filter(Box::new(Filter {
                    search: body_regex(&condition).map(|(pattern, _)| pattern.search(0)),
                    condition,
                    locals,
                    drop_when: otherwise.is_empty(),
                    memo: decides.map(Memo::new),
                }))),
                None => Err(Block { locals, body: otherwise }),
            },
            other => {
                block.body.extend(other);
                Err(block)
            }
        }
    }

    pub fn run(
        &mut self,
        unit: &Unit,
        scratch: &mut Scratch,
        batch: &mut Batch,
        now_ms: i64,
        failures: &mut Vec<Failure>,
    ) {
        match self {
            Kernel::Filter(filter) => filter.run(unit, scratch, batch, now_ms, failures),
            Kernel::Extract(extract) => extract_groups(extract, scratch, batch, failures),
            Kernel::Constants(headers) => set_constants(headers, batch, failures),
            Kernel::TimeNow => {
                let columns = columns_mut(&mut batch.columns);
                for &row in &batch.rows {
                    columns.times[row as usize] = now_ms;
                }
            }
        }
    }
}

fn constant_header(statement: &Statement) -> Option<(Slot, Option<Vec<u8>>)> {
    match statement {
        Statement::SetHeader(slot, Node::Const(crate::value::Value::Null)) => Some((*slot, None)),
        Statement::SetHeader(slot, Node::Const(value)) => {
            let mut text = Vec::new();
            value_to_text(value, &mut text);
            Some((*slot, Some(text)))
        }
        Statement::RemoveHeader(slot) => Some((*slot, None)),
        _ => None,
    }
}

impl Filter {
    fn run(
        &mut self,
        unit: &Unit,
        scratch: &mut Scratch,
        batch: &mut Batch,
        now_ms: i64,
        failures: &mut Vec<Failure>,
    ) {
        let columns = &*batch.columns;
        if let Some((pattern, negated)) = body_regex(&self.condition)
            && let Some(search) = &mut self.search
        {
            let drop_when = self.drop_when != negated;
            batch.rows.retain(|&row| {
                let body = columns.arena.get(columns.bodies[row as usize]).unwrap_or(&[]);
                pattern.is_match_with(search, body) != drop_when
            });
            return;
        }
        if let Some(memo) = &mut self.memo {
            memo.clear();
        }
        let mut env = Env::new(unit, None, Some(now_ms), scratch);
        batch.rows.retain(|&row| {
            let key = self.memo.as_ref().and_then(|memo| memo.key(columns, row));
            if let (Some(memo), Some(key)) = (&self.memo, key)
                && let Some(answer) = memo.get(key)
            {
                return answer != self.drop_when;
            }
            env.event = Event::new(columns, row);
            env.frame(self.locals);
            match env.condition(&self.condition) {
                Ok(answer) => {
                    if let (Some(memo), Some(key)) = (&mut self.memo, key) {
                        memo.put(key, answer);
                    }
                    answer != self.drop_when
                }
                Err(Stop::Pass) => true,
                Err(Stop::Drop) => false,
                Err(Stop::Fault(fault)) => {
                    failures.push(Failure { row, fault: *fault });
                    false
                }
            }
        });
    }
}

/// `body ~ /…/`, possibly under `not`.
fn body_regex(condition: &Node) -> Option<(&Pattern, bool)> {
    match condition {
        Node::Not(inner) => body_regex(inner).map(|(regex, negated)| (regex, !negated)),
        Node::Matches(value, regex) if matches!(**value, Node::Body) => Some((regex, false)),
        _ => None,
    }
}

fn extract_groups(extract: &Extract, scratch: &mut Scratch, batch: &mut Batch, failures: &mut Vec<Failure>) {
    let mut search = scratch.search(extract);
    let columns = columns_mut(&mut batch.columns);
    // Taken out while the arena is read, and put back below; a column that is searched is read meanwhile.
    let searched = if let Node::Header(slot) = extract.subject { Some(slot) } else { None };
    let mut written: Vec<Vec<Range>> = Vec::with_capacity(extract.groups.len());
    for group in &extract.groups {
        let column = columns.column_mut(group.slot);
        written.push(if searched == Some(group.slot) { column.clone() } else { std::mem::take(column) });
    }
    batch.rows.retain(|&row| {
        let at = row as usize;
        let subject = match extract.subject {
            Node::Header(slot) => {
                columns.headers.get(slot.0 as usize).and_then(|column| column.get(at)).copied()
            }
            _ => Some(columns.bodies[at]),
        };
        let subject = subject.unwrap_or(Range::ABSENT);
        let text = columns.arena.get(subject);
        let found = text.is_some_and(|text| extract.pattern.find(&mut search, text));
        if !found {
            return match extract.on_miss {
                OnMiss::Pass => true,
                OnMiss::Drop => false,
                OnMiss::Fail => {
                    if let Stop::Fault(fault) = extract.miss_fault() {
                        failures.push(Failure { row, fault: *fault });
                    }
                    false
                }
            };
        }
        for (group, column) in extract.groups.iter().zip(&mut written) {
            if let Some((start, end)) = search.group(group.number) {
                column[at] = Range { start: subject.start + start as u32, len: (end - start) as u32 };
            }
        }
        true
    });
    for (group, column) in extract.groups.iter().zip(written) {
        *columns.column_mut(group.slot) = column;
    }
    scratch.keep(extract, search);
}

fn set_constants(headers: &[(Slot, Option<Vec<u8>>)], batch: &mut Batch, failures: &mut Vec<Failure>) {
    let columns = columns_mut(&mut batch.columns);
    // All texts first: a row that fails for want of room is as it came.
    let ranges: Result<Vec<Range>, _> = headers
        .iter()
        .map(|(_, text)| text.as_ref().map_or(Ok(Range::ABSENT), |text| columns.arena.push(text)))
        .collect();
    let Ok(ranges) = ranges else {
        failures.extend(batch.rows.drain(..).map(|row| Failure { row, fault: *writes::full() }));
        return;
    };
    for ((slot, _), range) in headers.iter().zip(ranges) {
        if let Some(column) = column_for(columns, *slot, range) {
            for &row in &batch.rows {
                column[row as usize] = range;
            }
        }
    }
}
