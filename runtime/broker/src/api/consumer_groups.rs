//! `ConsumerGroupHeartbeat` and `ConsumerGroupDescribe` (KIP-848).

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::consumer_group_describe_response::DescribedGroup;
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
};

use super::Call;
use super::groups::{allowed_operations, ask, caller, may};
use crate::broker::Broker;
use crate::groups::{Reply, Request};
use crate::security::{Operation, Resource};

pub(crate) async fn consumer_group_heartbeat(
    broker: &Arc<Broker>,
    call: &Call,
    request: ConsumerGroupHeartbeatRequest,
) -> ConsumerGroupHeartbeatResponse {
    let refused =
        |error: ResponseError| ConsumerGroupHeartbeatResponse::default().with_error_code(error.code());
    let hidden = request
        .subscribed_topic_names
        .iter()
        .flatten()
        .any(|topic| !call.allows(broker, Operation::Describe, Resource::Topic(topic)));
    // Who may not use the group is told that first.
    if hidden && call.allows(broker, Operation::Read, Resource::Group(&request.group_id)) {
        return refused(ResponseError::TopicAuthorizationFailed);
    }
    let group = request.group_id.clone();
    ask!(broker, call, Operation::Read, group, ConsumerHeartbeat, request).unwrap_or_else(refused)
}

pub(crate) async fn consumer_group_describe(
    broker: &Arc<Broker>,
    call: &Call,
    request: ConsumerGroupDescribeRequest,
) -> ConsumerGroupDescribeResponse {
    let mut groups = Vec::with_capacity(request.group_ids.len());
    for id in request.group_ids {
        let asked = Arc::from(id.as_str());
        let described = ask!(broker, call, Operation::Describe, id, ConsumerDescribe, asked)
            .unwrap_or_else(|error| DescribedGroup::default().with_error_code(error.code()));
        let operations = if request.include_authorized_operations {
            allowed_operations(broker, call, &id)
        } else {
            i32::MIN
        };
        groups.push(described.with_group_id(id).with_authorized_operations(operations));
    }
    ConsumerGroupDescribeResponse::default().with_groups(groups)
}
