//! The contract between the executor and a compiler of programs: what is compiled together, what compiled code
//! gets for a batch, and how it hands rows and expressions back to the reference evaluator. It knows no machine
//! code.
//!
//! A *section* is a run of steps, and the route behind them when there is one, that is compiled as one: its code
//! takes each row through all steps. Code that meets something out of the ordinary in a step (a conversion that
//! fails, a byte that its automaton cannot judge) lets [`Reference::step`] run that step for that row, so it needs
//! to know neither messages nor rare cases.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use crate::batch::{Columns, Slot};
use crate::eval::node::{Node, Unit};
use crate::eval::run::{Env, Event, Fault, Scratch, Stop};
use crate::exec::{CompiledStep, Failure, Route, Writes, choose_all};
use crate::function::Functions;
use crate::ir;
use crate::value::Value;

/// Compiles sections. Shared by all programs of a process.
pub trait Compiler: Send + Sync {
    /// Whether a step can be part of a section; if not, why.
    fn accepts(&self, code: &ir::Code, functions: &Functions) -> Result<(), String>;

    /// Compiles a section of accepted steps. The same section again gives the same code, without work.
    fn compile(&self, section: &Section<'_>) -> Result<Compiled, Refusal>;
}

/// Why a section is not compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The part that is the reason, when one is: a step, or the route behind the last one. Without it the rest may
    /// be compiled.
    pub part: Option<usize>,
    pub why: String,
}

/// What is compiled together.
pub struct Section<'a> {
    pub steps: Vec<SectionStep<'a>>,
    /// Behind the last step; only its subject and conditions belong to the section.
    pub route: Option<&'a ir::Route>,
    /// With the user's functions and the header names of the plan.
    pub functions: &'a Functions,
}

/// One step of a section.
pub struct SectionStep<'a> {
    pub name: &'a str,
    pub code: ir::Code,
}

/// A compiled section.
#[derive(Clone)]
pub struct Compiled {
    pub code: Arc<dyn NativeCode>,
    /// Expressions for which the code calls [`Reference::ask`], by number.
    pub asks: Vec<Ask>,
    pub report: SectionReport,
}

/// An expression that is evaluated by the reference.
#[derive(Clone, Debug, PartialEq)]
pub struct Ask {
    pub expr: ir::Expr,
    /// Locals of its frame.
    pub locals: u32,
}

/// What `flowc plan` says about a section.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SectionReport {
    /// Steps, and the route last.
    pub parts: Vec<PartReport>,
    /// Machine code.
    pub code_bytes: usize,
    /// What compiling it took, when it was compiled first.
    pub compile_time: Duration,
}

/// What `flowc plan` says about a step or a route.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PartReport {
    pub name: String,
    /// Whether it is machine code at all.
    pub native: bool,
    /// What is left to the reference, and why; for a part that is not native: why.
    pub reference: Vec<String>,
}

/// Machine code of a section; it can run on any thread.
pub trait NativeCode: Send + Sync {
    /// The same code with working memory of its own.
    fn instance(self: Arc<Self>) -> Box<dyn NativeInstance>;
}

/// Machine code with working memory. One batch at a time.
pub trait NativeInstance: Send {
    fn run(&mut self, call: Call<'_, '_>);
}

/// One batch for a section.
pub struct Call<'c, 'r> {
    /// Copied first when others share them and the section writes.
    pub columns: &'c mut Arc<Columns>,
    /// Before: the rows alive, all of them rows of the columns. Afterwards: those that came through all steps, in
    /// their order; nothing when there is a route.
    pub rows: &'c mut Vec<u32>,
    /// By arm of the route, empty before: the rows it takes, in their order.
    pub arms: &'c mut [Vec<u32>],
    /// By step, and the route last: rows that were dropped on purpose or routed nowhere.
    pub dropped: &'c mut [usize],
    pub now_ms: i64,
    pub reference: &'c mut Reference<'r>,
}

/// What became of a row in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Kept,
    Dropped,
    /// The reference has noted why.
    Failed,
}

/// What the code of a step has changed of its event and not written into the columns yet, and its locals, for an
/// expression that it asks for.
#[derive(Default)]
pub struct Inputs<'e> {
    pub locals: Vec<(u32, Value<'e>)>,
    /// `None`: removed.
    pub headers: Vec<(Slot, Option<&'e [u8]>)>,
    pub body: Option<&'e [u8]>,
    pub time_ms: Option<i64>,
}

/// The reference evaluator, for what the code of a section leaves to it.
pub struct Reference<'r> {
    pub(crate) unit: &'r Unit,
    pub(crate) scratch: &'r mut Scratch,
    /// By step.
    pub(crate) steps: &'r [CompiledStep],
    pub(crate) route: Option<&'r Route>,
    pub(crate) asks: &'r [(Node, usize)],
    pub(crate) now_ms: i64,
    /// By step, and the route last.
    pub(crate) failures: &'r mut [Vec<Failure>],
}

impl Reference<'_> {
    /// Runs a whole step for one row, and writes what it changes into the columns. They are copied only when they
    /// are shared and something is written.
    pub fn step(&mut self, step: usize, columns: &mut Arc<Columns>, row: u32) -> Fate {
        let Some(step_code) = self.steps.get(step) else { return Fate::Dropped };
        let block = &step_code.block;
        let outcome = {
            let mut writes = Writes::new(columns);
            let mut env = Env::new(self.unit, Event::new(columns, row), Some(self.now_ms), self.scratch);
            env.frame(block.locals);
            let kept = match env.block(&block.body) {
                Ok(_) | Err(Stop::Pass) => Ok(true),
                Err(Stop::Drop) => Ok(false),
                Err(Stop::Fault(fault)) => Err(fault),
            };
            kept.and_then(|kept| {
                writes.commit(row, &mut env.changes, kept)?;
                Ok((kept, writes))
            })
        };
        let written = outcome.and_then(|(kept, writes)| writes.write(columns).map(|()| kept));
        match written {
            Ok(true) => Fate::Kept,
            Ok(false) => Fate::Dropped,
            Err(fault) => {
                self.fail(step, row, *fault);
                Fate::Failed
            }
        }
    }

    /// Decides where a row goes: puts the numbers of the arms that take it into `arms`. `Dropped`: nowhere.
    pub fn route(&mut self, columns: &Columns, row: u32, arms: &mut Vec<u32>) -> Fate {
        arms.clear();
        let Some(route) = self.route else { return Fate::Dropped };
        let mut env = Env::new(self.unit, Event::new(columns, row), Some(self.now_ms), self.scratch);
        env.frame(route.locals);
        match choose_all(route, &mut env, arms) {
            Ok(()) if arms.is_empty() => Fate::Dropped,
            Ok(()) => Fate::Kept,
            Err(Stop::Drop | Stop::Pass) => Fate::Dropped,
            Err(Stop::Fault(fault)) => {
                let step = self.steps.len();
                self.fail(step, row, *fault);
                Fate::Failed
            }
        }
    }

    /// The value of an expression for one row, given to `take`; `None` when it fails, drops or passes: then the
    /// step has to be run by the reference, which finds the same and says why.
    pub fn ask<R>(
        &mut self,
        ask: usize,
        columns: &Columns,
        row: u32,
        inputs: &Inputs<'_>,
        take: impl FnOnce(Option<&Value<'_>>) -> R,
    ) -> R {
        let Some((node, locals)) = self.asks.get(ask) else { return take(None) };
        let mut env = Env::new(self.unit, Event::new(columns, row), Some(self.now_ms), self.scratch);
        env.frame(*locals);
        for (local, value) in &inputs.locals {
            if let Ok(place) = env.local_mut(*local) {
                *place = value.clone();
            }
        }
        for (slot, value) in &inputs.headers {
            env.changes.event.set_header(*slot, value.map(Cow::Borrowed));
        }
        env.changes.event.body = inputs.body.map(Cow::Borrowed);
        env.changes.event.time = inputs.time_ms;
        let value = env.eval(node);
        take(value.as_ref().ok())
    }

    fn fail(&mut self, step: usize, row: u32, fault: Fault) {
        if let Some(failures) = self.failures.get_mut(step) {
            failures.push(Failure { row, fault });
        }
    }
}
