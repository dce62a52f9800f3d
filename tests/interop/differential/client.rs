//! A client that sends one request and takes what comes until its answer.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use flow_coordinator::proto::{
    ConnectRequest, Reader, ReplyHeader, Request, RequestHeader, Response, WatcherEvent, XID_AUTH, XID_EVENT,
    XID_PING, XID_SET_WATCHES, begin_frame, decode_connect_reply, decode_event, decode_reply_header,
    decode_response, encode_connect, encode_request, encode_request_header, end_frame, op_code,
};

/// Longer than any answer takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// Sessions last as long as the servers let them.
const SESSION_MS: i32 = 60_000;

#[derive(Clone, Debug)]
pub enum Packet {
    Event(WatcherEvent),
    /// Without a body when there is an error.
    Reply(ReplyHeader, Option<Response>),
}

pub struct Client {
    stream: TcpStream,
    xid: i32,
    pub session: i64,
}

impl Client {
    pub fn connect(address: &str) -> io::Result<Client> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let hello = ConnectRequest {
            timeout_ms: SESSION_MS,
            password: vec![0; 16],
            read_only: Some(false),
            ..ConnectRequest::default()
        };
        let mut bytes = Vec::new();
        let at = begin_frame(&mut bytes);
        encode_connect(&hello, &mut bytes);
        end_frame(&mut bytes, at);
        stream.write_all(&bytes)?;
        let mut client = Client { stream, xid: 0, session: 0 };
        let frame = client.frame()?;
        client.session = decode_connect_reply(&mut Reader::new(&frame)).map_err(malformed)?.session;
        Ok(client)
    }

    /// The events that come before the answer, then the answer.
    pub fn call(&mut self, request: &Request) -> io::Result<Vec<Packet>> {
        let xid = match request {
            Request::Ping => XID_PING,
            Request::Auth { .. } => XID_AUTH,
            Request::SetWatches(_) => XID_SET_WATCHES,
            _ => {
                self.xid += 1;
                self.xid
            }
        };
        let op = op_code(request);
        let mut bytes = Vec::new();
        let at = begin_frame(&mut bytes);
        encode_request_header(RequestHeader { xid, op }, &mut bytes);
        encode_request(request, &mut bytes);
        end_frame(&mut bytes, at);
        self.stream.write_all(&bytes)?;
        let mut packets = Vec::new();
        loop {
            let frame = self.frame()?;
            let header = decode_reply_header(&mut Reader::new(&frame)).map_err(malformed)?;
            let body = &frame[16..];
            if header.xid == XID_EVENT {
                packets.push(Packet::Event(decode_event(&mut Reader::new(body)).map_err(malformed)?));
                continue;
            }
            if header.xid != xid {
                return Err(io::Error::other(format!("an answer to {}, not to {xid}", header.xid)));
            }
            let response = match header.err {
                0 => Some(decode_response(op, body).map_err(malformed)?),
                _ => None,
            };
            packets.push(Packet::Reply(header, response));
            return Ok(packets);
        }
    }

    fn frame(&mut self) -> io::Result<Vec<u8>> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        if length > 1 << 24 {
            return Err(malformed("a length"));
        }
        let mut frame = vec![0; length];
        self.stream.read_exact(&mut frame)?;
        Ok(frame)
    }
}

fn malformed(what: impl std::fmt::Debug) -> io::Error {
    io::Error::other(format!("malformed: {what:?}"))
}
