//! A world to test coordinators in: a network, clocks and disks that follow from a seed and break on purpose, a small
//! client, and the checks of what clients saw. It knows the wire and the seams of the server, not what is behind them.

pub mod checks;
pub mod client;
mod clock;
pub mod history;
mod network;
mod simulation;

pub mod workload;

pub use clock::SimClock;
pub use flow_log::testing::{Rng, SimStorage};
pub use network::SimNetwork;
pub use simulation::Simulation;
