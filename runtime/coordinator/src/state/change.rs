//! The few ways in which the tree changes, each with all that hangs on it: digest, counts, the znodes of a session,
//! containers, quotas, use of access lists. And each way back, for a multi that fails half-way.

use super::digest::{OwnPart, child_part, own_part, path_hash};
use super::nodes::{Kind, NONE, Saved};
use super::{Applied, Change, ChangeKind, State};

/// How to take back one change. Paths, not numbers: a znode that comes back may have another number.
pub(super) enum Undo {
    Added { path: String },
    Dropped { path: String, data: Option<Vec<u8>>, saved: Saved },
    Data { path: String, data: Option<Vec<u8>>, mzxid: i64, mtime: i64, version: i32 },
    Acl { path: String, acl: u32, aversion: i32 },
    Children { path: String, pzxid: i64, cversion: i32 },
}

impl State {
    fn undo(&mut self, undo: impl FnOnce(&State) -> Undo) {
        if self.undo.is_some() {
            let undo = undo(self);
            self.undo.get_or_insert_default().push(undo);
        }
    }

    fn own_digest(&self, number: u32, path: u64) -> u64 {
        let node = self.nodes.at(number);
        own_part(
            path,
            &OwnPart {
                data: self.nodes.data(number),
                czxid: node.czxid,
                mzxid: node.mzxid,
                ctime: node.ctime,
                mtime: node.mtime,
                version: node.version,
                aversion: self.nodes.aversion(number),
                kind: self.nodes.kind(number),
                acl: self.acls.hash(node.acl),
            },
        )
    }

    /// The share of a znode in the digest; `path` is the hash of its path.
    fn node_digest(&self, number: u32, path: u64) -> u64 {
        let children = child_part(path, self.nodes.pzxid(number), self.nodes.cversion(number));
        self.own_digest(number, path).wrapping_add(children)
    }

    /// Puts a znode in; one use of the access list goes to it. The parent's counts are changed apart.
    pub(super) fn add_node(
        &mut self,
        parent: u32,
        path: &str,
        name: &[u8],
        data: Option<&[u8]>,
        saved: &Saved,
    ) -> u32 {
        let number = self.nodes.insert(parent, name, data, saved);
        self.account_added(number, path_hash(path), path.len());
        if parent != NONE {
            self.refresh_due(parent);
        }
        self.quota_node_added(path);
        self.undo(|_| Undo::Added { path: path.to_string() });
        number
    }

    /// Counts a znode that is in the tree now; `path` is the hash of its path.
    pub(super) fn account_added(&mut self, number: u32, path: u64, path_bytes: usize) {
        self.digest = self.digest.wrapping_add(self.node_digest(number, path));
        self.data_bytes += (path_bytes + self.nodes.data_bytes(number)) as u64;
        match self.nodes.kind(number) {
            Kind::Persistent => {}
            Kind::Ephemeral(session) => {
                self.ephemerals += 1;
                if let Some(session) = self.sessions.get_mut(&session) {
                    session.ephemerals.insert(number);
                }
            }
            Kind::Container | Kind::Ttl(_) => self.refresh_due(number),
        }
    }

    /// Takes a znode without children out.
    pub(super) fn drop_node(&mut self, number: u32, path: &str) {
        self.undo(|state| {
            let data = state.nodes.data(number).map(<[u8]>::to_vec);
            Undo::Dropped { path: path.to_string(), data, saved: state.nodes.saved(number) }
        });
        self.digest = self.digest.wrapping_sub(self.node_digest(number, path_hash(path)));
        self.data_bytes -= (path.len() + self.nodes.data_bytes(number)) as u64;
        match self.nodes.kind(number) {
            Kind::Persistent => {}
            Kind::Ephemeral(session) => {
                self.ephemerals -= 1;
                if let Some(session) = self.sessions.get_mut(&session) {
                    session.ephemerals.remove(&number);
                }
            }
            Kind::Container | Kind::Ttl(_) => self.due.set(number, None),
        }
        self.quota_node_dropped(path);
        let node = self.nodes.at(number);
        let (parent, acl) = (node.parent, node.acl);
        self.nodes.remove(number);
        self.refresh_due(parent);
        // While it can still be taken back the list must stay.
        if self.undo.is_none() {
            self.acls.give(acl);
        }
    }

    pub(super) fn put_data(
        &mut self,
        number: u32,
        path: &str,
        data: Option<&[u8]>,
        mzxid: i64,
        mtime: i64,
        version: i32,
    ) {
        self.undo(|state| {
            let node = state.nodes.at(number);
            Undo::Data {
                path: path.to_string(),
                data: state.nodes.data(number).map(<[u8]>::to_vec),
                mzxid: node.mzxid,
                mtime: node.mtime,
                version: node.version,
            }
        });
        let hash = path_hash(path);
        self.digest = self.digest.wrapping_sub(self.own_digest(number, hash));
        self.data_bytes -= self.nodes.data_bytes(number) as u64;
        self.nodes.set_data(number, data);
        let node = self.nodes.at_mut(number);
        (node.mzxid, node.mtime, node.version) = (mzxid, mtime, version);
        self.refresh_due(number);
        self.data_bytes += data.map_or(0, <[u8]>::len) as u64;
        self.digest = self.digest.wrapping_add(self.own_digest(number, hash));
    }

    /// One use of `acl` goes to the znode.
    pub(super) fn put_acl(&mut self, number: u32, path: &str, acl: u32, aversion: i32) {
        self.undo(|state| Undo::Acl {
            path: path.to_string(),
            acl: state.nodes.at(number).acl,
            aversion: state.nodes.aversion(number),
        });
        let hash = path_hash(path);
        self.digest = self.digest.wrapping_sub(self.own_digest(number, hash));
        let old = std::mem::replace(&mut self.nodes.at_mut(number).acl, acl);
        self.nodes.extra_mut(number).aversion = aversion;
        self.digest = self.digest.wrapping_add(self.own_digest(number, hash));
        if self.undo.is_none() {
            self.acls.give(old);
        }
    }

    /// What a created or deleted child leaves at its parent.
    pub(super) fn put_children(&mut self, number: u32, path: &str, pzxid: i64, cversion: i32) {
        self.undo(|state| Undo::Children {
            path: path.to_string(),
            pzxid: state.nodes.pzxid(number),
            cversion: state.nodes.cversion(number),
        });
        let hash = path_hash(path);
        let extra = self.nodes.extra_mut(number);
        let old = child_part(hash, extra.pzxid, extra.cversion);
        (extra.pzxid, extra.cversion) = (pzxid, cversion);
        self.digest = self.digest.wrapping_sub(old).wrapping_add(child_part(hash, pzxid, cversion));
        self.refresh_due(number);
    }

    /// Notes a change for the watches. `parent` is that of a znode that came or went.
    pub(super) fn note(&self, kind: ChangeKind, path: &str, acl: u32, parent: u32, out: &mut Applied) {
        out.changes.push(Change {
            zxid: self.last_zxid,
            kind,
            path: path.into(),
            acl: self.acls.list(acl),
            parent_acl: (parent != NONE).then(|| self.acls.list(self.nodes.at(parent).acl)),
        });
    }

    /// Takes back all that was done since `undo` was begun, last first.
    pub(super) fn roll_back(&mut self) {
        let Some(log) = self.undo.take() else { return };
        for undo in log.into_iter().rev() {
            match undo {
                Undo::Added { path } => {
                    if let Some(number) = self.nodes.find(&path) {
                        self.drop_node(number, &path);
                    }
                }
                Undo::Dropped { path, data, saved } => {
                    let (parent, name) = split(&path);
                    if let Some(parent) = self.nodes.find(parent) {
                        self.add_node(parent, &path, name.as_bytes(), data.as_deref(), &saved);
                    }
                }
                Undo::Data { path, data, mzxid, mtime, version } => {
                    if let Some(number) = self.nodes.find(&path) {
                        self.put_data(number, &path, data.as_deref(), mzxid, mtime, version);
                    }
                }
                Undo::Acl { path, acl, aversion } => {
                    if let Some(number) = self.nodes.find(&path) {
                        self.put_acl(number, &path, acl, aversion);
                    }
                }
                Undo::Children { path, pzxid, cversion } => {
                    if let Some(number) = self.nodes.find(&path) {
                        self.put_children(number, &path, pzxid, cversion);
                    }
                }
            }
        }
    }

    /// Keeps all that was done since `undo` was begun.
    pub(super) fn keep_all(&mut self) {
        for undo in self.undo.take().unwrap_or_default() {
            match undo {
                Undo::Dropped { saved, .. } => self.acls.give(saved.acl),
                Undo::Acl { acl, .. } => self.acls.give(acl),
                _ => {}
            }
        }
    }
}

/// The path of the parent, and the name.
pub(super) fn split(path: &str) -> (&str, &str) {
    match path.rfind('/') {
        Some(0) => ("/", &path[1..]),
        Some(at) => (&path[..at], &path[at + 1..]),
        None => ("", path),
    }
}
