//! Our own bitmap chunks, there and back.
#![no_main]

#[path = "../bodies/mod.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::bitmap::round_trip(data));
