//! The answers of one connection on their way to its socket: small ones gathered into one write, ranges of files sent
//! by the kernel where it can (`sendfile`), and through memory where it cannot (TLS, a file without a descriptor).

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use flow_log::{File, Slice};
use rustix::io::ReadWriteFlags;
use rustix::net::SendFlags;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::transport::Transport;

/// Bytes in memory that wait for the socket; beyond it answers are not encoded and requests not read.
pub(super) const QUEUED_BYTES_MAX: usize = 1 << 20;
/// A piece up to this size is copied behind what is already there instead of being a write of its own.
const COPY_BYTES_MAX: usize = 4 << 10;
/// The buffer for gathered answers is given back beyond this size.
const KEEP_BYTES_MAX: usize = 8 << 10;
/// Pieces of one write.
const SLICES_MAX: usize = 16;
/// What one `sendfile` may take: after it other connections have their turn.
const SEND_BYTES_MAX: usize = 512 << 10;
/// What is read of a file at once where `sendfile` cannot be used.
const COPY_READ_BYTES: usize = 128 << 10;

#[derive(Default)]
pub(super) struct Output {
    chunks: VecDeque<Chunk>,
    /// Behind `chunks`.
    tail: BytesMut,
    /// Reads what is not in the page cache, away from the threads that serve connections.
    warming: Option<JoinHandle<io::Result<()>>>,
    /// Up to where the range in front was found, or made, warm.
    warm_until: u64,
    /// TLS may hold bytes that it has not handed on.
    flush: bool,
    /// Of everything ever: tells whether the client takes what it is sent.
    sent: u64,
}

enum Chunk {
    Bytes(Bytes),
    Range(Range),
}

/// What is left to send of a part of a file.
struct Range {
    file: Arc<dyn File>,
    position: u64,
    len: usize,
}

impl Output {
    /// Where small answers are encoded.
    pub(super) fn tail(&mut self) -> &mut BytesMut {
        &mut self.tail
    }

    pub(super) fn push_bytes(&mut self, bytes: Bytes) {
        if bytes.len() <= COPY_BYTES_MAX {
            self.tail.extend_from_slice(&bytes);
        } else {
            self.cut();
            self.chunks.push_back(Chunk::Bytes(bytes));
        }
    }

    pub(super) fn push_slice(&mut self, slice: &Slice) {
        if !slice.is_empty() {
            self.cut();
            let (file, position, len) = (Arc::clone(slice.file()), slice.position(), slice.len());
            self.chunks.push_back(Chunk::Range(Range { file, position, len }));
        }
    }

    fn cut(&mut self) {
        if !self.tail.is_empty() {
            self.chunks.push_back(Chunk::Bytes(self.tail.split().freeze()));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.tail.is_empty() && !self.flush
    }

    /// Whether more may be encoded.
    pub(super) fn has_room(&self) -> bool {
        self.chunks.len() < SLICES_MAX && self.tail.len() + self.queued() < QUEUED_BYTES_MAX
    }

    fn queued(&self) -> usize {
        self.chunks.iter().map(|chunk| if let Chunk::Bytes(bytes) = chunk { bytes.len() } else { 0 }).sum()
    }

    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// Writes until everything is written (`Ready`) or the socket takes no more.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        transport: &mut Transport,
    ) -> Poll<io::Result<()>> {
        loop {
            if self.chunks.is_empty() && self.tail.is_empty() {
                break;
            }
            let sent = match self.chunks.front_mut() {
                Some(Chunk::Range(range)) => {
                    ready!(warm(cx, range, &mut self.warm_until, &mut self.warming))?;
                    let Transport::Plain(stream) = transport else {
                        self.read_front()?;
                        continue;
                    };
                    if range.file.as_fd().is_none() {
                        self.read_front()?;
                        continue;
                    }
                    let sent = ready!(poll_send_file(cx, stream, range))?;
                    range.position += sent as u64;
                    range.len -= sent;
                    if range.len == 0 {
                        self.chunks.pop_front();
                        self.warm_until = 0;
                    }
                    sent
                }
                _ => {
                    let sent = ready!(self.poll_write_bytes(cx, transport))?;
                    self.take(sent);
                    sent
                }
            };
            self.sent += sent as u64;
        }
        if self.tail.capacity() > KEEP_BYTES_MAX {
            self.tail = BytesMut::new();
        }
        if self.flush {
            ready!(transport.poll_flush(cx))?;
            self.flush = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Writes the pieces in memory that stand before the next range of a file.
    fn poll_write_bytes(
        &mut self,
        cx: &mut Context<'_>,
        transport: &mut Transport,
    ) -> Poll<io::Result<usize>> {
        // The head of an answer goes with the first bytes of the file behind it, not in a packet of its own.
        if let (Some(Chunk::Bytes(bytes)), Some(Chunk::Range(_)), Transport::Plain(stream)) =
            (self.chunks.front(), self.chunks.get(1), &mut *transport)
        {
            let more = SendFlags::MORE | SendFlags::NOSIGNAL;
            return poll_try(cx, stream, |stream| Ok(rustix::net::send(stream, bytes, more)?));
        }
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let mut count = 0;
        let mut before_range = false;
        for chunk in self.chunks.iter().take(SLICES_MAX) {
            let Chunk::Bytes(bytes) = chunk else {
                before_range = true;
                break;
            };
            slices[count] = IoSlice::new(bytes);
            count += 1;
        }
        if !before_range && count == self.chunks.len() && count < SLICES_MAX && !self.tail.is_empty() {
            slices[count] = IoSlice::new(&self.tail);
            count += 1;
        }
        self.flush = matches!(transport, Transport::Tls(_));
        let sent = ready!(transport.poll_write(cx, &slices[..count]))?;
        Poll::Ready(if sent == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(sent) })
    }

    /// Forgets what was written.
    fn take(&mut self, mut sent: usize) {
        while sent > 0 {
            let Some(Chunk::Bytes(bytes)) = self.chunks.front_mut() else {
                self.tail.advance(sent);
                return;
            };
            let part = sent.min(bytes.len());
            bytes.advance(part);
            sent -= part;
            if bytes.is_empty() {
                self.chunks.pop_front();
            }
        }
    }

    /// Puts the first part of the range in front into memory.
    fn read_front(&mut self) -> io::Result<()> {
        let Some(Chunk::Range(range)) = self.chunks.front_mut() else { return Ok(()) };
        let mut bytes = vec![0; range.len.min(COPY_READ_BYTES)];
        let read = range.file.read_at(&mut bytes, range.position)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.truncate(read);
        range.position += read as u64;
        range.len -= read;
        if range.len == 0 {
            self.chunks.pop_front();
            self.warm_until = 0;
        }
        self.chunks.push_front(Chunk::Bytes(bytes.into()));
        Ok(())
    }
}

/// Ready when the start of `range` can be read without waiting for the disk. What is not in the page cache is read by a
/// thread that may wait: a reader of old data must not stop the others.
fn warm(
    cx: &mut Context<'_>,
    range: &Range,
    warm_until: &mut u64,
    warming: &mut Option<JoinHandle<io::Result<()>>>,
) -> Poll<io::Result<()>> {
    if let Some(handle) = warming {
        let read = ready!(std::pin::Pin::new(handle).poll(cx));
        *warming = None;
        read.map_err(io::Error::other)??;
    }
    if range.position < *warm_until {
        return Poll::Ready(Ok(()));
    }
    let len = range.len.min(SEND_BYTES_MAX);
    *warm_until = range.position + len as u64;
    let Some(fd) = range.file.as_fd() else { return Poll::Ready(Ok(())) };
    // The last byte speaks for all: the kernel reads ahead, and drops the oldest first.
    let mut byte = [0];
    let probe = rustix::io::preadv2(
        fd,
        &mut [io::IoSliceMut::new(&mut byte)],
        *warm_until - 1,
        ReadWriteFlags::NOWAIT,
    );
    if probe != Err(rustix::io::Errno::AGAIN) {
        return Poll::Ready(Ok(()));
    }
    let (file, position) = (Arc::clone(&range.file), range.position);
    let mut handle = tokio::task::spawn_blocking(move || read_through(&*file, position, len));
    // Polled here so that it wakes this connection.
    let polled = std::pin::Pin::new(&mut handle).poll(cx);
    if polled.is_pending() {
        *warming = Some(handle);
    }
    polled.map(|read| read.map_err(io::Error::other)?)
}

fn read_through(file: &dyn File, mut position: u64, mut len: usize) -> io::Result<()> {
    let mut buffer = vec![0; len.min(COPY_READ_BYTES)];
    while len > 0 {
        let part = len.min(buffer.len());
        match file.read_at(&mut buffer[..part], position)? {
            0 => break,
            read => (position, len) = (position + read as u64, len - read),
        }
    }
    Ok(())
}

fn poll_send_file(cx: &mut Context<'_>, stream: &TcpStream, range: &Range) -> Poll<io::Result<usize>> {
    let Some(fd) = range.file.as_fd() else { return Poll::Ready(Ok(0)) };
    let count = range.len.min(SEND_BYTES_MAX);
    poll_try(cx, stream, |stream| {
        let mut position = range.position;
        match rustix::fs::sendfile(stream, fd, Some(&mut position), count)? {
            // The file is shorter than its log says.
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            sent => Ok(sent),
        }
    })
}

/// Does `write` when the socket is writable.
fn poll_try(
    cx: &mut Context<'_>,
    stream: &TcpStream,
    write: impl Fn(&TcpStream) -> io::Result<usize>,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(stream.poll_write_ready(cx))?;
        match stream.try_io(Interest::WRITABLE, || write(stream)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            written => return Poll::Ready(written),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::os::fd::BorrowedFd;

    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;

    /// A file of bytes that tell their place, with or without a descriptor.
    struct Numbers {
        file: std::fs::File,
        has_fd: bool,
    }

    impl File for Numbers {
        fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
            std::os::unix::fs::FileExt::read_at(&self.file, buffer, position)
        }

        fn write_at(&self, _pieces: &[IoSlice<'_>], _position: u64) -> io::Result<usize> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn sync(&self) -> io::Result<()> {
            Ok(())
        }

        fn set_len(&self, _bytes: u64) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn len(&self) -> io::Result<u64> {
            Ok(self.file.metadata()?.len())
        }

        fn as_fd(&self) -> Option<BorrowedFd<'_>> {
            self.has_fd.then(|| std::os::fd::AsFd::as_fd(&self.file))
        }
    }

    const FILE_BYTES: usize = 3 << 20;

    fn numbers() -> Vec<u8> {
        (0..FILE_BYTES as u32 / 4).flat_map(u32::to_be_bytes).collect()
    }

    fn file(has_fd: bool) -> Arc<dyn File> {
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, &numbers()).unwrap();
        file.sync_all().unwrap();
        // Out of the page cache, where that is possible: what is cold must be read by somebody else.
        let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
        Arc::new(Numbers { file, has_fd })
    }

    async fn pair() -> (Transport, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (Transport::Plain(listener.accept().await.unwrap().0), client)
    }

    fn range(file: &Arc<dyn File>, position: u64, len: usize) -> Chunk {
        Chunk::Range(Range { file: Arc::clone(file), position, len })
    }

    #[tokio::test]
    async fn pieces_arrive_in_order_whatever_they_are_made_of() {
        for has_fd in [true, false] {
            let (file, numbers) = (file(has_fd), numbers());
            let (mut transport, mut client) = pair().await;
            let mut output = Output::default();
            let large = Bytes::from(vec![7; 100_000]);
            output.tail().extend_from_slice(b"head");
            output.push_bytes(Bytes::from_static(b"small"));
            output.push_bytes(large.clone());
            output.cut();
            output.chunks.push_back(range(&file, 4_000, 2_000_000));
            output.tail().extend_from_slice(b"between");
            output.cut();
            output.chunks.push_back(range(&file, 0, 10));
            output.chunks.push_back(range(&file, 1, FILE_BYTES - 1));
            output.tail().extend_from_slice(b"tail");
            let mut expected = b"headsmall".to_vec();
            expected.extend(&large);
            expected.extend(&numbers[4_000..2_004_000]);
            expected.extend(b"between");
            expected.extend(&numbers[..10]);
            expected.extend(&numbers[1..]);
            expected.extend(b"tail");
            let send = async {
                poll_fn(|cx| output.poll_write(cx, &mut transport)).await.unwrap();
                drop(transport);
            };
            let mut received = Vec::new();
            let (_, read) = tokio::join!(send, client.read_to_end(&mut received));
            read.unwrap();
            assert!(received == expected, "{has_fd}: {} of {} bytes", received.len(), expected.len());
            assert!(output.is_empty());
            assert_eq!(output.sent(), expected.len() as u64);
        }
    }

    #[tokio::test]
    async fn a_file_that_is_shorter_than_it_should_be_ends_the_connection() {
        for has_fd in [true, false] {
            let file = file(has_fd);
            let (mut transport, _client) = pair().await;
            let mut output = Output::default();
            output.chunks.push_back(range(&file, FILE_BYTES as u64 - 10, 11));
            let error = poll_fn(|cx| output.poll_write(cx, &mut transport)).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
    }

    #[tokio::test]
    async fn who_does_not_read_fills_no_memory() {
        let (mut transport, _client) = pair().await;
        let mut output = Output::default();
        while output.has_room() {
            output.push_bytes(Bytes::from(vec![1; 100_000]));
            let written = poll_fn(|cx| Poll::Ready(output.poll_write(cx, &mut transport))).await;
            assert!(!matches!(written, Poll::Ready(Err(_))));
        }
        assert!(output.queued() <= QUEUED_BYTES_MAX + 100_000);
    }
}
