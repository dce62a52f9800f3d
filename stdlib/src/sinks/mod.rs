//! The sinks of the library.

use flow_agent::Registry;

/// Adds all sinks.
pub fn register(registry: &mut Registry) {
    let _ = registry;
}
