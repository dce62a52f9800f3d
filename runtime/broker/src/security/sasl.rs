//! One authentication: which mechanism, how far it is. It knows what the messages of the mechanisms are, and not how
//! they travel.

use std::sync::Arc;

use super::Security;
use super::scram::{self, ClientFirst, Mechanism, ScramError};

/// Bytes of a PLAIN message.
const PLAIN_BYTES_MAX: usize = 4 << 10;

/// The mechanisms, as clients are told.
pub(crate) const MECHANISMS: [&str; 3] = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];

pub(crate) enum Exchange {
    Plain,
    Scram(Mechanism),
    /// After the server's first message.
    Proof {
        user: String,
        server: scram::Server,
    },
}

/// Where an exchange is after a message of the client.
pub(crate) enum Step {
    Continue(Exchange, Vec<u8>),
    Done { user: String, message: Vec<u8> },
}

/// Why nobody is let in. The client is told this and no more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SaslError {
    #[error("authentication failed: malformed message")]
    Malformed,
    #[error("authentication failed: invalid credentials")]
    Credentials,
}

impl Exchange {
    pub(crate) fn start(mechanism: &str) -> Option<Exchange> {
        match mechanism {
            "PLAIN" => Some(Exchange::Plain),
            _ => Mechanism::from_name(mechanism).map(Exchange::Scram),
        }
    }

    pub(crate) async fn step(self, security: &Arc<Security>, message: &[u8]) -> Result<Step, SaslError> {
        match self {
            Exchange::Plain => {
                let user = plain(security, message)?;
                Ok(Step::Done { user, message: Vec::new() })
            }
            Exchange::Scram(mechanism) => {
                let first = ClientFirst::parse(message).map_err(|_| SaslError::Malformed)?;
                let credential = security.credential(first.user.clone(), mechanism).await;
                let (server, message) = scram::Server::start(&first, credential, &scram::nonce());
                Ok(Step::Continue(Exchange::Proof { user: first.user, server }, message))
            }
            Exchange::Proof { user, server } => match server.finish(message) {
                Ok(message) => Ok(Step::Done { user, message }),
                Err(ScramError::Proof) => Err(SaslError::Credentials),
                Err(_) => Err(SaslError::Malformed),
            },
        }
    }
}

/// RFC 4616: who to act for, user, password, with a zero between.
fn plain(security: &Security, message: &[u8]) -> Result<String, SaslError> {
    if message.len() > PLAIN_BYTES_MAX {
        return Err(SaslError::Malformed);
    }
    let text = std::str::from_utf8(message).map_err(|_| SaslError::Malformed)?;
    let parts: Vec<&str> = text.split('\0').collect();
    let [acts_for, user, password] = parts[..] else { return Err(SaslError::Malformed) };
    if user.is_empty() || password.is_empty() {
        return Err(SaslError::Malformed);
    }
    if !(acts_for.is_empty() || acts_for == user) || !security.is_password(user, password) {
        return Err(SaslError::Credentials);
    }
    Ok(user.to_owned())
}
