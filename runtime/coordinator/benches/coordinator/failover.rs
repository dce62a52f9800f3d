//! How long nobody can write after the leader was killed.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::client::{self, Client, Session};
use crate::servers::{Ensemble, Whose};

/// A server that does not welcome a client for this long is asked again. One that has the write is waited for, as
/// clients do.
const RETRY: Duration = Duration::from_millis(500);

/// No write after this long is no failover.
const PATIENCE: Duration = Duration::from_secs(60);

/// Milliseconds, one for each time.
pub fn measure(whose: Whose, times: usize) -> Result<Vec<f64>, String> {
    let mut ensemble = Ensemble::start(whose, 3)?;
    let mut found = Vec::new();
    let failed = |error: std::io::Error| format!("{}: {error}", whose.name());
    for number in 0..times {
        ensemble.await_serving()?;
        let leader = ensemble.leader().ok_or("nobody leads")?;
        let path = format!("/failover-{number}");
        let (send, acknowledged) = mpsc::channel();
        let (mut writers, mut ready) = (Vec::new(), Vec::new());
        // A client of each server that stays, with a session of its own, that writes one after the other.
        for (at, &port) in ensemble.ports().iter().enumerate() {
            if at == leader {
                continue;
            }
            let mut one = Client::connect(port, &Session::default(), PATIENCE).map_err(failed)?;
            let _ = one.call(&client::create(&path, b"")).map_err(failed)?;
            ready.push(one.call(&client::set(&path, b"0")).map_err(failed)?);
            writers.push((port, one));
        }
        if ready.iter().any(|&error| error != 0) {
            return Err(format!("{}: errors {ready:?} before the kill", whose.name()));
        }
        let begin = Instant::now();
        ensemble.kill(leader)?;
        for (port, one) in writers {
            let (send, request) = (send.clone(), client::set(&path, b"1"));
            std::thread::spawn(move || {
                let session = one.session.clone();
                let mut client = Some(one);
                while begin.elapsed() < PATIENCE {
                    let done =
                        client.as_mut().is_some_and(|one| one.call(&request).is_ok_and(|error| error == 0));
                    if done {
                        let _ = send.send(begin.elapsed());
                        return;
                    }
                    std::thread::sleep(Duration::from_millis(5));
                    client = Client::connect(port, &session, RETRY).ok();
                }
            });
        }
        let first = acknowledged.recv_timeout(PATIENCE).map_err(|_| "no write after the leader's death")?;
        found.push(first.as_secs_f64() * 1000.0);
        ensemble.launch(leader)?;
    }
    Ok(found)
}
