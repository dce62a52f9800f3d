//! `deliver …`: which claim covers what, whether it can hold, and the proof in words. A claim is about every path
//! from a source to a sink that has no optional branch in it; the innermost claim counts (flow, then agent, then
//! file). Where a part is not in this build, nothing is claimed about it.
//!
//! F0407 (failures without a chain of their own) is given under `effectively_once` alone: the dead-letter store
//! keeps what fails, which is all that `at_least_once` asks, and a warning there would be one on nearly every file.

use std::collections::BTreeSet;

use flow_diag::{Code, Diagnostic, Span};

use super::context::{Context, shown};
use super::segment::{Head, Leaf, Segment, Segments, component};
use crate::model::{Claim, Component, ComponentId, ImplicitChannel, Model, Scope, Word};

/// Whether every claim can hold (F0601 to F0604), and F0407 where a claim is about each single event.
pub(crate) fn check(context: &Context<'_>, out: &mut Vec<Diagnostic>) {
    let mut judge = Judge { context, told: BTreeSet::new(), out };
    let mut seen = BTreeSet::new();
    let mut todo: Vec<usize> = Vec::new();
    for (index, segment) in context.segments.list.iter().enumerate() {
        if starts_path(context.model, segment.head) {
            todo.push(index);
        }
    }
    todo.reverse();
    while let Some(index) = todo.pop() {
        if !seen.insert(index) {
            continue;
        }
        let segment = &context.segments.list[index];
        let claim = claim_of(context.model, segment).filter(|(_, claim)| asks(claim));
        if let Some((number, claim)) = claim {
            judge.segment(number, claim, segment);
        }
        // Optional branches, and what lies behind them, are outside the claim.
        for path in segment.paths().iter().filter(|path| path.leaf.optional.is_none()) {
            todo.extend(context.out_of(path.leaf.id).iter().rev());
        }
    }
}

/// Paths start where events come from; channels are on the way.
fn starts_path(model: &Model, head: Head) -> bool {
    match head {
        Head::Component(id) => component(model, id)
            .is_some_and(|part| matches!(part.word, Word::Source | Word::Topic | Word::Consumer)),
        Head::InterceptorErrors(_) | Head::ComponentErrors(_) => true,
        Head::Interceptor(_) | Head::Poison => false,
    }
}

struct Judge<'a, 'm> {
    context: &'a Context<'m>,
    /// One part is told once per claim.
    told: BTreeSet<(usize, Span)>,
    out: &'a mut Vec<Diagnostic>,
}

impl Judge<'_, '_> {
    fn segment(&mut self, number: usize, claim: &Claim, segment: &Segment<'_>) {
        let context = self.context;
        let paths = segment.paths();
        let required = || {
            paths.iter().filter(|path| path.leaf.optional.is_none()).filter_map(|path| {
                let part = context.part(path.leaf.id)?;
                (!part.poisoned && !has(part, "discard")).then_some((path.leaf, part))
            })
        };
        if let Head::Component(id) = segment.head
            && let Some(part) = context.part(id)
            && required().next().is_some()
        {
            match part.word {
                Word::Source if lacks(part, "replay") => self.tell(
                    number,
                    claim,
                    Code::F0602,
                    part.span,
                    format!("source `{}` cannot ask again for what was lost", part.kind),
                    "events lost before flowc has them cannot be promised",
                    "use a source that can repeat, or say `deliver at_most_once` for this flow",
                ),
                // A claim inside may be stricter than the one around what fills the channel.
                Word::Channel if !context.segments.carried.contains(&segment.head) => {
                    self.channel(number, claim, part);
                }
                _ => {}
            }
        }
        for (leaf, part) in required() {
            match part.word {
                Word::Channel if !context.segments.carried.contains(&Head::Component(leaf.id)) => {
                    self.channel(number, claim, part);
                }
                Word::Sink => self.sink(number, claim, segment, part),
                Word::Topic if claim.guarantee == "effectively_once" => {
                    self.topic(number, claim, segment, leaf, part);
                }
                Word::Group => {
                    let mut members = BTreeSet::new();
                    collect_members(context, leaf.id, &mut members);
                    for member in members.iter().filter_map(|id| context.part(*id)) {
                        if member.word == Word::Sink {
                            self.sink(number, claim, segment, member);
                        }
                    }
                }
                _ => {}
            }
            if matches!(part.word, Word::Sink | Word::Group) && !has(part, "absent") {
                self.put_in(number, claim, segment, leaf, part);
            }
        }
        if claim.guarantee == "effectively_once" {
            self.failures(claim, segment);
        }
    }

    fn channel(&mut self, number: usize, claim: &Claim, part: &Component) {
        if lacks(part, "durable") {
            self.tell(
                number,
                claim,
                Code::F0601,
                part.span,
                format!("`{}` keeps events in memory only", shown(part)),
                "lost when the process stops",
                "use `file \"dir\"` or a topic, or say `deliver at_most_once`",
            );
        }
    }

    /// `effectively_once`: a topic takes the events in the transaction that also moves their reader, or not at all.
    fn topic(&mut self, number: usize, claim: &Claim, segment: &Segment<'_>, leaf: &Leaf, part: &Component) {
        let context = self.context;
        let from = context.head_name(segment.head);
        let (why, label, help) = match readers(context, segment.head).as_slice() {
            [] => (
                format!("topic `{}` would hold events of `{from}` again after a crash", shown(part)),
                "only what comes from a topic can be written in one transaction with its position".to_owned(),
                "say `deliver at_least_once` here, and read the topic under `effectively_once`",
            ),
            topics => {
                let here = cluster_of(context.model, leaf.id);
                let Some(other) = topics.iter().find(|topic| cluster_of(context.model, **topic) != here)
                else {
                    return;
                };
                (
                    format!("`{}` and `{}` are on two clusters", context.name(*other), shown(part)),
                    "no transaction spans both".to_owned(),
                    "put both topics on one cluster, or say `deliver at_least_once`",
                )
            }
        };
        self.tell(number, claim, Code::F0604, leaf.span, why, &label, help);
    }

    fn sink(&mut self, number: usize, claim: &Claim, segment: &Segment<'_>, part: &Component) {
        if lacks(part, "confirm") {
            self.tell(
                number,
                claim,
                Code::F0603,
                part.span,
                format!("sink `{}` does not confirm", shown(part)),
                "nobody says whether what it sent has arrived",
                "use a sink that confirms, or say `deliver at_most_once`",
            );
        } else if claim.guarantee == "effectively_once"
            && lacks(part, "idempotent")
            && lacks(part, "transactional")
        {
            self.tell(
                number,
                claim,
                Code::F0604,
                part.span,
                format!("sink `{}` would write repeated events again", shown(part)),
                "needs to be idempotent or transactional",
                "use a sink that recognises repeats (`mode: upsert, key: …`), or say `deliver at_least_once`",
            );
        } else if claim.guarantee == "effectively_once"
            && lacks(part, "idempotent")
            && !self.context.segments.carried.contains(&segment.head)
        {
            let from = self.context.head_name(segment.head);
            self.tell(
                number,
                claim,
                Code::F0604,
                part.span,
                format!("sink `{}` keeps the position of a topic, and `{from}` has none", shown(part)),
                "events that come again are not recognised",
                "let a topic lie between them: `… -> orders`, and `orders as reader -> …`",
            );
        }
    }

    /// The channel that is put in before a sink must hold what the claim says, too.
    fn put_in(&mut self, number: usize, claim: &Claim, segment: &Segment<'_>, leaf: &Leaf, part: &Component) {
        let context = self.context;
        let from_boundary = match segment.head {
            Head::Component(id) => context.part(id).is_some_and(|head| head.word != Word::Source),
            _ => false,
        };
        if from_boundary || context.segments.carried.contains(&segment.head) {
            return;
        }
        let kind = implicit_channel(context.model, &context.segments, leaf.id);
        if kind.kind.is_empty() || kind.abilities.iter().any(|ability| ability == "durable") {
            return;
        }
        let before = context.head_name(segment.head);
        self.tell(
            number,
            claim,
            Code::F0601,
            leaf.arrow,
            format!("the channel put in between `{before}` and `{}` keeps events in memory only", shown(part)),
            &format!("a `{}` channel is put in here: it loses its events when the process stops", kind.kind),
            "put a channel that keeps its events in between: `channel buf = file \"dir\"`; or say `deliver at_most_once`",
        );
    }

    /// F0407: kept, but not where the claim says. `at_least_once` is kept by the dead-letter store as well.
    fn failures(&mut self, claim: &Claim, segment: &Segment<'_>) {
        let context = self.context;
        for step in segment.steps().into_iter().filter(|step| step.fails) {
            let handled =
                step.owners.iter().any(|owner| !context.leaving(Head::InterceptorErrors(*owner)).is_empty());
            if handled || !self.told.insert((usize::MAX, step.span)) {
                continue;
            }
            let owner =
                step.owners.first().and_then(|owner| context.model.interceptors.get(owner.0 as usize));
            let name = owner.map_or(step.step.name.as_str(), |owner| owner.name.as_str());
            let mut diagnostic = Diagnostic::new(
                Code::F0407,
                step.span,
                format!("failures of `{name}` go to the default dead-letter store"),
            )
            .label("an event that fails here leaves the flow")
            .also(claim.span, "claimed here");
            if owner.is_some() {
                diagnostic = diagnostic.help(format!("say where: `{name}.errors -> …`"));
            } else {
                diagnostic = diagnostic.help("give it a name, and say where: `name.errors -> …`");
            }
            self.out.push(diagnostic);
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn tell(
        &mut self,
        number: usize,
        claim: &Claim,
        code: Code,
        span: Span,
        why: String,
        label: &str,
        help: &str,
    ) {
        if self.told.insert((number, span)) {
            self.out.push(
                Diagnostic::new(code, span, format!("`deliver {}` cannot hold: {why}", claim.guarantee))
                    .label(label)
                    .also(claim.span, "claimed here")
                    .help(help),
            );
        }
    }
}

/// The topics whose readers run what starts at a head, when nothing holds the events in between.
fn readers(context: &Context<'_>, head: Head) -> Vec<ComponentId> {
    match head {
        Head::Component(id) => match context.part(id) {
            Some(part) if part.word == Word::Topic => vec![id],
            Some(part) if part.word == Word::Consumer => part.on.into_iter().collect(),
            _ => Vec::new(),
        },
        Head::InterceptorErrors(owner) => {
            let mut topics = Vec::new();
            for segment in &context.segments.list {
                let fails_here = segment.steps().iter().any(|step| step.owners.contains(&owner));
                match (fails_here, segment.head) {
                    (false, _) => {}
                    (true, Head::Component(_)) => match readers(context, segment.head).as_slice() {
                        [] => return Vec::new(),
                        more => topics.extend(more),
                    },
                    (true, _) => return Vec::new(),
                }
            }
            topics
        }
        _ => Vec::new(),
    }
}

/// The cluster that a topic is on; none for the one that is put in.
pub(crate) fn cluster_of(model: &Model, topic: ComponentId) -> Option<ComponentId> {
    let on = component(model, topic).and_then(|topic| topic.on);
    on.or_else(|| {
        let only = model.components.iter().position(|part| part.word == Word::Cluster)?;
        Some(ComponentId(only as u32))
    })
}

/// Known not to have an ability: parts that are not in this build, or wrong, are not judged.
fn lacks(part: &Component, ability: &str) -> bool {
    !part.poisoned && !has(part, "absent") && !has(part, ability)
}

fn collect_members(context: &Context<'_>, id: ComponentId, out: &mut BTreeSet<ComponentId>) {
    let mut todo = vec![id];
    while let Some(id) = todo.pop() {
        for member in context.part(id).map_or(&[][..], |part| &part.members) {
            if out.insert(member.component) {
                todo.push(member.component);
            }
        }
    }
}

/// Whether a kind is declared with an ability.
pub(crate) fn has(component: &Component, ability: &str) -> bool {
    component.abilities.iter().any(|have| have == ability)
}

/// The innermost claim over a segment.
pub(crate) fn claim_of<'m>(model: &'m Model, segment: &Segment<'_>) -> Option<(usize, &'m Claim)> {
    let find = |scope: Scope| model.claims.iter().enumerate().find(|(_, claim)| claim.scope == scope);
    let flow = segment.flow.and_then(|flow| find(Scope::Flow(flow)));
    flow.or_else(|| find(Scope::Agent(segment.agent))).or_else(|| find(Scope::File))
}

/// Asks for anything: `at_most_once` does not.
pub(crate) fn asks(claim: &Claim) -> bool {
    matches!(claim.guarantee.as_str(), "at_least_once" | "effectively_once")
}

/// What a claim covers, in words.
pub(crate) fn scope_words(model: &Model, scope: Scope) -> String {
    match scope {
        Scope::File => "the file".to_owned(),
        Scope::Agent(id) => match model.agents.get(id.0 as usize) {
            Some(agent) => format!("agent `{}`", agent.name),
            None => "an agent".to_owned(),
        },
        Scope::Flow(id) => match model.flows.get(id.0 as usize) {
            Some(flow) => format!("flow `{}`", flow.name),
            None => "a flow".to_owned(),
        },
    }
}

/// The channel that is put in before a place: one that keeps its events where a claim asks for it and the library has
/// one, unless the user chose, or a topic answers for the events until they are delivered.
pub(crate) fn implicit_channel(
    model: &Model,
    segments: &Segments<'_>,
    place: ComponentId,
) -> ImplicitChannel {
    let asked = |segment: &Segment<'_>| {
        !segments.carried.contains(&segment.head)
            && claim_of(model, segment).is_some_and(|(_, claim)| asks(claim))
            && segment.paths().iter().any(|path| path.leaf.id == place)
    };
    let chosen = model.default_channel.as_ref().is_some_and(|channel| channel.span.is_some());
    let durable =
        if !chosen && segments.list.iter().any(asked) { model.durable_channel.clone() } else { None };
    durable.or_else(|| model.default_channel.clone()).unwrap_or_default()
}

/// What the channel put in before `leaf` is named after, see the plan's `implicit_name`.
pub(crate) fn implicit_base(
    model: &Model,
    segments: &Segments<'_>,
    leaf: &Leaf,
    segment: &Segment<'_>,
) -> String {
    let short = |part: &Component| match (part.in_place, part.name.rsplit_once('.')) {
        (true, Some((line, _))) => line.to_owned(),
        _ => part.name.clone(),
    };
    let fed_by: Vec<&Segment<'_>> = segments
        .list
        .iter()
        .filter(|other| other.paths().iter().any(|path| path.leaf.id == leaf.id))
        .collect();
    if let Head::Component(id) = segment.head
        && let Some(source) = component(model, id)
        && fed_by.len() == 1
    {
        let siblings = segments
            .list
            .iter()
            .filter(|other| other.head == segment.head)
            .flat_map(|other| other.paths())
            .filter(|path| needs_channel(model, path.leaf))
            .map(|path| path.leaf.id)
            .collect::<std::collections::BTreeSet<_>>();
        if siblings.len() == 1 {
            return short(source);
        }
    }
    component(model, leaf.id).map_or_else(|| "implicit".to_owned(), short)
}

/// A place before which a channel is put in when events come from a source.
pub(crate) fn needs_channel(model: &Model, leaf: &Leaf) -> bool {
    component(model, leaf.id)
        .is_some_and(|place| !matches!(place.word, Word::Channel | Word::Topic) && !has(place, "discard"))
}
