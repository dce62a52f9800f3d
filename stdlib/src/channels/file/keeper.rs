//! The thread that looks after the directories of a channel: syncs by interval, checkpoints, deletes what was read,
//! looks whether a full disk has room again.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use flow_agent::Fault;

use super::Sync;
use super::store::Lanes;
use crate::sinks::io_text;

/// How often it looks at the disk.
const LOOK: Duration = Duration::from_secs(1);

/// The same while the disk is full.
const LOOK_FULL: Duration = Duration::from_millis(200);

/// Dropping it waits for its thread.
pub struct Keeper {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    stop: bool,
    hurry: bool,
}

impl Keeper {
    pub fn start(lanes: Arc<Lanes>, checkpoint: Duration) -> Result<Keeper, Fault> {
        let shared = Arc::new(Shared::default());
        let thread = {
            let shared = shared.clone();
            std::thread::Builder::new()
                .name("channel-keeper".to_owned())
                .spawn(move || keep(&lanes, &shared, checkpoint))
                .map_err(|error| Fault::new(format!("cannot start a thread: {}", io_text(&error))))?
        };
        Ok(Keeper { shared, thread: Some(thread) })
    }

    /// Looks at the disk at once.
    pub fn hurry(&self) {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).hurry = true;
        self.shared.wake.notify_one();
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).stop = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic there was told already.
            let _ = thread.join();
        }
    }
}

fn keep(lanes: &Lanes, shared: &Shared, checkpoint: Duration) {
    let interval = match lanes.sync {
        Sync::Interval(interval) => Some(interval),
        Sync::Commit | Sync::Never => None,
    };
    let begin = Instant::now();
    let (mut next_sync, mut next_checkpoint, mut next_look) =
        (interval.map(|interval| begin + interval), begin + checkpoint, begin + LOOK);
    loop {
        {
            let state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
            let until = next_look.min(next_checkpoint).min(next_sync.unwrap_or(next_look));
            let wait = until.saturating_duration_since(Instant::now());
            let (mut state, _) = shared
                .wake
                .wait_timeout_while(state, wait, |state| !state.stop && !state.hurry)
                .unwrap_or_else(PoisonError::into_inner);
            if state.stop {
                return;
            }
            if std::mem::take(&mut state.hurry) {
                next_look = Instant::now();
            }
        }
        let now = Instant::now();
        if let (Some(time), Some(interval)) = (next_sync, interval)
            && time <= now
        {
            lanes.lanes.iter().for_each(super::lane::Lane::sync);
            next_sync = Some(now + interval);
        }
        if next_checkpoint <= now {
            lanes.lanes.iter().for_each(super::lane::Lane::checkpoint);
            next_checkpoint = now + checkpoint;
        }
        if next_look <= now {
            for lane in &lanes.lanes {
                if lane.has_spent_segment() {
                    lane.checkpoint();
                }
                if lane.look_for_room() && lane.is_full() {
                    lanes.room.notify_one();
                }
            }
            let full = lanes.lanes.iter().any(super::lane::Lane::is_full);
            next_look = now + if full { LOOK_FULL } else { LOOK };
        }
    }
}
