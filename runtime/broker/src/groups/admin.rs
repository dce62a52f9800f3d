//! What administrators ask of groups: which there are, what they look like, and that they go.

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{GroupId, consumer_group_describe_response};

use super::classic::{CONSUMER_PROTOCOL_TYPE, Classic};
use super::records::Change;
use super::shard::{Group, Kind, Outputs, Shard, check_group_id};
use super::text;

/// The state of a group that is not there.
const DEAD: &str = "Dead";
/// «Not asked for» in a field of allowed operations.
const NO_OPERATIONS: i32 = i32::MIN;

impl Shard {
    pub(super) fn list(&self, states: &[String], types: &[String]) -> Vec<ListedGroup> {
        let wanted = |filter: &[String], name: &str| {
            filter.is_empty() || filter.iter().any(|one| one.trim().eq_ignore_ascii_case(name))
        };
        self.groups
            .iter()
            .filter_map(|(id, group)| {
                let (state, kind, protocol_type) = match &group.kind {
                    Kind::Classic(classic) => (classic.state().name(), "classic", classic.protocol_type()),
                    Kind::Consumer(consumer) => (consumer.state_name(), "consumer", CONSUMER_PROTOCOL_TYPE),
                };
                (wanted(states, state) && wanted(types, kind)).then(|| {
                    ListedGroup::default()
                        .with_group_id(GroupId(text(id)))
                        .with_protocol_type(text(protocol_type))
                        .with_group_state(text(state))
                        .with_group_type(text(kind))
                })
            })
            .collect()
    }

    /// A group of the classic protocol; any other is «Dead», as a client of the classic protocol would have it.
    pub(super) fn describe(&self, id: &str) -> DescribedGroup {
        let answer = DescribedGroup::default()
            .with_group_id(GroupId(text(id)))
            .with_authorized_operations(NO_OPERATIONS);
        if let Err(error) = check_group_id(id) {
            return answer.with_error_code(error.code());
        }
        let Some(Group { kind: Kind::Classic(classic), .. }) = self.groups.get(id) else {
            return answer.with_group_state(text(DEAD));
        };
        let members = classic
            .members()
            .map(|member| {
                DescribedGroupMember::default()
                    .with_member_id(text(&member.id))
                    .with_group_instance_id(member.instance.as_deref().map(text))
                    .with_client_id(text(&member.client_id))
                    .with_client_host(text(&member.client_host))
                    .with_member_metadata(member.metadata)
                    .with_member_assignment(member.assignment)
            })
            .collect();
        let stable = classic.state() == super::classic::State::Stable;
        answer
            .with_group_state(text(classic.state().name()))
            .with_protocol_type(text(classic.protocol_type()))
            .with_protocol_data(text(if stable { classic.protocol() } else { "" }))
            .with_members(members)
    }

    pub(super) fn consumer_describe(&self, id: &str) -> consumer_group_describe_response::DescribedGroup {
        let answer = consumer_group_describe_response::DescribedGroup::default()
            .with_group_id(GroupId(text(id)))
            .with_authorized_operations(NO_OPERATIONS);
        if let Err(error) = check_group_id(id) {
            return answer.with_error_code(error.code());
        }
        match self.groups.get(id) {
            Some(Group { kind: Kind::Consumer(consumer), .. }) => consumer.describe(answer, &self.topics),
            _ => answer
                .with_error_code(ResponseError::GroupIdNotFound.code())
                .with_error_message(Some(text(&format!("group `{id}` is not a consumer group")))),
        }
    }

    /// An error code, 0 for none.
    pub(super) fn delete(&mut self, id: &str, out: &mut Outputs) -> i16 {
        if let Err(error) = check_group_id(id) {
            return error.code();
        }
        match self.groups.get(id) {
            None => ResponseError::GroupIdNotFound.code(),
            Some(group) if group.has_members() || !is_idle(group) => ResponseError::NonEmptyGroup.code(),
            Some(_) => {
                self.remove_offsets(id, out);
                self.remove_group(id, out);
                0
            }
        }
    }

    /// Takes a group without members and offsets away, from the log too.
    pub(super) fn remove_group(&mut self, id: &str, out: &mut Outputs) {
        match self.groups.get(id) {
            Some(Group { kind: Kind::Classic(classic), .. }) => {
                if !classic.is_idle() {
                    return;
                }
                out.write(&Change::Classic { group: Arc::from(id), value: None }, None);
            }
            Some(Group { kind: Kind::Consumer(_), .. }) => self.make_classic_if_empty(id, out),
            None => return,
        }
        self.groups.remove(id);
    }

    /// A group of the new protocol without members becomes one of the classic protocol, with its offsets.
    pub(super) fn make_classic_if_empty(&mut self, id: &str, out: &mut Outputs) {
        let Some((name, _)) = self.groups.get_key_value(id) else { return };
        let name = name.clone();
        let Some(group) = self.groups.get_mut(id) else { return };
        if let Kind::Consumer(consumer) = &group.kind
            && consumer.members.is_empty()
        {
            consumer.tombstones(&name).iter().for_each(|change| out.write(change, None));
            group.kind = Kind::Classic(Box::<Classic>::default());
        }
    }
}

fn is_idle(group: &Group) -> bool {
    match &group.kind {
        Kind::Classic(classic) => classic.is_idle(),
        Kind::Consumer(consumer) => consumer.members.is_empty(),
    }
}
