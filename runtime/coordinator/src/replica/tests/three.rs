//! Ensembles whose servers come and go.

use super::*;

/// Makes `/q` and waits until everyone has it.
fn ready(cluster: &mut Cluster) -> u32 {
    let leader = cluster.settle();
    let answers = Answers::default();
    cluster.replica(leader).unwrap().submit(create("/q", 0), answers.take());
    cluster.until("made", 5000, |_| answers.done() == 1);
    cluster.converge();
    leader
}

#[test]
fn three_elect_one_and_all_take_writes() {
    let mut cluster = Cluster::new(1, 3);
    let leader = ready(&mut cluster);
    let answers = Answers::default();
    for id in 1..=3 {
        let replica = cluster.replica(id).unwrap();
        assert_eq!(cluster.status(id).unwrap().leader, Some(leader));
        (0..50).for_each(|_| replica.submit(another(), answers.take()));
    }
    cluster.until("answered", 5000, |_| answers.done() == 150);
    cluster.converge();
    assert_eq!(cluster.children(leader, "/q"), 150);
    let status = cluster.status(leader).unwrap();
    assert_eq!((status.role, status.synced_followers), (Role::Leader, 2));
}

#[test]
fn a_write_is_applied_here_when_it_is_answered() {
    let mut cluster = Cluster::new(2, 3);
    let leader = ready(&mut cluster);
    let follower = (1..=3).find(|id| *id != leader).unwrap();
    let replica = cluster.replica(follower).unwrap();
    let seen = Arc::new(Mutex::new(None));
    let answer = seen.clone();
    replica.submit(create("/here", 0), Box::new(move |outcome| *answer.lock().unwrap() = Some(outcome.zxid)));
    cluster.until("answered", 5000, |_| seen.lock().unwrap().is_some());
    assert_eq!(Some(replica.read().stat("/here").unwrap().czxid), *seen.lock().unwrap());
}

/// Clients of a follower see nothing of a lost leader but a delay: each write is done, and once.
#[test]
fn writes_are_done_exactly_once_although_leaders_are_lost() {
    for seed in 0..4 {
        let mut cluster = Cluster::new(seed, 3);
        let leader = ready(&mut cluster);
        let follower = (1..=3).find(|id| *id != leader).unwrap();
        let replica = cluster.replica(follower).unwrap();
        let answers = Answers::default();
        for round in 0..60 {
            (0..5).for_each(|_| replica.submit(another(), answers.take()));
            cluster.sim.run_ms(1 + seed % 3);
            if round == 20 {
                cluster.kill(leader, seed % 2 == 0);
            }
        }
        cluster.until("answered", 20_000, |_| answers.len() == 300);
        let found = answers.0.lock().unwrap().iter().find(|answer| answer.is_err()).copied();
        assert_eq!(found, None, "seed {seed}: {:?}", replica.status().failed);
        assert_eq!(cluster.children(follower, "/q"), 300, "seed {seed}");
        cluster.start(leader);
        cluster.settle();
        cluster.converge();
        assert_eq!(cluster.children(leader, "/q"), 300, "seed {seed}");
    }
}

/// The connections break while everyone lives: what was on the way goes again, and is done once.
#[test]
fn writes_are_done_exactly_once_although_connections_break() {
    let mut cluster = Cluster::new(5, 3);
    let leader = ready(&mut cluster);
    let follower = (1..=3).find(|id| *id != leader).unwrap();
    let replica = cluster.replica(follower).unwrap();
    let answers = Answers::default();
    for _ in 0..40 {
        (0..5).for_each(|_| replica.submit(another(), answers.take()));
        cluster.sim.run_ms(7);
        cluster.sim.network().break_one(&name(follower), &name(leader));
    }
    cluster.until("answered", 30_000, |_| answers.len() == 200);
    assert_eq!(answers.done(), 200);
    assert_eq!(cluster.children(follower, "/q"), 200);
}

#[test]
fn a_new_leader_is_there_soon_after_the_old_one_is_gone() {
    let mut slowest = 0;
    for seed in 0..5 {
        let mut cluster = Cluster::new(seed, 3);
        let leader = ready(&mut cluster);
        let follower = (1..=3).find(|id| *id != leader).unwrap();
        cluster.kill(leader, false);
        let answers = Answers::default();
        cluster.replica(follower).unwrap().submit(another(), answers.take());
        let begun = cluster.sim.now_ms();
        cluster.until("answered", 5000, |_| answers.done() == 1);
        slowest = slowest.max(cluster.sim.now_ms() - begun);
    }
    assert!(slowest <= 1000, "{slowest} ms");
}

#[test]
fn each_may_restart_and_nothing_is_lost() {
    let mut cluster = Cluster::new(7, 3);
    ready(&mut cluster);
    let answers = Answers::default();
    for (round, id) in [1, 2, 3, 1, 2, 3].into_iter().enumerate() {
        let other = id % 3 + 1;
        let replica = cluster.replica(other).unwrap();
        (0..20).for_each(|_| replica.submit(another(), answers.take()));
        cluster.sim.run_ms(3);
        cluster.kill(id, true);
        cluster.sim.run_ms(300);
        cluster.start(id);
        cluster.settle();
        cluster.until("answered", 10_000, |_| answers.len() == 20 * (round + 1));
    }
    assert_eq!(answers.len(), 120);
    let found = answers.0.lock().unwrap().iter().find(|answer| answer.is_err()).copied();
    assert_eq!(found, None);
    cluster.converge();
    assert_eq!(cluster.children(1, "/q"), 120);
}

#[test]
fn a_follower_that_fell_behind_gets_a_snapshot() {
    let members = (1..=3).map(|id| member(id, false)).collect();
    let mut cluster = Cluster::with(8, members, |config| config.snapshot_every = 50);
    let leader = ready(&mut cluster);
    let behind = (1..=3).find(|id| *id != leader).unwrap();
    cluster.kill(behind, false);
    let answers = Answers::default();
    let replica = cluster.replica(leader).unwrap();
    for _ in 0..10 {
        (0..60).for_each(|_| replica.submit(another(), answers.take()));
        cluster.sim.run_ms(600);
    }
    cluster.until("answered", 10_000, |_| answers.done() == 600);
    assert!(replica.status().first_index > 5, "{:?}", replica.status());
    let before = cluster.host(behind).counts.restored.load(Ordering::Relaxed);
    cluster.start(behind);
    cluster.until("caught up", 10_000, |cluster| cluster.children(behind, "/q") == 600);
    assert!(cluster.host(behind).counts.restored.load(Ordering::Relaxed) > before);
    cluster.converge();
    // And it begins again with what it got.
    cluster.kill(behind, true);
    cluster.start(behind);
    cluster.settle();
    cluster.converge();
}

#[test]
fn a_barrier_sees_what_was_written_elsewhere() {
    let mut cluster = Cluster::new(9, 3);
    let leader = ready(&mut cluster);
    let follower = (1..=3).find(|id| *id != leader).unwrap();
    cluster.sim.network().set_delay_ms(&name(leader), &name(follower), 40..=60);
    for round in 0..10 {
        let answers = Answers::default();
        cluster.replica(leader).unwrap().submit(another(), answers.take());
        cluster.until("answered", 5000, |_| answers.done() == 1);
        let zxid = cluster.run(follower, |replica| async move { replica.barrier().await });
        assert!(zxid.is_ok());
        assert_eq!(cluster.children(follower, "/q"), round + 1);
    }
}

#[test]
fn a_minority_serves_nobody_and_comes_back() {
    let mut cluster = Cluster::new(10, 3);
    let leader = ready(&mut cluster);
    let others: Vec<String> = (1..=3).filter(|id| *id != leader).map(name).collect();
    let others: Vec<&str> = others.iter().map(String::as_str).collect();
    cluster.sim.network().partition(&[&name(leader)], &others);
    cluster.until("another leader", 5000, |cluster| {
        cluster.leader().is_some_and(|found| found != leader) && !cluster.is_serving(leader)
    });
    let barrier = cluster.run(leader, |replica| async move { replica.barrier().await });
    assert_eq!(barrier, Err(Code::ConnectionLoss));
    let answers = Answers::default();
    cluster.replica(leader).unwrap().submit(another(), answers.take());
    cluster.sim.run_ms(500);
    assert_eq!(answers.len(), 0);
    cluster.sim.network().heal();
    cluster.until("answered", 10_000, |_| answers.done() == 1);
    cluster.settle();
    cluster.converge();
    assert_eq!(cluster.children(leader, "/q"), 1);
}
