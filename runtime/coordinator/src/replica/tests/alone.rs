//! One server alone.

use super::*;

fn alone(seed: u64) -> Cluster {
    Cluster::with(seed, vec![Member { id: 1, ..Member::default() }], |config| config.snapshot_every = 100)
}

#[test]
fn what_was_answered_is_there_after_the_power_went() {
    for seed in 0..5 {
        let mut cluster = alone(seed);
        assert_eq!(cluster.settle(), 1);
        assert_eq!(cluster.status(1).unwrap().role, Role::Standalone);
        let answers = Answers::default();
        let replica = cluster.replica(1).unwrap();
        replica.submit(create("/q", 0), answers.take());
        for round in 0..20 {
            (0..10).for_each(|_| replica.submit(another(), answers.take()));
            if round % 2 == 0 {
                cluster.sim.step();
            }
        }
        cluster.sim.run_ms(1 + seed * 3);
        let done = answers.done();
        drop(replica);
        cluster.kill(1, true);
        cluster.start(1);
        cluster.settle();
        let children = cluster.children(1, "/q");
        assert!(children + 1 >= done, "{children} of {done}");
        assert!(done == 0 || children > 0 || done == 1);
    }
}

#[test]
fn it_begins_again_with_its_newest_snapshot_and_the_log_behind_it() {
    let mut cluster = alone(3);
    cluster.settle();
    let answers = Answers::default();
    let replica = cluster.replica(1).unwrap();
    replica.submit(create("/q", 0), answers.take());
    for _ in 0..8 {
        (0..100).for_each(|_| replica.submit(another(), answers.take()));
        cluster.sim.run_ms(700);
    }
    cluster.until("answered", 1000, |_| answers.len() == 801);
    let status = replica.status();
    assert!(status.snapshot_index.is_some_and(|index| index > 10), "{status:?}");
    assert!(status.first_index > 0, "{status:?}");
    let digest = replica.read().digest();
    drop(replica);
    cluster.kill(1, true);
    cluster.start(1);
    cluster.settle();
    assert_eq!(cluster.replica(1).unwrap().read().digest(), digest);
    assert_eq!(cluster.children(1, "/q"), 800);
    // In order this time.
    cluster.run(1, |replica| async move { replica.shutdown().await });
    cluster.kill(1, false);
    cluster.start(1);
    cluster.settle();
    assert_eq!(cluster.replica(1).unwrap().read().digest(), digest);
}

#[test]
fn a_broken_snapshot_is_passed_over_as_long_as_the_log_makes_up_for_it() {
    let mut cluster = alone(4);
    cluster.settle();
    let answers = Answers::default();
    let replica = cluster.replica(1).unwrap();
    replica.submit(create("/q", 0), answers.take());
    for _ in 0..8 {
        (0..100).for_each(|_| replica.submit(another(), answers.take()));
        cluster.sim.run_ms(700);
    }
    let digest = replica.read().digest();
    drop(replica);
    cluster.kill(1, false);
    let storage = cluster.host(1).storage.clone();
    let mut snapshots: Vec<PathBuf> = storage.paths();
    snapshots.retain(|path| path.to_string_lossy().contains("/snapshot-"));
    assert!(snapshots.len() >= 2, "{snapshots:?}");
    storage.flip_bit(snapshots.last().unwrap(), 4000);
    cluster.start(1);
    cluster.settle();
    assert_eq!(cluster.replica(1).unwrap().read().digest(), digest);
    cluster.kill(1, false);
    for path in &snapshots {
        let mut content = storage.content(path).unwrap();
        content.truncate(content.len() / 2);
        storage.set_content(path, &content);
    }
    cluster.start(1);
    cluster.sim.run_ms(100);
    let error = cluster.error(1).unwrap();
    assert!(error.contains("snapshot-") && error.contains("is corrupt"), "{error}");
}

#[test]
fn a_directory_of_another_server_is_refused() {
    let mut cluster = alone(5);
    cluster.settle();
    cluster.kill(1, false);
    cluster.change = Box::new(|config| config.cluster = "other".to_owned());
    cluster.start(1);
    cluster.sim.run_ms(50);
    assert!(cluster.error(1).unwrap().contains("belongs to server 1 of the ensemble `flow`"));
}

#[test]
fn a_failing_disk_ends_serving_and_loses_nothing_that_was_answered() {
    for seed in 0..6 {
        let mut cluster = alone(seed);
        cluster.settle();
        let answers = Answers::default();
        let replica = cluster.replica(1).unwrap();
        replica.submit(create("/q", 0), answers.take());
        cluster.sim.run_ms(20);
        match seed % 2 {
            0 => cluster.host(1).storage.fail_sync_after(3),
            _ => cluster.host(1).storage.set_space(Some(2000)),
        }
        for _ in 0..50 {
            replica.submit(another(), answers.take());
            cluster.sim.step();
        }
        cluster.until("given up", 2000, |_| replica.status().failed.is_some());
        assert!(!cluster.is_serving(1));
        cluster.until("all answered", 1000, |_| answers.len() == 51);
        let done = answers.done();
        assert!((1..51).contains(&done), "{done}");
        drop(replica);
        cluster.kill(1, true);
        cluster.start(1);
        cluster.settle();
        assert!(cluster.children(1, "/q") + 1 >= done, "seed {seed}: {done}");
    }
}
