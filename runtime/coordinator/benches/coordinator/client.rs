//! The wire as a load generator needs it: requests as bytes that are built once, replies of which only the header is
//! looked at.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// Longest silence of a server that is not taken for its end.
const PATIENCE: Duration = Duration::from_secs(60);

/// The time-out that is asked for, in milliseconds.
const SESSION_MS: i32 = 30_000;

pub const CREATE: i32 = 1;
pub const DELETE: i32 = 2;
pub const GET: i32 = 4;
pub const SET: i32 = 5;

/// A session, as needed to take it up again.
#[derive(Clone, Default)]
pub struct Session {
    pub id: i64,
    pub password: Vec<u8>,
}

/// A client that waits for each of its answers.
pub struct Client {
    stream: TcpStream,
    pub session: Session,
}

impl Client {
    /// A new session, or the one that is given.
    pub fn connect(port: u16, session: &Session, patience: Duration) -> io::Result<Client> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut stream = TcpStream::connect_timeout(&address, patience)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        stream.write_all(&hello(session))?;
        let session = welcome(&read_frame(&mut stream)?)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Client { stream, session })
    }

    /// Gives the error code of the answer.
    pub fn call(&mut self, request: &[u8]) -> io::Result<i32> {
        self.stream.write_all(request)?;
        let reply = read_frame(&mut self.stream)?;
        error_of(&reply).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

fn read_frame(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = i32::from_be_bytes(length);
    let length = usize::try_from(length).ok().filter(|&length| length < 1 << 22);
    let mut frame = vec![0; length.ok_or(io::ErrorKind::InvalidData)?];
    stream.read_exact(&mut frame)?;
    Ok(frame)
}

/// The first packet of a connection.
pub fn hello(session: &Session) -> Vec<u8> {
    framed(|body| {
        body.extend(0i32.to_be_bytes());
        body.extend(0i64.to_be_bytes());
        body.extend(SESSION_MS.to_be_bytes());
        body.extend(session.id.to_be_bytes());
        let password: &[u8] = if session.id == 0 { &[0; 16] } else { &session.password };
        put_bytes(body, password);
        body.push(0);
    })
}

/// The answer to it; an error when the session is gone.
pub fn welcome(frame: &[u8]) -> io::Result<Session> {
    let id = frame.get(8..16).and_then(|bytes| bytes.try_into().ok()).map(i64::from_be_bytes);
    match (id, frame.get(20..36)) {
        (Some(id), Some(password)) if id != 0 => Ok(Session { id, password: password.to_vec() }),
        _ => Err(io::Error::other("the session is gone")),
    }
}

/// The error code in the header of a reply; `None` when it is too short to be one.
pub fn error_of(frame: &[u8]) -> Option<i32> {
    Some(i32::from_be_bytes(frame.get(12..16)?.try_into().ok()?))
}

pub fn get(path: &str) -> Vec<u8> {
    request(GET, |body| {
        put_bytes(body, path.as_bytes());
        body.push(0);
    })
}

pub fn set(path: &str, data: &[u8]) -> Vec<u8> {
    request(SET, |body| {
        put_bytes(body, path.as_bytes());
        put_bytes(body, data);
        body.extend((-1i32).to_be_bytes());
    })
}

pub fn create(path: &str, data: &[u8]) -> Vec<u8> {
    request(CREATE, |body| {
        put_bytes(body, path.as_bytes());
        put_bytes(body, data);
        // One entry: everybody may do everything.
        body.extend(1i32.to_be_bytes());
        body.extend(31i32.to_be_bytes());
        put_bytes(body, b"world");
        put_bytes(body, b"anyone");
        body.extend(0i32.to_be_bytes());
    })
}

pub fn delete(path: &str) -> Vec<u8> {
    request(DELETE, |body| {
        put_bytes(body, path.as_bytes());
        body.extend((-1i32).to_be_bytes());
    })
}

/// All requests have the same number: answers come in order, and nobody looks at it.
fn request(op: i32, fill: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    framed(|body| {
        body.extend(1i32.to_be_bytes());
        body.extend(op.to_be_bytes());
        fill(body);
    })
}

fn framed(fill: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    fill(&mut bytes);
    let length = (bytes.len() - 4) as u32;
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    bytes
}

fn put_bytes(body: &mut Vec<u8>, bytes: &[u8]) {
    body.extend((bytes.len() as u32).to_be_bytes());
    body.extend(bytes);
}
