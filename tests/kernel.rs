//! Against the real thing: the in-kernel DRBD 8.4.11 in User-Mode Linux guests.
//!
//! Two kernels play a script first; the recording of what they did is what urbd is held to, whichever side of
//! the pair it is on.

#[path = "kernel/mod.rs"]
mod harness;

use harness::script::{IMAGE_BYTES, conf, play};
use harness::{Guest, KernelNode, Lab};

/// The disk of a guest, in the guest.
const GUEST_DISK: &str = "/dev/ubda";

#[test]
fn two_kernels_do_what_was_recorded() {
    Lab::run("two_kernels_do_what_was_recorded", |lab| {
        let images = [lab.image("boole.img", IMAGE_BYTES, 101), lab.image("cardan.img", IMAGE_BYTES, 102)];
        let conf = conf("", [("boole", "10.77.0.1", GUEST_DISK), ("cardan", "10.77.0.2", GUEST_DISK)]);
        let boole = KernelNode::new(Guest::boot(lab, "boole", 1, &[&images[0]], &[]), &conf);
        let cardan = KernelNode::new(Guest::boot(lab, "cardan", 2, &[&images[1]], &[]), &conf);
        play(&boole, &cardan, [&images[0], &images[1]]);
    });
}
