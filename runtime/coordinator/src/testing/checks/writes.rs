//! Writes: done at most once, in one order that agrees with real time, with versions that count them.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::proto::{Request, Response, Zxid};
use crate::testing::history::{History, Known, Was};

/// Checks the order of writes against real time, that each has a zxid of its own, that no value came twice or from
/// nowhere, and that versions count the writes, leaving room only for those whose result nobody knows.
///
/// # Errors
/// The first violation.
pub fn check_writes(history: &History, known: &Known) -> Result<(), String> {
    check_order(history)?;
    // By path and value: how it was written, and whether the reply was a plain error.
    let mut sent: BTreeMap<(&str, &Bytes), bool> = BTreeMap::new();
    let mut unknown_sets: BTreeMap<&str, usize> = BTreeMap::new();
    for call in &history.calls {
        let parts = match &call.request {
            Request::Multi(parts) => parts.as_slice(),
            request => std::slice::from_ref(request),
        };
        let possible = !call.writes().is_empty();
        for part in parts {
            match part {
                Request::SetData { path, data: Some(data), .. } => {
                    sent.insert((path, data), possible);
                    if possible && call.is_unknown() {
                        *unknown_sets.entry(path).or_default() += 1;
                    }
                }
                Request::Create(create) if create.flags & 2 == 0 => {
                    if let Some(data) = &create.data {
                        *sent.entry((&create.path, data)).or_default() |= possible;
                    }
                }
                _ => {}
            }
        }
        for (request, response) in call.writes() {
            if let (Request::SetData { path, version, .. }, Some(Response::Stat(stat))) = (request, response)
            {
                if *version >= 0 && stat.version != version + 1 {
                    return Err(format!("`{path}`: set over version {version} gave {stat:?}"));
                }
                if stat.mzxid != call.zxid {
                    return Err(format!("`{path}`: set at {:#x}, answered with {stat:?}", call.zxid));
                }
            }
        }
    }
    for (path, states) in &known.paths {
        check_versions(path, states, unknown_sets.get(path.as_str()).copied().unwrap_or(0))?;
        let mut values: BTreeMap<&Bytes, Zxid> = BTreeMap::new();
        for (zxid, was) in states {
            let Was::Present(node) = was else { continue };
            let Some(data) = node.data.as_ref().filter(|data| !data.is_empty()) else { continue };
            if let Some(first) = values.insert(data, *zxid) {
                return Err(format!("`{path}`: {data:?} was written twice, at {first:#x} and {zxid:#x}"));
            }
            if sent.get(&(path.as_str(), data)) == Some(&false) {
                return Err(format!("`{path}`: {data:?} was refused, and is there at {zxid:#x}"));
            }
            if is_numbered(data) && !sent.contains_key(&(path.as_str(), data)) && node.version > 0 {
                return Err(format!("`{path}`: {data:?} was never written, and is there at {zxid:#x}"));
            }
        }
    }
    Ok(())
}

fn is_numbered(data: &Bytes) -> bool {
    data.starts_with(b"v")
}

/// Zxids of acknowledged writes are unique, and a write that began when another was acknowledged has the greater one.
fn check_order(history: &History) -> Result<(), String> {
    let mut zxids: BTreeSet<Zxid> = BTreeSet::new();
    // The greatest zxid of what was acknowledged before each line.
    let mut replies: BTreeMap<usize, Zxid> = BTreeMap::new();
    for call in history.calls.iter().filter(|call| call.is_done_write()) {
        if !zxids.insert(call.zxid) {
            return Err(format!("two writes have zxid {:#x}; one is {call:?}", call.zxid));
        }
        if let Some(replied) = call.replied {
            replies.insert(replied, call.zxid);
        }
    }
    let mut greatest = 0;
    for zxid in replies.values_mut() {
        greatest = greatest.max(*zxid);
        *zxid = greatest;
    }
    for call in history.calls.iter().filter(|call| call.is_done_write()) {
        let before = replies.range(..call.invoked).next_back().map_or(0, |(_, zxid)| *zxid);
        if call.zxid <= before {
            return Err(format!(
                "a write at {before:#x} was acknowledged before one began at less: {call:?}"
            ));
        }
    }
    Ok(())
}

/// Within one life of a node, versions rise with the zxid, and those that nobody has seen are no more than the writes
/// of unknown result.
fn check_versions(path: &str, states: &BTreeMap<Zxid, Was>, unknown: usize) -> Result<(), String> {
    let mut lives: BTreeMap<Zxid, Vec<(Zxid, i32)>> = BTreeMap::new();
    for (zxid, was) in states {
        if let Was::Present(node) = was {
            lives.entry(node.czxid).or_default().push((*zxid, node.version));
        }
    }
    let mut missing = 0;
    for (czxid, seen) in lives {
        let mut last = (czxid, 0);
        for (zxid, version) in seen {
            let (before, was) = last;
            let step = i64::from(version) - i64::from(was);
            if zxid == czxid && version == 0 {
                continue;
            }
            if step < 1 {
                return Err(format!(
                    "`{path}`: version {was} at {before:#x}, and not more than {version} at {zxid:#x}"
                ));
            }
            missing += usize::try_from(step - 1).unwrap_or(usize::MAX);
            last = (zxid, version);
        }
    }
    if missing > unknown {
        return Err(format!(
            "`{path}`: {missing} versions come from nowhere, with {unknown} writes of unknown result"
        ));
    }
    Ok(())
}

/// Numbers of sequential names rise with the zxid of their creation under each parent.
///
/// # Errors
/// The first violation.
pub fn check_sequential(history: &History) -> Result<(), String> {
    let mut numbers: BTreeMap<&str, BTreeMap<Zxid, (i64, &str)>> = BTreeMap::new();
    for call in &history.calls {
        for (request, response) in call.writes() {
            let Request::Create(create) = request else { continue };
            let (Some(Response::Path(path)) | Some(Response::Created { path, .. })) = response else {
                continue;
            };
            if create.flags & 2 == 0 || !matches!(create.flags, 2 | 3 | 6) {
                continue;
            }
            let number = path.get(path.len().saturating_sub(10)..).and_then(|digits| digits.parse().ok());
            let (Some(number), Some((parent, _))) = (number, path.rsplit_once('/')) else {
                return Err(format!("`{path}` has no number"));
            };
            numbers.entry(parent).or_default().insert(call.zxid, (number, path));
        }
    }
    for (parent, created) in numbers {
        let mut last: Option<(i64, &str)> = None;
        for (zxid, (number, path)) in created {
            if let Some((before, other)) = last
                && number <= before
            {
                return Err(format!("under `{parent}`, `{path}` of {zxid:#x} came behind `{other}`"));
            }
            last = Some((number, path));
        }
    }
    Ok(())
}
