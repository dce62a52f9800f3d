//! From the resolved model to the plan: which programs run between which boundaries, and which channels are put
//! in. Expects a model without errors; from any other it makes some plan without panicking, and nobody runs it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use flow_diag::{Files, Span};
use flow_plan::ir;
use flow_plan::plan::{self, OriginId, Plan};
use flow_plan::settings::Settings;
use serde_json::{Value, json};

use super::claim;
use super::context::Context;
use super::proof::proof;
use super::segment::{Branch, End, Head, Leaf, Segment, Segments, component};
use super::services::{self, Cluster};
use crate::model::{
    AgentId, Component, ComponentId, ImplicitChannel, InterceptorId, Model, RouteModel, StepModel, Word,
};

/// Makes the plan of a model for which no error was reported.
pub fn plan(model: &Model, files: &Files) -> Plan {
    let context = Context::new(model, files);
    let segments = &context.segments;
    let mut origins = Origins::new(model, files);
    let secrets = model
        .secrets
        .iter()
        .map(|secret| plan::Secret {
            name: secret.name.clone(),
            kind: secret.kind.clone(),
            settings: secret.settings.clone(),
            origin: origins.of(secret.span),
        })
        .collect();
    let claims = model
        .claims
        .iter()
        .enumerate()
        .map(|(index, claim)| plan::Claim {
            guarantee: claim.guarantee.clone(),
            scope: claim::scope_words(model, claim.scope),
            origin: origins.of(claim.span),
            proof: proof(&context, index),
        })
        .collect();
    let heads = Heads::new(model, segments);
    let services = services::services(model, segments, &mut origins);
    let agents: Vec<plan::Agent> = (0..model.agents.len() as u32)
        .map(|id| Builder::new(model, segments, &heads, &mut origins, AgentId(id)).build())
        .collect();
    // Element 0 is `main`; a file with agents only has nothing there.
    let agents: Vec<plan::Agent> = agents
        .into_iter()
        .filter(|agent| !(agent.sources.is_empty() && agent.channels.is_empty() && agent.sinks.is_empty()))
        .collect();
    let elections = services::elections(model, &agents, &mut origins);
    Plan {
        version: plan::PLAN_VERSION,
        file: origins.file.clone(),
        slots: model.slots.clone(),
        functions: model.functions.clone(),
        secrets,
        services,
        agents,
        elections,
        runtime: model.runtime.clone(),
        claims,
        origins: origins.list,
    }
}

/// Places in the text; those of the model come first, so that the IR's numbers stay valid.
pub(super) struct Origins<'a> {
    files: &'a Files,
    file: String,
    list: Vec<plan::Origin>,
    by_span: HashMap<Span, OriginId>,
}

impl<'a> Origins<'a> {
    fn new(model: &Model, files: &'a Files) -> Origins<'a> {
        let mut origins = Origins { files, file: String::new(), list: Vec::new(), by_span: HashMap::new() };
        for span in &model.origins {
            let id = OriginId(origins.list.len() as u32);
            origins.push(*span);
            origins.by_span.entry(*span).or_insert(id);
        }
        if origins.list.is_empty() {
            // Somebody has to be element 0.
            origins.list.push(plan::Origin { file: String::new(), line: 1, column: 1, start: 0, end: 0 });
        }
        origins.file = origins.list.first().map(|origin| origin.file.clone()).unwrap_or_default();
        origins
    }

    pub(super) fn of(&mut self, span: Span) -> OriginId {
        if let Some(id) = self.by_span.get(&span) {
            return *id;
        }
        let id = OriginId(self.list.len() as u32);
        self.push(span);
        self.by_span.insert(span, id);
        id
    }

    fn push(&mut self, span: Span) {
        let known = self.files.ids().any(|id| id == span.file);
        let (file, line, column) = match known {
            true => {
                let at = self.files.location(span.file, span.start);
                (self.files.name(span.file).to_owned(), at.line, at.column)
            }
            false => (String::new(), 1, 1),
        };
        self.list.push(plan::Origin { file, line, column, start: span.start, end: span.end });
    }

    /// What processes that run the same file meet under, wherever it lies: its name without the folder.
    pub(super) fn stem(&self) -> String {
        let file = self.file.rsplit(['/', '\\']).next().unwrap_or_default();
        let stem = file.strip_suffix(".flow").unwrap_or(file);
        stem.replace(|c: char| !(c.is_alphanumeric() || c == '_' || c == '-'), "_")
    }

    /// Of the settings that are written.
    pub(super) fn of_settings(&mut self, part: &Component) -> BTreeMap<String, OriginId> {
        part.setting_spans.iter().map(|(key, span)| (key.clone(), self.of(*span))).collect()
    }

    fn line(&self, span: Span) -> u32 {
        match self.files.ids().any(|id| id == span.file) {
            true => self.files.location(span.file, span.start).line,
            false => 1,
        }
    }
}

/// Which segments start where.
struct Heads {
    by_head: BTreeMap<Head, Vec<usize>>,
    /// Channels that some segment writes to.
    filled: BTreeSet<ComponentId>,
}

impl Heads {
    fn new(model: &Model, segments: &Segments<'_>) -> Heads {
        let mut by_head: BTreeMap<Head, Vec<usize>> = BTreeMap::new();
        let mut filled = BTreeSet::new();
        for (index, segment) in segments.list.iter().enumerate() {
            by_head.entry(segment.head).or_default().push(index);
            for path in segment.paths() {
                if component(model, path.leaf.id).is_some_and(|to| to.word == Word::Channel) {
                    filled.insert(path.leaf.id);
                }
            }
        }
        Heads { by_head, filled }
    }

    fn at(&self, head: Head) -> &[usize] {
        self.by_head.get(&head).map_or(&[], Vec::as_slice)
    }
}

/// Puts one agent together, on demand: programs of the sources first, then the channels that they reach, and so
/// on. A part of the top level that two agents use is there in both.
struct Builder<'a, 'm> {
    model: &'m Model,
    segments: &'a Segments<'m>,
    heads: &'a Heads,
    origins: &'a mut Origins<'m>,
    id: AgentId,
    out: plan::Agent,
    channels: BTreeMap<ComponentId, u32>,
    sinks: BTreeMap<ComponentId, u32>,
    /// By the sink that they lead to.
    implicit: BTreeMap<ComponentId, u32>,
    names: BTreeSet<String>,
    /// Channels whose drain is still to be made, and sinks whose errors are.
    todo: Vec<Todo>,
    error_chains: BTreeSet<InterceptorId>,
}

enum Todo {
    Drain { channel: u32, id: ComponentId },
    SinkErrors { sink: u32, id: ComponentId },
}

/// What a program is made for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    /// Sinks are reached through a channel.
    Fill,
    /// Inside the transaction of a channel: sinks are reached directly.
    Drain,
}

/// One program while it is made.
struct Draft {
    name: String,
    outputs: Vec<plan::Output>,
    errors: Vec<ir::Program>,
    error_index: BTreeMap<InterceptorId, u32>,
    error_todo: Vec<(u32, InterceptorId)>,
}

impl<'a, 'm> Builder<'a, 'm> {
    fn new(
        model: &'m Model,
        segments: &'a Segments<'m>,
        heads: &'a Heads,
        origins: &'a mut Origins<'m>,
        id: AgentId,
    ) -> Builder<'a, 'm> {
        let (name, hosts) = match model.agents.get(id.0 as usize) {
            Some(agent) => (agent.name.clone(), agent.hosts.clone()),
            None => ("main".to_owned(), Vec::new()),
        };
        Builder {
            model,
            segments,
            heads,
            origins,
            id,
            out: plan::Agent {
                name,
                hosts,
                sources: Vec::new(),
                channels: Vec::new(),
                sinks: Vec::new(),
                programs: Vec::new(),
                error_chains: Vec::new(),
            },
            channels: BTreeMap::new(),
            sinks: BTreeMap::new(),
            implicit: BTreeMap::new(),
            names: model.components.iter().map(|component| component.name.clone()).collect(),
            todo: Vec::new(),
            error_chains: BTreeSet::new(),
        }
    }

    fn build(mut self) -> plan::Agent {
        let heads = self.heads;
        for (head, list) in &heads.by_head {
            let Head::Component(id) = *head else { continue };
            let here: Vec<usize> =
                list.iter().copied().filter(|&index| self.segments.list[index].agent == self.id).collect();
            let Some(from) = component(self.model, id) else { continue };
            match from.word {
                Word::Channel if !here.is_empty() && !heads.filled.contains(&id) => {
                    // Nothing fills it now, but what is in it from before can leave.
                    self.channel(id);
                }
                Word::Source if !here.is_empty() => self.source(id, from, &here),
                Word::Consumer if !here.is_empty() => self.reader(id, from, None, &here),
                Word::Topic => {
                    let segments = self.segments;
                    let group = |index: &usize| segments.list[*index].as_group;
                    let groups: BTreeSet<Option<&str>> = here.iter().map(group).collect();
                    for name in groups {
                        let of_group: Vec<usize> =
                            here.iter().copied().filter(|index| group(index) == name).collect();
                        self.reader(id, from, name, &of_group);
                    }
                }
                _ => {}
            }
            self.work();
        }
        let model = self.model;
        self.out.error_chains = self
            .error_chains
            .iter()
            .filter_map(|id| model.interceptors.get(id.0 as usize))
            .map(|interceptor| interceptor.name.clone())
            .collect();
        self.out
    }

    fn work(&mut self) {
        while let Some(todo) = self.todo.pop() {
            match todo {
                Todo::Drain { channel, id } => {
                    let name = self.out.channels[channel as usize].name.clone();
                    let drain = match self.heads.at(Head::Component(id)) {
                        [] => self.nothing(name),
                        list => self.program(name, list, Side::Drain),
                    };
                    self.out.channels[channel as usize].drain = Some(drain);
                }
                Todo::SinkErrors { sink, id } => {
                    let errors = self.errors_of(id);
                    self.out.sinks[sink as usize].errors = errors;
                }
            }
        }
    }

    fn source(&mut self, id: ComponentId, from: &'m Component, here: &[usize]) {
        let program = self.program(from.name.clone(), here, Side::Fill);
        let errors = self.errors_of(id);
        let source = plan::Source {
            name: from.name.clone(),
            kind: from.kind.clone(),
            settings: from.settings.clone(),
            abilities: from.abilities.clone(),
            origin: self.origins.of(from.span),
            setting_origins: self.origins.of_settings(from),
            flow: self.flow_of(from, here),
            program,
            errors,
        };
        self.out.sources.push(source);
    }

    /// A reader of a topic: declared (`billing -> …`), with the name of its group (`orders as billing -> …`), or
    /// without any.
    fn reader(&mut self, id: ComponentId, from: &'m Component, group: Option<&'m str>, here: &[usize]) {
        let model = self.model;
        let topic = if from.word == Word::Consumer { from.on } else { Some(id) };
        let Some((topic_id, topic)) = topic.and_then(|id| Some((id, component(model, id)?))) else { return };
        let defaults = model.reader.clone().unwrap_or_default();
        let name = match (from.word, group) {
            (Word::Topic, Some(group)) => format!("{} as {group}", topic.name),
            _ => from.name.clone(),
        };
        let group = match (from.word, group) {
            (Word::Consumer, _) => from.name.clone(),
            (_, Some(group)) => group.to_owned(),
            (_, None) => self.group_without_name(&topic.name),
        };
        let (mut settings, abilities) = match from.word {
            Word::Consumer => (from.settings.clone(), from.abilities.clone()),
            _ => (defaults.settings, defaults.abilities),
        };
        settings.insert("cluster".to_owned(), json!(Cluster::of(model, topic_id).name));
        settings.insert("topic".to_owned(), json!(topic.name));
        settings.insert("group".to_owned(), json!(group));
        let (once, transactional) = self.once(here);
        settings.insert("once".to_owned(), json!(once));
        settings.insert("transactional".to_owned(), json!(transactional));
        let program = self.program(name.clone(), here, Side::Fill);
        let errors = self.errors_of(id);
        let span = here.first().map_or(from.span, |&index| self.segments.list[index].head_span);
        let source = plan::Source {
            name,
            kind: defaults.kind,
            settings,
            abilities,
            origin: self.origins.of(if from.word == Word::Consumer { from.span } else { span }),
            setting_origins: match from.word {
                Word::Consumer => self.origins.of_settings(from),
                _ => BTreeMap::new(),
            },
            flow: self.flow_of(from, here),
            program,
            errors,
        };
        self.out.sources.push(source);
    }

    /// The group of a topic that is read without `as`: the same after every edit of the file, and another than that
    /// of other files. All such readers of a topic in one agent are one.
    fn group_without_name(&self, topic: &str) -> String {
        let stem = self.origins.stem();
        match self.id {
            AgentId(0) => format!("{stem}.{topic}"),
            _ => format!("{stem}.{}.{topic}", self.out.name),
        }
    }

    /// Whether a reader is under `deliver effectively_once`, and whether what it reads is written to topics, which is
    /// done in one transaction with its position then.
    fn once(&self, here: &[usize]) -> (bool, bool) {
        let is_topic = |id| component(self.model, id).is_some_and(|part| part.word == Word::Topic);
        let (mut once, mut transactional) = (false, false);
        for segment in here.iter().map(|&index| &self.segments.list[index]) {
            let claim = claim::claim_of(self.model, segment);
            if claim.is_none_or(|(_, claim)| claim.guarantee != "effectively_once") {
                continue;
            }
            once = true;
            let owners = segment.steps().into_iter().flat_map(|step| &step.owners);
            let errors = owners.flat_map(|owner| self.heads.at(Head::InterceptorErrors(*owner)));
            let mut all = errors.map(|&index| &self.segments.list[index]).chain([segment]);
            transactional |= all.any(|one| one.paths().iter().any(|path| is_topic(path.leaf.id)));
        }
        (once, transactional)
    }

    /// What is written to a topic enters it as it would enter a channel.
    fn topic(&mut self, id: ComponentId) -> u32 {
        if let Some(index) = self.channels.get(&id) {
            return *index;
        }
        let index = self.out.channels.len() as u32;
        self.channels.insert(id, index);
        if let Some(topic) = component(self.model, id) {
            let mut settings = topic.settings.clone();
            settings.insert("cluster".to_owned(), json!(Cluster::of(self.model, id).name));
            let channel = plan::Channel {
                name: topic.name.clone(),
                kind: topic.kind.clone(),
                settings,
                abilities: topic.abilities.clone(),
                origin: self.origins.of(topic.span),
                setting_origins: self.origins.of_settings(topic),
                implicit: false,
                drain: None,
            };
            self.out.channels.push(channel);
        }
        index
    }

    /// The flow it is declared in, else the one of its chains.
    fn flow_of(&self, from: &Component, here: &[usize]) -> Option<String> {
        let chain = here.first().and_then(|&index| self.segments.list[index].flow);
        let flow = from.flow.or(chain)?;
        self.model.flows.get(flow.0 as usize).map(|flow| flow.name.clone())
    }

    fn errors_of(&mut self, id: ComponentId) -> Option<u32> {
        let list = self.heads.at(Head::ComponentErrors(id)).to_vec();
        let from = component(self.model, id)?;
        (!list.is_empty()).then(|| self.program(format!("{}.errors", from.name), &list, Side::Fill))
    }

    fn channel(&mut self, id: ComponentId) -> u32 {
        if let Some(index) = self.channels.get(&id) {
            return *index;
        }
        let index = self.out.channels.len() as u32;
        self.channels.insert(id, index);
        if let Some(channel) = component(self.model, id) {
            let channel = plan::Channel {
                name: channel.name.clone(),
                kind: channel.kind.clone(),
                settings: channel.settings.clone(),
                abilities: channel.abilities.clone(),
                origin: self.origins.of(channel.span),
                setting_origins: self.origins.of_settings(channel),
                implicit: false,
                drain: None,
            };
            self.out.channels.push(channel);
            self.todo.push(Todo::Drain { channel: index, id });
        }
        index
    }

    fn sink(&mut self, id: ComponentId) -> u32 {
        if let Some(index) = self.sinks.get(&id) {
            return *index;
        }
        let index = self.out.sinks.len() as u32;
        self.sinks.insert(id, index);
        if let Some(sink) = component(self.model, id) {
            let mut settings = sink.settings.clone();
            if !sink.members.is_empty() {
                let members: Vec<Value> = sink
                    .members
                    .iter()
                    .filter_map(|member| component(self.model, member.component))
                    .map(|member| json!(member.name))
                    .collect();
                settings.insert("members".to_owned(), Value::Array(members));
            }
            let sink = plan::Sink {
                name: sink.name.clone(),
                kind: sink.kind.clone(),
                settings,
                abilities: sink.abilities.clone(),
                origin: self.origins.of(sink.span),
                setting_origins: self.origins.of_settings(sink),
                errors: None,
            };
            self.out.sinks.push(sink);
            self.todo.push(Todo::SinkErrors { sink: index, id });
        }
        index
    }

    /// The channel that is put in before a sink.
    fn implicit_channel(&mut self, leaf: &Leaf, segment: &Segment<'_>) -> u32 {
        if let Some(index) = self.implicit.get(&leaf.id) {
            return *index;
        }
        let sink = self.sink(leaf.id);
        let name = self.implicit_name(leaf, segment);
        let origin = self.origins.of(leaf.span);
        let drain = self.out.programs.len() as u32;
        self.out.programs.push(plan::Program {
            name: name.clone(),
            body: ir::Program { steps: Vec::new(), end: ir::End::Output(0) },
            outputs: vec![plan::Output { to: plan::Target::Sink(sink), optional: false, origin }],
            errors: Vec::new(),
        });
        let kind = claim::implicit_channel(self.model, self.segments, leaf.id);
        let channel = plan::Channel {
            settings: implicit_settings(&kind, &name),
            name,
            kind: kind.kind,
            abilities: kind.abilities,
            origin: self.origins.of(leaf.arrow),
            setting_origins: BTreeMap::new(),
            implicit: true,
            drain: Some(drain),
        };
        let index = self.out.channels.len() as u32;
        self.out.channels.push(channel);
        self.implicit.insert(leaf.id, index);
        index
    }

    /// `web.channel` when it is the only one behind source `web`, else `disk.channel` after the sink; parts that
    /// are written in place give their line: `line_12.channel`.
    fn implicit_name(&mut self, leaf: &Leaf, segment: &Segment<'_>) -> String {
        let base = claim::implicit_base(self.model, self.segments, leaf, segment);
        let mut name = format!("{base}.channel");
        let mut next = 2;
        while !self.names.insert(name.clone()) {
            name = format!("{base}.channel_{next}");
            next += 1;
        }
        name
    }

    fn nothing(&mut self, name: String) -> u32 {
        let index = self.out.programs.len() as u32;
        self.out.programs.push(plan::Program {
            name,
            body: ir::Program { steps: Vec::new(), end: ir::End::Discard },
            outputs: Vec::new(),
            errors: Vec::new(),
        });
        index
    }

    /// One program for all segments at a head: several chains are several copies.
    fn program(&mut self, name: String, list: &[usize], side: Side) -> u32 {
        let index = self.nothing(name.clone());
        let mut draft = Draft {
            name,
            outputs: Vec::new(),
            errors: Vec::new(),
            error_index: BTreeMap::new(),
            error_todo: Vec::new(),
        };
        let body = self.bodies(&mut draft, list, side);
        while let Some((slot, interceptor)) = draft.error_todo.pop() {
            let list = self.heads.at(Head::InterceptorErrors(interceptor)).to_vec();
            let body = self.bodies(&mut draft, &list, Side::Fill);
            draft.errors[slot as usize] = body;
        }
        self.out.programs[index as usize] =
            plan::Program { name: draft.name, body, outputs: draft.outputs, errors: draft.errors };
        index
    }

    fn bodies(&mut self, draft: &mut Draft, list: &[usize], side: Side) -> ir::Program {
        let segments = self.segments;
        let mut programs: Vec<ir::Program> = list
            .iter()
            .filter_map(|&index| segments.list.get(index))
            .map(|segment| self.body(draft, segment, &segment.body, side))
            .collect();
        match programs.len() {
            0 => ir::Program { steps: Vec::new(), end: ir::End::Discard },
            1 => programs.remove(0),
            _ => ir::Program { steps: Vec::new(), end: ir::End::Copy(programs) },
        }
    }

    fn body(
        &mut self,
        draft: &mut Draft,
        segment: &Segment<'m>,
        branch: &Branch<'m>,
        side: Side,
    ) -> ir::Program {
        let steps = branch.steps.iter().map(|step| self.step(draft, step)).collect();
        let end = match &branch.end {
            End::Place(leaf) => self.end(draft, segment, leaf, side),
            End::Fan(_, branches) if branches.len() == 1 => {
                let inner = self.body(draft, segment, &branches[0], side);
                let mut steps: Vec<ir::Step> = steps;
                steps.extend(inner.steps);
                return ir::Program { steps, end: inner.end };
            }
            End::Fan(_, branches) => {
                ir::End::Copy(branches.iter().map(|branch| self.body(draft, segment, branch, side)).collect())
            }
            End::Route(route, arms) => ir::End::Route(self.route(draft, segment, route, arms, side)),
            End::Open | End::Poison => ir::End::Discard,
        };
        ir::Program { steps, end }
    }

    fn step(&mut self, draft: &mut Draft, step: &StepModel) -> ir::Step {
        let mut out = step.step.clone();
        let owner = step
            .owners
            .iter()
            .copied()
            .find(|owner| !self.heads.at(Head::InterceptorErrors(*owner)).is_empty());
        out.errors = owner.map(|owner| {
            self.error_chains.insert(owner);
            *draft.error_index.entry(owner).or_insert_with(|| {
                let slot = draft.errors.len() as u32;
                draft.errors.push(ir::Program { steps: Vec::new(), end: ir::End::Discard });
                draft.error_todo.push((slot, owner));
                slot
            })
        });
        out
    }

    fn route(
        &mut self,
        draft: &mut Draft,
        segment: &Segment<'m>,
        route: &'m RouteModel,
        arms: &[(&'m crate::model::ArmModel, Branch<'m>)],
        side: Side,
    ) -> ir::Route {
        let arms = arms
            .iter()
            .map(|(arm, branch)| ir::Arm {
                when: arm.when.clone(),
                then: self.body(draft, segment, branch, side),
                origin: self.origins.of(arm.test_span),
            })
            .collect();
        ir::Route {
            all: route.all,
            subject: route.subject.clone(),
            locals: route.locals,
            arms,
            errors: None,
            origin: self.origins.of(route.head),
            name: format!("route at line {}", self.origins.line(route.head)),
        }
    }

    fn end(&mut self, draft: &mut Draft, segment: &Segment<'m>, leaf: &Leaf, side: Side) -> ir::End {
        let Some(place) = component(self.model, leaf.id) else { return ir::End::Discard };
        let to = match place.word {
            Word::Channel => plan::Target::Channel(self.channel(leaf.id)),
            Word::Topic => plan::Target::Channel(self.topic(leaf.id)),
            Word::Sink if claim::has(place, "discard") => return ir::End::Discard,
            _ if side == Side::Drain => plan::Target::Sink(self.sink(leaf.id)),
            _ => plan::Target::Channel(self.implicit_channel(leaf, segment)),
        };
        let origin = self.origins.of(leaf.span);
        // One output per arrow: a row is in an output at most once, and messages name the arrow.
        let index = draft.outputs.len() as u32;
        draft.outputs.push(plan::Output { to, optional: leaf.optional.is_some(), origin });
        ir::End::Output(index)
    }
}

fn implicit_settings(kind: &ImplicitChannel, name: &str) -> Settings {
    let mut settings = kind.settings.clone();
    if let Some(setting) = &kind.directory_setting {
        // A list without directories means the component's own, in the state directory.
        if !matches!(settings.get(setting), Some(Value::Array(_))) {
            settings.insert(setting.clone(), json!(name));
        }
    }
    settings
}
