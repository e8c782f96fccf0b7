//! The device that carries metadata, as `urbdmeta` and `urbdadm` use it: a block device or a regular
//! file, held exclusively, written through to the disk.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, fcntl_lock, flock};

use crate::io::disk::{BUSY_PATIENCE, take_patiently};
use crate::units::SECTOR_BYTES;

/// Where the locks of the minors are (M110).
const LOCK_DIR: &str = "/var/lock";
/// How long a minor's lock is waited for (M110).
const LOCK_PATIENCE: Duration = Duration::from_secs(1);

/// What the commands need of a metadata device. Positions and lengths are in bytes.
pub trait MetaDevice {
    /// Its name, for messages.
    fn name(&self) -> &str;

    /// Its size.
    fn bytes(&self) -> u64;

    /// Reads exactly as much as `buf` holds.
    ///
    /// # Errors
    /// If the device does, or ends before that.
    fn read_at(&mut self, byte: u64, buf: &mut [u8]) -> io::Result<()>;

    /// Writes all of `data`.
    ///
    /// # Errors
    /// If the device does.
    fn write_at(&mut self, byte: u64, data: &[u8]) -> io::Result<()>;

    /// Makes everything written durable.
    ///
    /// # Errors
    /// If the device does: nothing may be reported as done then.
    fn sync(&mut self) -> io::Result<()>;

    /// Its size in sectors.
    fn sectors(&self) -> u64 {
        self.bytes() / SECTOR_BYTES
    }
}

/// What a command is going to do with the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Only look: possible, with a warning, while somebody else holds the device.
    Read,
    /// Change it: only while nobody else holds it.
    Modify,
}

/// A block device or regular file.
#[derive(Debug)]
pub struct FileDevice {
    name: String,
    file: File,
    bytes: u64,
    dry_run: bool,
    shared: bool,
}

impl FileDevice {
    /// Opens the device. `exclusive` is for metadata that has the device to itself; slots of a
    /// shared one (index 0 and up) do not (M112). To be changed, it is waited for a moment if it is in use.
    ///
    /// # Errors
    /// If it cannot be opened, is neither block device nor regular file, or is held by somebody
    /// else and must be changed.
    pub fn open(path: &Path, access: Access, exclusive: bool) -> Result<Self, OpenError> {
        let is_busy = |error: &OpenError| matches!(error, OpenError::Busy { .. });
        take_patiently(BUSY_PATIENCE, || Self::open_now(path, access, exclusive), is_busy)
    }

    fn open_now(path: &Path, access: Access, exclusive: bool) -> Result<Self, OpenError> {
        let name = path.display().to_string();
        let failed = |source| OpenError::Open { name: name.clone(), source };
        let kind = path.metadata().map_err(failed)?.file_type();
        let (file, shared) = if kind.is_block_device() {
            open_block_device(path, access, exclusive)
        } else if kind.is_file() {
            open_file(path, access, exclusive)
        } else {
            return Err(OpenError::NoDevice { name });
        }
        .map_err(failed)?;
        if shared && access == Access::Modify {
            return Err(OpenError::Busy { name, holder: lock_holder(&file) });
        }
        // The only way to learn the size that works for both kinds.
        let bytes = (&file).seek(SeekFrom::End(0)).map_err(failed)?;
        Ok(Self { name, file, bytes, dry_run: false, shared })
    }

    /// Whether somebody else holds it: what is read may change under our eyes.
    #[must_use]
    pub const fn is_held_by_others(&self) -> bool {
        self.shared
    }

    /// Skips all writes from now on (`--dry-run`).
    pub const fn skip_writes(&mut self) {
        self.dry_run = true;
    }
}

impl MetaDevice for FileDevice {
    fn name(&self) -> &str {
        &self.name
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read_at(&mut self, byte: u64, buf: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buf, byte)
    }

    fn write_at(&mut self, byte: u64, data: &[u8]) -> io::Result<()> {
        if self.dry_run { Ok(()) } else { self.file.write_all_at(data, byte) }
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.dry_run { Ok(()) } else { self.file.sync_all() }
    }
}

/// Opens with the kernel's exclusive claim; `true` if somebody else has it.
fn open_block_device(path: &Path, access: Access, exclusive: bool) -> io::Result<(File, bool)> {
    let mut options = OpenOptions::new();
    options.read(true).write(access == Access::Modify);
    if exclusive {
        match options.clone().custom_flags(libc::O_EXCL).open(path) {
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) => return Ok((options.open(path)?, true)),
            result => return Ok((result?, false)),
        }
    }
    Ok((options.open(path)?, false))
}

/// Opens and locks; `true` if somebody else has the lock.
fn open_file(path: &Path, access: Access, exclusive: bool) -> io::Result<(File, bool)> {
    let file = OpenOptions::new().read(true).write(access == Access::Modify).open(path)?;
    if !exclusive {
        return Ok((file, false));
    }
    let operation = match access {
        Access::Read => FlockOperation::NonBlockingLockShared,
        Access::Modify => FlockOperation::NonBlockingLockExclusive,
    };
    match flock(&file, operation) {
        Ok(()) => Ok((file, false)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok((file, true)),
        Err(e) => Err(e.into()),
    }
}

/// The process that holds a lock on the file, as far as the kernel tells.
fn lock_holder(file: &File) -> Option<u32> {
    let (meta, locks) = (file.metadata().ok()?, std::fs::read_to_string("/proc/locks").ok()?);
    let (major, minor) = (rustix::fs::major(meta.dev()), rustix::fs::minor(meta.dev()));
    let id = format!("{major:02x}:{minor:02x}:{}", meta.ino());
    locks.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let at = fields.iter().position(|field| *field == id)?;
        fields.get(at.checked_sub(1)?)?.parse().ok()
    })
}

/// The lock that keeps two tools off one minor (M110), the real tool's too.
#[derive(Debug)]
pub struct MinorLock {
    _file: Option<File>,
}

impl MinorLock {
    /// Takes the lock of a minor, waiting at most a second. Where the lock file cannot be made,
    /// as for users other than root, there is none: the device's own lock has to do.
    ///
    /// # Errors
    /// If somebody else keeps it.
    pub fn take(minor: u32) -> Result<Self, OpenError> {
        let path = PathBuf::from(format!("{LOCK_DIR}/drbd-147-{minor}"));
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).clone();
        let Ok(file) = options.open(&path) else { return Ok(Self { _file: None }) };
        // The kernel has no wait with a deadline for these locks.
        let lock = || fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive);
        match take_patiently(LOCK_PATIENCE, lock, |_| true) {
            Ok(()) => Ok(Self { _file: Some(file) }),
            Err(_) => Err(OpenError::MinorLocked { minor, holder: lock_holder(&file) }),
        }
    }
}

fn holder_text(holder: Option<u32>) -> String {
    holder.map_or_else(String::new, |pid| format!(" (by process {pid})"))
}

/// Why a device is not to be had. All of it ends with exit code 20.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It cannot be opened.
    #[error("open({name}) failed: {}", plain(source))]
    Open {
        /// As the user named it.
        name: String,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// A directory, a character device, …
    #[error("'{name}' is neither a block device nor a regular file!")]
    NoDevice {
        /// As the user named it.
        name: String,
    },
    /// Somebody else holds it.
    #[error(
        "{name} is in use{}: detach it (or stop whoever uses it) before its meta data is changed.",
        holder_text(*holder)
    )]
    Busy {
        /// As the user named it.
        name: String,
        /// The process, if known.
        holder: Option<u32>,
    },
    /// Another tool works on the minor.
    #[error("The meta data of minor {minor} is locked{}: try again later.", holder_text(*holder))]
    MinorLocked {
        /// The minor.
        minor: u32,
        /// The process, if known.
        holder: Option<u32>,
    },
}

/// The system's text without the number that Rust appends.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

/// A device in memory, for tests.
#[cfg(test)]
pub(crate) struct MemoryDevice {
    pub(crate) data: Vec<u8>,
    /// Positions of all writes and syncs, in order: a sync is `None`.
    pub(crate) trace: Vec<Option<u64>>,
}

#[cfg(test)]
impl MemoryDevice {
    pub(crate) fn new(bytes: usize) -> Self {
        Self { data: vec![0; bytes], trace: vec![] }
    }
}

#[cfg(test)]
impl MetaDevice for MemoryDevice {
    fn name(&self) -> &str {
        "memory"
    }

    fn bytes(&self) -> u64 {
        self.data.len() as u64
    }

    fn read_at(&mut self, byte: u64, buf: &mut [u8]) -> io::Result<()> {
        let start = byte as usize;
        let source = self.data.get(start..start + buf.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(source);
        Ok(())
    }

    fn write_at(&mut self, byte: u64, data: &[u8]) -> io::Result<()> {
        let start = byte as usize;
        let target = self.data.get_mut(start..start + data.len()).ok_or(io::ErrorKind::WriteZero)?;
        target.copy_from_slice(data);
        self.trace.push(Some(byte));
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.trace.push(None);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_held_by_one_modifier_and_readable_with_a_warning() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(4096).unwrap();
        let holder = FileDevice::open(file.path(), Access::Modify, true).unwrap();
        assert_eq!(holder.bytes(), 4096);
        let second = FileDevice::open(file.path(), Access::Modify, true).unwrap_err();
        assert!(matches!(second, OpenError::Busy { holder: Some(pid), .. } if pid == std::process::id()));
        assert!(FileDevice::open(file.path(), Access::Read, true).unwrap().is_held_by_others());
        drop(holder);
        assert!(FileDevice::open(file.path(), Access::Modify, true).is_ok());
    }

    #[test]
    fn what_is_no_device_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let refused = FileDevice::open(directory.path(), Access::Read, true).unwrap_err();
        assert!(matches!(refused, OpenError::NoDevice { .. }));
        let missing = FileDevice::open(&directory.path().join("nope"), Access::Read, true);
        assert!(missing.unwrap_err().to_string().ends_with("failed: No such file or directory"));
    }

    #[test]
    fn a_dry_run_writes_nothing() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(4096).unwrap();
        let mut device = FileDevice::open(file.path(), Access::Modify, true).unwrap();
        device.skip_writes();
        device.write_at(0, b"x").unwrap();
        let mut byte = [9];
        device.read_at(0, &mut byte).unwrap();
        assert_eq!(byte, [0]);
    }
}
