//! What a connection remembers between requests: who is at the other end, and how far they are in saying so.

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::security::{Exchange, Principal};

pub(crate) struct Session {
    /// The address of this machine that the client chose.
    local_ip: IpAddr,
    state: Mutex<State>,
}

struct State {
    /// `None`: not yet known, and only what leads to it is answered.
    principal: Option<Principal>,
    /// Between `SaslHandshake` and the last message of the mechanism.
    exchange: Option<(String, Exchange)>,
    /// With which mechanism the principal became known.
    mechanism: Option<String>,
    /// The messages of the mechanism come without a header (handshake version 0).
    bare_tokens: bool,
    /// When the principal must have been proved again (KIP-368).
    expires: Option<Instant>,
    /// The connection ends when its last answer is sent.
    failed: bool,
}

impl Session {
    /// `principal`: who it is if nobody needs to authenticate.
    pub(super) fn new(principal: Option<Principal>, local_ip: IpAddr) -> Session {
        Session {
            local_ip,
            state: Mutex::new(State {
                principal,
                exchange: None,
                mechanism: None,
                bare_tokens: false,
                expires: None,
                failed: false,
            }),
        }
    }

    pub(crate) fn local_ip(&self) -> IpAddr {
        self.local_ip
    }

    /// Who is at the other end, as long as that is known and not too long ago.
    pub(super) fn principal(&self) -> Option<Principal> {
        let state = self.lock();
        match state.expires {
            Some(expires) if expires <= Instant::now() => None,
            _ => state.principal.clone(),
        }
    }

    /// Whether `principal` would give somebody.
    pub(super) fn is_authenticated(&self) -> bool {
        let state = self.lock();
        state.principal.is_some() && state.expires.is_none_or(|expires| Instant::now() < expires)
    }

    /// Whether it was ever known.
    pub(super) fn is_known(&self) -> bool {
        self.lock().principal.is_some()
    }

    pub(super) fn failed(&self) -> bool {
        self.lock().failed
    }

    /// Whether the next frame is a message of the mechanism and nothing else.
    pub(super) fn takes_bare_tokens(&self) -> bool {
        let state = self.lock();
        state.bare_tokens && state.exchange.is_some()
    }

    /// A handshake chose a mechanism. False: this connection cannot change to it.
    pub(crate) fn begin(&self, mechanism: &str, exchange: Exchange, bare_tokens: bool) -> bool {
        let mut state = self.lock();
        if state.mechanism.as_deref().is_some_and(|before| before != mechanism) {
            state.failed = true;
            return false;
        }
        state.exchange = Some((mechanism.to_owned(), exchange));
        state.bare_tokens = bare_tokens;
        true
    }

    /// The exchange that goes on; `go_on` or `finish` puts an end to its absence.
    pub(crate) fn take_exchange(&self) -> Option<(String, Exchange)> {
        self.lock().exchange.take()
    }

    pub(crate) fn go_on(&self, mechanism: String, exchange: Exchange) {
        self.lock().exchange = Some((mechanism, exchange));
    }

    /// The principal is proved. False: it is not the one that the connection had before.
    pub(crate) fn finish(&self, mechanism: String, principal: Principal, lifetime: Option<Duration>) -> bool {
        let mut state = self.lock();
        if state.principal.as_ref().is_some_and(|before| *before != principal) {
            state.failed = true;
            return false;
        }
        state.principal = Some(principal);
        state.mechanism = Some(mechanism);
        state.expires = lifetime.map(|lifetime| Instant::now() + lifetime);
        true
    }

    /// Nothing more is read of the connection.
    pub(crate) fn fail(&self) {
        self.lock().failed = true;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
