//! Is there an order of concurrent operations that agrees with real time and with a sequential model? The search of
//! Wing and Gong ("Testing and Verifying Concurrent Objects", 1993) with Lowe's memory of what was tried ("Testing for
//! linearizability", 2017), one object at a time. Operations of unknown result may have happened at any time after
//! they began, or never.

use std::collections::HashSet;
use std::hash::Hash;

use bytes::Bytes;

use crate::proto::{Code, Request, Response};
use crate::testing::history::History;

/// States that are looked at before the search gives up; a give-up is told apart from a violation.
const STATES_MAX: usize = 2_000_000;

/// What an object does, one operation after the other.
pub trait Model {
    type State: Clone + Eq + Hash;
    type Call;
    fn begin(&self) -> Self::State;
    /// The state after the call, `None` if the call cannot have had its result in this state.
    fn step(&self, state: &Self::State, call: &Self::Call) -> Option<Self::State>;
}

#[derive(Clone, Debug)]
pub struct Operation<C> {
    pub call: C,
    pub began: usize,
    /// `None`: nobody knows its result.
    pub ended: Option<usize>,
}

/// Searches for an order. `None` if there were too many to try.
pub fn linearizable<M: Model>(model: &M, operations: &[Operation<M::Call>]) -> Option<bool> {
    let mut order: Vec<usize> = (0..operations.len()).collect();
    order.sort_by_key(|index| operations[*index].began);
    let mut search = Search { model, operations, order, tried: HashSet::new() };
    search.run()
}

struct Search<'a, M: Model> {
    model: &'a M,
    operations: &'a [Operation<M::Call>],
    /// By their beginning.
    order: Vec<usize>,
    tried: HashSet<(Vec<u64>, M::State)>,
}

struct Frame<S> {
    done: Vec<u64>,
    state: S,
    /// Where in `order` to go on.
    next: usize,
    /// Known operations that are not done yet.
    left: usize,
}

impl<M: Model> Search<'_, M> {
    fn run(&mut self) -> Option<bool> {
        let words = self.operations.len().div_ceil(64);
        let left = self.operations.iter().filter(|operation| operation.ended.is_some()).count();
        let mut stack = vec![Frame { done: vec![0; words], state: self.model.begin(), next: 0, left }];
        while let Some(frame) = stack.last_mut() {
            if frame.left == 0 {
                return Some(true);
            }
            let Some(taken) = self.take(frame) else {
                stack.pop();
                continue;
            };
            if self.tried.insert((taken.done.clone(), taken.state.clone())) {
                if self.tried.len() > STATES_MAX {
                    return None;
                }
                stack.push(taken);
            }
        }
        Some(false)
    }

    /// The next operation that may be first among those that are left.
    fn take(&self, frame: &mut Frame<M::State>) -> Option<Frame<M::State>> {
        let is_done = |index: usize| frame.done[index / 64] >> (index % 64) & 1 == 1;
        // Nothing that began after the end of something that is left can be before it.
        let first_end = (self.order.iter())
            .filter(|index| !is_done(**index))
            .filter_map(|index| self.operations[*index].ended)
            .min()
            .unwrap_or(usize::MAX);
        while let Some(&index) = self.order.get(frame.next) {
            let operation = &self.operations[index];
            if operation.began > first_end {
                return None;
            }
            frame.next += 1;
            if is_done(index) {
                continue;
            }
            if let Some(state) = self.model.step(&frame.state, &operation.call) {
                let mut done = frame.done.clone();
                done[index / 64] |= 1 << (index % 64);
                let left = frame.left - usize::from(operation.ended.is_some());
                return Some(Frame { done, state, next: 0, left });
            }
        }
        None
    }
}

/// A znode's data and version; `None` while it is not there.
pub struct Register;

#[derive(Clone, Debug, PartialEq)]
pub enum RegisterCall {
    Create {
        data: Bytes,
    },
    /// `expected` −1 is any. `became`: the version after it, where that is known.
    Set {
        data: Bytes,
        expected: i32,
        became: Option<i32>,
    },
    /// Refused for its version, or because the node was not there.
    Refused {
        expected: i32,
    },
    Read {
        data: Bytes,
        version: i32,
    },
    Missed,
}

impl Model for Register {
    type State = Option<(Bytes, i32)>;
    type Call = RegisterCall;

    fn begin(&self) -> Self::State {
        None
    }

    fn step(&self, state: &Self::State, call: &RegisterCall) -> Option<Self::State> {
        match (call, state) {
            (RegisterCall::Create { data }, None) => Some(Some((data.clone(), 0))),
            (RegisterCall::Set { data, expected, became }, Some((_, version))) => {
                let fits =
                    (*expected < 0 || expected == version) && became.is_none_or(|to| to == version + 1);
                fits.then(|| Some((data.clone(), version + 1)))
            }
            (RegisterCall::Refused { expected }, Some((_, version))) => {
                (*expected >= 0 && expected != version).then(|| state.clone())
            }
            (RegisterCall::Read { data, version }, Some(now)) => {
                (now.0 == *data && now.1 == *version).then(|| state.clone())
            }
            (RegisterCall::Missed, None) => Some(None),
            _ => None,
        }
    }
}

/// Checks each register's writes, and its reads behind a `sync` of the same client, as one linearizable object.
///
/// # Errors
/// The first violation, or that a history was too wide to be searched.
pub fn check_registers(history: &History, registers: &[String]) -> Result<(), String> {
    for path in registers {
        let operations = operations(history, path);
        match linearizable(&Register, &operations) {
            Some(true) => {}
            Some(false) => {
                let mut told: Vec<String> =
                    operations.iter().map(|operation| format!("{operation:?}")).collect();
                told.truncate(200);
                return Err(format!("`{path}` is not linearizable:\n{}", told.join("\n")));
            }
            None => return Err(format!("`{path}` has too many concurrent operations to search")),
        }
    }
    Ok(())
}

fn operations(history: &History, path: &str) -> Vec<Operation<RegisterCall>> {
    let mut operations = Vec::new();
    for call in &history.calls {
        let ended = if call.is_unknown() { None } else { call.replied };
        let parts = match &call.request {
            Request::Multi(parts) => parts.as_slice(),
            request => std::slice::from_ref(request),
        };
        // A multi that was refused says nothing of one path.
        let done = call.writes();
        let is_multi = matches!(call.request, Request::Multi(_));
        for (at, part) in parts.iter().enumerate() {
            let response = done.get(at).and_then(|(_, response)| *response);
            let made = match part {
                Request::Create(create) if create.path == path => match (&call.result, response) {
                    (_, Some(_)) | (Err(Code::ConnectionLoss), _) => {
                        Some(RegisterCall::Create { data: create.data.clone().unwrap_or_default() })
                    }
                    _ => None,
                },
                Request::SetData { path: of, data, version } if of == path => {
                    let data = data.clone().unwrap_or_default();
                    match (response, &call.result) {
                        (Some(Response::Stat(stat)), _) => {
                            Some(RegisterCall::Set { data, expected: *version, became: Some(stat.version) })
                        }
                        (_, Err(_)) if call.is_unknown() => {
                            Some(RegisterCall::Set { data, expected: *version, became: None })
                        }
                        (_, Err(Code::BadVersion)) if !is_multi => {
                            Some(RegisterCall::Refused { expected: *version })
                        }
                        _ => None,
                    }
                }
                _ => None,
            };
            operations.extend(made.map(|made| Operation { call: made, began: call.invoked, ended }));
        }
    }
    operations.extend(synced_reads(history, path));
    operations
}

/// Reads right behind a `sync` of their client on the same session: as good as if they had begun with it.
fn synced_reads(history: &History, path: &str) -> Vec<Operation<RegisterCall>> {
    let mut found = Vec::new();
    let mut last_sync = std::collections::BTreeMap::new();
    for call in &history.calls {
        match (&call.request, &call.result) {
            (Request::Sync { .. }, Ok(_)) => {
                last_sync.insert(call.client, (call.invoked, call.session));
                continue;
            }
            (Request::GetData { path: of, .. }, result) if of == path => {
                let Some((began, session)) = last_sync.get(&call.client).copied() else { continue };
                let made = match result {
                    Ok(Response::Data { data, stat }) => {
                        RegisterCall::Read { data: data.clone().unwrap_or_default(), version: stat.version }
                    }
                    Err(Code::NoNode) => RegisterCall::Missed,
                    _ => continue,
                };
                if session == call.session {
                    found.push(Operation { call: made, began, ended: call.replied });
                }
            }
            _ => {}
        }
        last_sync.remove(&call.client);
    }
    found
}
