//! Making extents hot before a write may start (D7 to D9, D90).

use super::Node;
use super::activity_log::Acquire;
use super::effect::{Device, DiskOp};
use super::input::DiskFault;
use super::request::extent_of;
use super::tickets::{ActivityStep, Purpose};
use super::volume::Admitted;
use crate::buffer::Buf;
use crate::units::{Extent, VolumeId};

/// A transaction under way.
#[derive(Debug)]
pub(super) struct Transaction {
    /// Page writes and flushes that must end before the block is written.
    pub(super) outstanding: u32,
    /// The block and its place, until it is written.
    pub(super) block: Option<(u64, Buf)>,
    /// A flush comes between pages and block.
    pub(super) flush: bool,
    pub(super) failed: bool,
}

impl Node {
    /// A write that holds its range: routes it once its extents are in the durable log.
    pub(super) fn activate(&mut self, volume: VolumeId, admitted: Admitted) {
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        let Some(extent) = extent_of(&admitted.parked.request) else { return };
        if v.marks.al_suspended || v.usable_disk().is_none() {
            return self.route_write(volume, admitted, false);
        }
        let (first, last) = extent.al_extents();
        let Some(disk) = v.disk.as_deref_mut() else { return };
        if v.al_waiting.is_empty() && disk.al.probe(first, last) {
            return self.route_write(volume, admitted, true);
        }
        v.al_waiting.push_back(admitted);
        self.run_activity(volume);
    }

    /// Takes as many waiting writes into one transaction as it holds (D8).
    fn run_activity(&mut self, volume: VolumeId) {
        let mut hot = Vec::new();
        {
            let Some(v) = self.volumes.get_mut(&volume) else { return };
            let Some(disk) = v.disk.as_deref_mut() else { return };
            if disk.transaction.is_some() {
                return;
            }
            while let Some(admitted) = v.al_waiting.front() {
                let Some(extent) = extent_of(&admitted.parked.request) else { break };
                let (first, last) = extent.al_extents();
                let acquired = disk.al.acquire(first, last);
                let Some(admitted) = (match acquired {
                    Acquire::Full => None,
                    Acquire::Hot | Acquire::Pending => v.al_waiting.pop_front(),
                }) else {
                    break;
                };
                if acquired == Acquire::Hot { hot.push(admitted) } else { v.al_commit.push(admitted) }
            }
        }
        self.begin_transaction(volume);
        for admitted in hot {
            self.route_write(volume, admitted, true);
        }
    }

    /// Writes a transaction, if extents are pending (D90): first the bitmap pages of those that
    /// leave, then, behind a flush, the block.
    fn begin_transaction(&mut self, volume: VolumeId) {
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        let Some(disk) = v.disk.as_deref_mut() else { return };
        if !disk.al.has_pending() {
            return;
        }
        if !disk.options.al_updates {
            disk.al.commit();
            return self.transaction_done(volume, true);
        }
        let transaction = disk.al.begin_transaction();
        let base = disk.layout.bitmap_byte();
        let pages = disk.bitmap.dirty_pages_of(&transaction.evicted);
        let mut writes = Vec::with_capacity(pages.len());
        for page in pages {
            writes.push((base + page as u64 * 4096, Buf::copied(&disk.bitmap.page_bytes(page))));
            disk.bitmap.mark_clean(page);
        }
        let offset = disk.layout.al_block_byte(transaction.position);
        // Data of the extents that leave must be durable as well (T2).
        let flush = disk.options.md_flushes && !transaction.evicted.is_empty();
        disk.transaction = Some(Transaction {
            outstanding: writes.len() as u32,
            block: Some((offset, Buf::copied(&transaction.block))),
            flush,
            failed: false,
        });
        v.counters.al += 1;
        for (offset, data) in writes {
            let op = DiskOp::Write { offset, data, fua: false };
            self.start_disk(volume, Device::Meta, op, Purpose::Activity { step: ActivityStep::Page });
        }
        self.continue_transaction(volume);
    }

    /// Goes on with the next step once all operations of the last have ended.
    fn continue_transaction(&mut self, volume: VolumeId) {
        let Some(disk) = self.volumes.get_mut(&volume).and_then(|v| v.disk.as_deref_mut()) else { return };
        let Some(transaction) = disk.transaction.as_mut() else { return };
        if transaction.outstanding > 0 {
            return;
        }
        if transaction.failed {
            disk.transaction = None;
            disk.al.commit();
            return self.transaction_done(volume, false);
        }
        if std::mem::take(&mut transaction.flush) {
            let separate = disk.facts.separate_meta && disk.unflushed;
            transaction.outstanding = 1 + u32::from(separate);
            disk.unflushed = false;
            let purpose = Purpose::Activity { step: ActivityStep::Flush };
            self.start_disk(volume, Device::Meta, DiskOp::Flush, purpose);
            if separate {
                self.start_disk(volume, Device::Data, DiskOp::Flush, purpose);
            }
            return;
        }
        if let Some((offset, data)) = transaction.block.take() {
            transaction.outstanding = 1;
            let op = DiskOp::Write { offset, data, fua: disk.options.md_flushes };
            let purpose = Purpose::Activity { step: ActivityStep::Block };
            return self.start_disk(volume, Device::Meta, op, purpose);
        }
        disk.transaction = None;
        disk.al.commit();
        self.transaction_done(volume, true);
    }

    /// A step of a transaction ended.
    pub(super) fn activity_done(
        &mut self,
        volume: VolumeId,
        _device: Device,
        step: ActivityStep,
        result: &Result<Option<Buf>, DiskFault>,
    ) {
        let Some(disk) = self.volumes.get_mut(&volume).and_then(|v| v.disk.as_deref_mut()) else { return };
        let unsupported_flush = step == ActivityStep::Flush && *result == Err(DiskFault::Unsupported);
        if let Some(transaction) = disk.transaction.as_mut() {
            transaction.outstanding -= 1;
            transaction.failed |= result.is_err() && !unsupported_flush;
        }
        if let Err(fault) = result
            && !unsupported_flush
        {
            self.meta_fault(volume, fault, "the activity log");
        }
        self.continue_transaction(volume);
    }

    /// The extents of the transaction are hot, or the disk is gone: the writes go on either way,
    /// and find the disk unusable if it is (D20).
    fn transaction_done(&mut self, volume: VolumeId, _ok: bool) {
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        for admitted in std::mem::take(&mut v.al_commit) {
            self.route_write(volume, admitted, true);
        }
        self.run_activity(volume);
    }

    /// A write is settled: its extents may cool (D36).
    pub(super) fn release_activity(&mut self, volume: VolumeId, extent: Extent) {
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        let Some(disk) = v.disk.as_deref_mut() else { return };
        let (first, last) = extent.al_extents();
        disk.al.put(first, last);
        if !v.al_waiting.is_empty() {
            self.run_activity(volume);
        }
    }

    /// The disk is going: writes that wait for its log go on without it (D82).
    pub(super) fn release_activity_waiters(&mut self, volume: VolumeId) {
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        for admitted in std::mem::take(&mut v.al_waiting) {
            self.route_write(volume, admitted, false);
        }
    }
}
