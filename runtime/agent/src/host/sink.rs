//! One sink of a drain: writes in pieces, tries again, takes a refused piece apart until the bad event is alone, and
//! builds the sink anew after a panic. It must not know where the events came from.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use flow_plan::batch::Columns;
use flow_plan::{Batch, Settings};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::guard::{blocking, guarded, guarded_call};
use super::pipe::{Patience, Pipe, PipeError, mark_error};
use super::report::{Level, Reporter};
use crate::backoff::Backoff;
use crate::counters::Count;
use crate::dead::{DeadLetters, Letter};
use crate::status::{PartState, Phase};
use crate::traits::{Context, Fault, Fence, Sink, SinkError, SinkFactory};

/// The longest that one write of an optional branch may take; after that the sink is built anew.
pub const OPTIONAL_WRITE_MAX: Duration = Duration::from_secs(10);

/// Refused events of one sink are told of at most this often.
pub const REFUSED_NOTICE_EVERY: Duration = Duration::from_secs(1);

pub(super) struct SinkSlot {
    /// `None` after a panic or an abandoned write: built again before the next write.
    pub sink: Option<Box<dyn Sink>>,
    pub factory: SinkFactory,
    pub settings: Settings,
    pub context: Context,
    /// `sink.errors`.
    pub errors: Option<Arc<Pipe>>,
    pub dead: Arc<DeadLetters>,
    pub place: String,
    /// Header names by slot.
    pub slots: Arc<Vec<String>>,
    pub backoff: Backoff,
    /// No attempt before this time.
    pub not_before: Option<Instant>,
    pub events_max: usize,
    /// Nothing is written behind it.
    pub fence: Option<Fence>,
    /// Some branch to it is not optional.
    pub required: bool,
    pub reporter: Reporter,
    pub counts: Arc<SinkCounts>,
    /// Refused events that no notice has told of yet.
    pub refused_untold: u64,
    pub refused_told: Option<Instant>,
}

#[derive(Default)]
pub(super) struct SinkCounts {
    pub events: Count,
    pub bytes: Count,
    pub writes: Count,
    pub retries: Count,
    pub refused: Count,
    pub dead_letters: Count,
    pub skipped: Count,
}

/// What one transaction wants of one sink, in pieces that are each written with one call. A piece leaves when it
/// is confirmed, so that nothing is written twice while the process lives.
#[derive(Default)]
pub(super) struct Work {
    pieces: VecDeque<Vec<Batch>>,
}

impl Work {
    pub fn new(batches: Vec<Batch>, events_max: usize) -> Work {
        let mut pieces = VecDeque::new();
        let mut rest = batches;
        while !rest.is_empty() {
            let after = split(&mut rest, events_max.max(1));
            pieces.push_back(std::mem::replace(&mut rest, after));
        }
        Work { pieces }
    }

    pub fn is_done(&self) -> bool {
        self.pieces.is_empty()
    }
}

/// How far the work of a sink came.
pub(super) enum Progress {
    Done,
    /// Try again at [`SinkSlot::not_before`].
    Later,
    /// The limit for draining has passed while writing.
    Halted,
    /// Trying again cannot help; the level says whether that is a failure.
    Fatal(Fault, Level),
}

enum Written {
    Confirmed,
    Refused(Fault),
    Later,
    Halted,
    Fatal(Fault, Level),
}

impl SinkSlot {
    /// Writes the pieces in order until one has to wait. `moved` becomes true when a refused event went to a
    /// channel: then the receipts of the transaction have to be waited for.
    pub async fn progress(&mut self, work: &mut Work, halting: &mut Patience, moved: &mut bool) -> Progress {
        if self.not_before.is_some_and(|time| Instant::now() < time) {
            return Progress::Later;
        }
        self.not_before = None;
        while let Some(piece) = work.pieces.front() {
            match self.write(piece, &mut halting.phase).await {
                Written::Confirmed => {
                    for batch in work.pieces.pop_front().unwrap_or_default() {
                        batch.ack.done();
                    }
                }
                Written::Later => return Progress::Later,
                Written::Halted => return Progress::Halted,
                Written::Fatal(fault, level) => return Progress::Fatal(fault, level),
                Written::Refused(fault) => {
                    let events: usize = piece.iter().map(Batch::len).sum();
                    if events > 1 {
                        if let Some(mut first) = work.pieces.pop_front() {
                            let second = split(&mut first, events / 2);
                            work.pieces.push_front(second);
                            work.pieces.push_front(first);
                        }
                        continue;
                    }
                    match self.put_aside(piece, &fault, halting, moved).await {
                        Ok(()) => {
                            self.tell_refused(&fault);
                            for batch in work.pieces.pop_front().unwrap_or_default() {
                                batch.ack.done();
                            }
                        }
                        Err(PipeError::Stopped) => return Progress::Halted,
                        Err(PipeError::Fault(fault)) => {
                            self.later(&fault);
                            return Progress::Later;
                        }
                    }
                }
            }
        }
        Progress::Done
    }

    /// The work of an optional branch: one attempt, and none while an earlier failure is recent. What fails is
    /// counted and forgotten.
    pub async fn try_optional(&mut self, mut work: Work, halting: &mut Patience) -> Progress {
        let mut moved = false;
        let progress = match timeout(OPTIONAL_WRITE_MAX, self.progress(&mut work, halting, &mut moved)).await
        {
            Ok(progress) => progress,
            Err(_) => {
                self.sink = None;
                let seconds = OPTIONAL_WRITE_MAX.as_secs();
                self.later(&Fault::new(format!("did not answer within {seconds} s")));
                Progress::Later
            }
        };
        for piece in work.pieces {
            self.counts.skipped.add(piece.iter().map(|batch| batch.len() as u64).sum());
            for batch in piece {
                batch.ack.done();
            }
        }
        match progress {
            Progress::Halted => Progress::Halted,
            Progress::Later | Progress::Done => Progress::Done,
            // An optional branch stops nothing: it is tried again later.
            Progress::Fatal(fault, _) => {
                self.later(&fault);
                Progress::Done
            }
        }
    }

    async fn write(&mut self, piece: &[Batch], phase: &mut watch::Receiver<Phase>) -> Written {
        if self.fence.as_ref().is_some_and(|fence| !fence.is_open()) {
            self.later(&Fault::new("another process may be at work by now: nothing is written"));
            return Written::Later;
        }
        let Some(sink) = self.ready() else { return Written::Later };
        let result = tokio::select! {
            biased;
            result = guarded(blocking(sink.write(piece))) => Some(result),
            _ = phase.wait_for(|phase| *phase >= Phase::Halting) => None,
        };
        match result {
            None => {
                // Given up in the middle: whatever it holds is not whole, so it must not be finished.
                self.sink = None;
                Written::Halted
            }
            Some(Ok(Ok(()))) => {
                self.backoff.reset();
                self.reporter.health.set(PartState::Running);
                self.counts.events.add(piece.iter().map(|batch| batch.len() as u64).sum());
                self.counts.bytes.add(piece.iter().map(Batch::body_bytes).sum());
                self.counts.writes.add(1);
                Written::Confirmed
            }
            Some(Ok(Err(error))) => match error {
                SinkError::Retry(fault) => {
                    self.later(&fault);
                    Written::Later
                }
                SinkError::Refused(fault) => Written::Refused(fault),
                SinkError::Fatal(fault) => Written::Fatal(fault, Level::Error),
                SinkError::Closed(fault) => Written::Fatal(fault, Level::Warning),
            },
            Some(Err(panic)) => {
                self.sink = None;
                self.later(&panic);
                Written::Later
            }
        }
    }

    /// The sink, built anew when the last one was given up.
    fn ready(&mut self) -> Option<&mut Box<dyn Sink>> {
        if self.sink.is_none() {
            match guarded_call(|| (self.factory)(&self.settings, &self.context)).and_then(|built| built) {
                Ok(sink) => self.sink = Some(sink),
                Err(fault) => self.later(&fault),
            }
        }
        self.sink.as_mut()
    }

    fn later(&mut self, fault: &Fault) {
        self.counts.retries.add(1);
        self.reporter.health.set(PartState::Retrying);
        self.reporter.report(Level::Warning, fault);
        self.not_before = Some(Instant::now() + self.backoff.next_wait());
    }

    /// A destination may refuse every event: the user hears of it now and then, with how many there were.
    fn tell_refused(&mut self, fault: &Fault) {
        self.counts.refused.add(1);
        self.refused_untold += 1;
        if self.refused_told.is_some_and(|told| told.elapsed() < REFUSED_NOTICE_EVERY) {
            return;
        }
        let mut fault = fault.clone();
        if self.refused_untold > 1 {
            fault.message = format!("{} ({} events)", fault.message, self.refused_untold);
        }
        self.reporter.report(Level::Warning, &fault);
        self.refused_untold = 0;
        self.refused_told = Some(Instant::now());
    }

    /// Tells the fault that stops the run.
    pub fn fail(&mut self, fault: &Fault, level: Level) {
        self.reporter.health.set(PartState::Failed);
        self.reporter.report(level, fault);
    }

    /// An event that the destination refuses goes to `sink.errors`, or to the dead letters.
    async fn put_aside(
        &mut self,
        piece: &[Batch],
        fault: &Fault,
        halting: &mut Patience,
        moved: &mut bool,
    ) -> Result<(), PipeError> {
        let Some(batch) = piece.iter().find(|batch| !batch.is_empty()) else { return Ok(()) };
        let row = batch.rows[0];
        let node: &str = &self.reporter.node;
        match &self.errors {
            Some(errors) => {
                let mut columns = extract_row(batch, row);
                mark_error(&mut columns, 0, &fault.message, node, &self.place, &self.slots);
                let mut refused = Batch::new(columns);
                refused.ack = batch.ack.split();
                *moved = true;
                let outputs = errors.keep(errors.run(refused)?)?;
                errors.deliver(outputs, halting).await?;
                Ok(())
            }
            None => {
                let letter = Letter { batch, row, error: &fault.message, place: &self.place };
                let written = self.dead.write(node, [letter], self.reporter.now_ms());
                written.map_err(PipeError::Fault)?;
                self.counts.dead_letters.add(1);
                Ok(())
            }
        }
    }

    /// Time passes. A fault here is told, and the next tick tries again. False: the sink cannot go on, and
    /// somebody needs it.
    pub async fn tick(&mut self) -> bool {
        let Some(sink) = self.sink.as_mut() else { return true };
        match guarded(blocking(sink.tick())).await {
            Ok(Ok(())) => {}
            Ok(Err(SinkError::Retry(fault) | SinkError::Refused(fault))) => {
                self.reporter.report(Level::Warning, &fault);
            }
            Ok(Err(error @ (SinkError::Fatal(_) | SinkError::Closed(_)))) => {
                let (fault, level) = match error {
                    SinkError::Closed(fault) => (fault, Level::Warning),
                    SinkError::Fatal(fault) | SinkError::Retry(fault) | SinkError::Refused(fault) => {
                        (fault, Level::Error)
                    }
                };
                if self.required {
                    self.fail(&fault, level);
                    return false;
                }
                self.later(&fault);
            }
            Err(panic) => {
                self.sink = None;
                self.later(&panic);
            }
        }
        true
    }

    /// Finishes files and connections. `limit`: give up after this long.
    pub async fn close(&mut self, limit: Option<Duration>) {
        let Some(mut sink) = self.sink.take() else { return };
        let close = guarded(blocking(sink.close()));
        let result = match limit {
            None => Some(close.await),
            Some(limit) => timeout(limit, close).await.ok(),
        };
        let fault = match result {
            Some(Ok(Ok(()) | Err(SinkError::Closed(_)))) => None,
            Some(Ok(Err(SinkError::Retry(fault) | SinkError::Refused(fault) | SinkError::Fatal(fault)))) => {
                Some(fault)
            }
            Some(Err(panic)) => Some(panic),
            None => Some(Fault::new("did not close in time")),
        };
        if let Some(fault) = fault {
            self.reporter.report(Level::Error, &fault);
        }
    }
}

/// Leaves the first `count` events in `batches` and gives back the rest.
fn split(batches: &mut Vec<Batch>, count: usize) -> Vec<Batch> {
    let mut left = count;
    for index in 0..batches.len() {
        let events = batches[index].len();
        if events > left {
            let mut rest = Vec::with_capacity(batches.len() - index);
            if left > 0 {
                rest.push(batches[index].split_off(left));
                rest.extend(batches.drain(index + 1..));
            } else {
                rest.extend(batches.drain(index..));
            }
            return rest;
        }
        left -= events;
    }
    Vec::new()
}

/// One row as columns of its own, with its `event.id`: marking it must not copy the columns of all others.
fn extract_row(batch: &Batch, row: u32) -> Columns {
    let from = &batch.columns;
    let mut columns =
        Columns { source: from.source.clone(), first_id: from.event_id(row), ..Columns::default() };
    // One row of an arena always fits into an empty one: ranges that overlap are copied once each, and a row whose
    // ranges add up to more than an arena keeps what fits.
    if columns.push(batch.body(row), batch.time_ms(row)).is_err() {
        columns.push_range(flow_plan::Range::new(0, 0), batch.time_ms(row));
    }
    for slot in 0..from.headers.len() as u32 {
        let slot = flow_plan::Slot(slot);
        if let Some(value) = batch.header(row, slot)
            && let Ok(range) = columns.arena.push(value)
        {
            columns.set_header(0, slot, range);
        }
    }
    let side = from.side.get(row as usize).map(Vec::as_slice).unwrap_or(&[]);
    for (name, range) in side {
        if let Some(value) = from.arena.get(*range)
            && let Ok(range) = columns.arena.push(value)
        {
            if columns.side.is_empty() {
                columns.side.push(Vec::new());
            }
            columns.side[0].push((name.clone(), range));
        }
    }
    columns
}
