//! What a test does to the network.

use std::collections::VecDeque;
use std::io;

use super::net::{Delivery, Net, RESUME_MS, draw, host_of};

impl Net {
    pub fn block(&mut self, from: &str, to: &str) {
        self.blocked.insert((from.to_owned(), to.to_owned()));
    }

    pub fn heal(&mut self) {
        self.blocked.clear();
        let held: Vec<(u64, usize, VecDeque<Delivery>)> = (self.connections.iter_mut())
            .filter(|(_, pair)| !pair.stalled)
            .flat_map(|(id, pair)| {
                (pair.ends.iter_mut().enumerate())
                    .map(|(side, end)| (*id, side, std::mem::take(&mut end.held)))
            })
            .filter(|(_, _, held)| !held.is_empty())
            .collect();
        for (id, side, deliveries) in held {
            let at = self.now_ms + draw(&mut self.rng, &RESUME_MS);
            if let Some(pair) = self.connections.get_mut(&id) {
                // What is on its way now must not overtake what was held.
                pair.ends[side].last_due = pair.ends[side].last_due.max(at);
            }
            // The keys of `due` are in the order of these calls.
            let later = self.take_due_of(id, side);
            for delivery in deliveries.into_iter().chain(later) {
                self.schedule(at, id, delivery);
            }
        }
    }

    /// Takes out what is on its way to a side, in its order.
    fn take_due_of(&mut self, id: u64, side: usize) -> Vec<Delivery> {
        let toward = |delivery: &Delivery| match delivery {
            Delivery::Open => side == 1,
            Delivery::Opened | Delivery::Refused { .. } => side == 0,
            Delivery::Data { to, .. } | Delivery::End { to } | Delivery::Reset { to } => *to == side,
            Delivery::GiveUp { .. } => false,
        };
        self.due
            .extract_if(.., |_, (other, delivery)| *other == id && toward(delivery))
            .map(|(_, (_, delivery))| delivery)
            .collect()
    }

    fn pick(&mut self, one: &str, other: &str) -> Option<u64> {
        let between: Vec<u64> = (self.connections.iter())
            .filter(|(_, pair)| {
                let [a, b] = &pair.hosts;
                (a == one && b == other) || (a == other && b == one)
            })
            .map(|(id, _)| *id)
            .collect();
        let index = self.rng.below(between.len() as u64) as usize;
        between.get(index).copied()
    }

    pub fn break_one(&mut self, one: &str, other: &str) -> bool {
        let Some(id) = self.pick(one, other) else { return false };
        self.fail_end(id, 0, io::ErrorKind::ConnectionReset);
        self.fail_end(id, 1, io::ErrorKind::ConnectionReset);
        true
    }

    pub fn stall_one(&mut self, one: &str, other: &str) -> bool {
        let Some(id) = self.pick(one, other) else { return false };
        if let Some(pair) = self.connections.get_mut(&id) {
            pair.stalled = true;
        }
        true
    }

    pub fn kill(&mut self, host: &str, silently: bool) {
        *self.lives.entry(host.to_owned()).or_default() += 1;
        let ports: Vec<(String, u64)> = (self.ports.iter())
            .filter(|(address, _)| host_of(address) == host)
            .map(|(address, port)| (address.clone(), port.life))
            .collect();
        for (address, life) in ports {
            self.close_port(&address, life);
        }
        let ids: Vec<u64> = self.connections.keys().copied().collect();
        for id in ids {
            for side in [0, 1] {
                let Some(pair) = self.connections.get_mut(&id) else { continue };
                if pair.hosts[side] != host || pair.ends[side].gone {
                    continue;
                }
                // What the process had written and the system not sent yet is sent all the same.
                let said = std::mem::replace(&mut pair.ends[side].shut, true);
                self.fail_end(id, side, io::ErrorKind::ConnectionReset);
                if !silently && !said {
                    self.send(id, 1 - side, Delivery::Reset { to: 1 - side });
                }
            }
        }
    }
}
