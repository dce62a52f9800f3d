//! The `http` sink: events as requests, and what the answers mean for them. The connection is in [`client`].

mod client;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use flow_agent::{Context, Fault, Sink, SinkError, decode_settings};
use flow_plan::settings::{self, SecretSetting};
use flow_plan::{Batch, Settings};
use hyper::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT,
};
use hyper::{Method, StatusCode, Uri};
use serde::Deserialize;
use tokio::time::{Instant, sleep_until};

use self::client::{Answer, Client};
use super::encode::{Encoder, Format};

/// The longest pause that a server may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// Makes an `http` sink; it connects with the first write.
pub fn http(settings: &Settings, context: &Context) -> Result<Box<dyn Sink>, Fault> {
    Ok(Box::new(prepare(settings, context)?))
}

fn prepare(settings: &Settings, context: &Context) -> Result<Http, Fault> {
    let settings: HttpSettings = decode_settings(settings)?;
    let url = parse_url(&settings.url)?;
    let mut headers = HeaderMap::new();
    headers.insert(USER_AGENT, HeaderValue::from_static("flowc"));
    let content_type = settings.content_type.as_deref().unwrap_or(match settings.format {
        BodyFormat::Lines => "text/plain; charset=utf-8",
        BodyFormat::Json => "application/json",
        BodyFormat::Raw => "application/octet-stream",
    });
    headers.insert(CONTENT_TYPE, header_value(content_type, "content_type")?);
    match settings.compress {
        Compress::None => {}
        Compress::Gzip => drop(headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"))),
        Compress::Zstd => drop(headers.insert(CONTENT_ENCODING, HeaderValue::from_static("zstd"))),
    }
    for (name, value) in &settings.headers {
        let name = HeaderName::try_from(name.as_str())
            .map_err(|_| Fault::new(format!("`{name}` is no name of an HTTP header")).setting("headers"))?;
        headers.insert(name, header_value(value, "headers")?);
    }
    if let Some(credentials) = credentials(&settings, context)? {
        headers.insert(AUTHORIZATION, credentials);
    }
    let client = Client::new(settings.connect.std(), settings.timeout.std(), settings.ca.as_deref())?;
    Ok(Http {
        client,
        // What stands in a query may be a key: it is not shown.
        shown: settings.url.split('?').next().unwrap_or_default().to_owned(),
        url,
        method: match settings.method {
            Verb::Post => Method::POST,
            Verb::Put => Method::PUT,
            Verb::Patch => Method::PATCH,
        },
        headers,
        encoder: Encoder::new(
            if settings.format == BodyFormat::Json { Format::Json } else { Format::Text },
            context.slots.clone(),
        ),
        format: settings.format,
        compress: settings.compress,
        confirm: settings.confirm == Confirm::Response,
        // An event that is refused is then known, and none is sent again for another's sake.
        batch: if settings.format == BodyFormat::Raw { 1 } else { settings.batch },
        bytes: usize::try_from(settings.bytes).unwrap_or(usize::MAX),
        not_before: None,
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HttpSettings {
    url: String,
    method: Verb,
    format: BodyFormat,
    content_type: Option<String>,
    headers: BTreeMap<String, String>,
    batch: usize,
    bytes: u64,
    timeout: settings::Duration,
    connect: settings::Duration,
    user: Option<String>,
    password: Option<SecretSetting>,
    token: Option<SecretSetting>,
    compress: Compress,
    ca: Option<String>,
    confirm: Confirm,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Verb {
    Post,
    Put,
    Patch,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum BodyFormat {
    Lines,
    Json,
    Raw,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Compress {
    None,
    Gzip,
    Zstd,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Confirm {
    Response,
    None,
}

fn parse_url(url: &str) -> Result<Uri, Fault> {
    let refuse = |message: String| Fault::new(message).setting("url");
    let uri: Uri = url.parse().map_err(|error| refuse(format!("`{url}` is no URL: {error}")))?;
    match uri.scheme_str() {
        Some("http" | "https") => {}
        _ => return Err(refuse(format!("`{url}` does not begin with `http://` or `https://`"))),
    }
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(refuse("user and password do not belong into the URL".to_owned())
            .help("write them as `user:` and `password:`"));
    }
    Ok(uri)
}

fn header_value(value: &str, setting: &'static str) -> Result<HeaderValue, Fault> {
    HeaderValue::try_from(value)
        .map_err(|_| Fault::new("the value has characters that no HTTP header can hold").setting(setting))
}

fn credentials(settings: &HttpSettings, context: &Context) -> Result<Option<HeaderValue>, Fault> {
    let text = match (&settings.token, &settings.user) {
        (Some(_), Some(_)) => {
            return Err(Fault::new("both `token` and `user` are given, and a request has one of them")
                .setting("token"));
        }
        (Some(token), None) => format!("Bearer {}", context.secret(token)?),
        (None, Some(user)) => {
            let password = settings
                .password
                .as_ref()
                .map(|secret| context.secret(secret))
                .transpose()?
                .unwrap_or_default();
            format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
        }
        (None, None) => return Ok(None),
    };
    let setting = if settings.token.is_some() { "token" } else { "password" };
    let mut value = header_value(&text, setting)?;
    value.set_sensitive(true);
    Ok(Some(value))
}

struct Http {
    client: Client,
    url: Uri,
    shown: String,
    method: Method,
    headers: HeaderMap,
    encoder: Encoder,
    format: BodyFormat,
    compress: Compress,
    confirm: bool,
    batch: usize,
    bytes: usize,
    /// The server asked to be left alone until then.
    not_before: Option<Instant>,
}

impl Http {
    async fn send(&mut self, body: Vec<u8>) -> Result<(), SinkError> {
        let body =
            self.pack(body).map_err(|error| SinkError::Fatal(Fault::new(error.to_string()).code("F1109")))?;
        if let Some(until) = self.not_before.take() {
            sleep_until(until).await;
        }
        let answer = self.client.send(&self.method, &self.url, &self.headers, body).await;
        match answer {
            Ok(answer) if answer.status.is_success() || !self.confirm => Ok(()),
            Ok(answer) => Err(self.judge(&answer)),
            Err(message) => {
                Err(SinkError::Retry(Fault::new(format!("`{}`: {message}", self.shown)).setting("url")))
            }
        }
    }

    /// What an answer other than success means.
    fn judge(&mut self, answer: &Answer) -> SinkError {
        let mut message = format!("`{}` answered {}", self.shown, answer.status);
        if !answer.text.is_empty() {
            message.push_str(": ");
            message.push_str(&answer.text);
        }
        let fault = Fault::new(message).setting("url");
        if let Some(pause) = answer.retry_after {
            self.not_before = Some(Instant::now() + pause.min(RETRY_AFTER_MAX));
        }
        match answer.status {
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => {
                SinkError::Retry(fault)
            }
            // About the sender, not about the events.
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                SinkError::Retry(fault.help("check `token`, or `user` and `password`"))
            }
            status if status.is_redirection() => {
                SinkError::Retry(fault.help("write the address that it redirects to"))
            }
            status if status.is_client_error() => SinkError::Refused(fault),
            _ => SinkError::Retry(fault),
        }
    }

    fn pack(&self, body: Vec<u8>) -> std::io::Result<Bytes> {
        Ok(Bytes::from(match self.compress {
            Compress::None => body,
            Compress::Gzip => {
                let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
                packed.write_all(&body)?;
                packed.finish()?
            }
            Compress::Zstd => zstd::bulk::compress(&body, 3)?,
        }))
    }
}

#[async_trait]
impl Sink for Http {
    async fn write(&mut self, batches: &[Batch]) -> Result<(), SinkError> {
        let mut body = Vec::new();
        let mut events = 0;
        let mut next = Vec::new();
        for batch in batches {
            for &row in &batch.rows {
                next.clear();
                self.encoder.encode(batch, row, &mut next);
                // One byte more for what stands between two events, one for the end.
                if events > 0 && (events >= self.batch || body.len() + next.len() + 2 > self.bytes) {
                    self.send(close_body(self.format, std::mem::take(&mut body))).await?;
                    events = 0;
                }
                match self.format {
                    BodyFormat::Json => body.push(if events == 0 { b'[' } else { b',' }),
                    BodyFormat::Lines | BodyFormat::Raw => {}
                }
                body.extend_from_slice(&next);
                if self.format == BodyFormat::Lines {
                    body.push(b'\n');
                }
                events += 1;
            }
        }
        if events > 0 {
            self.send(close_body(self.format, body)).await?;
        }
        Ok(())
    }

    fn batch_events_max(&self) -> usize {
        self.batch
    }
}

fn close_body(format: BodyFormat, mut body: Vec<u8>) -> Vec<u8> {
    if format == BodyFormat::Json {
        body.push(b']');
    }
    body
}
