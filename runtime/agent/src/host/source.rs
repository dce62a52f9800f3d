//! A source and what stands behind its output: the program, the channels, and the supervisor that starts it again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use flow_plan::{Batch, Settings};
use tokio::sync::watch;
use tokio::time::Instant;

use super::guard::{guarded, guarded_call};
use super::pipe::{Patience, Pipe, PipeError, mark_error};
use super::report::{Level, Reporter};
use super::window::{Given, Window};
use crate::backoff::Backoff;
use crate::counters::{Count, NamedCounts};
use crate::dead::{DeadLetters, Letter};
use crate::status::{PartState, Phase};
use crate::traits::{Accept, Context, Fault, Source, SourceError, SourceFactory, SourceOutput, Stop};

/// The receiving end of one source.
pub(super) struct Intake {
    pub pipe: Arc<Pipe>,
    /// Batches on their way through the program.
    pub window: Window,
    /// `source.errors`.
    pub errors: Option<Pipe>,
    pub dead: Arc<DeadLetters>,
    pub place: String,
    /// Header names by slot.
    pub slots: Arc<Vec<String>>,
    pub phase: watch::Receiver<Phase>,
    pub reporter: Reporter,
    pub counts: IntakeCounts,
}

#[derive(Default)]
pub(super) struct IntakeCounts {
    pub idle: AtomicBool,
    pub events: Count,
    pub bytes: Count,
    pub refused: Count,
    pub restarts: Count,
    pub named: NamedCounts,
}

impl Intake {
    async fn flow_through(&self, pipe: &Pipe, batch: Batch) -> Result<(), SourceError> {
        let outputs = pipe.run(batch).and_then(|ran| pipe.keep(ran)).map_err(source_error)?;
        pipe.deliver(outputs, &mut Patience::of_source(&self.phase)).await.map_err(source_error)?;
        Ok(())
    }

    /// Counts a batch that comes in. Whether the source had been waiting for input before.
    fn count_in(&self, batch: &Batch) -> bool {
        self.counts.events.add(batch.len() as u64);
        self.counts.bytes.add(batch.body_bytes());
        self.counts.idle.swap(false, Ordering::Relaxed)
    }
}

fn source_error(error: PipeError) -> SourceError {
    match error {
        PipeError::Stopped => SourceError::Stopped,
        PipeError::Fault(fault) => SourceError::Retry(fault),
    }
}

#[async_trait]
impl Accept for Intake {
    async fn accept(&self, batch: Batch) -> Result<(), SourceError> {
        self.count_in(&batch);
        // It does not overtake what was sent ahead.
        self.window.empty().await.map_err(source_error)?;
        self.flow_through(&self.pipe, batch).await?;
        tokio::task::yield_now().await;
        Ok(())
    }

    async fn accept_ahead(&self, batch: Batch) -> Result<(), SourceError> {
        let pressed = !self.count_in(&batch);
        match self.window.give(batch, pressed).await.map_err(source_error)? {
            Given::Taken => {}
            Given::Back(batch) => self.flow_through(&self.pipe, batch).await?,
        }
        // A source that always has input and always finds room would never let go of its worker.
        tokio::task::yield_now().await;
        Ok(())
    }

    async fn refuse(&self, mut batch: Batch, reason: &str) -> Result<(), SourceError> {
        self.counts.idle.store(false, Ordering::Relaxed);
        self.counts.refused.add(batch.len() as u64);
        match &self.errors {
            Some(errors) => {
                let rows = batch.rows.clone();
                let columns = batch.columns_mut();
                for row in rows {
                    mark_error(columns, row, reason, &self.reporter.node, &self.place, &self.slots);
                }
                self.flow_through(errors, batch).await
            }
            None => {
                let letters = batch.rows.iter().map(|&row| Letter {
                    batch: &batch,
                    row,
                    error: reason,
                    place: &self.place,
                });
                let now_ms = self.reporter.now_ms();
                self.dead.write(&self.reporter.node, letters, now_ms).map_err(SourceError::Retry)?;
                batch.ack.done();
                Ok(())
            }
        }
    }

    fn count(&self, what: &'static str, events: u64) {
        self.counts.named.add(what, events);
    }

    fn idle(&self) {
        self.counts.idle.store(true, Ordering::Relaxed);
    }

    fn warn(&self, fault: &Fault) {
        self.reporter.report(Level::Warning, fault);
    }
}

/// Starts one source, and starts it again after faults.
pub(super) struct Supervised {
    pub first: Box<dyn Source>,
    pub factory: SourceFactory,
    pub settings: Settings,
    pub context: Context,
    pub intake: Arc<Intake>,
    pub stop: Stop,
    pub backoff: Backoff,
}

/// When a source is given up, so is what it has handed over.
struct AbandonWindow(Arc<Intake>);

impl Drop for AbandonWindow {
    fn drop(&mut self) {
        self.0.window.abandon();
    }
}

impl Supervised {
    /// Runs until the source has finished, the flow stops, or a fault that no further try can mend.
    pub async fn run(mut self) {
        let reporter = self.intake.reporter.clone();
        let health = reporter.health.clone();
        let mut next = Some(self.first);
        let _window = AbandonWindow(self.intake.clone());
        loop {
            let started = Instant::now();
            let built = match next.take() {
                Some(source) => Ok(source),
                None => {
                    guarded_call(|| (self.factory)(&self.settings, &self.context)).and_then(|built| built)
                }
            };
            let result = match built {
                Ok(mut source) => {
                    health.set(PartState::Running);
                    let output = SourceOutput::new(self.intake.clone());
                    match guarded(source.run(output, self.stop.clone())).await {
                        Ok(result) => result,
                        // The batches it held are lost to it: their acknowledgements went with it.
                        Err(panic) => Err(SourceError::Retry(panic)),
                    }
                }
                Err(fault) => Err(SourceError::Retry(fault)),
            };
            // It has ended when all that it handed over has a place.
            let result = match (result, self.intake.window.empty().await) {
                (Err(error), Err(PipeError::Fault(fault))) => {
                    reporter.report(Level::Warning, &fault);
                    Err(error)
                }
                (result, handed_over) => result.and(handed_over.map_err(source_error)),
            };
            match result {
                Ok(()) => {
                    let stopped = self.stop.is_stopped();
                    health.set(if stopped { PartState::Stopped } else { PartState::Finished });
                    return;
                }
                Err(SourceError::Stopped) => {
                    health.set(PartState::Stopped);
                    return;
                }
                Err(SourceError::Fatal(fault)) => {
                    reporter.report(Level::Error, &fault);
                    health.set(PartState::Failed);
                    return;
                }
                Err(SourceError::Retry(fault)) => {
                    reporter.report(Level::Warning, &fault);
                    health.set(PartState::Retrying);
                }
            }
            if started.elapsed() >= self.backoff.limits().healthy {
                self.backoff.reset();
            }
            self.intake.counts.restarts.add(1);
            // It repeats what was not delivered.
            self.intake.pipe.reset();
            if let Some(errors) = &self.intake.errors {
                errors.reset();
            }
            let wait = self.backoff.next_wait();
            tokio::select! {
                () = self.stop.stopped() => {
                    health.set(PartState::Stopped);
                    return;
                }
                () = tokio::time::sleep(wait) => {}
            }
        }
    }
}
