//! Admission of clients' requests: what may start now, and what has to wait for what (D3-D15).

use std::collections::{HashSet, VecDeque};

use super::Node;
use super::effect::{Device, DiskOp, Effect, ReplyError};
use super::input::{Request, RequestId};
use super::ranges::Holder;
use super::state::{Conn, Disk, Role};
use super::tickets::Purpose;
use super::volume::{Admitted, Parked, PendingFlush};
use crate::buffer::Buf;
use crate::units::{Extent, VolumeId};

/// What a write does, apart from where.
pub(super) const fn extent_of(request: &Request) -> Option<Extent> {
    match request {
        Request::Read { extent }
        | Request::Write { extent, .. }
        | Request::Trim { extent, .. }
        | Request::WriteZeroes { extent, .. } => Some(*extent),
        Request::Flush => None,
    }
}

impl Node {
    /// A client's request arrived.
    pub(super) fn on_request(&mut self, id: RequestId, volume: VolumeId, request: Request) {
        let Some(v) = self.volumes.get(&volume) else {
            return self.reply(id, Err(ReplyError::Shutdown));
        };
        if v.state.role != Role::Primary {
            return self.reply(id, Err(ReplyError::Shutdown));
        }
        if extent_of(&request).is_some_and(|extent| extent.end() > v.end) {
            return self.reply(id, Err(ReplyError::OutOfRange));
        }
        self.admit(volume, Parked { id, request });
    }

    /// Requests nobody waits for: those that have not begun never will.
    pub(super) fn abandon(&mut self, ids: &[RequestId]) {
        let ids: HashSet<RequestId> = ids.iter().copied().collect();
        for volume in self.volume_ids() {
            self.fail_unbegun(volume, |id| ids.contains(&id));
        }
    }

    /// Answers those requests that wait for admission or for another's range, as far as `which` says.
    pub(super) fn fail_unbegun(&mut self, volume: VolumeId, which: impl Fn(RequestId) -> bool) {
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        let take = |queue: &mut VecDeque<Parked>| -> VecDeque<Parked> {
            let (taken, kept) = std::mem::take(queue).into_iter().partition(|parked| which(parked.id));
            *queue = kept;
            taken
        };
        let (postponed, parked) = (take(&mut v.postponed), take(&mut v.parked));
        let waiting = take(&mut v.waiting);
        v.live -= waiting.len() as u32; // Admitted already, unlike those that are parked.
        let others_waited = !waiting.is_empty();
        for Parked { id, .. } in postponed.into_iter().chain(parked).chain(waiting) {
            self.reply(id, Err(ReplyError::Shutdown));
        }
        if others_waited {
            self.retry_parked = true;
            self.retry_waiting(volume);
        }
    }

    /// Answers a client.
    pub(super) fn reply(&mut self, id: RequestId, result: Result<Option<Buf>, ReplyError>) {
        self.effects.push_back(Effect::Reply { id, result });
    }

    /// Starts a request, or parks it (D5).
    pub(super) fn admit(&mut self, volume: VolumeId, parked: Parked) {
        let wait = self.must_wait(volume);
        let Some(v) = self.volumes.get_mut(&volume) else {
            return self.reply(parked.id, Err(ReplyError::Shutdown));
        };
        if wait {
            v.parked.push_back(parked);
            return;
        }
        if v.state.role != Role::Primary {
            return self.reply(parked.id, Err(ReplyError::Shutdown)); // It was, when the request came.
        }
        v.live += 1;
        match parked.request {
            Request::Read { extent } => self.start_read(volume, parked.id, extent),
            Request::Flush => self.start_flush(volume, parked.id),
            Request::Write { .. } | Request::Trim { .. } | Request::WriteZeroes { .. } => {
                self.start_write(volume, parked);
            }
        }
    }

    /// New requests wait, until it is opened as often as it was closed.
    pub(super) fn close_gate(&mut self, volume: VolumeId) {
        if let Some(v) = self.volumes.get_mut(&volume) {
            v.gate += 1;
        }
    }

    /// Work: lets new requests in.
    pub(super) fn open_gate(&mut self, volume: VolumeId) {
        if let Some(v) = self.volumes.get_mut(&volume) {
            v.gate = v.gate.saturating_sub(1);
            self.retry_parked = true;
        }
    }

    /// Whether new requests have to wait (D5).
    fn must_wait(&self, volume: VolumeId) -> bool {
        let Some(v) = self.volumes.get(&volume) else { return false };
        v.state.is_suspended()
            || v.gate > 0
            || matches!(
                v.state.conn,
                Conn::StartingSyncS | Conn::StartingSyncT | Conn::WFBitMapT | Conn::WFSyncUUID
            )
            || matches!(v.state.disk, Disk::Attaching | Disk::Negotiating)
            || v.live > self.link().max_buffers()
    }

    /// Admits what was parked, as far as it may start now.
    pub(super) fn admit_parked(&mut self) {
        for volume in self.volume_ids() {
            while !self.must_wait(volume) {
                let Some(v) = self.volumes.get_mut(&volume) else { break };
                let Some(parked) = v.postponed.pop_front().or_else(|| v.parked.pop_front()) else { break };
                self.admit(volume, parked);
            }
        }
    }

    /// A write takes its range, or waits for it (D11).
    fn start_write(&mut self, volume: VolumeId, parked: Parked) {
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        let Some(extent) = extent_of(&parked.request) else { return };
        let queued = v.waiting.iter().filter_map(|w| extent_of(&w.request)).any(|w| w.overlaps(extent));
        if queued || v.ranges.busy(extent) {
            v.waiting.push_back(parked);
            return;
        }
        v.last_hold += 1;
        let hold = v.last_hold;
        v.ranges.hold(extent, Holder::Write(hold));
        self.activate(volume, Admitted { parked, hold });
    }

    /// A range was released: what waited for it may start, in its order.
    pub(super) fn retry_waiting(&mut self, volume: VolumeId) {
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        if v.waiting.is_empty() {
            return;
        }
        for parked in std::mem::take(&mut v.waiting) {
            match parked.request {
                Request::Read { extent } => self.restart_read(volume, parked, extent),
                _ => self.start_write(volume, parked),
            }
        }
    }

    /// A read that waited for a write starts, unless new requests have to wait by now.
    fn restart_read(&mut self, volume: VolumeId, parked: Parked, extent: Extent) {
        let wait = self.must_wait(volume);
        match self.volumes.get_mut(&volume) {
            Some(v) if wait => {
                v.live -= 1;
                v.postponed.push_back(parked);
                self.retry_parked = true;
            }
            _ => self.start_read(volume, parked.id, extent),
        }
    }

    /// A flush: done when the local disk is flushed and the peer acked the barriers of all that was
    /// answered before (T3).
    fn start_flush(&mut self, volume: VolumeId, id: RequestId) {
        let epoch = self.hurry_barriers(volume);
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        let local = v.has_usable_disk();
        v.flushes.push(PendingFlush { id, local: (!local).then_some(false), epoch });
        if local {
            self.start_disk(volume, Device::Data, DiskOp::Flush, Purpose::ClientFlush { id });
        }
        self.check_flushes(volume);
    }

    /// The local part of a flush ended.
    pub(super) fn client_flush_done(
        &mut self,
        volume: VolumeId,
        id: RequestId,
        result: &Result<Option<Buf>, super::DiskFault>,
    ) {
        // A device that cannot flush has nothing to flush.
        let ok = matches!(result, Ok(_) | Err(super::DiskFault::Unsupported));
        if let Err(fault) = result
            && !ok
        {
            self.flush_fault(volume, fault);
        }
        if let Some(v) = self.volumes.get_mut(&volume)
            && let Some(flush) = v.flushes.iter_mut().find(|flush| flush.id == id)
        {
            flush.local = Some(ok);
        }
        self.check_flushes(volume);
    }

    /// Answers the flushes that have nothing more to wait for.
    pub(super) fn check_flushes(&mut self, volume: VolumeId) {
        let oldest = self.log.oldest_unacked();
        let Some(v) = self.volumes.get_mut(&volume) else { return };
        if v.flushes.is_empty() || v.marks.hold_unmirrored || v.state.is_suspended() {
            return;
        }
        let acked = |epoch: Option<u32>| match (epoch, oldest) {
            (None, _) | (_, None) => true,
            (Some(epoch), Some(oldest)) => (oldest.wrapping_sub(epoch) as i32) > 0,
        };
        let mut answers = Vec::new();
        // As for a write, one copy is enough (D21, D31).
        let peer = v.peer_has_all();
        v.flushes.retain(|flush| match flush.local {
            Some(ok) if acked(flush.epoch) => {
                answers.push((flush.id, ok || peer));
                false
            }
            _ => true,
        });
        v.live -= answers.len() as u32;
        for (id, ok) in answers {
            self.reply(id, if ok { Ok(None) } else { Err(ReplyError::Io) });
            self.retry_parked = true;
        }
    }
}
