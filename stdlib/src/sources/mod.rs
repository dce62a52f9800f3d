//! The sources of the library: where events enter.

mod budget;
mod exec;
mod feed;
mod framing;
mod generate;
mod globs;
mod http;
mod ledger;
mod lines;
mod listen;
mod owner;
mod positions;
mod rows;
mod spool;
mod stdin;
mod steps;
mod syslog;
mod tail;
mod tcp;
#[cfg(test)]
mod testing;
mod udp;
mod znodes;

use flow_agent::Registry;

/// Adds all sources.
pub fn register(registry: &mut Registry) {
    registry.sources.insert("exec", exec::exec);
    registry.sources.insert("generate", generate::generate);
    registry.sources.insert("http", http::http);
    registry.sources.insert("spool", spool::spool);
    registry.sources.insert("stdin", stdin::stdin);
    registry.sources.insert("syslog", syslog::syslog);
    registry.sources.insert("tail", tail::tail);
    registry.sources.insert("tcp", tcp::tcp);
    registry.sources.insert("udp", udp::udp);
    registry.sources.insert("znodes", znodes::znodes);
}
