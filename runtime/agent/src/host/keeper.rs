//! Watches over a channel that is only written to: hears of its faults, and sees it safe before the run ends.

use std::sync::Arc;

use tokio::sync::watch;

use super::report::{Level, Reporter};
use crate::status::{PartState, Phase};
use crate::traits::Channel;

pub(super) struct Keeper {
    pub channel: Arc<dyn Channel>,
    pub phase: watch::Receiver<Phase>,
    pub reporter: Reporter,
    /// Not only optional branches lead here.
    pub needed: bool,
}

impl Keeper {
    /// Until the channel was closed and all is safe, or the limit for draining has passed. Whether it can go on.
    pub async fn run(mut self) -> bool {
        let reporter = self.reporter.clone();
        let warn = move |fault: &_| reporter.report(Level::Warning, fault);
        let settled = tokio::select! {
            biased;
            settled = self.channel.settle(&warn) => Some(settled),
            // The host being gone is the end, too.
            _ = self.phase.wait_for(|phase| *phase >= Phase::Halting) => None,
        };
        match settled {
            Some(Ok(())) => {
                self.reporter.health.set(PartState::Finished);
                true
            }
            Some(Err(fault)) => {
                self.reporter.report(Level::Error, &fault);
                self.reporter.health.set(PartState::Failed);
                // Those that wait for room hear that there will be none.
                self.channel.abandon();
                false
            }
            None => {
                self.channel.abandon();
                self.reporter.health.set(PartState::Stopped);
                true
            }
        }
    }
}
