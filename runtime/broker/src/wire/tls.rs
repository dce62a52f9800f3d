//! TLS of a listener: certificate, key, and whose certificates clients may show.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use crate::broker::StartError;
use crate::config::TlsConfig;

pub(super) fn acceptor(listener: &str, files: &TlsConfig) -> Result<TlsAcceptor, StartError> {
    let failed = |reason: String| StartError::Tls { name: listener.to_owned(), reason };
    server_config(files).map(|config| TlsAcceptor::from(Arc::new(config))).map_err(failed)
}

fn server_config(files: &TlsConfig) -> Result<ServerConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| in_file(path, &error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().map_err(|error| in_file(path, &error))?)
        }
    };
    let key = PrivateKeyDer::from_pem_file(&files.private_key)
        .map_err(|error| in_file(&files.private_key, &error))?;
    builder
        .with_single_cert(certificates(&files.certificate)?, key)
        .map_err(|error| in_file(&files.private_key, &error))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let all = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match all.map_err(|error| in_file(path, &error))? {
        all if all.is_empty() => Err(format!("`{}` has no certificate", path.display())),
        all => Ok(all),
    }
}

fn in_file(path: &Path, error: &dyn std::fmt::Display) -> String {
    format!("`{}`: {error}", path.display())
}
