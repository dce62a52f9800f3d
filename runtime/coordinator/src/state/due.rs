//! Containers and TTL znodes in the order in which they are to be deleted, so that looking for them costs as much as
//! are found. Whoever has a child is not among them.

use std::collections::BTreeSet;

use hashbrown::HashMap;

use super::State;
use super::nodes::Kind;

#[derive(Default)]
pub(super) struct Due {
    times: HashMap<u32, i64>,
    order: BTreeSet<(i64, u32)>,
}

impl Due {
    pub fn set(&mut self, number: u32, time: Option<i64>) {
        let before = match time {
            Some(time) => self.times.insert(number, time),
            None => self.times.remove(&number),
        };
        if before == time {
            return;
        }
        if let Some(before) = before {
            self.order.remove(&(before, number));
        }
        if let Some(time) = time {
            self.order.insert((time, number));
        }
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.order.len()
    }
}

impl State {
    /// Containers and TTL znodes that are to be deleted at `now_ms`, at most `max`.
    pub fn containers_due(&self, now_ms: i64, max: usize) -> Vec<String> {
        let due = self.due.order.range(..(now_ms, 0)).take(max);
        due.map(|&(_, number)| self.nodes.path(number)).collect()
    }

    pub(super) fn is_due(&self, number: u32, now_ms: i64) -> bool {
        self.due_after(number).is_some_and(|time| time < now_ms)
    }

    /// The last moment at which a znode is not yet due, if it comes at all while nothing changes.
    fn due_after(&self, number: u32) -> Option<i64> {
        if self.nodes.child_count(number) > 0 {
            return None;
        }
        let node = self.nodes.at(number);
        let unused_ms = self.limits.unused_container_ms;
        match self.nodes.kind(number) {
            Kind::Container if self.nodes.cversion(number) != 0 => Some(i64::MIN),
            Kind::Container if unused_ms > 0 => Some(node.ctime.saturating_add(unused_ms)),
            Kind::Ttl(ttl_ms) => Some(node.mtime.saturating_add(ttl_ms)),
            _ => None,
        }
    }

    /// After a change of a znode or of its children.
    pub(super) fn refresh_due(&mut self, number: u32) {
        if matches!(self.nodes.kind(number), Kind::Container | Kind::Ttl(_)) {
            let time = self.due_after(number);
            self.due.set(number, time);
        }
    }
}
