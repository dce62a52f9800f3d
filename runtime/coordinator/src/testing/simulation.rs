//! Many hosts in one thread: each has a tokio runtime with a clock that stands still until it is moved, and the
//! simulation moves all of them a millisecond at a time, with the network between. So a host can be killed (its runtime
//! is dropped) and paused (its runtime is not run), which no task could do to another.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::time::{Instant, sleep_until};

use super::{SimClock, SimNetwork};
use crate::network::{Network, World};

/// The hosts, in the order in which they run.
pub struct Simulation {
    network: SimNetwork,
    hosts: Vec<Host>,
    step_ms: u64,
}

struct Host {
    name: String,
    runtime: Runtime,
    /// The host's own time when it began, and the simulation's then, in milliseconds.
    began: Instant,
    began_ms: u64,
    /// Its processes are stopped, as by `SIGSTOP`.
    paused: bool,
}

impl Simulation {
    pub fn new(seed: u64) -> Simulation {
        Simulation { network: SimNetwork::new(seed), hosts: Vec::new(), step_ms: 1 }
    }

    /// How long each host runs before the next has its turn, 1 at first: what is sent meanwhile arrives at the earliest
    /// after it, so that a longer step is a slower network and a faster simulation.
    pub fn set_step_ms(&mut self, step_ms: u64) {
        self.step_ms = step_ms.max(1);
    }

    pub fn network(&self) -> &SimNetwork {
        &self.network
    }

    pub fn now_ms(&self) -> u64 {
        self.network.now_ms()
    }

    /// Begins a host, and runs `future` on it, made from the network as the host sees it.
    ///
    /// # Panics
    /// If the host runs already, or the system gives no runtime.
    pub fn start<F>(&mut self, name: &str, main: impl FnOnce(Arc<dyn Network>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        assert!(!self.runs(name), "`{name}` runs already");
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            // A thread for what a server does beside its tasks; tokio's time waits for it.
            .max_blocking_threads(1)
            .build()
            .expect("a runtime without IO");
        let began = runtime.block_on(async { Instant::now() });
        runtime.spawn(main(self.network.host(name)));
        self.hosts.push(Host {
            name: name.to_owned(),
            runtime,
            began,
            began_ms: self.now_ms(),
            paused: false,
        });
    }

    /// What a server on a host needs.
    pub fn world(
        network: Arc<dyn Network>,
        clock: Arc<SimClock>,
        storage: Arc<dyn flow_log::Storage>,
    ) -> World {
        World { network, clock, storage }
    }

    /// True if the host was started and not killed.
    pub fn runs(&self, name: &str) -> bool {
        self.hosts.iter().any(|host| host.name == name)
    }

    /// Calls something as if from the host, whose time it sees; `None` if the host does not run.
    pub fn on<R>(&self, name: &str, call: impl FnOnce() -> R) -> Option<R> {
        let host = self.hosts.iter().find(|host| host.name == name)?;
        let _guard = host.runtime.enter();
        Some(call())
    }

    /// Ends a host's processes at once, as [`SimNetwork::kill`] has it. The caller ends its disk first.
    pub fn kill(&mut self, name: &str, silently: bool) {
        self.network.kill(name, silently);
        if let Some(index) = self.hosts.iter().position(|host| host.name == name) {
            self.hosts.remove(index).runtime.shutdown_background();
        }
    }

    /// Stops a host's processes; its kernel keeps its connections.
    pub fn pause(&mut self, name: &str) {
        self.hosts.iter_mut().filter(|host| host.name == name).for_each(|host| host.paused = true);
    }

    /// Lets a host go on. Its clock jumps to now.
    pub fn resume(&mut self, name: &str) {
        let now_ms = self.now_ms();
        for host in self.hosts.iter_mut().filter(|host| host.name == name && host.paused) {
            host.paused = false;
            let now = host.began + Duration::from_millis(now_ms - host.began_ms);
            host.runtime.block_on(async {
                let behind = now.saturating_duration_since(Instant::now());
                tokio::time::advance(behind).await;
            });
        }
    }

    /// Every host runs for one step.
    pub fn step(&mut self) {
        self.step_to(self.network.now_ms() + self.step_ms);
    }

    fn step_to(&mut self, now_ms: u64) {
        self.network.advance_to(now_ms);
        for host in self.hosts.iter().filter(|host| !host.paused) {
            let until = host.began + Duration::from_millis(now_ms - host.began_ms);
            host.runtime.block_on(sleep_in(until));
        }
    }

    pub fn run_ms(&mut self, ms: u64) {
        let end_ms = self.now_ms() + ms;
        while self.now_ms() < end_ms {
            self.step_to(end_ms.min(self.now_ms() + self.step_ms));
        }
    }

    /// Runs until something is so, at most for a time; false if it never was.
    pub fn run_until(&mut self, ms_max: u64, mut so: impl FnMut() -> bool) -> bool {
        let end_ms = self.now_ms() + ms_max;
        while self.now_ms() < end_ms {
            if so() {
                return true;
            }
            self.step();
        }
        so()
    }
}

/// `sleep_until` must be called inside of the runtime.
async fn sleep_in(until: Instant) {
    sleep_until(until).await;
}

#[cfg(test)]
mod tests;
