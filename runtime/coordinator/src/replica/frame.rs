//! Frames between servers, and the handshake before them. It knows bytes and their bounds, not what the messages mean.

use std::io;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Version of handshake and frames.
pub(crate) const VERSION: u32 = 1;
const MAGIC: &[u8; 8] = b"flowpeer";
/// Largest frame: an entry of the log with room for its neighbours.
pub(crate) const FRAME_BYTES_MAX: usize = 80 << 20;
/// Longest name of an ensemble.
pub(crate) const CLUSTER_BYTES_MAX: usize = 255;
/// Room made for what is read next.
const READ_BYTES: usize = 64 << 10;
/// Kind and number after the length.
const HEAD_BYTES: usize = 5;
/// A peer that has connected says within this time who it is.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(2);

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Purpose {
    /// Votes, heartbeats, forwarded transactions: small and urgent.
    Calls = 1,
    /// The log's entries, one after the other.
    Entries = 2,
    /// A snapshot.
    Snapshot = 3,
}

/// Who connects to whom, and what for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hello {
    pub purpose: Purpose,
    pub from: u32,
    pub to: u32,
    pub cluster: String,
}

/// Answers to a [`Hello`].
const ACCEPTED: u8 = 0;
const OTHER_VERSION: u8 = 1;
const OTHER_CLUSTER: u8 = 2;
const OTHER_SERVER: u8 = 3;

/// Kinds of frames. A reply has the number of its request.
pub(crate) mod kind {
    pub const REPLY: u8 = 0;
    /// The request could not be served; no body.
    pub const REFUSED: u8 = 1;
    pub const VOTE: u8 = 2;
    pub const PRE_VOTE: u8 = 3;
    pub const APPEND: u8 = 4;
    pub const TRANSFER: u8 = 5;
    pub const FORWARD: u8 = 6;
    pub const TOUCH: u8 = 7;
    pub const READ_INDEX: u8 = 8;
    pub const RECONFIG: u8 = 9;
    pub const SNAPSHOT_BEGIN: u8 = 10;
    pub const SNAPSHOT_CHUNK: u8 = 11;
    pub const SNAPSHOT_END: u8 = 12;
    /// Shows that the other side is alive; the answer is empty.
    pub const PING: u8 = 13;
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub kind: u8,
    pub number: u32,
    pub body: Bytes,
}

/// Begins a frame in `out`; [`end_frame`] closes it.
pub(crate) fn begin_frame(out: &mut Vec<u8>, kind: u8, number: u32) -> usize {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    out.push(kind);
    out.extend_from_slice(&number.to_be_bytes());
    at
}

/// Sets the length of the frame that began at `at`. Fails if the frame is larger than a peer would take.
pub(crate) fn end_frame(out: &mut [u8], at: usize) -> io::Result<()> {
    let length = out.len() - at - 4;
    if length > FRAME_BYTES_MAX {
        return Err(io::Error::other(format!("a frame of {length} bytes is larger than {FRAME_BYTES_MAX}")));
    }
    out[at..at + 4].copy_from_slice(&(length as u32).to_be_bytes());
    Ok(())
}

/// Appends a whole frame.
pub(crate) fn put_frame(out: &mut Vec<u8>, kind: u8, number: u32, body: &[u8]) -> io::Result<()> {
    let at = begin_frame(out, kind, number);
    out.extend_from_slice(body);
    end_frame(out, at)
}

/// Reads frames. A read that is given up loses nothing.
pub(crate) struct FrameReader<R> {
    from: R,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(crate) fn new(from: R) -> FrameReader<R> {
        FrameReader { from, buffer: BytesMut::new() }
    }

    /// A frame that was read already.
    pub(crate) fn buffered(&mut self) -> io::Result<Option<Frame>> {
        let Some(length) = self.buffer.first_chunk().map(|length| u32::from_be_bytes(*length) as usize)
        else {
            return Ok(None);
        };
        if !(HEAD_BYTES..=FRAME_BYTES_MAX).contains(&length) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {length} bytes")));
        }
        if self.buffer.len() < 4 + length {
            return Ok(None);
        }
        self.buffer.advance(4);
        let mut frame = self.buffer.split_to(length).freeze();
        let kind = frame.get_u8();
        let number = frame.get_u32();
        Ok(Some(Frame { kind, number, body: frame }))
    }

    /// The next frame; `None` at the end of the connection.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Frame>> {
        loop {
            if let Some(frame) = self.buffered()? {
                return Ok(Some(frame));
            }
            self.buffer.reserve(READ_BYTES);
            if self.from.read_buf(&mut self.buffer).await? == 0 {
                return if self.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
        }
    }
}

impl Hello {
    /// Says who we are, and waits until the other side has agreed.
    pub(crate) async fn introduce(
        &self,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    ) -> io::Result<()> {
        let mut out = Vec::with_capacity(64);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_be_bytes());
        out.push(self.purpose as u8);
        out.extend_from_slice(&self.from.to_be_bytes());
        out.extend_from_slice(&self.to.to_be_bytes());
        let cluster = &self.cluster.as_bytes()[..self.cluster.len().min(CLUSTER_BYTES_MAX)];
        out.push(cluster.len() as u8);
        out.extend_from_slice(cluster);
        stream.write_all(&out).await?;
        stream.flush().await?;
        let mut answer = [0; 13];
        stream.read_exact(&mut answer).await?;
        if !answer.starts_with(MAGIC) {
            return Err(io::Error::other("the other side is no server of an ensemble"));
        }
        match answer[12] {
            ACCEPTED => Ok(()),
            OTHER_VERSION => Err(io::Error::other("the other side speaks another version")),
            OTHER_CLUSTER => {
                Err(io::Error::other(format!("the other side is not of the ensemble `{}`", self.cluster)))
            }
            OTHER_SERVER => Err(io::Error::other(format!("the other side is not server {}", self.to))),
            _ => Err(io::Error::other("the other side refuses")),
        }
    }

    /// Hears who connects, and answers; an error means that the connection is of no use.
    pub(crate) async fn receive(
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
        me: u32,
        cluster: &str,
    ) -> io::Result<Hello> {
        let mut head = [0; 22];
        stream.read_exact(&mut head).await?;
        let number = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        if !head.starts_with(MAGIC) {
            return Err(io::Error::other("not a server of an ensemble"));
        }
        let mut name = vec![0; usize::from(head[21])];
        stream.read_exact(&mut name).await?;
        let purpose = match head[12] {
            1 => Some(Purpose::Calls),
            2 => Some(Purpose::Entries),
            3 => Some(Purpose::Snapshot),
            _ => None,
        };
        let (answer, why) = match purpose {
            _ if number(8) != VERSION => (OTHER_VERSION, "another version"),
            None => (OTHER_VERSION, "an unknown purpose"),
            _ if name != cluster.as_bytes() => (OTHER_CLUSTER, "another ensemble"),
            _ if number(17) != me => (OTHER_SERVER, "looking for another server"),
            Some(_) => (ACCEPTED, ""),
        };
        let mut out = Vec::with_capacity(13);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_be_bytes());
        out.push(answer);
        stream.write_all(&out).await?;
        stream.flush().await?;
        match (answer, purpose) {
            (ACCEPTED, Some(purpose)) => {
                Ok(Hello { purpose, from: number(13), to: me, cluster: cluster.to_owned() })
            }
            _ => Err(io::Error::other(why)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_server_that_was_meant_answers_well() {
        let hello = Hello { purpose: Purpose::Calls, from: 2, to: 1, cluster: "a".into() };
        for (me, cluster, well) in [(1, "a", true), (3, "a", false), (1, "b", false)] {
            let (mut ours, mut theirs) = tokio::io::duplex(256);
            let (said, heard) =
                tokio::join!(hello.introduce(&mut ours), Hello::receive(&mut theirs, me, cluster));
            assert_eq!(said.is_ok(), well);
            assert_eq!(heard.ok(), well.then(|| hello.clone()));
        }
    }

    #[tokio::test]
    async fn frames_come_back_and_too_large_ones_are_refused() {
        let mut out = Vec::new();
        put_frame(&mut out, kind::VOTE, 7, b"abc").unwrap();
        put_frame(&mut out, kind::REPLY, 8, b"").unwrap();
        let mut reader = FrameReader::new(&out[..]);
        let first = reader.next().await.unwrap().unwrap();
        assert_eq!((first.kind, first.number, &first.body[..]), (kind::VOTE, 7, &b"abc"[..]));
        assert_eq!(reader.next().await.unwrap().unwrap().number, 8);
        assert_eq!(reader.next().await.unwrap(), None);
        assert!(FrameReader::new(&out[..5]).next().await.is_err());
        for length in [0u32, 4, FRAME_BYTES_MAX as u32 + 1, u32::MAX] {
            let mut bytes = length.to_be_bytes().to_vec();
            bytes.extend_from_slice(&[0; 32]);
            assert!(FrameReader::new(&bytes[..]).next().await.is_err(), "{length}");
        }
    }
}
