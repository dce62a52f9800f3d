//! One member of a group at work: reads its partitions in turn, sends what it reads, hears what was delivered, and
//! writes positions down: behind the last batch before which everything is delivered, never further.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use flow_agent::{Fault, SourceError, SourceOutput, Stop};
use flow_plan::{Ack, Batch, Outcome};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::cluster::{Cluster, Fetched, Join, Member, Place, Read, ReadError, Transaction, Transactions};
use super::decode::Decoder;
use super::ledger::Ledger;
use super::transaction::FromTopic;

/// Batches of one reader on their way; at the bound it reads on when one is delivered.
const OPEN_BATCHES_MAX: usize = 256;

/// What is read at once, in bytes: between these, so that a batch has about the events it should have.
const READ_BYTES: std::ops::RangeInclusive<usize> = 64 << 10..=4 << 20;

/// A transaction is ended after this, or after so many batches.
const TRANSACTION_MS: u64 = 100;
const TRANSACTION_BATCHES_MAX: usize = 64;

pub struct ReaderOptions {
    pub join: Join,
    /// Where a partition begins for which the group has no position.
    pub from: Place,
    pub commit_every: Duration,
    pub committed_only: bool,
    /// About so many events in a batch.
    pub batch_events: usize,
    /// The source has no other reader: batches may be handed over ahead.
    pub alone: bool,
    /// Batches say where they come from (`deliver effectively_once`).
    pub once: bool,
    /// The name of the transactional producer.
    pub transactions: Option<String>,
}

/// Numbers for [`FromTopic::reading`].
static READINGS: AtomicU64 = AtomicU64::new(1);

pub struct Reader {
    cluster: Arc<dyn Cluster>,
    options: ReaderOptions,
    decoder: Decoder,
    topic: Arc<str>,
    group: Arc<str>,
    partitions: BTreeMap<i32, Partition>,
    /// Partitions that are taken away, until what is on its way is delivered.
    leaving: BTreeMap<i32, Partition>,
    leave_until: Option<Instant>,
    reports: UnboundedReceiver<Report>,
    reporter: UnboundedSender<Report>,
    /// Batches on their way, of all partitions.
    open: usize,
    /// Raised with each assignment, so that reports of an earlier one are told apart.
    term: u64,
    /// The partition that is read first next time.
    turn: i32,
    /// Mean size of an event, in bytes.
    event_bytes: f64,
    transactions: Option<Arc<dyn Transactions>>,
    transaction: Option<Open>,
}

struct Partition {
    term: u64,
    reading: u64,
    /// Where it is read on.
    next: i64,
    ledger: Ledger,
}

/// What became of a batch.
struct Report {
    partition: i32,
    term: u64,
    number: u64,
    outcome: Outcome,
}

/// A transaction that takes batches until it is due.
struct Open {
    transaction: Arc<dyn Transaction>,
    due: Instant,
    batches: usize,
}

/// A batch that is read and not sent yet.
struct Ready {
    partition: i32,
    batch: Batch,
    next: i64,
}

type Reading = Pin<Box<dyn Future<Output = (i32, i64, Result<Fetched, ReadError>)> + Send>>;
type Sending = Pin<Box<dyn Future<Output = Result<(), SourceError>> + Send>>;

impl Reader {
    pub fn new(cluster: Arc<dyn Cluster>, options: ReaderOptions, decoder: Decoder) -> Reader {
        let (reporter, reports) = unbounded_channel();
        Reader {
            cluster,
            topic: Arc::from(options.join.topic.as_str()),
            group: Arc::from(options.join.group.as_str()),
            options,
            decoder,
            partitions: BTreeMap::new(),
            leaving: BTreeMap::new(),
            leave_until: None,
            reports,
            reporter,
            open: 0,
            term: 0,
            turn: 0,
            event_bytes: 256.0,
            transactions: None,
            transaction: None,
        }
    }

    /// Until the flow stops, or something is lost on its way: then it begins again behind what was delivered.
    pub async fn run(mut self, output: SourceOutput, mut stop: Stop) -> Result<(), SourceError> {
        if let Some(name) = &self.options.transactions {
            let transactions = self.cluster.transactions(name).await.map_err(SourceError::Retry)?;
            self.transactions = Some(transactions);
        }
        let join = self.cluster.join(self.options.join.clone());
        let mut member = tokio::select! {
            () = stop.stopped() => return Ok(()),
            member = join => member.map_err(SourceError::Retry)?,
        };
        let result = self.read(&mut *member, &output, &mut stop).await;
        if stop.is_stopped() {
            self.finish(&mut *member, &output).await;
            member.leave().await;
            return Ok(());
        }
        if let Some(open) = self.transaction.take() {
            // The next owner of the name would abort it, too; others would wait for it until then.
            let _ = open.transaction.abort().await;
        }
        // What is on its way may still be delivered, and will come again.
        self.commit(&mut *member, &output).await;
        member.leave().await;
        result
    }

    async fn read(
        &mut self,
        member: &mut dyn Member,
        output: &SourceOutput,
        stop: &mut Stop,
    ) -> Result<(), SourceError> {
        let mut ticks = interval(self.options.commit_every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut reading: Option<Reading> = None;
        let mut ready: Option<Ready> = None;
        let mut sending: Option<Sending> = None;
        loop {
            if reading.is_none() && ready.is_none() && self.open < OPEN_BATCHES_MAX {
                reading = self.start_reading();
            }
            // One time for all that is judged in this round: what is not due yet is then slept for below.
            let now = Instant::now();
            // Before sending: a batch that waits for the next transaction goes at once, for nothing else may wake it.
            self.end_transaction(member, sending.is_none(), now).await?;
            if sending.is_none()
                && self.may_send(now)
                && let Some(next) = ready.take()
            {
                sending = self.start_sending(next, output).await?;
            }
            if self.leave_until.is_some_and(|until| self.is_left() || until <= now) {
                self.give_up_leaving(member, output).await?;
            }
            let due = self.transaction.as_ref().map(|open| open.due);
            let until = self.leave_until.into_iter().chain(due).min();
            tokio::select! {
                biased;
                () = stop.stopped() => return Ok(()),
                report = self.reports.recv() => if let Some(report) = report {
                    self.hear(report)?;
                },
                sent = wait(&mut sending) => {
                    sending = None;
                    sent?;
                }
                assigned = member.assigned() => {
                    reading = None;
                    let assigned = assigned.map_err(SourceError::Retry)?;
                    self.reassign(&assigned, member).await.map_err(SourceError::Retry)?;
                    if ready.as_ref().is_some_and(|ready| !self.partitions.contains_key(&ready.partition)) {
                        ready = None;
                    }
                }
                _ = ticks.tick(), if self.transactions.is_none() => self.commit(member, output).await,
                read = wait(&mut reading) => {
                    reading = None;
                    let (partition, from, fetched) = read;
                    ready = self.take(partition, from, fetched, output).await?;
                    if ready.is_none() && self.open == 0 {
                        output.idle();
                    }
                }
                () = sleep_until(until.unwrap_or(now)), if until.is_some_and(|until| until > now) => {}
            }
        }
    }

    /// Reads the next partition that has something, or waits until one has.
    fn start_reading(&mut self) -> Option<Reading> {
        let (before, after): (Vec<_>, Vec<_>) = self
            .partitions
            .iter()
            .map(|(&partition, state)| (partition, state.next))
            .partition(|(partition, _)| *partition < self.turn);
        let places: Vec<(i32, i64)> = after.into_iter().chain(before).collect();
        if places.is_empty() {
            return None;
        }
        let wanted = self.options.batch_events as f64 * self.event_bytes;
        let bytes_max = (wanted as usize).clamp(*READ_BYTES.start(), *READ_BYTES.end());
        let cluster = self.cluster.clone();
        let topic = self.options.join.topic.clone();
        let committed = self.options.committed_only;
        Some(Box::pin(async move {
            loop {
                for &(partition, from) in &places {
                    let what = Read { topic: &topic, partition, from, bytes_max, committed };
                    let read = cluster.read(&what).await;
                    if read.as_ref().is_ok_and(|fetched| fetched.bytes.is_empty()) {
                        continue;
                    }
                    return (partition, from, read);
                }
                cluster.readable(&topic, &places, committed).await;
            }
        }))
    }

    /// What was read, as events; nothing when there were none in it.
    async fn take(
        &mut self,
        partition: i32,
        from: i64,
        fetched: Result<Fetched, ReadError>,
        output: &SourceOutput,
    ) -> Result<Option<Ready>, SourceError> {
        let Some(state) = self.partitions.get_mut(&partition) else { return Ok(None) };
        let fetched = match fetched {
            Ok(fetched) => fetched,
            Err(ReadError::Fault(fault)) => return Err(SourceError::Retry(fault)),
            Err(ReadError::OutOfRange { start, end }) => {
                let what = if from < start {
                    output.count("missed", (start - from) as u64);
                    state.next = start;
                    format!(
                        "offsets {from} to {start} of partition {partition} were deleted before they were read"
                    )
                } else {
                    state.next = end;
                    format!("partition {partition} ends at offset {end}, and the group has read up to {from}")
                };
                output.warn(&Fault::new(what));
                return Ok(None);
            }
        };
        let bytes = fetched.bytes.len();
        let decoded = self.decoder.decode(fetched, partition, from).map_err(SourceError::Retry)?;
        if decoded.next <= from {
            let what = format!("partition {partition} holds nothing whole at offset {from}");
            return Err(SourceError::Retry(Fault::new(what)));
        }
        state.next = decoded.next;
        self.turn = partition + 1;
        if decoded.batch.is_empty() {
            state.ledger.passed(decoded.next);
            return Ok(None);
        }
        let mean = bytes as f64 / decoded.batch.len() as f64;
        self.event_bytes = self.event_bytes * 0.75 + mean * 0.25;
        Ok(Some(Ready { partition, batch: decoded.batch, next: decoded.next }))
    }

    /// A transaction that is due takes no more.
    fn may_send(&self, now: Instant) -> bool {
        self.transaction.as_ref().is_none_or(|open| open.due > now && open.batches < TRANSACTION_BATCHES_MAX)
    }

    async fn start_sending(
        &mut self,
        ready: Ready,
        output: &SourceOutput,
    ) -> Result<Option<Sending>, SourceError> {
        let Ready { partition, mut batch, next } = ready;
        if let Some(transactions) = &self.transactions
            && self.transaction.is_none()
        {
            let transaction = transactions.begin().await.map_err(SourceError::Retry)?;
            self.transaction = Some(Open {
                transaction,
                due: Instant::now() + Duration::from_millis(TRANSACTION_MS),
                batches: 0,
            });
        }
        let Some(state) = self.partitions.get_mut(&partition) else { return Ok(None) };
        let (number, term) = (state.ledger.sent(next), state.term);
        let reporter = self.reporter.clone();
        let resolved = move |outcome| {
            // The reader may be gone; what is not delivered then comes again.
            let _ = reporter.send(Report { partition, term, number, outcome });
        };
        if let Some(open) = &mut self.transaction {
            open.batches += 1;
        }
        batch.ack = if self.options.once {
            let from = FromTopic {
                topic: self.topic.clone(),
                partition,
                group: self.group.clone(),
                reading: state.reading,
                transaction: self.transaction.as_ref().map(|open| open.transaction.clone()),
            };
            Ack::with_context(Arc::new(from), resolved)
        } else {
            Ack::new(resolved)
        };
        self.open += 1;
        let (output, alone) = (output.clone(), self.options.alone);
        Ok(Some(Box::pin(async move {
            if alone { output.send_ahead(batch).await } else { output.send(batch).await }
        })))
    }

    fn hear(&mut self, report: Report) -> Result<(), SourceError> {
        let Report { partition, term, number, outcome } = report;
        self.open = self.open.saturating_sub(1);
        if outcome == Outcome::Lost {
            let what = "events were lost on their way, so they are read again";
            return Err(SourceError::Retry(Fault::new(what)));
        }
        let state = [self.partitions.get_mut(&partition), self.leaving.get_mut(&partition)];
        for state in state.into_iter().flatten().filter(|state| state.term == term) {
            state.ledger.delivered(number);
        }
        Ok(())
    }

    /// Partitions come and go.
    async fn reassign(&mut self, assigned: &[i32], member: &mut dyn Member) -> Result<(), Fault> {
        let gone: Vec<i32> =
            self.partitions.keys().copied().filter(|partition| !assigned.contains(partition)).collect();
        for partition in gone {
            if let Some(state) = self.partitions.remove(&partition) {
                self.leaving.insert(partition, state);
            }
        }
        // Also when nothing goes: the group waits to hear so.
        let patience = Duration::from_millis(self.options.join.session_ms / 3);
        self.leave_until.get_or_insert_with(|| Instant::now() + patience);
        let new: Vec<i32> =
            assigned.iter().copied().filter(|partition| !self.partitions.contains_key(partition)).collect();
        let positions = member.positions(&new).await?;
        self.term += 1;
        for (partition, position) in new.into_iter().zip(positions) {
            let topic = &self.options.join.topic;
            let (next, saved) = match position {
                Some(position) => (position, true),
                None => (self.cluster.offset(topic, partition, self.options.from).await?, false),
            };
            let mut ledger = Ledger::default();
            if saved {
                ledger.committed(next);
            } else {
                // A group that has begun has a place, also before the first event.
                ledger.passed(next);
            }
            self.leaving.remove(&partition);
            let reading = READINGS.fetch_add(1, Ordering::Relaxed);
            self.partitions.insert(partition, Partition { term: self.term, reading, next, ledger });
        }
        Ok(())
    }

    fn is_left(&self) -> bool {
        self.leaving.values().all(|state| state.ledger.open() == 0) && self.transaction.is_none()
    }

    async fn give_up_leaving(
        &mut self,
        member: &mut dyn Member,
        output: &SourceOutput,
    ) -> Result<(), SourceError> {
        if self.transactions.is_none() {
            self.commit(member, output).await;
        }
        self.leaving.clear();
        self.leave_until = None;
        member.release().await.map_err(SourceError::Retry)
    }

    /// Writes positions down. A fault is told; the next try brings them along.
    async fn commit(&mut self, member: &mut dyn Member, output: &SourceOutput) {
        if self.transactions.is_some() {
            return;
        }
        let positions = self.positions();
        if positions.is_empty() {
            return;
        }
        match member.commit(&positions).await {
            Ok(()) => self.committed(&positions),
            Err(fault) => output.warn(&fault),
        }
    }

    fn positions(&self) -> Vec<(i32, i64)> {
        let all = self.leaving.iter().chain(&self.partitions);
        all.filter_map(|(&partition, state)| Some((partition, state.ledger.to_commit()?))).collect()
    }

    fn committed(&mut self, positions: &[(i32, i64)]) {
        for &(partition, position) in positions {
            let state = [self.leaving.get_mut(&partition), self.partitions.get_mut(&partition)];
            state.into_iter().flatten().for_each(|state| state.ledger.committed(position));
        }
    }

    /// Ends a transaction that is due (or must be, because partitions go) once all of it is delivered.
    async fn end_transaction(
        &mut self,
        member: &mut dyn Member,
        sent: bool,
        now: Instant,
    ) -> Result<(), SourceError> {
        let leaving = self.leave_until.is_some();
        let Some(open) = &mut self.transaction else { return Ok(()) };
        if leaving {
            open.due = open.due.min(now);
        }
        if self.open > 0 || !sent || self.may_send(now) {
            return Ok(());
        }
        let Some(open) = self.transaction.take() else { return Ok(()) };
        let transaction = &open.transaction;
        let positions = self.positions();
        let who = member.identity();
        let ended = async {
            transaction.offsets(&who, &self.options.join.topic, &positions).await?;
            transaction.commit().await
        };
        if let Err(fault) = ended.await {
            let _ = transaction.abort().await;
            return Err(SourceError::Retry(fault));
        }
        self.committed(&positions);
        Ok(())
    }

    /// After the stop: waits for what is on its way, and writes down how far it got.
    async fn finish(&mut self, member: &mut dyn Member, output: &SourceOutput) {
        let mut lost = false;
        while self.open > 0 {
            let Some(report) = self.reports.recv().await else { break };
            lost |= self.hear(report).is_err();
        }
        match self.transaction.take() {
            None => self.commit(member, output).await,
            Some(open) => {
                let transaction = &open.transaction;
                let positions = self.positions();
                let who = member.identity();
                let ended = async {
                    transaction.offsets(&who, &self.options.join.topic, &positions).await?;
                    transaction.commit().await
                };
                if lost || ended.await.is_err() {
                    // It comes again at the next start.
                    let _ = transaction.abort().await;
                }
            }
        }
    }
}

/// Waits for a future that may not be there; for ever when it is not.
async fn wait<T>(future: &mut Option<Pin<Box<dyn Future<Output = T> + Send>>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}
