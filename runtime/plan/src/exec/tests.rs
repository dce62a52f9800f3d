//! Programs over batches: steps, ends, failures, acknowledgements.

mod ack;
mod natives;
mod same;
mod steps;

use super::*;
use crate::batch::Columns;
use crate::interceptor::Lowered;
use crate::ir::{self, Expr, StepOp, Stmt};
use crate::testing::programs::{body_matches, plan, program, regex, slot, step};
use crate::testing::{int, text};

pub(super) fn functions() -> Functions {
    let mut functions = Functions::new();
    functions.add("int", |_, args| match args.first() {
        Some(crate::Value::Text(text)) => std::str::from_utf8(text)
            .ok()
            .and_then(|text| text.parse().ok())
            .map(crate::Value::Int)
            .ok_or_else(|| crate::function::EvalError::new("not an int")),
        _ => Err(crate::function::EvalError::new("not an int")),
    });
    functions
}

pub(super) fn to(output: u32) -> ir::Program {
    ir::Program { steps: Vec::new(), end: ir::End::Output(output) }
}

pub(super) fn executor(program: &plan::Program) -> Executor {
    Executor::new(&plan(), program, &functions(), &Interceptors::new()).unwrap()
}

pub(super) fn batch(bodies: &[&str]) -> Batch {
    let mut columns = Columns { source: "web".into(), first_id: 100, ..Columns::default() };
    for (index, body) in bodies.iter().enumerate() {
        columns.push(body.as_bytes(), index as i64).unwrap();
    }
    Batch::new(columns)
}

pub(super) fn call(function: &str, arg: Expr) -> Expr {
    Expr::Call { function: function.into(), args: vec![arg], origin: OriginId(2) }
}

pub(super) fn bodies(batches: &[Batch]) -> Vec<String> {
    let rows = batches.iter().flat_map(|batch| batch.rows.iter().map(move |&row| batch.body(row)));
    rows.map(|body| String::from_utf8_lossy(body).into_owned()).collect()
}

pub(super) fn header(batch: &Batch, row: u32, name: &str) -> Option<String> {
    let plan = plan();
    let found = batch.headers(row, &plan.slots).find(|(known, _)| *known == name);
    found.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
}

pub(super) fn run(program: &plan::Program, batch: Batch) -> Outputs {
    let mut outputs = Outputs::new();
    executor(program).run(batch, 1_000_000, &mut outputs);
    outputs
}

#[test]
fn what_is_prepared_can_go_to_another_thread() {
    fn check<T: Send>() {}
    check::<Executor>();
    check::<Outputs>();
    check::<crate::eval::PreparedExpr>();
    check::<crate::eval::PreparedTemplate>();
}
