//! Producer ids: given out one by one from blocks that are reserved on disk first, so that no id is ever given twice,
//! whatever crashes.

/// Ids reserved at once.
pub(crate) const BLOCK: i64 = 1_000;

/// With fewer left, the next block is asked for, so that nobody waits for the disk.
const AHEAD: i64 = BLOCK / 10;

#[derive(Debug)]
pub(crate) struct Ids {
    next: i64,
    /// Reserved on disk up to here, exclusive.
    end: i64,
    reserving: bool,
}

impl Ids {
    /// `reserved` is what the disk says: every id below it may have been given.
    pub(crate) fn new(reserved: i64) -> Ids {
        Ids { next: reserved, end: reserved, reserving: false }
    }

    /// An id was seen in use: it is not given again, even if the note on disk was lost.
    pub(crate) fn seen(&mut self, id: i64) {
        if id >= self.next {
            self.next = id.saturating_add(1);
            self.end = self.end.max(self.next);
        }
    }

    pub(crate) fn take(&mut self) -> Option<i64> {
        let id = self.next;
        (id < self.end).then(|| {
            self.next += 1;
            id
        })
    }

    /// The end of the block to reserve now, if one is to be.
    pub(crate) fn wants(&mut self) -> Option<i64> {
        if self.reserving || self.end - self.next >= AHEAD {
            return None;
        }
        self.reserving = true;
        Some(self.end.saturating_add(BLOCK))
    }

    /// The answer to [`Ids::wants`]: the disk has it, or not.
    pub(crate) fn reserved(&mut self, end: Option<i64>) {
        self.reserving = false;
        self.end = self.end.max(end.unwrap_or(0));
    }
}
