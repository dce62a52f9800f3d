//! The byte stream of a client: TCP, perhaps with TLS over it.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{ClientConfig, ClientError};

pub(super) type Read = Box<dyn AsyncRead + Send + Unpin>;
pub(super) type Write = Box<dyn AsyncWrite + Send + Unpin>;

/// TLS towards a broker.
#[derive(Clone)]
pub struct ClientTls {
    pub config: Arc<rustls::ClientConfig>,
    /// The name that the broker's certificate must have. `None`: the host of the address.
    pub server_name: Option<String>,
}

impl ClientTls {
    /// TLS that trusts the authorities in a PEM file.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, or that has no certificate.
    pub fn trusting(authorities: &std::path::Path) -> Result<ClientTls, String> {
        use rustls::pki_types::CertificateDer;
        use rustls::pki_types::pem::PemObject;
        let mut roots = rustls::RootCertStore::empty();
        let certificates = CertificateDer::pem_file_iter(authorities).map_err(|error| error.to_string())?;
        for certificate in certificates {
            let certificate = certificate.map_err(|error| error.to_string())?;
            roots.add(certificate).map_err(|error| error.to_string())?;
        }
        if roots.is_empty() {
            return Err("it has no certificate".to_owned());
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(ClientTls { config: Arc::new(config), server_name: None })
    }
}

pub(super) async fn connect(config: &ClientConfig) -> Result<(Read, Write), ClientError> {
    let failed = |reason: String| ClientError::Connect { address: config.address.clone(), reason };
    let stream = TcpStream::connect(&config.address).await.map_err(|error| failed(error.to_string()))?;
    stream.set_nodelay(true)?;
    let Some(tls) = &config.tls else {
        let (read, write) = stream.into_split();
        return Ok((Box::new(read), Box::new(write)));
    };
    let host = config.address.rsplit_once(':').map_or(&*config.address, |(host, _)| host);
    let name = tls.server_name.as_deref().unwrap_or(host.trim_matches(['[', ']']));
    let name = ServerName::try_from(name.to_owned()).map_err(|error| failed(error.to_string()))?;
    let connector = TlsConnector::from(Arc::clone(&tls.config));
    let stream = connector.connect(name, stream).await.map_err(|error| failed(error.to_string()))?;
    let (read, write) = tokio::io::split(stream);
    Ok((Box::new(read), Box::new(write)))
}
