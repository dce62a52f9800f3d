//! Requests as clients send them, good and bad, over real connections.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Instant, StdDuration, body_deadline, new};
use crate::sources::testing::{Collector, Mode, Running, allow_many_files, context, settings};

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

/// Sends one good request and expects its success.
async fn is_served(address: SocketAddr) {
    let answer = tokio::time::timeout(StdDuration::from_secs(60), post(address, "/", "", b"[1]")).await;
    assert_eq!(status(&answer.expect("it is not served")), "200");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_silent_connections_do_not_keep_others_out() {
    allow_many_files();
    let flow = Collector::new(Mode::Deliver);
    let (source, address) = start(&flow, json!({"connections_max": 1100})).await;
    let mut silent = Vec::new();
    let beginnings: [&[u8]; 4] =
        [b"", b"P", b"POST / HT", b"POST / HTTP/1.1\r\nContent-Length: 9999\r\n\r\n["];
    for number in 0..1000 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(beginnings[number % 4]).await.unwrap();
        silent.push(stream);
    }
    is_served(address).await;
    // A stop would let them finish what they have begun.
    source.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_ends_a_connection_wherever_it_begins() {
    let flow = Collector::new(Mode::Deliver);
    let (source, address) = start(&flow, json!({"idle": 30_000_000, "connections_max": 1})).await;
    // There is one place: each is served only when the one before was let go.
    for beginning in [&b"POST / HTTP/1.1\r\nX-Slow: y"[..], b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n[1"]
    {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(beginning).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert!(
            answer.is_empty() || answer.starts_with(b"HTTP/1.1 408"),
            "{:?}",
            String::from_utf8_lossy(&answer)
        );
        is_served(address).await;
    }
    source.stop().await.unwrap();
}

#[test]
fn a_body_that_trickles_is_given_up() {
    let began = Instant::now();
    let idle = StdDuration::from_secs(60);
    let at = |seconds| began + StdDuration::from_secs(seconds);
    assert_eq!(body_deadline(began, at(10), idle, 0), at(60));
    // One byte in each minute ends with the first one; a slow but steady body is waited for.
    assert_eq!(body_deadline(began, at(59), idle, 1), at(60));
    assert_eq!(body_deadline(began, at(500), idle, 1 << 20), at(560));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_requests_are_refused_and_the_next_one_is_served() {
    let flow = Collector::new(Mode::Deliver);
    let (source, address) = start(&flow, json!({"headers": {"id": "X-Id"}})).await;
    let long = |len: usize| [b"POST / HTTP/1.1\r\nX-Long: ".to_vec(), vec![b'a'; len]].concat();
    let many = (0..500).flat_map(|n| format!("X-{n}: y\r\n").into_bytes());
    let gzip = {
        use std::io::Write;
        let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        bomb.write_all(&vec![b' '; 100 << 20]).unwrap();
        bomb.finish().unwrap()
    };
    let bomb = format!("POST / HTTP/1.1\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", gzip.len());
    let cases: Vec<(Vec<u8>, &[&str])> = vec![
        (long(10 << 20), &["431", "400", ""]),
        ([b"POST / HTTP/1.1\r\n".to_vec(), many.collect()].concat(), &["431", "400", ""]),
        (b"\0\0\0\0\r\n\r\n".to_vec(), &["400"]),
        (b"POST /\xff\xfe\0 HTTP/1.1\r\n\r\n".to_vec(), &["400", ""]),
        (b"POST / HTTP/9.9\r\n\r\n".to_vec(), &["400", "505"]),
        (b"POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n".to_vec(), &["400"]),
        (b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n".to_vec(), &["400"]),
        (b"POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n".to_vec(), &["400"]),
        (b"POST / HTTP/1.1\r\nContent-Length: 9999999999\r\n\r\n[".to_vec(), &["413"]),
        // Longer than it says: the rest is a request that makes no sense.
        (b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n[]\0\xff junk\r\n\r\n".to_vec(), &["200"]),
        (
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n".to_vec(),
            &["400", ""],
        ),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[]zz\r\n".to_vec(), &["400"]),
        ([bomb.as_bytes(), &gzip].concat(), &["413"]),
    ];
    for (request, expected) in &cases {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let _ = stream.write_all(request).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let reading = stream.read_to_end(&mut answer);
        // A reset is an answer, too.
        let _ = tokio::time::timeout(StdDuration::from_secs(60), reading).await.expect("no answer");
        let answer = String::from_utf8_lossy(&answer);
        let shown = String::from_utf8_lossy(&request[..request.len().min(80)]);
        assert!(expected.contains(&status(&answer)), "{shown:?} gets {answer:?}");
        is_served(address).await;
    }
    source.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipelined_requests_are_answered_in_order() {
    let flow = Collector::new(Mode::Deliver);
    let (source, address) = start(&flow, json!({"format": "raw"})).await;
    let mut requests = Vec::new();
    for number in 0..100 {
        let close = if number == 99 { "Connection: close\r\n" } else { "" };
        // Every third one is none.
        let verb = if number % 3 == 0 { "GET" } else { "POST" };
        requests.extend(format!("{verb} / HTTP/1.1\r\n{close}Content-Length: 3\r\n\r\n{number:03}").bytes());
    }
    let answer = raw(address, &requests).await;
    let statuses: Vec<&str> = answer.split("HTTP/1.1 ").skip(1).map(|rest| &rest[..3]).collect();
    let expected: Vec<&str> = (0..100).map(|number| if number % 3 == 0 { "405" } else { "200" }).collect();
    assert_eq!(statuses, expected);
    source.stop().await.unwrap();
    let texts: Vec<String> =
        (0..100).filter(|number| number % 3 != 0).map(|number| format!("{number:03}")).collect();
    assert_eq!(flow.seen().texts(), texts);
}
