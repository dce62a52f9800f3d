//! A network in memory. Bytes travel in pieces that take a seeded time; links slow down, stall one way or both ways,
//! and connections break as TCP's do: whoever waits too long for an acknowledgement gives up, the other end notices
//! only when it writes. It must not know what the bytes mean.
//!
//! Time is counted in milliseconds and moved from outside, by [`SimNetwork::advance_to`]; nothing that is sent in one
//! millisecond arrives in the same.

mod faults;
mod net;
mod stream;

use std::collections::BTreeSet;
use std::io;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::oneshot;

use self::net::{Delivery, Net};
use self::stream::SimStream;
use super::Rng;
use crate::network::{Connection, Listener, Network};

/// The whole network; clones are the same one.
#[derive(Clone)]
pub struct SimNetwork {
    net: Arc<Mutex<Net>>,
}

impl SimNetwork {
    pub fn new(seed: u64) -> SimNetwork {
        SimNetwork { net: Arc::new(Mutex::new(Net::new(Rng::new(seed)))) }
    }

    /// Runs `change` on the network, then wakes whom it concerns: a waker may drop a task and the streams in it, which
    /// need the lock themselves.
    fn with<R>(&self, change: impl FnOnce(&mut Net) -> R) -> R {
        let (result, wakes) = {
            let mut net = self.net.lock().unwrap_or_else(PoisonError::into_inner);
            let result = change(&mut net);
            (result, net.take_wakes())
        };
        wakes.into_iter().for_each(std::task::Waker::wake);
        result
    }

    /// The network as a host sees it. Addresses are `name:port`, and a host listens at its own name only.
    pub fn host(&self, name: &str) -> Arc<dyn Network> {
        let life = self.with(|net| net.life(name));
        Arc::new(Host { network: self.clone(), name: name.to_owned(), life })
    }

    /// Milliseconds since the beginning.
    pub fn now_ms(&self) -> u64 {
        self.with(|net| net.now_ms)
    }

    /// Moves time on, and delivers what is due by then.
    pub fn advance_to(&self, now_ms: u64) {
        self.with(|net| net.advance_to(now_ms));
    }

    /// Moves time with tokio's, for a test that has one runtime for all hosts. Never ends.
    pub async fn run(&self) {
        loop {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let next = self.now_ms() + 1;
            self.advance_to(next);
        }
    }

    /// A hash of every delivery so far: equal if two runs were.
    pub fn trace(&self) -> u64 {
        self.with(|net| net.trace.hash)
    }

    /// Keeps a line for each delivery from now on, to compare two runs that should have been equal.
    pub fn keep_trace_lines(&self) {
        self.with(|net| net.trace.lines = Some(Vec::new()));
    }

    pub fn trace_lines(&self) -> Vec<String> {
        self.with(|net| net.trace.lines.clone().unwrap_or_default())
    }

    /// Nothing that `from` sends arrives at `to`, until [`SimNetwork::heal`].
    pub fn block(&self, from: &str, to: &str) {
        self.with(|net| net.block(from, to));
    }

    /// No host of one side hears one of the other.
    pub fn partition(&self, left: &[&str], right: &[&str]) {
        for a in left {
            for b in right {
                self.block(a, b);
                self.block(b, a);
            }
        }
    }

    /// Every link carries again; what was held arrives later. Slow links stay slow.
    pub fn heal(&self) {
        self.with(Net::heal);
    }

    /// Hosts between which a link is blocked, as `from>to`.
    pub fn blocked(&self) -> BTreeSet<String> {
        self.with(|net| net.blocked.iter().map(|(from, to)| format!("{from}>{to}")).collect())
    }

    /// How long pieces take from one host to another, in milliseconds (at least one).
    pub fn set_delay_ms(&self, from: &str, to: &str, delay_ms: RangeInclusive<u64>) {
        self.with(|net| net.delays.insert((from.to_owned(), to.to_owned()), delay_ms));
    }

    /// How long pieces take where nothing else is said.
    pub fn set_default_delay_ms(&self, delay_ms: RangeInclusive<u64>) {
        self.with(|net| {
            net.default_delay = delay_ms;
            net.delays.clear();
        });
    }

    /// One of `times` pieces is lost and sent again, which takes as long as TCP waits; 0 is never.
    pub fn set_loss(&self, once_in: u64) {
        self.with(|net| net.loss_once_in = once_in);
    }

    /// Connections to the host are refused, or no longer.
    pub fn refuse(&self, host: &str, on: bool) {
        self.with(|net| if on { net.refusing.insert(host.to_owned()) } else { net.refusing.remove(host) });
    }

    /// Breaks one connection between two hosts, picked at random; says whether there was one.
    pub fn break_one(&self, one: &str, other: &str) -> bool {
        self.with(|net| net.break_one(one, other))
    }

    /// Stalls one connection between two hosts, picked at random, until whoever waits on it gives up.
    pub fn stall_one(&self, one: &str, other: &str) -> bool {
        self.with(|net| net.stall_one(one, other))
    }

    /// The process of a host ends: its ports close, and the other ends are told as far as links carry. With
    /// `silently` they are not told, as when the power goes, until they write.
    pub fn kill(&self, host: &str, silently: bool) {
        self.with(|net| net.kill(host, silently));
    }

    /// Ports with the connections that nobody has accepted yet, for messages.
    pub fn waiting(&self) -> Vec<String> {
        self.with(|net| {
            let ports = net.ports.iter();
            ports.map(|(address, port)| format!("{address}: {} waiting", port.waiting.len())).collect()
        })
    }

    /// Connections that are open at both ends or one.
    pub fn connections(&self) -> usize {
        self.with(|net| net.connections.len())
    }
}

/// One life of a host: what it opened is useless after [`SimNetwork::kill`].
struct Host {
    network: SimNetwork,
    name: String,
    life: u64,
}

#[async_trait]
impl Network for Host {
    async fn listen(&self, address: &str) -> io::Result<Box<dyn Listener>> {
        let address = self.network.with(|net| net.listen(&self.name, self.life, address))?;
        Ok(Box::new(Port { network: self.network.clone(), address, life: self.life }))
    }

    async fn connect(&self, address: &str) -> io::Result<Connection> {
        let (answer, receiver) = oneshot::channel();
        let id = self.network.with(|net| net.dial(&self.name, self.life, address, answer))?;
        match receiver.await {
            Ok(Ok(())) => Ok(Box::pin(SimStream::new(self.network.clone(), id, 0))),
            Ok(Err(kind)) => Err(kind.into()),
            Err(_) => Err(io::ErrorKind::ConnectionReset.into()),
        }
    }
}

struct Port {
    network: SimNetwork,
    address: String,
    life: u64,
}

#[async_trait]
impl Listener for Port {
    async fn accept(&mut self) -> io::Result<(Connection, String)> {
        let (id, from) = std::future::poll_fn(|context| {
            self.network.with(|net| match net.ports.get_mut(&self.address) {
                Some(port) if port.life == self.life => match port.waiting.pop_front() {
                    Some(accepted) => Poll::Ready(Ok(accepted)),
                    None => {
                        port.waker = Some(context.waker().clone());
                        Poll::Pending
                    }
                },
                _ => Poll::Ready(Err(io::Error::from(io::ErrorKind::NotConnected))),
            })
        })
        .await?;
        Ok((Box::pin(SimStream::new(self.network.clone(), id, 1)), from))
    }

    fn address(&self) -> String {
        self.address.clone()
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.network.with(|net| net.close_port(&self.address, self.life));
    }
}

/// What a delivery is, for the trace.
impl Delivery {
    fn name(&self) -> &'static str {
        match self {
            Delivery::Open => "open",
            Delivery::Opened => "opened",
            Delivery::Refused { .. } => "refused",
            Delivery::Data { .. } => "data",
            Delivery::End { .. } => "end",
            Delivery::Reset { .. } => "reset",
            Delivery::GiveUp { .. } => "give up",
        }
    }
}

#[cfg(test)]
mod tests;
