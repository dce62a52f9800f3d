//! The picture in plain text: a tree per source. A part that several arrows reach is unfolded where it is met
//! first; later it is its name and `↩`.

use std::collections::{BTreeMap, BTreeSet};

use super::drawing::{agent_title, case_text, route_title, step_name};
use crate::graph::segment::{Branch, End, Head, Segment, Segments, component, segments};
use crate::model::{ComponentId, Model, Word};

/// Deeper trees are cut off with `…`.
const DEPTH_MAX: usize = 60;

/// `flowc graph --format text`
pub fn graph_text(model: &Model) -> String {
    let segments = segments(model);
    let mut by_head: BTreeMap<Head, Vec<usize>> = BTreeMap::new();
    for (index, segment) in segments.list.iter().enumerate() {
        by_head.entry(segment.head).or_default().push(index);
    }
    let mut tree = Tree { model, segments: &segments, by_head, drawn: BTreeSet::new(), out: String::new() };
    let several = model.agents.len() > 1;
    for (number, agent) in model.agents.iter().enumerate() {
        let before = tree.out.len();
        let heads = tree.heads_of(number);
        for head in heads {
            tree.root(head);
        }
        if several && tree.out.len() > before {
            let gap = if before > 0 { "\n" } else { "" };
            tree.out
                .insert_str(before, &format!("{gap}agent {}\n\n", agent_title(&agent.name, &agent.hosts)));
        }
    }
    tree.out
}

struct Tree<'a, 'm> {
    model: &'m Model,
    segments: &'a Segments<'m>,
    by_head: BTreeMap<Head, Vec<usize>>,
    drawn: BTreeSet<Head>,
    out: String,
}

impl<'m> Tree<'_, 'm> {
    /// Where trees of an agent begin: sources, failures, then what none of them reaches.
    fn heads_of(&self, agent: usize) -> Vec<Head> {
        let mut heads: Vec<(u8, usize, Head)> = Vec::new();
        for (head, list) in &self.by_head {
            let Some(&first) = list.first() else { continue };
            if self.segments.list[first].agent.0 as usize != agent {
                continue;
            }
            let rank = match head {
                Head::Component(id) => match component(self.model, *id).map(|part| part.word) {
                    Some(Word::Source) => 0,
                    Some(_) => 2,
                    None => continue,
                },
                Head::InterceptorErrors(_) | Head::ComponentErrors(_) => 1,
                Head::Interceptor(_) | Head::Poison => continue,
            };
            heads.push((rank, first, *head));
        }
        heads.sort();
        heads.into_iter().map(|(_, _, head)| head).collect()
    }

    fn root(&mut self, head: Head) {
        if self.drawn.contains(&head) {
            return;
        }
        let title = match head {
            Head::Component(id) => self.title(id),
            Head::InterceptorErrors(id) => {
                let name = self.model.interceptors.get(id.0 as usize).map_or("?", |one| one.name.as_str());
                format!("{name}.errors")
            }
            Head::ComponentErrors(id) => {
                let name = component(self.model, id).map_or("?", |part| part.name.as_str());
                format!("{name}.errors")
            }
            Head::Interceptor(_) | Head::Poison => return,
        };
        self.out.push_str(&title);
        self.out.push('\n');
        self.below(head, "", 0);
    }

    fn title(&self, id: ComponentId) -> String {
        match component(self.model, id) {
            Some(part) if part.kind == part.name => part.name.clone(),
            Some(part) if part.in_place => part.kind.clone(),
            Some(part) => format!("{} ({})", part.name, part.kind),
            None => "?".to_owned(),
        }
    }

    /// Everything that starts at a head, as children.
    fn below(&mut self, head: Head, prefix: &str, depth: usize) {
        self.drawn.insert(head);
        if depth > DEPTH_MAX {
            self.out.push_str(&format!("{prefix}└─▶ …\n"));
            return;
        }
        let segments = self.segments;
        let mut children: Vec<Child<'_, 'm>> = Vec::new();
        for &index in self.by_head.get(&head).map_or(&[][..], Vec::as_slice) {
            let segment = &segments.list[index];
            children.push(Child::Segment(segment));
        }
        if let Head::Component(id) = head {
            for (index, part) in self.model.components.iter().enumerate() {
                if part.word == Word::Consumer && part.on == Some(id) {
                    children.push(Child::Part(ComponentId(index as u32)));
                }
            }
            for member in component(self.model, id).map_or(&[][..], |part| &part.members) {
                children.push(Child::Part(member.component));
            }
        }
        let last = children.len().saturating_sub(1);
        for (number, child) in children.into_iter().enumerate() {
            match child {
                Child::Segment(segment) => {
                    let label = segment.as_group.map(|group| format!("as {group}")).unwrap_or_default();
                    self.branch(&segment.body, &label, prefix, number == last, depth);
                }
                Child::Part(id) => self.place(id, false, "", "", prefix, number == last, depth),
            }
        }
    }

    fn branch(&mut self, branch: &Branch<'m>, label: &str, prefix: &str, last: bool, depth: usize) {
        let steps: String =
            branch.steps.iter().map(|step| format!("{} ─▶ ", step_name(&step.step.name))).collect();
        match &branch.end {
            End::Place(leaf) => {
                self.place(leaf.id, leaf.optional.is_some(), label, &steps, prefix, last, depth);
            }
            // A list right behind its head is so many arrows out of it.
            End::Fan(_, branches) if steps.is_empty() && label.is_empty() => {
                let end = branches.len().saturating_sub(1);
                for (number, branch) in branches.iter().enumerate() {
                    self.branch(branch, "", prefix, last && number == end, depth);
                }
            }
            End::Fan(_, branches) => {
                self.line(prefix, last, label, steps.trim_end_matches(" ─▶ "));
                let inner = deeper(prefix, last);
                let end = branches.len().saturating_sub(1);
                for (number, branch) in branches.iter().enumerate() {
                    self.branch(branch, "", &inner, number == end, depth + 1);
                }
            }
            End::Route(route, arms) => {
                self.line(prefix, last, label, &format!("{steps}{}", route_title(self.model, route)));
                let inner = deeper(prefix, last);
                let end = arms.len().saturating_sub(1);
                let width =
                    arms.iter().map(|(arm, _)| case_text(self.model, arm).chars().count()).max().unwrap_or(0);
                for (number, (arm, branch)) in arms.iter().enumerate() {
                    let case = case_text(self.model, arm);
                    let padded = match matches!(branch.end, End::Place(_)) && width <= 24 {
                        true => format!("{case}{}", " ".repeat(width - case.chars().count())),
                        false => case,
                    };
                    self.branch(branch, &padded, &inner, number == end, depth + 1);
                }
            }
            End::Open | End::Poison => self.line(prefix, last, label, &format!("{steps}?")),
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn place(
        &mut self,
        id: ComponentId,
        optional: bool,
        label: &str,
        steps: &str,
        prefix: &str,
        last: bool,
        depth: usize,
    ) {
        let head = Head::Component(id);
        let mark = if optional { "?" } else { "" };
        let part = component(self.model, id);
        let word = part.map(|part| part.word);
        let goes_on = matches!(word, Some(Word::Channel | Word::Topic | Word::Group | Word::Consumer));
        if goes_on && self.drawn.contains(&head) {
            let name = part.map_or("?", |part| part.name.as_str());
            self.line(prefix, last, label, &format!("{steps}{name}{mark} ↩"));
            return;
        }
        // The inbox of another agent has a tree of its own.
        let remote = if word == Some(Word::Source) { " ↗" } else { "" };
        let agent = part.and_then(|part| self.model.agents.get(part.agent.0 as usize));
        let title = match agent {
            Some(agent) if !remote.is_empty() => format!("{}.{}", agent.name, self.title(id)),
            _ => self.title(id),
        };
        let title = match title.split_once(" (") {
            Some((name, kind)) => format!("{name}{mark} ({kind}"),
            None => format!("{title}{mark}"),
        };
        self.line(prefix, last, label, &format!("{steps}{title}{remote}"));
        if goes_on {
            self.below(head, &deeper(prefix, last), depth + 1);
        }
    }

    fn line(&mut self, prefix: &str, last: bool, label: &str, text: &str) {
        let corner = if last { "└" } else { "├" };
        match label.is_empty() {
            false if text.is_empty() => self.out.push_str(&format!("{prefix}{corner}─ {label}\n")),
            true => self.out.push_str(&format!("{prefix}{corner}─▶ {text}\n")),
            false => self.out.push_str(&format!("{prefix}{corner}─ {label} ─▶ {text}\n")),
        }
    }
}

enum Child<'s, 'm> {
    Segment(&'s Segment<'m>),
    Part(ComponentId),
}

fn deeper(prefix: &str, last: bool) -> String {
    format!("{prefix}{}", if last { "    " } else { "│   " })
}
