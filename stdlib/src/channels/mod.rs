//! The channels of the library.

use flow_agent::Registry;

/// Adds all channels.
pub fn register(registry: &mut Registry) {
    let _ = registry;
}
