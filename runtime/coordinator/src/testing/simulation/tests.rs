use std::sync::Mutex;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::sleep;

use super::*;

type Seen = Arc<Mutex<Vec<String>>>;

async fn count(seen: Seen, name: &'static str) {
    for number in 1.. {
        sleep(Duration::from_millis(10)).await;
        seen.lock().unwrap().push(format!("{name}{number}"));
    }
}

#[test]
fn hosts_share_the_time_and_stop_when_they_are_killed_or_paused() {
    let mut simulation = Simulation::new(1);
    let seen = Seen::default();
    simulation.start("a", |_| count(seen.clone(), "a"));
    simulation.run_ms(15);
    simulation.start("b", |_| count(seen.clone(), "b"));
    simulation.run_ms(21);
    assert_eq!(*seen.lock().unwrap(), ["a1", "a2", "b1", "a3", "b2"]);
    simulation.pause("a");
    simulation.run_ms(30);
    simulation.resume("a");
    simulation.run_ms(10);
    simulation.kill("b", false);
    simulation.run_ms(50);
    let seen = seen.lock().unwrap();
    // The pause was a jump for `a`: one timer rang late, and the others begin anew.
    assert_eq!(seen[5..9], ["b3", "b4", "b5", "a4"], "{seen:?}");
    assert_eq!(seen.iter().filter(|name| name.starts_with('b')).count(), 6);
    assert!(seen.iter().filter(|name| name.starts_with('a')).count() < 11);
}

#[test]
fn what_was_sent_to_a_paused_host_is_there_when_it_goes_on() {
    let mut simulation = Simulation::new(1);
    let seen = Seen::default();
    let to = seen.clone();
    simulation.start("a", |network| async move {
        let mut port = network.listen("a:1").await.unwrap();
        let (mut stream, from) = port.accept().await.unwrap();
        assert!(from.starts_with("b:"));
        let mut bytes = [0; 5];
        stream.read_exact(&mut bytes).await.unwrap();
        to.lock().unwrap().push(String::from_utf8(bytes.to_vec()).unwrap());
    });
    simulation.start("b", |network| async move {
        let mut stream = network.connect("a:1").await.unwrap();
        sleep(Duration::from_millis(50)).await;
        stream.write_all(b"hello").await.unwrap();
        std::future::pending::<()>().await;
    });
    simulation.run_ms(40);
    simulation.pause("a");
    simulation.run_ms(500);
    assert!(seen.lock().unwrap().is_empty());
    simulation.resume("a");
    assert!(simulation.run_until(5, || !seen.lock().unwrap().is_empty()));
}
