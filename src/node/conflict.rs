//! Two primaries: writes of both nodes to the same sectors at the same time (datapath.md section 11,
//! W146-W153).
//!
//! ```text
//!  the resolver (accepted the meta socket)         the other node
//!  ───────────────────────────────────────         ──────────────
//!  own write W ── P_DATA ─────────────────────────► waits for the fate of V
//!  V overlaps W: is not written   ◄──── P_DATA ──── own write V
//!    V inside W, and W on
//!    the own disk: P_SUPERSEDED ──────────────────► V is answered; W goes over it
//!    else:       P_RETRY_WRITE ───────────────────► V waits for W, then goes again
//!  W is done     ◄─────────────────── P_WRITE_ACK ─ W is written
//! ```

use super::Node;
use super::effect::LogLevel;
use super::epochs::EpochKey;
use super::peer_write::WritePacket;
use super::state::{Conn, Role};
use super::transfer_log::{LocalLeg, NetLeg, Req, ReqKey};
use super::volume::Admitted;
use crate::buffer::Buf;
use crate::units::{Extent, Moment, VolumeId};
use crate::wire::packet::{BlockAck, DpFlags, Packet};

/// A write of the peer that came before acks that the peer had sent before it (D178).
#[derive(Debug)]
pub(super) struct EarlyWrite {
    volume: VolumeId,
    write: WritePacket,
    data: Option<Buf>,
    /// The acks come until then, or the connection is no good.
    pub(super) until: Moment,
}

impl Node {
    /// Whether this node has to judge conflicts on the volume: both are Primary, and the other one
    /// dialed the meta socket (D177).
    fn judges(&self, volume: VolumeId) -> bool {
        let both = |v: &super::volume::Volume| v.state.role == Role::Primary && v.state.peer == Role::Primary;
        self.link().resolver && self.volumes.get(&volume).is_some_and(both)
    }

    /// Notes the sequence number of an ack; a write that waited for it may go on (D178).
    pub(super) fn saw_ack(&mut self, volume: VolumeId, seq: u32) {
        if let Some(v) = self.volumes.get_mut(&volume) {
            v.saw_seq(seq);
        }
        let waits = self.link().early_write.as_ref().is_some_and(|early| early.volume == volume);
        if !waits {
            return;
        }
        if let Some(EarlyWrite { volume, write, data, .. }) = self.link_mut().early_write.take()
            && let Some((write, data)) = self.wait_for_acks(volume, write, data)
        {
            self.hold_data(false);
            self.on_peer_write(volume, write, data);
        }
    }

    /// Gives a write back if all acks that the peer sent before it are here. Else it is kept, and
    /// nothing else is read from the data socket: a write must not be judged against a request whose
    /// ack is still on its way (D178).
    pub(super) fn wait_for_acks(
        &mut self,
        volume: VolumeId,
        write: WritePacket,
        data: Option<Buf>,
    ) -> Option<(WritePacket, Option<Buf>)> {
        let judges = self.judges(volume);
        let in_order = self.volumes.get_mut(&volume).is_none_or(|v| v.is_next_seq(write.seq));
        if judges && !in_order {
            let patience = self.link().config.as_ref().map(|config| config.ping_timeout());
            let until = self.now.after(patience.unwrap_or_default());
            self.hold_data(true);
            self.link_mut().early_write = Some(EarlyWrite { volume, write, data, until });
            return None;
        }
        if let Some(v) = self.volumes.get_mut(&volume) {
            v.saw_seq(write.seq);
        }
        Some((write, data))
    }

    /// The acks that a write waits for did not come (D178).
    pub(super) fn early_write_tick(&mut self) {
        let now = self.now;
        if self.link_mut().early_write.take_if(|early| now >= early.until).is_some() {
            self.lose_link(Conn::NetworkFailure, "missing ack packets");
        }
    }

    /// Own writes to these sectors that were sent and are not answered to their client.
    pub(super) fn own_writes(
        &self,
        volume: VolumeId,
        extent: Extent,
    ) -> impl Iterator<Item = (ReqKey, &Req)> {
        self.log.iter().filter(move |(_, req)| {
            req.volume == volume
                && req.kind.is_write()
                && !req.completed
                && req.net.used
                && req.extent.overlaps(extent)
        })
    }

    /// Own writes to these sectors that were sent when the connection was lost while I/O was frozen: what the peer had of them
    /// it had before what it writes there now. They are no rivals of this write, and do not go out again, over it. What it
    /// does not cover of them the peer may lack, if it had not acked it or may have restarted.
    pub(super) fn settle_overwritten(&mut self, volume: VolumeId, extent: Extent) {
        let mirrored = self.volumes.get(&volume).is_some_and(|v| v.state.mirrors_writes());
        let trusted = !self.may_lose_what_it_acked(volume);
        let is_there = |req: &Req| extent.contains(req.extent) || (req.net.ok && trusted);
        let had = self.own_writes(volume, extent).filter(|(_, req)| req.net.lost && is_there(req));
        let keys: Vec<ReqKey> = had.map(|(key, _)| key).collect();
        for key in keys {
            if let Some(req) = self.log.get_mut(key) {
                // A disk that the peer lost meanwhile does not count (T10).
                req.net = NetLeg { lost: false, pending: false, done: true, ok: mirrored, ..req.net };
            }
            self.check_request(key);
        }
    }

    /// As the resolver, refuses a write of the peer that overlaps own ones (D179, W147). Whether it
    /// did: such a write is not executed. One that the peer has answered is no rival: the peer wrote
    /// later than that, and its write only waits until ours is on the local disk. One that the peer may have had
    /// before the connection was lost takes no later write's place, nor does one that is not on the local disk: the
    /// peer answers its client, and with both programs killed just then this copy would have neither (I1). Nor is one
    /// superseded that is to be durable here when it is answered (I6).
    pub(super) fn refuse_conflicting(
        &mut self,
        volume: VolumeId,
        extent: Extent,
        write: &WritePacket,
    ) -> bool {
        if !self.judges(volume) {
            return false;
        }
        let unanswered = self.own_writes(volume, extent).filter(|(_, req)| req.net.pending || req.net.lost);
        let durable = write.flags.contains(DpFlags::FUA) || write.flags.contains(DpFlags::FLUSH);
        let takes_its_place = |req: &Req| {
            let is_here = req.local == LocalLeg::Done { ok: true };
            req.extent.contains(extent) && is_here && !durable && !req.net.lost && !req.net.again
        };
        let mine: Vec<(ReqKey, Extent, bool)> =
            unanswered.map(|(key, req)| (key, req.extent, takes_its_place(req))).collect();
        let Some(&(_, first, _)) = mine.first() else { return false };
        if first != extent {
            let text = format!("concurrent writes: own {first}, the peer's {extent}");
            self.say(LogLevel::Warn, Some(volume), text);
        }
        let covered = mine.iter().any(|(.., takes_its_place)| *takes_its_place);
        let packet = if covered { Packet::Superseded } else { Packet::RetryWrite };
        // The peer's request leaves its log for good only once it has written ours (T8): its epoch is
        // not acked before.
        for (key, ..) in mine {
            let epoch = self.link_mut().epochs.withheld();
            self.link_mut().withheld.push((key, epoch));
        }
        self.ack(volume, extent, write.block_id, packet);
        true
    }

    /// An own write was answered by the peer: epochs that waited for that go on (T8). Whether some did.
    pub(super) fn release_withheld(&mut self, key: ReqKey) -> bool {
        if self.link().withheld.is_empty() {
            return false;
        }
        let released: Vec<EpochKey> =
            self.link_mut().withheld.extract_if(.., |(own, _)| *own == key).map(|(_, epoch)| epoch).collect();
        let some = !released.is_empty();
        for epoch in released {
            self.link_mut().epochs.finished(epoch);
            self.try_epochs(false);
        }
        some
    }

    /// The connection is gone: no answer comes to the own writes that epochs of the peer's waited for,
    /// and nobody is told any more when those are done.
    pub(super) fn forget_withheld(&mut self) {
        for (_, epoch) in std::mem::take(&mut self.link_mut().withheld) {
            self.link_mut().epochs.finished(epoch);
        }
    }

    /// Whether a write of the peer has to wait for an own one: until that is on the local disk, and
    /// its fate is known (D179, W148).
    pub(super) fn waits_for_own(&self, volume: VolumeId, extent: Extent) -> bool {
        let up = self.link().is_up();
        self.volumes.get(&volume).is_some_and(|v| v.ranges.written(extent))
            && self.own_writes(volume, extent).any(|(_, req)| {
                // Of a connection that is gone nothing is heard any more; on a new one it is sent again.
                if up { !req.legs_ended() || req.net.lost } else { req.local == LocalLeg::Pending }
            })
    }

    /// Whether an own write has to wait for one of the peer's (D11).
    pub(super) fn waits_for_peer(&self, volume: VolumeId, extent: Extent) -> bool {
        self.link().peer_ios.values().any(|io| io.volume == volume && io.extent.overlaps(extent))
    }

    /// The resolver's answer to a write of ours that met one of its own (D180, W149, W150).
    pub(super) fn on_conflict_ack(&mut self, volume: VolumeId, ack: BlockAck, retry: bool) {
        let key = ReqKey::from_block_id(ack.block_id);
        let fits = self.log.get(key).is_some_and(|req| {
            req.volume == volume
                && req.extent.start() == ack.sector
                && req.kind.is_write()
                && req.net.used
                && req.net.pending
        });
        if !fits {
            let text = format!("a conflict at sector {} with no write of ours", ack.sector);
            return self.protocol_error(&text);
        }
        let Some(req) = self.log.get_mut(key) else { return };
        req.net.pending = false;
        req.net.done = true;
        req.net.ok = !retry;
        req.postponed = retry;
        let (epoch, extent) = (req.epoch, req.extent);
        let mut refused = false;
        if let Some(v) = self.volumes.get_mut(&volume) {
            v.counters.pe = v.counters.pe.saturating_sub(1);
            refused = !v.has_usable_disk(); // So is the write that it is to wait for, or was.
        }
        self.log.withdraw(epoch);
        self.check_request(key);
        if retry && refused && !self.waits_for_peer(volume, extent) {
            self.restart(key);
        }
        for volume in self.volume_ids() {
            self.check_flushes(volume);
        }
    }

    /// A write of the peer is done: own ones that waited for it go on, and those that it made wait go
    /// again, from scratch (D180).
    pub(super) fn peer_write_left(&mut self, volume: VolumeId, extent: Extent) {
        let postponed: Vec<ReqKey> = self
            .log
            .iter()
            .filter(|(_, req)| req.postponed && req.volume == volume && req.extent.overlaps(extent))
            .map(|(key, _)| key)
            .collect();
        for key in postponed {
            self.restart(key);
        }
        self.route_those_behind(volume);
    }

    /// Own writes that wait for what is over, perhaps, are routed once more.
    pub(super) fn route_those_behind(&mut self, volume: VolumeId) {
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        for (admitted, in_al) in std::mem::take(&mut v.behind_peer) {
            self.route_write(volume, admitted, in_al);
        }
    }

    /// A write waits for an overlapping one of the peer's before it is sent anywhere.
    pub(super) fn route_behind_peer(&mut self, volume: VolumeId, admitted: Admitted, in_al: bool) {
        if let Some(v) = self.volumes.get_mut(&volume) {
            v.behind_peer.push((admitted, in_al));
        }
    }

    /// The connection is gone: postponed writes go again, on this node alone (D181).
    pub(super) fn restart_postponed(&mut self) {
        self.link_mut().early_write = None;
        let postponed: Vec<ReqKey> =
            self.log.iter().filter(|(_, req)| req.postponed).map(|(key, _)| key).collect();
        for key in postponed {
            // What is on its way to the own disk ends there, and is that write: once more, and the first one
            // might come after a later write.
            match self.log.get_mut(key).filter(|req| req.local == LocalLeg::Pending) {
                Some(req) => req.postponed = false,
                None => self.restart(key),
            }
        }
    }

    fn restart(&mut self, key: ReqKey) {
        let Some(req) = self.log.remove(key) else { return };
        let (volume, in_al) = (req.volume, req.in_al);
        if let Some(admitted) = req.into_admitted() {
            self.route_write(volume, admitted, in_al);
        }
    }
}
