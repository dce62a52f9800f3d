//! What every server does alike with each entry of the log: the tree of znodes, sessions, access lists, quotas, the
//! numbering of changes. No IO, no clock, no randomness: the same entries give the same state, the same answers and
//! the same changes everywhere. It knows no connection but as a number, and no consensus.
//!
//! ```text
//!  entry.rs applied.rs   what goes in, what comes out
//!  write.rs multi.rs     the rules of each operation;  change.rs: how they change the tree, and back
//!  session.rs acl.rs quota.rs due.rs              read.rs: what is asked without the log
//!  node.rs nodes.rs index.rs arena.rs slab.rs     the znodes in memory
//!  snapshot.rs restore.rs bytes.rs digest.rs      the state as bytes, and as one number
//! ```

mod acl;
mod applied;
mod arena;
mod bytes;
mod change;
mod digest;
mod due;
mod entry;
mod index;
mod multi;
mod node;
mod nodes;
mod quota;
mod read;
mod restore;
mod session;
mod slab;
mod snapshot;
mod write;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashSet;

pub use acl::allows;
pub use applied::{Applied, Change, ChangeKind, Outcome};
pub use bytes::DecodeError;
pub use entry::{Entry, Op, Origin, Txn};
pub use node::Kind;
pub use restore::RestoreError;
pub use session::Session;
pub use snapshot::SnapshotId;

use crate::proto::{Acl, Code, Id, Request, Response, SessionId, Stat, Zxid, perms};
use acl::{AclTable, OPEN, READABLE};
use change::Undo;
use due::Due;
use nodes::{NONE, Nodes, ROOT, Saved};

/// The parent of what the servers keep in the tree themselves.
pub const SYSTEM_PATH: &str = "/zookeeper";
pub const QUOTA_PATH: &str = "/zookeeper/quota";
pub const CONFIG_PATH: &str = "/zookeeper/config";

/// Bounds of the state. They decide what is refused, so all servers must have the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the data of one znode.
    pub node_bytes_max: usize,
    /// Ephemeral znodes of one session.
    pub ephemerals_max: usize,
    /// Hard limits of quotas refuse; else they are numbers to read.
    pub enforce_quotas: bool,
    /// A container that never had a child is deleted after so many milliseconds; 0: never.
    pub unused_container_ms: i64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            node_bytes_max: 0xf_ffff,
            ephemerals_max: usize::MAX,
            enforce_quotas: true,
            unused_container_ms: 300_000,
        }
    }
}

/// The last of an origin that was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Serial {
    incarnation: u64,
    last: u64,
}

/// One server's copy of what all agree on.
pub struct State {
    limits: Limits,
    nodes: Nodes,
    acls: AclTable,
    sessions: BTreeMap<SessionId, Session>,
    origins: BTreeMap<u32, Serial>,
    /// Znodes that the leader deletes in time.
    due: Due,
    /// Paths that have a znode with limits.
    quotas: HashSet<Box<str>>,
    secret: Option<[u8; 32]>,
    last_zxid: Zxid,
    time_ms: i64,
    digest: u64,
    data_bytes: u64,
    ephemerals: usize,
    /// While a multi runs: how to take back what it did.
    undo: Option<Vec<Undo>>,
    snapshots: u64,
}

impl Default for State {
    fn default() -> State {
        State::new()
    }
}

impl State {
    /// The tree with its special znodes, without a session.
    pub fn new() -> State {
        State::with_limits(Limits::default())
    }

    pub fn with_limits(limits: Limits) -> State {
        let mut state = State::empty(limits);
        let open = Saved { acl: OPEN, ..Saved::default() };
        let readable = Saved { acl: READABLE, version: -1, ..Saved::default() };
        let empty = Some(b"".as_slice());
        let root = state.add_node(NONE, "/", b"", empty, &open);
        debug_assert_eq!(root, ROOT);
        let system = state.add_node(ROOT, SYSTEM_PATH, b"zookeeper", empty, &open);
        state.add_node(system, QUOTA_PATH, b"quota", empty, &open);
        state.add_node(system, CONFIG_PATH, b"config", empty, &readable);
        for acl in [OPEN, OPEN, OPEN, READABLE] {
            state.acls.keep(acl);
        }
        state
    }

    /// Without even a root, for a snapshot to fill.
    fn empty(limits: Limits) -> State {
        State {
            limits,
            nodes: Nodes::new(),
            acls: AclTable::new(),
            sessions: BTreeMap::new(),
            origins: BTreeMap::new(),
            due: Due::default(),
            quotas: HashSet::new(),
            secret: None,
            last_zxid: 0,
            time_ms: 0,
            digest: 0,
            data_bytes: 0,
            ephemerals: 0,
            undo: None,
            snapshots: 0,
        }
    }

    /// Does what an entry of the log says. `term` is that of the leader who made it. `out` is emptied first. What was
    /// applied before is passed over, and so is what does not follow on it.
    pub fn apply(&mut self, term: u64, entry: &Entry, out: &mut Applied) {
        out.clear();
        self.time_ms = self.time_ms.max(entry.time_ms);
        for (at, txn) in entry.txns.iter().enumerate() {
            let serial = entry.first_serial.wrapping_add(at as u64);
            if !self.is_next(entry.origin, serial) {
                out.repeats += 1;
                continue;
            }
            let zxid = self.next_zxid(term);
            self.last_zxid = zxid;
            let result = self.apply_txn(txn, out);
            out.outcomes.push(Outcome { serial, zxid, result });
        }
    }

    /// Takes the serial if it is the next of its origin.
    fn is_next(&mut self, origin: Origin, serial: u64) -> bool {
        if origin.server == 0 {
            return true;
        }
        let known =
            self.origins.entry(origin.server).or_insert(Serial { incarnation: origin.incarnation, last: 0 });
        if origin.incarnation > known.incarnation {
            *known = Serial { incarnation: origin.incarnation, last: 0 };
        }
        if origin.incarnation < known.incarnation || Some(serial) != known.last.checked_add(1) {
            return false;
        }
        known.last = serial;
        true
    }

    /// The term in the high half, a counter in the low one; greater than every one before whatever the terms are.
    fn next_zxid(&self, term: u64) -> Zxid {
        let first = ((term & 0x7fff_ffff) << 32) as i64 | 1;
        first.max(self.last_zxid.saturating_add(1))
    }

    fn apply_txn(&mut self, txn: &Txn, out: &mut Applied) -> Result<Response, Code> {
        match &txn.op {
            Op::Request(Request::CloseSession) | Op::CloseSession => {
                self.check_session(txn)?;
                self.close_session(txn.session, out);
                Ok(Response::Empty)
            }
            Op::Request(request) => {
                self.check_session(txn)?;
                self.apply_request(txn, request, out)
            }
            Op::CreateSession { timeout_ms } => {
                self.create_session(txn.session, *timeout_ms, txn.connection)?;
                out.attached.push((txn.session, txn.connection));
                Ok(Response::Empty)
            }
            Op::Attach { password, connection } => {
                self.attach(txn.session, password, *connection)?;
                out.attached.push((txn.session, *connection));
                Ok(Response::Empty)
            }
            Op::Expire { sessions } => {
                for &session in sessions {
                    self.close_session(session, out);
                }
                Ok(Response::Empty)
            }
            Op::DeleteContainers { paths } => {
                for path in paths {
                    self.delete_container(path, out);
                }
                Ok(Response::Empty)
            }
            Op::Init { secret } => {
                self.secret.get_or_insert(*secret);
                Ok(Response::Empty)
            }
            Op::Membership { text } => self.set_membership(text, out),
        }
    }

    /// Number of the last transaction.
    pub fn last_zxid(&self) -> Zxid {
        self.last_zxid
    }

    /// The time of the last entry, milliseconds since 1970 UTC; it never goes back.
    pub fn time_ms(&self) -> i64 {
        self.time_ms
    }

    /// Equal for equal trees and sessions, whatever the way to them.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// The incarnation and the last serial of a server that was applied.
    pub fn origin_serial(&self, server: u32) -> Option<(u64, u64)> {
        self.origins.get(&server).map(|serial| (serial.incarnation, serial.last))
    }

    /// Whether the first entry of the log, [`Op::Init`], was applied.
    pub fn is_initialized(&self) -> bool {
        self.secret.is_some()
    }

    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// All znodes, the root and the special ones too.
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    pub fn ephemeral_count(&self) -> usize {
        self.ephemerals
    }

    /// Bytes of all paths and data, as `zk_approximate_data_size` counts them.
    pub fn data_bytes(&self) -> u64 {
        self.data_bytes
    }

    /// The [`Stat`] of a znode, without a look at its access list.
    pub fn stat(&self, path: &str) -> Option<Stat> {
        self.nodes.find(path).map(|number| self.nodes.stat(number))
    }

    /// The data of a znode, likewise.
    pub fn data(&self, path: &str) -> Option<Option<&[u8]>> {
        self.nodes.find(path).map(|number| self.nodes.data(number))
    }

    /// The names of the children, likewise. In no order.
    pub fn children(&self, path: &str) -> Option<Vec<String>> {
        self.nodes.find(path).map(|number| self.child_names(number))
    }

    pub fn acl(&self, path: &str) -> Option<Arc<[Acl]>> {
        self.nodes.find(path).map(|number| self.acls.list(self.nodes.at(number).acl))
    }

    /// Whether there is a znode that somebody with these identities may read.
    pub fn may_read(&self, path: &str, ids: &[Id]) -> bool {
        let number = self.nodes.find(path);
        number.is_some_and(|number| self.acls.allows(self.nodes.at(number).acl, perms::READ, ids))
    }
}
