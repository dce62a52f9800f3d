//! Producer state against a model that keeps the whole log and works everything out anew for each question.

use flow_log::batch::{Header, end_marker};
use kafka_protocol::error::ResponseError;
use proptest::prelude::*;

use super::*;

const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;

fn header(producer_id: i64, epoch: i16, sequence: i32, count: i32, attributes: i16) -> Header {
    Header {
        base_offset: 0,
        batch_length: 0,
        leader_epoch: 0,
        magic: 2,
        crc: 0,
        attributes,
        last_offset_delta: count - 1,
        base_timestamp: 0,
        max_timestamp: 0,
        producer_id,
        producer_epoch: epoch,
        base_sequence: sequence,
        records_count: count,
    }
}

fn data(producer_id: i64, epoch: i16, sequence: i32, count: i32) -> Header {
    header(producer_id, epoch, sequence, count, 0)
}

fn in_transaction(producer_id: i64, epoch: i16, sequence: i32, count: i32) -> Header {
    header(producer_id, epoch, sequence, count, TRANSACTIONAL)
}

fn end(producer_id: i64, epoch: i16) -> Header {
    header(producer_id, epoch, -1, 1, TRANSACTIONAL | CONTROL)
}

const ABORT: Marker = Marker { commit: false, coordinator_epoch: 0 };
const COMMIT: Marker = Marker { commit: true, coordinator_epoch: 0 };

/// A partition: state and the offset that comes next.
#[derive(Default)]
struct Partition {
    producers: Producers,
    next: i64,
}

impl Partition {
    /// Appends as a client whose coordinator always says yes.
    fn produce(&mut self, header: &Header) -> Result<i64, ResponseError> {
        let guard = self.producers.start_verification(header, 0);
        self.append(header, Origin::Client, None, guard)
    }

    fn mark(&mut self, header: &Header, marker: Marker) -> Result<i64, ResponseError> {
        self.append(header, Origin::Coordinator, Some(marker), None)
    }

    fn append(
        &mut self,
        header: &Header,
        origin: Origin,
        marker: Option<Marker>,
        guard: Option<Guard>,
    ) -> Result<i64, ResponseError> {
        match self.producers.check(header, origin, marker, guard) {
            Verdict::Append => {
                let base_offset = self.next;
                self.next += i64::from(header.last_offset_delta) + 1;
                self.producers.apply(
                    header,
                    Placed { base_offset, timestamp: base_offset * 10, now_ms: 0 },
                    marker,
                );
                Ok(base_offset)
            }
            Verdict::Duplicate(seen) => Ok(seen.base_offset),
            Verdict::Refuse(error) => Err(error.code()),
        }
    }

    fn stable(&mut self) -> i64 {
        self.producers.last_stable_offset(self.next, 0)
    }
}

#[test]
fn a_repeat_among_the_last_five_batches_gives_the_first_answer_again() {
    let mut partition = Partition::default();
    for sequence in [0, 10, 20, 30, 40, 50] {
        assert_eq!(partition.produce(&data(7, 0, sequence, 10)), Ok(i64::from(sequence)));
    }
    for sequence in [10, 20, 30, 40, 50] {
        assert_eq!(partition.produce(&data(7, 0, sequence, 10)), Ok(i64::from(sequence)));
    }
    assert_eq!(partition.next, 60);
    // The sixth from the end is not known any more, and half a batch never was.
    assert_eq!(partition.produce(&data(7, 0, 0, 10)), Err(ResponseError::OutOfOrderSequenceNumber));
    assert_eq!(partition.produce(&data(7, 0, 50, 5)), Err(ResponseError::OutOfOrderSequenceNumber));
    let Verdict::Duplicate(seen) = partition.producers.check(&data(7, 0, 50, 10), Origin::Client, None, None)
    else {
        panic!("the last batch is known")
    };
    assert_eq!(seen, Seen { base_offset: 50, last_offset: 59, timestamp: 500 });
}

#[test]
fn a_gap_is_out_of_order_and_an_unknown_producer_is_taken_at_any_sequence() {
    let mut partition = Partition::default();
    assert_eq!(partition.produce(&data(7, 3, 100, 10)), Ok(0));
    assert_eq!(partition.produce(&data(7, 3, 111, 1)), Err(ResponseError::OutOfOrderSequenceNumber));
    assert_eq!(partition.produce(&data(7, 3, 110, 1)), Ok(10));
    assert_eq!(partition.producers.expire(99, 100), 0);
    assert_eq!(partition.producers.expire(100, 100), 1);
    assert_eq!(partition.produce(&data(7, 3, 500, 1)), Ok(11));
}

#[test]
fn a_newer_epoch_begins_at_zero_and_fences_the_older() {
    let mut partition = Partition::default();
    assert_eq!(partition.produce(&data(7, 1, 0, 1)), Ok(0));
    assert_eq!(partition.produce(&data(7, 2, 1, 1)), Err(ResponseError::OutOfOrderSequenceNumber));
    assert_eq!(partition.produce(&data(7, 2, 0, 1)), Ok(1));
    assert_eq!(partition.produce(&data(7, 1, 1, 1)), Err(ResponseError::InvalidProducerEpoch));
    // Also what it had written before is refused, not repeated.
    assert_eq!(partition.produce(&data(7, 1, 0, 1)), Err(ResponseError::InvalidProducerEpoch));
}

#[test]
fn sequences_wrap_after_the_greatest() {
    let mut partition = Partition::default();
    assert_eq!(partition.produce(&data(7, 0, i32::MAX - 3, 2)), Ok(0));
    let over_the_end = data(7, 0, i32::MAX - 1, 5);
    assert_eq!(partition.produce(&over_the_end), Ok(2));
    assert_eq!(partition.produce(&over_the_end), Ok(2));
    assert_eq!(partition.produce(&data(7, 0, 3, 1)), Ok(7));
    let mut exact = Partition::default();
    assert_eq!(exact.produce(&data(7, 0, i32::MAX - 1, 2)), Ok(0));
    assert_eq!(exact.produce(&data(7, 0, 0, 1)), Ok(2));
}

#[test]
fn clients_write_no_control_batches_and_no_batch_without_its_numbers() {
    let mut partition = Partition::default();
    let refused = Err(ResponseError::InvalidRecord);
    assert_eq!(partition.append(&end(7, 0), Origin::Client, Some(ABORT), None), refused);
    assert_eq!(partition.append(&end(7, 0), Origin::Local, Some(ABORT), None), refused);
    assert_eq!(partition.produce(&data(7, 0, -1, 1)), refused);
    assert_eq!(partition.produce(&data(7, -1, 0, 1)), refused);
    assert_eq!(partition.produce(&in_transaction(-1, -1, -1, 1)), refused);
    assert_eq!(partition.produce(&data(-1, -1, -1, 1)), Ok(0));
    assert!(partition.producers.entries.is_empty());
}

#[test]
fn readers_of_committed_records_wait_for_the_oldest_open_transaction() {
    let mut partition = Partition::default();
    assert_eq!(partition.produce(&data(1, 0, 0, 5)), Ok(0));
    assert_eq!(partition.stable(), 5);
    assert_eq!(partition.produce(&in_transaction(2, 0, 0, 5)), Ok(5));
    assert_eq!(partition.produce(&in_transaction(3, 0, 0, 5)), Ok(10));
    assert_eq!(partition.produce(&data(1, 0, 5, 5)), Ok(15));
    assert_eq!(partition.stable(), 5);
    assert_eq!(partition.mark(&end(2, 0), ABORT), Ok(20));
    assert_eq!(partition.stable(), 10);
    assert_eq!(partition.mark(&end(3, 0), COMMIT), Ok(21));
    assert_eq!(partition.stable(), 22);
    let aborted = Aborted { producer_id: 2, first_offset: 5, last_offset: 20, last_stable_offset: 10 };
    assert_eq!(partition.producers.aborted(0, 22), vec![aborted]);
    assert_eq!(partition.producers.aborted(20, 21), vec![aborted]);
    assert_eq!(partition.producers.aborted(21, 22), vec![]);
    assert_eq!(partition.producers.aborted(0, 5), vec![]);
    assert!(partition.producers.is_aborted(2, 5) && partition.producers.is_aborted(2, 9));
    assert!(!partition.producers.is_aborted(3, 12) && !partition.producers.is_aborted(2, 4));
    // The next transaction of the same producer goes on with its sequences.
    assert_eq!(partition.produce(&in_transaction(2, 0, 5, 1)), Ok(22));
    assert_eq!(partition.stable(), 22);
}

#[test]
fn a_decided_transaction_stays_unstable_until_the_high_watermark_passes_its_marker() {
    let mut partition = Partition::default();
    assert_eq!(partition.produce(&in_transaction(2, 0, 0, 5)), Ok(0));
    assert_eq!(partition.mark(&end(2, 0), COMMIT), Ok(5));
    assert_eq!(partition.producers.last_stable_offset(3, 0), 0);
    assert_eq!(partition.producers.last_stable_offset(5, 0), 0);
    assert_eq!(partition.producers.last_stable_offset(6, 0), 6);
}

#[test]
fn a_marker_of_a_bumped_epoch_fences_what_was_open() {
    let mut partition = Partition::default();
    assert_eq!(partition.produce(&in_transaction(2, 4, 0, 5)), Ok(0));
    assert_eq!(partition.mark(&end(2, 5), ABORT), Ok(5));
    assert_eq!(partition.produce(&in_transaction(2, 4, 5, 5)), Err(ResponseError::InvalidProducerEpoch));
    assert_eq!(partition.mark(&end(2, 4), COMMIT), Err(ResponseError::InvalidProducerEpoch));
    assert_eq!(partition.stable(), 6);
    // The new epoch begins anew.
    assert_eq!(partition.produce(&in_transaction(2, 5, 0, 5)), Ok(6));
}

#[test]
fn a_marker_of_an_older_coordinator_is_refused() {
    let mut partition = Partition::default();
    let marker = |coordinator_epoch| Marker { commit: true, coordinator_epoch };
    assert_eq!(partition.produce(&in_transaction(2, 0, 0, 1)), Ok(0));
    assert_eq!(partition.mark(&end(2, 0), marker(4)), Ok(1));
    assert_eq!(partition.mark(&end(2, 0), marker(3)), Err(ResponseError::TransactionCoordinatorFenced));
    // A repeat of a marker is harmless.
    assert_eq!(partition.mark(&end(2, 0), marker(4)), Ok(2));
    assert_eq!(partition.stable(), 3);
}

#[test]
fn a_marker_is_read_from_its_batch_and_from_nothing_else() {
    for (commit, coordinator_epoch) in [(true, 0), (false, 70_000)] {
        let batch = end_marker(7, 3, commit, coordinator_epoch, 1);
        assert_eq!(Marker::read(&batch), Some(Marker { commit, coordinator_epoch }));
        let header = Header::parse(&batch).expect("a batch");
        assert!(header.is_control() && header.is_transactional());
        assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (7, 3, -1));
        for cut in 0..batch.len() {
            assert_eq!(Marker::read(&batch[..cut]), None);
        }
    }
}

#[test]
fn a_transactional_batch_is_let_in_only_when_the_coordinator_knows_it() {
    let mut partition = Partition::default();
    let batch = in_transaction(2, 0, 0, 1);
    assert_eq!(partition.append(&batch, Origin::Client, None, None), Err(ResponseError::InvalidTxnState));
    assert_eq!(
        partition.append(&batch, Origin::Coordinator, None, None),
        Err(ResponseError::InvalidTxnState)
    );
    let guard = partition.producers.start_verification(&batch, 0);
    assert!(guard.is_some());
    assert_eq!(partition.append(&batch, Origin::Client, None, guard), Ok(0));
    // Open: nothing to ask.
    let next = in_transaction(2, 0, 1, 1);
    assert_eq!(partition.producers.start_verification(&next, 0), None);
    assert_eq!(partition.append(&next, Origin::Client, None, None), Ok(1));
    assert_eq!(
        partition.append(&data(2, 0, 2, 1), Origin::Client, None, None),
        Err(ResponseError::InvalidTxnState)
    );
}

/// The answer of the coordinator came, then the transaction was ended, then the batch arrived: it would have opened a
/// transaction that nobody ends.
#[test]
fn an_answer_does_not_outlive_the_marker() {
    let mut partition = Partition::default();
    let batch = in_transaction(2, 0, 0, 1);
    let guard = partition.producers.start_verification(&batch, 0);
    assert_eq!(partition.mark(&end(2, 0), ABORT), Ok(0));
    assert_eq!(partition.append(&batch, Origin::Client, None, guard), Err(ResponseError::InvalidTxnState));
    let again = partition.producers.start_verification(&batch, 0);
    assert_ne!(again, guard);
    assert_eq!(partition.append(&batch, Origin::Client, None, guard), Err(ResponseError::InvalidTxnState));
    assert_eq!(partition.append(&batch, Origin::Client, None, again), Ok(1));
}

/// Two batches are in flight, the question of the first fails and is asked again: had the second been taken meanwhile,
/// the first would be out of order for ever.
#[test]
fn a_later_sequence_does_not_overtake_one_whose_question_failed() {
    let mut partition = Partition::default();
    let (first, second) = (in_transaction(2, 0, 0, 1), in_transaction(2, 0, 1, 1));
    let _failed = partition.producers.start_verification(&first, 0);
    let guard = partition.producers.start_verification(&second, 0);
    assert_eq!(
        partition.append(&second, Origin::Client, None, guard),
        Err(ResponseError::OutOfOrderSequenceNumber)
    );
    assert_eq!(partition.produce(&first), Ok(0));
    assert_eq!(partition.produce(&second), Ok(1));
}

#[test]
fn offsets_of_groups_are_checked_by_epoch_and_transaction_alone() {
    let mut partition = Partition::default();
    for _ in 0..3 {
        let offsets = in_transaction(2, 1, -1, 2);
        let guard = partition.producers.start_verification(&offsets, 0);
        assert!(partition.append(&offsets, Origin::Coordinator, None, guard).is_ok());
    }
    let old = in_transaction(2, 0, -1, 1);
    assert_eq!(
        partition.append(&old, Origin::Coordinator, None, None),
        Err(ResponseError::InvalidProducerEpoch)
    );
}

#[test]
fn the_idlest_go_when_there_are_too_many() {
    let mut producers = Producers::new(0);
    for id in 0..PRODUCERS_MAX as i64 {
        let placed = Placed { base_offset: id, timestamp: 0, now_ms: id };
        let header = if id == 3 { in_transaction(id, 0, 0, 1) } else { data(id, 0, 0, 1) };
        producers.apply(&header, placed, None);
    }
    assert_eq!(producers.entries.len(), PRODUCERS_MAX);
    let id = PRODUCERS_MAX as i64;
    producers.apply(&data(id, 0, 0, 1), Placed { base_offset: id, timestamp: 0, now_ms: id }, None);
    assert_eq!(producers.entries.len(), PRODUCERS_MAX - PRODUCERS_MAX / 10 + 1);
    assert!(producers.is_ongoing(3));
    assert_eq!(producers.check(&data(0, 0, 9, 1), Origin::Client, None, None), Verdict::Append);
    assert!(matches!(producers.check(&data(id, 0, 9, 1), Origin::Client, None, None), Verdict::Refuse(_)));
}

#[test]
fn questions_that_nobody_answers_are_bounded() {
    let mut producers = Producers::new(0);
    for id in 0..VERIFICATIONS_MAX as i64 * 2 {
        assert!(producers.start_verification(&in_transaction(id, 0, 0, 1), 0).is_some());
        assert!(producers.verifications.len() <= VERIFICATIONS_MAX);
    }
}

/// The bytes of a snapshot with one producer, written down from Kafka's schema.
#[test]
fn the_snapshot_has_kafkas_form() {
    let mut partition = Partition::default();
    assert_eq!(partition.produce(&in_transaction(0x0102, 3, 0, 5)), Ok(0));
    let bytes = partition.producers.encode_snapshot();
    let entry: Vec<u8> = [
        &0x0102i64.to_be_bytes()[..],
        &3i16.to_be_bytes(),
        &4i32.to_be_bytes(),
        &4i64.to_be_bytes(),
        &4i32.to_be_bytes(),
        &0i64.to_be_bytes(),
        &(-1i32).to_be_bytes(),
        &0i64.to_be_bytes(),
    ]
    .concat();
    assert_eq!(bytes[..2], [0, 1]);
    assert_eq!(bytes[6..10], [0, 0, 0, 1]);
    assert_eq!(bytes[10..], entry);
    assert_eq!(bytes[2..6], crc32c::crc32c(&bytes[6..]).to_be_bytes());
}

/// A snapshot had only the last batch of each producer, as Kafka's has: after a restart under load a producer that
/// repeated its unanswered batches was told that records were lost. Now the batches before it are there too, behind what
/// Kafka reads.
#[test]
fn every_batch_that_is_kept_is_known_after_a_restart() {
    let mut partition = Partition::default();
    for sequence in 0..7 {
        assert!(partition.produce(&data(4, 0, 3 * sequence, 3)).is_ok());
    }
    assert!(partition.produce(&data(5, 0, 0, 1)).is_ok());
    let mut again = Producers::decode_snapshot(&partition.producers.encode_snapshot(), 22, 0).unwrap();
    for sequence in 0..7 {
        let verdict = again.check(&data(4, 0, 3 * sequence, 3), Origin::Client, None, None);
        match verdict {
            Verdict::Duplicate(seen) if sequence >= 2 => {
                assert_eq!(seen.base_offset, i64::from(3 * sequence))
            }
            Verdict::Refuse(ProducerError::OutOfOrder { .. }) if sequence < 2 => {}
            other => panic!("{sequence}: {other:?}"),
        }
    }
    let next = again.check(&data(4, 0, 21, 3), Origin::Client, None, None);
    assert_eq!(next, Verdict::Append);
    again.expire(i64::MAX, 0);
}

#[test]
fn a_broken_snapshot_is_refused_whatever_is_broken() {
    let mut partition = Partition::default();
    for id in 0..5 {
        assert!(partition.produce(&data(id, 0, 0, 2)).is_ok());
        assert!(partition.produce(&data(id, 0, 2, 1)).is_ok());
    }
    let bytes = partition.producers.encode_snapshot();
    assert!(Producers::decode_snapshot(&bytes, 15, 0).is_ok());
    for cut in 0..bytes.len() {
        assert!(Producers::decode_snapshot(&bytes[..cut], 15, 0).is_err());
    }
    for at in 0..bytes.len() {
        let mut broken = bytes.clone();
        broken[at] ^= 0x41;
        assert!(Producers::decode_snapshot(&broken, 15, 0).is_err(), "byte {at}");
    }
    // Whole, but not of this log.
    assert_eq!(Producers::decode_snapshot(&bytes, 14, 0).err(), Some(SnapshotError::Entry(4)));
}

#[test]
fn a_broken_index_of_aborted_transactions_is_refused() {
    let mut partition = Partition::default();
    for sequence in 0..3 {
        assert!(partition.produce(&in_transaction(1, 0, sequence, 1)).is_ok());
        assert!(partition.mark(&end(1, 0), ABORT).is_ok());
    }
    let bytes = partition.producers.encode_aborted(0, 6);
    assert_eq!(bytes.len(), 3 * 34);
    let mut loaded = Producers::new(6);
    assert_eq!(loaded.load_aborted(&bytes[..40]), Err(AbortedError::Short(6)));
    assert_eq!(loaded.load_aborted(&[&bytes[34..], &bytes[..34]].concat()), Err(AbortedError::Order(1)));
    let mut newer = bytes.clone();
    newer[35] = 1;
    assert_eq!(loaded.load_aborted(&newer), Err(AbortedError::Newer(1)));
    assert!(loaded.aborted.is_empty());
    assert_eq!(loaded.load_aborted(&bytes[..34]), Ok(()));
    assert_eq!(loaded.load_aborted(&bytes[34..]), Ok(()));
    assert_eq!(loaded.aborted, partition.producers.aborted);
    loaded.advance_start(4);
    assert_eq!(loaded.aborted(0, 6).len(), 1);
}

// ---- the model ----

#[derive(Clone, Debug)]
enum Step {
    /// `sequence`: 0 the right one, 1.. a repeat of so many batches ago, -1 a gap, -2 zero.
    Produce {
        id: i64,
        epoch_up: bool,
        sequence: i32,
        count: i32,
        transactional: bool,
        verified: bool,
    },
    Mark {
        id: i64,
        epoch_up: bool,
        commit: bool,
    },
    /// Restart from a snapshot of now or of some steps ago.
    Restart {
        back: usize,
    },
    Watermark {
        behind: i64,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let produce =
        (0..4i64, prop::bool::weighted(0.1), -2..7i32, 1..5i32, any::<bool>(), prop::bool::weighted(0.9))
            .prop_map(|(id, epoch_up, sequence, count, transactional, verified)| Step::Produce {
                id,
                epoch_up,
                sequence: if sequence == 6 { 0 } else { sequence },
                count,
                transactional,
                verified,
            });
    let mark = (0..4i64, prop::bool::weighted(0.3), any::<bool>())
        .prop_map(|(id, epoch_up, commit)| Step::Mark { id, epoch_up, commit });
    let step = prop_oneof![
        10 => produce,
        4 => mark,
        1 => (0..5usize).prop_map(|back| Step::Restart { back }),
        1 => (0..9i64).prop_map(|behind| Step::Watermark { behind }),
    ];
    prop::collection::vec(step, 1..80)
}

/// One batch in the model's log.
#[derive(Clone, Debug)]
struct Logged {
    header: Header,
    marker: Option<Marker>,
}

/// Producer, first offset, and the marker's offset with whether it commits.
type Transaction = (i64, i64, Option<(i64, bool)>);

/// The whole log, and every answer worked out from its beginning.
#[derive(Default)]
struct Model {
    log: Vec<Logged>,
}

impl Model {
    fn of(&self, id: i64) -> impl DoubleEndedIterator<Item = &Logged> {
        self.log.iter().filter(move |logged| logged.header.producer_id == id)
    }

    fn epoch(&self, id: i64) -> Option<i16> {
        self.of(id).next_back().map(|logged| logged.header.producer_epoch)
    }

    /// Data batches of the current epoch, newest last.
    fn batches(&self, id: i64) -> Vec<&Logged> {
        let epoch = self.epoch(id);
        let current: Vec<_> =
            self.of(id).rev().take_while(|logged| Some(logged.header.producer_epoch) == epoch).collect();
        current.into_iter().rev().filter(|logged| logged.marker.is_none()).collect()
    }

    fn open(&self, id: i64) -> Option<i64> {
        let after = self.of(id).collect::<Vec<_>>();
        let begin = after.iter().rposition(|logged| logged.marker.is_some()).map_or(0, |at| at + 1);
        after[begin..]
            .iter()
            .find(|logged| logged.header.is_transactional())
            .map(|logged| logged.header.base_offset)
    }

    fn next_sequence(&self, id: i64) -> i32 {
        self.batches(id).last().map_or(0, |logged| logged.header.last_sequence() + 1)
    }

    fn end(&self) -> i64 {
        self.log
            .last()
            .map_or(0, |logged| logged.header.base_offset + i64::from(logged.header.last_offset_delta) + 1)
    }

    fn transactions(&self) -> Vec<Transaction> {
        let mut found: Vec<Transaction> = Vec::new();
        for logged in &self.log {
            let (id, offset) = (logged.header.producer_id, logged.header.base_offset);
            let open = found.iter_mut().find(|(of, _, ended)| *of == id && ended.is_none());
            match (logged.marker, open) {
                (Some(marker), Some(open)) => open.2 = Some((offset, marker.commit)),
                (None, None) if logged.header.is_transactional() => found.push((id, offset, None)),
                _ => {}
            }
        }
        found
    }

    fn stable(&self, watermark: i64) -> i64 {
        let unstable = self
            .transactions()
            .into_iter()
            .filter(|(_, _, ended)| ended.is_none_or(|(at, _)| at >= watermark));
        unstable.map(|(_, first, _)| first).min().unwrap_or(watermark).min(watermark)
    }

    /// Which producer's records in `[from, to)` a reader must not see.
    fn hidden(&self, from: i64, to: i64) -> Vec<(i64, i64)> {
        let mut hidden = Vec::new();
        for (id, first, ended) in self.transactions() {
            if let Some((at, false)) = ended {
                hidden.extend(
                    self.of(id)
                        .map(|logged| logged.header.base_offset)
                        .filter(|offset| (first..at).contains(offset) && (from..to).contains(offset))
                        .map(|offset| (id, offset)),
                );
            }
        }
        hidden.sort_unstable();
        hidden
    }

    fn expected(&self, header: &Header, verified: bool) -> Result<Option<i64>, ResponseError> {
        let id = header.producer_id;
        let batches = self.batches(id);
        let recent = &batches[batches.len().saturating_sub(BATCHES_KEPT)..];
        let same = |logged: &&&Logged| {
            logged.header.producer_epoch == header.producer_epoch
                && logged.header.base_sequence == header.base_sequence
                && logged.header.last_offset_delta == header.last_offset_delta
        };
        if let Some(logged) = recent.iter().find(same) {
            return Ok(Some(logged.header.base_offset));
        }
        let open = self.open(id).is_some();
        if header.is_transactional() && !open && !verified {
            return Err(ResponseError::InvalidTxnState);
        }
        if let Some(epoch) = self.epoch(id) {
            if header.producer_epoch < epoch {
                return Err(ResponseError::InvalidProducerEpoch);
            }
            let wanted = if header.producer_epoch > epoch { 0 } else { self.next_sequence(id) };
            if header.base_sequence != wanted {
                return Err(ResponseError::OutOfOrderSequenceNumber);
            }
        }
        if open && !header.is_transactional() {
            return Err(ResponseError::InvalidTxnState);
        }
        Ok(None)
    }
}

fn rebuild(model: &Model, kept: &Kept) -> Producers {
    let mut producers =
        Producers::decode_snapshot(&kept.snapshot, kept.end, 0).expect("own snapshots are sound");
    // As two segments have it: a file each.
    producers.load_aborted(&kept.aborted.0).expect("own index");
    producers.load_aborted(&kept.aborted.1).expect("own index");
    for logged in model.log.iter().filter(|logged| logged.header.base_offset >= kept.end) {
        producers.replay(&logged.header, logged.marker, 0);
    }
    producers
}

struct Kept {
    end: i64,
    snapshot: Vec<u8>,
    aborted: (Vec<u8>, Vec<u8>),
}

fn keep(producers: &Producers) -> Kept {
    let (end, middle) = (producers.end_offset(), producers.end_offset() / 2);
    Kept {
        end,
        snapshot: producers.encode_snapshot(),
        aborted: (producers.encode_aborted(0, middle), producers.encode_aborted(middle, end)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn the_state_answers_as_the_whole_log_would(steps in steps()) {
        let mut model = Model::default();
        let mut producers = Producers::new(0);
        let mut kept = vec![keep(&producers)];
        let mut watermark = 0;
        for step in steps {
            match step {
                Step::Produce { id, epoch_up, sequence, count, transactional, verified } => {
                    let epoch = model.epoch(id).unwrap_or(0) + i16::from(epoch_up);
                    let batches = model.batches(id);
                    let header = match sequence {
                        repeat @ 1.. if batches.len() >= repeat as usize => {
                            batches[batches.len() - repeat as usize].header
                        }
                        wanted => {
                            let right = if epoch_up { 0 } else { model.next_sequence(id) };
                            let sequence = match wanted { -1 => right + 3, -2 => 0, _ => right };
                            header(id, epoch, sequence, count, if transactional { TRANSACTIONAL } else { 0 })
                        }
                    };
                    let verified = verified || !header.is_transactional();
                    let expected = model.expected(&header, verified);
                    let guard = if verified { producers.start_verification(&header, 0) } else { None };
                    match producers.check(&header, Origin::Client, None, guard) {
                        Verdict::Append => {
                            prop_assert_eq!(expected, Ok(None));
                            let base_offset = model.end();
                            producers.apply(&header, Placed { base_offset, timestamp: 0, now_ms: 0 }, None);
                            model.log.push(Logged { header: Header { base_offset, ..header }, marker: None });
                        }
                        Verdict::Duplicate(seen) => prop_assert_eq!(expected, Ok(Some(seen.base_offset))),
                        Verdict::Refuse(error) => prop_assert_eq!(expected, Err(error.code())),
                    }
                    // A question left open would hold later sequences back; the client aborts, as a marker does.
                    producers.verifications.clear();
                }
                Step::Mark { id, epoch_up, commit } => {
                    let header = end(id, model.epoch(id).unwrap_or(0) + i16::from(epoch_up));
                    let marker = Marker { commit, coordinator_epoch: 0 };
                    prop_assert_eq!(
                        producers.check(&header, Origin::Coordinator, Some(marker), None),
                        Verdict::Append
                    );
                    let base_offset = model.end();
                    producers.apply(&header, Placed { base_offset, timestamp: 0, now_ms: 0 }, Some(marker));
                    model.log.push(Logged { header: Header { base_offset, ..header }, marker: Some(marker) });
                }
                Step::Restart { back } => {
                    let from = &kept[kept.len().saturating_sub(back + 1)];
                    producers = rebuild(&model, from);
                    // A snapshot does not hold what the watermark had not passed (nor does Kafka's): a log that was
                    // read back is taken for safe.
                    watermark = model.end();
                }
                Step::Watermark { behind } => watermark = watermark.max(model.end() - behind),
            }
            if producers.end_offset() > kept.last().map_or(0, |kept| kept.end) {
                kept.push(keep(&producers));
            }
            let end = model.end();
            prop_assert_eq!(producers.end_offset(), end);
            let mut fresh = producers.clone();
            prop_assert_eq!(fresh.last_stable_offset(end, 0), model.stable(end));
            prop_assert_eq!(producers.clone().last_stable_offset(watermark, 0), model.stable(watermark));
            for id in 0..4 {
                prop_assert_eq!(producers.is_ongoing(id), model.open(id).is_some());
            }
            let stable = model.stable(end);
            for (from, to) in [(0, stable), (stable / 2, stable), (stable / 3, stable / 2)] {
                let aborted = producers.aborted(from, to);
                let mut hidden: Vec<(i64, i64)> = model
                    .log
                    .iter()
                    .filter(|logged| logged.marker.is_none() && logged.header.is_transactional())
                    .map(|logged| (logged.header.producer_id, logged.header.base_offset))
                    .filter(|(_, offset)| (from..to).contains(offset))
                    .filter(|(id, offset)| aborted.iter().any(|aborted| {
                        aborted.producer_id == *id && (aborted.first_offset..=aborted.last_offset).contains(offset)
                    }))
                    .collect();
                hidden.sort_unstable();
                let expected = model.hidden(from, to);
                prop_assert_eq!(&hidden, &expected);
                for (id, offset) in expected {
                    prop_assert!(producers.is_aborted(id, offset));
                }
            }
        }
    }

    #[test]
    fn no_file_makes_the_state_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), end in any::<i64>()) {
        let _ = Producers::decode_snapshot(&bytes, end, 0);
        let _ = Producers::new(end).load_aborted(&bytes);
        let mut sealed = vec![0, 1, 0, 0, 0, 0];
        sealed.extend_from_slice(&bytes);
        let crc = crc32c::crc32c(&sealed[6..]);
        sealed[2..6].copy_from_slice(&crc.to_be_bytes());
        let _ = Producers::decode_snapshot(&sealed, end, 0);
    }
}
