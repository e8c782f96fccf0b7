//! LVM and a file system on urbd, through the kernel's own NBD client, device mapper and ext4 in a guest: what
//! was written through one node is there on the other.

#![allow(clippy::unwrap_used)]

#[path = "kernel/mod.rs"]
mod harness;

use std::process::Command;

use harness::lab::{HOST, HOST_TOO};
use harness::script::{IMAGE_BYTES, conf};
use harness::{Guest, Lab, Node, UrbdNode};

/// Where a daemon serves NBD over TCP.
const NBD_PORT: u16 = 10809;
/// What the guest needs besides DRBD; ext4 is built in.
const MODULES: [&str; 2] = ["drivers/block/nbd", "drivers/md/dm-mod"];

/// Takes the device into use for the first time: a volume group, a volume, a file system, files.
const FILL: &str = "
    pvcreate -q /dev/nbd0
    vgcreate -q vg0 /dev/nbd0
    lvcreate -q -y -Zn -L 40M -n files vg0
    vgmknodes -q vg0
    mkfs.ext4 -q /dev/vg0/files
    mount /dev/vg0/files /mnt
    dd if=/dev/urandom of=/mnt/random bs=1M count=8 status=none
    cp -r /usr/lib/*/perl-base /mnt/many-files
    echo 'was here' > /mnt/note
    sync
    cd /mnt && find . -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum
    cd / && umount /mnt
    vgchange -q -an vg0
";
/// Finds all that again on a device that some other node serves.
const FIND: &str = "
    vgchange -q -ay vg0
    vgmknodes -q vg0
    fsck.ext4 -f -n /dev/vg0/files >&2
    mount /dev/vg0/files /mnt
    cd /mnt && find . -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum
    cd / && umount /mnt
    vgchange -q -an vg0
";

#[test]
fn a_volume_group_is_there_after_a_switchover() {
    Lab::run("a_volume_group_is_there_after_a_switchover", |lab| {
        let (boole, cardan) = pair(lab);
        let guest = Guest::boot(lab, "guest", 3, &[], &MODULES);
        connect(&guest, HOST);
        let sums = play(&guest, FILL);
        disconnect(&guest);
        boole.adm("secondary r0");
        cardan.adm("primary r0");
        boole.adm("down r0");
        connect(&guest, HOST_TOO);
        assert_eq!(play(&guest, FIND), sums);
    });
}

#[test]
fn synced_files_are_there_after_the_primary_and_its_client_died() {
    Lab::run("synced_files_are_there_after_the_primary_and_its_client_died", |lab| {
        let (boole, cardan) = pair(lab);
        let guest = Guest::boot(lab, "guest", 3, &[], &MODULES);
        connect(&guest, HOST);
        let (fill_until_synced, _) =
            FILL.split_once("    cd / && umount").expect("FILL unmounts after the sync");
        let sums = play(&guest, fill_until_synced);
        boole.crash();
        guest.power_fail();
        cardan.await_state("WFConnection");
        cardan.adm("primary r0");
        let guest = Guest::boot(lab, "guest", 3, &[], &MODULES);
        connect(&guest, HOST_TOO);
        guest.sh("vgchange -q -ay vg0; vgmknodes -q vg0; fsck.ext4 -p /dev/vg0/files || [ $? = 1 ]; vgchange -q -an vg0");
        assert_eq!(play(&guest, FIND), sums);
    });
}

/// The steps themselves, on somebody else's server: when this fails, urbd is not to blame.
#[test]
fn the_steps_work_on_a_plain_nbd_server() {
    Lab::run("the_steps_work_on_a_plain_nbd_server", |lab| {
        let image = lab.image("plain.img", IMAGE_BYTES, 201);
        let port = NBD_PORT.to_string();
        let mut server = Command::new("qemu-nbd")
            .args(["--format=raw", "--cache=none", "--export-name=r0", "--persistent"])
            .args(["--bind", HOST, "--port", &port, "--fork"])
            .arg(&image)
            .spawn()
            .unwrap();
        assert!(server.wait().unwrap().success(), "qemu-nbd, which forks once it listens");
        let guest = Guest::boot(lab, "guest", 3, &[], &MODULES);
        connect(&guest, HOST);
        let sums = play(&guest, FILL);
        disconnect(&guest);
        connect(&guest, HOST);
        assert_eq!(play(&guest, FIND), sums);
    });
}

/// Two urbd on the host's side, connected and in sync, boole Primary; each serves NBD on its own address.
fn pair(lab: &Lab) -> (UrbdNode<'_>, UrbdNode<'_>) {
    let names = [("boole", HOST), ("cardan", HOST_TOO)];
    let images = [lab.image("boole.img", IMAGE_BYTES, 201), lab.image("cardan.img", IMAGE_BYTES, 202)];
    let disks = images.each_ref().map(|image| image.to_str().unwrap());
    let conf = conf("", [(names[0].0, names[0].1, disks[0]), (names[1].0, names[1].1, disks[1])]);
    let [boole, cardan] = names.map(|(name, address)| {
        let settings = format!("[nbd]\nlisten = [\"{address}:{NBD_PORT}\"]\n");
        let node = UrbdNode::start(lab, name, &conf, &settings);
        node.adm("create-md --force r0");
        node.adm("up r0");
        node
    });
    boole.await_state("Connected");
    boole.adm("primary --force r0");
    boole.await_state("Connected UpToDate/UpToDate");
    cardan.await_state("Connected UpToDate/UpToDate");
    (boole, cardan)
}

/// Attaches the node's export as /dev/nbd0.
fn connect(guest: &Guest, address: &str) {
    guest.sh(&format!("nbd-client -N r0 {address} {NBD_PORT} /dev/nbd0"));
}

fn disconnect(guest: &Guest) {
    guest.sh("nbd-client -d /dev/nbd0");
}

/// Runs the steps; the sum of all files' sums.
fn play(guest: &Guest, steps: &str) -> String {
    let out = guest.sh(&format!("set -e\n{steps}"));
    let sum = out.lines().find(|line| line.ends_with("  -")).expect("sha256sum prints one line");
    sum.to_owned()
}
