//! The sources of the library: where events enter.

mod globs;
mod ledger;
mod lines;
mod positions;
mod rows;
mod tail;
#[cfg(test)]
mod testing;

use flow_agent::Registry;

/// Adds all sources.
pub fn register(registry: &mut Registry) {
    registry.sources.insert("tail", tail::tail);
}
