//! A run whose agents work only while they are elected: waits, starts them, and stops them before another process may
//! be told to work. It knows an election by its seam alone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use flow_plan::Plan;
use flow_plan::plan::Election;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use super::report::{Level, NOTICES_MAX, Notice};
use super::{Agents, Command, End, Host, HostOptions, Running, StartFault};
use crate::status::{AgentStatus, Phase, Status};
use crate::traits::{Ballot, Candidate, Elector, Fault, Registry, Standing};

/// How long one that could not start leaves the work to others.
const START_AGAIN: Duration = Duration::from_secs(5);

/// How long before the end of its time a run is given up that does not stop.
const GIVE_UP_BEFORE: Duration = Duration::from_millis(50);

/// What a run has at least to stop.
const STOP_MIN: Duration = Duration::from_secs(1);

/// A run of a plan with elections. Dropping it stops everything at once.
pub struct Elected {
    shared: Arc<Shared>,
    commands: watch::Sender<Command>,
    end: watch::Receiver<Option<End>>,
    driver: tokio::task::JoinHandle<()>,
    /// Listens since before anything ran; the first reader gets it.
    first_reader: Mutex<Option<broadcast::Receiver<Notice>>>,
}

struct Shared {
    plan: Plan,
    registry: Registry,
    options: HostOptions,
    notices: broadcast::Sender<Notice>,
    /// What runs now, by election; the agents without one under the number of elections.
    running: Mutex<BTreeMap<usize, Arc<Running>>>,
    /// The last status of agents that do not run any more.
    ended: Mutex<BTreeMap<String, AgentStatus>>,
    phase: watch::Sender<Phase>,
    overrun: watch::Sender<bool>,
    started: Instant,
}

impl Elected {
    /// Starts the agents without an election, and stands for the others.
    pub fn start(plan: &Plan, registry: &Registry, options: HostOptions) -> Result<Elected, Vec<StartFault>> {
        let mut seats = Vec::new();
        let mut faults = Vec::new();
        for (index, election) in plan.elections.iter().enumerate() {
            match options.services.elector(&election.ensemble) {
                Some(elector) => seats.push((index, election.clone(), elector)),
                None => {
                    let message = format!("`{}` does not elect", election.ensemble);
                    let fault = Fault::new(message).code("F1109");
                    let node = election.name.clone();
                    faults.push(StartFault { agent: String::new(), node, fault, origin: election.origin });
                }
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let shared = Arc::new(Shared {
            plan: plan.clone(),
            registry: registry.clone(),
            options,
            notices: broadcast::Sender::new(NOTICES_MAX),
            running: Mutex::default(),
            ended: Mutex::default(),
            phase: watch::Sender::new(Phase::Running),
            overrun: watch::Sender::new(false),
            started: Instant::now(),
        });
        let first_reader = Mutex::new(Some(shared.notices.subscribe()));
        let (commands, received) = watch::channel(Command::Run);
        let others = plan.agents.iter().map(|agent| agent.name.clone());
        let others: Vec<String> = others
            .filter(|name| !plan.elections.iter().any(|election| election.agents.contains(name)))
            .collect();
        let always = match others.is_empty() {
            true => None,
            false => Some(shared.start(plan.elections.len(), others, None)?),
        };
        let (end_sender, end) = watch::channel(None);
        let driver = tokio::spawn(drive(shared.clone(), seats, always, received, end_sender));
        Ok(Elected { shared, commands, end, driver, first_reader })
    }

    /// Resolves when everything has ended, or after a stop.
    pub async fn wait(&self) -> End {
        let mut end = self.end.clone();
        match end.wait_for(Option::is_some).await {
            Ok(end) => end.clone(),
            Err(_) => None,
        }
        .unwrap_or(End { failed: true, faults: Vec::new(), events_left: 0 })
    }

    /// As [`Running::stop`]; who does not work leaves at once.
    pub fn stop(&self) {
        self.commands.send_modify(|command| *command = Command::Stop.max(*command));
    }

    /// As [`Running::stop_now`].
    pub fn stop_now(&self) {
        self.commands.send_modify(|command| *command = Command::StopNow);
    }

    /// A snapshot of all counts. Agents that wait are not in it.
    pub fn status(&self) -> Status {
        self.shared.status()
    }

    /// As [`Running::notices`].
    pub fn notices(&self) -> broadcast::Receiver<Notice> {
        let first = self.first_reader.lock().unwrap_or_else(PoisonError::into_inner).take();
        first.unwrap_or_else(|| self.shared.notices.subscribe())
    }

    /// Resolves when something could not be stopped before another process may work: this one has to end at once.
    pub async fn overrun(&self) {
        let mut overrun = self.shared.overrun.subscribe();
        if overrun.wait_for(|over| *over).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Elected {
    fn drop(&mut self) {
        self.driver.abort();
        self.shared.running().clear();
    }
}

impl Shared {
    fn running(&self) -> MutexGuard<'_, BTreeMap<usize, Arc<Running>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ended(&self) -> MutexGuard<'_, BTreeMap<String, AgentStatus>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(
        self: &Arc<Shared>,
        seat: usize,
        agents: Vec<String>,
        candidate: Option<&dyn Candidate>,
    ) -> Result<Arc<Running>, Vec<StartFault>> {
        let options = HostOptions {
            services: self.options.services.lent(),
            fence: candidate.map(Candidate::fence),
            ..self.options.clone()
        };
        let running = Arc::new(Host::start(&self.plan, &Agents::Named(agents), &self.registry, options)?);
        let mut notices = running.notices();
        let to = self.notices.clone();
        tokio::spawn(async move {
            loop {
                match notices.recv().await {
                    // Nobody may be listening.
                    Ok(notice) => drop(to.send(notice)),
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return,
                }
            }
        });
        self.running().insert(seat, running.clone());
        Ok(running)
    }

    /// Keeps what an ended run has counted.
    fn end(&self, seat: usize) {
        if let Some(running) = self.running().remove(&seat) {
            let agents = running.status().agents;
            self.ended().extend(agents.into_iter().map(|agent| (agent.name.clone(), agent)));
        }
    }

    fn status(&self) -> Status {
        let mut agents = self.ended().clone();
        for running in self.running().values() {
            agents.extend(running.status().agents.into_iter().map(|agent| (agent.name.clone(), agent)));
        }
        Status {
            phase: *self.phase.borrow(),
            uptime_ms: self.started.elapsed().as_millis() as u64,
            services: self.options.services.status(),
            agents: agents.into_values().collect(),
        }
    }

    fn say(&self, level: Level, election: &Election, fault: Fault) {
        let notice = Notice {
            level,
            agent: String::new(),
            node: election.name.clone(),
            fault,
            origin: election.origin,
            at_ms: self.options.clock.now_ms(),
        };
        // Nobody may be listening.
        let _ = self.notices.send(notice);
    }
}

/// Watches over all seats, and shuts the services down when they have ended.
async fn drive(
    shared: Arc<Shared>,
    seats: Vec<(usize, Election, Arc<dyn Elector>)>,
    always: Option<Arc<Running>>,
    mut commands: watch::Receiver<Command>,
    end: watch::Sender<Option<End>>,
) {
    let mut tasks: JoinSet<End> = JoinSet::new();
    if let Some(running) = always {
        tasks.spawn(work_always(shared.clone(), running, commands.clone()));
    }
    for (index, election, elector) in seats {
        let seat = Seat { shared: shared.clone(), index, election, elector, told: None };
        tasks.spawn(seat.run(commands.clone()));
    }
    let mut all = End { failed: false, faults: Vec::new(), events_left: 0 };
    while let Some(ended) = tasks.join_next().await {
        match ended {
            Ok(one) => {
                all.failed |= one.failed;
                all.faults.extend(one.faults);
                all.events_left += one.events_left;
            }
            Err(_) => all.failed = true,
        }
    }
    if shared.options.services.serve() && !all.failed {
        let _ = commands.wait_for(|command| *command > Command::Run).await;
    }
    shared.options.services.shutdown().await;
    shared.phase.send_replace(Phase::Ended);
    end.send_replace(Some(all));
}

/// The agents without an election.
async fn work_always(
    shared: Arc<Shared>,
    running: Arc<Running>,
    mut commands: watch::Receiver<Command>,
) -> End {
    let end = loop {
        tokio::select! {
            end = running.wait() => break end,
            command = next(&mut commands) => obey(&running, command),
        }
    };
    shared.end(shared.plan.elections.len());
    end
}

fn obey(running: &Running, command: Command) {
    match command {
        Command::Run => {}
        Command::Stop => running.stop(),
        Command::StopNow => running.stop_now(),
    }
}

async fn next(commands: &mut watch::Receiver<Command>) -> Command {
    match commands.changed().await {
        Ok(()) => *commands.borrow_and_update(),
        Err(_) => std::future::pending().await,
    }
}

/// One election, of all agents under it.
struct Seat {
    shared: Arc<Shared>,
    index: usize,
    election: Election,
    elector: Arc<dyn Elector>,
    /// What was said last: the same is not said twice.
    told: Option<String>,
}

impl Seat {
    async fn run(mut self, mut commands: watch::Receiver<Command>) -> End {
        loop {
            if *commands.borrow_and_update() > Command::Run {
                return nothing();
            }
            let ballot = Ballot {
                name: self.election.name.clone(),
                active: self.election.active,
                session: Duration::from_nanos(self.election.session_ns),
                who: format!("{} (pid {})", self.shared.options.host, std::process::id()),
            };
            let candidate = match self.elector.stand(ballot).await {
                Ok(candidate) => candidate,
                Err(fault) => {
                    self.tell(Level::Error, fault.clone());
                    return End { failed: true, ..nothing() };
                }
            };
            let ended = self.serve(candidate.as_ref(), &mut commands).await;
            candidate.resign().await;
            if let Some(end) = ended {
                return end;
            }
            tokio::select! {
                () = sleep(START_AGAIN) => {}
                _ = commands.wait_for(|command| *command > Command::Run) => {}
            }
        }
    }

    /// Works whenever it is told to. Gives nothing when it could not start and another should try.
    async fn serve(
        &mut self,
        candidate: &dyn Candidate,
        commands: &mut watch::Receiver<Command>,
    ) -> Option<End> {
        let mut standing = candidate.standing();
        loop {
            let now = standing.borrow_and_update().clone();
            match now {
                Standing::Working => match self.work(candidate, &mut standing, commands).await {
                    Worked::Ended(end) => return Some(end),
                    Worked::NotStarted => return None,
                    Worked::Stopped => continue,
                },
                Standing::Joining(None) => {}
                Standing::Joining(Some(why)) => {
                    self.tell(Level::Warning, Fault::new(format!("cannot stand for the work: {why}")));
                }
                Standing::Waiting(who) => {
                    let who = if who.is_empty() { String::new() } else { format!(" ({})", who.join(", ")) };
                    self.tell(Level::Note, Fault::new(format!("waits: another process works{who}")));
                }
                Standing::Doubt(why) => {
                    self.tell(Level::Warning, Fault::new(format!("cannot stand for the work: {why}")));
                }
            }
            tokio::select! {
                changed = standing.changed() => if changed.is_err() {
                    self.tell(Level::Error, Fault::new("the election has ended"));
                    return Some(End { failed: true, ..nothing() });
                },
                _ = commands.wait_for(|command| *command > Command::Run) => return Some(nothing()),
            }
        }
    }

    async fn work(
        &mut self,
        candidate: &dyn Candidate,
        standing: &mut watch::Receiver<Standing>,
        commands: &mut watch::Receiver<Command>,
    ) -> Worked {
        let running = match self.shared.start(self.index, self.election.agents.clone(), Some(candidate)) {
            Ok(running) => running,
            Err(faults) => {
                for StartFault { node, fault, .. } in faults.into_iter().take(NOTICES_MAX / 4) {
                    let Fault { code, message, help, setting } = fault;
                    let message = format!("`{node}` cannot start, so another process should work: {message}");
                    self.shared.say(Level::Warning, &self.election, Fault { code, message, help, setting });
                }
                return Worked::NotStarted;
            }
        };
        self.tell(Level::Note, Fault::new("works: this process was elected"));
        loop {
            let now = standing.borrow_and_update().clone();
            if now != Standing::Working {
                return self.stop(candidate, running, &now).await;
            }
            tokio::select! {
                end = running.wait() => {
                    self.shared.end(self.index);
                    return Worked::Ended(end);
                }
                command = next(commands) => obey(&running, command),
                // Its loss is seen above.
                _ = standing.changed() => {}
            }
        }
    }

    /// The work is another's, or may be soon: everything has to be still by then.
    async fn stop(&mut self, candidate: &dyn Candidate, running: Arc<Running>, why: &Standing) -> Worked {
        let why = match why {
            Standing::Doubt(why) => format!("stops, so that another process can work: {why}"),
            _ => "stops: the work was given to another process".to_owned(),
        };
        running.stop_now();
        self.tell(Level::Warning, Fault::new(why));
        let until = candidate.fence().until().map(|until| until.checked_sub(GIVE_UP_BEFORE).unwrap_or(until));
        // Sinks write nothing behind the fence: what is found past it, after a sleep, has a moment to stop in order.
        let until = until.unwrap_or_else(Instant::now).max(Instant::now() + STOP_MIN);
        let stopped = timeout_at(until, running.wait()).await;
        self.shared.end(self.index);
        if stopped.is_err() {
            // Its tasks are given up with it. What blocks a thread cannot be; only the end of the process stops that.
            self.shared.overrun.send_replace(true);
        }
        Worked::Stopped
    }

    fn tell(&mut self, level: Level, fault: Fault) {
        if self.told.as_ref() != Some(&fault.message) {
            self.told = Some(fault.message.clone());
            self.shared.say(level, &self.election, fault);
        }
    }
}

enum Worked {
    Ended(End),
    /// Not by its own will: it may be elected again.
    Stopped,
    NotStarted,
}

fn nothing() -> End {
    End { failed: false, faults: Vec::new(), events_left: 0 }
}
