//! The sources of the library.

use flow_agent::Registry;

/// Adds all sources.
pub fn register(registry: &mut Registry) {
    let _ = registry;
}
