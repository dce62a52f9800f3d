//! Bytes to a request of Kafka's protocol, header and body, as a connection of the broker reads it.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    // Refusing is fine.
    let _ = flow_broker::check_request(data);
});
