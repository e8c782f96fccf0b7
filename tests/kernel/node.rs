//! One node of a pair, whichever software it runs: the same questions and commands for both.

use std::fmt;
use std::time::Duration;

use super::guest::{Answer, Guest};
use super::lab::poll;
use super::urbd::Urbd;

/// The resource of all tests, and its minor number.
pub const RESOURCE: &str = "r0";
pub const MINOR: u32 = 1;
/// How long a state may take to come: a dial, a handshake and a full sync of a small disk in a busy machine.
pub const STATE_LIMIT: Duration = Duration::from_secs(40);

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
    /// Sizes of the resyncs so far, in KiB, from the kernel's log. `None`: this node is not a kernel.
    fn announced_resyncs(&self) -> Option<Vec<u64>>;

    /// Runs a `drbdadm` command line; its failure fails the test.
    fn adm(&self, words: &str) -> String {
        self.run_adm(words).success(&format!("{}: adm {words}", self.name()))
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

/// The in-kernel DRBD of a guest.
pub struct KernelNode(pub Guest);

impl KernelNode {
    /// Takes a booted guest and gives it the resource file.
    pub fn new(guest: Guest, conf: &str) -> Self {
        guest.write_file(&format!("/etc/drbd.d/{RESOURCE}.res"), conf);
        Self(guest)
    }
}

impl Node for KernelNode {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn run_adm(&self, words: &str) -> Answer {
        self.0.run(&format!("drbdadm {words}"))
    }

    fn proc_drbd(&self) -> String {
        self.0.sh("cat /proc/drbd")
    }

    fn generations(&self) -> String {
        // drbdsetup first: it answers while the disk is attached, several times as fast as drbdadm.
        let command =
            format!("/lib/drbd/drbdsetup-84 get-gi {MINOR} 2>/dev/null || drbdadm get-gi {RESOURCE}");
        let answer = self.0.run(&command);
        if answer.status == 0 { answer.text() } else { answer.all() }
    }

    fn write(&self, at: u64, data: &[u8]) {
        let device = format!("/dev/drbd{MINOR}");
        let dd =
            format!("dd of={device} bs=64k seek={at} oflag=direct,seek_bytes iflag=fullblock status=none");
        self.0.run_with(&dd, data).success(&format!("{}: {dd}", self.name()));
    }

    fn read(&self, at: u64, bytes: u32) -> Vec<u8> {
        let device = format!("/dev/drbd{MINOR}");
        let dd = format!(
            "dd if={device} bs=64k skip={at} count={bytes} iflag=direct,skip_bytes,count_bytes status=none"
        );
        let answer = self.0.run(&dd);
        assert!(answer.status == 0, "{}: {dd}: {}", self.name(), answer.all());
        answer.out
    }

    fn device_bytes(&self) -> u64 {
        self.0.sh(&format!("blockdev --getsize64 /dev/drbd{MINOR}")).trim().parse().unwrap()
    }

    fn announced_resyncs(&self) -> Option<Vec<u64>> {
        let sizes = self
            .0
            .console()
            .lines()
            .filter_map(|line| {
                line.split_once("(will sync ")?.1.split_once(" KB").map(|(size, _)| size.to_owned())
            })
            .map(|size| size.parse().unwrap())
            .collect();
        Some(sizes)
    }
}

/// An urbd.
pub struct UrbdNode(pub Urbd);

impl UrbdNode {
    fn export(&self) -> super::nbd::Nbd<std::os::unix::net::UnixStream> {
        self.0.open(RESOURCE).unwrap_or_else(|error| panic!("{}: open {RESOURCE}: {error}", self.name()))
    }
}

impl Node for UrbdNode {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn run_adm(&self, words: &str) -> Answer {
        self.0.run_adm(words)
    }

    fn proc_drbd(&self) -> String {
        self.0.adm("proc")
    }

    fn generations(&self) -> String {
        let answer = self.0.run_adm(&format!("get-gi {RESOURCE}"));
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

    fn announced_resyncs(&self) -> Option<Vec<u64>> {
        None
    }
}
