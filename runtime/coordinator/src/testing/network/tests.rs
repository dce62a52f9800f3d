use std::sync::Mutex;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;

use super::*;

fn in_simulated_time(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(test);
}

/// A network that runs, and both ends of a connection from `b` to `a`.
async fn connected(seed: u64) -> (SimNetwork, Connection, Connection) {
    let network = SimNetwork::new(seed);
    let runs = network.clone();
    tokio::spawn(async move { runs.run().await });
    let mut port = network.host("a").listen("a:1").await.unwrap();
    let accepted = tokio::spawn(async move { port.accept().await.unwrap().0 });
    let there = network.host("b").connect("a:1").await.unwrap();
    let here = accepted.await.unwrap();
    (network, there, here)
}

fn read_all(mut from: Connection) -> JoinHandle<(io::Result<usize>, Vec<u8>, Connection)> {
    tokio::spawn(async move {
        let mut bytes = Vec::new();
        (from.read_to_end(&mut bytes).await, bytes, from)
    })
}

#[test]
fn bytes_keep_their_order_whatever_the_delays_are() {
    for seed in 0..20 {
        in_simulated_time(async {
            let (network, mut there, here) = connected(seed).await;
            network.set_delay_ms("b", "a", 1..=90);
            network.set_loss(5);
            let sent: Vec<u8> = (0..700_000_u32).map(|number| (number % 251) as u8).collect();
            let reader = read_all(here);
            for piece in sent.chunks(10_000) {
                there.write_all(piece).await.unwrap();
            }
            there.shutdown().await.unwrap();
            let (ended, got, _) = reader.await.unwrap();
            ended.unwrap();
            assert!(got == sent);
        });
    }
}

#[test]
fn one_side_may_end_and_still_read() {
    in_simulated_time(async {
        let (_network, mut there, here) = connected(3).await;
        there.write_all(b"question").await.unwrap();
        there.shutdown().await.unwrap();
        let (_, question, mut here) = read_all(here).await.unwrap();
        assert_eq!(question, b"question");
        here.write_all(b"answer").await.unwrap();
        drop(here);
        let (ended, answer, _) = read_all(there).await.unwrap();
        ended.unwrap();
        assert_eq!(answer, b"answer");
    });
}

#[test]
fn a_short_partition_delays_and_a_long_one_breaks() {
    for seed in 0..20 {
        in_simulated_time(async {
            let (network, mut there, here) = connected(seed).await;
            let reader = read_all(here);
            network.partition(&["a"], &["b"]);
            there.write_all(b"one").await.unwrap();
            tokio::time::sleep(Duration::from_millis(500)).await;
            network.heal();
            there.write_all(b"two").await.unwrap();
            tokio::time::sleep(Duration::from_millis(500)).await;
            network.partition(&["a"], &["b"]);
            there.write_all(b"three").await.unwrap();
            let mut byte = [0];
            let error = there.read(&mut byte).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            // The other end knows nothing of that, until it writes.
            assert!(!reader.is_finished());
            network.heal();
            let (_, got, _) = reader.await.unwrap();
            assert!(got.starts_with(b"onetwo"), "{got:?}");
        });
    }
}

#[test]
fn a_one_way_partition_stalls_one_direction_only() {
    in_simulated_time(async {
        let (network, mut there, mut here) = connected(9).await;
        network.block("b", "a");
        here.write_all(b"down").await.unwrap();
        let mut four = [0; 4];
        there.read_exact(&mut four).await.unwrap();
        there.write_all(b"up").await.unwrap();
        // Nothing of `b` gets through, not even that it has read: `a` gives up.
        assert_eq!(here.read(&mut four).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        // That it did comes through.
        assert!(there.read(&mut four).await.is_err());
    });
}

#[test]
fn dialling_fails_as_it_does_in_a_real_network() {
    in_simulated_time(async {
        let (network, _there, _here) = connected(5).await;
        let b = network.host("b");
        let kind = |result: io::Result<Connection>| result.err().map(|error| error.kind());
        assert_eq!(kind(b.connect("a:2").await), Some(io::ErrorKind::ConnectionRefused));
        network.refuse("c", true);
        let c = network.host("c");
        let _port = c.listen("c:1").await.unwrap();
        assert_eq!(kind(b.connect("c:1").await), Some(io::ErrorKind::ConnectionRefused));
        network.refuse("c", false);
        assert_eq!(kind(b.connect("c:1").await), None);
        network.block("b", "c");
        let before = network.now_ms();
        assert_eq!(kind(b.connect("c:1").await), Some(io::ErrorKind::TimedOut));
        assert!(network.now_ms() - before >= 3_000);
        assert!(c.listen("a:9").await.is_err(), "a host listens at its own name");
        assert_eq!(c.listen("c:1").await.err().unwrap().kind(), io::ErrorKind::AddrInUse);
    });
}

#[test]
fn a_killed_host_leaves_nothing_open() {
    in_simulated_time(async {
        let (network, mut there, mut here) = connected(5).await;
        let a = network.host("a");
        let mut port = a.listen("a:7").await.unwrap();
        network.kill("a", false);
        let mut byte = [0];
        assert_eq!(there.read(&mut byte).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        assert!(here.read(&mut byte).await.is_err());
        assert!(port.accept().await.is_err());
        assert!(a.listen("a:8").await.is_err(), "the process is dead");
        drop(port);
        let _port = network.host("a").listen("a:7").await.unwrap();
    });
}

#[test]
fn the_power_goes_without_a_word() {
    in_simulated_time(async {
        let (network, mut there, _here) = connected(5).await;
        network.kill("a", true);
        let mut byte = [0];
        let waited = tokio::time::timeout(Duration::from_secs(60), there.read(&mut byte)).await;
        assert!(waited.is_err(), "{waited:?}");
        there.write_all(b"there?").await.unwrap();
        assert_eq!(there.read(&mut byte).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_connection_that_stalls_is_given_up_and_others_go_on() {
    in_simulated_time(async {
        let (network, mut there, _here) = connected(5).await;
        assert!(network.stall_one("a", "b"));
        assert!(!network.break_one("a", "c"));
        there.write_all(b"there?").await.unwrap();
        let mut byte = [0];
        assert_eq!(there.read(&mut byte).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(network.host("b").connect("a:2").await.is_err());
    });
}

#[test]
fn a_writer_waits_for_a_reader_that_does_not_read() {
    in_simulated_time(async {
        let (_network, mut there, here) = connected(5).await;
        let written = Arc::new(Mutex::new(0));
        let counts = written.clone();
        let writer = tokio::spawn(async move {
            for _ in 0..1_000 {
                there.write_all(&[7; 1_000]).await.unwrap();
                *counts.lock().unwrap() += 1_000;
            }
        });
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(*written.lock().unwrap() <= 256 * 1024);
        let (_, got, _) = read_all(here).await.unwrap();
        assert_eq!(got.len(), 1_000_000);
        writer.await.unwrap();
    });
}

#[test]
fn the_same_seed_is_the_same_run() {
    let trace = |seed| {
        let hash = Mutex::new(0);
        in_simulated_time(async {
            let (network, mut there, here) = connected(seed).await;
            let reader = read_all(here);
            for number in 0..100_u8 {
                there.write_all(&[number; 50]).await.unwrap();
            }
            drop(there);
            let _ = reader.await.unwrap();
            *hash.lock().unwrap() = network.trace();
        });
        *hash.lock().unwrap()
    };
    assert_eq!(trace(1), trace(1));
    assert_ne!(trace(1), trace(2));
}
