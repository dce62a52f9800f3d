//! What came of an entry: an answer for each transaction, the changes that watches tell of, and the sessions that
//! ended or went to another connection.

use std::sync::Arc;

use super::acl::allows;
use crate::proto::{Acl, Code, EventType, Id, Response, SessionId, Zxid, perms};

/// What came of one entry, in the order of its transactions. Kept between entries for its memory.
#[derive(Clone, Debug, Default)]
pub struct Applied {
    /// One for each transaction that was not a repeat.
    pub outcomes: Vec<Outcome>,
    pub changes: Vec<Change>,
    /// Sessions that are gone, closed or expired.
    pub closed: Vec<SessionId>,
    /// Sessions and the connection that owns them from now on; new sessions too.
    pub attached: Vec<(SessionId, u64)>,
    /// Transactions that were passed over because they had been applied before.
    pub repeats: usize,
}

impl Applied {
    pub(super) fn clear(&mut self) {
        empty(&mut self.outcomes);
        empty(&mut self.changes);
        empty(&mut self.closed);
        empty(&mut self.attached);
        self.repeats = 0;
    }
}

/// Items whose room is kept for the next entry; one that ends a session of a million znodes is not the rule.
const ITEMS_KEPT: usize = 4096;

fn empty<T>(list: &mut Vec<T>) {
    list.clear();
    list.shrink_to(ITEMS_KEPT);
}

/// The answer to a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub serial: u64,
    /// Failed transactions have one too.
    pub zxid: Zxid,
    pub result: Result<Response, Code>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    Created,
    Deleted,
    /// The data was set, be it to the same.
    Data,
}

/// Something that watches may tell of.
#[derive(Clone, Debug)]
pub struct Change {
    pub zxid: Zxid,
    pub kind: ChangeKind,
    pub path: Arc<str>,
    /// Who may read the znode, or might when it was there.
    pub acl: Arc<[Acl]>,
    /// The same of its parent; only of created and deleted ones.
    pub parent_acl: Option<Arc<[Acl]>>,
}

impl Change {
    /// Whether somebody may hear of the event that this change makes. Events of what one may not read are dropped
    /// (CVE-2024-23944).
    pub fn may_tell(&self, event: EventType, ids: &[Id]) -> bool {
        match (event, &self.parent_acl) {
            (EventType::ChildrenChanged, Some(acl)) => allows(acl, perms::READ, ids),
            _ => allows(&self.acl, perms::READ, ids),
        }
    }
}
