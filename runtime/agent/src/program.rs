//! A program of the plan, ready to run and to be built again, with counts that outlive it. The meaning of steps,
//! routes and expressions is in `flow_plan`.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use flow_plan::exec::{DeadLetter, Executor, Natives, Outputs, StepCounters};
use flow_plan::plan::OriginId;
use flow_plan::{Batch, Plan};

use crate::status::StepStatus;
use crate::traits::{Fault, Registry};

/// Where a program is in the plan, and what it is built with.
pub(crate) struct Recipe {
    pub plan: Arc<Plan>,
    pub registry: Registry,
    /// Indexes that have been checked.
    pub agent: usize,
    pub program: usize,
    /// Steps with state of the agent.
    pub natives: Arc<Natives>,
}

/// A step that cannot be built.
pub(crate) struct StepFault {
    pub step: String,
    pub origin: OriginId,
    pub fault: Fault,
}

impl Recipe {
    /// `renew`: its steps with state begin anew, also for the other programs that share them.
    pub fn build(&self, renew: bool) -> Result<Executor, StepFault> {
        let program = &self.plan.agents[self.agent].programs[self.program];
        let functions = &self.registry.functions;
        let interceptors = &self.registry.interceptors;
        let compiler = self.registry.compiler.as_deref();
        let built = Executor::with_natives(
            &self.plan,
            program,
            functions,
            interceptors,
            compiler,
            &self.natives,
            renew,
        );
        built.map_err(|error| {
            let message = match &error.error.setting {
                Some(setting) => format!("`{setting}`: {}", error.error.message),
                None => error.error.message,
            };
            let step = error.step;
            StepFault { step, origin: error.origin, fault: Fault::new(message).code("F1109") }
        })
    }
}

/// An executor with its buffers.
pub(crate) struct RunningProgram {
    executor: Executor,
    outputs: Outputs,
}

impl RunningProgram {
    pub fn new(executor: Executor) -> RunningProgram {
        RunningProgram { executor, outputs: Outputs::new() }
    }

    /// (output number, rows), never empty ones, and the rows that no `x.errors` chain takes.
    pub fn run(&mut self, batch: Batch, now_ms: i64) -> (Vec<(u32, Batch)>, Vec<DeadLetter>) {
        // Something is left only after a panic.
        self.outputs.clear();
        self.executor.run(batch, now_ms, &mut self.outputs);
        let mut batches = Vec::new();
        for (output, rows) in self.outputs.batches.iter_mut().enumerate() {
            batches.extend(rows.drain(..).map(|batch| (output as u32, batch)));
        }
        (batches, std::mem::take(&mut self.outputs.dead))
    }

    pub fn counters(&self) -> Vec<Arc<StepCounters>> {
        self.executor.counters().to_vec()
    }
}

/// Counts of the steps of a program, over all the executors it has had.
pub(crate) struct StepTotals(Mutex<(Vec<StepStatus>, Vec<Arc<StepCounters>>)>);

impl StepTotals {
    pub fn new(counters: Vec<Arc<StepCounters>>) -> StepTotals {
        let zero = |counters: &Arc<StepCounters>| StepStatus {
            name: counters.name.clone(),
            events_in: 0,
            dropped: 0,
            failed: 0,
            emitted: 0,
        };
        StepTotals(Mutex::new((counters.iter().map(zero).collect(), counters)))
    }

    /// The program was built again: its steps count from zero.
    pub fn replace(&self, counters: Vec<Arc<StepCounters>>) {
        let mut totals = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let sums = sums(&totals.0, &totals.1);
        *totals = (sums, counters);
    }

    pub fn snapshot(&self) -> Vec<StepStatus> {
        let totals = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        sums(&totals.0, &totals.1)
    }
}

fn sums(before: &[StepStatus], now: &[Arc<StepCounters>]) -> Vec<StepStatus> {
    let sum = |(before, now): (&StepStatus, &Arc<StepCounters>)| StepStatus {
        name: before.name.clone(),
        events_in: before.events_in + now.events_in.load(Ordering::Relaxed),
        dropped: before.dropped + now.dropped.load(Ordering::Relaxed),
        failed: before.failed + now.failed.load(Ordering::Relaxed),
        emitted: before.emitted + now.emitted.load(Ordering::Relaxed),
    };
    before.iter().zip(now).map(sum).collect()
}
