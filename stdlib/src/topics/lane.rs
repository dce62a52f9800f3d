//! One partition that is written to: what is put waits in an open batch while the one before it goes to the disk, so
//! that many small puts become few large appends, and a lone one goes at once.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use flow_agent::Fault;
use flow_log::batch::Builder;
use flow_plan::Ack;

use super::cluster::AppendError;
use super::encode::builder;
use super::topic::{Room, Shared};

/// A batch of records is sealed when it has so many bytes: a part of what clients fetch at once.
pub const BATCH_BYTES: usize = 512 << 10;

/// How long an append that failed waits before the next try: doubled from the first to the second.
const RETRY_MS: (u64, u64) = (100, 5_000);

pub struct Lane {
    partition: i32,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    open: Option<Builder>,
    /// Batches ready to be appended, one behind the other.
    sealed: Vec<u8>,
    waiting: Vec<Put>,
    /// A task is at it, or about to look.
    running: bool,
}

/// A share of a put: its acknowledgement and the room that it takes.
struct Put {
    ack: Ack,
    _room: Arc<Room>,
}

impl Lane {
    pub fn new(partition: i32) -> Lane {
        Lane { partition, state: Mutex::default() }
    }

    /// Encodes rows into the lane. `fill` gets the open builder for each row; the rows are acknowledged together.
    pub fn put<R>(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        rows: impl Iterator<Item = R>,
        mut fill: impl FnMut(&mut Builder, R),
        ack: Ack,
        room: Arc<Room>,
    ) {
        let start = {
            let mut state = self.lock();
            for row in rows {
                let open = state.open.get_or_insert_with(|| builder(shared.compress));
                fill(open, row);
                if open.bytes() >= BATCH_BYTES {
                    state.seal();
                }
            }
            state.waiting.push(Put { ack, _room: room });
            !std::mem::replace(&mut state.running, true)
        };
        if start {
            shared.lanes_running.fetch_add(1, Ordering::AcqRel);
            let (lane, shared) = (self.clone(), shared.clone());
            tokio::spawn(async move {
                lane.work(&shared).await;
                shared.lane_ended();
            });
        }
    }

    /// Appends what there is until there is nothing more.
    async fn work(&self, shared: &Shared) {
        loop {
            let (batches, puts) = {
                let mut state = self.lock();
                state.seal();
                if state.waiting.is_empty() {
                    state.running = false;
                    return;
                }
                (std::mem::take(&mut state.sealed), std::mem::take(&mut state.waiting))
            };
            match self.append(shared, batches).await {
                Ok(()) => puts.into_iter().for_each(|put| put.ack.done()),
                Err(fault) => {
                    // The acknowledgements go with it: lost, and repeated by whoever can.
                    drop(puts);
                    shared.fail(fault);
                }
            }
        }
    }

    async fn append(&self, shared: &Shared, batches: Vec<u8>) -> Result<(), Fault> {
        if batches.is_empty() {
            return Ok(());
        }
        let mut wait_ms = RETRY_MS.0;
        let mut left = &batches[..];
        let end = loop {
            if let Some(fault) = shared.failure() {
                return Err(fault);
            }
            match shared.cluster.append(&shared.topic, self.partition, &mut left) {
                Ok(end) => break end,
                Err(AppendError::Fatal(fault)) => return Err(fault),
                Err(AppendError::Retry(fault)) => shared.warn(fault),
            }
            shared.wait(Duration::from_millis(wait_ms)).await?;
            wait_ms = (2 * wait_ms).min(RETRY_MS.1);
        };
        shared.cluster.kept(&shared.topic, self.partition, end).await
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // It is whole between statements.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn seal(&mut self) {
        if let Some(open) = self.open.take().filter(|open| !open.is_empty()) {
            let batch = open.finish();
            if self.sealed.is_empty() {
                self.sealed = batch;
            } else {
                self.sealed.extend_from_slice(&batch);
            }
        }
    }
}
