//! Ensembles: how many servers, which ports they take, and whether sessions fit the tick (F0702, F0714, F0715).

use std::collections::BTreeMap;

use flow_diag::{Code, Diagnostic, Span};
use serde_json::Value;

use super::capacity::{number, place};
use super::context::{Context, shown};
use crate::model::{Component, Word};

/// Where clients find a server that names no port.
const CLIENT_PORT: u16 = 2181;

/// How far the port between servers is from the one for clients.
const PEER_PORT_DISTANCE: u16 = 1000;

/// Sessions last at least so many ticks, and at most ten times as many.
const SESSION_TICKS_MIN: u64 = 2;

pub(crate) fn check(context: &Context<'_>, out: &mut Vec<Diagnostic>) {
    let ensembles: Vec<&Component> =
        context.parts().map(|(_, part)| part).filter(|part| part.word == Word::Ensemble).collect();
    for ensemble in ensembles.iter().filter(|part| !part.poisoned) {
        check_number(ensemble, out);
        check_range(ensemble, out);
    }
    check_ports(&ensembles, out);
    check_sessions(context, &ensembles, out);
}

/// The servers that an ensemble names; none for one that is elsewhere.
fn servers(ensemble: &Component) -> Vec<&str> {
    let servers = ensemble.settings.get("servers").and_then(Value::as_array);
    servers.into_iter().flatten().filter_map(Value::as_str).collect()
}

/// F0702
fn check_number(ensemble: &Component, out: &mut Vec<Diagnostic>) {
    let count = servers(ensemble).len();
    if count == 0 || !count.is_multiple_of(2) {
        return;
    }
    let losses = (count - 1) / 2;
    let as_many = match losses {
        0 => "no loss, as 1".to_owned(),
        1 => "1 loss, as 3".to_owned(),
        losses => format!("{losses} losses, as {}", count - 1),
    };
    let title = format!("{count} coordinators tolerate {as_many}");
    let help = if count == 2 { "use 3".to_owned() } else { format!("use {} or {}", count - 1, count + 1) };
    out.push(
        Diagnostic::new(Code::F0702, place(ensemble, "servers"), title)
            .label("more than half of them must agree")
            .help(help),
    );
}

/// F0206: the longest session is not below the shortest.
fn check_range(ensemble: &Component, out: &mut Vec<Diagnostic>) {
    let (Some(min), Some(max)) = (session_min(ensemble), session_max(ensemble)) else { return };
    if max < min {
        let title = format!("`session_max` is {}, `session_min` is {}", time(max), time(min));
        let spans = [place(ensemble, "session_max"), place(ensemble, "session_min")];
        let at = if ensemble.setting_spans.contains_key("session_max") { spans[0] } else { spans[1] };
        out.push(
            Diagnostic::new(Code::F0206, at, title)
                .label("no session could last so long and so short")
                .help("without them sessions last 2 to 20 ticks"),
        );
    }
}

fn session_min(ensemble: &Component) -> Option<u64> {
    number(ensemble, "session_min")
        .or_else(|| Some(number(ensemble, "tick")?.saturating_mul(SESSION_TICKS_MIN)))
}

fn session_max(ensemble: &Component) -> Option<u64> {
    let ticks = 10 * SESSION_TICKS_MIN;
    number(ensemble, "session_max").or_else(|| Some(number(ensemble, "tick")?.saturating_mul(ticks)))
}

/// Who takes a port, in words, and where that is written.
struct Taken {
    what: String,
    span: Span,
}

/// F0714: on one host every port has one owner.
fn check_ports(ensembles: &[&Component], out: &mut Vec<Diagnostic>) {
    let mut taken: BTreeMap<(String, u16), Taken> = BTreeMap::new();
    for ensemble in ensembles.iter().filter(|part| !part.poisoned) {
        let name = &ensemble.name;
        let mut claims = Vec::new();
        let peers = number(ensemble, "peers").and_then(|port| u16::try_from(port).ok());
        let admin = ensemble.settings.get("admin").and_then(Value::as_str).and_then(parse_address);
        let servers = servers(ensemble);
        for (index, address) in servers.iter().enumerate() {
            let Some((host, port)) = parse_address(address) else { continue };
            let of = if servers.len() > 1 { format!(" of server {}", index + 1) } else { String::new() };
            let at = place(ensemble, "servers");
            claims.push((host.clone(), port, format!("the clients{of} of `{name}`"), at));
            if servers.len() > 1 {
                let (peer, at) = match peers {
                    Some(port) => (Some(port), place(ensemble, "peers")),
                    None => (port.checked_add(PEER_PORT_DISTANCE).filter(|_| port != 0), at),
                };
                claims
                    .extend(peer.map(|peer| (host.clone(), peer, format!("the peers{of} of `{name}`"), at)));
            }
            if let Some((_, port)) = &admin {
                claims.push((host, *port, format!("the page{of} of `{name}`"), place(ensemble, "admin")));
            }
        }
        for (host, port, what, span) in claims.into_iter().filter(|(_, port, ..)| *port != 0) {
            match taken.get(&(host.clone(), port)) {
                Some(first) => {
                    let title = format!("{} and {what} want the same port {port} on `{host}`", first.what);
                    let mut diagnostic = Diagnostic::new(Code::F0714, span, title).label("taken already");
                    if first.span != span {
                        diagnostic = diagnostic.also(first.span, format!("{} take it", first.what));
                    }
                    out.push(diagnostic.help("give each a port of its own"));
                    // One is enough for an ensemble: the others follow from it.
                    break;
                }
                None => {
                    taken.insert((host, port), Taken { what, span });
                }
            }
        }
    }
}

/// `zk1:2181`, `:2181`, `zk1`: host and port. What is on all addresses counts as on the loopback.
fn parse_address(text: &str) -> Option<(String, u16)> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().ok()?),
        _ => (text, CLIENT_PORT),
    };
    let host = match host.trim_matches(['[', ']']) {
        "" | "localhost" | "0.0.0.0" | "::" | "::1" => "127.0.0.1",
        host => host,
    };
    Some((host.to_owned(), port))
}

/// F0715
fn check_sessions(context: &Context<'_>, ensembles: &[&Component], out: &mut Vec<Diagnostic>) {
    let mut judge = |ensemble: &Component, session_ns: u64, span: Span| {
        let Some(min) = session_min(ensemble).filter(|min| session_ns < *min && !ensemble.poisoned) else {
            return;
        };
        let (than, limit) = match ensemble.setting_spans.contains_key("session_min") {
            true => ("the shortest".to_owned(), "session_min"),
            false => ("two ticks".to_owned(), "tick"),
        };
        let title = format!("session {} is shorter than {than} ({})", time(session_ns), time(min));
        let mut diagnostic =
            Diagnostic::new(Code::F0715, span, title).label(format!("`{}` makes it longer", shown(ensemble)));
        if let Some(at) = ensemble.setting_spans.get(limit) {
            diagnostic = diagnostic.also(*at, "the limit comes from here");
        }
        out.push(diagnostic.help(format!("`session: {}`, or a shorter `tick`", time(min))));
    };
    for (_, part) in context.parts().filter(|(_, part)| part.word == Word::Source && !part.poisoned) {
        let Some(name) = part.settings.get("coordinators").and_then(Value::as_str) else { continue };
        let Some(session) = number(part, "session") else { continue };
        if let Some(ensemble) = ensembles.iter().find(|ensemble| ensemble.name == name) {
            judge(ensemble, session, place(part, "session"));
        }
    }
    for election in &context.model.elections {
        if let Some(ensemble) = context.part(election.ensemble) {
            judge(ensemble, election.session_ns, election.session_span);
        }
    }
}

/// Nanoseconds as the language writes them.
fn time(ns: u64) -> String {
    const UNITS: [(u64, &str); 4] =
        [(60_000_000_000, "min"), (1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us")];
    match UNITS.iter().find(|(unit, _)| ns >= *unit && ns.is_multiple_of(*unit)) {
        Some((60_000_000_000, _)) if ns < 120_000_000_000 => format!("{}s", ns / 1_000_000_000),
        Some((unit, word)) => format!("{}{word}", ns / unit),
        None => format!("{ns}ns"),
    }
}
