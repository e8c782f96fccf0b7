//! Metadata writes: superblock and bitmap, in the order that keeps a crash harmless (metadata.md
//! section 6).

use std::time::Duration;

use super::Node;
use super::effect::{Device, DiskOp};
use super::input::DiskFault;
use super::state::flags;
use super::tickets::{PageFor, Purpose};
use super::volume::LocalDisk;
use super::worker::Work;
use crate::buffer::{Buf, PAGE_BYTES};
use crate::units::{Sector, VolumeId};

/// A changed superblock is written after so long at the latest (M82).
const LAZY_WRITE: Duration = Duration::from_secs(5);

impl LocalDisk {
    /// Changes flags of the superblock.
    pub(super) fn set_flags(&mut self, word: u32) {
        let good = flags::CONSISTENT | flags::WAS_UP_TO_DATE;
        let word = if self.spoiled { word & !good } else { word };
        if self.superblock.flags.bits() != word {
            self.superblock.flags = crate::meta::superblock::MetaFlags::from_bits(word);
            self.dirty = true;
        }
    }

    /// The flag word.
    pub(super) const fn flags(&self) -> u32 {
        self.superblock.flags.bits()
    }
}

impl Node {
    /// The superblock of some volume changed: it is written within 5 s (M82).
    pub(super) fn mark_meta(&mut self, volume: VolumeId) {
        if let Some(disk) = self.volumes.get_mut(&volume).and_then(|v| v.disk.as_deref_mut()) {
            disk.dirty = true;
            let at = self.now.after(LAZY_WRITE);
            self.meta_deadline.get_or_insert(at);
        }
    }

    /// Queues the write of every changed superblock.
    pub(super) fn sync_all_meta(&mut self) {
        for volume in self.volume_ids() {
            if self.volumes.get(&volume).is_some_and(|v| v.disk.as_ref().is_some_and(|d| d.dirty)) {
                self.worker.push(Work::SyncMeta { volume });
            }
        }
    }

    /// Work: writes the superblock if it changed, everything written earlier durable first (M81). Without the Primary mark
    /// nobody looks at the activity log any more: the bits themselves are there before it goes (A11, A12, M87).
    pub(super) fn sync_meta(&mut self, volume: VolumeId) {
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        let end = v.end;
        let Some(disk) = v.disk.as_deref_mut() else { return };
        if !disk.dirty || disk.failed {
            return;
        }
        let is_primary = disk.flags() & flags::PRIMARY_IND != 0;
        if (disk.marked_primary && !is_primary) || disk.superblock.la_size != end {
            return self.worker.push_front([
                Work::WriteBitmap { volume, all: false },
                Work::BitsWritten { volume, end },
                Work::SyncMeta { volume },
            ]);
        }
        disk.dirty = false;
        disk.marked_primary = is_primary;
        disk.superblock.mark_attached();
        let block = Buf::copied(&disk.superblock.encode(&disk.layout));
        let offset = disk.layout.superblock_byte();
        let flush = disk.options.md_flushes;
        // It may take the Primary mark back, or say UpToDate: of data that is durable (T2, I34).
        let data = disk.facts.separate_meta && disk.needs_flush();
        // A flush of the device orders what was written before, then the block itself is durable.
        self.worker.push_front([Work::MetaBlock { volume, offset, block, fua: flush }]);
        if flush {
            self.start_work(volume, Device::Meta, DiskOp::Flush);
        }
        if data {
            self.start_work(volume, Device::Data, DiskOp::Flush);
        }
    }

    /// Work: the bits are written, and become durable before the superblock that goes by them: that has a new size (M48,
    /// M81), and would take blocks for good that never were compared; or no Primary mark any more.
    pub(super) fn bits_written(&mut self, volume: VolumeId, end: Sector) {
        if let Some(disk) = self.volumes.get_mut(&volume).and_then(|v| v.disk.as_deref_mut()) {
            disk.superblock.la_size = end;
            disk.marked_primary = false;
        }
    }

    /// Work: one durable block of metadata.
    pub(super) fn meta_block(&mut self, volume: VolumeId, offset: u64, data: Buf, fua: bool) {
        if self.volumes.get(&volume).is_some_and(|v| v.disk.as_ref().is_some_and(|d| !d.failed)) {
            self.start_work(volume, Device::Meta, DiskOp::Write { offset, data, fua });
        }
    }

    /// Work: writes the pages of the bitmap that changed, or all. They become durable with the
    /// flush of the next superblock or log write (M81). Returns the piece again while a page is being
    /// written on behalf of the activity log.
    pub(super) fn write_bitmap(&mut self, volume: VolumeId, all: bool) -> Option<Work> {
        let disk = self.volumes.get_mut(&volume)?.disk.as_deref_mut()?;
        if disk.failed {
            return None;
        }
        if all {
            (0..disk.bitmap.pages()).for_each(|page| disk.bitmap.force_write(page));
        }
        let pages: Vec<u64> = disk.bitmap.dirty_pages().collect();
        let mut busy = disk.bitmap.writes_any();
        for page in pages {
            busy |= !self.write_page(volume, page, PageFor::Work);
        }
        busy.then_some(Work::WriteBitmap { volume, all: false })
    }

    /// Starts to write a page of the bitmap; `false` while an earlier write of it is under way.
    pub(super) fn write_page(&mut self, volume: VolumeId, page: u64, user: PageFor) -> bool {
        let Some(v) = self.volumes.get_mut(&volume) else { return true };
        let Some(disk) = v.disk.as_deref_mut() else { return true };
        let mut data = Buf::zeroed(PAGE_BYTES);
        let Some(bytes) = data.bytes_mut() else { return true };
        if !disk.bitmap.begin_write(page, bytes) {
            return false;
        }
        disk.shadow.add_to_page(page, bytes);
        v.counters.bm += 1;
        let offset = disk.layout.bitmap_byte() + page * PAGE_BYTES as u64;
        if user == PageFor::Work {
            self.worker.began();
        }
        let op = DiskOp::Write { offset, data, fua: false };
        self.start_disk(volume, Device::Meta, op, Purpose::Page { page, user });
        true
    }

    /// The write of a page ended.
    pub(super) fn page_done(
        &mut self,
        volume: VolumeId,
        page: u64,
        user: PageFor,
        result: &Result<Option<Buf>, DiskFault>,
    ) {
        if let Some(disk) = self.volumes.get_mut(&volume).and_then(|v| v.disk.as_deref_mut()) {
            disk.bitmap.end_write(page, result.is_ok());
        }
        if user == PageFor::Work {
            self.worker.ended();
        }
        if let Err(fault) = result {
            self.meta_fault(volume, fault, "the bitmap");
        }
        self.transaction_step(volume, user == PageFor::ActivityLog, result.is_ok());
    }

    /// Work: flushes the data device if it was written to since the last flush (T2, T37).
    pub(super) fn flush_data(&mut self, volume: VolumeId) {
        let Some(disk) = self.volumes.get_mut(&volume).and_then(|v| v.disk.as_deref_mut()) else { return };
        if disk.needs_flush() && !disk.failed {
            self.start_work(volume, Device::Data, DiskOp::Flush);
        }
    }

    /// Work: sets all bits so that a crash in the middle still means a full sync (S61, M91).
    pub(super) fn set_all_bits(&mut self, volume: VolumeId) {
        let Some(disk) = self.volumes.get_mut(&volume).and_then(|v| v.usable_or_negotiating()) else {
            return;
        };
        disk.set_flags(disk.flags() | flags::FULL_SYNC);
        self.worker.push_front([
            Work::SyncMeta { volume },
            Work::SetBitsInCore { volume },
            Work::WriteBitmap { volume, all: true },
            Work::ClearFullSync { volume },
            Work::SyncMeta { volume },
        ]);
    }

    /// Work: all bits in memory.
    pub(super) fn set_bits_in_core(&mut self, volume: VolumeId) {
        if let Some(disk) = self.volumes.get_mut(&volume).and_then(|v| v.disk.as_deref_mut()) {
            disk.bitmap.set_all();
        }
    }

    /// Work: the bitmap on disk is to be trusted again.
    pub(super) fn clear_full_sync(&mut self, volume: VolumeId) {
        if let Some(disk) = self.volumes.get_mut(&volume).and_then(|v| v.disk.as_deref_mut()) {
            disk.set_flags(disk.flags() & !flags::FULL_SYNC);
        }
    }
}
