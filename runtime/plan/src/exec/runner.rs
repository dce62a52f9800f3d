//! One run of a program over one batch.

use std::sync::Arc;

use super::natives::Ticket;
use super::rows::gather;
use super::{DeadLetter, End, Failure, Op, Outputs, Part, Program, Reason, Route, Section, Step, writes};
use crate::ack::Ack;
use crate::batch::{Batch, Columns};
use crate::eval::node::Unit;
use crate::eval::run::{Env, Event, Fault, Scratch, Stop};
use crate::native;
use crate::plan::OriginId;

/// One run.
pub(super) struct Runner<'r> {
    pub unit: &'r Unit,
    pub errors: &'r mut [Option<Program>],
    pub optional: &'r [bool],
    /// By output: how many batches stood there before this run.
    pub earlier: Vec<usize>,
    pub scratch: &'r mut Scratch,
    pub places: &'r [String],
    pub ack: &'r Ack,
    /// When a step remembers what it has let through.
    pub ticket: Option<&'r Arc<Ticket>>,
    pub outputs: &'r mut Outputs,
    pub now_ms: i64,
}

impl Runner<'_> {
    pub fn program(&mut self, program: &mut Program, mut batch: Batch) {
        for part in &mut program.parts {
            if batch.is_empty() {
                return;
            }
            match part {
                Part::Step(step) => self.step(step, &mut batch),
                Part::Section(section) => {
                    let route = match &mut program.end {
                        End::Route(route) if section.routes => Some(&mut **route),
                        _ => None,
                    };
                    let routes = route.is_some();
                    self.section(section, route, &mut batch);
                    if routes {
                        return;
                    }
                }
            }
        }
        self.end(&mut program.end, batch);
    }

    fn end(&mut self, end: &mut End, mut batch: Batch) {
        if batch.is_empty() {
            return;
        }
        match end {
            End::Output(output) => {
                let output = *output as usize;
                let batches = &mut self.outputs.batches[output];
                // Rows that were parted and meet again stay in their order, in one batch.
                if batches.len() > self.earlier[output]
                    && let Some(last) = batches.last_mut()
                    && Arc::ptr_eq(&last.columns, &batch.columns)
                    && let Some(rows) = merge(&last.rows, &batch.rows)
                {
                    last.rows = rows;
                    return;
                }
                batch.ack = if self.optional[output] { Ack::none() } else { self.ack.split() };
                batches.push(batch);
            }
            End::Discard => {}
            End::Copy(branches) => {
                if let Some((last, others)) = branches.split_last_mut() {
                    for branch in others {
                        self.program(branch, part(&batch.columns, batch.rows.clone()));
                    }
                    // The last one may write without a copy when the others are through.
                    self.program(last, batch);
                }
            }
            End::Route(route) => self.route(route, batch),
        }
    }

    fn step(&mut self, step: &mut Step, batch: &mut Batch) {
        let before = batch.len();
        let mut failures = Vec::new();
        let mut emitted = 0;
        match &mut step.op {
            Op::Kernel(kernel) => kernel.run(self.unit, self.scratch, batch, self.now_ms, &mut failures),
            Op::Code(code) => {
                emitted = writes::run_code(self.unit, code, self.scratch, batch, self.now_ms, &mut failures);
            }
            Op::Native(native) => {
                for failed in native.apply(batch, self.now_ms, self.ticket) {
                    if (failed.row as usize) < batch.columns.bodies.len() {
                        let fault = Fault { message: failed.message, origin: None };
                        failures.push(Failure { row: failed.row, fault });
                    }
                }
            }
        }
        let dropped = (before + emitted).saturating_sub(batch.len() + failures.len());
        step.counters.count(before, dropped, failures.len(), emitted);
        if !failures.is_empty() {
            self.failed(&step.name, step.origin, step.errors, &batch.columns, failures);
        }
    }

    /// A run of steps as machine code, and the route behind it.
    fn section(&mut self, section: &mut Section, route: Option<&mut Route>, batch: &mut Batch) {
        let parts = section.steps.len() + usize::from(route.is_some());
        let mut failures: Vec<Vec<Failure>> = Vec::new();
        failures.resize_with(parts, Vec::new);
        let mut dropped = vec![0; parts];
        let mut arms: Vec<Vec<u32>> = Vec::new();
        if let Some(route) = &route {
            arms.resize_with(route.arms.len(), Vec::new);
        }
        let mut entered = batch.len();
        section.code.run(native::Call {
            columns: &mut batch.columns,
            rows: &mut batch.rows,
            arms: &mut arms,
            dropped: &mut dropped,
            now_ms: self.now_ms,
            reference: &mut native::Reference {
                unit: self.unit,
                scratch: self.scratch,
                steps: &section.steps,
                route: route.as_deref(),
                asks: &section.asks,
                now_ms: self.now_ms,
                failures: &mut failures,
            },
        });
        let mut failures = failures.into_iter();
        for ((step, failures), dropped) in section.steps.iter().zip(&mut failures).zip(&dropped) {
            step.counters.count(entered, *dropped, failures.len(), 0);
            entered = entered.saturating_sub(dropped + failures.len());
            if !failures.is_empty() {
                self.failed(&step.name, step.origin, step.errors, &batch.columns, failures);
            }
        }
        let (Some(route), Some(failures)) = (route, failures.next()) else { return };
        let nowhere = dropped.last().copied().unwrap_or(0);
        route.counters.count(entered, nowhere, failures.len(), 0);
        if !failures.is_empty() {
            self.failed(&route.name, route.origin, route.errors, &batch.columns, failures);
        }
        self.arms(route, std::mem::take(&mut batch.columns), arms);
    }

    fn route(&mut self, route: &mut Route, batch: Batch) {
        let mut rows: Vec<Vec<u32>> = route.arms.iter().map(|_| Vec::new()).collect();
        let mut failures = Vec::new();
        let mut nowhere = 0;
        let mut memo = route.memo.take();
        if let Some(memo) = &mut memo {
            memo.clear();
        }
        {
            let mut env = Env::new(self.unit, None, Some(self.now_ms), self.scratch);
            let mut taken = Vec::new();
            for &row in &batch.rows {
                let key = memo.as_ref().and_then(|memo| memo.key(&batch.columns, row));
                if let (Some(memo), Some(key)) = (&memo, key)
                    && let Some(arm) = memo.get(key)
                {
                    match arm {
                        Some(arm) => rows[arm as usize].push(row),
                        None => nowhere += 1,
                    }
                    continue;
                }
                env.event = Event::new(&batch.columns, row);
                env.frame(route.locals);
                match choose(route, &mut env, row, &mut taken, &mut rows) {
                    Ok(arm) => {
                        nowhere += usize::from(arm.is_none());
                        if let (Some(memo), Some(key)) = (&mut memo, key) {
                            memo.put(key, arm);
                        }
                    }
                    Err(Stop::Drop | Stop::Pass) => nowhere += 1,
                    Err(Stop::Fault(fault)) => failures.push(Failure { row, fault: *fault }),
                }
            }
        }
        route.memo = memo;
        route.counters.count(batch.len(), nowhere, failures.len(), 0);
        if !failures.is_empty() {
            self.failed(&route.name, route.origin, route.errors, &batch.columns, failures);
        }
        self.arms(route, batch.columns, rows);
    }

    /// Sends the rows of each arm on.
    fn arms(&mut self, route: &mut Route, columns: Arc<Columns>, rows: Vec<Vec<u32>>) {
        let mut columns = Some(columns);
        let last = rows.iter().rposition(|rows| !rows.is_empty());
        for (index, ((_, then), rows)) in route.arms.iter_mut().zip(rows).enumerate() {
            if rows.is_empty() {
                continue;
            }
            let columns = if Some(index) == last { columns.take() } else { columns.clone() };
            if let Some(columns) = columns {
                self.program(then, Batch { columns, rows, ack: Ack::none() });
            }
        }
    }

    /// Sends rows that failed to the errors program, or to the dead letters.
    #[cold]
    fn failed(
        &mut self,
        step: &Arc<str>,
        origin: OriginId,
        errors: Option<u32>,
        columns: &Arc<Columns>,
        mut failures: Vec<Failure>,
    ) {
        failures.sort_by_key(|failure| failure.row);
        let rows: Vec<u32> = failures.iter().map(|failure| failure.row).collect();
        let mut batch = match gather(columns, &rows) {
            Ok(columns) => Batch::new(columns),
            Err(_) => part(columns, rows),
        };
        let reasons: Vec<Reason> = failures
            .into_iter()
            .map(|failure| {
                let origin = failure.fault.origin.unwrap_or(origin);
                let at = self.places.get(origin.0 as usize).cloned().unwrap_or_default();
                Reason { message: failure.fault.message, origin, at }
            })
            .collect();
        let index = errors.map(|errors| errors as usize);
        if let Some(index) = index
            && let Some(mut program) = self.errors[index].take()
        {
            let rows = batch.rows.clone();
            let columns = batch.columns_mut();
            for (&row, reason) in rows.iter().zip(&reasons) {
                let headers =
                    [("error", reason.message.as_str()), ("error_step", step), ("error_at", &reason.at)];
                for (name, value) in headers {
                    // Without room for its reason the event still goes on.
                    let _ = columns.set_header_named(row, name, value.as_bytes(), &self.unit.slots);
                }
            }
            self.program(&mut program, batch);
            self.errors[index] = Some(program);
            return;
        }
        batch.ack = self.ack.split();
        self.outputs.dead.push(DeadLetter { batch, step: step.clone(), reasons });
    }
}

/// Puts a row where it goes and gives the (last) case that took it. `arms` is working memory.
fn choose<'e>(
    route: &'e Route,
    env: &mut Env<'e, '_>,
    row: u32,
    arms: &mut Vec<u32>,
    rows: &mut [Vec<u32>],
) -> Result<Option<u32>, Stop> {
    choose_all(route, env, arms)?;
    for &arm in &*arms {
        rows[arm as usize].push(row);
    }
    Ok(arms.last().copied())
}

/// Gives the cases that take a row, in their order. A row goes to all its cases or fails; so the cases come first.
pub(crate) fn choose_all<'e>(
    route: &'e Route,
    env: &mut Env<'e, '_>,
    arms: &mut Vec<u32>,
) -> Result<(), Stop> {
    arms.clear();
    if let Some(subject) = &route.subject {
        let subject = env.eval(subject)?;
        *env.local_mut(0)? = subject;
    }
    for (index, (condition, _)) in route.arms.iter().enumerate() {
        let hit = match condition {
            None => arms.is_empty(),
            Some(condition) => env.condition(condition)?,
        };
        if hit {
            arms.push(index as u32);
            if !route.all {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Rows of shared columns; the acknowledgement is given at the output.
fn part(columns: &Arc<Columns>, rows: Vec<u32>) -> Batch {
    Batch { columns: columns.clone(), rows, ack: Ack::none() }
}

/// Two ascending selections as one; `None` when they have a row in common.
fn merge(left: &[u32], right: &[u32]) -> Option<Vec<u32>> {
    let mut rows = Vec::with_capacity(left.len() + right.len());
    let (mut left, mut right) = (left.iter().peekable(), right.iter().peekable());
    loop {
        match (left.peek(), right.peek()) {
            (Some(a), Some(b)) if a == b => return None,
            (Some(a), Some(b)) if a < b => rows.extend(left.next()),
            (Some(_), None) => rows.extend(left.next()),
            (_, Some(_)) => rows.extend(right.next()),
            (None, None) => return Some(rows),
        }
    }
}
