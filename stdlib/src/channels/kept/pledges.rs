//! Acknowledgements that wait until everything below a number is safe. It must not know what makes it so.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};

use flow_plan::Ack;

/// The acknowledgements of one lane, in the order of its numbers. As many as there are puts that are not safe yet,
/// which the channel's capacity bounds.
#[derive(Default)]
pub struct Pledges(Mutex<State>);

#[derive(Default)]
struct State {
    /// Everything below is safe.
    safe: i64,
    /// Everything below that is not safe never will be.
    lost: i64,
    waiting: VecDeque<(i64, Ack)>,
}

impl Pledges {
    /// Resolves the acknowledgement when everything below `end` is safe, or known to be lost.
    pub fn add(&self, end: i64, ack: Ack) {
        let mut state = self.lock();
        if end <= state.safe {
            drop(state);
            ack.done();
        } else if end > state.lost {
            let index = state.waiting.partition_point(|(other, _)| *other <= end);
            state.waiting.insert(index, (end, ack));
        }
        // Else it is dropped: its source hears that the events are lost.
    }

    /// Everything below `end` is safe.
    pub fn keep(&self, end: i64) {
        let kept = {
            let mut state = self.lock();
            state.safe = state.safe.max(end);
            state.before(end)
        };
        // Outside of the lock: whoever hears of it may do anything.
        for (_, ack) in kept {
            ack.done();
        }
    }

    /// What is below `end` and not safe yet never will be.
    pub fn lose(&self, end: i64) {
        let lost = {
            let mut state = self.lock();
            state.lost = state.lost.max(end);
            state.before(end)
        };
        drop(lost);
    }

    pub fn is_empty(&self) -> bool {
        self.lock().waiting.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl State {
    fn before(&mut self, end: i64) -> Vec<(i64, Ack)> {
        let count = self.waiting.partition_point(|(other, _)| *other <= end);
        self.waiting.drain(..count).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use flow_plan::Outcome;

    use super::*;

    #[test]
    fn acknowledgements_resolve_when_their_number_is_passed() {
        let pledges = Pledges::default();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let ack = |name: &'static str| {
            let heard = heard.clone();
            Ack::new(move |outcome| heard.lock().unwrap().push((name, outcome)))
        };
        pledges.add(10, ack("a"));
        pledges.add(20, ack("b"));
        pledges.add(30, ack("c"));
        pledges.keep(15);
        assert_eq!(*heard.lock().unwrap(), [("a", Outcome::Delivered)]);
        pledges.lose(25);
        pledges.add(22, ack("late and lost"));
        pledges.add(12, ack("late and safe"));
        pledges.keep(30);
        assert!(pledges.is_empty());
        let heard = heard.lock().unwrap();
        assert_eq!(
            heard[1..],
            [
                ("b", Outcome::Lost),
                ("late and lost", Outcome::Lost),
                ("late and safe", Outcome::Delivered),
                ("c", Outcome::Delivered)
            ]
        );
    }
}
