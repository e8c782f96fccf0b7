//! The core against a hostile peer and a bad disk.
#![no_main]

#[path = "../bodies/mod.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::node::hostile_peer(data));
