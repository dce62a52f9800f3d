//! One end of a connection, as tokio's traits want it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::SimNetwork;

pub(super) struct SimStream {
    network: SimNetwork,
    connection: u64,
    /// 0 for the end that connected, 1 for the end that accepted.
    side: usize,
}

impl SimStream {
    pub fn new(network: SimNetwork, connection: u64, side: usize) -> SimStream {
        SimStream { network, connection, side }
    }
}

impl AsyncRead for SimStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.network.with(|net| net.read(self.connection, self.side, context.waker(), buffer))
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.network.with(|net| net.write(self.connection, self.side, context.waker(), bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.network.with(|net| net.shutdown(self.connection, self.side)))
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        self.network.with(|net| net.drop_end(self.connection, self.side));
    }
}
