//! Many operations as one: all or nothing, one number, each sees what those before it did.

use super::{Applied, State, Txn};
use crate::proto::{Code, CreateOp, Request, Response};

/// The operation code in the answer of an operation that failed, or was taken back.
const ERROR: i32 = -1;

impl State {
    /// The answer is that of a success even if the transaction failed: then every operation has an error, 0 for those
    /// before the one that failed, -2 for those behind it.
    pub(super) fn multi(&mut self, txn: &Txn, requests: &[Request], out: &mut Applied) -> Response {
        let changes = out.changes.len();
        let mut answers = Vec::with_capacity(requests.len());
        self.undo = Some(Vec::new());
        for (at, request) in requests.iter().enumerate() {
            let result = match request {
                Request::Create(create) => self.create(txn.session, &txn.ids, create, out),
                Request::Delete { path, version } => self.delete(&txn.ids, path, *version, out),
                Request::SetData { path, data, version } => {
                    self.set_data(&txn.ids, path, data.as_deref(), *version, out)
                }
                Request::Check { path, version } => self.check(&txn.ids, path, *version),
                _ => Err(Code::BadArguments),
            };
            match result {
                Ok(response) => answers.push((code_of(request), Ok(response))),
                Err(code) => {
                    self.roll_back();
                    out.changes.truncate(changes);
                    answers.clear();
                    answers.extend((0..at).map(|_| (ERROR, Ok(Response::ErrorResponse(0)))));
                    answers.push((ERROR, Err(code)));
                    let behind = requests.len() - at - 1;
                    answers.extend((0..behind).map(|_| (ERROR, Err(Code::RuntimeInconsistency))));
                    return Response::Multi(answers);
                }
            }
        }
        self.keep_all();
        Response::Multi(answers)
    }
}

/// As on the wire; all that create but the oldest are answered as `create2`.
fn code_of(request: &Request) -> i32 {
    match request {
        Request::Create(create) if create.op == CreateOp::Create => 1,
        Request::Create(_) => 15,
        Request::Delete { .. } => 2,
        Request::SetData { .. } => 5,
        Request::Check { .. } => 13,
        _ => ERROR,
    }
}
