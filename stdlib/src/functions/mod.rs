//! The functions of the library.

use flow_agent::Registry;

/// Adds all functions.
pub fn register(registry: &mut Registry) {
    let _ = registry;
}
