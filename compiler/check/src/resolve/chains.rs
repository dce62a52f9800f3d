//! Chains: what stands at the head, and the steps after it, with what is known of the headers on the way.

use std::collections::BTreeSet;

use flow_diag::{Code, Diagnostic, Span};
use flow_syntax::ast::{self, ExternWord};

use super::{EntityId, EntityKind, Resolver, ScopeId};
use crate::expr::State;
use crate::model::{Chain, ComponentId, Node, NodeKind, Start, StartKind, Word};

/// What stands at the head of a chain.
pub(super) enum Head {
    Component(ComponentId),
    ComponentErrors(ComponentId),
    InterceptorErrors(usize),
    Interceptor(usize),
    /// A source written in place.
    Kind,
    Poison,
}

impl<'a> Resolver<'a> {
    /// Resolves all chains, those that fill a channel before those that drain it.
    pub(super) fn resolve_chains(&mut self) {
        let chains = std::mem::take(&mut self.chains);
        let mut waiting = Vec::with_capacity(chains.len());
        for (scope, chain) in chains {
            let (heads, targets) = self.ends_of(scope, chain);
            for target in &targets {
                *self.feeders_left.entry(*target).or_default() += 1;
            }
            waiting.push(Some((scope, chain, heads, targets)));
        }
        let mut resolved: Vec<Option<Chain>> = waiting.iter().map(|_| None).collect();
        let mut left = waiting.len();
        while left > 0 {
            let ready = |one: &(ScopeId, &ast::Chain, BTreeSet<ComponentId>, BTreeSet<ComponentId>)| {
                one.2.iter().all(|head| {
                    let own = usize::from(one.3.contains(head));
                    self.feeders_left.get(head).copied().unwrap_or(0) <= own
                })
            };
            let next = waiting
                .iter()
                .position(|one| one.as_ref().is_some_and(ready))
                // a loop through a channel or topic: any order will do, nothing is known there
                .or_else(|| waiting.iter().position(Option::is_some));
            let Some(next) = next else { break };
            let Some((scope, chain, _, targets)) = waiting[next].take() else { break };
            left -= 1;
            for target in targets {
                if let Some(count) = self.feeders_left.get_mut(&target) {
                    *count -= 1;
                }
            }
            resolved[next] = Some(self.resolve_chain(scope, chain));
        }
        self.model.chains = resolved.into_iter().flatten().collect();
    }

    /// Components at the head of a chain and those it leads to, by a silent look at the names.
    fn ends_of(&self, scope: ScopeId, chain: &ast::Chain) -> (BTreeSet<ComponentId>, BTreeSet<ComponentId>) {
        let mut heads = BTreeSet::new();
        let mut targets = BTreeSet::new();
        match &chain.from {
            ast::Step::Place(place) => self.collect_place(scope, place, &mut heads),
            ast::Step::Fan(fan) => {
                for branch in &fan.branches {
                    self.collect_place(scope, &branch.first, &mut heads);
                    self.collect_steps(scope, &branch.steps, &mut targets);
                }
            }
            ast::Step::Route(_) => {}
        }
        self.collect_steps(scope, &chain.steps, &mut targets);
        (heads, targets)
    }

    fn collect_steps(&self, scope: ScopeId, steps: &[ast::ArrowStep], out: &mut BTreeSet<ComponentId>) {
        for step in steps {
            match &step.step {
                ast::Step::Place(place) => self.collect_place(scope, place, out),
                ast::Step::Fan(fan) => {
                    for branch in &fan.branches {
                        self.collect_place(scope, &branch.first, out);
                        self.collect_steps(scope, &branch.steps, out);
                    }
                }
                ast::Step::Route(route) => {
                    for arm in &route.arms {
                        self.collect_steps(scope, &arm.steps, out);
                    }
                }
            }
        }
    }

    fn collect_place(&self, scope: ScopeId, place: &ast::Place, out: &mut BTreeSet<ComponentId>) {
        let mut entity = self.lookup(scope, &place.ctor.kind.first().text);
        for name in &place.ctor.kind.names[1..] {
            entity = entity
                .and_then(|entity| self.members(entity))
                .and_then(|scope| self.scope(scope).names.get(&name.text).copied());
        }
        if let Some(entity) = entity
            && let EntityKind::Component(id) = self.entity_kind(entity)
        {
            out.insert(id);
        }
    }

    fn resolve_chain(&mut self, scope: ScopeId, chain: &'a ast::Chain) -> Chain {
        self.chain_scope = Some(scope);
        let resolved = self.chain_in(scope, chain);
        self.chain_scope = None;
        resolved
    }

    fn chain_in(&mut self, scope: ScopeId, chain: &'a ast::Chain) -> Chain {
        let own = self.scope(scope);
        let (agent, flow) = (own.agent, own.flow);
        let mut starts = Vec::new();
        let mut state: Option<State> = None;
        match &chain.from {
            ast::Step::Place(place) => {
                let (start, known) = self.start(scope, place);
                state = Some(known);
                starts.push(start);
            }
            ast::Step::Fan(fan) => {
                for branch in &fan.branches {
                    let (mut start, mut known) = self.start(scope, &branch.first);
                    start.nodes = self.steps(scope, &mut known, &branch.steps);
                    match &mut state {
                        None => state = Some(known),
                        Some(state) => state.merge(&known),
                    }
                    starts.push(start);
                }
            }
            ast::Step::Route(route) => {
                self.model.incomplete = true;
                self.report(
                    Diagnostic::new(Code::F0415, route.head, "a route cannot start a chain")
                        .label("nothing flows into it")
                        .help("start with a source, channel, topic or `x.errors`"),
                );
                starts.push(Start { span: route.head, kind: StartKind::Poison, nodes: Vec::new() });
            }
        }
        let mut state = state.unwrap_or_else(State::unknown);
        let nodes = self.steps(scope, &mut state, &chain.steps);
        Chain { agent, flow, span: chain.span, from: starts, nodes }
    }

    /// The head of a chain, and what is known of its events.
    fn start(&mut self, scope: ScopeId, place: &'a ast::Place) -> (Start, State) {
        let as_group = place.ctor.as_name.as_ref().map(|name| name.text.clone());
        let (kind, state) = match self.head(scope, &place.ctor) {
            Head::Component(id) => {
                self.check_reader(id, &place.ctor, true);
                let state = self.state_from(id);
                (StartKind::Component { id, as_group }, state)
            }
            Head::ComponentErrors(id) => (StartKind::ComponentErrors(id), State::unknown()),
            Head::InterceptorErrors(index) => {
                (StartKind::InterceptorErrors(self.interceptors[index].id), State::unknown())
            }
            Head::Interceptor(index) => {
                self.interceptors[index].used = true;
                (StartKind::Interceptor(self.interceptors[index].id), State::unknown())
            }
            Head::Kind => {
                let library = self.library;
                match library.kind(ExternWord::Source, &place.ctor.kind.text()) {
                    Some(kind) => {
                        let id = self.place_component(scope, Word::Source, kind, &place.ctor);
                        let state = self.state_from(id);
                        (StartKind::Component { id, as_group }, state)
                    }
                    None => (StartKind::Poison, State::unknown()),
                }
            }
            Head::Poison => {
                self.model.incomplete = true;
                self.check_loose(scope, &place.ctor);
                (StartKind::Poison, State::unknown())
            }
        };
        (Start { span: place.ctor.span, kind, nodes: Vec::new() }, state)
    }

    /// What is known of the events that come out of a component.
    pub(super) fn state_from(&self, id: ComponentId) -> State {
        match self.model.components[id.0 as usize].word {
            Word::Source => self.arriving.get(&id).cloned().unwrap_or_else(State::unknown),
            Word::Channel if self.feeders_left.get(&id).copied().unwrap_or(0) == 0 => {
                self.arriving.get(&id).cloned().unwrap_or_else(State::unknown)
            }
            Word::Topic | Word::Consumer => self.state_of_topics(),
            _ => State::unknown(),
        }
    }

    /// Whoever writes to a topic may set any header; the reader adds its own.
    pub(super) fn state_of_topics(&self) -> State {
        let mut state = State::unknown();
        let mut kinds = self.library.kinds.iter();
        if let Some((_, kind)) = kinds.find(|((word, _), _)| *word == ExternWord::Consumer) {
            super::components::apply_sets(kind, &[], &mut state);
        }
        state
    }

    /// `orders as billing`: only a topic has readers with names, and somebody has to take what they read.
    pub(super) fn check_reader(&mut self, id: ComponentId, ctor: &ast::Ctor, goes_on: bool) {
        let Some(group) = &ctor.as_name else { return };
        let part = &self.model.components[id.0 as usize];
        let (name, declared) = (part.name.clone(), part.span);
        let diagnostic = match part.word {
            Word::Topic if goes_on => return,
            Word::Topic => {
                let title = format!("`{name} as {}` flows nowhere", group.text);
                Diagnostic::new(Code::F0401, ctor.span, title)
                    .label("a reader that nobody takes events from")
                    .help(format!("go on with `-> …`, or write `-> {name}` alone"))
            }
            word => {
                let title = format!("`{name}` is a {}: only a topic is read `as` a group", word.text());
                let diagnostic = Diagnostic::new(Code::F0201, group.span, title)
                    .label("a group of readers")
                    .also(declared, format!("a {}", word.text()));
                match word {
                    Word::Consumer => diagnostic.help(format!("`{name}` is the name of the group already")),
                    _ => diagnostic.help("take `as …` away"),
                }
            }
        };
        self.report(diagnostic);
    }

    /// Events with this knowledge reach a component.
    pub(super) fn arrive(&mut self, id: ComponentId, state: &State) {
        if self.model.components[id.0 as usize].word == Word::Source {
            return;
        }
        match self.arriving.get_mut(&id) {
            Some(known) => known.merge(state),
            None => {
                self.arriving.insert(id, state.clone());
            }
        }
        if self.model.components[id.0 as usize].word == Word::Group {
            let members = self.model.components[id.0 as usize].members.clone();
            for member in members {
                if member.component != id
                    && self.model.components[member.component.0 as usize].word == Word::Sink
                {
                    self.arrive(member.component, state);
                }
            }
        }
    }

    fn head(&mut self, scope: ScopeId, ctor: &ast::Ctor) -> Head {
        let path = &ctor.kind;
        let (entity, errors) = self.path_with_errors(scope, path);
        if let Some(entity) = entity {
            self.mark_used(entity);
            return match (self.entity_kind(entity), errors) {
                (EntityKind::Component(id), true) => Head::ComponentErrors(id),
                (EntityKind::Component(id), false) => {
                    if !self.reachable(scope, entity, id, path.span, false) {
                        return Head::Poison;
                    }
                    Head::Component(id)
                }
                (EntityKind::Interceptor(index), true) => Head::InterceptorErrors(index),
                (EntityKind::Interceptor(index), false) => Head::Interceptor(index),
                (EntityKind::Poison, _) => Head::Poison,
                (other, _) => {
                    self.report_no_place(entity, &other, path.span);
                    Head::Poison
                }
            };
        }
        if path.names.len() > 1 {
            self.report_unknown_place(scope, ctor, true);
            return Head::Poison;
        }
        let name = &path.first().text;
        let library = self.library;
        if library.kind(ExternWord::Source, name).is_some() {
            return Head::Kind;
        }
        if self.is_poisoned(name) {
            return Head::Poison;
        }
        if let Some(kind) = library.kind(ExternWord::Interceptor, name) {
            let title = format!("`{}` is an interceptor and cannot start a chain", kind.name);
            self.report(
                Diagnostic::new(Code::F0415, path.span, title)
                    .label("nothing flows into it")
                    .help("start with a source, channel, topic or `x.errors`"),
            );
            return Head::Poison;
        }
        let holds = |word: ExternWord| library.kind(word, name).is_some();
        if holds(ExternWord::Sink) || holds(ExternWord::Channel) {
            let what = if holds(ExternWord::Sink) { "sink" } else { "channel" };
            let title = format!("`{name}` is a {what} kind and cannot start a chain");
            self.report(
                Diagnostic::new(Code::F0404, path.span, title)
                    .label("no events come from here")
                    .help("start with a source, channel, topic or `x.errors` that is declared"),
            );
            return Head::Poison;
        }
        self.report_unknown_place(scope, ctor, true);
        Head::Poison
    }

    /// Things that neither hold nor change events.
    pub(super) fn report_no_place(&mut self, entity: EntityId, kind: &EntityKind, span: Span) {
        let name = self.entity_name(entity).to_owned();
        let declared = self.entity_span(entity);
        let title = format!("`{name}` is {}: events cannot flow through it", kind.in_words());
        let mut diagnostic =
            Diagnostic::new(Code::F0201, span, title).label("not a step").also(declared, "declared here");
        match kind {
            EntityKind::Agent(_) => {
                diagnostic = diagnostic.help(format!("name one of its sources: `{name}.inbox`"));
            }
            EntityKind::Import(_) | EntityKind::Use(_) | EntityKind::Flow(_) => {
                diagnostic = diagnostic.help(format!("name something in it: `{name}.…`"));
            }
            EntityKind::Fn(_) => {
                diagnostic = diagnostic.help(format!("call it in an interceptor: `{name}(…)`"));
            }
            _ => {}
        }
        self.report(diagnostic);
        self.model.incomplete = true;
    }

    /// The entity of a path, and whether `.errors` follows it.
    pub(super) fn path_with_errors(&mut self, scope: ScopeId, path: &ast::Path) -> (Option<EntityId>, bool) {
        if path.names.len() > 1 && path.last().text == "errors" {
            let object = ast::Path { names: path.names[..path.names.len() - 1].to_vec(), span: path.span };
            if let Some(entity) = self.path_entity(scope, &object) {
                return (Some(entity), !self.has_members(entity));
            }
            return (None, true);
        }
        (self.path_entity(scope, path), false)
    }

    /// The entity of a dotted path. Silent when the first name is unknown; F0104 when a later one is.
    pub(super) fn path_entity(&mut self, scope: ScopeId, path: &ast::Path) -> Option<EntityId> {
        let mut entity = self.lookup(scope, &path.first().text)?;
        for name in &path.names[1..] {
            self.mark_used(entity);
            if !self.has_members(entity) {
                if matches!(self.entity_kind(entity), EntityKind::Poison) {
                    return Some(entity);
                }
                let of = self.entity_name(entity).to_owned();
                let what = self.described(entity);
                let declared = self.entity_span(entity);
                let mut diagnostic = Diagnostic::new(
                    Code::F0104,
                    name.span,
                    format!("`{of}` has nothing named `{}`", name.text),
                )
                .label("no such name")
                .also(declared, format!("a {what}"));
                if matches!(self.entity_kind(entity), EntityKind::Component(_) | EntityKind::Interceptor(_)) {
                    diagnostic = diagnostic.help(format!("`{of}.errors` holds the events that failed"));
                }
                self.report(diagnostic);
                return self.broken_entity();
            }
            match self.member_entity(entity, name) {
                Some(found) => entity = found,
                None => return self.broken_entity(),
            }
        }
        Some(entity)
    }

    /// Stands for something that was reported.
    fn broken_entity(&mut self) -> Option<EntityId> {
        self.model.incomplete = true;
        let scope = self.library_scope;
        let span = self.model.origins[0];
        let id = EntityId(self.entities.len() as u32);
        self.entities.push(super::Entity {
            name: String::new(),
            span,
            kind: EntityKind::Poison,
            scope,
            used: true,
        });
        Some(id)
    }

    /// Whether a chain of `scope` may touch a component; F0109 otherwise. An inbox may be written to from
    /// everywhere.
    pub(super) fn reachable(
        &mut self,
        scope: ScopeId,
        entity: EntityId,
        id: ComponentId,
        span: Span,
        as_target: bool,
    ) -> bool {
        let here = self.scope(scope).agent;
        let component = &self.model.components[id.0 as usize];
        let shared = matches!(component.word, Word::Topic | Word::Consumer | Word::Cluster | Word::Ensemble);
        if component.agent == here || shared || (as_target && component.word == Word::Source) {
            return true;
        }
        let home = component.agent;
        if self.unclosed_agents.contains(&home) || self.unclosed_agents.contains(&here) {
            self.mark_used(entity);
            self.model.incomplete = true;
            return false;
        }
        let (name, declared, word) = (component.name.clone(), component.span, component.word.text());
        let agent_name = |agent: crate::model::AgentId| self.model.agents[agent.0 as usize].name.clone();
        let title = if home.0 == 0 {
            format!(
                "{word} `{name}` is outside of agent `{}` and cannot be reached from it",
                agent_name(here)
            )
        } else if here.0 == 0 {
            format!("`{name}` is inside agent `{}` and cannot be reached from outside", agent_name(home))
        } else {
            format!(
                "`{name}` is inside agent `{}` and cannot be reached from `{}`",
                agent_name(home),
                agent_name(here)
            )
        };
        let inbox = self.inbox_of(home);
        let mut diagnostic = Diagnostic::new(Code::F0109, span, title)
            .label("another process")
            .also(declared, "declared here");
        diagnostic = match inbox {
            Some(inbox) => diagnostic.help(format!("arrows between agents go to a source: `{inbox}`")),
            None => diagnostic.help("arrows between agents go to a source: `agent.inbox`"),
        };
        self.report(diagnostic);
        self.mark_used(entity);
        self.model.incomplete = true;
        false
    }

    fn inbox_of(&self, agent: crate::model::AgentId) -> Option<String> {
        let owner = &self.model.agents[agent.0 as usize].name;
        self.model
            .components
            .iter()
            .find(|one| {
                one.agent == agent
                    && agent.0 != 0
                    && one.word == Word::Source
                    && one.abilities.iter().any(|a| a == "remote")
            })
            .map(|one| format!("{owner}.{}", one.name))
    }

    /// The steps after a head.
    pub(super) fn steps(
        &mut self,
        scope: ScopeId,
        state: &mut State,
        steps: &'a [ast::ArrowStep],
    ) -> Vec<Node> {
        let mut nodes = Vec::with_capacity(steps.len());
        for (index, step) in steps.iter().enumerate() {
            let last = index + 1 == steps.len();
            let span = match &step.step {
                ast::Step::Route(route) => route.head,
                other => other.span(),
            };
            let kind = match &step.step {
                ast::Step::Place(place) => self.place(scope, state, place, last),
                ast::Step::Fan(fan) => {
                    let mut branches = Vec::with_capacity(fan.branches.len());
                    let mut after: Option<State> = None;
                    for branch in &fan.branches {
                        let mut known = state.clone();
                        let first = self.place(scope, &mut known, &branch.first, branch.steps.is_empty());
                        let mut nodes =
                            vec![Node { span: branch.first.span, arrow: step.arrow, kind: first }];
                        nodes.extend(self.steps(scope, &mut known, &branch.steps));
                        self.end_in_nothing(&mut nodes);
                        match &mut after {
                            None => after = Some(known),
                            Some(after) => after.merge(&known),
                        }
                        branches.push(nodes);
                    }
                    if let Some(after) = after {
                        *state = after;
                    }
                    NodeKind::Fan(branches)
                }
                ast::Step::Route(route) => self.route(scope, state, route),
            };
            nodes.push(Node { span, arrow: step.arrow, kind });
        }
        self.end_in_nothing(&mut nodes);
        nodes
    }

    /// Where an arrow points at nothing, the steps before it lead somewhere all the same.
    fn end_in_nothing(&mut self, nodes: &mut Vec<Node>) {
        if let Some(last) = nodes.last()
            && matches!(last.kind, NodeKind::Steps(_))
            && (self.has_dangling_arrow(last.span) || self.is_unclosed(last.span))
        {
            let (span, arrow) = (last.span.at_end(), last.arrow);
            self.model.incomplete = true;
            nodes.push(Node { span, arrow, kind: NodeKind::Poison });
        }
    }
}
