//! Where a request goes: to the local disk, to the peer, or both, decided in one step (D14-D20,
//! D40-D43).

use std::time::Duration;

use super::Node;
use super::effect::{Device, DiskOp, ReplyError};
use super::input::{Request, RequestId};
use super::ranges::Holder;
use super::request::extent_of;
use super::state::{Conn, Disk, State};
use super::tickets::Purpose;
use super::transfer_log::{Kind, LocalLeg, NetLeg, Req, ReqKey};
use super::volume::{Admitted, Parked, Volume};
use super::worker::Work;
use crate::buffer::Buf;
use crate::config::options::Protocol;
use crate::units::{Extent, VolumeId};
use crate::wire::packet::{BlockRange, BlockRequest, DpFlags, Packet};

/// Largest discard a peer without feature WSAME takes, in bytes (D4).
const SMALL_TRIM_BYTES: u64 = 4 << 20;

/// How long the barrier of a closed epoch may wait for a write to go with.
const BARRIER_DELAY: Duration = Duration::from_millis(10);

impl Node {
    /// Routes a write that holds its range and, where there is a log, its extents.
    pub(super) fn route_write(&mut self, volume: VolumeId, admitted: Admitted, in_al: bool) {
        // The peer of a full sync that begins still has its data: a write that only this node has would be
        // unknown to it, should it come back with them (T17). While the own disk is compared with the peer's, a write
        // that only the peer has would come behind its bitmap, and nobody would remember it, should that come to
        // nothing (T33).
        let waits = |v: &Volume| {
            let State { conn, disk, .. } = v.state;
            v.state.is_suspended()
                || conn == Conn::StartingSyncS
                || matches!(disk, Disk::Attaching | Disk::Negotiating)
        };
        if self.volumes.get(&volume).is_some_and(waits) {
            return self.postpone(volume, admitted, in_al);
        }
        if extent_of(&admitted.parked.request).is_some_and(|extent| self.waits_for_peer(volume, extent)) {
            return self.route_behind_peer(volume, admitted, in_al);
        }
        if extent_of(&admitted.parked.request).is_some_and(|extent| self.waits_for_keeping(volume, extent)) {
            return self.route_behind_peer(volume, admitted, in_al);
        }
        let Admitted { parked, hold } = admitted;
        let (kind, extent, data, fua) = match parked.request {
            Request::Write { extent, data, fua } => (Kind::Write, extent, Some(data), fua),
            Request::Trim { extent, fua } => (Kind::Trim, extent, None, fua),
            Request::WriteZeroes { extent, fua, may_trim } => (Kind::Zeroes { may_trim }, extent, None, fua),
            Request::Read { .. } | Request::Flush => return,
        };
        let Some(v) = self.volumes.get(&volume) else { return };
        let state = v.state;
        let writable = state.disk == Disk::UpToDate || state.pdsk == Disk::UpToDate;
        let has_disk = v.has_usable_disk();
        let mirror = writable && state.mirrors_writes() && self.peer_takes(kind, extent);
        let key = self.log.push(Req {
            id: parked.id,
            volume,
            kind,
            extent,
            data,
            fua,
            epoch: 0,
            local: if writable && has_disk { LocalLeg::Pending } else { LocalLeg::None },
            net: NetLeg { used: mirror, pending: mirror, ..NetLeg::default() },
            in_al,
            hold,
            completed: false,
            marked_for: None,
            postponed: false,
            spoiled: false,
            sent_ns: 0,
        });
        if writable && state.announces_writes() {
            self.announce(volume, extent);
        }
        if mirror {
            self.send_write(key);
        }
        if writable && has_disk {
            self.write_locally(key);
        } else if !mirror {
            self.check_request(key);
        }
        if mirror && self.log.current_writes() >= self.link().max_epoch_size() {
            self.close_epoch();
        }
    }

    /// Fails a write that was admitted and cannot be routed.
    pub(super) fn refuse_write(&mut self, volume: VolumeId, admitted: Admitted) {
        if let Some(v) = self.volumes.get_mut(&volume) {
            v.ranges.release(Holder::Write(admitted.hold));
        }
        self.fail_unrouted(volume, admitted.parked.id);
        self.retry_waiting(volume);
    }

    /// Sends a request again on a new connection (W216).
    pub(super) fn resend(&mut self, key: ReqKey) {
        match self.log.get(key).map(|req| req.kind) {
            Some(Kind::Read) => self.send_read(key),
            Some(Kind::Write | Kind::Trim | Kind::Zeroes { .. }) => self.send_write(key),
            None => {}
        }
    }

    /// Whether the peer understands such a write; if not it is local only and its bits tell.
    fn peer_takes(&self, kind: Kind, extent: Extent) -> bool {
        match kind {
            Kind::Read | Kind::Write => true,
            Kind::Trim | Kind::Zeroes { .. } => {
                extent.bytes() <= SMALL_TRIM_BYTES || self.link().features.large_trims()
            }
        }
    }

    /// Sets the bits of a write that is announced only, before anything else (D17).
    pub(super) fn announce(&mut self, volume: VolumeId, extent: Extent) {
        let new_bits = self.mark_out_of_sync(volume, extent);
        if new_bits > 0 {
            let packet =
                Packet::OutOfSync(BlockRange { sector: extent.start(), size: extent.bytes() as u32 });
            self.barrier_if_due();
            self.send_data(volume, packet, None);
        }
    }

    /// Sends a write to the peer, its epoch's predecessor's barrier first (D18, D23).
    fn send_write(&mut self, key: ReqKey) {
        self.barrier_if_due();
        let now_ns = self.now.as_nanos().max(1);
        let Some(req) = self.log.get_mut(key) else { return };
        req.sent_ns = now_ns;
        let (volume, kind, extent, fua, epoch, data) =
            (req.volume, req.kind, req.extent, req.fua, req.epoch, req.data.clone());
        self.log.count_sent(epoch);
        let protocol = self.protocol_of_write(volume);
        let flags = self.write_flags(volume, protocol, fua);
        if flags.contains(DpFlags::MAY_SET_IN_SYNC) {
            self.log.may_clear(key);
        }
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        let (sector, block_id, seq) = (extent.start(), key.block_id(), v.next_seq());
        let size = extent.bytes() as u32;
        let zeroes = self.link().features.zeroes();
        let (packet, payload) = match kind {
            Kind::Write | Kind::Read => {
                let digest = self.link().digest_of(data.as_ref().map_or(&[], Buf::bytes));
                (Packet::Data { sector, block_id, seq, flags, digest }, data)
            }
            Kind::Zeroes { may_trim } if zeroes => {
                let unmap = if may_trim { DpFlags::DISCARD } else { DpFlags(0) };
                let flags = flags | DpFlags::ZEROES | unmap;
                (Packet::Zeroes { sector, block_id, seq, flags, size }, None)
            }
            // Without the feature a trim is executed as zeroes by the peer (D158).
            Kind::Trim | Kind::Zeroes { .. } => {
                (Packet::Trim { sector, block_id, seq, flags: flags | DpFlags::DISCARD, size }, None)
            }
        };
        if let Some(v) = self.volumes.get_mut(&volume) {
            v.counters.ns += u64::from(size) / 1024;
            v.counters.pe += 1;
        }
        self.send_data(volume, packet, payload);
        if protocol == Protocol::A {
            self.await_network(key);
        }
    }

    /// A write of protocol A is as good as received once the network has it (D30). Its packet may
    /// still be behind other work: only then does it count as queued.
    fn await_network(&mut self, key: ReqKey) {
        let Some(socket) = self.link().data else { return };
        if self.worker.is_idle() {
            self.link_mut().unsent.push(key);
        } else {
            self.worker.push(Work::AwaitNetwork { socket, key });
        }
    }

    /// The protocol of a write that is sent now. Whose own disk has no good copy answers what is on the
    /// peer's, not what is on its way there: it may fail.
    fn protocol_of_write(&self, volume: VolumeId) -> Protocol {
        let has_copy = self.volumes.get(&volume).is_some_and(|v| v.state.disk == Disk::UpToDate);
        if has_copy { self.link().protocol() } else { Protocol::C }
    }

    /// The flags of a write packet (D26, W123).
    fn write_flags(&self, volume: VolumeId, protocol: Protocol, fua: bool) -> DpFlags {
        let ack = match protocol {
            Protocol::A => DpFlags(0),
            Protocol::B => DpFlags::SEND_RECEIVE_ACK,
            Protocol::C => DpFlags::SEND_WRITE_ACK,
        };
        let mut flags = DpFlags::RW_SYNC | ack;
        if self.volumes.get(&volume).is_some_and(|v| v.state.conn.is_resync_or_verify()) {
            flags = flags | DpFlags::MAY_SET_IN_SYNC | DpFlags::SEND_WRITE_ACK;
        }
        if fua {
            flags = flags | DpFlags::FUA;
        }
        flags
    }

    /// Starts the local leg (D20).
    fn write_locally(&mut self, key: ReqKey) {
        let Some(req) = self.log.get(key) else { return };
        let (volume, extent, fua) = (req.volume, req.extent, req.fua);
        let (offset, len) = (extent.start().byte_offset(), extent.bytes());
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        let Some(disk) = v.disk.as_mut() else { return };
        let op = match (req.kind, &req.data) {
            (Kind::Trim, _) if disk.facts.discards => DiskOp::Discard { offset, len },
            (Kind::Zeroes { may_trim }, _) => DiskOp::Zero { offset, len, unmap: may_trim },
            (Kind::Write | Kind::Read, Some(data)) => DiskOp::Write { offset, data: data.clone(), fua },
            (Kind::Trim | Kind::Write | Kind::Read, _) => DiskOp::Zero { offset, len, unmap: true },
        };
        v.counters.dw += len / 1024;
        v.counters.lo += 1;
        self.start_disk(volume, Device::Data, op, Purpose::Local { key });
    }

    /// A read: from the local disk if that may serve it, else from the peer (D40, D41).
    pub(super) fn start_read(&mut self, volume: VolumeId, id: RequestId, extent: Extent) {
        let local = self.may_read_locally(volume, extent);
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        if v.state.disk == Disk::Inconsistent && v.ranges.written(extent) {
            // The peer may have the write already that this disk has not: a read that it serves would see it, and
            // a later one of a part that is in sync here would not (I25).
            v.waiting.push_back(Parked { id, request: Request::Read { extent } });
            return;
        }
        let remote = v.state.pdsk == Disk::UpToDate && self.link().is_up();
        if !local && !remote {
            return self.fail_unrouted(volume, id);
        }
        let key = self.log.push(Req {
            id,
            volume,
            kind: Kind::Read,
            extent,
            data: None,
            fua: false,
            epoch: 0,
            local: if local { LocalLeg::Pending } else { LocalLeg::None },
            net: NetLeg { used: !local, pending: !local, ..NetLeg::default() },
            in_al: false,
            hold: 0,
            completed: false,
            marked_for: None,
            postponed: false,
            spoiled: false,
            sent_ns: 0,
        });
        if local {
            if let Some(v) = self.volumes.get_mut(&volume) {
                v.counters.dr += extent.bytes() / 1024;
                v.counters.lo += 1;
            }
            let op = DiskOp::Read { offset: extent.start().byte_offset(), len: extent.bytes() as usize };
            self.start_disk(volume, Device::Data, op, Purpose::Local { key });
        } else {
            self.send_read(key);
        }
    }

    /// Whether the local disk may serve this read: UpToDate, or Inconsistent and the range in sync (D40), of
    /// which the bits tell while a resync runs. Before and after that the peer may write what nobody tells.
    pub(super) fn may_read_locally(&self, volume: VolumeId, extent: Extent) -> bool {
        let Some(v) = self.volumes.get(&volume) else { return false };
        let Some(disk) = &v.disk else { return false };
        let (first, last) = extent.touched_bits();
        match v.state.disk {
            Disk::UpToDate => true,
            Disk::Inconsistent => v.state.conn.is_sync_target() && !disk.bitmap.any(first, last),
            Disk::Diskless
            | Disk::Attaching
            | Disk::Failed
            | Disk::Negotiating
            | Disk::Outdated
            | Disk::DUnknown
            | Disk::Consistent => false,
        }
    }

    /// Asks the peer for the data (D43).
    fn send_read(&mut self, key: ReqKey) {
        self.barrier_if_due();
        let now_ns = self.now.as_nanos().max(1);
        let Some(req) = self.log.get_mut(key) else { return };
        req.sent_ns = now_ns;
        let (volume, extent) = (req.volume, req.extent);
        let packet = Packet::DataRequest(BlockRequest {
            sector: extent.start(),
            block_id: key.block_id(),
            size: extent.bytes() as u32,
        });
        if let Some(v) = self.volumes.get_mut(&volume) {
            v.counters.pe += 1;
        }
        self.send_data(volume, packet, None);
    }

    /// A request that no copy can serve and that is in no log yet (D19).
    fn fail_unrouted(&mut self, volume: VolumeId, id: RequestId) {
        if let Some(v) = self.volumes.get_mut(&volume) {
            v.live -= 1;
        }
        self.retry_parked = true;
        self.reply(id, Err(ReplyError::Io));
    }

    /// Sends the barrier of the epoch sent last, if it is closed (D23, D24).
    pub(super) fn barrier_if_due(&mut self) {
        self.link_mut().barrier_at = None;
        let (current, now_ns) = (self.log.current_epoch(), self.now.as_nanos());
        if let Some(number) = self.log.barrier_before(current, now_ns) {
            let packet = Packet::Barrier(number.to_be_bytes());
            self.send_data(VolumeId(0), packet, None);
            self.shadow_barrier_sent(number);
        }
    }

    /// Closes the current epoch. Its barrier goes out with the next write, or soon (D24): a packet of
    /// its own for each write of a client that writes one at a time would cost both nodes a wake-up.
    pub(super) fn close_epoch(&mut self) {
        if self.log.close_epoch() && self.link().is_up() {
            let at = self.now.after(BARRIER_DELAY);
            self.link_mut().barrier_at.get_or_insert(at);
        }
    }

    /// Sends the barrier that waited long enough.
    pub(super) fn barrier_tick(&mut self) {
        if self.link().barrier_at.is_some_and(|at| self.now >= at) {
            self.barrier_if_due();
        }
    }

    /// Somebody waits for the barrier acks of all that was answered: sends the barrier now, and a
    /// hint to a peer that shares flushes among epochs (D67). The epoch to wait for, if any.
    pub(super) fn hurry_barriers(&mut self, volume: VolumeId) -> Option<u32> {
        self.barrier_if_due();
        let newest = self.log.newest_barrier();
        if newest.is_some() && self.link().hurried != newest {
            self.link_mut().hurried = newest;
            self.send_data(volume, Packet::UnplugRemote, None);
        }
        newest
    }
}
