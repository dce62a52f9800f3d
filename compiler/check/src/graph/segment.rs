//! Chains cut at their boundaries. `web -> a -> buf -> b -> out` is two segments: what happens between `web` and
//! `buf`, and what happens between `buf` and `out`. Every rule and the plan read segments, never chains, so a
//! channel in the middle of a chain and one at the head of its own mean the same.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use flow_diag::Span;

use super::claim::has;
use crate::model::{
    AgentId, ArmModel, Component, ComponentId, FlowId, InterceptorId, Model, Node, NodeKind, RouteModel,
    StartKind, StepModel, Word,
};

/// Ends of branches of one chain. A fan whose branches go on doubles what follows it, so this bounds what one line
/// can unfold to.
pub(crate) const ENDS_MAX: usize = 1_000;

/// How often a chain may branch one after the other.
pub(crate) const DEPTH_MAX: usize = 300;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Head {
    Component(ComponentId),
    InterceptorErrors(InterceptorId),
    ComponentErrors(ComponentId),
    /// An interceptor stands at the head: an error.
    Interceptor(InterceptorId),
    Poison,
}

#[derive(Debug)]
pub(crate) struct Segment<'m> {
    pub head: Head,
    /// Where the head is written.
    pub head_span: Span,
    pub as_group: Option<&'m str>,
    /// Index into [`Model::chains`].
    pub chain: usize,
    pub agent: AgentId,
    pub flow: Option<FlowId>,
    pub body: Branch<'m>,
}

#[derive(Debug)]
pub(crate) struct Branch<'m> {
    pub steps: Vec<&'m StepModel>,
    pub end: End<'m>,
}

#[derive(Debug)]
pub(crate) enum End<'m> {
    Place(Leaf),
    Fan(Span, Vec<Branch<'m>>),
    Route(&'m RouteModel, Vec<(&'m ArmModel, Branch<'m>)>),
    /// Nothing after the last step.
    Open,
    /// Not resolved: a diagnostic was given.
    Poison,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Leaf {
    pub id: ComponentId,
    pub span: Span,
    pub arrow: Span,
    pub optional: Option<Span>,
    /// The arrow out of it when it is followed by something in a chain although nothing can flow out of it.
    pub followed: Option<Span>,
}

/// Where a branch can end, and what lies on the way.
#[derive(Clone, Debug)]
pub(crate) struct Path<'s, 'm> {
    pub leaf: &'s Leaf,
    /// Steps from the head, in order.
    pub steps: Vec<&'m StepModel>,
    /// Inside an arm of a route.
    pub conditional: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Segments<'m> {
    pub list: Vec<Segment<'m>>,
    /// See [`carried_heads`].
    pub carried: BTreeSet<Head>,
    /// Chains that were cut off at [`ENDS_MAX`] or [`DEPTH_MAX`].
    pub too_large: Vec<Span>,
}

impl<'m> Segment<'m> {
    /// Every end that is a place, with what lies before it; in order of the text.
    pub fn paths(&self) -> Vec<Path<'_, 'm>> {
        let mut out = Vec::new();
        walk(&self.body, &mut Vec::new(), false, &mut |end, steps, conditional| {
            if let End::Place(leaf) = end {
                out.push(Path { leaf, steps: steps.to_vec(), conditional });
            }
        });
        out
    }

    /// Every step, in order of the text.
    pub fn steps(&self) -> Vec<&'m StepModel> {
        let mut out = Vec::new();
        self.body.each(&mut |branch| out.extend(branch.steps.iter().copied()));
        out
    }
}

impl<'m> Branch<'m> {
    /// This branch and all inside it.
    pub fn each<'s>(&'s self, visit: &mut impl FnMut(&'s Branch<'m>)) {
        visit(self);
        match &self.end {
            End::Fan(_, branches) => branches.iter().for_each(|branch| branch.each(visit)),
            End::Route(_, arms) => arms.iter().for_each(|(_, branch)| branch.each(visit)),
            End::Place(_) | End::Open | End::Poison => {}
        }
    }
}

fn walk<'s, 'm>(
    branch: &'s Branch<'m>,
    steps: &mut Vec<&'m StepModel>,
    conditional: bool,
    visit: &mut impl FnMut(&'s End<'m>, &[&'m StepModel], bool),
) {
    let before = steps.len();
    steps.extend(branch.steps.iter().copied());
    match &branch.end {
        End::Fan(_, branches) => {
            for branch in branches {
                walk(branch, steps, conditional, visit);
            }
        }
        End::Route(_, arms) => {
            for (_, branch) in arms {
                walk(branch, steps, true, visit);
            }
        }
        end => visit(end, steps, conditional),
    }
    steps.truncate(before);
}

pub(crate) fn component(model: &Model, id: ComponentId) -> Option<&Component> {
    model.components.get(id.0 as usize)
}

/// Events can be written here and read again by another segment.
pub(crate) fn is_boundary(word: Word) -> bool {
    matches!(word, Word::Channel | Word::Topic)
}

pub(crate) fn segments(model: &Model) -> Segments<'_> {
    let mut cutter =
        Cutter { model, pending: Vec::new(), continued: HashSet::new(), ends: 0, cut_off: false, chain: 0 };
    let mut out = Segments::default();
    for (index, chain) in model.chains.iter().enumerate() {
        cutter.chain = index;
        cutter.cut_off = false;
        cutter.ends = 0;
        for start in &chain.from {
            let (head, as_group) = match &start.kind {
                StartKind::Component { id, as_group } => (Head::Component(*id), as_group.as_deref()),
                StartKind::InterceptorErrors(id) => (Head::InterceptorErrors(*id), None),
                StartKind::ComponentErrors(id) => (Head::ComponentErrors(*id), None),
                StartKind::Interceptor(id) => (Head::Interceptor(*id), None),
                StartKind::Poison => (Head::Poison, None),
            };
            let rest = Rest { nodes: &chain.nodes, next: None };
            let body = cutter.branch(&start.nodes, Some(&rest), 0);
            let segment = Segment {
                head,
                head_span: start.span,
                as_group,
                chain: index,
                agent: chain.agent,
                flow: chain.flow,
                body,
            };
            out.list.push(segment);
            // In order of the text: what follows a channel stands after what fills it.
            while let Some(segment) = cutter.pending.pop() {
                out.list.push(segment);
            }
        }
        if cutter.cut_off {
            out.too_large.push(chain.span);
        }
    }
    out.carried = carried_heads(model, &out.list);
    out
}

/// Heads whose events stay with a topic until they are delivered: its readers, the channels in memory that only they
/// fill, and what fails on the way. The reader's position moves when the acknowledgement comes back, so a crash
/// loses nothing of what such a channel holds: it is read again.
fn carried_heads(model: &Model, list: &[Segment<'_>]) -> BTreeSet<Head> {
    let word = |id| component(model, id).map(|part| part.word);
    let durable = |id| component(model, id).is_some_and(|part| has(part, "durable"));
    let mut carried: BTreeSet<Head> = list.iter().map(|segment| segment.head).collect();
    let mut fed_by: BTreeMap<Head, BTreeSet<Head>> = BTreeMap::new();
    for segment in list {
        for path in segment.paths() {
            let feed = |head: Head, fed_by: &mut BTreeMap<Head, BTreeSet<Head>>| {
                fed_by.entry(head).or_default().insert(segment.head);
            };
            feed(Head::Component(path.leaf.id), &mut fed_by);
            feed(Head::ComponentErrors(path.leaf.id), &mut fed_by);
            let members = component(model, path.leaf.id).map_or(&[][..], |part| &part.members);
            for member in members {
                feed(Head::ComponentErrors(member.component), &mut fed_by);
            }
        }
        for owner in segment.steps().into_iter().flat_map(|step| &step.owners) {
            fed_by.entry(Head::InterceptorErrors(*owner)).or_default().insert(segment.head);
        }
    }
    loop {
        let stays = |head: &Head| {
            let fed = || {
                fed_by.get(head).is_some_and(|heads| {
                    !heads.is_empty() && heads.iter().all(|feeder| carried.contains(feeder))
                })
            };
            match *head {
                Head::Component(id) => match word(id) {
                    Some(Word::Topic | Word::Consumer) => true,
                    Some(Word::Channel) => !durable(id) && fed(),
                    _ => false,
                },
                Head::ComponentErrors(id) => word(id) != Some(Word::Source) && fed(),
                Head::InterceptorErrors(_) => fed(),
                Head::Interceptor(_) | Head::Poison => false,
            }
        };
        let next: BTreeSet<Head> = carried.iter().filter(|head| stays(head)).copied().collect();
        if next.len() == carried.len() {
            return carried;
        }
        carried = next;
    }
}

/// The nodes that are still to come: the rest of this list, then the rest of the list around it.
struct Rest<'a, 'm> {
    nodes: &'m [Node],
    next: Option<&'a Rest<'a, 'm>>,
}

struct Cutter<'m> {
    model: &'m Model,
    pending: Vec<Segment<'m>>,
    /// What follows a channel is one segment, however many branches lead into the channel.
    continued: HashSet<(ComponentId, *const Node)>,
    ends: usize,
    cut_off: bool,
    chain: usize,
}

impl<'m> Cutter<'m> {
    fn branch<'a>(
        &mut self,
        mut nodes: &'m [Node],
        mut next: Option<&'a Rest<'a, 'm>>,
        depth: usize,
    ) -> Branch<'m> {
        let mut steps = Vec::new();
        if depth > DEPTH_MAX || self.ends >= ENDS_MAX {
            self.cut_off = true;
            return Branch { steps, end: End::Poison };
        }
        loop {
            let Some((node, after)) = nodes.split_first() else {
                let Some(rest) = next else { break };
                (nodes, next) = (rest.nodes, rest.next);
                continue;
            };
            let rest = Rest { nodes: after, next };
            match &node.kind {
                NodeKind::Steps(more) => {
                    steps.extend(more.iter());
                    nodes = after;
                }
                NodeKind::Fan(branches) if !branches.is_empty() => {
                    let inner =
                        branches.iter().map(|nodes| self.branch(nodes, Some(&rest), depth + 1)).collect();
                    return Branch { steps, end: End::Fan(node.span, inner) };
                }
                NodeKind::Route(route) => {
                    let arms = route
                        .arms
                        .iter()
                        .map(|arm| (arm, self.branch(&arm.nodes, Some(&rest), depth + 1)))
                        .collect();
                    return Branch { steps, end: End::Route(route, arms) };
                }
                NodeKind::Place { id, optional, as_group } => {
                    self.ends += 1;
                    let follower = first_node(&rest);
                    let boundary = component(self.model, *id).is_some_and(|to| is_boundary(to.word));
                    if let Some(follower) = follower
                        && boundary
                    {
                        self.follow(*id, as_group.as_deref(), node.span, follower, &rest, depth);
                    }
                    let leaf = Leaf {
                        id: *id,
                        span: node.span,
                        arrow: node.arrow,
                        optional: *optional,
                        followed: follower.filter(|_| !boundary).map(|next| next.arrow),
                    };
                    return Branch { steps, end: End::Place(leaf) };
                }
                NodeKind::Fan(_) | NodeKind::Poison => return Branch { steps, end: End::Poison },
            }
        }
        self.ends += 1;
        Branch { steps, end: End::Open }
    }

    /// What comes after a channel in the middle of a chain.
    fn follow(
        &mut self,
        id: ComponentId,
        as_group: Option<&'m str>,
        span: Span,
        next: &'m Node,
        rest: &Rest<'_, 'm>,
        depth: usize,
    ) {
        if !self.continued.insert((id, std::ptr::from_ref(next))) {
            return;
        }
        let body = self.branch(rest.nodes, rest.next, depth + 1);
        let Some(chain) = self.model.chains.get(self.chain) else { return };
        self.pending.push(Segment {
            head: Head::Component(id),
            head_span: span,
            as_group,
            chain: self.chain,
            agent: chain.agent,
            flow: chain.flow,
            body,
        });
    }
}

fn first_node<'m>(rest: &Rest<'_, 'm>) -> Option<&'m Node> {
    let mut rest = Some(rest);
    while let Some(here) = rest {
        if let Some(node) = here.nodes.first() {
            return Some(node);
        }
        rest = here.next;
    }
    None
}
