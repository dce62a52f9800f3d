//! What every rule asks: which segments start at a part, which lead to it, and whether an earlier error makes it
//! wise to say nothing.

use std::collections::{BTreeMap, BTreeSet};

use flow_diag::{Files, Span, suggest};

use super::segment::{Head, Leaf, Segments, component, segments};
use crate::model::{Component, ComponentId, Model, Node, NodeKind, StartKind};

pub(crate) struct Context<'m> {
    pub model: &'m Model,
    pub files: &'m Files,
    pub segments: Segments<'m>,
    by_head: BTreeMap<Head, Vec<usize>>,
    by_place: BTreeMap<ComponentId, Vec<Arrival>>,
    /// Members of groups that something reaches.
    in_groups: BTreeSet<ComponentId>,
    /// Names in chains that mean nothing.
    unknown: Vec<String>,
}

/// An arrow into a part.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    /// Index into [`Segments::list`].
    pub segment: usize,
    pub leaf: Leaf,
}

impl<'m> Context<'m> {
    pub fn new(model: &'m Model, files: &'m Files) -> Context<'m> {
        let segments = segments(model);
        let mut by_head: BTreeMap<Head, Vec<usize>> = BTreeMap::new();
        let mut by_place: BTreeMap<ComponentId, Vec<Arrival>> = BTreeMap::new();
        for (index, segment) in segments.list.iter().enumerate() {
            by_head.entry(segment.head).or_default().push(index);
            for path in segment.paths() {
                let arrival = Arrival { segment: index, leaf: *path.leaf };
                by_place.entry(path.leaf.id).or_default().push(arrival);
            }
        }
        let mut in_groups = BTreeSet::new();
        let mut todo: Vec<ComponentId> = by_place.keys().copied().collect();
        while let Some(id) = todo.pop() {
            for member in component(model, id).map_or(&[][..], |part| &part.members) {
                if in_groups.insert(member.component) {
                    todo.push(member.component);
                }
            }
        }
        let mut unknown = Vec::new();
        for chain in &model.chains {
            for start in &chain.from {
                if matches!(start.kind, StartKind::Poison) {
                    unknown.push(text(files, start.span));
                }
                collect_unknown(files, &start.nodes, &mut unknown);
            }
            collect_unknown(files, &chain.nodes, &mut unknown);
        }
        Context { model, files, segments, by_head, by_place, in_groups, unknown }
    }

    pub fn part(&self, id: ComponentId) -> Option<&'m Component> {
        component(self.model, id)
    }

    /// As messages call it: what is written in place has no name but its kind.
    pub fn name(&self, id: ComponentId) -> &'m str {
        self.part(id).map_or("?", shown)
    }

    /// All parts with their ids, in order of declaration.
    pub fn parts(&self) -> impl Iterator<Item = (ComponentId, &'m Component)> + use<'m> {
        self.model.components.iter().enumerate().map(|(index, part)| (ComponentId(index as u32), part))
    }

    /// Indexes of the segments that start at a head.
    pub fn leaving(&self, head: Head) -> &[usize] {
        self.by_head.get(&head).map_or(&[], Vec::as_slice)
    }

    pub fn out_of(&self, id: ComponentId) -> &[usize] {
        self.leaving(Head::Component(id))
    }

    /// Arrows into a part, in order of the text.
    pub fn into(&self, id: ComponentId) -> &[Arrival] {
        self.by_place.get(&id).map_or(&[], Vec::as_slice)
    }

    pub fn in_used_group(&self, id: ComponentId) -> bool {
        self.in_groups.contains(&id)
    }

    /// Nothing is to be said about this part being unused: it is meant so, or a broken piece of text may use it.
    pub fn quiet(&self, part: &Component) -> bool {
        let last = part.name.rsplit('.').next().unwrap_or(&part.name);
        part.unused_ok
            || part.poisoned
            || part.imported
            || self.model.poisoned.contains(&part.name)
            || self.model.poisoned.contains(last)
            // of two parts with one name, a misspelt use can have meant only one
            || !part.declared_twice
                && self.unknown.iter().any(|word| word == last || suggest(word, [last]).is_some())
    }

    /// What the head of a segment is called in messages.
    pub fn head_name(&self, head: Head) -> String {
        match head {
            Head::Component(id) => self.name(id).to_owned(),
            Head::ComponentErrors(id) => format!("{}.errors", self.name(id)),
            Head::InterceptorErrors(id) => match self.model.interceptors.get(id.0 as usize) {
                Some(interceptor) => format!("{}.errors", interceptor.name),
                None => "errors".to_owned(),
            },
            Head::Interceptor(id) => match self.model.interceptors.get(id.0 as usize) {
                Some(interceptor) => interceptor.name.clone(),
                None => "an interceptor".to_owned(),
            },
            Head::Poison => "?".to_owned(),
        }
    }
}

/// What a part is called in sentences.
pub(crate) fn shown(part: &Component) -> &str {
    if part.in_place { &part.kind } else { &part.name }
}

/// The smallest span over both; the second where they stand in different files.
pub(crate) fn join(first: Span, second: Span) -> Span {
    if first.file == second.file { first.to(second) } else { second }
}

fn text(files: &Files, span: Span) -> String {
    let known = files.ids().any(|id| id == span.file);
    let text = if known { files.slice(span) } else { "" };
    // `otu { batch: 5 }` is about `otu`.
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '.')).unwrap_or(text.len());
    text[..end].rsplit('.').next().unwrap_or("").to_owned()
}

fn collect_unknown(files: &Files, nodes: &[Node], out: &mut Vec<String>) {
    for node in nodes {
        match &node.kind {
            NodeKind::Poison => out.push(text(files, node.span)),
            NodeKind::Fan(branches) => branches.iter().for_each(|nodes| collect_unknown(files, nodes, out)),
            NodeKind::Route(route) => {
                route.arms.iter().for_each(|arm| collect_unknown(files, &arm.nodes, out));
            }
            NodeKind::Steps(_) | NodeKind::Place { .. } => {}
        }
    }
}
