//! Groups driven by chance: members come, go, fall silent and come back, the coordinator restarts from its log, and
//! nothing that was promised may break. A run that fails names its seed:
//!
//! `FLOW_GROUPS_SEED=7 cargo test -p flow-broker groups::tests::simulation`

use std::collections::BTreeSet;

use super::super::shard::Kind;
use super::*;

const RUNS: u64 = 40;
const STEPS: usize = 400;
const CLIENTS: usize = 6;
const PARTITIONS: i32 = 8;
/// Rounds of heartbeats in which a group without faults must find its peace.
const ROUNDS_TO_PEACE: usize = 200;

/// Numbers that look random (splitmix64, Steele et al. 2014).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

fn each_seed(run: impl Fn(u64) + std::panic::RefUnwindSafe) {
    let chosen = std::env::var("FLOW_GROUPS_SEED").ok().and_then(|seed| seed.parse::<u64>().ok());
    let seeds = chosen.map_or(0..RUNS, |seed| seed..seed + 1);
    for seed in seeds {
        if let Err(panic) = std::panic::catch_unwind(|| run(seed)) {
            eprintln!(
                "replay with: FLOW_GROUPS_SEED={seed} cargo test -p flow-broker groups::tests::simulation"
            );
            std::panic::resume_unwind(panic);
        }
    }
}

/// What a client of the classic protocol waits for.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    Out,
    Joining(Token),
    Syncing(Token),
    In,
}

struct Member {
    index: usize,
    instance: Option<String>,
    id: String,
    generation: i32,
    phase: Phase,
    share: BTreeSet<i32>,
}

impl Member {
    fn forget(&mut self, with_id: bool) {
        if with_id {
            self.id.clear();
        }
        self.generation = -1;
        self.phase = Phase::Out;
        self.share.clear();
    }
}

struct ClassicRun {
    world: World,
    chance: Chance,
    members: Vec<Member>,
    /// By generation and partition: which client was given it.
    given: BTreeMap<(i32, i32), usize>,
    committed: BTreeMap<i32, i64>,
}

impl ClassicRun {
    fn new(seed: u64) -> ClassicRun {
        let mut chance = Chance(seed);
        let members = (0..CLIENTS)
            .map(|index| Member {
                index,
                instance: chance.one_in(3).then(|| format!("i{index}")),
                id: String::new(),
                generation: -1,
                phase: Phase::Out,
                share: BTreeSet::new(),
            })
            .collect();
        ClassicRun {
            world: World::new(),
            chance,
            members,
            given: BTreeMap::new(),
            committed: BTreeMap::new(),
        }
    }

    /// Takes the answer that a client waits for, if there is one.
    fn listen(&mut self, which: usize) {
        let member = &mut self.members[which];
        match member.phase {
            Phase::Joining(token) => {
                let Some(Reply::Join(answer)) = self.world.reply(token) else { return };
                match ResponseError::try_from_code(answer.error_code) {
                    None => {
                        member.id = answer.member_id.to_string();
                        member.generation = answer.generation_id;
                        // Whoever gets the members leads, and gives each its part.
                        let shares: Vec<(String, String)> =
                            if answer.members.is_empty() || answer.skip_assignment {
                                Vec::new()
                            } else {
                                let count = answer.members.len();
                                let name = |index: usize| answer.members[index].member_id.to_string();
                                let part = |index: usize| {
                                    let own = (0..PARTITIONS).filter(|one| *one as usize % count == index);
                                    own.map(|one| one.to_string()).collect::<Vec<_>>().join(",")
                                };
                                (0..count).map(|index| (name(index), part(index))).collect()
                            };
                        let shares: Vec<(&str, &str)> =
                            shares.iter().map(|(id, share)| (id.as_str(), share.as_str())).collect();
                        let mut request = sync(&member.id, member.generation, &shares);
                        if let Request::Sync(request) = &mut request {
                            request.group_instance_id = member.instance.as_deref().map(text);
                        }
                        member.phase = Phase::Syncing(self.world.send(5, request));
                    }
                    Some(ResponseError::MemberIdRequired) => {
                        member.phase = Phase::Out;
                        member.id = answer.member_id.to_string();
                    }
                    Some(_) => member.forget(true),
                }
            }
            Phase::Syncing(token) => {
                let Some(Reply::Sync(answer)) = self.world.reply(token) else { return };
                if answer.error_code != 0 {
                    let unknown = answer.error_code == code(ResponseError::UnknownMemberId);
                    return member.forget(unknown || member.instance.is_some());
                }
                member.phase = Phase::In;
                let share = String::from_utf8(answer.assignment.to_vec()).unwrap();
                member.share = share.split(',').filter_map(|one| one.parse().ok()).collect();
                for partition in &member.share {
                    let owner = *self.given.entry((member.generation, *partition)).or_insert(member.index);
                    assert_eq!(owner, member.index, "two owners in generation {}", member.generation);
                }
            }
            Phase::Out | Phase::In => {}
        }
    }

    fn act(&mut self, which: usize) {
        self.listen(which);
        let member = &mut self.members[which];
        match member.phase {
            Phase::Out => {
                let request = join(&member.id, member.instance.as_deref());
                member.phase = Phase::Joining(self.world.send(9, request));
            }
            Phase::In => {
                let (id, instance, generation) =
                    (member.id.clone(), member.instance.clone(), member.generation);
                let code = self.world.heartbeat_of(&id, instance.as_deref(), generation);
                let member = &mut self.members[which];
                match ResponseError::try_from_code(code) {
                    None => {}
                    Some(ResponseError::RebalanceInProgress | ResponseError::IllegalGeneration) => {
                        member.forget(false)
                    }
                    Some(_) => member.forget(true),
                }
            }
            Phase::Joining(_) | Phase::Syncing(_) => {}
        }
    }

    fn commit(&mut self, which: usize) {
        let member = &self.members[which];
        let Some(partition) = member.share.first().copied().filter(|_| member.phase == Phase::In) else {
            return;
        };
        let (id, generation) = (member.id.clone(), member.generation);
        let offset = self.chance.below(1_000_000) as i64;
        if self.world.commit(&id, generation, partition, offset) == 0 {
            self.committed.insert(partition, offset);
        }
    }

    fn check_offsets(&self) {
        for (partition, offset) in &self.committed {
            assert_eq!(self.world.offset(*partition), Some(*offset), "partition {partition}");
        }
    }

    fn restart(&mut self) {
        self.world.restart();
        // Connections were cut: answers that did not arrive never will.
        for member in &mut self.members {
            if matches!(member.phase, Phase::Joining(_) | Phase::Syncing(_)) {
                member.forget(false);
            }
        }
        self.world.replies.clear();
        self.check_offsets();
    }

    fn run(mut self) {
        for _ in 0..STEPS {
            let which = self.chance.below(CLIENTS as u64) as usize;
            match self.chance.below(20) {
                0..10 => self.act(which),
                10..13 => self.commit(which),
                // Falls silent, or starts again and has forgotten who it was.
                13 => {
                    let forgets = self.chance.one_in(2);
                    self.members[which].forget(forgets);
                }
                14 => {
                    let member = &mut self.members[which];
                    let id = member.id.clone();
                    member.forget(true);
                    self.world.leave(&[(&id, None)]);
                }
                15 if self.chance.one_in(4) => self.restart(),
                _ => {
                    let ms = self.chance.below(4_000) as i64;
                    self.world.pass(ms);
                }
            }
        }
        self.check_offsets();
        for _ in 0..ROUNDS_TO_PEACE {
            (0..CLIENTS).for_each(|which| self.act(which));
            self.world.pass(1_000);
        }
        assert_eq!(self.world.state(), "Stable");
        let generation = self.world.generation();
        let all: BTreeSet<i32> = self.members.iter().flat_map(|member| member.share.clone()).collect();
        assert_eq!(all, (0..PARTITIONS).collect(), "partitions that nobody reads");
        assert!(
            self.members.iter().all(|member| member.phase == Phase::In && member.generation == generation)
        );
        let Kind::Classic(classic) = &self.world.shard.groups[GROUP].kind else { panic!("not classic") };
        assert_eq!(classic.members().count(), CLIENTS, "members that nobody is");
        self.restart();
    }
}

#[test]
fn classic_members_never_share_a_partition_and_find_peace() {
    each_seed(|seed| ClassicRun::new(seed).run());
}

/// A client of the new protocol.
struct Modern {
    id: String,
    life: usize,
    instance: Option<String>,
    epoch: i32,
    held: BTreeSet<i32>,
    /// What it was last told to hold.
    told: BTreeSet<i32>,
    /// Its last answer was lost, so it tells everything again.
    tells_all: bool,
}

struct ModernRun {
    world: World,
    chance: Chance,
    members: Vec<Modern>,
    partitions: i32,
}

impl ModernRun {
    fn new(seed: u64) -> ModernRun {
        let mut chance = Chance(seed);
        let members = (0..CLIENTS)
            .map(|index| Modern {
                id: format!("m{index}"),
                life: 0,
                instance: chance.one_in(3).then(|| format!("i{index}")),
                epoch: 0,
                held: BTreeSet::new(),
                told: BTreeSet::new(),
                tells_all: false,
            })
            .collect();
        let mut world = World::new();
        world.set_topics(&[("t", PARTITIONS)]);
        ModernRun { world, chance, members, partitions: PARTITIONS }
    }

    fn beat(&mut self, which: usize, lost: bool) {
        let member = &mut self.members[which];
        // It lets go of what it was not told to hold, and takes what is new.
        member.held = member.told.clone();
        let held = consumer_group_heartbeat_request::TopicPartitions::default()
            .with_topic_id(topic_id("t"))
            .with_partitions(member.held.iter().copied().collect());
        let all = member.epoch == 0 || member.tells_all;
        let request = ConsumerGroupHeartbeatRequest::default()
            .with_group_id(group(GROUP))
            .with_member_id(text(&member.id))
            .with_instance_id(member.instance.as_deref().map(text))
            .with_member_epoch(member.epoch)
            .with_rebalance_timeout_ms(if all { REBALANCE_MS as i32 } else { -1 })
            .with_subscribed_topic_names(all.then(|| vec![topic_name("t")]))
            .with_topic_partitions(Some(if member.held.is_empty() { Vec::new() } else { vec![held] }));
        let token = self.world.send(1, Request::ConsumerHeartbeat(request));
        let Some(Reply::ConsumerHeartbeat(answer)) = self.world.reply(token) else { panic!("no answer") };
        self.check();
        let member = &mut self.members[which];
        member.tells_all = lost;
        if lost {
            return;
        }
        match ResponseError::try_from_code(answer.error_code) {
            None => {
                member.epoch = answer.member_epoch;
                if let Some(assignment) = answer.assignment {
                    let topics = assignment.topic_partitions;
                    member.told = topics.into_iter().flat_map(|topic| topic.partitions).collect();
                    // Going is at once, coming with the next heartbeat.
                    member.held.retain(|partition| member.told.contains(partition));
                }
            }
            Some(ResponseError::UnreleasedInstanceId) => {}
            Some(_) => self.forget(which, false),
        }
    }

    fn forget(&mut self, which: usize, new_id: bool) {
        let member = &mut self.members[which];
        member.life += usize::from(new_id);
        if new_id {
            member.id = format!("m{which}-{}", member.life);
        }
        member.epoch = 0;
        member.held.clear();
        member.told.clear();
    }

    /// No partition is with two members, in the coordinator's eyes or in those of the members it knows.
    fn check(&self) {
        let Kind::Consumer(consumer) = &self.world.shard.groups[GROUP].kind else {
            panic!("not a consumer group")
        };
        let mut owners: BTreeMap<i32, String> = BTreeMap::new();
        let mut own = |partition: i32, id: &str| {
            let owner = owners.entry(partition).or_insert_with(|| id.to_owned());
            assert_eq!(owner, id, "partition {partition} has two owners");
        };
        for (id, epoch, assigned) in consumer.assigned() {
            assigned.values().flatten().for_each(|partition| own(*partition, id));
            if let Some(member) =
                self.members.iter().find(|member| *member.id == **id && member.epoch == epoch)
            {
                member.held.iter().for_each(|partition| own(*partition, id));
            }
        }
    }

    fn run(mut self) {
        for _ in 0..STEPS {
            let which = self.chance.below(CLIENTS as u64) as usize;
            match self.chance.below(20) {
                0..11 => self.beat(which, false),
                11 => self.beat(which, true),
                12 => {
                    let new_id = self.chance.one_in(2);
                    self.forget(which, new_id);
                }
                13 => {
                    let member = &self.members[which];
                    let away = if member.instance.is_some() && self.chance.one_in(2) { -2 } else { -1 };
                    let request = ConsumerGroupHeartbeatRequest::default()
                        .with_group_id(group(GROUP))
                        .with_member_id(text(&member.id))
                        .with_instance_id(member.instance.as_deref().map(text))
                        .with_member_epoch(away);
                    self.world.send(1, Request::ConsumerHeartbeat(request));
                    self.forget(which, true);
                }
                14 if self.chance.one_in(4) => {
                    self.partitions += 1;
                    self.world.set_topics(&[("t", self.partitions)]);
                }
                15 if self.chance.one_in(4) => self.world.restart(),
                _ => {
                    let ms = self.chance.below(10_000) as i64;
                    self.world.pass(ms);
                }
            }
        }
        for _ in 0..ROUNDS_TO_PEACE {
            (0..CLIENTS).for_each(|which| self.beat(which, false));
            self.world.pass(1_000);
        }
        assert_eq!(self.world.state(), "Stable");
        let sizes: Vec<usize> = self.members.iter().map(|member| member.held.len()).collect();
        let all: BTreeSet<i32> = self.members.iter().flat_map(|member| member.held.clone()).collect();
        assert_eq!(all, (0..self.partitions).collect(), "partitions that nobody reads");
        assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1, "uneven: {sizes:?}");
        self.world.restart();
        assert_eq!(self.world.state(), "Stable");
    }
}

#[test]
fn modern_members_never_share_a_partition_and_find_peace() {
    each_seed(|seed| ModernRun::new(seed).run());
}
