//! Disks in memory. What an operation does happens at the moment it completes.

use std::cell::RefCell;
use std::rc::Rc;

use crate::buffer::Buf;
use crate::io::Op;
use crate::node::command::{DiskFacts, MetaPlace};
use crate::node::input::DiskFault;

/// A disk with internal metadata. Clones are the same disk: it outlives a crash of its machine.
#[derive(Clone, Debug)]
pub struct SimDisk {
    bytes: Rc<RefCell<Vec<u8>>>,
    name: Rc<str>,
}

impl SimDisk {
    /// A disk of zeroes.
    #[must_use]
    pub fn zeroed(name: &str, len: usize) -> Self {
        Self { bytes: Rc::new(RefCell::new(vec![0; len])), name: name.into() }
    }

    /// Its size in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.borrow().len()
    }

    /// Whether it has no room at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is known about it before it is attached.
    #[must_use]
    pub fn facts(&self) -> DiskFacts {
        let bytes = self.len() as u64;
        DiskFacts {
            data_bytes: bytes,
            meta_bytes: bytes,
            meta: MetaPlace::Internal,
            logical_block_bytes: 512,
            physical_block_bytes: 4096,
            io_min_bytes: 0,
            io_opt_bytes: 0,
            max_io_bytes: 1 << 20,
            discards: true,
            separate_meta: false,
            path: self.name.to_string(),
        }
    }

    /// Reads, as a program does while no resource uses the disk.
    ///
    /// # Errors
    /// If it ends before that.
    pub fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), DiskFault> {
        let bytes = self.bytes.borrow();
        into.copy_from_slice(bytes.get(range(offset, into.len() as u64)).ok_or(DiskFault::Short)?);
        Ok(())
    }

    /// Writes, as a program does while no resource uses the disk.
    ///
    /// # Errors
    /// If it ends before that.
    pub fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), DiskFault> {
        let mut bytes = self.bytes.borrow_mut();
        let target = bytes.get_mut(range(offset, data.len() as u64)).ok_or(DiskFault::Short)?;
        target.copy_from_slice(data);
        Ok(())
    }

    /// Carries an operation out.
    pub(super) fn perform(&self, op: Op) -> Result<Option<Buf>, DiskFault> {
        match op {
            Op::Read { offset, mut into } => {
                let buf = into.bytes_mut().ok_or(DiskFault::Gone)?;
                self.read_at(offset, buf)?;
                Ok(Some(into))
            }
            Op::Write { offset, data, fua: _ } => self.write_at(offset, data.bytes()).map(|()| None),
            Op::Sync => Ok(None),
            Op::Discard { offset, len } | Op::Zero { offset, len, unmap: _ } => {
                let mut bytes = self.bytes.borrow_mut();
                bytes.get_mut(range(offset, len)).ok_or(DiskFault::Short)?.fill(0);
                Ok(None)
            }
        }
    }
}

/// Bytes an operation moves.
pub(super) fn bytes_of(op: &Op) -> u64 {
    match op {
        Op::Read { into: buf, .. } | Op::Write { data: buf, .. } => buf.len() as u64,
        Op::Sync | Op::Discard { .. } | Op::Zero { .. } => 0,
    }
}

fn range(offset: u64, len: u64) -> std::ops::Range<usize> {
    let end = offset.saturating_add(len);
    usize::try_from(offset).unwrap_or(usize::MAX)..usize::try_from(end).unwrap_or(usize::MAX)
}
