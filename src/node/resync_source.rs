//! The source of a resync: it serves what is asked for, and believes the target when it says that
//! it is done (D119 to D124, D133, T39).

use super::Node;
use super::peer_read::{PeerRead, ReadKind};
use super::ranges::Holder;
use super::resync::{Deferred, MAX_DEFERRED};
use super::rules::Manner;
use super::state::{Conn, Disk, State, StateChange};
use super::uuids::uuids_text;
use super::volume::Volume;
use crate::buffer::Buf;
use crate::config::values::Fencing;
use crate::units::{Extent, VolumeId};
use crate::wire::digest::DigestAlg;
use crate::wire::packet::{BlockAck, BlockId, BlockRequest, Packet};

impl Node {
    /// P_RS_DATA_REQUEST, P_RS_THIN_REQ or P_CSUM_RS_REQUEST (D119).
    pub(super) fn on_resync_request(
        &mut self,
        volume: VolumeId,
        request: BlockRequest,
        digest: Option<Vec<u8>>,
    ) {
        let Some(extent) = self.requested_extent(volume, request) else { return };
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        if v.state.disk != Disk::UpToDate {
            return self.ack(volume, extent, request.block_id, Packet::NegRsDreply);
        }
        if v.state.conn == Conn::Ahead {
            return self.ack(volume, extent, request.block_id, Packet::RsCancel);
        }
        let Some(resync) = v.resync.as_mut() else {
            return self.ack(volume, extent, request.block_id, Packet::NegRsDreply);
        };
        resync.target.asked();
        v.marks.sync_uuid_is_new = false;
        if resync.deferred.len() >= MAX_DEFERRED {
            return self.protocol_error("the peer asks for too many blocks at once");
        }
        resync.deferred.push(Deferred { request, digest });
        self.serve_deferred(volume);
    }

    /// A range was released: requests for it may be served.
    pub(super) fn retry_ranges(&mut self, volume: VolumeId) {
        self.retry_verify(volume);
        if self
            .volumes
            .get(&volume)
            .is_some_and(|v| v.resync.as_ref().is_some_and(|r| !r.deferred.is_empty()))
        {
            self.serve_deferred(volume);
        }
    }

    /// Serves the requests whose range nobody writes (W167). The range is held until the target has
    /// settled the block, so that no write comes between (T6).
    pub(super) fn serve_deferred(&mut self, volume: VolumeId) {
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        let Some(resync) = v.resync.as_mut().filter(|resync| resync.ready) else { return };
        let deferred = std::mem::take(&mut resync.deferred);
        for item in deferred {
            let BlockRequest { sector, block_id, size } = item.request;
            let Some(extent) = Extent::of_bytes(sector, u64::from(size)) else { continue };
            let peer_writes =
                self.links[0].peer_ios.values().any(|io| io.volume == volume && io.extent.overlaps(extent));
            let Some(v) = self.volumes.get_mut(&volume) else { return };
            let Some(resync) = v.resync.as_mut() else { return };
            if v.ranges.written(extent) || peer_writes {
                resync.deferred.push(item);
                continue;
            }
            let exchange = resync.begin(extent);
            v.ranges.hold(extent, Holder::Resync(exchange));
            let kind = match item.digest {
                Some(digest) => ReadKind::Checksum { exchange, digest },
                None => ReadKind::Resync { exchange },
            };
            self.read_for_peer(PeerRead { volume, extent, block_id, kind });
        }
    }

    /// A block for the target was read (D120).
    pub(super) fn serve_resync(
        &mut self,
        volume: VolumeId,
        extent: Extent,
        block_id: BlockId,
        exchange: u64,
        data: Option<Buf>,
    ) {
        if !self.is_under_way(volume, exchange) {
            return;
        }
        let Some(data) = data else {
            self.end_exchange(volume, exchange);
            self.count_failed(volume, extent);
            return self.ack(volume, extent, block_id, Packet::NegRsDreply);
        };
        let digest = self.link().digest_of(data.bytes());
        self.count_sent(volume, extent);
        self.send_data(volume, Packet::RsDataReply { sector: extent.start(), block_id, digest }, Some(data));
    }

    /// Whether the target still waits for this block: not if its run was broken off, nor in a new one, for
    /// which the data may be old.
    fn is_under_way(&self, volume: VolumeId, exchange: u64) -> bool {
        let run = self.volumes.get(&volume).and_then(|v| v.resync.as_ref());
        run.is_some_and(|run| run.has(exchange))
    }

    /// A block whose digest the target sent was read: equal, or to be sent (D121).
    pub(super) fn serve_checksum(
        &mut self,
        volume: VolumeId,
        extent: Extent,
        block_id: BlockId,
        exchange: u64,
        digest: &[u8],
        data: Option<Buf>,
    ) {
        if !self.is_under_way(volume, exchange) {
            return;
        }
        let alg = self.link().config.as_ref().and_then(|config| config.options.csums_alg.clone());
        let alg = alg.and_then(|name| DigestAlg::from_name(&name).ok());
        let equal = match (&data, alg) {
            (Some(data), Some(alg)) => alg.matches(data.bytes(), digest),
            (Some(_), None) | (None, _) => false,
        };
        if equal {
            let durable = self.link().features.resync_is_durable();
            if let Some(v) = self.volumes.get_mut(&volume) {
                v.resynced(extent, durable);
            }
            self.end_exchange(volume, exchange);
            self.ack(volume, extent, block_id, Packet::RsIsInSync);
            return self.source_progress(volume);
        }
        self.serve_resync(volume, extent, BlockId::RESYNC, exchange, data);
    }

    /// P_RS_IS_IN_SYNC: the block was equal (target, D121).
    pub(super) fn on_resync_equal(&mut self, volume: VolumeId, ack: BlockAck) {
        let Some(v) = self.volumes.get_mut(&volume) else {
            return self.unknown_volume("a resync answer", volume);
        };
        let Some(exchange) = v.resync.as_ref().and_then(|r| r.find(ack.sector)) else { return };
        v.resync_answered(exchange.extent);
        if v.resync.as_ref().is_some_and(|r| r.is_current(exchange.id)) {
            v.set_in_sync(exchange.extent);
        } else {
            self.count_failed(volume, exchange.extent);
        }
        self.end_exchange(volume, exchange.id);
        self.target_progress(volume);
    }

    /// The target settled a block (D124, W169).
    pub(super) fn on_resync_ack(&mut self, volume: VolumeId, ack: BlockAck, ok: bool) {
        let durable = self.link().features.resync_is_durable();
        let Some(v) = self.volumes.get_mut(&volume) else {
            return self.unknown_volume("a resync ack", volume);
        };
        let Some(extent) = Extent::of_bytes(ack.sector, u64::from(ack.size)).filter(|e| e.end() <= v.end)
        else {
            return self.protocol_error("a resync ack for sectors outside the device");
        };
        let late = v.unsettled.iter().position(|unsettled| *unsettled == extent);
        if late.map(|at| v.unsettled.swap_remove(at)).is_some() && !ok {
            // It could not be written in an earlier run, whose ack was on its way behind the data of the other
            // socket. Were it one of this run after all, the target would say in the end that the block failed.
            return;
        }
        let exchange = v.resync.as_ref().and_then(|r| r.find(ack.sector)).filter(|x| x.extent == extent);
        let Some(exchange) = exchange else {
            // Only what was sent in this run can be in sync by it.
            return;
        };
        if ok {
            v.resynced(extent, durable);
        } else {
            self.count_failed(volume, extent);
        }
        self.end_exchange(volume, exchange.id);
        self.source_progress(volume);
        self.serve_deferred(volume);
    }

    /// A ping of the peer's is answered: a target that misses nothing may have sent it as its last
    /// one. What it marked in sync by a write whose epoch is not acked yet is a bit here only (T40).
    pub(super) fn answered_ping_as_source(&mut self) {
        for volume in self.volume_ids() {
            let Some(v) = self.volumes.get_mut(&volume) else { continue };
            let Some(resync) = v.resync.as_mut().filter(|r| v.state.conn.is_sync_source() && r.target.told)
            else {
                continue;
            };
            let in_sync = |extent: Extent| {
                let bits = extent.covered_bits(v.end).zip(v.disk.as_ref());
                bits.map_or(0, |((first, last), disk)| disk.bitmap.count_range(first, last))
            };
            let awaited = self.log.iter().filter(|(_, req)| req.volume == volume && req.net.in_sync);
            let awaited: u64 = awaited.map(|(_, req)| in_sync(req.extent)).sum();
            let left = v.disk.as_ref().map_or(0, |disk| disk.bitmap.count());
            resync.target.answered_ping(left <= awaited);
        }
    }

    /// A change that loses the target of a run: if that may have ended or not begun, its disk is not
    /// Inconsistent but nobody knows what (T40).
    pub(super) fn doubt_target(&self, volume: VolumeId, old: State, change: StateChange) -> StateChange {
        let lost = change.conn.is_some_and(|conn| conn < Conn::Connected) && change.pdsk.is_none();
        if lost && old.conn.is_sync_source() && self.target_may_be_current(volume) {
            return StateChange { pdsk: Some(Disk::DUnknown), ..change };
        }
        change
    }

    /// The target of a run is lost. If it may have ended or not begun, it has the own current UUID, and what
    /// is written from now on needs another one (T40).
    pub(super) fn note_lost_target(&mut self, volume: VolumeId, old: State, new: State) {
        if old.conn.is_sync_source() && new.lost_peer_data_since(old) {
            let unheard = self.target_may_be_current(volume);
            if let Some(v) = self.volumes.get_mut(&volume) {
                v.marks.target_unheard = unheard;
            }
        }
    }

    fn target_may_be_current(&self, volume: VolumeId) -> bool {
        let resync = self.volumes.get(&volume).and_then(|v| v.resync.as_ref());
        resync.is_some_and(|resync| resync.target.may_be_current())
    }

    /// The target says that it is done: {Connected, UpToDate} (S32.3b).
    pub(super) fn target_is_done(&mut self, volume: VolumeId) {
        if let Some(v) = self.volumes.get_mut(&volume) {
            v.marks.target_said_done = true;
        }
        self.source_progress(volume);
    }

    /// The target ended the run and lacks blocks: so has this node (T36). What is missing stays out of
    /// sync, and the UUIDs say so, until the next connection.
    pub(super) fn target_has_failed(&mut self, volume: VolumeId) {
        self.say_resync_done(volume);
        let change = StateChange { pdsk: Some(Disk::Inconsistent), ..StateChange::conn(Conn::Connected) };
        self.force(volume, change);
    }

    /// Ends the run on the source once the target is done, and no write under way is still to clear its bits
    /// (D133, T39). Bits that are left then no target will ever ask for: blocks that failed, a discard or a
    /// read that failed on this disk alone (D46, D163). They stay, for the next handshake.
    pub(super) fn source_progress(&mut self, volume: VolumeId) {
        self.note_progress(volume);
        let done = |v: &Volume| v.state.conn.is_sync_source() && v.marks.target_said_done;
        if !self.volumes.get(&volume).is_some_and(done) {
            return;
        }
        let clears = self.log.iter().any(|(_, req)| req.volume == volume && req.net.in_sync);
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        let failed = v.resync.as_ref().map_or(0, |r| r.failed);
        if clears && v.bits_set() > failed {
            return;
        }
        v.marks.target_said_done = false;
        self.say_resync_done(volume);
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        v.rotate_bitmap_uuid(0);
        let text = format!("updated UUIDs {}", uuids_text(v.uuids()));
        self.say(super::LogLevel::Info, Some(volume), text);
        self.peer_has_our_uuids(volume);
        let running = self.volumes.get(&volume).is_some_and(|v| v.state.conn == Conn::SyncSource);
        let change = StateChange { pdsk: Some(Disk::UpToDate), ..StateChange::conn(Conn::Connected) };
        self.change(volume, StateChange { disk: Some(Disk::UpToDate), ..change }, Manner::HARD);
        if running {
            self.unfence(volume);
        }
    }

    /// Everything is UpToDate on both nodes again: the peer need not be fenced any more (S82).
    fn unfence(&mut self, volume: VolumeId) {
        let policy = self.volumes.get(&volume).and_then(|v| v.disk.as_ref()).map(|disk| disk.options.fencing);
        let healed = self.states().all(|s| s.disk == Disk::UpToDate && s.pdsk == Disk::UpToDate);
        if healed && policy.is_some_and(|policy| policy != Fencing::DontCare) {
            self.call_handler("unfence-peer", None);
        }
    }
}
