//! Against the real thing: the in-kernel DRBD 8.4.11 in User-Mode Linux guests.
//!
//! Two kernels play a script first; the recording of what they did is what urbd is held to, whichever side of
//! the pair it is on. In all tests boole is the first node, cardan the second.

#![allow(clippy::unwrap_used)]

#[path = "kernel/mod.rs"]
mod harness;

use std::path::{Path, PathBuf};

use harness::lab::{HOST, noise};
use harness::script::{IMAGE_BYTES, conf, play};
use harness::{Guest, KernelNode, Lab, Node, Urbd, UrbdNode};

/// The disk of a guest, in the guest.
const GUEST_DISK: &str = "/dev/ubda";
/// The guests' addresses, by number.
const GUESTS: [&str; 3] = ["", "10.77.0.1", "10.77.0.2"];
/// Network options that make the nodes prove to each other that they know the secret.
const WITH_SECRET: &str = "cram-hmac-alg sha1; shared-secret \"a secret\";";

#[test]
fn two_kernels_do_what_was_recorded() {
    Lab::run("two_kernels_do_what_was_recorded", |lab| {
        let images = images(lab);
        let conf = conf("", [("boole", GUESTS[1], GUEST_DISK), ("cardan", GUESTS[2], GUEST_DISK)]);
        let boole = kernel(lab, "boole", 1, &images[0], &conf);
        let cardan = kernel(lab, "cardan", 2, &images[1], &conf);
        play(&boole, &cardan, [&images[0], &images[1]]);
    });
}

#[test]
fn urbd_first_does_what_two_kernels_do() {
    Lab::run("urbd_first_does_what_two_kernels_do", |lab| urbd_first(lab, ""));
}

#[test]
fn urbd_first_does_what_two_kernels_do_with_a_secret() {
    Lab::run("urbd_first_does_what_two_kernels_do_with_a_secret", |lab| urbd_first(lab, WITH_SECRET));
}

#[test]
fn kernel_first_and_urbd_second_do_what_two_kernels_do() {
    Lab::run("kernel_first_and_urbd_second_do_what_two_kernels_do", |lab| kernel_first(lab, ""));
}

#[test]
fn kernel_first_and_urbd_second_do_what_two_kernels_do_with_a_secret() {
    let name = "kernel_first_and_urbd_second_do_what_two_kernels_do_with_a_secret";
    Lab::run(name, |lab| kernel_first(lab, WITH_SECRET));
}

/// The disks that a pair of urbd and kernel leaves are read by the real drbdmeta, then each goes to the other
/// software, with blocks that are out of sync.
#[test]
fn disks_can_change_hands() {
    Lab::run("disks_can_change_hands", |lab| {
        let images = images(lab);
        let conf_before = conf("", [("boole", HOST, path(&images[0])), ("cardan", GUESTS[2], GUEST_DISK)]);
        let boole = urbd(lab, "boole", &conf_before);
        let cardan = kernel(lab, "cardan", 2, &images[1], &conf_before);
        for node in [&boole as &dyn Node, &cardan] {
            node.adm("create-md --force r0");
            node.adm("up r0");
        }
        boole.await_state("Connected");
        boole.adm("primary --force r0");
        boole.await_state("Connected UpToDate/UpToDate");
        let device_bytes = usize::try_from(boole.device_bytes()).unwrap();
        boole.adm("disconnect r0");
        let data = noise(301, 256 << 10);
        let at = 24 << 20;
        boole.write(at as u64, &data);
        boole.adm("secondary r0");
        for node in [&boole as &dyn Node, &cardan] {
            node.adm("down r0");
        }
        boole.0.stop();
        cardan.0.power_fail();
        let mut model = std::fs::read(&images[0]).unwrap();
        model.truncate(device_bytes);
        assert!(model[at..at + data.len()] == data, "urbd's disk has what was written");

        let conf_after = conf("", [("boole", GUESTS[1], GUEST_DISK), ("cardan", HOST, path(&images[1]))]);
        let boole = kernel(lab, "boole", 1, &images[0], &conf_after);
        drbdmeta_reads(&boole, &data, at);
        let cardan = urbd(lab, "cardan", &conf_after);
        for node in [&boole as &dyn Node, &cardan] {
            node.adm("up r0");
        }
        boole.await_state("Connected UpToDate/UpToDate");
        cardan.await_state("Connected UpToDate/UpToDate");
        assert_eq!(boole.announced_resyncs().unwrap().last(), Some(&(data.len() as u64 / 1024)));
        for node in [&boole as &dyn Node, &cardan] {
            node.adm("down r0");
        }
        for image in &images {
            assert!(std::fs::read(image).unwrap()[..device_bytes] == model, "{}", image.display());
        }
    });
}

#[test]
fn nodes_that_disagree_part_for_good() {
    Lab::run("nodes_that_disagree_part_for_good", |lab| {
        let images = images(lab);
        // What urbd has, what the kernel has, and what the kernel says about it.
        let cases = [
            (
                "cram-hmac-alg sha1; shared-secret one;",
                "cram-hmac-alg sha1; shared-secret other;",
                "Authentication of peer failed",
            ),
            ("protocol A;", "protocol C;", "incompatible protocol settings"),
            ("allow-two-primaries yes;", "", "incompatible allow-two-primaries settings"),
            ("", "after-sb-0pri discard-younger-primary;", "incompatible after-sb-0pri settings"),
        ];
        let nodes = [("boole", HOST, path(&images[0])), ("cardan", GUESTS[2], GUEST_DISK)];
        let mut cardan = kernel(lab, "cardan", 2, &images[1], &conf("", nodes));
        cardan.adm("create-md --force r0");
        for (number, (ours, theirs, complaint)) in cases.into_iter().enumerate() {
            let boole = urbd(lab, "boole", &conf(ours, nodes));
            if number == 0 {
                boole.adm("create-md --force r0");
            }
            cardan = KernelNode::new(cardan.0, &conf(theirs, nodes));
            for node in [&boole as &dyn Node, &cardan] {
                node.adm("up r0");
            }
            boole.await_state("StandAlone");
            cardan.await_state("StandAlone");
            assert!(cardan.0.console().contains(complaint), "{complaint}");
            for node in [&boole as &dyn Node, &cardan] {
                node.adm("down r0");
            }
            boole.0.stop();
        }
    });
}

/// urbd is boole, which becomes Primary first.
fn urbd_first(lab: &Lab, net: &str) {
    let images = images(lab);
    let conf = conf(net, [("boole", HOST, path(&images[0])), ("cardan", GUESTS[2], GUEST_DISK)]);
    let boole = urbd(lab, "boole", &conf);
    let cardan = kernel(lab, "cardan", 2, &images[1], &conf);
    play(&boole, &cardan, [&images[0], &images[1]]);
    boole.0.stop();
}

/// urbd is cardan, which becomes Primary later.
fn kernel_first(lab: &Lab, net: &str) {
    let images = images(lab);
    let conf = conf(net, [("boole", GUESTS[1], GUEST_DISK), ("cardan", HOST, path(&images[1]))]);
    let boole = kernel(lab, "boole", 1, &images[0], &conf);
    let cardan = urbd(lab, "cardan", &conf);
    play(&boole, &cardan, [&images[0], &images[1]]);
    cardan.0.stop();
}

/// The real drbdmeta, in the guest whose disk urbd wrote: UUIDs, flags, sizes, and a bit for each block of `data`.
fn drbdmeta_reads(guest: &KernelNode, data: &[u8], at: usize) {
    let generations = guest.0.sh("drbdmeta 1 v08 /dev/ubda internal get-gi");
    let fields: Vec<&str> = generations.trim().split(':').collect();
    assert_eq!(fields.len(), 11, "{generations}");
    assert!(
        fields[..2].iter().all(|uuid| uuid.parse() != Ok(0_u8)),
        "a current and a bitmap UUID: {generations}"
    );
    assert_eq!(fields[4..], ["1", "1", "0", "0", "0", "0", "0"], "consistent and up to date: {generations}");

    let dump = guest.0.sh("drbdmeta --force 1 v08 /dev/ubda internal dump-md");
    for line in ["version \"v08\";", "la-size-sect 130992;", "bm-byte-per-bit 4096;", "al-stripes 1;"] {
        assert!(dump.lines().any(|found| found == line), "{line} in\n{dump}");
    }
    assert!(dump.contains(&format!("# bits-set {};", data.len() / 4096)), "{dump}");
    let word = format!("# at {}kB\n    0xFFFFFFFFFFFFFFFF; 0x0", at / 1024); // 64 bits: 256 KiB of data
    assert!(dump.contains(&word), "{word:?} in\n{dump}");
}

fn images(lab: &Lab) -> [PathBuf; 2] {
    [lab.image("boole.img", IMAGE_BYTES, 101), lab.image("cardan.img", IMAGE_BYTES, 102)]
}

fn kernel(lab: &Lab, name: &str, number: u8, image: &Path, conf: &str) -> KernelNode {
    KernelNode::new(Guest::boot(lab, name, number, &[image], &[]), conf)
}

fn urbd(lab: &Lab, name: &str, conf: &str) -> UrbdNode {
    UrbdNode(Urbd::start(lab, name, conf, "[nbd]\nlisten = []\n"))
}

fn path(image: &Path) -> &str {
    image.to_str().expect("the build directory has a name in UTF-8")
}
