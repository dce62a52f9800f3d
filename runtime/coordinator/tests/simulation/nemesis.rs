//! What is done to an ensemble while its clients work.

use flow_coordinator::testing::Rng;

use crate::cluster::{Cluster, host};

/// The host of all clients.
pub const CLIENTS: &str = "c";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    Partition,
    OneWay,
    IsolateLeader,
    CutOffClients,
    Kill,
    KillLeader,
    PowerLoss,
    PowerLossOfAll,
    Pause,
    SlowLinks,
    FullDisk,
    FailedSync,
    Skew,
    BreakConnections,
    StallConnection,
    Refuse,
}

const ALL: [Fault; 16] = [
    Fault::Partition,
    Fault::OneWay,
    Fault::IsolateLeader,
    Fault::CutOffClients,
    Fault::Kill,
    Fault::KillLeader,
    Fault::PowerLoss,
    Fault::PowerLossOfAll,
    Fault::Pause,
    Fault::SlowLinks,
    Fault::FullDisk,
    Fault::FailedSync,
    Fault::Skew,
    Fault::BreakConnections,
    Fault::StallConnection,
    Fault::Refuse,
];

/// Most that a clock is wrong.
const SKEW_MS: u64 = 3_600_000;

pub struct Nemesis {
    pub rng: Rng,
    /// What was done and when, for messages.
    pub log: Vec<String>,
}

impl Nemesis {
    /// One fault, picked at random; some of the earlier ones may still last.
    pub fn strike(&mut self, cluster: &mut Cluster) {
        let fault = ALL[self.rng.below(ALL.len() as u64) as usize];
        let ids = cluster.ids();
        let server = ids[self.rng.below(ids.len() as u64) as usize];
        let leader = cluster.leader();
        self.log.push(format!(
            "{} ms: {fault:?} server {server}, leader {leader:?}",
            cluster.simulation.now_ms()
        ));
        let network = cluster.simulation.network().clone();
        let others: Vec<String> = ids.iter().filter(|id| **id != server).map(|id| host(*id)).collect();
        match fault {
            Fault::Partition => {
                let (left, right): (Vec<u32>, Vec<u32>) = ids.iter().partition(|_| self.rng.once_in(2));
                for a in &left {
                    for b in &right {
                        network.partition(&[&host(*a)], &[&host(*b)]);
                    }
                }
            }
            Fault::OneWay => {
                for other in &others {
                    if self.rng.once_in(2) {
                        network.block(&host(server), other);
                    }
                }
            }
            Fault::IsolateLeader => {
                let leader = leader.unwrap_or(server);
                for id in ids.iter().filter(|id| **id != leader) {
                    network.partition(&[&host(leader)], &[&host(*id)]);
                }
                if self.rng.once_in(2) {
                    network.partition(&[&host(leader)], &[CLIENTS]);
                }
            }
            Fault::CutOffClients => network.partition(&[&host(server)], &[CLIENTS]),
            Fault::Kill => self.kill(cluster, server, false),
            Fault::KillLeader => self.kill(cluster, leader.unwrap_or(server), false),
            Fault::PowerLoss => self.kill(cluster, server, true),
            Fault::PowerLossOfAll => ids.iter().for_each(|id| self.kill(cluster, *id, true)),
            Fault::Pause => {
                let server = if self.rng.once_in(2) { leader.unwrap_or(server) } else { server };
                cluster.simulation.pause(&host(server));
            }
            Fault::SlowLinks => {
                let most = [20, 200, 1_000][self.rng.below(3) as usize];
                network.set_default_delay_ms(1..=most);
                network.set_loss(self.rng.below(20));
            }
            Fault::FullDisk => cluster.disk(server).set_space(Some(self.rng.below(4_000))),
            Fault::FailedSync => cluster.disk(server).fail_sync_after(self.rng.below(30)),
            Fault::Skew => {
                let skew_ms = self.rng.below(2 * SKEW_MS) as i64 - SKEW_MS as i64;
                cluster.clock(server).set_skew_ms(skew_ms);
            }
            Fault::BreakConnections => {
                for other in others.iter().map(String::as_str).chain([CLIENTS]) {
                    network.break_one(&host(server), other);
                }
            }
            Fault::StallConnection => {
                for other in others.iter().map(String::as_str).chain([CLIENTS]) {
                    if self.rng.once_in(2) {
                        network.stall_one(&host(server), other);
                    }
                }
            }
            Fault::Refuse => network.refuse(&host(server), true),
        }
    }

    fn kill(&mut self, cluster: &mut Cluster, server: u32, power: bool) {
        if cluster.runs(server) {
            let silently = power || self.rng.once_in(4);
            cluster.kill(server, power, silently);
        }
    }

    /// Some faults end.
    pub fn relent(&mut self, cluster: &mut Cluster) {
        let network = cluster.simulation.network().clone();
        if self.rng.once_in(2) {
            network.heal();
        }
        if self.rng.once_in(2) {
            network.set_default_delay_ms(1..=5);
            network.set_loss(0);
        }
        for server in cluster.ids() {
            if self.rng.once_in(2) {
                self.mend(cluster, server);
            }
        }
    }

    /// All faults end, but clocks that are wrong stay so.
    pub fn heal(&mut self, cluster: &mut Cluster) {
        let network = cluster.simulation.network().clone();
        self.log.push(format!("{} ms: healed", cluster.simulation.now_ms()));
        network.heal();
        network.set_default_delay_ms(1..=5);
        network.set_loss(0);
        for server in cluster.ids() {
            self.mend(cluster, server);
        }
    }

    /// What somebody who looks after a server does: makes room, and starts it again if it has stopped.
    fn mend(&mut self, cluster: &mut Cluster, server: u32) {
        cluster.simulation.network().refuse(&host(server), false);
        cluster.simulation.resume(&host(server));
        cluster.disk(server).set_space(None);
        cluster.disk(server).fail_sync_after(u64::MAX);
        if let Some(why) = cluster.failure(server) {
            self.log.push(format!("{} ms: server {server} had stopped: {why}", cluster.simulation.now_ms()));
            let power = self.rng.once_in(2);
            cluster.kill(server, power, false);
        }
        if !cluster.runs(server) {
            self.log.push(format!("{} ms: server {server} starts", cluster.simulation.now_ms()));
            cluster.start(server);
        }
    }
}
