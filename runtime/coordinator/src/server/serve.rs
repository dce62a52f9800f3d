//! The task of one connection with a session: takes bytes from the socket and sends what is in the outbox, within
//! bounds for both. What the bytes ask for is answered in `dispatch.rs`.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use super::Server;
use super::connection::{Connection, End};
use super::dispatch::Front;
use super::handshake::Joined;
use super::requests::Reads;
use crate::network;
use crate::proto::{Code, DecodeError, Response};

/// Room for what a client sends, while it sends little.
const INPUT_BYTES: usize = 4 << 10;
/// Bytes that are read ahead of what can be answered, unless one packet is larger.
const INPUT_AHEAD_MAX: usize = 64 << 10;
/// Bytes that the buffer for a large packet grows by.
const GROWTH_MAX: usize = 1 << 20;
/// Bytes that all connections together hold beyond [`INPUT_AHEAD_MAX`] each. A packet that would exceed it ends its
/// connection.
const LARGE_INPUT_MAX: u64 = 1 << 30;
/// How long the last bytes may take when a connection ends.
const FAREWELL: Duration = Duration::from_secs(5);
/// A buffer for output that has become larger is given back.
const OUTPUT_KEPT: usize = 64 << 10;

pub(super) type Waiting = Pin<Box<dyn Future<Output = Result<Response, Code>> + Send>>;

/// See the module. Returns when the connection has ended.
pub(super) async fn serve(
    server: Arc<Server>,
    joined: Joined,
    mut stream: network::Connection,
    input: BytesMut,
) {
    let connection = Arc::clone(&joined.connection);
    let mut task = Task {
        server: &server,
        connection: &connection,
        input,
        room: INPUT_BYTES,
        skip: 0,
        large: 0,
        reads: Reads::new(&connection),
        output: Vec::new(),
        sent: 0,
        unflushed: false,
        waiting: None,
        waiters: Vec::new(),
        refused: None,
        throttle: None,
        closing: false,
        touched: None,
        arrived: Instant::now(),
    };
    let end = poll_fn(|context| task.poll(&mut stream, context)).await;
    let (output, sent) = (std::mem::take(&mut task.output), task.sent);
    task.release();
    drop(joined);
    match end {
        Ok(()) if connection.end() == End::Flush => {
            let rest = std::mem::take(&mut connection.outbox().bytes);
            let farewell = async {
                stream.write_all(&output[sent..]).await?;
                stream.write_all(&rest).await?;
                stream.shutdown().await
            };
            let _ = timeout(FAREWELL, farewell).await;
        }
        Ok(()) => {}
        Err(error) => {
            server.hub.stats.connections_dropped.fetch_add(1, Relaxed);
            tracing::debug!(peer = connection.peer, %error, "a client's connection ended");
        }
    }
}

/// The state of [`serve`]. What is done with requests is in `dispatch.rs`.
pub(super) struct Task<'a> {
    pub(super) server: &'a Arc<Server>,
    pub(super) connection: &'a Arc<Connection>,
    pub(super) input: BytesMut,
    /// Bytes that are made room for at once.
    pub(super) room: usize,
    /// Bytes of a refused packet that are still to come.
    pub(super) skip: usize,
    /// What this connection has taken of [`LARGE_INPUT_MAX`].
    pub(super) large: u64,
    pub(super) reads: Reads,
    /// What goes over the wire now, and how much of it is gone.
    pub(super) output: Vec<u8>,
    pub(super) sent: usize,
    /// TLS may hold bytes that the socket did not take.
    pub(super) unflushed: bool,
    /// What a `sync` or `reconfig` waits for, and who is answered then.
    pub(super) waiting: Option<Waiting>,
    pub(super) waiters: Vec<(i32, Response)>,
    /// A write that could not be read: answered when those before it are.
    pub(super) refused: Option<(i32, DecodeError)>,
    pub(super) throttle: Option<Pin<Box<tokio::time::Sleep>>>,
    /// The session ends: nothing that follows is looked at.
    pub(super) closing: bool,
    pub(super) touched: Option<Instant>,
    /// When the bytes came that are being looked at.
    pub(super) arrived: Instant,
}

impl Task<'_> {
    fn poll(&mut self, stream: &mut network::Connection, context: &mut Context) -> Poll<io::Result<()>> {
        // Before anything is looked at, so that nothing is missed.
        self.connection.register(context);
        loop {
            match self.connection.end() {
                End::No => {}
                End::Flush | End::Cut => return Poll::Ready(Ok(())),
            }
            self.poll_waiting(context);
            let answered = self.answer(context)?;
            let room = self.poll_output(stream, context)?;
            let more = self.poll_input(stream, context)?;
            // What is left to answer when the client has taken what was answered goes round again.
            if !(more || answered && room) {
                if self.connection.end() != End::No {
                    continue;
                }
                return Poll::Pending;
            }
        }
    }

    /// Sends what there is. True if the client has taken it all.
    fn poll_output(&mut self, stream: &mut network::Connection, context: &mut Context) -> io::Result<bool> {
        loop {
            if self.sent == self.output.len() {
                self.output.clear();
                if self.output.capacity() > OUTPUT_KEPT {
                    self.output = Vec::new();
                }
                self.sent = 0;
                let mut outbox = self.connection.outbox();
                if outbox.bytes.is_empty() {
                    drop(outbox);
                    return self.poll_flush(stream, context);
                }
                std::mem::swap(&mut self.output, &mut outbox.bytes);
                let packets = std::mem::take(&mut outbox.packets);
                drop(outbox);
                self.server.hub.stats.sent.fetch_add(packets, Relaxed);
                self.server.hub.stats.bytes_sent.fetch_add(self.output.len() as u64, Relaxed);
                self.connection.stats.sent.fetch_add(packets, Relaxed);
            }
            match stream.as_mut().poll_write(context, &self.output[self.sent..]) {
                Poll::Pending => return Ok(false),
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(written)) => self.sent += written,
            }
            self.unflushed = true;
        }
    }

    fn poll_flush(&mut self, stream: &mut network::Connection, context: &mut Context) -> io::Result<bool> {
        if self.unflushed {
            match stream.as_mut().poll_flush(context) {
                Poll::Pending => return Ok(false),
                Poll::Ready(flushed) => flushed?,
            }
            self.unflushed = false;
        }
        Ok(true)
    }

    /// Reads once. True if there was something.
    fn poll_input(&mut self, stream: &mut network::Connection, context: &mut Context) -> io::Result<bool> {
        if self.closing {
            return Ok(false);
        }
        // Whole packets that wait, or an oversized one that waits for its turn, are enough.
        let wanted = match self.front()? {
            Front::Partial if self.input.len() >= 4 => {
                let length = self.input.first_chunk().map_or(0, |prefix| i32::from_be_bytes(*prefix));
                4 + usize::try_from(length).unwrap_or(0)
            }
            Front::Partial => INPUT_BYTES,
            _ if self.input.len() >= INPUT_AHEAD_MAX => return Ok(false),
            _ => INPUT_AHEAD_MAX,
        };
        let spare = self.input.capacity() - self.input.len();
        if spare < INPUT_BYTES / 4 || spare < self.room / 4 {
            // Grows with what comes, not with what is announced.
            let ahead = wanted.saturating_sub(self.input.len()).clamp(INPUT_BYTES, GROWTH_MAX);
            self.input.reserve(ahead.min(self.input.len().max(self.room)));
            self.hold()?;
        }
        let spare = self.input.capacity() - self.input.len();
        let read = match pin!(stream.read_buf(&mut self.input)).poll(context) {
            Poll::Pending => {
                if self.input.is_empty() && self.input.capacity() > INPUT_AHEAD_MAX {
                    self.input = BytesMut::new();
                    self.room = INPUT_BYTES;
                    self.release();
                }
                return Ok(false);
            }
            Poll::Ready(read) => read?,
        };
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // One that sends much gets room for more at once.
        self.room = if read == spare { (self.room * 2).min(INPUT_AHEAD_MAX / 2) } else { self.room };
        self.arrived = Instant::now();
        self.server.hub.stats.bytes_received.fetch_add(read as u64, Relaxed);
        self.heard();
        let skipped = self.skip.min(self.input.len());
        self.input.advance(skipped);
        self.skip -= skipped;
        Ok(true)
    }

    /// Counts what this connection holds beyond what every one may.
    fn hold(&mut self) -> io::Result<()> {
        let now = self.input.capacity().saturating_sub(INPUT_AHEAD_MAX) as u64;
        let counter = &self.server.hub.stats.large_input_bytes;
        let total = counter.fetch_add(now, Relaxed) + now - self.large;
        counter.fetch_sub(self.large, Relaxed);
        self.large = now;
        if now > 0 && total > LARGE_INPUT_MAX {
            return Err(io::Error::other("all connections together hold too much"));
        }
        Ok(())
    }

    fn release(&mut self) {
        self.server.hub.stats.large_input_bytes.fetch_sub(self.large, Relaxed);
        self.large = 0;
    }

    /// The session lives. Said to the replica not more often than it matters.
    pub(super) fn heard(&mut self) {
        if self.connection.read_only {
            return;
        }
        let every = Duration::from_millis((self.connection.timeout_ms.max(0) as u64 / 16).max(1));
        if self.touched.is_none_or(|touched| self.arrived.duration_since(touched) >= every) {
            self.touched = Some(self.arrived);
            self.server.replica.touch(self.connection.session);
        }
    }
}
