//! Whether the numbers fit each other: batches and capacities, retention and waiting, directories (F0605 to F0612,
//! without those of claims and optional branches).

use flow_diag::{Code, Diagnostic, Span};
use serde_json::Value;

use super::claim::has;
use super::context::Context;
use super::segment::{Head, Segment};
use crate::model::{AgentId, Component, ComponentId, Word};

pub(crate) fn check(context: &Context<'_>, out: &mut Vec<Diagnostic>) {
    for (id, part) in context.parts() {
        if part.poisoned {
            continue;
        }
        if part.word == Word::Channel {
            check_channel(context, id, part, out);
        }
    }
    for segment in &context.segments.list {
        check_work_in_transaction(context, segment, out);
        check_retention(context, segment, out);
    }
    check_directories(context, out);
}

pub(super) fn number(part: &Component, setting: &str) -> Option<u64> {
    part.settings.get(setting).and_then(Value::as_u64)
}

/// A number that the user wrote, and where.
pub(super) fn written(part: &Component, setting: &str) -> Option<(u64, Span)> {
    Some((number(part, setting)?, *part.setting_spans.get(setting)?))
}

/// Where a setting stands, else where the part is declared.
pub(super) fn place(part: &Component, setting: &str) -> Span {
    part.setting_spans.get(setting).copied().unwrap_or(part.span)
}

fn check_channel(context: &Context<'_>, id: ComponentId, part: &Component, out: &mut Vec<Diagnostic>) {
    let capacity = number(part, "capacity");
    let batch = number(part, "batch");
    if let (Some(capacity), Some(batch)) = (capacity, batch)
        && batch > capacity
    {
        out.push(too_large(part, batch, place(part, "batch"), capacity));
    }
    for arrival in context.into(id) {
        let Head::Component(from) = context.segments.list[arrival.segment].head else { continue };
        let Some(source) =
            context.part(from).filter(|source| source.word == Word::Source && !source.poisoned)
        else {
            continue;
        };
        if let (Some((batch, span)), Some(capacity)) = (written(source, "batch"), capacity)
            && batch > capacity
        {
            out.push(too_large(part, batch, span, capacity));
        }
        check_rate(context, id, part, source, out);
    }
    let Some(batch) = batch else { return };
    for sink in sinks_of(context, id) {
        if let Some((wanted, span)) = written(sink, "batch")
            && wanted > batch
            && !has(sink, "absent")
        {
            out.push(
                Diagnostic::new(
                    Code::F0606,
                    span,
                    format!(
                        "sink takes {} at once, channel `{}` hands out at most {}",
                        digits(wanted),
                        part.name,
                        digits(batch)
                    ),
                )
                .label("it never gets so many")
                .also(place(part, "batch"), "the most that is handed out")
                .help(format!(
                    "write `batch: {}` here, or a larger one at `{}`",
                    digits(batch),
                    part.name
                )),
            );
        }
    }
}

fn too_large(channel: &Component, batch: u64, span: Span, capacity: u64) -> Diagnostic {
    let title = format!(
        "`batch` {} is larger than `capacity` {} of `{}`",
        digits(batch),
        digits(capacity),
        channel.name
    );
    let diagnostic = Diagnostic::new(Code::F0605, span, title)
        .label("a batch never finds room")
        .help(format!("at most `batch: {}`, or a larger `capacity`", digits(capacity)));
    match place(channel, "capacity") {
        other if other != span => diagnostic.also(other, "the room there is"),
        _ => diagnostic,
    }
}

fn sinks_of<'m>(context: &Context<'m>, channel: ComponentId) -> Vec<&'m Component> {
    let mut out: Vec<&Component> = Vec::new();
    for &index in context.out_of(channel) {
        for path in context.segments.list[index].paths() {
            if let Some(part) = context.part(path.leaf.id)
                && part.word == Word::Sink
                && !part.poisoned
                && !out.iter().any(|known| std::ptr::eq(*known, part))
            {
                out.push(part);
            }
        }
    }
    out
}

/// F0607: only where the file gives a rate.
fn check_rate(
    context: &Context<'_>,
    id: ComponentId,
    channel: &Component,
    source: &Component,
    out: &mut Vec<Diagnostic>,
) {
    let Some((rate, rate_span)) = written(source, "rate").filter(|(rate, _)| *rate > 0) else { return };
    let Some(capacity) = number(channel, "capacity") else { return };
    let held_ns = u128::from(capacity) * 1_000_000_000 / u128::from(rate);
    for sink in sinks_of(context, id) {
        let Some(timeout) = number(sink, "timeout") else { continue };
        if held_ns < u128::from(timeout) {
            out.push(
                Diagnostic::new(
                    Code::F0607,
                    place(channel, "capacity"),
                    format!(
                        "`{}` holds {} of `{}` at the given rate; the sink's time-out is {}",
                        channel.name,
                        seconds(held_ns),
                        source.name,
                        seconds(u128::from(timeout))
                    ),
                )
                .label("full before the sink gives up once")
                .also(rate_span, "the rate")
                .also(place(sink, "timeout"), "the time-out")
                .help("a larger `capacity`, or a channel that goes on on disk"),
            );
        }
    }
}

fn seconds(ns: u128) -> String {
    let ms = ns / 1_000_000;
    match ms {
        _ if ms < 1_000 => format!("{ms}ms"),
        _ if ms.is_multiple_of(86_400_000) => format!("{}d", ms / 86_400_000),
        _ if ms.is_multiple_of(3_600_000) => format!("{}h", ms / 3_600_000),
        _ if ms.is_multiple_of(60_000) => format!("{}min", ms / 60_000),
        _ => format!("{}s", ms / 1_000),
    }
}

/// `10_000`, as the language writes numbers.
pub(crate) fn digits(value: u64) -> String {
    let text = value.to_string();
    let mut out = String::new();
    for (index, digit) in text.chars().enumerate() {
        if index > 0 && (text.len() - index).is_multiple_of(3) && text.len() > 3 {
            out.push('_');
        }
        out.push(digit);
    }
    out
}

/// F0609: what is computed behind a channel is computed again on each retry.
fn check_work_in_transaction(context: &Context<'_>, segment: &Segment<'_>, out: &mut Vec<Diagnostic>) {
    let Head::Component(id) = segment.head else { return };
    let Some(channel) = context.part(id).filter(|part| part.word == Word::Channel && !part.poisoned) else {
        return;
    };
    if let Some(step) = segment.steps().into_iter().find(|step| step.changes) {
        out.push(
            Diagnostic::new(
                Code::F0609,
                step.span,
                "interceptor between channel and sink changes events inside a transaction: they are computed again on retry",
            )
            .label("a retry may write something else")
            .also(segment.head_span, format!("behind channel `{}`", channel.name))
            .help("move it before the channel"),
        );
    }
}

/// F0610: a topic that forgets before a group behind it has stopped waiting.
fn check_retention(context: &Context<'_>, segment: &Segment<'_>, out: &mut Vec<Diagnostic>) {
    let Head::Component(id) = segment.head else { return };
    let topic = match context.part(id) {
        Some(part) if part.word == Word::Topic => Some(part),
        Some(part) if part.word == Word::Consumer => part.on.and_then(|on| context.part(on)),
        _ => None,
    };
    let Some(topic) = topic else { return };
    let Some(retention) = topic.settings.get("retention").and_then(|value| value.get("duration")?.as_u64())
    else {
        return;
    };
    for path in segment.paths() {
        let Some(group) = context.part(path.leaf.id).filter(|part| part.word == Word::Group) else {
            continue;
        };
        let Some(penalty) = number(group, "penalty") else { continue };
        if retention < penalty {
            out.push(
                Diagnostic::new(
                    Code::F0610,
                    place(topic, "retention"),
                    format!(
                        "retention {} is shorter than the failover wait {}",
                        seconds(u128::from(retention)),
                        seconds(u128::from(penalty))
                    ),
                )
                .label("events are gone before")
                .also(place(group, "penalty"), "a member may be left out for so long")
                .help("a longer retention, or a shorter wait"),
            );
        }
    }
}

/// F0612: durable channels that share a directory on one host.
fn check_directories(context: &Context<'_>, out: &mut Vec<Diagnostic>) {
    let mut seen: Vec<(String, AgentId, &Component, Span)> = Vec::new();
    for (_, part) in context.parts() {
        if part.word != Word::Channel || part.poisoned || !has(part, "durable") {
            continue;
        }
        for (setting, directory) in directories(part) {
            let span = place(part, setting);
            let other = seen.iter().find(|(known, agent, first, _)| {
                *known == directory && same_host(context, *agent, part.agent) && !std::ptr::eq(*first, part)
            });
            if let Some((_, _, first, first_span)) = other {
                let title = format!("two {} channels share the directory `{directory}`", part.kind);
                out.push(
                    Diagnostic::new(Code::F0612, span, title)
                        .label(format!("`{}`", part.name))
                        .also(*first_span, format!("`{}`", first.name))
                        .help("each channel owns its directory: give this one another"),
                );
                break;
            }
            seen.push((directory, part.agent, part, span));
        }
    }
}

/// Settings that are absolute or relative paths, as text or as a list of texts.
fn directories(part: &Component) -> Vec<(&str, String)> {
    let path = |value: &Value| {
        let text = value.as_str()?;
        let is_path = text.starts_with('/') || text.starts_with("./") || text.starts_with("~/");
        is_path.then(|| text.trim_end_matches('/').to_owned())
    };
    part.settings
        .iter()
        .flat_map(|(setting, value)| match value {
            Value::Array(list) => list.iter().filter_map(path).map(|text| (setting.as_str(), text)).collect(),
            value => path(value).map(|text| (setting.as_str(), text)).into_iter().collect::<Vec<_>>(),
        })
        .collect()
}

/// Agents that may meet: the same, or both named for one host.
fn same_host(context: &Context<'_>, one: AgentId, two: AgentId) -> bool {
    let hosts = |id: AgentId| context.model.agents.get(id.0 as usize).map_or(&[][..], |agent| &agent.hosts);
    one == two || hosts(one).iter().any(|host| hosts(two).contains(host))
}
