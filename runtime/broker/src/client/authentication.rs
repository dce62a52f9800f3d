//! Logging in: PLAIN and SCRAM over `SaslHandshake` and `SaslAuthenticate`.

use kafka_protocol::messages::{SaslAuthenticateRequest, SaslHandshakeRequest};
use kafka_protocol::protocol::StrBytes;

use super::{Client, ClientError};
use crate::security::scram::{self, Mechanism};

/// Who we are.
#[derive(Clone)]
pub struct Login {
    pub mechanism: LoginMechanism,
    pub user: String,
    pub password: String,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LoginMechanism {
    Plain,
    ScramSha256,
    ScramSha512,
}

pub(super) async fn log_in(client: &Client, login: &Login) -> Result<(), ClientError> {
    let mechanism = match login.mechanism {
        LoginMechanism::Plain => None,
        LoginMechanism::ScramSha256 => Some(Mechanism::Sha256),
        LoginMechanism::ScramSha512 => Some(Mechanism::Sha512),
    };
    let handshake = SaslHandshakeRequest::default()
        .with_mechanism(StrBytes::from_static_str(mechanism.map_or("PLAIN", Mechanism::name)));
    // Version 0 would be followed by messages without headers.
    let answer = client.call_version(1, &handshake).await?;
    if answer.error_code != 0 {
        let offered: Vec<&str> = answer.mechanisms.iter().map(|name| &**name).collect();
        let offered = offered.join(", ");
        return Err(ClientError::Login(format!(
            "{} (the broker offers {offered})",
            super::name(answer.error_code)
        )));
    }
    let Login { user, password, .. } = login;
    let Some(mechanism) = mechanism else {
        return exchange(client, format!("\0{user}\0{password}").into_bytes()).await.map(drop);
    };
    let failed = |error: scram::ScramError| ClientError::Login(error.to_string());
    let (mut scram, first) = scram::Client::start(mechanism, user, password, &scram::nonce());
    let answer = exchange(client, first).await?;
    let prove = move || scram.prove(&answer).map(|proof| (scram, proof));
    let proved = tokio::task::spawn_blocking(prove).await;
    let (scram, proof) = proved.map_err(|error| ClientError::Login(error.to_string()))?.map_err(failed)?;
    let last = exchange(client, proof).await?;
    scram.check(&last).map_err(failed)
}

async fn exchange(client: &Client, message: Vec<u8>) -> Result<Vec<u8>, ClientError> {
    let request = SaslAuthenticateRequest::default().with_auth_bytes(message.into());
    let answer = client.call(&request).await?;
    match answer.error_code {
        0 => Ok(answer.auth_bytes.to_vec()),
        code => {
            let told = answer.error_message.map(|message| message.to_string());
            Err(ClientError::Login(told.unwrap_or_else(|| super::name(code))))
        }
    }
}
