//! Runs a program over batches: steps one after the other over the whole selection, then the rows go where the
//! program's end says. It knows interceptors only through their table, and no channel, sink or dead-letter store.
//!
//! # What happens to the acknowledgement
//!
//! [`Executor::run`] owns the share that the batch brings. Every batch that leaves for a required output, and
//! every batch of dead letters, gets a share of its own; a batch for an optional output gets none; rows that are
//! dropped, discarded or routed nowhere need none. At the end the share of the input is done. So the source hears
//! `Delivered` exactly when every required output has taken its rows and every dead letter is kept.
//!
//! # Rows that fail
//!
//! They leave their step as they came, in a batch of their own, to the errors program of the step, with the
//! headers `error` (why), `error_step` (where) and `error_at` (`file:line:column`); without one, or when they
//! failed inside that very program before, they become [`DeadLetter`]s.

mod kernel;
mod rows;
#[cfg(test)]
mod tests;
mod writes;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::ack::Ack;
use crate::batch::{Batch, Columns};
use crate::eval::prepare::{Block, Node, Preparer, Unit};
use crate::eval::run::{Env, Event, Fault, Scratch, Stop};
use crate::function::Functions;
use crate::interceptor::{Interceptor, Interceptors, LowerContext, LowerError, Lowered};
use crate::ir;
use crate::plan::{self, OriginId, Plan};

use kernel::Kernel;
use rows::gather;

/// Steps and branches inside each other; a deeper program is refused.
pub const PROGRAM_DEPTH_MAX: u32 = 64;

/// Why a program cannot be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecError {
    /// The step at fault.
    pub step: String,
    pub origin: OriginId,
    pub error: LowerError,
}

impl std::fmt::Display for ExecError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}`: {}", self.step, self.error.message)
    }
}

impl std::error::Error for ExecError {}

/// What a run gives, to be used again for the next one.
#[derive(Debug, Default)]
pub struct Outputs {
    /// Zero or more batches by output number, none of them empty.
    pub batches: Vec<Vec<Batch>>,
    pub dead: Vec<DeadLetter>,
}

impl Outputs {
    pub fn new() -> Outputs {
        Outputs::default()
    }

    /// Drops what is left from an earlier run. What was not taken counts as lost.
    pub fn clear(&mut self) {
        self.batches.iter_mut().for_each(Vec::clear);
        self.dead.clear();
    }
}

/// Rows that a step failed and that no errors program takes.
#[derive(Debug)]
pub struct DeadLetter {
    /// The rows, compact, with a share of the acknowledgement: whoever keeps them marks it done.
    pub batch: Batch,
    pub step: Arc<str>,
    /// Why, by row of `batch.rows`.
    pub reasons: Vec<Reason>,
}

/// Why a row failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    pub message: String,
    pub origin: OriginId,
    /// `file:line:column`
    pub at: String,
}

/// Counters of one step, kept while the executor lives and readable from anywhere.
#[derive(Debug, Default)]
pub struct StepCounters {
    pub name: String,
    /// Events that came to the step.
    pub events_in: AtomicU64,
    /// Events that it dropped on purpose; for a route, those that no case took.
    pub dropped: AtomicU64,
    pub failed: AtomicU64,
    /// Further events that it made.
    pub emitted: AtomicU64,
}

impl StepCounters {
    fn named(name: &str) -> Arc<StepCounters> {
        Arc::new(StepCounters { name: name.to_string(), ..StepCounters::default() })
    }

    fn count(&self, events_in: usize, dropped: usize, failed: usize, emitted: usize) {
        let add = |counter: &AtomicU64, events: usize| {
            if events > 0 {
                counter.fetch_add(events as u64, Ordering::Relaxed);
            }
        };
        add(&self.events_in, events_in);
        add(&self.dropped, dropped);
        add(&self.failed, failed);
        add(&self.emitted, emitted);
    }
}

/// A program ready to run, with the state of its native interceptors. One batch at a time.
pub struct Executor {
    unit: Unit,
    body: Program,
    /// Taken out while it runs, so that a program cannot run inside itself.
    errors: Vec<Option<Program>>,
    /// By output.
    optional: Vec<bool>,
    counters: Vec<Arc<StepCounters>>,
    scratch: Scratch,
    places: Arc<[String]>,
}

impl std::fmt::Debug for Executor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Executor({} steps)", self.counters.len())
    }
}

struct Program {
    steps: Vec<Step>,
    end: End,
}

struct Step {
    name: Arc<str>,
    origin: OriginId,
    errors: Option<u32>,
    op: Op,
    counters: Arc<StepCounters>,
}

enum Op {
    /// A shape that has its own loop over the columns.
    Kernel(Kernel),
    Code(Block),
    Native(Box<dyn Interceptor>),
}

enum End {
    Output(u32),
    Discard,
    Copy(Vec<Program>),
    Route(Box<Route>),
}

struct Route {
    all: bool,
    subject: Option<Node>,
    locals: usize,
    arms: Vec<(Option<Node>, Program)>,
    name: Arc<str>,
    origin: OriginId,
    errors: Option<u32>,
    counters: Arc<StepCounters>,
}

/// A row that failed.
struct Failure {
    row: u32,
    fault: Fault,
}

impl Executor {
    /// Lowers and prepares a program of a plan. `functions` are the built-in ones.
    pub fn new(
        plan: &Plan,
        program: &plan::Program,
        functions: &Functions,
        interceptors: &Interceptors,
    ) -> Result<Executor, ExecError> {
        let places: Vec<String> =
            plan.origins.iter().map(|at| format!("{}:{}:{}", at.file, at.line, at.column)).collect();
        let mut lowering = Lowering {
            preparer: Preparer::new(functions, &plan.functions, plan.slots.clone().into()),
            functions: functions.for_plan(plan),
            interceptors,
            slots: &plan.slots,
            outputs: program.outputs.len(),
            errors: program.errors.len(),
            counters: Vec::new(),
        };
        let body = lowering.program(&program.body, 0)?;
        let mut errors = Vec::with_capacity(program.errors.len());
        for program in &program.errors {
            errors.push(Some(lowering.program(program, 0)?));
        }
        let counters = lowering.counters;
        let unit = lowering.preparer.finish().map_err(|error| ExecError {
            step: program.name.clone(),
            origin: OriginId::default(),
            error: LowerError { setting: None, message: error.message },
        })?;
        let scratch = Scratch::new(&unit);
        Ok(Executor {
            unit,
            body,
            errors,
            optional: program.outputs.iter().map(|output| output.optional).collect(),
            counters,
            scratch,
            places: places.into(),
        })
    }

    /// Counters of all steps and routes, in the order of the program.
    pub fn counters(&self) -> &[Arc<StepCounters>] {
        &self.counters
    }

    /// How many steps have a loop of their own over the columns.
    pub fn kernels(&self) -> usize {
        self.body.kernels()
    }

    /// Runs the program over a batch. What is in `outputs` stays; the batches of this run are added behind.
    pub fn run(&mut self, mut batch: Batch, now_ms: i64, outputs: &mut Outputs) {
        let ack = std::mem::replace(&mut batch.ack, Ack::none());
        if outputs.batches.len() < self.optional.len() {
            outputs.batches.resize_with(self.optional.len(), Vec::new);
        }
        if !rows::consistent(&batch) {
            // Only a fault of whoever made it; its share is dropped, so its events are repeated.
            return;
        }
        let mut runner = Runner {
            unit: &self.unit,
            errors: &mut self.errors,
            optional: &self.optional,
            scratch: &mut self.scratch,
            places: &self.places,
            ack: &ack,
            outputs,
            now_ms,
        };
        runner.program(&mut self.body, batch);
        ack.done();
    }
}

impl Program {
    fn kernels(&self) -> usize {
        let own = self.steps.iter().filter(|step| matches!(step.op, Op::Kernel(_))).count();
        own + match &self.end {
            End::Output(_) | End::Discard => 0,
            End::Copy(branches) => branches.iter().map(Program::kernels).sum(),
            End::Route(route) => route.arms.iter().map(|(_, then)| then.kernels()).sum(),
        }
    }
}

struct Lowering<'a> {
    preparer: Preparer<'a>,
    interceptors: &'a Interceptors,
    /// With the user's functions and the header names of the plan.
    functions: Functions,
    slots: &'a [String],
    outputs: usize,
    errors: usize,
    counters: Vec<Arc<StepCounters>>,
}

impl Lowering<'_> {
    fn program(&mut self, program: &ir::Program, depth: u32) -> Result<Program, ExecError> {
        let mut steps = Vec::with_capacity(program.steps.len());
        for step in &program.steps {
            steps.push(self.step(step)?);
        }
        let refuse = |message: String| {
            let (step, origin) =
                program.steps.last().map_or(("the program".to_string(), OriginId::default()), |step| {
                    (step.name.clone(), step.origin)
                });
            ExecError { step, origin, error: LowerError { setting: None, message } }
        };
        if depth > PROGRAM_DEPTH_MAX {
            return Err(refuse(format!("the program is nested more than {PROGRAM_DEPTH_MAX} deep")));
        }
        let end = match &program.end {
            ir::End::Output(output) if *output as usize >= self.outputs => {
                return Err(refuse(format!("the program has no output number {output}")));
            }
            ir::End::Output(output) => End::Output(*output),
            ir::End::Discard => End::Discard,
            ir::End::Copy(branches) => End::Copy(
                branches.iter().map(|branch| self.program(branch, depth + 1)).collect::<Result<_, _>>()?,
            ),
            ir::End::Route(route) => End::Route(Box::new(self.route(route, depth)?)),
        };
        Ok(Program { steps, end })
    }

    fn step(&mut self, step: &ir::Step) -> Result<Step, ExecError> {
        let refuse = |error: LowerError| ExecError { step: step.name.clone(), origin: step.origin, error };
        let plain = |message: String| refuse(LowerError { setting: None, message });
        self.check_errors(step.errors).map_err(plain)?;
        let op = match &step.op {
            ir::StepOp::Code(code) => self.code(code).map_err(plain)?,
            ir::StepOp::Kind { kind, settings } => {
                let factory = self.interceptors.get(kind);
                let factory = factory.ok_or_else(|| plain(format!("there is no interceptor `{kind}`")))?;
                let context = LowerContext {
                    slots: self.slots,
                    name: &step.name,
                    origin: step.origin,
                    functions: &self.functions,
                };
                match factory(settings, &context).map_err(refuse)? {
                    Lowered::Native(native) => Op::Native(native),
                    Lowered::Code(code) => self.code(&code).map_err(plain)?,
                }
            }
        };
        let counters = StepCounters::named(&step.name);
        self.counters.push(counters.clone());
        Ok(Step { name: step.name.as_str().into(), origin: step.origin, errors: step.errors, op, counters })
    }

    fn code(&mut self, code: &ir::Code) -> Result<Op, String> {
        let block = self.preparer.code(code).map_err(|error| error.message)?;
        Ok(match Kernel::new(block) {
            Ok(kernel) => Op::Kernel(kernel),
            Err(block) => Op::Code(block),
        })
    }

    fn route(&mut self, route: &ir::Route, depth: u32) -> Result<Route, ExecError> {
        let refuse = |message: String| ExecError {
            step: route.name.clone(),
            origin: route.origin,
            error: LowerError { setting: None, message },
        };
        self.check_errors(route.errors).map_err(refuse)?;
        let counters = StepCounters::named(&route.name);
        self.counters.push(counters.clone());
        let block = ir::Code { locals: route.locals.max(1), body: Vec::new() };
        let locals = self.preparer.code(&block).map_err(|error| refuse(error.message))?.locals;
        let mut prepare = |expr: &ir::Expr| self.preparer.root(expr).map_err(|error| refuse(error.message));
        let subject = route.subject.as_ref().map(&mut prepare).transpose()?;
        let mut conditions = Vec::with_capacity(route.arms.len());
        for arm in &route.arms {
            conditions.push(arm.when.as_ref().map(&mut prepare).transpose()?);
        }
        let mut arms = Vec::with_capacity(route.arms.len());
        for (condition, arm) in conditions.into_iter().zip(&route.arms) {
            arms.push((condition, self.program(&arm.then, depth + 1)?));
        }
        Ok(Route {
            all: route.all,
            subject,
            locals,
            arms,
            name: route.name.as_str().into(),
            origin: route.origin,
            errors: route.errors,
            counters,
        })
    }

    fn check_errors(&self, errors: Option<u32>) -> Result<(), String> {
        match errors {
            Some(errors) if errors as usize >= self.errors => {
                Err(format!("the program has no errors chain number {errors}"))
            }
            _ => Ok(()),
        }
    }
}

/// One run.
struct Runner<'r> {
    unit: &'r Unit,
    errors: &'r mut [Option<Program>],
    optional: &'r [bool],
    scratch: &'r mut Scratch,
    places: &'r [String],
    ack: &'r Ack,
    outputs: &'r mut Outputs,
    now_ms: i64,
}

impl Runner<'_> {
    fn program(&mut self, program: &mut Program, mut batch: Batch) {
        for step in &mut program.steps {
            if batch.is_empty() {
                return;
            }
            self.step(step, &mut batch);
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
                batch.ack = if self.optional[output] { Ack::none() } else { self.ack.split() };
                self.outputs.batches[output].push(batch);
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
                for failed in native.apply(batch, self.now_ms) {
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

    fn route(&mut self, route: &mut Route, batch: Batch) {
        let mut rows: Vec<Vec<u32>> = route.arms.iter().map(|_| Vec::new()).collect();
        let mut failures = Vec::new();
        let mut nowhere = 0;
        {
            let mut env = Env::new(self.unit, None, Some(self.now_ms), self.scratch);
            for &row in &batch.rows {
                env.event = Event::new(&batch.columns, row);
                env.frame(route.locals);
                match choose(route, &mut env, row, &mut rows) {
                    Ok(true) => {}
                    Ok(false) => nowhere += 1,
                    Err(Stop::Drop | Stop::Pass) => nowhere += 1,
                    Err(Stop::Fault(fault)) => failures.push(Failure { row, fault: *fault }),
                }
            }
        }
        route.counters.count(batch.len(), nowhere, failures.len(), 0);
        if !failures.is_empty() {
            self.failed(&route.name, route.origin, route.errors, &batch.columns, failures);
        }
        let mut columns = Some(batch.columns);
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

/// Puts a row where it goes; false when no case takes it.
fn choose<'e>(
    route: &'e Route,
    env: &mut Env<'e, '_>,
    row: u32,
    rows: &mut [Vec<u32>],
) -> Result<bool, Stop> {
    if let Some(subject) = &route.subject {
        let subject = env.eval(subject)?;
        *env.local_mut(0)? = subject;
    }
    if !route.all {
        for (index, (condition, _)) in route.arms.iter().enumerate() {
            let hit = match condition {
                None => true,
                Some(condition) => env.condition(condition)?,
            };
            if hit {
                rows[index].push(row);
                return Ok(true);
            }
        }
        return Ok(false);
    }
    // A row goes to all its cases or fails; so the cases come first.
    let mut hits = Vec::with_capacity(route.arms.len());
    for (index, (condition, _)) in route.arms.iter().enumerate() {
        let hit = match condition {
            None => hits.is_empty(),
            Some(condition) => env.condition(condition)?,
        };
        if hit {
            hits.push(index);
        }
    }
    for &index in &hits {
        rows[index].push(row);
    }
    Ok(!hits.is_empty())
}

/// Rows of shared columns; the acknowledgement is given at the output.
fn part(columns: &Arc<Columns>, rows: Vec<u32>) -> Batch {
    Batch { columns: columns.clone(), rows, ack: Ack::none() }
}
