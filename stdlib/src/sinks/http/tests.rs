//! The sink against a server that answers as it is told.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flow_agent::{Sink, SinkError};
use flow_plan::Settings;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::header::HeaderMap;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::client::parse_retry_after;
use super::{RETRY_AFTER_MAX, http, prepare};
use crate::sinks::files::tests::{batch, context};

/// What the server does with a request.
#[derive(Clone)]
enum Say {
    Status(u16, &'static str),
    RetryAfter(u16, &'static str),
    /// Nothing, ever.
    Silence,
    /// Closes the connection.
    HangUp,
}

/// Method and path, headers, body.
type Seen = (String, HeaderMap, Vec<u8>);

#[derive(Clone, Default)]
struct Server {
    script: Arc<Mutex<VecDeque<Say>>>,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<Mutex<usize>>,
}

impl Server {
    async fn start(script: Vec<Say>) -> (Server, String) {
        let server = Server { script: Arc::new(Mutex::new(script.into())), ..Server::default() };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/in?key=1", listener.local_addr().unwrap());
        let accepting = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                *accepting.connections.lock().unwrap() += 1;
                let serving = accepting.clone();
                let service = service_fn(move |request| serving.clone().answer(request));
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        (server, url)
    }

    async fn answer(
        self,
        request: Request<hyper::body::Incoming>,
    ) -> Result<Response<Full<Bytes>>, Box<dyn std::error::Error + Send + Sync>> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes().to_vec();
        self.seen.lock().unwrap().push((format!("{} {}", parts.method, parts.uri), parts.headers, body));
        let say = self.script.lock().unwrap().pop_front().unwrap_or(Say::Status(200, ""));
        match say {
            Say::Status(status, text) => Ok(Response::builder().status(status).body(Full::from(text))?),
            Say::RetryAfter(status, after) => {
                Ok(Response::builder().status(status).header("retry-after", after).body(Full::default())?)
            }
            Say::Silence => std::future::pending::<Result<_, Infallible>>().await.map_err(Into::into),
            Say::HangUp => Err("hang up".into()),
        }
    }

    fn bodies(&self) -> Vec<String> {
        let seen = self.seen.lock().unwrap();
        seen.iter().map(|(_, _, body)| String::from_utf8_lossy(body).into_owned()).collect()
    }
}

fn settings(url: &str, changes: Value) -> Settings {
    let mut settings = json!({
        "url": url, "method": "POST", "format": "lines", "content_type": null, "headers": {},
        "batch": 1000, "bytes": 8 << 20, "timeout": 20_000_000_000_u64, "connect": 5_000_000_000_u64,
        "user": null, "password": null, "token": null, "compress": "none", "ca": null, "confirm": "response",
    });
    for (name, value) in changes.as_object().unwrap() {
        settings[name] = value.clone();
    }
    settings.as_object().unwrap().clone()
}

fn sink(url: &str, changes: Value) -> Box<dyn Sink> {
    http(&settings(url, changes), &context(Path::new("/nowhere"))).unwrap()
}

#[tokio::test]
async fn events_go_together_as_far_as_they_may() {
    let (server, url) = Server::start(vec![]).await;
    let mut lines = sink(&url, json!({"batch": 2}));
    lines.write(&[batch(&["one", "two"]), batch(&["three"])]).await.unwrap();
    let mut bytes = sink(&url, json!({"bytes": 10, "format": "json", "method": "PUT"}));
    bytes.write(&[batch(&["four", "five"])]).await.unwrap();
    let mut raw = sink(&url, json!({"format": "raw"}));
    assert_eq!(raw.batch_events_max(), 1);
    raw.write(&[batch(&["six"])]).await.unwrap();
    let json =
        |body| format!("[{{\"time\":\"2023-11-14T22:13:20.000Z\",\"headers\":{{}},\"body\":\"{body}\"}}]");
    assert_eq!(server.bodies(), ["one\ntwo\n", "three\n", &json("four"), &json("five"), "six"]);
    let seen = server.seen.lock().unwrap();
    assert_eq!((seen[0].0.as_str(), seen[2].0.as_str()), ("POST /in?key=1", "PUT /in?key=1"));
    assert_eq!(seen[2].1["content-type"], "application/json");
    assert_eq!(*server.connections.lock().unwrap(), 3, "a sink keeps its connection");
}

#[tokio::test]
async fn what_an_answer_means() {
    for (status, retry) in [
        (500, true),
        (503, true),
        (408, true),
        (425, true),
        (429, true),
        (401, true),
        (302, true),
        (400, false),
        (404, false),
        (413, false),
        (422, false),
    ] {
        let (_, url) = Server::start(vec![Say::Status(status, "no\nway\x1b")]).await;
        let mut sink = sink(&url, json!({}));
        let error = sink.write(&[batch(&["one"])]).await.unwrap_err();
        assert_eq!(matches!(error, SinkError::Retry(_)), retry, "{status}");
        assert_eq!(matches!(error, SinkError::Refused(_)), !retry, "{status}");
        let message = error.to_string();
        assert!(message.contains(&status.to_string()) && message.ends_with(": no way"), "{message:?}");
        assert!(!message.contains("key=1"), "a query is not shown: {message}");
        sink.write(&[batch(&["one"])]).await.unwrap();
    }
}

#[tokio::test]
async fn without_confirmation_any_answer_will_do() {
    let (_, url) = Server::start(vec![Say::Status(500, ""), Say::HangUp]).await;
    let mut sink = sink(&url, json!({"confirm": "none"}));
    sink.write(&[batch(&["one"])]).await.unwrap();
    assert!(matches!(sink.write(&[batch(&["two"])]).await, Err(SinkError::Retry(_))));
}

#[tokio::test]
async fn a_pause_that_the_server_asks_for_is_kept() {
    let (server, url) = Server::start(vec![Say::RetryAfter(429, "100")]).await;
    let mut sink = prepare(&settings(&url, json!({})), &context(Path::new("/nowhere"))).unwrap();
    let before = Instant::now();
    assert!(matches!(sink.write(&[batch(&["one"])]).await, Err(SinkError::Retry(_))));
    let until = sink.not_before.unwrap();
    assert!(until >= before + Duration::from_secs(100) && until <= Instant::now() + Duration::from_secs(100));
    // The next attempt waits for it instead of asking.
    let again = [batch(&["one"])];
    tokio::select! {
        biased;
        done = sink.write(&again) => panic!("{done:?}"),
        () = tokio::task::yield_now() => {}
    }
    assert_eq!(server.bodies().len(), 1);
    // However long the server wants it, there is an end.
    let (_, url) = Server::start(vec![Say::RetryAfter(503, "99999999999")]).await;
    let mut sink = prepare(&settings(&url, json!({})), &context(Path::new("/nowhere"))).unwrap();
    assert!(sink.write(&[batch(&["one"])]).await.is_err());
    assert!(sink.not_before.unwrap() <= Instant::now() + RETRY_AFTER_MAX);
}

#[tokio::test]
async fn silence_and_broken_connections_are_tried_again() {
    let (_, url) = Server::start(vec![Say::Silence, Say::HangUp]).await;
    let mut sink = sink(&url, json!({"timeout": 50_000_000}));
    let error = sink.write(&[batch(&["one"])]).await.unwrap_err();
    assert!(
        matches!(&error, SinkError::Retry(fault) if fault.message.contains("no answer within 50ms")),
        "{error}"
    );
    let (_, url) = Server::start(vec![Say::HangUp]).await;
    let mut sink = self::sink(&url, json!({}));
    assert!(matches!(sink.write(&[batch(&["one"])]).await, Err(SinkError::Retry(_))));
    sink.write(&[batch(&["one"])]).await.unwrap();
    let mut sink = self::sink("http://127.0.0.1:1/", json!({}));
    let error = sink.write(&[batch(&["one"])]).await.unwrap_err();
    assert!(error.to_string().contains("connection refused"), "{error}");
}

#[tokio::test]
async fn credentials_and_compression() {
    let (server, url) = Server::start(vec![]).await;
    let mut one = sink(&url, json!({"user": "ann", "password": {"secret": "pw"}, "compress": "gzip"}));
    one.write(&[batch(&["one"])]).await.unwrap();
    let changes = json!({"token": {"literal": "t"}, "compress": "zstd", "headers": {"X-Site": "paris"}});
    let mut two = sink(&url, changes);
    two.write(&[batch(&["two"])]).await.unwrap();
    let seen = server.seen.lock().unwrap();
    assert_eq!(seen[0].1["authorization"], "Basic YW5uOmdlaGVpbQ==");
    assert_eq!(seen[0].1["content-encoding"], "gzip");
    let mut text = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&seen[0].2[..]), &mut text).unwrap();
    assert_eq!(text, "one\n");
    assert_eq!(
        (&seen[1].1["authorization"], &seen[1].1["x-site"]),
        (&"Bearer t".parse().unwrap(), &"paris".parse().unwrap())
    );
    assert_eq!(zstd::decode_all(&seen[1].2[..]).unwrap(), b"two\n");
}

#[test]
fn settings_that_cannot_work_are_refused() {
    for (url, changes, setting) in [
        ("ftp://x/", json!({}), "url"),
        ("https://ann:pw@x/", json!({}), "url"),
        ("http://x/", json!({"headers": {"a b": "c"}}), "headers"),
        ("http://x/", json!({"headers": {"a": "c\n"}}), "headers"),
        ("http://x/", json!({"user": "a", "token": {"literal": "t"}}), "token"),
        ("https://x/", json!({"ca": "/nowhere/ca.pem"}), "ca"),
    ] {
        let fault = http(&settings(url, changes), &context(Path::new("/nowhere"))).err().unwrap();
        assert_eq!(fault.setting, Some(setting), "{fault}");
        assert!(!fault.message.contains("pw@"), "{fault}");
    }
}

#[test]
fn pauses_are_seconds_or_dates() {
    let now: jiff::Timestamp = "2026-11-23T10:00:00Z".parse().unwrap();
    assert_eq!(parse_retry_after(" 7 ", now), Some(Duration::from_secs(7)));
    assert_eq!(parse_retry_after("Mon, 23 Nov 2026 10:01:00 GMT", now), Some(Duration::from_secs(60)));
    assert_eq!(parse_retry_after("Mon, 23 Nov 2026 09:00:00 GMT", now), None);
    assert_eq!(parse_retry_after("soon", now), None);
}

/// A TLS server for one request, with the certificate of `fixtures/`; gives its port.
fn tls_server() -> u16 {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use std::io::{BufRead, BufReader, Read, Write};

    let certificate = CertificateDer::from_pem_slice(include_bytes!("fixtures/localhost.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("fixtures/localhost.key.pem")).unwrap();
    let provider = rustls::crypto::ring::default_provider();
    let config = rustls::ServerConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || -> std::io::Result<()> {
        let (tcp, _) = listener.accept()?;
        let tls = rustls::ServerConnection::new(Arc::new(config)).map_err(std::io::Error::other)?;
        let mut stream = BufReader::new(rustls::StreamOwned::new(tls, tcp));
        let mut length = 0;
        loop {
            let mut line = String::new();
            stream.read_line(&mut line)?;
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
            if line.trim().is_empty() {
                break;
            }
        }
        stream.read_exact(&mut vec![0; length])?;
        stream.get_mut().write_all(b"HTTP/1.1 204 No Content\r\n\r\n")?;
        stream.get_mut().flush()
    });
    port
}

#[tokio::test]
async fn an_authority_of_ones_own_is_trusted_and_only_when_it_is_given() {
    let ca = concat!(env!("CARGO_MANIFEST_DIR"), "/src/sinks/http/fixtures/ca.pem");
    let mut own = sink(&format!("https://localhost:{}/", tls_server()), json!({ "ca": ca }));
    own.write(&[batch(&["one"])]).await.unwrap();
    let mut public = sink(&format!("https://localhost:{}/", tls_server()), json!({}));
    let error = public.write(&[batch(&["one"])]).await.unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
}
