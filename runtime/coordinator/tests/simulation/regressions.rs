//! What the seeds have found, each as a story of its own: seeds mean something else when the simulation changes.

use std::sync::{Arc, Mutex};

use flow_coordinator::proto::{Code, Response};
use flow_coordinator::testing::client::{Client, ClientConfig};
use flow_coordinator::testing::history::Recorder;
use flow_coordinator::testing::workload::create;

use crate::cluster::{Cluster, Shape, host};
use crate::nemesis::CLIENTS;

type Answers = Arc<Mutex<Vec<Result<Response, Code>>>>;

/// Three servers that serve, and which of them leads.
fn ensemble(seed: u64) -> (Cluster, u32) {
    let shape = Shape { servers: 3, observers: 0, tick_ms: 1_000, snapshot_every: 100_000 };
    let mut cluster = Cluster::new(seed, shape);
    for server in cluster.ids() {
        cluster.start(server);
    }
    for _ in 0..100 {
        cluster.simulation.run_ms(100);
        if let Some(leader) = cluster.leader().filter(|_| cluster.states().iter().all(Option::is_some)) {
            return (cluster, leader);
        }
    }
    panic!("no server leads");
}

/// A client of one server that creates a znode at once, and others every so many milliseconds from some time on. Gives
/// their answers.
fn creates(cluster: &mut Cluster, server: u32, every_ms: u64, from_ms: u64) -> Answers {
    let answers = Answers::default();
    let (address, to) = (format!("{}:2181", host(server)), answers.clone());
    let now = cluster.simulation.network().clone();
    let recorder = Recorder::new(move || now.now_ms());
    cluster.simulation.start(CLIENTS, |network| async move {
        let config = ClientConfig::new(vec![address], 20_000, 1);
        let client = Client::start(network, config, recorder.listen(1));
        for number in 0.. {
            let answer = client.send(create(&format!("/n{number}"), "", 0));
            let to = to.clone();
            tokio::spawn(async move {
                if let Ok(reply) = answer.await {
                    to.lock().unwrap().push(reply.result);
                }
            });
            let pause_ms = if number == 0 { from_ms } else { every_ms };
            tokio::time::sleep(std::time::Duration::from_millis(pause_ms)).await;
        }
    });
    answers
}

/// A follower that lost its connection to the leader with writes on the way, and could not make another at once, goes on
/// with them as soon as it can: only the touches of sessions, twice a tick, made it try again.
#[test]
fn a_follower_dials_the_leader_again() {
    let (mut cluster, leader) = ensemble(1);
    let follower = if leader == 1 { 2 } else { 1 };
    // Long enough for something to be on the way at any time.
    cluster.simulation.network().set_default_delay_ms(10..=12);
    let answers = creates(&mut cluster, follower, 5, 0);
    cluster.simulation.run_ms(1_000);
    let before = answers.lock().unwrap().len();
    assert!(before > 0);
    let network = cluster.simulation.network().clone();
    network.refuse(&host(leader), true);
    for _ in 0..100 {
        network.break_one(&host(leader), &host(follower));
    }
    cluster.simulation.run_ms(500);
    network.refuse(&host(leader), false);
    cluster.simulation.run_ms(3_000);
    let answers = answers.lock().unwrap();
    assert!(answers.len() > before + 80, "{before} answers before, {} then", answers.len());
    assert!(answers.iter().all(Result::is_ok), "{:?}", answers.iter().find(|answer| answer.is_err()));
}

/// A leader whose followers' answers did not reach it for a while, but who heard it and so elected no other, dropped
/// what its own clients wrote meanwhile and never took it up again: they hung, and whoever came later (seeds 4 and 6).
#[test]
fn a_leader_takes_up_again_what_it_dropped_while_it_heard_of_nobody() {
    let (mut cluster, leader) = ensemble(2);
    // Silent until the leader has heard of nobody for so long that the consensus takes nothing.
    let answers = creates(&mut cluster, leader, 20, 1_500);
    cluster.simulation.run_ms(1_000);
    let before = answers.lock().unwrap().len();
    assert!(before > 0);
    let network = cluster.simulation.network().clone();
    for other in cluster.ids().into_iter().filter(|id| *id != leader) {
        network.block(&host(other), &host(leader));
    }
    cluster.simulation.run_ms(900);
    network.heal();
    cluster.simulation.run_ms(4_000);
    let tell: Vec<String> = cluster.ids().into_iter().map(|id| cluster.tell(id)).collect();
    assert_eq!(cluster.leader(), Some(leader), "the story needs a leader that stays one: {tell:#?}");
    let answers = answers.lock().unwrap();
    assert!(answers.len() > before + 80, "{before} answers before, {} then", answers.len());
}
