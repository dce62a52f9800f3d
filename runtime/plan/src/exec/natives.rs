//! Interceptors with state: one instance for a step of the text, also when several sources run through it, and the
//! order in which their batches are confirmed when a step drops what it has let through before. It must not know
//! what an interceptor remembers.
//!
//! # A repeated event and its first time
//!
//! When `dedupe` drops an event, the source of the repeated one hears that it is delivered. That is true only when
//! the first one is delivered: it may be waiting in a memory channel, or its batch may be given up (a client that
//! does not wait, a flow that stops). So a batch from which such a step dropped rows is confirmed only with all
//! batches that had passed the step and were open at that moment, and a lost batch takes along what the step
//! learned from it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::ack::{Ack, Outcome};
use crate::batch::Batch;
use crate::interceptor::{Failed, Interceptor};
use crate::ir;
use crate::plan::Output;

/// The interceptors with state of an agent, by the place of their step. Programs that are built with the same
/// `Natives` share the instance of a step that they have in common (`[a, b] -> dedupe -> c`).
#[derive(Default)]
pub struct Natives {
    by_place: Mutex<BTreeMap<String, Arc<Native>>>,
    turn: Turn,
}

/// Programs with a step that remembers run one at a time. Otherwise two batches could pass two shared steps in
/// different orders, and each be confirmed only with the other: never.
#[derive(Clone, Default)]
pub(super) struct Turn(Arc<Mutex<()>>);

impl Turn {
    pub fn take(&self) -> MutexGuard<'_, ()> {
        lock(&self.0)
    }
}

impl Natives {
    pub fn new() -> Natives {
        Natives::default()
    }

    pub(super) fn turn(&self) -> Turn {
        self.turn.clone()
    }

    /// The instance of a place: what is there, or `made`. `renew`: what is there begins anew as `made`, for all
    /// programs that share it.
    pub(super) fn at(&self, place: String, made: Box<dyn Interceptor>, renew: bool) -> Arc<Native> {
        let mut by_place = lock(&self.by_place);
        match by_place.get(&place) {
            Some(native) => {
                if renew {
                    let mut state = lock(&native.state);
                    state.interceptor = made;
                    state.open.clear();
                }
                native.clone()
            }
            None => {
                let state = State { interceptor: made, open: Vec::new(), passes: 0 };
                let native = Arc::new(Native { state: Mutex::new(state) });
                by_place.insert(place, native.clone());
                native
            }
        }
    }
}

/// An interceptor and the batches that have passed it and are not resolved.
pub(super) struct Native {
    state: Mutex<State>,
}

struct State {
    interceptor: Box<dyn Interceptor>,
    /// With the number of the pass. As many as sources keep unconfirmed: each has its bound.
    open: Vec<(u64, Arc<Ticket>)>,
    passes: u64,
}

impl Native {
    pub fn remembers(&self) -> bool {
        lock(&self.state).interceptor.remembers()
    }

    /// Runs the interceptor. `ticket`: of the batch, when somebody would repeat it.
    pub fn apply(
        self: &Arc<Self>,
        batch: &mut Batch,
        now_ms: i64,
        ticket: Option<&Arc<Ticket>>,
    ) -> Vec<Failed> {
        let mut state = lock(&self.state);
        state.passes += 1;
        let pass = state.passes;
        let before = batch.len();
        state.interceptor.begin(pass);
        let failed = state.interceptor.apply(batch, now_ms);
        if let Some(ticket) = ticket
            && state.interceptor.remembers()
        {
            if batch.len() + failed.len() < before {
                for (_, earlier) in state.open.iter().filter(|(_, earlier)| !Arc::ptr_eq(earlier, ticket)) {
                    ticket.wait_for(earlier);
                }
            }
            state.open.push((pass, ticket.clone()));
            lock(&ticket.state).passes.push((self.clone(), pass));
        }
        failed
    }

    fn settle(&self, pass: u64, outcome: Outcome) {
        let mut state = lock(&self.state);
        state.open.retain(|(open, _)| *open != pass);
        if outcome == Outcome::Lost {
            state.interceptor.forget(pass);
        }
    }
}

/// Stands between a batch in a program and the acknowledgement that its source opened.
pub(super) struct Ticket {
    state: Mutex<TicketState>,
}

struct TicketState {
    /// Resolutions to hear of: its own, and those of earlier batches.
    pending: usize,
    lost: bool,
    outer: Option<Ack>,
    own: Option<Outcome>,
    waiting: Vec<Arc<Ticket>>,
    passes: Vec<(Arc<Native>, u64)>,
}

impl Ticket {
    /// The acknowledgement to be used in the program instead of `outer`.
    pub fn open(outer: Ack) -> (Ack, Arc<Ticket>) {
        let state = TicketState {
            pending: 1,
            lost: false,
            outer: Some(outer),
            own: None,
            waiting: Vec::new(),
            passes: Vec::new(),
        };
        let ticket = Arc::new(Ticket { state: Mutex::new(state) });
        let resolved = ticket.clone();
        (Ack::new(move |outcome| resolved.resolve(outcome)), ticket)
    }

    fn wait_for(self: &Arc<Self>, earlier: &Ticket) {
        let mut first = lock(&earlier.state);
        match first.own {
            Some(Outcome::Delivered) => {}
            Some(Outcome::Lost) => lock(&self.state).lost = true,
            None => {
                // Two tickets never wait for each other: the earlier one has left its program, see `Turn`.
                lock(&self.state).pending += 1;
                first.waiting.push(self.clone());
            }
        }
    }

    fn resolve(&self, outcome: Outcome) {
        let (waiting, passes) = {
            let mut state = lock(&self.state);
            state.own = Some(outcome);
            (std::mem::take(&mut state.waiting), std::mem::take(&mut state.passes))
        };
        // Forgotten before anybody hears of the loss and repeats the events.
        for (native, pass) in passes {
            native.settle(pass, outcome);
        }
        for ticket in waiting {
            ticket.release(outcome);
        }
        self.release(outcome);
    }

    fn release(&self, outcome: Outcome) {
        let (outer, lost) = {
            let mut state = lock(&self.state);
            state.pending = state.pending.saturating_sub(1);
            state.lost |= outcome == Outcome::Lost;
            (if state.pending == 0 { state.outer.take() } else { None }, state.lost)
        };
        // Outside of the lock: whoever hears of it may do anything. One that is dropped counts as lost.
        if let Some(outer) = outer
            && !lost
        {
            outer.done();
        }
    }
}

/// What tells a step from all others of an agent: its settings, and the way from it to where its rows end, which
/// has the positions in the text. Several sources on one chain have that in common; another use of the same
/// interceptor elsewhere has not.
pub(super) fn place(step: &ir::Step, after: &[ir::Step], end: &ir::End, outputs: &[Output]) -> String {
    let mut text = String::new();
    let settings = match &step.op {
        ir::StepOp::Kind { settings, .. } => serde_json::Value::Object(settings.clone()).to_string(),
        ir::StepOp::Code(_) => String::new(),
    };
    text.push_str(&format!("{} {} {settings}", step.name, step.origin.0));
    way(after, end, outputs, &mut text);
    text
}

fn way(steps: &[ir::Step], end: &ir::End, outputs: &[Output], text: &mut String) {
    for step in steps {
        text.push_str(&format!(" > {} {}", step.name, step.origin.0));
    }
    match end {
        ir::End::Output(output) => match outputs.get(*output as usize) {
            Some(output) => text.push_str(&format!(" -> {:?} {}", output.to, output.origin.0)),
            None => text.push_str(" -> ?"),
        },
        ir::End::Discard => text.push_str(" -> discard"),
        ir::End::Copy(branches) => {
            for branch in branches {
                text.push_str(" [");
                way(&branch.steps, &branch.end, outputs, text);
                text.push(']');
            }
        }
        ir::End::Route(route) => {
            text.push_str(&format!(" route {} {}", route.name, route.origin.0));
            for arm in &route.arms {
                text.push_str(" {");
                way(&arm.then.steps, &arm.then.end, outputs, text);
                text.push('}');
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
