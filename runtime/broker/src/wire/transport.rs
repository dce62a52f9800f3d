//! The byte stream of a connection: plain TCP, or TLS over it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::security::{Principal, x509};

/// What a plain connection is read with when nothing is known of what comes: many small requests at once, or the start
/// of a large one.
pub(super) const READ_BYTES: usize = 64 << 10;
/// A buffer with less than this free is not read into.
const SPARE_BYTES_MIN: usize = 4 << 10;
/// What a TLS connection keeps ready to read into: the largest TLS record.
const TLS_READ_BYTES: usize = 16 << 10;

pub(super) enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Transport {
    /// Who is at the other end, where no SASL asks: the subject of the client's certificate, if it had to show one.
    pub(super) fn principal(&self) -> Principal {
        let certificate = match self {
            Transport::Plain(_) => None,
            Transport::Tls(stream) => stream.get_ref().1.peer_certificates().and_then(<[_]>::first),
        };
        let subject = certificate.and_then(|certificate| x509::subject(certificate));
        subject.map_or_else(Principal::anonymous, |subject| Principal::user(&subject))
    }

    /// Reads at most `max` bytes behind what `buffer` has; 0 at the end. Memory is taken when there is something to read,
    /// so that an idle connection holds none.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut BytesMut,
        max: usize,
    ) -> Poll<io::Result<usize>> {
        match self {
            Transport::Plain(stream) => loop {
                if stream.poll_read_ready(cx)?.is_pending() {
                    if buffer.is_empty() {
                        *buffer = BytesMut::new();
                    }
                    return Poll::Pending;
                }
                // What is left of the last buffer is good for a small request.
                if max > READ_BYTES || buffer.capacity() - buffer.len() < SPARE_BYTES_MIN {
                    buffer.reserve(max);
                }
                match stream.try_read_buf(&mut (&mut *buffer).limit(max)) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    read => return Poll::Ready(read),
                }
            },
            Transport::Tls(stream) => {
                // Zeroed, because a safe `ReadBuf` wants it so; what TLS costs is many times that.
                let start = buffer.len();
                buffer.resize(start + max.min(TLS_READ_BYTES), 0);
                let mut read = ReadBuf::new(&mut buffer[start..]);
                let polled = Pin::new(stream).poll_read(cx, &mut read);
                let filled = read.filled().len();
                buffer.truncate(start + filled);
                if buffer.is_empty() {
                    *buffer = BytesMut::new();
                }
                ready!(polled)?;
                Poll::Ready(Ok(filled))
            }
        }
    }

    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self {
            Transport::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Transport::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    /// Hands what TLS still holds to the socket.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Transport::Plain(_) => Poll::Ready(Ok(())),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }
}
