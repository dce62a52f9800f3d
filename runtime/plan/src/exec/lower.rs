//! A program of the plan made ready to run: kinds lowered through their factories, code prepared, numbers checked.

use std::sync::Arc;

use super::kernel::Kernel;
use super::memo::{Memo, deciding_header, deciding_header_of};
use super::natives::{self, Natives};
use super::{End, ExecError, Op, PROGRAM_DEPTH_MAX, Program, Route, Step, StepCounters};
use crate::eval::prepare::Preparer;
use crate::function::Functions;
use crate::interceptor::{Interceptors, LowerContext, LowerError, Lowered};
use crate::ir;
use crate::plan::{OriginId, Output};

pub(super) struct Lowering<'a> {
    pub preparer: Preparer<'a>,
    pub interceptors: &'a Interceptors,
    /// With the user's functions and the header names of the plan.
    pub functions: Functions,
    pub slots: &'a [String],
    pub outputs: &'a [Output],
    pub errors: usize,
    pub counters: Vec<Arc<StepCounters>>,
    pub natives: &'a Natives,
    /// Those that are there begin anew.
    pub renew: bool,
    /// A step drops what it has let through before.
    pub remembers: bool,
}

impl Lowering<'_> {
    pub fn program(&mut self, program: &ir::Program, depth: u32) -> Result<Program, ExecError> {
        let mut steps = Vec::with_capacity(program.steps.len());
        for (index, step) in program.steps.iter().enumerate() {
            steps.push(self.step(step, &program.steps[index + 1..], &program.end)?);
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
            ir::End::Output(output) if *output as usize >= self.outputs.len() => {
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

    fn step(&mut self, step: &ir::Step, after: &[ir::Step], end: &ir::End) -> Result<Step, ExecError> {
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
                    Lowered::Native(made) => {
                        let place = natives::place(step, after, end, self.outputs);
                        let native = self.natives.at(place, made, self.renew);
                        self.remembers |= native.remembers();
                        Op::Native(native)
                    }
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
        let decides = deciding_header_of(&code.body, &self.functions);
        Ok(match Kernel::new(block, decides) {
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
        let deciding = route.subject.iter().chain(route.arms.iter().filter_map(|arm| arm.when.as_ref()));
        let local = route.subject.as_ref().map(|_| 0);
        let memo = if route.all { None } else { deciding_header(deciding, local, &self.functions) };
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
            memo: memo.map(Memo::new),
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
