//! Waiting for everything that is committed: one question to the leader for all who wait at the same time (ReadIndex;
//! Ongaro 2014, 6.4).

use std::sync::{Arc, Mutex};
use std::time::Duration;

use openraft::ReadPolicy;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::Inner;
use super::frame::kind;
use super::machine::lock;
use crate::proto::{Code, Zxid};

/// How long one question may take before it is asked again, perhaps of another leader.
const ASK_TIMEOUT: Duration = Duration::from_millis(500);
/// How long a barrier takes at most.
const BARRIER_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause before a question is asked again.
const PAUSE: Duration = Duration::from_millis(20);
/// Barriers that may wait.
const WAITING_MAX: usize = 1 << 16;

/// Those who wait for the next question.
#[derive(Default)]
pub(super) struct Barrier {
    waiting: Mutex<Vec<oneshot::Sender<Option<u64>>>>,
    wake: Notify,
}

impl Inner {
    pub(super) async fn barrier(&self) -> Result<Zxid, Code> {
        let deadline = Instant::now() + BARRIER_TIMEOUT;
        let (sender, answer) = oneshot::channel();
        {
            let mut waiting = lock(&self.barrier.waiting);
            if waiting.len() >= WAITING_MAX {
                return Err(Code::Throttled);
            }
            waiting.push(sender);
        }
        self.barrier.wake.notify_one();
        let index = match timeout_at(deadline, answer).await {
            Ok(Ok(Some(index))) => index,
            _ => return Err(Code::ConnectionLoss),
        };
        let mut applied = self.shared.applied.subscribe();
        match timeout_at(deadline, applied.wait_for(|next| *next > index)).await {
            Ok(Ok(_)) => {}
            _ => return Err(Code::ConnectionLoss),
        }
        Ok(self.shared.last_zxid())
    }

    /// An index that covers everything that was committed before the call; `None` if this server does not lead.
    pub(super) async fn read_index_here(&self) -> Option<u64> {
        let found = timeout(ASK_TIMEOUT, self.raft.get_read_linearizer(ReadPolicy::ReadIndex)).await;
        Some(found.ok()?.ok()?.read_log_id().index())
    }

    async fn read_index(&self) -> Option<u64> {
        let (leader, _) = self.leader()?;
        if leader == self.id() {
            return self.read_index_here().await;
        }
        let answer = self.link(leader)?.call(kind::READ_INDEX, Vec::new(), ASK_TIMEOUT).await.ok()?;
        answer.first_chunk().map(|index| u64::from_be_bytes(*index))
    }
}

/// Asks for all who wait, again and again.
pub(super) async fn ask(inner: Arc<Inner>) {
    loop {
        inner.barrier.wake.notified().await;
        let mut waiting = std::mem::take(&mut *lock(&inner.barrier.waiting));
        while !waiting.is_empty() {
            if let Some(index) = inner.read_index().await {
                for one in waiting.drain(..) {
                    // Whoever gave up does not hear of it.
                    let _ = one.send(Some(index));
                }
                break;
            }
            sleep(PAUSE).await;
            waiting.retain(|one| !one.is_closed());
        }
    }
}
