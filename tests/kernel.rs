//! Against the real thing: the in-kernel DRBD 8.4.11 in User-Mode Linux guests.
//!
//! Two kernels play a script first; the recording of what they did is what urbd is held to, whichever side of
//! the pair it is on. In all tests boole is the first node, cardan the second.
//!
//! To record anew: `URBD_RECORD=1 cargo test --test kernel two_kernels`.

#![allow(clippy::unwrap_used)]

#[path = "kernel/mod.rs"]
mod harness;

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::lab::{HOST, noise, poll};
use harness::node::{STATE_LIMIT, State, announced_resyncs};
use harness::script::{IMAGE_BYTES, conf, play, play_hardships};
use harness::{Guest, KernelNode, Lab, Node, UrbdNode};

/// The disk of a guest, in the guest.
const GUEST_DISK: &str = "/dev/ubda";
/// The guests' addresses, by number.
const GUESTS: [&str; 3] = ["", "10.77.0.1", "10.77.0.2"];
/// The nodes prove to each other that they know the secret, all data have a digest, resyncs compare before they send,
/// bitmaps go as they are, and writes are acked on receipt.
const EVERY_CHECK: &str =
    "cram-hmac-alg sha1; shared-secret \"a secret\"; data-integrity-alg crc32c; csums-alg sha1;
    use-rle no; protocol B;";
/// For resyncs of an activity log's extents, where most blocks are equal.
const COMPARE_FIRST: &str = "csums-alg sha1;";

/// A script: the lab, the first node, the second, their disk images.
type Script = fn(&Lab, &dyn Node, &dyn Node, [&Path; 2]);

#[test]
fn two_kernels_do_what_was_recorded() {
    Lab::run("two_kernels_do_what_was_recorded", |lab| two_kernels(lab, play));
}

#[test]
fn urbd_first_does_what_two_kernels_do() {
    Lab::run("urbd_first_does_what_two_kernels_do", |lab| urbd_first(lab, "", play));
}

#[test]
fn urbd_first_does_what_two_kernels_do_with_every_check() {
    let name = "urbd_first_does_what_two_kernels_do_with_every_check";
    Lab::run(name, |lab| urbd_first(lab, EVERY_CHECK, play));
}

#[test]
fn kernel_first_and_urbd_second_do_what_two_kernels_do() {
    let name = "kernel_first_and_urbd_second_do_what_two_kernels_do";
    Lab::run(name, |lab| kernel_first(lab, "", play));
}

#[test]
fn kernel_first_and_urbd_second_do_what_two_kernels_do_with_every_check() {
    let name = "kernel_first_and_urbd_second_do_what_two_kernels_do_with_every_check";
    Lab::run(name, |lab| kernel_first(lab, EVERY_CHECK, play));
}

#[test]
fn two_kernels_bear_hardships_as_was_recorded() {
    Lab::run("two_kernels_bear_hardships_as_was_recorded", |lab| two_kernels(lab, play_hardships));
}

#[test]
fn urbd_first_bears_hardships_as_two_kernels_do() {
    let name = "urbd_first_bears_hardships_as_two_kernels_do";
    Lab::run(name, |lab| urbd_first(lab, COMPARE_FIRST, play_hardships));
}

#[test]
fn kernel_first_and_urbd_second_bear_hardships_as_two_kernels_do() {
    let name = "kernel_first_and_urbd_second_bear_hardships_as_two_kernels_do";
    Lab::run(name, |lab| kernel_first(lab, COMPARE_FIRST, play_hardships));
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
        boole.stop();
        both_tools_read_the_same(&cardan.guest(), &images[1]);
        cardan.crash();
        let mut model = std::fs::read(&images[0]).unwrap();
        model.truncate(device_bytes);
        assert!(model[at..at + data.len()] == data, "urbd's disk has what was written");

        let conf_after = conf("", [("boole", GUESTS[1], GUEST_DISK), ("cardan", HOST, path(&images[1]))]);
        let boole = kernel(lab, "boole", 1, &images[0], &conf_after);
        drbdmeta_reads(&boole.guest(), &data, at);
        both_tools_read_the_same(&boole.guest(), &images[0]);
        let cardan = urbd(lab, "cardan", &conf_after);
        for node in [&boole as &dyn Node, &cardan] {
            node.adm("up r0");
        }
        boole.await_state("Connected UpToDate/UpToDate");
        cardan.await_state("Connected UpToDate/UpToDate");
        assert_eq!(announced_resyncs(&boole.whole_log()).last(), Some(&(data.len() as u64 / 1024)));
        for node in [&boole as &dyn Node, &cardan] {
            node.adm("down r0");
        }
        for image in &images {
            assert!(std::fs::read(image).unwrap()[..device_bytes] == model, "{}", image.display());
        }
    });
}

/// Each asks the other for a verify, first of a part and then of the rest: both find exactly the blocks that urbd's
/// disk lost while it was down, and a reconnect repairs them.
#[test]
fn urbd_and_a_kernel_verify_each_other() {
    Lab::run("urbd_and_a_kernel_verify_each_other", |lab| {
        let images = images(lab);
        let nodes = [("boole", HOST, path(&images[0])), ("cardan", GUESTS[2], GUEST_DISK)];
        let conf = conf("verify-alg crc32c;", nodes);
        let boole = urbd(lab, "boole", &conf);
        let cardan = kernel(lab, "cardan", 2, &images[1], &conf);
        let pair = [&boole as &dyn Node, &cardan];
        first_sync(pair, &boole);
        let device_bytes = usize::try_from(boole.device_bytes()).unwrap();
        boole.adm("secondary r0");
        pair.iter().for_each(|&node| {
            node.adm("down r0");
        });
        let image = std::fs::OpenOptions::new().write(true).open(&images[0]).unwrap();
        for block in [3, 77, 5000] {
            image.write_all_at(&noise(block, 512), block * 4096 + 1024).unwrap();
        }
        image.sync_all().unwrap();
        pair.iter().for_each(|&node| {
            node.adm("up r0");
        });
        await_both(pair, "Connected UpToDate/UpToDate");
        assert_eq!(pair.map(|node| node.out_of_sync_kib()), [0, 0], "the UUIDs say that nothing differs");

        for (round, asker) in pair.into_iter().enumerate() {
            asker.adm("-- --start=0 --stop=800s verify r0");
            pair.iter().for_each(|&node| {
                await_log(node, "Online verify done", 2 * round + 1);
            });
            await_both(pair, "Connected UpToDate/UpToDate");
            let far = pair.map(|node| lines_with(node, "Out of sync: start=40000, size=8 (sectors)"));
            assert_eq!(far, [round; 2], "it stopped before");
            asker.adm("verify r0");
            pair.iter().for_each(|&node| {
                await_log(node, "Online verify done", 2 * round + 2);
            });
            await_both(pair, "Connected UpToDate/UpToDate");
            for start in [24, 616, 40000] {
                let line = format!("Out of sync: start={start}, size=8 (sectors)");
                assert_eq!(pair.map(|node| lines_with(node, &line)), [round + 1; 2], "{line}");
            }
            assert_eq!(pair.map(|node| node.out_of_sync_kib()), [12, 12]);
        }
        assert_eq!(pair.map(|node| lines_with(node, "Out of sync: start=")), [6, 6], "and nothing else");

        boole.adm("primary r0");
        boole.adm("disconnect r0");
        boole.adm("connect r0");
        pair.iter().for_each(|&node| {
            await_log(node, "Resync done", 2);
        });
        await_both(pair, "Connected UpToDate/UpToDate");
        end_with_equal_disks(&boole, &cardan, &images, device_bytes);
    });
}

/// S31, S90: a kernel without a disk that is Primary takes an outdated urbd for its disk if that has what its clients
/// have seen; else it goes, and urbd's disk is called good at no time.
#[test]
fn an_outdated_urbd_meets_a_kernel_without_a_disk() {
    Lab::run("an_outdated_urbd_meets_a_kernel_without_a_disk", |lab| {
        let images = images(lab);
        let (boole, cardan) = urbd_and_kernel(lab, &images);
        let pair = [&boole as &dyn Node, &cardan];
        first_sync(pair, &cardan);
        let part_and_outdate = || {
            lab.cut();
            await_both(pair, "WFConnection");
            boole.adm("outdate r0");
        };

        cardan.adm("detach r0");
        let seen = noise(401, 64 << 10);
        cardan.write(1 << 20, &seen);
        part_and_outdate();
        lab.join();
        boole.await_state("Connected UpToDate/Diskless");
        assert!(cardan.read(1 << 20, seen.len() as u32) == seen);

        cardan.adm("attach r0");
        await_both(pair, "Connected UpToDate/UpToDate");
        part_and_outdate();
        cardan.write(2 << 20, &noise(402, 4096));
        cardan.adm("detach --force r0");
        let called_good = lines_with(&boole, "disk( Outdated -> UpToDate )");
        lab.join();
        cardan.await_state("StandAlone");
        boole.await_state("WFConnection Outdated/DUnknown");
        assert_eq!(lines_with(&boole, "disk( Outdated -> UpToDate )"), called_good);
    });
}

/// I10, S64: a kernel's disk is exchanged for an older copy of itself in the middle of its resync. That has the generation
/// before the sync UUID: the kernel takes this for a packet that was missed. urbd has cleared bits for the other disk since,
/// and sends all blocks.
#[test]
fn an_older_disk_that_a_kernel_gets_in_the_middle_of_a_resync_gets_all_blocks() {
    let name = "an_older_disk_that_a_kernel_gets_in_the_middle_of_a_resync_gets_all_blocks";
    Lab::run(name, |lab| {
        let images = images(lab);
        let (boole, cardan) = urbd_and_kernel(lab, &images);
        let pair = [&boole as &dyn Node, &cardan];
        first_sync(pair, &boole);
        let device_bytes = usize::try_from(boole.device_bytes()).unwrap();
        cardan.adm("down r0");
        boole.await_state("WFConnection");
        let old = std::fs::read(&images[1]).unwrap();
        let (chunk, all) = (1 << 20, 48 << 10);
        (4..52).for_each(|at| boole.write(at * chunk, &noise(at, chunk as usize)));

        cardan.adm("up r0");
        poll(
            STATE_LIMIT,
            || (1..all - 1024).contains(&boole.out_of_sync_kib()).then_some(()),
            || format!("no resync is under way:\n{}", boole.proc_drbd()),
        );
        cardan.crash();
        boole.await_state("WFConnection");
        assert_ne!(boole.out_of_sync_kib(), 0);
        std::fs::write(&images[1], &old).unwrap();

        cardan.boot();
        cardan.adm("up r0");
        await_both(pair, "Connected UpToDate/UpToDate");
        assert_eq!(lines_with(&boole, "uuid_compare()=2 by rule 80"), 1, "{}", boole.whole_log());
        assert_eq!(lines_with(&cardan, "uuid_compare()=-1 by rule 51"), 1, "{}", cardan.whole_log());
        end_with_equal_disks(&boole, &cardan, &images, device_bytes);
    });
}

/// F7: a kernel's disk is replaced while nobody is Primary, and put back when its replacement is in sync and written to. It is
/// of the generation that both had; urbd has begun another one for the new disk, which the kernel takes over.
#[test]
fn the_disk_that_a_kernel_replaced_and_gets_back_gets_all_blocks() {
    Lab::run("the_disk_that_a_kernel_replaced_and_gets_back_gets_all_blocks", |lab| {
        let images = images(lab);
        let (boole, cardan) = urbd_and_kernel(lab, &images);
        let pair = [&boole as &dyn Node, &cardan];
        first_sync(pair, &boole);
        let device_bytes = usize::try_from(boole.device_bytes()).unwrap();
        boole.adm("secondary r0");
        cardan.adm("down r0");
        boole.await_state("WFConnection");
        let old = std::fs::read(&images[1]).unwrap();

        cardan.adm("create-md --force r0");
        cardan.adm("up r0");
        await_both(pair, "Connected UpToDate/UpToDate");
        let generation = |node: &dyn Node| node.generations().split(':').next().unwrap().to_owned();
        assert_eq!(generation(&boole), generation(&cardan), "it is told and taken over");
        boole.adm("primary r0");
        (4..8).for_each(|at| boole.write(at << 20, &noise(at, 1 << 20)));
        cardan.adm("down r0");
        boole.await_state("WFConnection");
        std::fs::write(&images[1], &old).unwrap();

        cardan.adm("up r0");
        await_both(pair, "Connected UpToDate/UpToDate");
        assert_eq!(lines_with(&boole, "uuid_compare()=2 by rule 80"), 1, "{}", boole.whole_log());
        end_with_equal_disks(&boole, &cardan, &images, device_bytes);
    });
}

/// urbd `boole` here and the kernel of the guest `cardan`, each with one of the disks.
fn urbd_and_kernel<'a>(lab: &'a Lab, images: &[PathBuf; 2]) -> (UrbdNode<'a>, KernelNode<'a>) {
    let conf = conf("", [("boole", HOST, path(&images[0])), ("cardan", GUESTS[2], GUEST_DISK)]);
    (urbd(lab, "boole", &conf), kernel(lab, "cardan", 2, &images[1], &conf))
}

/// Fresh disks, brought in sync from one of the nodes, which is Primary then.
fn first_sync(pair: [&dyn Node; 2], primary: &dyn Node) {
    for node in pair {
        node.adm("create-md --force r0");
        node.adm("up r0");
    }
    primary.await_state("Connected");
    primary.adm("primary --force r0");
    await_both(pair, "Connected UpToDate/UpToDate");
}

/// Takes a pair down of which urbd is Primary, and compares what is on the two disks.
fn end_with_equal_disks(primary: &UrbdNode, other: &dyn Node, images: &[PathBuf; 2], device_bytes: usize) {
    primary.adm("secondary r0");
    for node in [primary as &dyn Node, other] {
        node.adm("down r0");
    }
    primary.stop();
    let [ours, theirs] = images.each_ref().map(|image| std::fs::read(image).unwrap());
    assert!(ours[..device_bytes] == theirs[..device_bytes], "the disks are equal again");
}

/// Waits until both nodes are in this state.
fn await_both(pair: [&dyn Node; 2], words: &str) {
    pair.iter().for_each(|node| node.await_state(words));
}

/// How many lines of a node's log have this text.
fn lines_with(node: &dyn Node, text: &str) -> usize {
    lines_of(&node.whole_log(), text)
}

fn lines_of(log: &str, text: &str) -> usize {
    log.lines().filter(|line| line.contains(text)).count()
}

/// Waits until so many lines of a node's log have this text.
fn await_log(node: &dyn Node, text: &str, count: usize) {
    poll(
        STATE_LIMIT,
        || (lines_of(&node.log(), text) >= count).then_some(()),
        || format!("{}: waited for {count} times {text:?}, it is\n{}", node.name(), node.proc_drbd()),
    );
}

#[test]
fn two_kernels_that_disagree_part_for_good() {
    Lab::run("two_kernels_that_disagree_part_for_good", |lab| {
        let images = images(lab);
        let nodes = [("boole", GUESTS[1], GUEST_DISK), ("cardan", GUESTS[2], GUEST_DISK)];
        let boole = kernel(lab, "boole", 1, &images[0], &conf("", nodes));
        let cardan = kernel(lab, "cardan", 2, &images[1], &conf("", nodes));
        disagree(&boole, &cardan, nodes, Either);
    });
}

/// Of a kernel and an urbd, urbd always knows why: it looks at all that has arrived before it notices the end.
#[test]
fn urbd_and_a_kernel_that_disagree_part_for_good() {
    Lab::run("urbd_and_a_kernel_that_disagree_part_for_good", |lab| {
        let images = images(lab);
        let nodes = [("boole", HOST, path(&images[0])), ("cardan", GUESTS[2], GUEST_DISK)];
        let boole = urbd(lab, "boole", &conf("", nodes));
        let cardan = kernel(lab, "cardan", 2, &images[1], &conf("", nodes));
        disagree(&boole, &cardan, nodes, Alone);
        boole.stop();
    });
}

/// How a node ends up that did not come to an agreement with its peer (S75).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// StandAlone; its log says why.
    Alone,
    /// WFConnection: it is always ready to try again.
    Waits,
    /// Either, if the other one is StandAlone: whether a node has read what its peer wants before it notices that the
    /// peer has hung up depends on timing (S75 iii).
    Either,
}
use End::{Alone, Either, Waits};

impl End {
    fn is(self, state: &State) -> bool {
        (self != Alone && state.has("WFConnection")) || (self != Waits && state.has("StandAlone"))
    }
}

/// Has the nodes meet with settings that do not fit together. `end`: how the first one ends when settings differ that
/// both tell each other; the second is a kernel.
fn disagree(first: &dyn Node, second: &dyn Node, nodes: [(&str, &str, &str); 2], end: End) {
    let one_secret = "cram-hmac-alg sha1; shared-secret one;";
    let other_secret = "cram-hmac-alg sha1; shared-secret other;";
    let authentication =
        ["authentication of", "expected an authentication challenge", "expected authchallenge packet"];
    // What either has, how either ends, and what the log of who is StandAlone says.
    let cases = [
        (one_secret, other_secret, [Alone, Alone], authentication),
        (one_secret, "", [Alone, Waits], authentication),
        ("", one_secret, [Waits, Alone], authentication),
        ("protocol A;", "protocol C;", [end, Either], ["incompatible protocol settings"; 3]),
        ("allow-two-primaries yes;", "", [end, Either], ["incompatible allow-two-primaries settings"; 3]),
        (
            "",
            "after-sb-0pri discard-younger-primary;",
            [end, Either],
            ["incompatible after-sb-0pri settings"; 3],
        ),
        ("data-integrity-alg crc32c;", "", [end, Either], ["incompatible data-integrity-alg settings"; 3]),
    ];
    let pair = [first, second];
    for node in pair {
        node.adm("create-md --force r0");
        node.adm("up r0");
    }
    for node in pair {
        node.await_state("Connected");
    }
    for (ours, theirs, ends, complaints) in cases {
        let logged = pair.map(|node| node.whole_log().len());
        for node in pair {
            if !node.state().has("StandAlone") {
                node.adm("disconnect r0");
            }
        }
        first.configure(&conf(ours, nodes));
        second.configure(&conf(theirs, nodes));
        for node in pair {
            node.adm("connect r0");
        }
        let states = poll(
            STATE_LIMIT,
            || {
                let states = pair.map(|node| node.state());
                let ended = states.iter().zip(ends).all(|(state, end)| end.is(state));
                (ended && states.iter().any(|state| state.has("StandAlone"))).then_some(states)
            },
            || {
                format!(
                    "{ours:?} and {theirs:?} did not end {ends:?}:\n{}\n{}",
                    first.proc_drbd(),
                    second.proc_drbd()
                )
            },
        );
        println!("{ours:?} and {theirs:?}: {} and {}", states[0], states[1]);
        for ((node, state), logged) in pair.into_iter().zip(states).zip(logged) {
            let news = node.whole_log().split_off(logged).to_lowercase();
            let says_why = complaints.iter().any(|complaint| news.contains(complaint));
            assert!(
                says_why || !state.has("StandAlone"),
                "{}: none of {complaints:?} in\n{news}",
                node.name()
            );
        }
    }
    for node in pair {
        node.adm("down r0");
    }
}

/// Both nodes are kernels.
fn two_kernels(lab: &Lab, script: Script) {
    let images = images(lab);
    let conf = conf("", [("boole", GUESTS[1], GUEST_DISK), ("cardan", GUESTS[2], GUEST_DISK)]);
    let boole = kernel(lab, "boole", 1, &images[0], &conf);
    let cardan = kernel(lab, "cardan", 2, &images[1], &conf);
    script(lab, &boole, &cardan, [&images[0], &images[1]]);
}

/// urbd is boole, which becomes Primary first.
fn urbd_first(lab: &Lab, net: &str, script: Script) {
    let images = images(lab);
    let conf = conf(net, [("boole", HOST, path(&images[0])), ("cardan", GUESTS[2], GUEST_DISK)]);
    let boole = urbd(lab, "boole", &conf);
    let cardan = kernel(lab, "cardan", 2, &images[1], &conf);
    script(lab, &boole, &cardan, [&images[0], &images[1]]);
    boole.stop();
}

/// urbd is cardan, which becomes Primary later.
fn kernel_first(lab: &Lab, net: &str, script: Script) {
    let images = images(lab);
    let conf = conf(net, [("boole", GUESTS[1], GUEST_DISK), ("cardan", HOST, path(&images[1]))]);
    let boole = kernel(lab, "boole", 1, &images[0], &conf);
    let cardan = urbd(lab, "cardan", &conf);
    script(lab, &boole, &cardan, [&images[0], &images[1]]);
    cardan.stop();
}

/// The real drbdmeta, in the guest whose disk urbd wrote: UUIDs, flags, sizes, and a bit for each block of `data`.
fn drbdmeta_reads(guest: &Guest, data: &[u8], at: usize) {
    let generations = guest.sh("drbdmeta 1 v08 /dev/ubda internal get-gi");
    let fields: Vec<&str> = generations.trim().split(':').collect();
    assert_eq!(fields.len(), 11, "{generations}");
    assert!(
        fields[..2].iter().all(|uuid| uuid.parse() != Ok(0_u8)),
        "a current and a bitmap UUID: {generations}"
    );
    assert_eq!(fields[4..], ["1", "1", "0", "0", "0", "0", "0"], "consistent and up to date: {generations}");

    let dump = guest.sh("drbdmeta --force 1 v08 /dev/ubda internal dump-md");
    for line in ["version \"v08\";", "la-size-sect 130992;", "bm-byte-per-bit 4096;", "al-stripes 1;"] {
        assert!(dump.lines().any(|found| found == line), "{line} in\n{dump}");
    }
    assert!(dump.contains(&format!("# bits-set {};", data.len() / 4096)), "{dump}");
    let word = format!("# at {}kB\n    0xFFFFFFFFFFFFFFFF; 0x0", at / 1024); // 64 bits: 256 KiB of data
    assert!(dump.contains(&word), "{word:?} in\n{dump}");
}

/// The real drbdmeta in the guest and urbdmeta on the host dump the same of a disk that is not in use.
fn both_tools_read_the_same(guest: &Guest, image: &Path) {
    let theirs = guest.sh("drbdmeta --force 1 v08 /dev/ubda internal dump-md");
    let ours = Command::new(env!("CARGO_BIN_EXE_urbdmeta"))
        .arg("--state-dir")
        .arg(image.parent().unwrap())
        .args(["--force", "1", "v08", path(image), "internal", "dump-md"])
        .output()
        .unwrap();
    let ours = String::from_utf8(ours.stdout).unwrap();
    assert_eq!(comparable(&ours), comparable(&theirs));
}

/// A dump without what differs by design: the lines with time, host and command; the flags that drbdmeta 9.22 drops.
fn comparable(dump: &str) -> Vec<&str> {
    let lines = dump.lines().enumerate().filter(|(number, _)| !(1..=2).contains(number));
    lines.map(|(_, line)| line).filter(|line| !line.starts_with("    flags 0x")).collect()
}

fn images(lab: &Lab) -> [PathBuf; 2] {
    [lab.image("boole.img", IMAGE_BYTES, 101), lab.image("cardan.img", IMAGE_BYTES, 102)]
}

fn kernel<'a>(lab: &'a Lab, name: &str, number: u8, image: &Path, conf: &str) -> KernelNode<'a> {
    KernelNode::boot(lab, name, number, image, conf)
}

fn urbd<'a>(lab: &'a Lab, name: &str, conf: &str) -> UrbdNode<'a> {
    UrbdNode::start(lab, name, conf, "[nbd]\nlisten = []\n")
}

fn path(image: &Path) -> &str {
    image.to_str().expect("the build directory has a name in UTF-8")
}
