//! Fetch sessions (KIP-227): what a consumer asks for is remembered, so that its next request names only what changed
//! and the answer only what is new.
//!
//! It must not know logs or the wire.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use uuid::Uuid;

use crate::store::Partition;

/// A session that was idle for this long gives its place to a new one, in milliseconds (Kafka's
/// `min.incremental.fetch.session.eviction.ms`).
const EVICTION_MS: i64 = 120_000;

/// The epoch of a request that opens a session, or that closes one and asks for everything without.
pub(super) const INITIAL_EPOCH: i32 = 0;
pub(super) const FINAL_EPOCH: i32 = -1;

/// What one consumer reads of one partition.
#[derive(Clone)]
pub(super) struct Entry {
    /// The name, as far as it is known.
    pub(super) topic: Arc<str>,
    pub(super) topic_id: Uuid,
    pub(super) index: i32,
    pub(super) partition: Option<Arc<Partition>>,
    pub(super) offset: i64,
    pub(super) bytes_max: i32,
    pub(super) leader_epoch: i32,
    pub(super) last_fetched_epoch: i32,
    /// What the consumer was told last; -1 before.
    pub(super) sent_high_watermark: i64,
    pub(super) sent_log_start: i64,
}

impl Entry {
    fn key(&self) -> Key {
        if self.topic_id.is_nil() {
            Key::Name(Arc::clone(&self.topic), self.index)
        } else {
            Key::Id(self.topic_id, self.index)
        }
    }
}

/// A partition in a request, by the version's way to name topics.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Name(Arc<str>, i32),
    Id(Uuid, i32),
}

/// The partitions of one session, in the order in which they are served.
#[derive(Default)]
pub(super) struct Partitions {
    pub(super) entries: Vec<Entry>,
    places: HashMap<Key, usize>,
    /// Where the next answer begins, so that a full answer does not starve the last ones.
    pub(super) first: usize,
}

impl Partitions {
    /// Adds an entry, or takes over what a request says of a known one.
    pub(super) fn put(&mut self, entry: Entry) {
        let key = entry.key();
        match self.places.get(&key) {
            Some(&place) => {
                let known = &mut self.entries[place];
                known.offset = entry.offset;
                known.bytes_max = entry.bytes_max;
                known.leader_epoch = entry.leader_epoch;
                known.last_fetched_epoch = entry.last_fetched_epoch;
                known.partition = entry.partition;
            }
            None => {
                self.places.insert(key, self.entries.len());
                self.entries.push(entry);
            }
        }
    }

    /// Takes an entry out.
    pub(super) fn forget(&mut self, key: &Key) {
        let Some(place) = self.places.remove(key) else { return };
        self.entries.swap_remove(place);
        if let Some(moved) = self.entries.get(place) {
            self.places.insert(moved.key(), place);
        }
        if self.first >= self.entries.len() {
            self.first = 0;
        }
    }
}

/// One session.
pub(super) struct Session {
    pub(super) id: i32,
    /// Whether its requests name topics by id.
    pub(super) by_id: bool,
    state: Mutex<State>,
}

struct State {
    /// What the next request must carry.
    epoch: i32,
    used_ms: i64,
    /// Taken out while a request is answered.
    partitions: Option<Partitions>,
}

/// Why a request does not fit its session.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SessionError {
    NotFound,
    Epoch,
    TopicIds,
}

/// All sessions of the broker.
pub(crate) struct Sessions {
    slots: usize,
    known: Mutex<HashMap<i32, Arc<Session>>>,
}

impl Sessions {
    /// At most `slots` sessions at a time; who comes when all are in use fetches without one.
    pub(crate) fn new(slots: usize) -> Sessions {
        Sessions { slots, known: Mutex::default() }
    }

    /// Opens a session for these partitions; none when every place is taken.
    pub(super) fn open(&self, partitions: Partitions, by_id: bool, now_ms: i64) -> Option<Arc<Session>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= self.slots {
            let idlest = known.values().map(|session| (session.used_ms(), session.id)).min();
            match idlest {
                Some((used_ms, id)) if now_ms.saturating_sub(used_ms) >= EVICTION_MS => known.remove(&id),
                _ => return None,
            };
        }
        let id = loop {
            // Random, so that a consumer cannot guess another's.
            let id = (Uuid::new_v4().as_u128() as i32) & i32::MAX;
            if id != 0 && !known.contains_key(&id) {
                break id;
            }
        };
        let state = State { epoch: 1, used_ms: now_ms, partitions: Some(partitions) };
        let session = Arc::new(Session { id, by_id, state: Mutex::new(state) });
        known.insert(id, Arc::clone(&session));
        Some(session)
    }

    /// Ends a session, if there is one.
    pub(super) fn close(&self, id: i32) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    /// The session of a request that goes on with it, and its partitions, which come back by [`Session::give_back`].
    pub(super) fn resume(
        &self,
        id: i32,
        epoch: i32,
        by_id: bool,
        now_ms: i64,
    ) -> Result<(Arc<Session>, Partitions), SessionError> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let session = known.get(&id).cloned().ok_or(SessionError::NotFound)?;
        drop(known);
        if session.by_id != by_id {
            return Err(SessionError::TopicIds);
        }
        let mut state = session.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.epoch != epoch {
            return Err(SessionError::Epoch);
        }
        // A second request before the first is answered: no client does that on purpose.
        let partitions = state.partitions.take().ok_or(SessionError::Epoch)?;
        state.epoch = if epoch == i32::MAX { 1 } else { epoch + 1 };
        state.used_ms = now_ms;
        drop(state);
        Ok((session, partitions))
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.known.lock().unwrap().len()
    }
}

impl Session {
    /// Ends the answer to a request.
    pub(super) fn give_back(&self, partitions: Partitions) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).partitions = Some(partitions);
    }

    /// The partitions of a session just opened.
    pub(super) fn take(&self) -> Partitions {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).partitions.take().unwrap_or_default()
    }

    fn used_ms(&self) -> i64 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).used_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(topic: &str, index: i32) -> Entry {
        Entry {
            topic: topic.into(),
            topic_id: Uuid::nil(),
            index,
            partition: None,
            offset: 0,
            bytes_max: 1,
            leader_epoch: -1,
            last_fetched_epoch: -1,
            sent_high_watermark: -1,
            sent_log_start: -1,
        }
    }

    #[test]
    fn partitions_are_added_changed_and_forgotten() {
        let mut partitions = Partitions::default();
        for index in 0..3 {
            partitions.put(entry("a", index));
        }
        partitions.put(Entry { offset: 7, ..entry("a", 1) });
        assert_eq!(partitions.entries.len(), 3);
        assert_eq!(partitions.entries[1].offset, 7);
        partitions.first = 2;
        partitions.forget(&Key::Name("a".into(), 0));
        partitions.forget(&Key::Name("a".into(), 0));
        assert_eq!(partitions.first, 0);
        partitions.put(Entry { offset: 9, ..entry("a", 2) });
        let offsets: Vec<_> = partitions.entries.iter().map(|entry| (entry.index, entry.offset)).collect();
        assert_eq!(offsets, [(2, 9), (1, 7)]);
    }

    #[test]
    fn a_session_goes_on_with_the_next_epoch_only() {
        let sessions = Sessions::new(2);
        let session = sessions.open(Partitions::default(), false, 0).unwrap();
        session.give_back(session.take());
        let (_, partitions) = sessions.resume(session.id, 1, false, 1).unwrap();
        assert!(
            matches!(sessions.resume(session.id, 2, false, 1), Err(SessionError::Epoch)),
            "answer under way"
        );
        session.give_back(partitions);
        assert!(matches!(sessions.resume(session.id, 1, false, 1), Err(SessionError::Epoch)));
        assert!(matches!(sessions.resume(session.id, 2, true, 1), Err(SessionError::TopicIds)));
        assert!(matches!(sessions.resume(session.id + 1, 2, false, 1), Err(SessionError::NotFound)));
        sessions.close(session.id);
        assert!(matches!(sessions.resume(session.id, 2, false, 1), Err(SessionError::NotFound)));
    }

    #[test]
    fn a_full_cache_gives_the_place_of_the_idlest_and_only_when_it_is_idle() {
        let sessions = Sessions::new(2);
        let first = sessions.open(Partitions::default(), false, 0).unwrap();
        let second = sessions.open(Partitions::default(), false, 10).unwrap();
        assert!(sessions.open(Partitions::default(), false, EVICTION_MS - 1).is_none());
        assert!(sessions.open(Partitions::default(), false, EVICTION_MS).is_some());
        assert_eq!(sessions.len(), 2);
        assert!(matches!(sessions.resume(first.id, 1, false, 0), Err(SessionError::NotFound)));
        second.give_back(second.take());
        assert!(sessions.resume(second.id, 1, false, 0).is_ok());
    }
}
