//! The channels of the library.

mod memory;

use flow_agent::Registry;

/// Adds all channels.
pub fn register(registry: &mut Registry) {
    registry.channels.insert("memory", memory::memory);
}
