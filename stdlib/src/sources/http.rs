//! `http`: events by POST or PUT. A request is answered when its events are safe, so the client is the one who
//! repeats after a crash.

mod bodies;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration as StdDuration;

use async_trait::async_trait;
use bytes::Bytes;
use flow_agent::{Context, Fault, Source, SourceError, SourceOutput, Stop, decode_settings};
use flow_plan::settings::{Duration, SecretSetting, Settings};
use flow_plan::{Batch, Outcome};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper::header::{ALLOW, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderName, RETRY_AFTER};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::bodies::{Format, decode_events, decompress};
use super::budget::Budget;
use super::listen::{Held, bind_tcp, parse_address};
use super::rows::{HeaderTarget, Stamp};

/// Bytes of the head of a request, at most.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// Bytes of the bodies of all requests together; who goes beyond is told to come again.
const BODIES_BYTES_MAX: usize = 512 << 20;

/// What an event of a decoded body costs besides its bytes.
const ROW_COST: usize = 64;

/// A body that comes more slowly, in bytes per second, is given up after `idle`.
const BODY_RATE_MIN: u64 = 1024;

/// Larger bodies, and compressed ones, are decoded on a thread that may block.
const BLOCKING_BYTES: usize = 256 << 10;

/// How long open requests may take to end after the stop.
const STOP_WAIT: StdDuration = StdDuration::from_secs(10);

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HttpSettings {
    listen: String,
    path: Option<String>,
    format: Format,
    confirm: Confirm,
    timeout: Duration,
    status: u16,
    token: Option<SecretSetting>,
    headers: BTreeMap<String, String>,
    path_header: Option<String>,
    peer_header: Option<String>,
    body_max: usize,
    batch: usize,
    connections_max: usize,
    idle: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Confirm {
    Delivered,
    Accepted,
}

struct Http {
    service: Arc<Service>,
    listener: Held<std::net::TcpListener>,
}

/// Makes the source.
pub fn http(settings: &Settings, context: &Context) -> Result<Box<dyn Source>, Fault> {
    Ok(Box::new(new(settings, context)?))
}

fn new(settings: &Settings, context: &Context) -> Result<Http, Fault> {
    let settings: HttpSettings = decode_settings(settings)?;
    let address = parse_address(&settings.listen, "listen")?;
    let path = match (&settings.path, &address.path) {
        (Some(path), Some(other)) if path != other => {
            return Err(
                Fault::new(format!("`path` says `{path}`, the address says `{other}`")).setting("path")
            );
        }
        (Some(path), _) | (None, Some(path)) if !path.starts_with('/') => {
            return Err(Fault::new(format!("the path `{path}` does not start with `/`")).setting("path"));
        }
        (path, other) => path.clone().or(other.clone()),
    };
    let token = settings.token.as_ref().map(|token| context.secret(token)).transpose()?;
    let mut copied = Vec::new();
    for (event_header, name) in &settings.headers {
        let header = HeaderName::try_from(name.as_str())
            .map_err(|_| Fault::new(format!("`{name}` is no name of an HTTP header")).setting("headers"))?;
        copied.push((HeaderTarget::new(event_header, context), header));
    }
    let status = StatusCode::from_u16(settings.status)
        .map_err(|_| Fault::new("`status` is no HTTP status").setting("status"))?;
    let service = Service {
        path,
        token: token.map(|token| Sha256::digest(format!("Bearer {token}")).into()),
        copied,
        path_header: HeaderTarget::optional(&settings.path_header, context),
        peer_header: HeaderTarget::optional(&settings.peer_header, context),
        status,
        stamp: Stamp::new(context),
        context: context.clone(),
        bodies: Budget::new(BODIES_BYTES_MAX, settings.connections_max),
        settings,
    };
    let listener = bind_tcp(&address, "listen")?;
    Ok(Http { service: Arc::new(service), listener })
}

#[async_trait]
impl Source for Http {
    async fn run(&mut self, output: SourceOutput, mut stop: Stop) -> Result<(), SourceError> {
        let listener = self.listener.take()?;
        let places = Arc::new(Semaphore::new(self.service.settings.connections_max));
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = accept(&listener, &places) => accepted,
                Some(_) = connections.join_next(), if !connections.is_empty() => continue,
                () = stop.stopped() => break,
            };
            let Some((stream, peer, place)) = accepted else { continue };
            let (service, output, stop) = (self.service.clone(), output.clone(), stop.clone());
            connections.spawn(async move {
                service.serve(stream, peer, output, stop).await;
                drop(place);
            });
        }
        // Nobody new is let in; requests that are being answered are answered.
        drop(listener);
        let ending = async { while connections.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(STOP_WAIT, ending).await;
        Ok(())
    }
}

/// When the next part of a body must have come: soon after the last one, and not so slowly that it never ends.
fn body_deadline(began: Instant, now: Instant, idle: StdDuration, received: usize) -> Instant {
    let fair = began + idle + StdDuration::from_secs(received as u64 / BODY_RATE_MIN);
    fair.min(now + idle)
}

/// The next connection, when there is a place for it: others wait in the kernel's queue.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, Arc<str>, tokio::sync::OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => Some((stream, Arc::from(peer.to_string()), place)),
        Err(error) => {
            tracing::warn!("cannot accept a connection: {error}");
            tokio::time::sleep(StdDuration::from_millis(100)).await;
            None
        }
    }
}

struct Service {
    settings: HttpSettings,
    path: Option<String>,
    /// Hashed, so that comparing takes the same time for every wrong token.
    token: Option<[u8; 32]>,
    copied: Vec<(HeaderTarget, HeaderName)>,
    path_header: Option<HeaderTarget>,
    peer_header: Option<HeaderTarget>,
    status: StatusCode,
    stamp: Stamp,
    context: Context,
    bodies: Arc<Budget>,
}

/// An answer that is no success.
struct Refusal {
    status: StatusCode,
    message: String,
}

fn refuse(status: StatusCode, message: impl Into<String>) -> Refusal {
    Refusal { status, message: message.into() }
}

impl Service {
    async fn serve(&self, stream: TcpStream, peer: Arc<str>, output: SourceOutput, mut stop: Stop) {
        let _ = stream.set_nodelay(true);
        let answer = service_fn(|request: Request<Incoming>| {
            let (output, peer) = (output.clone(), peer.clone());
            async move { Ok::<_, Infallible>(self.answer(request, &peer, &output).await) }
        });
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(self.settings.idle.std())
            .max_buf_size(HEAD_BYTES_MAX)
            // A client that has said all it has to say still wants its answer.
            .half_close(true)
            .keep_alive(true);
        let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), answer));
        let ended = tokio::select! {
            ended = &mut connection => ended,
            () = stop.stopped() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!("connection of {peer} failed: {error}");
        }
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        peer: &str,
        output: &SourceOutput,
    ) -> Response<Full<Bytes>> {
        let refusal = match self.take(request, peer, output).await {
            Ok(()) => {
                let mut response = Response::new(Full::default());
                *response.status_mut() = self.status;
                return response;
            }
            Err(refusal) => refusal,
        };
        output.count("refused_requests", 1);
        let text = serde_json::json!({ "error": refusal.message }).to_string();
        let mut response = Response::new(Full::from(text));
        *response.status_mut() = refusal.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
        match refusal.status {
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(RETRY_AFTER, hyper::header::HeaderValue::from_static("1"));
            }
            StatusCode::METHOD_NOT_ALLOWED => {
                headers.insert(ALLOW, hyper::header::HeaderValue::from_static("POST, PUT"));
            }
            _ => {}
        }
        response
    }

    async fn take(
        &self,
        request: Request<Incoming>,
        peer: &str,
        output: &SourceOutput,
    ) -> Result<(), Refusal> {
        let (head, body) = request.into_parts();
        if let Some(path) = &self.path
            && head.uri.path() != path
        {
            return Err(refuse(StatusCode::NOT_FOUND, format!("nothing at `{}`", head.uri.path())));
        }
        if let Some(expected) = &self.token {
            let given = head.headers.get(AUTHORIZATION).map_or(&b""[..], |value| value.as_bytes());
            let given: [u8; 32] = Sha256::digest(given).into();
            if given != *expected {
                return Err(refuse(StatusCode::UNAUTHORIZED, "the token is missing or wrong"));
            }
        }
        if head.method != Method::POST && head.method != Method::PUT {
            return Err(refuse(StatusCode::METHOD_NOT_ALLOWED, "events come by POST or PUT"));
        }
        let body_max = self.settings.body_max;
        let too_large =
            || refuse(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is larger than {body_max} bytes"));
        // What is too large by its own account need not be read.
        if body.size_hint().lower() > body_max as u64 {
            return Err(too_large());
        }
        let mut body = Limited::new(body, body_max);
        let no_room =
            || refuse(StatusCode::SERVICE_UNAVAILABLE, "too much is received at a time: send it again");
        let mut share = self.bodies.share();
        let mut bytes = Vec::new();
        let began = Instant::now();
        loop {
            let until = body_deadline(began, Instant::now(), self.settings.idle.std(), bytes.len());
            let frame = match tokio::time::timeout_at(until, body.frame()).await {
                Err(_) => return Err(refuse(StatusCode::REQUEST_TIMEOUT, "the body does not come")),
                Ok(None) => break,
                Ok(Some(Err(error))) if error.downcast_ref::<LengthLimitError>().is_some() => {
                    return Err(too_large());
                }
                Ok(Some(Err(_))) => return Err(refuse(StatusCode::BAD_REQUEST, "the body is cut off")),
                Ok(Some(Ok(frame))) => frame,
            };
            if let Ok(data) = frame.into_data() {
                bytes.extend_from_slice(&data);
            }
            if !share.set(bytes.len()) {
                return Err(no_room());
            }
        }
        let encoding = head.headers.get(CONTENT_ENCODING).map(|value| value.as_bytes().to_vec());
        let blocks = encoding.is_some() || bytes.len() > BLOCKING_BYTES;
        let (format, rows_max, context) =
            (self.settings.format, self.settings.batch.max(1), self.context.clone());
        let decode = move || {
            let encoding = encoding.unwrap_or_default();
            let bytes = decompress(bytes, &encoding, body_max, &mut |bytes| share.set(bytes))?;
            let len = bytes.len();
            let batches = decode_events(bytes, format, rows_max, &context).map_err(bodies::Broken::Bad)?;
            let rows: usize = batches.iter().map(|columns| columns.bodies.len()).sum();
            if !share.set(len + rows * ROW_COST) {
                return Err(bodies::Broken::NoRoom);
            }
            Ok((batches, share))
        };
        let decoded = if blocks {
            let decoding = tokio::task::spawn_blocking(decode);
            decoding.await.map_err(|_| refuse(StatusCode::INTERNAL_SERVER_ERROR, "decoding failed"))?
        } else {
            decode()
        };
        // The share is held until the request is answered.
        let (batches, _share) = decoded.map_err(|error| match error {
            bodies::Broken::TooLarge => too_large(),
            bodies::Broken::Unknown(name) => {
                refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, format!("unknown encoding `{name}`"))
            }
            bodies::Broken::Bad(why) => refuse(StatusCode::BAD_REQUEST, why),
            bodies::Broken::NoRoom => no_room(),
        })?;
        let mut sent = Vec::with_capacity(batches.len());
        for mut columns in batches {
            let mut values: Vec<(&HeaderTarget, &[u8])> = Vec::new();
            values.extend(self.path_header.as_ref().map(|header| (header, head.uri.path().as_bytes())));
            values.extend(self.peer_header.as_ref().map(|header| (header, peer.as_bytes())));
            for (header, name) in &self.copied {
                values.extend(head.headers.get(name).map(|value| (header, value.as_bytes())));
            }
            for (header, value) in values {
                let value = columns.arena.push(value).map_err(|_| too_large())?;
                header.set_all(&mut columns, value);
            }
            self.stamp.apply(&mut columns);
            sent.push(Batch::new(columns));
        }
        let confirm = self.settings.confirm;
        let sending = async {
            let mut receipts = Vec::with_capacity(sent.len());
            for batch in sent {
                if confirm == Confirm::Delivered {
                    receipts.push(output.send_with_receipt(batch).await?);
                } else {
                    output.send(batch).await?;
                }
            }
            let mut outcomes = Vec::with_capacity(receipts.len());
            for receipt in receipts {
                outcomes.push(receipt.await);
            }
            Ok::<_, SourceError>(outcomes)
        };
        let unavailable = |why: &str| refuse(StatusCode::SERVICE_UNAVAILABLE, why);
        match tokio::time::timeout(self.settings.timeout.std(), sending).await {
            Ok(Ok(outcomes)) if outcomes.iter().all(|outcome| *outcome == Ok(Outcome::Delivered)) => Ok(()),
            Ok(Ok(_)) => Err(unavailable("the events were lost on their way: send them again")),
            Ok(Err(_)) => Err(unavailable("the flow is stopping: send them again")),
            Err(_) => Err(unavailable("the flow did not take the events in time: send them again")),
        }
    }
}

#[cfg(test)]
mod tests;
