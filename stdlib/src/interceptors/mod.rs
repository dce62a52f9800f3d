//! The interceptors of the library. Most are written in the expression IR, so that they mean the same wherever it
//! runs; only those that remember something between events are native.

mod build;
mod cut;
mod dedupe;
mod extract;
mod filter;
mod headers;
mod host;
mod keys;
mod sample;
mod search_replace;
mod throttle;
mod timestamp;

#[cfg(test)]
mod testing;

use flow_agent::Registry;
use flow_plan::interceptor::Interceptors;

/// Adds all interceptors.
pub fn register(registry: &mut Registry) {
    add_all(&mut registry.interceptors);
}

fn add_all(interceptors: &mut Interceptors) {
    interceptors.add("timestamp", timestamp::lower);
    interceptors.add("host", host::lower);
    interceptors.add("filter", filter::lower);
    interceptors.add("extract", extract::lower);
    interceptors.add("tag", headers::lower_tag);
    interceptors.add("static", headers::lower_tag);
    interceptors.add("uuid", headers::lower_uuid);
    interceptors.add("remove_header", headers::lower_remove);
    interceptors.add("rename_header", headers::lower_rename);
    interceptors.add("search_replace", search_replace::lower);
    interceptors.add("truncate", cut::lower);
    interceptors.add("dedupe", dedupe::lower);
    interceptors.add("sample", sample::lower);
    interceptors.add("throttle", throttle::lower);
}
