//! Nodes that die: what a client was told is written survives, on both nodes.
//!
//! Real processes: clients write stamped sectors through NBD (`tests/crash/stamps.rs`) to a pair of daemons, or of a
//! daemon and a kernel's DRBD, while either node, or both, are killed at random moments and come back
//! (`tests/crash/rounds.rs`). At the end of each round every acknowledged write is there, or a later one of the same
//! place, and both copies are equal byte for byte. `kill -9` leaves the page cache alone: nothing at all may be lost.
//!
//! As many rounds as fit in a quarter of a minute; `URBD_CRASH_ROUNDS=50`, or `make crash`, leads so many. A failure prints
//! the seed of its round.

#![allow(clippy::unwrap_used)]

#[path = "kernel/mod.rs"]
mod harness;
#[path = "crash/mod.rs"]
mod parts;

use std::fs::File;
use std::path::{Path, PathBuf};

use harness::lab::{HOST, HOST_TOO};
use harness::node::RESOURCE;
use harness::{KernelNode, Lab, UrbdNode};
use parts::budget::Budget;
use parts::full_disk::{self, FullDisk};
use parts::life::{Life, Side, Tally};
use parts::stamps::Ground;
use parts::{from_a_guest, load, rounds};

/// Settings of a daemon.
const URING: &str = "[nbd]\nlisten = []\n";
const PORTABLE: &str = "[nbd]\nlisten = []\n[io]\nengine = \"portable\"\n";
/// Between two daemons a death is noticed at once; nobody else may be taken for dead on a busy machine, or an
/// administrator would promote a node that lacks something.
const PATIENT: &str = "ping-timeout 100; timeout 60; socket-check-timeout 1;";
/// A guest's power failure is silence: it is noticed by these times. Nobody but who was Primary is promoted here.
const SHORT: &str = "connect-int 2; ping-int 2; ping-timeout 10; timeout 15;";
/// The guest: its number, address and disk.
const GUEST_NUMBER: u8 = 2;
const GUEST: &str = "10.77.0.2";
const GUEST_DISK: &str = "/dev/ubda";
/// Both nodes have their metadata behind their data.
const INTERNAL: [&str; 2] = ["internal"; 2];

/// Two daemons, one of them without io_uring, metadata beside the data.
#[test]
fn two_daemons_lose_nothing_when_they_are_killed() {
    const TEST: &str = "two_daemons_lose_nothing_when_they_are_killed";
    let budget = Budget::wanted();
    Lab::run_within(TEST, budget.limit(), |lab| {
        let ground = Ground { windows: 7, rows: 2 };
        let disks = ["boole", "cardan"].map(|name| (image(lab, name, 32 << 20), INTERNAL[0].to_owned()));
        daemons(lab, TEST, &budget, ground, disks, "");
    });
}

/// Two daemons, metadata on devices of their own, and more extents than the activity log takes at a time.
#[test]
fn two_daemons_lose_nothing_when_the_activity_log_is_small() {
    const TEST: &str = "two_daemons_lose_nothing_when_the_activity_log_is_small";
    let budget = Budget::wanted();
    Lab::run_within(TEST, budget.limit(), |lab| {
        let ground = Ground { windows: 80, rows: 1 };
        let disks = ["boole", "cardan"].map(|name| {
            let meta = image(lab, &format!("{name}-meta"), 1 << 20);
            (image(lab, name, 324 << 20), path(&meta).to_owned())
        });
        daemons(lab, TEST, &budget, ground, disks, "al-extents 67;");
    });
}

/// A daemon that is Primary, and a kernel's DRBD: `kill -9` of the one, a power failure of the other.
#[test]
fn a_daemon_with_a_kernel_as_its_peer_loses_nothing() {
    const TEST: &str = "a_daemon_with_a_kernel_as_its_peer_loses_nothing";
    let budget = Budget::wanted();
    Lab::run_within(TEST, budget.limit(), |lab| {
        let images = ["boole", "cardan"].map(|name| image(lab, name, 32 << 20));
        let conf = conf(SHORT, "", &hosts([(path(&images[0]), HOST), (GUEST_DISK, GUEST)], INTERNAL));
        let boole = UrbdNode::start(lab, "boole", &conf, URING);
        let cardan = KernelNode::boot(lab, "cardan", GUEST_NUMBER, &images[1], &conf);
        let [of_boole, of_cardan] = images;
        let sides = [Side::served(lab, &boole, of_boole), Side::hidden(&cardan, of_cardan)];
        begin(&sides);
        rounds_on(TEST, &budget, Life::of(sides, Ground { windows: 7, rows: 2 })).end();
        boole.stop();
    });
}

/// A kernel's DRBD that is Primary, with writers in its guest; its peer is the daemon.
#[test]
fn a_kernel_with_a_daemon_as_its_peer_loses_nothing() {
    const TEST: &str = "a_kernel_with_a_daemon_as_its_peer_loses_nothing";
    let budget = Budget::wanted();
    Lab::run_within(TEST, budget.limit(), |lab| {
        let images = ["boole", "cardan"].map(|name| image(lab, name, 64 << 20));
        let conf = conf(SHORT, "", &hosts([(GUEST_DISK, GUEST), (path(&images[1]), HOST)], INTERNAL));
        let boole = KernelNode::boot(lab, "boole", GUEST_NUMBER, &images[0], &conf);
        let cardan = UrbdNode::start(lab, "cardan", &conf, URING);
        let [of_boole, of_cardan] = images;
        let sides = [Side::hidden(&boole, of_boole), Side::hidden(&cardan, of_cardan)];
        begin(&sides);
        let mut life = Life::of(sides, Ground { windows: 0, rows: 1 });
        let mut writes = 0;
        let led = budget.lead(TEST, |chance| writes += from_a_guest::lead(&mut life, chance));
        println!("{TEST}: {led} rounds, {writes} writes reported, {:?}", life.tally);
        life.end();
        cardan.stop();
    });
}

/// fio is the client, and the Secondary dies and comes back while it writes.
#[test]
fn fio_notices_nothing_when_the_secondary_is_killed() {
    const TEST: &str = "fio_notices_nothing_when_the_secondary_is_killed";
    let budget = Budget::wanted();
    Lab::run_within(TEST, budget.limit(), |lab| {
        let images = ["boole", "cardan"].map(|name| image(lab, name, 32 << 20));
        let on_this_host = [(path(&images[0]), HOST), (path(&images[1]), HOST_TOO)];
        let conf = conf(PATIENT, "", &hosts(on_this_host, INTERNAL));
        let [boole, cardan] = ["boole", "cardan"].map(|name| UrbdNode::start(lab, name, &conf, URING));
        let [of_boole, of_cardan] = images;
        let sides = [Side::hidden(&boole, of_boole), Side::hidden(&cardan, of_cardan)];
        begin(&sides);
        let mut life = Life::of(sides, Ground { windows: 0, rows: 1 });
        let socket = lab.socket_dir("boole").join("nbd.sock");
        let mut written = 0;
        let led = budget.lead(TEST, |chance| written += load::lead(lab, &mut life, &socket, chance));
        println!("{TEST}: {led} rounds, {written} MiB written, {:?}", life.tally);
        life.end();
        boole.stop();
        cardan.stop();
    });
}

/// A disk fails under either node: it is given up, and the clients live on the other one.
#[test]
fn a_disk_that_fails_takes_nothing_with_it() {
    const TEST: &str = "a_disk_that_fails_takes_nothing_with_it";
    let budget = Budget::wanted();
    Lab::run_within(TEST, budget.limit(), |lab| {
        let small = FullDisk::mount(&lab.file("small"));
        let (mut writes, mut tally) = (0, Tally::default());
        let led = budget.lead(TEST, |mut chance| {
            // A disk that was full once has no more holes: each round has new ones.
            let failing = chance.below(2) as usize;
            let mut images = ["boole", "cardan"].map(|name| image(lab, name, 24 << 20));
            images[failing] = small.image(24 << 20);
            let on_this_host = [(path(&images[0]), HOST), (path(&images[1]), HOST_TOO)];
            let conf = conf(PATIENT, "on-io-error detach;", &hosts(on_this_host, INTERNAL));
            let [boole, cardan] = ["boole", "cardan"].map(|name| UrbdNode::start(lab, name, &conf, URING));
            let [of_boole, of_cardan] = images;
            let sides = [Side::served(lab, &boole, of_boole), Side::served(lab, &cardan, of_cardan)];
            begin_without_sync(&sides);
            let mut life = Life::of(sides, Ground { windows: 5, rows: 8 });
            life.tally = tally;
            full_disk::lead(&small, &mut life, failing, chance);
            writes += life.acknowledged();
            tally = life.tally;
            life.end();
            boole.stop();
            cardan.stop();
        });
        println!("{TEST}: {led} rounds, {writes} writes acknowledged, {tally:?}");
    });
}

/// Sections of boole and cardan, given disk and address of each, and where each has its metadata.
fn hosts(disks: [(&str, &str); 2], metas: [&str; 2]) -> String {
    let host = |name: &str, (disk, address): (&str, &str), meta: &str| {
        format!("on {name} {{ device minor 1; disk {disk}; address {address}:7788; meta-disk {meta}; }}\n")
    };
    host("boole", disks[0], metas[0]) + &host("cardan", disks[1], metas[1])
}

/// Leads rounds on two daemons, given their disks and places of metadata.
fn daemons(
    lab: &Lab,
    test: &str,
    budget: &Budget,
    ground: Ground,
    disks: [(PathBuf, String); 2],
    disk: &str,
) {
    let on_this_host = [(path(&disks[0].0), HOST), (path(&disks[1].0), HOST_TOO)];
    let conf = conf(PATIENT, disk, &hosts(on_this_host, disks.each_ref().map(|(_, meta)| meta.as_str())));
    let boole = UrbdNode::start(lab, "boole", &conf, URING);
    let cardan = UrbdNode::start(lab, "cardan", &conf, PORTABLE);
    let [(of_boole, _), (of_cardan, _)] = disks;
    let sides = [Side::served(lab, &boole, of_boole), Side::served(lab, &cardan, of_cardan)];
    begin(&sides);
    let life = rounds_on(test, budget, Life::of(sides, ground));
    life.end();
    boole.stop();
    cardan.stop();
}

/// The first one becomes Primary; both hold zeroes, and a full sync writes them.
fn begin(sides: &[Side<'_>; 2]) {
    meet(sides);
    let first = sides[0].node;
    first.adm(&format!("primary --force {RESOURCE}"));
    sides.iter().for_each(|side| side.node.await_state("Connected UpToDate/UpToDate"));
}

/// As [`begin`], without the sync: the disks keep their holes.
fn begin_without_sync(sides: &[Side<'_>; 2]) {
    meet(sides);
    let first = sides[0].node;
    first.adm(&format!("-- --clear-bitmap new-current-uuid {RESOURCE}"));
    first.await_state("Connected UpToDate/UpToDate");
    first.adm(&format!("primary {RESOURCE}"));
    sides.iter().for_each(|side| side.node.await_state("Connected UpToDate/UpToDate"));
}

fn meet(sides: &[Side<'_>; 2]) {
    for side in sides {
        side.node.adm(&format!("create-md --force {RESOURCE}"));
        side.node.adm(&format!("up {RESOURCE}"));
    }
    sides.iter().for_each(|side| side.node.await_state("Connected"));
}

fn rounds_on<'a>(test: &str, budget: &Budget, mut life: Life<'a>) -> Life<'a> {
    let begun = std::time::Instant::now();
    let led = budget.lead(test, |chance| rounds::lead(&mut life, chance));
    println!(
        "{test}: {led} rounds in {:.0?}, {} writes acknowledged, {:?}",
        begun.elapsed(),
        life.acknowledged(),
        life.tally
    );
    life
}

/// The resource file. Resyncs do not give way to the clients, who never pause.
fn conf(net: &str, disk: &str, hosts: &str) -> String {
    format!(
        "resource {RESOURCE} {{
            disk {{ resync-rate 200M; c-plan-ahead 0; c-min-rate 0; {disk} }}
            net {{ {net} }}
            {hosts}
        }}"
    )
}

/// A disk that holds zeroes.
fn image(lab: &Lab, name: &str, bytes: u64) -> PathBuf {
    let path = lab.file(&format!("{name}.img"));
    File::create(&path).unwrap().set_len(bytes).unwrap();
    path
}

fn path(image: &Path) -> &str {
    image.to_str().expect("the build directory has a name in UTF-8")
}
