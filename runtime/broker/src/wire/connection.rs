//! One connection: requests in, answers out in the same order. One task reads, handles and writes; nothing is spawned
//! for a request.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, Sleep};

use super::buffers::Buffers;
use super::frame::{self, Start};
use super::input::{FREE_BYTES, Input};
use super::output::Output;
use super::pipeline::{Head, Pipeline};
use super::server::Listener;
use super::session::Session;
use super::transport::Transport;
use crate::api::{self, Call, Piece, Reply};
use crate::broker::Broker;
use crate::security::Principal;

/// Bytes of a request of somebody who has not said who he is.
const UNKNOWN_BYTES_MAX: usize = 64 << 10;
/// A large request must arrive at this speed, or its time is over.
const REQUEST_BYTES_PER_SECOND_MIN: usize = 64 << 10;
/// What memory for large requests is counted in.
pub(super) const MEMORY_UNIT_BYTES: usize = 64 << 10;
/// Rounds of reading and handling before other connections have their turn.
const ROUNDS_MAX: usize = 16;

/// Why a connection ends before its client wants it to.
#[derive(Debug, thiserror::Error)]
pub(super) enum Closed {
    #[error("{0}")]
    Malformed(String),
    #[error("the API {key} in version {version} does not exist here")]
    Unsupported { key: i16, version: i16 },
    #[error("`{api}` before authentication")]
    Unauthenticated { api: &'static str },
    #[error("authentication failed")]
    AuthenticationFailed,
    #[error("{0} took too long")]
    Late(&'static str),
    #[error("the handler of `{api}` panicked: {reason}")]
    Panicked { api: &'static str, reason: String },
    #[error("`{api}` failed and has no answer that could say so: {reason}")]
    Refused { api: &'static str, reason: String },
    #[error("the answer of `{api}` cannot be sent: {reason}")]
    Reply { api: &'static str, reason: String },
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Decodes a request and forgets it.
pub(super) fn check_request(mut frame: Bytes) -> Result<(), Closed> {
    let start = frame::parse_start(&frame)?;
    let Some(api) = frame::api_of(start)? else { return Ok(()) };
    frame::decode_header(api, start.version, &mut frame)?;
    (api.check)(start.version, frame).map_err(|error| Closed::Malformed(error.to_string()))
}

/// What all connections share for their large requests.
pub(super) struct Memory {
    /// In units of [`MEMORY_UNIT_BYTES`].
    pub grants: Arc<Semaphore>,
    pub buffers: Arc<Buffers>,
}

/// Serves a connection until its client closes it, misbehaves, or the broker stops.
pub(super) async fn serve(
    broker: Arc<Broker>,
    listener: Arc<Listener>,
    memory: Arc<Memory>,
    stream: TcpStream,
    peer: SocketAddr,
    mut stop: watch::Receiver<bool>,
) -> Result<(), Closed> {
    stream.set_nodelay(true)?;
    let local_ip = stream.local_addr()?.ip();
    let timeout = Duration::from_millis(broker.config.limits.authentication_timeout_ms);
    let transport = tokio::select! {
        transport = tokio::time::timeout(timeout, listener.transport(stream)) => {
            transport.map_err(|_| Closed::Late("the TLS handshake"))??
        }
        _ = stop.wait_for(|stop| *stop) => return Ok(()),
    };
    let principal = (!broker.security.authenticates()).then(|| transport.principal());
    let now = Instant::now();
    let mut connection = Connection {
        session: Arc::new(Session::new(principal, local_ip)),
        broker,
        listener,
        input: Input::new(Arc::clone(&memory.buffers)),
        memory,
        peer,
        transport,
        grant: Grant::None,
        pipeline: Pipeline::default(),
        output: Output::default(),
        ended: false,
        since: now,
        began: now,
        heard: now,
        sent: (0, now),
        timer: Box::pin(tokio::time::sleep_until(now)),
    };
    let served = tokio::select! {
        biased;
        served = poll_fn(|cx| connection.poll(cx)) => served,
        _ = stop.wait_for(|stop| *stop) => return Ok(()),
    };
    // What began to change something is brought to its end, as if the client had stayed.
    for handling in connection.pipeline.into_unfinished() {
        tokio::select! {
            _ = handling => {}
            _ = stop.wait_for(|stop| *stop) => break,
        }
    }
    served
}

struct Connection {
    broker: Arc<Broker>,
    listener: Arc<Listener>,
    session: Arc<Session>,
    memory: Arc<Memory>,
    peer: SocketAddr,
    transport: Transport,
    input: Input,
    grant: Grant,
    pipeline: Pipeline,
    output: Output,
    /// The client sends no more.
    ended: bool,
    /// When it came.
    since: Instant,
    /// When the request in `input` began to arrive.
    began: Instant,
    /// When something was last read, or the last answer sent.
    heard: Instant,
    /// How much was sent when, the last time that it was more.
    sent: (u64, Instant),
    timer: Pin<Box<Sleep>>,
}

/// Memory for the large request that is arriving.
enum Grant {
    None,
    Asked(Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send>>),
    Given(OwnedSemaphorePermit),
}

impl Connection {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        match self.poll_work(cx) {
            Ok(true) => return Poll::Ready(Ok(())),
            Ok(false) => {}
            Err(closed) => return Poll::Ready(Err(closed)),
        }
        self.poll_timer(cx).map(Err)
    }

    /// Does what can be done now. True: the connection is over.
    fn poll_work(&mut self, cx: &mut Context<'_>) -> Result<bool, Closed> {
        for _ in 0..ROUNDS_MAX {
            self.take_requests()?;
            self.poll_pipeline(cx)?;
            self.encode_replies()?;
            let written = self.output.poll_write(cx, &mut self.transport)?.is_ready();
            if written && self.session.failed() && self.pipeline.is_empty() {
                return Err(Closed::AuthenticationFailed);
            }
            if self.ended && !self.pipeline.is_changing() {
                return Ok(true);
            }
            // Room that came only now: for an answer, or for a request that was read long ago.
            let room = self.has_room();
            if self.output.has_room() && self.pipeline.has_answer()
                || room && self.input.has_frame(self.request_bytes_max())?
            {
                continue;
            }
            // Else the socket, or a request that is answered, wakes us.
            if !room || self.ended || self.poll_read(cx)?.is_pending() {
                return Ok(false);
            }
        }
        cx.waker().wake_by_ref();
        Ok(false)
    }

    /// Moves whole requests from the input to the pipeline.
    fn take_requests(&mut self) -> Result<(), Closed> {
        while self.has_room() {
            let Some(frame) = self.input.next_frame(self.request_bytes_max())? else { return Ok(()) };
            self.began = Instant::now();
            let memory = match std::mem::replace(&mut self.grant, Grant::None) {
                Grant::Given(permit) => Some(permit),
                Grant::None | Grant::Asked(_) => None,
            };
            if self.session.takes_bare_tokens() {
                let api = frame::sasl_authenticate();
                let start = Start { key: api.key, version: 0, correlation_id: 0 };
                self.pipeline.push(Head { start, api, bare: true }, frame, memory);
                continue;
            }
            let start = frame::parse_start(&frame)?;
            match frame::api_of(start)? {
                Some(api) => self.pipeline.push(Head { start, api, bare: false }, frame, memory),
                None => self.pipeline.push_answer(
                    Head { start: Start { version: 0, ..start }, api: frame::api_versions(), bare: false },
                    api::unsupported_version().into(),
                ),
            }
        }
        Ok(())
    }

    fn has_room(&self) -> bool {
        let limits = &self.broker.config.limits;
        self.pipeline.len() < limits.requests_in_flight_max
            && self.pipeline.bytes() < limits.bytes_in_flight_max
            && self.output.has_room()
            && !self.session.failed()
            // What these answer decides how the next bytes are to be read.
            && !self.pipeline.ends_with(&frame::SASL_KEYS)
    }

    fn request_bytes_max(&self) -> usize {
        let max = self.broker.config.limits.request_bytes_max;
        if self.session.is_authenticated() { max } else { max.min(UNKNOWN_BYTES_MAX) }
    }

    fn poll_pipeline(&mut self, cx: &mut Context<'_>) -> Result<(), Closed> {
        let Connection { broker, listener, session, peer, pipeline, .. } = self;
        pipeline.poll(cx, |head, mut frame| {
            let Head { start, api, bare } = head;
            let client_id = match bare {
                true => None,
                false => frame::decode_header(api, start.version, &mut frame)?.client_id,
            };
            let principal = match session.principal() {
                Some(principal) => principal,
                None if frame::BEFORE_AUTHENTICATION.contains(&start.key) => Principal::anonymous(),
                None => return Err(Closed::Unauthenticated { api: api.name }),
            };
            let call = Call {
                version: start.version,
                client_id,
                principal,
                peer: *peer,
                listener: Arc::clone(listener),
                session: Arc::clone(session),
            };
            let broker = Arc::clone(broker);
            if bare {
                return Ok(Box::pin(async move { api::bare_token(&broker, &call, frame).await }));
            }
            (api.start)(broker, call, frame)
                .map_err(|error| Closed::Malformed(format!("{}: {error}", api.name)))
        })
    }

    fn encode_replies(&mut self) -> Result<(), Closed> {
        while self.output.has_room() {
            let Some((head, reply)) = self.pipeline.pop() else { return Ok(()) };
            self.heard = Instant::now();
            self.encode_reply(head, reply)?;
        }
        Ok(())
    }

    fn encode_reply(&mut self, Head { start, api, bare }: Head, reply: Reply) -> Result<(), Closed> {
        let failed = |reason: String| Closed::Reply { api: api.name, reason };
        let header_version = (api.response_header)(start.version);
        match reply {
            Reply::None => Ok(()),
            Reply::Close(reason) => Err(Closed::Refused { api: api.name, reason }),
            Reply::Message(message) => {
                frame::encode_response(self.output.tail(), start.correlation_id, header_version, |buffer| {
                    message.encode(buffer, start.version)
                })
                .map_err(|error| failed(error.to_string()))
            }
            Reply::Pieces(pieces) => {
                let bytes = pieces.iter().map(Piece::len).sum();
                let tail = self.output.tail();
                let header = (!bare).then_some((start.correlation_id, header_version));
                frame::encode_head(tail, header, bytes).ok_or_else(|| failed(format!("{bytes} bytes")))?;
                for piece in pieces {
                    match piece {
                        Piece::Bytes(bytes) => self.output.push_bytes(bytes),
                        Piece::Slice(slice) => self.output.push_slice(&slice),
                    }
                }
                Ok(())
            }
        }
    }

    /// Reads once. Ready: there is something new.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, Closed> {
        let pending = self.input.pending(self.request_bytes_max())?;
        if self.poll_grant(cx, pending).is_pending() {
            return Ok(Poll::Pending);
        }
        let was_empty = self.input.is_empty();
        let (buffer, max) = self.input.space(pending);
        let read = match self.transport.poll_read(cx, buffer, max) {
            Poll::Pending => return Ok(Poll::Pending),
            Poll::Ready(read) => read?,
        };
        self.heard = Instant::now();
        if was_empty {
            self.began = self.heard;
        }
        if read == 0 {
            // What it sent before still counts; half a request does not.
            self.ended = true;
        }
        Ok(Poll::Ready(()))
    }

    /// Ready when the request that arrives may take the memory it wants.
    fn poll_grant(&mut self, cx: &mut Context<'_>, pending: Option<usize>) -> Poll<()> {
        loop {
            match (&mut self.grant, pending) {
                (Grant::None, Some(length)) if length > FREE_BYTES => {
                    let units = length.div_ceil(MEMORY_UNIT_BYTES);
                    let memory = Arc::clone(&self.memory.grants);
                    self.grant = Grant::Asked(Box::pin(memory.acquire_many_owned(units as u32)));
                }
                (Grant::Asked(asked), _) => match asked.as_mut().poll(cx) {
                    Poll::Pending => return Poll::Pending,
                    // Never closed.
                    Poll::Ready(Err(_)) => self.grant = Grant::None,
                    Poll::Ready(Ok(permit)) => self.grant = Grant::Given(permit),
                },
                (Grant::None | Grant::Given(_), _) => return Poll::Ready(()),
            }
        }
    }

    /// Ready when something takes longer than it may.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<Closed> {
        let now = Instant::now();
        loop {
            let (deadline, what) = self.deadline(now);
            if deadline <= now {
                return Poll::Ready(Closed::Late(what));
            }
            // The timer is left alone while it rings early: most deadlines move on before they come.
            let rings = self.timer.deadline();
            if rings > deadline || self.timer.is_elapsed() || rings <= now {
                self.timer.as_mut().reset(deadline);
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// When the connection is closed if nothing happens, and why.
    fn deadline(&mut self, now: Instant) -> (Instant, &'static str) {
        let limits = &self.broker.config.limits;
        let request_timeout = Duration::from_millis(limits.request_timeout_ms);
        if self.output.sent() != self.sent.0 || self.output.is_empty() {
            self.sent = (self.output.sent(), now);
        }
        let mut first = (now + FAR, "nothing");
        let mut at_most = |deadline, what| {
            if deadline < first.0 {
                first = (deadline, what);
            }
        };
        if !self.session.is_known() {
            let timeout = Duration::from_millis(limits.authentication_timeout_ms);
            at_most(self.since + timeout, "authentication");
        }
        if !self.output.is_empty() {
            at_most(self.sent.1 + request_timeout, "reading an answer");
        } else if self.pipeline.is_empty() {
            at_most(self.heard + Duration::from_millis(limits.idle_timeout_ms), "doing nothing");
        }
        if !self.input.is_empty() && self.has_room() {
            let length = self.input.pending(usize::MAX).ok().flatten().unwrap_or(0);
            let more = Duration::from_secs((length / REQUEST_BYTES_PER_SECOND_MIN) as u64);
            at_most(self.began + request_timeout + more, "sending a request");
        }
        first
    }
}

/// Further than anything that a connection waits for.
const FAR: Duration = Duration::from_secs(24 * 60 * 60);
