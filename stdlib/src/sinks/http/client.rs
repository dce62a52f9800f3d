//! One HTTP client with TLS, time-outs and bounded answers. It knows requests and answers, no events.

use std::time::Duration;

use bytes::Bytes;
use flow_agent::Fault;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{HeaderMap, RETRY_AFTER};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// Bytes of an answer that are read; of a longer one the connection is given up.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Characters of an answer that a message shows.
const SHOWN_CHARS_MAX: usize = 200;

/// Connections kept for the next request.
const IDLE_MAX: usize = 2;

pub struct Client {
    client: HyperClient<HttpsConnector<HttpConnector>, Full<Bytes>>,
    timeout: Duration,
}

/// What a server said.
pub struct Answer {
    pub status: StatusCode,
    /// The begin of its text, on one line.
    pub text: String,
    pub retry_after: Option<Duration>,
}

impl Client {
    pub fn new(connect: Duration, timeout: Duration, ca: Option<&str>) -> Result<Client, Fault> {
        let mut tcp = HttpConnector::new();
        tcp.set_connect_timeout(Some(connect));
        tcp.set_nodelay(true);
        tcp.enforce_http(false);
        let provider = rustls::crypto::ring::default_provider();
        let tls_fault = |error: String| Fault::new(format!("TLS cannot be set up: {error}")).setting("ca");
        let builder = match ca {
            None => HttpsConnectorBuilder::new()
                .with_provider_and_webpki_roots(provider)
                .map_err(|error| tls_fault(error.to_string()))?,
            Some(path) => {
                let config = rustls::ClientConfig::builder_with_provider(provider.into())
                    .with_safe_default_protocol_versions()
                    .map_err(|error| tls_fault(error.to_string()))?
                    .with_root_certificates(authorities(path)?)
                    .with_no_client_auth();
                HttpsConnectorBuilder::new().with_tls_config(config)
            }
        };
        let connector = builder.https_or_http().enable_http1().wrap_connector(tcp);
        let client =
            HyperClient::builder(TokioExecutor::new()).pool_max_idle_per_host(IDLE_MAX).build(connector);
        Ok(Client { client, timeout })
    }

    /// Sends a request and reads the answer; a failure is a sentence.
    pub async fn send(
        &self,
        method: &Method,
        url: &Uri,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Answer, String> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method.clone();
        *request.uri_mut() = url.clone();
        *request.headers_mut() = headers.clone();
        let answer = async {
            let response = self.client.request(request).await.map_err(|error| reason(&error))?;
            Ok(read_answer(response).await)
        };
        match tokio::time::timeout(self.timeout, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {:?}", self.timeout)),
        }
    }
}

async fn read_answer(response: Response<hyper::body::Incoming>) -> Answer {
    let status = response.status();
    let retry_after = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| parse_retry_after(value, jiff::Timestamp::now()));
    // The status counts; a body that breaks or is too long only costs its text.
    let text = match Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await {
        Ok(body) => String::from_utf8_lossy(&body.to_bytes())
            .chars()
            .map(|char| if char.is_control() { ' ' } else { char })
            .take(SHOWN_CHARS_MAX)
            .collect::<String>()
            .trim()
            .to_owned(),
        Err(_) => String::new(),
    };
    Answer { status, text, retry_after }
}

/// Seconds, or a date.
pub fn parse_retry_after(value: &str, now: jiff::Timestamp) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
    Duration::try_from(date.duration_since(now)).ok()
}

/// The innermost reason, which says most.
fn reason(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    match error.downcast_ref::<std::io::Error>() {
        Some(error) => crate::sinks::fault::io_text(error),
        None => error.to_string(),
    }
}

fn authorities(path: &str) -> Result<rustls::RootCertStore, Fault> {
    let fault = |message: String| Fault::new(message).setting("ca");
    let mut store = rustls::RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(path)
        .map_err(|error| fault(format!("cannot read `{path}`: {error}")).code("F0804"))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| fault(format!("`{path}` is no PEM file: {error}")))?;
        store.add(certificate).map_err(|error| fault(format!("`{path}` has a bad certificate: {error}")))?;
    }
    if store.is_empty() {
        return Err(fault(format!("`{path}` has no certificate in it")));
    }
    Ok(store)
}
