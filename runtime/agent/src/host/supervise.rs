//! The supervisor of a run: starts the tasks, closes a channel when nobody feeds it any more, carries out stops, and
//! says how it ended.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::build::BuiltAgent;
use super::drain::{Drain, DrainEnd, HALT_CLOSE_MAX};
use super::guard::guarded;
use super::keeper::Keeper;
use super::report::{Level, Reports};
use super::services::RunningServices;
use super::view::{AgentView, ChannelView};
use super::{Command, End};
use crate::status::{PartState, Phase, Status};
use crate::traits::{Channel, Fault};

/// How long tasks that were given up may take to be gone.
const GIVE_UP_MAX: Duration = Duration::from_secs(5);

/// What the run and its handle share.
pub(super) struct Shared {
    pub reports: Arc<Reports>,
    services: RunningServices,
    agents: Vec<Arc<AgentView>>,
    phase: watch::Sender<Phase>,
    started: Instant,
}

impl Shared {
    pub fn new(
        agents: &[BuiltAgent],
        services: RunningServices,
        reports: Arc<Reports>,
        phase: watch::Sender<Phase>,
    ) -> Arc<Shared> {
        let agents = agents.iter().map(|agent| agent.view.clone()).collect();
        Arc::new(Shared { reports, services, agents, phase, started: Instant::now() })
    }

    pub fn status(&self) -> Status {
        Status {
            phase: *self.phase.borrow(),
            uptime_ms: self.started.elapsed().as_millis() as u64,
            services: self.services.status(),
            agents: self.agents.iter().map(|agent| agent.status()).collect(),
        }
    }

    /// Those that go on although they were asked to stop are given up soon.
    fn tell_late_sources(&self, limit: Duration) {
        for source in self.agents.iter().flat_map(|agent| &agent.sources) {
            let reporter = &source.intake.reporter;
            if reporter.health.state() == PartState::Running {
                let seconds = limit.as_secs_f64();
                let fault = Fault::new(format!("the source did not stop within {seconds} s"));
                reporter.report(Level::Warning, &fault);
            }
        }
    }

    /// Phases only go forward.
    fn enter(&self, phase: Phase) {
        self.phase.send_if_modified(|current| {
            let later = phase > *current;
            *current = phase.max(*current);
            later
        });
    }
}

pub(super) struct Supervision {
    pub shared: Arc<Shared>,
    /// Tells the sources.
    pub stop: watch::Sender<bool>,
    pub commands: watch::Receiver<Command>,
    pub drain_max: Duration,
    pub end: watch::Sender<Option<End>>,
}

/// The channels of one agent and how many tasks still feed each.
struct Feeding {
    channels: Vec<Arc<dyn Channel>>,
    feeders: Vec<usize>,
}

/// A task that has ended: what it fed, and how it ended if it was a drain.
struct Ended {
    agent: usize,
    feeds: Vec<usize>,
    drain: Option<DrainEnd>,
    /// The run waits for it; for what only optional branches lead to, it waits as for a drain.
    needed: bool,
}

impl Supervision {
    pub async fn run(mut self, agents: Vec<BuiltAgent>) {
        let mut tasks: JoinSet<Ended> = JoinSet::new();
        let mut feeding = Vec::new();
        // Tasks that the run waits for.
        let mut running = 0_usize;
        let serving = self.shared.services.serve();
        for (agent, built) in agents.into_iter().enumerate() {
            for (drain, feeds) in built.drains {
                let needed = drain.needed;
                running += usize::from(needed);
                tasks.spawn(async move {
                    let drain = Some(run_drain(drain).await);
                    Ended { agent, feeds, drain, needed }
                });
            }
            for keeper in built.keepers {
                let needed = keeper.needed;
                running += usize::from(needed);
                tasks.spawn(async move {
                    let drain = Some(run_keeper(keeper).await);
                    Ended { agent, feeds: Vec::new(), drain, needed }
                });
            }
            for (source, feeds) in built.sources {
                running += 1;
                tasks.spawn(async move {
                    source.run().await;
                    Ended { agent, feeds, drain: None, needed: true }
                });
            }
            for (channel, &feeders) in built.channels.iter().zip(&built.feeders) {
                if feeders == 0 {
                    channel.close();
                }
            }
            feeding.push(Feeding { channels: built.channels, feeders: built.feeders });
        }
        let mut broken = false;
        let mut late = false;
        // When the present phase has lasted too long.
        let mut deadline: Option<Instant> = None;
        loop {
            tokio::select! {
                biased;
                command = next_command(&mut self.commands) => match command {
                    Command::Run => {}
                    Command::Stop => self.drain(&mut deadline),
                    Command::StopNow => {
                        self.stop.send_replace(true);
                        self.shared.enter(Phase::Halting);
                        late = true;
                        break;
                    }
                },
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    late = true;
                    if *self.shared.phase.borrow() >= Phase::Halting {
                        // Until then a source may have waited to hear what becomes of its events.
                        self.shared.tell_late_sources(self.drain_max);
                        break;
                    }
                    self.shared.enter(Phase::Halting);
                    deadline = Some(Instant::now() + HALT_CLOSE_MAX + GIVE_UP_MAX);
                }
                ended = tasks.join_next(), if !tasks.is_empty() || !serving || deadline.is_some() => match ended {
                    None => break,
                    Some(Ok(ended)) => {
                        let feeding = &mut feeding[ended.agent];
                        feeding.released(&ended.feeds);
                        running -= usize::from(ended.needed);
                        if ended.drain == Some(DrainEnd::Failed) || (running == 0 && !serving) {
                            self.drain(&mut deadline);
                        }
                    }
                    // Components are guarded, so this is a fault of the host itself: nothing can be relied on.
                    Some(Err(_)) => {
                        broken = true;
                        break;
                    }
                },
            }
        }
        // A component that blocks cannot be given up; its thread ends with the process.
        let _ = timeout(GIVE_UP_MAX, tasks.shutdown()).await;
        self.shared.services.shutdown().await;
        self.finish(broken, late);
    }

    /// Sources stop; from now on there is a limit.
    fn drain(&self, deadline: &mut Option<Instant>) {
        self.stop.send_replace(true);
        self.shared.enter(Phase::Draining);
        deadline.get_or_insert_with(|| Instant::now() + self.drain_max);
    }

    fn finish(&self, broken: bool, late: bool) {
        let channels = || self.shared.agents.iter().flat_map(|agent| &agent.channels);
        let events_left = channels().map(ChannelView::events_left).sum();
        let needed_left = channels().any(|channel| channel.needed && channel.events_left() > 0);
        for agent in &self.shared.agents {
            if let Err(fault) = agent.dead.sync() {
                tracing::warn!(agent = agent.name, "{fault}");
            }
        }
        self.shared.enter(Phase::Ended);
        let end = End {
            failed: broken || self.shared.reports.failed() || (late && needed_left),
            faults: self.shared.reports.errors(),
            events_left,
        };
        self.end.send_replace(Some(end));
    }
}

impl Feeding {
    fn released(&mut self, feeds: &[usize]) {
        for &channel in feeds {
            let feeders = &mut self.feeders[channel];
            *feeders = feeders.saturating_sub(1);
            if *feeders == 0 {
                self.channels[channel].close();
            }
        }
    }
}

/// Components are guarded one by one; what panics here is a channel or the drain itself.
async fn run_drain(drain: Drain) -> DrainEnd {
    let (channel, reporter) = (drain.channel.clone(), drain.reporter.clone());
    guarded(drain.run()).await.unwrap_or_else(|panic| {
        reporter.report(Level::Error, &panic);
        reporter.health.set(PartState::Failed);
        channel.abandon();
        DrainEnd::Failed
    })
}

async fn run_keeper(keeper: Keeper) -> DrainEnd {
    let (channel, reporter) = (keeper.channel.clone(), keeper.reporter.clone());
    let ended = guarded(keeper.run()).await.unwrap_or_else(|panic| {
        reporter.report(Level::Error, &panic);
        reporter.health.set(PartState::Failed);
        channel.abandon();
        false
    });
    if ended { DrainEnd::Drained } else { DrainEnd::Failed }
}

/// The next command; never again once the handle is gone (the supervisor goes with it).
async fn next_command(commands: &mut watch::Receiver<Command>) -> Command {
    match commands.changed().await {
        Ok(()) => *commands.borrow_and_update(),
        Err(_) => std::future::pending().await,
    }
}
