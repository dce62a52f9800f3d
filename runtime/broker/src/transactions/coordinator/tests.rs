//! The coordinator step by step, with a clock and a log that the tests move by hand.

use super::*;

const MINUTE: i32 = 60_000;

/// A coordinator whose records and markers are written when the test says so.
struct Bench {
    coordinator: Coordinator,
    now_ms: i64,
    calls: CallId,
    answers: HashMap<CallId, Result<Answer, ResponseError>>,
    writes: VecDeque<Write>,
    marks: VecDeque<Mark>,
    log: Vec<Write>,
    ids_reserved: i64,
    refuse_ids: bool,
}

impl Bench {
    fn new() -> Bench {
        Bench::over(Vec::new(), 0, 0)
    }

    /// Starts over what a former one left in its log.
    fn over(log: Vec<Write>, ids_reserved: i64, now_ms: i64) -> Bench {
        let mut coordinator = Coordinator::new(Options::default(), vec![3; 50], ids_reserved);
        for write in &log {
            coordinator.load(&write.key, write.value.as_deref()).expect("own records are read");
        }
        let mut bench = Bench {
            coordinator,
            now_ms,
            calls: 0,
            answers: HashMap::new(),
            writes: VecDeque::new(),
            marks: VecDeque::new(),
            log,
            ids_reserved,
            refuse_ids: false,
        };
        let out = bench.coordinator.finish_loading(now_ms);
        bench.take(out);
        bench
    }

    fn restart(self) -> Bench {
        Bench::over(self.log, self.ids_reserved, self.now_ms)
    }

    fn take(&mut self, out: Vec<Output>) {
        for output in out {
            match output {
                Output::Write(write) => {
                    self.log.push(write.clone());
                    self.writes.push_back(write);
                }
                Output::Mark(mark) => self.marks.push_back(mark),
                Output::Answer { call, answer } => {
                    assert!(self.answers.insert(call, answer).is_none(), "one answer to a call");
                }
                Output::ReserveIds { end } => {
                    let end = if self.refuse_ids { None } else { Some(end) };
                    self.ids_reserved = end.unwrap_or(self.ids_reserved);
                    self.step(Input::IdsReserved { end });
                }
            }
        }
    }

    fn step(&mut self, input: Input) {
        let out = self.coordinator.step(input, self.now_ms);
        self.take(out);
    }

    /// The next record is on disk.
    fn sync(&mut self) {
        let write = self.writes.pop_front().expect("a record is being written").write;
        self.step(Input::Written { write, result: Ok(()) });
    }

    fn fail(&mut self, error: WriteError) {
        let write = self.writes.pop_front().expect("a record is being written").write;
        self.log.retain(|logged| logged.write != write);
        self.step(Input::Written { write, result: Err(error) });
    }

    /// The next markers are on disk.
    fn mark(&mut self) -> Mark {
        let mark = self.marks.pop_front().expect("markers are being written");
        let Mark { transactional_id, producer, partitions, .. } = mark.clone();
        self.step(Input::MarkersDone { transactional_id, producer, partitions });
        mark
    }

    fn settle(&mut self) {
        while !self.writes.is_empty() || !self.marks.is_empty() {
            if self.writes.is_empty() {
                self.mark();
            } else {
                self.sync();
            }
        }
    }

    fn tick_at(&mut self, now_ms: i64) {
        self.now_ms = now_ms;
        self.step(Input::Tick);
    }

    fn call(&mut self, input: impl FnOnce(CallId) -> Input) -> CallId {
        self.calls += 1;
        let call = self.calls;
        self.step(input(call));
        call
    }

    fn ask(&mut self, input: impl FnOnce(CallId) -> Input) -> Result<Answer, ResponseError> {
        let call = self.call(input);
        while !self.answers.contains_key(&call) {
            if self.writes.is_empty() {
                self.mark();
            } else {
                self.sync();
            }
        }
        self.answers[&call]
    }

    fn init_as(&mut self, id: &str, expected: Option<Producer>) -> Result<Producer, ResponseError> {
        let answer = self.ask(|call| Input::InitProducerId {
            call,
            transactional_id: Some(id.into()),
            timeout_ms: MINUTE,
            expected,
        })?;
        let Answer::Producer(producer) = answer else { panic!("{answer:?}") };
        Ok(producer)
    }

    fn init(&mut self, id: &str) -> Result<Producer, ResponseError> {
        self.init_as(id, None)
    }

    fn add(&mut self, id: &str, producer: Producer, topics: &[&str]) -> Result<Answer, ResponseError> {
        let partitions = partitions(topics);
        self.ask(|call| Input::AddPartitions { call, transactional_id: id.into(), producer, partitions })
    }

    fn end(&mut self, id: &str, producer: Producer, commit: bool) -> Result<Answer, ResponseError> {
        self.ask(|call| Input::End { call, transactional_id: id.into(), producer, commit })
    }

    fn state(&self, id: &str) -> State {
        self.coordinator.describe(id).expect("a known id").state
    }

    fn open_local(&mut self, id: &str) -> Result<Producer, ResponseError> {
        let answer = self.ask(|call| Input::OpenLocal { call, transactional_id: id.into() })?;
        let Answer::Producer(producer) = answer else { panic!("{answer:?}") };
        Ok(producer)
    }

    fn add_local(&mut self, id: &str, producer: Producer, topics: &[&str]) -> Result<(), ResponseError> {
        partitions(topics)
            .into_iter()
            .try_for_each(|at| self.coordinator.add_local(id, producer, at, self.now_ms))
    }

    fn end_local(&mut self, id: &str, producer: Producer, commit: bool) -> Result<Producer, ResponseError> {
        let id: Arc<str> = id.into();
        let answer = self.ask(|call| Input::EndLocal { call, transactional_id: id, producer, commit })?;
        let Answer::Producer(producer) = answer else { panic!("{answer:?}") };
        Ok(producer)
    }
}

fn partitions(topics: &[&str]) -> BTreeSet<TopicPartition> {
    topics.iter().map(|topic| TopicPartition::new(*topic, 0)).collect()
}

fn bumped(producer: Producer) -> Producer {
    producer.next_epoch()
}

#[test]
fn ids_without_transactions_never_repeat_over_restarts() {
    let mut bench = Bench::new();
    let mut seen = BTreeSet::new();
    for round in 0..3_500 {
        if round % 700 == 699 {
            bench = bench.restart();
        }
        let answer = bench.ask(|call| Input::InitProducerId {
            call,
            transactional_id: None,
            timeout_ms: MINUTE,
            expected: None,
        });
        let Ok(Answer::Producer(producer)) = answer else { panic!("{answer:?}") };
        assert_eq!(producer.epoch, 0);
        assert!(seen.insert(producer.id), "id {} came twice", producer.id);
    }
}

#[test]
fn without_a_block_of_ids_nobody_gets_one() {
    let mut bench = Bench::new();
    bench.coordinator.ids = Ids::new(0);
    bench.refuse_ids = true;
    // The first is told so when the block is refused.
    assert_eq!(bench.init("t"), Err(ResponseError::CoordinatorNotAvailable));
    assert_eq!(bench.init("t"), Err(ResponseError::CoordinatorNotAvailable));
    bench.refuse_ids = false;
    assert!(bench.init("t").is_ok());
    // An id that stands in a record is not given again although the note of the blocks is gone.
    let taken = bench.init("u").expect("an id").id;
    let mut bench = Bench::over(bench.log, 0, 0);
    assert!(bench.init("v").expect("an id").id > taken);
}

#[test]
fn a_transaction_is_begun_decided_and_completed() {
    let mut bench = Bench::new();
    let producer = bench.init("t").expect("a producer");
    assert_eq!(producer.epoch, 0);
    assert_eq!(bench.state("t"), State::Empty);
    assert_eq!(bench.end("t", producer, true), Err(ResponseError::InvalidTxnState));
    bench.now_ms = 77;
    assert_eq!(bench.add("t", producer, &["a", "b"]), Ok(Answer::Done));
    assert_eq!(bench.coordinator.describe("t").map(|view| view.start_ms), Some(77));
    // Added again: nothing is written.
    let written = bench.log.len();
    assert_eq!(bench.add("t", producer, &["b"]), Ok(Answer::Done));
    assert_eq!(bench.log.len(), written);
    assert_eq!(bench.end("t", producer, true), Ok(Answer::Done));
    assert_eq!(bench.state("t"), State::PrepareCommit);
    assert_eq!(bench.end("t", producer, true), Err(ResponseError::ConcurrentTransactions));
    assert_eq!(bench.end("t", producer, false), Err(ResponseError::InvalidTxnState));
    assert_eq!(bench.add("t", producer, &["c"]), Err(ResponseError::ConcurrentTransactions));
    assert_eq!(bench.init("t"), Err(ResponseError::ConcurrentTransactions));
    let mark = bench.mark();
    assert_eq!((mark.producer, mark.commit, mark.coordinator_epoch), (producer, true, 3));
    assert_eq!(mark.partitions, partitions(&["a", "b"]).into_iter().collect::<Vec<_>>());
    assert_eq!(bench.add("t", producer, &["c"]), Err(ResponseError::ConcurrentTransactions));
    bench.settle();
    assert_eq!(bench.state("t"), State::CompleteCommit);
    assert_eq!(bench.end("t", producer, true), Ok(Answer::Done));
    assert_eq!(bench.end("t", producer, false), Err(ResponseError::InvalidTxnState));
    assert_eq!(bench.add("t", producer, &["c"]), Ok(Answer::Done));
    assert_eq!(bench.end("t", producer, false), Ok(Answer::Done));
    let mark = bench.mark();
    assert_eq!((mark.commit, mark.partitions.len()), (false, 1));
    bench.settle();
    assert_eq!(bench.state("t"), State::CompleteAbort);
}

#[test]
fn the_decision_is_written_before_its_markers_and_the_completion_after_them() {
    let mut bench = Bench::new();
    let producer = bench.init("t").expect("a producer");
    assert!(bench.add("t", producer, &["a", "b"]).is_ok());
    let call = bench.call(|call| Input::End { call, transactional_id: "t".into(), producer, commit: true });
    assert!(bench.marks.is_empty() && !bench.answers.contains_key(&call));
    assert!(bench.writes[0].to_disk);
    bench.sync();
    assert_eq!(bench.answers[&call], Ok(Answer::Done));
    let mark = bench.marks.pop_front().expect("markers");
    let half = |at: usize| Input::MarkersDone {
        transactional_id: "t".into(),
        producer,
        partitions: vec![mark.partitions[at].clone()],
    };
    bench.step(half(0));
    assert!(bench.writes.is_empty());
    bench.step(half(0));
    assert!(bench.writes.is_empty());
    bench.step(half(1));
    assert_eq!(bench.writes.len(), 1);
    bench.settle();
    assert_eq!(bench.state("t"), State::CompleteCommit);
}

#[test]
fn a_new_producer_fences_the_old_and_aborts_what_it_left_open() {
    let mut bench = Bench::new();
    let old = bench.init("t").expect("a producer");
    assert!(bench.add("t", old, &["a"]).is_ok());
    assert_eq!(bench.init("t"), Err(ResponseError::ConcurrentTransactions));
    let mark = bench.mark();
    assert_eq!((mark.producer, mark.commit), (bumped(old), false));
    bench.settle();
    let new = bench.init("t").expect("the abort is through");
    assert_eq!(new, bumped(bumped(old)));
    for commit in [true, false] {
        assert_eq!(bench.end("t", old, commit), Err(ResponseError::ProducerFenced));
    }
    assert_eq!(bench.add("t", old, &["a"]), Err(ResponseError::ProducerFenced));
    let at = TopicPartition::new("a", 0);
    assert_eq!(bench.coordinator.verify("t", old, &at), Err(ResponseError::ProducerFenced));
    let other = Producer { id: old.id + 1, epoch: 0 };
    assert_eq!(bench.end("t", other, true), Err(ResponseError::InvalidProducerIdMapping));
    assert_eq!(bench.add("u", old, &["a"]), Err(ResponseError::InvalidProducerIdMapping));
    assert_eq!(bench.add("", old, &["a"]), Err(ResponseError::InvalidRequest));
}

#[test]
fn a_partition_is_verified_only_in_an_open_transaction_that_has_it() {
    let mut bench = Bench::new();
    let producer = bench.init("t").expect("a producer");
    let (a, b) = (TopicPartition::new("a", 0), TopicPartition::new("b", 0));
    assert_eq!(bench.coordinator.verify("t", producer, &a), Err(ResponseError::TransactionAbortable));
    // In memory, but not on disk: not yet.
    let add = |call| Input::AddPartitions {
        call,
        transactional_id: "t".into(),
        producer,
        partitions: partitions(&["a"]),
    };
    bench.call(add);
    assert_eq!(bench.coordinator.verify("t", producer, &a), Err(ResponseError::TransactionAbortable));
    bench.sync();
    assert_eq!(bench.coordinator.verify("t", producer, &a), Ok(()));
    assert_eq!(bench.coordinator.verify("t", producer, &b), Err(ResponseError::TransactionAbortable));
    assert!(bench.end("t", producer, true).is_ok());
    assert_eq!(bench.coordinator.verify("t", producer, &a), Err(ResponseError::ConcurrentTransactions));
    bench.settle();
    assert_eq!(bench.coordinator.verify("t", producer, &a), Err(ResponseError::TransactionAbortable));
    assert_eq!(bench.coordinator.verify("u", producer, &a), Err(ResponseError::InvalidProducerIdMapping));
}

#[test]
fn a_producer_goes_on_after_an_error_under_the_next_epoch() {
    let mut bench = Bench::new();
    let first = bench.init("t").expect("a producer");
    let second = bench.init_as("t", Some(first)).expect("known");
    assert_eq!(second, bumped(first));
    // The answer was lost, it asks again: the same answer.
    assert_eq!(bench.init_as("t", Some(first)), Ok(second));
    assert_eq!(bench.init_as("t", Some(first)), Ok(second));
    // Somebody else took the id meanwhile.
    let third = bench.init("t").expect("a producer");
    assert_eq!(bench.init_as("t", Some(second)), Err(ResponseError::ProducerFenced));
    assert_eq!(
        bench.init_as("t", Some(Producer { id: 9_999, epoch: 0 })),
        Err(ResponseError::ProducerFenced)
    );
    assert_eq!(bench.init_as("t", Some(third)), Ok(bumped(third)));
    // Everything about it was forgotten: it gets a new id.
    let fresh = bench.init_as("u", Some(Producer { id: 9_999, epoch: 4 })).expect("taken");
    assert_eq!(fresh.epoch, 0);
}

#[test]
fn a_used_up_epoch_brings_a_new_id() {
    let mut bench = Bench::new();
    let first = bench.init("t").expect("a producer");
    let last = Producer { id: first.id, epoch: i16::MAX - 1 };
    let slot = bench.coordinator.slots.get_mut("t").expect("known");
    slot.now.producer = last;
    assert_eq!(bench.init_as("t", Some(first)), Err(ResponseError::ProducerFenced));
    let rotated = bench.init_as("t", Some(last)).expect("a new id");
    assert_eq!(rotated.epoch, 0);
    assert!(rotated.id > first.id);
    // The answer was lost.
    assert_eq!(bench.init_as("t", Some(last)), Ok(rotated));
    assert_eq!(bench.init_as("t", Some(last)), Ok(rotated));
}

/// The last epoch is never given to a client, so an open transaction can be fenced whatever its epoch is.
#[test]
fn the_greatest_epoch_of_a_client_can_still_be_fenced() {
    let mut bench = Bench::new();
    let first = bench.init("t").expect("a producer");
    let slot = bench.coordinator.slots.get_mut("t").expect("known");
    slot.now.producer.epoch = i16::MAX - 2;
    let last = bench.init("t").expect("the last epoch for a client");
    assert_eq!(last, Producer { id: first.id, epoch: i16::MAX - 1 });
    assert!(bench.add("t", last, &["a"]).is_ok());
    assert_eq!(bench.init("t"), Err(ResponseError::ConcurrentTransactions));
    assert_eq!(bench.mark().producer.epoch, i16::MAX);
    bench.settle();
    let next = bench.init("t").expect("a new id");
    assert!(next.id > first.id && next.epoch == 0);
}

#[test]
fn time_outs_are_bounded() {
    let mut bench = Bench::new();
    for (timeout_ms, fine) in [(-1, false), (0, false), (1, true), (900_000, true), (900_001, false)] {
        let answer = bench.ask(|call| Input::InitProducerId {
            call,
            transactional_id: Some("t".into()),
            timeout_ms,
            expected: None,
        });
        assert_eq!(answer.is_ok(), fine);
        assert!(fine || answer == Err(ResponseError::InvalidTransactionTimeout));
    }
    for id in ["", &"x".repeat(40_000)] {
        assert_eq!(bench.init(id), Err(ResponseError::InvalidRequest));
    }
}

#[test]
fn a_transaction_that_takes_too_long_is_aborted_and_its_producer_fenced() {
    let mut bench = Bench::new();
    let producer = bench.init("t").expect("a producer");
    assert!(bench.add("t", producer, &["a"]).is_ok());
    bench.tick_at(i64::from(MINUTE));
    assert!(bench.writes.is_empty());
    bench.tick_at(i64::from(MINUTE) + 1);
    assert_eq!(bench.writes.len(), 1);
    // The record is refused: tried again with the next tick, and the epoch is not bumped twice.
    bench.fail(WriteError::Refused);
    assert_eq!(bench.state("t"), State::Ongoing);
    bench.tick_at(i64::from(MINUTE) + 2);
    bench.sync();
    let mark = bench.mark();
    assert_eq!((mark.producer, mark.commit), (bumped(producer), false));
    bench.settle();
    assert_eq!(bench.state("t"), State::CompleteAbort);
    assert_eq!(bench.end("t", producer, true), Err(ResponseError::ProducerFenced));
    bench.tick_at(i64::from(MINUTE) * 9);
    assert!(bench.writes.is_empty() && bench.coordinator.deadlines.is_empty());
    // It may go on by asking for the next epoch, as a client does that was told so.
    assert_eq!(bench.init("t"), Ok(bumped(bumped(producer))));
}

#[test]
fn an_idle_transactional_id_is_forgotten_and_an_open_one_is_not() {
    let mut bench = Bench::new();
    let week = Options::default().id_expiration_ms;
    assert!(bench.init("idle").is_ok());
    let open = bench.init("open").expect("a producer");
    bench.now_ms = 10;
    assert!(bench.add("open", open, &["a"]).is_ok());
    bench.coordinator.deadlines.clear();
    bench.tick_at(week - 1);
    assert!(bench.writes.is_empty());
    bench.tick_at(week + EXPIRY_SCAN_MS);
    assert_eq!(bench.writes.len(), 1);
    assert_eq!((bench.writes[0].value.as_ref(), &bench.writes[0].key), (None, &records::encode_key("idle")));
    bench.settle();
    assert_eq!(bench.coordinator.describe("idle"), None);
    let bench = bench.restart();
    assert_eq!(bench.coordinator.describe("idle"), None);
    assert_eq!(bench.state("open"), State::Ongoing);
}

#[test]
fn what_was_decided_before_a_crash_is_finished_after_it() {
    for commit in [true, false] {
        let mut bench = Bench::new();
        let producer = bench.init("t").expect("a producer");
        assert!(bench.add("t", producer, &["a", "b"]).is_ok());
        assert!(bench.end("t", producer, commit).is_ok());
        let mut bench = bench.restart();
        assert_eq!(bench.init("t"), Err(ResponseError::ConcurrentTransactions));
        let mark = bench.mark();
        assert_eq!((mark.producer, mark.commit, mark.partitions.len()), (producer, commit, 2));
        bench.settle();
        assert_eq!(bench.end("t", producer, commit), Ok(Answer::Done));
        // And what was complete stays so.
        let mut bench = bench.restart();
        assert!(bench.marks.is_empty());
        assert_eq!(bench.init("t"), Ok(bumped(producer)));
    }
}

#[test]
fn an_open_transaction_goes_on_after_a_crash_and_still_ends_in_time() {
    let mut bench = Bench::new();
    let producer = bench.init("t").expect("a producer");
    assert!(bench.add("t", producer, &["a"]).is_ok());
    let mut bench = bench.restart();
    assert_eq!(bench.coordinator.verify("t", producer, &TopicPartition::new("a", 0)), Ok(()));
    assert!(bench.add("t", producer, &["b"]).is_ok());
    bench.tick_at(i64::from(MINUTE) + 1);
    bench.sync();
    assert_eq!(bench.mark().partitions.len(), 2);
}

#[test]
fn a_record_that_is_not_written_changes_nothing() {
    let mut bench = Bench::new();
    let call = bench.call(|call| Input::InitProducerId {
        call,
        transactional_id: Some("t".into()),
        timeout_ms: MINUTE,
        expected: None,
    });
    bench.fail(WriteError::Refused);
    assert_eq!(bench.answers[&call], Err(ResponseError::CoordinatorNotAvailable));
    assert_eq!(bench.coordinator.describe("t"), None);
    let producer = bench.init("t").expect("a producer");
    let add = |call| Input::AddPartitions {
        call,
        transactional_id: "t".into(),
        producer,
        partitions: partitions(&["a"]),
    };
    let call = bench.call(add);
    bench.fail(WriteError::Refused);
    assert_eq!(bench.answers[&call], Err(ResponseError::CoordinatorNotAvailable));
    assert_eq!(bench.state("t"), State::Empty);
    bench.call(add);
    bench.sync();
    let end = |call| Input::End { call, transactional_id: "t".into(), producer, commit: true };
    bench.call(end);
    bench.fail(WriteError::Refused);
    assert_eq!(bench.state("t"), State::Ongoing);
    assert!(bench.marks.is_empty());
    assert_eq!(bench.end("t", producer, true), Ok(Answer::Done));
    bench.mark();
    bench.fail(WriteError::Refused);
    assert_eq!(bench.state("t"), State::PrepareCommit);
    bench.tick_at(1);
    bench.settle();
    assert_eq!(bench.state("t"), State::CompleteCommit);
}

/// The disk failed while a decision was written. It may be there after a restart: deciding otherwise meanwhile would
/// show half a transaction.
#[test]
fn a_decision_in_doubt_stays_in_doubt_until_a_restart() {
    let mut bench = Bench::new();
    let producer = bench.init("t").expect("a producer");
    assert!(bench.add("t", producer, &["a"]).is_ok());
    let call = bench.call(|call| Input::End { call, transactional_id: "t".into(), producer, commit: true });
    let write = bench.writes.pop_front().expect("the decision").write;
    bench.step(Input::Written { write, result: Err(WriteError::Unknown) });
    let doubt = Err(ResponseError::CoordinatorNotAvailable);
    assert_eq!(bench.answers[&call], doubt);
    assert_eq!(bench.end("t", producer, false), doubt);
    assert_eq!(bench.init("t").err(), doubt.err());
    bench.tick_at(i64::from(MINUTE) * 2);
    assert!(bench.writes.is_empty());
    let mut bench = bench.restart();
    assert!(bench.mark().commit);
}

#[test]
fn transactions_are_listed_by_state_producer_and_age() {
    let mut bench = Bench::new();
    let a = bench.init("a").expect("a producer");
    bench.init("b").expect("a producer");
    assert!(bench.add("a", a, &["x"]).is_ok());
    let ids = |filter: Filter| -> Vec<String> {
        bench.coordinator.list(&filter, 100).iter().map(|view| view.transactional_id.to_string()).collect()
    };
    assert_eq!(ids(Filter::default()), ["a", "b"]);
    assert_eq!(ids(Filter { states: vec![State::Empty], ..Filter::default() }), ["b"]);
    assert_eq!(ids(Filter { producer_ids: vec![a.id], ..Filter::default() }), ["a"]);
    assert_eq!(ids(Filter { longer_than_ms: Some(99), ..Filter::default() }), ["a"]);
    assert!(ids(Filter { longer_than_ms: Some(100), ..Filter::default() }).is_empty());
    assert_eq!(bench.coordinator.describe("c"), None);
}

#[test]
fn ids_lie_where_kafka_looks_for_them() {
    // Java: "my-transactional-id".hashCode() is 1453868107, "\ud83d\ude00" has two units.
    let java = |text: &str| {
        text.encode_utf16().fold(0i64, |hash, unit| (hash * 31 + i64::from(unit)) & 0xffff_ffff) as u32 as i32
    };
    for id in ["", "a", "my-transactional-id", "\u{1f600}", "polygenelubricants"] {
        let expected = java(id).checked_abs().unwrap_or(0) % 50;
        assert_eq!(partition_of(id, 50), expected, "{id}");
    }
    assert_eq!(java("abc"), 96_354);
    // Its hash is the least number, which has no absolute value.
    assert_eq!(java("polygenelubricants"), i32::MIN);
    assert_eq!(partition_of("polygenelubricants", 50), 0);
}

// ---- transactions of this process ----

#[test]
fn a_local_transaction_costs_one_awaited_record() {
    let mut bench = Bench::new();
    let mut producer = bench.open_local("flow").expect("opened");
    for round in 0..5 {
        bench.log.clear();
        assert!(bench.add_local("flow", producer, &["out", "offsets"]).is_ok());
        assert_eq!(bench.state("flow"), State::Ongoing);
        assert_eq!(bench.coordinator.verify("flow", producer, &TopicPartition::new("out", 0)), Ok(()));
        let next = bench.end_local("flow", producer, true).expect("committed");
        assert_eq!(next, bumped(producer), "round {round}");
        bench.settle();
        assert_eq!(bench.log.iter().filter(|write| write.to_disk).count(), 1);
        producer = next;
    }
}

#[test]
fn the_next_local_transaction_is_decided_after_the_markers_of_the_last_are_on_disk() {
    let mut bench = Bench::new();
    let first = bench.open_local("flow").expect("opened");
    assert!(bench.add_local("flow", first, &["a", "b"]).is_ok());
    let end = |producer| {
        move |call| Input::EndLocal { call, transactional_id: "flow".into(), producer, commit: true }
    };
    let call = bench.call(end(first));
    bench.sync();
    // Decided, but not told before the markers are in their logs: what comes next must be written behind them.
    assert!(!bench.answers.contains_key(&call));
    let mark = bench.marks.pop_front().expect("markers");
    let Mark { transactional_id, producer, partitions: marked, .. } = mark;
    let id = transactional_id.clone();
    bench.step(Input::MarkersAppended { transactional_id: id, producer, partitions: marked[..1].to_vec() });
    assert!(!bench.answers.contains_key(&call));
    let id = transactional_id.clone();
    bench.step(Input::MarkersAppended { transactional_id: id, producer, partitions: marked[1..].to_vec() });
    assert_eq!(bench.answers[&call], Ok(Answer::Producer(bumped(first))));
    assert!(bench.add_local("flow", bumped(first), &["a"]).is_ok());
    let call = bench.call(end(bumped(first)));
    assert!(bench.writes.is_empty(), "the markers may still be lost");
    bench.step(Input::MarkersDone { transactional_id, producer, partitions: marked });
    bench.settle();
    assert_eq!(bench.answers[&call], Ok(Answer::Producer(bumped(bumped(first)))));
}

#[test]
fn a_local_abort_is_over_when_its_markers_are_there() {
    let mut bench = Bench::new();
    let first = bench.open_local("flow").expect("opened");
    assert!(bench.add_local("flow", first, &["a", "b"]).is_ok());
    let written = bench.log.len();
    let second = bench.end_local("flow", first, false).expect("aborted");
    assert_eq!(second, bumped(first));
    assert_eq!(bench.log.len(), written, "nothing was written down of it");
    assert!(bench.add_local("flow", first, &["a"]).is_err());
    assert_eq!(bench.end_local("flow", second, true), Ok(second), "nothing in it");
}

#[test]
fn whoever_opens_a_local_id_again_fences_the_one_before() {
    let mut bench = Bench::new();
    let old = bench.open_local("flow").expect("opened");
    assert!(bench.add_local("flow", old, &["a"]).is_ok());
    let call = bench.call(|call| Input::OpenLocal { call, transactional_id: "flow".into() });
    assert_eq!(bench.answers[&call], Err(ResponseError::ConcurrentTransactions));
    assert_eq!(bench.add_local("flow", old, &["b"]), Err(ResponseError::ProducerFenced));
    assert_eq!(bench.init("flow"), Err(ResponseError::ConcurrentTransactions));
    let mark = bench.mark();
    assert_eq!((mark.producer, mark.commit), (bumped(old), false));
    let new = bench.open_local("flow").expect("opened");
    assert!(new.id > old.id && new.epoch == 0);
    assert_eq!(bench.end_local("flow", old, true), Err(ResponseError::ProducerFenced));
    // A client takes it over, and the process is out.
    let client = bench.init("flow").expect("a producer");
    assert_eq!(bench.add_local("flow", new, &["a"]), Err(ResponseError::ProducerFenced));
    assert!(bench.add("flow", client, &["a"]).is_ok());
    // And back.
    assert_eq!(bench.open_local("flow"), Err(ResponseError::ConcurrentTransactions));
    bench.settle();
    assert!(bench.open_local("flow").is_ok());
    assert_eq!(bench.add("flow", client, &["a"]), Err(ResponseError::InvalidProducerIdMapping));
}

#[test]
fn a_local_decision_that_is_refused_can_be_tried_again_or_aborted() {
    let mut bench = Bench::new();
    let producer = bench.open_local("flow").expect("opened");
    assert!(bench.add_local("flow", producer, &["a"]).is_ok());
    let end = |call| Input::EndLocal { call, transactional_id: "flow".into(), producer, commit: true };
    let call = bench.call(end);
    bench.fail(WriteError::Refused);
    assert_eq!(bench.answers[&call], Err(ResponseError::CoordinatorNotAvailable));
    let next = bench.end_local("flow", producer, true).expect("the disk is back");
    assert!(bench.add_local("flow", next, &["a"]).is_ok());
    bench.settle();
    bench.call(|call| Input::EndLocal {
        call,
        transactional_id: "flow".into(),
        producer: next,
        commit: true,
    });
    let write = bench.writes.pop_front().expect("the decision").write;
    bench.step(Input::Written { write, result: Err(WriteError::Unknown) });
    // Aborting now could show half of it after a restart.
    assert_eq!(bench.end_local("flow", next, false), Err(ResponseError::CoordinatorNotAvailable));
    assert!(bench.marks.is_empty());
}

/// A client took over a transactional id of this process and was given an epoch that the process had used already,
/// because that epoch was in no record yet: its first batch was taken for a repeat, and lost. It gets another id now.
#[test]
fn a_client_that_follows_a_local_owner_shares_no_epoch_with_it() {
    for restarts in [false, true] {
        let mut bench = Bench::new();
        let first = bench.open_local("flow").expect("opened");
        assert!(bench.add_local("flow", first, &["a"]).is_ok());
        let second = bench.end_local("flow", first, false).expect("aborted");
        assert_eq!(second, bumped(first));
        if restarts {
            bench = bench.restart();
        }
        assert_eq!(bench.init_as("flow", Some(first)), Err(ResponseError::ProducerFenced));
        assert!(bench.init("flow").expect("a producer").id > first.id);
    }
}

/// The log of `__transaction_state` failed after a decision, and whoever came next waited for its completion for ever.
#[test]
fn nobody_waits_for_what_only_a_restart_can_bring() {
    let mut bench = Bench::new();
    let first = bench.open_local("flow").expect("opened");
    assert!(bench.add_local("flow", first, &["a"]).is_ok());
    let id: Arc<str> = "flow".into();
    let end = |producer| {
        let transactional_id = id.clone();
        move |call| Input::EndLocal { call, transactional_id, producer, commit: true }
    };
    bench.call(end(first));
    bench.sync();
    let Mark { producer, partitions, .. } = bench.marks.pop_front().expect("markers");
    let transactional_id = id.clone();
    bench.step(Input::MarkersAppended { transactional_id, producer, partitions: partitions.clone() });
    assert!(bench.add_local("flow", bumped(first), &["a"]).is_ok());
    let deferred = bench.call(end(bumped(first)));
    let transactional_id = id.clone();
    bench.step(Input::MarkersDone { transactional_id, producer, partitions });
    bench.fail(WriteError::Unknown);
    let lost = Err(ResponseError::CoordinatorNotAvailable);
    assert_eq!(bench.answers[&deferred], lost);
    assert_eq!(bench.open_local("flow").err(), lost.err());
    bench.tick_at(1);
    assert!(bench.writes.is_empty());
    let mut bench = bench.restart();
    bench.settle();
    assert!(bench.open_local("flow").is_ok());
}

/// The same for markers whose partition takes nothing more.
#[test]
fn nobody_waits_for_markers_that_cannot_be_written() {
    for aborts in [false, true] {
        let mut bench = Bench::new();
        let first = bench.open_local("flow").expect("opened");
        assert!(bench.add_local("flow", first, &["a"]).is_ok());
        let id: Arc<str> = "flow".into();
        let transactional_id = id.clone();
        let ended =
            bench.call(|call| Input::EndLocal { call, transactional_id, producer: first, commit: !aborts });
        if !aborts {
            bench.sync();
        }
        assert_eq!(bench.marks.len(), 1);
        bench.step(Input::MarkersFailed { transactional_id: id.clone(), producer: first });
        let lost = Err(ResponseError::CoordinatorNotAvailable);
        assert_eq!(bench.answers[&ended], lost);
        assert_eq!(bench.open_local("flow").err(), lost.err());
        let mut bench = bench.restart();
        bench.settle();
        assert!(bench.open_local("flow").is_ok());
    }
}
