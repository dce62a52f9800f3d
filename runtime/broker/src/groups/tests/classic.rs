//! The classic protocol, transition by transition.

use super::*;

#[test]
fn a_first_member_waits_for_others_and_then_leads() {
    let mut world = World::new();
    let first = world.send(OLD_JOIN, join("", None));
    world.pass(2_000);
    let second = world.send(OLD_JOIN, join("", None));
    assert_eq!(world.state(), "PreparingRebalance");
    // The delay begins anew for the second member, within the rebalance time-out.
    world.pass(2_000);
    assert!(world.reply(first).is_none());
    world.pass(4_000);
    let (first, second) = (world.joined(first), world.joined(second));
    assert_eq!((first.error_code, first.generation_id), (0, 1));
    assert_eq!(first.leader, first.member_id);
    assert_eq!(first.members.len(), 2);
    assert_eq!(second.leader, first.member_id);
    assert!(second.members.is_empty());
    assert_eq!(world.state(), "CompletingRebalance");

    let follower = world.send(5, sync(&second.member_id, 1, &[]));
    assert!(world.reply(follower).is_none());
    assert_eq!(world.heartbeat(&second.member_id, 1), 0);
    let leader =
        world.send(5, sync(&first.member_id, 1, &[(&first.member_id, "a"), (&second.member_id, "b")]));
    assert_eq!(world.synced(leader).assignment, "a");
    assert_eq!(world.synced(follower).assignment, "b");
    assert_eq!(world.state(), "Stable");
}

#[test]
fn an_id_is_handed_out_first_and_forgotten_in_time() {
    let mut world = World::new();
    let token = world.send(4, join("", None));
    let given = world.joined(token);
    assert_eq!(given.error_code, code(ResponseError::MemberIdRequired));
    assert!(given.member_id.starts_with("client-"));
    let token = world.send(4, join(&given.member_id, None));
    world.pass(3_000);
    assert_eq!(world.joined(token).error_code, 0);

    let mut world = World::new();
    let token = world.send(4, join("", None));
    let given = world.joined(token);
    world.pass(SESSION_MS);
    let token = world.send(4, join(&given.member_id, None));
    assert_eq!(world.joined(token).error_code, code(ResponseError::UnknownMemberId));
    assert_eq!(world.state(), "none");
    assert!(world.log.is_empty());
}

#[test]
fn a_follower_with_the_same_metadata_joins_without_a_rebalance_but_a_leader_begins_one() {
    let mut world = World::new();
    let ids = world.stable_group(2);
    let token = world.send(9, join(&ids[1], None));
    let answer = world.joined(token);
    assert_eq!((answer.error_code, answer.generation_id), (0, 1));
    assert_eq!(world.state(), "Stable");

    let leader = world.send(9, join(&ids[0], None));
    assert_eq!(world.state(), "PreparingRebalance");
    assert_eq!(world.heartbeat(&ids[1], 1), code(ResponseError::RebalanceInProgress));
    let follower = world.send(9, join(&ids[1], None));
    assert_eq!(world.joined(leader).generation_id, 2);
    assert_eq!(world.joined(follower).generation_id, 2);
    assert_eq!(world.heartbeat(&ids[1], 1), code(ResponseError::IllegalGeneration));
}

#[test]
fn a_silent_member_is_out_after_its_session() {
    let mut world = World::new();
    let ids = world.stable_group(2);
    for _ in 0..4 {
        world.pass(SESSION_MS / 2);
        world.heartbeat(&ids[0], 1);
    }
    assert_eq!(world.state(), "PreparingRebalance");
    assert_eq!(world.heartbeat(&ids[1], 1), code(ResponseError::UnknownMemberId));
    let token = world.send(9, join(&ids[0], None));
    let answer = world.joined(token);
    assert_eq!((answer.generation_id, answer.members.len()), (2, 1));
}

#[test]
fn a_member_that_does_not_rejoin_is_out_after_the_rebalance_timeout() {
    let mut world = World::new();
    let ids = world.stable_group(2);
    let leader = world.send(9, join(&ids[0], None));
    for _ in 0..(REBALANCE_MS / SESSION_MS * 2) {
        world.heartbeat(&ids[1], 1);
        world.pass(SESSION_MS / 2);
    }
    let answer = world.joined(leader);
    assert_eq!((answer.generation_id, answer.members.len()), (2, 1));
    assert_eq!(world.heartbeat(&ids[1], 2), code(ResponseError::UnknownMemberId));
}

#[test]
fn a_member_that_joins_and_does_not_sync_is_out_after_the_rebalance_timeout() {
    let mut world = World::new();
    let tokens = [world.send(OLD_JOIN, join("", None)), world.send(OLD_JOIN, join("", None))];
    world.pass(6_000);
    let ids = tokens.map(|token| world.joined(token).member_id.to_string());
    let leader = world.send(5, sync(&ids[0], 1, &[]));
    assert_eq!(world.synced(leader).error_code, 0);
    // The follower lives, but never asks for its assignment.
    for _ in 0..(REBALANCE_MS / SESSION_MS * 2) {
        world.pass(SESSION_MS / 2);
        world.heartbeat(&ids[0], 1);
        world.heartbeat(&ids[1], 1);
    }
    assert_eq!(world.heartbeat(&ids[1], 1), code(ResponseError::UnknownMemberId));
    assert_eq!(world.heartbeat(&ids[0], 1), code(ResponseError::RebalanceInProgress));
}

#[test]
fn a_leader_that_leaves_before_it_assigns_starts_the_rebalance_again() {
    let mut world = World::new();
    let tokens = [world.send(OLD_JOIN, join("", None)), world.send(OLD_JOIN, join("", None))];
    world.pass(6_000);
    let ids = tokens.map(|token| world.joined(token).member_id.to_string());
    let waiting = world.send(5, sync(&ids[1], 1, &[]));
    assert_eq!(world.leave(&[(&ids[0], None)]), [0]);
    assert_eq!(world.synced(waiting).error_code, code(ResponseError::RebalanceInProgress));
    let token = world.send(9, join(&ids[1], None));
    let answer = world.joined(token);
    assert_eq!((answer.leader.as_str(), answer.generation_id), (ids[1].as_str(), 2));
}

#[test]
fn leaving_is_answered_member_by_member_and_the_last_one_leaves_an_empty_group() {
    let mut world = World::new();
    let ids = world.stable_group(2);
    let unknown = code(ResponseError::UnknownMemberId);
    assert_eq!(
        world.leave(&[(&ids[0], None), ("x", None), (&ids[1], None), ("", Some("i"))]),
        [0, unknown, 0, unknown]
    );
    world.pass(REBALANCE_MS);
    assert_eq!(world.state(), "Empty");
    assert_eq!(world.generation(), 2);
    world.restart();
    assert_eq!((world.state().as_str(), world.generation()), ("Empty", 2));
}

#[test]
fn members_of_other_protocols_are_refused_and_votes_decide() {
    let mut world = World::new();
    let of = |protocols: &[(&str, &str)]| Request::Join(join_of("", None, protocols));
    let tokens = [
        world.send(OLD_JOIN, of(&[("a", "1"), ("b", "1")])),
        world.send(OLD_JOIN, of(&[("b", "2"), ("a", "2")])),
        world.send(OLD_JOIN, of(&[("c", "3"), ("b", "3"), ("a", "3")])),
    ];
    let stranger = world.send(OLD_JOIN, of(&[("c", "4")]));
    assert_eq!(world.joined(stranger).error_code, code(ResponseError::InconsistentGroupProtocol));
    let mut connect = join_of("", None, &[("a", "5")]);
    connect.protocol_type = text("connect");
    let token = world.send(OLD_JOIN, Request::Join(connect));
    assert_eq!(world.joined(token).error_code, code(ResponseError::InconsistentGroupProtocol));
    world.pass(6_000);
    let answers = tokens.map(|token| world.joined(token));
    assert_eq!(answers[0].protocol_name.as_deref(), Some("b"));
    let metadata: Vec<&[u8]> = answers[0].members.iter().map(|member| &member.metadata[..]).collect();
    assert_eq!(metadata, [b"1", b"2", b"3"]);

    let none = world.send(OLD_JOIN, of(&[]));
    assert_eq!(world.joined(none).error_code, code(ResponseError::InconsistentGroupProtocol));
    let mut other = match sync(&answers[0].member_id, 1, &[]) {
        Request::Sync(request) => request,
        _ => unreachable!("made a line above"),
    };
    other.protocol_name = Some(text("a"));
    let token = world.send(5, Request::Sync(other));
    assert_eq!(world.synced(token).error_code, code(ResponseError::InconsistentGroupProtocol));
}

fn static_pair(world: &mut World) -> [String; 2] {
    let tokens = [world.send(9, join("", Some("a"))), world.send(9, join("", Some("b")))];
    world.pass(6_000);
    let ids = tokens.map(|token| world.joined(token).member_id.to_string());
    world.send(5, sync(&ids[1], 1, &[]));
    world.send(5, sync(&ids[0], 1, &[(&ids[0], "A"), (&ids[1], "B")]));
    world.replies.clear();
    ids
}

#[test]
fn a_static_member_comes_back_without_a_rebalance_and_its_old_self_is_fenced() {
    let mut world = World::new();
    let ids = static_pair(&mut world);
    let token = world.send(9, join("", Some("b")));
    let back = world.joined(token);
    assert_eq!((back.error_code, back.generation_id, back.skip_assignment), (0, 1, false));
    assert_ne!(back.member_id, *ids[1]);
    let token = world.send(5, sync(&back.member_id, 1, &[]));
    assert_eq!(world.synced(token).assignment, "B");
    assert_eq!(world.state(), "Stable");
    let fenced = code(ResponseError::FencedInstanceId);
    assert_eq!(world.heartbeat_of(&ids[1], Some("b"), 1), fenced);
    let token = world.send(9, join(&ids[1], Some("b")));
    assert_eq!(world.joined(token).error_code, fenced);

    // The leader is told that its assignment stands; an older client is told that it does not lead.
    let token = world.send(9, join("", Some("a")));
    let back = world.joined(token);
    assert!(back.skip_assignment);
    assert_eq!((back.members.len(), &back.leader), (2, &back.member_id));
    let token = world.send(8, join("", Some("a")));
    let again = world.joined(token);
    assert_eq!((again.members.len(), &again.leader), (0, &back.member_id));

    world.restart();
    let token = world.send(5, sync(&again.member_id, 1, &[]));
    assert_eq!(world.synced(token).assignment, "A");
}

#[test]
fn a_static_member_may_be_away_for_its_session_and_an_administrator_takes_it_out() {
    let mut world = World::new();
    let ids = static_pair(&mut world);
    world.pass(SESSION_MS - 1);
    assert_eq!(world.heartbeat_of(&ids[0], Some("a"), 1), 0);
    assert_eq!(world.leave(&[("", Some("b")), ("", Some("c"))]), [0, code(ResponseError::UnknownMemberId)]);
    assert_eq!(world.heartbeat_of(&ids[0], Some("a"), 1), code(ResponseError::RebalanceInProgress));
    assert_eq!(world.heartbeat_of(&ids[1], Some("b"), 1), code(ResponseError::UnknownMemberId));
}

#[test]
fn a_static_member_that_comes_back_with_other_protocols_starts_a_rebalance() {
    let mut world = World::new();
    let ids = static_pair(&mut world);
    world.leave(&[(&ids[0], None)]);
    let token = world.send(9, join(&ids[1], Some("b")));
    assert_eq!(world.joined(token).generation_id, 2);
    world.send(5, sync(&ids[1], 2, &[]));
    let token = world.send(9, Request::Join(join_of("", Some("b"), &[("other", "m"), ("range", "m")])));
    // It is alone: what it votes for wins, and the generation moves.
    let answer = world.joined(token);
    assert_eq!((answer.generation_id, answer.protocol_name.as_deref()), (3, Some("other")));
}

#[test]
fn a_group_has_a_greatest_size() {
    let mut world = World::with(Config { group_max_size: 2, ..Config::default() });
    world.stable_group(2);
    let full = code(ResponseError::GroupMaxSizeReached);
    for version in [OLD_JOIN, 9] {
        let token = world.send(version, join("", None));
        assert_eq!(world.joined(token).error_code, full);
    }
    let mut world = World::with(Config { group_max_size: 2, ..Config::default() });
    let codes: Vec<i16> = (0..4)
        .map(|_| {
            let token = world.send(9, join("", None));
            world.joined(token).error_code
        })
        .collect();
    let required = code(ResponseError::MemberIdRequired);
    assert_eq!(codes, [required, required, full, full], "ids handed out count");
}

#[test]
fn bad_joins_are_refused_and_leave_nothing() {
    let mut world = World::new();
    let good = || join_of("", None, &[("range", "m")]);
    let long = "x".repeat(crate::groups::NAME_BYTES_MAX + 1);
    let huge = "x".repeat(crate::groups::MEMBER_METADATA_BYTES_MAX);
    let cases = [
        (good().with_group_id(group("")), ResponseError::InvalidGroupId),
        (good().with_group_id(group(&long)), ResponseError::InvalidGroupId),
        (good().with_session_timeout_ms(-1), ResponseError::InvalidSessionTimeout),
        (good().with_session_timeout_ms(5_999), ResponseError::InvalidSessionTimeout),
        (good().with_session_timeout_ms(i32::MAX), ResponseError::InvalidSessionTimeout),
        (good().with_member_id(text("who")), ResponseError::UnknownMemberId),
        (good().with_group_instance_id(Some(text(""))), ResponseError::InvalidRequest),
        (good().with_group_instance_id(Some(text(&long))), ResponseError::InvalidRequest),
        (join_of("", None, &[("range", &huge)]), ResponseError::InvalidRequest),
        (good().with_protocol_type(text("")), ResponseError::InconsistentGroupProtocol),
        (good().with_protocols(Vec::new()), ResponseError::InconsistentGroupProtocol),
    ];
    for (request, error) in cases {
        let token = world.send(OLD_JOIN, Request::Join(request));
        assert_eq!(world.joined(token).error_code, code(error), "{error}");
    }
    assert!(world.shard.groups.is_empty() && world.log.is_empty());
    // A negative rebalance time-out is that of version 0: none was given.
    let token = world.send(0, Request::Join(good().with_rebalance_timeout_ms(-5)));
    world.pass(SESSION_MS);
    assert_eq!(world.joined(token).error_code, 0);

    let unknown = code(ResponseError::UnknownMemberId);
    assert_eq!(world.heartbeat("who", 1), unknown);
    let token = world.send(5, sync("who", 1, &[]));
    assert_eq!(world.synced(token).error_code, unknown);
}

#[test]
fn a_group_too_large_for_its_record_is_told_so() {
    let mut world = World::new();
    let ids = world.stable_group(1);
    let token = world.send(9, join(&ids[0], None));
    let generation = world.joined(token).generation_id;
    let huge = "x".repeat(crate::groups::GROUP_RECORD_BYTES_MAX);
    let token = world.send(5, sync(&ids[0], generation, &[(&ids[0], &huge)]));
    assert_eq!(world.synced(token).error_code, code(ResponseError::UnknownServerError));
    assert_eq!(world.state(), "PreparingRebalance");
}

#[test]
fn members_survive_a_restart_and_have_a_session_to_show_themselves() {
    let mut world = World::new();
    let ids = world.stable_group(3);
    world.restart();
    assert_eq!(world.state(), "Stable");
    assert_eq!(world.heartbeat(&ids[0], 1), 0);
    let token = world.send(5, sync(&ids[2], 1, &[]));
    assert_eq!(world.synced(token).assignment, ids[2].as_bytes());
    world.pass(SESSION_MS - 1);
    assert_eq!(world.heartbeat(&ids[0], 1), 0);
    world.pass(1);
    assert_eq!(world.heartbeat(&ids[0], 1), code(ResponseError::RebalanceInProgress));
}

#[test]
fn a_client_that_is_gone_while_it_waits_in_its_first_join_gives_its_place_up() {
    let mut world = World::with(Config { new_member_join_timeout_ms: 20_000, ..Config::default() });
    let ids = world.stable_group(1);
    // The new member waits for the leader, which is slow.
    let token = world.send(OLD_JOIN, join("", None));
    for _ in 0..5 {
        world.pass(5_000);
        world.heartbeat(&ids[0], 1);
    }
    assert_eq!(world.joined(token).error_code, code(ResponseError::UnknownMemberId));
}

#[test]
fn describing_and_deleting_follow_the_state() {
    let mut world = World::new();
    let ids = world.stable_group(2);
    let described = |world: &mut World| {
        let token = world.send(5, Request::Describe(Arc::from(GROUP)));
        match world.reply(token) {
            Some(Reply::Describe(group)) => group,
            other => panic!("{other:?}"),
        }
    };
    let delete = |world: &mut World| {
        let token = world.send(2, Request::Delete(Arc::from(GROUP)));
        world.reply(token)
    };
    let group = described(&mut world);
    assert_eq!((group.group_state.as_str(), group.protocol_data.as_str()), ("Stable", "range"));
    assert_eq!(group.members[1].member_assignment, ids[1].as_bytes());
    assert_eq!(group.members[1].client_host.as_str(), "/127.0.0.1");
    assert_eq!(delete(&mut world), Some(Reply::Delete(code(ResponseError::NonEmptyGroup))));
    world.leave(&[(&ids[0], None), (&ids[1], None)]);
    world.pass(REBALANCE_MS);
    assert_eq!(world.commit("", -1, 0, 5), 0);
    assert_eq!(delete(&mut world), Some(Reply::Delete(0)));
    assert_eq!(delete(&mut world), Some(Reply::Delete(code(ResponseError::GroupIdNotFound))));
    assert_eq!(described(&mut world).group_state.as_str(), "Dead");
    world.restart();
    assert!(world.shard.groups.is_empty());
}
