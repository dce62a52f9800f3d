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
mod lower;
mod memo;
mod natives;
mod rows;
mod runner;
mod state;
#[cfg(test)]
mod tests;
mod writes;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::ack::Ack;
use crate::batch::Batch;
use crate::eval::node::{Block, Node, Unit};
use crate::eval::prepare::Preparer;
use crate::eval::run::{Fault, Scratch};
use crate::function::Functions;
use crate::interceptor::{Interceptors, LowerError};
use crate::native::{Compiler, NativeInstance, SectionReport};
use crate::plan::{self, OriginId, Plan};

use kernel::Kernel;
use lower::Lowering;
use memo::Memo;
pub use natives::Natives;
use natives::{Native, Ticket, Turn};
#[cfg(any(test, feature = "testing"))]
pub(crate) use rows::consistent;
use runner::Runner;
pub(crate) use runner::choose_all;
pub(crate) use writes::Writes;

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
    reports: Vec<SectionReport>,
    scratch: Scratch,
    places: Arc<[String]>,
    /// When a step drops what it has let through before.
    turn: Option<Turn>,
}

impl std::fmt::Debug for Executor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Executor({} steps)", self.counters.len())
    }
}

struct Program {
    parts: Vec<Part>,
    end: End,
}

enum Part {
    Step(Step),
    Section(Box<Section>),
}

/// A run of steps as machine code.
struct Section {
    code: Box<dyn NativeInstance>,
    steps: Vec<CompiledStep>,
    /// What the code asks the reference for, with the locals of the frame.
    asks: Vec<(Node, usize)>,
    /// The route at the end of the program belongs to it.
    routes: bool,
}

/// A step of a section, with its code for the reference.
pub(crate) struct CompiledStep {
    name: Arc<str>,
    origin: OriginId,
    errors: Option<u32>,
    pub block: Block,
    counters: Arc<StepCounters>,
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
    Native(Arc<Native>),
}

enum End {
    Output(u32),
    Discard,
    Copy(Vec<Program>),
    Route(Box<Route>),
}

pub(crate) struct Route {
    all: bool,
    subject: Option<Node>,
    pub locals: usize,
    arms: Vec<(Option<Node>, Program)>,
    /// By the header that alone decides where rows go: the arm, or none.
    memo: Option<Memo<Option<u32>>>,
    name: Arc<str>,
    origin: OriginId,
    errors: Option<u32>,
    counters: Arc<StepCounters>,
}

/// A row that failed.
pub(crate) struct Failure {
    pub row: u32,
    pub fault: Fault,
}

impl Executor {
    /// Lowers and prepares a program of a plan. `functions` are the built-in ones.
    pub fn new(
        plan: &Plan,
        program: &plan::Program,
        functions: &Functions,
        interceptors: &Interceptors,
    ) -> Result<Executor, ExecError> {
        Executor::with_natives(plan, program, functions, interceptors, None, &Natives::new(), false)
    }

    /// The same, as machine code where `compiler` can, and with the interceptors with state taken from those of the
    /// agent. `renew`: they begin anew, for all programs that share them.
    pub fn with_natives(
        plan: &Plan,
        program: &plan::Program,
        functions: &Functions,
        interceptors: &Interceptors,
        compiler: Option<&dyn Compiler>,
        natives: &Natives,
        renew: bool,
    ) -> Result<Executor, ExecError> {
        let places: Vec<String> =
            plan.origins.iter().map(|at| format!("{}:{}:{}", at.file, at.line, at.column)).collect();
        let mut lowering = Lowering {
            preparer: Preparer::new(functions, &plan.functions, plan.slots.clone().into()),
            functions: functions.for_plan(plan),
            interceptors,
            slots: &plan.slots,
            outputs: &program.outputs,
            errors: program.errors.len(),
            counters: Vec::new(),
            natives,
            renew,
            remembers: false,
            compiler,
            reports: Vec::new(),
        };
        let body = lowering.program(&program.body, 0)?;
        let mut errors = Vec::with_capacity(program.errors.len());
        for program in &program.errors {
            errors.push(Some(lowering.program(program, 0)?));
        }
        let (counters, remembers, reports) = (lowering.counters, lowering.remembers, lowering.reports);
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
            reports,
            scratch,
            places: places.into(),
            turn: remembers.then(|| natives.turn()),
        })
    }

    /// Counters of all steps and routes, in the order of the program.
    pub fn counters(&self) -> &[Arc<StepCounters>] {
        &self.counters
    }

    /// What is machine code and what is not, in the order of the program; empty without a compiler.
    pub fn reports(&self) -> &[SectionReport] {
        &self.reports
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
        let turn = self.turn.clone();
        let _turn = turn.as_ref().map(Turn::take);
        let (ack, ticket) = if turn.is_some() && ack.is_open() {
            let (ack, ticket) = Ticket::open(ack);
            (ack, Some(ticket))
        } else {
            (ack, None)
        };
        let mut runner = Runner {
            unit: &self.unit,
            errors: &mut self.errors,
            optional: &self.optional,
            earlier: outputs.batches.iter().map(Vec::len).collect(),
            scratch: &mut self.scratch,
            places: &self.places,
            ack: &ack,
            ticket: ticket.as_ref(),
            outputs,
            now_ms,
        };
        runner.program(&mut self.body, batch);
        ack.done();
    }
}

impl Program {
    fn kernels(&self) -> usize {
        let kernel = |part: &&Part| matches!(part, Part::Step(Step { op: Op::Kernel(_), .. }));
        let own = self.parts.iter().filter(kernel).count();
        own + match &self.end {
            End::Output(_) | End::Discard => 0,
            End::Copy(branches) => branches.iter().map(Program::kernels).sum(),
            End::Route(route) => route.arms.iter().map(|(_, then)| then.kernels()).sum(),
        }
    }
}
