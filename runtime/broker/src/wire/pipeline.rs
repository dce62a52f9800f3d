//! The requests of one connection that are being answered, in the order they came in.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use super::connection::Closed;
use super::frame::Start;
use crate::api::{Api, Handling, Order, Reply};

#[derive(Default)]
pub(super) struct Pipeline {
    slots: VecDeque<Slot>,
    /// Of the requests in `slots`.
    bytes: usize,
}

/// A request and where it stands.
struct Slot {
    head: Head,
    state: State,
    bytes: usize,
    /// The memory that was granted for a large request.
    _memory: Option<OwnedSemaphorePermit>,
}

/// What is needed of a request to send its answer.
#[derive(Clone, Copy)]
pub(super) struct Head {
    pub start: Start,
    pub api: &'static Api,
    /// A message of SASL alone, whose answer has no header either.
    pub bare: bool,
}

enum State {
    /// Behind one that it must not overtake.
    Waiting(Bytes),
    Running(Handling),
    Done(Reply),
}

impl Pipeline {
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes a request at the end; `poll` starts it.
    pub(super) fn push(&mut self, head: Head, frame: Bytes, memory: Option<OwnedSemaphorePermit>) {
        let bytes = frame.len();
        self.bytes += bytes;
        self.slots.push_back(Slot { head, state: State::Waiting(frame), bytes, _memory: memory });
    }

    /// Takes a request whose answer is known.
    pub(super) fn push_answer(&mut self, head: Head, reply: Reply) {
        self.slots.push_back(Slot { head, state: State::Done(reply), bytes: 0, _memory: None });
    }

    /// Whether `pop` has something.
    pub(super) fn has_answer(&self) -> bool {
        self.slots.front().is_some_and(|slot| matches!(slot.state, State::Done(_)))
    }

    /// Whether a request that changes something is not yet done.
    pub(super) fn is_changing(&self) -> bool {
        self.slots
            .iter()
            .any(|slot| slot.head.api.order != Order::Beside && !matches!(slot.state, State::Done(_)))
    }

    /// Starts what may start, and goes on with what runs. `start` makes the future of a request.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut start: impl FnMut(Head, Bytes) -> Result<Handling, Closed>,
    ) -> Result<(), Closed> {
        let (mut ordered, mut append) = (false, false);
        for slot in &mut self.slots {
            let order = slot.head.api.order;
            if let State::Waiting(frame) = &mut slot.state {
                // See `Order`: nobody overtakes a change, but for one append behind another.
                if ordered || (append && order != Order::Append) {
                    (ordered, append) =
                        (ordered | (order == Order::Ordered), append | (order == Order::Append));
                    continue;
                }
                let frame = std::mem::take(frame);
                slot.state = State::Running(start(slot.head, frame)?);
            }
            if let State::Running(handling) = &mut slot.state {
                // A handler that panics takes its own connection with it and nothing else.
                match catch_unwind(AssertUnwindSafe(|| handling.as_mut().poll(cx))) {
                    Ok(Poll::Ready(reply)) => slot.state = State::Done(reply),
                    Ok(Poll::Pending) => {
                        ordered |= order == Order::Ordered;
                        append |= order == Order::Append;
                    }
                    Err(panic) => {
                        let (api, reason) = (slot.head.api.name, reason(&*panic));
                        // What panicked must not be polled again.
                        slot.state = State::Done(Reply::None);
                        return Err(Closed::Panicked { api, reason });
                    }
                }
            }
        }
        Ok(())
    }

    /// The answer to the oldest request, when it is there.
    pub(super) fn pop(&mut self) -> Option<(Head, Reply)> {
        if !matches!(self.slots.front()?.state, State::Done(_)) {
            return None;
        }
        let slot = self.slots.pop_front()?;
        self.bytes -= slot.bytes;
        match slot.state {
            State::Done(reply) => Some((slot.head, reply)),
            State::Waiting(_) | State::Running(_) => None,
        }
    }

    /// Whether the newest request is of one of these APIs and not yet answered.
    pub(super) fn ends_with(&self, keys: &[i16]) -> bool {
        self.slots
            .back()
            .is_some_and(|slot| keys.contains(&slot.head.start.key) && !matches!(slot.state, State::Done(_)))
    }

    /// What must be brought to its end although nobody waits for the answer: requests that change something and have
    /// begun.
    pub(super) fn into_unfinished(self) -> Vec<Handling> {
        let running = self.slots.into_iter().filter_map(|slot| match slot.state {
            State::Running(handling) if slot.head.api.order != Order::Beside => Some(handling),
            _ => None,
        });
        running.collect()
    }
}

fn reason(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::sync::Notify;

    use super::*;

    const fn api(key: i16, order: Order) -> Api {
        Api {
            key,
            name: "Test",
            versions: kafka_protocol::protocol::VersionRange { min: 0, max: 0 },
            order,
            request_header: |_| 1,
            response_header: |_| 0,
            check: |_, _| Ok(()),
            start: |_, _, _| unreachable!(),
        }
    }
    static ORDERED: Api = api(1, Order::Ordered);
    static BESIDE: Api = api(2, Order::Beside);
    static APPEND: Api = api(3, Order::Append);

    /// A pipeline whose requests end when they are told to.
    struct Bench {
        pipeline: Pipeline,
        ends: Vec<Arc<Notify>>,
        started: Arc<Mutex<Vec<i32>>>,
    }

    impl Bench {
        fn new(apis: &[&'static Api]) -> Bench {
            let mut pipeline = Pipeline::default();
            for (id, api) in apis.iter().enumerate() {
                let start = Start { key: api.key, version: 0, correlation_id: id as i32 };
                pipeline.push(Head { start, api, bare: false }, Bytes::new(), None);
            }
            let ends = apis.iter().map(|_| Arc::new(Notify::new())).collect();
            Bench { pipeline, ends, started: Arc::default() }
        }

        /// Ids of the requests that were started, and of the answers that came out.
        fn poll(&mut self) -> (Vec<i32>, Vec<i32>) {
            let mut cx = Context::from_waker(std::task::Waker::noop());
            let (ends, started) = (&self.ends, &self.started);
            let polled = self.pipeline.poll(&mut cx, |head, _| {
                let end = Arc::clone(&ends[head.start.correlation_id as usize]);
                started.lock().unwrap().push(head.start.correlation_id);
                Ok(Box::pin(async move {
                    end.notified().await;
                    Reply::None
                }))
            });
            polled.unwrap();
            let answers = std::iter::from_fn(|| self.pipeline.pop());
            let answers = answers.map(|(head, _)| head.start.correlation_id).collect();
            (std::mem::take(&mut self.started.lock().unwrap()), answers)
        }

        fn end(&self, id: usize) {
            self.ends[id].notify_one();
        }
    }

    #[test]
    fn answers_keep_the_order_of_the_requests() {
        let mut bench = Bench::new(&[&BESIDE, &BESIDE, &BESIDE]);
        assert_eq!(bench.poll(), (vec![0, 1, 2], vec![]));
        bench.end(2);
        bench.end(1);
        assert_eq!(bench.poll(), (vec![], vec![]));
        bench.end(0);
        assert_eq!(bench.poll(), (vec![], vec![0, 1, 2]));
        assert!(bench.pipeline.is_empty());
    }

    #[test]
    fn appends_start_behind_appends_and_nothing_overtakes_them() {
        let mut bench = Bench::new(&[&APPEND, &APPEND, &BESIDE, &APPEND]);
        // The fourth is an append too, and the one before it, which only looks, sees two of the three.
        assert_eq!(bench.poll(), (vec![0, 1, 3], vec![]));
        bench.end(0);
        assert_eq!(bench.poll(), (vec![], vec![0]));
        bench.end(1);
        assert_eq!(bench.poll(), (vec![2], vec![1]));
    }

    #[test]
    fn a_change_waits_for_changes_but_not_for_a_long_poll() {
        let mut bench = Bench::new(&[&BESIDE, &ORDERED, &ORDERED, &BESIDE]);
        assert_eq!(bench.poll(), (vec![0, 1], vec![]));
        bench.end(1);
        assert_eq!(bench.poll(), (vec![2], vec![]));
        bench.end(2);
        assert_eq!(bench.poll(), (vec![3], vec![]));
        assert!(!bench.pipeline.is_changing());
    }

    #[test]
    fn a_panic_names_the_api_and_ends_the_connection_only() {
        let mut pipeline = Pipeline::default();
        let start = Start { key: 1, version: 0, correlation_id: 0 };
        pipeline.push(Head { start, api: &ORDERED, bare: false }, Bytes::new(), None);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let polled = pipeline.poll(&mut cx, |_, _| Ok(Box::pin(async { panic!("out of cheese") })));
        assert!(matches!(polled, Err(Closed::Panicked { api: "Test", reason }) if reason == "out of cheese"));
        assert!(pipeline.into_unfinished().is_empty());
    }
}
