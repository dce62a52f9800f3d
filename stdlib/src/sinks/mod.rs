//! The sinks of the library: where events leave. Each kind is a module with its settings and a factory; what
//! several of them share (how an event becomes text, templates, faults of the world) stands beside them.

mod console;
mod database;
mod discard;
mod encode;
mod fault;
mod files;
mod http;
mod places;
mod tcp;
mod template;

use flow_agent::Registry;

pub(crate) use fault::io_text;

/// Adds all sinks.
pub fn register(registry: &mut Registry) {
    registry.sinks.insert("console", console::console);
    registry.sinks.insert("database", database::database);
    registry.sinks.insert("discard", discard::discard);
    registry.sinks.insert("files", files::files);
    registry.sinks.insert("http", http::http);
    registry.sinks.insert("tcp", tcp::tcp);
}
