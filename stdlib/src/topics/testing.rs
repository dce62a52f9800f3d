//! A cluster in memory, and what the tests of this folder need around it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use flow_agent::{Accept, Context, Fault, SourceError, SourceOutput, Stop};
use flow_log::batch::{Header, batches};
use flow_plan::Batch;
use tokio::sync::{Notify, watch};

use super::cluster::*;

/// A cluster of one topic.
#[derive(Default)]
pub struct Fake {
    pub state: Mutex<State>,
    moved: Notify,
    /// Appends that fail for want of room.
    pub full: AtomicUsize,
    pub appends: AtomicUsize,
    /// While set, nothing gets to the disk.
    pub slow: Mutex<bool>,
}

#[derive(Default)]
pub struct State {
    pub partitions: Vec<Log>,
    /// Of the one group.
    pub positions: BTreeMap<i32, i64>,
    pub commits: usize,
    members: Vec<(usize, watch::Sender<Vec<i32>>)>,
    next_member: usize,
    /// What became of transactions.
    pub transactions: Vec<&'static str>,
    /// What committed transactions have written to the other topic, `copies`.
    pub copies: Vec<Vec<u8>>,
}

#[derive(Default)]
pub struct Log {
    pub start: i64,
    pub batches: Vec<(i64, Vec<u8>)>,
    pub end: i64,
}

impl Fake {
    pub fn new(partitions: usize) -> Arc<Fake> {
        let fake = Fake::default();
        fake.lock().partitions.resize_with(partitions, Log::default);
        Arc::new(fake)
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn positions(&self) -> BTreeMap<i32, i64> {
        self.lock().positions.clone()
    }

    pub fn wake(&self) {
        self.moved.notify_waiters();
    }

    fn share_out(state: &State) {
        let members = state.members.len();
        for (index, (_, sender)) in state.members.iter().enumerate() {
            let own = (0..state.partitions.len()).filter(|one| one % members == index);
            sender.send_replace(own.map(|one| one as i32).collect());
        }
    }

    /// Bodies of a partition, in order.
    pub fn bodies(&self, partition: usize) -> Vec<String> {
        let state = self.lock();
        state.partitions[partition].batches.iter().flat_map(|(_, batch)| bodies(batch)).collect()
    }

    /// Bodies of the other topic.
    pub fn copied(&self) -> Vec<String> {
        self.lock().copies.iter().flat_map(|batch| bodies(batch)).collect()
    }
}

fn bodies(batch: &[u8]) -> Vec<String> {
    let records = flow_log::batch::Records::read(batch, 1 << 20).unwrap();
    let body = |value: Option<&[u8]>| String::from_utf8_lossy(value.unwrap_or(b"")).into_owned();
    records.iter().map(|record| body(record.unwrap().value)).collect()
}

impl State {
    pub fn append(&mut self, partition: usize, bytes: &[u8]) -> i64 {
        let log = &mut self.partitions[partition];
        for batch in batches(bytes) {
            let (header, batch) = batch.unwrap();
            let mut batch = batch.to_vec();
            batch[..8].copy_from_slice(&log.end.to_be_bytes());
            log.batches.push((log.end, batch));
            log.end += i64::from(header.last_offset_delta) + 1;
        }
        log.end
    }
}

#[async_trait]
impl Cluster for Fake {
    fn partitions(&self, topic: &str) -> Result<i32, Fault> {
        if topic == "copies" {
            return Ok(1);
        }
        Ok(self.lock().partitions.len() as i32)
    }

    fn append(&self, _: &str, partition: i32, batches: &mut &[u8]) -> Result<i64, AppendError> {
        if self.full.load(Ordering::Relaxed) > 0 {
            self.full.fetch_sub(1, Ordering::Relaxed);
            return Err(AppendError::Retry(Fault::new("the disk is full")));
        }
        self.appends.fetch_add(1, Ordering::Relaxed);
        let end = self.lock().append(partition as usize, std::mem::take(batches));
        self.wake();
        Ok(end)
    }

    async fn kept(&self, _: &str, _: i32, _: i64) -> Result<(), Fault> {
        loop {
            let moved = self.moved.notified();
            if !*self.slow.lock().unwrap() {
                return Ok(());
            }
            moved.await;
        }
    }

    async fn read(&self, what: &Read<'_>) -> Result<Fetched, ReadError> {
        let state = self.lock();
        let log = &state.partitions[what.partition as usize];
        if what.from < log.start || what.from > log.end {
            return Err(ReadError::OutOfRange { start: log.start, end: log.end });
        }
        let mut bytes = Vec::new();
        for (_, batch) in &log.batches {
            let next = Header::parse(batch).unwrap().next_offset();
            if next > what.from && (bytes.is_empty() || bytes.len() + batch.len() <= what.bytes_max) {
                bytes.extend_from_slice(batch);
            }
        }
        Ok(Fetched { bytes, aborted: Vec::new() })
    }

    async fn readable(&self, _: &str, places: &[(i32, i64)], _: bool) {
        loop {
            let moved = self.moved.notified();
            let any = {
                let state = self.lock();
                places.iter().any(|&(partition, from)| state.partitions[partition as usize].end > from)
            };
            if any {
                return;
            }
            moved.await;
        }
    }

    async fn offset(&self, _: &str, partition: i32, place: Place) -> Result<i64, Fault> {
        let state = self.lock();
        let log = &state.partitions[partition as usize];
        Ok(match place {
            Place::Earliest => log.start,
            Place::Latest | Place::At(_) => log.end,
        })
    }

    async fn join(&self, join: Join) -> Result<Box<dyn Member>, Fault> {
        let mut state = self.lock();
        let id = state.next_member;
        state.next_member += 1;
        let (sender, receiver) = watch::channel(Vec::new());
        state.members.push((id, sender));
        Fake::share_out(&state);
        drop(state);
        // The test holds the fake as long as its members.
        let fake = FAKES.lock().unwrap().iter().find(|fake| std::ptr::eq(&***fake, self)).cloned();
        Ok(Box::new(FakeMember { fake: fake.unwrap(), id, group: join.group, receiver }))
    }

    async fn transactions(&self, _: &str) -> Result<Arc<dyn Transactions>, Fault> {
        let fake = FAKES.lock().unwrap().iter().find(|fake| std::ptr::eq(&***fake, self)).cloned();
        Ok(Arc::new(FakeTransactions(fake.unwrap())))
    }
}

/// Fakes whose members know them.
pub static FAKES: Mutex<Vec<Arc<Fake>>> = Mutex::new(Vec::new());

struct FakeMember {
    fake: Arc<Fake>,
    id: usize,
    group: String,
    receiver: watch::Receiver<Vec<i32>>,
}

#[async_trait]
impl Member for FakeMember {
    async fn assigned(&mut self) -> Result<Vec<i32>, Fault> {
        if self.receiver.has_changed().unwrap_or(false) || self.receiver.changed().await.is_ok() {
            return Ok(self.receiver.borrow_and_update().clone());
        }
        std::future::pending().await
    }

    async fn release(&mut self) -> Result<(), Fault> {
        Ok(())
    }

    async fn positions(&mut self, partitions: &[i32]) -> Result<Vec<Option<i64>>, Fault> {
        let state = self.fake.lock();
        Ok(partitions.iter().map(|partition| state.positions.get(partition).copied()).collect())
    }

    async fn commit(&mut self, positions: &[(i32, i64)]) -> Result<(), Fault> {
        let mut state = self.fake.lock();
        state.commits += 1;
        state.positions.extend(positions.iter().copied());
        Ok(())
    }

    fn identity(&self) -> Identity {
        Identity { group: self.group.clone(), member: self.id.to_string(), generation: 1 }
    }

    async fn leave(self: Box<Self>) {}
}

impl Drop for FakeMember {
    fn drop(&mut self) {
        let mut state = self.fake.lock();
        state.members.retain(|(id, _)| *id != self.id);
        Fake::share_out(&state);
    }
}

struct FakeTransactions(Arc<Fake>);

#[async_trait]
impl Transactions for FakeTransactions {
    async fn begin(&self) -> Result<Arc<dyn Transaction>, Fault> {
        self.0.lock().transactions.push("begin");
        Ok(Arc::new(FakeTransaction { fake: self.0.clone(), pending: Mutex::default() }))
    }
}

struct FakeTransaction {
    fake: Arc<Fake>,
    pending: Mutex<Pending>,
}

#[derive(Default)]
struct Pending {
    appends: Vec<(i32, Vec<u8>)>,
    positions: Vec<(i32, i64)>,
}

#[async_trait]
impl Transaction for FakeTransaction {
    async fn append(&self, topic: &str, partition: i32, batch: Vec<u8>) -> Result<(), Fault> {
        assert_eq!(topic, "copies");
        self.pending.lock().unwrap().appends.push((partition, batch));
        Ok(())
    }

    async fn offsets(&self, who: &Identity, _: &str, positions: &[(i32, i64)]) -> Result<(), Fault> {
        assert_eq!(who.group, "g");
        self.pending.lock().unwrap().positions.extend(positions);
        Ok(())
    }

    async fn commit(&self) -> Result<(), Fault> {
        let pending = std::mem::take(&mut *self.pending.lock().unwrap());
        let mut state = self.fake.lock();
        state.transactions.push("commit");
        state.positions.extend(pending.positions);
        state.copies.extend(pending.appends.into_iter().map(|(_, batch)| batch));
        Ok(())
    }

    async fn abort(&self) -> Result<(), Fault> {
        self.fake.lock().transactions.push("abort");
        Ok(())
    }
}

/// What a source has sent, held until the test says what becomes of it.
#[derive(Default)]
pub struct Collected {
    pub batches: Mutex<Vec<Batch>>,
    pub warnings: Mutex<Vec<String>>,
    pub arrived: Notify,
    /// Delivered at once.
    pub deliver: bool,
    pub bodies: Mutex<Vec<String>>,
}

#[async_trait]
impl Accept for Collected {
    async fn accept(&self, batch: Batch) -> Result<(), SourceError> {
        let bodies = batch.rows.iter().map(|&row| String::from_utf8_lossy(batch.body(row)).into_owned());
        self.bodies.lock().unwrap().extend(bodies);
        if self.deliver {
            batch.ack.done();
        } else {
            self.batches.lock().unwrap().push(batch);
        }
        self.arrived.notify_waiters();
        Ok(())
    }

    async fn refuse(&self, _: Batch, _: &str) -> Result<(), SourceError> {
        Ok(())
    }

    fn count(&self, _: &'static str, _: u64) {}

    fn idle(&self) {}

    fn warn(&self, fault: &Fault) {
        self.warnings.lock().unwrap().push(fault.message.clone());
    }
}

impl Collected {
    pub fn output(self: &Arc<Self>) -> SourceOutput {
        SourceOutput::new(self.clone())
    }

    pub fn bodies(&self) -> Vec<String> {
        self.bodies.lock().unwrap().clone()
    }
}

pub fn stop() -> (watch::Sender<bool>, Stop) {
    let (sender, receiver) = watch::channel(false);
    (sender, Stop::new(receiver))
}

pub fn context(name: &str, slots: &[&str], fake: &Arc<Fake>) -> Context {
    FAKES.lock().unwrap().push(fake.clone());
    let handle: Arc<dyn std::any::Any + Send + Sync> = Arc::new(ClusterHandle(fake.clone()));
    Context {
        name: name.to_owned(),
        agent: "main".to_owned(),
        state_dir: "/nowhere".into(),
        slots: Arc::new(slots.iter().map(|slot| (*slot).to_owned()).collect()),
        functions: Default::default(),
        secrets: Default::default(),
        host: "here".to_owned(),
        services: Arc::new(BTreeMap::from([("events".to_owned(), handle)])),
    }
}

/// Lets the others run until the condition holds.
pub async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}
