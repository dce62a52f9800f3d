//! What is done with each committed entry: it is applied to the state under its lock, the observer hears of it, and the
//! answers of this server's own transactions are called, before anyone can read the new state. It must not know how
//! entries got committed.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use futures_util::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use tokio::sync::watch;

use tokio::time::Instant;

use super::expiry::Expiry;
use super::outbox::Outbox;
use super::snapshot::{SnapshotData, SnapshotError, SnapshotFile, Snapshots};
use super::types::{Data, LogId, SnapshotMeta, StoredMembership, Types};
use super::{Observer, StateGuard};
use crate::proto::Zxid;
use crate::state::{Applied, Entry, SnapshotId, State};

type Snapshot = openraft::type_config::alias::SnapshotOf<Types, SnapshotData>;

/// Entries that are applied under one hold of the lock, so that reads come in between.
const ENTRIES_PER_LOCK: usize = 64;
/// Transactions likewise.
const TXNS_PER_LOCK: usize = 2048;
/// What a snapshot reads of the state under one hold of the lock.
const CHUNK_BYTES: usize = 256 << 10;

/// The state and where it stands, shared with everyone who reads it.
pub(crate) struct Copy {
    pub state: State,
    pub applied: Option<LogId>,
    pub membership: StoredMembership,
    /// Counts whole replacements of the state.
    pub generation: u64,
    scratch: Applied,
}

/// What the machine and the rest of the replica share.
pub(crate) struct Shared {
    pub copy: RwLock<Copy>,
    pub observer: Arc<dyn Observer>,
    pub outbox: Outbox,
    /// Index of the last applied entry plus one; 0 before the first.
    pub applied: watch::Sender<u64>,
    /// Only while this server leads.
    pub expiry: Mutex<Option<Expiry>>,
    pub started: Instant,
    pub snapshots: Snapshots,
    /// The newest snapshot.
    pub current: Mutex<Option<Arc<SnapshotFile>>>,
    /// Transactions applied since the newest snapshot was begun.
    pub since_snapshot: AtomicU64,
    pub threads: bool,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Milliseconds since the start, by the runtime's clock.
    pub(super) fn uptime_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Copy> {
        self.copy.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Copy> {
        self.copy.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn guard(&self) -> StateGuard<'_> {
        StateGuard(self.read())
    }

    pub(crate) fn last_zxid(&self) -> Zxid {
        self.read().state.last_zxid()
    }

    /// Applies decoded entries under one hold of the lock.
    fn apply(&self, entries: Vec<Step>) {
        let mut locked = self.write();
        let copy = &mut *locked;
        for step in entries {
            match step.what {
                What::Nothing => {}
                What::Membership(membership) => copy.membership = membership,
                What::Entry(entry) => {
                    let term = step.id.committed_leader_id().term;
                    self.since_snapshot.fetch_add(entry.txns.len() as u64, Ordering::Relaxed);
                    copy.state.apply(term, &entry, &mut copy.scratch);
                    self.note_sessions(&copy.state, &copy.scratch);
                    self.observer.applied(&copy.state, &copy.scratch);
                    if entry.origin == self.outbox.origin() {
                        self.outbox.complete(&copy.scratch.outcomes);
                    }
                }
            }
            copy.applied = Some(step.id);
        }
        if let Some(applied) = &copy.applied {
            self.applied.send_replace(applied.index + 1);
        }
        drop(locked);
        self.observer.unlocked();
    }

    fn note_sessions(&self, state: &State, applied: &Applied) {
        if applied.attached.is_empty() && applied.closed.is_empty() {
            return;
        }
        if let Some(expiry) = lock(&self.expiry).as_mut() {
            for (session, _) in &applied.attached {
                if let Some(known) = state.session(*session) {
                    expiry.add(
                        *session,
                        u64::try_from(known.timeout_ms).unwrap_or_default(),
                        self.uptime_ms(),
                    );
                }
            }
            applied.closed.iter().for_each(|session| expiry.remove(*session));
        }
    }

    /// Puts another state in the place of this one.
    fn replace(&self, state: State, meta: &SnapshotMeta) {
        let mut copy = self.write();
        copy.state = state;
        copy.applied = meta.last_log_id;
        copy.membership = meta.last_membership.clone();
        copy.generation += 1;
        let origin = self.outbox.origin();
        self.observer.restored(&copy.state);
        if let Some((incarnation, serial)) = copy.state.origin_serial(origin.server)
            && incarnation == origin.incarnation
        {
            self.outbox.pass_over(serial);
        }
        self.applied.send_replace(meta.last_log_id.map_or(0, |last| last.index + 1));
        self.since_snapshot.store(0, Ordering::Relaxed);
    }

    /// Writes a snapshot beside the running server. Only pieces of it hold the lock.
    pub(crate) async fn write_snapshot(self: &Arc<Self>) -> io::Result<Arc<SnapshotFile>> {
        if !self.threads {
            let mut job = self.begin_snapshot()?;
            while job.step()? {
                tokio::task::yield_now().await;
            }
            return job.finish();
        }
        let shared = self.clone();
        let work = move || {
            let mut job = shared.begin_snapshot()?;
            while job.step()? {}
            job.finish()
        };
        tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
    }

    fn begin_snapshot(self: &Arc<Self>) -> io::Result<SnapshotJob> {
        let mut copy = self.write();
        let meta = SnapshotMeta { last_log_id: copy.applied, last_membership: copy.membership.clone() };
        let id = copy.state.snapshot_begin();
        let generation = copy.generation;
        drop(copy);
        let begun = self.since_snapshot.swap(0, Ordering::Relaxed);
        let mut job = SnapshotJob {
            shared: self.clone(),
            id,
            generation,
            writer: None,
            chunk: Vec::new(),
            begun: Some(begun),
        };
        job.writer = Some(self.snapshots.begin(meta)?);
        Ok(job)
    }
}

/// A snapshot on its way to the disk. Dropping it gives it up.
struct SnapshotJob {
    shared: Arc<Shared>,
    id: SnapshotId,
    generation: u64,
    writer: Option<super::snapshot::SnapshotWriter>,
    chunk: Vec<u8>,
    /// What was counted for it, given back if it fails.
    begun: Option<u64>,
}

impl SnapshotJob {
    /// Writes the next piece; true if there are more.
    fn step(&mut self) -> io::Result<bool> {
        self.chunk.clear();
        let copy = self.shared.read();
        if copy.generation != self.generation {
            return Err(io::Error::other("the state was replaced meanwhile"));
        }
        let more = copy.state.snapshot_chunk(self.id, CHUNK_BYTES, &mut self.chunk);
        drop(copy);
        if let Some(writer) = &mut self.writer {
            writer.write(&self.chunk)?;
        }
        Ok(more)
    }

    fn finish(mut self) -> io::Result<Arc<SnapshotFile>> {
        let Some(writer) = self.writer.take() else { return Err(io::Error::other("it was not begun")) };
        let file = Arc::new(writer.finish()?);
        self.begun = None;
        *lock(&self.shared.current) = Some(file.clone());
        Ok(file)
    }
}

impl Drop for SnapshotJob {
    fn drop(&mut self) {
        let mut copy = self.shared.write();
        if copy.generation == self.generation {
            copy.state.snapshot_end(self.id);
        }
        if let Some(begun) = self.begun {
            self.shared.since_snapshot.fetch_add(begun, Ordering::Relaxed);
        }
    }
}

/// An entry, decoded.
struct Step {
    id: LogId,
    what: What,
}

enum What {
    Nothing,
    Membership(StoredMembership),
    Entry(Arc<Entry>),
}

/// Decodes what the log holds, and stamps it with the leader's time.
pub(crate) fn decode_data(data: &Data) -> io::Result<Arc<Entry>> {
    let (time_ms, encoded) = data.parts().ok_or_else(|| io::Error::other("an entry without a time"))?;
    if let Some(entry) = &data.entry
        && entry.time_ms == time_ms
    {
        return Ok(entry.clone());
    }
    let mut entry = Entry::decode(&encoded).map_err(|error| io::Error::other(error.to_string()))?;
    entry.time_ms = time_ms;
    Ok(Arc::new(entry))
}

/// See the module.
pub(crate) struct Machine {
    pub shared: Arc<Shared>,
}

impl Machine {
    /// Reads the newest snapshot that can be used. `reaches` says whether the log still goes on after an entry.
    ///
    /// A server whose snapshots are all broken must not take its place again on its own: without the beginning of the
    /// log it has no state to lead with, and if it forgot its log and vote instead, it might have promised to keep what
    /// only it and one other had. So it does not start, and is to be taken out of the ensemble and in again.
    pub(crate) fn load(
        snapshots: &Snapshots,
        reaches: impl Fn(Option<LogId>) -> bool,
    ) -> Result<Option<(SnapshotFile, State)>, SnapshotError> {
        let dir = |error| SnapshotError::Io { path: PathBuf::from("snapshots"), error };
        let mut first = None;
        for path in snapshots.list().map_err(dir)? {
            match snapshots.load(&path) {
                Ok((file, state)) if reaches(file.meta.last_log_id) => return Ok(Some((file, state))),
                Ok((file, _)) => {
                    let what = "the log no longer goes on where it ends".to_owned();
                    first.get_or_insert(SnapshotError::Corrupt { path: file.path, what });
                }
                Err(error @ SnapshotError::Newer { .. }) => return Err(error),
                Err(error) => {
                    tracing::error!(%error, "a snapshot cannot be used; the one before it is tried");
                    first.get_or_insert(error);
                }
            }
        }
        match first {
            Some(error) if !reaches(None) => Err(error),
            _ => Ok(None),
        }
    }

    pub(crate) fn copy(state: State, meta: Option<&SnapshotMeta>) -> Copy {
        Copy {
            state,
            applied: meta.and_then(|meta| meta.last_log_id),
            membership: meta.map(|meta| meta.last_membership.clone()).unwrap_or_default(),
            generation: 0,
            scratch: Applied::default(),
        }
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        let copy = self.shared.read();
        Ok((copy.applied, copy.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        let mut steps = Vec::new();
        let mut responders = Vec::new();
        let mut txns = 0;
        while let Some(entry) = entries.next().await {
            let (entry, responder) = entry?;
            let what = match entry.payload {
                EntryPayload::Blank => What::Nothing,
                EntryPayload::Membership(membership) => {
                    What::Membership(StoredMembership::new(Some(entry.log_id), membership))
                }
                EntryPayload::Normal(data) => What::Entry(decode_data(&data)?),
            };
            if let What::Entry(entry) = &what {
                txns += entry.txns.len();
            }
            steps.push(Step { id: entry.log_id, what });
            responders.extend(responder);
            if steps.len() >= ENTRIES_PER_LOCK || txns >= TXNS_PER_LOCK {
                self.shared.apply(std::mem::take(&mut steps));
                txns = 0;
                tokio::task::yield_now().await;
            }
        }
        if !steps.is_empty() {
            self.shared.apply(steps);
        }
        responders.into_iter().for_each(|responder| responder.send(()));
        Ok(())
    }

    /// Snapshots are written before the library is asked for one, so that a full disk is no reason to stop.
    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<Builder> {
        let ready = lock(&self.shared.current).clone();
        if ready.is_none() && !force {
            return None;
        }
        // Asked for by force is one of now.
        Some(Builder { shared: self.shared.clone(), ready: ready.filter(|_| !force) })
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder { shared: self.shared.clone(), ready: None }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotData) -> io::Result<()> {
        let SnapshotData { file, restored } = snapshot;
        let state = match restored {
            Some(state) => *state,
            None => self.shared.snapshots.reread(&file).map_err(io::Error::other)?,
        };
        self.shared.replace(state, meta);
        *lock(&self.shared.current) = Some(file);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        Ok(lock(&self.shared.current).clone().map(handle))
    }
}

fn handle(file: Arc<SnapshotFile>) -> Snapshot {
    Snapshot { meta: file.meta.clone(), snapshot: SnapshotData { file, restored: None } }
}

/// Gives the library a snapshot.
pub(crate) struct Builder {
    shared: Arc<Shared>,
    ready: Option<Arc<SnapshotFile>>,
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let file = match self.ready.take() {
            Some(ready) => ready,
            None => self.shared.write_snapshot().await?,
        };
        Ok(handle(file))
    }
}
