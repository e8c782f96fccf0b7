//! The in-kernel DRBD of a guest as a node of a scenario. The guest is kept for the next one.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};

use super::harness::guest::Answer;
use super::harness::{Guest, Lab};
use super::pair::{DISK_BYTES, Machine, generation_of, port, state_in};
use super::stage::{BLOCK, WRITE_PATIENCE, tag_of};

const RESOURCE: &str = "r0";
const MINOR: u32 = 1;
const DISK: &str = "/dev/ubda";
const DEVICE: &str = "/dev/drbd1";
const CALLS: &str = "/run/handlers";

/// Where a guest waits for the next scenario.
#[derive(Default)]
pub(crate) struct Slot(Mutex<Option<Guest>>);

impl Slot {
    fn lock(&self) -> MutexGuard<'_, Option<Guest>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A kernel and its disk.
pub(crate) struct Kernel<'a> {
    lab: &'a Lab,
    name: String,
    number: u8,
    port: u16,
    disk: PathBuf,
    conf: String,
    guest: Option<Guest>,
    slot: &'a Slot,
    /// Handlers called in earlier lives of the guest.
    called: String,
    log_seen: usize,
    /// Process that holds the device open.
    mount: String,
}

impl<'a> Kernel<'a> {
    /// The kernel of a pair.
    pub(crate) fn new(lab: &'a Lab, pair: usize, slot: &'a Slot) -> Self {
        let name = format!("kernel{pair}");
        let disk = lab.file(&format!("{name}.img"));
        let guest = slot.lock().take();
        if guest.is_none() {
            File::create(&disk).unwrap().set_len(DISK_BYTES).unwrap();
        }
        let log = lab.file(&format!("{name}.console.log"));
        let log_seen = std::fs::read(log).map_or(0, |log| log.len());
        Self {
            lab,
            name,
            number: pair as u8 + 1,
            port: port(pair),
            disk,
            conf: String::new(),
            guest,
            slot,
            called: String::new(),
            log_seen,
            mount: String::new(),
        }
    }

    /// Takes the resource down, and keeps the guest if that works.
    pub(crate) fn clear(&mut self) {
        if self.guest.is_some() && self.adm(&format!("down {RESOURCE}")).status == 0 {
            *self.slot.lock() = self.guest.take();
        }
    }

    fn guest(&self) -> &Guest {
        self.guest.as_ref().expect("a guest that is alive")
    }
}

impl Machine for Kernel<'_> {
    fn section(&self) -> String {
        let Self { name, number, port, .. } = self;
        format!(
            "on {name} {{ device {DEVICE} minor {MINOR}; disk {DISK}; address 10.77.0.{number}:{port};
            meta-disk internal; }}\n"
        )
    }

    fn calls(&self) -> String {
        CALLS.into()
    }

    fn start(&mut self, conf: &str) {
        self.conf = conf.to_owned();
        self.boot();
        let zeroes =
            format!("dd if=/dev/zero of={DISK} bs=1M count={} oflag=direct status=none", DISK_BYTES >> 20);
        self.guest().sh(&format!("{zeroes} && drbdadm create-md --force {RESOURCE}"));
    }

    fn adm(&self, words: &str) -> Answer {
        self.guest().run(&format!("drbdadm {words}"))
    }

    fn state(&self) -> String {
        state_in(&self.guest().read_file("/proc/drbd"), MINOR)
    }

    fn generation(&self) -> Option<String> {
        generation_of(&self.guest().run(&format!("exec /lib/drbd/drbdsetup-84 get-gi {MINOR}")))
    }

    fn called(&self) -> String {
        let now = self.guest.as_ref().map(|guest| guest.read_file(CALLS));
        self.called.clone() + &now.unwrap_or_default()
    }

    fn write(&mut self, block: u64, count: u64, data: &[u8]) -> i32 {
        // A process in the middle of a write cannot be killed: it is left to itself.
        let looks = WRITE_PATIENCE.as_millis() / 100;
        let dd = format!("dd of={DEVICE} bs={BLOCK} seek={block} oflag=direct,sync conv=nocreat,notrunc");
        let script = format!(
            "cat >/tmp/data; rm -f /tmp/dd.exit
             ({dd} if=/tmp/data status=none; echo $? >/tmp/dd.exit.new; mv /tmp/dd.exit.new /tmp/dd.exit) &
             for look in $(seq {looks}); do
                 [ -f /tmp/dd.exit ] && exit $(cat /tmp/dd.exit)
                 sleep 0.1
             done
             kill -9 $! $(pidof dd)
             exit 124"
        );
        self.guest().run_with(&script, &data.repeat(count as usize)).status
    }

    fn set_gi(&self, list: &str) {
        self.guest().sh(&format!("drbdmeta --force {MINOR} v08 {DISK} internal set-gi {list}"));
    }

    fn open(&mut self) {
        let hold = format!("(exec 3<>{DEVICE}; echo open; exec sleep 3600) >/tmp/mount 2>&1 & echo $!");
        self.mount = self.guest().sh(&format!("{hold}; until [ -s /tmp/mount ]; do sleep 0.1; done"));
        assert_eq!(self.guest().sh("cat /tmp/mount"), "open\n");
    }

    fn close(&mut self) {
        let process = std::mem::take(&mut self.mount);
        let process = process.trim();
        self.guest().sh(&format!("kill {process}; while kill -0 {process} 2>/dev/null; do sleep 0.1; done"));
    }

    fn crash(&mut self) {
        self.called = self.called();
        self.guest.take().expect("a guest that is alive").power_fail();
    }

    fn boot(&mut self) {
        if self.guest.is_none() {
            self.guest = Some(Guest::boot(self.lab, &self.name, self.number, &[&self.disk], &[]));
        }
        let guest = self.guest();
        guest.write_file(&format!("/etc/drbd.d/{RESOURCE}.res"), &self.conf);
        guest.sh(&format!(": >{CALLS}"));
    }

    fn tag(&self, block: u64) -> String {
        let mut bytes = [0; 8];
        File::open(&self.disk).unwrap().read_exact_at(&mut bytes, block * BLOCK).unwrap();
        tag_of(bytes)
    }

    fn log(&self) -> String {
        Guest::console(self.lab, &self.name).split_off(self.log_seen)
    }
}
