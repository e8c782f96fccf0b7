//! Metadata as the real software writes it: golden images, and the real `drbdmeta` beside `urbdmeta` on
//! loop devices.
//!
//! The tests of the second kind need root, loop devices and drbd-utils. Without them they say so and
//! pass, except where `CI` is set: there they fail.
#![allow(clippy::unwrap_used)]

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use flate2::read::GzDecoder;
use tempfile::TempDir;
use urbd::meta::activity_log::{Block, Verdict, effective_slots, recover};
use urbd::meta::layout::{Layout, Placement, Striping};
use urbd::meta::superblock::{Marking, Superblock, SuperblockError};
use urbd::node::activity_log::ActivityLog;
use urbd::units::AlExtent;

const MIB: u64 = 1 << 20;
const TAIL_64M: usize = 40_960;

// ---- golden images ------------------------------------------------------------------------------

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/metadata").join(name)
}

fn image(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let path = data(&format!("{name}.bin.gz"));
    let file = File::open(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    GzDecoder::new(file).read_to_end(&mut bytes).unwrap();
    bytes
}

fn text(name: &str) -> String {
    fs::read_to_string(data(name)).unwrap()
}

/// A sparse file in a directory of its own, where `urbdmeta` also keeps its records.
struct Disk {
    dir: TempDir,
    path: PathBuf,
}

impl Disk {
    fn new(bytes: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        File::create(&path).unwrap().set_len(bytes).unwrap();
        Self { dir, path }
    }

    fn file(&self) -> File {
        OpenOptions::new().read(true).write(true).open(&self.path).unwrap()
    }

    fn read(&self, byte: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.file().read_exact_at(&mut bytes, byte).unwrap();
        bytes
    }

    fn tail(&self, len: usize) -> Vec<u8> {
        let bytes = self.file().metadata().unwrap().len();
        self.read(bytes - len as u64, len)
    }

    fn put_tail(&self, bytes: &[u8]) {
        let end = self.file().metadata().unwrap().len();
        self.file().write_all_at(bytes, end - bytes.len() as u64).unwrap();
    }

    /// `urbdmeta` with these words, on this disk; options may be among them.
    fn urbdmeta(&self, index: &str, words: &[&str]) -> Output {
        urbdmeta(self.dir.path(), "-", &self.path, index, words)
    }

    fn ok(&self, index: &str, words: &[&str]) -> String {
        stdout_of(&self.urbdmeta(index, words), words)
    }
}

fn urbdmeta(state: &Path, minor: &str, device: &Path, index: &str, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_urbdmeta"))
        .arg("--state-dir")
        .arg(state)
        .args([minor, "v08"])
        .arg(device)
        .arg(index)
        .args(words)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn stdout_of(output: &Output, words: &[&str]) -> String {
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {:?} {err}", output.status);
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// A dump without what differs by design: time, host and command; the flags that 9.22 drops.
fn comparable(dump: &str) -> String {
    let differs = |line: &&str| !line.starts_with("    flags 0x");
    let lines = dump.lines().enumerate().filter(|&(i, _)| i != 1 && i != 2);
    lines.map(|(_, line)| line).filter(differs).fold(String::new(), |all, line| all + line + "\n")
}

/// What get-gi, show-gi, dstate and read-dev-uuid print, in the form of the golden texts.
fn gi_text(mut run: impl FnMut(&str) -> String) -> String {
    ["get-gi", "show-gi", "dstate", "read-dev-uuid"]
        .iter()
        .map(|verb| format!("== {verb}\n{}", run(verb)))
        .collect()
}

/// Golden name, bytes of the device, index, options, where the stored part begins (none: at the end).
type Created = (&'static str, u64, &'static str, &'static [&'static str], Option<u64>);

const CREATED: [Created; 13] = [
    ("int-1M", MIB, "internal", &[], None),
    ("int-8M", 8 * MIB, "internal", &[], None),
    ("int-64M", 64 * MIB, "internal", &[], None),
    ("int-64M+1536", 64 * MIB + 1536, "internal", &[], None),
    ("int-128M", 128 * MIB, "internal", &[], None),
    ("int-128M+4K", 128 * MIB + 4096, "internal", &[], None),
    ("int-1G", 1024 * MIB, "internal", &[], None),
    ("int-1G-512", 1024 * MIB - 512, "internal", &[], None),
    ("int-64M-stripes4x16k", 64 * MIB, "internal", &["--al-stripes=4", "--al-stripe-size-kB=16"], None),
    ("flexext-1M", MIB, "flex-external", &[], Some(0)),
    ("flexext-8M", 8 * MIB, "flex-external", &[], Some(0)),
    ("idx0-256M", 256 * MIB, "0", &[], Some(0)),
    ("idx1-256M", 256 * MIB, "1", &[], Some(128 * MIB)),
];

#[test]
fn new_metadata_has_the_bytes_and_texts_of_the_real_tools() {
    for (name, bytes, index, options, start) in CREATED {
        let disk = Disk::new(bytes);
        let golden = image(&format!("tool/{name}"));
        disk.ok(index, &[&["create-md"], options].concat());
        let start = start.unwrap_or(bytes - golden.len() as u64);
        assert!(disk.read(start, golden.len()) == golden, "{name}: bytes differ");
        let dump = disk.ok(index, &["dump-md"]);
        assert_eq!(comparable(&dump), comparable(&text(&format!("tool/{name}.dump.txt"))), "{name}");
        let gi = gi_text(|verb| disk.ok(index, &[verb]));
        assert_eq!(gi, text(&format!("tool/{name}.gi.txt")), "{name}");
    }
}

#[test]
fn a_sequence_of_commands_leaves_the_bytes_and_texts_of_the_real_tools() {
    let disk = Disk::new(64 * MIB);
    let pattern = data("ops/pattern.dump");
    let restore = ["--force", "restore-md", pattern.to_str().unwrap()];
    let first = "1111111111111110:2222222222222222:3333333333333334:4444444444444444:1:1:0:0:0:0:0";
    let steps: [(&str, &[&str]); 8] = [
        ("00-create", &["create-md"]),
        ("01-write-dev-uuid", &["write-dev-uuid", "0123456789ABCDEF"]),
        ("02-set-gi", &["--force", "set-gi", first]),
        ("03-set-gi-flags", &["--force", "set-gi", ":::::::1:1:0:1:1"]),
        ("04-outdate", &["outdate"]),
        ("05-invalidate", &["invalidate"]),
        ("06-restore-pattern", &restore),
        ("07-outdate-consistent", &["outdate"]),
    ];
    for (name, words) in steps {
        disk.ok("internal", words);
        check_step(&disk, name, &["dump-md"]);
    }
    disk.put_tail(&image("ops/08-crafted-al-before-apply"));
    assert_eq!(disk.urbdmeta("internal", &["dump-md"]).status.code(), Some(1), "M102g");
    check_step(&disk, "08-crafted-al-before-apply", &["--force", "dump-md"]);
    let applied = disk.urbdmeta("internal", &["apply-al"]);
    assert_eq!(String::from_utf8_lossy(&applied.stderr), text("ops/09-apply-al.out.txt"));
    check_step(&disk, "09-apply-al", &["dump-md"]);
    disk.ok("internal", &["apply-al"]);
    check_step(&disk, "09-apply-al", &["dump-md"]);
    disk.ok("internal", &["--force", "wipe-md"]);
    assert!(disk.tail(TAIL_64M) == image("ops/10-wipe-md"));
    assert_eq!(disk.urbdmeta("internal", &["dstate"]).status.code(), Some(1));
}

fn check_step(disk: &Disk, name: &str, dump: &[&str]) {
    assert!(disk.tail(TAIL_64M) == image(&format!("ops/{name}")), "{name}: bytes differ");
    let ours = comparable(&disk.ok("internal", dump));
    assert_eq!(ours, comparable(&text(&format!("ops/{name}.dump.txt"))), "{name}");
    let gi = gi_text(|verb| disk.ok("internal", &[verb]));
    assert_eq!(gi, text(&format!("ops/{name}.gi.txt")), "{name}");
}

#[test]
fn every_superblock_and_log_block_of_the_kernel_is_encoded_again_byte_by_byte() {
    let mut seen = 0;
    for entry in fs::read_dir(data("kernel")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let name = name.strip_suffix(".bin.gz").unwrap();
        let bytes = image(&format!("kernel/{name}"));
        let (placement, device) = match name.as_bytes()[0] {
            b'd' => (Placement::Flexible, 8 * MIB),
            b'e' => (Placement::Internal, 1024 * MIB),
            _ => (Placement::Internal, 64 * MIB),
        };
        let start = if placement.is_internal() { device - bytes.len() as u64 } else { 0 };
        let block = |byte: u64| -> &[u8; 4096] {
            let at = (byte - start) as usize;
            bytes[at..at + 4096].try_into().unwrap()
        };
        let raw = block(placement.superblock_sector(device / 512).unwrap() * 512);
        let (superblock, layout) = Superblock::decode(raw, placement, device / 512).unwrap();
        assert!(&superblock.encode(&layout) == raw, "{name}: the superblock differs");
        for position in 0..8 {
            let raw = block(layout.al_block_byte(position));
            match Block::decode(raw) {
                Block::Initialised => {}
                Block::Update(transaction) => {
                    seen += 1;
                    assert!(&transaction.encode() == raw, "{name}: log block {position} differs");
                }
                other @ (Block::UnknownType(_) | Block::Invalid) => panic!("{name}: {other:?}"),
            }
        }
    }
    assert!(seen > 50, "only {seen} transactions");
}

/// M15: the kernel's log of 67 slots after a power cut, and the real tool's answer to it.
#[test]
fn the_log_of_a_crashed_kernel_marks_what_the_real_tool_marks() {
    let disk = Disk::new(1024 * MIB);
    let (before, after) = (image("kernel/e05-discard40M"), image("kernel/e06-after-apply-al"));
    let layout = Layout::new(Placement::Internal, 1024 * MIB / 512, Striping::DEFAULT).unwrap();
    let ring: Vec<[u8; 4096]> =
        before[32_768..65_536].chunks(4096).map(|block| block.try_into().unwrap()).collect();
    let Verdict::Hot(hot) = recover(&ring).verdict else { panic!("no hot set") };
    assert_eq!(hot.len(), 67);

    disk.put_tail(&before);
    let output = disk.urbdmeta("internal", &["apply-al"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(said, "Marked additional 256 MB as out-of-sync based on AL.\n");
    let ours = disk.tail(before.len());
    assert!(ours[32_768..] == after[32_768..], "log or superblock differ");
    // We write zeros behind the last bit (M44), the tool sets whole extents (M43).
    let bits = layout.max_data_sectors().div_ceil(8) as usize;
    assert!(ours[..bits / 8] == after[..bits / 8]);
    assert_eq!(ours[bits / 8] & ((1 << (bits % 8)) - 1), after[bits / 8] & ((1 << (bits % 8)) - 1));
    assert!(ours[bits / 8 + 1..32_768].iter().all(|&byte| byte == 0));
}

#[test]
fn metadata_of_a_grown_device_is_moved_with_its_bitmap() {
    for (grown, golden) in [(68_157_440, Some("resize/68157440-after")), (314_572_800, None)] {
        let disk = Disk::new(64 * MIB);
        let run = |words: &[&str]| {
            stdout_of(&urbdmeta(disk.dir.path(), "77", &disk.path, "internal", words), words)
        };
        run(&["create-md"]);
        run(&["--force", "restore-md", data("ops/pattern.dump").to_str().unwrap()]);
        let record = fs::read_to_string(disk.dir.path().join("drbd-minor-77.lkbd")).unwrap();
        let expected = text("resize/before.lkbd.txt").replace("/dev/loop0", disk.path.to_str().unwrap());
        assert_eq!(record, expected);
        let before = disk.tail(TAIL_64M);
        disk.file().set_len(grown).unwrap();
        let none = urbdmeta(disk.dir.path(), "77", &disk.path, "internal", &["dstate"]);
        assert_eq!(none.status.code(), Some(1));
        let fresh = urbdmeta(disk.dir.path(), "77", &disk.path, "internal", &["create-md"]);
        assert_eq!(fresh.status.code(), Some(1), "never fresh metadata without a yes");

        run(&["check-resize"]);
        if let Some(golden) = golden {
            assert!(disk.tail(49_152) == image(golden));
            let old = image("resize/68157440-after-old-location");
            assert!(disk.read(67_067_904, TAIL_64M) == old);
        }
        // The real tool shifts the bitmap when its size changes (M133): ours does not.
        let layout = Layout::new(Placement::Internal, grown / 512, Striping::DEFAULT).unwrap();
        assert!(disk.read(layout.bitmap_byte(), 4096) == before[..4096]);
        run(&["check-resize"]);
        let record = fs::read_to_string(disk.dir.path().join("drbd-minor-77.lkbd")).unwrap();
        assert!(record.starts_with(&format!("{grown}\t")));
    }
}

#[test]
fn metadata_of_version_9_is_named_and_left_alone() {
    let disk = Disk::new(64 * MIB);
    let bytes = image("v09/int-64M-3peers");
    disk.put_tail(&bytes);
    let block = bytes[bytes.len() - 4096..].try_into().unwrap();
    let decoded = Superblock::decode(block, Placement::Internal, 64 * MIB / 512);
    assert_eq!(decoded, Err(SuperblockError::OtherVersion { version: "v09" }));
    let output = disk.urbdmeta("internal", &["dstate"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("the metadata is v09"));
    assert_eq!(disk.urbdmeta("internal", &["create-md"]).status.code(), Some(1));
    assert!(disk.tail(bytes.len()) == bytes);
}

#[test]
fn a_device_in_use_is_not_changed() {
    let disk = Disk::new(64 * MIB);
    disk.ok("internal", &["create-md"]);
    let holder = disk.file();
    rustix::fs::flock(&holder, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let refused = disk.urbdmeta("internal", &["--force", "invalidate"]);
    assert_eq!(refused.status.code(), Some(20));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("is in use (by process"));
    let read = disk.urbdmeta("internal", &["get-gi"]);
    assert!(read.status.success());
    assert!(String::from_utf8_lossy(&read.stderr).contains("might be stale"));
}

#[test]
fn misuse_ends_with_the_real_tools_exit_codes() {
    let disk = Disk::new(64 * MIB);
    let code = |index: &str, words: &[&str]| disk.urbdmeta(index, words).status.code().unwrap();
    assert_eq!(code("internal", &["dump-md"]), 1);
    assert_eq!(code("internal", &["foo"]), 20);
    assert_eq!(code("flexible", &["dstate"]), 20);
    assert_eq!(code("7", &["create-md"]), 10, "no such slot");
    assert_eq!(code("0", &["create-md"]), 10, "M16: a device too small for its slot");
    assert_eq!(code("internal", &["--al-stripes=99999", "create-md"]), 10);
    assert_eq!(code("internal", &["--al-stripe-size-kB=4", "create-md"]), 10);
    assert_eq!(code("internal", &["create-md"]), 0);
    assert_eq!(code("internal", &["--al-stripes=2", "dstate"]), 10);
    assert_eq!(code("internal", &["set-gi"]), 10);
    assert_eq!(code("internal", &["set-gi", "zz"]), 10);
    assert_eq!(code("internal", &["set-gi", "5:6"]), 0, "declined");
    assert_eq!(code("internal", &["outdate"]), 5);
    assert_eq!(code("internal", &["restore-md", "/nowhere"]), 20);
    assert_eq!(code("internal", &["wipe-md"]), 1);
    let tiny = Disk::new(60_000);
    assert_eq!(tiny.urbdmeta("internal", &["create-md"]).status.code(), Some(10));
}

/// A dump that breaks off must not have destroyed anything (unlike M122).
#[test]
fn a_broken_dump_changes_nothing() {
    let disk = Disk::new(64 * MIB);
    let good = fs::read_to_string(data("ops/pattern.dump")).unwrap();
    disk.ok("internal", &["create-md"]);
    let before = disk.tail(TAIL_64M);
    let broken = disk.dir.path().join("broken.dump");
    fs::write(&broken, format!("{good} junk")).unwrap();
    let output = disk.urbdmeta("internal", &["--force", "restore-md", broken.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(10));
    assert!(String::from_utf8_lossy(&output.stderr).contains("end of file expected, not 'junk'"));
    assert!(disk.tail(TAIL_64M) == before);
}

// ---- beside the real tool -----------------------------------------------------------------------

/// Whether the real tool can be asked. Where `CI` is set, it must be possible.
fn real_tool_is_here() -> bool {
    let probe = |program: &str, args: &[&str]| {
        Command::new(program).args(args).output().is_ok_and(|output| output.status.success())
    };
    let here = rustix::process::geteuid().is_root()
        && probe("losetup", &["-f"])
        && probe("sh", &["-c", "command -v drbdmeta"]);
    assert!(here || std::env::var_os("CI").is_none(), "needs root, loop devices and drbdmeta");
    if !here {
        eprintln!("left out: needs root, loop devices and drbdmeta");
    }
    here
}

/// A disk on a loop device, and a minor that no other test uses.
struct Loop {
    disk: Disk,
    device: PathBuf,
    minor: &'static str,
}

impl Loop {
    fn new(bytes: u64, minor: &'static str) -> Self {
        let disk = Disk::new(bytes);
        let output = Command::new("losetup").args(["-f", "--show"]).arg(&disk.path).output().unwrap();
        let device = PathBuf::from(stdout_of(&output, &["losetup"]).trim());
        let made = Self { disk, device, minor };
        made.forget();
        made
    }

    /// The tool's record of where metadata was seen last is a trap between tests (M130).
    fn forget(&self) {
        let _ = fs::remove_file(format!("/var/lib/drbd/drbd-minor-{}.lkbd", self.minor));
    }

    fn real(&self, index: &str, words: &[&str]) -> Output {
        Command::new("drbdmeta")
            .env("TZ", "UTC")
            .args([self.minor, "v08"])
            .arg(&self.device)
            .arg(index)
            .args(words)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    fn ours(&self, index: &str, words: &[&str]) -> Output {
        urbdmeta(self.disk.dir.path(), self.minor, &self.device, index, words)
    }

    fn real_ok(&self, index: &str, words: &[&str]) -> String {
        stdout_of(&self.real(index, words), words)
    }

    fn ours_ok(&self, index: &str, words: &[&str]) -> String {
        stdout_of(&self.ours(index, words), words)
    }

    fn read(&self, byte: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        File::open(&self.device).unwrap().read_exact_at(&mut bytes, byte).unwrap();
        bytes
    }

    fn write(&self, byte: u64, bytes: &[u8]) {
        let file = OpenOptions::new().write(true).open(&self.device).unwrap();
        file.write_all_at(bytes, byte).unwrap();
        file.sync_all().unwrap();
    }

    /// Both tools print the same about what is there.
    fn assert_same_texts(&self, index: &str) {
        let (ours, real) = (self.ours_ok(index, &["dump-md"]), self.real_ok(index, &["dump-md"]));
        assert_eq!(comparable(&ours), comparable(&real));
        let ours = gi_text(|verb| self.ours_ok(index, &[verb]));
        assert_eq!(ours, gi_text(|verb| self.real_ok(index, &[verb])));
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        self.forget();
        let _ = Command::new("losetup").arg("-d").arg(&self.device).status();
    }
}

#[test]
fn the_real_tool_reads_what_ours_creates() {
    if !real_tool_is_here() {
        return;
    }
    for (bytes, index, options) in [
        (64 * MIB, "internal", &[][..]),
        (64 * MIB + 1536, "internal", &["--al-stripes=3", "--al-stripe-size-kB=12"][..]),
        (100 * 1024 * MIB, "internal", &["--peer-max-bio-size=131072"][..]),
        (8 * MIB, "flex-external", &[][..]),
        (256 * MIB, "1", &[][..]),
    ] {
        let disk = Loop::new(bytes, "4211");
        disk.ours_ok(index, &[&["create-md"], options].concat());
        disk.assert_same_texts(index);
        disk.real_ok(index, &["--force", "set-gi", "5:6:7:8:1:1:1:1:1:1:1"]);
        disk.real_ok(index, &["write-dev-uuid", "ABC"]);
        disk.assert_same_texts(index);
        disk.ours_ok(index, &["invalidate"]);
        disk.assert_same_texts(index);
    }
}

#[test]
fn ours_reads_what_the_real_tool_restores_and_the_reverse() {
    if !real_tool_is_here() {
        return;
    }
    let pattern = data("ops/pattern.dump");
    let restore = ["--force", "restore-md", pattern.to_str().unwrap()];
    let disk = Loop::new(64 * MIB, "4212");
    disk.real_ok("internal", &["--force", "create-md"]);
    disk.real_ok("internal", &restore);
    let theirs = disk.read(64 * MIB - TAIL_64M as u64, TAIL_64M);
    disk.assert_same_texts("internal");
    let dump = disk.disk.dir.path().join("ours.dump");
    fs::write(&dump, disk.ours_ok("internal", &["dump-md"])).unwrap();

    disk.ours_ok("internal", &["--force", "wipe-md"]);
    disk.ours_ok("internal", &restore);
    assert!(disk.read(64 * MIB - TAIL_64M as u64, TAIL_64M) == theirs);
    disk.assert_same_texts("internal");

    // Our dump carries the true flags, and the real tool takes them.
    disk.ours_ok("internal", &["--force", "wipe-md"]);
    disk.ours_ok("internal", &["create-md"]);
    disk.real_ok("internal", &["--force", "restore-md", dump.to_str().unwrap()]);
    assert!(disk.read(64 * MIB - TAIL_64M as u64, TAIL_64M) == theirs);
}

/// A bitmap of many pages: runs of all lengths, over the borders of any reading in pieces.
#[test]
fn a_large_bitmap_is_dumped_word_for_word_like_the_real_tools() {
    if !real_tool_is_here() {
        return;
    }
    let disk = Loop::new(300 * 1024 * MIB, "4213");
    let layout = Layout::new(Placement::Internal, 300 * 1024 * MIB / 512, Striping::DEFAULT).unwrap();
    disk.ours_ok("internal", &["create-md"]);
    let at = layout.superblock_byte();
    let (mut superblock, _) =
        Superblock::decode(&disk.read(at, 4096).try_into().unwrap(), Placement::Internal, layout.capacity())
            .unwrap();
    superblock.la_size = layout.offered_size(u64::MAX);
    disk.write(at, &superblock.encode(&layout));
    let mut seed = 7u64;
    let mut bytes = Vec::new();
    while bytes.len() < 9_000_000 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let word = [0, u64::MAX, seed, 0x5555_5555_5555_5555][(seed >> 40) as usize % 4];
        let times = [1, 3, 17, 70, 5000][(seed >> 50) as usize % 5];
        bytes.extend(word.to_le_bytes().repeat(times));
    }
    disk.write(layout.bitmap_byte(), &bytes[..9_000_000]);
    disk.assert_same_texts("internal");
}

/// Logs as our node writes them, read by both tools: the same bits, the same new ring.
#[test]
fn both_tools_recover_the_same_extents_from_our_log() {
    if !real_tool_is_here() {
        return;
    }
    for (slots, transactions) in [(67, 3), (67, 40), (1237, 5), (1237, 60)] {
        let striping = Striping::DEFAULT;
        assert_eq!(u32::from(effective_slots(slots, striping)), slots);
        let layout = Layout::new(Placement::Internal, 4096 * MIB / 512, striping).unwrap();
        let mut superblock = Superblock::just_created(0);
        superblock.la_size = layout.offered_size(u64::MAX);
        superblock.flags = urbd::meta::superblock::MetaFlags::from_bits(0x13);
        superblock.marking = Marking::Attached;
        superblock.al_slots = slots;
        let mut log = ActivityLog::new(slots, striping);
        let disk = Loop::new(4096 * MIB, "4214");
        disk.ours_ok("internal", &["create-md"]);
        let mut seed = u64::from(slots * 1000 + transactions);
        for _ in 0..transactions {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
            // 4 GiB without the last extent, whose padding bits the two treat differently.
            let first = AlExtent::new((seed >> 33) as u32 % 1000);
            let last = AlExtent::new(first.get() + (seed >> 20) as u32 % 20);
            log.reserve(first, last);
            if let Some(transaction) = log.begin_transaction() {
                disk.write(layout.al_block_byte(transaction.position), &*transaction.block);
                log.commit(true);
            }
            log.release(first, last);
        }
        disk.write(layout.superblock_byte(), &superblock.encode(&layout));
        let start = layout.bitmap_byte();
        let len = (4096 * MIB - start) as usize;
        let crashed = disk.read(start, len);
        let real = disk.real("internal", &["apply-al"]);
        assert!(real.status.success());
        let theirs = disk.read(start, len);
        disk.write(start, &crashed);
        let ours = disk.ours("internal", &["apply-al"]);
        assert_eq!(String::from_utf8(ours.stderr).unwrap(), String::from_utf8(real.stderr).unwrap());
        assert!(disk.read(start, len) == theirs, "{slots} slots, {transactions} transactions");
    }
}

#[test]
fn data_in_the_way_is_judged_as_the_real_tool_judges_it() {
    if !real_tool_is_here() {
        return;
    }
    let some: &[(usize, &[u8])] = &[(5000, b"x")];
    let swap: &[(usize, &[u8])] = &[(4086, b"SWAPSPACE2")];
    // Blocks of 4 KiB: 16384 fill the device, 16000 leave room for the metadata.
    let full: &[(usize, &[u8])] = &[(1080, &[0x53, 0xEF]), (1028, &[0, 64]), (1048, &[2])];
    let fits: &[(usize, &[u8])] = &[(1080, &[0x53, 0xEF]), (1028, &[128, 62]), (1048, &[2]), (1116, &[4])];
    for parts in [some, swap, full, fits] {
        for index in ["internal", "flex-external"] {
            for options in [&[][..], &["--force"], &["--force", "--ignore-sanity-checks"]] {
                let words = [options, &["create-md"]].concat();
                let run = |real: bool| {
                    let disk = Loop::new(64 * MIB, "4215");
                    for (at, bytes) in parts {
                        disk.write(*at as u64, bytes);
                    }
                    let output = if real { disk.real(index, &words) } else { disk.ours(index, &words) };
                    (output.status.code(), String::from_utf8(output.stdout).unwrap())
                };
                assert_eq!(run(false), run(true), "{parts:?} {index} {words:?}");
            }
        }
    }
}
