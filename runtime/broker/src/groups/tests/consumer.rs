//! The new protocol, heartbeat by heartbeat.

use kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;

use super::*;

/// What a client of the new protocol knows.
struct Client {
    id: String,
    instance: Option<&'static str>,
    epoch: i32,
    held: Vec<i32>,
}

impl Client {
    fn new(id: &str) -> Client {
        Client { id: id.to_owned(), instance: None, epoch: 0, held: Vec::new() }
    }

    fn fixed(id: &str, instance: &'static str) -> Client {
        Client { instance: Some(instance), ..Client::new(id) }
    }

    fn request(&self) -> ConsumerGroupHeartbeatRequest {
        let held = TopicPartitions::default().with_topic_id(topic_id("t")).with_partitions(self.held.clone());
        ConsumerGroupHeartbeatRequest::default()
            .with_group_id(group(GROUP))
            .with_member_id(text(&self.id))
            .with_instance_id(self.instance.map(text))
            .with_member_epoch(self.epoch)
            .with_rebalance_timeout_ms(if self.epoch == 0 { REBALANCE_MS as i32 } else { -1 })
            .with_subscribed_topic_names((self.epoch == 0).then(|| vec![topic_name("t")]))
            .with_topic_partitions(Some(if self.held.is_empty() { Vec::new() } else { vec![held] }))
    }

    /// A heartbeat that obeys the answer; gives the error code.
    fn beat(&mut self, world: &mut World) -> i16 {
        let answer = send(world, 1, self.request());
        if answer.error_code == 0 {
            self.epoch = answer.member_epoch;
            if let Some(assignment) = answer.assignment {
                self.held =
                    assignment.topic_partitions.iter().flat_map(|topic| topic.partitions.clone()).collect();
            }
        }
        answer.error_code
    }

    fn leave(&mut self, world: &mut World, epoch: i32) -> i16 {
        self.epoch = epoch;
        let code = send(world, 1, self.request()).error_code;
        self.held.clear();
        code
    }
}

fn send(
    world: &mut World,
    version: i16,
    request: ConsumerGroupHeartbeatRequest,
) -> ConsumerGroupHeartbeatResponse {
    let token = world.send(version, Request::ConsumerHeartbeat(request));
    match world.reply(token) {
        Some(Reply::ConsumerHeartbeat(answer)) => answer,
        other => panic!("{other:?}"),
    }
}

fn world(partitions: i32) -> World {
    let mut world = World::new();
    world.set_topics(&[("t", partitions), ("u", 2), ("__own", 1)]);
    world
}

#[test]
fn a_second_member_gets_what_the_first_gives_back() {
    let mut world = world(4);
    let (mut a, mut b) = (Client::new("a"), Client::new("b"));
    assert_eq!(a.beat(&mut world), 0);
    assert_eq!((a.epoch, &a.held[..]), (1, &[0, 1, 2, 3][..]));
    assert_eq!(world.state(), "Stable");

    assert_eq!(b.beat(&mut world), 0);
    assert_eq!((b.epoch, b.held.len()), (2, 0));
    assert_eq!(world.state(), "Reconciling");
    let before = a.held.clone();
    a.beat(&mut world);
    assert_eq!((a.epoch, a.held.len()), (1, 2), "asked to give two back, and not yet in the new epoch");
    b.beat(&mut world);
    assert!(b.held.is_empty(), "the first member has not said that it gave them back");
    a.beat(&mut world);
    assert_eq!((a.epoch, a.held.len()), (2, 2));
    b.beat(&mut world);
    let mut all = [a.held.clone(), b.held.clone()].concat();
    all.sort_unstable();
    assert_eq!(all, before);
    assert_eq!(world.state(), "Stable");
    world.restart();
    assert_eq!(world.state(), "Stable");
    assert_eq!((a.beat(&mut world), b.beat(&mut world)), (0, 0));
}

#[test]
fn a_member_that_does_not_give_back_in_time_is_out() {
    let mut world = world(2);
    let (mut a, mut b) = (Client::new("a"), Client::new("b"));
    a.beat(&mut world);
    b.beat(&mut world);
    let stubborn = a.held.clone();
    for _ in 0..(REBALANCE_MS / 5_000 - 1) {
        world.pass(5_000);
        b.beat(&mut world);
        assert_eq!(a.beat(&mut world), 0);
        a.held = stubborn.clone();
    }
    world.pass(10_000);
    assert_eq!(a.beat(&mut world), code(ResponseError::UnknownMemberId));
    b.beat(&mut world);
    assert_eq!(b.held, [0, 1]);
}

#[test]
fn a_silent_member_is_out_after_its_session() {
    let mut world = world(2);
    let (mut a, mut b) = (Client::new("a"), Client::new("b"));
    a.beat(&mut world);
    world.pass(20_000);
    b.beat(&mut world);
    world.pass(25_000);
    b.beat(&mut world);
    assert_eq!(b.held, [0, 1]);
    assert_eq!(a.beat(&mut world), code(ResponseError::UnknownMemberId));
    world.pass(45_000);
    assert_eq!(world.state(), "Empty");
    world.restart();
    assert_eq!(world.state(), "Empty");
}

#[test]
fn epochs_fence() {
    let mut world = world(2);
    let mut a = Client::new("a");
    a.beat(&mut world);
    let fenced = code(ResponseError::FencedMemberEpoch);
    let mut wrong = a.request();
    wrong.member_epoch = 2;
    assert_eq!(send(&mut world, 1, wrong).error_code, fenced);
    // The answer to the join was lost: joining again gives the same.
    let mut again = Client::new("a");
    assert_eq!(again.beat(&mut world), 0);
    assert_eq!(again.held, [0, 1]);

    let mut b = Client::new("b");
    b.beat(&mut world);
    a = again;
    a.beat(&mut world);
    let old = a.epoch;
    a.beat(&mut world);
    assert!(a.epoch > old);
    // The answer with the newer epoch was lost, and it holds what it was given: accepted.
    let mut behind = a.request();
    behind.member_epoch = old;
    assert_eq!(send(&mut world, 1, behind.clone()).error_code, 0);
    behind.topic_partitions.as_mut().unwrap()[0].partitions = vec![0, 1];
    assert_eq!(send(&mut world, 1, behind).error_code, fenced);

    assert_eq!(world.commit("a", a.epoch, 0, 1), 0);
    assert_eq!(world.commit("a", a.epoch - 1, 0, 1), code(ResponseError::StaleMemberEpoch));
    assert_eq!(world.commit("x", a.epoch, 0, 1), code(ResponseError::UnknownMemberId));
    assert_eq!(world.commit_with(8, "a", a.epoch, 0, 1, ""), code(ResponseError::UnsupportedVersion));
    let asked = OffsetFetchRequestGroup::default()
        .with_group_id(group(GROUP))
        .with_member_id(Some(text("a")))
        .with_member_epoch(a.epoch + 1);
    let token = world.send(9, Request::Fetch { group: asked, require_stable: false });
    match world.reply(token) {
        Some(Reply::Fetch(answer)) => assert_eq!(answer.error_code, code(ResponseError::StaleMemberEpoch)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_fenced_member_joins_anew_with_its_own_id() {
    // Epoch 0 of a known member was taken for an old epoch: the member was fenced again and again until its
    // session ran out. It says that it holds nothing, so it can start from there.
    let mut world = world(2);
    let mut a = Client::new("a");
    a.beat(&mut world);
    world.set_topics(&[("t", 3)]);
    a.beat(&mut world);
    world.set_topics(&[("t", 4)]);
    a.beat(&mut world);
    assert_eq!(a.epoch, 3);
    let mut again = Client::new("a");
    assert_eq!(again.beat(&mut world), 0);
    assert_eq!(again.held, [0, 1, 2, 3]);
}

#[test]
fn new_topics_and_partitions_are_assigned_and_deleted_ones_taken_away() {
    let mut world = world(2);
    let mut a = Client::new("a");
    a.beat(&mut world);
    world.set_topics(&[("t", 5)]);
    a.beat(&mut world);
    assert_eq!((a.epoch, a.held.len()), (2, 5));
    world.set_topics(&[]);
    a.beat(&mut world);
    assert!(a.held.is_empty());
    a.beat(&mut world);
    world.set_topics(&[("t", 1)]);
    a.beat(&mut world);
    assert_eq!(a.held, [0]);
    // A change that concerns nobody makes no epoch.
    let epoch = a.epoch;
    world.set_topics(&[("t", 1), ("other", 1)]);
    a.beat(&mut world);
    assert_eq!(a.epoch, epoch);
}

#[test]
fn a_regex_reads_the_topics_it_matches_whole() {
    let mut world = world(2);
    let regex = |pattern: &str| {
        let mut request = Client::new("a").request();
        request.subscribed_topic_names = Some(Vec::new());
        request.subscribed_topic_regex = Some(text(pattern));
        request
    };
    let bad = send(&mut world, 1, regex("(t"));
    assert_eq!(bad.error_code, code(ResponseError::InvalidRegularExpression));
    assert_eq!(world.state(), "Empty");
    let answer = send(&mut world, 1, regex("[a-z]|_.*"));
    assert_eq!(answer.assignment.map(|assignment| assignment.topic_partitions.len()), Some(2));
    world.set_topics(&[("t", 2), ("u", 2), ("v", 2), ("vv", 2)]);
    let mut beat = Client::new("a").request();
    beat.member_epoch = answer.member_epoch;
    beat.topic_partitions = None;
    beat.subscribed_topic_names = None;
    beat.rebalance_timeout_ms = -1;
    let answer = send(&mut world, 1, beat);
    assert_eq!(answer.assignment.map(|assignment| assignment.topic_partitions.len()), Some(3));
}

#[test]
fn a_static_member_is_away_and_comes_back_to_what_it_had() {
    let mut world = world(4);
    let (mut a, mut b) = (Client::fixed("a", "i"), Client::fixed("b", "j"));
    a.beat(&mut world);
    b.beat(&mut world);
    for _ in 0..3 {
        a.beat(&mut world);
        b.beat(&mut world);
    }
    let had = a.held.clone();
    let mut thief = Client::fixed("c", "i");
    assert_eq!(thief.beat(&mut world), code(ResponseError::UnreleasedInstanceId));
    assert_eq!(a.leave(&mut world, -2), 0);
    b.beat(&mut world);
    assert_eq!(b.held.len(), 2, "what an absent member has stays its own");
    let mut back = Client::fixed("a2", "i");
    assert_eq!(back.beat(&mut world), 0);
    assert_eq!(back.held, had);
    a.epoch = 3;
    assert_eq!(a.beat(&mut world), code(ResponseError::FencedInstanceId));
    world.restart();
    assert_eq!(back.beat(&mut world), 0);
    assert_eq!(back.leave(&mut world, -2), 0);
    world.pass(20_000);
    b.beat(&mut world);
    world.pass(25_000);
    b.beat(&mut world);
    assert_eq!(b.held.len(), 4, "its session ran out while it was away");
}

#[test]
fn groups_change_their_protocol_when_they_are_empty_and_keep_their_offsets() {
    let mut world = world(2);
    let ids = world.stable_group(1);
    assert_eq!(world.commit(&ids[0], 1, 0, 9), 0);
    let mut a = Client::new("a");
    assert_eq!(a.beat(&mut world), code(ResponseError::GroupIdNotFound));
    world.leave(&[(&ids[0], None)]);
    world.pass(REBALANCE_MS);
    assert_eq!(a.beat(&mut world), 0);
    assert_eq!(world.offset(0), Some(9));
    world.restart();
    assert_eq!(a.beat(&mut world), 0);

    let token = world.send(OLD_JOIN, join("", None));
    assert_eq!(world.joined(token).error_code, code(ResponseError::InconsistentGroupProtocol));
    assert_eq!(a.leave(&mut world, -1), 0);
    let token = world.send(OLD_JOIN, join("", None));
    world.pass(3_000);
    assert_eq!(world.joined(token).error_code, 0);
    world.restart();
    assert_eq!(world.offset(0), Some(9));
    assert_eq!(world.shard.groups.len(), 1);
}

#[test]
fn bad_heartbeats_are_refused_and_leave_nothing() {
    let mut world = world(2);
    let good = || Client::new("a").request();
    let invalid = ResponseError::InvalidRequest;
    let cases = [
        (1, good().with_group_id(group("")), invalid),
        (1, good().with_member_id(text("")), invalid),
        (1, good().with_member_epoch(-3), invalid),
        (1, good().with_member_epoch(-2), invalid),
        (1, good().with_rebalance_timeout_ms(-1), invalid),
        (1, good().with_rebalance_timeout_ms(-7), invalid),
        (1, good().with_topic_partitions(None), invalid),
        (1, good().with_subscribed_topic_names(None), invalid),
        (0, good().with_subscribed_topic_names(Some(Vec::new())), invalid),
        (1, good().with_instance_id(Some(text(""))), invalid),
        (1, good().with_rack_id(Some(text(""))), invalid),
        (1, good().with_server_assignor(Some(text("mine"))), ResponseError::UnsupportedAssignor),
        (1, good().with_member_epoch(4), ResponseError::GroupIdNotFound),
        (1, good().with_member_epoch(-1), ResponseError::GroupIdNotFound),
    ];
    for (version, request, error) in cases {
        let answer = send(&mut world, version, request.clone());
        assert_eq!(answer.error_code, code(error), "{request:?}");
    }
    assert!(world.shard.groups.is_empty() && world.log.is_empty());
    // Version 0: the coordinator makes the id.
    let answer = send(&mut world, 0, good().with_member_id(text("")));
    assert_eq!(answer.error_code, 0);
    assert!(answer.member_id.is_some_and(|id| !id.is_empty()));
}

#[test]
fn members_choose_the_assignor_by_majority() {
    let mut world = world(4);
    for id in ["a", "b"] {
        let answer = send(&mut world, 1, Client::new(id).request().with_server_assignor(Some(text("range"))));
        assert_eq!(answer.error_code, 0);
    }
    let token = world.send(1, Request::ConsumerDescribe(Arc::from(GROUP)));
    match world.reply(token) {
        Some(Reply::ConsumerDescribe(group)) => {
            assert_eq!((group.assignor_name.as_str(), group.group_epoch), ("range", 2));
            assert_eq!(group.members[1].target_assignment.topic_partitions[0].partitions, [2, 3]);
            assert_eq!(group.members[1].target_assignment.topic_partitions[0].topic_name.as_str(), "t");
        }
        other => panic!("{other:?}"),
    }
}
