//! The four-letter words: what operators and their tools ask in plain text before any hand-shake. The answers have
//! ZooKeeper's form, for it is read by machines.

use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;

use serde_json::Value;

use super::Server;
use super::report::{
    VERSION, connection_line, directory_bytes, facts, is_running, membership, mode, settings,
};

/// Bytes of an answer; what would be longer is cut at a line.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// What ZooKeeper says while it has no quorum.
const NOT_RUNNING: &str = "This ZooKeeper instance is not currently serving requests\n";

const WORDS: [&str; 17] = [
    "conf", "cons", "crst", "dirs", "dump", "envi", "gtmk", "hash", "isro", "mntr", "ruok", "srst", "srvr",
    "stat", "wchc", "wchp", "wchs",
];

/// The word that these bytes are, if they are one. As the length of a packet any of them would be far too large.
pub(super) fn known(first: [u8; 4]) -> Option<&'static str> {
    WORDS.into_iter().find(|word| word.as_bytes() == first)
}

/// What a word is answered.
pub(super) fn answer(server: &Server, word: &str) -> String {
    if !server.config.answers_word(word) {
        return format!("{word} is not executed because it is not in the whitelist.\n");
    }
    let needs_tree = !matches!(word, "ruok" | "conf" | "envi" | "isro" | "dirs" | "gtmk");
    if needs_tree && !is_running(server) {
        return NOT_RUNNING.to_owned();
    }
    let mut out = match word {
        "ruok" => "imok".to_owned(),
        "isro" => if server.replica.is_serving() { "rw" } else { "ro" }.to_owned(),
        "srvr" => format!("Zookeeper version: {VERSION}\n{}", summary(server)),
        "stat" => format!(
            "Zookeeper version: {VERSION}\nClients:\n{}\n{}",
            connections(server, false),
            summary(server)
        ),
        "cons" => connections(server, true) + "\n",
        "mntr" => monitor(server),
        "conf" => configuration(server),
        "envi" => environment(server),
        "dirs" => {
            let bytes = directory_bytes(&server.config.replica.data);
            format!("datadir_size: {bytes}\nlogdir_size: {bytes}\n")
        }
        "crst" => {
            for connection in server.hub.connections() {
                connection.stats.received.store(0, Relaxed);
                connection.stats.sent.store(0, Relaxed);
                connection.stats.latency.reset();
            }
            "Connection stats reset.\n".to_owned()
        }
        "srst" => {
            server.hub.stats.reset();
            "Server stats reset.\n".to_owned()
        }
        "dump" => dump(server),
        "wchs" => {
            let counts = server.hub.watch_counts();
            format!(
                "{} connections watching {} paths\nTotal watches:{}\n",
                counts.watchers, counts.paths, counts.watches
            )
        }
        "wchc" => watches_by_session(server),
        "wchp" => watches_by_path(server),
        "hash" => format!("{:016x}\n", server.replica.read().digest()),
        "gtmk" => "0".to_owned(),
        _ => String::new(),
    };
    if out.len() > ANSWER_BYTES_MAX {
        let end = out.as_bytes()[..ANSWER_BYTES_MAX].iter().rposition(|byte| *byte == b'\n').unwrap_or(0);
        out.truncate(end);
        out.push('\n');
    }
    out
}

fn summary(server: &Server) -> String {
    let stats = &server.hub.stats;
    let mode = mode(server);
    let state = server.replica.read();
    format!(
        "Latency min/avg/max: {}/{}/{}\nReceived: {}\nSent: {}\nConnections: {}\nOutstanding: {}\nZxid: 0x{:x}\nMode: {}\n\
         Node count: {}\n",
        stats.latency.min_ms(),
        four_digits(stats.latency.average_ms()),
        stats.latency.max_ms(),
        stats.received.load(Relaxed),
        stats.sent.load(Relaxed),
        server.open(),
        stats.outstanding.load(Relaxed),
        state.last_zxid(),
        mode,
        state.node_count(),
    )
}

/// As Java writes it: four digits behind the point at most, one at least.
fn four_digits(value: f64) -> String {
    let text = format!("{value:.4}");
    let text = text.trim_end_matches('0');
    if text.ends_with('.') { format!("{text}0") } else { text.to_owned() }
}

fn connections(server: &Server, whole: bool) -> String {
    server.hub.connections().iter().map(|connection| connection_line(connection, whole)).collect()
}

fn monitor(server: &Server) -> String {
    let mut out = String::new();
    for fact in facts(server) {
        let value = match fact.value {
            Value::String(text) => text,
            Value::Number(number) if number.is_f64() => four_digits(number.as_f64().unwrap_or(0.0)),
            other => other.to_string(),
        };
        let _ = writeln!(out, "zk_{}\t{value}", fact.name);
    }
    out
}

fn configuration(server: &Server) -> String {
    let mut out = String::new();
    for (name, _, value) in settings(server) {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let _ = writeln!(out, "{name}={value}");
    }
    if server.config.replica.members.len() > 1 {
        let _ = write!(out, "membership: \n{}", membership(server));
    }
    out
}

fn environment(server: &Server) -> String {
    let host = server.address.rsplit_once(':').map_or("", |(host, _)| host);
    format!(
        "Environment:\nzookeeper.version={VERSION}\nhost.name={host}\nos.name={}\nos.arch={}\n",
        std::env::consts::OS,
        std::env::consts::ARCH
    )
}

fn dump(server: &Server) -> String {
    let state = server.replica.read();
    let mut out = format!("SessionTracker dump:\nGlobal Sessions({}):\n", state.session_count());
    let mut owners = Vec::new();
    for (id, session) in state.sessions() {
        let _ = writeln!(out, "0x{id:x}\t{}ms", session.timeout_ms);
        if session.ephemeral_count() > 0 {
            owners.push(id);
        }
    }
    let _ = writeln!(out, "ephemeral nodes dump:\nSessions with Ephemerals ({}):", owners.len());
    for id in owners {
        let _ = writeln!(out, "0x{id:x}:");
        for path in state.ephemerals(id) {
            let _ = writeln!(out, "\t{path}");
        }
        if out.len() > ANSWER_BYTES_MAX {
            return out;
        }
    }
    drop(state);
    let connections = server.hub.connections();
    let _ = writeln!(out, "Connections dump:\nConnections Sets (1)/({}):", connections.len());
    for connection in connections {
        let _ = writeln!(out, "\tip: /{} sessionId: 0x{:x}", connection.peer, connection.session);
    }
    out
}

fn watches_by_session(server: &Server) -> String {
    let mut out = String::new();
    for (session, paths) in server.hub.watches_by_session() {
        let _ = writeln!(out, "0x{session:x}");
        for path in paths {
            let _ = writeln!(out, "\t{path}");
        }
    }
    out + "\n"
}

fn watches_by_path(server: &Server) -> String {
    let mut out = String::new();
    for (path, sessions) in server.hub.watches_by_path() {
        let _ = writeln!(out, "{path}");
        for session in sessions {
            let _ = writeln!(out, "\t0x{session:x}");
        }
    }
    out + "\n"
}
