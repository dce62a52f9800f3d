//! Runs the shards: keeps the clock, writes their entries to `__consumer_offsets` in batches, and lets answers out
//! when what they rest on is on disk. Decides nothing about groups itself.
//!
//! Each shard has a slot with one lock. While a write of a slot is on its way to the disk, the entries and answers
//! of later steps gather and go with the next one: many commits share one batch and one sync.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use uuid::Uuid;

use super::journal::{self, Journal};
use super::shard::{Entry, Input, Outputs, Producer, Reply, Request, Shard, Token, Topics};
use super::{Caller, Config, OFFSETS_PARTITIONS, partition_of};
use crate::broker::{Broker, StartError};
use crate::config::BrokerConfig;
use crate::store::clock::now_ms;
use crate::store::configs::{BrokerSettings, Overrides};
use crate::store::names::CONSUMER_OFFSETS;
use crate::store::producers::Guard;
use crate::store::{NewTopic, Store};

/// Members of a group, whatever the configuration says.
const GROUP_MEMBERS_MAX: i64 = 10_000;
/// Bytes of a batch of the coordinator that readers of the topic must be ready for.
const MESSAGE_BYTES_MAX: usize = 2 * super::GROUP_RECORD_BYTES_MAX;
/// How long a shard that could not write refuses requests before it is loaded again: a full disk would
/// otherwise be asked thousands of times a second.
const RELOAD_PAUSE: Duration = Duration::from_millis(500);
/// With no deadline set, the timers look again after this.
const IDLE: Duration = Duration::from_secs(3600);

/// What a caller gets.
pub(crate) type Answer = Result<Reply, ResponseError>;

/// All groups of the broker.
pub(crate) struct Groups {
    host: OnceLock<Arc<Host>>,
}

struct Host {
    broker: Weak<Broker>,
    config: Arc<Config>,
    slots: Vec<Arc<Slot>>,
    /// Whether the topic is there.
    ready: AtomicBool,
    preparing: tokio::sync::Mutex<()>,
    tokens: AtomicU64,
    clock: Clock,
    /// Wakes the timers when a deadline comes before the one they sleep for.
    sooner: Arc<Notify>,
    sleeps_until_ms: AtomicI64,
    topics: Mutex<Arc<Topics>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    stopped: AtomicBool,
    runtime: tokio::runtime::Handle,
}

/// Milliseconds since 1970 that never go back: a step of the system's clock must not end sessions.
struct Clock {
    start_ms: i64,
    start: Instant,
}

impl Clock {
    fn now_ms(&self) -> i64 {
        self.start_ms.saturating_add(i64::try_from(self.start.elapsed().as_millis()).unwrap_or(i64::MAX))
    }
}

struct Slot {
    index: i32,
    state: Mutex<State>,
}

struct State {
    shard: Shard,
    /// False while it is being loaded again after a failure.
    loaded: bool,
    /// Who waits for an answer that the shard has not given yet.
    waiting: HashMap<Token, oneshot::Sender<Answer>>,
    entries: Vec<Entry>,
    /// Leave to append the first batch of a producer's transaction.
    guards: BTreeMap<Producer, Guard>,
    /// Answers that rest on `entries` or on something before them.
    held: Vec<Held>,
    /// A write is on its way.
    writing: bool,
}

struct Held {
    to: oneshot::Sender<Answer>,
    reply: Reply,
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Groups {
    pub(crate) fn open(_config: &BrokerConfig) -> Result<Groups, StartError> {
        Ok(Groups { host: OnceLock::new() })
    }

    /// Replays what is on disk and starts the timers.
    ///
    /// # Errors
    ///
    /// The log of `__consumer_offsets` cannot be read.
    pub(crate) async fn start(broker: &Arc<Broker>) -> Result<(), StartError> {
        let config = Arc::new(config_of(&broker.store.broker_settings()));
        let topics = Arc::new(topics_of(&broker.store));
        let topic = broker.store.topic(CONSUMER_OFFSETS);
        let wanted = broker.store.broker_settings().broker_number("offsets.topic.num.partitions", 50);
        let wanted = i32::try_from(wanted).ok().filter(|count| *count > 0).unwrap_or(OFFSETS_PARTITIONS);
        let count = topic.as_ref().map_or(wanted, |topic| topic.partitions().len() as i32);
        let slots = (0..count)
            .map(|index| {
                let shard = new_shard(&config, &topics);
                let state = State {
                    shard,
                    loaded: true,
                    waiting: HashMap::new(),
                    entries: Vec::new(),
                    guards: BTreeMap::new(),
                    held: Vec::new(),
                    writing: false,
                };
                Arc::new(Slot { index, state: Mutex::new(state) })
            })
            .collect();
        let host = Arc::new(Host {
            broker: Arc::downgrade(broker),
            config,
            slots,
            ready: AtomicBool::new(topic.is_some()),
            preparing: tokio::sync::Mutex::new(()),
            tokens: AtomicU64::new(0),
            clock: Clock { start_ms: now_ms(), start: Instant::now() },
            sooner: Arc::new(Notify::new()),
            sleeps_until_ms: AtomicI64::new(i64::MAX),
            topics: Mutex::new(topics),
            tasks: Mutex::new(Vec::new()),
            stopped: AtomicBool::new(false),
            runtime: tokio::runtime::Handle::current(),
        });
        if topic.is_some() {
            let loading = Arc::clone(&host);
            let store_of = Arc::clone(broker);
            tokio::task::spawn_blocking(move || loading.load_all(&store_of.store))
                .await
                .unwrap_or_else(|error| Err(error.to_string()))
                .map_err(|error| {
                    StartError::Config(format!("cannot replay `{CONSUMER_OFFSETS}`: {error}"))
                })?;
        } else {
            for slot in &host.slots {
                slot.lock().shard.replayed(host.clock.now_ms());
            }
        }
        let timers = tokio::spawn(run_timers(Arc::downgrade(&host)));
        let watcher = tokio::spawn(watch_topics(Arc::downgrade(&host), broker.store.changes()));
        host.tasks.lock().unwrap_or_else(PoisonError::into_inner).extend([timers, watcher]);
        // `start` is called once, so the cell is empty.
        let _ = broker.groups.host.set(host);
        Ok(())
    }

    /// Ends the timers and waits for what is being written.
    pub(crate) async fn stop(&self) {
        let Some(host) = self.host.get() else { return };
        host.stopped.store(true, Ordering::Release);
        for task in host.tasks.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            task.abort();
        }
        for slot in &host.slots {
            let (to, done) = oneshot::channel();
            {
                let mut state = slot.lock();
                state.waiting.clear();
                if !state.writing {
                    continue;
                }
                state.held.push(Held { to, reply: Reply::TransactionCompleted });
            }
            // An error is as good as an answer: nothing is on its way any more.
            let _ = done.await;
        }
    }

    /// The partition of `__consumer_offsets` that a group belongs to.
    pub(crate) fn partition_of(&self, group: &str) -> i32 {
        partition_of(group, self.host.get().map_or(OFFSETS_PARTITIONS, |host| host.slots.len() as i32))
    }

    /// Asks one group. The answer comes when all that it rests on is on disk.
    ///
    /// # Errors
    ///
    /// COORDINATOR_LOAD_IN_PROGRESS and COORDINATOR_NOT_AVAILABLE: the client asks again.
    pub(crate) async fn request(&self, group: &str, caller: Caller, request: Request) -> Answer {
        let host = self.host()?;
        if changes_something(&request) {
            host.prepare().await?;
        }
        let slot = host.slot(partition_of(group, host.slots.len() as i32))?;
        let answer =
            host.step(slot, |token| Input::Request { token, caller, request: Box::new(request) }, None)?;
        answer.await.unwrap_or(Err(ResponseError::CoordinatorNotAvailable))
    }

    /// The answers of all shards, one after the other.
    ///
    /// # Errors
    ///
    /// As [`Groups::request`].
    pub(crate) async fn request_all(
        &self,
        request: impl Fn() -> Request,
    ) -> Result<Vec<Reply>, ResponseError> {
        let host = self.host()?;
        let mut replies = Vec::with_capacity(host.slots.len());
        for slot in &host.slots {
            let caller = Caller { client_id: Arc::default(), host: Arc::default(), version: 0 };
            let input = |token| Input::Request { token, caller, request: Box::new(request()) };
            let answer = host.step(slot, input, None)?;
            replies.push(answer.await.unwrap_or(Err(ResponseError::CoordinatorNotAvailable))?);
        }
        Ok(replies)
    }

    /// To be asked before the transaction coordinator is: whether a producer may commit offsets of `group` in its
    /// transaction. The guard, if there is one, goes with [`Groups::txn_offset_commit`].
    ///
    /// # Errors
    ///
    /// INVALID_PRODUCER_EPOCH for a fenced producer, COORDINATOR_NOT_AVAILABLE.
    pub(crate) async fn verify_producer(
        &self,
        group: &str,
        producer_id: i64,
        producer_epoch: i16,
    ) -> Result<Option<Guard>, ResponseError> {
        let host = self.host()?;
        host.prepare().await?;
        let broker = host.broker.upgrade().ok_or(ResponseError::CoordinatorNotAvailable)?;
        let index = partition_of(group, host.slots.len() as i32);
        let partition =
            broker.store.partition(CONSUMER_OFFSETS, index).ok_or(ResponseError::CoordinatorNotAvailable)?;
        journal::verify_producer(&partition, Producer { id: producer_id, epoch: producer_epoch })
    }

    /// Takes offsets that count only when the producer's transaction commits.
    ///
    /// # Errors
    ///
    /// As [`Groups::request`].
    pub(crate) async fn txn_offset_commit(
        &self,
        caller: Caller,
        request: kafka_protocol::messages::TxnOffsetCommitRequest,
        guard: Option<Guard>,
    ) -> Result<kafka_protocol::messages::TxnOffsetCommitResponse, ResponseError> {
        let host = self.host()?;
        host.prepare().await?;
        let slot = host.slot(partition_of(&request.group_id, host.slots.len() as i32))?;
        let producer = Producer { id: request.producer_id.0, epoch: request.producer_epoch };
        let request = Box::new(Request::TxnCommit(request));
        let guard = guard.map(|guard| (producer, guard));
        let answer = host.step(slot, |token| Input::Request { token, caller, request }, guard)?;
        match answer.await.unwrap_or(Err(ResponseError::CoordinatorNotAvailable))? {
            Reply::TxnCommit(response) => Ok(response),
            _ => Err(ResponseError::UnknownServerError),
        }
    }

    /// Ends a producer's transaction in one partition of `__consumer_offsets`: writes the marker there, and makes its
    /// pending offsets count or forgets them. Returns when that is on disk.
    ///
    /// # Errors
    ///
    /// As [`Groups::request`]; the caller tries again.
    pub(crate) async fn complete_txn(
        &self,
        partition: i32,
        producer_id: i64,
        producer_epoch: i16,
        coordinator_epoch: i32,
        commit: bool,
    ) -> Result<(), ResponseError> {
        let host = self.host()?;
        host.prepare().await?;
        let slot = host.slot(partition)?;
        let producer = Producer { id: producer_id, epoch: producer_epoch };
        let input = |token| Input::CompleteTransaction { token, producer, coordinator_epoch, commit };
        let answer = host.step(slot, input, None)?;
        answer.await.unwrap_or(Err(ResponseError::CoordinatorNotAvailable)).map(drop)
    }

    fn host(&self) -> Result<&Arc<Host>, ResponseError> {
        let host = self.host.get().ok_or(ResponseError::CoordinatorLoadInProgress)?;
        if host.stopped.load(Ordering::Acquire) {
            Err(ResponseError::CoordinatorNotAvailable)
        } else {
            Ok(host)
        }
    }
}

/// Whether a request may write, and so needs the topic.
fn changes_something(request: &Request) -> bool {
    matches!(
        request,
        Request::Join(_) | Request::Commit(_) | Request::TxnCommit(_) | Request::ConsumerHeartbeat(_)
    )
}

fn new_shard(config: &Arc<Config>, topics: &Arc<Topics>) -> Shard {
    Shard::new(Arc::clone(config), Arc::clone(topics), Box::new(Uuid::new_v4))
}

fn config_of(settings: &BrokerSettings) -> Config {
    let default = Config::default();
    let number = |name: &str, default: i64| settings.broker_number(name, default);
    let short =
        |name: &str, default: i32| i32::try_from(number(name, i64::from(default))).unwrap_or(default).max(0);
    Config {
        group_min_session_timeout_ms: short(
            "group.min.session.timeout.ms",
            default.group_min_session_timeout_ms,
        ),
        group_max_session_timeout_ms: short(
            "group.max.session.timeout.ms",
            default.group_max_session_timeout_ms,
        ),
        group_initial_rebalance_delay_ms: short(
            "group.initial.rebalance.delay.ms",
            default.group_initial_rebalance_delay_ms,
        ),
        group_max_size: number("group.max.size", GROUP_MEMBERS_MAX).clamp(1, GROUP_MEMBERS_MAX) as usize,
        consumer_session_timeout_ms: short(
            "group.consumer.session.timeout.ms",
            default.consumer_session_timeout_ms,
        ),
        consumer_heartbeat_interval_ms: short(
            "group.consumer.heartbeat.interval.ms",
            default.consumer_heartbeat_interval_ms,
        ),
        offset_metadata_max_bytes: short("offset.metadata.max.bytes", 4096) as usize,
        offsets_retention_ms: number("offsets.retention.minutes", 7 * 24 * 60).saturating_mul(60_000),
        offsets_retention_check_interval_ms: number(
            "offsets.retention.check.interval.ms",
            default.offsets_retention_check_interval_ms,
        )
        .max(1),
        ..default
    }
}

fn topics_of(store: &Store) -> Topics {
    Topics::new(store.topics().iter().map(|topic| {
        let partitions = i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX);
        (Arc::clone(&topic.name), topic.id, partitions)
    }))
}

impl Host {
    fn slot(&self, index: i32) -> Result<&Arc<Slot>, ResponseError> {
        usize::try_from(index)
            .ok()
            .and_then(|index| self.slots.get(index))
            .ok_or(ResponseError::NotCoordinator)
    }

    /// Makes `__consumer_offsets` at its first use.
    async fn prepare(self: &Arc<Host>) -> Result<(), ResponseError> {
        if self.ready.load(Ordering::Acquire) {
            return Ok(());
        }
        let _one = self.preparing.lock().await;
        if self.ready.load(Ordering::Acquire) {
            return Ok(());
        }
        let broker = self.broker.upgrade().ok_or(ResponseError::CoordinatorNotAvailable)?;
        let partitions = self.slots.len() as i32;
        let made = tokio::task::spawn_blocking(move || {
            let settings = broker.store.broker_settings();
            let segment_bytes = settings.broker_number("offsets.topic.segment.bytes", 100 << 20);
            let configs = Overrides::from([
                ("cleanup.policy".to_owned(), "compact".to_owned()),
                ("compression.type".to_owned(), "producer".to_owned()),
                ("segment.bytes".to_owned(), segment_bytes.to_string()),
                ("max.message.bytes".to_owned(), MESSAGE_BYTES_MAX.to_string()),
            ]);
            let name = CONSUMER_OFFSETS.to_owned();
            broker.store.ensure_topic(&NewTopic { name, partitions: Some(partitions), configs }).map(drop)
        })
        .await;
        match made {
            Ok(Ok(())) => {
                self.ready.store(true, Ordering::Release);
                Ok(())
            }
            Ok(Err(error)) => {
                tracing::error!("cannot make `{CONSUMER_OFFSETS}`: {error}");
                Err(ResponseError::CoordinatorNotAvailable)
            }
            Err(_) => Err(ResponseError::CoordinatorNotAvailable),
        }
    }

    /// Takes one step of a shard and gives what its answer will come through.
    fn step(
        self: &Arc<Host>,
        slot: &Arc<Slot>,
        input: impl FnOnce(Token) -> Input,
        guard: Option<(Producer, Guard)>,
    ) -> Result<oneshot::Receiver<Answer>, ResponseError> {
        let token = Token(self.tokens.fetch_add(1, Ordering::Relaxed));
        let (to, answer) = oneshot::channel();
        {
            let mut state = slot.lock();
            if !state.loaded {
                return Err(ResponseError::CoordinatorLoadInProgress);
            }
            state.waiting.insert(token, to);
            state.guards.extend(guard);
            let outputs = state.shard.step(input(token), self.clock.now_ms());
            self.settle(&mut state, outputs);
        }
        self.write(slot);
        Ok(answer)
    }

    /// A step that nobody waits for.
    fn advance(self: &Arc<Host>, slot: &Arc<Slot>, input: Input) {
        {
            let mut state = slot.lock();
            if !state.loaded {
                return;
            }
            let outputs = state.shard.step(input, self.clock.now_ms());
            self.settle(&mut state, outputs);
        }
        self.write(slot);
    }

    /// Takes what a step gave: answers go at once if nothing before them is on its way to the disk.
    fn settle(&self, state: &mut State, outputs: Outputs) {
        state.entries.extend(outputs.entries);
        let durable = state.entries.is_empty() && !state.writing;
        for (token, reply) in outputs.replies {
            let Some(to) = state.waiting.remove(&token) else { continue };
            if durable {
                // A client that is gone needs no answer.
                let _ = to.send(Ok(reply));
            } else {
                state.held.push(Held { to, reply });
            }
        }
        if let Some(at_ms) = state.shard.next_tick_ms()
            && at_ms < self.sleeps_until_ms.load(Ordering::Acquire)
        {
            self.sooner.notify_one();
        }
    }

    /// Writes what has gathered, unless a write is on its way: then its end will.
    fn write(self: &Arc<Host>, slot: &Arc<Slot>) {
        let (entries, guards, held) = {
            let mut state = slot.lock();
            if state.writing || state.entries.is_empty() {
                return;
            }
            state.writing = true;
            (
                std::mem::take(&mut state.entries),
                std::mem::take(&mut state.guards),
                std::mem::take(&mut state.held),
            )
        };
        let broker = self.broker.upgrade();
        let partition = broker.and_then(|broker| broker.store.partition(CONSUMER_OFFSETS, slot.index));
        let Some(partition) = partition else {
            return self.failed(slot, held, "the partition is not there");
        };
        match journal::append(&partition, &entries, &guards, self.clock.now_ms()) {
            Ok(next_offset) => {
                let (host, slot) = (Arc::clone(self), Arc::clone(slot));
                partition.when_committed(
                    next_offset,
                    Box::new(move |result| match result {
                        Ok(()) => host.written(&slot, held),
                        Err(error) => host.failed(&slot, held, &error.to_string()),
                    }),
                );
            }
            Err(error) => self.failed(slot, held, &error.to_string()),
        }
    }

    fn written(self: &Arc<Host>, slot: &Arc<Slot>, held: Vec<Held>) {
        for Held { to, reply } in held {
            // A client that is gone needs no answer.
            let _ = to.send(Ok(reply));
        }
        let ready: Vec<Held> = {
            let mut state = slot.lock();
            state.writing = false;
            // Answers that only waited for the write that has just ended.
            if state.entries.is_empty() { std::mem::take(&mut state.held) } else { Vec::new() }
        };
        for Held { to, reply } in ready {
            let _ = to.send(Ok(reply));
        }
        self.write(slot);
    }

    /// What is in memory is not in the log: everybody is told to ask again, and the shard is loaded anew.
    fn failed(self: &Arc<Host>, slot: &Arc<Slot>, held: Vec<Held>, why: &str) {
        tracing::error!(partition = slot.index, "cannot write to `{CONSUMER_OFFSETS}`: {why}");
        let waiting: Vec<oneshot::Sender<Answer>> = {
            let mut state = slot.lock();
            state.loaded = false;
            state.writing = false;
            state.entries.clear();
            state.guards.clear();
            let later = std::mem::take(&mut state.held);
            let asked = std::mem::take(&mut state.waiting);
            held.into_iter().chain(later).map(|held| held.to).chain(asked.into_values()).collect()
        };
        for to in waiting {
            let _ = to.send(Err(ResponseError::CoordinatorNotAvailable));
        }
        if !self.stopped.load(Ordering::Acquire) {
            let (host, slot) = (Arc::clone(self), Arc::clone(slot));
            // The committer's thread may have brought us here, and it has no runtime of its own.
            self.runtime.spawn(host.reload(slot));
        }
    }

    async fn reload(self: Arc<Host>, slot: Arc<Slot>) {
        loop {
            tokio::time::sleep(RELOAD_PAUSE).await;
            let (host, target) = (Arc::clone(&self), Arc::clone(&slot));
            let Some(broker) = self.broker.upgrade() else { return };
            let loaded = tokio::task::spawn_blocking(move || host.load(&broker.store, &target)).await;
            match loaded {
                Ok(Ok(())) => return,
                Ok(Err(error)) => {
                    tracing::error!(partition = slot.index, "cannot replay `{CONSUMER_OFFSETS}`: {error}");
                }
                Err(_) => return,
            }
            if self.stopped.load(Ordering::Acquire) {
                return;
            }
        }
    }

    /// Replays every partition, several at a time.
    fn load_all(self: &Arc<Host>, store: &Store) -> Result<(), String> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(self.slots.len());
        let part = self.slots.len().div_ceil(threads.max(1)).max(1);
        std::thread::scope(|scope| {
            let running: Vec<_> = self
                .slots
                .chunks(part)
                .map(|slots| scope.spawn(move || slots.iter().try_for_each(|slot| self.load(store, slot))))
                .collect();
            running
                .into_iter()
                .try_for_each(|thread| thread.join().unwrap_or_else(|_| Err("a thread failed".to_owned())))
        })
    }

    fn load(self: &Arc<Host>, store: &Store, slot: &Arc<Slot>) -> Result<(), String> {
        let topics = Arc::clone(&self.topics.lock().unwrap_or_else(PoisonError::into_inner));
        let mut shard = new_shard(&self.config, &topics);
        if let Some(partition) = store.partition(CONSUMER_OFFSETS, slot.index) {
            Journal::new(&partition).replay(&mut shard)?;
        }
        let mut state = slot.lock();
        // The image may have changed while the log was read.
        let topics = Arc::clone(&self.topics.lock().unwrap_or_else(PoisonError::into_inner));
        let outputs = shard.replayed(self.clock.now_ms());
        shard.step(Input::Topics(topics), self.clock.now_ms());
        state.shard = shard;
        state.loaded = true;
        self.settle(&mut state, outputs);
        drop(state);
        self.write(slot);
        Ok(())
    }

    /// Lets all shards know of the topics there are now.
    fn refresh_topics(self: &Arc<Host>, store: &Store) {
        let new = Arc::new(topics_of(store));
        let old = {
            let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *topics, Arc::clone(&new))
        };
        let gone: Vec<Arc<str>> = old
            .names()
            .filter(|name| old.get(name).map(|(id, _)| id) != new.get(name).map(|(id, _)| id))
            .cloned()
            .collect();
        for slot in &self.slots {
            self.advance(slot, Input::Topics(Arc::clone(&new)));
            if !gone.is_empty() {
                self.advance(slot, Input::TopicsDeleted(gone.clone()));
            }
        }
    }

    /// Ticks the shards that are due. Gives when the next one is.
    fn tick(self: &Arc<Host>) -> Option<i64> {
        let now_ms = self.clock.now_ms();
        let mut next: Option<i64> = None;
        for slot in &self.slots {
            let due = |slot: &Slot| slot.lock().shard.next_tick_ms();
            if due(slot).is_some_and(|at_ms| at_ms <= now_ms) {
                self.advance(slot, Input::Tick);
            }
            next = next.into_iter().chain(due(slot)).min();
        }
        next
    }
}

async fn run_timers(host: Weak<Host>) {
    loop {
        let Some(strong) = host.upgrade() else { return };
        strong.sleeps_until_ms.store(i64::MIN, Ordering::Release);
        let next = strong.tick();
        strong.sleeps_until_ms.store(next.unwrap_or(i64::MAX), Ordering::Release);
        // A step between the tick and the line above saw no sleeper to wake.
        let next = strong.slots.iter().filter_map(|slot| slot.lock().shard.next_tick_ms()).chain(next).min();
        let wait_ms = next.map(|at_ms| at_ms.saturating_sub(strong.clock.now_ms()).max(1));
        let wait = wait_ms.map_or(IDLE, |wait_ms| Duration::from_millis(wait_ms as u64).min(IDLE));
        let sooner = Arc::clone(&strong.sooner);
        drop(strong);
        // Whichever comes first, the shards are looked at again.
        let _ = tokio::time::timeout(wait, sooner.notified()).await;
    }
}

async fn watch_topics(host: Weak<Host>, mut changes: tokio::sync::watch::Receiver<u64>) {
    while changes.changed().await.is_ok() {
        let Some(host) = host.upgrade() else { return };
        let Some(broker) = host.broker.upgrade() else { return };
        host.refresh_topics(&broker.store);
    }
}
