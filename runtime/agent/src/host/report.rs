//! Faults on their way to the terminal: each with the part, its place in the text and the time.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flow_plan::plan::OriginId;
use serde::Serialize;
use tokio::sync::broadcast;
use tokio::time::Instant;

use super::Clock;
use crate::counters::Health;
use crate::status::FaultReport;
use crate::traits::Fault;

/// Notices kept for a reader that is behind; older ones are lost to it (the status still has the last fault).
pub const NOTICES_MAX: usize = 256;

/// The same warning of the same part is told again only after this long: what is tried again fails again.
pub const NOTICE_AGAIN: Duration = Duration::from_secs(5);

/// Faults kept for the end of the run.
pub const END_FAULTS_MAX: usize = 64;

/// Something that the user should hear while the flow runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Notice {
    pub level: Level,
    pub agent: String,
    /// Name of the source, channel, sink or step.
    pub node: String,
    pub fault: Fault,
    /// The setting the fault is about, or the part.
    pub origin: OriginId,
    /// Milliseconds since 1970 UTC.
    pub at_ms: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Good to know: nothing is wrong.
    Note,
    /// It is tried again, or the events were kept aside.
    Warning,
    /// The part has stopped, or something was lost: the process ends with exit code 3.
    Error,
}

/// Shared by all parts of a run.
pub(super) struct Reports {
    sender: broadcast::Sender<Notice>,
    clock: Clock,
    failed: AtomicBool,
    errors: Mutex<Vec<Notice>>,
}

impl Reports {
    pub fn new(clock: Clock) -> Arc<Reports> {
        let (sender, _) = broadcast::channel(NOTICES_MAX);
        Arc::new(Reports { sender, clock, failed: AtomicBool::new(false), errors: Mutex::new(Vec::new()) })
    }

    pub fn subscribe(&self) -> broadcast::Receiver<Notice> {
        self.sender.subscribe()
    }

    pub fn failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    pub fn errors(&self) -> Vec<Notice> {
        self.errors.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    fn send(&self, notice: Notice) {
        if notice.level == Level::Error {
            self.failed.store(true, Ordering::Release);
            let mut errors = self.errors.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            if errors.len() < END_FAULTS_MAX {
                errors.push(notice.clone());
            }
        }
        tracing::debug!(agent = notice.agent, node = notice.node, "{}", notice.fault);
        // Nobody may be listening.
        let _ = self.sender.send(notice);
    }
}

/// Reports the faults of one part.
#[derive(Clone)]
pub(super) struct Reporter {
    pub reports: Arc<Reports>,
    pub agent: Arc<str>,
    pub node: Arc<str>,
    pub origin: OriginId,
    pub setting_origins: Arc<BTreeMap<String, OriginId>>,
    pub health: Arc<Health>,
    /// The last warning that was told.
    pub told: Arc<Mutex<Option<(String, Instant)>>>,
}

impl Reporter {
    pub fn report(&self, level: Level, fault: &Fault) {
        let origin = self.origin_of(fault);
        let at_ms = self.now_ms();
        self.health.fault(FaultReport { fault: fault.clone(), origin, at_ms });
        if level == Level::Warning && !self.is_news(fault) {
            return;
        }
        self.reports.send(Notice {
            level,
            agent: self.agent.to_string(),
            node: self.node.to_string(),
            fault: fault.clone(),
            origin,
            at_ms,
        });
    }

    fn is_news(&self, fault: &Fault) -> bool {
        let mut told = self.told.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let now = Instant::now();
        let known = told.as_ref().is_some_and(|(message, when)| {
            *message == fault.message && now.saturating_duration_since(*when) < NOTICE_AGAIN
        });
        if !known {
            *told = Some((fault.message.clone(), now));
        }
        !known
    }

    pub fn now_ms(&self) -> i64 {
        self.reports.clock.now_ms()
    }

    fn origin_of(&self, fault: &Fault) -> OriginId {
        let setting = fault.setting.and_then(|setting| self.setting_origins.get(setting));
        setting.copied().unwrap_or(self.origin)
    }
}
