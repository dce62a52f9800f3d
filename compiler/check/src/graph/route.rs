//! Routes: every event has a case, and every case can get one (F0501 to F0505, F0507, F0509). A guarded case takes
//! nothing for sure, so it never shadows another; in `route all` every case is asked, so none does.

use std::cmp::Ordering;

use flow_diag::{Code, Diagnostic, Span};

use super::claim::has;
use super::context::Context;
use super::domain::header_values;
use super::overlap::{Comparer, Relation, literal_text, order};
use super::segment::{Branch, End};
use crate::model::{
    ArmModel, Literal, Node, NodeKind, PatternKindModel, PatternModel, RouteModel, StepModel, Word,
};

pub(crate) fn check(context: &Context<'_>, out: &mut Vec<Diagnostic>) {
    // A route behind a fan-in is in several segments: once each, with all ways that lead to it.
    let mut routes: Vec<(&RouteModel, Vec<Vec<&StepModel>>)> = Vec::new();
    for segment in &context.segments.list {
        collect(&segment.body, &mut Vec::new(), &mut routes);
    }
    for (route, ways) in &routes {
        if route.arms.is_empty() {
            continue;
        }
        check_ranges(route, out);
        check_else(context, route, ways, out);
        check_single(context, route, out);
        check_cases(context, route, out);
    }
}

fn collect<'m>(
    branch: &Branch<'m>,
    before: &mut Vec<&'m StepModel>,
    out: &mut Vec<(&'m RouteModel, Vec<Vec<&'m StepModel>>)>,
) {
    let length = before.len();
    before.extend(branch.steps.iter().copied());
    match &branch.end {
        End::Fan(_, branches) => branches.iter().for_each(|branch| collect(branch, before, out)),
        End::Route(route, arms) => {
            match out.iter_mut().find(|(known, _)| std::ptr::eq(*known, *route)) {
                Some((_, ways)) => ways.push(before.clone()),
                None => out.push((route, vec![before.clone()])),
            }
            arms.iter().for_each(|(_, branch)| collect(branch, before, out));
        }
        End::Place(_) | End::Open | End::Poison => {}
    }
    before.truncate(length);
}

/// F0509.
fn check_ranges(route: &RouteModel, out: &mut Vec<Diagnostic>) {
    for pattern in route.arms.iter().flat_map(|arm| &arm.patterns) {
        if let PatternKindModel::Range(low, high) = &pattern.kind
            && order(low, high) == Some(Ordering::Greater)
        {
            out.push(
                Diagnostic::new(
                    Code::F0509,
                    pattern.span,
                    format!("range `{}..{}` is empty", literal_text(low), literal_text(high)),
                )
                .label("ends before it begins")
                .help(format!("`{}..{}`", literal_text(high), literal_text(low))),
            );
        }
    }
}

/// F0501 and F0505.
fn check_else(
    context: &Context<'_>,
    route: &RouteModel,
    ways: &[Vec<&StepModel>],
    out: &mut Vec<Diagnostic>,
) {
    let last = route.arms.len() - 1;
    let mut there = false;
    for (index, arm) in route.arms.iter().enumerate().filter(|(_, arm)| arm.when.is_none()) {
        there = true;
        if index != last {
            let mut diagnostic = Diagnostic::new(Code::F0505, arm.test_span, "`else` must be last")
                .label("takes everything that is left");
            for after in route.arms[index + 1..].iter().take(4) {
                diagnostic = diagnostic.also(after.test_span, "never reached");
            }
            out.push(diagnostic.help("move this case to the end"));
        }
    }
    if there {
        return;
    }
    let values = route.subject_values.clone().or_else(|| inferred(route, ways));
    let missing = match &values {
        Some(values) => {
            let mut missing: Vec<String> =
                values.iter().filter(|value| !is_taken(route, value)).map(written).collect();
            if route.subject_values.is_some() && route.subject_type.ends_with('?') && !takes_null(route) {
                missing.push("null".to_owned());
            }
            if missing.is_empty() {
                return;
            }
            missing
        }
        None => Vec::new(),
    };
    let mut diagnostic =
        Diagnostic::new(Code::F0501, route.head, "no `else`: events that match no case would be lost").label(
            match missing.as_slice() {
                [] => "these cases need not match".to_owned(),
                [one] => format!("nothing takes `{one}`"),
                [one, ..] => format!("nothing takes `{one}`, and others"),
            },
        );
    if let [arm] = route.arms.as_slice()
        && arm.patterns.is_empty()
    {
        diagnostic =
            diagnostic.help(format!("for one case write `filter {{ when: {} }}`", condition(context, arm)));
    }
    out.push(diagnostic.help("add `else -> discard`, or where else they go"));
}

fn written(value: &Literal) -> String {
    match value {
        Literal::String(text) => format!("\"{text}\""),
        other => literal_text(other),
    }
}

/// All values that the steps before can leave in the header.
fn inferred(route: &RouteModel, ways: &[Vec<&StepModel>]) -> Option<Vec<Literal>> {
    let flow_plan::ir::Expr::Header(slot) = route.subject.as_ref()? else { return None };
    let mut all = Vec::new();
    for way in ways {
        all.extend(header_values(way, *slot)?);
    }
    Some(all.into_iter().map(Literal::String).collect())
}

fn sure(arm: &ArmModel) -> bool {
    !arm.guarded && arm.condition_text.is_none()
}

fn is_taken(route: &RouteModel, value: &Literal) -> bool {
    let wanted = PatternKindModel::Literal(value.clone());
    let mut comparer = Comparer::default();
    route
        .arms
        .iter()
        .filter(|arm| sure(arm))
        .flat_map(|arm| &arm.patterns)
        .any(|pattern| matches!(comparer.compare(&pattern.kind, &wanted), Relation::Same | Relation::Covers))
}

fn takes_null(route: &RouteModel) -> bool {
    route
        .arms
        .iter()
        .filter(|arm| sure(arm))
        .flat_map(|arm| &arm.patterns)
        .any(|pattern| matches!(pattern.kind, PatternKindModel::Null))
}

/// F0507: one case, and the rest is thrown away. A case that goes on, by steps of its own
/// or into a buffer, has a reason to be a case.
fn check_single(context: &Context<'_>, route: &RouteModel, out: &mut Vec<Diagnostic>) {
    let place = |nodes: &[Node]| match nodes {
        [Node { kind: NodeKind::Place { id, .. }, .. }] => context.part(*id),
        _ => None,
    };
    let single = match route.arms.as_slice() {
        [arm] if arm.when.is_none() => Some((arm, "only `else`: an arrow does the same".to_owned())),
        [arm, other] if arm.when.is_some() && other.when.is_none() => {
            let thrown_away = place(&other.nodes).is_some_and(|part| has(part, "discard"));
            let kept = place(&arm.nodes).is_some_and(|part| part.word == Word::Sink);
            (thrown_away && kept)
                .then(|| (arm, format!("`filter {{ when: {} }} -> …`", condition_of(context, route, arm))))
        }
        _ => None,
    };
    if let Some((arm, help)) = single.filter(|_| !route.broken) {
        out.push(
            Diagnostic::new(Code::F0507, route.head, "`route` with one case is a filter")
                .label("nothing is chosen here")
                .also(arm.test_span, "the only case")
                .help(help),
        );
    }
}

fn condition<'a>(context: &Context<'a>, arm: &ArmModel) -> &'a str {
    let text = slice(context, arm.test_span);
    text.strip_prefix("when").unwrap_or(text).trim()
}

fn condition_of(context: &Context<'_>, route: &RouteModel, arm: &ArmModel) -> String {
    let case = condition(context, arm);
    match (route.subject_span, arm.patterns.first().map(|pattern| &pattern.kind)) {
        (Some(span), Some(PatternKindModel::Regex { .. })) => format!("{} ~ {case}", slice(context, span)),
        (Some(span), Some(PatternKindModel::Literal(_))) if arm.patterns.len() == 1 => {
            format!("{} == {case}", slice(context, span))
        }
        (Some(_), _) => "…".to_owned(),
        (None, _) => case.to_owned(),
    }
}

fn slice<'a>(context: &Context<'a>, span: Span) -> &'a str {
    if context.files.ids().any(|id| id == span.file) { context.files.slice(span) } else { "" }
}

/// F0502, F0503, F0504.
fn check_cases(context: &Context<'_>, route: &RouteModel, out: &mut Vec<Diagnostic>) {
    let mut comparer = Comparer::default();
    for (index, arm) in route.arms.iter().enumerate() {
        let earlier = if route.all { &[][..] } else { &route.arms[..index] };
        if arm.patterns.is_empty() {
            check_condition(context, arm, earlier, out);
            continue;
        }
        let mut twice = 0;
        let mut covered: Vec<(&PatternModel, Span)> = Vec::new();
        for (number, pattern) in arm.patterns.iter().enumerate() {
            let same_arm = arm.patterns[..number].iter().filter(|other| same(&other.kind, &pattern.kind));
            let same_above = earlier
                .iter()
                .filter(|above| comparable(above, arm) && !above.guarded && !arm.guarded)
                .flat_map(|above| &above.patterns)
                .filter(|other| same(&other.kind, &pattern.kind));
            if let Some(first) = same_above.chain(same_arm).next() {
                twice += 1;
                let text = slice(context, pattern.span);
                out.push(
                    Diagnostic::new(Code::F0502, pattern.span, format!("the case `{text}` appears twice"))
                        .label("again here")
                        .also(first.span, "the first time")
                        .help(
                            "the first one takes the event: remove one, or send both ways with `-> [a, b]`",
                        ),
                );
            } else if let Some(above) = covering(&mut comparer, pattern, arm, earlier) {
                covered.push((pattern, above));
            }
        }
        if !covered.is_empty() && covered.len() + twice == arm.patterns.len() {
            out.push(shadowed(arm.test_span, covered[0].1, "this case is never reached"));
        } else {
            for (pattern, above) in &covered {
                out.push(shadowed(pattern.span, *above, "this part of the case is never reached"));
            }
        }
        if twice == 0 && covered.is_empty() {
            check_overlaps(context, &mut comparer, arm, earlier, out);
        }
    }
}

fn shadowed(span: Span, above: Span, what: &str) -> Diagnostic {
    Diagnostic::new(Code::F0503, span, format!("{what}: the one above takes everything it takes"))
        .label("never reached")
        .also(above, "takes all of it")
        .help("put the narrower case first")
}

/// Patterns of both are about the same value.
fn comparable(above: &ArmModel, arm: &ArmModel) -> bool {
    above.condition_text == arm.condition_text && !above.patterns.is_empty() && above.when.is_some()
}

fn same(one: &PatternKindModel, two: &PatternKindModel) -> bool {
    match (one, two) {
        (PatternKindModel::Literal(one), PatternKindModel::Literal(two)) => {
            order(one, two) == Some(Ordering::Equal)
        }
        (PatternKindModel::Range(low, high), PatternKindModel::Range(other_low, other_high)) => {
            order(low, other_low) == Some(Ordering::Equal) && order(high, other_high) == Some(Ordering::Equal)
        }
        (
            PatternKindModel::Regex { pattern, flags },
            PatternKindModel::Regex { pattern: other, flags: other_flags },
        ) => (pattern, flags) == (other, other_flags),
        (PatternKindModel::Null, PatternKindModel::Null) => true,
        _ => false,
    }
}

/// A pattern above that takes everything this one takes, or the first of several ranges that do together.
fn covering(
    comparer: &mut Comparer,
    pattern: &PatternModel,
    arm: &ArmModel,
    earlier: &[ArmModel],
) -> Option<Span> {
    let above: Vec<&PatternModel> = earlier
        .iter()
        .filter(|above| comparable(above, arm) && !above.guarded)
        .flat_map(|above| &above.patterns)
        .collect();
    if let Some(one) = above.iter().find(|other| {
        matches!(comparer.compare(&other.kind, &pattern.kind), Relation::Covers | Relation::Same)
    }) {
        return Some(one.span);
    }
    // Whole numbers: `0..4` and `5..9` together take `3..7`.
    let PatternKindModel::Range(Literal::Int(low), Literal::Int(high)) = pattern.kind else { return None };
    let mut parts: Vec<(i64, i64, Span)> = above
        .iter()
        .filter_map(|other| match &other.kind {
            PatternKindModel::Range(Literal::Int(low), Literal::Int(high)) => Some((*low, *high, other.span)),
            PatternKindModel::Literal(Literal::Int(value)) => Some((*value, *value, other.span)),
            _ => None,
        })
        .collect();
    parts.sort_by_key(|(low, _, _)| *low);
    let mut next = low;
    let mut first = None;
    for (from, to, span) in parts {
        if from <= next && to >= next {
            first = first.or(Some(span));
            if to >= high {
                return first;
            }
            next = to.checked_add(1)?;
        }
    }
    None
}

fn check_overlaps(
    context: &Context<'_>,
    comparer: &mut Comparer,
    arm: &ArmModel,
    earlier: &[ArmModel],
    out: &mut Vec<Diagnostic>,
) {
    for above in earlier.iter().filter(|above| comparable(above, arm) && !above.guarded && !arm.guarded) {
        // One pair tells the story.
        let pair = above.patterns.iter().find_map(|one| {
            arm.patterns.iter().find_map(|two| match comparer.compare(&one.kind, &two.kind) {
                Relation::Overlap(example) => Some((one, two, example)),
                _ => None,
            })
        });
        if let Some((one, two, example)) = pair {
            out.push(
                Diagnostic::new(
                    Code::F0504,
                    two.span,
                    format!("cases overlap: `{}` and `{}`", slice(context, one.span), slice(context, two.span)),
                )
                .label(format!("`{}` is in both", example.escape_debug()))
                .also(one.span, "this one takes it")
                .help("the order decides: say so with a case for what is in both, or make them exclude each other"),
            );
        }
    }
}

/// `when` conditions: only the same text is known to be the same.
fn check_condition(context: &Context<'_>, arm: &ArmModel, earlier: &[ArmModel], out: &mut Vec<Diagnostic>) {
    if arm.when.is_none() {
        return;
    }
    let words = |arm: &ArmModel| condition(context, arm).split_whitespace().collect::<Vec<_>>().join(" ");
    let text = words(arm);
    let first = earlier.iter().find(|above| {
        above.when.is_some() && above.patterns.is_empty() && !text.is_empty() && words(above) == text
    });
    if let Some(first) = first {
        out.push(
            Diagnostic::new(Code::F0502, arm.test_span, format!("the case `{text}` appears twice"))
                .label("again here")
                .also(first.test_span, "the first time")
                .help("the first one takes the event: remove one, or send both ways with `-> [a, b]`"),
        );
    }
}
