//! What a disk operation under way is for, by its ticket.

use super::Node;
use super::effect::{Device, DiskOp, Effect};
use super::epochs::EpochKey;
use super::input::{DiskFault, RequestId, Ticket};
use super::transfer_log::ReqKey;
use crate::buffer::Buf;
use crate::units::{Sector, VolumeId};

/// What the end of a disk operation means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The local leg of a client's request.
    Local { key: ReqKey },
    /// The local part of a client's flush.
    ClientFlush { id: RequestId },
    /// A metadata write or a flush of the worker.
    Work { meta: bool },
    /// A page of the bitmap.
    Page { page: u64, user: PageFor },
    /// A write of the peer's, by its number.
    PeerWrite { io: u64 },
    /// The flush that a peer's write asked for, before it.
    PeerPreflush { io: u64 },
    /// A read for the peer, by its number.
    PeerRead { io: u64 },
    /// The own block of a verify, by its first sector and number.
    VerifyRead { sector: Sector, block: u64 },
    /// The flush behind barrier acks up to this epoch.
    EpochFlush { covers: EpochKey },
    /// The flush behind resync acks.
    ResyncFlush { run: u64 },
    /// A step of the activity-log transaction.
    Activity { step: ActivityStep },
    /// A read of the attach procedure.
    Attach { step: u32 },
}

/// On whose behalf a page of the bitmap is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PageFor {
    /// The worker waits for it.
    Work,
    /// An activity-log transaction waits for it.
    ActivityLog,
}

/// A step of an activity-log transaction (D90).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ActivityStep {
    /// The flush that orders pages and data before the block.
    Flush,
    /// The block itself.
    Block,
}

/// An operation under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operation {
    pub(super) volume: VolumeId,
    pub(super) purpose: Purpose,
    /// It is a flush.
    pub(super) flush: bool,
    /// It is one of the data device.
    pub(super) flushes_data: bool,
}

/// The operations under way; a ticket's number is its slot.
#[derive(Debug, Default)]
pub(super) struct Tickets {
    slots: Vec<Option<Operation>>,
    free: Vec<usize>,
    live: usize,
}

impl Tickets {
    fn put(&mut self, operation: Operation) -> Ticket {
        self.live += 1;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[slot] = Some(operation);
        Ticket(slot as u64)
    }

    fn take(&mut self, ticket: Ticket) -> Option<Operation> {
        let slot = usize::try_from(ticket.0).ok()?;
        let operation = self.slots.get_mut(slot)?.take()?;
        self.free.push(slot);
        self.live -= 1;
        Some(operation)
    }

    /// The operation of a ticket, while it is under way.
    pub(super) fn get(&self, ticket: Ticket) -> Option<&Operation> {
        self.slots.get(usize::try_from(ticket.0).ok()?)?.as_ref()
    }

    /// Looks at the operations under way.
    pub(super) fn each(&self, look: impl FnMut(&Operation)) {
        if self.live > 0 {
            self.slots.iter().flatten().for_each(look);
        }
    }

    /// The operations under way on a volume's disk.
    pub(super) fn on_volume(&self, volume: VolumeId) -> usize {
        if self.live == 0 {
            return 0;
        }
        self.slots.iter().flatten().filter(|operation| operation.volume == volume).count()
    }
}

impl Node {
    /// Starts a disk operation.
    pub(super) fn start_disk(&mut self, volume: VolumeId, device: Device, op: DiskOp, purpose: Purpose) {
        let disk = self.volumes.get_mut(&volume).and_then(|v| v.disk.as_deref_mut());
        let flushed = disk.filter(|disk| disk.flushes_data(device, &op));
        let flush = matches!(op, DiskOp::Flush);
        let flushes_data = flushed.is_some();
        if let Some(disk) = flushed {
            disk.unflushed = false;
            disk.flushing += 1;
        }
        let ticket = self.tickets.put(Operation { volume, purpose, flush, flushes_data });
        self.effects.push_back(Effect::Disk { ticket, volume, device, op });
    }

    /// Starts a disk operation that the worker waits for.
    pub(super) fn start_work(&mut self, volume: VolumeId, device: Device, op: DiskOp) {
        self.worker.began();
        let meta = device == Device::Meta;
        self.start_disk(volume, device, op, Purpose::Work { meta });
    }

    /// A disk operation ended.
    pub(super) fn on_disk_done(&mut self, ticket: Ticket, result: Result<Option<Buf>, DiskFault>) {
        let Some(Operation { volume, purpose, flush, flushes_data }) = self.tickets.take(ticket) else {
            return;
        };
        // A device that cannot flush has nothing to flush; one that cannot write is broken.
        let result = if flush && result == Err(DiskFault::Unsupported) { Ok(None) } else { result };
        if flushes_data && let Some(disk) = self.volumes.get_mut(&volume).and_then(|v| v.disk.as_deref_mut())
        {
            disk.flushing -= 1;
            disk.unflushed |= result.is_err();
        }
        if flushes_data && result.is_err() && self.link().epochs.has_unflushed() {
            self.link_mut().epoch_flush_failed = true; // Whoever asked for it: the peer's writes may be gone, too.
        }
        match purpose {
            Purpose::Local { key } => self.local_done(key, result),
            Purpose::ClientFlush { id } => self.client_flush_done(volume, id, &result),
            Purpose::Work { meta } => {
                self.worker.ended();
                if let Err(fault) = result {
                    self.meta_fault(volume, &fault, if meta { "metadata" } else { "a flush" });
                }
            }
            Purpose::Page { page, user } => self.page_done(volume, page, user, &result),
            Purpose::PeerWrite { io } => self.peer_write_done(io, &result),
            Purpose::PeerPreflush { io } => self.peer_preflush_done(io, &result),
            Purpose::PeerRead { io } => self.peer_read_done(io, result),
            Purpose::VerifyRead { sector, block } => self.verify_read_done(volume, sector, block, &result),
            Purpose::EpochFlush { covers } => self.epoch_flush_done(volume, covers, &result),
            Purpose::ResyncFlush { run } => self.resync_flush_done(volume, run, &result),
            Purpose::Activity { step } => self.activity_done(volume, step, &result),
            Purpose::Attach { step } => self.attach_read(volume, step, result),
        }
    }
}
