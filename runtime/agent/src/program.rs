//! What the host needs of a program: rows in, rows per output and failed rows back. The meaning of steps, routes and
//! expressions is elsewhere.

use std::sync::Arc;

use flow_plan::plan::OriginId;
use flow_plan::{Batch, Plan, ir};

use crate::traits::{Fault, Registry};

/// Makes a program again, with fresh state.
pub(crate) type RebuildProgram = Box<dyn Fn() -> Result<Box<dyn RunProgram>, Fault> + Send + Sync>;

/// A step that cannot be built.
pub(crate) struct StepFault {
    pub step: String,
    pub origin: OriginId,
    pub fault: Fault,
}

/// Builds the program `program` of agent `agent` (both indexes have been checked).
pub(crate) fn build_program(
    plan: &Plan,
    agent: usize,
    program: usize,
    _registry: &Registry,
) -> Result<Box<dyn RunProgram>, Vec<StepFault>> {
    let program = &plan.agents[agent].programs[program];
    Ok(Box::new(Passage { body: program.body.clone() }))
}

struct Passage {
    body: ir::Program,
}

impl RunProgram for Passage {
    fn run(&mut self, batch: Batch, _now_ms: i64) -> ProgramRun {
        let mut run = ProgramRun::default();
        pass(&self.body, batch, &mut run);
        run
    }
}

fn pass(program: &ir::Program, batch: Batch, run: &mut ProgramRun) {
    match &program.end {
        ir::End::Output(output) => run.outputs.push((*output, batch)),
        ir::End::Discard => batch.ack.done(),
        ir::End::Copy(programs) => {
            for program in programs {
                pass(program, batch.select(batch.rows.clone()), run);
            }
            batch.ack.done();
        }
        ir::End::Route(_) => {}
    }
}

/// A program that can be run on batches, with whatever state its steps keep.
pub(crate) trait RunProgram: Send {
    /// Runs all rows through. Every row ends in an output, in `failed`, or is dropped on purpose; the batch's
    /// acknowledgement is split among the outputs and failures, and the share of dropped rows is done.
    fn run(&mut self, batch: Batch, now_ms: i64) -> ProgramRun;
}

#[derive(Default)]
pub(crate) struct ProgramRun {
    /// (number of the output, rows), never empty ones; an output may come several times.
    pub outputs: Vec<(u32, Batch)>,
    /// Rows for the dead-letter store.
    pub failed: Vec<FailedRows>,
    /// Rows that failed, including those that an `x.errors` chain took.
    pub errors: u64,
    /// Rows dropped on purpose, by step.
    pub dropped: Vec<(Arc<str>, u64)>,
}

/// Rows that failed in one step and have no `x.errors` chain.
pub(crate) struct FailedRows {
    pub step: Arc<str>,
    pub origin: OriginId,
    pub batch: Batch,
    /// One for each row of `batch.rows`.
    pub messages: Vec<String>,
}
