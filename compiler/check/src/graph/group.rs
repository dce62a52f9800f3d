//! Groups: each sink in one of them, more than one member, none inside itself (F0412, F0413, F0414).

use std::collections::BTreeSet;

use flow_diag::{Code, Diagnostic, Span};

use super::context::{Context, shown};
use crate::model::{Component, ComponentId, Word};

pub(crate) fn check(context: &Context<'_>, out: &mut Vec<Diagnostic>) {
    if context.parts().all(|(_, part)| part.members.is_empty()) {
        return;
    }
    let circular = check_circles(context, out);
    for (id, part) in context.parts() {
        if part.word == Word::Group && !part.poisoned && !circular.contains(&id) {
            check_size(context, part, out);
        }
        if part.word == Word::Sink && !part.poisoned {
            check_shared(context, id, part, &circular, out);
        }
    }
}

fn groups_of(context: &Context<'_>, id: ComponentId) -> Vec<(ComponentId, Span)> {
    let mut out: Vec<(ComponentId, Span)> = Vec::new();
    for (group, part) in context.parts() {
        for member in &part.members {
            if member.component == id {
                out.push((group, member.span));
            }
        }
    }
    out
}

fn check_shared(
    context: &Context<'_>,
    id: ComponentId,
    part: &Component,
    circular: &BTreeSet<ComponentId>,
    out: &mut Vec<Diagnostic>,
) {
    let groups = groups_of(context, id);
    if groups.iter().any(|(group, _)| circular.contains(group)) {
        return;
    }
    if let [(one, first), (two, second), ..] = groups[..] {
        let title = match one == two {
            true => format!("sink `{}` is listed twice in group `{}`", shown(part), context.name(one)),
            false => format!("sink `{}` belongs to two groups", shown(part)),
        };
        out.push(
            Diagnostic::new(Code::F0412, second, title)
                .label(format!("in `{}`", context.name(two)))
                .also(first, format!("in `{}`", context.name(one)))
                .help("a sink can be in one group: declare a second sink, or nest the groups"),
        );
        return;
    }
    if let ([(group, inside)], Some(arrival)) = (&groups[..], context.into(id).first()) {
        out.push(
            Diagnostic::new(
                Code::F0411,
                arrival.leaf.span,
                format!("sink `{}` is fed by group `{}` and by an arrow", shown(part), context.name(*group)),
            )
            .label("directly")
            .also(*inside, format!("as a member of `{}`", context.name(*group)))
            .help("let the arrow end in the group, or declare a second sink"),
        );
    }
}

fn check_size(context: &Context<'_>, part: &Component, out: &mut Vec<Diagnostic>) {
    let [member] = part.members.as_slice() else { return };
    let Some(to) = context.part(member.component) else { return };
    if to.poisoned {
        return;
    }
    if to.word == Word::Source {
        // An inbox on many hosts is many members; where hosts are not named, nobody knows.
        let hosts = context.model.agents.get(to.agent.0 as usize).map_or(0, |agent| agent.hosts.len());
        if hosts != 1 {
            return;
        }
    }
    out.push(
        Diagnostic::new(Code::F0413, member.span, "a group of one does nothing")
            .label("the only member")
            .help(format!("let the arrow end in `{}`, or add a member", to.name)),
    );
}

/// F0414, once per circle; gives all groups in circles.
fn check_circles(context: &Context<'_>, out: &mut Vec<Diagnostic>) -> BTreeSet<ComponentId> {
    let mut circular = BTreeSet::new();
    for (id, part) in context.parts() {
        if part.word != Word::Group || circular.contains(&id) {
            continue;
        }
        let Some(path) = path_to_itself(context, id) else { continue };
        circular.extend(path.iter().map(|(group, _)| *group));
        let names: Vec<String> =
            path.iter().map(|(group, _)| format!("`{}`", context.name(*group))).collect();
        let title = match names.as_slice() {
            [_] => format!("group `{}` contains itself", shown(part)),
            _ => format!("group `{}` contains itself: {} → {}", shown(part), names.join(" → "), names[0]),
        };
        let mut diagnostic =
            Diagnostic::new(Code::F0414, part.span, title).label("nobody is in it in the end");
        for (index, (group, span)) in path.iter().enumerate() {
            diagnostic = diagnostic.also(*span, format!("{}: in `{}`", index + 1, context.name(*group)));
        }
        out.push(diagnostic.help("remove one of these members"));
    }
    circular
}

/// The groups from this one back to itself, each with the place where it names the next.
fn path_to_itself(context: &Context<'_>, start: ComponentId) -> Option<Vec<(ComponentId, Span)>> {
    let mut seen = BTreeSet::new();
    let mut stack: Vec<(ComponentId, usize)> = vec![(start, 0)];
    while let Some((id, next)) = stack.last().copied() {
        let members = context.part(id).map_or(&[][..], |part| &part.members);
        let Some(member) = members.get(next) else {
            stack.pop();
            continue;
        };
        if let Some(top) = stack.last_mut() {
            top.1 += 1;
        }
        if member.component == start {
            let path = stack
                .iter()
                .filter_map(|(id, next)| {
                    let member = context.part(*id)?.members.get(next.checked_sub(1)?)?;
                    Some((*id, member.span))
                })
                .collect();
            return Some(path);
        }
        if context.part(member.component).is_some_and(|part| part.word == Word::Group)
            && seen.insert(member.component)
        {
            stack.push((member.component, 0));
        }
    }
    None
}
