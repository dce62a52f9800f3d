//! What the tests of the channels share: events with numbers, and a driver that uses a channel at random and holds it
//! against what it was given.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use flow_agent::{Channel, ChannelError, Transaction};
use flow_plan::batch::Columns;
use flow_plan::{Ack, Batch, Outcome};

/// Header names that have slots.
pub const SLOTS: [&str; 3] = ["number", "host", "empty"];

pub fn slots() -> Arc<Vec<String>> {
    Arc::new(SLOTS.map(str::to_owned).to_vec())
}

/// Small numbers from a seed (splitmix64).
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound.max(1)
    }

    fn bytes(&mut self, max: u64) -> Vec<u8> {
        (0..self.below(max + 1)).map(|_| self.below(256) as u8).collect()
    }
}

/// Events `from..from + count` whose bodies are their numbers.
pub fn numbered(from: u64, count: u64) -> Batch {
    let mut columns = Columns { source: Arc::from("in"), first_id: from, ..Columns::default() };
    for number in from..from + count {
        columns.push(number.to_string().as_bytes(), number as i64).unwrap();
    }
    Batch::new(columns)
}

/// The numbers of [`numbered`] events.
pub fn numbers(batches: &[Batch]) -> Vec<u64> {
    let number = |batch: &Batch, row: u32| String::from_utf8_lossy(batch.body(row)).parse().unwrap();
    batches
        .iter()
        .flat_map(|batch| batch.rows.iter().map(|&row| number(batch, row)).collect::<Vec<_>>())
        .collect()
}

/// Events with everything that an event can have; some rows are not selected.
pub fn strange(random: &mut Random, count: u64) -> Batch {
    let slots = slots();
    let mut columns =
        Columns { source: Arc::from("ä source"), first_id: random.below(u64::MAX), ..Columns::default() };
    let by_row = random.below(2) == 0;
    for index in 0..count {
        let time = match random.below(10) {
            0 => i64::MIN,
            1 => i64::MAX,
            2 => -1,
            _ => random.below(1 << 42) as i64,
        };
        let body = random.bytes(40);
        if index == 3 && by_row {
            columns.ids = (0..3).map(|index| columns.first_id.wrapping_add(index)).collect();
        }
        let row = columns.push(&body, time).unwrap();
        if let Some(id) = columns.ids.last_mut() {
            *id = random.below(u64::MAX);
        }
        for name in ["host", "empty", "not a slot", "another ö"] {
            if random.below(3) > 0 {
                let value = if name == "empty" { Vec::new() } else { random.bytes(20) };
                columns.set_header_named(row, name, &value, &slots).unwrap();
            }
        }
    }
    let mut batch = Batch::new(columns);
    batch.rows.retain(|_| random.below(4) > 0);
    batch
}

/// Everything that one event is.
pub type Event = (Vec<u8>, i64, u64, String, Vec<(String, Vec<u8>)>);

pub fn events(batches: &[Batch]) -> Vec<Event> {
    let slots = slots();
    let mut events = Vec::new();
    for batch in batches {
        for &row in &batch.rows {
            let mut headers: Vec<(String, Vec<u8>)> =
                batch.headers(row, &slots).map(|(name, value)| (name.to_owned(), value.to_vec())).collect();
            headers.sort();
            let source = batch.columns.source.to_string();
            let id = batch.columns.event_id(row);
            events.push((batch.body(row).to_vec(), batch.time_ms(row), id, source, headers));
        }
    }
    events
}

/// What was heard of the puts of a driver.
#[derive(Default)]
struct Heard {
    /// How often the world has ended: what is heard of earlier ones does not count.
    world: u64,
    done: BTreeSet<u64>,
    lost: BTreeSet<u64>,
}

/// Uses a channel at random. `open` opens it again on what the last one left.
pub struct Driver {
    random: Random,
    next: u64,
    heard: Arc<Mutex<Heard>>,
    /// Committed by a transaction whose commit was reported.
    committed: BTreeSet<u64>,
    /// Their commit was tried and failed: they are safe elsewhere, and may come again.
    unknown: BTreeSet<u64>,
    pub lost_acknowledged: Vec<u64>,
    pub repeated: u64,
    /// Transactions are committed in the order in which they were taken.
    pub in_order: bool,
}

impl Driver {
    pub fn new(seed: u64) -> Driver {
        Driver {
            random: Random(seed),
            next: 0,
            heard: Arc::default(),
            committed: BTreeSet::new(),
            unknown: BTreeSet::new(),
            lost_acknowledged: Vec::new(),
            repeated: 0,
            in_order: false,
        }
    }

    fn batch(&mut self) -> Batch {
        let count = 1 + self.random.below(20);
        let (from, heard) = (self.next, self.heard.clone());
        let world = self.heard.lock().unwrap().world;
        self.next += count;
        let mut batch = numbered(from, count);
        batch.ack = Ack::new(move |outcome| {
            let mut heard = heard.lock().unwrap();
            if heard.world != world {
                return;
            }
            match outcome {
                Outcome::Delivered => heard.done.extend(from..from + count),
                Outcome::Lost => heard.lost.extend(from..from + count),
            }
        });
        batch
    }

    /// Some puts, takes, commits and give-backs, then the channel is dropped with what is open.
    pub async fn use_it(&mut self, channel: Arc<dyn Channel>, steps: u64) {
        let mut open: Vec<Box<dyn Transaction>> = Vec::new();
        let mut last = None;
        for _ in 0..steps {
            match self.random.below(10) {
                0..=4 => {
                    let batch = self.batch();
                    // Full, or broken: the batch is dropped, so its source hears that it is lost.
                    let _ = channel.try_put(batch);
                }
                5..=7 if channel.status().events > open.iter().map(|one| count(&**one)).sum::<u64>() => {
                    let max = 1 + self.random.below(30) as usize;
                    match channel.take(max).await {
                        Ok(Some(transaction)) => {
                            let taken = numbers(transaction.batches());
                            assert!(
                                taken.windows(2).all(|pair| pair[0] < pair[1]),
                                "out of order: {taken:?}"
                            );
                            assert!(taken.len() <= max);
                            if open.is_empty() {
                                assert!(last < taken.first().copied(), "{last:?} came before {taken:?}");
                            }
                            open.push(transaction);
                        }
                        Ok(None) => panic!("the channel ended"),
                        Err(ChannelError::Fault(_)) => break,
                        Err(error) => panic!("{error}"),
                    }
                }
                8 if !open.is_empty() => {
                    let index = self.random.below(open.len() as u64) as usize;
                    let transaction = open.remove(if self.in_order { 0 } else { index });
                    let taken = numbers(transaction.batches());
                    if open.is_empty() {
                        last = last.max(taken.last().copied());
                    }
                    match transaction.commit().await {
                        Ok(()) => self.commit(taken),
                        Err(_) => self.unknown.extend(taken),
                    }
                }
                9 => {
                    // All go back, so that the next one taken is the first of all.
                    open.clear();
                    last = None;
                }
                _ => {}
            }
        }
    }

    /// The machine is about to crash: threads of the channel that go on behind that have nobody to tell anything.
    pub fn stop_listening(&self) {
        self.heard.lock().unwrap().world += 1;
    }

    fn commit(&mut self, taken: Vec<u64>) {
        for number in taken {
            if !self.committed.insert(number) {
                self.repeated += 1;
            }
        }
    }

    /// Empties the channel: everything acknowledged and not committed is in it, in order.
    pub async fn empty(&mut self, channel: Arc<dyn Channel>) {
        channel.close();
        let mut all = Vec::new();
        while let Some(transaction) = channel.take(50).await.unwrap() {
            all.extend(numbers(transaction.batches()));
            transaction.commit().await.unwrap();
        }
        assert!(all.windows(2).all(|pair| pair[0] < pair[1]), "out of order: {all:?}");
        assert_eq!(channel.status().events, 0);
        let found: BTreeSet<u64> = all.iter().copied().collect();
        let heard = self.heard.lock().unwrap();
        let missing = |number: &&u64| {
            !found.contains(number) && !self.committed.contains(number) && !self.unknown.contains(number)
        };
        self.lost_acknowledged = heard.done.iter().filter(missing).copied().collect();
        self.repeated += all.iter().filter(|number| self.committed.contains(number)).count() as u64;
        let known = |number: &u64| *number < self.next;
        assert!(found.iter().all(known), "something was never put");
    }

    /// How many events were acknowledged as kept.
    pub fn acknowledged(&self) -> usize {
        self.heard.lock().unwrap().done.len()
    }
}

fn count(transaction: &dyn Transaction) -> u64 {
    transaction.batches().iter().map(|batch| batch.len() as u64).sum()
}
