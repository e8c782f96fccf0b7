//! Making extents hot before a write may start (D7 to D9, D90).

use super::Node;
use super::activity_log::Reserved;
use super::effect::{Device, DiskOp};
use super::input::DiskFault;
use super::request::extent_of;
use super::tickets::{ActivityStep, PageFor, Purpose};
use super::volume::Admitted;
use crate::buffer::Buf;
use crate::units::{Extent, VolumeId};

/// Activity-log extents whose bits share a page of the bitmap.
const EXTENTS_A_PAGE: u64 = 32;

/// A transaction under way.
#[derive(Debug)]
pub(super) struct Transaction {
    /// Operations that must end before the next step.
    pub(super) outstanding: u32,
    /// Bitmap pages of the extents that leave.
    pub(super) pages: Vec<u64>,
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
        if v.marks.al_suspended || !v.has_usable_disk() {
            return self.route_write(volume, admitted, false);
        }
        let (first, last) = extent.al_extents();
        let Some(disk) = v.disk.as_deref_mut() else { return };
        if first == last && disk.al.probe(first) {
            return self.route_write(volume, admitted, true);
        }
        v.al_waiting.push_back(admitted);
        self.run_activity(volume);
    }

    /// Takes as many waiting writes into one transaction as it holds (D8).
    fn run_activity(&mut self, volume: VolumeId) {
        let mut hot = Vec::new();
        let mut starving = false;
        {
            let Some(v) = self.volumes.get_mut(&volume) else { return };
            let Some(disk) = v.disk.as_deref_mut() else { return };
            if disk.transaction.is_some() {
                return;
            }
            while let Some(admitted) = v.al_waiting.front() {
                let Some(extent) = extent_of(&admitted.parked.request) else { break };
                let (first, last) = extent.al_extents();
                let queue = match disk.al.reserve(first, last) {
                    Reserved::Hot => &mut hot,
                    Reserved::Pending => &mut v.al_commit,
                    Reserved::WaitForCommit => break,
                    Reserved::WaitForSlots => {
                        starving = true;
                        break;
                    }
                    // More extents than a transaction holds: the front splits such requests.
                    Reserved::TooMany => {
                        v.al_refused.extend(v.al_waiting.pop_front());
                        continue;
                    }
                };
                queue.extend(v.al_waiting.pop_front());
            }
        }
        if starving {
            self.hurry_barriers(volume); // Extents are in use until then (D36).
        }
        self.begin_transaction(volume);
        for admitted in hot {
            self.route_write(volume, admitted, true);
        }
        let refused = self.volumes.get_mut(&volume).map(|v| std::mem::take(&mut v.al_refused));
        for admitted in refused.unwrap_or_default() {
            self.refuse_write(volume, admitted);
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
            disk.al.commit_unlogged();
            return self.transaction_done(volume);
        }
        let Some(transaction) = disk.al.begin_transaction() else { return };
        let offset = disk.layout.al_block_byte(transaction.position);
        let mut pages: Vec<u64> =
            transaction.evicted.iter().map(|e| u64::from(e.get()) / EXTENTS_A_PAGE).collect();
        pages.dedup();
        disk.transaction = Some(Transaction {
            outstanding: 0,
            // Data of the extents that leave must be durable as well (T2).
            flush: disk.options.md_flushes && !pages.is_empty(),
            pages,
            block: Some((offset, Buf::copied(&transaction.block[..]))),
            failed: false,
        });
        v.counters.al += 1;
        self.continue_transaction(volume);
    }

    /// Goes on with the next step once all operations of the last have ended. A disk that is given up keeps the
    /// log that it has: the bits of what leaves may not be set any more, and writes that wait find out that it
    /// is gone (D20).
    fn continue_transaction(&mut self, volume: VolumeId) {
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        let usable = v.has_usable_disk();
        let Some(disk) = v.disk.as_deref_mut() else { return };
        let separate = disk.facts.separate_meta && disk.needs_flush();
        let Some(transaction) = disk.transaction.as_mut() else { return };
        if transaction.outstanding > 0 {
            return;
        }
        let given_up = !usable && transaction.block.is_some();
        if transaction.failed || given_up {
            disk.transaction = None;
            disk.al.commit(false);
            return self.transaction_done(volume);
        }
        let unwritten: Vec<u64> =
            transaction.pages.iter().copied().filter(|page| !disk.bitmap.is_written(*page)).collect();
        if !unwritten.is_empty() {
            return self.write_leaving_pages(volume, &unwritten);
        }
        if std::mem::take(&mut transaction.flush) {
            transaction.outstanding = 1 + u32::from(separate);
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
        disk.al.commit(true);
        self.transaction_done(volume);
    }

    /// Bits of extents that leave the log must be on disk before (D90.3). A page that is being
    /// written already is waited for.
    fn write_leaving_pages(&mut self, volume: VolumeId, pages: &[u64]) {
        for page in pages {
            let started = self.write_page(volume, *page, PageFor::ActivityLog);
            if started
                && let Some(disk) = self.volumes.get_mut(&volume).and_then(|v| v.disk.as_deref_mut())
                && let Some(transaction) = disk.transaction.as_mut()
            {
                transaction.outstanding += 1;
            }
        }
    }

    /// A page was written: a transaction may have waited for it. `own`: on its behalf.
    pub(super) fn transaction_step(&mut self, volume: VolumeId, own: bool, ok: bool) {
        let disk = self.volumes.get_mut(&volume).and_then(|v| v.disk.as_deref_mut());
        let Some(transaction) = disk.and_then(|disk| disk.transaction.as_mut()) else { return };
        if own {
            transaction.outstanding -= 1;
            transaction.failed |= !ok;
        }
        self.continue_transaction(volume);
    }

    /// A step of a transaction ended.
    pub(super) fn activity_done(
        &mut self,
        volume: VolumeId,
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
    fn transaction_done(&mut self, volume: VolumeId) {
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
        disk.al.release(first, last);
        if !v.al_waiting.is_empty() {
            self.run_activity(volume);
        }
    }

    /// The disk is going: writes that wait for its log go on without it (D82).
    pub(super) fn release_activity_waiters(&mut self, volume: VolumeId) {
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        let mut waiting: Vec<Admitted> = std::mem::take(&mut v.al_waiting).into();
        if v.disk.is_none() {
            // Their transaction went with the disk.
            waiting.append(&mut v.al_commit);
        }
        for admitted in waiting {
            self.route_write(volume, admitted, false);
        }
    }
}
