//! `deliver …`: which claim covers what, whether it can hold, and the proof in words. A claim is about every path
//! from a source to a sink that has no optional branch in it; the innermost claim counts (flow, then agent, then
//! file). Where a part is not in this build, nothing is claimed about it.

use super::segment::{Head, Leaf, Segment, Segments, component};
use crate::model::{Claim, Component, ImplicitChannel, Model, Scope, Word};

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

/// The channel that is put in before a sink of this segment: one that keeps its events where a claim asks for it
/// and the library has one, unless the user chose.
pub(crate) fn implicit_channel(model: &Model, segment: &Segment<'_>) -> ImplicitChannel {
    let claimed = claim_of(model, segment).is_some_and(|(_, claim)| asks(claim));
    let chosen = model.default_channel.as_ref().is_some_and(|channel| channel.span.is_some());
    let durable = if claimed && !chosen { model.durable_channel.clone() } else { None };
    durable.or_else(|| model.default_channel.clone()).unwrap_or_default()
}

/// What the channel put in before `leaf` is named after, see the plan's `implicit_name`.
pub(crate) fn implicit_base(
    model: &Model,
    segments: &Segments<'_>,
    leaf: &Leaf<'_>,
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
pub(crate) fn needs_channel(model: &Model, leaf: &Leaf<'_>) -> bool {
    component(model, leaf.id).is_some_and(|place| place.word != Word::Channel && !has(place, "discard"))
}

/// One line per path: why the claim with this number holds.
pub(crate) fn proof(_model: &Model, _segments: &Segments<'_>, _claim: usize) -> Vec<String> {
    Vec::new()
}
