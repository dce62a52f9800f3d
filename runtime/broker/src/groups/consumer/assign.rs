//! Who shall read what: the server-side assignors of KIP-848. `range` gives each member a run of every topic's
//! partitions; `uniform` gives members equally much and moves as little as it can.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use indexmap::IndexMap;
use uuid::Uuid;

use super::Member;
use crate::groups::records::{Assignment, TopicValue};

/// Rounds of moving partitions from fuller members to emptier ones; each makes the spread smaller.
const BALANCE_ROUNDS_MAX: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::groups) enum Assignor {
    Uniform,
    Range,
}

impl Assignor {
    pub fn parse(name: &str) -> Option<Assignor> {
        match name {
            "uniform" => Some(Assignor::Uniform),
            "range" => Some(Assignor::Range),
            _ => None,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Assignor::Uniform => "uniform",
            Assignor::Range => "range",
        }
    }

    /// The one that most members ask for; without a wish it is `uniform`.
    pub fn of_members(members: &IndexMap<Arc<str>, Member>) -> Assignor {
        let wishes = members.values().filter_map(|member| Assignor::parse(member.value.assignor.as_deref()?));
        let (mut uniform, mut range) = (0usize, 0usize);
        for wish in wishes {
            match wish {
                Assignor::Uniform => uniform += 1,
                Assignor::Range => range += 1,
            }
        }
        if range > uniform { Assignor::Range } else { Assignor::Uniform }
    }
}

/// A member as the assignors see it: the topics it reads, and what it was to read until now.
pub(in crate::groups) struct Wish<'a> {
    pub member: &'a Arc<str>,
    /// What range sorts by, so that a static member keeps its place under a new id.
    pub order: (&'a str, &'a str),
    pub topics: BTreeSet<&'a Arc<str>>,
    pub before: Option<&'a Assignment>,
}

/// The assignment of every member. Each partition of a topic that anybody reads goes to exactly one of those who
/// read it.
pub(in crate::groups) fn assign(
    assignor: Assignor,
    mut wishes: Vec<Wish<'_>>,
    topics: &BTreeMap<Arc<str>, TopicValue>,
) -> BTreeMap<Arc<str>, Assignment> {
    wishes.sort_by(|a, b| a.order.cmp(&b.order));
    let shares = match assignor {
        Assignor::Range => range(&wishes, topics),
        Assignor::Uniform => uniform(&wishes, topics),
    };
    wishes.iter().zip(shares).map(|(wish, share)| (wish.member.clone(), share)).collect()
}

fn range(wishes: &[Wish<'_>], topics: &BTreeMap<Arc<str>, TopicValue>) -> Vec<Assignment> {
    let mut shares = vec![Assignment::new(); wishes.len()];
    for (name, topic) in topics {
        let readers: Vec<usize> =
            (0..wishes.len()).filter(|index| wishes[*index].topics.contains(name)).collect();
        if readers.is_empty() {
            continue;
        }
        let partitions = topic.partitions.max(0) as usize;
        let (each, more) = (partitions / readers.len(), partitions % readers.len());
        let mut from = 0;
        for (place, reader) in readers.into_iter().enumerate() {
            let to = from + each + usize::from(place < more);
            if to > from {
                shares[reader].insert(topic.id, (from..to).map(|partition| partition as i32).collect());
            }
            from = to;
        }
    }
    shares
}

fn uniform(wishes: &[Wish<'_>], topics: &BTreeMap<Arc<str>, TopicValue>) -> Vec<Assignment> {
    // Readers by topic id, as places in `wishes`.
    let mut readers: BTreeMap<Uuid, Vec<usize>> = BTreeMap::new();
    for (name, topic) in topics {
        let own: Vec<usize> =
            (0..wishes.len()).filter(|index| wishes[*index].topics.contains(name)).collect();
        if !own.is_empty() {
            readers.insert(topic.id, own);
        }
    }
    let sizes: BTreeMap<Uuid, i32> = topics.values().map(|topic| (topic.id, topic.partitions)).collect();
    let mut owner: BTreeMap<(Uuid, i32), usize> = BTreeMap::new();
    let mut load = vec![0usize; wishes.len()];

    // What was stays as far as it can be, within a share that is fair if all read the same topics.
    let total: usize = readers.keys().map(|topic| sizes[topic].max(0) as usize).sum();
    let same = wishes.iter().all(|wish| wish.topics == wishes[0].topics);
    let (each, mut more) = if same && !wishes.is_empty() {
        (total / wishes.len(), total % wishes.len())
    } else {
        (usize::MAX, 0)
    };
    for (index, wish) in wishes.iter().enumerate() {
        for (topic, partitions) in wish.before.into_iter().flatten() {
            let Some(own) = readers.get(topic) else { continue };
            if own.binary_search(&index).is_err() {
                continue;
            }
            for partition in partitions.iter().filter(|partition| (0..sizes[topic]).contains(*partition)) {
                let full = load[index] >= each;
                if full && (more == 0 || load[index] > each) || owner.contains_key(&(*topic, *partition)) {
                    continue;
                }
                more -= usize::from(full);
                owner.insert((*topic, *partition), index);
                load[index] += 1;
            }
        }
    }

    // The rest goes to whoever has least of those who read the topic; topics with few readers first.
    let mut order: Vec<(&Uuid, &Vec<usize>)> = readers.iter().collect();
    order.sort_by_key(|(_, own)| own.len());
    for (topic, own) in order {
        for partition in 0..sizes[topic] {
            if !owner.contains_key(&(*topic, partition))
                && let Some(least) = own.iter().copied().min_by_key(|index| load[*index])
            {
                owner.insert((*topic, partition), least);
                load[least] += 1;
            }
        }
    }

    for _ in 0..BALANCE_ROUNDS_MAX {
        let mut moved = false;
        for ((topic, _), has) in &mut owner {
            if let Some(least) = readers[topic].iter().copied().min_by_key(|index| load[*index])
                && load[least] + 1 < load[*has]
            {
                load[*has] -= 1;
                load[least] += 1;
                *has = least;
                moved = true;
            }
        }
        if !moved {
            break;
        }
    }

    let mut shares = vec![Assignment::new(); wishes.len()];
    for ((topic, partition), index) in owner {
        shares[index].entry(topic).or_default().insert(partition);
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Group {
        topics: BTreeMap<Arc<str>, TopicValue>,
        members: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
        target: BTreeMap<Arc<str>, Assignment>,
    }

    impl Group {
        fn new(topics: &[(&str, i32)], members: &[(&str, &[&str])]) -> Group {
            let topics = topics.iter().enumerate().map(|(index, (name, partitions))| {
                (
                    Arc::from(*name),
                    TopicValue { id: Uuid::from_u128(index as u128 + 1), partitions: *partitions },
                )
            });
            let members = members.iter().map(|(name, topics)| {
                (Arc::from(*name), topics.iter().map(|topic| Arc::from(*topic)).collect())
            });
            Group { topics: topics.collect(), members: members.collect(), target: BTreeMap::new() }
        }

        fn assign(&mut self, assignor: Assignor) -> Vec<usize> {
            let wishes = self
                .members
                .iter()
                .map(|(member, topics)| Wish {
                    member,
                    order: ("", member),
                    topics: topics.iter().collect(),
                    before: self.target.get(member),
                })
                .collect();
            self.target = assign(assignor, wishes, &self.topics);
            let mut all: Vec<(Uuid, i32)> = self.target.values().flat_map(super::super::partitions).collect();
            let count = all.len();
            all.sort();
            all.dedup();
            assert_eq!(all.len(), count, "a partition has two owners");
            let read =
                self.topics.iter().filter(|(name, _)| self.members.values().any(|own| own.contains(*name)));
            assert_eq!(
                count as i32,
                read.map(|(_, topic)| topic.partitions).sum::<i32>(),
                "a partition is forgotten"
            );
            self.target.values().map(|share| super::super::partitions(share).count()).collect()
        }
    }

    #[test]
    fn range_gives_runs() {
        let mut group = Group::new(&[("t", 7)], &[("a", &["t"]), ("b", &["t"]), ("c", &["t"])]);
        assert_eq!(group.assign(Assignor::Range), [3, 2, 2]);
        assert_eq!(group.target["b"].values().next().unwrap(), &BTreeSet::from([3, 4]));
    }

    #[test]
    fn uniform_is_even_and_moves_only_what_it_must() {
        let mut group = Group::new(&[("t", 6), ("u", 6)], &[("a", &["t", "u"]), ("b", &["t", "u"])]);
        assert_eq!(group.assign(Assignor::Uniform), [6, 6]);
        let before = group.target.clone();
        group.members.insert(Arc::from("c"), group.members["a"].clone());
        assert_eq!(group.assign(Assignor::Uniform), [4, 4, 4]);
        for name in ["a", "b"] {
            let old: BTreeSet<_> = super::super::partitions(&before[name]).collect();
            assert!(super::super::partitions(&group.target[name]).all(|partition| old.contains(&partition)));
        }
        group.members.remove("b");
        assert_eq!(group.assign(Assignor::Uniform), [6, 6]);
    }

    #[test]
    fn uniform_balances_members_that_read_different_topics() {
        let mut group =
            Group::new(&[("t", 4), ("u", 8)], &[("a", &["t"]), ("b", &["t", "u"]), ("c", &["u"])]);
        let spread = |sizes: Vec<usize>| sizes.iter().max().unwrap() - sizes.iter().min().unwrap();
        assert!(spread(group.assign(Assignor::Uniform)) <= 2);
        group.members.insert(Arc::from("d"), BTreeSet::from([Arc::from("u")]));
        assert!(spread(group.assign(Assignor::Uniform)) <= 2);
    }
}
