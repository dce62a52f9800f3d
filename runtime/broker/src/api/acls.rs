//! ACLs and SCRAM credentials: describing, making, removing.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::create_acls_response::AclCreationResult;
use kafka_protocol::messages::delete_acls_request::DeleteAclsFilter;
use kafka_protocol::messages::delete_acls_response::{DeleteAclsFilterResult, DeleteAclsMatchingAcl};
use kafka_protocol::messages::describe_acls_response::{AclDescription, DescribeAclsResource};
use kafka_protocol::messages::{
    CreateAclsRequest, CreateAclsResponse, DeleteAclsRequest, DeleteAclsResponse, DescribeAclsRequest,
    DescribeAclsResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::Call;
use crate::broker::Broker;
use crate::security::{
    Acl, AclFilter, CLUSTER_NAME, ChangeError, Operation, Pattern, PatternFilter, Permission, Resource,
    ResourceType,
};

/// Any, in filters.
const ANY: i8 = 1;
/// A pattern filter: whatever speaks of the name.
const MATCH: i8 = 2;

/// An error and what it is told with.
type Refusal = (ResponseError, String);

pub(crate) async fn describe_acls(
    broker: &Arc<Broker>,
    call: &Call,
    request: DescribeAclsRequest,
) -> DescribeAclsResponse {
    let filter = may(broker, call, Operation::Describe).and_then(|()| {
        filter(
            DeleteAclsFilter::default()
                .with_resource_type_filter(request.resource_type_filter)
                .with_resource_name_filter(request.resource_name_filter)
                .with_pattern_type_filter(request.pattern_type_filter)
                .with_principal_filter(request.principal_filter)
                .with_host_filter(request.host_filter)
                .with_operation(request.operation)
                .with_permission_type(request.permission_type),
        )
    });
    let filter = match filter {
        Ok(filter) => filter,
        Err((error, message)) => {
            return DescribeAclsResponse::default()
                .with_error_code(error.code())
                .with_error_message(Some(message.into()));
        }
    };
    let acls = broker.security.acls();
    let mut resources: BTreeMap<(ResourceType, &str, Pattern), Vec<&Acl>> = BTreeMap::new();
    for acl in acls.iter().filter(|acl| filter.takes(acl)) {
        resources.entry((acl.resource_type, &acl.name, acl.pattern)).or_default().push(acl);
    }
    let resources = resources.into_iter().map(|((kind, name, pattern), acls)| {
        let acls = acls.into_iter().map(|acl| {
            AclDescription::default()
                .with_principal(acl.principal.clone().into())
                .with_host(acl.host.clone().into())
                .with_operation(acl.operation.code())
                .with_permission_type(acl.permission.code())
        });
        DescribeAclsResource::default()
            .with_resource_type(kind.code())
            .with_resource_name(name.to_owned().into())
            .with_pattern_type(pattern.code())
            .with_acls(acls.collect())
    });
    DescribeAclsResponse::default().with_error_message(None).with_resources(resources.collect())
}

pub(crate) async fn create_acls(
    broker: &Arc<Broker>,
    call: &Call,
    request: CreateAclsRequest,
) -> CreateAclsResponse {
    let allowed = may(broker, call, Operation::Alter);
    let checked: Vec<Result<Acl, Refusal>> =
        request.creations.into_iter().map(|creation| allowed.clone().and_then(|()| acl(&creation))).collect();
    let acls: Vec<Acl> = checked.iter().flatten().cloned().collect();
    let security = Arc::clone(&broker.security);
    let kept = changed(move || security.create_acls(&acls)).await;
    let results = checked.into_iter().map(|result| {
        let result = result.and(kept.clone());
        let (code, message) = told(result.err());
        AclCreationResult::default().with_error_code(code).with_error_message(message)
    });
    CreateAclsResponse::default().with_results(results.collect())
}

pub(crate) async fn delete_acls(
    broker: &Arc<Broker>,
    call: &Call,
    request: DeleteAclsRequest,
) -> DeleteAclsResponse {
    let allowed = may(broker, call, Operation::Alter);
    let checked: Vec<Result<AclFilter, Refusal>> =
        request.filters.into_iter().map(|asked| allowed.clone().and_then(|()| filter(asked))).collect();
    let filters: Vec<AclFilter> = checked.iter().flatten().cloned().collect();
    let security = Arc::clone(&broker.security);
    let deleted = changed(move || security.delete_acls(&filters)).await;
    let mut next = 0;
    let results = checked.into_iter().map(|result| {
        let taken = result.and_then(|_| {
            next += 1;
            deleted.as_ref().map(|deleted| &deleted[next - 1]).map_err(Clone::clone)
        });
        match taken {
            Ok(acls) => DeleteAclsFilterResult::default()
                .with_error_message(None)
                .with_matching_acls(acls.iter().map(matching).collect()),
            Err(refusal) => {
                let (code, message) = told(Some(refusal));
                DeleteAclsFilterResult::default().with_error_code(code).with_error_message(message)
            }
        }
    });
    DeleteAclsResponse::default().with_filter_results(results.collect())
}

fn matching(acl: &Acl) -> DeleteAclsMatchingAcl {
    DeleteAclsMatchingAcl::default()
        .with_error_message(None)
        .with_resource_type(acl.resource_type.code())
        .with_resource_name(acl.name.clone().into())
        .with_pattern_type(acl.pattern.code())
        .with_principal(acl.principal.clone().into())
        .with_host(acl.host.clone().into())
        .with_operation(acl.operation.code())
        .with_permission_type(acl.permission.code())
}

/// ACLs have a meaning, and the caller may look at them or change them.
fn may(broker: &Broker, call: &Call, operation: Operation) -> Result<(), Refusal> {
    if !broker.security.authorizes() {
        return Err((ResponseError::SecurityDisabled, "no authorizer is configured".to_owned()));
    }
    if !call.allows(broker, operation, Resource::Cluster) {
        return Err((ResponseError::ClusterAuthorizationFailed, denied(operation)));
    }
    Ok(())
}

pub(super) fn denied(operation: Operation) -> String {
    format!("`{operation:?}` on the cluster is not allowed")
}

/// Writes a change where waiting for the disk disturbs nobody.
pub(super) async fn changed<T: Send + 'static>(
    change: impl FnOnce() -> Result<T, ChangeError> + Send + 'static,
) -> Result<T, Refusal> {
    let failed = |reason: String| (ResponseError::UnknownServerError, reason);
    match tokio::task::spawn_blocking(change).await {
        Ok(Ok(changed)) => Ok(changed),
        Ok(Err(error @ ChangeError::Full)) => Err((ResponseError::PolicyViolation, error.to_string())),
        Ok(Err(error @ ChangeError::Io(_))) => {
            tracing::error!(%error, "security settings");
            Err(failed(error.to_string()))
        }
        Err(error) => Err(failed(error.to_string())),
    }
}

pub(super) fn told(refusal: Option<Refusal>) -> (i16, Option<StrBytes>) {
    match refusal {
        None => (0, None),
        Some((error, message)) => (error.code(), Some(message.into())),
    }
}

fn acl(creation: &AclCreation) -> Result<Acl, Refusal> {
    let kind = known("resource type", creation.resource_type, ResourceType::from_code)?;
    let name = creation.resource_name.to_string();
    if name.is_empty() {
        return Err(invalid("an ACL needs the name of a resource".to_owned()));
    }
    if kind == ResourceType::Cluster && name != CLUSTER_NAME {
        return Err(invalid(format!("the only cluster is `{CLUSTER_NAME}`, and not `{name}`")));
    }
    let principal = creation.principal.to_string();
    if !principal.split_once(':').is_some_and(|(kind, name)| !kind.is_empty() && !name.is_empty()) {
        return Err(invalid(format!("`{principal}` is no principal: they look like `User:alice`")));
    }
    let host = match &*creation.host {
        "*" => "*".to_owned(),
        // As the address of a caller is written when the two are compared.
        host => match host.parse::<IpAddr>() {
            Ok(address) => address.to_canonical().to_string(),
            Err(_) => return Err(invalid(format!("`{host}` is neither an address nor `*`"))),
        },
    };
    Ok(Acl {
        resource_type: kind,
        pattern: known("pattern type", creation.resource_pattern_type, Pattern::from_code)?,
        name,
        principal,
        host,
        operation: known("operation", creation.operation, Operation::from_code)?,
        permission: known("permission type", creation.permission_type, Permission::from_code)?,
    })
}

fn filter(asked: DeleteAclsFilter) -> Result<AclFilter, Refusal> {
    fn any<T>(what: &str, code: i8, from_code: fn(i8) -> Option<T>) -> Result<Option<T>, Refusal> {
        if code == ANY { Ok(None) } else { known(what, code, from_code).map(Some) }
    }
    let pattern = match asked.pattern_type_filter {
        ANY => PatternFilter::Any,
        MATCH => PatternFilter::Match,
        code => PatternFilter::Is(known("pattern type", code, Pattern::from_code)?),
    };
    let text = |text: Option<StrBytes>| text.map(|text| text.to_string());
    Ok(AclFilter {
        resource_type: any("resource type", asked.resource_type_filter, ResourceType::from_code)?,
        name: text(asked.resource_name_filter),
        pattern,
        principal: text(asked.principal_filter),
        host: text(asked.host_filter),
        operation: any("operation", asked.operation, Operation::from_code)?,
        permission: any("permission type", asked.permission_type, Permission::from_code)?,
    })
}

fn known<T>(what: &str, code: i8, from_code: fn(i8) -> Option<T>) -> Result<T, Refusal> {
    from_code(code).ok_or_else(|| invalid(format!("the {what} {code} has no meaning here")))
}

fn invalid(reason: String) -> Refusal {
    (ResponseError::InvalidRequest, reason)
}
