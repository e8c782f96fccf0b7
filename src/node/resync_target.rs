//! The target of a resync: it asks for what is out of sync, writes what comes, and ends the run
//! (D106 to D112, D122, D132).

use std::time::Duration;

use super::Node;
use super::effect::{Device, DiskOp};
use super::epochs::EpochKey;
use super::input::DiskFault;
use super::peer_write::{PeerIo, PeerKind, Stage};
use super::ranges::Holder;
use super::resync::{Exchange, Finish};
use super::resync_rate::{Rates, next_request};
use super::state::{Conn, Disk, StateChange, flags};
use super::tickets::Purpose;
use super::transfer_log::TransferLog;
use super::uuids::uuids_text;
use super::worker::Work;
use crate::buffer::Buf;
use crate::config::options::{DiskOptions, Protocol};
use crate::units::{BLOCK_SECTORS, BitIndex, Extent, Sector, VolumeId};
use crate::wire::packet::{BlockAck, BlockId, BlockRange, BlockRequest, DpFlags, Packet};

/// The controller's step (D106).
pub(super) const TICK: Duration = Duration::from_millis(100);
/// Written blocks wait at most so long for the flush that lets them count (T1).
const FLUSH_SPACING: Duration = Duration::from_millis(20);

/// What steers the controller (D115).
pub(super) fn rates(options: &DiskOptions, max_buffers: u32) -> Rates {
    Rates {
        resync_rate_kib_s: options.resync_rate_kib_s,
        plan_ahead_ds: options.c_plan_ahead_ds,
        delay_target_ds: options.c_delay_target_ds,
        fill_target_sectors: options.c_fill_target_sectors,
        max_rate_kib_s: options.c_max_rate_kib_s,
        max_buffers,
    }
}

impl Node {
    /// Runs the generators whose tick is due.
    pub(super) fn resync_tick(&mut self) {
        let now = self.now;
        for volume in self.volume_ids() {
            let due = self.volumes.get(&volume).is_some_and(|v| {
                v.state.conn == Conn::SyncTarget
                    && v.resync.as_ref().is_some_and(|r| r.ready && r.next_tick.is_some_and(|at| now >= at))
            });
            if due {
                self.new_budget(volume);
                self.ask_for_blocks(volume);
                self.target_progress(volume);
            } else if let Some(resync) = self.volumes.get_mut(&volume).and_then(|v| v.resync.as_mut())
                && resync.next_tick.is_some_and(|at| now >= at)
            {
                resync.next_tick = None; // Not ready, paused, or the source: others wake it.
            }
        }
    }

    /// A tick: what the controller lets be asked for until the next (D111, D112).
    fn new_budget(&mut self, volume: VolumeId) {
        let now = self.now;
        let max_buffers = self.link().max_buffers();
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        let (Some(resync), Some(disk)) = (v.resync.as_mut(), v.disk.as_ref()) else { return };
        let arrived = std::mem::take(&mut resync.arrived);
        resync.budget = resync.controller.tick(&rates(&disk.options, max_buffers), arrived);
        resync.next_tick = Some(now.after(TICK));
    }

    /// Asks for blocks while the budget and the window last (D106, D107).
    pub(super) fn ask_for_blocks(&mut self, volume: VolumeId) {
        let window = u64::from(self.link().max_buffers()) / 2 * BLOCK_SECTORS;
        // A write that was answered before the peer's disk had it: the peer could read what it
        // replaces, and that would replace it here (I28).
        let answers_early = self.link().protocol() != Protocol::C;
        let unsettled = |log: &TransferLog, volume: VolumeId, extent: Extent| {
            answers_early && log.has_unsettled_write(volume, extent)
        };
        loop {
            let Some(v) = self.volumes.get_mut(&volume) else { return };
            let end = v.end;
            let (Some(resync), Some(disk)) = (v.resync.as_mut(), v.disk.as_ref()) else { return };
            if v.state.conn != Conn::SyncTarget || !resync.ready || resync.scanned || resync.budget == 0 {
                return;
            }
            let room = window.saturating_sub(resync.sectors_in_flight()) / BLOCK_SECTORS;
            if room == 0 {
                return;
            }
            let bitmap = &disk.bitmap;
            let next = |from: BitIndex| bitmap.next_set(from);
            let max_bytes = disk.facts.max_io_bytes.clamp(4096, 1 << 20);
            let Some(bits) = next_request(next, resync.cursor, resync.budget.min(room), max_bytes, 0) else {
                resync.scanned = true;
                return;
            };
            let (first, count) = bits;
            let start = first.sector();
            let sectors = (count * BLOCK_SECTORS).min(end.get().saturating_sub(start.get()));
            let Some(extent) = Extent::new(start, sectors as u32) else {
                resync.scanned = true;
                return;
            };
            let past = BitIndex::new(first.get() + count);
            if unsettled(&self.log, volume, extent) {
                resync.cursor = first;
                return;
            }
            if v.ranges.busy(extent) {
                // An application writes there: again at the next tick. Blocks exchanged already and
                // not settled are passed over.
                if v.ranges.written(extent) {
                    resync.cursor = first;
                    return;
                }
                resync.cursor = BitIndex::new(first.get() + 1);
                continue;
            }
            resync.cursor = past;
            resync.budget = resync.budget.saturating_sub(count);
            resync.controller.requested(count);
            let id = resync.begin(extent);
            v.ranges.hold(extent, Holder::Resync(id));
            let request = BlockRequest {
                sector: extent.start(),
                block_id: BlockId::RESYNC,
                size: extent.bytes() as u32,
            };
            resync.unanswered += 1;
            v.counters.pe += 1;
            self.send_data(volume, Packet::RsDataRequest(request), None);
        }
    }

    /// P_RS_DATA_REPLY: a block to write (D122).
    pub(super) fn on_resync_data(
        &mut self,
        volume: VolumeId,
        sector: Sector,
        digest: &[u8],
        data: Option<Buf>,
    ) {
        if !self.digest_fits(data.as_ref(), digest) {
            return;
        }
        let bytes = data.as_ref().map_or(0, |d| d.len() as u64);
        self.resync_block(volume, sector, bytes, data);
    }

    /// P_RS_DEALLOCATED: a block of zeroes (D123, T18).
    pub(super) fn on_resync_deallocated(&mut self, volume: VolumeId, range: BlockRange) {
        self.resync_block(volume, range.sector, u64::from(range.size), None);
    }

    fn resync_block(&mut self, volume: VolumeId, sector: Sector, bytes: u64, data: Option<Buf>) {
        let Some(v) = self.volumes.get_mut(&volume) else {
            return self.unknown_volume("a resync block", volume);
        };
        let extent = Extent::of_bytes(sector, bytes);
        let exchange = v.resync.as_ref().and_then(|r| r.find(sector));
        if exchange.is_none() && v.late_answers > 0 {
            v.late_answers -= 1; // The source had read it when a disk was lost, and the run with it.
            return;
        }
        let (Some(extent), Some(exchange)) = (extent, exchange) else {
            return self.protocol_error(&format!("a resync block for sector {sector} that nobody asked for"));
        };
        if exchange.extent != extent {
            let text = format!("a resync block of {bytes} bytes for {}", exchange.extent);
            return self.protocol_error(&text);
        }
        v.counters.nr += bytes / 1024;
        v.resync_answered(extent);
        let id = exchange.id;
        let kind = if data.is_some() {
            PeerKind::Resync { exchange: id }
        } else {
            PeerKind::ResyncZeroes { exchange: id }
        };
        let io = self.keep_peer_io(PeerIo {
            volume,
            extent,
            kind,
            data,
            block_id: BlockId::RESYNC,
            flags: DpFlags(0),
            epoch: None,
            stage: Stage::Waiting,
        });
        self.start_peer_io(io);
        self.ask_for_blocks(volume);
    }

    /// A resync block is on the disk, or could not be written.
    pub(super) fn resync_write_done(&mut self, volume: VolumeId, extent: Extent, id: u64, ok: bool) {
        if !ok {
            self.count_failed(volume, extent);
            self.end_exchange(volume, id);
            self.ack(volume, extent, BlockId::RESYNC, Packet::NegAck);
            return self.target_progress(volume);
        }
        let now = self.now;
        let Some(resync) = self.volumes.get_mut(&volume).and_then(|v| v.resync.as_mut()) else { return };
        resync.unflushed.push(Exchange { id, extent });
        resync.flush_at.get_or_insert(now.after(FLUSH_SPACING));
        self.flush_for_resync();
    }

    /// Starts the flush that lets written blocks count, when it is due or nothing else comes (T1).
    pub(super) fn flush_for_resync(&mut self) {
        let now = self.now;
        for volume in self.volume_ids() {
            let Some(v) = self.volumes.get_mut(&volume) else { continue };
            let Some(resync) = v.resync.as_mut() else { continue };
            let all_written = resync.unflushed.len() == resync.exchanges.len();
            let due = resync.flush_at.is_some_and(|at| now >= at) || all_written;
            if resync.unflushed.is_empty() || !resync.flushing.is_empty() || !due {
                continue;
            }
            resync.flushing = std::mem::take(&mut resync.unflushed);
            let run = resync.run;
            resync.flush_at = None;
            self.start_disk(volume, Device::Data, DiskOp::Flush, Purpose::ResyncFlush { run });
        }
    }

    /// Written blocks are durable: they are in sync, and the source hears of it (D122, T1).
    pub(super) fn resync_flush_done(
        &mut self,
        volume: VolumeId,
        run: u64,
        result: &Result<Option<Buf>, DiskFault>,
    ) {
        let now = self.now;
        let resync = self.volumes.get_mut(&volume).and_then(|v| v.resync.as_mut());
        let Some(resync) = resync.filter(|resync| resync.run == run) else { return };
        let done = std::mem::take(&mut resync.flushing);
        if !resync.unflushed.is_empty() {
            resync.flush_at = Some(now.after(FLUSH_SPACING));
        }
        let ok = matches!(result, Ok(_) | Err(DiskFault::Unsupported));
        if let Err(fault) = result
            && !ok
        {
            self.flush_fault(volume, fault);
        }
        for Exchange { id, extent } in done {
            // While the range is still held: a write that waits for it may set the bits again (T6).
            let Some(v) = self.volumes.get_mut(&volume) else { return };
            let Some(resync) = v.resync.as_ref().filter(|resync| resync.has(id)) else { continue };
            let ok = ok && resync.is_current(id);
            if ok {
                v.set_in_sync(extent);
            } else {
                self.count_failed(volume, extent);
            }
            self.end_exchange(volume, id);
            let packet = if ok { Packet::RsWriteAck } else { Packet::NegAck };
            self.ack(volume, extent, BlockId::RESYNC, packet);
        }
        self.note_progress(volume);
        self.flush_for_resync();
        self.ask_for_blocks(volume);
        self.target_progress(volume);
    }

    /// The source could not read a block, or cancelled it (D125, W170).
    pub(super) fn on_resync_refused(&mut self, volume: VolumeId, ack: BlockAck, failed: bool) {
        if failed && self.on_verify_refused(volume, ack) {
            return;
        }
        let Some(v) = self.volumes.get_mut(&volume) else {
            return self.unknown_volume("a resync answer", volume);
        };
        let Some(exchange) = v.resync.as_ref().and_then(|r| r.find(ack.sector)) else {
            v.late_answers = v.late_answers.saturating_sub(1);
            return;
        };
        v.resync_answered(exchange.extent);
        if failed {
            self.count_failed(volume, exchange.extent);
        }
        self.end_exchange(volume, exchange.id);
        self.target_progress(volume);
    }

    /// Ends the run when nothing is missing any more (W176, T14, T36).
    pub(super) fn target_progress(&mut self, volume: VolumeId) {
        self.note_progress(volume);
        let in_sync_writes =
            self.link().in_sync_writes.iter().any(|(_, v, _): &(EpochKey, _, _)| *v == volume);
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        let set = v.bits_set();
        let Some(resync) = v.resync.as_mut() else { return };
        if v.state.conn != Conn::SyncTarget || !resync.ready || resync.finish != Finish::No {
            return;
        }
        if !resync.exchanges.is_empty() || in_sync_writes {
            return;
        }
        if set > resync.failed {
            if resync.scanned && !resync.rescanned {
                resync.rescanned = true; // Bits set behind the cursor: once more (T14).
                resync.scanned = false;
                resync.failed = 0;
                resync.cursor = BitIndex::new(0);
                resync.next_tick = Some(self.now);
            } else if resync.scanned {
                resync.failed = set; // What failed twice has failed.
                self.target_progress(volume);
            }
            return;
        }
        resync.next_tick = None;
        self.ping();
        let ping = self.link().alive.pings;
        if let Some(resync) = self.volumes.get_mut(&volume).and_then(|v| v.resync.as_mut()) {
            resync.finish = Finish::Pinging { ping };
        }
    }

    /// A ping was answered: the source has processed all acks sent before it (W203). An answer to an
    /// earlier one says nothing of them.
    pub(super) fn pong_for_resync(&mut self) {
        let pongs = self.link().alive.pongs;
        for volume in self.volume_ids() {
            let Some(v) = self.volumes.get_mut(&volume) else { continue };
            let set = v.bits_set();
            let Some(resync) = v.resync.as_mut() else { continue };
            match resync.finish {
                Finish::Pinging { ping } if pongs >= ping && set > resync.failed => {
                    resync.finish = Finish::No; // A write failed meanwhile.
                    self.target_progress(volume);
                }
                Finish::Pinging { ping } if pongs >= ping => self.write_resync_result(volume),
                Finish::No | Finish::Pinging { .. } | Finish::Writing { .. } => {}
            }
        }
    }

    /// The run ended: its result goes to disk before anybody hears of it (I34, M90).
    fn write_resync_result(&mut self, volume: VolumeId) {
        let crashed = false; // Both disks are about to be UpToDate (A2).
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        // A write may have brought what the run could not.
        let whole = v.bits_set() == 0;
        let Some(resync) = v.resync.as_mut() else { return };
        resync.finish = Finish::Writing { whole };
        if whole {
            let Some(peer) = v.peer_uuids else { return };
            let own = v.uuids()[0];
            // The source's set, with the sync UUID in its history (W180).
            if let Some(disk) = v.disk.as_deref_mut() {
                let uuids = &mut disk.superblock.uuids;
                let [h0, h1] = peer.history;
                uuids.history = if peer.bitmap == 0 { [h0, h1] } else { [peer.bitmap, h0] };
                uuids.bitmap = own;
            }
            v.set_current(peer.current);
            v.rotate_bitmap_uuid(0);
            let up = super::state::State {
                conn: Conn::Connected,
                disk: Disk::UpToDate,
                pdsk: Disk::UpToDate,
                ..v.state
            };
            if let Some(disk) = v.disk.as_deref_mut() {
                let word = flags::recompute(disk.flags(), up, crashed, disk.options.al_updates);
                disk.set_flags(word);
            }
        }
        self.worker.push(Work::FlushData { volume });
        self.worker.push(Work::WriteBitmap { volume, all: false });
        self.worker.push(Work::SyncMeta { volume });
        self.worker.push(Work::ResyncDurable { volume });
    }

    /// Work: the result is durable: become what it says, and tell the source (A24).
    pub(super) fn resync_durable(&mut self, volume: VolumeId) {
        let Some(v) = self.volumes.get(&volume) else { return };
        if !v.state.conn.is_sync_target() {
            return;
        }
        // Bits that are set now are of writes that failed since.
        let failed = v.bits_set();
        let whole = v.resync.as_ref().is_some_and(|r| r.finish == Finish::Writing { whole: true });
        if failed == 0 && !whole {
            return self.write_resync_result(volume);
        }
        let text = format!("updated UUIDs {}", uuids_text(v.uuids()));
        self.say_resync_done(volume);
        if failed > 0 {
            let change = StateChange { pdsk: Some(Disk::UpToDate), ..StateChange::conn(Conn::Connected) };
            let change = StateChange { disk: Some(Disk::Inconsistent), ..change };
            self.force(volume, change);
            // A kernel source stays in SyncSource after failures; a reconnect resyncs the rest (W180a).
            self.worker.push(Work::Reset { why: "resync ended with failed blocks" });
            return;
        }
        self.say(super::LogLevel::Info, Some(volume), text);
        self.peer_has_our_uuids(volume);
        let change = StateChange { pdsk: Some(Disk::UpToDate), ..StateChange::conn(Conn::Connected) };
        self.force(volume, StateChange { disk: Some(Disk::UpToDate), ..change });
        self.call_handler("after-resync-target", Some(volume));
    }
}
