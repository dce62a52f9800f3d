//! SCRAM credentials (KIP-554): describing, setting, removing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::alter_user_scram_credentials_request::ScramCredentialUpsertion;
use kafka_protocol::messages::alter_user_scram_credentials_response::AlterUserScramCredentialsResult;
use kafka_protocol::messages::describe_user_scram_credentials_response::{
    CredentialInfo, DescribeUserScramCredentialsResult,
};
use kafka_protocol::messages::{
    AlterUserScramCredentialsRequest, AlterUserScramCredentialsResponse, DescribeUserScramCredentialsRequest,
    DescribeUserScramCredentialsResponse,
};

use super::Call;
use super::acls::{changed, denied, told};
use crate::broker::Broker;
use crate::security::scram::{Credential, ITERATIONS_MAX, ITERATIONS_MIN, Mechanism};
use crate::security::{Operation, Resource};

/// Bytes of a user's name.
const NAME_BYTES_MAX: usize = 1 << 10;
/// Bytes of a salt.
const SALT_BYTES_MAX: usize = 1 << 10;

type Refusal = (ResponseError, String);
/// What happens to the credentials of a user.
type Changes = Result<Vec<(Mechanism, Option<Credential>)>, Refusal>;

pub(crate) async fn describe_user_scram_credentials(
    broker: &Arc<Broker>,
    call: &Call,
    request: DescribeUserScramCredentialsRequest,
) -> DescribeUserScramCredentialsResponse {
    let response = DescribeUserScramCredentialsResponse::default().with_error_message(None);
    if !call.allows(broker, Operation::Describe, Resource::Cluster) {
        return response
            .with_error_code(ResponseError::ClusterAuthorizationFailed.code())
            .with_error_message(Some(denied(Operation::Describe).into()));
    }
    let mut users: BTreeMap<String, Vec<CredentialInfo>> = BTreeMap::new();
    for (user, mechanism, iterations) in broker.security.scram_users() {
        let info =
            CredentialInfo::default().with_mechanism(mechanism.code()).with_iterations(iterations as i32);
        users.entry(user).or_default().push(info);
    }
    // None asked for by name: all.
    let asked = request.users.filter(|asked| !asked.is_empty());
    let results: Vec<_> = match asked {
        None => users.into_iter().map(|(user, infos)| described(user, Ok(infos))).collect(),
        Some(asked) => {
            let mut times: BTreeMap<String, usize> = BTreeMap::new();
            asked.iter().for_each(|user| *times.entry(user.name.to_string()).or_default() += 1);
            let one = |(user, times): (String, usize)| {
                let infos = match (times, users.get(&user)) {
                    (1, Some(infos)) => Ok(infos.clone()),
                    (1, None) => Err((
                        ResponseError::ResourceNotFound,
                        format!("the user `{user}` has no SCRAM credentials"),
                    )),
                    _ => Err((ResponseError::DuplicateResource, format!("`{user}` is asked for twice"))),
                };
                described(user, infos)
            };
            times.into_iter().map(one).collect()
        }
    };
    response.with_results(results)
}

fn described(
    user: String,
    infos: Result<Vec<CredentialInfo>, Refusal>,
) -> DescribeUserScramCredentialsResult {
    let result = DescribeUserScramCredentialsResult::default().with_user(user.into());
    match infos {
        Ok(infos) => result.with_error_message(None).with_credential_infos(infos),
        Err(refusal) => {
            let (code, message) = told(Some(refusal));
            result.with_error_code(code).with_error_message(message)
        }
    }
}

pub(crate) async fn alter_user_scram_credentials(
    broker: &Arc<Broker>,
    call: &Call,
    request: AlterUserScramCredentialsRequest,
) -> AlterUserScramCredentialsResponse {
    let allowed = call.allows(broker, Operation::Alter, Resource::Cluster);
    let existing: BTreeSet<(String, Mechanism)> =
        broker.security.scram_users().into_iter().map(|(user, mechanism, _)| (user, mechanism)).collect();
    // All changes of a user, or none.
    let mut users: BTreeMap<String, Changes> = BTreeMap::new();
    let mut add = |user: String, change: Result<(Mechanism, Option<Credential>), Refusal>| {
        let changes = users.entry(user.clone()).or_insert_with(|| Ok(Vec::new()));
        let Ok(known) = changes else { return };
        match change {
            Ok((mechanism, _)) if known.iter().any(|(known, _)| *known == mechanism) => {
                let message = format!("two changes of `{user}` for {}", mechanism.name());
                *changes = Err((ResponseError::DuplicateResource, message));
            }
            Ok(change) => known.push(change),
            Err(refusal) => *changes = Err(refusal),
        }
    };
    let refused = || (ResponseError::ClusterAuthorizationFailed, denied(Operation::Alter));
    for deletion in request.deletions {
        let user = deletion.name.to_string();
        let change = match Mechanism::from_code(deletion.mechanism) {
            _ if !allowed => Err(refused()),
            None => Err(unknown_mechanism()),
            Some(mechanism) if existing.contains(&(user.clone(), mechanism)) => Ok((mechanism, None)),
            Some(_) => Err((ResponseError::ResourceNotFound, format!("`{user}` has no such credential"))),
        };
        add(user, change);
    }
    for upsertion in request.upsertions {
        let change = if allowed { credential(&upsertion) } else { Err(refused()) };
        add(upsertion.name.to_string(), change);
    }
    let changes = users.iter().filter_map(|(user, changes)| Some((user, changes.as_ref().ok()?)));
    let changes = changes.flat_map(|(user, changes)| {
        changes.iter().map(|(mechanism, credential)| (user.clone(), *mechanism, credential.clone()))
    });
    let changes: Vec<_> = changes.collect();
    let security = Arc::clone(&broker.security);
    let kept = changed(move || security.alter_scram(changes)).await;
    let results = users.into_iter().map(|(user, changes)| {
        let (code, message) = told(changes.map(drop).and(kept.clone()).err());
        AlterUserScramCredentialsResult::default()
            .with_user(user.into())
            .with_error_code(code)
            .with_error_message(message)
    });
    AlterUserScramCredentialsResponse::default().with_results(results.collect())
}

fn credential(upsertion: &ScramCredentialUpsertion) -> Result<(Mechanism, Option<Credential>), Refusal> {
    let unacceptable = |reason: &str| (ResponseError::UnacceptableCredential, reason.to_owned());
    if upsertion.name.is_empty() || upsertion.name.len() > NAME_BYTES_MAX {
        return Err(unacceptable("a user's name has 1 to 1024 bytes"));
    }
    let mechanism = Mechanism::from_code(upsertion.mechanism).ok_or_else(unknown_mechanism)?;
    let iterations = u32::try_from(upsertion.iterations).unwrap_or(0);
    if !(ITERATIONS_MIN..=ITERATIONS_MAX).contains(&iterations) {
        return Err(unacceptable("the iterations are 4096 to 16384"));
    }
    if upsertion.salt.is_empty()
        || upsertion.salt.len() > SALT_BYTES_MAX
        || upsertion.salted_password.is_empty()
    {
        return Err(unacceptable("a salt of 1 to 1024 bytes and a salted password are needed"));
    }
    let credential = Credential::from_salted_password(
        mechanism,
        &upsertion.salted_password,
        upsertion.salt.to_vec(),
        iterations,
    );
    Ok((mechanism, Some(credential)))
}

fn unknown_mechanism() -> Refusal {
    (ResponseError::UnsupportedSaslMechanism, "only SCRAM-SHA-256 and SCRAM-SHA-512 exist".to_owned())
}
