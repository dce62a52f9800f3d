//! The admin page: what the four-letter words tell, as JSON by ZooKeeper's names; numbers for Prometheus; and whether
//! the server is ready for clients, by the status code alone.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Map, Value, json};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{sleep, timeout};

use super::Server;
use super::report::{
    VERSION, connection_as_json, directory_bytes, facts, facts_as_json, is_running, membership, mode,
    settings, uptime_ms,
};
use crate::network::{Connection, Listener};
use crate::replica::Role;

/// Requests at once; further ones wait at the port.
const CONNECTIONS_MAX: usize = 64;
/// Bytes of the head of a request.
const HEAD_BYTES_MAX: usize = 16 << 10;
const HEADERS_MAX: usize = 64;
/// How long a request may take to come, and a connection to last.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);
const ACCEPT_REST: Duration = Duration::from_millis(50);
/// Sessions, paths and connections that a page lists.
const LISTED_MAX: usize = 100_000;

/// Each command, and the name it may have instead.
const COMMANDS: [(&str, &str); 23] = [
    ("configuration", "conf"),
    ("connection_stat_reset", "crst"),
    ("connections", "cons"),
    ("dirs", "dirs"),
    ("dump", "dump"),
    ("environment", "envi"),
    ("get_trace_mask", "gtmk"),
    ("hash", "hash"),
    ("initial_configuration", "icfg"),
    ("is_read_only", "isro"),
    ("last_snapshot", "lsnp"),
    ("leader", "lead"),
    ("monitor", "mntr"),
    ("observers", "obsr"),
    ("ruok", "ruok"),
    ("server_stats", "srvr"),
    ("stat_reset", "srst"),
    ("stats", "stat"),
    ("system_properties", "sysp"),
    ("voting_view", "voting_view"),
    ("watch_summary", "wchs"),
    ("watches", "wchc"),
    ("watches_by_path", "wchp"),
];

/// Takes connections until the server stops.
pub(super) async fn serve(
    server: Arc<Server>,
    mut listener: Box<dyn Listener>,
    mut stopped: watch::Receiver<bool>,
    alive: mpsc::Sender<()>,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let accepted = tokio::select! {
            biased;
            accepted = listener.accept() => accepted,
            _ = stopped.wait_for(|stop| *stop) => return,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot take a connection to the admin page");
                sleep(ACCEPT_REST).await;
                continue;
            }
        };
        let (server, mut stopped, alive) = (Arc::clone(&server), stopped.clone(), alive.clone());
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = converse(server, stream) => {}
                _ = stopped.wait_for(|stop| *stop) => {}
            }
            drop((place, alive));
        });
    }
}

async fn converse(server: Arc<Server>, stream: Connection) {
    let service = service_fn(move |request: Request<Incoming>| {
        let server = Arc::clone(&server);
        async move { Ok::<_, Infallible>(answer(&server, &request)) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_BYTES_MAX);
    builder.max_headers(HEADERS_MAX);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    if let Ok(Err(error)) = timeout(CONNECTION_TIMEOUT, connection).await {
        tracing::debug!(%error, "a connection to the admin page ended");
    }
}

fn answer<B>(server: &Server, request: &Request<B>) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return page(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET\n".to_owned());
    }
    match request.uri().path().trim_end_matches('/') {
        "/commands" => page(StatusCode::OK, "text/html;charset=utf-8", index()),
        "/metrics" => page(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", metrics(server)),
        "/ready" => ready(server),
        path => match path.strip_prefix("/commands/").and_then(command) {
            Some(name) => {
                let mut body = run(server, name);
                body.insert("command".to_owned(), json!(name));
                body.entry("error").or_insert(Value::Null);
                let failed = !body["error"].is_null();
                let status = if failed { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
                let text = serde_json::to_string_pretty(&Value::Object(body)).unwrap_or_default();
                page(status, "application/json", text + "\n")
            }
            None => page(StatusCode::NOT_FOUND, "text/plain", "no such page\n".to_owned()),
        },
    }
}

fn page(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn index() -> String {
    COMMANDS.iter().map(|(name, _)| format!("<a href=\"/commands/{name}\">{name}</a>\n<br/>\n")).collect()
}

/// Ready is who has a leader: a client that comes now gets a session.
fn ready(server: &Server) -> Response<Full<Bytes>> {
    if server.is_ready() {
        return page(StatusCode::OK, "text/plain", "ready\n".to_owned());
    }
    let why = match server.replica.status().failed {
        Some(reason) => format!("stopped: {reason}\n"),
        None => "no leader\n".to_owned(),
    };
    page(StatusCode::SERVICE_UNAVAILABLE, "text/plain", why)
}

fn command(asked: &str) -> Option<&'static str> {
    COMMANDS.iter().find(|(name, short)| *name == asked || *short == asked).map(|(name, _)| *name)
}

fn run(server: &Server, name: &str) -> Map<String, Value> {
    let needs_tree =
        !matches!(name, "ruok" | "configuration" | "environment" | "is_read_only" | "system_properties");
    let value = if needs_tree && !is_running(server) {
        json!({ "error": "This ZooKeeper instance is not currently serving requests" })
    } else {
        fields(server, name)
    };
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

fn fields(server: &Server, name: &str) -> Value {
    match name {
        "configuration" | "initial_configuration" => {
            let fields = settings(server).into_iter();
            Value::Object(fields.map(|(_, name, value)| (name.to_owned(), value)).collect())
        }
        "connections" => connections(server),
        "connection_stat_reset" => {
            for connection in server.hub.connections() {
                connection.stats.received.store(0, Relaxed);
                connection.stats.sent.store(0, Relaxed);
                connection.stats.latency.reset();
            }
            json!({})
        }
        "stat_reset" => {
            server.hub.stats.reset();
            json!({})
        }
        "dirs" => {
            let bytes = directory_bytes(&server.config.replica.data);
            json!({ "datadir_size": bytes, "logdir_size": bytes })
        }
        "dump" => dump(server),
        "environment" => json!({
            "zookeeper.version": VERSION,
            "host.name": server.address.rsplit_once(':').map_or("", |(host, _)| host),
            "os.name": std::env::consts::OS,
            "os.arch": std::env::consts::ARCH,
        }),
        "get_trace_mask" => json!({ "tracemask": 0 }),
        "hash" => {
            let state = server.replica.read();
            let digest = format!("{:016x}", state.digest());
            json!({ "digests": [{ "zxid": state.last_zxid(), "digest": digest }] })
        }
        "is_read_only" => json!({ "read_only": is_read_only(server) }),
        "last_snapshot" => {
            let status = server.replica.status();
            json!({ "index": status.snapshot_index, "bytes": status.snapshot_bytes })
        }
        "leader" => leader(server),
        "monitor" => Value::Object(facts_as_json(server)),
        "observers" => {
            let status = server.replica.status();
            let observers = status.members.iter().filter(|member| member.observer);
            let observers: Vec<Value> = observers.map(|member| json!(member.client_address)).collect();
            json!({ "synced_observers": status.synced_observers, "observers": observers })
        }
        "server_stats" => server_stats(server),
        "stats" => {
            let (mut stats, connections) = (server_stats(server), connections(server));
            if let (Value::Object(stats), Value::Object(connections)) = (&mut stats, connections) {
                stats.extend(connections);
            }
            stats
        }
        "voting_view" => {
            let lines = membership(server);
            let members = lines.lines().filter_map(|line| line.split_once('='));
            let members =
                members.filter(|(name, text)| name.starts_with("server.") && !text.contains(":observer"));
            let view: Map<String, Value> =
                members.map(|(name, text)| (name["server.".len()..].to_owned(), json!(text))).collect();
            json!({ "current_config": view })
        }
        "watch_summary" => {
            let counts = server.hub.watch_counts();
            json!({
                "num_connections": counts.watchers,
                "num_paths": counts.paths,
                "num_total_watches": counts.watches,
            })
        }
        "watches" => {
            let all = server.hub.watches_by_session().into_iter().take(LISTED_MAX);
            let all: Map<String, Value> =
                all.map(|(id, paths)| (format!("0x{id:x}"), json!(paths))).collect();
            json!({ "session_id_to_watched_paths": all })
        }
        "watches_by_path" => {
            let all = server.hub.watches_by_path().into_iter().take(LISTED_MAX);
            let hex = |ids: Vec<i64>| ids.into_iter().map(|id| format!("0x{id:x}")).collect::<Vec<_>>();
            let all: Map<String, Value> = all.map(|(path, ids)| (path, json!(hex(ids)))).collect();
            json!({ "path_to_session_ids": all })
        }
        _ => json!({}),
    }
}

fn is_read_only(server: &Server) -> bool {
    !server.replica.is_serving()
}

fn connections(server: &Server) -> Value {
    let all = server.hub.connections();
    let of = |secure: bool| -> Vec<Value> {
        let some = all.iter().filter(|connection| connection.secure == secure);
        some.take(LISTED_MAX).map(|connection| connection_as_json(connection)).collect()
    };
    json!({ "connections": of(false), "secure_connections": of(true) })
}

fn leader(server: &Server) -> Value {
    let status = server.replica.status();
    let leader = status.members.iter().find(|member| Some(member.id) == status.leader);
    match (status.role, leader) {
        (Role::Standalone, _) => json!({ "is_leader": true, "leader_id": status.server, "leader_ip": "" }),
        (role, Some(leader)) => json!({
            "is_leader": role == Role::Leader,
            "leader_id": leader.id,
            "leader_ip": leader.peer_address.rsplit_once(':').map_or("", |(host, _)| host),
        }),
        (_, None) => json!({ "error": "no leader is known" }),
    }
}

fn dump(server: &Server) -> Value {
    let state = server.replica.read();
    let (mut by_timeout, mut ephemerals) = (Map::new(), Map::new());
    for (id, session) in state.sessions().take(LISTED_MAX) {
        let sessions = by_timeout.entry(session.timeout_ms.to_string()).or_insert_with(|| json!([]));
        if let Value::Array(sessions) = sessions {
            sessions.push(json!(id));
        }
        if session.ephemeral_count() > 0 {
            ephemerals.insert(id.to_string(), json!(state.ephemerals(id)));
        }
    }
    // Which session ends when is known to the leader alone; how long each may be silent is known to all.
    json!({ "timeout_ms_to_session_ids": by_timeout, "session_id_to_ephemeral_paths": ephemerals })
}

fn server_stats(server: &Server) -> Value {
    let stats = &server.hub.stats;
    let bytes = directory_bytes(&server.config.replica.data);
    let (zxid, nodes) = {
        let state = server.replica.read();
        (state.last_zxid(), state.node_count())
    };
    json!({
        "version": VERSION,
        "read_only": is_read_only(server),
        "server_stats": {
            "packets_sent": stats.sent.load(Relaxed),
            "packets_received": stats.received.load(Relaxed),
            "uptime": uptime_ms(server),
            "data_dir_size": bytes,
            "log_dir_size": bytes,
            "provider_null": false,
            "server_state": mode(server),
            "last_processed_zxid": zxid,
            "outstanding_requests": stats.outstanding.load(Relaxed),
            "avg_latency": stats.latency.average_ms(),
            "max_latency": stats.latency.max_ms(),
            "min_latency": stats.latency.min_ms(),
            "num_alive_client_connections": server.hub.connection_count(),
            "auth_failed_count": stats.auth_failed.load(Relaxed),
        },
        "node_count": nodes,
    })
}

/// Numbers by the names of ZooKeeper's own provider, without a prefix; text becomes a label.
fn metrics(server: &Server) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(8 << 10);
    for fact in facts(server) {
        if let Value::Number(number) = &fact.value {
            let counter = fact.name.starts_with("cnt_")
                || fact.name.starts_with("sum_")
                || fact.name.ends_with("_count") && fact.name.starts_with("connection_");
            let kind = if counter { "counter" } else { "gauge" };
            let _ = writeln!(out, "# TYPE {} {kind}\n{} {number}", fact.name, fact.name);
        }
    }
    let state = mode(server);
    let _ = writeln!(out, "# TYPE server_state gauge\nserver_state{{state=\"{state}\"}} 1");
    let _ = writeln!(out, "# TYPE ready gauge\nready {}", u8::from(server.is_ready()));
    for (name, latency) in [
        ("readlatency_seconds", &server.hub.stats.read_latency),
        ("updatelatency_seconds", &server.hub.stats.write_latency),
    ] {
        let (sum, count) = (latency.sum_seconds(), latency.count());
        let _ = writeln!(out, "# TYPE {name} summary\n{name}_sum {sum}\n{name}_count {count}");
    }
    out
}
