//! Contenders in turn: thread processor time by round, and whether they agree. Knows nothing of what they do.

use rustix::time::{ClockId, clock_gettime};

use crate::answers::{self, Answer};
use crate::rows::Data;

/// Somebody who does the work of a workload on all its batches.
pub trait Contender {
    /// Makes what the work consumes and lets go what the last run gave; not timed.
    fn prepare(&mut self);

    /// Timed.
    fn run(&mut self);

    /// What the last run said of the rows left, in order of batch and row.
    fn answers(&self) -> Vec<Answer>;

    /// What else is to be told.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }
}

pub type Named<'d> = (&'static str, Box<dyn Contender + 'd>);

/// What a contender took.
pub struct Found {
    pub name: &'static str,
    /// Nanoseconds an event, by round.
    pub ns: Vec<f64>,
    pub rows: usize,
    pub hash: u64,
    pub notes: Vec<String>,
}

impl Found {
    pub fn median(&self) -> f64 {
        median(self.ns.clone())
    }

    pub fn least(&self) -> f64 {
        self.ns.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// How many times faster than `other`: the median of the ratios within a round.
    pub fn speed(&self, other: &Found) -> f64 {
        median(self.ns.iter().zip(&other.ns).map(|(own, other)| other / own).collect())
    }
}

/// Nanoseconds of the processor that this thread has had.
pub fn thread_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Runs all, `rounds` times; the first round before that warms up and is not counted.
///
/// # Panics
///
/// When two do not say the same.
pub fn run(mut contenders: Vec<Named<'_>>, data: &Data, rounds: usize) -> Vec<Found> {
    let events = data.events() as f64;
    for (_, contender) in &mut contenders {
        contender.prepare();
        contender.run();
    }
    let expected = compare(&contenders);
    let mut ns = vec![Vec::with_capacity(rounds); contenders.len()];
    for round in 0..rounds {
        for turn in 0..contenders.len() {
            let turn = (turn + round) % contenders.len();
            let contender = &mut contenders[turn].1;
            contender.prepare();
            let begin = thread_ns();
            contender.run();
            let end = thread_ns();
            ns[turn].push((end - begin) as f64 / events);
        }
    }
    assert_eq!(expected, compare(&contenders), "the last round gave something else than the first");
    let (rows, hash) = expected;
    let each = contenders.iter().zip(ns);
    each.map(|((name, contender), ns)| Found { name, ns, rows, hash, notes: contender.notes() }).collect()
}

/// The number of rows left and the hash of what all say.
fn compare(contenders: &[Named<'_>]) -> (usize, u64) {
    let Some(((first, contender), others)) = contenders.split_first() else { return (0, 0) };
    let expected = contender.answers();
    for (name, contender) in others {
        if let Some(difference) = answers::difference(&expected, &contender.answers()) {
            panic!("`{first}` and `{name}` differ:\n{difference}");
        }
    }
    (expected.len(), answers::hash(&expected))
}
