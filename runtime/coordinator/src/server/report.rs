//! What operators are told, in one place: the four-letter words write it as text, the admin page as JSON and for
//! Prometheus.

use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;

use serde_json::{Value, json};

use super::Server;
use super::connection::Connection;
use crate::proto::op;
use crate::replica::Role;

/// What clients that look at the version shall take this server for, and what it is.
pub(super) const VERSION: &str = concat!("3.9.5-flow-", env!("CARGO_PKG_VERSION"));
/// Files of the data directory that are counted.
const FILES_MAX: usize = 100_000;

/// A number with its name, without the `zk_` that stands before it.
pub(super) struct Fact {
    pub name: &'static str,
    pub value: Value,
}

/// What the server is in the ensemble: `leader`, `follower`, `observer`, `standalone`; `read-only` when it knows no
/// leader.
pub(super) fn mode(server: &Server) -> &'static str {
    if !server.replica.is_serving() {
        return "read-only";
    }
    match server.replica.status().role {
        Role::Leader => "leader",
        Role::Follower => "follower",
        Role::Observer => "observer",
        Role::Standalone => "standalone",
        Role::Looking => "read-only",
    }
}

/// Whether reads of the words make sense: there is a leader, or reads without one are allowed.
pub(super) fn is_running(server: &Server) -> bool {
    server.replica.is_serving() || server.config.read_only_enabled
}

/// What `mntr` tells, in its order.
pub(super) fn facts(server: &Server) -> Vec<Fact> {
    let stats = &server.hub.stats;
    let status = server.replica.status();
    let mut facts = Vec::with_capacity(48);
    let mut add = |name: &'static str, value: Value| facts.push(Fact { name, value });
    add("version", json!(VERSION));
    add("server_state", json!(mode(server)));
    {
        let state = server.replica.read();
        add("ephemerals_count", json!(state.ephemeral_count()));
        add("znode_count", json!(state.node_count()));
        add("approximate_data_size", json!(state.data_bytes()));
        add("global_sessions", json!(state.session_count()));
        add("last_processed_zxid", json!(state.last_zxid()));
    }
    let watches = server.hub.watch_counts();
    add("num_alive_connections", json!(server.hub.connection_count()));
    add("watch_count", json!(watches.watches));
    add("avg_latency", json!(stats.latency.average_ms()));
    add("min_latency", json!(stats.latency.min_ms()));
    add("max_latency", json!(stats.latency.max_ms()));
    add("packets_received", json!(stats.received.load(Relaxed)));
    add("packets_sent", json!(stats.sent.load(Relaxed)));
    add("outstanding_requests", json!(stats.outstanding.load(Relaxed)));
    add("open_file_descriptor_count", json!(open_files()));
    add("max_file_descriptor_count", json!(open_files_max()));
    add("uptime", json!(uptime_ms(server)));
    add("bytes_received_count", json!(stats.bytes_received.load(Relaxed)));
    add("response_bytes", json!(stats.bytes_sent.load(Relaxed)));
    add("auth_failed_count", json!(stats.auth_failed.load(Relaxed)));
    add("connection_rejected", json!(stats.connections_rejected.load(Relaxed)));
    add("connection_drop_count", json!(stats.connections_dropped.load(Relaxed)));
    add("connection_request_count", json!(stats.connection_requests.load(Relaxed)));
    add("large_requests_rejected", json!(stats.large_requests_rejected.load(Relaxed)));
    add("unsuccessful_handshake", json!(stats.unsuccessful_handshakes.load(Relaxed)));
    add("watch_events_sent", json!(stats.watch_events.load(Relaxed)));
    for (latency, names) in [
        (
            &stats.read_latency,
            ["avg_readlatency", "min_readlatency", "max_readlatency", "cnt_readlatency", "sum_readlatency"],
        ),
        (
            &stats.write_latency,
            [
                "avg_updatelatency",
                "min_updatelatency",
                "max_updatelatency",
                "cnt_updatelatency",
                "sum_updatelatency",
            ],
        ),
    ] {
        add(names[0], json!(latency.average_ms()));
        add(names[1], json!(latency.min_ms()));
        add(names[2], json!(latency.max_ms()));
        add(names[3], json!(latency.count()));
        add(names[4], json!(latency.sum_ms()));
    }
    add("quorum_size", json!(status.members.iter().filter(|member| !member.observer).count()));
    add("term", json!(status.term));
    add("pending_syncs", json!(0));
    add("cnt_fsynctime", json!(status.syncs));
    add("sum_fsynctime", json!(status.syncs_total_us / 1000));
    add("max_fsynctime", json!(status.syncs_max_us / 1000));
    add("log_bytes", json!(status.log_bytes));
    add("snapshot_bytes", json!(status.snapshot_bytes));
    if status.role == Role::Leader {
        add("learners", json!(status.members.len().saturating_sub(1)));
        add("synced_observers", json!(status.synced_observers));
        add("synced_followers", json!(status.synced_followers));
    }
    facts
}

/// Every fact by its name.
pub(super) fn facts_as_json(server: &Server) -> serde_json::Map<String, Value> {
    facts(server).into_iter().map(|fact| (fact.name.to_owned(), fact.value)).collect()
}

/// One connection, as `cons` names what there is of it.
pub(super) fn connection_as_json(connection: &Connection) -> Value {
    let stats = &connection.stats;
    json!({
        "remote_socket_address": connection.peer,
        "interest_ops": 1,
        "outstanding_requests": connection.pending(),
        "packets_received": stats.received.load(Relaxed),
        "packets_sent": stats.sent.load(Relaxed),
        "session_id": format!("0x{:x}", connection.session),
        "last_operation": op_name(stats.last_op.load(Relaxed)),
        "established": connection.established_ms,
        "session_timeout": connection.timeout_ms,
        "last_cxid": format!("0x{:x}", stats.last_xid.load(Relaxed)),
        "last_zxid": format!("0x{:x}", stats.last_zxid.load(Relaxed)),
        "last_latency": stats.latency.last_ms(),
        "min_latency": stats.latency.min_ms(),
        "avg_latency": stats.latency.average_ms(),
        "max_latency": stats.latency.max_ms(),
    })
}

/// The line of one connection in `cons`; `stat` shows the first part alone.
pub(super) fn connection_line(connection: &Connection, whole: bool) -> String {
    let stats = &connection.stats;
    let mut line = format!(
        " /{}[1](queued={},recved={},sent={}",
        connection.peer,
        connection.pending(),
        stats.received.load(Relaxed),
        stats.sent.load(Relaxed)
    );
    if whole {
        line += &format!(
            ",sid=0x{:x},lop={},est={},to={},lcxid=0x{:x},lzxid=0x{:x},lresp={},llat={},minlat={},avglat={},maxlat={}",
            connection.session,
            op_name(stats.last_op.load(Relaxed)),
            connection.established_ms,
            connection.timeout_ms,
            stats.last_xid.load(Relaxed),
            stats.last_zxid.load(Relaxed),
            stats.last_answered_ms.load(Relaxed),
            stats.latency.last_ms(),
            stats.latency.min_ms(),
            stats.latency.average_ms() as u64,
            stats.latency.max_ms(),
        );
    }
    line + ")\n"
}

/// How ZooKeeper abbreviates operations.
fn op_name(code: i64) -> &'static str {
    match i32::try_from(code).unwrap_or(0) {
        op::CREATE => "CREA",
        op::CREATE2 => "CRE2",
        op::CREATE_CONTAINER => "CREC",
        op::CREATE_TTL => "CRET",
        op::DELETE => "DELE",
        op::EXISTS => "EXIS",
        op::GET_DATA => "GETD",
        op::SET_DATA => "SETD",
        op::GET_ACL => "GETA",
        op::SET_ACL => "SETA",
        op::GET_CHILDREN => "GETC",
        op::GET_CHILDREN2 => "GET2",
        op::SYNC => "SYNC",
        op::PING => "PING",
        op::MULTI => "MULT",
        op::MULTI_READ => "MULR",
        op::RECONFIG => "RECO",
        op::CHECK_WATCHES => "CHKW",
        op::REMOVE_WATCHES => "REMW",
        op::SET_WATCHES | op::SET_WATCHES2 => "SETW",
        op::ADD_WATCH => "ADDW",
        op::AUTH => "AUTH",
        op::SASL => "SASL",
        op::GET_EPHEMERALS => "GETE",
        op::GET_ALL_CHILDREN_NUMBER => "GACN",
        op::WHO_AM_I => "WHOA",
        op::CLOSE_SESSION => "CLOS",
        _ => "NA",
    }
}

/// Settings, by the names of `zoo.cfg`.
pub(super) fn settings(server: &Server) -> Vec<(&'static str, &'static str, Value)> {
    let config = &server.config;
    let directory = config.replica.data.display().to_string();
    let size = directory_bytes(&config.replica.data);
    let port = server.address.rsplit(':').next().and_then(|port| port.parse::<u16>().ok()).unwrap_or(0);
    let (plain, secure) =
        if config.tls.is_some() { (json!(-1), json!(port)) } else { (json!(port), json!(-1)) };
    vec![
        ("clientPort", "client_port", plain),
        ("secureClientPort", "secure_client_port", secure),
        ("dataDir", "data_dir", json!(directory)),
        ("dataDirSize", "data_dir_size", json!(size)),
        ("dataLogDir", "data_log_dir", json!(directory)),
        ("dataLogSize", "data_log_size", json!(size)),
        ("tickTime", "tick_time", json!(config.replica.tick_ms)),
        ("maxClientCnxns", "max_client_cnxns", json!(config.connections_per_address_max.unwrap_or(0))),
        ("minSessionTimeout", "min_session_timeout", json!(config.session_min_ms())),
        ("maxSessionTimeout", "max_session_timeout", json!(config.session_max_ms())),
        ("clientPortListenBacklog", "client_port_listen_backlog", json!(-1)),
        ("serverId", "server_id", json!(config.replica.server)),
    ]
}

/// The members, as `/zookeeper/config` has them.
pub(super) fn membership(server: &Server) -> String {
    let state = server.replica.read();
    let data = state.data(crate::state::CONFIG_PATH).flatten().unwrap_or_default();
    String::from_utf8_lossy(data).into_owned()
}

pub(super) fn uptime_ms(server: &Server) -> u64 {
    u64::try_from(server.started.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Bytes of the files below a directory.
pub(super) fn directory_bytes(directory: &Path) -> u64 {
    let (mut bytes, mut seen) = (0, 0);
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            seen += 1;
            if seen > FILES_MAX {
                return bytes;
            }
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => directories.push(entry.path()),
                Ok(metadata) => bytes += metadata.len(),
                Err(_) => {}
            }
        }
    }
    bytes
}

/// −1 where the system does not tell.
fn open_files() -> i64 {
    std::fs::read_dir("/proc/self/fd").map_or(-1, |entries| entries.count() as i64)
}

fn open_files_max() -> i64 {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find(|line| line.starts_with("Max open files"));
    line.and_then(|line| line.split_whitespace().nth(3)?.parse().ok()).unwrap_or(-1)
}
