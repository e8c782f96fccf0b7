//! Backing disks: open, lock and measure. Called by the supervisor, before the core attaches.
//!
//! A disk is a block device or a regular file. Where the file system takes it, it is opened for
//! direct I/O, so that what the ring completes is on the device and not in the page cache. On
//! memory-backed file systems there is nothing to wait for: operations run in line.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, FallocateFlags, FlockOperation, SeekFrom, StatxFlags};

use crate::node::command::{DiskFacts, MetaPlace};
use crate::units::SECTOR_BYTES;

/// Where a volume's data and metadata are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskPlace {
    /// Path of the device, or regular file, with the data.
    pub data: PathBuf,
    /// Path of the metadata device; `None` when the metadata is internal.
    pub meta: Option<PathBuf>,
    /// Where on it the metadata lies.
    pub place: MetaPlace,
}

/// A volume's devices, open, locked against other users, and measured.
#[derive(Debug)]
pub struct OpenedDisk {
    /// What the core is told about them.
    pub facts: DiskFacts,
    /// The device with the data.
    pub data: OpenedDevice,
    /// The device with the metadata; `None` if that is the same one.
    pub meta: Option<OpenedDevice>,
}

/// One open device or file.
#[derive(Clone, Debug)]
pub struct OpenedDevice {
    pub(super) file: Arc<File>,
    pub(super) kind: DeviceKind,
    /// Whether operations finish without waiting (memory-backed).
    pub(super) inline: bool,
    /// What it is.
    pub facts: DeviceFacts,
}

/// The two things a disk can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// A block device.
    Block,
    /// A regular file.
    File,
}

/// What can be found out about one device without using it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceFacts {
    /// Its size in bytes.
    pub bytes: u64,
    /// Logical block size in bytes: offsets and lengths are multiples of it.
    pub logical_block_bytes: u32,
    /// Physical block size in bytes.
    pub physical_block_bytes: u32,
    /// Smallest efficient I/O in bytes, 0 if unknown.
    pub io_min_bytes: u32,
    /// Best I/O size in bytes, 0 if unknown.
    pub io_opt_bytes: u32,
    /// Largest single I/O in bytes.
    pub max_io_bytes: u32,
    /// Whether discards give space back.
    pub discards: bool,
}

/// Why a disk cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// It cannot be opened.
    #[error("cannot open {}: {source}", path.display())]
    Open {
        /// The device.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It can be neither.
    #[error("{} is neither a block device nor a regular file", path.display())]
    Kind {
        /// The path.
        path: PathBuf,
    },
    /// Somebody else uses it.
    #[error("{} is in use: unmount it, or stop who holds it (lsof, dmsetup, another urbd)", path.display())]
    Busy {
        /// The device.
        path: PathBuf,
    },
    /// Its properties cannot be read.
    #[error("cannot measure {}: {source}", path.display())]
    Measure {
        /// The device.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// How long a device may stay in use by a daemon that was killed: the kernel ends a ring's last operations, and lets
/// go of its files, some time after the process is gone.
pub const BUSY_PATIENCE: Duration = Duration::from_secs(2);
/// Between two attempts: there is no event to wait for.
const BUSY_INTERVAL: Duration = Duration::from_millis(10);

/// Repeats an attempt to take a device or a lock while somebody else holds it, for so long at most. Blocks.
///
/// # Errors
/// That of the last attempt.
pub fn take_patiently<T, E>(
    patience: Duration,
    mut attempt: impl FnMut() -> Result<T, E>,
    is_busy: impl Fn(&E) -> bool,
) -> Result<T, E> {
    let end = Instant::now() + patience;
    loop {
        match attempt() {
            Err(error) if is_busy(&error) && Instant::now() < end => std::thread::sleep(BUSY_INTERVAL),
            other => return other,
        }
    }
}

/// Opens, locks and measures a volume's devices. Blocks while somebody else uses them, at most two seconds.
///
/// Only this daemon may use the data device from now on; the same holds for the metadata device
/// unless its metadata is in numbered slots, which several volumes share.
///
/// # Errors
/// [`DiskError`]: what is wrong with which path.
pub fn open(place: &DiskPlace) -> Result<OpenedDisk, DiskError> {
    let open_device = |path: &Path, sharing| {
        let is_busy = |error: &DiskError| matches!(error, DiskError::Busy { .. });
        take_patiently(BUSY_PATIENCE, || open_device(path, sharing), is_busy)
    };
    let data = open_device(&place.data, Sharing::Exclusive)?;
    let sharing = match place.place {
        MetaPlace::Indexed(_) => Sharing::Shared,
        MetaPlace::Internal | MetaPlace::FlexExternal => Sharing::Exclusive,
    };
    let meta = place.meta.as_deref().map(|path| open_device(path, sharing)).transpose()?;
    let facts = DiskFacts {
        data_bytes: data.facts.bytes,
        meta_bytes: meta.as_ref().map_or(data.facts.bytes, |meta| meta.facts.bytes),
        meta: place.place,
        logical_block_bytes: data.facts.logical_block_bytes,
        physical_block_bytes: data.facts.physical_block_bytes,
        io_min_bytes: data.facts.io_min_bytes,
        io_opt_bytes: data.facts.io_opt_bytes,
        max_io_bytes: data.facts.max_io_bytes,
        discards: data.facts.discards,
        separate_meta: meta.is_some(),
        path: place.data.display().to_string(),
    };
    Ok(OpenedDisk { facts, data, meta })
}

/// Measures a device without claiming it, also while somebody else uses it.
///
/// # Errors
/// [`DiskError`]: what is wrong with the path.
pub fn probe(path: &Path) -> Result<DeviceFacts, DiskError> {
    let writable = OpenOptions::new().read(true).write(true).open(path);
    let file = writable
        .or_else(|_| File::open(path))
        .map_err(|source| DiskError::Open { path: path.into(), source })?;
    let kind = kind_of(&file, path)?;
    measure(&file, kind).map_err(|source| DiskError::Measure { path: path.into(), source })
}

/// Whether others may have the device open through us too.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sharing {
    Exclusive,
    Shared,
}

fn open_device(path: &Path, sharing: Sharing) -> Result<OpenedDevice, DiskError> {
    let failed = |source: io::Error| match source.raw_os_error() {
        Some(libc::EBUSY) => DiskError::Busy { path: path.into() },
        _ => DiskError::Open { path: path.into(), source },
    };
    // O_EXCL without O_CREAT: on a block device, fail if it is mounted or claimed; else no effect.
    let exclusive = if sharing == Sharing::Exclusive && is_block(path) { libc::O_EXCL } else { 0 };
    let open = |direct: i32| {
        let flags = libc::O_CLOEXEC | exclusive | direct;
        OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)
    };
    let file = match open(libc::O_DIRECT) {
        // Some file systems have no direct I/O; there the page cache and fdatasync do.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => open(0),
        other => other,
    }
    .map_err(failed)?;
    let kind = kind_of(&file, path)?;
    if kind == DeviceKind::File {
        let lock = match sharing {
            Sharing::Exclusive => FlockOperation::NonBlockingLockExclusive,
            Sharing::Shared => FlockOperation::NonBlockingLockShared,
        };
        rustix::fs::flock(&file, lock).map_err(|_| DiskError::Busy { path: path.into() })?;
    }
    let facts = measure(&file, kind).map_err(|source| DiskError::Measure { path: path.into(), source })?;
    let inline = kind == DeviceKind::File && is_memory_backed(&file);
    Ok(OpenedDevice { file: Arc::new(file), kind, inline, facts })
}

fn is_block(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.file_type().is_block_device())
}

fn kind_of(file: &File, path: &Path) -> Result<DeviceKind, DiskError> {
    let meta =
        file.metadata().map_err(|source| DiskError::Measure { path: path.into(), source })?.file_type();
    if meta.is_block_device() {
        Ok(DeviceKind::Block)
    } else if meta.is_file() {
        Ok(DeviceKind::File)
    } else {
        Err(DiskError::Kind { path: path.into() })
    }
}

/// tmpfs, ramfs and huge pages: the data is memory, and a ring would only hand it to a worker.
fn is_memory_backed(file: &File) -> bool {
    const TMPFS: u64 = 0x0102_1994;
    const RAMFS: u64 = 0x8584_58f6;
    const HUGETLBFS: u64 = 0x9584_58f6;
    rustix::fs::fstatfs(file).is_ok_and(|fs| matches!(fs.f_type as u64, TMPFS | RAMFS | HUGETLBFS))
}

fn measure(file: &File, kind: DeviceKind) -> io::Result<DeviceFacts> {
    match kind {
        DeviceKind::Block => measure_block(file),
        DeviceKind::File => measure_file(file),
    }
}

fn measure_block(file: &File) -> io::Result<DeviceFacts> {
    let bytes = rustix::fs::seek(file, SeekFrom::End(0))?;
    let number = file.metadata()?.rdev();
    let queue = queue_directory(number);
    let limit = |name: &str| {
        let text = std::fs::read_to_string(queue.as_ref()?.join(name)).ok()?;
        text.trim().parse::<u64>().ok()
    };
    let small = |name: &str| limit(name).and_then(|value| u32::try_from(value).ok()).unwrap_or(0);
    let max_kib = limit("max_hw_sectors_kb").unwrap_or(0);
    Ok(DeviceFacts {
        bytes,
        logical_block_bytes: rustix::fs::ioctl_blksszget(file)?,
        physical_block_bytes: rustix::fs::ioctl_blkpbszget(file)?,
        io_min_bytes: small("minimum_io_size"),
        io_opt_bytes: small("optimal_io_size"),
        max_io_bytes: match u32::try_from(max_kib.saturating_mul(1024)) {
            Ok(0) | Err(_) => DEFAULT_MAX_IO_BYTES,
            Ok(limit) => limit,
        },
        discards: limit("discard_max_bytes").is_some_and(|max| max > 0),
    })
}

/// The device's request queue in sysfs; a partition has that of its disk.
fn queue_directory(rdev: u64) -> Option<PathBuf> {
    let device = PathBuf::from(format!("/sys/dev/block/{}:{}", libc::major(rdev), libc::minor(rdev)));
    let own = device.join("queue");
    if own.is_dir() {
        return Some(own);
    }
    let parent = std::fs::canonicalize(&device).ok()?.parent()?.join("queue");
    parent.is_dir().then_some(parent)
}

fn measure_file(file: &File) -> io::Result<DeviceFacts> {
    let meta = file.metadata()?;
    let bytes = meta.len() - meta.len() % SECTOR_BYTES;
    let logical = direct_io_alignment(file).unwrap_or(SECTOR_BYTES as u32);
    Ok(DeviceFacts {
        bytes,
        logical_block_bytes: logical,
        physical_block_bytes: logical.max(u32::try_from(meta.blksize()).unwrap_or(0).clamp(512, 4096)),
        io_min_bytes: 0,
        io_opt_bytes: 0,
        max_io_bytes: DEFAULT_MAX_IO_BYTES,
        discards: punches_holes(file, meta.len()),
    })
}

/// The alignment that direct I/O on this file needs, if the file system tells.
fn direct_io_alignment(file: &File) -> Option<u32> {
    let facts = rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN).ok()?;
    let told = facts.stx_mask & StatxFlags::DIOALIGN.bits() != 0;
    // A block device has 512 or 4096 (S-units); tmpfs, which does not care, may say a page or 1.
    let align = facts.stx_dio_offset_align;
    (told && align > SECTOR_BYTES as u32 && align <= 4096 && !is_memory_backed(file)).then_some(align)
}

/// Whether the file system can give space back. The attempt is behind the end: it changes nothing.
fn punches_holes(file: &File, end: u64) -> bool {
    let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(file.as_fd(), mode, end.next_multiple_of(4096), 4096).is_ok()
}

impl OpenedDevice {
    pub(super) fn raw_fd(&self) -> i32 {
        self.file.as_raw_fd()
    }
}

/// Assumed where the kernel does not say: what one DRBD request has at most.
const DEFAULT_MAX_IO_BYTES: u32 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn file_of(bytes: u64) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(bytes).unwrap();
        file
    }

    fn place(path: &Path) -> DiskPlace {
        DiskPlace { data: path.into(), meta: None, place: MetaPlace::Internal }
    }

    #[test]
    fn a_regular_file_is_measured_in_whole_sectors() {
        let file = file_of((1 << 20) + 700);
        let disk = open(&place(file.path())).unwrap();
        assert_eq!(disk.facts.data_bytes, (1 << 20) + 512);
        assert_eq!(disk.facts.meta_bytes, disk.facts.data_bytes);
        assert!(!disk.facts.separate_meta);
        assert_eq!(probe(file.path()).unwrap(), disk.data.facts);
        assert_eq!(file.as_file().metadata().unwrap().len(), (1 << 20) + 700, "probing changed the file");
    }

    #[test]
    fn a_disk_cannot_be_opened_twice_and_a_probe_does_not_care() {
        let file = file_of(1 << 20);
        let first = open(&place(file.path())).unwrap();
        assert!(matches!(open(&place(file.path())), Err(DiskError::Busy { .. })));
        assert!(probe(file.path()).is_ok());
        drop(first);
        assert!(open(&place(file.path())).is_ok());
    }

    #[test]
    fn a_disk_that_is_let_go_of_a_moment_later_is_waited_for() {
        let file = file_of(1 << 20);
        let first = open(&place(file.path())).unwrap();
        let (path, (begun, waits)) = (file.path().to_owned(), std::sync::mpsc::channel());
        let second = std::thread::spawn(move || {
            take_patiently(
                BUSY_PATIENCE,
                || {
                    let opened = open_device(&path, Sharing::Exclusive);
                    let _ = begun.send(opened.is_err());
                    opened
                },
                |error| matches!(error, DiskError::Busy { .. }),
            )
        });
        assert!(waits.recv().unwrap(), "the first attempt finds it in use");
        drop(first);
        assert!(second.join().unwrap().is_ok());
    }

    #[test]
    fn numbered_slots_share_their_metadata_device() {
        let (data, more, meta) = (file_of(1 << 20), file_of(1 << 20), file_of(256 << 20));
        let indexed = |data: &Path, slot| DiskPlace {
            data: data.into(),
            meta: Some(meta.path().into()),
            place: MetaPlace::Indexed(slot),
        };
        let first = open(&indexed(data.path(), 0)).unwrap();
        let second = open(&indexed(more.path(), 1)).unwrap();
        assert!(first.facts.separate_meta && second.facts.meta_bytes == 256 << 20);
        let alone = DiskPlace { place: MetaPlace::FlexExternal, ..indexed(file_of(1 << 20).path(), 0) };
        assert!(open(&alone).is_err());
    }

    #[test]
    fn what_is_no_disk_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("missing");
        assert!(open(&place(&missing)).unwrap_err().to_string().contains("missing"));
        assert!(matches!(open(&place(Path::new("/dev/null"))), Err(DiskError::Kind { .. })));
        assert!(matches!(probe(directory.path()), Err(DiskError::Kind { .. })));
    }
}
