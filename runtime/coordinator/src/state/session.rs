//! Sessions: who holds them, how a client proves that one is its own, and what goes with them.

use hashbrown::HashSet;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::digest::session_part;
use super::{Applied, State, Txn};
use crate::proto::{Code, SessionId};

/// Bytes of a password on the wire.
const PASSWORD_BYTES: usize = 16;

/// A client's session, as all servers know it.
#[derive(Clone, Debug)]
pub struct Session {
    pub timeout_ms: i32,
    /// The connection that may write in its name.
    pub owner: u64,
    /// The numbers of its ephemeral znodes.
    pub(super) ephemerals: HashSet<u32>,
}

impl Session {
    pub fn ephemeral_count(&self) -> usize {
        self.ephemerals.len()
    }
}

impl State {
    /// The session, if it is neither closed nor expired.
    pub fn session(&self, id: SessionId) -> Option<&Session> {
        self.sessions.get(&id)
    }

    /// All of them, by their numbers.
    pub fn sessions(&self) -> impl Iterator<Item = (SessionId, &Session)> {
        self.sessions.iter().map(|(&id, session)| (id, session))
    }

    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// The password of a session: the first bytes of HMAC-SHA256 (RFC 2104) of its number under a secret of the
    /// ensemble, so that every server knows it and no client can guess another's.
    pub fn password(&self, id: SessionId) -> [u8; PASSWORD_BYTES] {
        let mut password = [0; PASSWORD_BYTES];
        let key = self.secret.unwrap_or_default();
        if let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&key) {
            mac.update(&id.to_be_bytes());
            password.copy_from_slice(&mac.finalize().into_bytes()[..PASSWORD_BYTES]);
        }
        password
    }

    /// Whether a client that gives this password may have the session. False before there is a secret.
    pub fn is_password(&self, id: SessionId, password: &[u8]) -> bool {
        let right = self.password(id);
        let differ = right.iter().zip(password).fold(0, |differ, (a, b)| differ | (a ^ b));
        self.secret.is_some() && password.len() == PASSWORD_BYTES && differ == 0
    }

    /// The paths of a session's ephemeral znodes, sorted.
    pub fn ephemerals(&self, id: SessionId) -> Vec<String> {
        self.owned(id).into_iter().map(|(path, _)| path).collect()
    }

    /// Sorted, because the order in the set differs between servers.
    fn owned(&self, id: SessionId) -> Vec<(String, u32)> {
        let Some(session) = self.sessions.get(&id) else { return Vec::new() };
        let mut owned: Vec<(String, u32)> =
            session.ephemerals.iter().map(|&number| (self.nodes.path(number), number)).collect();
        owned.sort_unstable();
        owned
    }

    pub(super) fn check_session(&self, txn: &Txn) -> Result<(), Code> {
        if txn.session == 0 && txn.connection == 0 {
            return Ok(());
        }
        let session = self.sessions.get(&txn.session).ok_or(Code::SessionExpired)?;
        if txn.connection == 0 || session.owner == txn.connection { Ok(()) } else { Err(Code::SessionMoved) }
    }

    /// The lowest number marks containers in ZooKeeper's files, and 0 is no session.
    pub(super) fn create_session(&mut self, id: SessionId, timeout_ms: i32, owner: u64) -> Result<(), Code> {
        if id == 0 || id == i64::MIN || timeout_ms <= 0 {
            return Err(Code::BadArguments);
        }
        if self.sessions.contains_key(&id) {
            return Err(Code::RuntimeInconsistency);
        }
        self.sessions.insert(id, Session { timeout_ms, owner, ephemerals: HashSet::new() });
        self.digest = self.digest.wrapping_add(session_part(id, timeout_ms, owner));
        Ok(())
    }

    pub(super) fn attach(&mut self, id: SessionId, password: &[u8], owner: u64) -> Result<(), Code> {
        let known = self.is_password(id, password);
        let session = self.sessions.get_mut(&id).filter(|_| known).ok_or(Code::SessionExpired)?;
        let timeout_ms = session.timeout_ms;
        let before = std::mem::replace(&mut session.owner, owner);
        self.digest = self
            .digest
            .wrapping_sub(session_part(id, timeout_ms, before))
            .wrapping_add(session_part(id, timeout_ms, owner));
        Ok(())
    }

    /// Ends a session, if there is one, and deletes its ephemeral znodes, all under the number of this transaction.
    /// Their paths are not in the log, so there is no number of them that would be too large for it.
    pub(super) fn close_session(&mut self, id: SessionId, out: &mut Applied) {
        for (path, number) in self.owned(id) {
            self.delete_node(number, &path, out);
        }
        if let Some(session) = self.sessions.remove(&id) {
            self.digest = self.digest.wrapping_sub(session_part(id, session.timeout_ms, session.owner));
            out.closed.push(id);
        }
    }
}
