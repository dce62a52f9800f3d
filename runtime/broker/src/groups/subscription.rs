//! What members of the classic protocol tell each other through the coordinator: which topics they read, and who
//! reads what (`ConsumerProtocolSubscription` and `ConsumerProtocolAssignment` of Kafka's clients). The coordinator
//! itself does not look into these bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::codec::{CodecError, Reader, Writer};
use super::consumer::{Assignor, Wish, assign};
use super::records::{Assignment, TopicValue};

/// The version written: topics, user data, and what the member holds.
const SUBSCRIPTION: i16 = 1;
/// The oldest version is what every client reads.
const ASSIGNMENT: i16 = 0;

/// How the partitions of a group are shared out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GroupAssignor {
    /// Each member gets a run of every topic.
    #[default]
    Range,
    /// Partition by partition, member after member.
    RoundRobin,
    /// Evenly, and with as few moves as can be.
    Sticky,
}

impl GroupAssignor {
    const ALL: [GroupAssignor; 3] = [GroupAssignor::Range, GroupAssignor::RoundRobin, GroupAssignor::Sticky];

    /// The name under which members of all clients know it.
    pub fn name(self) -> &'static str {
        match self {
            GroupAssignor::Range => "range",
            GroupAssignor::RoundRobin => "roundrobin",
            GroupAssignor::Sticky => "sticky",
        }
    }

    pub(super) fn parse(name: &str) -> Option<GroupAssignor> {
        GroupAssignor::ALL.into_iter().find(|assignor| assignor.name() == name)
    }

    /// All of them, this one first: a group with members of other programs needs one that all know.
    pub(super) fn preferred(self) -> Vec<GroupAssignor> {
        let others = GroupAssignor::ALL.into_iter().filter(|other| *other != self);
        std::iter::once(self).chain(others).collect()
    }
}

pub(super) fn encode_subscription(topics: &[String]) -> Bytes {
    let mut out = Writer::versioned(SUBSCRIPTION);
    out.count(topics.len(), false);
    topics.iter().for_each(|topic| out.string(topic, false));
    out.i32(-1); // no user data
    out.count(0, false); // holds nothing: it gives everything back before it joins
    Bytes::from(out.out)
}

pub(super) fn decode_subscription(bytes: &[u8]) -> Result<BTreeSet<Arc<str>>, CodecError> {
    let mut from = Reader::new(bytes);
    from.i16()?;
    (0..from.count(false)?).map(|_| from.string(false)).collect()
}

pub(super) fn encode_assignment(share: &[(String, i32)]) -> Bytes {
    let mut by_topic: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for (topic, partition) in share {
        by_topic.entry(topic).or_default().push(*partition);
    }
    let mut out = Writer::versioned(ASSIGNMENT);
    out.count(by_topic.len(), false);
    for (topic, partitions) in by_topic {
        out.string(topic, false);
        out.count(partitions.len(), false);
        partitions.into_iter().for_each(|partition| out.i32(partition));
    }
    out.i32(-1); // no user data
    Bytes::from(out.out)
}

/// No bytes at all are an assignment of nothing.
pub(super) fn decode_assignment(bytes: &[u8]) -> Option<Vec<(String, i32)>> {
    if bytes.is_empty() {
        return Some(Vec::new());
    }
    let mut from = Reader::new(bytes);
    from.i16().ok()?;
    let mut share = Vec::new();
    for _ in 0..from.count(false).ok()? {
        let topic = from.string(false).ok()?;
        for _ in 0..from.count(false).ok()? {
            share.push((topic.to_string(), from.i32().ok()?));
        }
    }
    Some(share)
}

/// Gives each member its share of the topics that it reads and that are there.
pub(super) fn share_out(
    assignor: GroupAssignor,
    members: BTreeMap<String, BTreeSet<Arc<str>>>,
    before: &BTreeMap<String, Vec<(String, i32)>>,
    partition_count: impl Fn(&str) -> Option<i32>,
) -> BTreeMap<String, Vec<(String, i32)>> {
    let names: BTreeSet<&Arc<str>> = members.values().flatten().collect();
    // Ids that mean something here only.
    let topics: BTreeMap<Arc<str>, TopicValue> = names
        .into_iter()
        .zip(1u128..)
        .filter_map(|(name, id)| {
            partition_count(name)
                .map(|partitions| (name.clone(), TopicValue { id: Uuid::from_u128(id), partitions }))
        })
        .collect();
    let by_id: BTreeMap<Uuid, &Arc<str>> = topics.iter().map(|(name, topic)| (topic.id, name)).collect();
    if assignor == GroupAssignor::RoundRobin {
        return round_robin(&members, &topics);
    }
    let ids: Vec<Arc<str>> = members.keys().map(|id| Arc::from(id.as_str())).collect();
    let had: Vec<Assignment> = members
        .keys()
        .map(|id| {
            let mut had = Assignment::new();
            for (name, partition) in before.get(id).into_iter().flatten() {
                if let Some(topic) = topics.get(name.as_str()) {
                    had.entry(topic.id).or_default().insert(*partition);
                }
            }
            had
        })
        .collect();
    let wishes = ids.iter().zip(members.values()).zip(&had).map(|((member, topics), before)| Wish {
        member,
        order: ("", member),
        topics: topics.iter().collect(),
        before: Some(before),
    });
    let kind = if assignor == GroupAssignor::Range { Assignor::Range } else { Assignor::Uniform };
    assign(kind, wishes.collect(), &topics)
        .into_iter()
        .map(|(member, share)| {
            let share = share.into_iter().flat_map(|(topic, partitions)| {
                let name = by_id[&topic].to_string();
                partitions.into_iter().map(move |partition| (name.clone(), partition))
            });
            (member.to_string(), share.collect())
        })
        .collect()
}

fn round_robin(
    members: &BTreeMap<String, BTreeSet<Arc<str>>>,
    topics: &BTreeMap<Arc<str>, TopicValue>,
) -> BTreeMap<String, Vec<(String, i32)>> {
    let mut shares: BTreeMap<String, Vec<(String, i32)>> =
        members.keys().map(|member| (member.clone(), Vec::new())).collect();
    let mut turns = members.iter().cycle();
    for (name, topic) in topics {
        for partition in 0..topic.partitions {
            // Every topic here has a reader, so one round finds one.
            let reader = turns.by_ref().take(members.len()).find(|(_, reads)| reads.contains(name));
            if let Some(share) = reader.and_then(|(member, _)| shares.get_mut(member)) {
                share.push((name.to_string(), partition));
            }
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(of: &[(&str, &[&str])]) -> BTreeMap<String, BTreeSet<Arc<str>>> {
        of.iter()
            .map(|(id, topics)| ((*id).to_owned(), topics.iter().map(|topic| Arc::from(*topic)).collect()))
            .collect()
    }

    fn count(topic: &str) -> Option<i32> {
        match topic {
            "t" => Some(3),
            "u" => Some(2),
            _ => None,
        }
    }

    #[test]
    fn every_partition_has_one_reader_whatever_the_assignor() {
        let group = members(&[("a", &["t", "u", "none"]), ("b", &["t"]), ("c", &["u", "t"])]);
        for assignor in GroupAssignor::ALL {
            let shares = share_out(assignor, group.clone(), &BTreeMap::new(), count);
            let mut all: Vec<_> = shares.values().flatten().cloned().collect();
            all.sort();
            let expected = [("t", 0), ("t", 1), ("t", 2), ("u", 0), ("u", 1)];
            assert_eq!(all, expected.map(|(topic, partition)| (topic.to_owned(), partition)), "{assignor:?}");
            assert!(shares["b"].iter().all(|(topic, _)| topic == "t"));
        }
    }

    #[test]
    fn sticky_keeps_what_was() {
        let group = members(&[("a", &["t"]), ("b", &["t"])]);
        let first = share_out(GroupAssignor::Sticky, group, &BTreeMap::new(), count);
        let group = members(&[("0", &["t"]), ("a", &["t"]), ("b", &["t"])]);
        let second = share_out(GroupAssignor::Sticky, group, &first, count);
        for member in ["a", "b"] {
            assert!(second[member].iter().all(|one| first[member].contains(one)), "{first:?} {second:?}");
        }
    }

    #[test]
    fn what_members_say_comes_back() {
        let subscription = encode_subscription(&["t".to_owned(), "u".to_owned()]);
        assert_eq!(
            decode_subscription(&subscription).unwrap(),
            BTreeSet::from([Arc::from("t"), Arc::from("u")])
        );
        let share = vec![("t".to_owned(), 1), ("t".to_owned(), 2), ("u".to_owned(), 0)];
        assert_eq!(decode_assignment(&encode_assignment(&share)), Some(share));
        assert_eq!(decode_assignment(&[]), Some(Vec::new()));
        assert_eq!(decode_assignment(&[0, 0, 0x7f, 0xff, 0xff, 0xff]), None);
        assert!(decode_subscription(&[0]).is_err());
    }
}
