//! Rings of activity-log blocks with any content.
#![no_main]

#[path = "../bodies/mod.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::meta::log_recovery(data));
