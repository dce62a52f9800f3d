//! Who works, decided by ZooKeeper's recipe for elections: each candidate makes an ephemeral znode with a number, and
//! those with the lowest numbers work.
//!
//! No two work for one place: a candidate works only while it knows that its session lasts. The ensemble ends a session
//! a whole time-out after it last heard of it; the candidate counts from when it last sent what was answered, is in
//! doubt after half of the time-out and still by two thirds of it (see [`Client::heard`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use flow_agent::{Ballot, Candidate, Elector, Fault, Fence, Standing};
use flow_coordinator::client::{Client, ClientConfig, ClientError, CreateKind, Event, Events};
use flow_coordinator::proto::Code;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

/// Where all elections are.
const ROOT: &str = "/flow";

/// What is in the way is tried again after this.
const AGAIN: Duration = Duration::from_millis(500);

/// Names of those who work that are told to one that waits, at most.
const NAMED_MAX: usize = 4;

/// Elects through a session of each candidate.
pub struct ClientElector {
    config: ClientConfig,
}

impl ClientElector {
    pub fn new(config: ClientConfig) -> ClientElector {
        ClientElector { config }
    }
}

#[async_trait]
impl Elector for ClientElector {
    async fn stand(&self, ballot: Ballot) -> Result<Box<dyn Candidate>, Fault> {
        let config = ClientConfig { session: ballot.session, ..self.config.clone() };
        let (client, events) = Client::start(config);
        let (sender, standing) = watch::channel(Standing::Joining(None));
        let working = Arc::new(AtomicBool::new(false));
        let stand = Stand {
            client: client.clone(),
            events,
            directory: format!("{ROOT}/{}", ballot.name),
            ballot,
            own: None,
            standing: sender,
            working: working.clone(),
        };
        let task = tokio::spawn(stand.run());
        Ok(Box::new(ByClient { client, standing, working, task }))
    }
}

struct ByClient {
    client: Client,
    standing: watch::Receiver<Standing>,
    working: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

#[async_trait]
impl Candidate for ByClient {
    fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }

    fn fence(&self) -> Fence {
        let (client, working) = (self.client.clone(), self.working.clone());
        Fence::new(move || {
            let heard = client.heard().filter(|_| working.load(Ordering::Acquire))?;
            Some(heard + client.state().timeout.mul_f64(2.0 / 3.0))
        })
    }

    async fn resign(&self) {
        self.working.store(false, Ordering::Release);
        self.task.abort();
        self.client.close().await;
    }
}

impl Drop for ByClient {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Stand {
    client: Client,
    events: Events,
    directory: String,
    ballot: Ballot,
    /// Name of its znode, and the session that it hangs on.
    own: Option<(String, i64)>,
    standing: watch::Sender<Standing>,
    /// Chosen, and not known to be replaced.
    working: Arc<AtomicBool>,
}

impl Stand {
    async fn run(mut self) {
        loop {
            let state = self.client.state();
            let again = match state.connected {
                true => match self.look().await {
                    Ok(standing) => {
                        self.set(standing);
                        None
                    }
                    Err(error) => {
                        self.fail(&error);
                        Some(Instant::now() + AGAIN)
                    }
                },
                // The next connection is an event.
                false => {
                    if !self.working.load(Ordering::Acquire) {
                        self.set(Standing::Joining(state.fault));
                    }
                    None
                }
            };
            if self.wait(again).await {
                return;
            }
        }
    }

    /// Until something may have changed; whether the session is over for good.
    async fn wait(&mut self, mut again: Option<Instant>) -> bool {
        loop {
            let doubt = self.doubt_at();
            tokio::select! {
                event = self.events.next() => match event {
                    Event::Connected { fresh } => {
                        if fresh {
                            self.replaced("the session was lost");
                        }
                        return false;
                    }
                    Event::Expired => self.replaced("the ensemble has ended the session"),
                    Event::Changed { .. } | Event::Missed => return false,
                    // The session lasts for now, and so does the work.
                    Event::Disconnected => {
                        if !self.working.load(Ordering::Acquire) {
                            let why = self.client.state().fault.unwrap_or_default();
                            self.set(Standing::Joining(Some(why)));
                        }
                    }
                    Event::Ended(why) => {
                        self.replaced(&why);
                        self.set(Standing::Joining(Some(why)));
                        return true;
                    }
                },
                () = sleep_until(doubt.unwrap_or_else(Instant::now)), if doubt.is_some() => {
                    // It may have been heard since.
                    if self.doubt_at().is_none_or(|doubt| Instant::now() < doubt) {
                        continue;
                    }
                    let fault = self.client.state().fault;
                    let why = fault.unwrap_or_else(|| "the ensemble does not answer".to_owned());
                    self.set(Standing::Doubt(why));
                    // A server that was only slow ends the doubt by its answer.
                    again = Some(Instant::now() + AGAIN);
                }
                () = sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => return false,
            }
        }
    }

    /// When it will be in doubt, if nothing is heard until then.
    fn doubt_at(&self) -> Option<Instant> {
        if *self.standing.borrow() != Standing::Working {
            return None;
        }
        // Without a time the session is gone already.
        Some(self.client.heard().map_or_else(Instant::now, |heard| heard + self.client.state().timeout / 2))
    }

    fn replaced(&mut self, why: &str) {
        self.own = None;
        if self.working.swap(false, Ordering::AcqRel) {
            self.set(Standing::Doubt(why.to_owned()));
        }
    }

    fn fail(&mut self, error: &ClientError) {
        if self.working.load(Ordering::Acquire) && error.is_temporary() {
            return;
        }
        self.working.store(false, Ordering::Release);
        let why = match error {
            ClientError::Away(why) => why.clone(),
            other => other.to_string(),
        };
        self.set(Standing::Joining(Some(why)));
    }

    fn set(&self, standing: Standing) {
        self.working.store(
            match standing {
                Standing::Working => true,
                Standing::Doubt(_) => self.working.load(Ordering::Acquire),
                Standing::Joining(_) | Standing::Waiting(_) => false,
            },
            Ordering::Release,
        );
        self.standing.send_if_modified(|now| {
            let new = *now != standing;
            *now = standing;
            new
        });
    }

    /// Takes part, and sees how it stands.
    async fn look(&mut self) -> Result<Standing, ClientError> {
        let session = self.client.state().session;
        if self.own.as_ref().is_none_or(|(_, of)| *of != session) {
            self.join(session).await?;
        }
        loop {
            // Whoever works for one place alone is followed by the next; with several places anybody's end counts.
            let all = self.ballot.active > 1;
            let (names, _) = self.client.children(&self.directory, all).await?;
            let mut order: Vec<(i32, &String)> =
                names.iter().filter_map(|name| Some((number(name)?, name))).collect();
            order.sort_unstable();
            let own = self.own.as_ref().map(|(own, _)| own.clone()).unwrap_or_default();
            let Some(at) = order.iter().position(|(_, name)| **name == own) else {
                // Somebody has deleted it.
                self.join(session).await?;
                continue;
            };
            if self.client.exists(&format!("{}/{own}", self.directory), true).await?.is_none() {
                continue;
            }
            let active = self.ballot.active as usize;
            if at < active {
                return Ok(Standing::Working);
            }
            if !all {
                let before = format!("{}/{}", self.directory, order[at - 1].1);
                if self.client.exists(&before, true).await?.is_none() {
                    continue;
                }
            }
            let mut who = Vec::new();
            for (_, name) in order.iter().take(active.min(NAMED_MAX)) {
                // One that is gone by now is seen at the next look.
                if let Ok((data, _)) = self.client.get(&format!("{}/{name}", self.directory), false).await {
                    who.push(
                        String::from_utf8_lossy(&data)
                            .chars()
                            .filter(|char| !char.is_control())
                            .take(100)
                            .collect(),
                    );
                }
            }
            return Ok(Standing::Waiting(who));
        }
    }

    /// Makes the znode of this candidate.
    async fn join(&mut self, session: i64) -> Result<(), ClientError> {
        self.own = None;
        self.client.create_parents(&format!("{}/", self.directory)).await?;
        // When the answer to an earlier try was lost, the znode may be there.
        let (names, _) = self.client.children(&self.directory, false).await?;
        let prefix = format!("n_{session:016x}-");
        if let Some(name) = names.into_iter().find(|name| name.starts_with(&prefix)) {
            self.own = Some((name, session));
            return Ok(());
        }
        let kind = CreateKind { ephemeral: true, sequential: true, ..CreateKind::default() };
        let path = format!("{}/{prefix}", self.directory);
        let created = match self.client.create(&path, self.ballot.who.as_bytes(), kind, None).await {
            // Removed by somebody who found it empty: the next try makes it again.
            Err(ClientError::Code(Code::NoNode)) => return Err(ClientError::Code(Code::ConnectionLoss)),
            other => other?,
        };
        let name = created.path.rsplit('/').next().unwrap_or_default().to_owned();
        self.own = Some((name, session));
        Ok(())
    }
}

/// The number that the ensemble has put behind a name.
fn number(name: &str) -> Option<i32> {
    let digits = name.len().checked_sub(10)?;
    name.get(digits..)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_stand_in_the_order_of_their_numbers() {
        assert_eq!(number("n_00000000000000ff-0000000017"), Some(17));
        for other in ["", "n_", "lock", "n_00000000000000ff-00000000ab", "äöüäöüä"] {
            assert_eq!(number(other), None, "{other}");
        }
    }
}
