//! Writes of the peer on this node's disk: acceptance, order, acks, barriers (datapath.md section 3).

use std::time::Duration;

use super::Node;
use super::bitmap::page_of;
use super::effect::{Device, DiskOp, LogLevel};
use super::epochs::EpochKey;
use super::input::DiskFault;
use super::state::{Conn, Disk};
use super::tickets::Purpose;
use super::worker::Work;
use crate::buffer::Buf;
use crate::units::{Extent, Sector, VolumeId};
use crate::wire::packet::{BlockAck, BlockId, DpFlags, Packet};

/// Flushes behind barrier acks are shared: at least so much time lies between the starts of two,
/// unless the peer hints that somebody waits.
const FLUSH_SPACING: Duration = Duration::from_millis(10);

/// Writes of the peer under way at once, at most. Their data is bounded elsewhere, but not all have
/// some.
const MAX_PEER_IOS: usize = 1 << 16;

/// What a write of the peer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PeerKind {
    Write,
    Discard,
    Zeroes {
        unmap: bool,
    },
    /// A resync block of this exchange.
    Resync {
        exchange: u64,
    },
    /// A resync block that is all zeroes.
    ResyncZeroes {
        exchange: u64,
    },
}

/// A write of the peer under way here.
#[derive(Debug)]
pub(super) struct PeerIo {
    pub(super) volume: VolumeId,
    pub(super) extent: Extent,
    pub(super) kind: PeerKind,
    pub(super) data: Option<Buf>,
    pub(super) block_id: BlockId,
    pub(super) flags: DpFlags,
    /// The epoch it counts in; none for resync blocks.
    pub(super) epoch: Option<EpochKey>,
    pub(super) stage: Stage,
}

/// How far a write of the peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Waits for its epoch's turn, for an overlapping one, or for its bits to be durable.
    Waiting,
    /// On the disk.
    Started,
    /// The disk has refused it; that the disk is Inconsistent is being made durable.
    Failed,
}

/// A write packet, apart from its payload.
#[derive(Debug)]
pub(super) struct WritePacket {
    pub(super) sector: Sector,
    pub(super) bytes: u64,
    pub(super) block_id: BlockId,
    pub(super) seq: u32,
    pub(super) flags: DpFlags,
    pub(super) kind: PeerKind,
}

impl Node {
    /// A write of the peer arrived (D48-D57).
    pub(super) fn on_peer_write(&mut self, volume: VolumeId, write: WritePacket, data: Option<Buf>) {
        let Some((write, data)) = self.wait_for_acks(volume, write, data) else { return };
        let Some(v) = self.volumes.get_mut(&volume) else { return self.unknown_volume("a write", volume) };
        v.counters.nr += write.bytes / 1024;
        if write.bytes == 0 {
            return self.on_empty_write(volume, &write);
        }
        let Some(extent) = Extent::of_bytes(write.sector, write.bytes).filter(|e| e.end() <= v.end) else {
            let text =
                format!("a write of {} bytes at sector {} is outside the device", write.bytes, write.sector);
            return self.protocol_error(&text);
        };
        let overlaps_own = v.ranges.written(extent);
        if !v.has_usable_disk() {
            let size = data.as_ref().map_or(0, |d| d.len() as u32);
            return self.refuse_peer_write(volume, &write, extent, size);
        }
        if overlaps_own {
            self.settle_overwritten(volume, extent);
            if self.refuse_conflicting(volume, extent, &write) {
                return;
            }
        }
        if self.link().peer_ios.len() >= MAX_PEER_IOS {
            return self.protocol_error("the peer has too many writes under way");
        }
        let epoch = self.link_mut().epochs.accepted();
        if write.flags.contains(DpFlags::SEND_RECEIVE_ACK) {
            self.ack(volume, extent, write.block_id, Packet::RecvAck);
        }
        let io = PeerIo {
            volume,
            extent,
            kind: write.kind,
            data,
            block_id: write.block_id,
            flags: write.flags,
            epoch: Some(epoch),
            stage: Stage::Waiting,
        };
        let id = self.keep_peer_io(io);
        if self.peer_is_diskless(volume) {
            self.track_for_diskless_peer(volume, id);
        } else {
            self.start_peer_io(id);
        }
    }

    /// Adds an I/O of the peer's.
    pub(super) fn keep_peer_io(&mut self, io: PeerIo) -> u64 {
        if let Some(v) = self.volumes.get_mut(&io.volume) {
            v.counters.ua += 1;
        }
        let link = self.link_mut();
        link.next_io += 1;
        let id = link.next_io;
        link.peer_ios.insert(id, io);
        id
    }

    /// A write without data is only a flush (W120).
    fn on_empty_write(&mut self, volume: VolumeId, write: &WritePacket) {
        let epoch = self.link_mut().epochs.accepted();
        self.link_mut().epochs.finished(epoch);
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        if write.flags.contains(DpFlags::SEND_WRITE_ACK) {
            let seq = v.next_seq();
            let ack = BlockAck { sector: write.sector, block_id: write.block_id, size: 0, seq };
            self.send_meta(volume, Packet::WriteAck(ack));
        }
        self.try_epochs(true);
    }

    /// No disk to write to: say so at once; the write counts in its epoch (D50, W127). An own one that it made wait goes
    /// again (D180).
    fn refuse_peer_write(&mut self, volume: VolumeId, write: &WritePacket, extent: Extent, size: u32) {
        self.link_mut().epochs.refused();
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        let seq = v.next_seq();
        let ack = BlockAck { sector: write.sector, block_id: write.block_id, size, seq };
        self.send_meta(volume, Packet::NegAck(ack));
        self.try_epochs(false);
        self.peer_write_left(volume, extent);
    }

    /// Sends an ack about `extent`.
    pub(super) fn ack(
        &mut self,
        volume: VolumeId,
        extent: Extent,
        block_id: BlockId,
        packet: fn(BlockAck) -> Packet,
    ) {
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        if !self.links[0].is_up() {
            return;
        }
        let seq = v.next_seq();
        let ack = BlockAck { sector: extent.start(), block_id, size: extent.bytes() as u32, seq };
        self.send_meta(volume, packet(ack));
    }

    fn peer_is_diskless(&self, volume: VolumeId) -> bool {
        self.volumes.get(&volume).is_some_and(|v| v.state.pdsk < Disk::Inconsistent)
    }

    /// The peer has no disk: this is the only copy, and its bits are durable before the write
    /// begins, as the activity log would make them (D55, D70).
    fn track_for_diskless_peer(&mut self, volume: VolumeId, id: u64) {
        let Some(io) = self.link_mut().peer_ios.get_mut(&id) else { return };
        io.flags = DpFlags(io.flags.0 & !DpFlags::MAY_SET_IN_SYNC.0);
        let extent = io.extent;
        let new_bits = self.mark_out_of_sync(volume, extent);
        // Bits that were set before may be on their way to the disk, behind other work.
        if new_bits == 0 && self.worker.is_idle() && self.bits_are_written(volume, extent) {
            return self.start_peer_io(id);
        }
        self.worker.push(Work::WriteBitmap { volume, all: false });
        self.worker.push(Work::FlushMeta { volume });
        self.worker.push(Work::StartPeerIo { io: id });
    }

    /// Whether the pages of the bitmap that tell of these sectors are on the disk.
    fn bits_are_written(&self, volume: VolumeId, extent: Extent) -> bool {
        let (first, last) = extent.touched_bits();
        let Some(disk) = self.volumes.get(&volume).and_then(|v| v.disk.as_deref()) else { return true };
        (page_of(first)..=page_of(last)).all(|page| disk.bitmap.is_written(page))
    }

    /// Starts a write of the peer, if its turn has come: older epochs are done (I21), and no older
    /// write overlaps it (D54).
    pub(super) fn start_peer_io(&mut self, id: u64) {
        let link = self.link();
        let Some(io) = link.peer_ios.get(&id) else { return };
        if io.stage != Stage::Waiting || io.epoch.is_some_and(|epoch| !link.epochs.may_start(epoch)) {
            return;
        }
        let extent = io.extent;
        let volume = io.volume;
        if link.peer_ios.range(..id).any(|(_, o)| o.volume == volume && o.extent.overlaps(extent))
            || (io.epoch.is_some() && self.waits_for_own(volume, extent))
        {
            return;
        }
        let preflush = io.flags.contains(DpFlags::FLUSH);
        if self.waits_for_keeping(volume, extent) {
            return;
        }
        if let Some(io) = self.link_mut().peer_ios.get_mut(&id) {
            io.stage = Stage::Started;
        }
        if preflush {
            self.start_disk(volume, Device::Data, DiskOp::Flush, Purpose::PeerPreflush { io: id });
        } else {
            self.write_peer_io(id);
        }
    }

    /// The flush that a write asked for ended; the write follows (W86).
    pub(super) fn peer_preflush_done(&mut self, id: u64, result: &Result<Option<Buf>, DiskFault>) {
        match result {
            Ok(_) | Err(DiskFault::Unsupported) => self.write_peer_io(id),
            Err(_) => self.peer_write_done(id, result),
        }
    }

    fn write_peer_io(&mut self, id: u64) {
        let Some(io) = self.link_mut().peer_ios.get_mut(&id) else { return };
        let (volume, extent, kind, fua) = (io.volume, io.extent, io.kind, io.flags.contains(DpFlags::FUA));
        let data = io.data.take();
        let (offset, len) = (extent.start().byte_offset(), extent.bytes());
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        v.counters.dw += len / 1024;
        v.counters.lo += 1;
        // One that has failed has no bits any more that would tell of this write.
        let Some(disk) = v.usable_disk() else {
            return self.peer_write_done(id, &Err(DiskFault::Gone));
        };
        let op = match (kind, data) {
            (PeerKind::Write | PeerKind::Resync { .. }, Some(data)) => DiskOp::Write { offset, data, fua },
            // Without feature WZEROES an old sender means zeroes by a trim (D158).
            (PeerKind::Discard, _) if disk.facts.discards && self.links[0].features.zeroes() => {
                DiskOp::Discard { offset, len }
            }
            (PeerKind::Zeroes { unmap }, _) => DiskOp::Zero { offset, len, unmap },
            (
                PeerKind::Write | PeerKind::Resync { .. } | PeerKind::Discard | PeerKind::ResyncZeroes { .. },
                _,
            ) => DiskOp::Zero { offset, len, unmap: true },
        };
        self.start_disk(volume, Device::Data, op, Purpose::PeerWrite { io: id });
    }

    /// A write of the peer ended on the disk (D58, D59, D122).
    pub(super) fn peer_write_done(&mut self, id: u64, result: &Result<Option<Buf>, DiskFault>) {
        let Some(io) = self.link_mut().peer_ios.get_mut(&id) else { return };
        let (volume, extent) = (io.volume, io.extent);
        if io.kind == PeerKind::Discard && *result == Err(DiskFault::Unsupported) {
            // A disk that only said that it discards is no broken one (T22).
            io.kind = PeerKind::Zeroes { unmap: true };
            if let Some(v) = self.volumes.get_mut(&volume) {
                v.counters.lo = v.counters.lo.saturating_sub(1); // The zeroes are counted anew.
            }
            return self.write_peer_io(id);
        }
        if let Some(v) = self.volumes.get_mut(&volume) {
            v.counters.lo = v.counters.lo.saturating_sub(1);
            v.note_written();
        }
        match result {
            Ok(_) => self.end_peer_write(id, true),
            Err(fault) => {
                self.write_fault(volume, fault, "a write of the peer");
                self.mark_out_of_sync(volume, extent);
                if let Some(io) = self.link_mut().peer_ios.get_mut(&id) {
                    io.stage = Stage::Failed;
                }
                self.refuse_when_durable(volume, Work::PeerWriteFailed { io: id });
            }
        }
    }

    /// A write of the peer has come to its end, and may be answered.
    pub(super) fn end_peer_write(&mut self, id: u64, ok: bool) {
        let Some(io) = self.link_mut().peer_ios.remove(&id) else { return };
        let PeerIo { volume, extent, kind, block_id, flags, epoch, .. } = io;
        if let Some(v) = self.volumes.get_mut(&volume) {
            v.counters.ua = v.counters.ua.saturating_sub(1);
        }
        match kind {
            PeerKind::Resync { exchange } | PeerKind::ResyncZeroes { exchange } => {
                self.resync_write_done(volume, extent, exchange, ok);
            }
            PeerKind::Write | PeerKind::Discard | PeerKind::Zeroes { .. } => {
                self.answer_peer_write(volume, extent, block_id, flags, epoch, ok);
            }
        }
        if let Some(epoch) = epoch {
            self.link_mut().epochs.finished(epoch);
            self.try_epochs(false);
        }
        self.peer_write_left(volume, extent);
        self.start_waiting_ios();
        self.start_waiting_reads();
        self.retry_ranges(volume); // A resync request may have waited for this write.
    }

    fn answer_peer_write(
        &mut self,
        volume: VolumeId,
        extent: Extent,
        block_id: BlockId,
        flags: DpFlags,
        epoch: Option<EpochKey>,
        ok: bool,
    ) {
        if !ok {
            return self.ack(volume, extent, block_id, Packet::NegAck);
        }
        if !flags.contains(DpFlags::SEND_WRITE_ACK) {
            return;
        }
        let syncing = self.volumes.get(&volume).is_some_and(|v| v.state.conn.is_resync_or_verify());
        if syncing && flags.contains(DpFlags::MAY_SET_IN_SYNC) {
            // Its own bits are cleared when the epoch is durable (T1).
            if let Some(epoch) = epoch {
                self.link_mut().in_sync_writes.push((epoch, volume, extent));
            }
            self.ack(volume, extent, block_id, Packet::RsWriteAck);
        } else {
            self.ack(volume, extent, block_id, Packet::WriteAck);
        }
    }

    /// Starts the writes whose turn has come.
    pub(super) fn start_waiting_ios(&mut self) {
        let waiting: Vec<u64> = self
            .link()
            .peer_ios
            .iter()
            .filter(|(_, io)| io.stage == Stage::Waiting)
            .map(|(id, _)| *id)
            .collect();
        for id in waiting {
            let tracked = self.worker.iter().any(|w| matches!(w, Work::StartPeerIo { io } if *io == id));
            if !tracked {
                self.start_peer_io(id);
            }
        }
    }

    /// P_BARRIER: the epoch has its number (D61).
    pub(super) fn on_barrier(&mut self, number: [u8; 4]) {
        self.link_mut().epochs.barrier(number);
        self.try_epochs(false);
    }

    /// Starts the shared flushes that are due by the clock.
    pub(super) fn flush_for_barriers(&mut self) {
        if self.link().epochs.done_unflushed() > 0 {
            self.try_epochs(false);
        }
        self.flush_for_resync();
    }

    /// Sends the barrier acks that are due, and starts the flush that others need. `hurry`: the
    /// peer hinted that somebody waits (D67).
    pub(super) fn try_epochs(&mut self, hurry: bool) {
        if self.link().epoch_flushes == 0
            && let Some(covers) = self.link().epochs.flush_covers()
            && self.link().epochs.done_unflushed() > 0
        {
            if self.is_epoch_lost() {
                return;
            }
            if self.volumes_to_flush().next().is_none() {
                self.epoch_durable(covers);
            } else if hurry || self.link().epoch_flush_at.is_none_or(|at| self.now >= at) {
                let volumes: Vec<VolumeId> = self.volumes_to_flush().collect();
                self.link_mut().epoch_flush_at = Some(self.now.after(FLUSH_SPACING));
                self.link_mut().epoch_flushes = volumes.len() as u32;
                for volume in volumes {
                    self.start_disk(volume, Device::Data, DiskOp::Flush, Purpose::EpochFlush { covers });
                }
            }
        }
        while let Some(due) = self.link_mut().epochs.next_ack() {
            if self.link().is_up() {
                let packet = Packet::BarrierAck { barrier: due.barrier, count: due.writes };
                self.send_meta(VolumeId(0), packet);
            }
        }
    }

    /// The volumes with writes that a flush must cover (D62: only where disk-flushes is on). A disk that is given up
    /// has acked some, and is one of them until it is closed (T10).
    fn volumes_to_flush(&self) -> impl Iterator<Item = VolumeId> {
        let disks = self.volumes.iter().filter_map(|(id, v)| Some((*id, v.disk.as_deref()?)));
        disks.filter(|(_, disk)| disk.options.disk_flushes && disk.needs_flush()).map(|(id, _)| id)
    }

    /// A flush for barrier acks ended on one volume.
    pub(super) fn epoch_flush_done(
        &mut self,
        volume: VolumeId,
        covers: EpochKey,
        result: &Result<Option<Buf>, DiskFault>,
    ) {
        let link = self.link_mut();
        link.epoch_flushes -= 1;
        if let Err(fault) = result
            && *fault != DiskFault::Unsupported
        {
            self.flush_fault(volume, fault);
        }
        if self.link().epoch_flushes > 0 || self.is_epoch_lost() {
            return;
        }
        self.epoch_durable(covers);
        self.try_epochs(false);
        self.advance_teardown();
    }

    /// Whether a flush failed since the writes that are to be acked now: the acks of their epoch are out, its
    /// durability is not. There is no barrier ack, and the Primary's sweep marks the epoch out of sync (T10).
    fn is_epoch_lost(&mut self) -> bool {
        let lost = self.link().epoch_flush_failed; // Until the connection is taken down.
        if lost {
            self.protocol_error("a flush failed: the last writes of the peer may not be durable");
        }
        lost
    }

    /// All epochs up to `covers` are durable: their in-sync writes count (T1).
    fn epoch_durable(&mut self, covers: EpochKey) {
        let link = self.link_mut();
        link.epochs.flushed(covers);
        let (done, rest) =
            std::mem::take(&mut link.in_sync_writes).into_iter().partition(|(e, ..)| *e <= covers);
        link.in_sync_writes = rest;
        let done: Vec<(EpochKey, VolumeId, Extent)> = done;
        for (_, volume, extent) in done {
            let syncing = self.volumes.get(&volume).is_some_and(|v| v.state.conn >= Conn::SyncSource);
            if let Some(v) = self.volumes.get_mut(&volume)
                && syncing
            {
                v.set_in_sync(extent);
                self.target_progress(volume);
            }
        }
    }

    /// The peer named a volume that is not configured here (W25).
    pub(super) fn unknown_volume(&mut self, what: &str, volume: VolumeId) {
        let text = format!("{what} for volume {volume}, which is not configured locally");
        self.say(LogLevel::Error, None, text.clone());
        self.protocol_error(&text);
    }
}
