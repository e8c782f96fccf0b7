//! The lives of a pair, from fresh metadata to `down`, played on any two nodes.
//!
//! Each script ends with both disks holding what was written, byte for byte. The recordings of two kernels are in
//! `tests/data/kernel/`; every other pair must leave the same ones.

use std::path::Path;

use super::lab::{Lab, poll};
use super::node::{Node, RESOURCE, STATE_LIMIT};
use super::record::Record;
use super::writers::RANGE_BYTES;

/// Size of each node's disk image.
pub const IMAGE_BYTES: usize = 64 << 20;
/// The resync rate that leaves time to interrupt a resync, of [`conf`]'s 400M.
const SLOW: &str = "6M";
/// Where the writers of [`play_hardships`] are: an extent of the activity log each.
const FIRST_RANGE: usize = 20 << 20;
const SECOND_RANGE: usize = 28 << 20;
/// Writes of each writer before a node dies, and after it.
const WRITES: u64 = 40;

/// The resource file: short timers, so that a test takes seconds. Each node is name, address and disk.
pub fn conf(net: &str, nodes: [(&str, &str, &str); 2]) -> String {
    let sections = nodes.map(|(name, address, disk)| {
        format!("on {name} {{ device minor 1; disk {disk}; address {address}:7788; meta-disk internal; }}")
    });
    format!(
        "resource {RESOURCE} {{
            disk {{ resync-rate 400M; c-plan-ahead 0; }}
            net {{ connect-int 2; ping-int 2; ping-timeout 10; timeout 15; {net} }}
            {}
            {}
        }}",
        sections[0], sections[1]
    )
}

/// The everyday life. `images` hold what is on the disks of the first and the second node.
///
/// The first node becomes Primary, then the second; both write, connected and alone.
pub fn play(_: &Lab, first: &dyn Node, second: &dyn Node, images: [&Path; 2]) {
    let mut play = Record::new("pair.txt", first, second);

    for node in [first, second] {
        node.adm(&format!("create-md --force {RESOURCE}"));
        node.adm(&format!("up {RESOURCE}"));
    }
    play.step("fresh metadata, up", "Connected", "Connected");

    first.adm(&format!("primary --force {RESOURCE}"));
    play.begin_with(images[0], first.device_bytes());
    play.step("first primary --force", "Connected UpToDate/UpToDate", "Connected UpToDate/UpToDate");

    play.write(first, 1, 0, 256 << 10);
    play.write(first, 2, 20 << 20, 64 << 10);
    play.step("first writes", "Connected", "Connected");

    first.adm(&format!("disconnect {RESOURCE}"));
    play.step("first disconnect", "StandAlone", "WFConnection");
    play.write(first, 3, 128 << 10, 256 << 10);
    play.write(first, 4, 40 << 20, 512 << 10);
    play.step("first writes alone", "StandAlone", "WFConnection");
    first.adm(&format!("connect {RESOURCE}"));
    play.step("first connect", "Connected UpToDate/UpToDate", "Connected UpToDate/UpToDate");

    first.adm(&format!("secondary {RESOURCE}"));
    play.step("first secondary", "Secondary/Secondary", "Secondary/Secondary");
    second.adm(&format!("primary {RESOURCE}"));
    play.step("second primary", "Secondary/Primary", "Primary/Secondary");
    play.write(second, 5, 64 << 10, 128 << 10);
    play.write(second, 6, 33 << 20, 4 << 10);
    play.step("second writes", "Connected", "Connected");

    first.adm(&format!("disconnect {RESOURCE}"));
    play.step("first disconnect, being Secondary", "StandAlone", "WFConnection");
    play.write(second, 7, 50 << 20, 1 << 20);
    play.step("second writes alone", "StandAlone", "WFConnection");
    first.adm(&format!("connect {RESOURCE}"));
    play.step("first connect again", "Connected UpToDate/UpToDate", "Connected UpToDate/UpToDate");

    second.adm(&format!("secondary {RESOURCE}"));
    play.step("second secondary", "Secondary/Secondary", "Secondary/Secondary");
    second.adm(&format!("down {RESOURCE}"));
    play.step("second down", "WFConnection", "Unconfigured");
    first.adm(&format!("down {RESOURCE}"));
    play.step("first down", "Unconfigured", "Unconfigured");

    play.finish(images);
}

/// The hard life: the first resync is interrupted twice, by either side; the link is cut without a word in the middle
/// of writes; the first node dies in the middle of writes, as Primary, comes back, and dies in the middle of writes as
/// Secondary.
pub fn play_hardships(lab: &Lab, first: &dyn Node, second: &dyn Node, images: [&Path; 2]) {
    let mut play = Record::new("hardships.txt", first, second);
    let resync_rate = |rate: &str| {
        for node in [first, second] {
            node.adm(&format!("disk-options --resync-rate={rate} {RESOURCE}"));
        }
    };

    for node in [first, second] {
        node.adm(&format!("create-md --force {RESOURCE}"));
        node.adm(&format!("up {RESOURCE}"));
    }
    play.step("fresh metadata, up", "Connected", "Connected");
    resync_rate(SLOW);
    first.adm(&format!("primary --force {RESOURCE}"));
    play.begin_with(images[0], first.device_bytes());
    let kib = first.device_bytes() / 1024;
    await_progress(first, kib * 3 / 4);
    first.adm(&format!("disconnect {RESOURCE}"));
    play.step("first disconnect during the resync", "StandAlone", "WFConnection");
    play.expect_rest(first, kib * 3 / 4);
    first.adm(&format!("connect {RESOURCE}"));
    await_progress(first, kib / 2);
    second.adm(&format!("disconnect {RESOURCE}"));
    play.step("second disconnect during the resync", "WFConnection", "StandAlone");
    play.expect_rest(first, kib / 2);
    resync_rate("400M");
    second.adm(&format!("connect {RESOURCE}"));
    play.step("second connect", "Connected UpToDate/UpToDate", "Connected UpToDate/UpToDate");

    let writers = first.start_writers(FIRST_RANGE as u64);
    writers.await_writes(WRITES);
    lab.cut();
    first.await_state("WFConnection");
    writers.await_writes(WRITES);
    let done = writers.stop();
    play.written(first, FIRST_RANGE, done);
    play.step("the link is cut", "WFConnection", "WFConnection");
    play.expect_rest(first, RANGE_BYTES as u64 / 1024);
    lab.join();
    play.step("the link is back", "Connected UpToDate/UpToDate", "Connected UpToDate/UpToDate");

    let writers = first.start_writers(FIRST_RANGE as u64);
    writers.await_writes(WRITES);
    first.crash();
    let done = writers.lost();
    play.step("first dies as Primary", "Dead", "WFConnection");
    second.adm(&format!("primary {RESOURCE}"));
    play.step("second primary", "Dead", "Primary/Unknown");
    play.written(second, FIRST_RANGE, done);
    play.write(second, 1, 40 << 20, 256 << 10);
    first.boot();
    first.adm(&format!("up {RESOURCE}"));
    // The extent that was being written to, and what second wrote.
    play.step("first up again", "Connected UpToDate/UpToDate", "Connected UpToDate/UpToDate");

    let writers = second.start_writers(SECOND_RANGE as u64);
    writers.await_writes(WRITES);
    first.crash();
    second.await_state("WFConnection");
    writers.await_writes(WRITES);
    let done = writers.stop();
    play.written(second, SECOND_RANGE, done);
    play.step("first dies as Secondary", "Dead", "WFConnection");
    play.expect_rest(second, RANGE_BYTES as u64 / 1024);
    first.boot();
    first.adm(&format!("up {RESOURCE}"));
    play.step("first up once more", "Connected UpToDate/UpToDate", "Connected UpToDate/UpToDate");

    second.adm(&format!("secondary {RESOURCE}"));
    play.step("second secondary", "Secondary/Secondary", "Secondary/Secondary");
    for node in [first, second] {
        node.adm(&format!("down {RESOURCE}"));
    }
    play.step("down", "Unconfigured", "Unconfigured");
    play.finish(images);
}

/// Waits until a running resync has less than `kib` to go.
fn await_progress(source: &dyn Node, kib: u64) {
    poll(
        STATE_LIMIT,
        || (source.state().has("SyncSource") && source.out_of_sync_kib() < kib).then_some(()),
        || format!("{}: waited for less than {kib} KiB to go\n{}", source.name(), source.proc_drbd()),
    );
}
