//! The executors of one program: as many as run at the same time, built when they are first needed. A program that
//! keeps state has one. It must not know where batches come from and where they go.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use flow_plan::Batch;
use flow_plan::exec::DeadLetter;

use super::guard::guarded_call;
use crate::program::{Recipe, RunningProgram, StepTotals};
use crate::status::StepStatus;
use crate::traits::Fault;

/// Executors that wait for work are kept up to this number; one more than the threads of most machines needs no
/// place.
const FREE_MAX: usize = 64;

/// What a program made of a batch: (output number, rows), and rows that failed for good.
pub(super) struct Ran {
    pub outputs: Vec<(u32, Batch)>,
    pub dead: Vec<DeadLetter>,
}

pub(super) struct Executors {
    recipe: Recipe,
    /// Those that are not running now.
    free: Mutex<Vec<RunningProgram>>,
    /// Held while a program with state runs: it has one executor.
    turn: Option<Mutex<()>>,
    /// Rows were lost behind the program and come again: steps that remember what they have seen (`dedupe`) must
    /// not take the repeated rows for duplicates.
    stale: AtomicBool,
    steps: StepTotals,
    /// What a batch takes on average of late, in nanoseconds.
    cost_ns: AtomicU64,
}

impl Executors {
    /// `first`: built already, to know that the program can be built at all.
    pub fn new(recipe: Recipe, first: RunningProgram) -> Executors {
        Executors {
            recipe,
            turn: first.keeps_state().then(Mutex::default),
            steps: StepTotals::new(first.counters()),
            free: Mutex::new(vec![first]),
            stale: AtomicBool::new(false),
            cost_ns: AtomicU64::new(0),
        }
    }

    /// Its batches must pass one after the other.
    pub fn keeps_state(&self) -> bool {
        self.turn.is_some()
    }

    /// Runs the program over a batch. After a fault the batch is lost, and so is the executor if it panicked.
    pub fn run(&self, batch: Batch, now_ms: i64) -> Result<Ran, Fault> {
        let _turn = self.turn.as_ref().map(lock);
        let mut program = self.take()?;
        let begun = Instant::now();
        let (outputs, dead) = guarded_call(|| program.run(batch, now_ms)).inspect_err(|_| self.renew())?;
        self.learn(begun.elapsed());
        let mut free = lock(&self.free);
        if free.len() < FREE_MAX {
            free.push(program);
        }
        drop(free);
        Ok(Ran { outputs, dead })
    }

    /// What a batch has taken of late.
    pub fn cost(&self) -> Duration {
        Duration::from_nanos(self.cost_ns.load(Ordering::Relaxed))
    }

    /// The next run starts with fresh state. Nothing happens to a program that has none.
    pub fn renew(&self) {
        self.stale.store(self.keeps_state(), Ordering::Release);
    }

    pub fn steps(&self) -> Vec<StepStatus> {
        self.steps.snapshot()
    }

    fn take(&self) -> Result<RunningProgram, Fault> {
        let renew = self.stale.swap(false, Ordering::AcqRel);
        let free = lock(&self.free).pop();
        if let Some(program) = free.filter(|_| !renew) {
            return Ok(program);
        }
        let built = guarded_call(|| self.recipe.build(renew).map_err(|fault| fault.fault));
        let built = built.and_then(|built| built).inspect_err(|_| self.renew())?;
        let program = RunningProgram::new(built);
        self.steps.add(program.counters());
        Ok(program)
    }

    /// A moving average over about eight batches.
    fn learn(&self, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX) / 8;
        let average = self.cost_ns.load(Ordering::Relaxed);
        // Two threads may overwrite each other's: it is an estimate.
        self.cost_ns.store((average - average / 8).saturating_add(took), Ordering::Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
