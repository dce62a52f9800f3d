//! Clients over the wire and of this process, sharing transactional ids, on a broker that crashes between any two
//! records. The coordinator and the state of producers are the real ones; logs are lists of which a crash takes a part
//! that was not on the disk.
//!
//! Whatever happens: a transaction is visible as a whole or not at all, a fenced producer appends nothing, and when the
//! faults stop, every partition becomes stable. A failure prints the command that replays it.

use flow_log::batch::Header;

use super::*;
use crate::store::producers::{Marker, Origin, Placed, ProducerError, Producers, Verdict};

const PARTITIONS: usize = 3;
const TRANSACTIONAL_IDS: usize = 3;
const CLIENTS: usize = 6;
const STEPS: usize = 900;
/// Unless `FLOW_SEEDS` says otherwise.
const SEEDS: u64 = 300;
const TIMEOUT_MS: i32 = 2_000;

/// The variable that names the one seed to run.
const SEED_VARIABLE: &str = "FLOW_SIMULATION_SEED";

#[test]
fn transactions_stay_whole_whatever_crashes() {
    if let Some(seed) = std::env::var(SEED_VARIABLE).ok().and_then(|seed| seed.parse().ok()) {
        return World::new(seed).run();
    }
    let mut reached = Reached::default();
    let seeds = std::env::var("FLOW_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(SEEDS);
    for seed in 0..seeds {
        let result = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            world.run_all();
            world.reached
        });
        match result {
            Ok(of_seed) => reached.add(&of_seed),
            Err(panic) => {
                eprintln!(
                    "replay: {SEED_VARIABLE}={seed} cargo test -p flow-broker transactions_stay_whole_whatever_crashes"
                );
                std::panic::resume_unwind(panic);
            }
        }
    }
    if seeds < SEEDS {
        return;
    }
    // The simulation is worth something only if all of this happens, and often.
    assert!(reached.committed > 1_000 && reached.aborted > 300, "{reached:?}");
    assert!(reached.crashes > 500 && reached.fenced > 300 && reached.in_doubt > 50, "{reached:?}");
    assert!(reached.hanging > 20 && reached.duplicates > 20 && reached.local > 500, "{reached:?}");
}

#[derive(Clone, Debug, Default)]
struct Reached {
    committed: usize,
    aborted: usize,
    in_doubt: usize,
    fenced: usize,
    crashes: usize,
    hanging: usize,
    duplicates: usize,
    local: usize,
}

impl Reached {
    fn add(&mut self, other: &Reached) {
        self.committed += other.committed;
        self.aborted += other.aborted;
        self.in_doubt += other.in_doubt;
        self.fenced += other.fenced;
        self.crashes += other.crashes;
        self.hanging += other.hanging;
        self.duplicates += other.duplicates;
        self.local += other.local;
    }
}

/// splitmix64
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}

/// A batch in a partition: of which transaction, and which of its batches.
struct Logged {
    header: Header,
    marker: Option<Marker>,
    tag: Option<(usize, usize)>,
}

#[derive(Default)]
struct Part {
    producers: Producers,
    log: Vec<Logged>,
    /// Batches on the disk.
    synced: usize,
    next: i64,
}

impl Part {
    fn push(&mut self, header: Header, marker: Option<Marker>, tag: Option<(usize, usize)>) {
        let base_offset = self.next;
        self.next += 1;
        self.producers.apply(&header, Placed { base_offset, timestamp: 0, now_ms: 0 }, marker);
        self.log.push(Logged { header: Header { base_offset, ..header }, marker, tag });
    }

    fn sync(&mut self) {
        self.synced = self.log.len();
    }

    fn crash(&mut self, random: &mut Random) {
        let kept = self.synced + random.below(self.log.len() - self.synced + 1);
        self.log.truncate(kept);
        self.synced = kept;
        self.next = kept as i64;
        self.producers = Producers::new(0);
        for logged in &self.log {
            self.producers.replay(&logged.header, logged.marker, 0);
        }
    }

    /// Tags that a reader of committed records sees.
    fn visible(&mut self) -> Vec<(usize, usize)> {
        let stable = self.producers.last_stable_offset(self.next, 0);
        let aborted = self.producers.aborted(0, stable);
        let below = self.log.iter().filter(|logged| logged.header.base_offset < stable);
        below
            .filter(|logged| {
                let offset = logged.header.base_offset;
                !aborted.iter().any(|aborted| {
                    aborted.producer_id == logged.header.producer_id
                        && (aborted.first_offset..aborted.last_offset).contains(&offset)
                })
            })
            .filter_map(|logged| logged.tag)
            .collect()
    }
}

/// What is on its way.
enum Task {
    Sync { write: u64, records: usize },
    Mark { mark: Mark },
    MarkSync { mark: Mark, at: TopicPartition },
    Reserve { end: i64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Fresh,
    Ready,
    Adding,
    Writing,
    Ending { commit: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Open,
    Committed,
    /// Nothing of it may ever be seen.
    Void,
    /// A commit was asked for, and the answer never came.
    InDoubt,
}

struct Ledger {
    outcome: Outcome,
    /// Partition of each batch that was acknowledged, or written before the commit was asked for.
    batches: Vec<usize>,
}

struct Client {
    id: Arc<str>,
    local: bool,
    producer: Option<Producer>,
    /// Somebody was given a newer producer of the same id.
    stale: bool,
    sequences: HashMap<usize, i32>,
    phase: Phase,
    transaction: usize,
    todo: Vec<usize>,
    /// Sent, and not known to be on the disk.
    in_flight: Option<(usize, Header)>,
    call: Option<CallId>,
}

struct World {
    seed: u64,
    random: Random,
    now_ms: i64,
    coordinator: Coordinator,
    records: Vec<Write>,
    records_synced: usize,
    poisoned: bool,
    ids_reserved: i64,
    parts: Vec<Part>,
    tasks: Vec<Task>,
    clients: Vec<Client>,
    calls: CallId,
    ledger: Vec<Ledger>,
    faults: bool,
    reached: Reached,
}

fn partition(index: usize) -> TopicPartition {
    TopicPartition::new("t", index as i32)
}

fn options() -> Options {
    Options { partitions: 1, ..Options::default() }
}

fn header(producer: Producer, sequence: i32, control: bool) -> Header {
    Header {
        base_offset: 0,
        batch_length: 0,
        leader_epoch: 0,
        magic: 2,
        crc: 0,
        attributes: if control { 0x30 } else { 0x10 },
        last_offset_delta: 0,
        base_timestamp: 0,
        max_timestamp: 0,
        producer_id: producer.id,
        producer_epoch: producer.epoch,
        base_sequence: sequence,
        records_count: 1,
    }
}

impl World {
    fn new(seed: u64) -> World {
        let clients = (0..CLIENTS).map(|number| Client {
            id: Arc::from(format!("id-{}", number % TRANSACTIONAL_IDS)),
            // Of the first id all clients come over the wire, of the last all are of this process.
            local: number % TRANSACTIONAL_IDS == 2 || number == 4,
            producer: None,
            stale: false,
            sequences: HashMap::new(),
            phase: Phase::Fresh,
            transaction: 0,
            todo: Vec::new(),
            in_flight: None,
            call: None,
        });
        World {
            seed,
            random: Random(seed),
            now_ms: 0,
            coordinator: Coordinator::new(options(), vec![0], 0),
            records: Vec::new(),
            records_synced: 0,
            poisoned: false,
            ids_reserved: 0,
            parts: (0..PARTITIONS).map(|_| Part::default()).collect(),
            tasks: Vec::new(),
            clients: clients.collect(),
            calls: 0,
            ledger: Vec::new(),
            faults: true,
            reached: Reached::default(),
        }
    }

    fn run(mut self) {
        self.run_all();
    }

    fn run_all(&mut self) {
        for _ in 0..STEPS {
            match self.random.below(100) {
                0 => self.crash(),
                1..=3 => {
                    self.now_ms += self.random.below(700) as i64;
                    self.step(Input::Tick);
                }
                4..=6 => {
                    let part = self.random.below(PARTITIONS);
                    self.parts[part].sync();
                }
                7..=50 => self.run_task(),
                _ => {
                    let client = self.random.below(CLIENTS);
                    self.run_client(client);
                }
            }
        }
        self.settle();
        self.check();
    }

    // ---- the host ----

    fn step(&mut self, input: Input) {
        let out = self.coordinator.step(input, self.now_ms);
        self.take(out);
    }

    fn take(&mut self, out: Vec<Output>) {
        let mut out = VecDeque::from(out);
        while let Some(output) = out.pop_front() {
            match output {
                Output::Write(write) => {
                    let refused = self.faults && self.random.one_in(40);
                    let result = match (self.poisoned, refused) {
                        (true, _) => Err(WriteError::Unknown),
                        (false, true) => Err(WriteError::Refused),
                        (false, false) => {
                            self.records.push(write.clone());
                            if write.to_disk {
                                let records = self.records.len();
                                self.tasks.push(Task::Sync { write: write.write, records });
                                continue;
                            }
                            Ok(())
                        }
                    };
                    out.extend(
                        self.coordinator.step(Input::Written { write: write.write, result }, self.now_ms),
                    );
                }
                Output::Mark(mark) => self.tasks.push(Task::Mark { mark }),
                Output::ReserveIds { end } => self.tasks.push(Task::Reserve { end }),
                Output::Answer { call, answer } => self.answered(call, answer),
            }
        }
    }

    fn run_task(&mut self) {
        if self.tasks.is_empty() {
            return;
        }
        let index = self.random.below(self.tasks.len());
        match self.tasks.swap_remove(index) {
            Task::Sync { write, records } => {
                if self.poisoned || (self.faults && self.random.one_in(150)) {
                    self.poisoned = true;
                    return self.step(Input::Written { write, result: Err(WriteError::Unknown) });
                }
                self.records_synced = self.records_synced.max(records);
                self.step(Input::Written { write, result: Ok(()) });
            }
            Task::Mark { mut mark } => {
                let Some(at) = mark.partitions.pop() else { return };
                if self.faults && self.random.one_in(20) {
                    mark.partitions.insert(0, at);
                    return self.tasks.push(Task::Mark { mark });
                }
                let marker = Marker { commit: mark.commit, coordinator_epoch: mark.coordinator_epoch };
                let part = &mut self.parts[at.partition as usize];
                let ending = header(mark.producer, -1, true);
                match part.producers.check(&ending, Origin::Coordinator, Some(marker), None) {
                    Verdict::Append => part.push(ending, Some(marker), None),
                    Verdict::Refuse(ProducerError::OldEpoch { .. }) => {}
                    other => panic!("a marker is met by {other:?}"),
                }
                let (transactional_id, producer) = (mark.transactional_id.clone(), mark.producer);
                let partitions = vec![at.clone()];
                self.tasks.push(Task::MarkSync { mark: mark.clone(), at });
                if !mark.partitions.is_empty() {
                    self.tasks.push(Task::Mark { mark });
                }
                self.step(Input::MarkersAppended { transactional_id, producer, partitions });
            }
            Task::MarkSync { mark, at } => {
                self.parts[at.partition as usize].sync();
                let Mark { transactional_id, producer, .. } = mark;
                self.step(Input::MarkersDone { transactional_id, producer, partitions: vec![at] });
            }
            Task::Reserve { end } => {
                if self.faults && self.random.one_in(10) {
                    return self.step(Input::IdsReserved { end: None });
                }
                self.ids_reserved = end;
                self.step(Input::IdsReserved { end: Some(end) });
            }
        }
    }

    fn crash(&mut self) {
        self.reached.crashes += 1;
        let kept = self.records_synced + self.random.below(self.records.len() - self.records_synced + 1);
        self.records.truncate(kept);
        self.records_synced = kept;
        self.poisoned = false;
        self.tasks.clear();
        for part in &mut self.parts {
            part.crash(&mut self.random);
        }
        self.coordinator = Coordinator::new(options(), vec![0], self.ids_reserved);
        for write in &self.records {
            self.coordinator.load(&write.key, write.value.as_deref()).expect("own records are read");
        }
        let out = self.coordinator.finish_loading(self.now_ms);
        self.end_hanging();
        self.take(out);
        for index in 0..CLIENTS {
            self.clients[index].call = None;
            if self.clients[index].local {
                self.give_up(index);
            }
        }
    }

    /// As `hanging` does.
    fn end_hanging(&mut self) {
        let known = self.coordinator.open();
        for (index, part) in self.parts.iter_mut().enumerate() {
            let views: Vec<_> =
                part.producers.views().filter(|view| view.transaction_start_offset >= 0).collect();
            for view in views {
                let is_known = known.iter().any(|(producer, partitions)| {
                    producer.id == view.producer_id
                        && producer.epoch >= view.epoch
                        && partitions.contains(&partition(index))
                });
                if !is_known {
                    self.reached.hanging += 1;
                    let producer = Producer { id: view.producer_id, epoch: view.epoch };
                    let abort = Marker { commit: false, coordinator_epoch: 0 };
                    part.push(header(producer, -1, true), Some(abort), None);
                    part.sync();
                }
            }
        }
    }

    // ---- the clients ----

    fn run_client(&mut self, index: usize) {
        let client = &self.clients[index];
        if client.call.is_some() {
            return;
        }
        let (id, local) = (client.id.clone(), client.local);
        match (client.phase, client.producer) {
            (Phase::Fresh, _) | (_, None) => {
                // Owners change, but not all the time.
                if self.random.one_in(8) {
                    self.call(index, |call| match local {
                        true => Input::OpenLocal { call, transactional_id: id },
                        false => Input::InitProducerId {
                            call,
                            transactional_id: Some(id),
                            timeout_ms: TIMEOUT_MS,
                            expected: None,
                        },
                    });
                }
            }
            (Phase::Ready, Some(producer)) => {
                let wanted = 1 + self.random.below(3);
                let todo: Vec<usize> = (0..wanted).map(|_| self.random.below(PARTITIONS)).collect();
                self.ledger.push(Ledger { outcome: Outcome::Open, batches: Vec::new() });
                let transaction = self.ledger.len() - 1;
                let client = &mut self.clients[index];
                client.transaction = transaction;
                client.todo.clone_from(&todo);
                if !local {
                    client.phase = Phase::Adding;
                    return;
                }
                client.phase = Phase::Writing;
                client.sequences.clear();
                for at in todo {
                    if self.coordinator.add_local(&id, producer, partition(at), self.now_ms).is_err() {
                        return self.give_up(index);
                    }
                }
            }
            (Phase::Adding, Some(producer)) => {
                let partitions = client.todo.iter().map(|at| partition(*at)).collect();
                self.call(index, |call| Input::AddPartitions {
                    call,
                    transactional_id: id,
                    producer,
                    partitions,
                });
            }
            (Phase::Writing, Some(producer)) => self.write(index, producer),
            (Phase::Ending { commit }, Some(producer)) => {
                self.call(index, |call| match local {
                    true => Input::EndLocal { call, transactional_id: id, producer, commit },
                    false => Input::End { call, transactional_id: id, producer, commit },
                });
            }
        }
    }

    fn write(&mut self, index: usize, producer: Producer) {
        let client = &mut self.clients[index];
        let Some((at, batch)) = client.in_flight else {
            if let Some(at) = client.todo.pop() {
                let sequence = client.sequences.get(&at).copied().unwrap_or(0);
                client.in_flight = Some((at, header(producer, sequence, false)));
                return;
            }
            let commit = !self.random.one_in(4);
            if client.local && commit {
                let transaction = client.transaction;
                for at in self.ledger[transaction].batches.clone() {
                    self.parts[at].sync();
                }
            }
            self.clients[index].phase = Phase::Ending { commit };
            return;
        };
        let (id, transaction, stale) = (client.id.clone(), client.transaction, client.stale);
        let part = &mut self.parts[at];
        let guard = part.producers.start_verification(&batch, self.now_ms);
        if guard.is_some() && self.coordinator.verify(&id, producer, &partition(at)).is_err() {
            return self.give_up(index);
        }
        // The answer of the coordinator may be long on its way.
        if guard.is_some() && self.random.one_in(10) {
            for _ in 0..5 {
                self.run_task();
            }
            if self.clients[index].in_flight.is_none() {
                return;
            }
        }
        let number = self.ledger[transaction].batches.len();
        let part = &mut self.parts[at];
        match part.producers.check(&batch, Origin::Client, None, guard) {
            Verdict::Append => {
                assert!(!stale, "a fenced producer appends: {producer:?} of {id}");
                part.push(batch, None, Some((transaction, number)));
            }
            Verdict::Duplicate(_) => self.reached.duplicates += 1,
            Verdict::Refuse(_) => return self.give_up(index),
        }
        // The answer is lost sometimes, and the batch is sent again; a crash may have taken it.
        if !self.clients[index].local {
            if self.random.one_in(5) {
                return;
            }
            self.parts[at].sync();
        }
        let client = &mut self.clients[index];
        client.in_flight = None;
        client.sequences.insert(at, batch.base_sequence + 1);
        self.ledger[transaction].batches.push(at);
    }

    fn call(&mut self, index: usize, input: impl FnOnce(CallId) -> Input) {
        self.calls += 1;
        let call = self.calls;
        self.clients[index].call = Some(call);
        self.step(input(call));
    }

    fn answered(&mut self, call: CallId, answer: Result<Answer, ResponseError>) {
        let Some(index) = self.clients.iter().position(|client| client.call == Some(call)) else { return };
        let client = &mut self.clients[index];
        client.call = None;
        match (client.phase, answer) {
            (Phase::Fresh, Ok(Answer::Producer(producer))) => {
                client.producer = Some(producer);
                client.sequences.clear();
                client.phase = Phase::Ready;
                client.stale = false;
                let id = client.id.clone();
                for (other, client) in self.clients.iter_mut().enumerate() {
                    if other != index && client.id == id && client.producer.is_some() {
                        client.stale = true;
                        self.reached.fenced += 1;
                    }
                }
            }
            (Phase::Adding, Ok(_)) => client.phase = Phase::Writing,
            (Phase::Ending { commit }, Ok(answer)) => {
                client.phase = Phase::Ready;
                if let Answer::Producer(producer) = answer {
                    client.producer = Some(producer);
                }
                let (transaction, local) = (client.transaction, client.local);
                self.reached.local += usize::from(local);
                let ledger = &mut self.ledger[transaction];
                assert_eq!(ledger.outcome, Outcome::Open);
                ledger.outcome = if commit { Outcome::Committed } else { Outcome::Void };
                self.reached.committed += usize::from(commit);
                self.reached.aborted += usize::from(!commit);
            }
            // Asked again.
            (Phase::Fresh, Err(_)) => {}
            (_, Err(ResponseError::ConcurrentTransactions | ResponseError::CoordinatorNotAvailable)) => {}
            (_, Err(_)) => self.give_up(index),
            (phase, answer) => panic!("{answer:?} in {phase:?}"),
        }
    }

    /// The client begins anew; what it had open must vanish, unless it asked for a commit.
    fn give_up(&mut self, index: usize) {
        let client = &mut self.clients[index];
        let open = !matches!(client.phase, Phase::Fresh | Phase::Ready);
        if open {
            let ledger = &mut self.ledger[client.transaction];
            let asked = client.phase == Phase::Ending { commit: true };
            ledger.outcome = if asked { Outcome::InDoubt } else { Outcome::Void };
            self.reached.in_doubt += usize::from(asked);
        }
        client.phase = Phase::Fresh;
        client.producer = None;
        client.stale = false;
        client.in_flight = None;
        client.call = None;
        client.todo.clear();
    }

    // ---- the end ----

    /// The faults stop and nobody writes any more; time goes on.
    fn settle(&mut self) {
        self.faults = false;
        if self.poisoned {
            self.crash();
        }
        for index in 0..CLIENTS {
            self.give_up(index);
        }
        for round in 0..100 {
            while !self.tasks.is_empty() {
                self.run_task();
            }
            self.now_ms += 100;
            self.step(Input::Tick);
            // Owners of this process that are gone are followed by others.
            for index in 0..CLIENTS {
                let client = &self.clients[index];
                if client.local && client.phase == Phase::Fresh && client.call.is_none() && round < 90 {
                    let id = client.id.clone();
                    self.call(index, |call| Input::OpenLocal { call, transactional_id: id });
                }
            }
        }
    }

    fn check(&mut self) {
        let seed = self.seed;
        assert!(
            self.tasks.is_empty() && self.coordinator.completing.is_empty(),
            "seed {seed}: it still moves"
        );
        let mut seen: HashMap<usize, Vec<(usize, usize)>> = HashMap::new();
        for (index, part) in self.parts.iter_mut().enumerate() {
            let stable = part.producers.last_stable_offset(part.next, 0);
            assert_eq!(stable, part.next, "seed {seed}: partition {index} stays unstable");
            for (transaction, number) in part.visible() {
                seen.entry(transaction).or_default().push((number, index));
            }
        }
        for (transaction, ledger) in self.ledger.iter().enumerate() {
            let mut visible = seen.remove(&transaction).unwrap_or_default();
            visible.sort_unstable();
            let whole: Vec<(usize, usize)> = ledger.batches.iter().copied().enumerate().collect();
            let right = match ledger.outcome {
                Outcome::Committed => visible == whole,
                Outcome::Void => visible.is_empty(),
                Outcome::InDoubt => visible.is_empty() || visible == whole,
                Outcome::Open => false,
            };
            let outcome = ledger.outcome;
            assert!(
                right,
                "seed {seed}: transaction {transaction} ({outcome:?}) of {whole:?} shows {visible:?}"
            );
        }
    }
}
