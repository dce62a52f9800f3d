//! What clients did and heard, in the order in which it happened, and what can be known from it of the states of every
//! znode: each acknowledged write and each read tells what a path was as of some zxid.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::client::{Listen, Notice};
use crate::proto::{Code, Request, Response, SessionId, Stat, Zxid};

/// One thing that a client did or heard. Lines are in the order of time: what happened before something else stands
/// before it.
#[derive(Clone, Debug)]
pub struct Line {
    pub at_ms: u64,
    pub client: u32,
    pub notice: Notice,
}

/// Gathers the notices of many clients.
#[derive(Clone)]
pub struct Recorder {
    lines: Arc<Mutex<Vec<Line>>>,
    now_ms: Arc<dyn Fn() -> u64 + Send + Sync>,
}

impl Recorder {
    pub fn new(now_ms: impl Fn() -> u64 + Send + Sync + 'static) -> Recorder {
        Recorder { lines: Arc::default(), now_ms: Arc::new(now_ms) }
    }

    /// The ear of one client.
    pub fn listen(&self, client: u32) -> Listen {
        let recorder = self.clone();
        Arc::new(move |notice| {
            let mut lines = recorder.lines.lock().unwrap_or_else(PoisonError::into_inner);
            lines.push(Line { at_ms: (recorder.now_ms)(), client, notice });
        })
    }

    pub fn history(&self) -> History {
        History::new(self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// A request and what became of it.
#[derive(Clone, Debug)]
pub struct Call {
    pub client: u32,
    pub request: Request,
    /// Its line.
    pub invoked: usize,
    pub replied: Option<usize>,
    /// Of the reply's header; 0 without one.
    pub zxid: Zxid,
    /// [`Code::ConnectionLoss`] where nobody knows.
    pub result: Result<Response, Code>,
    /// The session whose connection brought the reply; 0 if none did.
    pub session: SessionId,
}

impl Call {
    /// Nobody knows whether it was done.
    pub fn is_unknown(&self) -> bool {
        matches!(
            self.result,
            Err(Code::ConnectionLoss | Code::OperationTimeout | Code::RequestTimeout | Code::SessionMoved)
        )
    }

    /// The writes in it: itself, or those of a multi, each with its response where it was done.
    pub fn writes(&self) -> Vec<(&Request, Option<&Response>)> {
        match (&self.request, &self.result) {
            (Request::Multi(parts), Ok(Response::Multi(results))) => (parts.iter().zip(results))
                .filter(|_| results.iter().all(|(_, result)| result.is_ok() && !is_undone(result)))
                .map(|(part, (_, result))| (part, result.as_ref().ok()))
                .collect(),
            (Request::Multi(parts), Err(_)) if self.is_unknown() => {
                parts.iter().map(|part| (part, None)).collect()
            }
            (Request::Create(_) | Request::Delete { .. } | Request::SetData { .. }, Ok(response)) => {
                vec![(&self.request, Some(response))]
            }
            (Request::Create(_) | Request::Delete { .. } | Request::SetData { .. }, Err(_))
                if self.is_unknown() =>
            {
                vec![(&self.request, None)]
            }
            _ => Vec::new(),
        }
    }

    /// True if it has changed something for certain.
    pub fn is_done_write(&self) -> bool {
        self.writes().iter().any(|(_, response)| response.is_some())
    }
}

/// The other parts of a failed multi carry an error 0.
fn is_undone(result: &Result<Response, Code>) -> bool {
    matches!(result, Ok(Response::ErrorResponse(0)))
}

/// What a path was.
#[derive(Clone, Debug, PartialEq)]
pub enum Was {
    Absent,
    Present(Node),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// `None`: not seen.
    pub data: Option<Bytes>,
    pub czxid: Zxid,
    pub version: i32,
    pub owner: SessionId,
}

/// All lines, and the calls in them by their invocation.
pub struct History {
    pub lines: Vec<Line>,
    pub calls: Vec<Call>,
}

impl History {
    pub fn new(lines: Vec<Line>) -> History {
        let mut calls: Vec<Call> = Vec::new();
        let mut open: BTreeMap<(u32, u64), usize> = BTreeMap::new();
        let mut sessions: BTreeMap<u32, SessionId> = BTreeMap::new();
        for (index, line) in lines.iter().enumerate() {
            match &line.notice {
                Notice::Connected { session, .. } => {
                    sessions.insert(line.client, *session);
                }
                Notice::Invoked { call, request } => {
                    open.insert((line.client, *call), calls.len());
                    calls.push(Call {
                        client: line.client,
                        request: request.clone(),
                        invoked: index,
                        replied: None,
                        zxid: 0,
                        result: Err(Code::ConnectionLoss),
                        session: 0,
                    });
                }
                Notice::Replied { call, zxid, result } => {
                    if let Some(call) = open.remove(&(line.client, *call)).and_then(|at| calls.get_mut(at)) {
                        call.replied = Some(index);
                        call.zxid = *zxid;
                        call.result = result.clone();
                        call.session =
                            if *zxid > 0 { sessions.get(&line.client).copied().unwrap_or(0) } else { 0 };
                    }
                }
                _ => {}
            }
        }
        History { lines, calls }
    }

    /// A hash of everything in it (FNV-1a): equal if two runs were.
    pub fn hash(&self) -> u64 {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for line in &self.lines {
            for byte in format!("{line:?}").bytes() {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
        hash
    }

    /// A line in words, for messages.
    pub fn tell(&self, index: usize) -> String {
        self.lines.get(index).map_or_else(String::new, |line| {
            format!("line {index}, {} ms, client {}: {:?}", line.at_ms, line.client, line.notice)
        })
    }
}

/// The states of each path by the zxid since which it was so, as far as somebody has seen it.
#[derive(Default)]
pub struct Known {
    pub paths: BTreeMap<String, BTreeMap<Zxid, Was>>,
    /// Paths that a write of unknown result may have deleted, or the end of a session.
    pub fading: std::collections::BTreeSet<String>,
}

impl Known {
    /// Gathers what all replies say.
    ///
    /// # Errors
    /// Two replies that say different things of one path at one zxid.
    pub fn of(history: &History) -> Result<Known, String> {
        let mut known = Known::default();
        for call in &history.calls {
            let mut facts: Vec<(String, Zxid, Was)> = Vec::new();
            for (request, response) in call.writes() {
                match (request, response) {
                    (Request::Create(create), Some(Response::Created { path, stat })) => {
                        facts.push(present(path, create.data.clone(), stat));
                    }
                    (Request::Create(create), Some(Response::Path(path))) => {
                        let owner = if matches!(create.flags, 1 | 3) { call.session } else { 0 };
                        let node = Node { data: create.data.clone(), czxid: call.zxid, version: 0, owner };
                        facts.push((path.clone(), call.zxid, Was::Present(node)));
                    }
                    (Request::SetData { path, data, .. }, Some(Response::Stat(stat))) => {
                        facts.push(present(path, data.clone(), stat));
                    }
                    (Request::Delete { path, .. }, Some(_)) => {
                        facts.push((path.clone(), call.zxid, Was::Absent));
                    }
                    (Request::Delete { path, .. }, None) => {
                        known.fading.insert(path.clone());
                    }
                    _ => {}
                }
            }
            for (request, result) in reads(call) {
                match (request, result) {
                    (Request::GetData { path, .. }, Ok(Response::Data { data, stat })) => {
                        facts.push(present(path, data.clone(), stat));
                    }
                    (Request::Exists { path, .. }, Ok(Response::Stat(stat))) => {
                        facts.push(present(path, None, stat));
                    }
                    _ => {}
                }
            }
            for (path, zxid, was) in facts {
                known.learn(&path, zxid, was).map_err(|what| format!("{what}; {call:?}"))?;
            }
        }
        Ok(known)
    }

    fn learn(&mut self, path: &str, zxid: Zxid, was: Was) -> Result<(), String> {
        if matches!(&was, Was::Present(node) if node.owner != 0) {
            self.fading.insert(path.to_owned());
        }
        let states = self.paths.entry(path.to_owned()).or_default();
        let Some(before) = states.get_mut(&zxid) else {
            states.insert(zxid, was);
            return Ok(());
        };
        if let (Was::Present(before), Was::Present(now)) = (&mut *before, &was) {
            let same = before.czxid == now.czxid
                && before.version == now.version
                && before.owner == now.owner
                && (before.data == now.data || before.data.is_none() || now.data.is_none());
            if same {
                before.data = before.data.take().or_else(|| now.data.clone());
                return Ok(());
            }
        }
        if *before == was {
            return Ok(());
        }
        Err(format!("`{path}` was two things at zxid {zxid:#x}: {before:?} and {was:?}"))
    }

    /// What a path was last known to be as of a zxid, and since when.
    pub fn at(&self, path: &str, zxid: Zxid) -> Option<(Zxid, &Was)> {
        let (since, was) = self.paths.get(path)?.range(..=zxid).next_back()?;
        Some((*since, was))
    }
}

/// The reads in a call that were answered: itself, or those of a multi-read.
pub fn reads(call: &Call) -> Vec<(&Request, Result<&Response, Code>)> {
    match (&call.request, &call.result) {
        (Request::MultiRead(parts), Ok(Response::Multi(results))) => (parts.iter().zip(results))
            .map(|(part, (_, result))| (part, result.as_ref().map_err(|code| *code)))
            .collect(),
        (
            Request::GetData { .. }
            | Request::Exists { .. }
            | Request::GetChildren { .. }
            | Request::GetChildren2 { .. },
            result,
        ) => vec![(&call.request, result.as_ref().map_err(|code| *code))],
        _ => Vec::new(),
    }
}

fn present(path: &str, data: Option<Bytes>, stat: &Stat) -> (String, Zxid, Was) {
    let node = Node { data, czxid: stat.czxid, version: stat.version, owner: stat.ephemeral_owner };
    (path.to_owned(), stat.mzxid, Was::Present(node))
}
