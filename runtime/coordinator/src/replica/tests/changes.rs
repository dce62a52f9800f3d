//! Members that come and go, observers, sessions, what the leader does by itself.

use super::*;
use crate::replica::Reconfig;
use crate::state::CONFIG_PATH;

fn write_some(cluster: &mut Cluster, id: u32, count: usize) {
    let answers = Answers::default();
    let replica = cluster.replica(id).unwrap();
    (0..count).for_each(|_| replica.submit(another(), answers.take()));
    cluster.until("answered", 10_000, |_| answers.len() == count);
    assert_eq!(answers.done(), count);
}

fn ready(cluster: &mut Cluster) -> u32 {
    let leader = cluster.settle();
    let answers = Answers::default();
    cluster.replica(leader).unwrap().submit(create("/q", 0), answers.take());
    cluster.until("made", 5000, |_| answers.done() == 1);
    cluster.converge();
    leader
}

fn config_of(cluster: &Cluster, id: u32) -> String {
    let replica = cluster.replica(id).unwrap();
    let state = replica.read();
    String::from_utf8_lossy(state.data(CONFIG_PATH).flatten().unwrap_or_default()).into_owned()
}

#[test]
fn a_server_joins_and_another_leaves() {
    let mut cluster = Cluster::new(11, 3);
    let leader = ready(&mut cluster);
    write_some(&mut cluster, leader, 20);
    assert!(config_of(&cluster, leader).contains("server.3=host3:2888"), "{}", config_of(&cluster, leader));
    let leaving = (1..=3).find(|id| *id != leader).unwrap();
    cluster.add_host();
    let mut config = ReplicaConfig::new(4, vec![], PathBuf::from("/data"));
    config.simulated = true;
    config.join = true;
    config.tick_ms = 200;
    config.peer_listen = Some("host4:2888".to_owned());
    cluster.start_with(config);
    let asked = (1..=3).find(|id| *id != leader && *id != leaving).unwrap();
    let change = Reconfig { joining: vec![member(4, false)], leaving: vec![leaving], ..Reconfig::default() };
    let changed = cluster.run(asked, move |replica| async move { replica.reconfig(change).await });
    assert_eq!(changed, Ok(()));
    cluster.kill(leaving, false);
    write_some(&mut cluster, 4, 20);
    cluster.settle();
    cluster.converge();
    assert_eq!(cluster.children(4, "/q"), 40);
    cluster.until("published", 5000, |cluster| {
        let text = config_of(cluster, 4);
        text.contains("server.4=") && !text.contains(&format!("server.{leaving}="))
    });
    // The new ones are a majority without the old leader.
    cluster.kill(leader, false);
    write_some(&mut cluster, 4, 5);
}

#[test]
fn what_cannot_work_is_refused_and_leaves_the_ensemble_as_it_was() {
    let mut cluster = Cluster::new(12, 3);
    let leader = ready(&mut cluster);
    let change = Reconfig { leaving: vec![1, 2, 3], ..Reconfig::default() };
    let changed = cluster.run(leader, move |replica| async move { replica.reconfig(change).await });
    assert_eq!(changed, Err(Code::BadArguments));
    // Nobody is there.
    let change = Reconfig { joining: vec![member(4, false)], ..Reconfig::default() };
    let changed = cluster.run(leader, move |replica| async move { replica.reconfig(change).await });
    assert_eq!(changed, Err(Code::NewConfigNoQuorum));
    assert_eq!(cluster.status(leader).unwrap().members.len(), 3);
    write_some(&mut cluster, leader, 5);
}

#[test]
fn an_observer_serves_and_does_not_vote() {
    let members = vec![member(1, false), member(2, false), member(3, true)];
    let mut cluster = Cluster::with(13, members, |_| ());
    let leader = ready(&mut cluster);
    assert_ne!(leader, 3);
    assert_eq!(cluster.status(3).unwrap().role, Role::Observer);
    write_some(&mut cluster, 3, 20);
    assert_eq!(cluster.children(3, "/q"), 20);
    // Half of the voters are no majority, whatever the observer says.
    let other = 3 - leader;
    cluster.kill(other, false);
    cluster.until("no leader", 5000, |cluster| cluster.leader().is_none());
    cluster.sim.run_ms(2000);
    assert_eq!(cluster.leader(), None);
    cluster.start(other);
    cluster.settle();
    write_some(&mut cluster, 3, 5);
}

fn session(cluster: &mut Cluster, id: u32, session: i64, timeout_ms: i32) {
    let answers = Answers::default();
    let op = Op::CreateSession { timeout_ms };
    let txn = Txn { session, connection: 7, ids: Arc::from([]), op };
    cluster.replica(id).unwrap().submit(txn, answers.take());
    cluster.until("a session", 5000, |_| answers.done() == 1);
}

fn has_session(cluster: &Cluster, id: u32, session: i64) -> bool {
    cluster.replica(id).unwrap().read().session(session).is_some()
}

#[test]
fn sessions_that_are_not_heard_of_end_everywhere() {
    let mut cluster = Cluster::new(14, 3);
    let leader = ready(&mut cluster);
    let follower = (1..=3).find(|id| *id != leader).unwrap();
    session(&mut cluster, follower, 100, 1000);
    session(&mut cluster, leader, 200, 1000);
    let begun = cluster.sim.now_ms();
    cluster.until("ended", 5000, |cluster| {
        cluster.replica(follower).unwrap().touch(100);
        !has_session(cluster, leader, 200)
    });
    let took = cluster.sim.now_ms() - begun;
    assert!((900..=1700).contains(&took), "{took}");
    assert!(has_session(&cluster, leader, 100));
    cluster.until("ended", 5000, |cluster| !has_session(cluster, follower, 100));
}

/// A leader that is cut off does not end the sessions of those it cannot hear, not even when it is back.
#[test]
fn a_leader_that_was_cut_off_ends_no_session() {
    let mut cluster = Cluster::new(15, 3);
    let leader = ready(&mut cluster);
    let others: Vec<u32> = (1..=3).filter(|id| *id != leader).collect();
    session(&mut cluster, others[0], 100, 800);
    let names: Vec<String> = others.iter().map(|id| name(*id)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    cluster.sim.network().partition(&[&name(leader)], &names);
    for _ in 0..3000 {
        cluster.replica(others[0]).unwrap().touch(100);
        cluster.sim.step();
    }
    cluster.sim.network().heal();
    for _ in 0..3000 {
        cluster.replica(others[0]).unwrap().touch(100);
        cluster.sim.step();
    }
    cluster.converge();
    (1..=3).for_each(|id| assert!(has_session(&cluster, id, 100)));
}

/// The process of a leader stands still for longer than a session's time.
#[test]
fn a_stalled_leader_ends_no_session() {
    let mut cluster = Cluster::new(16, 3);
    let leader = ready(&mut cluster);
    let other = (1..=3).find(|id| *id != leader).unwrap();
    session(&mut cluster, other, 100, 800);
    cluster.sim.pause(&name(leader));
    for _ in 0..2000 {
        cluster.replica(other).unwrap().touch(100);
        cluster.sim.step();
    }
    cluster.sim.resume(&name(leader));
    for _ in 0..2000 {
        cluster.replica(other).unwrap().touch(100);
        cluster.sim.step();
    }
    (1..=3).for_each(|id| assert!(has_session(&cluster, id, 100)));
}

#[test]
fn a_new_leader_gives_every_session_its_full_time() {
    let mut cluster = Cluster::new(17, 3);
    let leader = ready(&mut cluster);
    let other = (1..=3).find(|id| *id != leader).unwrap();
    session(&mut cluster, other, 100, 1000);
    cluster.sim.run_ms(700);
    cluster.kill(leader, false);
    let begun = cluster.sim.now_ms();
    cluster.until("ended", 5000, |cluster| !has_session(cluster, other, 100));
    assert!(cluster.sim.now_ms() - begun >= 1000);
}

#[test]
fn containers_without_children_are_deleted() {
    let mut cluster = Cluster::with(18, vec![Member { id: 1, ..Member::default() }], |config| {
        config.container_check_ms = 1000;
    });
    cluster.settle();
    let answers = Answers::default();
    let replica = cluster.replica(1).unwrap();
    let container =
        Create { op: CreateOp::Container, path: "/c".into(), data: None, acl: open(), flags: 4, ttl: 0 };
    replica.submit(request(Request::Create(container)), answers.take());
    replica.submit(create("/c/child", 0), answers.take());
    let delete = Request::Delete { path: "/c/child".into(), version: -1 };
    replica.submit(request(delete), answers.take());
    cluster.until("answered", 1000, |_| answers.done() == 3);
    assert!(replica.read().stat("/c").is_some());
    cluster.until("deleted", 5000, |_| replica.read().stat("/c").is_none());
    assert!(replica.read().is_initialized());
}
