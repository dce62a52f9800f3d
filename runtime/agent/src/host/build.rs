//! Builds the parts of an agent from the plan: every factory is called, every fault is collected, nothing is started.

use std::collections::BTreeMap;
use std::sync::Arc;

use flow_plan::Plan;
use flow_plan::exec::Natives;
use flow_plan::plan::{self, OriginId, PLAN_VERSION, Target};
use tokio::sync::watch;

use super::drain::{Drain, DrainCounts};
use super::executors::Executors;
use super::guard::guarded_call;
use super::keeper::Keeper;
use super::pipe::{Pipe, PipeCounts, Port, PortTarget, Waiting};
use super::report::{Reporter, Reports};
use super::shape::{self, Shape};
use super::sink::{SinkCounts, SinkSlot};
use super::source::{Intake, IntakeCounts, Supervised};
use super::view::{AgentView, ChannelView, SinkView, SourceView};
use super::window::{Crew, Limits, Window};
use super::{Agents, HostOptions, StartFault};
use crate::backoff::{Backoff, BackoffLimits};
use crate::counters::{Count, Health};
use crate::dead::DeadLetters;
use crate::program::{Recipe, RunningProgram};
use crate::status::Phase;
use crate::traits::{Channel, Context, Fault, Registry, Services, Sink, Source, Stop};

/// Everything that building an agent needs.
pub(super) struct Site {
    pub plan: Arc<Plan>,
    pub registry: Registry,
    pub options: HostOptions,
    pub phase: watch::Receiver<Phase>,
    pub stop: Stop,
    pub reports: Arc<Reports>,
    /// What all sources have handed over together.
    pub crew: Arc<Crew>,
    /// What the services give to others.
    pub services: Arc<Services>,
}

/// An agent that is ready to start.
pub(super) struct BuiltAgent {
    pub view: Arc<AgentView>,
    /// With the channels that each feeds.
    pub sources: Vec<(Supervised, Vec<usize>)>,
    pub drains: Vec<(Drain, Vec<usize>)>,
    /// Channels that are only written to.
    pub keepers: Vec<Keeper>,
    pub channels: Vec<Arc<dyn Channel>>,
    /// By channel: how many sources and drains feed it.
    pub feeders: Vec<usize>,
}

pub(super) fn build_agents(site: &Site, agents: &Agents) -> Result<Vec<BuiltAgent>, Vec<StartFault>> {
    let whole = |fault| vec![StartFault::of_plan(fault)];
    if site.plan.version != PLAN_VERSION {
        let found = site.plan.version;
        let message = format!("the plan has version {found}, this build runs version {PLAN_VERSION}");
        return Err(whole(Fault::new(message).code("F0813")));
    }
    let mut chosen = Vec::new();
    match agents {
        Agents::All => chosen.extend(0..site.plan.agents.len()),
        Agents::Named(names) => {
            for name in names {
                let Some(index) = site.plan.agents.iter().position(|agent| agent.name == *name) else {
                    let message = format!("the plan has no agent `{name}`");
                    return Err(whole(Fault::new(message).code("F0812")));
                };
                if !chosen.contains(&index) {
                    chosen.push(index);
                }
            }
        }
    }
    let mut built = Vec::new();
    let mut faults = Vec::new();
    for index in chosen {
        match Builder::new(site, index).and_then(Builder::build) {
            Ok(agent) => built.push(agent),
            Err(more) => faults.extend(more),
        }
    }
    if faults.is_empty() { Ok(built) } else { Err(faults) }
}

struct Builder<'a> {
    site: &'a Site,
    index: usize,
    agent: &'a plan::Agent,
    shape: Shape,
    name: Arc<str>,
    slots: Arc<Vec<String>>,
    secrets: Arc<BTreeMap<String, String>>,
    places: Arc<Vec<String>>,
    dead: Arc<DeadLetters>,
    natives: Arc<Natives>,
    channels: Vec<Option<Arc<dyn Channel>>>,
    faults: Vec<StartFault>,
}

/// What channels, sources and sinks of the plan have in common.
struct Part<'a> {
    name: &'a str,
    kind: &'a str,
    what: &'static str,
    origin: OriginId,
    setting_origins: &'a BTreeMap<String, OriginId>,
}

impl<'a> Builder<'a> {
    fn new(site: &'a Site, index: usize) -> Result<Builder<'a>, Vec<StartFault>> {
        let agent = &site.plan.agents[index];
        let shape = shape::check_shape(agent)?;
        let slots = Arc::new(site.plan.slots.clone());
        let place = |origin: &plan::Origin| format!("{}:{}:{}", origin.file, origin.line, origin.column);
        let dir = site.options.data_dir.join(&agent.name).join("dead");
        Ok(Builder {
            site,
            index,
            agent,
            shape,
            name: Arc::from(agent.name.as_str()),
            secrets: Arc::new(site.options.secrets.clone()),
            places: Arc::new(site.plan.origins.iter().map(place).collect()),
            dead: Arc::new(DeadLetters::new(dir, slots.clone())),
            slots,
            natives: Arc::new(Natives::new()),
            channels: Vec::new(),
            faults: Vec::new(),
        })
    }

    fn build(mut self) -> Result<BuiltAgent, Vec<StartFault>> {
        let agent = self.agent;
        for channel in &agent.channels {
            let part = Part::of_channel(channel);
            let factory = self.site.registry.channels.get(channel.kind.as_str()).copied();
            let built = self.make(&part, factory, |factory, context| factory(&channel.settings, context));
            self.channels.push(built);
        }
        // Sources last: they are the ones that take something from the world (a port, a lock).
        let mut drains = Vec::new();
        let mut keepers = Vec::new();
        let mut channel_views = Vec::new();
        let mut sink_views = Vec::new();
        for (index, channel) in agent.channels.iter().enumerate() {
            if channel.drain.is_none() {
                if let Some((keeper, view)) = self.keeper(index) {
                    keepers.push(keeper);
                    channel_views.push(view);
                }
                continue;
            }
            if let Some((drain, view, sinks)) = self.drain(index) {
                drains.push((drain, self.shape.drain_feeds[index].clone()));
                channel_views.push(view);
                sink_views.extend(sinks);
            }
        }
        let mut sources = Vec::new();
        let mut source_views = Vec::new();
        for (index, source) in agent.sources.iter().enumerate() {
            if let Some((supervised, view)) = self.source(source) {
                sources.push((supervised, self.shape.source_feeds[index].clone()));
                source_views.push(view);
            }
        }
        if !self.faults.is_empty() {
            return Err(self.faults);
        }
        let view = AgentView {
            name: agent.name.clone(),
            sources: source_views,
            channels: channel_views,
            sinks: sink_views,
            dead: self.dead,
        };
        Ok(BuiltAgent {
            view: Arc::new(view),
            sources,
            drains,
            keepers,
            channels: self.channels.into_iter().flatten().collect(),
            feeders: self.shape.feeders,
        })
    }

    /// Calls a factory; faults (and panics) are collected.
    fn make<F, T>(
        &mut self,
        part: &Part<'_>,
        factory: Option<F>,
        call: impl FnOnce(F, &Context) -> Result<T, Fault>,
    ) -> Option<T> {
        let result = match factory {
            None => {
                Err(Fault::new(format!("this build has no {} kind `{}`", part.what, part.kind)).code("F0116"))
            }
            Some(factory) => {
                let context = self.context(part.name);
                guarded_call(|| call(factory, &context)).and_then(|built| built)
            }
        };
        match result {
            Ok(built) => Some(built),
            Err(fault) => {
                let setting = fault.setting.and_then(|setting| part.setting_origins.get(setting));
                let origin = setting.copied().unwrap_or(part.origin);
                self.fault(part.name, fault, origin);
                None
            }
        }
    }

    fn source(&mut self, source: &plan::Source) -> Option<(Supervised, SourceView)> {
        let part = Part::of_source(source);
        let factory = self.site.registry.sources.get(source.kind.as_str()).copied();
        let first: Option<Box<dyn Source>> =
            self.make(&part, factory, |factory, context| factory(&source.settings, context));
        let reporter = self.reporter(&part);
        let pipe = self.pipe(source.program, reporter.clone(), &BTreeMap::new());
        let errors = match source.errors {
            Some(errors) => Some(self.pipe(errors, reporter.clone(), &BTreeMap::new())?),
            None => None,
        };
        let (first, factory, pipe) = (first?, factory?, Arc::new(pipe?));
        let limits = Limits::new(
            self.site.options.workers_max,
            self.site.options.overlap_from,
            self.site.crew.clone(),
        );
        let intake = Arc::new(Intake {
            window: Window::new(pipe.clone(), self.site.phase.clone(), limits),
            pipe,
            errors,
            dead: self.dead.clone(),
            place: self.place(source.origin),
            slots: self.slots.clone(),
            phase: self.site.phase.clone(),
            reporter,
            counts: IntakeCounts::default(),
        });
        let view = SourceView {
            kind: source.kind.clone(),
            flow: source.flow.clone(),
            origin: source.origin,
            intake: intake.clone(),
        };
        let supervised = Supervised {
            first,
            factory,
            settings: source.settings.clone(),
            context: self.context(&source.name),
            intake,
            stop: self.site.stop.clone(),
            backoff: self.backoff(&source.name, self.site.options.source_backoff),
        };
        Some((supervised, view))
    }

    fn keeper(&mut self, index: usize) -> Option<(Keeper, ChannelView)> {
        let planned = &self.agent.channels[index];
        let reporter = self.reporter(&Part::of_channel(planned));
        let channel = self.channels[index].clone()?;
        let needed = self.shape.needed[index];
        let view = ChannelView {
            name: planned.name.clone(),
            kind: planned.kind.clone(),
            implicit: planned.implicit,
            origin: planned.origin,
            channel: channel.clone(),
            pipe: None,
            counts: Arc::default(),
            needed,
            health: reporter.health.clone(),
        };
        Some((Keeper { channel, phase: self.site.phase.clone(), reporter, needed }, view))
    }

    fn drain(&mut self, index: usize) -> Option<(Drain, ChannelView, Vec<SinkView>)> {
        let agent = self.agent;
        let channel = &agent.channels[index];
        let part = Part::of_channel(channel);
        let mut sinks = Vec::new();
        let mut views = Vec::new();
        let mut numbers = BTreeMap::new();
        let mut missing = false;
        let targets: Vec<(u32, bool)> = self.shape.drain_sinks[index].clone();
        for (sink, required) in targets {
            match self.sink(&agent.sinks[sink as usize], required) {
                Some((slot, view)) => {
                    numbers.insert(sink, sinks.len());
                    sinks.push(slot);
                    views.push(view);
                }
                None => missing = true,
            }
        }
        let reporter = self.reporter(&part);
        let pipe = self.pipe(channel.drain?, reporter.clone(), &numbers).map(Arc::new);
        let taken = self.channels[index].clone();
        if missing {
            return None;
        }
        let (pipe, taken) = (pipe?, taken?);
        let counts = Arc::new(DrainCounts::default());
        let view = ChannelView {
            name: channel.name.clone(),
            kind: channel.kind.clone(),
            implicit: channel.implicit,
            origin: channel.origin,
            channel: taken.clone(),
            pipe: Some(pipe.clone()),
            counts: counts.clone(),
            needed: self.shape.needed[index],
            health: reporter.health.clone(),
        };
        let drain = Drain {
            channel: taken,
            durable: channel.abilities.iter().any(|ability| ability == "durable"),
            pipe,
            sinks,
            phase: self.site.phase.clone(),
            reporter,
            backoff: self.backoff(&channel.name, self.site.options.sink_backoff),
            linger: self.site.options.linger,
            counts,
            needed: self.shape.needed[index],
        };
        Some((drain, view, views))
    }

    fn sink(&mut self, sink: &plan::Sink, required: bool) -> Option<(SinkSlot, SinkView)> {
        let part = Part::of_sink(sink);
        let factory = self.site.registry.sinks.get(sink.kind.as_str()).copied();
        let built: Option<Box<dyn Sink>> =
            self.make(&part, factory, |factory, context| factory(&sink.settings, context));
        let reporter = self.reporter(&part);
        let errors = match sink.errors {
            Some(errors) => Some(Arc::new(self.pipe(errors, reporter.clone(), &BTreeMap::new())?)),
            None => None,
        };
        let (built, factory) = (built?, factory?);
        let counts = Arc::new(SinkCounts::default());
        let view = SinkView {
            name: sink.name.clone(),
            kind: sink.kind.clone(),
            origin: sink.origin,
            counts: counts.clone(),
            errors: errors.clone(),
            health: reporter.health.clone(),
        };
        let slot = SinkSlot {
            events_max: built.batch_events_max().max(1),
            sink: Some(built),
            fence: self.site.options.fence.clone(),
            factory,
            settings: sink.settings.clone(),
            context: self.context(&sink.name),
            errors,
            dead: self.dead.clone(),
            place: self.place(sink.origin),
            slots: self.slots.clone(),
            backoff: self.backoff(&sink.name, self.site.options.sink_backoff),
            not_before: None,
            required,
            reporter,
            counts,
            refused_untold: 0,
            refused_told: None,
        };
        Some((slot, view))
    }

    /// A program with its ports. `sinks`: numbers in the drain by index in the agent.
    fn pipe(&mut self, program: u32, reporter: Reporter, sinks: &BTreeMap<u32, usize>) -> Option<Pipe> {
        let planned = &self.agent.programs[program as usize];
        let mut ports = Vec::new();
        for output in &planned.outputs {
            let to = match output.to {
                // Not built: its fault is known already.
                Target::Channel(channel) => PortTarget::Channel(self.channels[channel as usize].clone()?),
                Target::Sink(sink) => PortTarget::Sink(*sinks.get(&sink)?),
            };
            ports.push(Port {
                to,
                name: Arc::from(shape::target_name(self.agent, output.to)),
                optional: output.optional,
                origin: output.origin,
                place: self.place(output.origin),
                events: Count::default(),
                bytes: Count::default(),
                dropped: Count::default(),
                waiting: Waiting::default(),
            });
        }
        let recipe = Recipe {
            plan: self.site.plan.clone(),
            registry: self.site.registry.clone(),
            agent: self.index,
            program: program as usize,
            natives: self.natives.clone(),
        };
        let running = match guarded_call(|| recipe.build(false)) {
            Ok(Ok(executor)) => RunningProgram::new(executor),
            Ok(Err(fault)) => {
                self.fault(&fault.step, fault.fault, fault.origin);
                return None;
            }
            Err(panic) => {
                self.fault(&planned.name, panic, reporter.origin);
                return None;
            }
        };
        Some(Pipe {
            name: Arc::from(planned.name.as_str()),
            executors: Executors::new(recipe, running),
            outputs: ports,
            dead: self.dead.clone(),
            reporter,
            counts: PipeCounts::default(),
        })
    }

    fn context(&self, name: &str) -> Context {
        Context {
            name: name.to_owned(),
            agent: self.agent.name.clone(),
            state_dir: self.site.options.data_dir.join(&self.agent.name).join(name),
            slots: self.slots.clone(),
            functions: self.site.registry.functions.clone(),
            secrets: self.secrets.clone(),
            host: self.site.options.host.clone(),
            services: self.site.services.clone(),
        }
    }

    fn reporter(&self, part: &Part<'_>) -> Reporter {
        Reporter {
            reports: self.site.reports.clone(),
            agent: self.name.clone(),
            node: Arc::from(part.name),
            origin: part.origin,
            setting_origins: Arc::new(part.setting_origins.clone()),
            health: Arc::new(Health::default()),
            told: Arc::default(),
        }
    }

    /// Each part has its own jitter, the same in every run with one seed.
    fn backoff(&self, name: &str, limits: BackoffLimits) -> Backoff {
        let seed = name
            .bytes()
            .chain(self.agent.name.bytes())
            .fold(self.site.options.seed, |seed, byte| seed.rotate_left(7) ^ u64::from(byte));
        Backoff::new(limits, seed)
    }

    fn place(&self, origin: OriginId) -> String {
        self.places.get(origin.0 as usize).cloned().unwrap_or_default()
    }

    fn fault(&mut self, node: &str, fault: Fault, origin: OriginId) {
        self.faults.push(StartFault { agent: self.agent.name.clone(), node: node.to_owned(), fault, origin });
    }
}

impl<'a> Part<'a> {
    fn of_source(source: &'a plan::Source) -> Part<'a> {
        let plan::Source { name, kind, origin, setting_origins, .. } = source;
        Part { name, kind, what: "source", origin: *origin, setting_origins }
    }

    fn of_channel(channel: &'a plan::Channel) -> Part<'a> {
        let plan::Channel { name, kind, origin, setting_origins, .. } = channel;
        Part { name, kind, what: "channel", origin: *origin, setting_origins }
    }

    fn of_sink(sink: &'a plan::Sink) -> Part<'a> {
        let plan::Sink { name, kind, origin, setting_origins, .. } = sink;
        Part { name, kind, what: "sink", origin: *origin, setting_origins }
    }
}

impl StartFault {
    pub(super) fn of_plan(fault: Fault) -> StartFault {
        StartFault { agent: String::new(), node: String::new(), fault, origin: OriginId(0) }
    }
}
