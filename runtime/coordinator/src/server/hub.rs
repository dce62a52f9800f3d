//! The connections of this server, and the watches they have set: what an applied entry means for them.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::HashMap;

use super::connection::{Connection, End, Wakes};
use super::stats::ServerStats;
use crate::proto::SessionId;
use crate::replica::{Observer, Status};
use crate::state::{Applied, State};
use crate::watches::{WatchCounts, WatcherId, Watches};

/// What connections share, and what the replica tells of changes.
#[derive(Default)]
pub(super) struct Hub {
    connections: Mutex<Registry>,
    watches: Mutex<Watches>,
    pub wakes: Arc<Wakes>,
    pub stats: Arc<ServerStats>,
}

#[derive(Default)]
struct Registry {
    by_id: HashMap<u64, Arc<Connection>>,
    /// The connection that a session has here.
    by_session: HashMap<SessionId, u64>,
}

impl Hub {
    /// Lets the connection hear of changes.
    pub fn add(&self, connection: Arc<Connection>) {
        let mut registry = self.registry();
        let before = registry.by_session.insert(connection.session, connection.id);
        let before = before.and_then(|id| registry.by_id.get(&id)).filter(|old| old.id != connection.id);
        if let Some(before) = before {
            before.finish(End::Cut);
        }
        registry.by_id.insert(connection.id, connection);
    }

    /// Forgets the connection and its watches.
    pub fn remove(&self, connection: &Connection) {
        self.watches().drop_watcher(WatcherId(connection.id));
        let mut registry = self.registry();
        registry.by_id.remove(&connection.id);
        if registry.by_session.get(&connection.session) == Some(&connection.id) {
            registry.by_session.remove(&connection.session);
        }
    }

    /// Taken under a guard of the state when a read sets a watch, so that no change falls between the two.
    pub fn watches(&self) -> MutexGuard<'_, Watches> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn connection_count(&self) -> usize {
        self.registry().by_id.len()
    }

    /// All connections, by the time they were made.
    pub fn connections(&self) -> Vec<Arc<Connection>> {
        let mut all: Vec<_> = self.registry().by_id.values().cloned().collect();
        all.sort_by_key(|connection| (connection.established_ms, connection.id));
        all
    }

    pub fn watch_counts(&self) -> WatchCounts {
        self.watches().counts()
    }

    /// The sessions that watch something, and what.
    pub fn watches_by_session(&self) -> Vec<(SessionId, Vec<String>)> {
        let watches = self.watches();
        let registry = self.registry();
        let session =
            |watcher: WatcherId| registry.by_id.get(&watcher.0).map(|connection| connection.session);
        let all = watches.by_watcher().into_iter();
        let owned = |paths: Vec<&str>| paths.into_iter().map(str::to_owned).collect();
        all.filter_map(|(watcher, paths)| Some((session(watcher)?, owned(paths)))).collect()
    }

    /// The paths that are watched, and by which sessions.
    pub fn watches_by_path(&self) -> Vec<(String, Vec<SessionId>)> {
        let watches = self.watches();
        let registry = self.registry();
        let session =
            |watcher: &WatcherId| registry.by_id.get(&watcher.0).map(|connection| connection.session);
        let all = watches.by_path().into_iter();
        all.map(|(path, watchers)| (path.to_owned(), watchers.iter().filter_map(session).collect())).collect()
    }

    pub fn finish_all(&self, end: End) {
        for connection in self.connections() {
            connection.finish(end);
        }
    }

    /// Ends those with (or without) a session that all servers know.
    pub fn finish_where(&self, read_only: bool, end: End) {
        for connection in self.connections().iter().filter(|other| other.read_only == read_only) {
            connection.finish(end);
        }
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, applied: &Applied) {
        let mut watches = self.watches();
        let registry = self.registry();
        let mut fired = Vec::new();
        for change in &applied.changes {
            watches.trigger(change, &mut fired);
            for (watcher, kind, path) in fired.drain(..) {
                let Some(connection) = registry.by_id.get(&watcher.0) else { continue };
                if change.may_tell(kind, &connection.ids()) {
                    self.stats.watch_events.fetch_add(1, Ordering::Relaxed);
                    connection.tell(change.zxid, kind, &path);
                }
            }
        }
    }
}

impl Observer for Hub {
    fn applied(&self, _state: &State, applied: &Applied) {
        self.wakes.begin();
        if !applied.changes.is_empty() {
            self.tell(applied);
        }
        if applied.attached.is_empty() && applied.closed.is_empty() {
            return;
        }
        let registry = self.registry();
        let of = |session: &SessionId| registry.by_id.get(registry.by_session.get(session)?);
        for (session, owner) in &applied.attached {
            // The session goes on at another connection, here or elsewhere.
            if let Some(connection) = of(session).filter(|connection| connection.id != *owner) {
                connection.finish(End::Cut);
            }
        }
        for session in &applied.closed {
            if let Some(connection) = of(session).filter(|other| !other.closes.load(Ordering::Acquire)) {
                connection.finish(End::Flush);
            }
        }
    }

    fn status(&self, _status: &Status) {}

    /// Nobody knows which changes the snapshot holds. Clients connect again and say what they had seen.
    fn restored(&self, _state: &State) {
        self.finish_all(End::Cut);
    }

    fn unlocked(&self) {
        self.wakes.end();
    }
}
