//! Reads: local and maybe old, but never older than what the session has seen, and exactly the state of the zxid that
//! the reply carries.

use std::collections::{BTreeMap, BTreeSet};

use crate::proto::{Code, Request, Response, SessionId, Zxid};
use crate::testing::client::Notice;
use crate::testing::history::{History, Known, Was, reads};

/// Within a session zxids never go back, over reconnects too; and what was acknowledged to anybody before a `sync`
/// began is in what its reply shows.
///
/// # Errors
/// The first violation.
pub fn check_sessions(history: &History) -> Result<(), String> {
    let mut last: BTreeMap<SessionId, (Zxid, usize)> = BTreeMap::new();
    let mut session: BTreeMap<u32, SessionId> = BTreeMap::new();
    for (index, line) in history.lines.iter().enumerate() {
        let zxid = match &line.notice {
            Notice::Connected { session: id, .. } => {
                session.insert(line.client, *id);
                continue;
            }
            // Notes of changes may run ahead of replies: what they tell must only not be shown before, which
            // `check_watches` looks at.
            Notice::Replied { zxid, .. } | Notice::Rewatched { zxid } => *zxid,
            _ => continue,
        };
        let Some(id) = session.get(&line.client).filter(|_| zxid > 0) else { continue };
        let before = last.entry(*id).or_insert((0, index));
        if zxid < before.0 {
            return Err(format!(
                "session {id:#x} went back from {}: {}",
                history.tell(before.1),
                history.tell(index)
            ));
        }
        if zxid > before.0 {
            *before = (zxid, index);
        }
    }
    let mut acknowledged: BTreeMap<usize, Zxid> = BTreeMap::new();
    for call in history.calls.iter().filter(|call| call.is_done_write()) {
        acknowledged.extend(call.replied.map(|replied| (replied, call.zxid)));
    }
    let mut greatest = 0;
    for zxid in acknowledged.values_mut() {
        greatest = greatest.max(*zxid);
        *zxid = greatest;
    }
    for call in &history.calls {
        if !matches!((&call.request, &call.result), (Request::Sync { .. }, Ok(_))) {
            continue;
        }
        let before = acknowledged.range(..call.invoked).next_back().map_or(0, |(_, zxid)| *zxid);
        if call.zxid < before {
            return Err(format!("a sync shows {:#x}, and {before:#x} was acknowledged: {call:?}", call.zxid));
        }
    }
    Ok(())
}

/// What a read shows of a path is what the path was at the zxid of the reply, as far as that is known from all others.
///
/// # Errors
/// The first violation.
pub fn check_reads(history: &History, known: &Known) -> Result<(), String> {
    for call in &history.calls {
        for (request, result) in reads(call) {
            let (path, shown) = match (request, result) {
                (Request::GetData { path, .. }, Ok(Response::Data { stat, .. }))
                | (Request::Exists { path, .. }, Ok(Response::Stat(stat))) => (path, stat.mzxid),
                (Request::GetData { path, .. } | Request::Exists { path, .. }, Err(Code::NoNode)) => {
                    let was = known.at(path, call.zxid);
                    if let Some((since, Was::Present(_))) = was
                        && !known.fading.contains(path)
                    {
                        return Err(format!(
                            "`{path}` is there since {since:#x}, and was not found: {call:?}"
                        ));
                    }
                    continue;
                }
                _ => continue,
            };
            if shown > call.zxid {
                return Err(format!("a reply shows what its zxid does not have yet: {call:?}"));
            }
            if let Some((since, was)) = known.at(path, call.zxid)
                && since > shown
            {
                return Err(format!("`{path}` is {was:?} since {since:#x}, and that was not read: {call:?}"));
            }
        }
    }
    Ok(())
}

/// A list of children has every child that is known to be there at the reply's zxid, and none that is known not to be.
///
/// # Errors
/// The first violation.
pub fn check_children(history: &History, known: &Known) -> Result<(), String> {
    let mut children: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for path in known.paths.keys() {
        if let Some((parent, name)) = path.rsplit_once('/') {
            children.entry(parent).or_default().push(name);
        }
    }
    for call in &history.calls {
        for (request, result) in reads(call) {
            let (Request::GetChildren { path, .. } | Request::GetChildren2 { path, .. }) = request else {
                continue;
            };
            let (Ok(Response::Children(names)) | Ok(Response::Children2 { children: names, .. })) = result
            else {
                continue;
            };
            let listed: BTreeSet<&str> = names.iter().map(String::as_str).collect();
            if listed.len() != names.len() {
                return Err(format!("`{path}` has a child twice: {call:?}"));
            }
            let parent = path.trim_end_matches('/');
            for name in children.get(parent).into_iter().flatten() {
                let child = format!("{parent}/{name}");
                match known.at(&child, call.zxid) {
                    Some((since, Was::Present(_)))
                        if !listed.contains(name) && !known.fading.contains(&child) =>
                    {
                        return Err(format!(
                            "`{child}` is there since {since:#x}, and is not listed: {call:?}"
                        ));
                    }
                    Some((since, Was::Absent)) if listed.contains(name) => {
                        return Err(format!(
                            "`{child}` is deleted since {since:#x}, and is listed: {call:?}"
                        ));
                    }
                    _ => {}
                }
            }
        }
    }
    Ok(())
}

/// A multi is done whole or not at all: who reads both paths of a pair at once finds the same value.
///
/// # Errors
/// The first violation.
pub fn check_pairs(history: &History, pairs: &[(String, String)]) -> Result<(), String> {
    for call in &history.calls {
        let mut seen = BTreeMap::new();
        for (request, result) in reads(call) {
            if let (Request::GetData { path, .. }, Ok(Response::Data { data, .. })) = (request, result) {
                seen.insert(path, data);
            }
        }
        for (one, other) in pairs {
            if let (Some(a), Some(b)) = (seen.get(one), seen.get(other))
                && a != b
            {
                return Err(format!("`{one}` and `{other}` differ: {call:?}"));
            }
        }
    }
    Ok(())
}
