//! The interceptors of the library.

use flow_agent::Registry;

/// Adds all interceptors.
pub fn register(registry: &mut Registry) {
    let _ = registry;
}
