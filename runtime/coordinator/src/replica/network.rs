//! How the consensus library reaches other servers: votes and heartbeats as calls, entries as a stream of requests that
//! are not waited for one by one, snapshots as a stream of pieces. It must not know what entries mean.

use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use openraft::OptionalSend;
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::network::{Backoff, RPCOption, RaftNetworkFactory, RaftNetworkV2, stream_append_sequential};
use openraft::raft::{
    AppendEntriesResponse, SnapshotResponse, StreamAppendError, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::watch;
use tokio::time::timeout;

use super::codec::{
    AppendRequest, AppendResult, Malformed, Reader, decode_append_result, decode_vote_response,
    encode_append, encode_meta, encode_transfer, encode_vote_request, put_vote,
};
use super::config::Member;
use super::frame::{FrameReader, Purpose, begin_frame, end_frame, kind, put_frame};
use super::link::{Dialer, Link};
use super::snapshot::SnapshotData;
use super::types::{Types, Vote};
use crate::network::Connection;

type Snapshot = openraft::type_config::alias::SnapshotOf<Types, SnapshotData>;
type Failed = RPCError<Types>;

/// Requests with entries that were sent and not answered.
const REQUESTS_MAX: usize = 32;
/// A follower that answers nothing for so long is connected to anew.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Pieces of a snapshot.
const CHUNK_BYTES: usize = 256 << 10;
/// A follower checks and reads a whole snapshot before it answers.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(600);
/// Pauses before a server that could not be reached is tried again.
const PAUSES: [u64; 5] = [20, 40, 80, 160, 320];

/// Makes a [`Peer`] for each server and purpose.
pub(crate) struct Peers {
    pub dialer: Arc<Dialer>,
}

/// One other server, for one purpose.
pub(crate) struct Peer {
    target: u64,
    address: String,
    dialer: Arc<Dialer>,
    link: Arc<Link>,
    /// Entries have a connection of their own; heartbeats go with the calls.
    streams: bool,
    /// The lock is never taken; it makes the stream shareable, as the library demands.
    stream: Mutex<Option<EntryStream>>,
}

struct EntryStream {
    frames: FrameReader<ReadHalf<Connection>>,
    write: WriteHalf<Connection>,
    out: Vec<u8>,
    /// Changes when the server was connected to anew: then this connection may be one to its former life.
    life: watch::Receiver<u64>,
    generation: u64,
}

impl Peers {
    fn peer(&self, target: u64, member: &Member, streams: bool) -> Peer {
        let link = self.dialer.link(target, &member.peer_address);
        let (address, dialer) = (member.peer_address.clone(), self.dialer.clone());
        Peer { target, address, dialer, link, streams, stream: Mutex::new(None) }
    }
}

impl RaftNetworkFactory<Types> for Peers {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, node: &Member) -> Peer {
        self.peer(target, node, true)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &Member) -> Peer {
        self.peer(target, node, false)
    }
}

fn unreachable(error: io::Error) -> Failed {
    RPCError::Unreachable(Unreachable::new(&error))
}

fn broken(error: impl std::error::Error + 'static) -> Failed {
    RPCError::Network(NetworkError::new(&error))
}

impl Peer {
    async fn call(&self, kind: u8, body: Vec<u8>, option: &RPCOption) -> Result<bytes::Bytes, Failed> {
        self.link.call(kind, body, option.soft_ttl()).await.map_err(unreachable)
    }

    async fn open_stream(&mut self) -> Result<(), Failed> {
        if self.stream().is_none() {
            let dialed = self.dialer.dial(self.target, &self.address, Purpose::Entries).await;
            let (read, write) = tokio::io::split(dialed.map_err(unreachable)?);
            let mut life = self.link.watch();
            let generation = *life.borrow_and_update();
            let frames = FrameReader::new(read);
            *self.stream() = Some(EntryStream { frames, write, out: Vec::new(), life, generation });
        }
        Ok(())
    }

    fn stream(&mut self) -> &mut Option<EntryStream> {
        self.stream.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One session of sending entries.
struct Session<'p, S> {
    peer: &'p mut Peer,
    input: S,
    unanswered: usize,
    /// No more requests come.
    ended: bool,
}

impl<S: Stream<Item = AppendRequest> + Unpin> Session<'_, S> {
    /// The next answer; `None` when all requests were answered.
    async fn next(&mut self) -> Option<Result<AppendResult, Failed>> {
        let answer = self.step().await;
        // The other side ends the stream after an answer that is no success.
        if let Some(Ok(Err(_)) | Err(_)) = &answer {
            *self.peer.stream() = None;
            self.ended = true;
            self.unanswered = 0;
        }
        answer
    }

    async fn step(&mut self) -> Option<Result<AppendResult, Failed>> {
        loop {
            let stream = self.peer.stream().as_mut()?;
            if self.ended && self.unanswered == 0 {
                return None;
            }
            let wants = !self.ended && self.unanswered < REQUESTS_MAX;
            tokio::select! {
                biased;
                frame = timeout(ANSWER_TIMEOUT, stream.frames.next()), if self.unanswered > 0 => {
                    self.unanswered -= 1;
                    let frame = match frame {
                        Ok(Ok(Some(frame))) => frame,
                        Ok(Ok(None)) => return Some(Err(broken(io::Error::from(io::ErrorKind::UnexpectedEof)))),
                        Ok(Err(error)) => return Some(Err(broken(error))),
                        Err(_) => return Some(Err(broken(io::Error::from(io::ErrorKind::TimedOut)))),
                    };
                    return Some(decode_append_result(frame.body).map_err(broken));
                }
                () = replaced(&mut stream.life, stream.generation) => {
                    return Some(Err(broken(io::Error::from(io::ErrorKind::ConnectionReset))));
                }
                request = self.input.next(), if wants => match request {
                    Some(request) => {
                        if let Err(error) = stream.send(&request).await {
                            return Some(Err(broken(error)));
                        }
                        self.unanswered += 1;
                    }
                    None => self.ended = true,
                },
            }
        }
    }
}

/// Comes back when the server was connected to anew since the connection with this number.
async fn replaced(life: &mut watch::Receiver<u64>, before: u64) {
    let other = life.wait_for(|number| *number != 0 && *number != before && before != 0).await.is_ok();
    if !other {
        std::future::pending::<()>().await;
    }
}

impl EntryStream {
    async fn send(&mut self, request: &AppendRequest) -> io::Result<()> {
        self.out.clear();
        let at = begin_frame(&mut self.out, kind::APPEND, 0);
        encode_append(request, &mut self.out)?;
        end_frame(&mut self.out, at)?;
        let written = timeout(ANSWER_TIMEOUT, async {
            self.write.write_all(&self.out).await?;
            self.write.flush().await
        });
        let written = written.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        self.out.shrink_to(CHUNK_BYTES);
        written
    }
}

impl RaftNetworkV2<Types> for Peer {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        rpc: AppendRequest,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, Failed> {
        let mut body = Vec::new();
        encode_append(&rpc, &mut body).map_err(broken)?;
        let answer = self.call(kind::APPEND, body, &option).await?;
        let last = rpc.entries.last().map(|entry| entry.log_id).or(rpc.prev_log_id);
        Ok(match decode_append_result(answer).map_err(broken)? {
            Ok(matching) if matching == last => AppendEntriesResponse::Success,
            Ok(matching) => AppendEntriesResponse::PartialSuccess(matching),
            Err(StreamAppendError::Conflict(_)) => AppendEntriesResponse::Conflict,
            Err(StreamAppendError::HigherVote(vote)) => AppendEntriesResponse::HigherVote(vote),
        })
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<AppendResult, Failed>>, Failed>>
    where
        S: Stream<Item = AppendRequest> + OptionalSend + Unpin + 'static,
    {
        if !self.streams {
            return stream_append_sequential(self, input, option);
        }
        Box::pin(async move {
            self.open_stream().await?;
            let session = Session { peer: self, input, unanswered: 0, ended: false };
            let answers = futures_util::stream::unfold(session, |mut session| async move {
                session.next().await.map(|answer| (answer, session))
            });
            Ok(Box::pin(answers) as BoxStream<'s, _>)
        })
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, Failed> {
        let mut body = Vec::new();
        encode_vote_request(&rpc, &mut body);
        decode_vote_response(self.call(kind::VOTE, body, &option).await?).map_err(broken)
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, Failed> {
        let mut body = Vec::new();
        encode_vote_request(&rpc, &mut body);
        decode_vote_response(self.call(kind::PRE_VOTE, body, &option).await?).map_err(broken)
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        tokio::select! {
            biased;
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = timeout(SNAPSHOT_TIMEOUT, self.send_snapshot(vote, snapshot)) => match sent {
                Ok(Ok(vote)) => Ok(SnapshotResponse::new(vote)),
                Ok(Err(error)) => {
                    tracing::warn!(server = self.target, %error, "a snapshot could not be sent");
                    Err(StreamingError::Unreachable(Unreachable::new(&error)))
                }
                Err(_) => Err(StreamingError::Timeout(Timeout {
                    action: openraft::RPCTypes::InstallSnapshot,
                    id: u64::from(self.dialer.me),
                    target: self.target,
                    timeout: SNAPSHOT_TIMEOUT,
                })),
            },
        }
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, Failed> {
        let mut body = Vec::new();
        encode_transfer(&rpc, &mut body);
        self.call(kind::TRANSFER, body, &option).await?;
        Ok(Ok(()))
    }

    fn backoff(&self) -> Option<Backoff> {
        let last = *PAUSES.last().unwrap_or(&1);
        Some(Backoff::new(PAUSES.into_iter().chain(std::iter::repeat(last)).map(Duration::from_millis)))
    }
}

impl Peer {
    /// Sends the file piece by piece; gives the vote of the follower once it has the state.
    async fn send_snapshot(&self, vote: Vote, snapshot: Snapshot) -> io::Result<Vote> {
        let file = snapshot.snapshot.file;
        let mut stream = self.dialer.dial(self.target, &self.address, Purpose::Snapshot).await?;
        let mut out = Vec::new();
        let mut begin = Vec::new();
        put_vote(&mut begin, &vote);
        begin.extend_from_slice(&file.bytes.to_be_bytes());
        begin.extend_from_slice(&encode_meta(&snapshot.meta));
        put_frame(&mut out, kind::SNAPSHOT_BEGIN, 0, &begin)?;
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut position = 0;
        while position < file.bytes {
            let count = file.read_at(&mut chunk, position)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            put_frame(&mut out, kind::SNAPSHOT_CHUNK, 0, &chunk[..count])?;
            position += count as u64;
            stream.write_all(&out).await?;
            out.clear();
        }
        put_frame(&mut out, kind::SNAPSHOT_END, 0, &[])?;
        stream.write_all(&out).await?;
        stream.flush().await?;
        let mut frames = FrameReader::new(stream);
        let frame = frames.next().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if frame.kind != kind::REPLY {
            return Err(io::Error::other(format!("server {} does not take the snapshot", self.target)));
        }
        Reader::new(frame.body).vote().map_err(|error: Malformed| io::Error::other(error))
    }
}
