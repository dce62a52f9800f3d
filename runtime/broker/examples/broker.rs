//! A broker by itself: `broker PORT DATA-DIR`. Prints its address and runs until it is interrupted.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use flow_broker::{Broker, BrokerConfig, ListenerConfig};

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (port, dir) = match arguments.as_slice() {
        [port, dir] => match port.parse::<u16>() {
            Ok(port) => (port, dir),
            Err(error) => return fail(2, &format!("`{port}` is no port: {error}")),
        },
        _ => return fail(2, "usage: broker PORT DATA-DIR"),
    };
    let mut config = BrokerConfig::new(dir);
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
