//! One server of our coordinator as a process of its own, so that it can be killed: this test's program, run again.

use std::io::Read;
use std::path::Path;
use std::process::{Command, ExitCode};

use flow_coordinator::network::World;
use flow_coordinator::replica::Member;
use flow_coordinator::server::{Coordinator, CoordinatorConfig};

use crate::ensemble::{CONTAINER_CHECK_MS, SUPER_DIGEST, Server, TICK_MS};

/// The first argument of the process that is a coordinator.
pub const COMMAND: &str = "be-a-coordinator";

/// How the server `id` of these is started.
pub fn command(id: u32, servers: &[Server], data: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("the path of this program"));
    command.arg(COMMAND).arg(id.to_string()).arg(data);
    command.args(servers.iter().map(|one| format!("{}={},{}", one.id, one.peers[0], one.client)));
    command
}

/// The process that is a server: runs until its standard input ends, then stops cleanly.
pub fn serve(arguments: &[String]) -> ExitCode {
    let [id, data, members @ ..] = arguments else { panic!("number, directory and members are missing") };
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    let config = config(id.parse().expect("a number"), Path::new(data), members);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let coordinator = match Coordinator::start(config, World::real()).await {
            Ok(coordinator) => coordinator,
            Err(error) => {
                eprintln!("{error}");
                return ExitCode::FAILURE;
            }
        };
        let wait = || std::io::stdin().read_to_end(&mut Vec::new());
        let _ = tokio::task::spawn_blocking(wait).await;
        coordinator.shutdown().await;
        ExitCode::SUCCESS
    })
}

fn config(id: u32, data: &Path, members: &[String]) -> CoordinatorConfig {
    let members: Vec<Member> = members.iter().map(|text| member(text).expect("a member")).collect();
    let mut config = match &members[..] {
        [one] => CoordinatorConfig::standalone(one.client_address.clone(), data.to_owned()),
        _ => CoordinatorConfig::new(id, members, data.to_owned()),
    };
    config.replica.tick_ms = TICK_MS;
    config.replica.container_check_ms = CONTAINER_CHECK_MS;
    config.super_digest = Some(SUPER_DIGEST.to_owned());
    config.reconfig_enabled = true;
    config.words = vec!["*".to_owned()];
    config
}

/// `ID=PEERS,CLIENTS`, two ports.
fn member(text: &str) -> Option<Member> {
    let (id, ports) = text.split_once('=')?;
    let (peers, clients) = ports.split_once(',')?;
    let address = |port: &str| format!("127.0.0.1:{port}");
    Some(Member {
        id: id.parse().ok()?,
        peer_address: address(peers),
        client_address: address(clients),
        observer: false,
    })
}
