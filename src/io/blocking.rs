//! Disk operations by plain system calls: in line on memory-backed files, and on worker threads.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::FallocateFlags;
use rustix::io::{Errno, ReadWriteFlags};

use super::disk::DeviceKind;
use crate::buffer::{PAGE_BYTES, zeroed_pages};
use crate::node::input::DiskFault;
use zerocopy::IntoBytes;

/// Fills all of `into` from `offset` on.
pub(super) fn read(fd: BorrowedFd<'_>, into: &mut [u8], offset: u64) -> Result<(), DiskFault> {
    let mut done = 0;
    while done < into.len() {
        let flags = ReadWriteFlags::empty();
        let rest = &mut [IoSliceMut::new(&mut into[done..])];
        match rustix::io::preadv2(fd, rest, offset + done as u64, flags) {
            Ok(0) => return Err(DiskFault::Short),
            Ok(count) => done += count,
            Err(Errno::INTR) => {}
            Err(error) => return Err(fault(error)),
        }
    }
    Ok(())
}

/// Writes all of `data` from `offset` on; onto stable storage if `fua`.
pub(super) fn write(fd: BorrowedFd<'_>, data: &[u8], offset: u64, fua: bool) -> Result<(), DiskFault> {
    let flags = if fua { ReadWriteFlags::DSYNC } else { ReadWriteFlags::empty() };
    let mut done = 0;
    while done < data.len() {
        match rustix::io::pwritev2(fd, &[IoSlice::new(&data[done..])], offset + done as u64, flags) {
            Ok(0) => return Err(DiskFault::Short),
            Ok(count) => done += count,
            Err(Errno::INTR) => {}
            Err(error) => return Err(fault(error)),
        }
    }
    Ok(())
}

/// Brings what was written to stable storage.
pub(super) fn sync(fd: BorrowedFd<'_>) -> Result<(), DiskFault> {
    rustix::fs::fdatasync(fd).map_err(fault)
}

/// Gives space back.
pub(super) fn discard(fd: BorrowedFd<'_>, kind: DeviceKind, offset: u64, len: u64) -> Result<(), DiskFault> {
    match kind {
        DeviceKind::File => punch_hole(fd, offset, len),
        DeviceKind::Block => block_ioctl(fd, BLKDISCARD, offset, len),
    }
}

/// Makes a run of bytes read as zeroes, the fastest way the device has.
pub(super) fn zero(
    fd: BorrowedFd<'_>,
    kind: DeviceKind,
    offset: u64,
    len: u64,
    unmap: bool,
) -> Result<(), DiskFault> {
    // A hole reads as zeroes, in a file and through fallocate on a block device alike.
    if unmap && punch_hole(fd, offset, len).is_ok() {
        return Ok(());
    }
    let fast = match kind {
        DeviceKind::File => {
            let mode = FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE;
            rustix::fs::fallocate(fd, mode, offset, len).map_err(fault)
        }
        DeviceKind::Block => block_ioctl(fd, BLKZEROOUT, offset, len),
    };
    match fast {
        Err(DiskFault::Unsupported) => write_zeroes(fd, offset, len),
        Ok(()) | Err(DiskFault::Os(_) | DiskFault::Short | DiskFault::Gone) => fast,
    }
}

fn punch_hole(fd: BorrowedFd<'_>, offset: u64, len: u64) -> Result<(), DiskFault> {
    let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(fd, mode, offset, len).map_err(fault)
}

fn write_zeroes(fd: BorrowedFd<'_>, offset: u64, len: u64) -> Result<(), DiskFault> {
    let pages = zeroed_pages(ZERO_CHUNK_BYTES / PAGE_BYTES);
    let zeroes = pages.as_slice().as_bytes();
    let mut done = 0;
    while done < len {
        let count = (len - done).min(zeroes.len() as u64);
        write(fd, &zeroes[..count as usize], offset + done, false)?;
        done += count;
    }
    Ok(())
}

fn block_ioctl(fd: BorrowedFd<'_>, request: u64, offset: u64, len: u64) -> Result<(), DiskFault> {
    let range = [offset, len];
    // SAFETY: both requests read two u64 from the pointer, which is valid for the call and not
    // kept; `fd` is open for the call.
    let answer = unsafe { libc::ioctl(fd.as_raw_fd(), request as libc::Ioctl, range.as_ptr()) };
    if answer == 0 {
        return Ok(());
    }
    let error = std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
    Err(fault(Errno::from_raw_os_error(error)))
}

/// What an error number means to the core.
pub(super) fn fault(error: Errno) -> DiskFault {
    match error {
        Errno::OPNOTSUPP | Errno::NOTTY | Errno::NOSYS => DiskFault::Unsupported,
        other => DiskFault::Os(other.raw_os_error()),
    }
}

/// `_IO(0x12, 119)` and `_IO(0x12, 127)` of the kernel's block interface.
const BLKDISCARD: u64 = 0x1277;
const BLKZEROOUT: u64 = 0x127f;
/// Zeroes written in one call where nothing faster exists.
const ZERO_CHUNK_BYTES: usize = 1 << 20;
