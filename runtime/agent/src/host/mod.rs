//! Starts the agents of a plan in this process, watches over their parts, drains and stops them. It builds kinds by
//! the names in the registry it is given and must not know any of them.

mod attempt;
mod build;
mod drain;
mod elected;
mod executors;
mod guard;
mod keeper;
mod pipe;
mod report;
mod services;
mod shape;
mod sink;
mod source;
mod supervise;
mod view;
mod window;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use flow_plan::Plan;
use flow_plan::plan::OriginId;
use serde::Serialize;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinHandle;

pub use drain::{HALT_CLOSE_MAX, TICK};
pub use elected::Elected;
pub use report::{END_FAULTS_MAX, Level, NOTICES_MAX, Notice};
pub use services::RunningServices;
pub use sink::OPTIONAL_WRITE_MAX;
pub use window::{WINDOW_BATCHES_PER_WORKER, WINDOW_BYTES_MAX, WINDOWS_BYTES_MAX};

use crate::backoff::{BackoffLimits, random_seed};
use crate::status::{Phase, Status};
use crate::traits::{Fault, Fence, Registry};

/// Starts plans.
pub struct Host;

/// Which agents of the plan run in this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Agents {
    All,
    Named(Vec<String>),
}

/// What the host is told about its surroundings.
#[derive(Clone)]
pub struct HostOptions {
    /// State of all agents: `<data_dir>/<agent>/<component>`.
    pub data_dir: PathBuf,
    /// Secrets, fetched already, by name.
    pub secrets: BTreeMap<String, String>,
    /// Name of this host.
    pub host: String,
    /// After `stop`, channels are emptied for at most this long.
    pub drain_max: Duration,
    /// How long a drain waits for more events when small batches follow each other closely; never for an event
    /// that comes alone. Batches adapt without it (what arrives during a write is taken together next time), so it
    /// only saves calls when writes are quicker than arrivals. Zero turns it off.
    pub linger: Duration,
    pub source_backoff: BackoffLimits,
    pub sink_backoff: BackoffLimits,
    pub clock: Clock,
    /// Seed of the jitter.
    pub seed: u64,
    /// How many batches of one source are in its program at the same time, at most; programs with state take one.
    /// With one core nothing is handed over: everything runs on the task of the source.
    pub workers_max: usize,
    /// A program that takes less than this for a batch runs on the task of its source: handing the batch over would
    /// cost about as much.
    pub overlap_from: Duration,
    /// What the plan's parts share, started already ([`RunningServices::start`]). Shut down at the end of the run.
    pub services: RunningServices,
    /// Until when sinks may write, where an election decides.
    pub fence: Option<Fence>,
}

impl HostOptions {
    /// The defaults: 30 s to drain, 2 ms of linger, back-off from 100 ms to 30 s, the system's clock, all cores.
    pub fn new(data_dir: PathBuf) -> HostOptions {
        HostOptions {
            data_dir,
            secrets: BTreeMap::new(),
            host: String::new(),
            drain_max: Duration::from_secs(30),
            linger: Duration::from_millis(2),
            source_backoff: BackoffLimits::default(),
            sink_backoff: BackoffLimits::default(),
            clock: Clock::system(),
            seed: random_seed(),
            workers_max: std::thread::available_parallelism().map_or(1, usize::from),
            overlap_from: Duration::from_micros(50),
            services: RunningServices::default(),
            fence: None,
        }
    }
}

/// Gives milliseconds since 1970 UTC.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> i64 + Send + Sync>);

impl Clock {
    pub fn new(now_ms: impl Fn() -> i64 + Send + Sync + 'static) -> Clock {
        Clock(Arc::new(now_ms))
    }

    pub fn system() -> Clock {
        Clock::new(|| {
            let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            since.map_or(0, |since| since.as_millis() as i64)
        })
    }

    pub fn now_ms(&self) -> i64 {
        (self.0)()
    }
}

/// A part that could not be built. All of a plan come together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StartFault {
    pub agent: String,
    /// Name of the source, channel, sink or step; empty for the plan itself.
    pub node: String,
    pub fault: Fault,
    /// The setting the fault is about, or the part.
    pub origin: OriginId,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct End {
    /// Some part stopped with a fault, or something was not delivered in time: exit code 3.
    pub failed: bool,
    /// The first faults that made it so, at most [`END_FAULTS_MAX`].
    pub faults: Vec<Notice>,
    /// Events left in channels: kept on disk by durable ones, repeated by their sources otherwise (those that can).
    pub events_left: u64,
}

/// A run. Dropping it stops everything at once, like [`Running::stop_now`].
pub struct Running {
    shared: Arc<supervise::Shared>,
    commands: watch::Sender<Command>,
    end: watch::Receiver<Option<End>>,
    supervisor: JoinHandle<()>,
    /// Listens since before anything ran; the first reader gets it.
    first_reader: Mutex<Option<broadcast::Receiver<Notice>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Command {
    Run,
    Stop,
    StopNow,
}

impl Host {
    /// Builds every component of the agents and starts them on the current tokio runtime. When anything cannot be
    /// built nothing is started, and all faults are given.
    pub fn start(
        plan: &Plan,
        agents: &Agents,
        registry: &Registry,
        options: HostOptions,
    ) -> Result<Running, Vec<StartFault>> {
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| {
            let fault = Fault::new("the host was started outside of a runtime").code("F1109");
            vec![StartFault { agent: String::new(), node: String::new(), fault, origin: OriginId(0) }]
        })?;
        let (phase, phase_receiver) = watch::channel(Phase::Running);
        let (stop, stop_receiver) = watch::channel(false);
        let reports = report::Reports::new(options.clock.clone());
        let services = options.services.clone();
        let site = build::Site {
            plan: Arc::new(plan.clone()),
            registry: registry.clone(),
            options,
            phase: phase_receiver,
            stop: crate::traits::Stop::new(stop_receiver),
            reports,
            crew: Arc::default(),
            services: services.handles.clone(),
        };
        let built = build::build_agents(&site, agents)?;
        let (commands, command_receiver) = watch::channel(Command::Run);
        let (end_sender, end) = watch::channel(None);
        let first_reader = Mutex::new(Some(site.reports.subscribe()));
        let shared = supervise::Shared::new(&built, services, site.reports.clone(), phase);
        let supervision = supervise::Supervision {
            shared: shared.clone(),
            stop,
            commands: command_receiver,
            drain_max: site.options.drain_max,
            end: end_sender,
        };
        // Not before everything is built: a plan with a fault must not have read or written anything.
        let supervisor = runtime.spawn(supervision.run(built));
        Ok(Running { shared, commands, end, supervisor, first_reader })
    }
}

impl Running {
    /// Resolves when all sources have finished, all channels are empty and all sinks closed, or after a stop.
    pub async fn wait(&self) -> End {
        let mut end = self.end.clone();
        match end.wait_for(Option::is_some).await {
            Ok(end) => end.clone(),
            Err(_) => None,
        }
        // The supervisor is gone without a word: only when its runtime is shutting down.
        .unwrap_or(End { failed: true, faults: Vec::new(), events_left: 0 })
    }

    /// Sources stop, channels are emptied within the limit, sinks close. [`Running::wait`] hears of the end.
    pub fn stop(&self) {
        self.command(Command::Stop);
    }

    /// Stops without waiting. What was not delivered stays with its source or its durable channel.
    pub fn stop_now(&self) {
        self.command(Command::StopNow);
    }

    fn command(&self, command: Command) {
        self.commands.send_if_modified(|current| {
            let later = command > *current;
            *current = command.max(*current);
            later
        });
    }

    /// A snapshot of all counts.
    pub fn status(&self) -> Status {
        self.shared.status()
    }

    /// Notable faults: for the first reader since the start, for others from now on. A reader that is behind by
    /// more than [`NOTICES_MAX`] misses the oldest.
    pub fn notices(&self) -> broadcast::Receiver<Notice> {
        let first = self.first_reader.lock().unwrap_or_else(PoisonError::into_inner).take();
        first.unwrap_or_else(|| self.shared.reports.subscribe())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The supervisor owns all tasks: they are given up with it.
        self.supervisor.abort();
    }
}
