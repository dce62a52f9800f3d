//! Topics by name and id, their partitions and their configs.

use crate::broker::StartError;
use crate::config::BrokerConfig;

pub(crate) struct Store {}

impl Store {
    pub(crate) async fn open(_config: &BrokerConfig) -> Result<Store, StartError> {
        Ok(Store {})
    }

    pub(crate) async fn stop(&self) {}
}
