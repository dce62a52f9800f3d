//! A client asks what exists, in every version and in one that does not exist.

use std::io::{Read, Write};

use flow_broker::{Broker, BrokerConfig};

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_version_of_api_versions_is_answered_with_version_zero() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(BrokerConfig::new(dir.path())).await.unwrap();
    let address = broker.address();
    let answer = tokio::task::spawn_blocking(move || {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        // Key 18, version 99, correlation id 7, no client id.
        let request = [0, 18, 0, 99, 0, 0, 0, 7, 255, 255];
        stream.write_all(&10i32.to_be_bytes()).unwrap();
        stream.write_all(&request).unwrap();
        let mut length = [0; 4];
        stream.read_exact(&mut length).unwrap();
        let mut answer = vec![0; i32::from_be_bytes(length) as usize];
        stream.read_exact(&mut answer).unwrap();
        answer
    });
    // Correlation id, error 35, one entry: key 18, versions 0 to 4.
    assert_eq!(answer.await.unwrap(), [0, 0, 0, 7, 0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 4]);
    broker.shutdown().await;
}
