//! A server in this process, and a client that speaks in packets: what it sends need not be right.
#![allow(dead_code)]

use std::sync::Arc;
use std::time::Duration;

use flow_coordinator::network::World;
use flow_coordinator::proto::*;
use flow_coordinator::server::{Coordinator, CoordinatorConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Nothing here takes so long unless it is broken.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct Running {
    pub coordinator: Arc<Coordinator>,
    /// Holds the data until the end.
    pub directory: tempfile::TempDir,
}

impl Running {
    pub async fn start(change: impl FnOnce(&mut CoordinatorConfig)) -> Running {
        Running::start_in(tempfile::tempdir().expect("a directory"), change).await
    }

    /// The same with the data of a server before.
    pub async fn start_in(
        directory: tempfile::TempDir,
        change: impl FnOnce(&mut CoordinatorConfig),
    ) -> Running {
        let mut config = CoordinatorConfig::standalone("127.0.0.1:0", directory.path().join("data"));
        config.replica.tick_ms = 500;
        change(&mut config);
        let coordinator = Coordinator::start(config, World::real()).await.expect("a server");
        let mut status = coordinator.replica().watch_status();
        let serving = async {
            while !coordinator.replica().is_serving() {
                status.changed().await.expect("a status");
            }
        };
        timeout(PATIENCE, serving).await.expect("a leader");
        Running { coordinator, directory }
    }

    pub async fn raw(&self) -> TcpStream {
        TcpStream::connect(self.coordinator.address()).await.expect("a connection")
    }

    pub async fn client(&self) -> Client<TcpStream> {
        Client::begin(self.raw().await).await
    }

    /// What a four-letter word is answered.
    pub async fn word(&self, word: &str) -> String {
        let mut stream = self.raw().await;
        stream.write_all(word.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("in time").expect("an answer");
        answer
    }
}

/// A connection with a session.
pub struct Client<S> {
    pub stream: S,
    pub session: ConnectResponse,
    pub xid: i32,
    /// What watches told while an answer was waited for.
    pub events: Vec<(i64, WatcherEvent)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    Reply(ReplyHeader, Vec<u8>),
    Event(i64, WatcherEvent),
    /// The server has closed the connection.
    Closed,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub async fn begin(stream: S) -> Client<S> {
        Client::resume(stream, 10_000, 0, vec![0; 16]).await
    }

    pub async fn resume(stream: S, timeout_ms: i32, session: i64, password: Vec<u8>) -> Client<S> {
        let read_only = Some(false);
        let connect = ConnectRequest { timeout_ms, session, password, read_only, ..Default::default() };
        Client::connect(stream, connect).await
    }

    pub async fn connect(mut stream: S, connect: ConnectRequest) -> Client<S> {
        let mut bytes = Vec::new();
        encode_connect(&connect, &mut bytes);
        send_packet(&mut stream, &bytes).await;
        let reply = read_packet(&mut stream).await.expect("an answer to the first packet");
        let session = decode_connect_reply(&mut Reader::new(&reply)).expect("a session");
        Client { stream, session, xid: 0, events: Vec::new() }
    }

    /// Sends a request, whatever it is worth.
    pub async fn send(&mut self, request: &Request) -> i32 {
        self.xid += 1;
        let mut bytes = Vec::new();
        encode_request_header(RequestHeader { xid: self.xid, op: op_code(request) }, &mut bytes);
        encode_request(request, &mut bytes);
        send_packet(&mut self.stream, &bytes).await;
        self.xid
    }

    pub async fn packet(&mut self) -> Packet {
        let Some(packet) = read_packet(&mut self.stream).await else { return Packet::Closed };
        let header = decode_reply_header(&mut Reader::new(&packet)).expect("a header");
        if header.xid == XID_EVENT {
            Packet::Event(header.zxid, decode_event(&mut Reader::new(&packet[16..])).expect("an event"))
        } else {
            Packet::Reply(header, packet[16..].to_vec())
        }
    }

    /// The next answer; events before it are put aside.
    pub async fn reply(&mut self, code: i32) -> (ReplyHeader, Result<Response, Code>) {
        loop {
            match self.packet().await {
                Packet::Event(zxid, event) => self.events.push((zxid, event)),
                Packet::Reply(header, body) if header.err == 0 => {
                    return (header, Ok(decode_response(code, &body).expect("a response")));
                }
                Packet::Reply(header, _) => {
                    return (header, Err(Code::from_number(header.err).expect("a known code")));
                }
                Packet::Closed => panic!("the server closed the connection"),
            }
        }
    }

    pub async fn call(&mut self, request: &Request) -> Result<Response, Code> {
        let xid = self.send(request).await;
        let (header, result) = self.reply(op_code(request)).await;
        assert_eq!(header.xid, xid);
        result
    }

    /// Reads to the end; whatever comes is no answer to what was never asked.
    pub async fn closed(mut self) {
        loop {
            if self.packet().await == Packet::Closed {
                return;
            }
        }
    }

    pub async fn set(&mut self, path: &str, data: &'static [u8]) -> Result<Response, Code> {
        let data = Some(bytes::Bytes::from_static(data));
        self.call(&Request::SetData { path: path.to_owned(), data, version: -1 }).await
    }

    pub async fn get(&mut self, path: &str, watch: bool) -> Result<Response, Code> {
        self.call(&Request::GetData { path: path.to_owned(), watch }).await
    }
}

pub async fn send_packet(stream: &mut (impl AsyncWrite + Unpin), body: &[u8]) {
    let mut packet = (body.len() as i32).to_be_bytes().to_vec();
    packet.extend_from_slice(body);
    stream.write_all(&packet).await.expect("sent");
}

/// The next packet; `None` at the end, be it an abrupt one.
pub async fn read_packet(stream: &mut (impl AsyncRead + Unpin)) -> Option<Vec<u8>> {
    let read = async {
        let length = stream.read_i32().await.ok()?;
        let mut packet = vec![0; usize::try_from(length).expect("a length")];
        stream.read_exact(&mut packet).await.ok()?;
        Some(packet)
    };
    timeout(PATIENCE, read).await.expect("a packet in time")
}

pub fn open_acl() -> Vec<Acl> {
    vec![Acl { perms: perms::ALL, id: Id { scheme: "world".to_owned(), id: "anyone".to_owned() } }]
}

pub fn create(path: &str, flags: i32) -> Request {
    Request::Create(Create {
        op: CreateOp::Create,
        path: path.to_owned(),
        data: Some(bytes::Bytes::from_static(b"data")),
        acl: open_acl(),
        flags,
        ttl: 0,
    })
}
