//! What is kept of one znode: 64 bytes for each, and a record aside for what only some have.

use super::arena::Place;
use super::nodes::NONE;
use crate::proto::SessionId;

/// The parent of a number that is free.
pub(super) const FREE: u32 = u32::MAX - 1;

/// How long a znode lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    #[default]
    Persistent,
    /// As long as the session.
    Ephemeral(SessionId),
    /// Until it had children and has none.
    Container,
    /// Until it has no children and was not changed for so many milliseconds.
    Ttl(i64),
}

impl Kind {
    /// A tag and a number, for bytes and hashes.
    pub(super) fn parts(self) -> (u8, i64) {
        match self {
            Kind::Persistent => (0, 0),
            Kind::Ephemeral(session) => (1, session),
            Kind::Container => (2, 0),
            Kind::Ttl(ttl_ms) => (3, ttl_ms),
        }
    }

    pub(super) fn of_parts(tag: u8, value: i64) -> Option<Kind> {
        Some(match tag {
            0 => Kind::Persistent,
            1 => Kind::Ephemeral(value),
            2 => Kind::Container,
            3 => Kind::Ttl(value),
            _ => return None,
        })
    }
}

/// A znode: one line of the processor's cache.
#[repr(align(64))]
pub(super) struct Node {
    pub parent: u32,
    pub page: u32,
    pub unit: u16,
    pub name_bytes: u16,
    /// Number in the table of access lists.
    pub acl: u32,
    /// The ring of siblings.
    pub next: u32,
    pub prev: u32,
    /// Number of the record aside, if there is one.
    pub extra: u32,
    pub version: i32,
    pub czxid: i64,
    pub mzxid: i64,
    pub ctime: i64,
    pub mtime: i64,
}

impl Default for Node {
    fn default() -> Node {
        Node {
            parent: FREE,
            page: 0,
            unit: 0,
            name_bytes: 0,
            acl: 0,
            next: NONE,
            prev: NONE,
            extra: NONE,
            version: 0,
            czxid: 0,
            mzxid: 0,
            ctime: 0,
            mtime: 0,
        }
    }
}

impl Node {
    pub fn place(&self) -> Place {
        Place { page: self.page, unit: self.unit }
    }
}

/// What a znode has once it had a child, or belongs to somebody, or its access list was changed.
#[derive(Clone, Debug)]
pub(super) struct Extra {
    pub pzxid: i64,
    /// Children ever created; the wire shows another number, see [`Nodes::stat`].
    pub cversion: i32,
    pub aversion: i32,
    pub kind: Kind,
    /// The oldest child.
    pub first: u32,
    pub children: u32,
}

impl Default for Extra {
    fn default() -> Extra {
        Extra { pzxid: 0, cversion: 0, aversion: 0, kind: Kind::Persistent, first: NONE, children: 0 }
    }
}

/// A znode as it is put in, or was before it was taken out; its data apart.
#[derive(Clone, Debug, Default)]
pub(super) struct Saved {
    pub acl: u32,
    pub kind: Kind,
    pub czxid: i64,
    pub mzxid: i64,
    pub pzxid: i64,
    pub ctime: i64,
    pub mtime: i64,
    pub version: i32,
    pub cversion: i32,
    pub aversion: i32,
}
