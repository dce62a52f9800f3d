//! `SaslHandshake` and `SaslAuthenticate`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{
    SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::{Call, Piece, Reply};
use crate::broker::Broker;
use crate::security::{Exchange, MECHANISMS, Principal, Step};

pub(crate) async fn sasl_handshake(
    broker: &Arc<Broker>,
    call: &Call,
    request: SaslHandshakeRequest,
) -> SaslHandshakeResponse {
    let response =
        SaslHandshakeResponse::default().with_mechanisms(MECHANISMS.map(StrBytes::from_static_str).to_vec());
    if !broker.security.authenticates() {
        return response.with_error_code(ResponseError::IllegalSaslState.code());
    }
    let Some(exchange) = Exchange::start(&request.mechanism) else {
        call.session.fail();
        return response.with_error_code(ResponseError::UnsupportedSaslMechanism.code());
    };
    // After version 0 the messages of the mechanism come as they are, without Kafka's headers.
    if !call.session.begin(&request.mechanism, exchange, call.version == 0) {
        return response.with_error_code(ResponseError::IllegalSaslState.code());
    }
    response
}

pub(crate) async fn sasl_authenticate(
    broker: &Arc<Broker>,
    call: &Call,
    request: SaslAuthenticateRequest,
) -> SaslAuthenticateResponse {
    let response = SaslAuthenticateResponse::default();
    match authenticate(broker, call, &request.auth_bytes).await {
        Ok(Answer { message, lifetime }) => {
            let lifetime_ms = lifetime.map_or(0, |lifetime| lifetime.as_millis() as i64);
            response.with_auth_bytes(message.into()).with_session_lifetime_ms(lifetime_ms)
        }
        Err((error, message)) => {
            response.with_error_code(error.code()).with_error_message(Some(StrBytes::from_string(message)))
        }
    }
}

/// A message of the mechanism that came without a header: its answer has none either, and a failure is no answer.
pub(crate) async fn bare_token(broker: &Arc<Broker>, call: &Call, token: Bytes) -> Reply {
    match authenticate(broker, call, &token).await {
        Ok(answer) => Reply::Pieces(vec![Piece::Bytes(answer.message.into())]),
        Err(_) => Reply::None,
    }
}

struct Answer {
    message: Vec<u8>,
    lifetime: Option<Duration>,
}

async fn authenticate(
    broker: &Arc<Broker>,
    call: &Call,
    token: &[u8],
) -> Result<Answer, (ResponseError, String)> {
    let Some((mechanism, exchange)) = call.session.take_exchange() else {
        call.session.fail();
        let message = "a handshake comes before authentication".to_owned();
        return Err((ResponseError::IllegalSaslState, message));
    };
    match exchange.step(&broker.security, token).await {
        Ok(Step::Continue(exchange, message)) => {
            call.session.go_on(mechanism, exchange);
            Ok(Answer { message, lifetime: None })
        }
        Ok(Step::Done { user, message }) => {
            let lifetime = broker.config.reauthentication_ms.map(Duration::from_millis);
            if !call.session.finish(mechanism, Principal::user(&user), lifetime) {
                let message = "a connection cannot change its user".to_owned();
                return Err((ResponseError::SaslAuthenticationFailed, message));
            }
            Ok(Answer { message, lifetime })
        }
        Err(error) => {
            call.session.fail();
            tracing::info!(peer = %call.peer, mechanism, %error, "nobody was let in");
            Err((ResponseError::SaslAuthenticationFailed, error.to_string()))
        }
    }
}
