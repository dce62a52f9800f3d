//! A program of the plan made ready to run: kinds lowered through their factories, code prepared, numbers checked.

use std::sync::Arc;

use super::kernel::Kernel;
use super::memo::{Memo, deciding_header, deciding_header_of};
use super::natives::{self, Native, Natives};
use super::{
    CompiledStep, End, ExecError, Op, PROGRAM_DEPTH_MAX, Part, Program, Route, Section, Step, StepCounters,
};
use crate::eval::prepare::Preparer;
use crate::function::Functions;
use crate::interceptor::{Interceptors, LowerContext, LowerError, Lowered};
use crate::ir;
use crate::native::{self, Compiler};
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
    pub compiler: Option<&'a dyn Compiler>,
    pub reports: Vec<native::SectionReport>,
}

/// A step lowered.
enum Made {
    Code(ir::Code),
    Native(Arc<Native>),
}

impl Lowering<'_> {
    pub fn program(&mut self, program: &ir::Program, depth: u32) -> Result<Program, ExecError> {
        let mut made = Vec::with_capacity(program.steps.len());
        for (index, step) in program.steps.iter().enumerate() {
            made.push(self.lower(step, &program.steps[index + 1..], &program.end)?);
        }
        let route = if let ir::End::Route(route) = &program.end { Some(route) } else { None };
        let (parts, routed) = self.parts(&program.steps, made, route)?;
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
            ir::End::Route(route) => End::Route(Box::new(self.route(route, routed, depth)?)),
        };
        Ok(Program { parts, end })
    }

    /// What a step is before it is prepared.
    fn lower(&mut self, step: &ir::Step, after: &[ir::Step], end: &ir::End) -> Result<Made, ExecError> {
        let refuse = |error: LowerError| ExecError { step: step.name.clone(), origin: step.origin, error };
        let plain = |message: String| refuse(LowerError { setting: None, message });
        self.check_errors(step.errors).map_err(plain)?;
        let (kind, settings) = match &step.op {
            ir::StepOp::Code(code) => return Ok(Made::Code(code.clone())),
            ir::StepOp::Kind { kind, settings } => (kind, settings),
        };
        let factory = self.interceptors.get(kind);
        let factory = factory.ok_or_else(|| plain(format!("there is no interceptor `{kind}`")))?;
        let context = LowerContext {
            slots: self.slots,
            name: &step.name,
            origin: step.origin,
            functions: &self.functions,
        };
        Ok(match factory(settings, &context).map_err(refuse)? {
            Lowered::Native(made) => {
                let place = natives::place(step, after, end, self.outputs);
                let native = self.natives.at(place, made, self.renew);
                self.remembers |= native.remembers();
                Made::Native(native)
            }
            Lowered::Code(code) => Made::Code(code),
        })
    }

    /// Steps one by one, or as sections where the compiler takes them; the route belongs to the last section when
    /// the answer says so.
    fn parts(
        &mut self,
        steps: &[ir::Step],
        made: Vec<Made>,
        route: Option<&ir::Route>,
    ) -> Result<(Vec<Part>, bool), ExecError> {
        let mut parts = Vec::with_capacity(steps.len());
        let mut waiting: Vec<(&ir::Step, ir::Code)> = Vec::new();
        for (step, made) in steps.iter().zip(made) {
            match (made, self.compiler) {
                (Made::Code(code), Some(compiler)) => match compiler.accepts(&code, &self.functions) {
                    Ok(()) => waiting.push((step, code)),
                    Err(why) => {
                        self.section(std::mem::take(&mut waiting), None, &mut parts)?;
                        self.report_reference(&step.name, why);
                        parts.push(Part::Step(self.step(step, Made::Code(code))?));
                    }
                },
                (made, compiler) => {
                    if compiler.is_some() {
                        self.section(std::mem::take(&mut waiting), None, &mut parts)?;
                        self.report_reference(&step.name, "it keeps state".into());
                    }
                    parts.push(Part::Step(self.step(step, made)?));
                }
            }
        }
        let routed = self.section(waiting, route, &mut parts)?;
        Ok((parts, routed))
    }

    /// Compiles steps, and the route behind them; one by one for the reference when that is impossible. Whether the
    /// route is compiled.
    fn section(
        &mut self,
        steps: Vec<(&ir::Step, ir::Code)>,
        route: Option<&ir::Route>,
        parts: &mut Vec<Part>,
    ) -> Result<bool, ExecError> {
        let Some(compiler) = self.compiler.filter(|_| !steps.is_empty() || route.is_some()) else {
            return Ok(false);
        };
        let section = native::Section {
            steps: steps
                .iter()
                .map(|(step, code)| native::SectionStep { name: &step.name, code: code.clone() })
                .collect(),
            route,
            functions: &self.functions,
        };
        let compiled = match compiler.compile(&section) {
            Ok(compiled) => compiled,
            Err(refusal) => return self.without(steps, route, refusal, parts),
        };
        let mut asks = Vec::with_capacity(compiled.asks.len());
        for ask in &compiled.asks {
            let node = self.preparer.root(&ask.expr).map_err(|error| ExecError {
                step: steps.first().map_or_else(String::new, |(step, _)| step.name.clone()),
                origin: steps.first().map_or_else(OriginId::default, |(step, _)| step.origin),
                error: LowerError { setting: None, message: error.message },
            })?;
            asks.push((node, ask.locals as usize));
        }
        let mut prepared = Vec::with_capacity(steps.len());
        for (step, code) in &steps {
            let block = self.preparer.code(code).map_err(|error| ExecError {
                step: step.name.clone(),
                origin: step.origin,
                error: LowerError { setting: None, message: error.message },
            })?;
            let counters = StepCounters::named(&step.name);
            self.counters.push(counters.clone());
            prepared.push(CompiledStep {
                name: step.name.as_str().into(),
                origin: step.origin,
                errors: step.errors,
                block,
                counters,
            });
        }
        self.reports.push(compiled.report);
        parts.push(Part::Section(Box::new(Section {
            code: compiled.code.instance(),
            steps: prepared,
            asks,
            routes: route.is_some(),
        })));
        Ok(route.is_some())
    }

    /// As [`Lowering::section`], without the part that cannot be compiled.
    fn without(
        &mut self,
        mut steps: Vec<(&ir::Step, ir::Code)>,
        route: Option<&ir::Route>,
        refusal: native::Refusal,
        parts: &mut Vec<Part>,
    ) -> Result<bool, ExecError> {
        match (refusal.part, route) {
            (Some(part), _) if part < steps.len() => {
                let behind = steps.split_off(part + 1);
                let refused = steps.pop();
                self.section(steps, None, parts)?;
                if let Some((step, code)) = refused {
                    self.report_reference(&step.name, refusal.why);
                    parts.push(Part::Step(self.step(step, Made::Code(code))?));
                }
                self.section(behind, route, parts)
            }
            (Some(_), Some(route)) => {
                self.section(steps, None, parts)?;
                self.report_reference(&route.name, refusal.why);
                Ok(false)
            }
            (_, route) => {
                for (step, code) in steps {
                    self.report_reference(&step.name, refusal.why.clone());
                    parts.push(Part::Step(self.step(step, Made::Code(code))?));
                }
                if let Some(route) = route {
                    self.report_reference(&route.name, refusal.why);
                }
                Ok(false)
            }
        }
    }

    fn report_reference(&mut self, name: &str, why: String) {
        let part = native::PartReport { name: name.to_string(), native: false, reference: vec![why] };
        self.reports.push(native::SectionReport { parts: vec![part], ..native::SectionReport::default() });
    }

    /// A step for the reference.
    fn step(&mut self, step: &ir::Step, made: Made) -> Result<Step, ExecError> {
        let op = match made {
            Made::Native(native) => Op::Native(native),
            Made::Code(code) => self.code(&code).map_err(|message| ExecError {
                step: step.name.clone(),
                origin: step.origin,
                error: LowerError { setting: None, message },
            })?,
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

    /// `compiled`: its section decides.
    fn route(&mut self, route: &ir::Route, compiled: bool, depth: u32) -> Result<Route, ExecError> {
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
        let memo =
            if route.all || compiled { None } else { deciding_header(deciding, local, &self.functions) };
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
