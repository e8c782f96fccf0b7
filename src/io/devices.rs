//! Open devices as both real implementations see them.

use std::os::fd::{AsFd, RawFd};

use super::disk::{OpenedDevice, OpenedDisk};
use super::slots::Slots;
use super::{DeviceKey, Devices, Op, blocking};
use crate::buffer::Buf;
use crate::node::input::DiskFault;

/// All devices of one loop.
#[derive(Debug, Default)]
pub(super) struct Table {
    devices: Slots<Device>,
}

#[derive(Debug)]
struct Device {
    opened: OpenedDevice,
    under_way: usize,
    closing: bool,
}

impl Table {
    pub(super) fn attach(&mut self, disk: OpenedDisk) -> Devices {
        let data = self.add(disk.data);
        Devices { data, meta: disk.meta.map_or(data, |meta| self.add(meta)) }
    }

    fn add(&mut self, opened: OpenedDevice) -> DeviceKey {
        DeviceKey(self.devices.insert(Device { opened, under_way: 0, closing: false }))
    }

    pub(super) fn detach(&mut self, devices: Devices) {
        for key in [devices.data, devices.meta] {
            if let Some(device) = self.devices.get_mut(key.0) {
                device.closing = true;
            }
            self.release(key);
        }
    }

    /// An operation begins. Returns the device, unless its user closed it.
    pub(super) fn begin(&mut self, key: DeviceKey) -> Option<&OpenedDevice> {
        let device = self.devices.get_mut(key.0).filter(|device| !device.closing)?;
        device.under_way += 1;
        Some(&device.opened)
    }

    /// An operation ended.
    pub(super) fn end(&mut self, key: DeviceKey) {
        if let Some(device) = self.devices.get_mut(key.0) {
            device.under_way -= 1;
        }
        self.release(key);
    }

    fn release(&mut self, key: DeviceKey) {
        if self.devices.get(key.0).is_some_and(|device| device.closing && device.under_way == 0) {
            self.devices.remove(key.0);
        }
    }

    /// The descriptor of a device on which an operation is under way.
    pub(super) fn raw_fd(&self, key: DeviceKey) -> Option<RawFd> {
        self.devices.get(key.0).map(|device| device.opened.raw_fd())
    }

    /// Carries an operation out here and now, on a device where [`Table::begin`] began it.
    pub(super) fn perform(&self, key: DeviceKey, op: Op) -> Result<Option<Buf>, DiskFault> {
        let device = &self.devices.get(key.0).ok_or(DiskFault::Gone)?.opened;
        let fd = device.file.as_fd();
        match op {
            Op::Read { offset, mut into } => {
                let bytes = into.bytes_mut().expect("Io::submit asks for a single owner");
                blocking::read(fd, bytes, offset).map(|()| Some(into))
            }
            Op::Write { offset, data, fua } => blocking::write(fd, data.bytes(), offset, fua).map(|()| None),
            Op::Sync => blocking::sync(fd).map(|()| None),
            Op::Discard { offset, len } => blocking::discard(fd, device.kind, offset, len).map(|()| None),
            Op::Zero { offset, len, unmap } => {
                blocking::zero(fd, device.kind, offset, len, unmap).map(|()| None)
            }
        }
    }
}
