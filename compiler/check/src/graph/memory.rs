//! Whether the channels that keep events in memory have room on the machine that checks (F0608). It adds up what
//! will run, also the channels that nobody wrote, and knows no kind: a channel that is not durable and has a bound
//! named `bytes` counts.

use std::collections::BTreeMap;

use flow_diag::{Code, Diagnostic, Files, Span};
use flow_plan::plan::{Channel, OriginId, Plan};
use serde_json::Value;

/// Channels that are pointed at.
const SHOWN_MAX: usize = 3;

/// `memory_bytes` is what the machine has. Agents on one host, and those that may run anywhere, are added up.
pub(crate) fn check(plan: &Plan, files: &Files, memory_bytes: u64, out: &mut Vec<Diagnostic>) {
    let mut by_host: BTreeMap<&str, Vec<(&Channel, u64)>> = BTreeMap::new();
    for agent in &plan.agents {
        let channels: Vec<(&Channel, u64)> =
            agent.channels.iter().filter_map(|channel| Some((channel, bound(channel)?))).collect();
        let hosts = agent.hosts.iter().map(String::as_str);
        for host in hosts.chain(agent.hosts.is_empty().then_some("")) {
            by_host.entry(host).or_default().extend(channels.iter().copied());
        }
    }
    let total =
        |channels: &[(&Channel, u64)]| channels.iter().fold(0u64, |sum, one| sum.saturating_add(one.1));
    let Some(mut worst) = by_host.into_values().max_by_key(|channels| total(channels)) else { return };
    let needed = total(&worst);
    if needed <= memory_bytes {
        return;
    }
    worst.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    let place = |channel: &Channel| {
        let origin = channel.setting_origins.get("bytes").copied().unwrap_or(channel.origin);
        span(plan, files, origin)
    };
    let Some((largest, bytes)) = worst.first().copied() else { return };
    let Some(at) = place(largest) else { return };
    let title = format!("memory channels may need {}, the host has {}", size(needed), size(memory_bytes));
    let mut diagnostic = Diagnostic::new(Code::F0608, at, title).label(format!(
        "`{}` holds up to {}",
        largest.name,
        size(bytes)
    ));
    for (channel, bytes) in worst.iter().skip(1).take(SHOWN_MAX) {
        if let Some(other) = place(channel) {
            diagnostic = diagnostic.also(other, format!("`{}` up to {}", channel.name, size(*bytes)));
        }
    }
    out.push(diagnostic.help("a smaller `bytes`, or a channel that keeps events on disk"));
}

fn bound(channel: &Channel) -> Option<u64> {
    let durable = channel.abilities.iter().any(|ability| ability == "durable");
    // One that has both keeps the rest on disk.
    let bytes = channel.settings.get("memory_bytes").or_else(|| channel.settings.get("bytes"));
    bytes.and_then(Value::as_u64).filter(|_| !durable)
}

fn span(plan: &Plan, files: &Files, origin: OriginId) -> Option<Span> {
    let origin = plan.origins.get(origin.0 as usize)?;
    let file = files.ids().find(|file| files.name(*file) == origin.file)?;
    Some(Span { file, start: origin.start, end: origin.end })
}

/// `6 GiB`, `64 MiB`: the largest unit of which there is at least one.
fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let Some((unit, one)) = UNITS.into_iter().find(|(_, one)| bytes >= *one) else {
        return format!("{bytes} bytes");
    };
    let tenths = u128::from(bytes) * 10 / u128::from(one);
    match tenths % 10 {
        0 => format!("{} {unit}", tenths / 10),
        rest => format!("{}.{rest} {unit}", tenths / 10),
    }
}
