//! What other servers ask of this one: connections of peers, the handshake, and the calls. It passes them to the
//! consensus library and to the replica, and bounds them.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::FuturesUnordered;
use futures_util::{Stream, StreamExt};
use tokio::io::{AsyncWriteExt, ReadHalf};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::Inner;
use super::codec::{
    AppendRequest, Reader, decode_append, decode_transfer, decode_vote_request, encode_append_result,
    encode_vote_response, put_vote,
};
use super::frame::{Frame, FrameReader, HANDSHAKE_TIMEOUT, Hello, Purpose, kind, put_frame};
use super::machine::decode_data;
use super::reconfig::Reconfig;
use super::snapshot::SnapshotData;
use super::types::{CallBack, Data, Proposed};
use crate::network::{Connection, Listener};
use crate::state::Entry;

type Snapshot = openraft::type_config::alias::SnapshotOf<super::types::Types, SnapshotData>;

/// Connections of peers at a time: three of each server, and some that are about to end.
const CONNECTIONS_MAX: usize = 1024;
/// Calls of one connection that are served at a time.
const CALLS_MAX: usize = 256;
/// A peer that sends nothing of a snapshot for so long is given up.
const SNAPSHOT_IDLE: Duration = Duration::from_secs(30);
/// A peer asks several times a second whether this server lives; one that is silent for so long is gone.
const CALLS_IDLE: Duration = Duration::from_secs(5);
/// A leader without writes sends no entries. If it is gone, the connection need not stay for ever.
const ENTRIES_IDLE: Duration = Duration::from_secs(300);
/// A pause after a connection could not be accepted, as without file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// A peer that takes no answers for so long is given up.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest snapshot that is taken.
const SNAPSHOT_BYTES_MAX: u64 = 1 << 40;

/// Accepts connections of peers until the task is ended.
pub(super) async fn listen(inner: Arc<Inner>, mut listener: Box<dyn Listener>) {
    let room = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = room.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, from)) => {
                let shared = inner.clone();
                inner.spawn(async move {
                    let ended = serve(&shared, stream).await;
                    tracing::debug!(from, ?ended, "a connection of a peer ended");
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection of a peer could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(inner: &Arc<Inner>, stream: Connection) -> io::Result<()> {
    let handshake = async {
        let mut stream: Connection = match &inner.config.peer_tls {
            None => stream,
            Some(tls) => {
                let acceptor = tokio_rustls::TlsAcceptor::from(tls.server.clone());
                Box::pin(acceptor.accept(stream).await?)
            }
        };
        let hello = Hello::receive(&mut stream, inner.config.server, &inner.config.cluster).await?;
        io::Result::Ok((hello, stream))
    };
    let (hello, stream) = timeout(HANDSHAKE_TIMEOUT, handshake)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
    match hello.purpose {
        Purpose::Calls => serve_calls(inner, hello.from, stream).await,
        Purpose::Entries => serve_entries(inner, hello.from, stream).await,
        Purpose::Snapshot => serve_snapshot(inner, hello.from, stream).await,
    }
}

async fn write(to: &mut (impl AsyncWriteExt + Unpin), bytes: &[u8]) -> io::Result<()> {
    let written = timeout(WRITE_TIMEOUT, async {
        to.write_all(bytes).await?;
        to.flush().await
    });
    written.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn serve_calls(inner: &Arc<Inner>, from: u32, stream: Connection) -> io::Result<()> {
    let (read, mut to) = tokio::io::split(stream);
    let mut frames = FrameReader::new(read);
    let mut calls = FuturesUnordered::new();
    let mut out = Vec::new();
    // One word for all that was refused meanwhile.
    let refused = Arc::new(Notify::new());
    loop {
        tokio::select! {
            biased;
            () = refused.notified() => {
                out.clear();
                put_frame(&mut out, kind::REFUSED, 0, &[])?;
                write(&mut to, &out).await?;
            }
            Some((number, answer)) = calls.next(), if !calls.is_empty() => {
                let answer: Option<Vec<u8>> = answer;
                out.clear();
                match answer {
                    Some(body) => put_frame(&mut out, kind::REPLY, number, &body)?,
                    None => put_frame(&mut out, kind::REFUSED, number, &[])?,
                }
                write(&mut to, &out).await?;
            }
            frame = timeout(CALLS_IDLE, frames.next()), if calls.len() < CALLS_MAX => {
                let frame = frame.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
                let Some(Frame { kind, number, body }) = frame else { return Ok(()) };
                match kind {
                    // In the order in which they came, and without an answer.
                    kind::FORWARD => forward(inner, from, body, &refused).await?,
                    kind::TOUCH => touch(inner, body)?,
                    _ => calls.push(async move { (number, answer(inner, from, kind, body).await) }),
                }
            }
        }
    }
}

/// The body of the answer; `None` if there is none.
async fn answer(inner: &Arc<Inner>, from: u32, kind: u8, body: Bytes) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    match kind {
        kind::VOTE => {
            let response = inner.raft.vote(decode_vote_request(body).ok()?).await.ok()?;
            encode_vote_response(&response, &mut out);
        }
        kind::PRE_VOTE => {
            let response = inner.raft.pre_vote(decode_vote_request(body).ok()?).await.ok()?;
            encode_vote_response(&response, &mut out);
        }
        kind::APPEND => {
            let request = decode_append(body).ok()?;
            inner.heard_of(from, &request);
            let previous = request.prev_log_id;
            let last = request.entries.last().map(|entry| entry.log_id).or(previous);
            let response = inner.raft.append_entries(request).await.ok()?;
            if response.is_conflict() && previous.is_none() {
                return None;
            }
            encode_append_result(&response.into_stream_result(previous, last), &mut out);
        }
        kind::TRANSFER => {
            let taken = inner.raft.handle_transfer_leader(decode_transfer(body).ok()?).await.ok()?;
            taken.ok()?;
        }
        kind::READ_INDEX => out.extend_from_slice(&inner.read_index_here().await?.to_be_bytes()),
        kind::RECONFIG => {
            let change: Reconfig = serde_json::from_slice(&body).ok()?;
            let done = inner.reconfig_here(change).await;
            out.extend_from_slice(&done.err().map_or(0, |code| code as i32).to_be_bytes());
        }
        kind::PING => {}
        _ => return None,
    }
    Some(out)
}

/// Proposes transactions of another server. If this one no longer leads in the term they were meant for, or does not know
/// yet that a quorum follows it, the sender is told to send them again.
async fn forward(inner: &Arc<Inner>, from: u32, body: Bytes, refused: &Arc<Notify>) -> io::Result<()> {
    let mut reader = Reader::new(body);
    let term = reader.u64().map_err(io::Error::other)?;
    let encoded = reader.rest();
    let mut entry = Entry::decode(&encoded).map_err(|error| io::Error::other(error.to_string()))?;
    if entry.origin.server != from || from == 0 {
        return Err(io::Error::other("transactions of another server than the one that sends them"));
    }
    entry.time_ms = inner.world.clock.now_ms();
    inner.heard_in(&entry);
    let data = Data::new(entry.time_ms, &encoded, Some(Arc::new(entry)));
    debug_assert!(decode_data(&data).is_ok());
    let refused = refused.clone();
    let answer = CallBack(Box::new(move |proposed: Proposed| {
        if proposed.is_err() {
            refused.notify_one();
        }
    }));
    inner.raft.write(data).with_leader(term).responder(answer).await.map_err(io::Error::other)
}

fn touch(inner: &Arc<Inner>, body: Bytes) -> io::Result<()> {
    let mut reader = Reader::new(body);
    let mut sessions = Vec::new();
    while let Ok(session) = reader.u64() {
        sessions.push(session as i64);
    }
    inner.heard(&sessions);
    Ok(())
}

async fn serve_entries(inner: &Arc<Inner>, from: u32, stream: Connection) -> io::Result<()> {
    let (read, mut to) = tokio::io::split(stream);
    let requests = requests(inner.clone(), from, FrameReader::new(read));
    let mut answers = Box::pin(inner.raft.stream_append(requests));
    let mut out = Vec::new();
    while let Some(answer) = answers.next().await {
        let answer = answer.map_err(io::Error::other)?;
        let mut body = Vec::new();
        encode_append_result(&answer, &mut body);
        out.clear();
        put_frame(&mut out, kind::REPLY, 0, &body)?;
        write(&mut to, &out).await?;
    }
    Ok(())
}

/// Requests as they come, until the connection ends or says something that is none.
fn requests(
    inner: Arc<Inner>,
    from: u32,
    frames: FrameReader<ReadHalf<Connection>>,
) -> impl Stream<Item = AppendRequest> {
    futures_util::stream::unfold((inner, frames), move |(inner, mut frames)| async move {
        let frame = timeout(ENTRIES_IDLE, frames.next()).await;
        let frame = match frame.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(frame) => frame?,
            Err(error) => {
                tracing::debug!(server = from, %error, "a stream of entries broke");
                return None;
            }
        };
        if frame.kind != kind::APPEND {
            return None;
        }
        match decode_append(frame.body) {
            Ok(request) => {
                inner.heard_of(from, &request);
                Some((request, (inner, frames)))
            }
            Err(error) => {
                tracing::warn!(server = from, %error, "a peer sent what is no request");
                None
            }
        }
    })
}

async fn serve_snapshot(inner: &Arc<Inner>, from: u32, stream: Connection) -> io::Result<()> {
    let (read, mut to) = tokio::io::split(stream);
    let mut frames = FrameReader::new(read);
    let Some(begin) = next(&mut frames).await? else { return Ok(()) };
    if begin.kind != kind::SNAPSHOT_BEGIN {
        return Err(io::Error::other("a snapshot that does not begin"));
    }
    let mut reader = Reader::new(begin.body);
    let vote = reader.vote().map_err(io::Error::other)?;
    let bytes = reader.u64().map_err(io::Error::other)?;
    if bytes > SNAPSHOT_BYTES_MAX {
        return Err(io::Error::other(format!("a snapshot of {bytes} bytes")));
    }
    tracing::info!(server = from, bytes, "a snapshot comes from the leader");
    let mut copy = inner.shared.snapshots.begin_copy(inner.next_copy())?;
    loop {
        let frame = next(&mut frames).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        match frame.kind {
            kind::SNAPSHOT_CHUNK if copy.bytes() + frame.body.len() as u64 <= bytes => {
                copy.write(&frame.body)?
            }
            kind::SNAPSHOT_END if copy.bytes() == bytes => break,
            _ => return Err(io::Error::other("a snapshot that is not as long as was said")),
        }
    }
    let finish = move || copy.finish();
    let finished = if inner.shared.threads {
        tokio::task::spawn_blocking(finish).await.map_err(io::Error::other)?
    } else {
        finish()
    };
    let (file, state) = finished.map_err(io::Error::other)?;
    let meta = file.meta.clone();
    let data = SnapshotData { file: Arc::new(file), restored: Some(Box::new(state)) };
    let snapshot = Snapshot { meta, snapshot: data };
    let response = inner.raft.install_full_snapshot(vote, snapshot).await.map_err(io::Error::other)?;
    let (mut out, mut body) = (Vec::new(), Vec::new());
    put_vote(&mut body, &response.vote);
    put_frame(&mut out, kind::REPLY, 0, &body)?;
    write(&mut to, &out).await
}

async fn next(frames: &mut FrameReader<ReadHalf<Connection>>) -> io::Result<Option<Frame>> {
    timeout(SNAPSHOT_IDLE, frames.next()).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
