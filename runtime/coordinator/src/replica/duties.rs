//! What runs beside the consensus: handing transactions to the leader, carrying touches, and what only the leader does
//! (ending sessions, deleting containers, the first secret, the text of the membership), and snapshots.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::Inner;
use super::expiry::Expiry;
use super::frame::kind;
use super::link::Link;
use super::machine::lock;
use super::members::members_text;
use super::reconfig::shows;
use super::types::{CallBack, Data, Proposed};
use crate::state::{Entry, Op, Origin, Txn};

/// Transactions that went to the leader and are not back after this time go again, over a new connection.
const RESEND_AFTER: Duration = Duration::from_secs(2);
/// A leader that could not be reached is dialled again after this time, at the earliest.
const REDIAL_AFTER: Duration = Duration::from_millis(100);
/// The pause before the leader is asked again that did not take something.
const REFUSED_PAUSE: Duration = Duration::from_millis(5);
/// Sessions that one transaction ends.
const EXPIRE_MAX: usize = 1000;
/// Containers and TTL nodes that one look deletes.
const CONTAINERS_MAX: usize = 10_000;
/// How many of them in one transaction.
const CONTAINERS_PER_TXN: usize = 1000;
/// Touches in one message.
const TOUCHES_MAX: usize = 1 << 16;
/// How often it is looked whether a snapshot is due.
const SNAPSHOT_CHECK: Duration = Duration::from_millis(500);
/// The pause after a snapshot failed, as on a full disk.
const SNAPSHOT_RETRY: Duration = Duration::from_secs(30);
/// A log that grows so large since the last snapshot makes one due.
const LOG_BYTES_MAX: u64 = 512 << 20;
/// How long the library may take to know of a snapshot.
const SNAPSHOT_KNOWN: Duration = Duration::from_secs(10);

/// Where transactions go: the leader, its term, and the connection to it.
type Session = (u64, u64, u64);

/// Hands this server's transactions to the leader, in order.
pub(super) async fn pump(inner: Arc<Inner>) {
    let mut metrics = inner.raft.server_metrics();
    let mut session: Option<Session> = None;
    loop {
        if inner.shared.outbox.take_refused() {
            sleep(REFUSED_PAUSE).await;
            session = None;
        }
        let (found, link) = find_leader(&inner);
        if found != session {
            inner.shared.outbox.rewind();
            session = found;
        }
        if let Some((leader, term, generation)) = session
            && !send(&inner, leader, term, generation, link.as_deref()).await
        {
            session = None;
        }
        let outbox = &inner.shared.outbox;
        let link_changed = link.as_ref().map(|link| link.watch());
        let applied = *inner.shared.applied.borrow();
        tokio::select! {
            biased;
            () = outbox.wake.notified() => {}
            changed = metrics.changed() => if changed.is_err() {
                inner.stop_serving("the consensus stopped");
                return;
            },
            () = refused(link.as_deref()) => outbox.refuse(),
            () = changed(link_changed, session.map_or(0, |(_, _, generation)| generation)) => {}
            // Nobody tells of a connection that could not be made.
            () = sleep(REDIAL_AFTER), if link.is_some() && session.is_none() => {}
            () = sleep(RESEND_AFTER), if link.is_some() && session.is_some() && outbox.is_waiting() => {
                if *inner.shared.applied.borrow() == applied {
                    if let (Some(link), Some((_, _, generation))) = (&link, session) {
                        link.reset(generation);
                    }
                    session = None;
                }
            }
        }
    }
}

fn find_leader(inner: &Arc<Inner>) -> (Option<Session>, Option<Arc<Link>>) {
    let Some((leader, term)) = inner.leader() else { return (None, None) };
    if leader == inner.id() {
        return (Some((leader, term, 0)), None);
    }
    let Some(link) = inner.link(leader) else { return (None, None) };
    match link.generation() {
        0 => {
            link.connect();
            (None, Some(link))
        }
        generation => (Some((leader, term, generation)), Some(link)),
    }
}

/// Comes back when the connection is another than the one with this number.
async fn changed(link: Option<watch::Receiver<u64>>, generation: u64) {
    match link {
        Some(mut link) => {
            let gone = link.wait_for(|number| *number != generation).await.is_err();
            if gone {
                std::future::pending::<()>().await;
            }
        }
        None => std::future::pending().await,
    }
}

/// Comes back when the leader did not take something.
async fn refused(link: Option<&Link>) {
    match link {
        Some(link) => link.refused.notified().await,
        None => std::future::pending().await,
    }
}

/// Sends what is to be sent; false if the connection takes no more.
async fn send(inner: &Arc<Inner>, leader: u64, term: u64, generation: u64, link: Option<&Link>) -> bool {
    while let Some(next) = inner.shared.outbox.next(inner.world.clock.now_ms()) {
        if leader == inner.id() {
            inner.heard_in(&next.entry);
            let data = Data::new(next.entry.time_ms, &next.encoded, Some(next.entry));
            let shared = inner.shared.clone();
            let answer = CallBack(Box::new(move |proposed: Proposed| {
                if proposed.is_err() {
                    shared.outbox.refuse();
                }
            }));
            if inner.raft.write(data).with_leader(term).responder(answer).await.is_err() {
                inner.stop_serving("the consensus stopped");
                return true;
            }
            continue;
        }
        let mut body = Vec::with_capacity(8 + next.encoded.len());
        body.extend_from_slice(&term.to_be_bytes());
        body.extend_from_slice(&next.encoded);
        if !link.is_some_and(|link| link.send(kind::FORWARD, body.into(), generation)) {
            return false;
        }
    }
    true
}

/// Carries touches to the leader, and does the leader's work while this server leads.
pub(super) async fn lead(inner: Arc<Inner>) {
    let mut metrics = inner.raft.server_metrics();
    let half_tick = Duration::from_millis((inner.config.tick_ms / 2).max(1));
    let mut led: Option<u64> = None;
    let mut containers_at = Instant::now();
    loop {
        let mut ticked = false;
        tokio::select! {
            biased;
            () = sleep(half_tick) => ticked = true,
            changed = metrics.changed() => if changed.is_err() {
                return;
            },
        }
        let leads = inner.leader().filter(|(leader, _)| *leader == inner.id()).map(|(_, term)| term);
        if leads != led {
            led = leads;
            begin_term(&inner, leads);
            containers_at = Instant::now();
        }
        if ticked {
            carry_touches(&inner);
        }
        let Some(term) = leads else { continue };
        let mut txns = Vec::new();
        if !inner.shared.read().state.is_initialized() {
            txns.push(Op::Init { secret: random_secret(&inner) });
        }
        txns.extend(membership_change(&inner));
        if ticked {
            txns.extend(expired(&inner));
        }
        if containers_at.elapsed() >= Duration::from_millis(inner.config.container_check_ms) {
            containers_at = Instant::now();
            let now_ms = inner.world.clock.now_ms();
            let due = inner.shared.read().state.containers_due(now_ms, CONTAINERS_MAX);
            txns.extend(
                due.chunks(CONTAINERS_PER_TXN).map(|paths| Op::DeleteContainers { paths: paths.to_vec() }),
            );
        }
        if !txns.is_empty() {
            inner.propose(term, txns).await;
        }
    }
}

/// A new leader gives every session its full time; who leads no longer counts none.
fn begin_term(inner: &Inner, leads: Option<u64>) {
    let copy = inner.shared.read();
    let mut expiry = lock(&inner.shared.expiry);
    *expiry = leads.map(|_| {
        let now_ms = inner.uptime_ms();
        let mut fresh = Expiry::new(inner.config.tick_ms, now_ms);
        for (id, session) in copy.state.sessions() {
            fresh.add(id, u64::try_from(session.timeout_ms).unwrap_or_default(), now_ms);
        }
        fresh
    });
}

fn carry_touches(inner: &Inner) {
    let mut sessions: Vec<i64> = lock(&inner.touched).drain().collect();
    sessions.sort_unstable();
    match inner.leader() {
        Some((leader, _)) if leader == inner.id() => inner.heard(&sessions),
        Some((leader, _)) => {
            let Some(link) = inner.link(leader) else { return };
            for part in sessions.chunks(TOUCHES_MAX) {
                let body: Vec<u8> = part.iter().flat_map(|session| session.to_be_bytes()).collect();
                link.send(kind::TOUCH, body.into(), link.generation());
            }
        }
        // The next leader gives every session its full time.
        None => {}
    }
}

fn random_secret(inner: &Inner) -> [u8; 32] {
    let mut secret = [0; 32];
    for part in secret.chunks_mut(8) {
        part.copy_from_slice(&inner.world.clock.random().to_be_bytes());
    }
    secret
}

/// The text of the membership, if `/zookeeper/config` has another.
fn membership_change(inner: &Inner) -> Option<Op> {
    let text = members_text(&inner.members());
    if text.is_empty() {
        return None;
    }
    let same = shows(&inner.shared.read().state, &text);
    (!same).then_some(Op::Membership { text })
}

/// Transactions that end the sessions whose time is over.
fn expired(inner: &Inner) -> Vec<Op> {
    let in_touch = inner.is_in_touch();
    let mut expiry = lock(&inner.shared.expiry);
    let Some(expiry) = expiry.as_mut() else { return Vec::new() };
    if !in_touch {
        // Cut off from the others, it cannot have heard of their clients.
        expiry.pause(inner.uptime_ms());
        return Vec::new();
    }
    let over = expiry.advance(inner.uptime_ms());
    over.chunks(EXPIRE_MAX).map(|sessions| Op::Expire { sessions: sessions.to_vec() }).collect()
}

impl Inner {
    /// Proposes transactions of the leader's own, for this term only: they are lost with it, because the next leader
    /// decides anew.
    pub(super) async fn propose(&self, term: u64, ops: Vec<Op>) {
        let no_ids: Arc<[crate::proto::Id]> = Arc::from([]);
        let txn = |op| Txn { session: 0, connection: 0, ids: no_ids.clone(), op };
        let entry = Entry {
            time_ms: self.world.clock.now_ms(),
            origin: Origin { server: 0, incarnation: 0 },
            first_serial: 1,
            txns: ops.into_iter().map(txn).collect(),
        };
        let mut encoded = Vec::new();
        entry.encode(&mut encoded);
        let data = Data::new(entry.time_ms, &encoded, Some(Arc::new(entry)));
        // Without an answer: what failed is seen, and tried again, at the next look.
        let _ = self.raft.write(data).with_leader(term).await;
    }
}

/// Writes snapshots when they are due, and gives up the log behind them.
pub(super) async fn snapshots(inner: Arc<Inner>) {
    let mut log_bytes = inner.store.bytes();
    loop {
        sleep(SNAPSHOT_CHECK).await;
        let txns = inner.shared.since_snapshot.load(Ordering::Relaxed);
        let grown = inner.store.bytes().saturating_sub(log_bytes);
        if txns < inner.config.snapshot_every && (grown < LOG_BYTES_MAX || txns == 0) {
            continue;
        }
        match inner.take_snapshot().await {
            Ok(()) => log_bytes = inner.store.bytes(),
            Err(error) => {
                tracing::warn!(%error, "no snapshot could be written");
                sleep(SNAPSHOT_RETRY).await;
            }
        }
    }
}

impl Inner {
    /// Writes a snapshot, tells the consensus of it, removes old ones and the log before the second newest: if the newest
    /// turns out to be broken, the one before it and the log make up for it.
    pub(super) async fn take_snapshot(&self) -> std::io::Result<()> {
        let begun = Instant::now();
        let file = self.shared.write_snapshot().await?;
        let last = file.meta.last_log_id;
        self.raft.trigger().snapshot().await.map_err(std::io::Error::other)?;
        let known = self.raft.wait(Some(SNAPSHOT_KNOWN));
        let known = known.metrics(|metrics| metrics.snapshot >= last, "the snapshot is known").await;
        known.map_err(std::io::Error::other)?;
        tracing::info!(bytes = file.bytes, took = ?begun.elapsed(), "a snapshot was written");
        if let Some(upto) = self.shared.snapshots.remove_old()? {
            self.raft.trigger().purge_log(upto).await.map_err(std::io::Error::other)?;
        }
        Ok(())
    }
}
