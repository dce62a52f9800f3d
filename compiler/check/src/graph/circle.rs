//! Circles: events that would go round for ever (F0420), and loops through a topic that nothing leaves (F0421).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use flow_diag::{Code, Diagnostic, Span};
use petgraph::algo::kosaraju_scc;
use petgraph::graph::{DiGraph, EdgeIndex, NodeIndex};
use petgraph::visit::EdgeRef;

use super::context::{Context, join};
use super::segment::Head;
use crate::model::{ComponentId, InterceptorId, Word};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Vertex {
    Part(ComponentId),
    PartErrors(ComponentId),
    InterceptorErrors(InterceptorId),
}

#[derive(Clone, Copy, Debug)]
struct Edge {
    span: Span,
    /// The arrow it stands for, for other rules.
    arrow: Option<(usize, ComponentId)>,
    /// Some events may leave here: an arm of a route, or a step that drops.
    leaves: bool,
}

/// Reports circles; gives the arrows that lie on one without a topic, so that others need not speak of them.
pub(crate) fn check(context: &Context<'_>, out: &mut Vec<Diagnostic>) -> BTreeSet<(usize, ComponentId)> {
    let graph = graph(context);
    let topic = |vertex: Vertex| match vertex {
        Vertex::Part(id) => context.part(id).is_some_and(|part| part.word == Word::Topic),
        _ => false,
    };
    let mut on_circle = BTreeSet::new();
    let without_topics = graph.filter_map(
        |_, vertex| Some(*vertex),
        |index, edge| {
            let (from, to) = graph.edge_endpoints(index)?;
            (!topic(graph[from]) && !topic(graph[to])).then_some(*edge)
        },
    );
    for circle in circles(&without_topics) {
        on_circle.extend(circle.all.iter().filter_map(|edge| edge.arrow));
        let title = format!("events would go round for ever: {}", names(context, &circle.vertices));
        let [first, rest @ ..] = circle.path.as_slice() else { continue };
        let mut diagnostic = Diagnostic::new(Code::F0420, first.span, title).label("1");
        for (index, edge) in rest.iter().enumerate() {
            diagnostic = diagnostic.also(edge.span, (index + 2).to_string());
        }
        out.push(
            diagnostic.help("take one of these arrows away, end it in `discard`, or put a topic in between"),
        );
    }
    let endless = graph.filter_map(|_, vertex| Some(*vertex), |_, edge| (!edge.leaves).then_some(*edge));
    for circle in circles(&endless) {
        let Some(Vertex::Part(id)) = circle.vertices.iter().copied().find(|vertex| topic(*vertex)) else {
            continue;
        };
        let title = format!("a loop through topic `{}` has no end", context.name(id));
        let [first, rest @ ..] = circle.path.as_slice() else { continue };
        let mut diagnostic = Diagnostic::new(Code::F0421, first.span, title).label(if rest.is_empty() {
            "what is read is written again"
        } else {
            "1"
        });
        for (index, edge) in rest.iter().enumerate() {
            diagnostic = diagnostic.also(edge.span, (index + 2).to_string());
        }
        out.push(
            diagnostic.help("count the attempts in a header and leave: `when int(header.tries) < 5 -> …`"),
        );
    }
    on_circle
}

fn names(context: &Context<'_>, vertices: &[Vertex]) -> String {
    let mut names: Vec<String> = vertices
        .iter()
        .map(|vertex| match vertex {
            Vertex::Part(id) => context.name(*id).to_owned(),
            Vertex::PartErrors(id) => context.head_name(Head::ComponentErrors(*id)),
            Vertex::InterceptorErrors(id) => context.head_name(Head::InterceptorErrors(*id)),
        })
        .collect();
    if let Some(first) = names.first().cloned() {
        names.push(first);
    }
    names.join(" → ")
}

fn graph(context: &Context<'_>) -> DiGraph<Vertex, Edge> {
    let mut graph = DiGraph::new();
    let mut index: BTreeMap<Vertex, NodeIndex> = BTreeMap::new();
    let mut vertex = |graph: &mut DiGraph<Vertex, Edge>, vertex: Vertex| {
        *index.entry(vertex).or_insert_with(|| graph.add_node(vertex))
    };
    for (number, segment) in context.segments.list.iter().enumerate() {
        let head = match segment.head {
            Head::Component(id) => match context.part(id) {
                // A consumer reads its topic.
                Some(part) if part.word == Word::Consumer => Vertex::Part(part.on.unwrap_or(id)),
                Some(part) if matches!(part.word, Word::Sink | Word::Group) => continue,
                _ => Vertex::Part(id),
            },
            Head::ComponentErrors(id) => Vertex::PartErrors(id),
            Head::InterceptorErrors(id) => Vertex::InterceptorErrors(id),
            Head::Interceptor(_) | Head::Poison => continue,
        };
        let from = vertex(&mut graph, head);
        for path in segment.paths() {
            let to = vertex(&mut graph, Vertex::Part(path.leaf.id));
            let edge = Edge {
                span: join(path.leaf.arrow, path.leaf.span),
                arrow: Some((number, path.leaf.id)),
                leaves: path.conditional || path.steps.iter().any(|step| step.drops),
            };
            graph.add_edge(from, to, edge);
        }
        let mut owners = BTreeSet::new();
        for step in segment.steps() {
            let owner = step
                .owners
                .iter()
                .copied()
                .find(|owner| !context.leaving(Head::InterceptorErrors(*owner)).is_empty());
            if let Some(owner) = owner
                && owners.insert(owner)
            {
                let to = vertex(&mut graph, Vertex::InterceptorErrors(owner));
                graph.add_edge(from, to, Edge { span: step.span, arrow: None, leaves: true });
            }
        }
    }
    for (id, part) in context.parts() {
        for member in &part.members {
            let (from, to) =
                (vertex(&mut graph, Vertex::Part(id)), vertex(&mut graph, Vertex::Part(member.component)));
            // Groups in groups are another rule's.
            if context.part(member.component).is_some_and(|member| member.word != Word::Group) {
                graph.add_edge(from, to, Edge { span: member.span, arrow: None, leaves: false });
            }
        }
        let errors = context.leaving(Head::ComponentErrors(id));
        if let Some(&first) = errors.first()
            && part.word != Word::Source
        {
            let (from, to) =
                (vertex(&mut graph, Vertex::Part(id)), vertex(&mut graph, Vertex::PartErrors(id)));
            let span = context.segments.list[first].head_span;
            graph.add_edge(from, to, Edge { span, arrow: None, leaves: true });
        }
    }
    graph
}

struct Circle {
    /// In order of the path.
    vertices: Vec<Vertex>,
    /// A shortest way round.
    path: Vec<Edge>,
    /// Every arrow between parts that lie on some way round.
    all: Vec<Edge>,
}

/// One circle for each set of vertices that reach each other, in order of the text.
fn circles(graph: &DiGraph<Vertex, Edge>) -> Vec<Circle> {
    let mut found = Vec::new();
    for component in kosaraju_scc(graph) {
        // Most parts are alone, and on no circle unless they lead to themselves.
        if let [one] = component[..]
            && graph.find_edge(one, one).is_none()
        {
            continue;
        }
        let inside: BTreeSet<NodeIndex> = component.iter().copied().collect();
        let all: Vec<EdgeIndex> = graph
            .edge_indices()
            .filter(|edge| {
                graph
                    .edge_endpoints(*edge)
                    .is_some_and(|(from, to)| inside.contains(&from) && inside.contains(&to))
            })
            .collect();
        if all.is_empty() {
            continue;
        }
        let Some(path) = inside.iter().find_map(|start| way_round(graph, *start, &inside)) else { continue };
        let vertices =
            path.iter().filter_map(|edge| graph.edge_endpoints(*edge)).map(|(from, _)| graph[from]).collect();
        found.push(Circle {
            vertices,
            path: path.iter().map(|edge| graph[*edge]).collect(),
            all: all.iter().map(|edge| graph[*edge]).collect(),
        });
    }
    found.sort_by_key(|circle| circle.path.first().map(|edge| (edge.span.file, edge.span.start)));
    found
}

/// The shortest path from a vertex to itself.
fn way_round(
    graph: &DiGraph<Vertex, Edge>,
    start: NodeIndex,
    inside: &BTreeSet<NodeIndex>,
) -> Option<Vec<EdgeIndex>> {
    let mut reached_by: BTreeMap<NodeIndex, EdgeIndex> = BTreeMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(at) = queue.pop_front() {
        for edge in graph.edges(at) {
            let to = edge.target();
            if !inside.contains(&to) || reached_by.contains_key(&to) {
                continue;
            }
            reached_by.insert(to, edge.id());
            if to != start {
                queue.push_back(to);
                continue;
            }
            let mut path = Vec::new();
            let mut here = start;
            loop {
                let edge = *reached_by.get(&here)?;
                path.push(edge);
                here = graph.edge_endpoints(edge)?.0;
                if here == start {
                    path.reverse();
                    return Some(path);
                }
            }
        }
    }
    None
}
