//! The transaction coordinator and its host.

#[allow(dead_code, unused_imports)]
mod coordinator;
#[allow(dead_code)]
mod ids;
#[allow(dead_code)]
mod records;
#[allow(dead_code)]
mod transaction;

use std::sync::Arc;

use crate::broker::{Broker, StartError};
use crate::config::BrokerConfig;

pub(crate) struct Transactions {}

impl Transactions {
    pub(crate) fn open(_config: &BrokerConfig) -> Result<Transactions, StartError> {
        Ok(Transactions {})
    }

    /// Replays what is on disk and starts the timers.
    pub(crate) async fn start(_broker: &Arc<Broker>) -> Result<(), StartError> {
        Ok(())
    }

    pub(crate) async fn stop(&self) {}
}
