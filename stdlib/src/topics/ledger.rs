//! How far a reader has got in one partition: batches are sent in order and delivered in any, and the position is
//! behind the last one before which everything is delivered.

use std::collections::VecDeque;

/// Batches of one partition that are on their way.
#[derive(Debug, Default)]
pub struct Ledger {
    entries: VecDeque<Entry>,
    /// Number of the first entry.
    first: u64,
    /// Behind the last delivered batch before which everything is delivered.
    delivered: Option<i64>,
    committed: Option<i64>,
}

#[derive(Debug)]
struct Entry {
    /// The offset to read on from behind the batch.
    next: i64,
    delivered: bool,
}

impl Ledger {
    /// A batch is sent; gives the number under which it is reported as delivered.
    pub fn sent(&mut self, next: i64) -> u64 {
        self.entries.push_back(Entry { next, delivered: false });
        self.first + self.entries.len() as u64 - 1
    }

    /// What was read held nothing to send (control batches, aborted events).
    pub fn passed(&mut self, next: i64) {
        let number = self.sent(next);
        self.delivered(number);
    }

    pub fn delivered(&mut self, number: u64) {
        let index = number.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        if let Some(entry) = index.and_then(|index| self.entries.get_mut(index)) {
            entry.delivered = true;
        }
        while let Some(entry) = self.entries.pop_front_if(|entry| entry.delivered) {
            self.first += 1;
            self.delivered = Some(entry.next);
        }
    }

    /// Batches on their way.
    pub fn open(&self) -> usize {
        self.entries.len()
    }

    /// A position that is not written down yet.
    pub fn to_commit(&self) -> Option<i64> {
        self.delivered.filter(|delivered| self.committed != Some(*delivered))
    }

    pub fn committed(&mut self, position: i64) {
        self.committed = Some(position);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_position_is_behind_what_is_delivered_without_a_gap() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.to_commit(), None);
        let (a, b, c) = (ledger.sent(10), ledger.sent(20), ledger.sent(30));
        ledger.delivered(b);
        assert_eq!((ledger.to_commit(), ledger.open()), (None, 3));
        ledger.delivered(a);
        assert_eq!((ledger.to_commit(), ledger.open()), (Some(20), 1));
        ledger.committed(20);
        assert_eq!(ledger.to_commit(), None);
        ledger.delivered(c);
        assert_eq!((ledger.to_commit(), ledger.open()), (Some(30), 0));
        // Twice, or never sent: nothing happens.
        ledger.delivered(c);
        ledger.delivered(99);
        ledger.passed(40);
        assert_eq!(ledger.to_commit(), Some(40));
    }
}
