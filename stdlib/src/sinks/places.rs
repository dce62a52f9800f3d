//! How far a sink has got in the topics that its events come from, kept beside what it writes: an event that comes again
//! is recognised by its offset, and left out. For `deliver effectively_once`.
//!
//! One event of a topic may become several rows (`emit`). A place is therefore an offset and how many of its rows are
//! written: a batch may be cut between them.

use std::collections::BTreeMap;

use flow_plan::{Ack, Batch};
use serde::{Deserialize, Serialize};

use crate::topics::FromTopic;

/// Rows up to this one are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    pub offset: u64,
    /// Rows of that offset, at least one.
    pub rows: u64,
}

/// Places by partition and reader: `orders/3 as billing`.
#[derive(Debug, Default)]
pub struct Places {
    written: BTreeMap<String, Place>,
    /// Where the readers of this run stand: the last row that came and was written.
    cursors: BTreeMap<String, Cursor>,
    /// The same with the rows of the transaction under way.
    pending: BTreeMap<String, Cursor>,
}

#[derive(Clone, Copy, Debug)]
struct Cursor {
    /// A reader that begins again brings the first row of an offset again.
    reading: u64,
    place: Place,
}

impl Places {
    /// What the last run has left.
    pub fn restore(&mut self, partition: String, place: Place) {
        self.written.insert(partition, place);
    }

    /// What is written, by partition.
    #[cfg(test)]
    fn written(&self) -> impl Iterator<Item = (&str, Place)> {
        self.written.iter().map(|(partition, place)| (partition.as_str(), *place))
    }

    /// The rows of a batch that are not written yet; nothing when that is all of them, or when the batch does not come
    /// from a topic whose reader counts on it. To be asked once for each batch of a transaction, in order.
    pub fn fresh(&mut self, batch: &Batch) -> Option<Batch> {
        let from = batch.ack.context()?.downcast_ref::<FromTopic>()?;
        let partition = from.to_string();
        let written = self.written.get(&partition).copied();
        let known = self.pending.get(&partition).or_else(|| self.cursors.get(&partition));
        let mut last = known.filter(|cursor| cursor.reading == from.reading).map(|cursor| cursor.place);
        let mut rows = Vec::with_capacity(batch.rows.len());
        for &row in &batch.rows {
            let offset = batch.columns.event_id(row);
            let before = last.filter(|last| last.offset == offset).map_or(0, |last| last.rows);
            let place = Place { offset, rows: before + 1 };
            last = Some(place);
            if written.is_none_or(|written| place > written) {
                rows.push(row);
            }
        }
        if let Some(place) = last {
            self.pending.insert(partition, Cursor { reading: from.reading, place });
        }
        (rows.len() < batch.rows.len()).then(|| Batch {
            columns: batch.columns.clone(),
            rows,
            ack: Ack::none(),
        })
    }

    /// What the transaction adds, to be written in one with its rows.
    pub fn pending(&self) -> impl Iterator<Item = (&str, Place)> {
        let news = |(partition, cursor): &(&String, &Cursor)| {
            self.written.get(*partition).is_none_or(|written| cursor.place > *written)
        };
        self.pending.iter().filter(news).map(|(partition, cursor)| (partition.as_str(), cursor.place))
    }

    /// The rows and their places are written.
    pub fn commit(&mut self) {
        for (partition, cursor) in std::mem::take(&mut self.pending) {
            let written = self.written.entry(partition.clone()).or_insert(cursor.place);
            *written = cursor.place.max(*written);
            self.cursors.insert(partition, cursor);
        }
    }

    /// They are not: the same rows come again.
    pub fn roll_back(&mut self) {
        self.pending.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use flow_plan::batch::Columns;

    use super::*;

    /// Rows with these offsets, from one partition.
    fn batch(reading: u64, offsets: &[u64]) -> Batch {
        let mut columns = Columns::default();
        for offset in offsets {
            columns.push(b"x", 1).unwrap();
            columns.ids.resize(columns.bodies.len() - 1, 0);
            columns.ids.push(*offset);
        }
        let mut batch = Batch::new(columns);
        let from = FromTopic {
            topic: Arc::from("orders"),
            partition: 3,
            group: Arc::from("billing"),
            reading,
            transaction: None,
        };
        batch.ack = Ack::with_context(Arc::new(from), |_| {});
        batch
    }

    fn write(places: &mut Places, reading: u64, offsets: &[u64]) -> Vec<u32> {
        let batch = batch(reading, offsets);
        let rows = places.fresh(&batch).map_or_else(|| batch.rows.clone(), |fresh| fresh.rows);
        places.commit();
        rows
    }

    #[test]
    fn what_comes_again_is_left_out() {
        let mut places = Places::default();
        assert_eq!(write(&mut places, 1, &[10, 11, 12]), [0, 1, 2]);
        assert_eq!(
            places.written().collect::<Vec<_>>(),
            [("orders/3 as billing", Place { offset: 12, rows: 1 })]
        );
        // The reader has begun again behind 10.
        assert_eq!(write(&mut places, 2, &[11, 12, 13]), [2]);
        assert_eq!(write(&mut places, 3, &[13]), [0; 0]);
        assert_eq!(write(&mut places, 3, &[14, 20]), [0, 1]);
    }

    #[test]
    fn a_failed_transaction_leaves_no_place() {
        let mut places = Places::default();
        assert!(places.fresh(&batch(1, &[10, 11])).is_none());
        assert_eq!(places.pending().count(), 1);
        places.roll_back();
        assert_eq!(places.written().count(), 0);
        assert_eq!(write(&mut places, 1, &[10, 11]), [0, 1]);
    }

    #[test]
    fn rows_of_one_event_may_be_cut_apart() {
        let mut places = Places::default();
        // Three rows of offset 10 in two transactions, and then again from the start.
        assert_eq!(write(&mut places, 1, &[10, 10]), [0, 1]);
        assert_eq!(write(&mut places, 1, &[10, 11]), [0, 1]);
        assert_eq!(write(&mut places, 2, &[10, 10, 10, 11, 11]), [4]);
        // A crash between the two: the third row is still to be written.
        let mut places = Places::default();
        places.restore("orders/3 as billing".to_owned(), Place { offset: 10, rows: 2 });
        assert_eq!(write(&mut places, 1, &[10, 10, 10, 11]), [2, 3]);
    }

    #[test]
    fn other_events_are_none_of_its_business() {
        let mut places = Places::default();
        let plain = Batch { ack: Ack::none(), ..batch(1, &[1, 1, 1]) };
        assert!(places.fresh(&plain).is_none());
        assert_eq!(places.pending().count(), 0);
    }
}
