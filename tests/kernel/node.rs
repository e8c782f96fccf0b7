//! One node of a pair, whichever software it runs: the same questions and commands for both.

use std::cell::{Ref, RefCell};
use std::fmt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::guest::{Answer, Guest};
use super::lab::{Lab, poll};
use super::nbd::Nbd;
use super::urbd::Urbd;
use super::writers::Writers;

/// The resource of all tests, and its minor number.
pub const RESOURCE: &str = "r0";
pub const MINOR: u32 = 1;
/// How long a state may take to come: a dial, a handshake and a full sync of a small disk in a busy machine.
pub const STATE_LIMIT: Duration = Duration::from_secs(40);

/// In place of `/proc/drbd` when the node is dead.
const DEAD: &str = " 1: cs:Dead";

/// Connection state, roles and disk states as `/proc/drbd` shows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State(String);

impl State {
    /// Finds the line of [`MINOR`] in the text of `/proc/drbd`.
    fn parse(proc_drbd: &str) -> Self {
        let line = proc_drbd
            .lines()
            .find_map(|line| line.trim_start().strip_prefix(&format!("{MINOR}:")))
            .unwrap_or("cs:Unconfigured");
        let field = |name: &str| line.split_whitespace().find_map(|word| word.strip_prefix(name));
        let fields: Vec<&str> = ["cs:", "ro:", "ds:"].into_iter().filter_map(field).collect();
        Self(fields.join(" "))
    }

    /// Whether each of the words is one of the state's, as in `Connected UpToDate/UpToDate`.
    pub fn has(&self, words: &str) -> bool {
        words.split_whitespace().all(|word| self.0.split_whitespace().any(|own| own == word))
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A node that a test drives.
pub trait Node {
    /// The node's name, as in the `on NAME` sections.
    fn name(&self) -> &str;
    /// Runs a `drbdadm` command line.
    fn run_adm(&self, words: &str) -> Answer;
    /// The text of `/proc/drbd`.
    fn proc_drbd(&self) -> String;
    /// What `get-gi` says: UUIDs and flags, or why there are none.
    fn generations(&self) -> String;
    /// Writes to the replicated device; `at` and the length are multiples of 4096.
    fn write(&self, at: u64, data: &[u8]);
    /// Reads from the replicated device.
    fn read(&self, at: u64, bytes: u32) -> Vec<u8>;
    /// Size of the replicated device in bytes. The node is Primary.
    fn device_bytes(&self) -> u64;
    /// What the kernel or the daemon has logged, as far as it has arrived here.
    fn log(&self) -> String;
    /// All that the kernel or the daemon has logged until now.
    fn whole_log(&self) -> String;
    /// Replaces the resource file. It counts from the next command on.
    fn configure(&self, conf: &str);
    /// Kills the node at once, in the middle of whatever it does.
    fn crash(&self);
    /// Starts a node that crashed; the resource is not configured then.
    fn boot(&self);
    /// Starts writers on the replicated device, from byte `first` on. The node is Primary.
    fn start_writers(&self, first: u64) -> Writers;

    /// Runs a `drbdadm` command line; its failure fails the test.
    fn adm(&self, words: &str) -> String {
        self.run_adm(words).success(&format!("{}: adm {words}", self.name()))
    }

    /// How much is out of sync, in KiB.
    fn out_of_sync_kib(&self) -> u64 {
        let proc_drbd = self.proc_drbd();
        let field = proc_drbd.split_whitespace().find_map(|word| word.strip_prefix("oos:"));
        field.and_then(|kib| kib.parse().ok()).unwrap_or_else(|| panic!("no oos: in\n{proc_drbd}"))
    }

    /// The states of [`MINOR`] now.
    fn state(&self) -> State {
        State::parse(&self.proc_drbd())
    }

    /// Waits until the state has all of these words, see [`State::has`].
    fn await_state(&self, words: &str) {
        poll(
            STATE_LIMIT,
            || self.state().has(words).then_some(()),
            || format!("{}: waited for {words:?}, it is\n{}", self.name(), self.proc_drbd()),
        );
    }
}

/// Sizes of the resyncs that a node's log announces, in KiB.
pub fn announced_resyncs(log: &str) -> Vec<u64> {
    let size = |line: &str| line.split_once("(will sync ")?.1.split_once(" KB")?.0.parse().ok();
    log.lines().filter_map(size).collect()
}

/// The in-kernel DRBD of a guest, whose only disk is /dev/ubda.
pub struct KernelNode<'a> {
    lab: &'a Lab,
    name: String,
    number: u8,
    image: PathBuf,
    conf: RefCell<String>,
    guest: RefCell<Option<Guest>>,
}

impl<'a> KernelNode<'a> {
    /// Boots guest `name` as 10.77.0.`number` with a disk and a resource file (its text).
    pub fn boot(lab: &'a Lab, name: &str, number: u8, image: &Path, conf: &str) -> Self {
        let conf = RefCell::new(conf.to_owned());
        let node =
            Self { lab, name: name.into(), number, image: image.into(), conf, guest: RefCell::default() };
        Node::boot(&node);
        node
    }

    /// The guest. It is alive.
    pub fn guest(&self) -> Ref<'_, Guest> {
        Ref::map(self.guest.borrow(), |guest| guest.as_ref().expect("a command for a guest that is alive"))
    }
}

impl Node for KernelNode<'_> {
    fn name(&self) -> &str {
        &self.name
    }

    fn run_adm(&self, words: &str) -> Answer {
        self.guest().run(&format!("drbdadm {words}"))
    }

    fn proc_drbd(&self) -> String {
        if self.guest.borrow().is_some() { self.guest().read_file("/proc/drbd") } else { DEAD.into() }
    }

    fn generations(&self) -> String {
        if self.guest.borrow().is_none() {
            return "-".into();
        }
        // drbdsetup first: it answers while the disk is attached, several times as fast as drbdadm.
        let command =
            format!("/lib/drbd/drbdsetup-84 get-gi {MINOR} 2>/dev/null || drbdadm get-gi {RESOURCE}");
        let answer = self.guest().run(&command);
        if answer.status == 0 { answer.text() } else { answer.all() }
    }

    fn write(&self, at: u64, data: &[u8]) {
        let device = format!("/dev/drbd{MINOR}");
        let dd =
            format!("dd of={device} bs=64k seek={at} oflag=direct,seek_bytes iflag=fullblock status=none");
        self.guest().run_with(&dd, data).success(&format!("{}: {dd}", self.name()));
    }

    fn read(&self, at: u64, bytes: u32) -> Vec<u8> {
        let device = format!("/dev/drbd{MINOR}");
        let dd = format!(
            "dd if={device} bs=64k skip={at} count={bytes} iflag=direct,skip_bytes,count_bytes status=none"
        );
        let answer = self.guest().run(&dd);
        assert!(answer.status == 0, "{}: {dd}: {}", self.name(), answer.all());
        answer.out
    }

    fn device_bytes(&self) -> u64 {
        self.guest().sh(&format!("blockdev --getsize64 /dev/drbd{MINOR}")).trim().parse().unwrap()
    }

    fn log(&self) -> String {
        Guest::console(self.lab, &self.name)
    }

    fn whole_log(&self) -> String {
        if let Some(guest) = &*self.guest.borrow() {
            guest.await_console(self.lab);
        }
        self.log()
    }

    fn configure(&self, conf: &str) {
        self.guest().write_file(&format!("/etc/drbd.d/{RESOURCE}.res"), conf);
        self.conf.replace(conf.into());
    }

    fn crash(&self) {
        self.guest.take().expect("a guest that is alive").power_fail();
    }

    fn boot(&self) {
        self.guest.replace(Some(Guest::boot(self.lab, &self.name, self.number, &[&self.image], &[])));
        let conf = self.conf.borrow().clone();
        self.configure(&conf);
    }

    fn start_writers(&self, first: u64) -> Writers {
        Writers::in_guest(&self.guest(), &format!("/dev/drbd{MINOR}"), first)
    }
}

/// An urbd.
pub struct UrbdNode<'a> {
    lab: &'a Lab,
    name: String,
    settings: String,
    conf: RefCell<String>,
    urbd: RefCell<Option<Urbd>>,
}

impl<'a> UrbdNode<'a> {
    /// Starts daemon `name` with the resource file `conf` (its text) and settings (TOML text).
    pub fn start(lab: &'a Lab, name: &str, conf: &str, settings: &str) -> Self {
        let conf = RefCell::new(conf.to_owned());
        let node = Self { lab, name: name.into(), settings: settings.into(), conf, urbd: RefCell::default() };
        node.boot();
        node
    }

    /// Ends the daemon as a service manager would.
    pub fn stop(&self) {
        self.urbd.take().expect("a daemon that is alive").stop();
    }

    fn urbd(&self) -> Ref<'_, Urbd> {
        Ref::map(self.urbd.borrow(), |urbd| urbd.as_ref().expect("a command for a daemon that is alive"))
    }

    fn export(&self) -> Nbd<UnixStream> {
        self.urbd().open(RESOURCE).unwrap_or_else(|error| panic!("{}: open {RESOURCE}: {error}", self.name()))
    }
}

impl Node for UrbdNode<'_> {
    fn name(&self) -> &str {
        &self.name
    }

    fn run_adm(&self, words: &str) -> Answer {
        self.urbd().run_adm(words)
    }

    fn proc_drbd(&self) -> String {
        if self.urbd.borrow().is_some() { self.urbd().adm("proc") } else { DEAD.into() }
    }

    fn generations(&self) -> String {
        if self.urbd.borrow().is_none() {
            return "-".into();
        }
        let answer = self.run_adm(&format!("get-gi {RESOURCE}"));
        if answer.status == 0 { answer.text() } else { answer.all() }
    }

    fn write(&self, at: u64, data: &[u8]) {
        const PIECE: usize = 64 << 10;
        let mut export = self.export();
        let mut at = at;
        for piece in data.chunks(PIECE) {
            export.write(at, piece).unwrap();
            at += piece.len() as u64;
        }
    }

    fn read(&self, at: u64, bytes: u32) -> Vec<u8> {
        self.export().read(at, bytes).unwrap()
    }

    fn device_bytes(&self) -> u64 {
        self.export().bytes()
    }

    fn log(&self) -> String {
        Urbd::log(self.lab, &self.name)
    }

    fn whole_log(&self) -> String {
        self.log() // the daemon writes it itself, line by line
    }

    fn configure(&self, conf: &str) {
        self.urbd().configure(conf);
        self.conf.replace(conf.into());
    }

    fn crash(&self) {
        self.urbd.take().expect("a daemon that is alive").kill();
    }

    fn boot(&self) {
        let urbd = Urbd::start(self.lab, &self.name, &self.conf.borrow(), &self.settings);
        self.urbd.replace(Some(urbd));
    }

    fn start_writers(&self, first: u64) -> Writers {
        Writers::on_exports(std::array::from_fn(|_| self.export()), first)
    }
}
