//! Who a caller is and what it may do: users, SCRAM credentials and ACLs, kept in the data directory.

mod principal;

use std::net::IpAddr;

pub(crate) use principal::{Operation, Principal, Resource};

use crate::broker::StartError;
use crate::config::BrokerConfig;

pub(crate) struct Security {}

impl Security {
    pub(crate) fn open(_config: &BrokerConfig) -> Result<Security, StartError> {
        Ok(Security {})
    }

    /// Whether `principal`, calling from `host`, may do `operation` on `resource`.
    pub(crate) fn allows(
        &self,
        _principal: &Principal,
        _host: IpAddr,
        _operation: Operation,
        _resource: Resource<'_>,
    ) -> bool {
        true
    }
}
