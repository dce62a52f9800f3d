//! The functions of the library, by topic. Signatures, docs and examples are declared in `functions.flow`; here is
//! what they do. No function does IO. What a
//! value looks like as text, as JSON, and what equals what, is the evaluator's to say; a text or list that would pass
//! the evaluator's bounds fails.

mod access;
mod args;
mod chars;
mod collections;
mod convert;
mod encode;
mod fields;
mod hashes;
mod ip;
mod json;
mod numbers;
mod plain;
mod regexes;
pub(crate) mod syslog;
mod text;
mod time;
mod world;

#[cfg(test)]
pub(crate) mod testing;

pub(crate) use world::host_name;

use flow_agent::Registry;
use flow_plan::function::Functions;

/// Adds all functions.
pub fn register(registry: &mut Registry) {
    add_all(&mut registry.functions);
}

/// All functions of the library.
pub(crate) fn add_all(functions: &mut Functions) {
    access::add(functions);
    chars::add(functions);
    collections::add(functions);
    convert::add(functions);
    encode::add(functions);
    fields::add(functions);
    hashes::add(functions);
    ip::add(functions);
    json::add(functions);
    numbers::add(functions);
    regexes::add(functions);
    syslog::add(functions);
    text::add(functions);
    time::add(functions);
    world::add(functions);
    plain::add(functions);
}
