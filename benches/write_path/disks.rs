//! Disks to measure on: full files next to each other, or loop devices on them.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Bytes of a disk: little enough to be filled in a moment. Its 64 extents stay in the activity log.
pub const DISK_BYTES: u64 = 256 << 20;
/// Which disks: `auto` (loop devices where they can be had), `loop` or `file`.
/// As `auto` (loop devices where they can be had), `loop` or `file`.
const CHOICE: &str = "URBD_BENCH_DISKS";
/// The folder for the files, on the file system to be measured.
const FOLDER: &str = "URBD_BENCH_DIR";

/// The disks. They go with this value.
pub struct Disks {
    folder: PathBuf,
    files: Vec<PathBuf>,
    loops: Vec<LoopDevice>,
    /// What they are, for people.
    pub description: String,
}

/// A loop device; the kernel frees it when this value is gone, and its last user.
struct LoopDevice(PathBuf);

impl Disks {
    /// Disks of these names, equal to each other.
    pub fn new(names: &[&str]) -> io::Result<Self> {
        let default = || PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("write_path");
        let folder =
            std::env::var_os(FOLDER).map_or_else(default, |parent| PathBuf::from(parent).join("urbd-bench"));
        fs::create_dir_all(&folder)?;
        let files: Vec<PathBuf> = names.iter().map(|name| folder.join(format!("{name}.img"))).collect();
        for file in &files {
            fill(file)?;
        }
        let mut disks = Self { folder, files, loops: Vec::new(), description: String::new() };
        let choice = std::env::var(CHOICE).unwrap_or_default();
        disks.description = match choice.as_str() {
            "file" => "regular files".to_owned(),
            "loop" => disks.loops()?,
            "auto" | "" => disks.loops().unwrap_or_else(|why| format!("regular files ({why})")),
            other => return Err(io::Error::other(format!("{CHOICE}={other}: take auto, loop or file"))),
        };
        Ok(disks)
    }

    /// Where disk `index` is.
    pub fn path(&self, index: usize) -> &Path {
        self.loops.get(index).map_or(&self.files[index], |device| &device.0)
    }

    /// The folder of the files.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Lets go of loop devices that others have open by now: they end with their last user, however that ends.
    pub fn forget_loops(&mut self) {
        self.loops.clear();
    }

    /// The first byte below `end` in which two disks differ.
    pub fn difference(&self, a: usize, b: usize, end: u64) -> io::Result<Option<u64>> {
        let [mut a, mut b] = [File::open(&self.files[a])?.take(end), File::open(&self.files[b])?.take(end)];
        let [mut from_a, mut from_b] = [vec![0; 1 << 20], vec![0; 1 << 20]];
        for start in (0..end).step_by(1 << 20) {
            let len = usize::try_from((end - start).min(1 << 20)).map_err(io::Error::other)?;
            a.read_exact(&mut from_a[..len])?;
            b.read_exact(&mut from_b[..len])?;
            if let Some(at) = (0..len).find(|&at| from_a[at] != from_b[at]) {
                return Ok(Some(start + at as u64));
            }
        }
        Ok(None)
    }

    /// Puts a loop device on every file.
    fn loops(&mut self) -> io::Result<String> {
        let devices: io::Result<Vec<_>> = self.files.iter().map(|file| LoopDevice::on(file)).collect();
        self.loops = devices?;
        Ok("loop devices".to_owned())
    }
}

impl Drop for Disks {
    fn drop(&mut self) {
        self.loops.clear();
        for file in &self.files {
            let _ = fs::remove_file(file);
        }
    }
}

impl LoopDevice {
    fn on(file: &Path) -> io::Result<Self> {
        let output = Command::new("losetup").args(["--find", "--show", "--direct-io=on"]).arg(file).output();
        let output = output.map_err(|error| io::Error::other(format!("losetup: {error}")))?;
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(io::Error::other(format!("no loop devices: {why}")));
        }
        Ok(Self(String::from_utf8_lossy(&output.stdout).trim().into()))
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("--detach").arg(&self.0).status();
    }
}

/// Fills a file, so that no write to it has to find space first.
fn fill(path: &Path) -> io::Result<()> {
    let mut file = File::create(path)?;
    let chunk = vec![0x5a; 1 << 20];
    for _ in 0..DISK_BYTES >> 20 {
        file.write_all(&chunk)?;
    }
    file.sync_all()
}
