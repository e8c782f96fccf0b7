//! The NBD handshake, whole and in pieces.
#![no_main]

#[path = "../bodies/mod.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::nbd::negotiation(data));
