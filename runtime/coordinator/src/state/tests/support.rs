//! Short ways to write down requests and to apply them one at a time.

use std::sync::Arc;

use bytes::Bytes;

use crate::proto::{Acl, Code, Create, CreateOp, Id, Request, Response, SessionId, perms};
use crate::state::{Applied, Entry, Op, Origin, State, Txn};

/// Sessions that the tests begin with, and the connections that own them.
pub const ALICE: SessionId = 0x0100_0000_0000_0001;
pub const BOB: SessionId = 0x0200_0000_0000_0002;
pub const TERM: u64 = 3;

pub fn id(scheme: &str, id: &str) -> Id {
    Id { scheme: scheme.to_string(), id: id.to_string() }
}

pub fn acl(perms: i32, scheme: &str, of: &str) -> Acl {
    Acl { perms, id: id(scheme, of) }
}

pub fn open() -> Vec<Acl> {
    vec![acl(perms::ALL, "world", "anyone")]
}

pub fn data(text: &str) -> Option<Bytes> {
    Some(Bytes::copy_from_slice(text.as_bytes()))
}

pub fn create_as(op: CreateOp, path: &str, flags: i32) -> Create {
    Create { op, path: path.to_string(), data: data("v"), acl: open(), flags, ttl: -1 }
}

pub fn create(path: &str, flags: i32) -> Request {
    Request::Create(create_as(CreateOp::Create, path, flags))
}

pub fn delete(path: &str, version: i32) -> Request {
    Request::Delete { path: path.to_string(), version }
}

pub fn set(path: &str, text: &str, version: i32) -> Request {
    Request::SetData { path: path.to_string(), data: data(text), version }
}

pub fn check(path: &str, version: i32) -> Request {
    Request::Check { path: path.to_string(), version }
}

pub fn get(path: &str) -> Request {
    Request::GetData { path: path.to_string(), watch: false }
}

/// A state with two sessions, and the time.
pub struct Host {
    pub state: State,
    pub applied: Applied,
    pub now_ms: i64,
    pub ids: Vec<Id>,
}

impl Host {
    pub fn new() -> Host {
        let mut host = Host::bare();
        host.apply(0, 0, Op::Init { secret: [7; 32] }).unwrap();
        for session in [ALICE, BOB] {
            host.apply(session, session as u64, Op::CreateSession { timeout_ms: 10_000 }).unwrap();
        }
        host
    }

    pub fn bare() -> Host {
        Host { state: State::new(), applied: Applied::default(), now_ms: 1_000_000, ids: Vec::new() }
    }

    pub fn entry(&self, session: SessionId, connection: u64, op: Op) -> Entry {
        let ids: Arc<[Id]> = self.ids.clone().into();
        Entry {
            time_ms: self.now_ms,
            origin: Origin::default(),
            first_serial: 0,
            txns: vec![Txn { session, connection, ids, op }],
        }
    }

    /// One transaction through bytes and back, as the log carries it.
    pub fn apply(&mut self, session: SessionId, connection: u64, op: Op) -> Result<Response, Code> {
        let entry = self.entry(session, connection, op);
        let mut bytes = Vec::new();
        entry.encode(&mut bytes);
        let entry = Entry::decode(&bytes.into()).unwrap();
        self.state.apply(TERM, &entry, &mut self.applied);
        self.applied.outcomes[0].result.clone()
    }

    /// A write of Alice.
    pub fn write(&mut self, request: Request) -> Result<Response, Code> {
        self.apply(ALICE, ALICE as u64, Op::Request(request))
    }

    /// A write of Bob.
    pub fn write_of_bob(&mut self, request: Request) -> Result<Response, Code> {
        self.apply(BOB, BOB as u64, Op::Request(request))
    }

    pub fn read(&self, request: Request) -> Result<Response, Code> {
        self.state.read(ALICE, &self.ids, &request)
    }

    pub fn text(&self, path: &str) -> Option<String> {
        let data = self.state.data(path)??;
        Some(String::from_utf8(data.to_vec()).unwrap())
    }

    pub fn changes(&self) -> Vec<(String, super::super::ChangeKind)> {
        self.applied.changes.iter().map(|change| (change.path.to_string(), change.kind)).collect()
    }
}
