//! `ApiVersions`: what exists here, computed from the table.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};

use super::{APIS, Call};
use crate::broker::Broker;

pub(crate) async fn api_versions(
    _broker: &Arc<Broker>,
    call: &Call,
    request: ApiVersionsRequest,
) -> ApiVersionsResponse {
    let mut response = ApiVersionsResponse::default();
    // KIP-511: since version 3 the client says what it is.
    if call.version >= 3
        && !(is_name(&request.client_software_name) && is_name(&request.client_software_version))
    {
        response.error_code = ResponseError::InvalidRequest.code();
        return response;
    }
    response.with_api_keys(advertised())
}

/// The answer, always of version 0, to an `ApiVersions` request of a version that is unknown here (KIP-511): the client
/// learns which one to use.
pub(crate) fn unsupported_version() -> ApiVersionsResponse {
    let own = APIS.iter().filter(|api| api.name == "ApiVersions");
    ApiVersionsResponse::default()
        .with_error_code(ResponseError::UnsupportedVersion.code())
        .with_api_keys(own.map(api_version).collect())
}

fn advertised() -> Vec<ApiVersion> {
    APIS.iter().map(api_version).collect()
}

fn api_version(api: &super::Api) -> ApiVersion {
    ApiVersion::default()
        .with_api_key(api.key)
        .with_min_version(api.versions.min)
        .with_max_version(api.versions.max)
}

/// Whether `text` is `[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?`.
fn is_name(text: &str) -> bool {
    let text = text.as_bytes();
    let ends = text.first().zip(text.last());
    ends.is_some_and(|(first, last)| first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric())
        && text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(byte))
}
