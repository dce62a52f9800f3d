//! A program with its places: runs it, keeps its failed rows as dead letters, and hands its outputs to channels,
//! the required ones first.

use std::sync::{Arc, Mutex, MutexGuard};

use flow_plan::Batch;
use flow_plan::batch::Columns;
use flow_plan::exec::DeadLetter;
use flow_plan::plan::OriginId;
use tokio::sync::watch;
use tokio::time::Instant;

use super::executors::{Executors, Ran};
use super::report::Reporter;
use crate::counters::Count;
use crate::dead::{DeadLetters, Letter};
use crate::status::{OutputStatus, Phase, ProgramStatus};
use crate::traits::{Channel, ChannelError, Fault};

/// A built program. Shared by the callers of one source (several connections may send at once) and its workers.
pub(super) struct Pipe {
    pub name: Arc<str>,
    pub executors: Executors,
    pub outputs: Vec<Port>,
    pub dead: Arc<DeadLetters>,
    pub reporter: Reporter,
    pub counts: PipeCounts,
}

#[derive(Default)]
pub(super) struct PipeCounts {
    events_in: Count,
    events_out: Count,
    dead_letters: Count,
}

/// One output of a program.
pub(super) struct Port {
    pub to: PortTarget,
    pub name: Arc<str>,
    pub optional: bool,
    pub origin: OriginId,
    /// The arrow in the text.
    pub place: String,
    pub events: Count,
    pub bytes: Count,
    pub dropped: Count,
    pub waiting: Waiting,
}

/// Since when somebody waits for room.
#[derive(Default)]
pub(super) struct Waiting(Mutex<(usize, Option<Instant>)>);

/// One that waits; gone also when the wait is given up.
struct Waiter<'a>(&'a Waiting);

pub(super) enum PortTarget {
    Channel(Arc<dyn Channel>),
    /// A sink of the drain that runs the program, by its number there.
    Sink(usize),
}

/// Why outputs were not delivered; the shares that were not taken are lost.
#[derive(Clone, Debug)]
pub(super) enum PipeError {
    /// The target is closed or the wait was given up: the flow is stopping.
    Stopped,
    Fault(Fault),
}

/// Until when a put waits for room.
pub(super) struct Patience {
    pub phase: watch::Receiver<Phase>,
    /// Batches that somebody repeats are given up as soon as the flow stops; others wait while channels drain,
    /// because nobody could bring them again.
    pub repeatable_until: Phase,
}

impl Pipe {
    /// Runs the program over a batch, on any thread. What is given back has to be kept and delivered, or is lost.
    pub fn run(&self, batch: Batch) -> Result<Ran, PipeError> {
        self.counts.events_in.add(batch.len() as u64);
        self.executors.run(batch, self.reporter.now_ms()).map_err(PipeError::Fault)
    }

    /// Keeps the failed rows of a run. What is given back has to be delivered or is lost.
    pub fn keep(&self, ran: Ran) -> Result<Vec<(u32, Batch)>, PipeError> {
        for letters in ran.dead {
            self.bury(letters).map_err(|fault| self.lost(fault))?;
        }
        for (output, batch) in &ran.outputs {
            self.counts.events_out.add(batch.len() as u64);
            if let Some(port) = self.outputs.get(*output as usize) {
                port.events.add(batch.len() as u64);
                port.bytes.add(batch.body_bytes());
            }
        }
        Ok(ran.outputs)
    }

    /// The next run starts with fresh state.
    pub fn reset(&self) {
        self.executors.renew();
    }

    fn lost(&self, fault: Fault) -> PipeError {
        self.reset();
        PipeError::Fault(fault)
    }

    /// Puts every batch that is for a channel into it: required ones in order, waiting for room, then optional
    /// ones if there is room now. Gives back what is for sinks.
    pub async fn deliver(
        &self,
        outputs: Vec<(u32, Batch)>,
        patience: &mut Patience,
    ) -> Result<Vec<(u32, Batch)>, PipeError> {
        let mut optional = Vec::new();
        let mut sinks = Vec::new();
        for (output, batch) in outputs {
            let Some(port) = self.outputs.get(output as usize) else {
                let what = format!("program `{}` has no output {output}", self.name);
                return Err(self.lost(Fault::new(what).code("F1109")));
            };
            let batch = self.fitting(port, batch).map_err(|fault| self.lost(fault))?;
            match &port.to {
                PortTarget::Sink(_) => sinks.push((output, batch)),
                PortTarget::Channel(channel) if port.optional => optional.push((port, channel, batch)),
                PortTarget::Channel(channel) => {
                    let _waiter = port.waiting.enter();
                    patience.put(channel, batch).await.inspect_err(|_| self.reset())?;
                }
            }
        }
        for (port, channel, batch) in optional {
            if let Err(rejected) = channel.try_put(batch) {
                port.dropped.add(rejected.batch.len() as u64);
                // An optional branch is outside of every promise.
                rejected.batch.ack.done();
            }
        }
        Ok(sinks)
    }

    /// Without the rows that the target can never take; those are kept as dead letters.
    fn fitting(&self, port: &Port, mut batch: Batch) -> Result<Batch, Fault> {
        let PortTarget::Channel(channel) = &port.to else { return Ok(batch) };
        let unfit = channel.unfit(&batch);
        if unfit.is_empty() {
            return Ok(batch);
        }
        let letters = unfit.iter().map(|(row, why)| Letter {
            batch: &batch,
            row: *row,
            error: why,
            place: &port.place,
        });
        let written = self.dead.write(&port.name, letters, self.reporter.now_ms())?;
        self.counts.dead_letters.add(written);
        batch.rows.retain(|row| !unfit.iter().any(|(unfit, _)| unfit == row));
        Ok(batch)
    }

    /// Writes rows to the dead-letter store and marks their share done.
    fn bury(&self, dead: DeadLetter) -> Result<(), Fault> {
        let rows = dead.batch.rows.iter().zip(&dead.reasons);
        let letters = rows.map(|(&row, reason)| Letter {
            batch: &dead.batch,
            row,
            error: &reason.message,
            place: &reason.at,
        });
        let written = self.dead.write(&dead.step, letters, self.reporter.now_ms())?;
        self.counts.dead_letters.add(written);
        dead.batch.ack.done();
        Ok(())
    }

    pub fn status(&self) -> ProgramStatus {
        let steps = self.executors.steps();
        ProgramStatus {
            name: self.name.to_string(),
            events_in: self.counts.events_in.get(),
            events_out: self.counts.events_out.get(),
            errors: steps.iter().map(|step| step.failed).sum(),
            dead_letters: self.counts.dead_letters.get(),
            steps,
            outputs: self.outputs.iter().map(Port::status).collect(),
        }
    }
}

impl Port {
    fn status(&self) -> OutputStatus {
        OutputStatus {
            to: self.name.to_string(),
            optional: self.optional,
            origin: self.origin,
            events: self.events.get(),
            bytes: self.bytes.get(),
            dropped: self.dropped.get(),
            waiting_ms: self.waiting.ms(),
        }
    }
}

impl Waiting {
    fn enter(&self) -> Waiter<'_> {
        let mut waiting = self.lock();
        waiting.0 += 1;
        waiting.1.get_or_insert_with(Instant::now);
        Waiter(self)
    }

    fn ms(&self) -> u64 {
        self.lock().1.map_or(0, |since| since.elapsed().as_millis() as u64)
    }

    fn lock(&self) -> MutexGuard<'_, (usize, Option<Instant>)> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut waiting = self.0.lock();
        waiting.0 = waiting.0.saturating_sub(1);
        // Somebody got through: those that still wait have done so since now at most.
        waiting.1 = (waiting.0 > 0).then(Instant::now);
    }
}

impl Patience {
    /// For what comes from a source: it repeats what it has not heard of.
    pub fn of_source(phase: &watch::Receiver<Phase>) -> Patience {
        Patience { phase: phase.clone(), repeatable_until: Phase::Draining }
    }

    async fn put(&mut self, channel: &Arc<dyn Channel>, batch: Batch) -> Result<(), PipeError> {
        let until = if batch.ack.is_open() { self.repeatable_until } else { Phase::Halting };
        tokio::select! {
            biased;
            put = channel.put(batch) => match put {
                Ok(()) => Ok(()),
                Err(ChannelError::Closed) => Err(PipeError::Stopped),
                Err(ChannelError::Fault(fault)) => Err(PipeError::Fault(fault)),
            },
            // The batch is dropped with the put: its share is lost, so its source repeats it.
            _ = self.phase.wait_for(|phase| *phase >= until) => Err(PipeError::Stopped),
        }
    }
}

/// Says on a row why it is in an errors chain, as failed steps do.
pub(super) fn mark_error(
    columns: &mut Columns,
    row: u32,
    error: &str,
    step: &str,
    place: &str,
    slots: &[String],
) {
    for (name, value) in [("error", error), ("error_step", step), ("error_at", place)] {
        // Without room for its reason the event still goes on.
        let _ = columns.set_header_named(row, name, value.as_bytes(), slots);
    }
}
