//! `dedupe`: events whose key was seen lately are dropped.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use flow_plan::interceptor::{Failed, Interceptor, LowerContext, LowerError, Lowered};
use flow_plan::ir::Expr;
use flow_plan::settings::Duration;
use flow_plan::{Batch, Settings};
use serde::Deserialize;

use super::build::decode;
use super::keys::{Key, KeyOf};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Dedupe {
    by: Expr,
    window: Duration,
    capacity: usize,
}

pub fn lower(settings: &Settings, context: &LowerContext<'_>) -> Result<Lowered, LowerError> {
    let dedupe: Dedupe = decode(settings)?;
    Ok(Lowered::Native(Box::new(Seen {
        key_of: KeyOf::new("by", &dedupe.by, context)?,
        window_ms: i64::try_from(dedupe.window.0 / 1_000_000).unwrap_or(i64::MAX),
        keys_max: dedupe.capacity,
        first: HashMap::new(),
        order: VecDeque::new(),
        pass: 0,
    })))
}

/// The keys of the window, at most `keys_max` of them.
struct Seen {
    key_of: KeyOf,
    window_ms: i64,
    keys_max: usize,
    /// The event that had the key first, and the pass in which it came: the same event coming again, since what
    /// follows failed, is no duplicate.
    first: HashMap<Key, (EventId, u64)>,
    /// The keys with the time they came, oldest first.
    order: VecDeque<(Key, i64)>,
    pass: u64,
}

/// A number from the source, and a hash of the source's name: sources count for themselves.
type EventId = (u64, u64);

impl Seen {
    /// Whether an event may go on; its key is remembered.
    fn admit(&mut self, key: Key, event_id: EventId, now_ms: i64) -> bool {
        match self.first.entry(key) {
            Entry::Occupied(first) => first.get().0 == event_id,
            Entry::Vacant(place) => {
                place.insert((event_id, self.pass));
                self.order.push_back((key, now_ms));
                if self.order.len() > self.keys_max {
                    self.forget_oldest();
                }
                true
            }
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((key, _)) = self.order.pop_front() {
            self.first.remove(&key);
        }
    }

    fn forget_before(&mut self, now_ms: i64) {
        while self.order.front().is_some_and(|(_, came_ms)| now_ms.saturating_sub(*came_ms) >= self.window_ms)
        {
            self.forget_oldest();
        }
    }
}

impl Interceptor for Seen {
    fn apply(&mut self, batch: &mut Batch, now_ms: i64) -> Vec<Failed> {
        self.forget_before(now_ms);
        let mut failed = Vec::new();
        let mut source = DefaultHasher::new();
        batch.columns.source.hash(&mut source);
        let source = source.finish();
        let mut rows = std::mem::take(&mut batch.rows);
        rows.retain(|&row| match self.key_of.key(batch, row, now_ms) {
            Ok(Some(key)) => self.admit(key, (batch.columns.event_id(row), source), now_ms),
            Ok(None) => true,
            Err(error) => {
                failed.push(Failed { row, message: error.message });
                false
            }
        });
        batch.rows = rows;
        failed
    }

    fn remembers(&self) -> bool {
        true
    }

    fn begin(&mut self, pass: u64) {
        self.pass = pass;
    }

    fn forget(&mut self, pass: u64) {
        let before = self.first.len();
        self.first.retain(|_, (_, learned)| *learned != pass);
        if self.first.len() < before {
            self.order.retain(|(key, _)| self.first.contains_key(key));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::interceptors::testing::{NOW_MS, Run, header};

    fn run(change: serde_json::Value) -> Run {
        Run::of("dedupe", json!({"by": "body", "window": 10_000_000_000u64, "capacity": 3}), change)
    }

    #[test]
    fn a_key_goes_through_once_in_a_window() {
        let mut run = run(json!({}));
        assert_eq!(run.batch(NOW_MS, &["a", "b", "a"]), ["a @0", "b @0"]);
        assert_eq!(run.batch(NOW_MS + 9_999, &["a"]), Vec::<String>::new());
        // The window counts from the first, not from the last.
        assert_eq!(run.batch(NOW_MS + 10_000, &["a", "a"]), ["a @0"]);
        // A clock that steps back forgets nothing.
        assert_eq!(run.batch(NOW_MS - 10_000, &["a"]), Vec::<String>::new());
    }

    #[test]
    fn the_oldest_key_is_forgotten_beyond_the_capacity() {
        let mut run = run(json!({}));
        assert_eq!(run.batch(NOW_MS, &["a", "b", "c", "d", "b", "a", "c"]).len(), 5);
    }

    #[test]
    fn events_without_a_key_go_through() {
        let run = run(json!({"by": header("id")}));
        let run = run.event("a").event("a").event("b").with("id", "1").event("c").with("id", "1");
        assert_eq!(run.all(), ["a @0", "a @0", "b @0 id=1"]);
    }

    #[test]
    fn the_same_event_again_is_no_duplicate() {
        let mut run = run(json!({}));
        assert_eq!(run.batch_from(7, NOW_MS, &["a", "b"]), ["a @0", "b @0"]);
        assert_eq!(run.batch_from(7, NOW_MS, &["a", "b"]), ["a @0", "b @0"]);
        assert_eq!(run.batch_from(9, NOW_MS, &["a", "b"]), Vec::<String>::new());
    }

    #[test]
    fn two_sources_may_number_their_events_alike() {
        // Both numbered their events from the millisecond of the start, so an event of one looked like the same
        // event of the other coming again, and went through.
        let mut run = run(json!({}));
        assert_eq!(run.batch_of("one", 7, NOW_MS, &["a"]), ["a @0"]);
        assert_eq!(run.batch_of("two", 7, NOW_MS, &["a"]), Vec::<String>::new());
    }

    #[test]
    fn a_key_that_fails_fails_its_event() {
        let by = json!({"call": {"function": "int", "args": ["body"], "origin": 0}});
        let run = run(json!({"by": by})).event("1").event("x").event("01");
        assert_eq!(run.all(), ["1 @0", "x failed: `x` is not a whole number"]);
        let unknown = json!({"call": {"function": "no_such", "args": [], "origin": 0}});
        assert!(
            Run::of("dedupe", json!({"by": unknown, "window": 1, "capacity": 1}), json!({}))
                .error()
                .starts_with("by: ")
        );
    }
}
