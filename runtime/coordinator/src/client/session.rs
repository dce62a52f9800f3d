//! The task of a client: connects, keeps the session, carries requests and answers, and begins again when the
//! connection breaks.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};

use super::{Call, ClientConfig, ClientError, Event, Order, SessionState, Shared, locked};
use crate::network::Connection;
use crate::proto::{
    Code, ConnectRequest, Reader, ReplyHeader, Request, RequestHeader, Response, XID_AUTH, XID_EVENT,
    XID_PING, begin_frame, decode_connect_reply, decode_event, decode_reply_header, decode_response,
    encode_connect, encode_request, encode_request_header, end_frame, op_code,
};

/// Requests sent and not answered; beyond it callers wait.
const PENDING_MAX: usize = 1_000;

/// Largest packet taken from a server; memory is only taken for what has come.
const PACKET_BYTES_MAX: usize = 64 << 20;

/// Between two rounds through all servers, growing.
const BACKOFF: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(1_000)];

/// A password of nobody's session.
const NO_PASSWORD: [u8; 16] = [0; 16];

/// How long a server may take for the hand-shake, within a third of the session.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);

/// What the ensemble knows the client by.
struct Identity {
    session: i64,
    password: Vec<u8>,
    last_zxid: i64,
    timeout: Duration,
}

/// Sent and not answered.
struct Pending {
    xid: i32,
    op: i32,
    sent: Instant,
    /// None for a ping, for authentication and for the end of the session.
    answer: Option<oneshot::Sender<Result<Response, ClientError>>>,
}

/// How a connection ended.
enum Ended {
    Broken(String),
    /// Asked for, or nobody is left.
    Closed,
    /// Not to be tried again.
    Refused(String),
}

pub(super) async fn run(config: ClientConfig, mut orders: mpsc::Receiver<Order>, shared: Arc<Shared>) {
    let none = Identity { session: 0, password: NO_PASSWORD.to_vec(), last_zxid: 0, timeout: config.session };
    let mut keeper = Keeper { config, shared, identity: none, buffer: BytesMut::new() };
    let why = keeper.keep(&mut orders).await;
    let fault = why.unwrap_or_else(|| "the session is closed".to_owned());
    keeper.shared.state.send_modify(|state| {
        *state = SessionState { connected: false, ended: true, fault: Some(fault.clone()), ..state.clone() };
    });
    keeper.shared.tell(Event::Ended(fault.clone()));
    orders.close();
    while let Ok(order) = orders.try_recv() {
        if let Order::Call(Call { answer, .. }) = order {
            let _ = answer.send(Err(ClientError::Ended(fault.clone())));
        }
    }
}

struct Keeper {
    config: ClientConfig,
    shared: Arc<Shared>,
    identity: Identity,
    /// Bytes of the present connection that are no whole packet yet.
    buffer: BytesMut,
}

impl Keeper {
    /// Connects again and again; gives why it was refused, or nothing when it was closed.
    async fn keep(&mut self, orders: &mut mpsc::Receiver<Order>) -> Option<String> {
        let count = self.config.servers.len();
        let mut next = rand::random_range(0..count.max(1));
        let mut tried = 0;
        let mut wait = BACKOFF[0];
        loop {
            let server = self.config.servers.get(next % count.max(1))?.clone();
            next = (next + 1) % count;
            tried += 1;
            let connecting = {
                let establish = self.establish(&server);
                tokio::pin!(establish);
                loop {
                    tokio::select! {
                        connected = &mut establish => break connected,
                        order = orders.recv() => match order {
                            Some(Order::Call(call)) => refuse(call, &format!("connecting to {server}")),
                            Some(Order::Close(done)) => {
                                let _ = done.send(());
                                return None;
                            }
                            None => return None,
                        }
                    }
                }
            };
            let ended = match connecting {
                Ok(stream) => {
                    (tried, wait) = (0, BACKOFF[0]);
                    let ended = self.serve(stream, &server, orders).await;
                    self.shared.state.send_modify(|state| state.connected = false);
                    if !matches!(ended, Ended::Closed) {
                        self.shared.tell(Event::Disconnected);
                    }
                    ended
                }
                Err(ended) => ended,
            };
            let why = match ended {
                Ended::Closed => return None,
                Ended::Refused(why) => return Some(why),
                Ended::Broken(why) => format!("{server}: {why}"),
            };
            tracing::debug!("{why}");
            self.shared.state.send_modify(|state| state.fault = Some(why.clone()));
            if tried >= count {
                tried = 0;
                if pause(wait, orders, &why).await {
                    return None;
                }
                wait = (wait * 2).min(BACKOFF[1]);
            }
        }
    }

    /// A connection with a session.
    async fn establish(&mut self, server: &str) -> Result<Connection, Ended> {
        let limit = (self.identity.timeout / 3).min(HANDSHAKE_MAX);
        match timeout(limit, self.shake_hands(server)).await {
            Ok(connected) => connected,
            Err(_) => Err(Ended::Broken(format!("no answer within {limit:?}"))),
        }
    }

    async fn shake_hands(&mut self, server: &str) -> Result<Connection, Ended> {
        let broken = |error: io::Error| Ended::Broken(error.to_string());
        let mut stream = self.config.network.connect(server).await.map_err(broken)?;
        if let Some(tls) = &self.config.tls {
            let host = server.rsplit_once(':').map_or(server, |(host, _)| host).trim_matches(['[', ']']);
            let name = rustls::pki_types::ServerName::try_from(host.to_owned())
                .map_err(|_| Ended::Broken(format!("`{host}` cannot be the name in a certificate")))?;
            let connector = tokio_rustls::TlsConnector::from(tls.config.clone());
            stream = Box::pin(connector.connect(name, stream).await.map_err(broken)?);
        }
        self.buffer.clear();
        let sent = Instant::now();
        let mut bytes = Vec::new();
        let at = begin_frame(&mut bytes);
        let ask_ms = i32::try_from(self.config.session.as_millis()).unwrap_or(i32::MAX);
        let connect = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: self.identity.last_zxid,
            timeout_ms: ask_ms,
            session: self.identity.session,
            password: self.identity.password.clone(),
            read_only: Some(false),
        };
        encode_connect(&connect, &mut bytes);
        end_frame(&mut bytes, at);
        stream.write_all(&bytes).await.map_err(broken)?;
        let packet = loop {
            if let Some(packet) = self.packet()? {
                break packet;
            }
            if stream.read_buf(&mut self.buffer).await.map_err(broken)? == 0 {
                return Err(Ended::Broken("the server closed the connection".to_owned()));
            }
        };
        let granted = decode_connect_reply(&mut Reader::new(&packet))
            .map_err(|_| Ended::Broken("this is no ZooKeeper".to_owned()))?;
        if granted.timeout_ms <= 0 {
            // Gone, with all that hung on it; the next try asks for a new one.
            self.identity.session = 0;
            self.identity.password = NO_PASSWORD.to_vec();
            *locked(&self.shared.heard) = None;
            self.shared.tell(Event::Expired);
            return Err(Ended::Broken("the session has expired".to_owned()));
        }
        let fresh = granted.session != self.identity.session;
        self.identity.timeout = Duration::from_millis(granted.timeout_ms.unsigned_abs().into());
        self.identity.session = granted.session;
        self.identity.password = granted.password;
        *locked(&self.shared.heard) = Some(sent);
        self.shared.state.send_replace(SessionState {
            connected: true,
            session: granted.session,
            timeout: self.identity.timeout,
            server: server.to_owned(),
            fault: None,
            ended: false,
        });
        self.shared.tell(Event::Connected { fresh });
        Ok(stream)
    }

    /// Carries requests and answers until the connection ends.
    async fn serve(
        &mut self,
        mut stream: Connection,
        server: &str,
        orders: &mut mpsc::Receiver<Order>,
    ) -> Ended {
        let mut pending: VecDeque<Pending> = VecDeque::new();
        let ended = match self.exchange(&mut stream, orders, &mut pending).await {
            Ok(never) => never,
            Err(ended) => ended,
        };
        for call in pending {
            if let Some(answer) = call.answer {
                let _ = answer.send(Err(ClientError::Lost));
            }
        }
        tracing::debug!("connection to {server} ended");
        ended
    }

    async fn exchange(
        &mut self,
        stream: &mut Connection,
        orders: &mut mpsc::Receiver<Order>,
        pending: &mut VecDeque<Pending>,
    ) -> Result<Ended, Ended> {
        let idle_max = self.identity.timeout / 4;
        let silence_max = self.identity.timeout / 3;
        let mut xid: i32 = 0;
        let mut written = Instant::now();
        for (scheme, auth) in self.config.auth.clone() {
            let request = Request::Auth { kind: 0, scheme, auth: auth.into() };
            send(stream, XID_AUTH, &request, None, pending, silence_max).await?;
        }
        let mut closing: Option<oneshot::Sender<()>> = None;
        loop {
            while let Some(packet) = self.packet()? {
                self.take(&packet, pending)?;
            }
            if closing.is_some() && pending.is_empty() {
                return Ok(Ended::Closed);
            }
            let silent_at = pending.front().map(|oldest| oldest.sent + silence_max);
            tokio::select! {
                order = orders.recv(), if pending.len() < PENDING_MAX && closing.is_none() => match order {
                    Some(Order::Call(call)) => {
                        // Positive, and never one of those with a meaning.
                        xid = if xid == i32::MAX { 1 } else { xid + 1 };
                        written = Instant::now();
                        send(stream, xid, &call.request, Some(call.answer), pending, silence_max).await?;
                    }
                    order => {
                        let (done, _) = oneshot::channel();
                        closing = Some(match order {
                            Some(Order::Close(done)) => done,
                            _ => done,
                        });
                        xid = if xid == i32::MAX { 1 } else { xid + 1 };
                        send(stream, xid, &Request::CloseSession, None, pending, silence_max).await?;
                    }
                },
                read = stream.read_buf(&mut self.buffer) => match read {
                    // Servers close the connection of a session that was ended.
                    Ok(0) if closing.is_some() => return Ok(Ended::Closed),
                    Ok(0) => return Err(Ended::Broken("the server closed the connection".to_owned())),
                    Ok(_) => {}
                    Err(error) => return Err(Ended::Broken(error.to_string())),
                },
                () = sleep_until(written + idle_max) => {
                    written = Instant::now();
                    send(stream, XID_PING, &Request::Ping, None, pending, silence_max).await?;
                }
                () = sleep_until(silent_at.unwrap_or(written)), if silent_at.is_some() => {
                    return Err(Ended::Broken(format!("no answer within {silence_max:?}")));
                }
            }
        }
    }

    /// The next whole packet that has come.
    fn packet(&mut self) -> Result<Option<BytesMut>, Ended> {
        let Some(head) = self.buffer.first_chunk::<4>() else { return Ok(None) };
        let length = usize::try_from(i32::from_be_bytes(*head)).unwrap_or(usize::MAX);
        if length > PACKET_BYTES_MAX {
            return Err(Ended::Broken(format!("a packet of {length} bytes: this is no ZooKeeper")));
        }
        if self.buffer.len() < 4 + length {
            return Ok(None);
        }
        self.buffer.advance(4);
        Ok(Some(self.buffer.split_to(length)))
    }

    fn take(&mut self, packet: &[u8], pending: &mut VecDeque<Pending>) -> Result<(), Ended> {
        let malformed = || Ended::Broken("a packet that cannot be read".to_owned());
        let reader = &mut Reader::new(packet);
        let ReplyHeader { xid, zxid, err } = decode_reply_header(reader).map_err(|_| malformed())?;
        if xid == XID_EVENT {
            let event = decode_event(reader).map_err(|_| malformed())?;
            self.shared.tell(Event::Changed { kind: event.kind, path: event.path });
            return Ok(());
        }
        // Answers come in the order of the requests; only pings and authentication may be between them.
        let at = pending.iter().position(|call| call.xid == xid).filter(|at| *at == 0 || xid < 0);
        let Some(call) = at.and_then(|at| pending.remove(at)) else {
            return Err(Ended::Broken(format!("an answer that nobody asked for ({xid})")));
        };
        if zxid > self.identity.last_zxid {
            self.identity.last_zxid = zxid;
        }
        let code = match err {
            0 => None,
            number => Some(Code::from_number(number).unwrap_or(Code::SystemError)),
        };
        if xid == XID_AUTH && code.is_some() {
            return Err(Ended::Refused(super::code_text(Code::AuthFailed).to_owned()));
        }
        if !matches!(code, Some(Code::SessionExpired | Code::SessionMoved | Code::UnknownSession)) {
            let mut heard = locked(&self.shared.heard);
            *heard = (*heard).max(Some(call.sent));
        }
        let Some(answer) = call.answer else { return Ok(()) };
        let result = match code {
            Some(code) => Err(ClientError::Code(code)),
            None => {
                let body = &packet[packet.len() - reader.remaining()..];
                decode_response(call.op, body)
                    .map_err(|_| ClientError::Protocol("an answer that cannot be read".to_owned()))
            }
        };
        // Whoever asked may have gone.
        let _ = answer.send(result);
        Ok(())
    }
}

async fn send(
    stream: &mut Connection,
    xid: i32,
    request: &Request,
    answer: Option<oneshot::Sender<Result<Response, ClientError>>>,
    pending: &mut VecDeque<Pending>,
    limit: Duration,
) -> Result<(), Ended> {
    let op = op_code(request);
    let mut bytes = Vec::new();
    let at = begin_frame(&mut bytes);
    encode_request_header(RequestHeader { xid, op }, &mut bytes);
    encode_request(request, &mut bytes);
    end_frame(&mut bytes, at);
    pending.push_back(Pending { xid, op, sent: Instant::now(), answer });
    match timeout(limit, async {
        stream.write_all(&bytes).await?;
        stream.flush().await
    })
    .await
    {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Ended::Broken(error.to_string())),
        Err(_) => Err(Ended::Broken(format!("nothing could be sent within {limit:?}"))),
    }
}

fn refuse(call: Call, why: &str) {
    let _ = call.answer.send(Err(ClientError::Away(why.to_owned())));
}

/// Waits, and refuses what is asked meanwhile; whether it was closed.
async fn pause(wait: Duration, orders: &mut mpsc::Receiver<Order>, why: &str) -> bool {
    let until = Instant::now() + wait.mul_f64(rand::random_range(0.5..1.0));
    loop {
        tokio::select! {
            () = sleep_until(until) => return false,
            order = orders.recv() => match order {
                Some(Order::Call(call)) => refuse(call, why),
                Some(Order::Close(done)) => {
                    let _ = done.send(());
                    return true;
                }
                None => return true,
            }
        }
    }
}
