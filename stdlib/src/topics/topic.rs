//! A topic that is written to, as a channel that nobody drains: a put is encoded into its partitions and takes room
//! until the records are where they cannot be lost; then its acknowledgement is done.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use flow_agent::{Channel, ChannelError, ChannelStatus, Context, Fault, Rejected, decode_settings};
use flow_plan::ir::Expr;
use flow_plan::{Batch, Settings};
use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::cluster::{Cluster, ClusterHandle, Transaction};
use super::encode::{Compress, Limits, RECORD_OVERHEAD, Rows, builder, unfit};
use super::keys::{Key, partition_of};
use super::lane::Lane;
use super::transaction::FromTopic;

/// Bytes of events that are put and not on the disk yet; beyond it a put waits.
const ROOM_BYTES: usize = 64 << 20;

/// Makes a `topic` channel.
pub fn topic(settings: &Settings, context: &Context) -> Result<Arc<dyn Channel>, Fault> {
    let settings: TopicSettings = decode_settings(settings)?;
    let cluster = context.service::<ClusterHandle>(&settings.cluster)?.0.clone();
    let key = Key::new(settings.key.as_ref(), context)?;
    let limits = Limits {
        event_bytes_max: usize::try_from(settings.event_max).unwrap_or(usize::MAX).min(ROOM_BYTES / 2),
        key_needed: settings.compact,
    };
    Ok(Arc::new(TopicChannel::new(cluster, context, key, limits, settings.compress)))
}

/// What the service has made the topic with is not read again here.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TopicSettings {
    cluster: String,
    #[serde(rename = "partitions")]
    _partitions: IgnoredAny,
    #[serde(rename = "replication")]
    _replication: IgnoredAny,
    #[serde(rename = "min_in_sync")]
    _min_in_sync: IgnoredAny,
    #[serde(rename = "retention")]
    _retention: IgnoredAny,
    key: Option<Expr>,
    compact: bool,
    compress: Compress,
    #[serde(rename = "segment")]
    _segment: IgnoredAny,
    event_max: u64,
    #[serde(rename = "external")]
    _external: IgnoredAny,
}

pub struct TopicChannel {
    shared: Arc<Shared>,
    slots: Arc<Vec<String>>,
    key: Key,
    limits: Limits,
    /// Known when the first batch comes: the topic may have more partitions than the file says.
    lanes: OnceLock<Vec<Arc<Lane>>>,
    /// Where the next events without a key go.
    next: AtomicI32,
    held: Arc<Held>,
}

/// What the lanes of a topic share.
pub struct Shared {
    pub cluster: Arc<dyn Cluster>,
    pub topic: String,
    pub compress: Compress,
    pub lanes_running: AtomicUsize,
    room: Arc<Semaphore>,
    closed: AtomicBool,
    /// Why nothing can be written any more.
    failure: OnceLock<Fault>,
    /// What [`Channel::settle`] has not told yet.
    warnings: Mutex<Option<Fault>>,
    moved: Notify,
}

/// Events and bytes that are put and not safe yet.
#[derive(Default)]
struct Held {
    events: AtomicUsize,
    bytes: AtomicUsize,
}

/// The room that a put takes until its last share is gone.
pub struct Room {
    _permit: OwnedSemaphorePermit,
    events: usize,
    bytes: usize,
    held: Arc<Held>,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.held.events.fetch_sub(self.events, Ordering::Relaxed);
        self.held.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl TopicChannel {
    pub fn new(
        cluster: Arc<dyn Cluster>,
        context: &Context,
        key: Key,
        limits: Limits,
        compress: Compress,
    ) -> TopicChannel {
        let shared = Shared {
            cluster,
            topic: context.name.clone(),
            compress,
            lanes_running: AtomicUsize::new(0),
            room: Arc::new(Semaphore::new(ROOM_BYTES)),
            closed: AtomicBool::new(false),
            failure: OnceLock::new(),
            warnings: Mutex::default(),
            moved: Notify::new(),
        };
        TopicChannel {
            shared: Arc::new(shared),
            slots: context.slots.clone(),
            key,
            limits,
            lanes: OnceLock::new(),
            next: AtomicI32::new(0),
            held: Arc::default(),
        }
    }

    fn lanes(&self) -> Result<&[Arc<Lane>], ChannelError> {
        if let Some(lanes) = self.lanes.get() {
            return Ok(lanes);
        }
        let partitions = self.shared.cluster.partitions(&self.shared.topic).map_err(ChannelError::Fault)?;
        Ok(self.lanes.get_or_init(|| (0..partitions).map(|index| Arc::new(Lane::new(index))).collect()))
    }

    /// Encodes a batch for which there is room.
    fn put_now(&self, batch: Batch, permit: OwnedSemaphorePermit, bytes: usize) -> Result<(), ChannelError> {
        let lanes = self.lanes()?;
        self.held.events.fetch_add(batch.len(), Ordering::Relaxed);
        self.held.bytes.fetch_add(bytes, Ordering::Relaxed);
        let held = self.held.clone();
        let room = Arc::new(Room { _permit: permit, events: batch.len(), bytes, held });
        let now_ms = now_ms();
        let partitions = lanes.len() as i32;
        let keyless = self.next.fetch_add(1, Ordering::Relaxed).rem_euclid(partitions.max(1));
        let mut rows = Rows::new(&batch, &self.slots);
        let push = |rows: &mut Rows<'_>, builder: &mut _, row: u32| {
            // A key that cannot be computed was found by `unfit`.
            let pushed = self.key.with(&batch, row, now_ms, |key| rows.push(builder, row, key));
            if pushed.is_err() {
                rows.push(builder, row, None);
            }
        };
        if partitions <= 1 || matches!(self.key, Key::None) {
            let lane = &lanes[keyless as usize];
            let ack = batch.ack.split();
            lane.put(
                &self.shared,
                batch.rows.iter().copied(),
                |builder, row| push(&mut rows, builder, row),
                ack,
                room,
            );
        } else {
            let mut by_lane: BTreeMap<i32, Vec<u32>> = BTreeMap::new();
            for &row in &batch.rows {
                let partition = |key: Option<&[u8]>| key.map_or(keyless, |key| partition_of(key, partitions));
                let partition = self.key.with(&batch, row, now_ms, partition).unwrap_or(keyless);
                by_lane.entry(partition).or_default().push(row);
            }
            for (partition, of_lane) in by_lane {
                let (ack, room) = (batch.ack.split(), room.clone());
                lanes[partition as usize].put(
                    &self.shared,
                    of_lane.into_iter(),
                    |builder, row| push(&mut rows, builder, row),
                    ack,
                    room,
                );
            }
        }
        drop(rows);
        batch.ack.done();
        Ok(())
    }

    /// Appends a batch in the transaction that its reader has opened.
    async fn put_inside(&self, batch: Batch, transaction: &dyn Transaction) -> Result<(), ChannelError> {
        let partitions = self.lanes()?.len() as i32;
        let now_ms = now_ms();
        let keyless = self.next.fetch_add(1, Ordering::Relaxed).rem_euclid(partitions.max(1));
        let mut by_partition: BTreeMap<i32, Vec<u32>> = BTreeMap::new();
        for &row in &batch.rows {
            let partition = |key: Option<&[u8]>| key.map_or(keyless, |key| partition_of(key, partitions));
            let partition = self.key.with(&batch, row, now_ms, partition).unwrap_or(keyless);
            by_partition.entry(partition).or_default().push(row);
        }
        for (partition, rows) in by_partition {
            let mut builder = builder(self.shared.compress);
            let mut encode = Rows::new(&batch, &self.slots);
            for &row in &rows {
                let pushed = self.key.with(&batch, row, now_ms, |key| encode.push(&mut builder, row, key));
                if pushed.is_err() {
                    encode.push(&mut builder, row, None);
                }
            }
            let topic = &self.shared.topic;
            transaction.append(topic, partition, builder.finish()).await.map_err(ChannelError::Fault)?;
        }
        batch.ack.done();
        Ok(())
    }

    fn bytes_of(&self, batch: &Batch) -> usize {
        let bytes = batch.body_bytes() as usize + batch.len() * 2 * RECORD_OVERHEAD;
        bytes.min(ROOM_BYTES)
    }

    fn refused(&self) -> ChannelError {
        match self.shared.failure() {
            Some(fault) => ChannelError::Fault(fault),
            None => ChannelError::Closed,
        }
    }
}

#[async_trait]
impl Channel for TopicChannel {
    async fn put(&self, batch: Batch) -> Result<(), ChannelError> {
        if batch.is_empty() {
            batch.ack.done();
            return Ok(());
        }
        let from = batch.ack.context().and_then(|context| context.downcast_ref::<FromTopic>());
        if let Some(transaction) = from.and_then(|from| from.transaction.clone()) {
            return self.put_inside(batch, &*transaction).await;
        }
        let bytes = self.bytes_of(&batch);
        match self.shared.room.clone().acquire_many_owned(bytes as u32).await {
            Ok(permit) => self.put_now(batch, permit, bytes),
            Err(_) => Err(self.refused()),
        }
    }

    fn try_put(&self, batch: Batch) -> Result<(), Rejected> {
        if batch.is_empty() {
            batch.ack.done();
            return Ok(());
        }
        if self.lanes().is_err() {
            return Err(Rejected { batch, closed: true });
        }
        let bytes = self.bytes_of(&batch);
        match self.shared.room.clone().try_acquire_many_owned(bytes as u32) {
            // The partitions are known, so it does not fail.
            Ok(permit) => {
                let _ = self.put_now(batch, permit, bytes);
                Ok(())
            }
            Err(_) => Err(Rejected { batch, closed: self.shared.room.is_closed() }),
        }
    }

    fn unfit(&self, batch: &Batch) -> Vec<(u32, String)> {
        let small = batch.columns.arena.len() + RECORD_OVERHEAD <= self.limits.event_bytes_max;
        if small && !self.limits.key_needed && !matches!(self.key, Key::Expr(_)) {
            return Vec::new();
        }
        let now_ms = now_ms();
        let why = |row: u32| unfit(batch, row, &self.slots, &self.key, now_ms, &self.limits);
        batch.rows.iter().filter_map(|&row| Some((row, why(row)?))).collect()
    }

    /// Nobody takes from it: readers are sources of their own.
    async fn take(&self, _: usize) -> Result<Option<Box<dyn flow_agent::Transaction>>, ChannelError> {
        Err(ChannelError::Closed)
    }

    fn close(&self) {
        self.shared.closed.store(true, Ordering::Release);
        self.shared.room.close();
        self.shared.moved.notify_waiters();
    }

    fn abandon(&self) {
        // What waits for another try is given up.
        self.shared.fail(Fault::new("the flow has stopped"));
        self.close();
    }

    async fn settle(&self, warn: &(dyn for<'f> Fn(&'f Fault) + Send + Sync)) -> Result<(), Fault> {
        loop {
            let moved = self.shared.moved.notified();
            let mut moved = std::pin::pin!(moved);
            // Before looking, so that no move between looking and waiting is missed.
            moved.as_mut().enable();
            let warning = self.shared.warnings.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(fault) = warning {
                warn(&fault);
            }
            if let Some(fault) = self.shared.failure() {
                return Err(fault);
            }
            let idle = self.shared.lanes_running.load(Ordering::Acquire) == 0;
            if idle && self.shared.closed.load(Ordering::Acquire) {
                return Ok(());
            }
            moved.await;
        }
    }

    fn status(&self) -> ChannelStatus {
        ChannelStatus {
            events: self.held.events.load(Ordering::Relaxed) as u64,
            bytes: self.held.bytes.load(Ordering::Relaxed) as u64,
            events_max: 0,
            bytes_max: ROOM_BYTES as u64,
            oldest_ms: 0,
        }
    }
}

impl Shared {
    pub fn failure(&self) -> Option<Fault> {
        self.failure.get().cloned()
    }

    /// Nothing can be written any more.
    pub fn fail(&self, fault: Fault) {
        let _ = self.failure.set(fault);
        self.room.close();
        self.moved.notify_waiters();
    }

    /// Something is tried again.
    pub fn warn(&self, fault: Fault) {
        *self.warnings.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
        self.moved.notify_waiters();
    }

    /// Waits before another try; an error when there will be none.
    pub async fn wait(&self, time: Duration) -> Result<(), Fault> {
        let waited = tokio::time::sleep(time);
        let mut waited = std::pin::pin!(waited);
        loop {
            let moved = self.moved.notified();
            let mut moved = std::pin::pin!(moved);
            moved.as_mut().enable();
            if let Some(fault) = self.failure() {
                return Err(fault);
            }
            tokio::select! {
                () = &mut waited => return Ok(()),
                () = &mut moved => {}
            }
        }
    }

    pub fn lane_ended(&self) {
        if self.lanes_running.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.moved.notify_waiters();
        }
    }
}

pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
