//! What `?` takes away: sources from which no event is sure to arrive (F0422), and single cases in which the only
//! copy goes to an optional branch (F0611).

use std::collections::BTreeSet;

use flow_diag::{Code, Diagnostic, Span};

use super::claim::has;
use super::context::{Context, shown};
use super::segment::{Branch, End, Head, Leaf};
use crate::model::{ComponentId, Word};

pub(crate) fn check(context: &Context<'_>, out: &mut Vec<Diagnostic>) {
    let mut told = BTreeSet::new();
    for (id, part) in context.parts() {
        if part.word == Word::Source
            && !part.poisoned
            && let Some((sink, marks)) = only_optional(context, id)
        {
            told.extend(context.out_of(id).iter().copied());
            let Some((first, rest)) = marks.split_first() else { continue };
            let title = format!(
                "`{}` can reach `{}` only through optional branches",
                shown(part),
                context.name(sink)
            );
            let mut diagnostic = Diagnostic::new(Code::F0422, *first, title)
                .label("an event may get lost here, and no other branch has it");
            for mark in rest.iter().take(6) {
                diagnostic = diagnostic.also(*mark, "and here");
            }
            out.push(diagnostic.help("remove one `?`"));
        }
    }
    for (index, segment) in context.segments.list.iter().enumerate() {
        if !told.contains(&index) && !matches!(segment.head, Head::Poison | Head::Interceptor(_)) {
            check_branch(context, &segment.body, false, out);
        }
    }
}

/// A sink and the `?` on the ways to it, when no way from the source is without one.
fn only_optional(context: &Context<'_>, source: ComponentId) -> Option<(ComponentId, Vec<Span>)> {
    let mut sink = None;
    let mut marks = Vec::new();
    let mut seen = BTreeSet::new();
    let mut todo: Vec<(usize, bool)> = context.out_of(source).iter().map(|&index| (index, true)).collect();
    while let Some((index, sure)) = todo.pop() {
        if !seen.insert((index, sure)) {
            continue;
        }
        let segment = &context.segments.list[index];
        let mut leaves: Vec<&Leaf> = Vec::new();
        let mut unclear = false;
        segment.body.each(&mut |branch| match &branch.end {
            End::Place(leaf) => leaves.push(leaf),
            End::Open | End::Poison => unclear = true,
            End::Fan(..) | End::Route(..) => {}
        });
        if unclear {
            return None;
        }
        for leaf in leaves {
            let sure = sure && leaf.optional.is_none();
            marks.extend(leaf.optional);
            let part = context.part(leaf.id)?;
            let readers = context.out_of(leaf.id);
            if part.word == Word::Channel && !readers.is_empty() {
                todo.extend(readers.iter().map(|&index| (index, sure)));
            } else if sure || part.poisoned {
                return None;
            } else if part.word != Word::Channel && !has(part, "discard") {
                sink = sink.or(Some(leaf.id));
            }
        }
    }
    marks.sort_by_key(|span| (span.file, span.start));
    marks.dedup();
    sink.map(|sink| (sink, marks))
}

/// `sure`: some other branch of a list around has the event, too.
fn check_branch(context: &Context<'_>, branch: &Branch<'_>, sure: bool, out: &mut Vec<Diagnostic>) {
    match &branch.end {
        End::Place(leaf) => {
            if let Some(mark) = leaf.optional
                && !sure
                && !context.part(leaf.id).is_some_and(|part| part.poisoned || has(part, "discard"))
            {
                let name = context.name(leaf.id);
                out.push(
                    Diagnostic::new(
                        Code::F0611,
                        leaf.span,
                        format!("optional branch `{name}?` carries the only copy of these events"),
                    )
                    .label("they are lost when it is full or fails")
                    .also(mark, "because of this")
                    .help("remove the `?`, or let another branch have them, too"),
                );
            }
        }
        End::Fan(_, branches) => {
            let kept: Vec<bool> = branches.iter().map(keeps).collect();
            let any = kept.iter().any(|kept| *kept);
            for (index, branch) in branches.iter().enumerate() {
                let others = kept.iter().enumerate().any(|(other, kept)| other != index && *kept);
                // Where none keeps it, the first one stands for all.
                if any || index == 0 {
                    check_branch(context, branch, sure || others, out);
                }
            }
        }
        End::Route(route, arms) => {
            for (_, branch) in arms {
                check_branch(context, branch, sure || route.all, out);
            }
        }
        End::Open | End::Poison => {}
    }
}

/// Every event that comes here goes somewhere without `?`.
fn keeps(branch: &Branch<'_>) -> bool {
    match &branch.end {
        End::Place(leaf) => leaf.optional.is_none(),
        End::Fan(_, branches) => branches.iter().any(keeps),
        End::Route(_, arms) => arms.iter().all(|(_, branch)| keeps(branch)),
        End::Open | End::Poison => true,
    }
}
