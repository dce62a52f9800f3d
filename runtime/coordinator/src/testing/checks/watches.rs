//! Watches: told of every change, before any reply that shows it, and once.

use std::collections::{BTreeMap, BTreeSet};

use crate::proto::{Code, EventType, Request, Response, Zxid};
use crate::testing::client::Notice;
use crate::testing::history::{History, Known, Was};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Table {
    Data,
    Exist,
    Child,
    Persistent,
    Recursive,
}

/// What one client may expect.
#[derive(Default)]
struct Armed {
    /// Since which zxid nothing was told.
    since: BTreeMap<(Table, String), Zxid>,
    /// A change that the watches must tell of before a reply with its zxid or more.
    due: BTreeSet<(Zxid, (Table, String))>,
    /// The last reply on this connection.
    shown: Zxid,
    /// Connected again, and the watches are not set again yet.
    unset: bool,
}

/// The zxids at which each table of each path would have told something.
struct Changes {
    data: BTreeMap<String, Vec<Zxid>>,
    child: BTreeMap<String, Vec<Zxid>>,
}

impl Changes {
    fn of(known: &Known) -> Changes {
        let mut data: BTreeMap<String, Vec<Zxid>> = BTreeMap::new();
        let mut child: BTreeMap<String, BTreeSet<Zxid>> = BTreeMap::new();
        for (path, states) in &known.paths {
            let parent = match path.rsplit_once('/') {
                Some(("", _)) | None => "/",
                Some((parent, _)) => parent,
            };
            for (zxid, was) in states {
                data.entry(path.clone()).or_default().push(*zxid);
                let of_child = match was {
                    Was::Absent => *zxid,
                    Was::Present(node) => node.czxid,
                };
                child.entry(parent.to_owned()).or_default().insert(of_child);
            }
        }
        Changes {
            data,
            child: child.into_iter().map(|(path, set)| (path, set.into_iter().collect())).collect(),
        }
    }

    /// The first change behind a zxid.
    fn next(&self, table: Table, path: &str, since: Zxid) -> Option<Zxid> {
        let first = |changes: &BTreeMap<String, Vec<Zxid>>, path: &str| {
            let all = changes.get(path)?;
            all.get(all.partition_point(|zxid| *zxid <= since)).copied()
        };
        match table {
            Table::Data | Table::Exist => first(&self.data, path),
            Table::Child => first(&self.child, path),
            Table::Persistent => first(&self.data, path).into_iter().chain(first(&self.child, path)).min(),
            Table::Recursive => {
                let below = format!("{}/", path.trim_end_matches('/'));
                (self.data.range(below.clone()..))
                    .take_while(|(other, _)| other.starts_with(&below))
                    .filter_map(|(other, _)| first(&self.data, other))
                    .chain(first(&self.data, path))
                    .min()
            }
        }
    }
}

impl Armed {
    fn arm(&mut self, changes: &Changes, table: Table, path: &str, since: Zxid) {
        let key = (table, path.to_owned());
        self.disarm(&key, changes);
        if let Some(due) = changes.next(table, path, since) {
            self.due.insert((due, key.clone()));
        }
        self.since.insert(key, since);
    }

    fn disarm(&mut self, key: &(Table, String), changes: &Changes) -> bool {
        let Some(since) = self.since.remove(key) else { return false };
        if let Some(due) = changes.next(key.0, &key.1, since) {
            self.due.remove(&(due, key.clone()));
        }
        true
    }

    /// Takes an event; false if no watch was there for it.
    fn tell(&mut self, changes: &Changes, kind: EventType, path: &str, zxid: Zxid) -> bool {
        let key = |table| (table, path.to_owned());
        let tables: &[Table] = match kind {
            EventType::Created | EventType::DataChanged => &[Table::Data, Table::Exist],
            EventType::Deleted => &[Table::Data, Table::Exist, Table::Child],
            EventType::ChildrenChanged => &[Table::Child],
        };
        let mut wanted = false;
        for table in tables {
            wanted |= self.disarm(&key(*table), changes);
        }
        if self.since.contains_key(&key(Table::Persistent)) {
            wanted = true;
            self.arm(changes, Table::Persistent, path, zxid);
        }
        if kind != EventType::ChildrenChanged {
            let above: Vec<String> = (self.since.keys())
                .filter(|(table, of)| {
                    *table == Table::Recursive
                        && (of == path || path.starts_with(&format!("{}/", of.trim_end_matches('/'))))
                })
                .map(|(_, of)| of.clone())
                .collect();
            for of in above {
                wanted = true;
                // Other paths below may have changed at the same zxid; their events are looked for by those after it.
                self.arm(changes, Table::Recursive, &of, zxid);
            }
        }
        wanted
    }
}

/// Checks every client's watches against all changes that are known.
///
/// # Errors
/// The first violation.
pub fn check_watches(history: &History, known: &Known) -> Result<(), String> {
    let changes = Changes::of(known);
    let mut clients: BTreeMap<u32, Armed> = BTreeMap::new();
    let mut requests: BTreeMap<(u32, u64), &Request> = BTreeMap::new();
    for (index, line) in history.lines.iter().enumerate() {
        let armed = clients.entry(line.client).or_default();
        match &line.notice {
            Notice::Invoked { call, request } => {
                requests.insert((line.client, *call), request);
            }
            Notice::Connected { resumed, .. } => {
                armed.shown = 0;
                armed.unset = *resumed && !armed.since.is_empty();
                if !resumed {
                    *armed = Armed::default();
                }
            }
            Notice::Rewatched { zxid } => {
                armed.unset = false;
                set_again(armed, &changes, known, *zxid);
            }
            Notice::Event { zxid, kind, path } => {
                if *zxid > 0 && !armed.unset && *zxid <= armed.shown {
                    return Err(format!(
                        "an event after a reply that shows its change: {}",
                        history.tell(index)
                    ));
                }
                if !armed.tell(&changes, *kind, path, *zxid) {
                    return Err(format!("an event that nobody watches for: {}", history.tell(index)));
                }
                check_kind(known, *zxid, *kind, path)
                    .map_err(|what| format!("{what}: {}", history.tell(index)))?;
            }
            Notice::Replied { call, zxid, result } if *zxid > 0 => {
                if let Some((due, (table, path))) = armed.due.first()
                    && *due <= *zxid
                    && !armed.unset
                {
                    return Err(format!(
                        "the {table:?} watch on `{path}` has not told of {due:#x}: {}",
                        history.tell(index)
                    ));
                }
                armed.shown = armed.shown.max(*zxid);
                if let Some(request) = requests.get(&(line.client, *call)) {
                    replied(armed, &changes, request, result, *zxid);
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn replied(
    armed: &mut Armed,
    changes: &Changes,
    request: &Request,
    result: &Result<Response, Code>,
    zxid: Zxid,
) {
    let (table, path) = match (request, result) {
        (Request::GetData { path, watch: true } | Request::Exists { path, watch: true }, Ok(_)) => {
            (Table::Data, path)
        }
        (Request::Exists { path, watch: true }, Err(Code::NoNode)) => (Table::Exist, path),
        (Request::GetChildren { path, watch: true } | Request::GetChildren2 { path, watch: true }, Ok(_)) => {
            (Table::Child, path)
        }
        (Request::AddWatch { path, mode: 0 }, Ok(_)) => (Table::Persistent, path),
        (Request::AddWatch { path, mode: 1 }, Ok(_)) => (Table::Recursive, path),
        (Request::RemoveWatches { path, .. }, Ok(_)) => {
            for table in [Table::Data, Table::Exist, Table::Child, Table::Persistent, Table::Recursive] {
                armed.disarm(&(table, path.clone()), changes);
            }
            return;
        }
        _ => return,
    };
    armed.arm(changes, table, path, zxid);
}

/// After a reconnect, what happened meanwhile is told only as far as `setWatches` compares: not what came and went
/// again, and nothing to persistent watches.
fn set_again(armed: &mut Armed, changes: &Changes, known: &Known, zxid: Zxid) {
    let keys: Vec<(Table, String)> = armed.since.keys().cloned().collect();
    for (table, path) in keys {
        let missed = match table {
            Table::Persistent | Table::Recursive => true,
            Table::Exist => !matches!(known.at(&path, zxid), Some((_, Was::Present(_)))),
            Table::Data | Table::Child => false,
        };
        // A fading path may be gone without anybody having seen it.
        if missed || known.fading.contains(&path) {
            armed.arm(changes, table, &path, zxid);
        }
    }
}

/// The kind of an event fits to what is known of its change.
fn check_kind(known: &Known, zxid: Zxid, kind: EventType, path: &str) -> Result<(), String> {
    let Some(was) = known.paths.get(path).and_then(|states| states.get(&zxid)) else { return Ok(()) };
    let fits = match (kind, was) {
        (EventType::ChildrenChanged, _) | (EventType::Deleted, Was::Absent) => true,
        (EventType::Created, Was::Present(node)) => node.czxid == zxid,
        (EventType::DataChanged, Was::Present(node)) => node.czxid != zxid,
        _ => false,
    };
    if fits { Ok(()) } else { Err(format!("the path was {was:?} at {zxid:#x}")) }
}
