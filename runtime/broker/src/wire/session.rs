//! What a connection remembers between requests: who is at the other end.

use std::sync::Mutex;

use crate::security::Principal;

pub(crate) struct Session {
    state: Mutex<State>,
}

struct State {
    /// `None`: not yet known, and only what leads to it is answered.
    principal: Option<Principal>,
    /// The connection ends when its last answer is sent.
    failed: bool,
}

impl Session {
    pub(super) fn new(principal: Option<Principal>) -> Session {
        Session { state: Mutex::new(State { principal, failed: false }) }
    }

    pub(super) fn principal(&self) -> Option<Principal> {
        self.lock().principal.clone()
    }

    pub(super) fn failed(&self) -> bool {
        self.lock().failed
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
