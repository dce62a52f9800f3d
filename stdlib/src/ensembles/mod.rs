//! Ensembles, in this process or elsewhere, and the election of who works. All who use one are its clients, by
//! [`EnsembleHandle`]; only [`embedded`] knows a server.

mod election;
mod embedded;
mod external;

use std::time::Duration;

use flow_agent::Registry;
use flow_coordinator::client::{Client, ClientConfig, Events};

/// Adds ensembles.
pub fn register(registry: &mut Registry) {
    registry.ensembles.insert("embedded", embedded::embedded);
    registry.ensembles.insert("zookeeper", external::zookeeper);
}

/// What a service that is an ensemble gives to its clients.
pub struct EnsembleHandle(ClientConfig);

impl EnsembleHandle {
    /// A session of its own.
    pub fn client(&self, session: Duration) -> (Client, Events) {
        Client::start(ClientConfig { session, ..self.0.clone() })
    }
}

/// What a file of certificates could not be used for.
fn tls_needs(setting: &'static str) -> flow_agent::Fault {
    flow_agent::Fault::new(format!("`tls: true` needs `{setting}`")).code("F0115").setting("tls")
}
