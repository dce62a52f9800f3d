//! The rules of the operations that write: what is checked, in which order, and what changes. The order of the checks
//! is that of ZooKeeper 3.8 and 3.9 (`PrepRequestProcessor`), because clients see it as the code of the error.

use std::borrow::Cow;

use super::acl::resolve_acl;
use super::change::split;
use super::nodes::{Kind, NAME_BYTES_MAX, NONE, Saved};
use super::{Applied, CONFIG_PATH, ChangeKind, QUOTA_PATH, SYSTEM_PATH, State, Txn};
use crate::proto::{Code, Create, CreateOp, Id, Request, Response, SessionId, perms};

/// A TTL is a positive number of at most 40 bits, milliseconds.
const TTL_MS_MAX: i64 = (1 << 40) - 1;

impl State {
    pub(super) fn apply_request(
        &mut self,
        txn: &Txn,
        request: &Request,
        out: &mut Applied,
    ) -> Result<Response, Code> {
        match request {
            Request::Multi(requests) => Ok(self.multi(txn, requests, out)),
            Request::Create(create) => self.create(txn.session, &txn.ids, create, out),
            Request::Delete { path, version } => self.delete(&txn.ids, path, *version, out),
            Request::SetData { path, data, version } => {
                self.set_data(&txn.ids, path, data.as_deref(), *version, out)
            }
            Request::SetAcl { path, acl, version } => {
                check_path(path)?;
                let list = resolve_acl(acl, &txn.ids)?;
                let number = self.nodes.find(path).ok_or(Code::NoNode)?;
                self.check_acl(number, perms::ADMIN, &txn.ids)?;
                let aversion = next_version(self.nodes.aversion(number), *version)?;
                let acl = self.acls.take(&list);
                self.put_acl(number, path, acl, aversion);
                Ok(Response::Stat(self.nodes.stat(number)))
            }
            // The servers that speak of changing the ensemble do so without the tree.
            Request::Reconfig { .. } => Err(Code::ReconfigDisabled),
            _ => Err(Code::Unimplemented),
        }
    }

    fn check_acl(&self, number: u32, rights: i32, ids: &[Id]) -> Result<(), Code> {
        if self.acls.allows(self.nodes.at(number).acl, rights, ids) { Ok(()) } else { Err(Code::NoAuth) }
    }

    pub(super) fn create(
        &mut self,
        session: SessionId,
        ids: &[Id],
        create: &Create,
        out: &mut Applied,
    ) -> Result<Response, Code> {
        let (kind, sequential) = mode(create, session)?;
        let data = create.data.as_deref();
        if !create.path.contains('/') || create.path.contains('\0') {
            return Err(Code::BadArguments);
        }
        self.check_bytes(data)?;
        let (parent_path, _) = split(&create.path);
        let list = resolve_acl(&create.acl, ids)?;
        let parent = self.nodes.find(parent_path).ok_or(Code::NoNode)?;
        self.check_acl(parent, perms::CREATE, ids)?;
        let made = self.nodes.cversion(parent);
        let path = match sequential {
            true => Cow::Owned(format!("{}{made:010}", create.path)),
            false => Cow::Borrowed(create.path.as_str()),
        };
        check_path(&path)?;
        let (_, name) = split(&path);
        if name.len() > NAME_BYTES_MAX {
            return Err(Code::BadArguments);
        }
        if name.is_empty() || self.nodes.child(parent, name.as_bytes()).is_some() {
            return Err(Code::NodeExists);
        }
        if matches!(self.nodes.kind(parent), Kind::Ephemeral(_)) {
            return Err(Code::NoChildrenForEphemerals);
        }
        self.check_quota(&path, 1, data.map_or(0, <[u8]>::len) as i64)?;
        if matches!(kind, Kind::Ephemeral(_))
            && self
                .sessions
                .get(&session)
                .is_none_or(|session| session.ephemerals.len() >= self.limits.ephemerals_max)
        {
            return Err(Code::QuotaExceeded);
        }

        let zxid = self.last_zxid;
        let saved = Saved {
            acl: self.acls.take(&list),
            kind,
            czxid: zxid,
            mzxid: zxid,
            pzxid: zxid,
            ctime: self.time_ms,
            mtime: self.time_ms,
            version: 0,
            cversion: 0,
            aversion: 0,
        };
        let number = self.add_node(parent, &path, name.as_bytes(), data, &saved);
        self.put_children(parent, parent_path, zxid, made.wrapping_add(1));
        self.count_quota(&path, 1, data.map_or(0, <[u8]>::len) as i64);
        self.begin_quota(&path);
        self.note(ChangeKind::Created, &path, saved.acl, parent, out);
        Ok(match create.op {
            CreateOp::Create => Response::Path(path.into_owned()),
            _ => Response::Created { path: path.into_owned(), stat: self.nodes.stat(number) },
        })
    }

    pub(super) fn delete(
        &mut self,
        ids: &[Id],
        path: &str,
        version: i32,
        out: &mut Applied,
    ) -> Result<Response, Code> {
        let special = ["/", SYSTEM_PATH, QUOTA_PATH, CONFIG_PATH].contains(&path);
        if !path.contains('/') || path.contains('\0') || special {
            return Err(Code::BadArguments);
        }
        let (parent_path, name) = split(path);
        let parent = self.nodes.find(parent_path).ok_or(Code::NoNode)?;
        self.check_acl(parent, perms::DELETE, ids)?;
        let number = self.nodes.child(parent, name.as_bytes()).ok_or(Code::NoNode)?;
        next_version(self.nodes.at(number).version, version)?;
        if self.nodes.child_count(number) > 0 {
            return Err(Code::NotEmpty);
        }
        self.delete_node(number, path, out);
        Ok(Response::Empty)
    }

    /// Deletes a znode without children, with all that follows for its parent, quotas and watches.
    pub(super) fn delete_node(&mut self, number: u32, path: &str, out: &mut Applied) {
        let node = self.nodes.at(number);
        let (parent, acl) = (node.parent, node.acl);
        let (parent_path, _) = split(path);
        let bytes = self.nodes.data_bytes(number) as i64;
        self.note(ChangeKind::Deleted, path, acl, parent, out);
        self.drop_node(number, path);
        self.put_children(parent, parent_path, self.last_zxid, self.nodes.cversion(parent));
        self.count_quota(path, -1, -bytes);
    }

    pub(super) fn set_data(
        &mut self,
        ids: &[Id],
        path: &str,
        data: Option<&[u8]>,
        version: i32,
        out: &mut Applied,
    ) -> Result<Response, Code> {
        check_path(path)?;
        self.check_bytes(data)?;
        let number = self.nodes.find(path).ok_or(Code::NoNode)?;
        self.check_acl(number, perms::WRITE, ids)?;
        let bytes = data.map_or(0, <[u8]>::len) as i64 - self.nodes.data_bytes(number) as i64;
        self.check_quota(path, 0, bytes)?;
        let version = next_version(self.nodes.at(number).version, version)?;
        self.put_data(number, path, data, self.last_zxid, self.time_ms, version);
        self.count_quota(path, 0, bytes);
        self.note(ChangeKind::Data, path, self.nodes.at(number).acl, NONE, out);
        Ok(Response::Stat(self.nodes.stat(number)))
    }

    /// The operation `check`, only of a multi.
    pub(super) fn check(&self, ids: &[Id], path: &str, version: i32) -> Result<Response, Code> {
        check_path(path)?;
        let number = self.nodes.find(path).ok_or(Code::NoNode)?;
        self.check_acl(number, perms::READ, ids)?;
        next_version(self.nodes.at(number).version, version)?;
        Ok(Response::Empty)
    }

    /// A container or TTL node that was due when the leader looked; only if it still is.
    pub(super) fn delete_container(&mut self, path: &str, out: &mut Applied) {
        if let Some(number) = self.nodes.find(path)
            && self.is_due(number, self.time_ms)
        {
            self.delete_node(number, path, out);
        }
    }

    /// The members are a znode that all may read; its version stays −1, as clients of ZooKeeper know it.
    pub(super) fn set_membership(&mut self, text: &str, out: &mut Applied) -> Result<Response, Code> {
        let number = self.nodes.find(CONFIG_PATH).ok_or(Code::NoNode)?;
        let text = format!("{}\nversion={:x}", text.trim_end(), self.last_zxid);
        self.put_data(number, CONFIG_PATH, Some(text.as_bytes()), self.last_zxid, self.time_ms, -1);
        self.note(ChangeKind::Data, CONFIG_PATH, self.nodes.at(number).acl, NONE, out);
        Ok(Response::Data { data: Some(text.into()), stat: self.nodes.stat(number) })
    }

    fn check_bytes(&self, data: Option<&[u8]>) -> Result<(), Code> {
        match data {
            Some(data) if data.len() > self.limits.node_bytes_max => Err(Code::BadArguments),
            _ => Ok(()),
        }
    }
}

/// What the flags of a create mean, and whether a number is to be appended.
fn mode(create: &Create, session: SessionId) -> Result<(Kind, bool), Code> {
    let ttl = match create.op {
        CreateOp::Ttl => create.ttl,
        _ => -1,
    };
    let (kind, sequential) = match create.flags {
        0 => (Kind::Persistent, false),
        1 => (Kind::Ephemeral(session), false),
        2 => (Kind::Persistent, true),
        3 => (Kind::Ephemeral(session), true),
        4 => (Kind::Container, false),
        5 => (Kind::Ttl(ttl), false),
        6 => (Kind::Ttl(ttl), true),
        _ => return Err(Code::BadArguments),
    };
    let valid = match kind {
        Kind::Ttl(ttl) => (1..=TTL_MS_MAX).contains(&ttl),
        Kind::Ephemeral(session) => session != 0 && ttl < 0,
        _ => ttl < 0,
    };
    if valid { Ok((kind, sequential)) } else { Err(Code::BadArguments) }
}

fn check_path(path: &str) -> Result<(), Code> {
    crate::proto::check_path(path, false)
}

/// The version after `current`, if `wanted` is −1 (any) or `current`. −1 itself is passed over.
fn next_version(current: i32, wanted: i32) -> Result<i32, Code> {
    if wanted != -1 && wanted != current {
        return Err(Code::BadVersion);
    }
    Ok(if current == -2 { 0 } else { current.wrapping_add(1) })
}
