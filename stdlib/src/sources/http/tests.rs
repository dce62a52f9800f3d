//! Requests as clients send them, good and bad, over real connections.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::new;
use crate::sources::testing::{Collector, Mode, Running, context, settings};

fn defaults() -> Value {
    json!({"listen": ":0", "path": null, "format": "json", "confirm": "delivered", "timeout": 60_000_000_000u64,
        "status": 200, "token": null, "headers": {}, "path_header": null, "peer_header": null,
        "body_max": 1 << 20, "batch": 1000, "connections_max": 10, "idle": 60_000_000_000u64})
}

async fn start(flow: &Arc<Collector>, changes: Value) -> (Running, SocketAddr) {
    let source = new(&settings(defaults(), changes), &context(Path::new("/nowhere"))).unwrap();
    let address = source.listener.address();
    (Running::start(Box::new(source), flow), address)
}

/// Sends bytes and gives everything that comes back until the connection ends.
async fn raw(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The server may have answered and closed before it has read everything.
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

async fn post(address: SocketAddr, path: &str, headers: &str, body: &[u8]) -> String {
    let len = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}Content-Length: {len}\r\n\r\n"
    );
    raw(address, &[head.as_bytes(), body].concat()).await
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_events_with_and_without_headers() {
    let flow = Collector::new(Mode::Deliver);
    let changes = json!({"headers": {"id": "X-Request-Id"}, "path_header": "path", "batch": 2});
    let (source, address) = start(&flow, changes).await;
    let body = br#"[{"headers": {"other": "h", "k": "v"}, "body": "flume \u00e9"}, {"id": 1.0, "big": 123456789012345678901}, 7]"#;
    let answer = post(address, "/in?x=1", "X-Request-Id: r1\r\n", body).await;
    assert_eq!(status(&answer), "200", "{answer}");
    source.stop().await.unwrap();
    let seen = flow.seen();
    assert_eq!(seen.texts(), ["flume é", r#"{"id": 1.0, "big": 123456789012345678901}"#, "7"]);
    assert_eq!((seen.rows[0].header("other"), seen.rows[0].header("k")), ("h", "v"));
    assert!(seen.rows.iter().all(|row| row.header("id") == "r1" && row.header("path") == "/in"));
    assert_eq!(seen.batch_rows_max, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_and_keep_alive() {
    let flow = Collector::new(Mode::Deliver);
    let (source, address) = start(&flow, json!({"format": "lines"})).await;
    let request = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\none\r\ntwo\n";
    let mut stream = TcpStream::connect(address).await.unwrap();
    for _ in 0..2 {
        stream.write_all(request).await.unwrap();
        let mut answer = [0; 15];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200 OK");
        let mut rest = Vec::new();
        while !rest.ends_with(b"\r\n\r\n") {
            rest.push(stream.read_u8().await.unwrap());
        }
    }
    source.stop().await.unwrap();
    assert_eq!(flow.seen().texts(), ["one", "two", "one", "two"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_requests_get_a_clear_answer() {
    let flow = Collector::new(Mode::Deliver);
    let changes = json!({"listen": ":0/in", "token": {"secret": "token"}, "body_max": 2000});
    let (source, address) = start(&flow, changes).await;
    let token = "Authorization: Bearer sesame\r\n";
    let deep = "[".repeat(100_000);
    let large = vec![b' '; 3000];
    let zeros = zstd::encode_all(vec![b' '; 100_000].as_slice(), 1).unwrap();
    let cases: Vec<(String, &str)> = vec![
        (post(address, "/other", token, b"[]").await, "404"),
        (post(address, "/in", "", b"[]").await, "401"),
        (post(address, "/in", "Authorization: Bearer wrong\r\n", b"[]").await, "401"),
        (post(address, "/in", token, b"[1,").await, "400"),
        (post(address, "/in", token, &deep.as_bytes()[..1500]).await, "400"),
        (post(address, "/in", token, b"\"\xff\"").await, "400"),
        (post(address, "/in", token, &large).await, "413"),
        (post(address, "/in", &format!("{token}Content-Encoding: zstd\r\n"), &zeros).await, "413"),
        (post(address, "/in", &format!("{token}Content-Encoding: br\r\n"), b"x").await, "415"),
        (raw(address, format!("GET /in HTTP/1.0\r\n{token}\r\n").as_bytes()).await, "405"),
        (raw(address, b"\x16\x03\x01\x02\x00 no http\r\n\r\n").await, "400"),
    ];
    for (answer, expected) in &cases {
        assert_eq!(status(answer), *expected, "{answer}");
    }
    for (answer, _) in &cases[..10] {
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        let body: Value = serde_json::from_str(body).unwrap();
        assert!(body["error"].is_string(), "{answer}");
    }
    assert_eq!(status(&post(address, "/in", token, b"{\"a\": 1}").await), "200");
    source.stop().await.unwrap();
    assert_eq!(flow.seen().texts(), ["{\"a\": 1}"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_answer_waits_for_the_delivery() {
    let flow = Collector::new(Mode::Lose);
    let (source, address) = start(&flow, json!({"timeout": 50_000_000})).await;
    assert_eq!(status(&post(address, "/", "", b"[1]").await), "503");
    flow.set_mode(Mode::Hold);
    assert_eq!(status(&post(address, "/", "", b"[2]").await), "503");
    flow.set_mode(Mode::Full);
    assert_eq!(status(&post(address, "/", "", b"[3]").await), "503");
    flow.set_mode(Mode::Deliver);
    assert_eq!(status(&post(address, "/", "", b"[4]").await), "200");
    source.stop().await.unwrap();
    let flow = Collector::new(Mode::Hold);
    let (source, address) = start(&flow, json!({"confirm": "accepted"})).await;
    assert_eq!(status(&post(address, "/", "", b"[5]").await), "200");
    flow.seen().held.clear();
    source.stop().await.unwrap();
}
