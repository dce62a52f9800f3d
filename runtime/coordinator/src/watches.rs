//! The watches of the clients of one server: who waits for what, and who is to be told of a change. No IO and no
//! access lists; it knows connections as numbers and forgets them with the connection.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use crate::proto::{Code, EventType, Id, SetWatches, Zxid, parent_of};
use crate::state::{Change, ChangeKind, State};

/// Bytes of the paths that one connection may watch, each with [`PATH_BYTES`] for what is kept beside it.
pub const BYTES_PER_WATCHER_MAX: usize = 256 << 20;
/// About what the tables need for a path, without its letters.
pub const PATH_BYTES: usize = 200;

/// A connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WatcherId(pub u64);

/// What one waits for. Several at once on one path are one entry of several bits.
mod bit {
    /// Of `getData` and `exists`; gone with its event.
    pub const DATA: u8 = 1;
    /// Of `getChildren`; gone with its event.
    pub const CHILD: u8 = 2;
    /// Data and children of the path; stays.
    pub const PERSISTENT: u8 = 4;
    /// The path and all below, without events for children; stays.
    pub const RECURSIVE: u8 = 8;
    pub const ANY: u8 = 15;
}

/// For the commands `wchs` and `mntr`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchCounts {
    pub watchers: usize,
    pub paths: usize,
    /// A persistent watch counts twice, as it does in ZooKeeper: for data and for children.
    pub watches: usize,
}

/// What one connection watches.
#[derive(Default)]
struct Watched {
    paths: HashSet<Arc<str>>,
    bytes: usize,
}

/// The tables of one server.
pub struct Watches {
    /// For each path who watches it, sorted.
    paths: HashMap<Arc<str>, Vec<(WatcherId, u8)>>,
    watchers: HashMap<WatcherId, Watched>,
    /// Watches of everything below a path; without any, no parent is looked at.
    recursive: usize,
    watches: usize,
    bytes_max: usize,
}

impl Default for Watches {
    fn default() -> Watches {
        Watches {
            paths: HashMap::new(),
            watchers: HashMap::new(),
            recursive: 0,
            watches: 0,
            bytes_max: BYTES_PER_WATCHER_MAX,
        }
    }
}

impl Watches {
    pub fn new() -> Watches {
        Watches::default()
    }

    /// Whether nobody waits for anything, so that changes need not even be looked at.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// Waits once for a change of the data, or for the end, of a znode that is there.
    ///
    /// # Errors
    /// [`Code::QuotaExceeded`] if the connection watches too many paths; so do the others that add.
    pub fn add_data(&mut self, watcher: WatcherId, path: &str) -> Result<(), Code> {
        self.add(watcher, path, bit::DATA)
    }

    /// Waits once for the same, or for a znode to come. For ZooKeeper both are one.
    ///
    /// # Errors
    /// As of [`Watches::add_data`].
    pub fn add_exists(&mut self, watcher: WatcherId, path: &str) -> Result<(), Code> {
        self.add(watcher, path, bit::DATA)
    }

    /// Waits once for a child to come or go, or for the end of the znode.
    ///
    /// # Errors
    /// As of [`Watches::add_data`].
    pub fn add_child(&mut self, watcher: WatcherId, path: &str) -> Result<(), Code> {
        self.add(watcher, path, bit::CHILD)
    }

    /// Waits for everything at a path, or with `recursive` for everything but changes of children at it and below it.
    ///
    /// # Errors
    /// As of [`Watches::add_data`].
    pub fn add_persistent(&mut self, watcher: WatcherId, path: &str, recursive: bool) -> Result<(), Code> {
        self.add(watcher, path, if recursive { bit::RECURSIVE } else { bit::PERSISTENT })
    }

    /// The same by the mode of `addWatch`: 0 persistent, 1 recursive.
    ///
    /// # Errors
    /// [`Code::BadArguments`] for another mode; else as of [`Watches::add_data`].
    pub fn add_mode(&mut self, watcher: WatcherId, path: &str, mode: i32) -> Result<(), Code> {
        match mode {
            0 => self.add_persistent(watcher, path, false),
            1 => self.add_persistent(watcher, path, true),
            _ => Err(Code::BadArguments),
        }
    }

    fn add(&mut self, watcher: WatcherId, path: &str, bit: u8) -> Result<(), Code> {
        let key = match self.paths.get_key_value(path) {
            Some((key, _)) => key.clone(),
            None => Arc::from(path),
        };
        let watched = self.watchers.entry(watcher).or_default();
        if !watched.paths.contains(&key) {
            let bytes = watched.bytes + path.len() + PATH_BYTES;
            if bytes > self.bytes_max {
                return Err(Code::QuotaExceeded);
            }
            watched.bytes = bytes;
            watched.paths.insert(key.clone());
        }
        let entries = self.paths.entry(key).or_default();
        let bits = match entries.binary_search_by_key(&watcher, |entry| entry.0) {
            Ok(at) => &mut entries[at].1,
            Err(at) => {
                entries.insert(at, (watcher, 0));
                &mut entries[at].1
            }
        };
        let added = bit & !*bits;
        *bits |= bit;
        self.watches += weight(added);
        self.recursive += usize::from(added & bit::RECURSIVE != 0);
        Ok(())
    }

    /// Whether the connection has a watch of this kind (`WatcherType`: 1 children, 2 data, 3 any, 4 persistent,
    /// 5 recursive).
    ///
    /// # Errors
    /// [`Code::NoWatcher`] if not, [`Code::BadArguments`] for another kind.
    pub fn check(&self, watcher: WatcherId, path: &str, kind: i32) -> Result<(), Code> {
        self.bits_meant(watcher, path, kind).map(|_| ())
    }

    /// Takes watches of this kind away.
    ///
    /// # Errors
    /// As of [`Watches::check`].
    pub fn remove(&mut self, watcher: WatcherId, path: &str, kind: i32) -> Result<(), Code> {
        let bits = self.bits_meant(watcher, path, kind)?;
        self.take(watcher, path, bits);
        Ok(())
    }

    /// What a kind means here. Clients from before persistent watches had kinds of their own (up to 3.9) call them
    /// children or data, so that is what these mean where there is no standard one.
    fn bits_meant(&self, watcher: WatcherId, path: &str, kind: i32) -> Result<u8, Code> {
        let (first, else_these) = match kind {
            1 => (bit::CHILD, bit::PERSISTENT),
            2 => (bit::DATA, bit::PERSISTENT | bit::RECURSIVE),
            3 => (bit::ANY, 0),
            4 => (bit::PERSISTENT, 0),
            5 => (bit::RECURSIVE, 0),
            _ => return Err(Code::BadArguments),
        };
        let entries = self.paths.get(path).ok_or(Code::NoWatcher)?;
        let at = entries.binary_search_by_key(&watcher, |entry| entry.0).map_err(|_| Code::NoWatcher)?;
        let has = entries[at].1;
        let bits = if has & first != 0 { has & first } else { has & else_these };
        if bits == 0 { Err(Code::NoWatcher) } else { Ok(bits) }
    }

    /// Takes some bits of an entry away, and the entry with the last of them.
    fn take(&mut self, watcher: WatcherId, path: &str, bits: u8) {
        let Some(entries) = self.paths.get_mut(path) else { return };
        let Ok(at) = entries.binary_search_by_key(&watcher, |entry| entry.0) else { return };
        let taken = entries[at].1 & bits;
        entries[at].1 &= !bits;
        self.watches -= weight(taken);
        self.recursive -= usize::from(taken & bit::RECURSIVE != 0);
        if entries[at].1 == 0 {
            entries.remove(at);
            if entries.is_empty() {
                self.paths.remove(path);
            }
            self.forget_path(watcher, path);
        }
    }

    fn forget_path(&mut self, watcher: WatcherId, path: &str) {
        if let Some(watched) = self.watchers.get_mut(&watcher)
            && watched.paths.remove(path)
        {
            watched.bytes -= path.len() + PATH_BYTES;
            if watched.paths.is_empty() {
                self.watchers.remove(&watcher);
            }
        }
    }

    /// The connection is gone.
    pub fn drop_watcher(&mut self, watcher: WatcherId) {
        for path in self.watchers.remove(&watcher).unwrap_or_default().paths {
            self.take(watcher, &path, bit::ANY);
        }
    }

    /// Takes over the watches that a client had at another server. What happened since the change that the client saw
    /// last is told at once, the rest is set. Events of what one may not read are left out.
    ///
    /// # Errors
    /// As of [`Watches::add_data`]; those before stay.
    pub fn set_watches(
        &mut self,
        watcher: WatcherId,
        request: &SetWatches,
        state: &State,
        ids: &[Id],
    ) -> Result<Vec<(EventType, Arc<str>)>, Code> {
        let mut events = Vec::new();
        let since = request.relative_zxid;
        let mut tell = |event: EventType, path: &str| {
            if event == EventType::Deleted || state.may_read(path, ids) {
                events.push((event, Arc::from(path)));
            }
        };
        let later = |zxid: Zxid| zxid > since;
        for path in &request.data {
            match state.stat(path) {
                None => tell(EventType::Deleted, path),
                Some(stat) if later(stat.mzxid) => tell(EventType::DataChanged, path),
                Some(_) => self.add_data(watcher, path)?,
            }
        }
        for path in &request.exist {
            match state.stat(path) {
                Some(_) => tell(EventType::Created, path),
                None => self.add_exists(watcher, path)?,
            }
        }
        for path in &request.child {
            match state.stat(path) {
                None => tell(EventType::Deleted, path),
                Some(stat) if later(stat.pzxid) => tell(EventType::ChildrenChanged, path),
                Some(_) => self.add_child(watcher, path)?,
            }
        }
        for path in &request.persistent {
            self.add_persistent(watcher, path, false)?;
        }
        for path in &request.persistent_recursive {
            self.add_persistent(watcher, path, true)?;
        }
        Ok(events)
    }

    /// Appends whom a change is to be told, and takes away what waited once. Whoever may not read is among them: see
    /// [`Change::may_tell`].
    pub fn trigger(&mut self, change: &Change, out: &mut Vec<(WatcherId, EventType, Arc<str>)>) {
        if self.paths.is_empty() {
            return;
        }
        match change.kind {
            ChangeKind::Created => self.fire(&change.path, EventType::Created, bit::DATA, out),
            ChangeKind::Data => self.fire(&change.path, EventType::DataChanged, bit::DATA, out),
            // Whoever watched both is told once.
            ChangeKind::Deleted => self.fire(&change.path, EventType::Deleted, bit::DATA | bit::CHILD, out),
        }
        if change.kind != ChangeKind::Data
            && let Some(parent) = parent_of(&change.path)
            && let Some((parent, _)) = self.paths.get_key_value(parent)
        {
            let parent = parent.clone();
            self.fire_at(&parent, &parent, EventType::ChildrenChanged, bit::CHILD, bit::PERSISTENT, out);
        }
    }

    /// Tells those at the path, and those who watch everything below one of its parents.
    fn fire(
        &mut self,
        path: &Arc<str>,
        event: EventType,
        once: u8,
        out: &mut Vec<(WatcherId, EventType, Arc<str>)>,
    ) {
        let start = out.len();
        self.fire_at(path, path, event, once, bit::PERSISTENT | bit::RECURSIVE, out);
        if self.recursive == 0 {
            return;
        }
        let own = out.len();
        let mut at = parent_of(path);
        while let Some(parent) = at {
            self.fire_at(parent, path, event, 0, bit::RECURSIVE, out);
            at = parent_of(parent);
        }
        // One may watch at several of these paths, and is told once.
        if out.len() > own && out.len() - start > 1 {
            let mut told = out.split_off(start);
            told.sort_unstable_by_key(|event| event.0);
            told.dedup_by_key(|event| event.0);
            out.append(&mut told);
        }
    }

    fn fire_at(
        &mut self,
        at: &str,
        path: &Arc<str>,
        event: EventType,
        once: u8,
        stays: u8,
        out: &mut Vec<(WatcherId, EventType, Arc<str>)>,
    ) {
        let Some(entries) = self.paths.get_mut(at) else { return };
        let start = out.len();
        let mut over = Vec::new();
        for (watcher, bits) in entries.iter_mut() {
            if *bits & (once | stays) == 0 {
                continue;
            }
            out.push((*watcher, event, path.clone()));
            self.watches -= weight(*bits & once);
            *bits &= !once;
            if *bits == 0 {
                over.push(*watcher);
            }
        }
        if over.is_empty() || out.len() == start {
            return;
        }
        entries.retain(|entry| entry.1 != 0);
        if entries.is_empty() {
            self.paths.remove(at);
        }
        for watcher in over {
            self.forget_path(watcher, at);
        }
    }

    pub fn counts(&self) -> WatchCounts {
        WatchCounts { watchers: self.watchers.len(), paths: self.paths.len(), watches: self.watches }
    }

    /// For `wchc`: the connections and what they watch, sorted.
    pub fn by_watcher(&self) -> Vec<(WatcherId, Vec<&str>)> {
        let mut list: Vec<(WatcherId, Vec<&str>)> =
            self.watchers.iter().map(|(&watcher, watched)| (watcher, sorted(watched.paths.iter()))).collect();
        list.sort_unstable();
        list
    }

    /// For `wchp`: the paths and who watches them, sorted.
    pub fn by_path(&self) -> Vec<(&str, Vec<WatcherId>)> {
        let mut list: Vec<(&str, Vec<WatcherId>)> = self
            .paths
            .iter()
            .map(|(path, entries)| (&**path, entries.iter().map(|entry| entry.0).collect()))
            .collect();
        list.sort_unstable();
        list
    }
}

fn sorted<'a>(paths: impl Iterator<Item = &'a Arc<str>>) -> Vec<&'a str> {
    let mut paths: Vec<&str> = paths.map(|path| &**path).collect();
    paths.sort_unstable();
    paths
}

fn weight(bits: u8) -> usize {
    bits.count_ones() as usize + usize::from(bits & bit::PERSISTENT != 0)
}

#[cfg(test)]
mod tests;
