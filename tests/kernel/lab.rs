//! A test in a world of its own: network, processes and mounts that end with it, however it ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use rustix::process::geteuid;

/// The host's side of the lab's network; the guests are 10.77.0.1 to 10.77.0.9.
pub const HOST: &str = "10.77.0.254";
/// A second address of the host's side, for a second urbd.
pub const HOST_TOO: &str = "10.77.0.253";

/// Set for the process that runs a test's body: where its files are, and where its sockets.
const FILES: &str = "URBD_LAB_FILES";
const SOCKETS: &str = "URBD_LAB_SOCKETS";
/// A test that takes longer has hung.
const LIMIT: Duration = Duration::from_secs(280);
/// A guest keeps a core busy while it boots; more labs at a time only make each other late.
const LABS_AT_A_TIME: usize = 2;
/// What a lab runs, and the Debian package that has it.
const TOOLS: [(&str, &str); 8] = [
    ("linux.uml", "user-mode-linux"),
    ("drbdadm", "drbd-utils"),
    ("drbdmeta", "drbd-utils"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("insmod", "kmod"),
    ("nbd-client", "nbd-client"),
    ("lvm", "lvm2"),
];

/// The network, directories and clock of one test.
pub struct Lab {
    files: PathBuf,
    sockets: PathBuf,
}

impl Lab {
    /// Runs `body` as the test called `name`, which must be the name of the calling `#[test]`.
    ///
    /// The test's process starts itself again in new network, process and mount namespaces, and the body runs
    /// there: whatever it starts ends with it, also when it panics, hangs or is killed.
    pub fn run(name: &str, body: impl FnOnce(&Self)) {
        Self::run_within(name, LIMIT, body);
    }

    /// As [`Self::run`], for a test that may take so long.
    pub fn run_within(name: &str, limit: Duration, body: impl FnOnce(&Self)) {
        match (std::env::var_os(FILES), std::env::var_os(SOCKETS)) {
            (Some(files), Some(sockets)) => {
                let lab = Self { files: files.into(), sockets: sockets.into() };
                lab.set_up(limit);
                body(&lab);
                fs::write(lab.finished(), "").unwrap();
            }
            _ => run_isolated(name),
        }
    }

    /// A path for a file of the test, for instance a disk image. Names that end in `.log` are shown on failure.
    pub fn file(&self, name: &str) -> PathBuf {
        self.files.join(name)
    }

    /// A path short enough for sockets below it.
    pub fn socket_dir(&self, name: &str) -> PathBuf {
        self.sockets.join(name)
    }

    /// A new disk image of `bytes`, filled with noise that `seed` decides.
    pub fn image(&self, name: &str, bytes: usize, seed: u64) -> PathBuf {
        let path = self.file(name);
        fs::write(&path, noise(seed, bytes)).unwrap();
        path
    }

    /// Drops all replication traffic (TCP port 7788) between any two nodes, without a word to either.
    pub fn cut(&self) {
        self.cut_port(7788);
    }

    /// Ends [`Self::cut`].
    pub fn join(&self) {
        self.join_port(7788);
    }

    /// Drops all traffic from and to a TCP port, without a word to anybody: between guests, between a guest and the
    /// host's side, and between two programs of the host's side.
    pub fn cut_port(&self, port: u16) {
        let drop = format!("tcp dport {port} drop; tcp sport {port} drop;");
        let chain = |hook: &str| format!("chain {hook} {{ type filter hook {hook} priority 0; {drop} }}\n");
        let bridge: String = ["forward", "input", "output"].map(chain).concat();
        host_sh(&format!(
            "nft 'table bridge lab{port} {{ {bridge} }}
             table inet lab{port} {{ {} }}'",
            chain("input")
        ));
    }

    /// Ends [`Self::cut_port`], if it is cut.
    pub fn join_port(&self, port: u16) {
        // Declaring a table makes it, so that there is one to delete.
        let tables = [format!("bridge lab{port}"), format!("inet lab{port}")];
        host_sh(&format!(
            "nft '{}'",
            tables.map(|name| format!("table {name} {{ }}\ndelete table {name}\n")).concat()
        ));
    }

    /// Removes the logs so far, so that they are not shown if the test fails.
    pub fn forget_logs(&self) {
        logs(&self.files).iter().for_each(|log| fs::remove_file(log).unwrap());
    }

    fn finished(&self) -> PathBuf {
        self.files.join("finished")
    }

    fn set_up(&self, limit: Duration) {
        std::thread::spawn(move || {
            std::thread::sleep(limit);
            eprintln!("lab: the test did not end within {} seconds", limit.as_secs());
            std::process::exit(101); // ends every process of the lab: this one is their process 1
        });
        // /dev/shm holds the guests' memory; containers often have 64 MiB there. The locks of minors (M110) are
        // in /var/lock, and every lab has a minor 1.
        host_sh(&format!(
            "mount -t tmpfs tmpfs /dev/shm
             mount -t tmpfs tmpfs /var/lock
             ip link set lo up
             ip link add br0 type bridge
             ip address add {HOST}/24 dev br0
             ip address add {HOST_TOO}/24 dev br0
             ip link set br0 up"
        ));
    }
}

/// Runs shell text on the host's side; what it printed. Its failure fails the test.
pub fn host_sh(script: &str) -> String {
    let done = Command::new("/bin/sh").args(["-ec", script]).stdin(Stdio::null()).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{script}\n{}: {out}{err}", done.status);
    out.into_owned()
}

/// Polls `probe` until it gives a value. After `limit`, fails the test with what `complaint` says.
///
/// For what another kernel or process does not announce: there is no event to wait for.
pub fn poll<T>(
    limit: Duration,
    mut probe: impl FnMut() -> Option<T>,
    complaint: impl FnOnce() -> String,
) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(Instant::now() < end, "{}", complaint());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// `bytes` of noise (splitmix64), the same for the same `seed`.
pub fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed;
    let mut out = Vec::with_capacity(bytes + 8);
    while out.len() < bytes {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        out.extend_from_slice(&(word ^ (word >> 31)).to_le_bytes());
    }
    out.truncate(bytes);
    out
}

/// The outer half of [`Lab::run`]: this binary again, for this one test, in namespaces of its own.
fn run_isolated(name: &str) {
    require_tools();
    let _turn = Turn::wait();
    let files = tempfile::Builder::new().prefix(name).tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let sockets = tempfile::Builder::new().prefix("urbd-").tempdir_in("/tmp").unwrap();
    let mut command = Command::new("setpriv");
    command.args([
        "--pdeathsig",
        "KILL",
        "unshare",
        "--net",
        "--pid",
        "--fork",
        "--kill-child=KILL",
        "--mount-proc",
    ]);
    if !geteuid().is_root() {
        command.arg("--map-root-user");
    }
    let done = command
        .arg(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(FILES, files.path())
        .env(SOCKETS, sockets.path())
        .env("PATH", search_path())
        .env("RUST_BACKTRACE", "0") // the message has the place; the logs say more than a stack
        .stdin(Stdio::null())
        .output()
        .expect("setpriv and unshare are part of util-linux");
    for line in String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).lines() {
        println!("  | {line}"); // set off, or the inner run's summary would count as one of the outer run
    }
    let lab = Lab { files: files.path().into(), sockets: sockets.path().into() };
    if !lab.finished().exists() {
        show_logs(files.path());
        let hint = if done.status.success() { "; it did not run: is that its name?" } else { "" };
        panic!("{name} failed ({}){hint}; its output and logs are above", done.status);
    }
}

/// `PATH` with the directories that hold system tools, which a user's own may leave out.
fn search_path() -> String {
    format!("{}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin", std::env::var("PATH").unwrap_or_default())
}

fn require_tools() {
    let path = search_path();
    let missing: Vec<_> = TOOLS
        .iter()
        .filter(|(tool, _)| !path.split(':').any(|dir| Path::new(dir).join(tool).exists()))
        .map(|(tool, package)| format!("{tool} (Debian package {package})"))
        .collect();
    assert!(missing.is_empty(), "missing: {}; tools/setup.sh installs them", missing.join(", "));
}

/// Prints the end of each log that the test left.
fn show_logs(dir: &Path) {
    const LINES: usize = 100;
    for path in logs(dir) {
        let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        println!("--- {} (the last {LINES} lines of {})", path.display(), lines.len());
        for line in &lines[lines.len().saturating_sub(LINES)..] {
            println!("{line}");
        }
    }
}

fn logs(dir: &Path) -> Vec<PathBuf> {
    let mut logs: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    logs.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    logs.sort();
    logs
}

/// One of the [`LABS_AT_A_TIME`]; given back on drop.
struct Turn;

static RUNNING: Mutex<usize> = Mutex::new(0);
static ENDED: Condvar = Condvar::new();

impl Turn {
    fn wait() -> Self {
        let mut running =
            ENDED.wait_while(RUNNING.lock().unwrap(), |running| *running >= LABS_AT_A_TIME).unwrap();
        *running += 1;
        Self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Ok(mut running) = RUNNING.lock() {
            *running -= 1;
        }
        ENDED.notify_one();
    }
}
