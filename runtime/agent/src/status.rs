//! What an operator sees: a snapshot of every source, channel, sink and program with its counts, as plain
//! serializable data. Rates are the reader's business: it looks twice.

use std::collections::BTreeMap;

use flow_plan::plan::{OriginId, ServiceWord};
use serde::Serialize;

use crate::dead::DeadStatus;
use crate::traits::{ChannelStatus, Fault};

/// How far the run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Running,
    /// Sources stop, channels empty.
    Draining,
    /// The limit for draining has passed: sinks close, what is left stays undelivered.
    Halting,
    Ended,
}

/// What one part is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PartState {
    #[default]
    Running,
    /// Waits before another try.
    Retrying,
    /// Came to its end by itself, or was drained.
    Finished,
    /// Stopped because the flow stops.
    Stopped,
    /// Stopped by a fault that no further try can mend.
    Failed,
}

#[derive(Clone, Debug, Serialize)]
pub struct Status {
    pub phase: Phase,
    pub uptime_ms: u64,
    pub services: Vec<ServiceStatus>,
    pub agents: Vec<AgentStatus>,
}

#[derive(Clone, Debug, Serialize)]
pub struct ServiceStatus {
    pub word: ServiceWord,
    pub name: String,
    pub kind: String,
    /// Put in by the compiler.
    pub implicit: bool,
    pub origin: OriginId,
    /// Where it listens.
    pub address: String,
    /// In a word or two: `leader`.
    pub condition: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct AgentStatus {
    pub name: String,
    pub sources: Vec<SourceStatus>,
    pub channels: Vec<ChannelReport>,
    pub sinks: Vec<SinkStatus>,
    pub dead: Vec<DeadStatus>,
}

#[derive(Clone, Debug, Serialize)]
pub struct SourceStatus {
    pub name: String,
    pub kind: String,
    pub flow: Option<String>,
    pub origin: OriginId,
    pub state: PartState,
    /// The source has sent everything it has and waits for input.
    pub idle: bool,
    pub events: u64,
    /// Body bytes.
    pub bytes: u64,
    /// Input that could not become events.
    pub refused: u64,
    pub restarts: u64,
    /// What the source itself counts, by name (`dropped`, `truncated`).
    pub counts: BTreeMap<String, u64>,
    pub program: ProgramStatus,
    /// The program of `source.errors`.
    pub errors: Option<ProgramStatus>,
    pub last_fault: Option<FaultReport>,
}

#[derive(Clone, Debug, Serialize)]
pub struct ChannelReport {
    pub name: String,
    pub kind: String,
    /// Put in by the compiler.
    pub implicit: bool,
    pub origin: OriginId,
    /// Of its drain.
    pub state: PartState,
    pub fill: ChannelStatus,
    /// Events whose transaction was committed.
    pub committed: u64,
    pub transactions: u64,
    /// From the channel to its sinks; none for one that is only written to.
    pub program: Option<ProgramStatus>,
    pub last_fault: Option<FaultReport>,
}

#[derive(Clone, Debug, Serialize)]
pub struct SinkStatus {
    pub name: String,
    pub kind: String,
    pub origin: OriginId,
    pub state: PartState,
    /// Confirmed.
    pub events: u64,
    /// Body bytes confirmed.
    pub bytes: u64,
    /// Calls that were confirmed.
    pub writes: u64,
    pub retries: u64,
    /// Events that the destination refused for their content.
    pub refused: u64,
    /// Refused events that went to the dead-letter store.
    pub dead_letters: u64,
    /// Events of an optional branch that were not written because the sink failed.
    pub skipped: u64,
    /// The program of `sink.errors`.
    pub errors: Option<ProgramStatus>,
    pub last_fault: Option<FaultReport>,
}

#[derive(Clone, Debug, Serialize)]
pub struct ProgramStatus {
    pub name: String,
    pub events_in: u64,
    /// Rows given to outputs; more than came in when a route copies.
    pub events_out: u64,
    /// Rows for which a step failed.
    pub errors: u64,
    /// Those of them that went to the dead-letter store.
    pub dead_letters: u64,
    /// Interceptors and routes, in the order of the text.
    pub steps: Vec<StepStatus>,
    pub outputs: Vec<OutputStatus>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StepStatus {
    pub name: String,
    pub events_in: u64,
    /// On purpose; for a route, events that no case took.
    pub dropped: u64,
    pub failed: u64,
    /// Further events that the step made.
    pub emitted: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct OutputStatus {
    /// Name of the channel or sink.
    pub to: String,
    pub optional: bool,
    pub origin: OriginId,
    pub events: u64,
    /// Body bytes.
    pub bytes: u64,
    /// Not taken because the optional target was full or closed.
    pub dropped: u64,
    /// How long a batch has been waiting for room there: the back-pressure, and where it comes from.
    pub waiting_ms: u64,
}

/// A fault with its place in the text and its time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FaultReport {
    pub fault: Fault,
    pub origin: OriginId,
    /// Milliseconds since 1970 UTC.
    pub at_ms: i64,
}
