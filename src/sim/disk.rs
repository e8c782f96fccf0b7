//! Disks in memory. What an operation does happens at the moment it completes.

use std::cell::{Ref, RefCell, RefMut};
use std::rc::Rc;

use super::store::{Faults, Store};
use crate::buffer::Buf;
use crate::io::Op;
use crate::node::command::{DiskFacts, MetaPlace};
use crate::node::input::DiskFault;
use crate::units::Moment;

/// A disk: a data device, and perhaps one of its own for the metadata. Clones are the same disk: it
/// outlives a crash of its machine.
#[derive(Clone, Debug)]
pub struct SimDisk {
    data: Device,
    meta: Option<Device>,
    name: Rc<str>,
}

/// A device of a disk. Clones are the same device.
#[derive(Clone, Debug)]
pub struct Device(Rc<RefCell<Store>>);

impl SimDisk {
    /// A disk of zeroes with internal metadata.
    #[must_use]
    pub fn zeroed(name: &str, len: usize) -> Self {
        Self { data: Device::zeroed(len as u64), meta: None, name: name.into() }
    }

    /// A disk of zeroes with a device of so many bytes for its metadata.
    #[must_use]
    pub fn with_meta(name: &str, len: u64, meta_len: u64) -> Self {
        Self { data: Device::zeroed(len), meta: Some(Device::zeroed(meta_len)), name: name.into() }
    }

    /// Reads from the data device, as a program does while no resource uses the disk.
    ///
    /// # Errors
    /// If it ends before that.
    pub fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), DiskFault> {
        self.data.read_at(offset, into)
    }

    /// Writes to the data device, as a program does while no resource uses the disk.
    ///
    /// # Errors
    /// If it ends before that.
    pub fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), DiskFault> {
        self.data.write_at(offset, data)
    }

    /// The size of the data device in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.data.len() as usize
    }

    /// Whether it has no room at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// The device with the data.
    #[must_use]
    pub const fn data(&self) -> &Device {
        &self.data
    }

    /// The device with the metadata; that of the data if it is internal.
    #[must_use]
    pub fn meta(&self) -> &Device {
        self.meta.as_ref().unwrap_or(&self.data)
    }

    /// The devices, each once.
    pub fn devices(&self) -> impl Iterator<Item = &Device> {
        std::iter::once(&self.data).chain(&self.meta)
    }

    /// What is known about it before it is attached.
    #[must_use]
    pub fn facts(&self) -> DiskFacts {
        DiskFacts {
            data_bytes: self.data.len(),
            meta_bytes: self.meta().len(),
            meta: if self.meta.is_some() { MetaPlace::FlexExternal } else { MetaPlace::Internal },
            logical_block_bytes: 512,
            physical_block_bytes: 4096,
            io_min_bytes: 0,
            io_opt_bytes: 0,
            max_io_bytes: 1 << 20,
            discards: true,
            separate_meta: self.meta.is_some(),
            path: self.name.to_string(),
        }
    }
}

impl Device {
    fn zeroed(len: u64) -> Self {
        Self(Rc::new(RefCell::new(Store::zeroed(len))))
    }

    /// What it holds.
    #[must_use]
    pub fn store(&self) -> Ref<'_, Store> {
        self.0.borrow()
    }

    /// What it holds, to be changed.
    #[must_use]
    pub fn store_mut(&self) -> RefMut<'_, Store> {
        self.0.borrow_mut()
    }

    /// Its size in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.store().len()
    }

    /// Whether it has no room at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether both are the same device.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }

    /// Reads, as a program does while no resource uses the disk.
    ///
    /// # Errors
    /// If it ends before that.
    pub fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), DiskFault> {
        self.store().read_at(offset, into)
    }

    /// Writes, as a program does while no resource uses the disk.
    ///
    /// # Errors
    /// If it ends before that.
    pub fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), DiskFault> {
        self.store_mut().write_stable(offset, data)
    }

    /// From now on this goes wrong.
    pub fn set_faults(&self, faults: Faults) {
        self.store_mut().faults = faults;
    }

    /// Whether a flush that failed took something with it since this was asked last.
    pub(super) fn take_loss(&self) -> bool {
        self.store_mut().take_loss()
    }

    /// What begins from now on ends no earlier than that; what is under way ends as ever.
    pub fn stall(&self, until: Moment) {
        self.store_mut().stalled_until = until;
    }

    /// What a flush that begins now is about.
    pub(super) fn begin(&self, op: &Op) -> u64 {
        match op {
            Op::Sync => self.store().last_write(),
            Op::Read { .. } | Op::Write { .. } | Op::Discard { .. } | Op::Zero { .. } => 0,
        }
    }

    /// Carries an operation out; `begun` is what [`Device::begin`] said of it.
    pub(super) fn perform(&self, op: Op, begun: u64) -> Result<Option<Buf>, DiskFault> {
        let mut store = self.store_mut();
        if store.faults.strikes(&op) {
            if matches!(op, Op::Sync) {
                store.flush_failed(begun);
            }
            return Err(DiskFault::Os(libc::EIO));
        }
        match op {
            Op::Read { offset, mut into } => {
                let buf = into.bytes_mut().ok_or(DiskFault::Gone)?;
                store.read_at(offset, buf)?;
                Ok(Some(into))
            }
            Op::Write { offset, data, fua } => {
                let number = store.write_at(offset, data.bytes())?;
                if fua {
                    store.written_through(offset, data.len(), number);
                }
                Ok(None)
            }
            Op::Sync => {
                if !store.faults.idle_flush {
                    store.flushed(begun);
                }
                Ok(None)
            }
            Op::Discard { offset, len } | Op::Zero { offset, len, unmap: _ } => {
                let len = usize::try_from(len).map_err(|_| DiskFault::Short)?;
                store.write_at(offset, &vec![0; len])?;
                Ok(None)
            }
        }
    }

    /// The power fails while this operation is under way: some sectors may have been written.
    pub(super) fn tear(&self, op: &Op, random: &mut super::random::Random) {
        let Op::Write { offset, data, .. } = op else { return };
        let mut store = self.store_mut();
        for (at, sector) in (*offset..).step_by(512).zip(data.bytes().chunks_exact(512)) {
            if random.below(2) == 0 {
                let _ = store.write_at(at, sector);
            }
        }
    }
}

impl Faults {
    /// Whether an operation fails; that is counted.
    fn strikes(&mut self, op: &Op) -> bool {
        let hit = match op {
            Op::Read { .. } => self.read,
            Op::Write { .. } => self.write,
            Op::Sync => self.flush,
            Op::Discard { .. } | Op::Zero { .. } => self.discard,
        };
        if hit && self.times > 0 {
            self.times -= 1;
            if self.times == 0 {
                *self = Self::default();
            }
        }
        hit
    }
}

/// Bytes an operation moves.
pub(super) fn bytes_of(op: &Op) -> u64 {
    match op {
        Op::Read { into: buf, .. } | Op::Write { data: buf, .. } => buf.len() as u64,
        Op::Sync | Op::Discard { .. } | Op::Zero { .. } => 0,
    }
}
