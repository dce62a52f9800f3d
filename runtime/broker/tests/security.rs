//! Logging in and being allowed, over the wire: by our own client, with TLS and without.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use flow_broker::client::{Client, ClientConfig, ClientError, ClientTls, Login, LoginMechanism};
use flow_broker::{AuthorizerConfig, Broker, BrokerConfig, TlsConfig, UserConfig};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::alter_user_scram_credentials_request::{
    ScramCredentialDeletion, ScramCredentialUpsertion,
};
use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::delete_acls_request::DeleteAclsFilter;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

const SCRAM_SHA_256: i8 = 1;
const TOPIC: i8 = 2;
const LITERAL: i8 = 3;
const ANY: i8 = 1;
const DENY: i8 = 2;
const ALLOW: i8 = 3;
const WRITE: i8 = 4;
const DESCRIBE: i8 = 8;

async fn broker_of(dir: &Path, change: impl FnOnce(&mut BrokerConfig)) -> Arc<Broker> {
    let mut config = BrokerConfig::new(dir);
    for name in ["root", "alice"] {
        config.users.push(UserConfig { name: name.to_owned(), password: format!("{name}'s secret") });
    }
    change(&mut config);
    Broker::start(config).await.unwrap()
}

fn config_of(broker: &Broker, user: &str, mechanism: LoginMechanism) -> ClientConfig {
    let mut config = ClientConfig::new(broker.address().to_string());
    let password = format!("{user}'s secret");
    config.login = Some(Login { mechanism, user: user.to_owned(), password });
    config
}

async fn client_of(broker: &Broker, user: &str) -> Client {
    Client::connect(config_of(broker, user, LoginMechanism::Plain)).await.unwrap()
}

fn text(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_mechanism_lets_in_who_knows_the_password_and_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let broker = broker_of(dir.path(), |_| ()).await;
    for mechanism in [LoginMechanism::Plain, LoginMechanism::ScramSha256, LoginMechanism::ScramSha512] {
        let mut config = config_of(&broker, "alice", mechanism);
        let client = Client::connect(config.clone()).await.unwrap();
        let metadata = client.metadata(Some(&["clicks"]), true).await.unwrap();
        assert_eq!(metadata.topics[0].error_code, 0);
        for (user, password) in [("alice", "guess"), ("mallory", "alice's secret")] {
            let (user, password) = (user.to_owned(), password.to_owned());
            config.login = Some(Login { mechanism, user, password });
            let refused = Client::connect(config.clone()).await.err();
            assert!(matches!(refused, Some(ClientError::Login(_))), "{mechanism:?}: {refused:?}");
        }
    }
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn before_login_only_what_leads_to_it_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let broker = broker_of(dir.path(), |_| ()).await;
    // The client asks for versions while it connects.
    let client = Client::connect(ClientConfig::new(broker.address().to_string())).await.unwrap();
    let refused = client.metadata(None, false).await;
    assert!(matches!(refused, Err(ClientError::Closed | ClientError::Io(_))), "{refused:?}");
    // Authentication without a handshake is an answer, and then the end.
    let client = Client::connect(ClientConfig::new(broker.address().to_string())).await.unwrap();
    let answer = client.call(&SaslAuthenticateRequest::default()).await.unwrap();
    assert_eq!(answer.error_code, ResponseError::IllegalSaslState.code());
    assert!(client.call(&SaslAuthenticateRequest::default()).await.is_err());
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_handshake_is_followed_by_bare_messages() {
    use std::io::{Read, Write};
    let dir = tempfile::tempdir().unwrap();
    let broker = broker_of(dir.path(), |_| ()).await;
    let address = broker.address();
    let speak = move || {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        let mut ask = |frame: &[u8]| {
            stream.write_all(&(frame.len() as i32).to_be_bytes()).unwrap();
            stream.write_all(frame).unwrap();
            let mut length = [0; 4];
            stream.read_exact(&mut length).unwrap();
            let mut answer = vec![0; i32::from_be_bytes(length) as usize];
            stream.read_exact(&mut answer).unwrap();
            answer
        };
        // SaslHandshake version 0, correlation id 5, no client id, `PLAIN`.
        let answer = ask(b"\0\x11\0\0\0\0\0\x05\xff\xff\0\x05PLAIN");
        assert_eq!(answer[..6], [0, 0, 0, 5, 0, 0]);
        assert!(ask(b"\0alice\0alice's secret").is_empty());
        // Metadata version 1 of no topic.
        let answer = ask(b"\0\x03\0\x01\0\0\0\x06\xff\xff\0\0\0\0");
        assert_eq!(answer[..4], [0, 0, 0, 6]);
    };
    tokio::task::spawn_blocking(speak).await.unwrap();
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_is_too_old_must_be_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let broker = broker_of(dir.path(), |config| config.reauthentication_ms = Some(3_600_000)).await;
    let client = client_of(&broker, "alice").await;
    let again = |user: &'static str| {
        let client = &client;
        async move {
            let handshake = SaslHandshakeRequest::default().with_mechanism(text("PLAIN"));
            assert_eq!(client.call(&handshake).await.unwrap().error_code, 0);
            let message = format!("\0{user}\0{user}'s secret").into_bytes();
            let request = SaslAuthenticateRequest::default().with_auth_bytes(message.into());
            client.call(&request).await.unwrap()
        }
    };
    let answer = again("alice").await;
    assert_eq!((answer.error_code, answer.session_lifetime_ms), (0, 3_600_000));
    assert!(client.metadata(None, false).await.is_ok());
    // Another user would inherit what the connection did before.
    assert_eq!(again("root").await.error_code, ResponseError::SaslAuthenticationFailed.code());
    assert!(client.metadata(None, false).await.is_err());
    broker.shutdown().await;
}

fn acl(principal: &'static str, operation: i8, permission: i8) -> AclCreation {
    AclCreation::default()
        .with_resource_type(TOPIC)
        .with_resource_name(text("clicks"))
        .with_resource_pattern_type(LITERAL)
        .with_principal(text(principal))
        .with_host(text("*"))
        .with_operation(operation)
        .with_permission_type(permission)
}

async fn topic_error(client: &Client, topic: &str) -> i16 {
    client.metadata(Some(&[topic]), true).await.unwrap().topics[0].error_code
}

fn authorizer(config: &mut BrokerConfig) {
    let super_users = vec!["User:root".to_owned()];
    config.authorizer = Some(AuthorizerConfig { super_users, allow_everyone_without_acl: false });
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_hold_at_once_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let broker = broker_of(dir.path(), authorizer).await;
    let (root, alice) = (client_of(&broker, "root").await, client_of(&broker, "alice").await);
    let denied = ResponseError::TopicAuthorizationFailed.code();
    assert_eq!(topic_error(&root, "clicks").await, 0);
    assert_eq!(topic_error(&alice, "clicks").await, denied);
    // Alice may not give herself rights.
    let create = |creations| CreateAclsRequest::default().with_creations(creations);
    let answer = alice.call(&create(vec![acl("User:alice", WRITE, ALLOW)])).await.unwrap();
    assert_eq!(answer.results[0].error_code, ResponseError::ClusterAuthorizationFailed.code());
    let wrong = acl("alice", WRITE, ALLOW);
    let answer = root.call(&create(vec![wrong, acl("User:alice", WRITE, ALLOW)])).await.unwrap();
    let codes: Vec<i16> = answer.results.iter().map(|result| result.error_code).collect();
    assert_eq!(codes, [ResponseError::InvalidRequest.code(), 0]);
    assert_eq!(topic_error(&alice, "clicks").await, 0);
    // She sees what she may, and what she may do there: write (4) and describe (8).
    let request = MetadataRequest::default().with_topics(None).with_include_topic_authorized_operations(true);
    let metadata = alice.call(&request).await.unwrap();
    let seen: Vec<_> = metadata.topics.iter().map(|topic| topic.topic_authorized_operations).collect();
    assert_eq!(seen, [1 << WRITE | 1 << DESCRIBE]);
    assert_eq!(topic_error(&alice, "other").await, denied);
    drop((root, alice));
    broker.shutdown().await;
    drop(broker);

    let broker = broker_of(dir.path(), authorizer).await;
    let (root, alice) = (client_of(&broker, "root").await, client_of(&broker, "alice").await);
    assert_eq!(topic_error(&alice, "clicks").await, 0);
    root.call(&create(vec![acl("User:*", DESCRIBE, DENY)])).await.unwrap();
    assert_eq!(topic_error(&alice, "clicks").await, denied);
    let filter = DeleteAclsFilter::default()
        .with_resource_type_filter(TOPIC)
        .with_resource_name_filter(None)
        .with_pattern_type_filter(ANY)
        .with_principal_filter(None)
        .with_host_filter(None)
        .with_operation(ANY)
        .with_permission_type(DENY);
    let deleted = root.call(&DeleteAclsRequest::default().with_filters(vec![filter])).await.unwrap();
    assert_eq!(deleted.filter_results[0].matching_acls.len(), 1);
    assert_eq!(topic_error(&alice, "clicks").await, 0);
    let all = DescribeAclsRequest::default()
        .with_resource_type_filter(ANY)
        .with_resource_name_filter(None)
        .with_pattern_type_filter(ANY)
        .with_principal_filter(None)
        .with_host_filter(None)
        .with_operation(ANY)
        .with_permission_type(ANY);
    let described = root.call(&all).await.unwrap();
    assert_eq!(described.resources.len(), 1);
    assert_eq!(described.resources[0].acls[0].principal, text("User:alice"));
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_authorizer_there_are_no_rules() {
    let dir = tempfile::tempdir().unwrap();
    let broker = broker_of(dir.path(), |_| ()).await;
    let alice = client_of(&broker, "alice").await;
    let request = CreateAclsRequest::default().with_creations(vec![acl("User:alice", WRITE, DENY)]);
    let answer = alice.call(&request).await.unwrap();
    assert_eq!(answer.results[0].error_code, ResponseError::SecurityDisabled.code());
    assert_eq!(topic_error(&alice, "clicks").await, 0);
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_a_client_sets_are_good_for_logging_in() {
    let dir = tempfile::tempdir().unwrap();
    let broker = broker_of(dir.path(), |_| ()).await;
    let root = client_of(&broker, "root").await;
    // What a client derives of `bob's secret`, the salt `salt` and 4096 rounds.
    let mut salted = [0; 32];
    pbkdf2::pbkdf2::<hmac::Hmac<sha2::Sha256>>(b"bob's secret", b"salt", 4096, &mut salted).unwrap();
    let upsertion = ScramCredentialUpsertion::default()
        .with_name(text("bob"))
        .with_mechanism(SCRAM_SHA_256)
        .with_iterations(4096)
        .with_salt(b"salt".as_slice().into())
        .with_salted_password(salted.to_vec().into());
    let weak = upsertion.clone().with_name(text("eve")).with_iterations(10);
    let request = AlterUserScramCredentialsRequest::default().with_upsertions(vec![upsertion, weak]);
    let answer = root.call(&request).await.unwrap();
    let codes: Vec<i16> = answer.results.iter().map(|result| result.error_code).collect();
    assert_eq!(codes, [0, ResponseError::UnacceptableCredential.code()]);
    let bob = config_of(&broker, "bob", LoginMechanism::ScramSha256);
    Client::connect(bob.clone()).await.unwrap();
    // Not with a mechanism that nothing was set for.
    assert!(Client::connect(config_of(&broker, "bob", LoginMechanism::ScramSha512)).await.is_err());
    let users = root.call(&DescribeUserScramCredentialsRequest::default()).await.unwrap();
    assert_eq!(users.results.len(), 1);
    assert_eq!(users.results[0].credential_infos[0].iterations, 4096);
    let deletion = ScramCredentialDeletion::default().with_name(text("bob")).with_mechanism(SCRAM_SHA_256);
    let request = AlterUserScramCredentialsRequest::default().with_deletions(vec![deletion]);
    let codes = |answer: AlterUserScramCredentialsResponse| answer.results[0].error_code;
    assert_eq!(codes(root.call(&request).await.unwrap()), 0);
    assert_eq!(codes(root.call(&request).await.unwrap()), ResponseError::ResourceNotFound.code());
    assert!(Client::connect(bob).await.is_err());
    broker.shutdown().await;
}

/// An authority, and files of a certificate that it signed.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Authority { issuer }
    }

    /// Certificate and key in PEM.
    fn sign(&self, name: &str) -> (String, String) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CountryName, "DE");
        params.distinguished_name.push(DnType::OrganizationName, "Example, Inc.");
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    fn client(&self, own: Option<(String, String)>) -> ClientTls {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match own {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        ClientTls { config: Arc::new(config), server_name: Some("localhost".to_owned()) }
    }
}

fn tls_files(dir: &Path, authority: &Authority, clients: Option<&Authority>) -> TlsConfig {
    let write = |name: &str, text: String| {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (certificate, key) = authority.sign("broker");
    TlsConfig {
        certificate: write("broker.pem", certificate),
        private_key: write("broker.key", key),
        client_ca: clients.map(|clients| write("clients.pem", clients.issuer.pem())),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_go_over_tls_with_a_login_inside() {
    let (dir, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let authority = Authority::new();
    let tls = tls_files(files.path(), &authority, None);
    let broker = broker_of(dir.path(), |config| config.listeners[0].tls = Some(tls)).await;
    let mut config = config_of(&broker, "alice", LoginMechanism::ScramSha512);
    config.tls = Some(authority.client(None));
    let client = Client::connect(config.clone()).await.unwrap();
    round_trip(&client).await;
    // A broker that nobody vouches for is no broker.
    config.tls = Some(Authority::new().client(None));
    assert!(matches!(Client::connect(config).await, Err(ClientError::Connect { .. })));
    broker.shutdown().await;
}

/// Produces more than a socket takes at once, and fetches it.
async fn round_trip(client: &Client) {
    use flow_log::batch::{Builder, BuilderOptions};
    client.metadata(Some(&["large"]), true).await.unwrap();
    let value: Vec<u8> = (0..700_000u32).map(|at| (at * 7 + at / 251) as u8).collect();
    let mut sent = Vec::new();
    let mut pending = Vec::new();
    for _ in 0..4 {
        let mut batch = Builder::new(BuilderOptions::default());
        batch.push(1, None, Some(&value), std::iter::empty());
        let batch = batch.finish();
        pending.push(client.produce("large", 0, -1, batch.clone().into()).await.unwrap());
        sent.push(batch);
    }
    for (at, pending) in pending.into_iter().enumerate() {
        assert_eq!(pending.await.unwrap().base_offset, at as i64);
    }
    let fetched = client.fetch(&flow_broker::client::FetchFrom::new("large", 0, 0)).await.unwrap();
    assert_eq!(fetched.high_watermark, 4);
    // Behind the base offset, length and leader epoch, which are the broker's, every byte is as it was sent.
    assert_eq!(fetched.records.len(), sent.iter().map(Vec::len).sum::<usize>());
    assert_eq!(fetched.records[16..sent[0].len()], sent[0][16..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_go_over_a_plain_connection() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(BrokerConfig::new(dir.path())).await.unwrap();
    let client = Client::connect(ClientConfig::new(broker.address().to_string())).await.unwrap();
    round_trip(&client).await;
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_subject_of_a_client_certificate_is_its_principal() {
    let (dir, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (brokers, clients) = (Authority::new(), Authority::new());
    let tls = tls_files(files.path(), &brokers, Some(&clients));
    let mut config = BrokerConfig::new(dir.path());
    config.listeners[0].tls = Some(tls);
    let super_users = vec!["User:CN=carol,O=Example\\, Inc.,C=DE".to_owned()];
    config.authorizer = Some(AuthorizerConfig { super_users, allow_everyone_without_acl: false });
    let broker = Broker::start(config).await.unwrap();
    let address: SocketAddr = broker.address();
    let connect = |own| {
        let mut config = ClientConfig::new(address.to_string());
        config.tls = Some(brokers.client(own));
        Client::connect(config)
    };
    let carol = connect(Some(clients.sign("carol"))).await.unwrap();
    assert_eq!(topic_error(&carol, "clicks").await, 0);
    let dave = connect(Some(clients.sign("dave"))).await.unwrap();
    assert_eq!(topic_error(&dave, "clicks").await, ResponseError::TopicAuthorizationFailed.code());
    // No certificate, or one of somebody else.
    assert!(connect(None).await.is_err());
    assert!(connect(Some(brokers.sign("carol"))).await.is_err());
    broker.shutdown().await;
}
