//! A broker by itself: `broker PORT DATA-DIR [PARTITIONS]`. Prints its address and runs until it is interrupted. Topics
//! that are made on the way get so many partitions, or one.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use flow_broker::{Broker, BrokerConfig, ListenerConfig};

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (port, dir, partitions) = match arguments.as_slice() {
        [port, dir, partitions @ ..] if partitions.len() < 2 => (port, dir, partitions.first()),
        _ => return fail(2, "usage: broker PORT DATA-DIR [PARTITIONS]"),
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
