//! From readers to batches: pieces of input from connections, commands or datagrams wait in a bounded queue and
//! leave together, as many as are there, up to the size of a batch.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use flow_agent::{Fault, SourceError, SourceOutput, Stop};
use flow_plan::batch::{ARENA_PADDING, Arena, Columns};
use flow_plan::{Batch, Range};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;

use super::budget::Share;
use super::lines::{Cut, Lines, cut_lines};
use super::rows::{HeaderTarget, Stamp};

/// Pieces waiting for the flow, at most; then readers wait, and so do their peers.
pub const QUEUE_CHUNKS: usize = 32;

/// Lines read together.
#[derive(Debug)]
pub struct Chunk {
    pub bytes: Vec<u8>,
    pub bodies: Vec<Range>,
    pub time_ms: i64,
    /// The value of the header that names where it came from.
    pub origin: Option<Arc<str>>,
}

/// How chunks become batches.
pub struct Pump<'a> {
    pub rows_max: usize,
    pub linger: Duration,
    pub origin_header: Option<HeaderTarget>,
    pub stamp: &'a Stamp,
    /// A last change to each batch.
    pub finish: Option<&'a (dyn Fn(Columns) -> Columns + Send + Sync)>,
}

impl Pump<'_> {
    /// Sends what comes until all senders are gone. After the stop, what waits is sent still.
    pub async fn run(
        &self,
        mut chunks: mpsc::Receiver<Chunk>,
        output: &SourceOutput,
        stop: &mut Stop,
    ) -> Result<(), SourceError> {
        let mut carried: Option<Chunk> = None;
        loop {
            let first = match carried.take() {
                Some(chunk) => chunk,
                None => match chunks.try_recv() {
                    Ok(chunk) => chunk,
                    Err(mpsc::error::TryRecvError::Disconnected) => return Ok(()),
                    // Closed by the stop: a reader may hold its sender for long.
                    Err(mpsc::error::TryRecvError::Empty) if chunks.is_closed() => return Ok(()),
                    Err(mpsc::error::TryRecvError::Empty) => {
                        output.idle();
                        tokio::select! {
                            chunk = chunks.recv() => match chunk {
                                Some(chunk) => chunk,
                                None => return Ok(()),
                            },
                            () = stop.stopped() => {
                                // No more puts; what is in the queue comes out below.
                                chunks.close();
                                match chunks.recv().await {
                                    Some(chunk) => chunk,
                                    None => return Ok(()),
                                }
                            }
                        }
                    }
                },
            };
            let mut rows = first.bodies.len();
            let mut gathered = vec![first];
            let until = tokio::time::Instant::now() + self.linger;
            while rows < self.rows_max {
                let chunk = match chunks.try_recv() {
                    Ok(chunk) => chunk,
                    Err(_) if self.linger.is_zero() || stop.is_stopped() => break,
                    Err(_) => match tokio::time::timeout_at(until, chunks.recv()).await {
                        Ok(Some(chunk)) => chunk,
                        _ => break,
                    },
                };
                if rows + chunk.bodies.len() > self.rows_max {
                    carried = Some(chunk);
                    break;
                }
                rows += chunk.bodies.len();
                gathered.push(chunk);
            }
            let mut columns = self.merge(gathered).map_err(|_| full())?;
            if let Some(finish) = self.finish {
                columns = finish(columns);
            }
            self.stamp.apply(&mut columns);
            output.send_ahead(Batch::new(columns)).await?;
        }
    }

    fn merge(&self, chunks: Vec<Chunk>) -> Result<Columns, flow_plan::batch::ArenaFull> {
        let rows = chunks.iter().map(|chunk| chunk.bodies.len()).sum();
        let mut times = Vec::with_capacity(rows);
        let mut bodies = Vec::with_capacity(rows);
        let mut origins: Vec<(Option<Arc<str>>, usize)> = Vec::with_capacity(chunks.len());
        let mut bytes: Vec<u8> = Vec::new();
        for chunk in chunks {
            times.resize(times.len() + chunk.bodies.len(), chunk.time_ms);
            origins.push((chunk.origin, chunk.bodies.len()));
            let base = bytes.len();
            if base + chunk.bytes.len() > flow_plan::batch::ARENA_BYTES_MAX {
                return Err(flow_plan::batch::ArenaFull);
            }
            if base == 0 {
                // The first and usually only buffer is taken as it is.
                bytes = chunk.bytes;
                bytes.reserve(2 * ARENA_PADDING);
                bodies.extend(chunk.bodies);
            } else {
                bytes.extend_from_slice(&chunk.bytes);
                let moved = |body: Range| Range::new(base + body.start as usize, body.len as usize);
                bodies.extend(chunk.bodies.into_iter().map(moved));
            }
        }
        let mut columns = Columns { arena: Arena::from_vec(bytes)?, bodies, times, ..Columns::default() };
        if let Some(header) = &self.origin_header {
            let mut row = 0;
            for (origin, rows) in origins {
                if let Some(origin) = origin {
                    let value = columns.arena.push(origin.as_bytes())?;
                    (row..row + rows).for_each(|row| header.set(&mut columns, row as u32, value));
                }
                row += rows;
            }
        }
        Ok(columns)
    }
}

/// The fault of a batch that outgrows its arena; the bounds on lines and rows keep it from happening.
pub fn full() -> SourceError {
    SourceError::Fatal(Fault::new("a batch is larger than 4 GiB").help("make `batch` or `line_max` smaller"))
}

/// Lines of an asynchronous reader, many at a time.
pub struct LineReader<R> {
    input: Input<R>,
    /// Bytes at the start of the buffer that hold no line end.
    looked_at: usize,
    cut: Cut,
}

impl<R: AsyncRead + Unpin> LineReader<R> {
    pub fn new(input: Input<R>, cut: Cut) -> LineReader<R> {
        LineReader { input, looked_at: 0, cut }
    }

    /// The next lines, with the bytes that their ranges refer to. `None` at the end. Waiting may be given up at
    /// any time without losing bytes. After an error what has come is a line.
    pub async fn next(&mut self) -> io::Result<Option<(Vec<u8>, Lines)>> {
        loop {
            let bytes = self.input.bytes();
            let fresh = &bytes[self.looked_at.min(bytes.len())..];
            let worth =
                self.input.ended || bytes.len() > self.cut.line_max || memchr::memchr(b'\n', fresh).is_some();
            if worth {
                let lines = cut_lines(bytes, Cut { at_end: self.input.ended, ..self.cut });
                if !lines.bodies.is_empty() {
                    self.looked_at = 0;
                    return Ok(Some((self.input.split(lines.consumed), lines)));
                }
            }
            if self.input.ended {
                return Ok(None);
            }
            self.looked_at = self.input.bytes().len();
            self.input.read().await?;
        }
    }

    /// Nothing more is read: what has come is a line.
    pub fn end(&mut self) {
        self.input.ended = true;
    }
}

/// Bytes that have come and are not taken yet.
pub struct Input<R> {
    reader: R,
    buffer: Vec<u8>,
    /// Bytes per read.
    read: usize,
    share: Option<Share>,
    pub ended: bool,
}

impl<R: AsyncRead + Unpin> Input<R> {
    /// `share`: bounds what waits here, together with others.
    pub fn new(reader: R, read: usize, share: Option<Share>) -> Input<R> {
        Input { reader, buffer: Vec::new(), read: read.max(1), share, ended: false }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.buffer
    }

    /// Reads once. [`io::ErrorKind::OutOfMemory`]: the share allows no more. Nothing is lost when it is not waited
    /// for to the end.
    pub async fn read(&mut self) -> io::Result<()> {
        self.buffer.reserve(self.read);
        let count = match self.reader.read_buf(&mut self.buffer).await {
            Ok(count) => count,
            Err(error) => {
                self.ended = true;
                return Err(error);
            }
        };
        self.ended = count == 0;
        if let Some(share) = &mut self.share
            && !share.set(self.buffer.len())
        {
            self.ended = true;
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        Ok(())
    }

    /// Takes bytes from the start. A few are copied, so that a short line does not hold a large buffer.
    pub fn split(&mut self, at: usize) -> Vec<u8> {
        let taken = if at < self.buffer.capacity() / 2 {
            let taken = self.buffer[..at].to_vec();
            self.buffer.drain(..at);
            taken
        } else {
            let rest = self.buffer.split_off(at);
            std::mem::replace(&mut self.buffer, rest)
        };
        if let Some(share) = &mut self.share {
            // Less than before is always allowed.
            share.set(self.buffer.len());
        }
        taken
    }
}
