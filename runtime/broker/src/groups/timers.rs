//! Deadlines of one shard: a heap that is only added to, and alarms that know whether the heap's entry for
//! them still means something. It knows no clock; the shard says what time it is.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

const NEVER: i64 = i64::MAX;

/// Whom an entry wakes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// The one alarm of a group.
    Group(Arc<str>),
    /// The session of a member, joined or not yet.
    Session(Arc<str>, Arc<str>),
    /// A member that was told to give partitions back.
    Revocation(Arc<str>, Arc<str>),
    /// The look for offsets that nobody needs any more.
    Expiry,
}

#[derive(Debug, Default)]
pub struct Timers {
    heap: BinaryHeap<Reverse<(i64, Key)>>,
}

impl Timers {
    /// When to tick next: never later than the first deadline, sometimes earlier.
    pub fn next(&self) -> Option<i64> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// The next entry that is due.
    pub fn pop(&mut self, now_ms: i64) -> Option<(i64, Key)> {
        if self.next()? > now_ms {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }

    pub fn push(&mut self, at_ms: i64, key: Key) {
        self.heap.push(Reverse((at_ms, key)));
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.heap.len()
    }
}

/// A deadline that moves. Moving it later (what every heartbeat does) touches no heap: the old entry comes up,
/// finds that the deadline lies later, and is put in again. So each alarm has about one entry at any time.
#[derive(Debug, Clone)]
pub struct Alarm {
    at_ms: i64,
    /// The time of the heap entry that counts.
    armed_ms: i64,
}

impl Default for Alarm {
    fn default() -> Alarm {
        Alarm { at_ms: NEVER, armed_ms: NEVER }
    }
}

impl Alarm {
    pub fn set(&mut self, at_ms: i64, timers: &mut Timers, key: impl FnOnce() -> Key) {
        self.at_ms = at_ms;
        if at_ms < self.armed_ms {
            self.armed_ms = at_ms;
            timers.push(at_ms, key());
        }
    }

    pub fn cancel(&mut self) {
        self.at_ms = NEVER;
    }

    /// Called with the time of an entry that came up: true if the deadline has passed, which ends the alarm.
    pub fn popped(
        &mut self,
        entry_ms: i64,
        now_ms: i64,
        timers: &mut Timers,
        key: impl FnOnce() -> Key,
    ) -> bool {
        if entry_ms != self.armed_ms {
            return false;
        }
        self.armed_ms = NEVER;
        if self.at_ms == NEVER {
            return false;
        }
        if self.at_ms <= now_ms {
            self.at_ms = NEVER;
            return true;
        }
        let at_ms = self.at_ms;
        self.set(at_ms, timers, key);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_that_moves_keeps_one_entry_and_fires_once() {
        let (mut timers, mut alarm) = (Timers::default(), Alarm::default());
        for at in [10, 20, 30] {
            alarm.set(at, &mut timers, || Key::Expiry);
        }
        assert_eq!(timers.len(), 1);
        let (at, _) = timers.pop(15).unwrap();
        assert!(!alarm.popped(at, 15, &mut timers, || Key::Expiry));
        assert_eq!(timers.next(), Some(30));
        let (at, _) = timers.pop(31).unwrap();
        assert!(alarm.popped(at, 31, &mut timers, || Key::Expiry));
        assert!(timers.pop(1000).is_none());
    }

    #[test]
    fn an_alarm_that_moves_closer_fires_at_the_closer_time() {
        let (mut timers, mut alarm) = (Timers::default(), Alarm::default());
        alarm.set(100, &mut timers, || Key::Expiry);
        alarm.set(10, &mut timers, || Key::Expiry);
        let (at, _) = timers.pop(10).unwrap();
        assert!(alarm.popped(at, 10, &mut timers, || Key::Expiry));
        let (at, _) = timers.pop(100).unwrap();
        assert!(!alarm.popped(at, 100, &mut timers, || Key::Expiry));
    }
}
