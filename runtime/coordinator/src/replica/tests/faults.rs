//! Five voters, and everything that goes wrong at once. After it all, each write that was answered is there.

use std::collections::BTreeMap;

use super::*;
use crate::testing::Rng;

/// Answers of creates by their paths: the zxid, if it was done.
type Found = Arc<Mutex<BTreeMap<String, Result<i64, Code>>>>;

fn write(cluster: &Cluster, id: u32, path: String, found: &Found) {
    let Some(replica) = cluster.replica(id) else { return };
    let found = found.clone();
    let txn = create(&path, 0);
    replica.submit(
        txn,
        Box::new(move |outcome: Outcome| {
            found.lock().unwrap().insert(path, outcome.result.map(|_| outcome.zxid));
        }),
    );
}

/// One round of faults with a seed; the commit index must never run ahead of a quorum, whatever the order of acknowledgements
/// (openraft issue 1802 needed five voters).
fn run(seed: u64, servers: u32, power: bool) {
    let mut rng = Rng::new(seed);
    let members = (1..=servers).map(|id| member(id, false)).collect();
    let mut cluster = Cluster::with(seed, members, |config| config.snapshot_every = 60);
    cluster.settle();
    cluster.sim.network().set_default_delay_ms(0..=5);
    let found: Found = Arc::default();
    let mut down: Vec<u32> = Vec::new();
    for round in 0..40 {
        for write_of in 0..8 {
            let id = 1 + rng.below(u64::from(servers)) as u32;
            write(&cluster, id, format!("/{round}-{write_of}"), &found);
            cluster.sim.run_ms(rng.below(6));
        }
        match rng.below(8) {
            0 if down.len() < (servers as usize - 1) / 2 => {
                let id = 1 + rng.below(u64::from(servers)) as u32;
                if !down.contains(&id) {
                    cluster.kill(id, power);
                    down.push(id);
                }
            }
            1 | 2 => {
                if let Some(id) = down.pop() {
                    cluster.start(id);
                }
            }
            3 => {
                let cut = 1 + rng.below(u64::from(servers) - 1) as u32;
                let (left, right): (Vec<u32>, Vec<u32>) = (1..=servers).partition(|id| *id <= cut);
                let (left, right): (Vec<String>, Vec<String>) =
                    (left.into_iter().map(name).collect(), right.into_iter().map(name).collect());
                let left: Vec<&str> = left.iter().map(String::as_str).collect();
                let right: Vec<&str> = right.iter().map(String::as_str).collect();
                cluster.sim.network().partition(&left, &right);
            }
            4 | 5 => cluster.sim.network().heal(),
            6 => {
                let (one, other) = (1 + rng.below(u64::from(servers)), 1 + rng.below(u64::from(servers)));
                cluster.sim.network().break_one(&name(one as u32), &name(other as u32));
            }
            _ => {}
        }
        cluster.sim.run_ms(rng.below(200));
    }
    cluster.sim.network().heal();
    for id in down {
        cluster.start(id);
    }
    cluster.settle();
    cluster.converge();
    let found = found.lock().unwrap();
    let done = found.values().filter(|answer| answer.is_ok()).count();
    assert!(done > 60, "seed {seed}: only {done}");
    for id in 1..=servers {
        let replica = cluster.replica(id).unwrap();
        let state = replica.read();
        for (path, answer) in found.iter() {
            match answer {
                Ok(zxid) => {
                    let stat = state.stat(path);
                    assert_eq!(stat.map(|stat| stat.czxid), Some(*zxid), "seed {seed}: {path} on {id}");
                }
                // Given up: it may be there or not. Anything else is an answer as well, and cannot be.
                Err(code) => assert_eq!(*code, Code::ConnectionLoss, "seed {seed}: {path}"),
            }
        }
    }
}

#[test]
fn nothing_that_was_answered_is_lost_by_five_whose_processes_die() {
    (0..2).for_each(|seed| run(seed, 5, false));
}

#[test]
fn nothing_that_was_answered_is_lost_by_five_whose_power_goes() {
    (100..102).for_each(|seed| run(seed, 5, true));
}

#[test]
fn nothing_that_was_answered_is_lost_by_three() {
    (200..203).for_each(|seed| run(seed, 3, seed % 2 == 0));
}

/// The disk of the leader fails while the others live: it stops, they go on, and nothing is lost.
#[test]
fn a_leader_with_a_failing_disk_makes_way() {
    for seed in 0..2 {
        let mut cluster = Cluster::new(seed, 3);
        let leader = cluster.settle();
        let follower = (1..=3).find(|id| *id != leader).unwrap();
        let found: Found = Arc::default();
        for number in 0..40 {
            write(&cluster, follower, format!("/{number}"), &found);
            cluster.sim.run_ms(5);
            if number == 10 {
                match seed % 2 {
                    0 => cluster.host(leader).storage.fail_sync_after(1),
                    _ => cluster.host(leader).storage.set_space(Some(100)),
                }
            }
        }
        cluster.until("answered", 20_000, |_| found.lock().unwrap().len() == 40);
        assert!(found.lock().unwrap().values().all(|answer| answer.is_ok()), "seed {seed}");
        assert!(cluster.replica(leader).unwrap().status().failed.is_some());
        assert_ne!(cluster.leader(), Some(leader));
    }
}
