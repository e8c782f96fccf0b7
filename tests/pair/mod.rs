//! The harness of the tests with live daemons: [`Daemon`] is one `urbd` process, [`Pair`] two of them with a
//! resource that is up and connected, [`Client`] an NBD client without manners of its own.
//!
//! Every pair has loopback addresses and a minor number of its own, so that nobody else can take its ports or
//! hold the lock of its minor, which is the machine's (M110).

#![allow(dead_code, unused_imports)] // each test binary uses a part
#![allow(unreachable_pub)] // the crate is a test: nothing is reachable from outside
#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use assert_cmd::prelude::*;

mod client;
mod daemon;

pub use client::{Client, Stream, Traffic, command, pattern};
pub use daemon::{Daemon, LOCAL_ONLY};

pub const ADM: &str = env!("CARGO_BIN_EXE_urbdadm");
/// Port of the NBD server on a node's own address.
pub const NBD_PORT: u16 = 10809;
/// How long anything may take that is waited for: a limit for what hangs, not a measure.
pub const LIMIT: Duration = Duration::from_secs(20);

/// What a pair is made with.
pub struct Setup<'a> {
    /// More sections of the resource, on both nodes.
    pub more: &'a str,
    /// More settings of both daemons.
    pub settings: &'a str,
    /// Size of each disk, metadata included.
    pub image_bytes: u64,
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self { more: "", settings: "", image_bytes: 8 << 20 }
    }
}

/// Two daemons with `r0` up and connected.
pub struct Pair {
    pub a: Daemon,
    pub b: Daemon,
    /// The configuration.
    pub file: PathBuf,
    /// Addresses of both nodes, with the port of the resource.
    pub addresses: [SocketAddr; 2],
    /// Settings of both daemons.
    pub settings: [String; 2],
    pub dir: tempfile::TempDir,
}

impl Pair {
    pub fn start() -> Self {
        Self::with(&Setup::default())
    }

    pub fn with(setup: &Setup<'_>) -> Self {
        Self::with_in(tempfile::tempdir().unwrap(), setup)
    }

    pub fn with_in(dir: tempfile::TempDir, setup: &Setup<'_>) -> Self {
        let pair = Self::down_in(dir, setup);
        for node in [&pair.a, &pair.b] {
            node.adm(&pair.file, "up r0").assert().success();
        }
        pair.wait_connect();
        pair
    }

    /// Two daemons with fresh metadata, and nothing up.
    pub fn down_in(dir: tempfile::TempDir, setup: &Setup<'_>) -> Self {
        let addresses = addresses();
        let file = conf(dir.path(), addresses, setup.more);
        let settings = addresses
            .map(|address| format!("[nbd]\nlisten = [\"{}:{NBD_PORT}\"]\n{}", address.ip(), setup.settings));
        let [a, b] = [("a", &settings[0]), ("b", &settings[1])].map(|(node, settings)| {
            image(&dir.path().join(format!("{node}.img")), setup.image_bytes);
            Daemon::start(dir.path(), node, settings)
        });
        for node in [&a, &b] {
            node.adm(&file, "create-md --force r0").assert().success();
        }
        Self { a, b, file, addresses, settings, dir }
    }

    pub fn a(&self, words: &str) -> assert_cmd::assert::Assert {
        self.a.adm(&self.file, words).assert()
    }

    pub fn b(&self, words: &str) -> assert_cmd::assert::Assert {
        self.b.adm(&self.file, words).assert()
    }

    pub fn wait_connect(&self) {
        self.a("wait-connect --timeout=60 r0").success();
        self.b("wait-connect --timeout=60 r0").success();
    }

    /// The node that was promoted knows first that there will be a resync.
    pub fn wait_sync(&self) {
        self.a("wait-sync --timeout=60 r0").success();
        self.b("wait-sync --timeout=60 r0").success();
    }

    /// Makes a Primary, and both disks UpToDate.
    pub fn promote_a(&self) {
        self.a("primary --force r0").success();
        self.wait_sync();
        self.a("dstate r0").success().stdout("UpToDate/UpToDate\n");
    }

    /// Takes the resource down on both nodes; both disks' files and the data that they must share.
    pub fn down(&self) -> [Vec<u8>; 2] {
        let bytes = self.data_bytes();
        self.a("down r0").success();
        self.b("down r0").success();
        ["a", "b"].map(|node| {
            let mut data = vec![0; bytes];
            let image = File::open(self.dir.path().join(format!("{node}.img"))).unwrap();
            image.read_exact_at(&mut data, 0).unwrap();
            data
        })
    }

    /// Size of the replicated device.
    pub fn data_bytes(&self) -> usize {
        let mut setup = Command::new(env!("CARGO_BIN_EXE_urbdsetup"));
        setup.arg("--run-dir").arg(&self.b.run_dir).args(["status", "--json"]);
        let output = setup.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let status: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
        let kib = status[0]["devices"][0]["size"].as_u64().unwrap_or_else(|| panic!("{status}"));
        kib as usize * 1024
    }

    pub fn stop(self) {
        self.a.stop();
        self.b.stop();
    }
}

/// Takes the pair down and compares what is on the disks.
pub fn same_on_both(pair: Pair) -> Vec<u8> {
    let [of_a, of_b] = pair.down();
    if let Some(at) = of_a.iter().zip(&of_b).position(|(a, b)| a != b) {
        panic!("the disks differ from byte {at:#x} on");
    }
    pair.stop();
    of_a
}

/// The minor number of `r0` on both nodes of the pair with these addresses.
pub fn minor(addresses: [SocketAddr; 2]) -> u32 {
    // The last minor number is 2^20 - 1; the lower half is left to tests that name theirs.
    match addresses[0].ip() {
        IpAddr::V4(ip) => 1 << 19 | ip.to_bits() & 0x7_ffff,
        IpAddr::V6(ip) => panic!("{ip} is not one of `addresses()`"),
    }
}

/// Writes `two.conf` below `dir`: `r0` of nodes a and b on loopback, its disks files there.
pub fn conf(dir: &Path, addresses: [SocketAddr; 2], more: &str) -> PathBuf {
    let minor = minor(addresses);
    let hosts: String = [("a", addresses[0]), ("b", addresses[1])]
        .map(|(node, address)| {
            let disk = dir.join(format!("{node}.img"));
            format!(
                "on {node} {{ device minor {minor}; disk {}; address {address}; meta-disk internal; }}\n",
                disk.display()
            )
        })
        .concat();
    let file = dir.join("two.conf");
    let disk = "disk { resync-rate 400M; c-plan-ahead 0; }";
    fs::write(&file, format!("resource r0 {{\n{disk}\n{more}\n{hosts}}}\n")).unwrap();
    file
}

pub fn image(path: &Path, bytes: u64) {
    File::create(path).unwrap().set_len(bytes).unwrap();
}

/// Two addresses that nobody else uses: no other process, and no other test of this one.
pub fn addresses() -> [SocketAddr; 2] {
    [address(), address()]
}

fn address() -> SocketAddr {
    static LAST: AtomicU32 = AtomicU32::new(1);
    let number = std::process::id().wrapping_mul(64) + LAST.fetch_add(1, Ordering::Relaxed);
    let ip = Ipv4Addr::from_bits(u32::from(Ipv4Addr::new(127, 0, 0, 0)) | number & 0x00ff_ffff);
    SocketAddr::from((ip, 7788))
}

/// Waits until `reached` says so.
pub fn wait_until(what: &str, mut reached: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !reached() {
        assert!(Instant::now() < end, "{what}: not within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Runs somebody else's program to its end.
pub fn run(program: &str, words: &[&str]) -> Output {
    match Command::new(program).args(words).stdin(Stdio::null()).output() {
        Ok(output) => output,
        Err(error) => panic!("cannot run {program} ({error}): 'make setup' installs it"),
    }
}

/// Runs it to its success, and returns what it printed.
pub fn run_well(program: &str, words: &[&str]) -> String {
    let output = run(program, words);
    assert!(output.status.success(), "{program} {words:?}: {}", text(&output));
    text(&output)
}

/// Both outputs of a program.
pub fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}
