//! Classic groups: join, sync, heartbeat, leave, describe, list, delete, and finding the coordinator.

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::describe_groups_response::DescribedGroup;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{
    BrokerId, DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse,
    FindCoordinatorRequest, FindCoordinatorResponse, HeartbeatRequest, HeartbeatResponse, JoinGroupRequest,
    JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse, ListGroupsRequest, ListGroupsResponse,
    SyncGroupRequest, SyncGroupResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::Call;
use crate::broker::Broker;
use crate::groups::{Caller, Reply, Request, text};
use crate::security::{Operation, Resource};

/// The kinds of coordinators.
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
/// From this version on several coordinators are asked for at once.
const COORDINATORS_FROM: i16 = 4;
/// From this version on a client may ask what it is allowed to do with a group.
const OPERATIONS_FROM: i16 = 3;
/// What one may do with a group, as bits by Kafka's numbers of operations.
const GROUP_OPERATIONS: [Operation; 3] = [Operation::Read, Operation::Delete, Operation::Describe];

/// The other side of a request, as groups remember it.
pub(super) fn caller(call: &Call) -> Caller {
    // Kafka writes addresses as Java does. Strings are copied: the call's is part of its request's buffer.
    Caller {
        client_id: call.client_id.as_deref().unwrap_or("").into(),
        host: format!("/{}", call.peer.ip()).into(),
        version: call.version,
    }
}

pub(super) fn may(
    broker: &Broker,
    call: &Call,
    operation: Operation,
    group: &str,
) -> Result<(), ResponseError> {
    if call.allows(broker, operation, Resource::Group(group)) {
        Ok(())
    } else {
        Err(ResponseError::GroupAuthorizationFailed)
    }
}

/// Asks the group if the caller may, and takes the answer of the kind that fits.
macro_rules! ask {
    ($broker:expr, $call:expr, $operation:expr, $group:expr, $kind:ident, $request:expr) => {
        match may($broker, $call, $operation, &$group) {
            Err(error) => Err(error),
            Ok(()) => match $broker.groups.request(&$group, caller($call), Request::$kind($request)).await {
                Ok(Reply::$kind(response)) => Ok(response),
                Ok(_) => Err(ResponseError::UnknownServerError),
                Err(error) => Err(error),
            },
        }
    };
}
pub(super) use ask;

pub(crate) async fn join_group(
    broker: &Arc<Broker>,
    call: &Call,
    request: JoinGroupRequest,
) -> JoinGroupResponse {
    let (group, member) = (request.group_id.clone(), request.member_id.clone());
    ask!(broker, call, Operation::Read, group, Join, request).unwrap_or_else(|error| {
        JoinGroupResponse::default()
            .with_error_code(error.code())
            .with_generation_id(-1)
            .with_protocol_name(Some(StrBytes::new()))
            .with_member_id(member)
    })
}

pub(crate) async fn sync_group(
    broker: &Arc<Broker>,
    call: &Call,
    request: SyncGroupRequest,
) -> SyncGroupResponse {
    let group = request.group_id.clone();
    ask!(broker, call, Operation::Read, group, Sync, request)
        .unwrap_or_else(|error| SyncGroupResponse::default().with_error_code(error.code()))
}

pub(crate) async fn heartbeat(
    broker: &Arc<Broker>,
    call: &Call,
    request: HeartbeatRequest,
) -> HeartbeatResponse {
    let group = request.group_id.clone();
    ask!(broker, call, Operation::Read, group, Heartbeat, request)
        .unwrap_or_else(|error| HeartbeatResponse::default().with_error_code(error.code()))
}

pub(crate) async fn leave_group(
    broker: &Arc<Broker>,
    call: &Call,
    request: LeaveGroupRequest,
) -> LeaveGroupResponse {
    let group = request.group_id.clone();
    ask!(broker, call, Operation::Read, group, Leave, request)
        .unwrap_or_else(|error| LeaveGroupResponse::default().with_error_code(error.code()))
}

pub(crate) async fn describe_groups(
    broker: &Arc<Broker>,
    call: &Call,
    request: DescribeGroupsRequest,
) -> DescribeGroupsResponse {
    let mut groups = Vec::with_capacity(request.groups.len());
    for id in request.groups {
        let asked = Arc::from(id.as_str());
        let described =
            ask!(broker, call, Operation::Describe, id, Describe, asked).unwrap_or_else(|error| {
                DescribedGroup::default().with_error_code(error.code()).with_authorized_operations(i32::MIN)
            });
        let operations = if call.version >= OPERATIONS_FROM && request.include_authorized_operations {
            allowed_operations(broker, call, &id)
        } else {
            i32::MIN
        };
        groups.push(described.with_group_id(id).with_authorized_operations(operations));
    }
    DescribeGroupsResponse::default().with_groups(groups)
}

pub(super) fn allowed_operations(broker: &Broker, call: &Call, group: &str) -> i32 {
    GROUP_OPERATIONS
        .into_iter()
        .filter(|operation| may(broker, call, *operation, group).is_ok())
        .fold(0, |bits, operation| bits | 1 << (operation as i8))
}

pub(crate) async fn list_groups(
    broker: &Arc<Broker>,
    call: &Call,
    request: ListGroupsRequest,
) -> ListGroupsResponse {
    let own = |names: &[StrBytes]| -> Vec<String> { names.iter().map(|name| name.to_string()).collect() };
    let (states, types) = (own(&request.states_filter), own(&request.types_filter));
    let list = || Request::List { states: states.clone(), types: types.clone() };
    let replies = match broker.groups.request_all(list).await {
        Ok(replies) => replies,
        Err(error) => return ListGroupsResponse::default().with_error_code(error.code()),
    };
    let all = call.allows(broker, Operation::Describe, Resource::Cluster);
    let groups = replies
        .into_iter()
        .flat_map(|reply| if let Reply::List(groups) = reply { groups } else { Vec::new() })
        .filter(|group| all || may(broker, call, Operation::Describe, &group.group_id).is_ok())
        .collect();
    ListGroupsResponse::default().with_groups(groups)
}

pub(crate) async fn delete_groups(
    broker: &Arc<Broker>,
    call: &Call,
    request: DeleteGroupsRequest,
) -> DeleteGroupsResponse {
    let mut results = Vec::with_capacity(request.groups_names.len());
    for id in request.groups_names {
        let asked = Arc::from(id.as_str());
        let code =
            ask!(broker, call, Operation::Delete, id, Delete, asked).unwrap_or_else(|error| error.code());
        results.push(DeletableGroupResult::default().with_group_id(id).with_error_code(code));
    }
    DeleteGroupsResponse::default().with_results(results)
}

/// With one broker the answer is always this one; whether the caller may know is asked all the same.
pub(crate) async fn find_coordinator(
    broker: &Arc<Broker>,
    call: &Call,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    let keys = if call.version >= COORDINATORS_FROM { request.coordinator_keys } else { vec![request.key] };
    let host = call.listener.advertised_host(call.session.local_ip());
    let port = call.listener.advertised_port;
    let coordinators: Vec<Coordinator> = keys
        .into_iter()
        .map(|key| {
            let found = match request.key_type {
                GROUP => may(broker, call, Operation::Describe, &key),
                TRANSACTION => {
                    let allowed = call.allows(broker, Operation::Describe, Resource::TransactionalId(&key));
                    if allowed { Ok(()) } else { Err(ResponseError::TransactionalIdAuthorizationFailed) }
                }
                _ => Err(ResponseError::InvalidRequest),
            };
            let found =
                found.and_then(|()| if key.is_empty() { Err(invalid_key(request.key_type)) } else { Ok(()) });
            let coordinator = Coordinator::default().with_key(key);
            match found {
                Ok(()) => coordinator
                    .with_node_id(BrokerId(broker.config.node_id))
                    .with_host(text(&host))
                    .with_port(i32::from(port)),
                Err(error) => coordinator
                    .with_node_id(BrokerId(-1))
                    .with_port(-1)
                    .with_error_code(error.code())
                    .with_error_message(Some(text(&error.to_string()))),
            }
        })
        .collect();
    if call.version >= COORDINATORS_FROM {
        return FindCoordinatorResponse::default().with_coordinators(coordinators);
    }
    let Some(one) = coordinators.into_iter().next() else { return FindCoordinatorResponse::default() };
    FindCoordinatorResponse::default()
        .with_error_code(one.error_code)
        .with_error_message(one.error_message)
        .with_node_id(one.node_id)
        .with_host(one.host)
        .with_port(one.port)
}

fn invalid_key(key_type: i8) -> ResponseError {
    if key_type == GROUP { ResponseError::InvalidGroupId } else { ResponseError::InvalidRequest }
}
