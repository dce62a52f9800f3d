//! Handles on the running parts of an agent for snapshots; the tasks own the parts themselves.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use flow_plan::plan::{OriginId, ServiceWord};

use super::drain::DrainCounts;
use super::pipe::Pipe;
use super::sink::SinkCounts;
use super::source::Intake;
use crate::counters::Health;
use crate::dead::DeadLetters;
use crate::status::{AgentStatus, ChannelReport, ServiceStatus, SinkStatus, SourceStatus};
use crate::traits::{Channel, Service};

pub(super) struct AgentView {
    pub name: String,
    pub sources: Vec<SourceView>,
    pub channels: Vec<ChannelView>,
    pub sinks: Vec<SinkView>,
    pub dead: Arc<DeadLetters>,
}

pub(super) struct ServiceView {
    pub word: ServiceWord,
    pub name: String,
    pub kind: String,
    pub implicit: bool,
    pub origin: OriginId,
    pub service: Arc<dyn Service>,
}

pub(super) struct SourceView {
    pub kind: String,
    pub flow: Option<String>,
    pub origin: OriginId,
    pub intake: Arc<Intake>,
}

pub(super) struct ChannelView {
    pub name: String,
    pub kind: String,
    pub implicit: bool,
    pub origin: OriginId,
    pub channel: Arc<dyn Channel>,
    /// Of the drain, when it has one.
    pub pipe: Option<Arc<Pipe>>,
    pub counts: Arc<DrainCounts>,
    /// Not only optional branches lead here.
    pub needed: bool,
    pub health: Arc<Health>,
}

pub(super) struct SinkView {
    pub name: String,
    pub kind: String,
    pub origin: OriginId,
    pub counts: Arc<SinkCounts>,
    pub errors: Option<Arc<Pipe>>,
    pub health: Arc<Health>,
}

impl AgentView {
    pub fn status(&self) -> AgentStatus {
        AgentStatus {
            name: self.name.clone(),
            sources: self.sources.iter().map(SourceView::status).collect(),
            channels: self.channels.iter().map(ChannelView::status).collect(),
            sinks: self.sinks.iter().map(SinkView::status).collect(),
            dead: self.dead.status(),
        }
    }
}

impl ServiceView {
    pub fn status(&self) -> ServiceStatus {
        ServiceStatus {
            word: self.word,
            name: self.name.clone(),
            kind: self.kind.clone(),
            implicit: self.implicit,
            origin: self.origin,
            address: self.service.address(),
            condition: self.service.condition(),
        }
    }
}

impl SourceView {
    fn status(&self) -> SourceStatus {
        let intake = &self.intake;
        SourceStatus {
            name: intake.reporter.node.to_string(),
            kind: self.kind.clone(),
            flow: self.flow.clone(),
            origin: self.origin,
            state: intake.reporter.health.state(),
            idle: intake.counts.idle.load(Ordering::Relaxed),
            events: intake.counts.events.get(),
            bytes: intake.counts.bytes.get(),
            refused: intake.counts.refused.get(),
            restarts: intake.counts.restarts.get(),
            counts: intake.counts.named.snapshot(),
            program: intake.pipe.status(),
            errors: intake.errors.as_ref().map(Pipe::status),
            last_fault: intake.reporter.health.last_fault(),
        }
    }
}

impl ChannelView {
    /// Events that nobody has taken. A volatile channel lets go of them when its drain ends early.
    pub fn events_left(&self) -> u64 {
        self.channel.status().events.max(self.counts.left.get())
    }

    fn status(&self) -> ChannelReport {
        ChannelReport {
            name: self.name.clone(),
            kind: self.kind.clone(),
            implicit: self.implicit,
            origin: self.origin,
            state: self.health.state(),
            fill: self.channel.status(),
            committed: self.counts.committed.get(),
            transactions: self.counts.transactions.get(),
            program: self.pipe.as_ref().map(|pipe| pipe.status()),
            last_fault: self.health.last_fault(),
        }
    }
}

impl SinkView {
    fn status(&self) -> SinkStatus {
        SinkStatus {
            name: self.name.clone(),
            kind: self.kind.clone(),
            origin: self.origin,
            state: self.health.state(),
            events: self.counts.events.get(),
            bytes: self.counts.bytes.get(),
            writes: self.counts.writes.get(),
            retries: self.counts.retries.get(),
            refused: self.counts.refused.get(),
            dead_letters: self.counts.dead_letters.get(),
            skipped: self.counts.skipped.get(),
            errors: self.errors.as_ref().map(|pipe| pipe.status()),
            last_fault: self.health.last_fault(),
        }
    }
}
