//! How requests end: answers of the disk and of the peer, completion to the client, destruction
//! (D30-D38, T17).

use std::collections::VecDeque;

use super::Node;
use super::effect::ReplyError;
use super::input::DiskFault;
use super::input::Request;
use super::ranges::Holder;
use super::request::extent_of;
use super::state::{Conn, Disk, State};
use super::transfer_log::{Copies, Kind, LocalLeg, NetLeg, Req, ReqKey};
use super::volume::{Admitted, Parked, Volume};
use super::worker::Work;
use crate::buffer::Buf;
use crate::config::options::{Fencing, Protocol};
use crate::units::{Extent, VolumeId};

impl Node {
    /// The local leg of a request ended.
    pub(super) fn local_done(&mut self, key: ReqKey, result: Result<Option<Buf>, DiskFault>) {
        let Some(req) = self.log.get(key) else { return };
        let (volume, kind) = (req.volume, req.kind);
        if let Some(v) = self.volumes.get_mut(&volume) {
            v.counters.lo = v.counters.lo.saturating_sub(1);
            if kind.is_write() {
                v.note_written();
            }
        }
        match result {
            Ok(data) => {
                if let (Kind::Read, Some(req)) = (kind, self.log.get_mut(key)) {
                    req.data = data;
                }
                self.end_local(key, true);
            }
            Err(fault) if kind == Kind::Read => self.local_read_failed(key, &fault),
            Err(fault) => self.local_write_failed(key, &fault),
        }
    }

    /// A read of the local disk failed: a later resync rewrites the bad blocks (D46). A target that has the bitmap
    /// already hears of it: it would not hear of the next write there, whose bits are set (D17).
    fn local_read_failed(&mut self, key: ReqKey, fault: &DiskFault) {
        let Some(req) = self.log.get(key) else { return };
        let (volume, extent) = (req.volume, req.extent);
        if self.volumes.get(&volume).is_some_and(|v| v.state.announces_writes()) {
            self.announce(volume, extent);
        } else {
            self.mark_out_of_sync(volume, extent);
        }
        self.client_read_fault(volume, fault);
        self.end_local(key, false);
    }

    /// A write failed on the local disk.
    fn local_write_failed(&mut self, key: ReqKey, fault: &DiskFault) {
        let Some(req) = self.log.get(key) else { return };
        let (volume, trim) = (req.volume, req.kind == Kind::Trim);
        let spoiled =
            self.only_copy_failed(key, |state| state.disk == Disk::UpToDate && state.pdsk < Disk::UpToDate);
        if trim {
            return self.end_local(key, false); // A failed discard changes nothing but the bits (D163).
        }
        self.write_fault(volume, fault, "a write");
        let stays = self.volumes.get(&volume).is_some_and(Volume::has_usable_disk);
        self.refuse_when_durable(volume, Work::LocalWriteFailed { key });
        if spoiled && stays {
            self.compare_bits_anew();
        }
    }

    /// The local leg of a request has come to its end.
    pub(super) fn end_local(&mut self, key: ReqKey, ok: bool) {
        let Some(req) = self.log.get_mut(key) else { return };
        req.local = LocalLeg::Done { ok };
        self.check_request(key);
    }

    /// A mirrored write failed on one of the two disks. If only that one is good, what the other has counts
    /// for nothing: a resync writes the old block over it (I3). Whether that is so.
    fn only_copy_failed(&mut self, key: ReqKey, is_only: impl Fn(State) -> bool) -> bool {
        let mirrored = |req: &&mut Req| req.kind != Kind::Trim && req.net.used;
        let Some(req) = self.log.get_mut(key).filter(mirrored) else { return false };
        let state = self.volumes.get(&req.volume).map(|v| v.state);
        req.spoiled = state.is_some_and(|state| state.conn >= Conn::Connected && is_only(state));
        req.spoiled
    }

    /// The peer has refused a write (P_NEG_ACK). One that its client took for done before, in protocol A or B,
    /// is marked now: at the end of its epoch a resync may have made it good.
    pub(super) fn peer_write_refused(&mut self, key: ReqKey) {
        if self.log.get(key).is_some_and(|req| req.completed) {
            self.mark_missing_copy(key);
        }
        self.part_from_a_peer_that_refuses(key);
        if self.only_copy_failed(key, |state| state.disk < Disk::UpToDate && state.pdsk == Disk::UpToDate) {
            self.compare_bits_anew();
        }
    }

    /// The peer lacks a write and still counts as UpToDate: what it says of its disk may come later than its refusal,
    /// or never, and it may have given that disk up without a mark on it. A new generation tells, before the client
    /// hears that the write is done (T17, T21).
    fn part_from_a_peer_that_refuses(&mut self, key: ReqKey) {
        let Some(req) = self.log.get(key).filter(|req| req.kind != Kind::Trim) else { return };
        let volume = req.volume;
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        let both_good = v.state.disk == Disk::UpToDate && v.state.pdsk == Disk::UpToDate;
        if !both_good || v.state.conn < Conn::Connected {
            return;
        }
        v.marks.peer_refused = true;
        if v.lacks_own_generation() {
            v.marks.hold_unmirrored = true;
            self.worker.push(Work::NewGeneration { volume });
        }
    }

    /// The other node may have called a block in sync that is not, and would never ask for it: the next
    /// connection begins with an exchange of the bits.
    fn compare_bits_anew(&mut self) {
        self.lose_link(
            Conn::NetworkFailure,
            "the only good disk could not take a write that the other one has",
        );
    }

    /// Completes and destroys the request if nothing stands in the way any more.
    pub(super) fn check_request(&mut self, key: ReqKey) {
        let may_be_waited_for =
            self.log.get(key).is_some_and(|req| req.kind.is_write() && req.local != LocalLeg::Pending);
        self.settle_request(key);
        if may_be_waited_for && !self.link().peer_ios.is_empty() {
            self.start_waiting_ios(); // Writes of another primary wait for own ones (D179).
        }
    }

    fn settle_request(&mut self, key: ReqKey) {
        let Some(req) = self.log.get(key) else { return };
        if req.postponed {
            return; // It goes again when the peer's write is done (D180).
        }
        if !req.completed {
            if !req.legs_ended() {
                return;
            }
            if req.kind == Kind::Read {
                return self.complete_read(key);
            }
            let (volume, net) = (req.volume, req.net);
            self.mark_missing_copy(key);
            let Some(v) = self.volumes.get(&volume) else { return };
            if v.state.is_suspended() || (v.marks.hold_unmirrored && !net.ok) {
                return; // Released by the thaw, or when the new generation is durable (T17).
            }
            self.complete_write(key);
        }
        if self.log.get(key).is_some_and(Req::destroyable) {
            self.destroy(key);
        }
    }

    /// Answers the client of a write. A write completed in the current epoch closes it (D32).
    fn complete_write(&mut self, key: ReqKey) {
        let Some(ok) = self.log.get(key).map(|req| self.is_on_a_good_disk(req)) else { return };
        let Some(req) = self.log.get_mut(key) else { return };
        req.completed = true;
        req.data = None;
        let (id, volume, hold, epoch) = (req.id, req.volume, req.hold, req.epoch);
        let destroyable = req.destroyable();
        let elsewhere = ok && req.local == LocalLeg::None && req.net.ok;
        let closes = epoch == self.log.current_epoch();
        if let Some(v) = self.volumes.get_mut(&volume) {
            v.marks.newer_elsewhere |= elsewhere;
        }
        if destroyable {
            self.destroy(key); // The bits of a local-only write are set before its client hears of it (D35).
        }
        if closes {
            self.close_epoch();
        }
        self.end_of_request(volume, hold);
        self.reply(id, if ok { Ok(None) } else { Err(ReplyError::Io) });
    }

    /// Whether a write is on a good disk: one that is given up, or is the target of a resync, does not count (I3).
    fn is_on_a_good_disk(&self, req: &Req) -> bool {
        let Some(state) = self.volumes.get(&req.volume).map(|v| v.state) else { return false };
        let Copies { local, peer } = req.copies();
        let good = |disk: Disk| disk >= Disk::Consistent;
        !req.spoiled && ((local && good(state.disk)) || (peer && good(state.pdsk)))
    }

    /// A request left the admitted ones: its range is free, and others may start.
    fn end_of_request(&mut self, volume: VolumeId, hold: u64) {
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        v.live -= 1;
        self.retry_parked |= !v.parked.is_empty() || !v.postponed.is_empty() || v.gate > 0;
        if hold != 0 && v.ranges.release(Holder::Write(hold)) {
            self.retry_waiting(volume);
            self.retry_ranges(volume);
        }
    }

    /// Ends a read, or sends it the other way if the first failed (D45).
    fn complete_read(&mut self, key: ReqKey) {
        let Some(req) = self.log.get(key) else { return };
        let (id, volume, extent, ok) = (req.id, req.volume, req.extent, req.succeeded());
        if !ok {
            let failed_here = req.local == LocalLeg::Done { ok: false };
            self.log.remove(key);
            if let Some(v) = self.volumes.get_mut(&volume) {
                v.live -= 1;
            }
            let frozen = self.volumes.get(&volume).is_some_and(|v| v.state.is_suspended());
            if failed_here && !frozen && self.may_read_locally(volume, extent) {
                self.retry_parked = true;
                return self.reply(id, Err(ReplyError::Io)); // The only good disk, with pass_on: it would fail again.
            }
            // From admission again: another path serves it, or it fails there.
            let request = Request::Read { extent };
            return self.admit(volume, Parked { id, request });
        }
        let data = self.log.remove(key).and_then(|req| req.data);
        self.end_of_request(volume, 0);
        self.reply(id, Ok(data));
    }

    /// Only one copy has these sectors, or they differ: sets their bits, for good, as no older write clears them, neither
    /// an own one nor one of the peer's, when its epoch is durable. Returns how many were new.
    pub(super) fn mark_out_of_sync(&mut self, volume: VolumeId, extent: Extent) -> u64 {
        self.mark_out_of_sync_by(volume, extent, None)
    }

    /// The same, `by` a write that lacks a copy: what was written behind it clears the bits again.
    fn mark_out_of_sync_by(&mut self, volume: VolumeId, extent: Extent, by: Option<ReqKey>) -> u64 {
        self.log.outdate(volume, extent, by);
        let in_sync_writes = &mut self.link_mut().in_sync_writes;
        in_sync_writes.retain(|(_, of, older)| *of != volume || !older.shares_block(extent));
        self.volumes.get_mut(&volume).map_or(0, |v| v.set_out_of_sync(extent))
    }

    /// Sets the bits of a write that lacks a copy; once, as a resync may clear them before the request ends.
    fn mark_missing_copy(&mut self, key: ReqKey) {
        let Some(req) = self.log.get_mut(key).filter(|req| req.kind.is_write()) else { return };
        let (volume, extent, copies) = (req.volume, req.extent, req.copies());
        if !req.both_ok() && req.marked_for.replace(copies) != Some(copies) {
            self.mark_out_of_sync_by(volume, extent, Some(key));
        }
    }

    /// Forgets a request: its bits say what became of its copies, its extents may cool (D35, D36).
    fn destroy(&mut self, key: ReqKey) {
        self.mark_missing_copy(key);
        let Some(req) = self.log.remove(key) else { return };
        if !req.kind.is_write() {
            return;
        }
        let Some(v) = self.volumes.get_mut(&req.volume) else { return };
        if req.both_ok() && req.net.in_sync {
            v.set_in_sync(req.extent);
        }
        if req.net.used && v.resync.is_some() {
            self.source_progress(req.volume); // It may have been the last one that is to clear bits.
        }
        if req.in_al {
            self.release_activity(req.volume, req.extent);
        }
    }

    /// The sweep of a lost connection: nothing more comes from it, and what it said counts for
    /// nothing (D74, D79). Requests that were sent and not barrier-acked are out of sync.
    pub(super) fn connection_lost_requests(&mut self) {
        self.log.forget_connection();
        for key in self.log.keys() {
            let Some(req) = self.log.get_mut(key) else { continue };
            if req.net.used && !req.net.done {
                // A resync will write the old block over what only an Inconsistent disk has.
                let good = self.volumes.get(&req.volume).is_some_and(|v| v.state.disk == Disk::UpToDate);
                req.spoiled |= req.kind.is_write() && !req.completed && !good;
                if req.net.pending
                    && !req.net.lost
                    && let Some(v) = self.volumes.get_mut(&req.volume)
                {
                    v.counters.pe = v.counters.pe.saturating_sub(1);
                }
                req.net.ok = false;
                req.net.pending = false;
                req.net.done = true;
                req.net.lost = false;
            }
            self.check_request(key);
        }
        self.restart_postponed();
        for volume in self.volume_ids() {
            self.check_flushes(volume);
        }
    }

    /// Looks at every request and flush again: something that withheld completions is over.
    pub(super) fn recheck_requests(&mut self) {
        for key in self.log.keys() {
            self.check_request(key);
        }
        for volume in self.volume_ids() {
            self.check_flushes(volume);
        }
    }

    /// The connection is lost while I/O is frozen: what becomes of the requests sent on it is decided
    /// when I/O goes on (section 4.5 of datapath.md). Only what was answered is not sent again. Where the peer
    /// may not have it any more, the next handshake has to know, and finds equal generations: as after a crash
    /// as Primary, this node is the source of what its bits say (T4).
    pub(super) fn connection_lost_while_frozen(&mut self) {
        self.log.forget_connection();
        for key in self.log.keys() {
            let Some(req) = self.log.get(key) else { continue };
            if !req.net.used {
                // Begun between the loss and the freezing: only its bits tell, as no generation was made.
                let alone = req.kind.is_write() && req.local != LocalLeg::None;
                if let Some(v) = self.volumes.get_mut(&req.volume).filter(|_| alone) {
                    v.marks.crashed_primary = true;
                }
                continue;
            }
            if req.net.done || req.net.lost {
                continue;
            }
            let (volume, pending) = (req.volume, req.net.pending);
            let doubtful = req.completed && self.may_lose_what_it_acked(volume);
            if let Some(req) = self.log.get_mut(key) {
                req.net = NetLeg { lost: !doubtful, done: doubtful, ok: req.net.ok && !doubtful, ..req.net };
            }
            let Some(v) = self.volumes.get_mut(&volume) else { continue };
            if pending {
                v.counters.pe = v.counters.pe.saturating_sub(1);
            }
            if doubtful {
                v.marks.crashed_primary = true;
                self.check_request(key);
            }
        }
        self.restart_postponed();
    }

    /// Whether the peer may lack a write that counts as acknowledged, but for its barrier: what protocol A has only
    /// sent, or protocol B only received, as its disk may refuse it (T29); and what was in a cache, of a peer that
    /// restarts and does not come back as only Consistent (D80).
    /// A peer that was Primary, too, cannot be this node's target as long as it is, and such a pair has fencing.
    pub(super) fn may_lose_what_it_acked(&self, volume: VolumeId) -> bool {
        let Some(v) = self.volumes.get(&volume) else { return false };
        let unfenced = v.disk.as_ref().is_some_and(|disk| disk.options.fencing == Fencing::DontCare);
        self.link().protocol() != Protocol::C || (unfenced && !v.marks.peer_was_primary)
    }

    /// Frozen I/O goes on with a peer that did not restart (S26, A4, A5; D80). What was answered is
    /// there; what was not is sent once more; what has no good copy starts anew (T35).
    pub(super) fn resend_requests(&mut self) {
        let mut awaited = false; // By a write of the peer (D180).
        for key in self.log.keys() {
            let Some(req) = self.log.get_mut(key).filter(|req| req.net.lost) else { continue };
            let v = self.volumes.get(&req.volume);
            let mirrored = v.is_some_and(|v| v.state.mirrors_writes());
            let has_disk = v.is_some_and(|v| v.has_usable_disk() || v.state.disk == Disk::Negotiating);
            // Another Primary may be writing over what it had.
            let settled = req.net.ok && mirrored && v.is_some_and(|v| v.marks.peer_was_primary);
            if req.completed || settled {
                // A peer that lost its disk meanwhile may have lost it before a flush (T10).
                req.net = NetLeg { lost: false, done: true, ok: req.net.ok && mirrored, ..req.net };
                continue;
            }
            // Of one that was for the peer alone the disk that is here by now would never hear.
            let one_copy = req.kind.is_write() && req.local == LocalLeg::None;
            let again = mirrored && !(one_copy && has_disk);
            req.net = NetLeg { used: true, pending: again, done: !again, again, ..NetLeg::default() };
            if again {
                self.log.requeue(key);
                self.resend(key);
            } else {
                awaited |= self.release_withheld(key) && !mirrored; // No ack of it comes any more (T8).
            }
        }
        self.flushes_follow_resent_writes();
        self.restart_failed_requests();
        self.recheck_requests();
        if awaited {
            self.lose_link(Conn::NetworkFailure, "a write that the peer waits for does not go to it again");
        }
    }

    /// The bitmap is about to be sent, while I/O may still be frozen: what was answered and not confirmed by
    /// a barrier ack before is in it. Nothing would tell the peer of it later, nor, should this exchange come
    /// to nothing, the next handshake (T4).
    pub(super) fn mark_what_the_peer_may_lack(&mut self, volume: VolumeId) {
        for key in self.log.keys() {
            let frozen = |req: &&mut Req| req.volume == volume && req.completed && req.net.lost;
            let Some(req) = self.log.get_mut(key).filter(frozen) else { continue };
            req.net = NetLeg { lost: false, done: true, ok: false, ..req.net };
            if let Some(v) = self.volumes.get_mut(&volume) {
                v.marks.crashed_primary = true;
            }
            self.check_request(key);
        }
    }

    /// A flush that was frozen waits for the barrier of what was sent once more (T3).
    fn flushes_follow_resent_writes(&mut self) {
        let (current, resent) = (self.log.current_epoch(), self.log.current_writes() > 0);
        for flush in self.volumes.values_mut().flat_map(|v| &mut v.flushes).filter(|_| resent) {
            flush.epoch = Some(current);
        }
    }

    /// Writes that were frozen without any good copy are admitted anew, in their order: now there
    /// may be one.
    pub(super) fn restart_failed_requests(&mut self) {
        let failed = |req: &Req| {
            let ended = req.kind.is_write() && !req.completed && !req.postponed && req.legs_ended();
            ended && !self.is_on_a_good_disk(req)
        };
        let failed: Vec<ReqKey> =
            self.log.iter().filter(|(_, req)| failed(req)).map(|(key, _)| key).collect();
        if failed.is_empty() {
            return;
        }
        let younger: Vec<VecDeque<Parked>> = self.volumes.values_mut().map(Volume::take_unrouted).collect();
        for key in failed {
            let Some(req) = self.log.remove(key) else { continue };
            self.release_withheld(key);
            let (volume, extent, in_al) = (req.volume, req.extent, req.in_al);
            // A peer that has it knows that this node had no disk then (A9).
            let one_copy = req.local == LocalLeg::None;
            let Some(admitted) = req.into_admitted() else { continue };
            if !one_copy {
                self.mark_out_of_sync(volume, extent);
            }
            self.postpone(volume, admitted, in_al);
        }
        for (v, younger) in self.volumes.values_mut().zip(younger) {
            v.postponed.extend(younger);
        }
    }

    /// Takes a write back that was admitted and has no leg: it waits for admission again (D13).
    pub(super) fn postpone(&mut self, volume: VolumeId, admitted: Admitted, in_al: bool) {
        let extent = extent_of(&admitted.parked.request);
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        v.live -= 1;
        v.postponed.push_back(admitted.parked);
        v.ranges.release(Holder::Write(admitted.hold));
        self.retry_parked = true;
        if let Some(extent) = extent.filter(|_| in_al) {
            self.release_activity(volume, extent);
        }
        self.retry_waiting(volume);
    }
}
