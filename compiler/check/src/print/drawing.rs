//! The picture of a program as vertices and arrows, before it is written in any format: parts are boxes, steps are
//! small things on the arrows, routes are forks.

use super::expr::{expr_text, regex_text};
use crate::graph::segment::{Branch, End, Head, Segments, component, segments};
use crate::model::{ArmModel, ComponentId, Model, PatternKindModel, RouteModel, Word};

/// What a vertex stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Source,
    Channel,
    Sink,
    Group,
    Topic,
    Errors,
    Step,
    Route,
}

#[derive(Clone, Debug)]
pub(crate) struct Vertex {
    /// Letters, digits and `_` only.
    pub id: String,
    pub name: String,
    pub kind: String,
    pub shape: Shape,
    /// Index into [`Model::agents`].
    pub agent: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct Arrow {
    pub from: usize,
    pub to: usize,
    /// The case of a route, or the name of a reader.
    pub label: String,
    pub optional: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Drawing {
    pub vertices: Vec<Vertex>,
    pub arrows: Vec<Arrow>,
    /// Names, with the hosts in words.
    pub agents: Vec<String>,
}

pub(crate) fn drawing(model: &Model) -> Drawing {
    let segments = segments(model);
    let mut draw = Draw {
        model,
        out: Drawing::default(),
        parts: vec![None; model.components.len()],
        errors: Vec::new(),
    };
    draw.out.agents = model.agents.iter().map(|agent| agent_title(&agent.name, &agent.hosts)).collect();
    // Sources first, so that layouts begin with them.
    for word in [Word::Source, Word::Consumer, Word::Topic, Word::Channel, Word::Group, Word::Sink] {
        for (index, part) in model.components.iter().enumerate() {
            if part.word == word {
                draw.part(ComponentId(index as u32));
            }
        }
    }
    draw.segments(&segments);
    draw.members();
    draw.out
}

pub(crate) fn agent_title(name: &str, hosts: &[String]) -> String {
    match hosts {
        [] => name.to_owned(),
        [one] => format!("{name} at {one}"),
        [first, .., last] => format!("{name} at {} hosts: {first} … {last}", hosts.len()),
    }
}

struct Draw<'m> {
    model: &'m Model,
    out: Drawing,
    parts: Vec<Option<usize>>,
    errors: Vec<(Head, usize)>,
}

impl<'m> Draw<'m> {
    fn part(&mut self, id: ComponentId) -> Option<usize> {
        if let Some(known) = self.parts.get(id.0 as usize).copied().flatten() {
            return Some(known);
        }
        let part = component(self.model, id)?;
        let shape = match part.word {
            Word::Source | Word::Consumer => Shape::Source,
            Word::Channel => Shape::Channel,
            Word::Sink => Shape::Sink,
            Word::Group => Shape::Group,
            Word::Topic => Shape::Topic,
            Word::Cluster | Word::Ensemble => return None,
        };
        let name = if part.in_place { &part.kind } else { &part.name };
        let index = self.vertex(name, &part.kind, shape, part.agent.0 as usize);
        if let Some(slot) = self.parts.get_mut(id.0 as usize) {
            *slot = Some(index);
        }
        Some(index)
    }

    fn vertex(&mut self, name: &str, kind: &str, shape: Shape, agent: usize) -> usize {
        let index = self.out.vertices.len();
        self.out.vertices.push(Vertex {
            id: format!("n{index}"),
            name: name.to_owned(),
            kind: kind.to_owned(),
            shape,
            agent,
        });
        index
    }

    fn segments(&mut self, segments: &Segments<'m>) {
        for segment in &segments.list {
            let agent = segment.agent.0 as usize;
            let head = match segment.head {
                Head::Component(id) => self.part(id),
                Head::InterceptorErrors(id) => {
                    let name = self.model.interceptors.get(id.0 as usize).map(|one| one.name.clone());
                    Some(self.errors_vertex(segment.head, &name.unwrap_or_default(), agent))
                }
                Head::ComponentErrors(id) => {
                    let name = component(self.model, id).map(|part| part.name.clone());
                    let index = self.errors_vertex(segment.head, &name.unwrap_or_default(), agent);
                    if let Some(from) = self.part(id)
                        && !self.out.arrows.iter().any(|arrow| (arrow.from, arrow.to) == (from, index))
                    {
                        self.arrow(from, index, "errors".to_owned(), false);
                    }
                    Some(index)
                }
                Head::Interceptor(_) | Head::Poison => None,
            };
            if let Some(head) = head {
                let label = segment.as_group.map(|group| format!("as {group}")).unwrap_or_default();
                self.branch(&segment.body, head, label, agent);
            }
        }
    }

    fn errors_vertex(&mut self, head: Head, name: &str, agent: usize) -> usize {
        if let Some((_, index)) = self.errors.iter().find(|(known, _)| *known == head) {
            return *index;
        }
        let index = self.vertex(&format!("{name}.errors"), "", Shape::Errors, agent);
        self.errors.push((head, index));
        index
    }

    fn branch(&mut self, branch: &Branch<'m>, from: usize, label: String, agent: usize) {
        let (mut from, mut label) = (from, label);
        for step in &branch.steps {
            let to = self.vertex(&step_name(&step.step.name), "", Shape::Step, agent);
            self.arrow(from, to, std::mem::take(&mut label), false);
            from = to;
        }
        match &branch.end {
            End::Place(leaf) => {
                if let Some(to) = self.part(leaf.id) {
                    self.arrow(from, to, label, leaf.optional.is_some());
                }
            }
            End::Fan(_, branches) => {
                for branch in branches {
                    self.branch(branch, from, label.clone(), agent);
                }
            }
            End::Route(route, arms) => {
                let to = self.vertex(&route_title(self.model, route), "", Shape::Route, agent);
                self.arrow(from, to, label, false);
                for (arm, branch) in arms {
                    self.branch(branch, to, case_text(self.model, arm), agent);
                }
            }
            End::Open | End::Poison => {}
        }
    }

    fn arrow(&mut self, from: usize, to: usize, label: String, optional: bool) {
        self.out.arrows.push(Arrow { from, to, label, optional });
    }

    /// Groups lead to their members, consumers come from their topic.
    fn members(&mut self) {
        let model = self.model;
        for (index, part) in model.components.iter().enumerate() {
            let Some(here) = self.part(ComponentId(index as u32)) else { continue };
            for member in &part.members {
                if let Some(to) = self.part(member.component) {
                    self.arrow(here, to, String::new(), false);
                }
            }
            if part.word == Word::Consumer
                && let Some(topic) = part.on.and_then(|on| self.part(on))
            {
                self.arrow(topic, here, String::new(), false);
            }
        }
    }
}

/// `line_12.filter` is `filter` in a picture, also inside a template (`paris.line_12.filter`).
pub(crate) fn step_name(name: &str) -> String {
    let words: Vec<&str> = name.split('.').collect();
    match words.iter().rposition(|word| is_line(word)) {
        Some(line) if line + 1 < words.len() => words[line + 1..].join("."),
        _ => name.to_owned(),
    }
}

fn is_line(name: &str) -> bool {
    name.strip_prefix("line_").is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
}

pub(crate) fn route_title(model: &Model, route: &RouteModel) -> String {
    let word = if route.all { "route all" } else { "route" };
    match &route.subject {
        Some(subject) => format!("{word} {}", expr_text(subject, &model.slots)),
        None => word.to_owned(),
    }
}

/// `"200" | 201..299`, `when …`, `else`.
pub(crate) fn case_text(model: &Model, arm: &ArmModel) -> String {
    use crate::graph::overlap::literal_text;
    use crate::model::Literal;
    let literal = |value: &Literal| match value {
        Literal::String(text) => format!("\"{}\"", text.escape_debug()),
        other => literal_text(other),
    };
    let Some(when) = &arm.when else { return "else".to_owned() };
    let patterns: Vec<String> = match arm.condition_text {
        Some(_) => Vec::new(),
        None => arm
            .patterns
            .iter()
            .map(|pattern| match &pattern.kind {
                PatternKindModel::Literal(value) => literal(value),
                PatternKindModel::Range(low, high) => format!("{}..{}", literal(low), literal(high)),
                PatternKindModel::Regex { pattern, flags } => regex_text(pattern, flags),
                PatternKindModel::Null => "null".to_owned(),
            })
            .collect(),
    };
    match (patterns.is_empty(), arm.guarded) {
        (true, _) => format!("when {}", expr_text(when, &model.slots)),
        (false, true) => format!("{} when …", patterns.join(" | ")),
        (false, false) => patterns.join(" | "),
    }
}
