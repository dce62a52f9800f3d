//! Runs the coordinator: writes its records to `__transaction_state`, its markers to the partitions, reserves producer
//! ids, and lets answers out when what they promise is on disk. It decides nothing.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use flow_log::LogError;
use flow_log::batch::{Builder, BuilderOptions, Records};
use kafka_protocol::ResponseError;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinHandle;

use super::coordinator::{
    Answer, CallId, Coordinator, Filter, Input, Options, Output, View, Write, WriteError,
};
use super::transaction::{Producer, TopicPartition};
use super::{hanging, markers};
use crate::broker::{Broker, StartError};
use crate::config::BrokerConfig;
use crate::store::clock::now_ms;
use crate::store::files::{read_file, replace_file};
use crate::store::{AppendError, Appended, NewTopic, Origin, Partition, Topic, TopicError};

/// Where transactions are kept.
pub(crate) const TOPIC: &str = "__transaction_state";

/// Beside the topics: up to where producer ids may have been given out.
const IDS_FILE: &str = "producer-ids";

const IDS_FILE_BYTES_MAX: usize = 4096;

/// The version in the first line of [`IDS_FILE`].
const IDS_FILE_VERSION: u32 = 1;

/// How often time-outs are looked at, in milliseconds.
const TICK_MS: u64 = 500;

/// Ticks between two searches for transactions that nobody will end.
const TICKS_PER_SEARCH: u32 = 1_200;

/// A request that meets a transaction whose markers are being written waits for so long before it is told to come again:
/// shorter than any client's back-off, and mostly enough.
const COMPLETION_WAIT_MS: u64 = 200;

/// The largest batch of `__transaction_state` that is read, decompressed.
const BATCH_BYTES_MAX: usize = 64 << 20;

/// The transaction coordinator of this broker.
pub(crate) struct Transactions {
    /// Set at the start, from the broker's settings.
    options: OnceLock<Options>,
    state: Mutex<State>,
    topic: OnceLock<Arc<Topic>>,
    stopping: watch::Sender<bool>,
    /// Something completed: who was told to come again may find it free.
    completed: Notify,
    ticker: Mutex<Option<JoinHandle<()>>>,
}

struct State {
    coordinator: Coordinator,
    calls: HashMap<CallId, oneshot::Sender<Result<Answer, ResponseError>>>,
    calls_made: CallId,
    /// Set when the broker stops: nothing is begun any more.
    stopped: bool,
}

/// What is left to do when the coordinator is let go.
enum Follow {
    Sync { write: u64, partition: Arc<Partition>, offset: i64 },
    Mark(super::coordinator::Mark),
    Reserve { end: i64 },
    Answer(oneshot::Sender<Result<Answer, ResponseError>>, Result<Answer, ResponseError>),
}

impl Transactions {
    pub(crate) fn open(_config: &BrokerConfig) -> Result<Transactions, StartError> {
        let coordinator = Coordinator::new(Options::default(), Vec::new(), 0);
        let state = State { coordinator, calls: HashMap::new(), calls_made: 0, stopped: false };
        Ok(Transactions {
            options: OnceLock::new(),
            state: Mutex::new(state),
            topic: OnceLock::new(),
            stopping: watch::Sender::new(false),
            completed: Notify::new(),
            ticker: Mutex::new(None),
        })
    }

    /// Replays what is on disk, finishes what was decided, ends what nobody can end any more, and starts the timers.
    pub(crate) async fn start(broker: &Arc<Broker>) -> Result<(), StartError> {
        let replaying = Arc::clone(broker);
        let coordinator = tokio::task::spawn_blocking(move || replay(&replaying))
            .await
            .unwrap_or_else(|error| Err(StartError::Config(format!("cannot read `{TOPIC}`: {error}"))))?;
        let this = &broker.transactions;
        let out = {
            let mut state = this.state();
            state.coordinator = coordinator;
            state.coordinator.finish_loading(now_ms())
        };
        // Nobody else is served yet.
        hanging::end_at_start(broker).await;
        let follow = this.append_all(broker, &mut this.state(), out.into());
        this.follow(broker, follow);
        *this.ticker.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(tokio::spawn(tick(Arc::downgrade(broker))));
        Ok(())
    }

    /// Ends the timers and refuses what is still asked. Markers that are on their way are written by the next start.
    pub(crate) async fn stop(&self) {
        let ticker = self.ticker.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(ticker) = ticker {
            ticker.abort();
        }
        {
            let mut state = self.state();
            state.stopped = true;
            state.calls.clear();
        }
        self.stopping.send_replace(true);
    }

    /// Waits for so long, unless the broker stops: then false.
    pub(super) async fn pause(&self, wait: Duration) -> bool {
        let mut stopping = self.stopping.subscribe();
        tokio::select! {
            () = tokio::time::sleep(wait) => true,
            _ = stopping.wait_for(|stopping| *stopping) => false,
        }
    }

    /// `InitProducerId`: a new producer, or the next epoch of one.
    pub(crate) async fn init_producer_id(
        &self,
        broker: &Arc<Broker>,
        transactional_id: Option<Arc<str>>,
        timeout_ms: i32,
        expected: Option<Producer>,
    ) -> Result<Producer, ResponseError> {
        if transactional_id.is_some() {
            self.ensure_topic(broker).await?;
        }
        let input = |call| Input::InitProducerId {
            call,
            transactional_id: transactional_id.clone(),
            timeout_ms,
            expected,
        };
        producer(self.call_patiently(broker, COMPLETION_WAIT_MS, input).await)
    }

    /// `AddPartitionsToTxn`.
    pub(crate) async fn add_partitions(
        &self,
        broker: &Arc<Broker>,
        transactional_id: &Arc<str>,
        producer: Producer,
        partitions: std::collections::BTreeSet<TopicPartition>,
    ) -> Result<(), ResponseError> {
        let input = |call| Input::AddPartitions {
            call,
            transactional_id: transactional_id.clone(),
            producer,
            partitions: partitions.clone(),
        };
        self.call_patiently(broker, COMPLETION_WAIT_MS, input).await.map(|_| ())
    }

    /// `EndTxn`: answered when the decision is on disk.
    pub(crate) async fn end(
        &self,
        broker: &Arc<Broker>,
        transactional_id: &Arc<str>,
        producer: Producer,
        commit: bool,
    ) -> Result<(), ResponseError> {
        let transactional_id = transactional_id.clone();
        self.call(broker, |call| Input::End { call, transactional_id, producer, commit }).await.map(|_| ())
    }

    /// Takes a transactional id for this process; whoever had it is fenced, and what it left open is aborted first,
    /// however long that takes.
    pub(super) async fn open_local(
        &self,
        broker: &Arc<Broker>,
        transactional_id: &Arc<str>,
    ) -> Result<Producer, ResponseError> {
        self.ensure_topic(broker).await?;
        let input = |call| Input::OpenLocal { call, transactional_id: transactional_id.clone() };
        producer(self.call_patiently(broker, u64::MAX, input).await)
    }

    pub(super) fn add_local(
        &self,
        transactional_id: &str,
        producer: Producer,
        partition: TopicPartition,
    ) -> Result<(), ResponseError> {
        let mut state = self.state();
        if state.stopped {
            return Err(ResponseError::CoordinatorNotAvailable);
        }
        state.coordinator.add_local(transactional_id, producer, partition, now_ms())
    }

    /// Ends a transaction of this process. It is begun at once, whether the answer is awaited or not.
    pub(super) fn end_local(
        &self,
        broker: &Arc<Broker>,
        transactional_id: &Arc<str>,
        producer: Producer,
        commit: bool,
    ) -> oneshot::Receiver<Result<Answer, ResponseError>> {
        let transactional_id = transactional_id.clone();
        self.begin_call(broker, |call| Input::EndLocal { call, transactional_id, producer, commit })
    }

    /// Whether a producer's first batch in a partition belongs to its open transaction, as a produce request of
    /// `version` is answered.
    pub(crate) fn verify(
        &self,
        transactional_id: &str,
        producer: Producer,
        partition: &TopicPartition,
    ) -> Result<(), ResponseError> {
        self.state().coordinator.verify(transactional_id, producer, partition)
    }

    pub(crate) fn describe(&self, transactional_id: &str) -> Option<View> {
        self.state().coordinator.describe(transactional_id)
    }

    pub(crate) fn list(&self, filter: &Filter) -> Vec<View> {
        self.state().coordinator.list(filter, now_ms())
    }

    /// With the coordinator as it is now.
    pub(super) fn with_coordinator<T>(&self, f: impl FnOnce(&Coordinator) -> T) -> T {
        f(&self.state().coordinator)
    }

    pub(super) fn options(&self) -> Options {
        self.options.get().cloned().unwrap_or_default()
    }

    /// Says to the coordinator what happened and does what follows.
    pub(super) fn feed(&self, broker: &Arc<Broker>, input: Input) {
        let completes =
            matches!(input, Input::Written { .. } | Input::MarkersDone { .. } | Input::MarkersFailed { .. });
        let follow = {
            let mut state = self.state();
            if state.stopped {
                return;
            }
            // Records are appended under the lock of their step: the log has them in the order of the steps.
            let out = state.coordinator.step(input, now_ms());
            self.append_all(broker, &mut state, out.into())
        };
        self.follow(broker, follow);
        if completes {
            self.completed.notify_waiters();
        }
    }

    async fn call(
        &self,
        broker: &Arc<Broker>,
        input: impl FnOnce(CallId) -> Input,
    ) -> Result<Answer, ResponseError> {
        self.begin_call(broker, input).await.unwrap_or(Err(ResponseError::CoordinatorNotAvailable))
    }

    fn begin_call(
        &self,
        broker: &Arc<Broker>,
        input: impl FnOnce(CallId) -> Input,
    ) -> oneshot::Receiver<Result<Answer, ResponseError>> {
        let (send, receive) = oneshot::channel();
        let out = {
            let mut state = self.state();
            if state.stopped {
                return receive;
            }
            state.calls_made += 1;
            let call = state.calls_made;
            state.calls.insert(call, send);
            let out = state.coordinator.step(input(call), now_ms());
            self.append_all(broker, &mut state, out.into())
        };
        self.follow(broker, out);
        receive
    }

    /// A call that may meet a transaction which is just being completed: it waits a little before it is told to come
    /// again.
    async fn call_patiently(
        &self,
        broker: &Arc<Broker>,
        wait_ms: u64,
        input: impl Fn(CallId) -> Input,
    ) -> Result<Answer, ResponseError> {
        let deadline = tokio::time::Instant::now().checked_add(Duration::from_millis(wait_ms));
        loop {
            let completed = self.completed.notified();
            tokio::pin!(completed);
            completed.as_mut().enable();
            let answer = self.call(broker, &input).await;
            if answer != Err(ResponseError::ConcurrentTransactions) {
                return answer;
            }
            // Also by the clock: a decision that could not be written is tried again with the ticks.
            let tick = tokio::time::Instant::now() + Duration::from_millis(TICK_MS);
            let until = deadline.map_or(tick, |deadline| deadline.min(tick));
            if tokio::time::timeout_at(until, completed).await.is_err()
                && deadline.is_some_and(|deadline| tokio::time::Instant::now() >= deadline)
            {
                return answer;
            }
        }
    }

    /// Appends the records among `out`, and what follows from those that need not wait.
    fn append_all(&self, broker: &Arc<Broker>, state: &mut State, mut out: VecDeque<Output>) -> Vec<Follow> {
        let mut follow = Vec::new();
        while let Some(output) = out.pop_front() {
            match output {
                Output::Write(write) => {
                    let result = match self.append(broker, &write) {
                        Ok((partition, appended)) if write.to_disk => {
                            let (write, offset) = (write.write, appended.next_offset);
                            follow.push(Follow::Sync { write, partition, offset });
                            continue;
                        }
                        Ok(_) => Ok(()),
                        Err(error) => {
                            tracing::error!(
                                partition = write.partition,
                                "cannot append to `{TOPIC}`: {error}"
                            );
                            Err(write_error(&error))
                        }
                    };
                    let input = Input::Written { write: write.write, result };
                    out.extend(state.coordinator.step(input, now_ms()));
                    self.completed.notify_waiters();
                }
                Output::Mark(mark) => follow.push(Follow::Mark(mark)),
                Output::ReserveIds { end } => follow.push(Follow::Reserve { end }),
                Output::Answer { call, answer } => {
                    if let Some(send) = state.calls.remove(&call) {
                        follow.push(Follow::Answer(send, answer));
                    }
                }
            }
        }
        follow
    }

    fn append(&self, broker: &Arc<Broker>, write: &Write) -> Result<(Arc<Partition>, Appended), AppendError> {
        let topic = self.topic.get().cloned().or_else(|| broker.store.topic(TOPIC));
        let partition = topic.and_then(|topic| topic.partition(write.partition)).ok_or(AppendError::Gone)?;
        let mut batch = Builder::new(BuilderOptions::default());
        batch.push(now_ms(), Some(&write.key), write.value.as_deref(), std::iter::empty());
        let appended = partition.append(&batch.finish(), Origin::Coordinator)?;
        Ok((partition, appended))
    }

    fn follow(&self, broker: &Arc<Broker>, follow: Vec<Follow>) {
        for next in follow {
            match next {
                Follow::Sync { write, partition, offset } => {
                    let commit = partition.start_commit(offset);
                    let broker = Arc::clone(broker);
                    tokio::spawn(async move {
                        let result = match commit {
                            Some(commit) => commit.await,
                            None => Ok(()),
                        };
                        let result = result.map_err(|error| {
                            tracing::error!(partition = partition.index, "cannot sync `{TOPIC}`: {error}");
                            WriteError::Unknown
                        });
                        broker.transactions.feed(&broker, Input::Written { write, result });
                    });
                }
                Follow::Mark(mark) => markers::write(broker, mark),
                Follow::Reserve { end } => {
                    let broker = Arc::clone(broker);
                    tokio::task::spawn_blocking(move || {
                        let end = match write_ids(&broker, end) {
                            Ok(()) => Some(end),
                            Err(error) => {
                                tracing::error!("cannot reserve producer ids in `{IDS_FILE}`: {error}");
                                None
                            }
                        };
                        broker.transactions.feed(&broker, Input::IdsReserved { end });
                    });
                }
                // Whoever asked may be gone.
                Follow::Answer(send, answer) => drop(send.send(answer)),
            }
        }
    }

    /// Makes `__transaction_state` when the first transactional producer comes.
    async fn ensure_topic(&self, broker: &Arc<Broker>) -> Result<(), ResponseError> {
        if self.topic.get().is_some() {
            return Ok(());
        }
        let partitions = self.options().partitions;
        let making = Arc::clone(broker);
        let made = tokio::task::spawn_blocking(move || {
            let configs = [
                ("cleanup.policy", "compact"),
                ("compression.type", "uncompressed"),
                ("segment.bytes", "104857600"),
            ];
            making.store.ensure_topic(&NewTopic {
                name: TOPIC.to_owned(),
                partitions: Some(partitions),
                configs: configs.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            })
        });
        let failed = |error: &dyn std::fmt::Display| {
            tracing::error!("cannot make `{TOPIC}`: {error}");
            ResponseError::CoordinatorNotAvailable
        };
        let made: Result<Arc<Topic>, TopicError> = made.await.map_err(|error| failed(&error))?;
        let topic = made.map_err(|error| failed(&error))?;
        self.topic.get_or_init(|| topic);
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn producer(answer: Result<Answer, ResponseError>) -> Result<Producer, ResponseError> {
    match answer? {
        Answer::Producer(producer) => Ok(producer),
        Answer::Done => Err(ResponseError::UnknownServerError),
    }
}

/// Whether a record that could not be appended may still be found after a restart.
fn write_error(error: &AppendError) -> WriteError {
    match error {
        AppendError::Log(LogError::Io(_) | LogError::Poisoned(_)) => WriteError::Unknown,
        _ => WriteError::Refused,
    }
}

async fn tick(broker: Weak<Broker>) {
    let mut interval = tokio::time::interval(Duration::from_millis(TICK_MS));
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut ticks = 0u32;
    loop {
        interval.tick().await;
        let Some(broker) = broker.upgrade() else { return };
        broker.transactions.feed(&broker, Input::Tick);
        ticks = ticks.wrapping_add(1);
        if ticks.is_multiple_of(TICKS_PER_SEARCH) {
            hanging::end_late(&broker).await;
        }
    }
}

/// Reads `__transaction_state` and the note of producer ids.
fn replay(broker: &Broker) -> Result<Coordinator, StartError> {
    let this = &broker.transactions;
    let reserved = read_ids(broker)?;
    let topic = broker.store.topic(TOPIC);
    let options = this.options.get_or_init(|| options_of(broker, topic.as_deref()));
    let Some(topic) = topic else {
        let partitions = usize::try_from(options.partitions).unwrap_or(0);
        return Ok(Coordinator::new(options.clone(), vec![0; partitions], reserved));
    };
    let partitions = topic.partitions();
    let epochs = partitions.iter().map(|partition| partition.leader_epoch()).collect();
    let mut coordinator = Coordinator::new(options.clone(), epochs, reserved);
    for partition in partitions.iter() {
        replay_partition(partition, &mut coordinator).map_err(|error| {
            StartError::Config(format!("cannot read `{TOPIC}-{}`: {error}", partition.index))
        })?;
    }
    this.topic.get_or_init(|| topic);
    Ok(coordinator)
}

/// The broker's settings, but the partitions that are there.
fn options_of(broker: &Broker, topic: Option<&Topic>) -> Options {
    let settings = broker.store.broker_settings();
    let default = Options::default();
    let number =
        |name: &str, default: i64| Some(settings.broker_number(name, default)).filter(|number| *number > 0);
    let int = |name: &str, default: i32| {
        number(name, i64::from(default)).and_then(|number| i32::try_from(number).ok()).unwrap_or(default)
    };
    let wanted = int("transaction.state.log.num.partitions", default.partitions);
    Options {
        timeout_max_ms: int("transaction.max.timeout.ms", default.timeout_max_ms),
        id_expiration_ms: number("transactional.id.expiration.ms", default.id_expiration_ms)
            .unwrap_or(default.id_expiration_ms),
        partitions: topic.map_or(wanted, |topic| topic.partitions().len() as i32),
    }
}

fn replay_partition(partition: &Partition, coordinator: &mut Coordinator) -> Result<(), LogError> {
    let log = partition.log();
    let mut headers = log.headers(log.start_offset());
    while let Some(header) = headers.next() {
        if header?.is_control() {
            continue;
        }
        let batch = headers.batch()?;
        let records = Records::read(&batch, BATCH_BYTES_MAX)?;
        for record in records.iter() {
            let record = record?;
            let Some(key) = record.key else { continue };
            if let Err(error) = coordinator.load(key, record.value) {
                let (partition, offset) = (partition.index, record.offset);
                tracing::error!(partition, offset, "a record of `{TOPIC}` is passed over: {error}");
            }
        }
    }
    Ok(())
}

/// The file holds two lines: the version, and the first id that was never reserved.
fn write_ids(broker: &Broker, end: i64) -> io::Result<()> {
    let dir = broker.store.dir();
    let storage = broker.store.storage();
    let text = format!("{IDS_FILE_VERSION}\n{end}\n");
    replace_file(&**storage, &dir.join(IDS_FILE), text.as_bytes())?;
    storage.sync_dir(dir)
}

fn read_ids(broker: &Broker) -> Result<i64, StartError> {
    let path = broker.store.dir().join(IDS_FILE);
    let bytes = read_file(&**broker.store.storage(), &path, IDS_FILE_BYTES_MAX)
        .map_err(|error| StartError::File { path: path.clone(), error })?;
    let Some(bytes) = bytes else { return Ok(0) };
    decode_ids(&bytes).map_err(|error| match error {
        IdsError::Newer(reason) => StartError::Newer { path, reason },
        IdsError::Wrong(reason) => {
            StartError::Config(format!("`{}` cannot be used: {reason}", path.display()))
        }
    })
}

#[derive(Debug, PartialEq, Eq)]
enum IdsError {
    Newer(String),
    Wrong(String),
}

fn decode_ids(bytes: &[u8]) -> Result<i64, IdsError> {
    let wrong = |reason: &str| IdsError::Wrong(reason.to_owned());
    let text = std::str::from_utf8(bytes).map_err(|_| wrong("it is no text"))?;
    let mut lines = text.lines();
    let version: u32 = lines.next().unwrap_or("").parse().map_err(|_| wrong("it has no version"))?;
    if version > IDS_FILE_VERSION {
        let reason = format!("its version {version} is newer than {IDS_FILE_VERSION}, the last one known");
        return Err(IdsError::Newer(reason));
    }
    let end = lines.next().and_then(|line| line.parse::<i64>().ok()).filter(|end| *end >= 0);
    end.ok_or_else(|| wrong("it has no number"))
}

#[cfg(test)]
mod tests {
    use super::{IdsError, decode_ids};

    #[test]
    fn the_note_of_ids_is_read_or_refused() {
        assert_eq!(decode_ids(b"1\n5000\n"), Ok(5000));
        for wrong in [&b""[..], b"x", b"1", b"1\n", b"1\n-4\n", b"1\nx\n", b"\xff\xff"] {
            assert!(matches!(decode_ids(wrong), Err(IdsError::Wrong(_))));
        }
        assert!(matches!(decode_ids(b"2\n5\n"), Err(IdsError::Newer(_))));
    }
}
