//! The ordered list of what this server's clients asked for and the log has not brought back yet. It is sent to the
//! leader in pieces, and again from the first one after a change of leader; the state passes over repeats. It knows
//! neither leaders nor connections.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use super::Answer;
use crate::proto::{Code, Request};
use crate::state::{Entry, Op, Origin, Outcome, Txn};

/// Transactions in one entry.
pub(crate) const ENTRY_TXNS_MAX: usize = 1000;
/// Bytes in one entry, unless a transaction alone is larger.
const ENTRY_BYTES_MAX: usize = 1 << 20;
/// Entries on the way. Few, so that under load they are large: that saves more than more of them would win.
const FLIGHTS_MAX: usize = 4;
/// Transactions that may wait; further ones are given up at once. Connections bound what they have pending far below.
pub(crate) const WAITING_MAX: usize = 1 << 18;
/// Bytes that may wait.
const WAITING_BYTES_MAX: usize = 512 << 20;
/// Largest transaction.
const TXN_BYTES_MAX: usize = 64 << 20;
/// What a transaction takes besides its strings and data.
const TXN_BYTES: usize = 64;

/// See the module.
pub(crate) struct Outbox {
    origin: Origin,
    list: Mutex<List>,
    /// There is something to send, or room for it.
    pub wake: Notify,
}

struct List {
    next_serial: u64,
    flights: VecDeque<Flight>,
    /// How many of the flights went to the leader of the present session.
    sent: usize,
    waiting: VecDeque<Waiting>,
    /// Of both, transactions and bytes.
    count: usize,
    bytes: usize,
    closed: bool,
    /// A leader did not take what was sent.
    refused: bool,
}

struct Waiting {
    txn: Txn,
    answer: Answer,
    bytes: usize,
}

struct Flight {
    entry: Arc<Entry>,
    encoded: Bytes,
    answers: VecDeque<Answer>,
    bytes: usize,
}

/// What is to be sent next.
pub(crate) struct Send {
    pub entry: Arc<Entry>,
    pub encoded: Bytes,
}

impl Outbox {
    pub(crate) fn new(origin: Origin) -> Outbox {
        let list = List {
            next_serial: 1,
            flights: VecDeque::new(),
            sent: 0,
            waiting: VecDeque::new(),
            count: 0,
            bytes: 0,
            closed: false,
            refused: false,
        };
        Outbox { origin, list: Mutex::new(list), wake: Notify::new() }
    }

    pub(crate) fn origin(&self) -> Origin {
        self.origin
    }

    fn lock(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a transaction up. It is answered when it was applied, or given up.
    pub(crate) fn push(&self, txn: Txn, answer: Answer) {
        let bytes = txn_bytes(&txn);
        let mut list = self.lock();
        let full = list.count >= WAITING_MAX || (list.count > 0 && list.bytes + bytes > WAITING_BYTES_MAX);
        if list.closed || full || bytes > TXN_BYTES_MAX {
            let code = if bytes > TXN_BYTES_MAX { Code::BadArguments } else { Code::ConnectionLoss };
            drop(list);
            return answer(Outcome { serial: 0, zxid: 0, result: Err(code) });
        }
        list.count += 1;
        list.bytes += bytes;
        list.waiting.push_back(Waiting { txn, answer, bytes });
        let wake = list.sent == list.flights.len() && list.flights.len() < FLIGHTS_MAX;
        drop(list);
        if wake {
            self.wake.notify_one();
        }
    }

    /// How many wait or are on the way.
    pub(crate) fn len(&self) -> usize {
        self.lock().count
    }

    /// Everything that is on the way is to be sent again: the leader or the way to it is another.
    pub(crate) fn rewind(&self) {
        self.lock().sent = 0;
    }

    /// The leader did not take something: as right after its election, when it has not heard of a quorum yet.
    pub(crate) fn refuse(&self) {
        self.lock().refused = true;
        self.wake.notify_one();
    }

    /// Whether something was refused since this was asked last.
    pub(crate) fn take_refused(&self) -> bool {
        std::mem::take(&mut self.lock().refused)
    }

    /// What is to be sent now; `None` if nothing is or enough is on the way. `now_ms` is the wall clock.
    pub(crate) fn next(&self, now_ms: i64) -> Option<Send> {
        let mut list = self.lock();
        let list = &mut *list;
        if list.sent == list.flights.len() {
            if list.flights.len() >= FLIGHTS_MAX || list.waiting.is_empty() {
                return None;
            }
            list.take_off(self.origin, now_ms);
        }
        let flight = list.flights.get(list.sent)?;
        list.sent += 1;
        Some(Send { entry: flight.entry.clone(), encoded: flight.encoded.clone() })
    }

    /// Something was sent in this session and is not back yet.
    pub(crate) fn is_waiting(&self) -> bool {
        self.lock().sent > 0
    }

    /// Calls the answers of outcomes of this server's transactions, in order.
    pub(crate) fn complete(&self, outcomes: &[Outcome]) {
        let Some(last) = outcomes.last() else { return };
        // The answers are called without the lock.
        let mut outcomes = outcomes.iter().peekable();
        for (first, answers) in self.land(last.serial) {
            for (serial, answer) in (first..).zip(answers) {
                while outcomes.next_if(|outcome| outcome.serial < serial).is_some() {}
                match outcomes.next_if(|outcome| outcome.serial == serial) {
                    Some(outcome) => answer(outcome.clone()),
                    None => answer(lost(serial)),
                }
            }
        }
    }

    /// Gives up transactions up to `serial`: they were applied, but what came of them is not known here.
    pub(crate) fn pass_over(&self, serial: u64) {
        for (first, answers) in self.land(serial) {
            (first..).zip(answers).for_each(|(serial, answer)| answer(lost(serial)));
        }
    }

    /// Gives everything up, and whatever comes later.
    pub(crate) fn close(&self) {
        let mut list = self.lock();
        list.closed = true;
        let flights = std::mem::take(&mut list.flights);
        let waiting = std::mem::take(&mut list.waiting);
        (list.sent, list.count, list.bytes) = (0, 0, 0);
        drop(list);
        let flying = flights.into_iter().flat_map(|flight| flight.answers);
        flying.chain(waiting.into_iter().map(|one| one.answer)).for_each(|answer| answer(lost(0)));
    }

    /// Takes out the answers of flights up to a serial. An entry is applied as a whole.
    fn land(&self, serial: u64) -> Vec<(u64, VecDeque<Answer>)> {
        let mut landed = Vec::new();
        let mut list = self.lock();
        while let Some(flight) = list.flights.front() {
            if flight.entry.first_serial > serial {
                break;
            }
            let Some(flight) = list.flights.pop_front() else { break };
            list.sent = list.sent.saturating_sub(1);
            list.count -= flight.answers.len();
            list.bytes -= flight.bytes;
            landed.push((flight.entry.first_serial, flight.answers));
        }
        let more = !list.waiting.is_empty();
        drop(list);
        if more && !landed.is_empty() {
            self.wake.notify_one();
        }
        landed
    }
}

impl List {
    /// Makes an entry of what waits.
    fn take_off(&mut self, origin: Origin, now_ms: i64) {
        let mut txns = Vec::new();
        let mut answers = VecDeque::new();
        let mut bytes = 0;
        while let Some(next) = self.waiting.front() {
            if txns.len() >= ENTRY_TXNS_MAX || (!txns.is_empty() && bytes + next.bytes > ENTRY_BYTES_MAX) {
                break;
            }
            let Some(next) = self.waiting.pop_front() else { break };
            bytes += next.bytes;
            txns.push(next.txn);
            answers.push_back(next.answer);
        }
        let entry = Entry { time_ms: now_ms, origin, first_serial: self.next_serial, txns };
        self.next_serial += answers.len() as u64;
        let mut encoded = Vec::with_capacity(bytes + TXN_BYTES);
        entry.encode(&mut encoded);
        self.flights.push_back(Flight { entry: Arc::new(entry), encoded: encoded.into(), answers, bytes });
    }
}

fn lost(serial: u64) -> Outcome {
    Outcome { serial, zxid: 0, result: Err(Code::ConnectionLoss) }
}

/// About how large a transaction is.
fn txn_bytes(txn: &Txn) -> usize {
    let ids = txn.ids.len() * TXN_BYTES;
    TXN_BYTES
        + ids
        + match &txn.op {
            Op::Request(request) => request_bytes(request),
            Op::Attach { password, .. } => password.len(),
            Op::Expire { sessions } => sessions.len() * 8,
            Op::DeleteContainers { paths } => paths.iter().map(|path| path.len() + 8).sum(),
            Op::Membership { text } => text.len(),
            _ => 0,
        }
}

fn request_bytes(request: &Request) -> usize {
    match request {
        Request::Create(create) => {
            create.path.len()
                + create.data.as_ref().map_or(0, |data| data.len())
                + create.acl.len() * TXN_BYTES
        }
        Request::SetData { path, data, .. } => path.len() + data.as_ref().map_or(0, |data| data.len()),
        Request::SetAcl { path, acl, .. } => path.len() + acl.len() * TXN_BYTES,
        Request::Delete { path, .. } | Request::Check { path, .. } => path.len(),
        Request::Multi(requests) => requests.iter().map(|one| TXN_BYTES + request_bytes(one)).sum(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::Response;

    fn txn() -> Txn {
        Txn { session: 1, connection: 1, ids: Arc::from([]), op: Op::CloseSession }
    }

    type Answers = Arc<Mutex<Vec<(u64, bool)>>>;

    fn outbox() -> (Outbox, Answers) {
        (Outbox::new(Origin { server: 1, incarnation: 7 }), Arc::default())
    }

    fn push(outbox: &Outbox, answers: &Answers, number: u64) {
        let answers = answers.clone();
        outbox.push(
            txn(),
            Box::new(move |outcome| answers.lock().unwrap().push((number, outcome.result.is_ok()))),
        );
    }

    fn done(serials: std::ops::Range<u64>) -> Vec<Outcome> {
        serials.map(|serial| Outcome { serial, zxid: 1, result: Ok(Response::Empty) }).collect()
    }

    #[test]
    fn what_is_not_back_is_sent_again_in_order_and_answered_once() {
        let (outbox, answers) = outbox();
        (0..3).for_each(|number| push(&outbox, &answers, number));
        let first = outbox.next(5).unwrap();
        assert_eq!((first.entry.first_serial, first.entry.txns.len()), (1, 3));
        push(&outbox, &answers, 3);
        assert_eq!(outbox.next(6).unwrap().entry.first_serial, 4);
        assert!(outbox.next(7).is_none());
        outbox.rewind();
        assert_eq!(outbox.next(8).unwrap().encoded, first.encoded);
        outbox.complete(&done(1..4));
        assert_eq!(*answers.lock().unwrap(), [(0, true), (1, true), (2, true)]);
        // The second went with the session before.
        assert_eq!(outbox.next(9).unwrap().entry.first_serial, 4);
        outbox.pass_over(4);
        assert_eq!(answers.lock().unwrap().last(), Some(&(3, false)));
        assert_eq!(outbox.len(), 0);
    }

    #[test]
    fn no_more_than_a_few_entries_are_on_the_way() {
        let (outbox, answers) = outbox();
        for number in 0..10 {
            push(&outbox, &answers, number);
            let sent = outbox.next(1).is_some();
            assert_eq!(sent, number < FLIGHTS_MAX as u64);
        }
        outbox.complete(&done(1..2));
        let next = outbox.next(1).unwrap();
        assert_eq!((next.entry.first_serial, next.entry.txns.len()), (5, 6));
        outbox.close();
        assert_eq!(answers.lock().unwrap().len(), 10);
        push(&outbox, &answers, 10);
        assert_eq!(answers.lock().unwrap().last(), Some(&(10, false)));
    }
}
