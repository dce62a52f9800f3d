//! A coordinator as a program of its own, for tests with processes and for measuring.
//!
//! ```text
//! coordinator --data DIR --listen HOST:PORT                                            alone
//! coordinator --data DIR --server N --member 1=PEER,CLIENT --member 2=PEER,CLIENT …    one of an ensemble
//! ```
//! It prints `listening ADDRESS` (and `admin ADDRESS`) when clients may connect, and ends in order at SIGTERM or ctrl-c.

use std::path::PathBuf;
use std::process::ExitCode;

use flow_coordinator::network::World;
use flow_coordinator::replica::Member;
use flow_coordinator::server::{Coordinator, CoordinatorConfig, TlsConfig};
use tokio::signal::unix::{SignalKind, signal};

const USAGE: &str =
    "usage: coordinator --data DIR (--listen HOST:PORT | --server N --member ID=PEER,CLIENT[,observer]...)
  [--admin HOST:PORT] [--tick MS] [--heartbeat MS] [--snapshot-every N] [--session-min MS] [--session-max MS]
  [--packet-max BYTES] [--words WORD,...|*] [--super USER:HASH] [--reconfig] [--read-only] [--join]
  [--tls-cert FILE --tls-key FILE [--tls-client-ca FILE [--tls-client-required]]]";

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("coordinator: {message}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), String> {
    let config = parse(std::env::args().skip(1))?;
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    let coordinator = Coordinator::start(config, World::real()).await.map_err(|error| error.to_string())?;
    println!("listening {}", coordinator.address());
    if let Some(address) = coordinator.admin_address() {
        println!("admin {address}");
    }
    tokio::select! {
        _ = terminate.recv() => {}
        stopped = tokio::signal::ctrl_c() => stopped.map_err(|error| error.to_string())?,
    }
    coordinator.shutdown().await;
    Ok(())
}

/// What the arguments say.
fn parse(arguments: impl Iterator<Item = String>) -> Result<CoordinatorConfig, String> {
    let mut members = Vec::new();
    let mut server = None;
    let mut said: Vec<(String, String)> = Vec::new();
    let mut arguments = arguments.into_iter();
    while let Some(name) = arguments.next() {
        let flag = matches!(name.as_str(), "--reconfig" | "--read-only" | "--join" | "--tls-client-required");
        let value = if flag { String::new() } else { arguments.next().ok_or(USAGE)? };
        match name.as_str() {
            "--member" => members.push(parse_member(&value)?),
            "--server" => server = Some(number(&name, &value)?),
            _ => said.push((name, value)),
        }
    }
    let find =
        |wanted: &str| said.iter().rev().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
    let data = PathBuf::from(find("--data").ok_or(USAGE)?);
    let mut config = match server {
        Some(server) => CoordinatorConfig::new(server, members, data),
        None => CoordinatorConfig::standalone(find("--listen").ok_or(USAGE)?, data),
    };
    let mut tls: Option<(Option<PathBuf>, Option<PathBuf>)> = None;
    let (mut client_ca, mut client_required) = (None, false);
    for (name, value) in &said {
        match name.as_str() {
            "--data" => {}
            "--listen" => config.listen = value.clone(),
            "--admin" => config.admin = Some(value.clone()),
            "--tick" => config.replica.tick_ms = number(name, value)?,
            "--heartbeat" => config.replica.heartbeat_ms = number(name, value)?,
            "--snapshot-every" => config.replica.snapshot_every = number(name, value)?,
            "--session-min" => config.session_min_ms = Some(number(name, value)?),
            "--session-max" => config.session_max_ms = Some(number(name, value)?),
            "--packet-max" => config.packet_bytes_max = number(name, value)?,
            "--words" => config.words = value.split(',').map(str::to_owned).collect(),
            "--super" => config.super_digest = Some(value.clone()),
            "--reconfig" => config.reconfig_enabled = true,
            "--read-only" => config.read_only_enabled = true,
            "--join" => config.replica.join = true,
            "--tls-cert" => tls.get_or_insert_default().0 = Some(value.into()),
            "--tls-key" => tls.get_or_insert_default().1 = Some(value.into()),
            "--tls-client-ca" => client_ca = Some(value.into()),
            "--tls-client-required" => client_required = true,
            _ => return Err(format!("`{name}` is unknown\n{USAGE}")),
        }
    }
    if let Some((certificate, private_key)) = tls {
        let (certificate, private_key) = (certificate.ok_or(USAGE)?, private_key.ok_or(USAGE)?);
        config.tls = Some(TlsConfig { certificate, private_key, client_ca, client_required });
    }
    Ok(config)
}

/// `ID=PEER,CLIENT`, and `,observer` behind it.
fn parse_member(text: &str) -> Result<Member, String> {
    let wrong = || format!("`{text}` is not ID=PEER,CLIENT");
    let (id, addresses) = text.split_once('=').ok_or_else(wrong)?;
    let mut parts = addresses.split(',');
    let (peer, client) = parts.next().zip(parts.next()).ok_or_else(wrong)?;
    Ok(Member {
        id: number("--member", id)?,
        peer_address: peer.to_owned(),
        client_address: client.to_owned(),
        observer: match parts.next() {
            None => false,
            Some("observer") => true,
            Some(_) => return Err(wrong()),
        },
    })
}

fn number<N: std::str::FromStr>(name: &str, text: &str) -> Result<N, String> {
    text.parse().map_err(|_| format!("`{text}` of `{name}` is no number"))
}
