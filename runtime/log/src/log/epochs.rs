//! Which leader epoch began at which offset (KIP-101), and its file in Kafka's format.

use std::fmt::Write;

/// Kafka's name for the file.
pub(crate) const FILE: &str = "leader-epoch-checkpoint";
/// Largest file that is read: some hundred thousand epochs.
pub(crate) const BYTES_MAX: u64 = 16 << 20;
/// Kafka's version of the file's format.
const VERSION: &str = "0";

/// Epochs and their first offsets, both rising.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Epochs {
    entries: Vec<(i32, i64)>,
}

impl Epochs {
    pub fn latest(&self) -> Option<i32> {
        self.entries.last().map(|(epoch, _)| *epoch)
    }

    pub fn entries(&self) -> &[(i32, i64)] {
        &self.entries
    }

    /// Takes note that `epoch` wrote at `offset`. True if that was new.
    pub fn note(&mut self, epoch: i32, offset: i64) -> bool {
        if epoch < 0 || self.latest().is_some_and(|latest| latest >= epoch) {
            return false;
        }
        self.entries.push((epoch, offset));
        true
    }

    /// Forgets epochs that began at or after the log's new end.
    pub fn cut_end(&mut self, end: i64) -> bool {
        let before = self.entries.len();
        self.entries.retain(|(_, offset)| *offset < end);
        self.entries.len() != before
    }

    /// Forgets epochs that ended at or before the log's new start; the one that spans it begins there.
    pub fn cut_start(&mut self, start: i64) -> bool {
        let spanning = self.entries.partition_point(|(_, offset)| *offset <= start);
        if spanning == 0 || (spanning == 1 && self.entries[0].1 == start) {
            return false;
        }
        self.entries.drain(..spanning - 1);
        self.entries[0].1 = start;
        true
    }

    /// The largest epoch not above `epoch` and the offset where it ended, as Kafka answers OffsetForLeaderEpoch;
    /// (−1, −1) if unknown.
    pub fn end_of(&self, epoch: i32, log_end: i64) -> (i32, i64) {
        if epoch < 0 {
            return (-1, -1);
        }
        if self.latest() == Some(epoch) {
            return (epoch, log_end);
        }
        let higher = self.entries.partition_point(|(known, _)| *known <= epoch);
        match (higher.checked_sub(1), self.entries.get(higher)) {
            (_, None) => (-1, -1),
            (None, Some((_, start))) => (epoch, *start),
            (Some(floor), Some((_, start))) => (self.entries[floor].0, *start),
        }
    }

    pub fn encode(&self) -> String {
        let mut text = format!("{VERSION}\n{}\n", self.entries.len());
        for (epoch, offset) in &self.entries {
            let _ = writeln!(text, "{epoch} {offset}");
        }
        text
    }

    /// `None` if the text is not of the format or not in order.
    pub fn decode(text: &str) -> Option<Epochs> {
        let mut lines = text.lines();
        if lines.next()? != VERSION {
            return None;
        }
        let count: usize = lines.next()?.parse().ok()?;
        let mut epochs = Epochs::default();
        for line in lines {
            let (epoch, offset) = line.split_once(' ')?;
            let (epoch, offset) = (epoch.parse().ok()?, offset.parse().ok()?);
            let rising = epochs.entries.last().is_none_or(|last| last.0 < epoch && last.1 <= offset);
            if !rising || !epochs.note(epoch, offset) {
                return None;
            }
        }
        (epochs.entries.len() == count).then_some(epochs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs() -> Epochs {
        Epochs { entries: vec![(2, 0), (3, 10), (7, 25)] }
    }

    #[test]
    fn the_end_of_an_epoch_is_the_start_of_the_next() {
        let epochs = epochs();
        assert_eq!(epochs.end_of(7, 40), (7, 40));
        assert_eq!(epochs.end_of(3, 40), (3, 25));
        assert_eq!(epochs.end_of(5, 40), (3, 25));
        assert_eq!(epochs.end_of(1, 40), (1, 0));
        assert_eq!(epochs.end_of(8, 40), (-1, -1));
        assert_eq!(epochs.end_of(-1, 40), (-1, -1));
    }

    #[test]
    fn cutting_keeps_the_epoch_that_spans_the_cut() {
        let mut cut = epochs();
        assert!(cut.cut_end(25));
        assert_eq!(cut.entries, [(2, 0), (3, 10)]);
        assert!(cut.cut_start(12));
        assert_eq!(cut.entries, [(3, 12)]);
        assert!(!cut.cut_start(12));
    }

    #[test]
    fn the_file_is_read_back_and_a_broken_one_is_not() {
        assert_eq!(epochs().encode(), "0\n3\n2 0\n3 10\n7 25\n");
        assert_eq!(Epochs::decode(&epochs().encode()), Some(epochs()));
        for broken in ["", "0", "1\n0\n", "0\n2\n2 0\n", "0\n2\n2 5\n1 6\n", "0\n2\n2 5\n3 4\n", "0\n1\n2\n"]
        {
            assert_eq!(Epochs::decode(broken), None, "{broken:?}");
        }
    }
}
