//! The channels of the library.

mod database;
mod file;
mod kept;
mod memory;
mod spill;
#[cfg(test)]
mod testing;

use flow_agent::Registry;

/// Adds all channels.
pub fn register(registry: &mut Registry) {
    registry.channels.insert("database", database::database);
    registry.channels.insert("file", file::file);
    registry.channels.insert("memory", memory::memory);
    registry.channels.insert("spill", spill::spill);
}
