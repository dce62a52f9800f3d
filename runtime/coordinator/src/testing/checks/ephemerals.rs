//! Ephemeral znodes: there as long as their session, and not longer.

use std::collections::{BTreeMap, BTreeSet};

use crate::proto::{Request, Response, SessionId, Zxid};
use crate::testing::client::Notice;
use crate::testing::history::{History, reads};

#[derive(Default)]
struct Life {
    /// The greatest zxid of a reply to the session.
    heard: Zxid,
    closed: Option<Zxid>,
    /// When the last write that it was answered had begun, in milliseconds.
    wrote_ms: Option<u64>,
    timeout_ms: u64,
}

/// Checks that no ephemeral was gone while its session was answered, that none was there after its session was closed
/// or after the session's client heard that it had expired, and that no session expired before its time.
///
/// # Errors
/// The first violation.
pub fn check_ephemerals(history: &History) -> Result<(), String> {
    let lives = lives(history);
    check_expiry(history)?;
    // By path: the session and when it was created. Those that were deleted otherwise, or may have been, are not looked
    // at.
    let mut owners: BTreeMap<&str, (SessionId, Zxid)> = BTreeMap::new();
    let mut deleted: BTreeSet<&str> = BTreeSet::new();
    for call in &history.calls {
        for (request, response) in call.writes() {
            match (request, response) {
                (Request::Create(create), Some(Response::Path(path) | Response::Created { path, .. }))
                    if matches!(create.flags, 1 | 3) =>
                {
                    let again = owners.insert(path, (call.session, call.zxid)).is_some();
                    deleted.extend(again.then_some(path.as_str()));
                }
                (Request::Delete { path, .. }, _) => {
                    deleted.insert(path);
                }
                _ => {}
            }
        }
    }
    owners.retain(|path, _| !deleted.contains(path));
    let mut under: BTreeMap<&str, Vec<(&str, &str)>> = BTreeMap::new();
    for path in owners.keys() {
        if let Some((parent, name)) = path.rsplit_once('/') {
            under.entry(parent).or_default().push((name, path));
        }
    }
    for call in &history.calls {
        for (request, result) in reads(call) {
            let seen: Vec<(&str, bool)> = match (request, result) {
                (Request::GetData { path, .. } | Request::Exists { path, .. }, result) => {
                    vec![(path, result.is_ok())]
                }
                (
                    Request::GetChildren { path, .. } | Request::GetChildren2 { path, .. },
                    Ok(Response::Children(names) | Response::Children2 { children: names, .. }),
                ) => {
                    let listed: BTreeSet<&str> = names.iter().map(String::as_str).collect();
                    let all = under.get(path.as_str()).into_iter().flatten();
                    all.map(|(name, path)| (*path, listed.contains(name))).collect()
                }
                _ => continue,
            };
            for (path, there) in seen {
                let Some((session, created)) = owners.get(path).filter(|(_, zxid)| *zxid <= call.zxid) else {
                    continue;
                };
                let Some(life) = lives.get(session) else { continue };
                if !there && call.zxid > 0 && life.heard > call.zxid && call.result_is_clear() {
                    return Err(format!(
                        "`{path}` of {created:#x} was gone at {:#x}, and its session {session:#x} was answered at \
                         {:#x}: {call:?}",
                        call.zxid, life.heard
                    ));
                }
                if there && life.closed.is_some_and(|closed| closed <= call.zxid) {
                    return Err(format!("`{path}` outlived its session {session:#x}: {call:?}"));
                }
            }
        }
    }
    Ok(())
}

impl crate::testing::history::Call {
    /// The reply says whether the node is there: it is data or `NoNode`.
    fn result_is_clear(&self) -> bool {
        matches!(self.result, Ok(_) | Err(crate::proto::Code::NoNode))
    }
}

fn lives(history: &History) -> BTreeMap<SessionId, Life> {
    let mut lives: BTreeMap<SessionId, Life> = BTreeMap::new();
    for call in &history.calls {
        if call.session != 0 && call.result.is_ok() {
            let life = lives.entry(call.session).or_default();
            life.heard = life.heard.max(call.zxid);
        }
    }
    for line in &history.lines {
        if let Notice::Closed { session, zxid } = &line.notice {
            lives.entry(*session).or_default().closed = Some(*zxid);
        }
    }
    lives
}

/// A session expires at the earliest a time-out after it has begun a write that it was answered: such a write has gone
/// through the leader.
fn check_expiry(history: &History) -> Result<(), String> {
    let mut lives: BTreeMap<SessionId, Life> = BTreeMap::new();
    let mut replies: BTreeMap<usize, (SessionId, u64)> = BTreeMap::new();
    for call in history.calls.iter().filter(|call| call.is_done_write()) {
        let began = history.lines.get(call.invoked).map_or(0, |line| line.at_ms);
        replies.extend(call.replied.map(|replied| (replied, (call.session, began))));
    }
    for (index, line) in history.lines.iter().enumerate() {
        if let Some((session, began)) = replies.get(&index) {
            let life = lives.entry(*session).or_default();
            life.wrote_ms = life.wrote_ms.max(Some(*began));
        }
        match &line.notice {
            Notice::Connected { session, timeout_ms, .. } => {
                lives.entry(*session).or_default().timeout_ms = u64::try_from(*timeout_ms).unwrap_or(0);
            }
            Notice::Expired { session } => {
                let Some(life) = lives.get(session) else { continue };
                if life.wrote_ms.is_some_and(|wrote| line.at_ms < wrote + life.timeout_ms) {
                    return Err(format!(
                        "the session expired too early, its last write began at {:?} ms: {}",
                        life.wrote_ms,
                        history.tell(index)
                    ));
                }
            }
            _ => {}
        }
    }
    Ok(())
}
