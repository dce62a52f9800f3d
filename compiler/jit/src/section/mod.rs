//! A section as one native function over a batch: each row goes through all steps and the route without anything
//! being dispatched or looked up. See [`flow_plan::native`] for the contract.

mod condition;
mod emit;
mod expr;
mod frame;
mod instance;
mod json;
mod regexes;
mod route;
mod runtime;
mod steps;
mod values;

use std::collections::BTreeSet;
use std::time::Instant;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{I32, I64};
use cranelift_codegen::ir::{BlockArg, InstBuilder};
use flow_plan::ir::{Expr, Stmt};
use flow_plan::native::{Ask, PartReport, Refusal, Section, SectionReport};

pub use instance::SectionCode;

use crate::code::{CodeBuilder, CodeError, Settings};
use crate::kernels::Classifier;
use emit::{Emitter, Held, flags};
use regexes::Regexes;

/// Steps of one section, the route not counted.
pub const STEPS_MAX: usize = 256;

/// Arms of a route.
const ARMS_MAX: usize = 4_096;

/// Header slots that a section may name.
const SLOTS_MAX: u32 = 65_536;

/// A section compiled, with what it leaves to the reference.
pub struct Made {
    pub code: SectionCode,
    pub asks: Vec<Ask>,
    pub report: SectionReport,
}

/// Whether statements have a native form; if not, why.
pub fn accepts(body: &[Stmt]) -> Result<(), String> {
    steps::accepts_statements(body, false)
}

/// What a section does with columns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    pub reads: BTreeSet<u32>,
    pub writes: BTreeSet<u32>,
    /// Anything at all is written.
    pub changes: bool,
}

impl Touched {
    fn by(section: &Section<'_>) -> Touched {
        let mut touched = Touched::default();
        for step in &section.steps {
            touched.statements(&step.code.body);
        }
        if let Some(route) = section.route {
            let conditions = route.arms.iter().filter_map(|arm| arm.when.as_ref());
            route.subject.iter().chain(conditions).for_each(|expr| touched.expr(expr));
        }
        for function in section.functions.user() {
            touched.statements(&function.body);
        }
        touched
    }

    fn expr(&mut self, expr: &Expr) {
        flow_plan::eval::visit(expr, &mut |expr| {
            if let Expr::Header(slot) = expr {
                self.reads.insert(slot.0);
            }
        });
    }

    fn statements(&mut self, statements: &[Stmt]) {
        for statement in statements {
            match statement {
                Stmt::Set { value, .. } | Stmt::Expr { value } => self.expr(value),
                Stmt::SetHeader { slot, value } => {
                    self.expr(value);
                    self.writes.insert(slot.0);
                    self.changes = true;
                }
                Stmt::RemoveHeader { slot } => {
                    self.writes.insert(slot.0);
                    self.changes = true;
                }
                Stmt::SetBody { value } | Stmt::SetTime { value } => {
                    self.expr(value);
                    self.changes = true;
                }
                Stmt::If { condition, then, otherwise } => {
                    self.expr(condition);
                    self.statements(then);
                    self.statements(otherwise);
                }
                Stmt::Extract { subject, groups, .. } => {
                    self.expr(subject);
                    for group in groups {
                        self.writes.insert(group.slot.0);
                        group.convert.iter().for_each(|convert| self.expr(convert));
                    }
                    self.changes = true;
                }
                Stmt::Return { value } => value.iter().for_each(|value| self.expr(value)),
                Stmt::For { .. }
                | Stmt::SetPath { .. }
                | Stmt::RemoveHeaders { .. }
                | Stmt::Drop
                | Stmt::Pass
                | Stmt::Fail { .. }
                | Stmt::Emit { .. } => {}
            }
        }
    }
}

/// Compiles a section.
pub fn compile(section: &Section<'_>) -> Result<Made, Refusal> {
    compile_parts(section).map_err(|fault| match fault {
        Fault::Part(part, why) => Refusal { part: Some(part), why },
        Fault::Code(error) => Refusal { part: None, why: error.to_string() },
    })
}

enum Fault {
    Part(usize, String),
    Code(CodeError),
}

impl From<CodeError> for Fault {
    fn from(error: CodeError) -> Fault {
        Fault::Code(error)
    }
}

fn compile_parts(section: &Section<'_>) -> Result<Made, Fault> {
    let started = Instant::now();
    let touched = Touched::by(section);
    if section.steps.len() > STEPS_MAX {
        // Those before it, and those behind it, are sections of their own.
        return Err(Fault::Part(STEPS_MAX, format!("{STEPS_MAX} steps before it are compiled together")));
    }
    if touched.reads.iter().chain(&touched.writes).any(|slot| *slot >= SLOTS_MAX) {
        return Err(CodeError::TooLarge("header names", SLOTS_MAX as usize).into());
    }
    if let Some(route) = section.route {
        if route.arms.len() > ARMS_MAX {
            return Err(Fault::Part(section.steps.len(), format!("it has more than {ARMS_MAX} cases")));
        }
        if route.all && route.arms.len() > route::ALL_ARMS_MAX {
            let why = format!("it has more than {} cases", route::ALL_ARMS_MAX);
            return Err(Fault::Part(section.steps.len(), why));
        }
    }
    let mut code = CodeBuilder::new(&Settings::default())?;
    let regexes = Regexes::compile(section, &mut code);
    for (number, step) in section.steps.iter().enumerate() {
        regexes.check_extractions(&step.code.body).map_err(|why| Fault::Part(number, why))?;
    }
    let (mut held, mut asks, mut parts) = (Held::default(), Vec::new(), Vec::new());
    let signature = code.signature(&[I64], &[]);
    let template = signature.clone();
    let entry = code.define("section", &signature, |fb, scope| {
        let entry = fb.create_block();
        fb.append_block_params_for_function_params(entry);
        fb.switch_to_block(entry);
        let frame = fb.block_params(entry)[0];
        let mut e =
            Emitter::new(fb, scope, section.functions, &regexes, &mut held, &mut asks, template, frame);
        emit_rows(&mut e, section, &mut parts)
    })?;
    let code = code.finish()?;
    let report = SectionReport { parts, code_bytes: code.code_bytes(), compile_time: started.elapsed() };
    let Some(pointer) = code.pointer(entry) else {
        return Err(CodeError::Undefined("section".into()).into());
    };
    // SAFETY: it was defined above with this signature.
    let run = unsafe { std::mem::transmute::<*const u8, instance::Entry>(pointer) };
    let code = SectionCode {
        run,
        steps: section.steps.len(),
        arms: section.route.map(|route| (route.arms.len(), route.all)),
        touched,
        prefilters: regexes.prefilters,
        joint: regexes.joint,
        classifier: if regexes.classes.is_empty() { None } else { Classifier::new(&regexes.classes) },
        held,
        _code: code,
    };
    Ok(Made { code, asks, report })
}

/// The loop over the rows.
fn emit_rows(
    e: &mut Emitter<'_, '_, '_>,
    section: &Section<'_>,
    parts: &mut Vec<PartReport>,
) -> Result<(), CodeError> {
    let rows = e.load(frame::ROWS);
    let count = e.load(frame::ROW_COUNT);
    let zero = e.int(0);
    let (head, body, stop) = (e.fb.create_block(), e.fb.create_block(), e.fb.create_block());
    e.fb.append_block_param(head, I64);
    e.fb.ins().jump(head, &[BlockArg::Value(zero)]);
    e.fb.switch_to_block(head);
    let at = e.fb.block_params(head)[0];
    let more = e.fb.ins().icmp(IntCC::UnsignedLessThan, at, count);
    e.fb.ins().brif(more, body, &[], stop, &[]);
    e.fb.switch_to_block(body);
    let offset = e.fb.ins().ishl_imm_s(at, 2);
    let address = e.fb.ins().iadd(rows, offset);
    let row = e.fb.ins().uload32(flags(), address, 0);
    let new = e.int(1);
    e.fb.ins().store(flags(), new, e.frame, frame::ROW_IS_NEW);
    (e.row, e.at) = (row, at);

    let gone = e.fb.create_block();
    for (number, step) in section.steps.iter().enumerate() {
        let next = e.fb.create_block();
        e.step(number, step.code.locals, &step.code.body, next, gone, stop)?;
        if sets_body(&step.code.body) {
            e.body_untouched = false;
        }
        parts.push(part(e, step.name));
        e.fb.switch_to_block(next);
    }
    let kept = e.load(frame::KEPT);
    let offset = e.fb.ins().ishl_imm_s(kept, 2);
    let place = e.fb.ins().iadd(rows, offset);
    if let Some(route) = section.route {
        let taken = e.fb.create_block();
        e.fb.append_block_param(taken, I64);
        e.route(section.steps.len(), route, taken, gone)?;
        parts.push(part(e, &route.name));
        e.fb.switch_to_block(taken);
        let arm = e.fb.block_params(taken)[0];
        let arms = e.load(frame::TAKEN);
        let offset = e.fb.ins().ishl_imm_s(kept, 3);
        let address = e.fb.ins().iadd(arms, offset);
        e.fb.ins().store(flags(), arm, address, 0);
    }
    let row32 = e.fb.ins().ireduce(I32, row);
    e.fb.ins().store(flags(), row32, place, 0);
    let kept = e.fb.ins().iadd_imm_s(kept, 1);
    e.fb.ins().store(flags(), kept, e.frame, frame::KEPT);
    e.fb.ins().jump(gone, &[]);
    e.fb.switch_to_block(gone);
    let next = e.fb.ins().iadd_imm_s(at, 1);
    e.fb.ins().jump(head, &[BlockArg::Value(next)]);
    e.fb.switch_to_block(stop);
    e.fb.ins().return_(&[]);
    Ok(())
}

fn part(e: &mut Emitter<'_, '_, '_>, name: &str) -> PartReport {
    PartReport { name: name.to_owned(), native: true, reference: std::mem::take(&mut e.left) }
}

fn sets_body(statements: &[Stmt]) -> bool {
    statements.iter().any(|statement| match statement {
        Stmt::SetBody { .. } => true,
        Stmt::If { then, otherwise, .. } => sets_body(then) || sets_body(otherwise),
        _ => false,
    })
}
