//! The group coordinator and its host.

use std::sync::Arc;

use crate::broker::{Broker, StartError};
use crate::config::BrokerConfig;

pub(crate) struct Groups {}

impl Groups {
    pub(crate) fn open(_config: &BrokerConfig) -> Result<Groups, StartError> {
        Ok(Groups {})
    }

    /// Replays what is on disk and starts the timers.
    pub(crate) async fn start(_broker: &Arc<Broker>) -> Result<(), StartError> {
        Ok(())
    }

    pub(crate) async fn stop(&self) {}
}
