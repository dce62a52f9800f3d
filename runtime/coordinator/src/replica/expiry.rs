//! When sessions end: the leader's count of how long it has heard nothing of each. Without IO and without a clock of its
//! own, which stands still while the leader itself was stalled or cut off, because then it could not have heard anything.

use std::collections::BTreeMap;

use hashbrown::HashMap;

use crate::proto::SessionId;

/// See the module. Times are milliseconds of any clock that does not go back.
pub(crate) struct Expiry {
    tick_ms: u64,
    sessions: HashMap<SessionId, Deadline>,
    /// Sessions to look at when the clock has passed so many ticks.
    due: BTreeMap<u64, Vec<SessionId>>,
    /// Time in which something could have been heard.
    clock_ms: u64,
    seen_ms: u64,
}

#[derive(Clone, Copy)]
struct Deadline {
    timeout_ms: u64,
    at_ms: u64,
    /// When it is looked at; an older note of it is passed over.
    tick: u64,
}

impl Expiry {
    pub(crate) fn new(tick_ms: u64, now_ms: u64) -> Expiry {
        Expiry {
            tick_ms: tick_ms.max(1),
            sessions: HashMap::new(),
            due: BTreeMap::new(),
            clock_ms: 0,
            seen_ms: now_ms,
        }
    }

    /// What the clock would show now. It is moved by [`Expiry::advance`] only, which comes twice a tick: whoever is heard
    /// of between two moves must not lose the time since the last one.
    fn clock_at(&self, now_ms: u64) -> u64 {
        self.clock_ms.saturating_add(now_ms.saturating_sub(self.seen_ms).min(self.tick_ms))
    }

    /// Gives a session its full time from now on, whether it is known or not.
    pub(crate) fn add(&mut self, session: SessionId, timeout_ms: u64, now_ms: u64) {
        let at_ms = self.clock_at(now_ms).saturating_add(timeout_ms);
        let tick = at_ms / self.tick_ms + 1;
        if let Some(known) = self.sessions.get_mut(&session) {
            known.timeout_ms = timeout_ms;
            known.at_ms = at_ms;
            if known.tick <= tick {
                // It is looked at earlier, and put off then.
                return;
            }
            known.tick = tick;
        } else {
            self.sessions.insert(session, Deadline { timeout_ms, at_ms, tick });
        }
        self.due.entry(tick).or_default().push(session);
    }

    /// Something was heard of a session.
    pub(crate) fn touch(&mut self, session: SessionId, now_ms: u64) {
        let clock_ms = self.clock_at(now_ms);
        if let Some(known) = self.sessions.get_mut(&session) {
            known.at_ms = clock_ms.saturating_add(known.timeout_ms);
        }
    }

    pub(crate) fn remove(&mut self, session: SessionId) {
        self.sessions.remove(&session);
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Time passed in which nothing could have been heard.
    pub(crate) fn pause(&mut self, now_ms: u64) {
        self.seen_ms = self.seen_ms.max(now_ms);
    }

    /// Sessions whose time is over. They come again a tick later unless they were removed. To be called more often than
    /// once a tick: more than a tick between two calls is a stall, and counts as one.
    pub(crate) fn advance(&mut self, now_ms: u64) -> Vec<SessionId> {
        let passed = now_ms.saturating_sub(self.seen_ms);
        self.seen_ms = self.seen_ms.max(now_ms);
        self.clock_ms += passed.min(self.tick_ms);
        let now_tick = self.clock_ms / self.tick_ms;
        let later = self.due.split_off(&(now_tick + 1));
        let mut over = Vec::new();
        for (tick, sessions) in std::mem::replace(&mut self.due, later) {
            for session in sessions {
                let Some(known) = self.sessions.get_mut(&session) else { continue };
                if known.tick != tick {
                    continue;
                }
                known.tick = known.at_ms / self.tick_ms + 1;
                if known.at_ms <= self.clock_ms {
                    known.tick = now_tick + 1;
                    over.push(session);
                }
                self.due.entry(known.tick).or_default().push(session);
            }
        }
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Advances in half ticks, and says when each session was over first.
    fn run(expiry: &mut Expiry, from: u64, to: u64, touch: &[SessionId]) -> Vec<(u64, SessionId)> {
        let mut found = Vec::new();
        for now in (from..=to).step_by(50) {
            touch.iter().for_each(|session| expiry.touch(*session, now));
            for session in expiry.advance(now) {
                expiry.remove(session);
                found.push((now, session));
            }
        }
        found
    }

    #[test]
    fn a_silent_session_ends_between_its_time_and_a_tick_later() {
        for timeout in [100, 130, 200, 390] {
            let mut expiry = Expiry::new(100, 1000);
            expiry.add(1, timeout, 1000);
            expiry.add(2, timeout, 1000);
            let over = run(&mut expiry, 1000, 3000, &[2]);
            assert_eq!(over.len(), 1);
            let took = over[0].0 - 1000;
            assert!((timeout..=timeout + 150).contains(&took), "{timeout}: {took}");
            assert_eq!(expiry.len(), 1);
        }
    }

    /// A session was ended up to half a tick early: the clock that it was counted from was that of the last look at it.
    #[test]
    fn a_session_that_is_heard_of_between_two_looks_has_its_full_time() {
        for heard in 1..100 {
            let mut expiry = Expiry::new(100, 0);
            expiry.add(1, 200, 0);
            expiry.add(2, 200, heard);
            let mut ended = Vec::new();
            for now in 0..600 {
                if now == heard {
                    expiry.touch(1, now);
                }
                if now % 50 == 0 {
                    for session in expiry.advance(now) {
                        expiry.remove(session);
                        ended.push(now);
                    }
                }
            }
            assert_eq!(ended.len(), 2);
            assert!(ended.iter().all(|at| *at >= heard + 200), "heard at {heard}, ended at {ended:?}");
        }
    }

    #[test]
    fn a_stall_of_the_leader_ends_no_session() {
        let mut expiry = Expiry::new(100, 0);
        expiry.add(1, 400, 0);
        assert!(run(&mut expiry, 0, 100, &[]).is_empty());
        // Ten seconds in which this process did not run.
        assert!(expiry.advance(10_100).is_empty());
        expiry.pause(20_000);
        assert!(run(&mut expiry, 20_050, 20_150, &[1]).is_empty());
        assert_eq!(run(&mut expiry, 20_200, 21_000, &[]).len(), 1);
    }

    #[test]
    fn a_session_that_is_not_gone_comes_again() {
        let mut expiry = Expiry::new(100, 0);
        expiry.add(1, 100, 0);
        let over: Vec<u64> =
            (0..20).map(|step| step * 50).filter(|now| !expiry.advance(*now).is_empty()).collect();
        assert!(over.len() > 3, "{over:?}");
        expiry.remove(1);
        assert!(expiry.advance(2000).is_empty());
    }

    #[test]
    fn a_shorter_time_counts_at_once() {
        let mut expiry = Expiry::new(100, 0);
        expiry.add(1, 10_000, 0);
        expiry.add(1, 100, 0);
        assert_eq!(run(&mut expiry, 0, 400, &[]).len(), 1);
    }
}
