//! A broker by itself: `broker PORT DATA-DIR [PARTITIONS [SUPER-USER]]`. Prints its address and runs until it is
//! interrupted. Topics that are made on the way get so many partitions, or one. With a super user (`User:ANONYMOUS` is
//! everybody who does not log in) there are ACLs.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use flow_broker::{AuthorizerConfig, Broker, BrokerConfig, ListenerConfig};

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (port, dir, partitions, super_user) = match arguments.as_slice() {
        [port, dir, more @ ..] if more.len() <= 2 => (port, dir, more.first(), more.get(1)),
        _ => return fail(2, "usage: broker PORT DATA-DIR [PARTITIONS [SUPER-USER]]"),
    };
    let port = match port.parse::<u16>() {
        Ok(port) => port,
        Err(error) => return fail(2, &format!("`{port}` is no port: {error}")),
    };
    let mut config = BrokerConfig::new(dir);
    if let Some(partitions) = partitions {
        match partitions.parse() {
            Ok(count @ 1..) => config.topics.partitions = count,
            _ => return fail(2, &format!("`{partitions}` is no number of partitions")),
        }
    }
    config.listeners = vec![ListenerConfig::new(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))];
    config.authorizer = super_user
        .map(|user| AuthorizerConfig { super_users: vec![user.clone()], allow_everyone_without_acl: false });
    let broker = match Broker::start(config).await {
        Ok(broker) => broker,
        Err(error) => return fail(2, &error.to_string()),
    };
    println!("{}", broker.address());
    if let Err(error) = stopped().await {
        return fail(2, &format!("cannot wait for a signal: {error}"));
    }
    broker.shutdown().await;
    ExitCode::SUCCESS
}

async fn stopped() -> std::io::Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        result = tokio::signal::ctrl_c() => result,
        _ = terminate.recv() => Ok(()),
    }
}

fn fail(code: u8, message: &str) -> ExitCode {
    eprintln!("broker: {message}");
    ExitCode::from(code)
}
