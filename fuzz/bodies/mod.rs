//! What each fuzz target does with its bytes, as plain functions.
//!
//! `fuzz_targets/*.rs` run them under libFuzzer (nightly); `tests/fuzz_smoke.rs` runs the same
//! functions on stable, on seeds and their mutations. A body panics when a parser breaks its
//! promise; that a parser itself must not panic goes without saying.
#![allow(dead_code)] // each fuzz target uses one of them
#![allow(clippy::unwrap_used)]

pub(crate) mod bitmap;
pub(crate) mod config;
pub(crate) mod control;
pub(crate) mod meta;
pub(crate) mod nbd;
pub(crate) mod node;
pub(crate) mod wire;

/// One fuzz target: its name (as in `fuzz_targets/`), its body, and valid inputs to start from.
pub(crate) struct Body {
    /// Name of the target.
    pub(crate) name: &'static str,
    /// What it does with its bytes.
    pub(crate) run: fn(&[u8]),
    /// Valid inputs: mutated by the smoke test, the first corpus of the fuzzer.
    pub(crate) seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub(crate) const BODIES: &[Body] = &[
    Body { name: "bitmap_receiving", run: bitmap::receiving, seeds: bitmap::receiving_seeds },
    Body { name: "bitmap_round_trip", run: bitmap::round_trip, seeds: bitmap::round_trip_seeds },
    Body { name: "config_text", run: config::text, seeds: config::text_seeds },
    Body { name: "control_messages", run: control::messages, seeds: control::messages_seeds },
    Body { name: "meta_dump", run: meta::dump_text, seeds: meta::dump_text_seeds },
    Body { name: "meta_log_crash", run: meta::log_crash, seeds: meta::log_crash_seeds },
    Body { name: "meta_log_recovery", run: meta::log_recovery, seeds: meta::log_recovery_seeds },
    Body { name: "meta_superblock", run: meta::superblock, seeds: meta::superblock_seeds },
    Body { name: "nbd_negotiation", run: nbd::negotiation, seeds: nbd::negotiation_seeds },
    Body { name: "nbd_transmission", run: nbd::transmission, seeds: nbd::transmission_seeds },
    Body { name: "node_hostile_peer", run: node::hostile_peer, seeds: node::hostile_peer_seeds },
    Body { name: "wire_decoding", run: wire::decoding, seeds: wire::decoding_seeds },
];

/// Takes a byte off the front: how a body draws its parameters from the input.
fn take_byte(data: &mut &[u8]) -> u8 {
    let Some((&first, rest)) = data.split_first() else { return 0 };
    *data = rest;
    first
}

/// Takes a big-endian number off the front; what is missing counts as zero.
fn take_number(data: &mut &[u8]) -> u64 {
    (0..8).fold(0, |sum, _| sum << 8 | u64::from(take_byte(data)))
}
