//! Whom a client connects to, and as whom.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::network::{Network, Tcp};

/// Where servers listen that name no port.
const CLIENT_PORT: u16 = 2181;

/// What [`Client::start`](super::Client::start) is told.
#[derive(Clone)]
pub struct ClientConfig {
    /// `host:port`, tried in turn from a random one on.
    pub servers: Vec<String>,
    /// The part of the tree that is the root: empty, or `/a/b`.
    pub chroot: String,
    /// What the session is asked to last without a word; the server may grant another time.
    pub session: Duration,
    /// Scheme and what it wants: `digest`, `user:password`.
    pub auth: Vec<(String, Vec<u8>)>,
    pub tls: Option<ClientTls>,
    pub network: Arc<dyn Network>,
}

/// TLS for the connections of a client; certificates must have the host of the address.
#[derive(Clone)]
pub struct ClientTls {
    pub config: Arc<rustls::ClientConfig>,
}

/// A list of servers that cannot be read, or a certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

impl ClientConfig {
    /// Reads a connect string: `zk1:2181,zk2:2181/part/of/the/tree`. A session of 10 s, TCP, nobody's name.
    ///
    /// # Errors
    ///
    /// No server, a port that is none, or a path that is none.
    pub fn parse(text: &str) -> Result<ClientConfig, ConfigError> {
        let (servers, chroot) = match text.find('/') {
            Some(at) => (&text[..at], text[at..].trim_end_matches('/')),
            None => (text, ""),
        };
        if !chroot.is_empty() {
            crate::proto::check_path(chroot, false)
                .map_err(|_| ConfigError(format!("`{chroot}` is no path of a znode")))?;
        }
        let servers: Vec<String> = servers
            .split(',')
            .map(str::trim)
            .filter(|server| !server.is_empty())
            .map(parse_server)
            .collect::<Result<_, _>>()?;
        if servers.is_empty() {
            return Err(ConfigError(format!("`{text}` names no server")));
        }
        Ok(ClientConfig {
            servers,
            chroot: chroot.to_owned(),
            session: Duration::from_secs(10),
            auth: Vec::new(),
            tls: None,
            network: Arc::new(Tcp),
        })
    }
}

/// With a host and a port: `:2181` is this machine, `zk1` has ZooKeeper's port.
fn parse_server(text: &str) -> Result<String, ConfigError> {
    let wrong = || ConfigError(format!("`{text}` is no address of a server (`host:port`)"));
    let (host, port) = match text.rsplit_once(':') {
        // An IPv6 address without a port.
        Some((_, port)) if port.contains(']') => (text, CLIENT_PORT),
        Some((host, port)) => (host, port.parse().map_err(|_| wrong())?),
        None => (text, CLIENT_PORT),
    };
    if port == 0 || host.chars().any(char::is_whitespace) {
        return Err(wrong());
    }
    let host = if host.is_empty() { "127.0.0.1" } else { host };
    Ok(format!("{host}:{port}"))
}

impl ClientTls {
    /// Trusts the authorities of a PEM file, and shows a certificate where servers ask for one.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, or that does not hold what it should.
    pub fn new(authorities: &Path, identity: Option<(&Path, &Path)>) -> Result<ClientTls, ConfigError> {
        let wrong =
            |path: &Path, reason: String| ConfigError(format!("cannot use `{}`: {reason}", path.display()));
        let mut roots = RootCertStore::empty();
        for certificate in read_certificates(authorities)? {
            roots.add(certificate).map_err(|error| wrong(authorities, error.to_string()))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| ConfigError(error.to_string()))?
            .with_root_certificates(roots);
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key_path)) => {
                let chain = read_certificates(certificate)?;
                let key = PrivateKeyDer::from_pem_file(key_path)
                    .map_err(|error| wrong(key_path, error.to_string()))?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| wrong(certificate, error.to_string()))?
            }
        };
        Ok(ClientTls { config: Arc::new(config) })
    }
}

/// The other end, for servers among themselves: those who connect must show a certificate of the authorities.
///
/// # Errors
///
/// A file that cannot be read, or that does not hold what it should.
pub fn server_tls(
    authorities: &Path,
    certificate: &Path,
    key_path: &Path,
) -> Result<Arc<rustls::ServerConfig>, ConfigError> {
    let wrong =
        |path: &Path, reason: String| ConfigError(format!("cannot use `{}`: {reason}", path.display()));
    let mut roots = RootCertStore::empty();
    for one in read_certificates(authorities)? {
        roots.add(one).map_err(|error| wrong(authorities, error.to_string()))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .build()
            .map_err(|error| wrong(authorities, error.to_string()))?;
    let key = PrivateKeyDer::from_pem_file(key_path).map_err(|error| wrong(key_path, error.to_string()))?;
    rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ConfigError(error.to_string()))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(read_certificates(certificate)?, key)
        .map(Arc::new)
        .map_err(|error| wrong(certificate, error.to_string()))
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let wrong = |reason: String| ConfigError(format!("cannot use `{}`: {reason}", path.display()));
    let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| wrong(error.to_string()))?;
    if certificates.is_empty() {
        return Err(wrong("it has no certificate".to_owned()));
    }
    Ok(certificates)
}

/// Without what nobody should read.
impl fmt::Debug for ClientConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientConfig")
            .field("servers", &self.servers)
            .field("chroot", &self.chroot)
            .field("session", &self.session)
            .field("tls", &self.tls.is_some())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connect_strings_are_servers_and_a_part_of_the_tree() {
        let config = ClientConfig::parse("zk1:2181, zk2,:2183,[::1]:7,[::2]/flow/a/").unwrap();
        assert_eq!(config.servers, ["zk1:2181", "zk2:2181", "127.0.0.1:2183", "[::1]:7", "[::2]:2181"]);
        assert_eq!(config.chroot, "/flow/a");
        assert_eq!(ClientConfig::parse("zk1/").unwrap().chroot, "");
        for wrong in ["", "/a", ",", "zk1:port", "zk1:0", "zk1:99999", "a b:1", "zk1:1/a//b", "zk1:1/a/../b"]
        {
            assert!(ClientConfig::parse(wrong).is_err(), "{wrong}");
        }
    }
}
