//! Ten thousand connections that do nothing, and one that works. Alone in its process: it needs most of the file
//! descriptors.

use flow_broker::client::{Client, ClientConfig};
use flow_broker::{Broker, BrokerConfig};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const CONNECTIONS: u64 = 10_000;
/// File descriptors for everything else.
const OTHERS: u64 = 200;

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_idle_connections_do_not_disturb_one_that_works() {
    // Both ends are in this process.
    let wanted = 2 * CONNECTIONS + OTHERS;
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let current = maximum.map_or(wanted, |maximum| maximum.min(wanted));
    setrlimit(Resource::Nofile, Rlimit { current: Some(current), maximum }).unwrap();
    let count = (current - OTHERS) / 2;
    if count < CONNECTIONS {
        println!("the limit of file descriptors allows {count} connections");
    }
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(BrokerConfig::new(dir.path())).await.unwrap();
    let before = resident_kib();
    let mut idle = Vec::new();
    for _ in 0..count {
        idle.push(TcpStream::connect(broker.address()).await.unwrap());
    }
    let client = Client::connect(ClientConfig::new(broker.address().to_string())).await.unwrap();
    for _ in 0..100 {
        assert_eq!(client.metadata(Some(&["clicks"]), true).await.unwrap().topics[0].error_code, 0);
    }
    // Each is still served.
    for stream in idle.iter_mut().step_by(97) {
        // Metadata version 1, correlation id 3, no topic.
        stream.write_all(b"\0\0\0\x0e\0\x03\0\x01\0\0\0\x03\xff\xff\0\0\0\0").await.unwrap();
        let mut answer = [0; 8];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer[4..], [0, 0, 0, 3]);
    }
    println!("{} bytes a connection, both ends", (resident_kib() - before) * 1024 / count);
    broker.shutdown().await;
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}
