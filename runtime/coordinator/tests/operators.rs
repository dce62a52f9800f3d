//! The admin page, TLS of the client port, and who clients are.

mod support;

use std::sync::Arc;

use flow_coordinator::proto::*;
use flow_coordinator::server::{TlsConfig, digest};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::Value;
use support::{Client, Packet, Running, create};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

async fn fetch(address: &str, head: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.write_all(head.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer);
    tokio::time::timeout(support::PATIENCE, read).await.expect("in time").expect("an answer");
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    (status, body)
}

async fn get(address: &str, path: &str) -> (u16, String) {
    fetch(address, &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await
}

async fn get_json(address: &str, path: &str) -> Value {
    let (status, body) = get(address, path).await;
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_page_tells_what_monitors_read() {
    let server = Running::start(|config| config.admin = Some("127.0.0.1:0".to_owned())).await;
    let address = server.coordinator.admin_address().expect("an admin page").to_owned();
    let mut client = server.client().await;
    assert!(client.call(&create("/a", 1)).await.is_ok());
    assert!(client.get("/a", true).await.is_ok());
    let (status, index) = get(&address, "/commands").await;
    assert_eq!(status, 200);
    // Every page that is named is there, says its name, and has no error.
    let mut pages = 0;
    for name in index.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
        let page = get_json(&address, name).await;
        assert_eq!(page["command"], name.trim_start_matches("/commands/"));
        assert!(page["error"].is_null(), "{page}");
        pages += 1;
    }
    assert!(pages > 20);
    let monitor = get_json(&address, "/commands/mntr").await;
    assert_eq!(monitor["server_state"], "standalone");
    assert_eq!((&monitor["znode_count"], &monitor["watch_count"]), (&5.into(), &1.into()));
    let stats = get_json(&address, "/commands/stat").await;
    assert_eq!(stats["node_count"], 5);
    assert_eq!(stats["connections"][0]["session_id"], format!("0x{:x}", client.session.session));
    assert_eq!(get_json(&address, "/commands/isro").await["read_only"], false);
    assert_eq!(get_json(&address, "/commands/configuration").await["tick_time"], 500);
    assert_eq!(get(&address, "/ready").await, (200, "ready\n".to_owned()));
    let (_, metrics) = get(&address, "/metrics").await;
    assert!(
        metrics.contains("\nznode_count 5\n") && metrics.contains("server_state{state=\"standalone\"} 1")
    );
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        let (_, number) = line.rsplit_once(' ').expect("a number");
        assert!(number.parse::<f64>().is_ok(), "{line}");
    }
    for wrong in ["/", "/commands/none", "/commands/../ready", "/x"] {
        assert_eq!(get(&address, wrong).await.0, 404, "{wrong}");
    }
    assert_eq!(
        fetch(&address, "POST /commands/srst HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.0,
        405
    );
    let giant = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(15_000));
    assert_eq!(
        fetch(&address, &format!("{}\r\n", giant.trim_end().to_owned() + "\r\nConnection: close\r\n"))
            .await
            .0,
        404
    );
    let mut stream = TcpStream::connect(&address).await.expect("a connection");
    let _ = stream.write_all(format!("GET /{} HTTP/1.1\r\n", "x".repeat(1 << 20)).as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
}

/// A certificate with its key, signed by another or by itself.
struct Signed {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

fn authority() -> (Signed, CertificateParams) {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("a certificate");
    (Signed { certificate, key }, params)
}

fn signed(by: &Signed, params: &CertificateParams, name: &str, host: &str) -> Signed {
    let mut own = CertificateParams::new(vec![host.to_owned()]).expect("parameters");
    own.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().expect("a key");
    let issuer = Issuer::from_params(params, &by.key);
    let certificate = own.signed_by(&key, &issuer).expect("a certificate");
    Signed { certificate, key }
}

fn connector(authority: &Signed, own: Option<&Signed>) -> TlsConnector {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.certificate.der().clone()).expect("a root");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots);
    let config = match own {
        None => builder.with_no_client_auth(),
        Some(own) => {
            let chain = vec![CertificateDer::from(own.certificate.der().to_vec())];
            let key = PrivateKeyDer::try_from(own.key.serialize_der()).expect("a key");
            builder.with_client_auth_cert(chain, key).expect("a client's certificate")
        }
    };
    TlsConnector::from(Arc::new(config))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_says_who_a_client_is() {
    let (root, params) = authority();
    let of_server = signed(&root, &params, "server", "localhost");
    let of_alice = signed(&root, &params, "alice", "alice.example");
    let files = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: String| {
        let path = files.path().join(name);
        std::fs::write(&path, text).expect("written");
        path
    };
    let tls = TlsConfig {
        certificate: write("server.pem", of_server.certificate.pem()),
        private_key: write("server.key", of_server.key.serialize_pem()),
        client_ca: Some(write("root.pem", root.certificate.pem())),
        client_required: false,
    };
    let server = Running::start(|config| config.tls = Some(tls)).await;
    let connect = async |own: Option<&Signed>| {
        let name = ServerName::try_from("localhost").expect("a name");
        let stream = connector(&root, own).connect(name, server.raw().await).await.expect("TLS");
        Client::begin(stream).await
    };
    let mut alice = connect(Some(&of_alice)).await;
    let Ok(Response::WhoAmI(ids)) = alice.call(&Request::WhoAmI).await else { panic!("nobody") };
    assert!(ids.contains(&Id { scheme: "x509".into(), id: "CN=alice".into() }), "{ids:?}");
    let acl = vec![Acl { perms: perms::ALL, id: Id { scheme: "x509".into(), id: "CN=alice".into() } }];
    let Request::Create(mut secret) = create("/secret", 0) else { panic!("no create") };
    secret.acl = acl;
    assert!(alice.call(&Request::Create(secret)).await.is_ok());
    assert!(alice.get("/secret", false).await.is_ok());
    let mut nobody = connect(None).await;
    assert_eq!(nobody.get("/secret", false).await, Err(Code::NoAuth));
    // More than the socket takes at once, and nothing behind it that would push it out.
    let large = Some(bytes::Bytes::from(vec![b'x'; 900_000]));
    assert!(nobody.call(&create("/large", 0)).await.is_ok());
    assert!(nobody.call(&Request::SetData { path: "/large".into(), data: large, version: -1 }).await.is_ok());
    for _ in 0..20 {
        nobody.send(&Request::GetData { path: "/large".into(), watch: false }).await;
    }
    for _ in 0..20 {
        assert!(nobody.reply(op::GET_DATA).await.1.is_ok());
    }
    // What is no TLS at all gets no session.
    let mut raw = server.raw().await;
    raw.write_all(&[0, 0, 0, 45, 0, 0, 0, 0]).await.expect("sent");
    let mut rest = Vec::new();
    let _ = raw.read_to_end(&mut rest).await;
    // At most an alert of TLS (its first byte is 21).
    assert!(rest.is_empty() || rest[0] == 21, "{rest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_super_user_passes_and_a_failed_auth_ends_the_connection() {
    let server = Running::start(|config| config.super_digest = Some(digest("root:secret"))).await;
    let mut owner = server.client().await;
    let auth = |text: &'static [u8]| Request::Auth {
        kind: 0,
        scheme: "digest".into(),
        auth: bytes::Bytes::from_static(text),
    };
    owner.send(&auth(b"ann:pw")).await;
    assert_eq!(owner.reply(op::AUTH).await.1, Ok(Response::Empty));
    let Request::Create(mut own) = create("/own", 0) else { panic!("no create") };
    own.acl = vec![Acl { perms: perms::ALL, id: Id { scheme: "auth".into(), id: String::new() } }];
    assert!(owner.call(&Request::Create(own)).await.is_ok());
    let mut other = server.client().await;
    // A watch on what one may not read tells nothing.
    let watch = Request::AddWatch { path: "/own".into(), mode: 0 };
    assert_eq!(other.call(&watch).await, Ok(Response::ErrorResponse(0)));
    assert_eq!(other.get("/own", false).await, Err(Code::NoAuth));
    assert!(owner.set("/own", b"new").await.is_ok());
    other.send(&auth(b"root:wrong")).await;
    assert!(other.reply(op::AUTH).await.1.is_ok());
    assert_eq!(other.get("/own", false).await, Err(Code::NoAuth));
    assert!(other.events.is_empty());
    other.send(&auth(b"root:secret")).await;
    assert!(other.reply(op::AUTH).await.1.is_ok());
    assert!(other.get("/own", false).await.is_ok());
    assert!(owner.set("/own", b"newer").await.is_ok());
    assert!(matches!(other.packet().await, Packet::Event(_, event) if event.path == "/own"));
    let xid =
        other.send(&Request::Auth { kind: 0, scheme: "nosuch".into(), auth: bytes::Bytes::new() }).await;
    let (header, result) = other.reply(op::AUTH).await;
    assert_eq!((header.xid, result), (xid, Err(Code::AuthFailed)));
    other.closed().await;
}

/// A client that numbers its `auth` packets like all others waited for ever: the answer carried the number that most
/// clients keep for it, and it took the connection for broken, again and again.
#[tokio::test(flavor = "multi_thread")]
async fn an_auth_packet_is_answered_with_its_own_number() {
    let server = Running::start(|_| {}).await;
    let mut one = server.client().await;
    for (xid, scheme, expected) in [
        (XID_AUTH, "digest", Ok(Response::Empty)),
        (7, "digest", Ok(Response::Empty)),
        (8, "nosuch", Err(Code::AuthFailed)),
    ] {
        let auth = Request::Auth { kind: 0, scheme: scheme.into(), auth: bytes::Bytes::from_static(b"a:b") };
        let mut packet = Vec::new();
        encode_request_header(RequestHeader { xid, op: op::AUTH }, &mut packet);
        encode_request(&auth, &mut packet);
        support::send_packet(&mut one.stream, &packet).await;
        let (header, result) = one.reply(op::AUTH).await;
        assert_eq!((header.xid, result), (xid, expected));
    }
}
