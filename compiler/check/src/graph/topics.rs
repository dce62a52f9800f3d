//! Topics, their readers and their clusters: whether the numbers fit each other, and who shares what (F0701 to F0709).

use std::collections::BTreeMap;

use flow_diag::{Code, Diagnostic, Span};
use serde_json::Value;

use super::capacity::{digits, number, place, written};
use super::claim::{cluster_of, has};
use super::context::Context;
use super::segment::{Head, Segment};
use crate::model::{AgentId, Component, ComponentId, FlowId, Word};

pub(crate) fn check(context: &Context<'_>, out: &mut Vec<Diagnostic>) {
    for (id, part) in context.parts().filter(|(_, part)| !part.poisoned) {
        if matches!(part.word, Word::Topic | Word::Cluster) {
            check_limits(part, out);
        }
        match part.word {
            Word::Topic => check_topic(context, id, part, out),
            Word::Consumer => check_workers(context, part, out),
            _ => {}
        }
    }
    check_groups(context, out);
}

fn check_topic(context: &Context<'_>, id: ComponentId, part: &Component, out: &mut Vec<Diagnostic>) {
    let compact = part.settings.get("compact").is_some_and(|value| value == &Value::Bool(true));
    if compact && part.settings.get("key").is_none_or(Value::is_null) {
        out.push(
            Diagnostic::new(Code::F0705, part.span, "`compact` needs `key`")
                .label("nothing says which events belong together")
                .also(place(part, "compact"), "the last event of each key is kept")
                .help("add `key: header.id`"),
        );
    }
    check_copies(context, id, part, out);
    let clusters: Vec<&Component> =
        context.model.components.iter().filter(|other| other.word == Word::Cluster).collect();
    if part.on.is_none()
        && clusters.iter().all(|cluster| !cluster.poisoned)
        && let [first, second, ..] = clusters[..]
    {
        out.push(
            Diagnostic::new(Code::F0707, part.span, format!("topic `{}` is on no cluster", part.name))
                .label("there are several, and nothing says which")
                .also(first.span, "this one?")
                .also(second.span, "or this one?")
                .help(format!("`topic {} on {}`", part.name, first.name)),
        );
    }
}

/// A topic forgets by time and size; how many events that are nobody counts.
fn check_limits(part: &Component, out: &mut Vec<Diagnostic>) {
    let events = part.settings.get("retention").and_then(|limits| limits.get("events")?.as_u64());
    if events.is_some() {
        out.push(
            Diagnostic::new(
                Code::F0201,
                place(part, "retention"),
                "`retention` is a time, a size or both, not a number of events",
            )
            .label("a number of events")
            .help("`retention: 3d or 200GiB`"),
        );
    }
}

/// F0701, F0703
fn check_copies(context: &Context<'_>, id: ComponentId, part: &Component, out: &mut Vec<Diagnostic>) {
    let replication = number(part, "replication").unwrap_or(1);
    let cluster = cluster_of(context.model, id).and_then(|id| context.part(id));
    let brokers = cluster.map_or(Some(1), brokers);
    if let Some(brokers) = brokers
        && replication > brokers
    {
        let span = place(part, "replication");
        let title = format!(
            "replication {} needs {} brokers, {} has {}",
            digits(replication),
            digits(replication),
            match cluster {
                Some(cluster) => format!("`{}`", cluster.name),
                None => "the cluster put in for this file".to_owned(),
            },
            digits(brokers)
        );
        let mut diagnostic =
            Diagnostic::new(Code::F0701, span, title).label("each copy is on another broker");
        if let Some(cluster) = cluster {
            diagnostic = diagnostic.also(place(cluster, "brokers"), "the brokers there are");
        }
        out.push(diagnostic.help(format!("at most `replication: {}`", digits(brokers))));
    }
    let Some((in_sync, span)) = written(part, "min_in_sync") else { return };
    if in_sync > replication || (in_sync == replication && replication > 1) {
        let (title, label) = if in_sync > replication {
            (
                format!(
                    "`min_in_sync` {} is more than the {} there are",
                    digits(in_sync),
                    copies(replication)
                ),
                "never reached: nothing could be written",
            )
        } else {
            (
                format!(
                    "`min_in_sync` {} with replication {} stops at the first broker loss",
                    digits(in_sync),
                    digits(replication)
                ),
                "every copy has to answer",
            )
        };
        let mut diagnostic = Diagnostic::new(Code::F0703, span, title).label(label);
        if let Some((_, span)) = written(part, "replication") {
            diagnostic = diagnostic.also(span, "the copies there are");
        }
        out.push(diagnostic.help(format!("`min_in_sync: {}`", digits(replication.saturating_sub(1).max(1)))));
    }
}

fn copies(count: u64) -> String {
    if count == 1 { "1 copy".to_owned() } else { format!("{} copies", digits(count)) }
}

/// How many brokers a cluster names; one for a cluster of this process that names none. Others are not known.
fn brokers(cluster: &Component) -> Option<u64> {
    match cluster.settings.get("brokers") {
        _ if cluster.poisoned || has(cluster, "absent") => None,
        Some(Value::Array(brokers)) => Some(brokers.len() as u64),
        Some(Value::Null) => Some(1),
        _ => None,
    }
}

/// F0709
fn check_workers(context: &Context<'_>, part: &Component, out: &mut Vec<Diagnostic>) {
    let Some(topic) = part.on.and_then(|on| context.part(on)).filter(|topic| !topic.poisoned) else { return };
    let (Some((workers, span)), Some(partitions)) = (written(part, "workers"), number(topic, "partitions"))
    else {
        return;
    };
    if workers > partitions {
        let idle = workers - partitions;
        let idle =
            if idle == 1 { "one will be idle".to_owned() } else { format!("{} will be idle", digits(idle)) };
        out.push(
            Diagnostic::new(
                Code::F0709,
                span,
                format!("`workers` {}, partitions {}: {idle}", digits(workers), digits(partitions)),
            )
            .label("a partition has one reader in a group")
            .also(place(topic, "partitions"), format!("the partitions of `{}`", topic.name))
            .help(format!("`workers: {}`, or more partitions", digits(partitions))),
        );
    }
}

/// F0708: one name for two readers means that each gets a part of the events.
fn check_groups(context: &Context<'_>, out: &mut Vec<Diagnostic>) {
    type Place = (AgentId, Option<FlowId>);
    let mut seen: BTreeMap<(ComponentId, String), (Place, Span)> = BTreeMap::new();
    for segment in &context.segments.list {
        let Some((topic, group)) = group_of(context, segment) else { continue };
        let place = (segment.agent, segment.flow);
        let (first, span) = *seen.entry((topic, group.clone())).or_insert((place, segment.head_span));
        if first != place {
            out.push(
                Diagnostic::new(
                    Code::F0708,
                    segment.head_span,
                    format!(
                        "`{}` is read as `{group}` in two places that do not know each other",
                        context.name(topic)
                    ),
                )
                .label("each event would come to one of the two")
                .also(span, "the other reader")
                .help("another name for a copy of all events; for one reader put both chains into one flow"),
            );
        }
    }
}

/// The topic and the group that a segment reads; none without a name of the user's.
fn group_of(context: &Context<'_>, segment: &Segment<'_>) -> Option<(ComponentId, String)> {
    let Head::Component(id) = segment.head else { return None };
    let part = context.part(id).filter(|part| !part.poisoned)?;
    match part.word {
        Word::Topic => Some((id, segment.as_group?.to_owned())),
        Word::Consumer => Some((part.on?, part.name.clone())),
        _ => None,
    }
}
