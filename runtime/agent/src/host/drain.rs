//! From one channel to its sinks: take, run the drain program, write, commit. A transaction is committed when every
//! required sink has confirmed its rows and every refused event is kept elsewhere.

use std::sync::Arc;
use std::time::Duration;

use flow_plan::Batch;
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior, sleep_until};

use super::attempt::Attempt;
use super::pipe::{Patience, Pipe, PipeError, PortTarget};
use super::report::{Level, Reporter};
use super::sink::{Progress, SinkSlot, Work};
use crate::backoff::Backoff;
use crate::counters::Count;
use crate::status::{PartState, Phase};
use crate::traits::{Channel, ChannelError, Fault, Transaction};

/// Every sink hears of the time at least this often.
pub const TICK: Duration = Duration::from_secs(1);

/// How long sinks may take to close once the limit for draining has passed.
pub const HALT_CLOSE_MAX: Duration = Duration::from_secs(5);

pub(super) struct Drain {
    pub channel: Arc<dyn Channel>,
    /// The channel answers for its events across a crash: what leaves it must be safe before it forgets.
    pub durable: bool,
    pub pipe: Arc<Pipe>,
    pub sinks: Vec<SinkSlot>,
    pub phase: watch::Receiver<Phase>,
    pub reporter: Reporter,
    pub backoff: Backoff,
    /// See [`super::HostOptions::linger`].
    pub linger: Duration,
    pub counts: Arc<DrainCounts>,
    /// Not only optional branches lead here.
    pub needed: bool,
}

#[derive(Default)]
pub(super) struct DrainCounts {
    pub committed: Count,
    /// Events in the channel when its drain ended early.
    pub left: Count,
    pub transactions: Count,
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DrainEnd {
    /// Everything was delivered and the sinks are closed.
    Drained,
    /// The limit for draining has passed; what is left in the channel stays there.
    Halted,
    /// A sink cannot go on: the run has to stop.
    Failed,
}

enum Step {
    Next,
    End(DrainEnd),
}

impl Drain {
    pub async fn run(mut self) -> DrainEnd {
        let end = self.drain().await;
        if end != DrainEnd::Drained {
            // Nobody takes from it any more: the sources of a volatile channel hear that their events are lost,
            // instead of waiting for them until they are given up.
            self.counts.left.add(self.channel.status().events);
            self.channel.abandon();
        }
        let limit = (end == DrainEnd::Halted).then_some(HALT_CLOSE_MAX);
        for sink in &mut self.sinks {
            sink.close(limit).await;
            if sink.reporter.health.state() != PartState::Failed {
                sink.reporter.health.set(part_state(end));
            }
        }
        self.reporter.health.set(part_state(end));
        end
    }

    async fn drain(&mut self) -> DrainEnd {
        // A route may send all rows to one sink: the largest batch of any of them is worth taking.
        let events_max = self.sinks.iter().map(|sink| sink.events_max).max().unwrap_or(1_000);
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut pace = Pace::new(self.linger);
        loop {
            if let Step::End(end) = self.linger(&pace, events_max, &mut tick).await {
                return end;
            }
            let channel = self.channel.clone();
            let mut take = channel.take(events_max);
            // The wait is kept across ticks: a channel may be in the middle of reading.
            let taken = loop {
                tokio::select! {
                    biased;
                    () = halting(&mut self.phase) => return DrainEnd::Halted,
                    _ = tick.tick() => {
                        if !self.tick().await {
                            return DrainEnd::Failed;
                        }
                    }
                    taken = &mut take => break taken,
                }
            };
            drop(take);
            let step = match taken {
                Ok(None) | Err(ChannelError::Closed) => return DrainEnd::Drained,
                Ok(Some(transaction)) => {
                    let events = transaction.batches().iter().map(Batch::len).sum::<usize>();
                    let step = self.transact(transaction, &mut tick).await;
                    pace.ended(events, events_max);
                    step
                }
                Err(ChannelError::Fault(fault)) => self.wait_after(&fault, &mut tick).await,
            };
            if let Step::End(end) = step {
                return end;
            }
        }
    }

    async fn transact(&mut self, transaction: Box<dyn Transaction>, tick: &mut Interval) -> Step {
        let events = transaction.batches().iter().map(|batch| batch.len() as u64).sum();
        let (attempt, shares) = Attempt::new(&*transaction);
        let mut moved = false;
        let mut works: Vec<Work> = Vec::new();
        let mut optional: Vec<(usize, Work)> = Vec::new();
        let patience = self.patience();
        match sort(shares, &self.pipe, self.sinks.len(), patience, &mut moved).await {
            Ok(sorted) => {
                for (index, rows) in sorted.into_iter().enumerate() {
                    let events_max = self.sinks[index].events_max;
                    works.push(Work::new(rows.required, events_max));
                    if !rows.optional.is_empty() {
                        optional.push((index, Work::new(rows.optional, events_max)));
                    }
                }
            }
            Err(PipeError::Stopped) => return Step::End(self.stopped()),
            // The transaction is given back and comes again.
            Err(PipeError::Fault(fault)) => {
                drop(transaction);
                return self.wait_after(&fault, tick).await;
            }
        }
        if let Step::End(end) = self.write_required(&mut works, &mut moved, tick).await {
            return Step::End(end);
        }
        for (index, work) in optional {
            let mut patience = self.patience();
            if let Progress::Halted = self.sinks[index].try_optional(work, &mut patience).await {
                return Step::End(self.stopped());
            }
        }
        // From a volatile channel the events take their source's acknowledgement along; a durable one has given it
        // already, so it remembers them until they are safe elsewhere.
        if self.durable
            && moved
            && let Step::End(end) = self.hear(&attempt, tick).await
        {
            return Step::End(end);
        }
        if !attempt.commit() {
            // Another channel was abandoned: the run is failing, and the events stay in this one.
            return Step::End(self.stopped());
        }
        match transaction.commit().await {
            Ok(()) => {
                self.counts.committed.add(events);
                self.counts.transactions.add(1);
                self.backoff.reset();
                self.reporter.health.set(PartState::Running);
                Step::Next
            }
            Err(ChannelError::Closed) => Step::End(DrainEnd::Drained),
            Err(ChannelError::Fault(fault)) => self.wait_after(&fault, tick).await,
        }
    }

    /// Until every sink has confirmed. A sink that has to wait does not keep the others from writing.
    async fn write_required(&mut self, works: &mut [Work], moved: &mut bool, tick: &mut Interval) -> Step {
        loop {
            for (index, work) in works.iter_mut().enumerate() {
                let mut patience = self.patience();
                match self.sinks[index].progress(work, &mut patience, moved).await {
                    Progress::Done | Progress::Later => {}
                    Progress::Halted => return Step::End(self.stopped()),
                    Progress::Fatal(fault, level) => {
                        self.sinks[index].fail(&fault, level);
                        return Step::End(DrainEnd::Failed);
                    }
                }
            }
            let pending = works.iter().zip(&self.sinks).filter(|(work, _)| !work.is_done());
            let Some(time) = pending.filter_map(|(_, sink)| sink.not_before).min() else {
                if works.iter().all(Work::is_done) {
                    return Step::Next;
                }
                continue;
            };
            if let Step::End(end) = self.wait_until(time, tick).await {
                return Step::End(end);
            }
        }
    }

    /// Waits until what went to other channels is safe there.
    async fn hear(&mut self, attempt: &Attempt, tick: &mut Interval) -> Step {
        loop {
            tokio::select! {
                biased;
                () = halting(&mut self.phase) => return Step::End(DrainEnd::Halted),
                _ = tick.tick() => {
                    if !self.tick().await {
                        return Step::End(DrainEnd::Failed);
                    }
                }
                () = attempt.resolved() => return Step::Next,
            }
        }
    }

    /// After a fault of the channel or the program: told, and tried again later.
    async fn wait_after(&mut self, fault: &Fault, tick: &mut Interval) -> Step {
        self.reporter.report(Level::Warning, fault);
        self.reporter.health.set(PartState::Retrying);
        let time = Instant::now() + self.backoff.next_wait();
        self.wait_until(time, tick).await
    }

    /// Many small batches that come faster than this are worth a short wait, so that they are written together;
    /// an event that comes alone is written at once. The wait ends when there is enough, or no room for more.
    async fn linger(&mut self, pace: &Pace, events_max: usize, tick: &mut Interval) -> Step {
        let Some(time) = pace.until().filter(|_| *self.phase.borrow() == Phase::Running) else {
            return Step::Next;
        };
        let channel = self.channel.clone();
        tokio::select! {
            biased;
            // A batch as large as those that need no wait.
            () = channel.filled(events_max as u64 / 2) => Step::Next,
            waited = self.wait_until(time, tick) => waited,
        }
    }

    async fn wait_until(&mut self, time: Instant, tick: &mut Interval) -> Step {
        loop {
            tokio::select! {
                biased;
                () = halting(&mut self.phase) => return Step::End(DrainEnd::Halted),
                _ = tick.tick() => {
                    if !self.tick().await {
                        return Step::End(DrainEnd::Failed);
                    }
                }
                () = sleep_until(time) => return Step::Next,
            }
        }
    }

    /// False: a sink cannot go on.
    async fn tick(&mut self) -> bool {
        for sink in &mut self.sinks {
            if !sink.tick().await {
                return false;
            }
        }
        true
    }

    fn patience(&self) -> Patience {
        Patience { phase: self.phase.clone(), repeatable_until: Phase::Halting }
    }

    /// A wait was given up: because of the limit, or because a channel behind this one has failed.
    fn stopped(&self) -> DrainEnd {
        if *self.phase.borrow() >= Phase::Halting { DrainEnd::Halted } else { DrainEnd::Failed }
    }
}

/// Rows for one sink.
#[derive(Default)]
struct ForSink {
    required: Vec<Batch>,
    optional: Vec<Batch>,
}

/// Runs the program over the rows of a transaction and sorts them by sink. What goes to channels is delivered here.
async fn sort(
    shares: Vec<Batch>,
    pipe: &Pipe,
    sinks: usize,
    mut patience: Patience,
    moved: &mut bool,
) -> Result<Vec<ForSink>, PipeError> {
    let mut sorted: Vec<ForSink> = Vec::new();
    sorted.resize_with(sinks, ForSink::default);
    for share in shares {
        let outputs = pipe.keep(pipe.run(share)?)?;
        let count = outputs.len();
        let for_sinks = pipe.deliver(outputs, &mut patience).await?;
        *moved |= for_sinks.len() < count;
        for (output, rows) in for_sinks {
            let port = &pipe.outputs[output as usize];
            if let PortTarget::Sink(sink) = port.to {
                let rows_of = &mut sorted[sink];
                if port.optional { rows_of.optional.push(rows) } else { rows_of.required.push(rows) }
            }
        }
    }
    Ok(sorted)
}

async fn halting(phase: &mut watch::Receiver<Phase>) {
    // The host being gone is the end, too.
    let _ = phase.wait_for(|phase| *phase >= Phase::Halting).await;
}

fn part_state(end: DrainEnd) -> PartState {
    match end {
        DrainEnd::Drained => PartState::Finished,
        DrainEnd::Halted => PartState::Stopped,
        DrainEnd::Failed => PartState::Failed,
    }
}

/// Whether waiting a little makes larger batches.
struct Pace {
    linger: Duration,
    /// End of the last transaction, when it was a small one that followed another closely.
    small: Option<Instant>,
    last: Option<Instant>,
}

impl Pace {
    fn new(linger: Duration) -> Pace {
        Pace { linger, small: None, last: None }
    }

    fn ended(&mut self, events: usize, events_max: usize) {
        let now = Instant::now();
        let close = self.last.is_some_and(|last| now - last < 2 * self.linger);
        self.small = (close && events < events_max / 2).then_some(now);
        self.last = Some(now);
    }

    /// The next take is worth waiting for until then.
    fn until(&self) -> Option<Instant> {
        if self.linger.is_zero() { None } else { self.small.map(|end| end + self.linger) }
    }
}
