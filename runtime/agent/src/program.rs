//! A program of the plan, ready to run and to be built again, with counts that outlive it. The meaning of steps,
//! routes and expressions is in `flow_plan`.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};

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

    pub fn keeps_state(&self) -> bool {
        self.executor.keeps_state()
    }
}

/// Counts of the steps of a program, over all the executors it has and has had.
pub(crate) struct StepTotals(Mutex<Totals>);

struct Totals {
    /// Of executors that are gone.
    gone: Vec<StepStatus>,
    /// By executor; one that is gone is the only holder of its counters here.
    live: Vec<Vec<Arc<StepCounters>>>,
}

impl StepTotals {
    pub fn new(counters: Vec<Arc<StepCounters>>) -> StepTotals {
        let zero = |counters: &Arc<StepCounters>| StepStatus {
            name: counters.name.clone(),
            events_in: 0,
            dropped: 0,
            failed: 0,
            emitted: 0,
        };
        StepTotals(Mutex::new(Totals { gone: counters.iter().map(zero).collect(), live: vec![counters] }))
    }

    /// The program was built once more: the steps of the new executor count from zero.
    pub fn add(&self, counters: Vec<Arc<StepCounters>>) {
        let mut totals = self.lock();
        let live = std::mem::take(&mut totals.live);
        let is_gone = |counters: &Vec<Arc<StepCounters>>| {
            counters.iter().all(|counters| Arc::strong_count(counters) == 1)
        };
        let (gone, mut live): (Vec<_>, Vec<_>) = live.into_iter().partition(is_gone);
        for counters in gone {
            add_counts(&mut totals.gone, &counters);
        }
        live.push(counters);
        totals.live = live;
    }

    pub fn snapshot(&self) -> Vec<StepStatus> {
        let totals = self.lock();
        let mut sums = totals.gone.clone();
        for counters in &totals.live {
            add_counts(&mut sums, counters);
        }
        sums
    }

    fn lock(&self) -> MutexGuard<'_, Totals> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn add_counts(sums: &mut [StepStatus], counters: &[Arc<StepCounters>]) {
    for (sum, counters) in sums.iter_mut().zip(counters) {
        sum.events_in += counters.events_in.load(Ordering::Relaxed);
        sum.dropped += counters.dropped.load(Ordering::Relaxed);
        sum.failed += counters.failed.load(Ordering::Relaxed);
        sum.emitted += counters.emitted.load(Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(events_in: u64) -> Vec<Arc<StepCounters>> {
        let counters = StepCounters { name: "parse".into(), ..StepCounters::default() };
        counters.events_in.store(events_in, Ordering::Relaxed);
        vec![Arc::new(counters)]
    }

    /// Executors come and go: what those counted that are gone must stay in the sum, once.
    #[test]
    fn counts_outlive_the_executors_that_made_them() {
        let first = counters(1);
        let totals = StepTotals::new(first.clone());
        let second = counters(10);
        totals.add(second.clone());
        drop(first);
        totals.add(counters(100));
        assert_eq!(totals.snapshot()[0].events_in, 111);
        second[0].events_in.fetch_add(1_000, Ordering::Relaxed);
        totals.add(counters(0));
        assert_eq!(totals.snapshot()[0].events_in, 1_111);
        assert_eq!(totals.lock().live.len(), 2);
    }
}
