//! The client's task: it connects, sends, listens, pings, and goes to another server when this one is silent.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::watching::Watching;
use super::{ClientConfig, Command, Listen, Notice, Reply};
use crate::network::{Connection, Network};
use crate::proto::{
    Code, ConnectRequest, Reader, ReplyHeader, Request, RequestHeader, SessionId, XID_AUTH, XID_EVENT,
    XID_PING, XID_SET_WATCHES, Zxid, begin_frame, decode_connect_reply, decode_event, decode_reply_header,
    decode_response, encode_connect, encode_request, encode_request_header, end_frame, op_code,
};
use crate::testing::Rng;

/// Most that a server may say in one packet.
const FRAME_BYTES_MAX: usize = 64 << 20;
/// Waits between two tries to connect, in milliseconds.
const RETRY_MS: u64 = 100;
/// Commands taken at once.
const COMMANDS_AT_ONCE: usize = 1024;

pub(super) struct Session {
    network: Arc<dyn Network>,
    config: ClientConfig,
    listen: Listen,
    commands: mpsc::Receiver<Command>,
    rng: Rng,
    server: usize,
    id: SessionId,
    password: Vec<u8>,
    timeout: Duration,
    last_zxid: Zxid,
    xid: i32,
    sent: VecDeque<Sent>,
    /// Taken from the queue when there was no connection.
    unsent: VecDeque<(u64, Request, oneshot::Sender<Reply>)>,
    watching: Watching,
    /// The session is being closed; who waits for it.
    closing: Option<oneshot::Sender<()>>,
    close_xid: Option<i32>,
}

struct Sent {
    xid: i32,
    call: u64,
    request: Request,
    answer: oneshot::Sender<Reply>,
}

enum End {
    /// The connection is gone.
    Lost,
    /// The session has ended, or the client is not wanted any more.
    Over,
}

impl Session {
    pub fn new(
        network: Arc<dyn Network>,
        config: ClientConfig,
        listen: Listen,
        commands: mpsc::Receiver<Command>,
    ) -> Session {
        let mut rng = Rng::new(config.seed);
        let server = rng.below(config.servers.len() as u64) as usize;
        let timeout = Duration::from_millis(u64::try_from(config.timeout_ms).unwrap_or(0));
        Session {
            network,
            config,
            listen,
            commands,
            rng,
            server,
            id: 0,
            password: vec![0; 16],
            timeout,
            last_zxid: 0,
            xid: 0,
            sent: VecDeque::new(),
            unsent: VecDeque::new(),
            watching: Watching::default(),
            closing: None,
            close_xid: None,
        }
    }

    pub async fn run(mut self) {
        loop {
            let server = self.config.servers.get(self.server).cloned().unwrap_or_default();
            let patience = (self.timeout / 3).max(Duration::from_millis(200));
            match timeout(patience, self.connect(&server)).await {
                Ok(Ok(Some((connection, input)))) => {
                    let end = self.serve(connection, input).await;
                    self.lose_sent();
                    if matches!(end, End::Over) {
                        break;
                    }
                    (self.listen)(Notice::Disconnected);
                }
                // The session has expired.
                Ok(Ok(None)) => {
                    // One that was being closed is closed: only the answer to that was lost.
                    if self.closing.is_none() {
                        (self.listen)(Notice::Expired { session: self.id });
                    }
                    self.fail_unsent();
                    if let Some(done) = self.closing.take() {
                        let _ = done.send(());
                        break;
                    }
                    if !self.config.renew {
                        break;
                    }
                    self.id = 0;
                    self.password = vec![0; 16];
                    self.watching = Watching::default();
                    continue;
                }
                Ok(Err(_)) | Err(_) => {}
            }
            self.server = (self.server + 1) % self.config.servers.len().max(1);
            sleep(Duration::from_millis(1 + self.rng.below(RETRY_MS))).await;
        }
        self.fail_unsent();
    }

    /// Connects and takes up the session; `None` if it has expired. Both together with what came behind the answer.
    async fn connect(&mut self, server: &str) -> io::Result<Option<(Connection, BytesMut)>> {
        let mut connection = self.network.connect(server).await?;
        let mut out = Vec::new();
        let at = begin_frame(&mut out);
        let connect = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: self.last_zxid,
            timeout_ms: self.config.timeout_ms,
            session: self.id,
            password: self.password.clone(),
            read_only: Some(false),
        };
        encode_connect(&connect, &mut out);
        end_frame(&mut out, at);
        connection.write_all(&out).await?;
        let mut input = BytesMut::new();
        let reply = loop {
            if let Some(frame) = take_frame(&mut input)? {
                break decode_connect_reply(&mut Reader::new(&frame))
                    .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
            }
            if connection.read_buf(&mut input).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        if reply.timeout_ms <= 0 || reply.session == 0 {
            return if self.id == 0 { Err(io::ErrorKind::InvalidData.into()) } else { Ok(None) };
        }
        let resumed = self.id != 0;
        if resumed && self.id != reply.session {
            (self.listen)(Notice::Violated {
                what: "the server has answered with another session".to_owned(),
            });
        }
        self.id = reply.session;
        self.password = reply.password;
        self.timeout = Duration::from_millis(u64::try_from(reply.timeout_ms).unwrap_or(0));
        (self.listen)(Notice::Connected {
            session: self.id,
            resumed,
            server: server.to_owned(),
            timeout_ms: reply.timeout_ms,
        });
        Ok(Some((connection, input)))
    }

    async fn serve(&mut self, mut connection: Connection, mut input: BytesMut) -> End {
        let mut out = Vec::new();
        self.close_xid = None;
        for (scheme, auth) in self.config.auth.clone() {
            let request = Request::Auth { kind: 0, scheme, auth: auth.into() };
            put_request(XID_AUTH, &request, &mut out);
        }
        if self.config.rewatch && !self.watching.is_empty() {
            let watches = self.watching.again(self.last_zxid);
            put_request(XID_SET_WATCHES, &Request::SetWatches(watches), &mut out);
        }
        for (call, request, answer) in std::mem::take(&mut self.unsent) {
            self.send(call, request, answer, &mut out);
        }
        if self.closing.is_some() {
            self.send_close(&mut out);
        }
        let mut heard = Instant::now();
        let mut said = heard;
        loop {
            loop {
                let taken = take_frame(&mut input).map(|frame| frame.map(|frame| self.hear(&frame)));
                match taken {
                    Ok(Some(Ok(true))) => {}
                    Ok(Some(Ok(false))) => return End::Over,
                    Ok(None) => break,
                    Ok(Some(Err(what))) => {
                        (self.listen)(Notice::Violated { what });
                        return End::Lost;
                    }
                    Err(_) => {
                        (self.listen)(Notice::Violated { what: "a frame of impossible length".to_owned() });
                        return End::Lost;
                    }
                }
            }
            if !out.is_empty() {
                said = Instant::now();
                if !matches!(timeout(self.timeout, connection.write_all(&out)).await, Ok(Ok(()))) {
                    return End::Lost;
                }
                out.clear();
            }
            let silent = heard + self.timeout * 2 / 3;
            let ping = said + self.timeout / 3;
            // Replies first: a caller that waits for one goes on, and its next request is sent in the same round.
            tokio::select! {
                biased;
                read = connection.read_buf(&mut input) => match read {
                    Ok(count) if count > 0 => heard = Instant::now(),
                    _ => return End::Lost,
                },
                command = self.commands.recv() => {
                    let Some(command) = command else { return End::Over };
                    if !self.obey(command, &mut out) {
                        return End::Lost;
                    }
                    for _ in 0..COMMANDS_AT_ONCE {
                        let Ok(command) = self.commands.try_recv() else { break };
                        if !self.obey(command, &mut out) {
                            return End::Lost;
                        }
                    }
                }
                () = sleep_until(silent.min(ping)) => {
                    if Instant::now() >= silent {
                        return End::Lost;
                    }
                    put_request(XID_PING, &Request::Ping, &mut out);
                }
            }
        }
    }

    /// False if the connection is to be broken.
    fn obey(&mut self, command: Command, out: &mut Vec<u8>) -> bool {
        match command {
            Command::Call { call, request, answer } => self.send(call, request, answer, out),
            Command::Close { done } => {
                self.closing = Some(done);
                self.send_close(out);
            }
            Command::Disconnect => return false,
        }
        true
    }

    fn next_xid(&mut self) -> i32 {
        self.xid = if self.xid == i32::MAX { 1 } else { self.xid + 1 };
        self.xid
    }

    fn send(&mut self, call: u64, request: Request, answer: oneshot::Sender<Reply>, out: &mut Vec<u8>) {
        let xid = self.next_xid();
        put_request(xid, &request, out);
        self.sent.push_back(Sent { xid, call, request, answer });
    }

    fn send_close(&mut self, out: &mut Vec<u8>) {
        let xid = self.next_xid();
        put_request(xid, &Request::CloseSession, out);
        self.close_xid = Some(xid);
    }

    /// One packet of the server; false when the session is closed.
    fn hear(&mut self, frame: &[u8]) -> Result<bool, String> {
        let cut_off = |_| "a packet that is cut off".to_owned();
        let reader = &mut Reader::new(frame);
        let ReplyHeader { xid, zxid, err } = decode_reply_header(reader).map_err(cut_off)?;
        let body = frame.get(16..).unwrap_or_default();
        if xid == XID_EVENT {
            let event = decode_event(&mut Reader::new(body)).map_err(cut_off)?;
            self.watching.happened(event.kind, &event.path);
            self.last_zxid = self.last_zxid.max(zxid);
            (self.listen)(Notice::Event { zxid, kind: event.kind, path: event.path });
            return Ok(true);
        }
        self.last_zxid = self.last_zxid.max(zxid);
        match xid {
            XID_PING | XID_AUTH => return Ok(true),
            XID_SET_WATCHES => {
                (self.listen)(Notice::Rewatched { zxid });
                return Ok(true);
            }
            _ => {}
        }
        if self.sent.is_empty() && self.close_xid == Some(xid) {
            (self.listen)(Notice::Closed { session: self.id, zxid });
            if let Some(done) = self.closing.take() {
                let _ = done.send(());
            }
            return Ok(false);
        }
        let Some(sent) = self.sent.pop_front() else { return Err(format!("a reply to nothing, xid {xid}")) };
        if sent.xid != xid {
            let what = format!("the reply has xid {xid} where {} was due", sent.xid);
            self.sent.push_front(sent);
            return Err(what);
        }
        let result = match err {
            0 => decode_response(op_code(&sent.request), body)
                .map_err(|_| format!("a reply to {:?} that cannot be read", sent.request))
                .map(Ok),
            _ => Code::from_number(err).map(Err).ok_or_else(|| format!("an unknown error, {err}")),
        };
        let result = match result {
            Ok(result) => result,
            Err(what) => {
                self.sent.push_front(sent);
                return Err(what);
            }
        };
        self.watching.replied(&sent.request, &result);
        (self.listen)(Notice::Replied { call: sent.call, zxid, result: result.clone() });
        let _ = sent.answer.send(Reply { zxid, result });
        Ok(true)
    }

    /// Nobody knows what became of them.
    fn lose_sent(&mut self) {
        for sent in std::mem::take(&mut self.sent) {
            let result = Err(Code::ConnectionLoss);
            (self.listen)(Notice::Replied { call: sent.call, zxid: 0, result: result.clone() });
            let _ = sent.answer.send(Reply { zxid: 0, result });
        }
    }

    /// They were for a session that has ended.
    fn fail_unsent(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Call { call, request, answer } => self.unsent.push_back((call, request, answer)),
                Command::Close { done } => self.closing = Some(done),
                Command::Disconnect => {}
            }
        }
        for (call, _, answer) in std::mem::take(&mut self.unsent) {
            let result = Err(Code::SessionExpired);
            (self.listen)(Notice::Replied { call, zxid: 0, result: result.clone() });
            let _ = answer.send(Reply { zxid: 0, result });
        }
    }
}

fn put_request(xid: i32, request: &Request, out: &mut Vec<u8>) {
    let at = begin_frame(out);
    encode_request_header(RequestHeader { xid, op: op_code(request) }, out);
    encode_request(request, out);
    end_frame(out, at);
}

/// A whole packet, if there is one.
fn take_frame(input: &mut BytesMut) -> io::Result<Option<BytesMut>> {
    let Some(length) = input.first_chunk::<4>() else { return Ok(None) };
    let length = usize::try_from(i32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    if length > FRAME_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    if input.len() < 4 + length {
        return Ok(None);
    }
    input.advance(4);
    Ok(Some(input.split_to(length)))
}
